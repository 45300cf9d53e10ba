"""An OPC UA server, told by lines on its standard input what its nodes hold: NAME VALUE [STATUS].

Arguments: port (0 for any), folder with cert.der and key.pem (for a secured one) or "-".
"""

import asyncio
import datetime
import socket
import sys

from asyncua import Server, ua
from asyncua.server.users import User, UserRole

NAMESPACE = "urn:test:mill"
KINDS = {
    "speed": (ua.VariantType.Double, 1480.5),
    "count": (ua.VariantType.UInt32, 7),
    "door": (ua.VariantType.Boolean, True),
    "state": (ua.VariantType.String, "run"),
    "list": (ua.VariantType.Int32, [1, 2]),
}


class Plant:
    def get_user(self, iserver, username=None, password=None, certificate=None):
        if username == "plant" and password == "se cret#1":
            return User(role=UserRole.User)
        return None


class Anybody:
    def get_user(self, iserver, username=None, password=None, certificate=None):
        return User(role=UserRole.User)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


async def main():
    port, folder = int(sys.argv[1]) or free_port(), sys.argv[2]
    secured = folder != "-"
    server = Server(user_manager=Plant() if secured else Anybody())
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/mill")
    if secured:
        await server.set_application_uri("urn:test:mill:server")
        server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
        server.set_identity_tokens([ua.UserNameIdentityToken])
        await server.load_certificate(f"{folder}/cert.der")
        await server.load_private_key(f"{folder}/key.pem")
    else:
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    # One more namespace before ours, so that its number says nothing.
    await server.register_namespace("urn:test:other")
    index = await server.register_namespace(NAMESPACE)
    nodes = {}
    for name, (kind, value) in KINDS.items():
        node = ua.NodeId(f"Mill.{name}", index)
        nodes[name] = await server.nodes.objects.add_variable(node, name, value, kind)
    for number in range(1500):
        node = ua.NodeId(f"Many.{number}", index)
        await server.nodes.objects.add_variable(node, f"many{number}", float(number), ua.VariantType.Double)
    await server.start()
    print(port, flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        name, value, *status = line.split()
        kind = KINDS[name][0]
        parsed = {ua.VariantType.Boolean: lambda text: text == "true", ua.VariantType.String: str}.get(kind, float)(value)
        if kind == ua.VariantType.UInt32:
            parsed = int(parsed)
        code = ua.StatusCode(getattr(ua.StatusCodes, status[0])) if status else ua.StatusCode(0)
        at = datetime.datetime(2026, 2, 22, 10, tzinfo=datetime.timezone.utc) if name == "count" else datetime.datetime.now(datetime.timezone.utc)
        value = ua.DataValue(ua.Variant(parsed, kind), StatusCode_=code, SourceTimestamp=at)
        await nodes[name].write_value(value)
    await server.stop()


asyncio.run(main())
