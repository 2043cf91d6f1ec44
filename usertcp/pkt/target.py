"""What a script runs against: a stack, the wire in front of it, its system calls and its clock.

There are two: usertcp in virtual time (:mod:`usertcp.pkt.virtual`) and the kernel behind a TUN, in real time
(:mod:`usertcp.pkt.kernel`). Times are ns from the script's beginning.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol


class Pending:
    """A call that was made. ``done``: it has returned, at ``ended_at``, with ``value`` or with ``error``."""

    __slots__ = ("done", "ended_at", "error", "value")

    def __init__(self) -> None:
        self.done = False
        self.ended_at = 0
        self.value: Any = None
        self.error: OSError | None = None

    def finish(self, at: int, value: Any = None, error: OSError | None = None) -> None:
        """It returned."""
        self.value, self.error, self.ended_at = value, error, at
        self.done = True


class Target(Protocol):
    """See the module.

    ``name``      "usertcp" or "kernel"
    ``sent``      packets that came out and nobody has looked at, with their times
    ``slack``     by how many ns more than a script's tolerance something may be early or late: what a real clock costs
    ``patience``  ns that a call may take that does not block
    ``horizon``   ns that a packet is waited for which may come at any time
    """

    name: str
    sent: deque[tuple[int, bytes]]
    slack: int
    patience: int
    horizon: int

    def now(self) -> int:
        """The time."""
        ...

    def wait(self, until: int, done: Callable[[], bool]) -> None:
        """Let time pass until ``done()`` holds, but no longer than ``until``."""
        ...

    def inject(self, packet: bytes) -> None:
        """An IP packet arrives."""
        ...

    def call(self, method: str, *arguments: Any) -> Pending:
        """Begin a system call, by the names of :class:`usertcp.pkt.calls.Sockets`."""
        ...

    def shell(self, command: str) -> str:
        """Run a command. What went wrong, or ""."""
        ...

    def state(self, handle: Any) -> str:
        """A line about a socket's connection, for reports; "": it has none."""
        ...

    def close(self) -> None:
        """Let everything go."""
        ...
