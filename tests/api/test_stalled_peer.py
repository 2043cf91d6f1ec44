"""A peer that does not read: each road takes what the buffers hold and then says so, and no memory grows.

200 MB are offered in pieces, the way a program does that honours backpressure: again and again, whether they are taken
or not. What Python allocates meanwhile is counted, rings included. Then the peer reads: what was taken is there.
"""

import asyncio
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.api.hosts import LEFT, PATIENCE, PORT, RIGHT, nothing_left, two_blocking
from tests.api.sockets import connected, two_engines
from usertcp.sim import MIB, World
from usertcp.tcp.config import TcpConfig

OFFERED = 200 * MIB
PIECE = bytes(64 << 10)
GROWTH = 10 * MIB
SMALL = TcpConfig(send_buffer=64 << 10, send_buffer_max=0, receive_buffer=64 << 10, receive_buffer_max=0)
SETTINGS = pytest.mark.parametrize("tcp", [TcpConfig(), SMALL], ids=["tuned", "small"])


@contextmanager
def little_memory() -> Iterator[None]:
    """Within the block the most that is allocated at a time stays below GROWTH."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < GROWTH


def offer(send: Callable[[bytes], int]) -> int:
    """Offer everything; how much was taken."""
    taken = 0
    for _ in range(OFFERED // len(PIECE)):
        try:
            taken += send(PIECE)
        except BlockingIOError:
            continue
    return taken


def until_it_waits(send: Callable[[bytes], int]) -> int:
    """Send until that times out; how much was taken. It ends: no more than ``OFFERED`` would be."""
    taken = 0
    while taken < OFFERED:
        try:
            taken += send(PIECE)
        except TimeoutError:
            break
    return taken


def limit(tcp: TcpConfig) -> int:
    """More than the buffers of both ends and those of the kernel hold."""
    return 2 * MIB if tcp is SMALL else GROWTH


@SETTINGS
def test_blocking_send_says_eagain_and_then_times_out(tcp: TcpConfig) -> None:
    with nothing_left(), two_blocking(tcp=tcp, linger=PATIENCE) as (left, right):
        listener = right.listen(("", PORT))
        with left.connect((RIGHT, PORT), timeout=PATIENCE) as conn, listener.accept() as peer:
            with little_memory():
                conn.settimeout(0)
                taken = offer(conn.send)
                conn.settimeout(0.2)
                taken += until_it_waits(conn.send)
            assert taken < limit(tcp)
            peer.settimeout(PATIENCE)
            while taken:
                taken -= len(peer.recv(taken))


@SETTINGS
def test_socket_send_says_eagain(tcp: TcpConfig) -> None:
    with nothing_left(), two_engines(tcp) as (left, right):
        client, server = connected(left, right)
        with client, server:
            with little_memory():
                client.setblocking(False)
                taken = offer(client.send)
                client.settimeout(0.2)
                taken += until_it_waits(client.send)
                buffers = (
                    client.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
                    server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
                )
            assert max(buffers) < GROWTH
            assert taken < limit(tcp)
            while taken:
                taken -= len(server.recv(taken))


@SETTINGS
def test_aio_drain_waits(tcp: TcpConfig) -> None:
    world = World(1)
    left = world.host("left", f"{LEFT}/24", config=tcp)
    right = world.host("right", f"{RIGHT}/24", config=tcp)
    accepted: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append((reader, writer))

    async def main() -> None:
        await right.net.start_server(keep, None, PORT)
        _, writer = await left.net.open_connection(RIGHT, PORT)
        taken, drained = 0, True
        with little_memory():
            for _ in range(OFFERED // len(PIECE)):
                if drained:
                    writer.write(PIECE)
                    taken += len(PIECE)
                try:
                    await asyncio.wait_for(writer.drain(), 0.01)
                    drained = True
                except TimeoutError:
                    drained = False
        assert not drained
        assert taken < limit(tcp)
        assert 0 < writer.transport.get_write_buffer_size() <= len(PIECE)
        writer.close()
        reader, peer = accepted[0]
        assert len(await reader.read(-1)) == taken
        peer.close()

    world.run_until_complete(main())
