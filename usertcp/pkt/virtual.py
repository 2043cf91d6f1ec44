"""usertcp under a script: one stack, a wire that ends in a list, and a clock that goes from one event to the next.

Time passes only in :meth:`Virtual.wait`, and only as far as the next thing that is due: nothing sleeps, an hour of
keepalive takes as long as its few packets, and the same script gives the same nanoseconds every time.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from random import Random
from types import GeneratorType
from typing import Any, Final

from usertcp.driver.options import INFO, TCP_INFO
from usertcp.frame import FrameMeta, LinkCaps
from usertcp.net.stack import Stack, StackConfig
from usertcp.pkt import sysctl
from usertcp.pkt.snippet import describe
from usertcp.pkt.sockets import CoreSockets, Socket, Waiting
from usertcp.pkt.syntax import Settings
from usertcp.pkt.target import Pending
from usertcp.tcp.config import TcpConfig
from usertcp.units import HOUR, SEC

START: Final = 1_000 * SEC  # the stack's clock at the script's beginning: 0 means "never" to a connection
TURNS: Final = 10_000  # of the stack at one instant, after which it is taken to be spinning
SEED: Final = 1


class Virtual:
    """A :class:`~usertcp.pkt.target.Target`."""

    def __init__(self, settings: Settings) -> None:
        self.name = "usertcp"
        self.slack = 0
        self.patience = 0
        self.horizon = HOUR
        self.sent: deque[tuple[int, bytes]] = deque()
        self._now = 0
        self._waiting: list[tuple[Pending, Waiting, int]] = []
        config = StackConfig((settings.local_network,), settings.gateway, TcpConfig(connect_fails_on_icmp=True))
        self._stack = Stack(config, LinkCaps(settings.mtu), Random(SEED).randbytes)
        self._sockets = CoreSockets(self._stack, lambda: self._now + START)

    def now(self) -> int:
        return self._now

    def wait(self, until: int, done: Callable[[], bool]) -> None:
        while True:
            self._turn()
            if done():
                return
            deadline = min([self._stack.next_deadline(), *[at for _, _, at in self._waiting]])
            if deadline - START > until:
                self._now = max(self._now, until)
                return
            self._now = max(self._now, deadline - START)

    def inject(self, packet: bytes) -> None:
        self._stack.receive(packet, self._now + START)
        self._turn()

    def call(self, method: str, *arguments: Any) -> Pending:
        pending = Pending()
        try:
            value = getattr(self._sockets, method)(*arguments)
        except OSError as error:
            pending.finish(self._now, error=error)
        else:
            if isinstance(value, GeneratorType):
                self._waiting.append((pending, value, 0))
            else:
                pending.finish(self._now, value)
        self._turn()
        return pending

    def shell(self, command: str) -> str:
        """Only the settings of a stack are understood, and only those that usertcp has too."""
        for name, value in sysctl.settings(command) or ():
            changes = sysctl.changes(name, value)
            if changes is not None:
                config = self._stack.config
                self._stack.config = replace(config, tcp=replace(config.tcp, **changes))
        return ""

    def state(self, handle: Socket) -> str:
        conn = handle.conn
        if conn is None:
            return "LISTEN" if handle.listener is not None else ""
        return describe(self._sockets.getsockopt(handle, *TCP_INFO, INFO.size))

    def close(self) -> None:
        self._waiting.clear()

    # -- within ------------------------------------------------------------------------------------------------------

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        """The stack's sink."""
        self.sent.append((self._now, b"".join((header, *payload))))
        return True

    def _turn(self) -> None:
        """Everything that happens at this instant."""
        for _ in range(TURNS):
            more = self._stack.poll(self._now + START, self)
            if not self._step() and not more and self._stack.next_deadline() > self._now + START:
                self._stack.take_ready()
                return
        raise AssertionError(f"the stack is spinning at {self._now} ns")

    def _step(self) -> bool:
        """Let every call that waits look again. Whether one ended."""
        still, ended = [], False
        for pending, waiting, _ in self._waiting:
            try:
                still.append((pending, waiting, next(waiting)))
            except StopIteration as stop:
                pending.finish(self._now, stop.value)
            except OSError as error:
                pending.finish(self._now, error=error)
            ended |= pending.done
        self._waiting = still
        return ended
