"""A socket engine under virtual time, turned by whoever waits for it: no thread, no clock, the same run every time.

The sockets are the real ones (``usertcp.socket``), their descriptors and the broker's are the kernel's; what is not
real is time. A call that waits turns the engine (``messages.turn_here``), and when there is nothing to do the clock
leaps to what comes next. When nothing ever will, that is a finding: somebody would wait for ever.
"""

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import usertcp.socket as us
from usertcp.driver import endpoint, messages
from usertcp.driver.base import Pump
from usertcp.driver.broker import SocketEngine
from usertcp.driver.messages import Peer
from usertcp.frame import FrameMeta, LinkCaps
from usertcp.link.callback import CallbackLink
from usertcp.net.stack import Stack, StackConfig
from usertcp.tcp.config import TcpConfig
from usertcp.units import MIB, MS, NEVER, SEC, from_seconds

START: Final = 1000 * SEC
IDLE: Final = 400  # turns in a row in which nothing happens, and nothing is scheduled
ROUNDS: Final = 5000  # turns at one instant
TURNS: Final = 200_000  # of one story
ANOTHER: Final = 1  # a process that is not this one


class Turned(SocketEngine):
    """See the module. ``now``: virtual time, ns."""

    def __init__(self, address: str, tcp: TcpConfig, memory: int = 16 * MIB) -> None:
        self.now = START
        self.idle = 0
        self.turns = 0
        self.frames = 0
        link = CallbackLink(self._lose, LinkCaps(mac=b"\2\0\0\0\0\2", tx_checksum=True, tx_gso=True))
        stack = Stack(
            StackConfig((f"{address}/24",), tcp=tcp, memory=memory), link.caps, random.Random(address).randbytes
        )
        super().__init__(Pump(stack, link, lambda: self.now))
        self.stack = stack
        self.token = self.broker.token
        self.address = address
        self.kernel_address: str | None = None
        self.netns: str | None = None
        self.alive = True

    def _lose(self, frame: bytes, meta: FrameMeta) -> bool:
        """Nobody else is on the wire."""
        self.frames += 1
        return True

    def begin(self) -> None:
        """Whoever waits turns it."""

    def timeout_ns(self) -> int:
        """Who waits does so by turning."""
        return 0

    def due(self) -> int:
        """Nanoseconds until something happens by itself; NEVER."""
        wait = super().timeout_ns()
        return wait if wait < NEVER - self.now else NEVER

    def settle(self) -> bool:
        """Everything that can be done at this instant. Whether anything was."""
        done = False
        for _ in range(ROUNDS):
            self.turns += 1
            assert self.turns < TURNS, "the engine never comes to rest"
            events = self._epoll.poll(0)
            if not events and self.due() > 0:
                return done
            with messages.turning():
                self.handle(events)
            done = True
        raise AssertionError("the engine is spinning")

    def turn(self) -> None:
        """All that can be done, or else a leap to what is next."""
        if self.settle():
            self.idle = 0
            return
        wait = self.due()
        if wait < NEVER:
            self.now += wait
            self.idle = 0
            return
        self.idle += 1
        self.now += 10 * MS
        assert self.idle < IDLE, "somebody waits for what never comes"

    def run(self, duration: int) -> None:
        """Time passes."""
        end = self.now + duration
        self.settle()
        while self.now < end:
            self.now = min(self.now + max(self.due(), 1), end)
            self.settle()


class _Time:
    """``time``, where it is the engine's."""

    def __init__(self, engine: Turned) -> None:
        self._engine = engine

    def monotonic_ns(self) -> int:
        return self._engine.now

    def monotonic(self) -> float:
        return self._engine.now / SEC

    def sleep(self, seconds: float) -> None:
        self._engine.run(from_seconds(seconds))

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class Users:
    """Who is at the other end, as the broker is told: the kernel knows this process alone.

    ``user``   who speaks now; ``named``: whose the sockets with these names are, whoever speaks
    """

    def __init__(self) -> None:
        self.user = os.geteuid()
        self.named: dict[bytes, int] = {}

    def peer(self, sock: Any) -> Peer:
        try:
            user = self.named.get(sock.getpeername(), self.user)
        except OSError:
            user = self.user
        return Peer(os.getpid() if user == os.geteuid() else ANOTHER, user)


@contextmanager
def turned(tcp: TcpConfig, *, low_ports: bool = True) -> Iterator[tuple[Turned, us.Handle]]:
    """Within the block sockets are of an engine under virtual time. Afterwards no descriptor of its is left."""
    before = set(os.listdir("/proc/self/fd"))
    engine = Turned("10.9.0.2", tcp)
    engine.broker.low_ports = low_ports
    clock: Any = _Time(engine)
    places: list[Any] = [messages, endpoint]
    kept = [place.time for place in places]
    for place in places:
        place.time = clock
    messages.turn_here(engine)
    handle = us.Handle(engine)  # type: ignore[arg-type]
    try:
        with handle:
            yield engine, handle
    finally:
        messages.turn_no_more(engine)
        engine.close()
        engine.pump.link.close()
        for place, value in zip(places, kept, strict=True):
            place.time = value
    left = set(os.listdir("/proc/self/fd")) - before
    assert not left, f"descriptors are left: {left}"


@contextmanager
def users() -> Iterator[Users]:
    """Within the block it is said who asks."""
    told = Users()
    module: Any = messages
    kept = module.peer
    module.peer = told.peer
    try:
        yield told
    finally:
        module.peer = kept
