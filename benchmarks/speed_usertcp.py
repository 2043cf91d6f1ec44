"""usertcp as one end of the runs: ``python -m benchmarks.speed_usertcp ROAD NAMESPACE JOB``; a result on stdout.

A process for each run: a stack on the TAP that is there, opened as any program opens one.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from benchmarks.speed_calls import RUNS, Road, Stream
from benchmarks.speed_job import GSO, PLAIN, START, Job, job_from, say
from benchmarks.speed_net import NEAR, PREFIX, TAP
from usertcp import blocking
from usertcp import socket as dropin
from usertcp.tcp.config import TcpConfig

ADDRESS: Final = f"{NEAR}/{PREFIX}"
SETTINGS: Final = TcpConfig(nodelay=True)


class BlockingRoad:
    """``usertcp.blocking``."""

    def __init__(self, host: blocking.Host) -> None:
        self.host = host

    def connect(self, host: str, port: int) -> blocking.Conn:
        return self.host.connect((host, port), timeout=10)

    def listen(self, port: int) -> blocking.Listener:
        return self.host.listen(("", port), backlog=1024)

    def abort(self, conn: Stream) -> None:
        cast(blocking.Conn, conn).abort()


class Plain:
    """A drop-in listener whose ``accept`` gives the connection alone."""

    def __init__(self, listener: Any) -> None:
        self.listener = listener

    def accept(self) -> Any:
        return self.listener.accept()[0]

    def __enter__(self) -> "Plain":
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()


class SocketRoad:
    """``usertcp.socket``."""

    def __init__(self, engine: dropin.Engine) -> None:
        self.engine = engine

    def connect(self, host: str, port: int) -> Any:
        conn = self.engine.create_connection((host, port))
        conn.setsockopt(dropin.IPPROTO_TCP, dropin.TCP_NODELAY, 1)
        return conn

    def listen(self, port: int) -> Plain:
        listener = self.engine.make_socket()
        listener.bind(("", port))
        listener.listen(128)
        return Plain(listener)

    def abort(self, conn: Any) -> None:
        conn.close()


@contextmanager
def opened(road: str, space: str, job: Job) -> Iterator[Road]:
    """The road's stack, running."""
    words: dict[str, Any] = {"tap": TAP, "netns": space, "address": ADDRESS, "control": False}
    words |= {"offload": job.offload != PLAIN, "gso": job.offload == GSO}
    if road == "socket":
        with dropin.engine(tcp=SETTINGS, **words) as engine:
            yield SocketRoad(engine)
            engine.close(linger=0)
        return
    with blocking.open(tcp=SETTINGS, linger=0, busy_poll=job.spin, **words) as host:
        yield BlockingRoad(host)


def start(space: str, job: Job) -> dict[str, Any]:
    """Milliseconds from ``open`` on a TAP that is ready to an established connection."""
    before = time.perf_counter()
    with blocking.open(tap=TAP, netns=space, address=ADDRESS, linger=0) as host:
        conn = host.connect((job.host, job.port), timeout=10)
        took = time.perf_counter() - before
        conn.abort()
    return {"amount": 1000 * took, "seconds": 1.0, "cpu": 0.0}


def main() -> None:
    road, space, text = sys.argv[1:]
    job = job_from(text)
    gc.freeze()
    if job.kind == START:
        say(**start(space, job))
    elif road == "aio":
        from benchmarks.speed_aio import run  # the others do not need it

        say(**asyncio.run(run(space, job)))
    else:
        with opened(road, space, job) as ours:
            say(**RUNS[job.kind](ours, job))


if __name__ == "__main__":
    main()
