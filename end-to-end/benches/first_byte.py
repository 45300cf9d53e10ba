"""How long the first byte of an export's body takes, and the whole of a small one: PORT KEY ROUNDS QUERY."""

import http.client
import os
import ssl
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/stories"))
from plain_session import PORT, open_session

rounds, query = int(sys.argv[3]), sys.argv[4]
token = open_session()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
for _ in range(rounds):
    connection = http.client.HTTPSConnection("127.0.0.1", PORT, context=context, timeout=120)
    connection.connect()
    started = time.perf_counter()
    connection.request("GET", "/data/export?" + query, headers={"Authorization": "Bearer " + token})
    response = connection.getresponse()
    count = int(response.headers["X-Record-Count"])
    response.read(1)
    first = time.perf_counter() - started
    if count <= 20_000:
        response.read()
    whole = time.perf_counter() - started
    print("%.6f %.6f %d %s" % (first, whole, count, response.headers["X-Next-Cursor"]))
    # A new one each time: what is left of a large export is not read, and what the agent had begun of it is given time to
    # end, or the next one's first byte would be measured beside it.
    connection.close()
    time.sleep(0.5)
