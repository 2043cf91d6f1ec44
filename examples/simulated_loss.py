#!/usr/bin/env python3
"""The asyncio front end over a simulated network that loses, reorders and duplicates: virtual time, and no root.

An echo server and a client, written as for any network; only the loop's clock is the world's, so that the transfer over
a bad line of 50 ms takes a moment of real time, and the same moment of virtual time whenever it is run.
"""

import asyncio
import hashlib

from usertcp import aio
from usertcp.driver.sim import Wire, World
from usertcp.driver.virtual_loop import run
from usertcp.link.middleware import Drop, Duplicate, Reorder
from usertcp.units import MS, to_seconds

LOSS = 0.03  # of the frames in each direction


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, then close."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def talk(client: aio.Host, server: aio.Host, data: bytes) -> bytes:
    """What comes back of ``data``."""
    async with await server.start_server(echo, None, 7):
        reader, writer = await client.open_connection("10.0.0.2", 7)
        writer.write(data)
        writer.write_eof()
        back = await reader.read(-1)
        writer.close()
        return back


def main() -> None:
    world = World(seed=1)
    bad = Wire(delay=25 * MS, rules=[Drop(probability=LOSS), Reorder(probability=LOSS), Duplicate(probability=LOSS)])
    client = aio.Host(world.host("client", "10.0.0.1/24", wire=bad))
    server = aio.Host(world.host("server", "10.0.0.2/24"))
    data = bytes(n & 0xFF for n in range(500_000))
    back = run(world, talk(client, server, data))
    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
    print(f"{len(back)} bytes there and back in {to_seconds(world.now):.3f} s of virtual time, {world.frames} frames")
    print(f"digest {world.digest}")


if __name__ == "__main__":
    main()
