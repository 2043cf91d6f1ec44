"""A stack on a TAP in a namespace of its own, the kernel's TCP on the other side, and what the tests do with them."""

import gc
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tests.netns.peer import BLOCK, blocks, digest
from tests.netns.programs import PATIENCE, Peer
from usertcp import blocking
from usertcp.blocking import Conn, Host
from usertcp.link.base import Link
from usertcp.link.faults import Rule
from usertcp.net.stack import Stack
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection

KERNEL: Final = "10.9.0.1"
STACK: Final = "10.9.0.2"
OURS: Final = 1  # seed of what the stack sends in ``exchange_as``
THEIRS: Final = 2  # of what its peer does


@dataclass
class Plugged:
    """``space``: the namespace's name; ``link``: the outermost; ``host``: the blocking road onto ``stack``."""

    space: str
    link: Link
    stack: Stack
    host: Host


@contextmanager
def plugged(
    *, tcp: TcpConfig | None = None, rules: Sequence[Rule] = (), seed: int = 0, mtu: int = 1500
) -> Iterator[Plugged]:
    """Namespace, TAP, stack and host; all gone afterwards. ``rules`` put a faulty link in between."""
    with blocking.open(tcp=tcp, rules=rules, seed=seed, mtu=mtu) as host:
        assert host.opened is not None
        assert host.opened.netns is not None
        assert (host.opened.address, host.opened.kernel_address) == (STACK, KERNEL)
        yield Plugged(host.opened.netns, host.opened.link, host.stack, host)


@dataclass(frozen=True)
class Received:
    """What came of a stream."""

    count: int
    sha256: str


def exchange(
    conn: Conn,
    size: int,
    seed: int,
    *,
    first: Callable[[], None] = lambda: None,
    came: Callable[[int], object] = lambda count: None,
) -> Received:
    """Send ``size`` bytes of ``seed`` and a FIN, and receive until the end, at once; ``first()`` before the reading,
    ``came(count)`` whenever there is more, with how much there was so far."""
    failure: list[BaseException] = []

    def send() -> None:
        try:
            for block in blocks(size, seed):
                conn.sendall(block)
            conn.shutdown()
        except BaseException as error:
            failure.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    first()
    count, total, buffer = 0, hashlib.sha256(), bytearray(BLOCK)
    view = memoryview(buffer)
    try:
        while taken := conn.recv_into(view):
            count += taken
            total.update(view[:taken])
            came(count)
    finally:
        sender.join()
    if failure:
        raise failure[0]
    return Received(count, total.hexdigest())


def exchange_as(role: str, here: Plugged, size: int, *options: str | int) -> Conn:
    """``size`` bytes both ways at once, the stack being client or server; checks both digests."""
    options = ("--send", size, "--seed", THEIRS, *options)
    if role == "client":
        with Peer(here.space, "exchange", KERNEL, 5001, "--listen", *options).ready() as peer:
            conn = here.host.connect((KERNEL, 5001), timeout=PATIENCE)
            received = exchange(conn, size, OURS)
            report = peer.report()
    else:
        with (
            here.host.listen((STACK, 5001)) as listener,
            Peer(here.space, "exchange", STACK, 5001, "--connect", *options) as peer,
        ):
            listener.settimeout(PATIENCE)
            conn = listener.accept()
            received = exchange(conn, size, OURS)
            report = peer.report()
    assert received == Received(size, digest(size, THEIRS))
    assert (report["received"], report["sha256"]) == (size, digest(size, OURS))
    return conn


def until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Wait until ``condition()``; whether it came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def descriptors() -> int:
    """File descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def living_connections() -> list[Connection]:
    """Connection objects in this process that nothing has let go of."""
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing) is Connection]


def newly_living(before: list[Connection]) -> list[Connection]:
    """Those that were not among ``before``, which an earlier test may have left."""
    known = {id(conn) for conn in before}
    return [conn for conn in living_connections() if id(conn) not in known]
