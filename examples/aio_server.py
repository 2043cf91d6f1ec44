#!/usr/bin/env python3
"""The asyncio road: a server on usertcp, and a client on the kernel's TCP, in one event loop. Run it as root."""

import asyncio
import socket

from usertcp import aio
from usertcp.link import provision


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every line in capitals."""
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def main() -> None:
    async with aio.open() as host:
        assert host.opened is not None
        await host.start_server(shout, host.opened.address, 8000)
        kernel = provision.run_inside(host.opened.netns, socket.socket)  # a socket of the kernel's, in that namespace
        kernel.setblocking(False)
        await asyncio.get_running_loop().sock_connect(kernel, (host.opened.address, 8000))
        reader, writer = await asyncio.open_connection(sock=kernel)
        writer.write(b"hello, user space\n")
        print("the kernel received", await reader.readline())
        writer.close()
        await writer.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
