"""usertcp.aio's servers, sockets without descriptors, sendfile and limits: as asyncio's, and nothing is left behind."""

import asyncio
import errno
import io
import socket
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.api.hosts import LEFT, PORT, RIGHT
from usertcp import aio
from usertcp.driver.server import WAITS_FOR_CLIENTS
from usertcp.driver.sim import World
from usertcp.driver.virtual_loop import run
from usertcp.errors import StackError
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.state import State
from usertcp.units import KIB

SMALL = TcpConfig(send_buffer=8 * KIB, send_buffer_max=0, receive_buffer=8 * KIB, receive_buffer_max=0)


class Recorder(asyncio.Protocol):
    """Keeps what happens, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.data = b""
        self.error: Exception | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.error = error
        self.lost.set_result(None)


def two(tcp: TcpConfig | None = None) -> tuple[World, aio.Host, aio.Host]:
    world = World(1)
    hosts = [world.host(name, f"{address}/24", config=tcp) for name, address in (("a", LEFT), ("b", RIGHT))]
    return world, aio.Host(hosts[0]), aio.Host(hosts[1])


def alive(host: aio.Host) -> list[State]:
    """The states of its connections that have not ended; TIME-WAIT is no resource of the user's."""
    return [conn.state for conn in host.stack.connections() if conn.state not in (State.CLOSED, State.TIME_WAIT)]


def both(world: World, main: Coroutine[Any, Any, None]) -> None:
    """Run ``main``; afterwards no task of it is left, and no complaint came."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await main
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(world, watched())
    assert complaints == []


def test_server_that_does_not_serve_yet_refuses_until_it_does() -> None:
    world, left, right = two()

    async def main() -> None:
        server = await right.create_server(Recorder, RIGHT, 0, start_serving=False)
        assert not server.is_serving()
        there = server.sockets[0].getsockname()
        assert there[0] == RIGHT
        with pytest.raises(ConnectionRefusedError):
            await left.create_connection(Recorder, *there)
        await server.start_serving()
        await server.start_serving()
        assert server.is_serving()
        transport, _ = await left.create_connection(Recorder, *there)
        transport.close()
        server.close()
        server.close()
        assert not server.is_serving()
        assert server.sockets == ()
        with pytest.raises(RuntimeError):
            await server.start_serving()
        with pytest.raises(ConnectionRefusedError):
            await left.create_connection(Recorder, *there)

    both(world, main())


def test_server_closed_before_it_served_gives_its_port_back() -> None:
    world, _, right = two()

    async def main() -> None:
        server = await right.create_server(Recorder, None, PORT, start_serving=False)
        server.close()
        await server.wait_closed()
        async with await right.create_server(Recorder, None, PORT):
            pass

    both(world, main())


def test_server_on_a_port_in_use_says_which_and_leaves_none_behind() -> None:
    world, _, right = two()

    async def main() -> None:
        first = await right.create_server(Recorder, RIGHT, PORT)
        with pytest.raises(OSError, match=r"attempting to bind on address \('10.0.0.2', 7\)") as caught:
            await right.create_server(Recorder, ["127.0.0.1", RIGHT], PORT)
        assert caught.value.errno == errno.EADDRINUSE
        first.close()
        (await right.create_server(Recorder, "127.0.0.1", PORT)).close()

    both(world, main())


def test_server_on_two_addresses_serves_both() -> None:
    world, left, right = two()

    async def main() -> None:
        async with await right.create_server(Recorder, ["127.0.0.1", RIGHT], PORT) as server:
            assert [view.getsockname() for view in server.sockets] == [("127.0.0.1", PORT), (RIGHT, PORT)]
            for client, address in ((left, RIGHT), (right, "127.0.0.1")):
                transport, _ = await client.create_connection(Recorder, address, PORT)
                transport.close()

    both(world, main())


def test_wait_closed_ends_when_the_last_connection_does() -> None:
    world, left, right = two()

    async def main() -> None:
        server = await right.create_server(Recorder, None, PORT)
        await left.create_connection(Recorder, RIGHT, PORT)
        early = asyncio.create_task(server.wait_closed())
        await asyncio.sleep(1)
        server.close()
        late = asyncio.create_task(server.wait_closed())
        await asyncio.sleep(1)
        assert not early.done()
        assert late.done() == (not WAITS_FOR_CLIENTS)
        server.close_clients()
        await asyncio.gather(early, late)
        await asyncio.sleep(1)
        assert alive(left) == alive(right) == []

    both(world, main())


@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
def test_clients_of_one_server_are_ended_and_others_not(how: str) -> None:
    world, left, right = two()

    async def main() -> None:
        servers = [await right.create_server(Recorder, None, port) for port in (PORT, PORT + 1)]
        ours = [(await left.create_connection(Recorder, RIGHT, port))[1] for port in (PORT, PORT + 1)]
        await asyncio.sleep(1)
        getattr(servers[0], how)()
        await asyncio.sleep(1)
        ended, other = ours
        assert isinstance(ended, Recorder)
        assert isinstance(other, Recorder)
        assert ended.lost.done()
        assert isinstance(ended.error, ConnectionResetError) == (how == "abort_clients")
        assert not other.lost.done()
        for server in servers:
            server.close()
            server.abort_clients()
        await asyncio.sleep(1)

    both(world, main())


def test_serve_forever_is_cancelled_by_close_and_closes_when_cancelled() -> None:
    world, _, right = two()

    async def main() -> None:
        server = await right.create_server(Recorder, None, PORT, start_serving=False)
        serving = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        assert server.is_serving()
        with pytest.raises(RuntimeError, match="already"):
            await server.serve_forever()
        server.close()
        with pytest.raises(asyncio.CancelledError):
            await serving
        server = await right.create_server(Recorder, None, PORT)
        serving = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not server.is_serving()

    both(world, main())


def test_serve_forever_says_that_the_device_is_gone() -> None:
    world, left, _ = two()

    async def main() -> None:
        server = await left.create_server(Recorder, None, PORT)
        serving = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        left.driver.pump.fail(OSError(errno.ENODEV, "pulled out"))
        with pytest.raises(StackError, match="pulled out"):
            await serving

    both(world, main())


def test_protocol_that_refuses_its_connection_leaves_none() -> None:
    world, left, right = two()

    class Refusing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            raise ValueError("not this one")

    def failing() -> asyncio.Protocol:
        raise KeyError("no protocol")

    async def main() -> None:
        async with await right.create_server(Recorder, None, PORT):
            with pytest.raises(ValueError, match="not this one"):
                await left.create_connection(Refusing, RIGHT, PORT)
            with pytest.raises(KeyError):
                await left.create_connection(failing, RIGHT, PORT)
            await asyncio.sleep(1)
            assert alive(left) == alive(right) == []

    both(world, main())


def test_local_address_is_the_one_that_was_asked_for() -> None:
    world, left, right = two()

    async def main() -> None:
        async with await right.create_server(Recorder, None, PORT):
            transport, _ = await left.create_connection(Recorder, RIGHT, PORT, local_addr=(LEFT, 4000))
            assert transport.get_extra_info("sockname") == (LEFT, 4000)
            transport.abort()
            with pytest.raises(OSError, match="Cannot assign"):
                await left.create_connection(Recorder, RIGHT, PORT, local_addr=("10.0.0.9", 0))

    both(world, main())


@pytest.mark.parametrize("delay", [None, 0.25])
def test_connect_tries_every_address_of_a_name(delay: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    world, left, right = two()
    found = ["10.0.0.77", RIGHT]

    async def getaddrinfo(host: str, port: int, **_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    async def main() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        async with await right.create_server(Recorder, None, PORT):
            transport, _ = await left.create_connection(Recorder, "name", PORT, happy_eyeballs_delay=delay)
            assert transport.get_extra_info("peername") == (RIGHT, PORT)
            assert (world.now > 10**9) == (delay is None)  # ARP for the first one takes seconds to fail
            transport.close()
            await asyncio.sleep(0)
            assert State.SYN_SENT not in alive(left)
        found[1] = RIGHT
        with pytest.raises(OSError, match=r"Multiple exceptions: .*No route.*refused"):
            await left.create_connection(Recorder, "name", PORT + 1, happy_eyeballs_delay=delay)
        with pytest.raises(ExceptionGroup):
            await left.create_connection(Recorder, "name", PORT + 1, all_errors=True)
        await asyncio.sleep(1)
        assert alive(left) == []

    both(world, main())


def test_socket_of_a_transport_has_names_and_options_and_no_descriptor() -> None:
    world, left, right = two()

    async def main() -> None:
        async with await right.create_server(Recorder, None, PORT) as server:
            listening = server.sockets[0]
            assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with pytest.raises(OSError, match="not connected"):
                listening.getpeername()
            transport, _ = await left.create_connection(Recorder, RIGHT, PORT)
            await asyncio.sleep(1)
            assert all(conn.config.nodelay for conn in right.stack.connections())
            sock = transport.get_extra_info("socket")
            assert transport.get_extra_info("socket") is sock
            assert (sock.family, sock.type, sock.proto) == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            assert (sock.fileno(), sock.gettimeout()) == (-1, 0)
            assert sock.getsockname() == transport.get_extra_info("sockname")
            assert sock.getpeername() == (RIGHT, PORT)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert transport.get_extra_info("connection").config.nodelay
            assert len(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1000)) == 248
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == b"cubic"
            with pytest.raises(OSError, match="Protocol not available"):
                sock.setsockopt(socket.IPPROTO_TCP, 999, 1)
            sock.setblocking(False)
            with pytest.raises(ValueError, match="does not block"):
                sock.settimeout(1)
            assert transport.get_extra_info("cipher", "none") == "none"
            transport.close()

    both(world, main())


@pytest.mark.parametrize(("offset", "count"), [(0, None), (1000, 100_000), (299_990, 100)])
def test_sendfile_falls_back_to_reading_and_writing(offset: int, count: int | None) -> None:
    world, left, right = two(SMALL)
    content = bytes(n % 251 for n in range(300_000))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        peers: list[Recorder] = []

        def factory() -> Recorder:
            peers.append(Recorder())
            return peers[-1]

        async with await right.create_server(factory, None, PORT):
            transport, protocol = await left.create_connection(Recorder, RIGHT, PORT)
            expected = content[offset:][:count]
            with io.BytesIO(content) as file:
                assert await loop.sendfile(transport, file, offset, count) == len(expected)
                assert file.tell() == offset + len(expected)
            assert transport.get_protocol() is protocol
            with pytest.raises(RuntimeError, match="fallback"):
                await loop.sendfile(transport, io.BytesIO(content), fallback=False)
            transport.close()
            await asyncio.sleep(1)
            await peers[0].lost
            assert peers[0].data == expected

    both(world, main())


def test_limits_say_how_much_may_wait_beyond_the_ring() -> None:
    world, left, right = two(SMALL)

    async def main() -> None:
        async with await right.create_server(Recorder, None, PORT):
            transport, protocol = await left.create_connection(Recorder, RIGHT, PORT)
            assert isinstance(protocol, Recorder)
            assert transport.get_write_buffer_limits() == (0, 0)
            transport.set_write_buffer_limits(high=50_000, low=10_000)
            assert transport.get_write_buffer_limits() == (10_000, 50_000)
            transport.write(bytes(58_000))
            assert transport.get_write_buffer_size() == 58_000 - 8 * KIB
            assert protocol.events == ["made"]
            transport.write(bytes(100))
            transport.write(bytes(100))
            assert protocol.events == ["made", "pause"]
            while len(protocol.events) < 3:
                await asyncio.sleep(0.001)
            assert protocol.events[-1] == "resume"
            assert 0 < transport.get_write_buffer_size() <= 10_000
            with pytest.raises(ValueError, match="must be"):
                transport.set_write_buffer_limits(high=1, low=2)
            transport.abort()
            await protocol.lost

    both(world, main())
