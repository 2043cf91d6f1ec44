"""``usertcp engine`` as a process of its own, and the unprivileged programs that use it: children of other users.

A child is told what to do by a function and speaks with the test over a pipe. It changes its user once everything is
imported, because the interpreter may lie where that user cannot read.
"""

import ctypes
import encodings.idna  # noqa: F401
import multiprocessing
import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Self

import usertcp.socket as us
from tests.netns.programs import PATIENCE, Program, usertcp
from usertcp.driver import control
from usertcp.link import netns, provision

ONE: Final = 65533  # users without rights
OTHER: Final = 65532
GROUP: Final = 65531

CLONE_NEWNS: Final = 0x20000  # linux/sched.h
MS_REC: Final = 0x4000  # linux/mount.h
MS_PRIVATE: Final = 0x40000

Work = Callable[..., None]


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that every user may enter, for an engine's file."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        os.chmod(made, 0o755)
        yield Path(made)


class Served(Program):
    """An engine at ``door``, its device in the namespace ``space``, which goes with it however it ends."""

    def __init__(self, door: Path, *options: str | int) -> None:
        self._namespace = provision.Namespace.create()
        self.space = self._namespace.name
        super().__init__(None, usertcp("engine", "--socket", door, "--netns", self.space, *options))
        self.door = door
        if b"is there for programs" not in self.remark():
            self.__exit__()
            raise AssertionError(f"{self.command} does not serve: {self.errors}")

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._namespace.remove()

    @property
    def name(self) -> str:
        """What ``usertcp ss`` calls it."""
        return f"usertcp-{self.process.pid}"

    def rows(self) -> list[dict[str, Any]]:
        """Its connections and listeners, but for what only waits for time to pass."""
        return [row for row in control.query(self.name, timeout=PATIENCE) if row["state"] != "TIME-WAIT"]

    def ports(self) -> list[int]:
        """The local ports of its listeners."""
        return [row["local"][1] for row in self.rows() if row["state"] == "LISTEN"]

    def children(self) -> list[int]:
        """The processes that it has started: its janitor, and then its guard."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    @property
    def janitor(self) -> int:
        return self.children()[0]

    def guards(self) -> list[int]:
        return self.children()[1:]


@contextmanager
def served(*options: str | int, mode: str = "666") -> Iterator[Served]:
    """An engine that lets everybody in, unless ``mode`` says otherwise."""
    with folder() as made, Served(made / "engine", "--mode", mode, *options) as engine:
        yield engine


class Child:
    """A process of the user ``user`` and the ``groups``, in the network namespace ``space``, that does
    ``work(pipe, *arguments)``."""

    def __init__(
        self, user: int, work: Work, *arguments: object, groups: tuple[int, ...] = (), space: str | None = None
    ) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._waited = False
        self.pid = os.fork()
        if self.pid:
            theirs.close()
            return
        try:
            self._pipe.close()
            signal.alarm(round(PATIENCE))
            with netns.inside(space):
                os.setgroups(groups)
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
                work(theirs, *arguments)
                os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def hear(self) -> Any:
        """What it says next; AssertionError if it has nothing more to say."""
        assert self._pipe.poll(PATIENCE), "it does not say a word"
        try:
            return self._pipe.recv()
        except EOFError:
            raise AssertionError("it ended without a word") from None

    def tell(self, what: object = None) -> None:
        self._pipe.send(what)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if not self._waited:
            os.kill(self.pid, signal.SIGKILL)
            self._wait()

    def finish(self) -> None:
        """Wait for it; it has done its work."""
        assert self._wait() == 0

    def _wait(self) -> int:
        self._waited = True
        return os.waitpid(self.pid, 0)[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._pipe.close()


def among_no_other_names(work: Callable[[], None]) -> None:
    """``work()`` in a process that has all names of namespaces to itself: it finds no orphans but its own, and nobody
    else (``usertcp down``) removes those."""
    with Child(0, _named_apart, work) as child:
        child.finish()


def _named_apart(_: Connection, work: Callable[[], None]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    os.makedirs(netns.RUN_DIR, exist_ok=True)
    folder = os.path.realpath(netns.RUN_DIR).encode()
    assert libc.unshare(CLONE_NEWNS) == 0
    assert libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0
    assert libc.mount(b"none", folder, b"tmpfs", 0, None) == 0
    work()


class Tenant(Child):
    """One that is attached to the engine at ``door``: ``work(pipe, engine, *arguments)``."""

    def __init__(self, user: int, door: Path, work: Work, *arguments: object, space: str | None = None) -> None:
        super().__init__(user, _attached, door, work, *arguments, space=space)


def _attached(pipe: Connection, door: Path, work: Work, *arguments: object) -> None:
    with us.attach(door) as engine:
        work(pipe, engine, *arguments)


__all__ = [
    "GROUP",
    "ONE",
    "OTHER",
    "Child",
    "Connection",
    "Served",
    "Tenant",
    "among_no_other_names",
    "folder",
    "served",
]
