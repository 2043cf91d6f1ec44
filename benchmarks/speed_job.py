"""What one run of the benchmark of speed does, and how its result is counted; the programs in Python share it.

The counterpart in C is ``peers/figures.h``. A run is of a kind, with a peer, for some seconds after a time that does
not count; its result is a line of JSON on stdout.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Final

CHUNK: Final = 256 << 10  # bytes handed in or taken out at a time
PERIOD: Final = 1_048_583  # bytes after which the stream of a run that is checked repeats; a prime

# Kinds. Those with PLACE in their name need a server here, and a load from the kernel's side.
IN, OUT, PING, PING_MANY = "in", "out", "ping", "ping-many"
CONNECT, CONNECT_MANY = "connect", "connect-many"
ACCEPT, ACCEPT_MANY = "accept", "accept-many"
IDLE_IN, IDLE_PING, START = "idle-in", "idle-ping", "start"

GSO, SUM, PLAIN = "gso", "sum", "plain"  # offloads of the link: all, the checksum alone, none


@dataclass(frozen=True, slots=True)
class Job:
    """One run, as a program of ours is told of it.

    ``kind``      what is done
    ``host``, ``port``  the peer's server, or with ``accept`` the port to listen on
    ``seconds``, ``warm``  how long, after how long that does not count
    ``count``     connections at once
    ``offload``   of the link
    ``reference`` hand in ``bytes``, which the stack may keep without a copy; otherwise a ``bytearray``
    ``spin``      microseconds for which a wait may ask the device again and again before it sleeps; 0: none
    ``check``     bytes to move and hash instead of ``seconds``; 0: measure
    """

    kind: str
    host: str
    port: int
    seconds: float
    warm: float
    count: int = 1
    offload: str = GSO
    reference: bool = False
    spin: int = 0
    check: int = 0

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def job_from(text: str) -> Job:
    """The reverse of ``Job.as_json``."""
    return Job(**json.loads(text))


def busy() -> float:
    """Seconds that all processors together were busy since boot: user, nice, system, irq, softirq."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(word) for word in file.readline().split()[1:8]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


class Count:
    """What was done since the warming up was over. ``until``: when to stop, of the monotonic clock."""

    __slots__ = ("amount", "began", "busy", "until", "warm_until")

    def __init__(self, job: Job) -> None:
        self.warm_until = time.monotonic() + job.warm
        self.until = self.warm_until + job.seconds
        self.began = 0.0
        self.busy = 0.0
        self.amount = 0

    def add(self, amount: int, at: float) -> None:
        """``amount`` more at the time ``at``."""
        if self.began:
            self.amount += amount
        elif at >= self.warm_until:
            self.began = at
            self.busy = busy()

    def result(self, **more: Any) -> dict[str, Any]:
        """What the run came to, by now."""
        seconds = time.monotonic() - self.began
        return {"amount": self.amount, "seconds": seconds, "cpu": busy() - self.busy, **more}


def chunks(check: bool) -> Sequence[bytes]:
    """What is sent, over and over: one chunk, or a stream in which nothing misplaced fits by accident."""
    if not check:
        return [bytes(CHUNK)]
    stream = Random(PERIOD).randbytes(PERIOD)
    return [stream[at : at + CHUNK] for at in range(0, PERIOD, CHUNK)]


def resident() -> int:
    """Bytes of memory that this process has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)
