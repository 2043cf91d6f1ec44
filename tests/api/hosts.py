"""Stacks joined by a cable in memory, for the tests of the front ends, and what they must not leave behind."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from tests.support.faulty import FaultyLink
from usertcp import aio, blocking
from usertcp.driver.aio import AioDriver
from usertcp.driver.base import Pump
from usertcp.link.base import Link
from usertcp.link.memory import memory_pair
from usertcp.net.stack import Stack, StackConfig
from usertcp.tcp.config import TcpConfig

LEFT = "10.0.0.1"
RIGHT = "10.0.0.2"
PORT = 7
PATIENCE = 60.0  # seconds that a test waits for what ought to come at once
STEP = 0.002  # seconds between two looks


def stack_on(link: Link, address: str, tcp: TcpConfig | None = None) -> Stack:
    """A stack with ``address`` for ``link``."""
    return Stack(StackConfig(addresses=(f"{address}/24",), tcp=tcp or TcpConfig()), link.caps, os.urandom)


@contextmanager
def two_blocking(
    *, tcp: TcpConfig | None = None, offload: bool = True, linger: float = 2.0, busy_poll: int = 0
) -> Iterator[tuple[blocking.Host, blocking.Host]]:
    """Two hosts with one cable between them."""
    one, other = memory_pair(offload=offload, pollable=True)
    left = blocking.Host(stack_on(one, LEFT, tcp), one, linger=linger, busy_poll=busy_poll)
    right = blocking.Host(stack_on(other, RIGHT, tcp), other, linger=linger, busy_poll=busy_poll)
    try:
        yield left, right
    finally:
        left.close()
        right.close()


@asynccontextmanager
async def two_aio(
    *, pollable: bool = True, make: Callable[[Link, str], Stack] = stack_on
) -> AsyncIterator[tuple[aio.Host, aio.Host, FaultyLink]]:
    """The same on asyncio's loop, and the left one's device; ``make``: its stack."""
    one, other = memory_pair(offload=True, pollable=pollable)
    flaky, loop = FaultyLink(one), asyncio.get_running_loop()
    pumps = [
        Pump(make(flaky, LEFT), flaky, time.monotonic_ns),
        Pump(stack_on(other, RIGHT), other, time.monotonic_ns),
    ]
    drivers = [AioDriver(pump, loop) for pump in pumps]
    hosts = [aio.Host(driver) for driver in drivers]
    try:
        yield hosts[0], hosts[1], flaky
    finally:
        await hosts[0].close(0.2)
        await hosts[1].close(0.2)
        for driver in drivers:
            driver.close()
        one.close()
        other.close()


async def keeping(host: aio.Host) -> tuple[aio.Server, "asyncio.Future[bytes]"]:
    """A server on PORT, and what its client says up to the end, after which it ends too."""
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.set_result(await reader.read())
        writer.close()

    return await host.start_server(serve, None, PORT), got


def run(main: Coroutine[Any, Any, None]) -> None:
    """``asyncio.run``, bounded, and without leftovers."""
    with nothing_left():
        asyncio.run(asyncio.wait_for(main, PATIENCE))


@contextmanager
def nothing_left() -> Iterator[None]:
    """Within the block descriptors and threads may come, but not stay."""
    files, threads = set(os.listdir("/proc/self/fd")), set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= threads
    assert set(os.listdir("/proc/self/fd")) <= files


def until_asleep(thread: threading.Thread, looks: int = 20) -> None:
    """Wait until ``thread`` sleeps in the kernel for good: it has not been scheduled between so many looks.

    A thread that waits for the interpreter wakes all the time (``sys.getswitchinterval``).
    """
    path = f"/proc/self/task/{thread.native_id}/status"
    never, same, last = threading.Event(), 0, ""
    for _ in range(round(PATIENCE / STEP)):
        with open(path) as file:
            lines = file.read().splitlines()
        now = "".join(line for line in lines if "ctxt_switches" in line)
        asleep = any(line.split()[1] == "S" for line in lines if line.startswith("State:"))
        same = same + 1 if asleep and now == last else 0
        if same == looks:
            return
        last = now
        never.wait(STEP)
    raise AssertionError(f"the thread did not fall asleep in {PATIENCE} s")
