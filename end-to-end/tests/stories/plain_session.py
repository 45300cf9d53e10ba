"""What a stranger's tools have in common: a session, from its description alone."""

import base64
import datetime
import hashlib
import http.client
import json
import re
import ssl
import subprocess
import sys

PORT, KEY = int(sys.argv[1]), sys.argv[2]  # agent's port, key that opens sessions
UUID4 = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")


def request(method, path, body=None, token=None, version=None, more=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version:
        context.minimum_version = context.maximum_version = version
    connection = http.client.HTTPSConnection("127.0.0.1", PORT, context=context, timeout=30)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    headers.update(more or {})
    if token:
        headers["Authorization"] = "Bearer " + token
    if isinstance(body, dict):
        body = json.dumps(body)
    connection.request(method, path, body=body, headers=headers)
    certificate = connection.sock.getpeercert(binary_form=True) if connection.sock else None
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content, certificate


def sign(message):
    command = ["openssl", "dgst", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32", "-sign", KEY]
    return base64.b64encode(subprocess.run(command, input=message.encode(), capture_output=True, check=True).stdout).decode()


def now(offset=0, fraction=False):
    time = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=offset)
    return time.strftime("%Y-%m-%dT%H:%M:%S") + (".%03d" % (time.microsecond // 1000) if fraction else "") + "Z"


def error(content):
    return json.loads(content)["error"]


def spki_sha256(der):
    public = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-pubkey"], input=der, capture_output=True, check=True)
    spki = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=public.stdout, capture_output=True, check=True)
    return hashlib.sha256(spki.stdout).hexdigest()


def answer_challenge(timestamp=None):
    response, content, certificate = request("GET", "/auth/challenge")
    assert response.status == 200, content
    challenge = json.loads(content)
    assert set(challenge) == {"nonce", "agent_id", "agent_time"}
    if certificate:
        assert challenge["agent_id"] == spki_sha256(certificate)
    base64.b64decode(challenge["nonce"], validate=True)
    timestamp = timestamp or now(fraction=True)
    message = "plantlink-session-v1\n%s\n%s\n%s" % (challenge["agent_id"], challenge["nonce"], timestamp)
    return {"timestamp": timestamp, "nonce": challenge["nonce"], "signature": sign(message)}


def open_session():
    response, content, _ = request("POST", "/auth", answer_challenge())
    assert response.status == 200, content
    return json.loads(content)["session_token"]
