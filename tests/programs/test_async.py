"""trio, anyio and websockets on the stack, with peers on the kernel's side."""

import sys
from pathlib import Path

import pytest

from tests.netns.programs import Program
from tests.programs.wire import READY, Web, Wire

TRIO = """
import trio
async def echo(stream):
    async for data in stream:
        await stream.send_all(data)
async def main():
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: trio.serve_tcp(echo, 8020, host="10.9.0.2", task_status=task_status))
        print("ready", flush=True)
trio.run(main)
"""

ANYIO = """
import anyio, sys
async def echo(stream):
    async with stream:
        try:
            while True:
                await stream.send(await stream.receive())
        except anyio.EndOfStream:
            pass
async def main():
    listener = await anyio.create_tcp_listener(local_host="10.9.0.2", local_port=8021)
    print("ready", flush=True)
    await listener.serve(echo)
anyio.run(main, backend=sys.argv[1])
"""


def test_trio_serves_many_clients(wire: Wire, folder: Path) -> None:
    with wire.serving(folder, TRIO):
        assert wire.echoes(8020)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio_serves_many_clients(wire: Wire, folder: Path, backend: str) -> None:
    with wire.serving(folder, ANYIO, backend):
        assert wire.echoes(8021)


CLIENTS = """
import anyio, hashlib, sys, trio
host, path = sys.argv[1].removeprefix("http://").split("/", 1)
host, port = host.split(":")
request = f"GET /{path} HTTP/1.0\\r\\n\\r\\n".encode()
async def by_trio():
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(request)
        return b"".join([data async for data in stream])
async def by_anyio():
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(request)
        return b"".join([data async for data in stream])
for fetched in (trio.run(by_trio), anyio.run(by_anyio, backend="asyncio"), anyio.run(by_anyio, backend="trio")):
    print(hashlib.sha256(fetched.partition(b"\\r\\n\\r\\n")[2]).hexdigest())
"""


def test_trio_and_anyio_connect(wire: Wire, web: Web, folder: Path) -> None:
    assert wire.output(folder, CLIENTS, web.url).split() == [web.sha256] * 3


WEBSOCKETS_SERVER = """
import asyncio, sys, websockets
async def echo(connection):
    async for message in connection:
        await connection.send(message[::-1])
async def main():
    async with websockets.serve(echo, sys.argv[1], 8022, max_size=None):
        print("ready", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""

WEBSOCKETS_CLIENT = """
import asyncio, sys, websockets
async def main():
    async with websockets.connect(f"ws://{sys.argv[1]}:8022", max_size=None) as connection:
        for message in ("small", bytes(1_000_000), b"abc" * 1000):
            await connection.send(message)
            assert await connection.recv() == message[::-1]
    print("all came back")
asyncio.run(main())
"""


def test_websockets_server_and_a_client_of_the_kernels(wire: Wire, folder: Path) -> None:
    with wire.serving(folder, WEBSOCKETS_SERVER, "10.9.0.2"):
        assert wire.kernel_python(WEBSOCKETS_CLIENT, "10.9.0.2") == "all came back\n"


def test_websockets_client_and_a_server_of_the_kernels(wire: Wire, folder: Path) -> None:
    script = folder / "server.py"
    script.write_text(WEBSOCKETS_SERVER)
    with Program(wire.space, [sys.executable, script, "10.9.0.1"]) as server:
        assert server.line() == READY
        assert wire.output(folder, WEBSOCKETS_CLIENT, "10.9.0.1") == "all came back\n"
