"""Sockets on a bench: programs written for ``socket`` run in its thread, beside the stack it turns, step by step.

Their engine is turned by the bench, and by a socket that waits for an answer of it. It has a control socket, so that
``usertcp ss`` in another terminal shows what the scenario talks of; and it can be given a limit of descriptors of its
own, which the bench's do not count against.
"""

import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import usertcp.socket as us
from usertcp.driver import control, messages
from usertcp.driver.local import LocalEngine
from usertcp.driver.looped import TurnedEngine
from usertcp.lab.bench import Bench


class Sockets(LocalEngine[TurnedEngine]):
    """A context manager: within the block ``make`` gives sockets on the bench's stack."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.stack, bench.gate, None, TurnedEngine)
        self._bench = bench
        self._engine.turn = self._turn
        self._limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.name = f"{control.default_name()}-lab"

    def make(self) -> us.socket:
        """A socket."""
        return us.Handle(self).make_socket()

    def ss(self) -> list[dict[str, Any]]:
        """What ``usertcp ss --json`` says of the connections."""
        found: list[Any] = []
        asking = threading.Thread(target=lambda: found.extend(control.query(self.name)), daemon=True)
        asking.start()
        self._bench.need("usertcp ss gets its answer", lambda: not asking.is_alive())
        return [row for row in found if row["state"] != "LISTEN"]

    def leave(self, room: int) -> None:
        """From now on there are ``room`` more descriptors than now, for who is :meth:`limited`."""
        taken, self._limit = descriptors(), 0
        while room:
            room -= self._limit not in taken
            self._limit += 1

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Within the block this process gets no more descriptors than were left."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._limit, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def __enter__(self) -> Self:
        commands = {"snapshot": lambda: self.stack.snapshot(time.monotonic_ns()), "stats": self.stack.counters}
        self._control = control.ControlServer(
            self._engine, control.Place(self.name), {**commands, "link": lambda: "the lab's TAP"}
        )
        self._bench.pump = self._engine.pump
        self._bench.engine = self._engine
        messages.turn_here(self._engine)
        return self

    def __exit__(self, *_: object) -> None:
        messages.turn_no_more(self._engine)
        self._bench.engine = None
        self._hush()
        self._let_go()

    def _turn(self) -> None:
        self._bench.turn()


def descriptors() -> set[int]:
    """Those of this process."""
    with os.scandir("/proc/self/fd") as entries:
        own = {int(entry.name) for entry in entries}
    return {fd for fd in own if _is_open(fd)}


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:  # that of the look itself
        return False
    return True
