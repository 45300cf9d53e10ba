"""Asks for an export and takes a byte of it a second; says how long the agent bore it."""

import socket
import ssl
import sys
import time

from plain_session import PORT, open_session

token = open_session()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
raw = socket.socket()
# What lies in the kernel's buffers is read by nobody and still counts as sent.
raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
raw.connect(("127.0.0.1", PORT))
stream = context.wrap_socket(raw)
request = "GET /data/export?since=1970-01-01T00:00:00Z HTTP/1.1\r\nHost: plant\r\nAuthorization: Bearer %s\r\n\r\n"
stream.sendall((request % token).encode())
head = b""
while b"\r\n\r\n" not in head:
    head += stream.read(1)
assert head.startswith(b"HTTP/1.1 200"), head
print("reading", flush=True)
started, got = time.monotonic(), 0
TCP_CLOSE = 7  # of /usr/include/linux/tcp_states.h: the other side has reset the connection
while time.monotonic() - started < 90 and stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_CLOSE:
    stream.read(1)
    got += 1
    time.sleep(1)
print("%.0f %d" % (time.monotonic() - started, got))
