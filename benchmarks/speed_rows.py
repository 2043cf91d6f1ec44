"""What is measured: runs, the rows of the table that are read from them, and the columns, one for each contestant.

A run is made once in a round for each column that can make it; several rows may be read from one run.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from benchmarks.speed_job import (
    ACCEPT,
    ACCEPT_MANY,
    CONNECT,
    CONNECT_MANY,
    GSO,
    IDLE_IN,
    IDLE_PING,
    IN,
    OUT,
    PING,
    PING_MANY,
    PLAIN,
    START,
    SUM,
)

MANY: Final = 64  # connections of ping-many
AT_ONCE: Final = 16  # of connect-many and accept-many
IDLE: Final = 10_000
SPIN: Final = 50  # µs of busy polling
GIGA: Final = 1e9

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """``bbr``: the kernel's sender uses it instead of cubic; ``alone``: both ends share one processor."""

    kind: str
    count: int = 1
    offload: str = GSO
    bbr: bool = False
    alone: bool = False
    reference: bool = False
    spin: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. ``value`` reads a run's result; ``base``: the column that is the measure of the others."""

    key: str
    title: str
    unit: str
    run: Run
    value: Callable[[Result], float]
    base: str = "veth"
    digits: int = 1
    less: bool = False  # is better


@dataclass(frozen=True, slots=True)
class Column:
    """A contestant.

    ``kinds``      the runs it can make
    ``offloads``   those it can choose from
    ``reference``  whether it can take bytes without copying them
    ``spins``      whether it can ask again and again instead of sleeping
    ``once``       it is so slow to start that it runs in the first round only
    """

    key: str
    title: str
    kinds: frozenset[str]
    offloads: tuple[str, ...]
    reference: bool = False
    spins: bool = False
    once: bool = False

    def run(self, run: Run) -> Run | None:
        """``run`` as this column makes it; None: it cannot.

        Who cannot offload has but one way, and that stands in all rows.
        """
        if run.kind not in self.kinds or (run.reference and not self.reference) or (run.spin and not self.spins):
            return None
        if self.offloads == (PLAIN,):
            return replace(run, offload=PLAIN)
        return run if run.offload in self.offloads else None


def _rate(result: Result) -> float:
    return float(result["amount"]) / float(result["seconds"])


def _gigabits(result: Result) -> float:
    return 8 * _rate(result) / GIGA


def _thousands(result: Result) -> float:
    return _rate(result) / 1000


def _cpu(result: Result) -> float:
    return float(result["cpu"]) / (float(result["amount"]) / GIGA)


def _among(result: Result) -> float:
    return _rate(result) / float(result["alone"])


def _each(result: Result) -> float:
    return float(result["bytes_each"]) / 1024


def _amount(result: Result) -> float:
    return float(result["amount"])


BULK_IN: Final = Run(IN)
BULK_OUT: Final = Run(OUT)
IDLE_BULK: Final = Run(IDLE_IN, count=IDLE)
IDLE_PONG: Final = Run(IDLE_PING, count=IDLE)
GBIT: Final = "Gbit/s"
PER_SECOND: Final = "k/s"

ROWS: Final = (
    Row("in", "bulk, kernel → stack", GBIT, BULK_IN, _gigabits),
    Row("out", "bulk, stack → kernel, copied", GBIT, BULK_OUT, _gigabits),
    Row("out-reference", "bulk, stack → kernel, bytes by reference", GBIT, Run(OUT, reference=True), _gigabits),
    Row("in-bbr", "bulk, kernel → stack, the kernel sends with bbr", GBIT, Run(IN, bbr=True), _gigabits),
    Row("in-sum", "no GSO, MTU 1500, checksum offload, in", GBIT, Run(IN, offload=SUM), _gigabits, "veth-off", 2),
    Row("out-sum", "no GSO, MTU 1500, checksum offload, out", GBIT, Run(OUT, offload=SUM), _gigabits, "veth-off", 2),
    Row(
        "in-plain",
        "no GSO, MTU 1500, checksums in software, in",
        GBIT,
        Run(IN, offload=PLAIN),
        _gigabits,
        "veth-off",
        2,
    ),
    Row(
        "out-plain",
        "no GSO, MTU 1500, checksums in software, out",
        GBIT,
        Run(OUT, offload=PLAIN),
        _gigabits,
        "veth-off",
        2,
    ),
    Row("ping", "1-byte ping-pong, two processors", PER_SECOND, Run(PING), _thousands),
    Row("ping-alone", "1-byte ping-pong, one processor", PER_SECOND, Run(PING, alone=True), _thousands),
    Row("ping-spin", "1-byte ping-pong, two processors, busy poll", PER_SECOND, Run(PING, spin=SPIN), _thousands),
    Row("ping-64", "64 connections ping-pong", PER_SECOND, Run(PING_MANY, count=MANY), _thousands),
    Row("connect", "connect, 1 byte, close; one at a time", PER_SECOND, Run(CONNECT), _thousands),
    Row("connect-16", "connect, 1 byte, close; 16 at once", PER_SECOND, Run(CONNECT_MANY, count=AT_ONCE), _thousands),
    Row("accept", "accept, 1 byte, close; one at a time", PER_SECOND, Run(ACCEPT), _thousands),
    Row("accept-16", "accept, 1 byte, close; 16 at once", PER_SECOND, Run(ACCEPT_MANY, count=AT_ONCE), _thousands),
    Row("idle-in", "bulk in among 10,000 idle / alone", "ratio", IDLE_BULK, _among, digits=2),
    Row("idle-ping", "ping-pong among 10,000 idle / alone", "ratio", IDLE_PONG, _among, digits=2),
    Row("idle-memory", "memory of an idle connection", "KB", IDLE_PONG, _each, less=True),
    Row("cpu-in", "processor time, bulk in, both ends", "s/GB", BULK_IN, _cpu, digits=2, less=True),
    Row("cpu-out", "processor time, bulk out, both ends", "s/GB", BULK_OUT, _cpu, digits=2, less=True),
    Row("import", "import usertcp.blocking", "ms", Run("import"), _amount, digits=0, less=True),
    Row("start", "open() on a ready TAP → a connection", "ms", Run(START), _amount, digits=0, less=True),
)

BULK: Final = frozenset({IN, OUT})
SMALL: Final = frozenset({PING, PING_MANY, CONNECT, CONNECT_MANY})
SERVED: Final = frozenset({ACCEPT, ACCEPT_MANY})
IDLES: Final = frozenset({IDLE_IN, IDLE_PING})

COLUMNS: Final = (
    Column("veth", "kernel\nveth", BULK | SMALL | SERVED | IDLES, (GSO,)),
    Column("veth-off", "kernel\nveth, no offloads", BULK, (PLAIN,)),
    Column(
        "blocking",
        "usertcp\nblocking",
        BULK | SMALL | SERVED | IDLES | {"import", START},
        (GSO, SUM, PLAIN),
        reference=True,
        spins=True,
    ),
    Column("aio", "usertcp\naio", BULK | SMALL | SERVED, (GSO, SUM, PLAIN), reference=True),
    Column("socket", "usertcp\nsocket", BULK | SMALL | SERVED, (GSO, SUM, PLAIN)),
    Column("blocking-hot", "usertcp, compiled\nblocking", BULK | SMALL | SERVED, (GSO, SUM, PLAIN), True, True),
    Column("aio-hot", "usertcp, compiled\naio", BULK | SMALL | SERVED, (GSO, PLAIN), True),
    Column("socket-hot", "usertcp, compiled\nsocket", BULK | SMALL | SERVED, (GSO, PLAIN)),
    Column("lwip", "lwIP\nC", BULK | SMALL | SERVED, (PLAIN,)),
    Column("gvisor", "gVisor\nGo", BULK | SMALL | SERVED, (PLAIN,)),
    Column("pytcp", "PyTCP\nPython", BULK | SMALL, (PLAIN,), once=True),
)
