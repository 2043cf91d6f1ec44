#!/usr/bin/env python3
"""The asyncio front end over a simulated network that loses, reorders and duplicates: virtual time, and no root.

An echo server and a client, written as for any network; only the loop's clock is the world's, so that the transfer over
a bad line of 50 ms takes a moment of real time, and the same moment of virtual time whenever it is run.
"""

import asyncio
import hashlib

from usertcp.sim import MS, SEC, Duplicate, RandomLoss, Reorder, Wire, World

LOSS = 0.03  # of the frames in each direction


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, then close."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def talk(data: bytes) -> bytes:
    """What comes back of ``data``."""
    reader, writer = await asyncio.open_connection("server", 7)
    writer.write(data)
    writer.write_eof()
    back = await reader.read(-1)
    writer.close()
    return back


def main() -> None:
    world = World(seed=1)
    bad = Wire(
        delay=25 * MS,
        loss=RandomLoss(LOSS),
        reorder=Reorder(LOSS, by=5 * MS),
        rules=[Duplicate(probability=LOSS)],
    )
    client, server = world.host("client", wire=bad), world.host("server")
    data = bytes(n & 0xFF for n in range(500_000))

    async def both() -> bytes:
        await server.create_task(asyncio.start_server(echo, port=7))
        return await client.create_task(talk(data))

    back = world.run_until_complete(both())
    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
    print(f"{len(back)} bytes there and back in {world.now / SEC:.3f} s of virtual time, {world.frames} frames")
    print(f"digest {world.digest}")


if __name__ == "__main__":
    main()
