"""Thousands of connections, one after another and all at once, in both roles; and nothing is left of them.

What may leak is counted: descriptors, connections, ports, timers, and bytes (tracemalloc, between two stages of the
same work: the first fills caches and free lists).
"""

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Callable

from tests.netns.peer import blocks
from tests.netns.plugged import KERNEL, STACK, Plugged, descriptors, living_connections, newly_living, plugged, until
from tests.netns.programs import PATIENCE, Peer
from usertcp import aio
from usertcp.net.stack import Stack
from usertcp.tcp.config import TcpConfig
from usertcp.units import MS

TCP = TcpConfig(msl=20 * MS)  # TIME-WAIT lasts 40 ms here, so that its end is seen
ECHO = 7
WARM_UP, MANY = 200, 2000
TOGETHER = 500
SIZE = 2000  # bytes that each connection carries, both ways
SLACK = 64 * 1024  # bytes by which the interpreter itself may grow; a leak of 36 bytes a connection exceeds it


def nothing_is_left(stack: Stack) -> None:
    """No connection, no port, no timer: TIME-WAIT has passed."""
    assert until(lambda: not list(stack.connections())), list(stack.connections())
    assert stack._ports._bound == {}
    assert stack._listening.all == []
    assert until(lambda: not stack._heap or stack._heap[0][0] > time.monotonic_ns()), stack._heap
    assert not stack._dirty


def grown(work: Callable[[int], None], stack: Stack) -> int:
    """Bytes still held after ``MANY`` rounds of ``work`` that were not after ``WARM_UP``."""
    tracemalloc.start()
    try:
        held = []
        for rounds in (WARM_UP, MANY):
            work(rounds)
            nothing_is_left(stack)
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
        return held[1] - held[0]
    finally:
        tracemalloc.stop()


def dial(here: Plugged, count: int) -> None:
    """``count`` connections to a kernel program that echoes, one after another."""
    for number in range(count):
        echo_once(here, number)


def echo_once(here: Plugged, number: int) -> None:
    data = b"".join(blocks(SIZE, number))
    with here.host.connect((KERNEL, ECHO), timeout=PATIENCE) as conn:
        conn.settimeout(PATIENCE)
        conn.sendall(data)
        conn.shutdown()
        received = b""
        while chunk := conn.recv():
            received += chunk
    assert received == data


def serve(here: Plugged, count: int) -> None:
    """Echo ``count`` connections of a kernel program, one after another."""
    with (
        here.host.listen((STACK, ECHO)) as listener,
        Peer(here.space, "clients", STACK, ECHO, "--count", count, "--together", 1, "--size", SIZE).ready() as peer,
    ):
        listener.settimeout(PATIENCE)
        for _ in range(count):
            with listener.accept() as conn:
                conn.settimeout(PATIENCE)
                received = b""
                while chunk := conn.recv():
                    received += chunk
                conn.sendall(received)
        assert peer.report() == {"intact": count}


def test_2000_connects_one_after_another_leave_nothing() -> None:
    earlier = living_connections()
    with plugged(tcp=TCP) as here, Peer(here.space, "echo", KERNEL, ECHO).ready() as peer:
        before = descriptors()
        grew = grown(lambda rounds: dial(here, rounds), here.stack)
        assert until(lambda: descriptors() <= before)
        assert peer.report() == {"served": WARM_UP + MANY}
        assert newly_living(earlier) == []
        assert grew < SLACK


def test_2000_accepts_one_after_another_leave_nothing() -> None:
    earlier = living_connections()
    with plugged(tcp=TCP) as here:
        before = descriptors()
        grew = grown(lambda rounds: serve(here, rounds), here.stack)
        assert until(lambda: descriptors() <= before)
        assert newly_living(earlier) == []
        assert grew < SLACK


async def all_at_once(host: aio.Host, count: int) -> int:
    """``count`` connections opened together, then used together; how many came back intact."""
    ends = await asyncio.gather(*(host.open_connection(KERNEL, ECHO) for _ in range(count)))
    assert len(list(host.stack.connections())) == count

    async def one(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        data = b"".join(blocks(SIZE, number))
        writer.write(data)
        writer.write_eof()
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
        return received == data

    return sum(await asyncio.gather(*(one(number, *end) for number, end in enumerate(ends))))


async def drained(stack: Stack) -> None:
    """The loop runs until TIME-WAIT has passed everywhere."""
    for _ in range(6000):
        if not list(stack.connections()):
            break
        await asyncio.sleep(0.01)
    nothing_is_left(stack)


def test_500_connects_at_once_leave_nothing() -> None:
    earlier = living_connections()

    async def scenario() -> None:
        async with aio.open(tcp=TCP) as host:
            assert host.opened is not None
            with Peer(host.opened.netns, "echo", KERNEL, ECHO).ready() as peer:
                assert await all_at_once(host, 10) == 10
                await drained(host.stack)
                before = descriptors()
                assert await all_at_once(host, TOGETHER) == TOGETHER
                await drained(host.stack)
                assert until(lambda: descriptors() <= before)
                assert peer.report() == {"served": TOGETHER + 10}

    asyncio.run(scenario())
    assert newly_living(earlier) == []


def test_500_accepts_at_once_leave_nothing() -> None:
    earlier = living_connections()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()
        await writer.wait_closed()

    async def scenario() -> None:
        async with aio.open(tcp=TCP) as host:
            assert host.opened is not None
            before = descriptors()
            server = await host.start_server(echo, STACK, ECHO, backlog=TOGETHER)
            options = ("--count", TOGETHER, "--together", TOGETHER, "--size", SIZE)
            with Peer(host.opened.netns, "clients", STACK, ECHO, *options).ready() as peer:
                assert await asyncio.to_thread(peer.report) == {"intact": TOGETHER}
            server.close()
            await server.wait_closed()
            await drained(host.stack)
            assert until(lambda: descriptors() <= before)

    asyncio.run(scenario())
    assert newly_living(earlier) == []
