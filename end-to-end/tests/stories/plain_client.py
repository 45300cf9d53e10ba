"""A client written from the description of the session alone: Python's standard library, and openssl for signing.

Usage: plain_client.py PORT KEY
It knows nothing of this product's code, and asserts what a stranger's tool may rely on.
"""

import base64
import json
import re
import ssl
import zlib

from plain_session import UUID4, answer_challenge, error, now, request, sign

# --- the plain form: right once, then never again ---
timestamp = now()
plain = {"timestamp": timestamp, "signature": sign(timestamp)}
response, content, _ = request("POST", "/auth", plain)
assert response.status == 200, content
token = json.loads(content)["session_token"]
assert UUID4.match(token), token
response, content, _ = request("POST", "/auth", plain)
assert (response.status, error(content)) == (401, "signature already used"), content
old = now(-600)
response, content, _ = request("POST", "/auth", {"timestamp": old, "signature": sign(old)})
assert (response.status, error(content)) == (401, "stale timestamp"), content
assert json.loads(content)["agent_time"].endswith("Z")
timestamp = now()
response, content, _ = request("POST", "/auth", {"timestamp": timestamp, "signature": sign(timestamp)})
assert (response.status, error(content)) == (429, "too many attempts"), content
assert 1 <= int(response.headers["Retry-After"]) <= 60

# --- the challenge form: the limiter never refuses a right signature, and the time need not be fresh ---
for time in (None, "1999-12-31T23:59:59Z"):
    body = answer_challenge(time)
    response, content, _ = request("POST", "/auth", body)
    assert response.status == 200, content
    assert UUID4.match(json.loads(content)["session_token"])
    response, content, _ = request("POST", "/auth", body)
    assert response.status == 401, "a nonce was good twice"
body = answer_challenge()
body["timestamp"] = now(5, fraction=True)
response, content, _ = request("POST", "/auth", body)
assert response.status in (401, 429), content

# --- malformed ---
for body in ("", "nonsense", "[]", {"timestamp": "now"}, {"timestamp": "yesterday", "signature": "AAAA"}):
    response, content, _ = request("POST", "/auth", body)
    assert response.status == 400 and error(content), (body, response.status, content)
response, content, _ = request("POST", "/auth", "x" * 100_000)
assert response.status == 413 and error(content), response.status
response, content, _ = request("GET", "/nowhere")
assert response.status == 404 and error(content)
response, content, _ = request("DELETE", "/auth")
assert response.status == 405 and error(content)

# --- export ---
for path in ("/data/export", "/status"):
    for wrong in (None, "00000000-0000-4000-8000-000000000000"):
        response, content, _ = request("GET", path, token=wrong)
        assert (response.status, error(content)) == (401, "invalid token"), content
        assert response.headers["WWW-Authenticate"] == "Bearer"
for query, parameter in (("since=yesterday", "since"), ("cursor=17", "cursor"), ("cursor=17&until=3", "cursor")):
    response, content, _ = request("GET", "/data/export?" + query, token=token)
    assert response.status == 400 and parameter in content.decode(), content


def members(body):
    """Whole gzip members, and what zcat would print."""
    text, count = b"", 0
    while body:
        inflate = zlib.decompressobj(31)
        text += inflate.decompress(body) + inflate.flush()
        assert inflate.eof, "a member is not complete"
        body, count = inflate.unused_data, count + 1
    return text, count


def export(query):
    response, content, _ = request("GET", "/data/export" + query, token=token)
    assert response.status == 200, content
    assert response.headers["Content-Type"] == "application/gzip" and "Content-Encoding" not in response.headers
    text, count = members(content)
    assert count >= 1
    lines = text.decode().splitlines()
    assert len(lines) == int(response.headers["X-Record-Count"])
    for line in lines:
        keys = list(json.loads(line))
        assert keys[:6] == ["seq", "time", "tag", "value", "unit", "quality"] and keys[6:] in ([], ["text"]), line
    assert re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$", response.headers["X-Period-End"])
    assert response.headers["X-Export-Epochs"] is not None
    return lines, response.headers


def seqs(lines):
    return [json.loads(line)["seq"] for line in lines]


first, headers = export("?since=1970-01-01T00:00:00Z")
assert first and headers["X-Cursor-Exact"] == "false"
second, later = export("?since=" + headers["X-Period-End"])
assert later["X-Cursor-Exact"] == "true" and later["X-Period-End"] > headers["X-Period-End"]
third, last = export("?cursor=" + later["X-Next-Cursor"])
assert last["X-Cursor-Exact"] == "true" and last["X-Period-End"] > later["X-Period-End"]
whole = seqs(first + second + third)
assert whole == list(range(whole[0], whole[0] + len(whole))), "the chain has a hole or a double"
unsaid, headers_unsaid = export("")
assert seqs(unsaid)[: len(third)] == seqs(third), "without a place it goes on from what was acknowledged last"
again, _ = export("?cursor=%s&until=%s" % (headers["X-Next-Cursor"], later["X-Next-Cursor"]))
assert again == second, "the same cut is the same readings"
middle = json.loads(first[len(first) // 2])["time"]
overlap, headers_overlap = export("?since=" + middle)
assert headers_overlap["X-Cursor-Exact"] == "false"
assert {line for line in first if json.loads(line)["time"] >= middle} <= set(overlap)

# --- status ---
response, content, _ = request("GET", "/status", token=token)
status = json.loads(content)
assert response.status == 200
for key in ("agent_id", "version", "phase", "pending_version", "last_update", "licensed", "readings", "services", "agent_time"):
    assert key in status, key
assert set(status["readings"]) == {"last_time", "spool_readings", "horizon_lag_seconds"}
assert status["phase"] == "committed" and status["services"]["collector"] == "running"

# --- both versions of TLS, and none older ---
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    assert request("GET", "/auth/challenge", version=version)[0].status == 200
print("all as described")
