"""The runs over calls that block: ``usertcp.blocking`` and the drop-in socket, which look the same here.

A :class:`Road` says how to connect and to listen; everything else is ``recv_into``, ``sendall`` and ``close``. Several
connections are served by one thread in turn where their order is known, and by a thread each where a call would keep
the others waiting (many that connect at once).
"""

import gc
import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final, Protocol

from benchmarks.speed_job import CHUNK, Count, Job, chunks, resident, say

ONE: Final = b"S"  # the byte there and back; to who greets it says that the server closes first
ECHOES: Final = 4  # of the kernel's servers: the distance of the port of many echoes


class Stream(Protocol):
    """A connection."""

    def recv_into(self, buffer: memoryview, /) -> int: ...
    def sendall(self, data: Any, /) -> object: ...
    def close(self) -> object: ...
    def shutdown(self, how: int, /) -> object: ...


class Acceptor(Protocol):
    """A listener."""

    def accept(self) -> Stream: ...


class Road(Protocol):
    """A stack behind calls that block."""

    def connect(self, host: str, port: int) -> Stream: ...
    def listen(self, port: int) -> AbstractContextManager[Acceptor]: ...
    def abort(self, conn: Stream) -> object: ...


def _digest(check: bool) -> Any:
    return hashlib.sha256() if check else None


def bulk_in(road: Road, job: Job) -> dict[str, Any]:
    """Take what the peer's source sends."""
    conn = road.connect(job.host, job.port)
    view, digest, left = memoryview(bytearray(CHUNK)), _digest(job.check > 0), job.check
    count, clock = Count(job), time.monotonic
    while (at := clock()) < count.until or left:
        got = conn.recv_into(view)
        if digest is not None:
            digest.update(view[:got])
            left -= got
        count.add(got, at)
        if not got:
            break
    found = count.result()
    road.abort(conn)
    return found | ({"sha256": digest.hexdigest(), "left": left} if digest else {})


def bulk_out(road: Road, job: Job) -> dict[str, Any]:
    """Send to the peer's sink, until it has everything."""
    conn = road.connect(job.host, job.port)
    data: list[bytes] | list[bytearray] = list(chunks(job.check > 0))
    if not job.reference:
        data = [bytearray(chunk) for chunk in data]
    digest, left, number = _digest(job.check > 0), job.check, 0
    count, clock = Count(job), time.monotonic
    while (at := clock()) < count.until or left > 0:
        chunk = data[number % len(data)]
        number += 1
        conn.sendall(chunk)
        if digest is not None:
            digest.update(chunk)
            left -= len(chunk)
        count.add(len(chunk), at)
    conn.shutdown(1)
    if conn.recv_into(memoryview(bytearray(1))):
        raise OSError("the sink has sent something")
    found = count.result()
    conn.close()
    return found | ({"sha256": digest.hexdigest(), "left": 0} if digest else {})


def ping(road: Road, job: Job) -> dict[str, Any]:
    """One byte there and back on one connection."""
    conn = road.connect(job.host, job.port)
    view, count, clock = memoryview(bytearray(16)), Count(job), time.monotonic
    send, receive = conn.sendall, conn.recv_into
    while (at := clock()) < count.until:
        send(ONE)
        receive(view)
        count.add(1, at)
    found = count.result()
    conn.close()
    return found


def ping_many(road: Road, job: Job) -> dict[str, Any]:
    """One byte under way on each of many connections, taken in turn."""
    conns = [road.connect(job.host, job.port) for _ in range(job.count)]
    view, clock = memoryview(bytearray(16)), time.monotonic
    for conn in conns:
        conn.sendall(ONE)
    count = Count(job)
    while (at := clock()) < count.until:
        for conn in conns:
            conn.recv_into(view)
            conn.sendall(ONE)
        count.add(len(conns), at)
    return count.result()


def _greet(road: Road, job: Job, view: memoryview) -> None:
    conn = road.connect(job.host, job.port)
    conn.sendall(ONE)
    if conn.recv_into(view) != 1 or conn.recv_into(view) != 0:
        raise OSError("no greeting")
    conn.close()


def connect(road: Road, job: Job) -> dict[str, Any]:
    """Open, a byte there and back, close: one after the other."""
    view, count, clock = memoryview(bytearray(16)), Count(job), time.monotonic
    while (at := clock()) < count.until:
        _greet(road, job, view)
        count.add(1, at)
    return count.result()


def connect_many(road: Road, job: Job) -> dict[str, Any]:
    """The same by ``count`` threads at once."""
    count, clock, lock = Count(job), time.monotonic, threading.Lock()
    failures: list[BaseException] = []

    def work() -> None:
        view = memoryview(bytearray(16))
        try:
            while (at := clock()) < count.until and not failures:
                _greet(road, job, view)
                with lock:
                    count.add(1, at)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(job.count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return count.result()


def accept(road: Road, job: Job) -> dict[str, Any]:
    """Serve greetings until this process is ended; each peer closes first. ``count`` may be unfinished at a time."""
    view = memoryview(bytearray(16))
    answered: deque[Stream] = deque()
    with road.listen(job.port) as listener:
        say(ready=True)
        while True:
            conn = listener.accept()
            if conn.recv_into(view) == 1:
                conn.sendall(view[:1])
            answered.append(conn)
            while len(answered) >= job.count:
                last = answered.popleft()
                last.recv_into(view)
                last.close()


def idle(road: Road, job: Job) -> dict[str, Any]:
    """One busy connection alone, then among many idle ones; and the memory that each of those takes."""
    run = bulk_in if job.kind.endswith("-in") else ping
    distance = 1 if run is bulk_in else 3
    alone = run(road, job)
    echoes = replace(job, port=job.port - distance + ECHOES)
    view = memoryview(bytearray(16))
    gc.collect()
    before, conns = resident(), []
    for _ in range(job.count):
        conn = road.connect(echoes.host, echoes.port)
        conn.sendall(ONE)
        conn.recv_into(view)
        conns.append(conn)
    gc.collect()
    each = (resident() - before) / len(conns)
    found = run(road, job)
    return found | {"alone": alone["amount"] / alone["seconds"], "bytes_each": each}


RUNS: Final[dict[str, Callable[[Road, Job], dict[str, Any]]]] = {
    "in": bulk_in,
    "out": bulk_out,
    "ping": ping,
    "ping-many": ping_many,
    "connect": connect,
    "connect-many": connect_many,
    "accept": accept,
    "accept-many": accept,
    "idle-in": idle,
    "idle-ping": idle,
}
