"""usertcp.aio on asyncio's own loop: streams and protocols, a device that dies, accepts that fail, no leftovers."""

import asyncio
import errno
import ssl
import threading
from hashlib import shake_128
from pathlib import Path
from typing import Any

import pytest

from tests.api.hosts import LEFT, PATIENCE, PORT, RIGHT, run, two_aio
from usertcp import aio
from usertcp.driver.sim import World
from usertcp.driver.virtual_loop import run as run_virtually
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.state import State
from usertcp.units import KIB, SEC


def payload(size: int) -> bytes:
    return shake_128(b"aio").digest(size)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.mark.parametrize("pollable", [True, False])
def test_streams_echo_a_megabyte(pollable: bool) -> None:
    async def main() -> None:
        async with two_aio(pollable=pollable) as (left, right, _):
            server = await aio.start_server(echo, None, PORT, stack=right)
            assert server.sockets[0].getsockname() == server.sockname == ("0.0.0.0", PORT)
            reader, writer = await aio.open_connection(RIGHT, PORT, stack=left)
            assert writer.get_extra_info("peername") == (RIGHT, PORT)
            data = payload(1_000_000)

            async def send() -> None:
                writer.write(data)
                await writer.drain()
                writer.write_eof()

            sending = asyncio.create_task(send())
            assert await reader.read(-1) == data
            await sending
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()
            assert not server.is_serving()

    run(main())


def test_no_thread_is_started() -> None:
    async def main() -> None:
        before = set(threading.enumerate())
        async with two_aio() as (left, right, _), await right.start_server(echo, RIGHT, 0) as server:
            await left.open_connection(*server.sockname)
            assert set(threading.enumerate()) <= before

    run(main())


class Recorder(asyncio.Protocol):
    """Keeps what happens, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.data = b""
        self.error: Exception | None = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def eof_received(self) -> bool:
        self.events.append("eof")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.events.append("lost")
        self.error = error
        self.lost.set_result(None)


def test_protocol_write_beyond_the_buffer_pauses_and_resumes() -> None:
    async def main() -> None:
        async with two_aio() as (left, right, _):
            server = await right.create_server(Recorder, None, PORT)
            transport, protocol = await left.create_connection(Recorder, RIGHT, PORT)
            assert isinstance(protocol, Recorder)
            transport.write(bytes(3 << 20))
            assert transport.get_write_buffer_size() > 0
            transport.close()
            assert transport.is_closing()
            await protocol.lost
            assert protocol.events == ["made", "pause", "resume", "lost"]
            assert protocol.error is None
            server.close()

    run(main())


def test_protocol_that_does_not_keep_the_half_open_connection_is_closed_at_eof() -> None:
    async def main() -> None:
        async with two_aio() as (left, right, _):
            peers: list[Recorder] = []

            def factory() -> Recorder:
                peers.append(Recorder())
                return peers[-1]

            async with await right.create_server(factory, None, PORT):
                transport, _ = await left.create_connection(Recorder, RIGHT, PORT)
                transport.writelines([b"a", b"b"])
                transport.write_eof()
                with pytest.raises(RuntimeError):
                    transport.write(b"c")
                while not peers:
                    await asyncio.sleep(0)
                await peers[0].lost
                assert peers[0].data == b"ab"
                assert peers[0].events == ["made", "eof", "lost"]

    run(main())


class Buffered(asyncio.BufferedProtocol):
    """Reads into a buffer of its own."""

    def __init__(self) -> None:
        self.buffer = bytearray(100)
        self.got = b""
        self.ended = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.got += self.buffer[:nbytes]

    def eof_received(self) -> None:
        self.ended.set_result(None)


class Pausing(Buffered):
    """Stops reading, and goes on a little later, whenever it has got something."""

    transport: aio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, aio.Transport)
        self.transport = transport

    def buffer_updated(self, nbytes: int) -> None:
        super().buffer_updated(nbytes)
        self.transport.pause_reading()
        assert self.got == payload(40_000)[: len(self.got)]
        asyncio.get_running_loop().call_soon(self.transport.resume_reading)


@pytest.mark.parametrize("kind", [Buffered, Pausing])
def test_buffered_protocol_gets_its_bytes_in_order(kind: type[Buffered]) -> None:
    async def main() -> None:
        async with two_aio() as (left, right, _), await right.start_server(echo, None, PORT):
            transport, protocol = await left.create_connection(kind, RIGHT, PORT)
            assert isinstance(protocol, kind)
            transport.write(payload(40_000))
            transport.write_eof()
            await protocol.ended
            assert protocol.got == payload(40_000)

    run(main())


class Accepted(Recorder):
    """Remembers its transport."""

    transport: aio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, aio.Transport)
        self.transport = transport


async def landed(data: bytes, left: aio.Host, right: aio.Host) -> tuple[aio.Transport, Buffered, Accepted]:
    """A connection, its buffered protocol in which ``data`` has landed without its knowing, and the other end."""
    peers: list[Accepted] = []

    def factory() -> Accepted:
        peers.append(Accepted())
        return peers[-1]

    await right.create_server(factory, None, PORT)
    transport, protocol = await left.create_connection(Buffered, RIGHT, PORT)
    assert isinstance(transport, aio.Transport)
    assert isinstance(protocol, Buffered)
    while not (peers and transport.core.rcv.buffer.wanted):
        await asyncio.sleep(0)
    peers[0].transport.write(data)
    while not transport.core.landed:
        await asyncio.sleep(0)
    return transport, protocol, peers[0]


def test_bytes_that_landed_before_the_protocol_paused_come_when_it_resumes() -> None:
    async def main() -> None:
        async with two_aio() as (left, right, _):
            transport, protocol, peer = await landed(b"early", left, right)
            transport.pause_reading()
            peer.transport.write(b" and late")
            for _ in range(50):
                await asyncio.sleep(0.001)
            assert protocol.got == b""
            transport.resume_reading()
            while len(protocol.got) < 14:
                await asyncio.sleep(0.001)
            assert protocol.got == b"early and late"

    run(main())


@pytest.mark.parametrize("other", [Buffered, Recorder])
def test_bytes_that_landed_before_another_protocol_came_are_that_ones(other: type[Any]) -> None:
    async def main() -> None:
        async with two_aio() as (left, right, _):
            transport, protocol, _ = await landed(b"for the next", left, right)
            successor = other()
            transport.set_protocol(successor)
            while not (successor.data if other is Recorder else successor.got):
                await asyncio.sleep(0.001)
            assert protocol.got == b""
            assert (successor.data if other is Recorder else successor.got) == b"for the next"

    run(main())


@pytest.mark.parametrize("memory", [bytearray(0), b"read-only", None])
def test_landed_bytes_for_which_the_next_protocol_has_no_memory_are_its_error(memory: Any) -> None:
    told: list[dict[str, Any]] = []
    lost: list[Exception | None] = []

    class Useless(Buffered):
        def get_buffer(self, sizehint: int) -> Any:
            return memory

        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(exc)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with two_aio() as (left, right, _):
            transport, protocol, _ = await landed(b"for the next", left, right)
            transport.set_protocol(Useless())
            while not lost:
                await asyncio.sleep(0.001)
            assert protocol.got == b""

    run(main())
    assert lost == [told[0]["exception"]]
    assert isinstance(lost[0], TypeError if memory != b"" else RuntimeError)


def test_close_with_landed_bytes_that_nobody_saw_is_a_reset() -> None:
    async def main() -> None:
        async with two_aio() as (left, right, _):
            transport, _, peer = await landed(b"unseen", left, right)
            transport.close()
            await peer.lost
            assert isinstance(peer.error, ConnectionResetError)

    run(main())


def test_cancelled_connect_leaves_nothing() -> None:
    async def main() -> None:
        async with two_aio() as (left, _, flaky):
            flaky.full = True
            task = asyncio.create_task(left.open_connection(RIGHT, PORT))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            flaky.full = False
            assert not [conn for conn in left.stack.connections() if conn.state is not State.CLOSED]

    run(main())


def test_connect_to_a_closed_port_is_refused_and_to_a_bad_name_says_so() -> None:
    async def main() -> None:
        async with two_aio() as (left, _, _):
            with pytest.raises(ConnectionRefusedError):
                await left.open_connection(RIGHT, PORT)
            with pytest.raises(OSError, match="does not resolve"):
                await left.open_connection("no.such.name.invalid", PORT)
            with pytest.raises(OSError, match="not supported"):
                await left.open_connection("::1", PORT)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))  # the resolver's thread is the loop's


def test_factory_that_fails_leaves_the_server_serving() -> None:
    async def main() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        async with two_aio() as (left, right, _):
            calls = 0

            def factory() -> asyncio.Protocol:
                nonlocal calls
                calls += 1
                if calls == 1:
                    raise OSError(errno.EMFILE, "no more descriptors")
                return Recorder()

            async with await right.create_server(factory, None, PORT) as server:
                for expected in (ConnectionResetError, None):
                    _, protocol = await left.create_connection(Recorder, RIGHT, PORT)
                    assert isinstance(protocol, Recorder)
                    if expected is not None:
                        await protocol.lost
                        assert isinstance(protocol.error, expected)
                assert server.is_serving()
        assert [type(context["exception"]) for context in complaints] == [OSError]

    run(main())


def test_device_that_dies_ends_streams_servers_and_waits() -> None:
    async def main() -> None:
        async with two_aio() as (left, right, flaky):
            await right.start_server(echo, None, PORT)
            own = await left.start_server(echo, None, PORT)
            reader, writer = await left.open_connection(RIGHT, PORT)
            connecting = asyncio.create_task(left.open_connection("10.0.0.77", PORT))
            reading = asyncio.create_task(reader.read(1))
            await asyncio.sleep(0)
            flaky.read_error = OSError(errno.ENETDOWN, "gone")
            writer.write(b"x")
            for task in (reading, connecting):
                with pytest.raises(OSError, match="Network is down"):
                    await task
            await own.wait_closed()
            with pytest.raises(OSError, match="gone"):
                await left.open_connection(RIGHT, PORT)

    run(main())


def test_closed_host_refuses_to_connect() -> None:
    async def main() -> None:
        async with two_aio() as (left, _, _):
            await left.close()
            with pytest.raises(OSError, match="Bad file descriptor"):
                await left.open_connection(RIGHT, PORT)

    run(main())


def test_ping_is_answered_or_times_out() -> None:
    async def main() -> None:
        async with two_aio() as (left, _, _):
            assert (await left.ping(RIGHT)).size == 56
            with pytest.raises(TimeoutError):
                await left.ping("10.0.0.77", timeout=0.01)

    run(main())


# -- a host that goes away with data in hand, under virtual time -------------------------------------------------------

BULK = payload(3_000_000)  # more than the send buffer holds
SMALL = TcpConfig(send_buffer=8 * KIB, send_buffer_max=0, receive_buffer=8 * KIB, receive_buffer_max=0)


class Peer:
    """Reads ``chunk`` bytes every ``pause`` seconds until the end; what came, and how it ended."""

    def __init__(self, chunk: int = 1 << 16, pause: float = 0.0) -> None:
        self.chunk = chunk
        self.pause = pause
        self.got = bytearray()
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(self.chunk):
                self.got += data
                await asyncio.sleep(self.pause)
        except OSError as error:
            self.ended.set_result(error)
        else:
            self.ended.set_result(None)
            writer.close()


def two_simulated(tcp: TcpConfig | None = None) -> tuple[World, aio.Host, aio.Host]:
    world = World(1)
    hosts = [world.host(name, f"{address}/24", config=tcp) for name, address in (("a", LEFT), ("b", RIGHT))]
    return world, aio.Host(hosts[0]), aio.Host(hosts[1])


@pytest.mark.parametrize("before", ["nothing", "write_eof", "close"])
def test_host_closed_with_data_beyond_the_send_buffer_delivers_it_before_the_end(before: str) -> None:
    world, left, right = two_simulated()

    async def main() -> None:
        peer = Peer()
        await right.start_server(peer, None, PORT)
        _, writer = await left.open_connection(RIGHT, PORT)
        writer.write(BULK)
        assert writer.transport.get_write_buffer_size() > 1_000_000
        if before != "nothing":
            getattr(writer, before)()
        await left.close()
        assert await peer.ended is None
        assert peer.got == BULK
        await writer.wait_closed()

    run_virtually(world, main())


@pytest.mark.parametrize("before", ["nothing", "close"])
def test_host_closed_with_data_that_tls_still_holds_delivers_it_before_the_end(before: str, certificate: Path) -> None:
    world, left, right = two_simulated()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    asking = ssl.create_default_context(cafile=str(certificate))

    async def main() -> None:
        peer = Peer(pause=0.001)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await writer.start_tls(serving)
            await peer(reader, writer)

        await right.start_server(serve, None, PORT)
        _, writer = await left.open_connection(RIGHT, PORT, ssl=asking, server_hostname="localhost")
        writer.write(BULK)
        if before != "nothing":
            getattr(writer, before)()
        await left.close()
        assert await peer.ended is None
        assert peer.got == BULK

    run_virtually(world, main())


@pytest.mark.parametrize("cancelled", [False, True])
def test_host_closed_with_a_peer_slower_than_the_linger_resets_it(cancelled: bool) -> None:
    world, left, right = two_simulated(SMALL)

    async def main() -> None:
        peer = Peer(chunk=1000, pause=1.0)
        await right.start_server(peer, None, PORT, limit=1000)
        _, writer = await left.open_connection(RIGHT, PORT)
        writer.write(BULK)
        closing = asyncio.create_task(left.close(3.0))
        if cancelled:
            await asyncio.sleep(1.0)
            closing.cancel()
        await asyncio.wait([closing])
        assert closing.cancelled() == cancelled
        assert world.now == pytest.approx((1 if cancelled else 3) * SEC, rel=0.1)
        with pytest.raises(ConnectionAbortedError):
            await writer.wait_closed()
        assert isinstance(await peer.ended, ConnectionResetError)
        assert len(peer.got) < len(BULK)

    run_virtually(world, main())


def test_host_closed_ends_its_servers() -> None:
    world, left, _ = two_simulated()

    async def main() -> None:
        server = await left.start_server(echo, None, PORT)
        serving = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        await left.close()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not server.is_serving()

    run_virtually(world, main())


def test_write_that_fails_with_data_waiting_resets_the_peer() -> None:
    world, left, right = two_simulated(SMALL)

    async def main() -> None:
        peer = Peer(pause=1.0)
        await right.start_server(peer, None, PORT)
        transport, protocol = await left.create_connection(Recorder, RIGHT, PORT)
        assert isinstance(protocol, Recorder)
        assert isinstance(transport, aio.Transport)
        transport.write(BULK)
        transport._force_close(OSError(errno.EPROTO, "what TLS calls after an error"))
        await protocol.lost
        assert isinstance(protocol.error, OSError)
        assert isinstance(await peer.ended, ConnectionResetError)

    run_virtually(world, main())
