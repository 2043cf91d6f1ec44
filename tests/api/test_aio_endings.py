"""One task waits, another closes, aborts or is cancelled: usertcp.aio ends as asyncio does over the kernel.

Every scenario is played twice, by asyncio on the kernel's loopback and by the same functions of asyncio on a simulated
host, and ends the same. Then thousands of half-finished connects, of which nothing stays.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from tests.api.hosts import LEFT, PATIENCE, PORT, RIGHT
from tests.api.test_aio_server import SMALL, Recorder, alive, both, two
from usertcp.sim import MS, SEC, World
from usertcp.tcp.state import State

Scenario = Callable[[], Coroutine[Any, Any, str]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def pair() -> tuple[Streams, Streams]:
    """Both ends of a connection, the client's first."""
    accepted: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda *streams: accepted.set_result(streams), "127.0.0.1", 0)
    client = await asyncio.open_connection(*server.sockets[0].getsockname())
    ends = client, await accepted
    server.close()
    return ends


async def outcome(waiting: Awaitable[Any]) -> str:
    """The result, or the kind of the exception."""
    try:
        return repr(await waiting)
    except Exception as error:
        return type(error).__name__


async def meanwhile(waits: Awaitable[Any], act: Callable[[], object]) -> str:
    """How ``waits`` ends when ``act()`` comes while it waits."""
    waiting = asyncio.ensure_future(outcome(waits))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    act()
    return await waiting


async def stuck(writer: asyncio.StreamWriter) -> None:
    """Write until the peer's buffers are full, and wait."""
    while True:
        writer.write(bytes(1 << 18))
        await writer.drain()


async def read_then_close() -> str:
    (reader, writer), (_, peer) = await pair()
    result = await meanwhile(reader.read(10), writer.close)
    peer.close()
    return result


async def read_then_abort() -> str:
    (reader, writer), (_, peer) = await pair()
    result = await meanwhile(reader.readexactly(10), writer.transport.abort)
    peer.close()
    return result


async def read_then_reset() -> str:
    (reader, writer), (_, peer) = await pair()
    peer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    result = await meanwhile(reader.read(10), peer.close)
    writer.close()
    return result + await outcome(writer.wait_closed())


async def drain_then_abort() -> str:
    (_, writer), (_, peer) = await pair()
    result = await meanwhile(stuck(writer), writer.transport.abort)
    peer.transport.abort()
    return result


async def drain_then_reset() -> str:
    (_, writer), (_, peer) = await pair()
    result = await meanwhile(stuck(writer), peer.transport.abort)
    writer.close()
    return result


async def drain_then_cancel() -> str:
    (_, writer), (reader, peer) = await pair()
    waiting = asyncio.ensure_future(stuck(writer))
    await asyncio.sleep(0.02)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    writer.close()
    size = len(await reader.read())
    peer.close()
    return str(size % (1 << 18))


async def wait_closed_then_abort() -> str:
    (_, writer), (_, peer) = await pair()
    result = await meanwhile(writer.wait_closed(), writer.transport.abort)
    peer.close()
    return result


async def write_after_the_end() -> str:
    (reader, writer), (_, peer) = await pair()
    writer.write_eof()
    said = await outcome(asyncio.wait_for(_write(writer), 1))
    writer.close()
    said += await outcome(_write(writer)) + await outcome(writer.drain())
    peer.close()
    return said + repr(await reader.read())


async def _write(writer: asyncio.StreamWriter) -> None:
    writer.write(b"x")


class Failing(asyncio.BufferedProtocol):
    """Has ``given`` for memory, or raises it, and raises ``failure`` in the method of the name ``where``."""

    def __init__(self, given: Any = None, where: str = "", failure: BaseException | None = None) -> None:
        self.given = bytearray(100) if given is None else given
        self.where = where
        self.failure = failure
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint: int) -> Any:
        self.fail("get_buffer")
        return self.given

    def buffer_updated(self, nbytes: int) -> None:
        self.fail("buffer_updated")

    def eof_received(self) -> None:
        self.fail("eof_received")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(exc)

    def fail(self, where: str) -> None:
        if self.where == where and self.failure is not None:
            raise self.failure


class FailingPlainly(asyncio.Protocol):
    """Raises ``failure`` in ``data_received``."""

    def __init__(self, failure: BaseException) -> None:
        self.failure = failure
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        raise self.failure

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(exc)


async def failing(make: Callable[[], Failing | FailingPlainly]) -> str:
    """What a protocol that fails is told, and what the loop's handler is; another connection is none the worse."""
    loop, told = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: told.append(context))
    accepted: asyncio.Future[Streams] = loop.create_future()
    server = await asyncio.start_server(lambda *streams: accepted.set_result(streams), "127.0.0.1", 0)
    transport, protocol = await loop.create_connection(make, *server.sockets[0].getsockname())
    _, peer = await accepted
    server.close()
    peer.write(b"x" * 1000)
    peer.write_eof()
    lost = await asyncio.wait_for(protocol.lost, 5)
    peer.close()
    handled = [(type(context["exception"]).__name__, context["transport"] is transport) for context in told]
    assert lost is None or not told or told[0]["exception"] is lost
    (_, writer), (reader, other) = await pair()
    writer.write(b"y")
    assert await reader.readexactly(1) == b"y"
    writer.close()
    other.close()
    return f"{type(lost).__name__} {handled}"


FAILURES: dict[str, tuple[Callable[[], Failing | FailingPlainly], str]] = {
    "nothing": (Failing, "NoneType []"),
    "empty": (lambda: Failing(bytearray(0)), "RuntimeError [('RuntimeError', True)]"),
    "empty_view": (lambda: Failing(memoryview(b"")), "RuntimeError [('RuntimeError', True)]"),
    "no_buffer": (lambda: Failing(5), "TypeError [('TypeError', True)]"),
    "text": (lambda: Failing("text"), "TypeError [('TypeError', True)]"),
    "read_only": (lambda: Failing(b"read-only"), "TypeError [('TypeError', True)]"),
    "get_buffer": (lambda: Failing(None, "get_buffer", KeyError()), "KeyError [('KeyError', True)]"),
    "get_buffer_os_error": (lambda: Failing(None, "get_buffer", OSError()), "OSError []"),
    "buffer_updated": (lambda: Failing(None, "buffer_updated", KeyError()), "KeyError [('KeyError', True)]"),
    "buffer_updated_os_error": (lambda: Failing(None, "buffer_updated", OSError()), "OSError []"),
    "eof_received": (lambda: Failing(None, "eof_received", KeyError()), "KeyError [('KeyError', True)]"),
    "data_received": (lambda: FailingPlainly(KeyError()), "KeyError [('KeyError', True)]"),
    "data_received_os_error": (lambda: FailingPlainly(OSError()), "OSError []"),
    "data_received_cancelled": (
        lambda: FailingPlainly(asyncio.CancelledError()),
        "CancelledError [('CancelledError', True)]",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_protocol_that_fails_ends_its_connection_as_asyncio_ends_it(failure: str) -> None:
    make, expected = FAILURES[failure]

    async def on_the_kernel() -> str:
        return await asyncio.wait_for(failing(make), PATIENCE)

    async def here() -> str:
        with host.here():
            return await failing(make)

    world = World(1)
    host = world.host("host")
    assert asyncio.run(on_the_kernel()) == expected
    assert world.run_until_complete(here()) == expected


@pytest.mark.parametrize("where", ["", "get_buffer"], ids=["empty", "raises"])
def test_protocol_that_has_no_memory_while_nothing_comes_lives(where: str) -> None:
    """It is asked early, so that what comes lands there; that it has none then is no failure."""

    async def main() -> None:
        with host.here():
            loop = asyncio.get_running_loop()
            accepted: asyncio.Future[Streams] = loop.create_future()
            server = await asyncio.start_server(lambda *streams: accepted.set_result(streams), "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            made = await loop.create_connection(lambda: Failing(bytearray(0), where, KeyError()), *address)
            transport, protocol = made
            await accepted
            await asyncio.sleep(1)
            assert not transport.is_closing()
            protocol.given, protocol.where = bytearray(10), ""
            accepted.result()[1].close()
            assert await protocol.lost is None
            server.close()

    world = World(1)
    host = world.host("host")
    world.run_until_complete(main())


SCENARIOS: dict[Scenario, str] = {
    read_then_close: "b''",
    read_then_abort: "IncompleteReadError",
    read_then_reset: "ConnectionResetErrorConnectionResetError",
    drain_then_abort: "ConnectionResetError",
    drain_then_reset: "ConnectionResetError",
    drain_then_cancel: "0",
    wait_closed_then_abort: "None",
    write_after_the_end: "RuntimeErrorRuntimeErrorConnectionResetErrorb''",
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenario_ends_as_asyncio_over_the_kernel(scenario: Scenario) -> None:
    async def on_the_kernel() -> str:
        return await asyncio.wait_for(scenario(), PATIENCE)

    async def here() -> str:
        with host.here():
            result = await scenario()
        await asyncio.sleep(1)
        assert {conn.state for conn in host.stack.connections()} <= {State.TIME_WAIT}
        assert not list(host.stack.listeners())
        return result

    world = World(1)
    host = world.host("host")
    assert asyncio.run(on_the_kernel()) == SCENARIOS[scenario]
    assert world.run_until_complete(here()) == SCENARIOS[scenario]


@pytest.mark.parametrize("address", ["10.0.0.77", RIGHT], ids=["silent", "listening"])
def test_thousands_of_connects_cancelled_at_any_moment_leave_nothing(address: str) -> None:
    world, left, right = two(SMALL)

    async def main() -> None:
        async with await right.create_server(Recorder, None, PORT, backlog=2000) as server:
            connecting = []
            for n in range(2000):
                connecting.append(asyncio.create_task(left.create_connection(Recorder, address, PORT)))
                if n % 10 == 0:
                    await asyncio.sleep(0.0001)
            for task in connecting:
                task.cancel()
            ended = await asyncio.gather(*connecting, return_exceptions=True)
            for made in ended:
                if not isinstance(made, BaseException):
                    made[0].abort()
            cut = sum(isinstance(made, asyncio.CancelledError) for made in ended)
            assert cut == 2000 if address != RIGHT else 0 < cut < 2000
            await asyncio.sleep(1)
            assert alive(left) == alive(right) == []
            assert left.stack.counters()["memory_used"] == right.stack.counters()["memory_used"] == 0
            loop = asyncio.get_running_loop()
            assert [handle for handle in loop._scheduled if not handle.cancelled()] == []  # type: ignore[attr-defined]
            server.close()

    both(world, main())


def test_port_of_a_cancelled_connect_is_free_at_once() -> None:
    world, left, _ = two()

    async def main() -> None:
        for _ in range(1000):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(
                    left.create_connection(Recorder, "10.0.0.77", PORT, local_addr=(LEFT, 4000)), 0.001
                )
        assert alive(left) == []

    both(world, main())


def test_thousands_of_half_open_connections_are_bounded_and_end_and_others_are_served() -> None:
    world = World(1)
    server, rude, polite = world.host("server"), world.host("rude"), world.host("polite")

    async def main() -> None:
        listening = await server.net.create_server(Recorder, None, PORT, backlog=100)
        await polite.net.ping(server.address)
        await rude.net.ping(server.address)
        for _ in range(3000):
            rude.stack.connect((server.address, PORT), world.now)
        rude.kick()
        world.call_later(MS, rude.unplug)
        await asyncio.sleep(0.1)
        waiting = [conn for conn in server.stack.connections() if conn.state is State.SYN_RECEIVED]
        assert 0 < len(waiting) <= 256
        transport, _ = await polite.net.create_connection(Recorder, server.address, PORT)
        assert world.now < SEC  # a flood from one source takes no room from others
        transport.close()
        listening.close()
        await asyncio.sleep(300)
        assert {conn.state for conn in server.stack.connections()} <= {State.TIME_WAIT}

    world.run_until_complete(main())
