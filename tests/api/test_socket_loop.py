"""usertcp.socket on an engine that an asyncio loop runs, without a thread."""

import asyncio
import os
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

import usertcp.socket as us
from tests.api.hosts import LEFT, PATIENCE, RIGHT, nothing_left, stack_on
from usertcp.errors import StackError
from usertcp.link.memory import memory_pair

SIZE = 3_000_000


@asynccontextmanager
async def one_engine() -> AsyncIterator[us.LoopEngine]:
    """A current engine on the running loop."""
    link, other = memory_pair(offload=True)
    async with us.LoopEngine(stack_on(link, LEFT), link) as engine:
        yield engine
    other.close()


@asynccontextmanager
async def two_engines() -> AsyncIterator[tuple[us.LoopEngine, us.LoopEngine]]:
    """Two on the same loop, with a cable between them."""
    one, other = memory_pair(offload=True)
    left, right = us.LoopEngine(stack_on(one, LEFT), one), us.LoopEngine(stack_on(other, RIGHT), other)
    try:
        yield left, right
    finally:
        await left.aclose()
        await right.aclose()


def run(work: Callable[[], Awaitable[None]]) -> None:
    """``work()`` on a loop of its own, which leaves nothing behind and starts no thread."""

    async def bounded() -> None:
        threads = set(threading.enumerate())
        await asyncio.wait_for(work(), PATIENCE)
        assert set(threading.enumerate()) <= threads

    with nothing_left():
        asyncio.run(bounded())


async def serve(listener: us.socket) -> asyncio.Server:
    """Streams that echo until their end."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    return await asyncio.start_server(echo, sock=listener)


def test_streams_of_asyncio_between_two_engines_on_one_loop() -> None:
    async def work() -> None:
        async with two_engines() as (left, right):
            listener = right.make_socket()
            listener.bind((RIGHT, 0))
            listener.listen()
            server = await serve(listener)
            sock = left.make_socket()
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, listener.getsockname())
            reader, writer = await asyncio.open_connection(sock=sock)
            sent = os.urandom(SIZE)
            writer.write(sent)
            writer.write_eof()
            assert await reader.read() == sent
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

    run(work)


def test_blocking_connect_turns_the_engine_itself() -> None:
    async def work() -> None:
        async with one_engine() as engine:
            with us.create_server(("127.0.0.1", 0)) as listener:
                with us.create_connection(listener.getsockname(), PATIENCE) as client:
                    accepted, address = listener.accept()
                    with accepted:
                        assert address == client.getsockname()
                        assert accepted.getsockopt(us.IPPROTO_TCP, us.TCP_MAXSEG) > 536
                listener_address = listener.getsockname()
            with pytest.raises(ConnectionRefusedError):
                us.create_connection(listener_address, PATIENCE)
            with us.socket() as nobody_answers:
                nobody_answers.settimeout(0.05)
                with pytest.raises(TimeoutError):
                    nobody_answers.connect((RIGHT, 9))
            assert engine.alive

    run(work)


def test_close_that_lingers_turns_the_engine_itself() -> None:
    async def work() -> None:
        async with one_engine():
            with us.create_server(("127.0.0.1", 0)) as listener:
                client = us.create_connection(listener.getsockname(), PATIENCE)
                accepted, _ = listener.accept()
                client.setsockopt(us.SOL_SOCKET, us.SO_LINGER, struct.pack("ii", 1, 10))
                client.sendall(b"all of it")
                client.close()
                with accepted:
                    assert accepted.recv(100) == b"all of it"

    run(work)


def test_what_was_sent_is_delivered_before_the_engine_ends_and_then_sockets_say_enetdown() -> None:
    async def work() -> None:
        async with two_engines() as (left, right):
            with right.make_socket() as listener:
                listener.bind((RIGHT, 0))
                listener.listen()
                client = left.create_connection(listener.getsockname(), PATIENCE)
                server, _ = listener.accept()
            client.sendall(bytes(100_000))
            await left.aclose()
            assert not left.alive
            with client, pytest.raises(StackError):
                client.send(b"too late")
            with server:
                count = 0
                while data := server.recv(1 << 16):
                    count += len(data)
                assert count == 100_000

    run(work)


def test_other_threads_use_the_engine_as_any_other() -> None:
    async def work() -> None:
        async with one_engine():
            with us.create_server(("127.0.0.1", 0)) as listener:
                address = listener.getsockname()

                def talk() -> bytes:
                    with us.create_connection(address, PATIENCE) as client:
                        client.sendall(b"hello")
                        client.shutdown(us.SHUT_WR)
                        return bytes(client.recv(100))

                server = await serve(listener)
                loop = asyncio.get_running_loop()
                assert await loop.run_in_executor(None, talk) == b"hello"
                await loop.shutdown_default_executor()
                server.close()
                await server.wait_closed()

    run(work)


def test_loop_engine_on_a_device_needs_a_running_loop() -> None:
    link, other = memory_pair()
    with nothing_left(), pytest.raises(RuntimeError, match="no running event loop"):
        us.LoopEngine(stack_on(link, LEFT), link)
    link.close()
    other.close()
