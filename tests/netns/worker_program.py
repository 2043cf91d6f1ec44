"""What the workers of ``usertcp engine`` run in :mod:`tests.netns.test_workers`."""

import asyncio
import hashlib
import json
import os
from typing import Any

from tests.netns.peer import BLOCK, blocks
from tests.netns.programs import PATIENCE
from usertcp.aio import Host
from usertcp.blocking import Host as BlockingHost

KERNEL_SERVER = ("10.9.0.1", 5001)


def say(words: dict[str, Any]) -> None:
    """A line on stdout, which all workers share: in one piece, whatever buffers it has."""
    os.write(1, json.dumps(words).encode() + b"\n")


async def echo_and_call(host: Host, port: str, calls: str, size: str) -> None:
    """Echo whoever comes to ``port``; meanwhile open ``calls`` connections to the kernel's echo server, each with
    ``size`` bytes, and say on stdout how many came back intact; go on until the end."""
    served = 0

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        while data := await reader.read(BLOCK):
            writer.write(data)
            await writer.drain()
        served += 1
        writer.close()

    async def call(seed: int) -> bool:
        data = b"".join(blocks(int(size), seed))
        reader, writer = await host.open_connection(*KERNEL_SERVER)
        writer.write(data)
        writer.write_eof()
        back = await reader.read()
        writer.close()
        return back == data

    server = await host.start_server(echo, None, int(port))
    intact = await asyncio.gather(*(call(seed) for seed in range(int(calls))))
    say({"worker": os.getpid(), "intact": sum(intact)})
    try:
        await server.serve_forever()
    finally:
        counters = host.stack.counters()
        say({"worker": os.getpid(), "served": served, "counters": counters})


def listen_long(host: BlockingHost) -> None:
    """One connection to the kernel, on which it is silent for longer than a TUN remembers a flow by itself."""
    with host.connect(KERNEL_SERVER, timeout=PATIENCE) as conn:
        total = hashlib.sha256()
        while data := conn.recv(BLOCK):
            total.update(data)
    say({"worker": os.getpid(), "sha256": total.hexdigest()})


def fail(host: BlockingHost) -> None:
    """A program with a bug, in one of the workers."""
    if host.stack.caps.queue == 1:
        raise OSError(5, "this one fails")
    host.listen(("", 9)).accept()


def wait(host: BlockingHost) -> None:
    """Say that it runs, and go on until the end."""
    say({"worker": os.getpid()})
    host.listen(("", 7000)).accept()
