"""A publisher and a deliverer written from the descriptions alone: zipfile, openssl and http.client.

Usage: plain_delivery.py PORT SESSION_KEY UPDATE_KEY
The plant takes packages of at most a megabyte and runs 0.1.0.
"""

import base64
import hashlib
import io
import json
import ssl
import socket
import subprocess
import sys
import zipfile

from plain_session import KEY, PORT, open_session, request

UPDATE_KEY = sys.argv[3]
token = open_session()


def sign(message, key):
    command = ["openssl", "dgst", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32", "-sign", key]
    return subprocess.run(command, input=message, capture_output=True, check=True).stdout


def package(version, key=UPDATE_KEY, content=b"hello"):
    listed = {"path": "assets/a.txt", "sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "executable": False}
    manifest = json.dumps({
        "format": 1, "kind": "program", "product": "plantlink", "version": version, "platform": "any",
        "created": "2026-02-22T10:00:00Z", "files": [listed], "migrations": [], "notes": "by a stranger",
    }).encode()
    signature = sign(manifest, key)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("manifest.json", manifest)
        packed.writestr("manifest.sig", signature)
        packed.writestr("files/assets/a.txt", content)
    return archive.getvalue(), signature


def deliver(body, version, signature, token=token):
    more = {"Content-Type": "application/zip"}
    if version is not None:
        more["X-Update-Version"] = version
    if signature is not None:
        more["X-Manifest-Signature"] = signature if isinstance(signature, str) else base64.b64encode(signature).decode()
    response, content, _ = request("POST", "/update", body, token=token, more=more)
    return response.status, json.loads(content)


good, signature = package("0.2.0")
other, other_signature = package("0.2.1")

# --- refused by what the headers say ---
status, answer = deliver(good, "0.2.0", signature, token=None)
assert (status, answer["error"]) == (401, "invalid token"), answer
for missing in (None, "", "not base64!"):
    assert deliver(good, "0.2.0", missing) == (400, {"status": "invalid_sig"})
for version in (None, "", "two", "0.2", "v0.2.0"):
    status, answer = deliver(good, version, signature)
    assert (status, answer["status"]) == (400, "invalid_package") and answer["reason"], answer
assert deliver(good, "0.1.0", signature) == (409, {"status": "same_version"})
assert deliver(good, "0.1.0+other", signature) == (409, {"status": "same_version"})
assert deliver(good, "0.0.9", signature) == (409, {"status": "older_version"})

# --- refused before the end of the body, and heard all the same ---
assert deliver(b"x" * 3_000_000, "0.2.0", signature) == (413, {"status": "too_large"})
assert deliver((b"x" * 100_000 for _ in range(30)), "0.2.0", signature) == (413, {"status": "too_large"})
assert deliver(b"x" * 900_000, "0.0.9", signature) == (409, {"status": "older_version"})

# --- refused by what it is ---
assert deliver(good, "0.2.0", other_signature) == (400, {"status": "invalid_sig"})
by_session_key, its_signature = package("0.2.0", KEY)
assert deliver(by_session_key, "0.2.0", its_signature) == (400, {"status": "invalid_sig"})
for body, version, its, reason in (
    (good, "0.3.0", signature, "version_mismatch"),
    (b"", "0.2.0", signature, "not_a_zip"),
    (good[:100], "0.2.0", signature, "not_a_zip"),
    (good + b"x", "0.2.0", signature, "foreign_bytes"),
):
    status, answer = deliver(body, version, its)
    assert (status, answer["status"], answer["reason"]) == (400, "invalid_package", reason), answer

# --- a sender that goes away in the middle ---
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
with socket.create_connection(("127.0.0.1", PORT)) as plain, context.wrap_socket(plain) as gone:
    head = "POST /update HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nX-Update-Version: 0.2.0\r\n" % token
    head += "X-Manifest-Signature: %s\r\nContent-Length: %d\r\n\r\n" % (base64.b64encode(signature).decode(), len(good))
    gone.sendall(head.encode() + good[:200])

# --- and after all of that the good one is taken, also twice, and gives way only to a newer one ---
assert deliver(good, "0.2.0", signature) == (200, {"status": "queued"})
assert deliver(good, "0.2.0", signature) == (200, {"status": "queued"})
assert deliver(other, "0.2.1", other_signature) == (200, {"status": "queued"})
assert deliver(good, "0.2.0", signature) == (409, {"status": "older_version"})
response, content, _ = request("GET", "/status", token=token)
print(json.dumps({"manifest_sha256": hashlib.sha256(zipfile.ZipFile(io.BytesIO(other)).read("manifest.json")).hexdigest()}))
