"""The ends of the soak, each a process: usertcp on one of its roads, or the kernel's TCP for all of them.

An end keeps its share of the connections open, one anew for each that is over, and accepts those of the other end. Of
every connection, and of itself now and then, it says on stdout what became of it, as a line of JSON. "stop" on stdin:
open no more; when the last is over "stopped" is said. "quit": the listener is closed, and what is left is counted.

The blocking roads have threads, two for each connection (one sends, one receives); asyncio's and the kernel's have
tasks, two as well. Both do the steps of :mod:`benchmarks.soak_plan`.
"""

import asyncio
import ctypes
import gc
import hashlib
import json
import os
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from benchmarks.soak_plan import (
    ACCEPTS,
    CALLERS,
    CHUNK,
    CONNECTS,
    HEADER,
    KERNEL,
    NETWORK,
    PORT,
    ROADS,
    TAP,
    AwaitEnd,
    Job,
    Pause,
    Plan,
    Reset,
    Send,
    job_of,
    numbers,
    steps,
)
from usertcp import aio, blocking
from usertcp import socket as dropin
from usertcp.driver.aio import AioDriver
from usertcp.driver.base import Pump
from usertcp.link.base import IN, Link
from usertcp.link.faults import Drop, Faults
from usertcp.link.tap import TapLink
from usertcp.net.stack import Stack, StackConfig
from usertcp.perf import roads
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.units import from_seconds
from usertcp.wire.checksum import use_numpy

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
SIP: Final = 1 << 12  # bytes taken out at a time by every second connection of the blocking roads
REST: Final = 0.5  # seconds until the next attempt when a connection could not be opened
PROBES: Final = 20  # unanswered ones after which keepalive gives up: after the longest outage, certainly
STRAIGHT: Final = "aio"  # the road without offloads, on which segments are lost one by one
WHOLE: Final = "whole"  # how a connection ended for a side: as it should, or
CUT: Final = "cut"  # reset by this side; otherwise the name of the error
ATTENDING: Final = "soak-attending"  # the name of the threads of accepted connections
UNNAMED: Final = -1  # the number of a connection that ended before it said its own

T = TypeVar("T")

_saying: Final = threading.Lock()


def say(**words: Any) -> None:
    """A line for the soak."""
    with _saying:
        print(json.dumps(words), flush=True)


class Course:
    """One side of a connection: what it has got so far, and how it ends."""

    def __init__(self, plan: Plan, side: str, number: int = UNNAMED) -> None:
        self.plan = plan
        self.side = side
        self.began = time.monotonic()
        self.job: Job | None = None if number == UNNAMED else job_of(plan, number)
        self.count = 0
        self.total = hashlib.sha256()
        self.error = ""  # its description: the error itself knows the frames, and those the connection
        self.cut = False
        self.opened = side == ACCEPTS
        self.again = 0  # segments sent again

    def name(self, header: bytes) -> Job:
        """The accepting side has read the number."""
        self.job = job_of(self.plan, HEADER.unpack(header)[0])
        return self.job

    def take(self, data: bytes | memoryview) -> None:
        """``data`` arrived."""
        self.count += len(data)
        self.total.update(data)

    def failed(self, error: BaseException) -> None:
        """The first error counts. What this side has reset itself ends as it may."""
        if not self.error and not self.cut:
            self.error = describe(error)
            if not isinstance(error, OSError | EOFError):
                traceback.print_exception(error)

    @property
    def outcome(self) -> str:
        """WHOLE, CUT or the error's name."""
        if self.cut:
            return CUT
        return self.error or WHOLE

    def say(self) -> None:
        """Tell how it ended."""
        now = time.monotonic()
        say(
            kind="end",
            number=UNNAMED if self.job is None else self.job.number,
            side=self.side,
            outcome=self.outcome,
            opened=self.opened,
            received=self.count,
            sha256=self.total.hexdigest(),
            again=self.again,
            at=now,
            seconds=now - self.began,
        )


def describe(error: BaseException) -> str:
    """The name of an error, and what makes it one of its kind."""
    words = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return f"{type(error).__name__}: {words}"


# --- with threads -----------------------------------------------------------------------------------------------------


class DropIn(roads.Kernel):
    """The road of ``usertcp.socket``: what is done to a socket of the kernel, done to ours."""

    def __init__(self, engine: dropin.Engine) -> None:
        super().__init__()
        self.engine = engine

    def _socket(self) -> socket.socket:
        return self.engine.make_socket()

    def abort(self, conn: Any) -> None:
        """Who waits on it is woken by the end of that direction alone: a FIN must not come before the reset."""
        with suppress(OSError):
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            conn.shutdown(socket.SHUT_RD)


class Threads:
    """An end whose calls block."""

    def __init__(self, plan: Plan, road: roads.Road, name: str) -> None:
        self.plan = plan
        self.road = road
        self.stopping = threading.Event()
        self.target = (NETWORK.format(ROADS.index(name)) + ".1", PORT)
        self._numbers = numbers(name, True)
        self._drawing = threading.Lock()
        self._door = road.listen(PORT)
        self._doorman = threading.Thread(target=self._accept)
        self._doorman.start()
        self._slots = [threading.Thread(target=self._keep_open) for _ in range(plan.together // len(CALLERS))]

    def begin(self) -> None:
        for slot in self._slots:
            slot.start()

    def stop(self) -> None:
        """Open no more; back when the last one of ours is over."""
        self.stopping.set()
        for slot in self._slots:
            slot.join()

    def close(self) -> None:
        """Accept no more; back when all that was accepted is over."""
        self._door.close()
        self._doorman.join()
        for thread in threading.enumerate():
            if thread.name == ATTENDING:
                thread.join()

    def _accept(self) -> None:
        self._door.settimeout(1)
        while True:
            try:
                conn = self._door.accept()
            except TimeoutError:
                continue
            except OSError:  # closed
                return
            attending = threading.Thread(target=self._attend, args=(conn, Course(self.plan, ACCEPTS)), name=ATTENDING)
            attending.start()

    def _keep_open(self) -> None:
        while not self.stopping.is_set():
            with self._drawing:
                course = Course(self.plan, CONNECTS, next(self._numbers))
            try:
                conn = self.road.connect(self.target, self.plan.patience)
            except OSError as error:
                course.failed(error)
                course.say()
                self.stopping.wait(REST)
                continue
            self._attend(conn, course)

    def _attend(self, conn: Any, course: Course) -> None:
        """A connection from its opening to its end."""
        course.opened = True
        try:
            conn.settimeout(self.plan.patience)
            if course.job is None:
                job = course.name(_exactly(conn, HEADER.size))
            else:
                job = course.job
                conn.sendall(HEADER.pack(job.number))
            ended = threading.Event()
            sender = threading.Thread(target=self._send, args=(conn, course, job, ended))
            sender.start()
            try:
                self._receive(conn, course, job)
            finally:
                ended.set()
                sender.join()
        except Exception as error:
            course.failed(error)
        with suppress(OSError):
            course.again = self.road.retransmits(conn)
        conn.close()
        course.say()

    def _receive(self, conn: Any, course: Course, job: Job) -> None:
        try:
            if course.side == ACCEPTS:
                time.sleep(job.slow)
            for data in _pieces(conn, into=job.number // len(CALLERS) % 2 == 0):
                course.take(data)
        except Exception as error:
            course.failed(error)

    def _send(self, conn: Any, course: Course, job: Job, ended: threading.Event) -> None:
        try:
            for step in steps(job, course.side):
                if isinstance(step, Send):
                    conn.sendall(step.data)
                elif isinstance(step, Pause):
                    time.sleep(step.seconds)
                elif isinstance(step, AwaitEnd):
                    _ = ended.wait()  # bounded: who reads is
                elif isinstance(step, Reset):
                    course.cut = not course.error
                    self.road.abort(conn)
                else:
                    conn.shutdown(socket.SHUT_WR)
        except Exception as error:
            course.failed(error)


def _pieces(conn: Any, into: bool) -> Iterator[bytes | memoryview]:
    """What comes, until the end: ``into`` memory of ours, or as bytes. Of those there are few at a time, for of 64 KB
    asked for what is not needed goes back to malloc at once, and from so many threads wears holes into its heap."""
    if not into:
        while data := conn.recv(SIP):
            yield data
        return
    view = memoryview(bytearray(CHUNK))
    while count := conn.recv_into(view):
        yield view[:count]


def _exactly(conn: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = conn.recv(size - len(data))
        if not more:
            raise EOFError("ended before it began")
        data += more
    return data


# --- with tasks -------------------------------------------------------------------------------------------------------


class Tasks:
    """An end of asyncio's: over usertcp, or (``host`` None) over the kernel."""

    def __init__(self, plan: Plan, host: aio.Host | None, callers: list[tuple[str, bool]]) -> None:
        self.plan = plan
        self.host = host
        self.stopping = asyncio.Event()
        self._callers = callers
        self._server: Any = None
        self._slots: list[asyncio.Task[None]] = []

    async def listen(self) -> None:
        start: Any = asyncio.start_server if self.host is None else self.host.start_server
        self._server = await start(self._accepted, "0.0.0.0", PORT, backlog=roads.BACKLOG)

    def begin(self) -> None:
        for road, ours in self._callers:
            target = NETWORK.format(ROADS.index(road)) + (".1" if ours else ".2")
            drawn = numbers(road, ours)
            for _ in range(self.plan.together // len(CALLERS)):
                self._slots.append(asyncio.create_task(self._keep_open(target, drawn)))

    async def stop(self) -> None:
        """Open no more; back when the last one of ours is over."""
        self.stopping.set()
        await asyncio.gather(*self._slots)

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _keep_open(self, target: str, drawn: Iterator[int]) -> None:
        opening: Any = asyncio.open_connection if self.host is None else self.host.open_connection
        while not self.stopping.is_set():
            course = Course(self.plan, CONNECTS, next(drawn))
            try:
                async with asyncio.timeout(self.plan.patience):
                    reader, writer = await opening(target, PORT)
            except OSError as error:
                course.failed(error)
                course.say()
                await asyncio.sleep(REST)
                continue
            await self._attend(reader, writer, course)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._attend(reader, writer, Course(self.plan, ACCEPTS))

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, course: Course) -> None:
        """A connection from its opening to its end."""
        course.opened = True
        if self.host is None:
            probe(writer.get_extra_info("socket"), self.plan)
        try:
            if course.job is None:
                async with asyncio.timeout(self.plan.patience):
                    job = course.name(await reader.readexactly(HEADER.size))
            else:
                job = course.job
                writer.write(HEADER.pack(job.number))
            ended = asyncio.Event()
            sender = asyncio.create_task(self._send(writer, course, job, ended))
            await self._receive(reader, course, job)
            ended.set()
            await sender
        except Exception as error:
            course.failed(error)
        core: Connection | None = writer.get_extra_info("connection")
        if core is not None:
            course.again = core.info(time.monotonic_ns()).retransmissions
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        course.say()

    async def _receive(self, reader: asyncio.StreamReader, course: Course, job: Job) -> None:
        try:
            if course.side == ACCEPTS:
                await asyncio.sleep(job.slow)
            while True:
                async with asyncio.timeout(self.plan.patience):
                    data = await reader.read(CHUNK)
                if not data:
                    return
                course.take(data)
        except Exception as error:
            course.failed(error)

    async def _send(self, writer: asyncio.StreamWriter, course: Course, job: Job, ended: asyncio.Event) -> None:
        try:
            for step in steps(job, course.side):
                if isinstance(step, Send):
                    writer.write(step.data)
                    async with asyncio.timeout(self.plan.patience):
                        await writer.drain()
                elif isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                elif isinstance(step, AwaitEnd):
                    await ended.wait()  # bounded: who reads is
                elif isinstance(step, Reset):
                    course.cut = not course.error
                    if self.host is None:
                        linger = struct.pack("ii", 1, 0)
                        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
                else:
                    writer.write_eof()
        except Exception as error:
            course.failed(error)


def probe(sock: socket.socket, plan: Plan) -> None:
    """Let the kernel ask whether a silent peer is still there."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, plan.keepalive)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, plan.keepalive)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)


# --- the stack and what it holds --------------------------------------------------------------------------------------


def stack_of(plan: Plan, name: str) -> tuple[Stack, Link]:
    """The stack of a road on its TAP. What comes in is lost here; what goes out, in the kernel."""
    place = ROADS.index(name)
    tap = TapLink.open(TAP.format(place), offload=name != STRAIGHT)
    rules = [Drop(probability=plan.loss, direction=IN)]
    link = Faults(tap, rules, plan.seed, keep_offload=True) if plan.loss else tap
    if not link.caps.tx_checksum:
        use_numpy()
    tcp = TcpConfig(
        msl=from_seconds(plan.msl),
        keepalive=True,
        keepalive_idle=from_seconds(plan.keepalive),
        keepalive_interval=from_seconds(plan.keepalive),
        keepalive_count=PROBES,
    )
    network = NETWORK.format(place)
    config = StackConfig(addresses=(f"{network}.2/24",), gateway=f"{network}.1", tcp=tcp)
    return Stack(config, link.caps, os.urandom), link


def held(stack: Stack, link: Link) -> dict[str, int]:
    """What a stack holds and has counted, looked at by the only one that may touch it."""
    return {
        "connections": len(list(stack.connections())),
        "timers": len(stack._heap),
        "ports": len(stack._ports._bound),
        "stirred": len(stack._dirty),
        "lost": link.counts["drop"] if isinstance(link, Faults) else 0,
        **{name: getattr(stack.stats, name) for name in ("segments_in", "segments_out", "bytes_in", "bytes_out")},
    }


MALLINFO: Final = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


class _Mallinfo(ctypes.Structure):
    """struct mallinfo2 (glibc's malloc.h)."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in MALLINFO)


def taken() -> int:
    """Bytes that malloc has given and not got back; 0 where it does not tell. What it keeps for itself it gives back
    first, for that follows the greatest that ever was, which chance moves up for an hour."""
    malloc = ctypes.CDLL(None)
    ask, trim = getattr(malloc, "mallinfo2", None), getattr(malloc, "malloc_trim", None)
    if ask is None or trim is None:
        return 0
    trim(ctypes.c_size_t(0))
    ask.restype = _Mallinfo
    told = ask()
    return int(told.uordblks + told.hblkhd)


def own(look: Callable[[], dict[str, int]]) -> dict[str, int]:
    """What this process has: bytes of memory, those that malloc has given away, small blocks of the interpreter's,
    descriptors, threads, objects; and what ``look`` finds in its stack."""
    objects = gc.get_objects()
    given = taken()
    return {
        "memory": int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
        "taken": given,
        "blocks": sys.getallocatedblocks(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "objects": len(objects),
        "living": sum(type(thing) is Connection for thing in objects),
        **look(),
    }


def sample(kind: str, look: Callable[[], dict[str, int]]) -> None:
    """Say what this process has: when it is "ready", as a "sample", and at "rest"."""
    if kind != "sample":
        gc.collect()
    say(kind=kind, at=time.monotonic(), cpu=time.process_time(), **own(look))


# --- the programs -----------------------------------------------------------------------------------------------------


def run_threads(plan: Plan, name: str, road: roads.Road, look: Callable[[], dict[str, int]]) -> None:
    """One of the blocking roads."""
    end = Threads(plan, road, name)
    sample("ready", look)
    sys.stdin.readline()
    end.begin()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(plan.every):
            sample("sample", look)

    watcher = threading.Thread(target=watch)
    watcher.start()
    sys.stdin.readline()
    end.stop()
    say(kind="stopped")
    sys.stdin.readline()
    end.close()
    over.set()
    watcher.join()
    rest(look)


def rest(look: Callable[[], dict[str, int]]) -> None:
    """When TIME-WAIT is over everywhere, or not after a while: what is left."""
    limit = time.monotonic() + 60
    while look().get("connections", 0) and time.monotonic() < limit:
        time.sleep(0.05)
    sample("rest", look)


def run_blocking(plan: Plan) -> None:
    stack, link = stack_of(plan, "blocking")
    with blocking.Host(stack, link) as host:

        def look() -> dict[str, int]:
            with host._lock:
                return held(stack, link)

        run_threads(plan, "blocking", roads.Ours(host), look)


def run_socket(plan: Plan) -> None:
    stack, link = stack_of(plan, "socket")
    engine = dropin.Engine(stack, link)
    try:
        look = cast("Callable[[], dict[str, int]]", lambda: engine.call(held, stack, link))
        run_threads(plan, "socket", DropIn(engine), look)
    finally:
        engine.close()
        link.close()


async def run_tasks(plan: Plan, end: Tasks, look: Callable[[], dict[str, int]]) -> None:
    """An end of asyncio's."""
    told = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    await end.listen()
    sample("ready", look)
    await told.readline()
    end.begin()

    async def watch() -> None:
        while True:
            await asyncio.sleep(plan.every)
            sample("sample", look)

    watcher = asyncio.create_task(watch())
    await told.readline()
    await end.stop()
    say(kind="stopped")
    await told.readline()
    watcher.cancel()
    await end.close()
    limit = loop.time() + 60
    while look().get("connections", 0) and loop.time() < limit:
        await asyncio.sleep(0.05)
    sample("rest", look)


async def run_aio(plan: Plan) -> None:
    stack, link = stack_of(plan, "aio")
    driver = AioDriver(Pump(stack, link, time.monotonic_ns), asyncio.get_running_loop())
    host = aio.Host(driver)
    try:
        driver.kick()
        await run_tasks(plan, Tasks(plan, host, [("aio", True)]), lambda: held(stack, link))
    finally:
        await host.close()
        driver.close()
        link.close()


async def run_kernel(plan: Plan) -> None:
    await run_tasks(plan, Tasks(plan, None, [(road, False) for road in ROADS]), dict)


def main() -> None:
    name, text = sys.argv[1:]
    plan = Plan.of(json.loads(text))
    if name == "blocking":
        run_blocking(plan)
    elif name == "socket":
        run_socket(plan)
    else:
        asyncio.run(run_kernel(plan) if name == KERNEL else run_aio(plan))


if __name__ == "__main__":
    main()
