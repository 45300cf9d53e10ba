"""A Modbus device with known values: a pymodbus server. Says its port, and ends with its standard input.

Unit 1: register i holds i * 7, but for the typed values from 100 on. Unit 2: register i holds i * 7 + 1.
"""

import asyncio
import struct
import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.server import ModbusTcpServer

REGISTERS = 200


def words(content):
    return list(struct.unpack(">%dH" % (len(content) // 2), content))


def unit(shift):
    registers = [i * 7 + shift for i in range(REGISTERS)]
    typed = [
        (100, struct.pack(">h", -123)),
        (101, struct.pack(">i", -70_000)),
        (103, struct.pack(">I", 4_000_000_000)),
        (105, struct.pack(">q", -5_000_000_000)),
        (109, struct.pack(">Q", 1 << 50)),
        (113, struct.pack(">f", 21.5)),
        (115, struct.pack(">d", -1e-300)),
        (119, b"Press 7\0"),
        (123, struct.pack(">H", 0b1000)),
        (124, struct.pack(">f", float("nan"))),
        # 21.5 as devices of other orders send it: CDAB, BADC, DCBA.
        (126, bytes.fromhex("0000 41ac")),
        (128, bytes.fromhex("ac41 0000")),
        (130, bytes.fromhex("0000 ac41")),
    ]
    for address, content in typed:
        new = words(content)
        registers[address : address + len(new)] = new
    bits = [i % 3 == 0 for i in range(100)]
    return ModbusSlaveContext(
        co=ModbusSequentialDataBlock(1, bits),
        di=ModbusSequentialDataBlock(1, [not bit for bit in bits]),
        hr=ModbusSequentialDataBlock(1, registers),
        ir=ModbusSequentialDataBlock(1, [register ^ 1 for register in registers]),
    )


async def main():
    context = ModbusServerContext(slaves={1: unit(0), 2: unit(1)}, single=False)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    server = ModbusTcpServer(context, address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    print(server.transport.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.shutdown()


asyncio.run(main())
