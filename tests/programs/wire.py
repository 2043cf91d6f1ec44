"""How a test here runs an unmodified program on the stack, and what the kernel's side of the wire is asked to do."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.netns.plugged import STACK, until
from tests.netns.programs import PATIENCE, Peer, Program, usertcp, which
from usertcp.link import netns

SIZE: Final = 5_000_000  # bytes of a file that is fetched
HTTP: Final = 8080  # port of the kernel's web server
READY: Final = b"ready\n"  # what a program here says when it serves


@dataclass(frozen=True)
class Web:
    """A file on an nginx of the kernel's side."""

    url: str
    sha256: str


@dataclass(frozen=True)
class Wire:
    """``space``: the namespace with the kernel's side of the TAP; ``door``: where the engine is found."""

    space: str
    door: Path

    def program(self, folder: Path, text: str, *arguments: str | int | Path) -> Program:
        """The program ``text``, a file in ``folder``, under ``usertcp run``."""
        script = folder / "program.py"
        script.write_text(text)
        return self.command(script, *arguments)

    def command(self, *words: str | int | Path) -> Program:
        """``usertcp run`` with these words."""
        return Program(None, usertcp("run", "--engine", self.door, *words))

    def output(self, folder: Path, text: str, *arguments: str | int | Path) -> str:
        """What a program that ends by itself says, and nothing on stderr."""
        with self.program(folder, text, *arguments) as program:
            said = program.finish().decode()
            assert program.errors == ""
        return said

    @contextmanager
    def serving(self, folder: Path, text: str, *arguments: str | int | Path) -> Iterator[Program]:
        """A program that says "ready" when it serves, and is interrupted at the end of the block."""
        with self.program(folder, text, *arguments) as program:
            line = program.line()
            assert line == READY, program.finish(code=None) + program.errors.encode()
            yield program
            program.interrupt()
            program.finish(code=None)

    def kernel(self, *command: str | int | Path) -> bytes:
        """What a program of the kernel's side says."""
        words = [str(word) for word in command]
        with netns.inside(self.space):
            done = subprocess.run(words, capture_output=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout[-2000:]!r} {done.stderr[-2000:]!r}"
        return done.stdout

    def kernel_python(self, text: str, *arguments: str | int | Path) -> str:
        """What ``text`` says, run by Python on the kernel's side."""
        return self.kernel(sys.executable, "-c", text, *arguments).decode()

    def curl(self, *arguments: str | int | Path) -> bytes:
        return self.kernel(which("curl"), "-sS", "--fail", "--max-time", 60, *arguments)

    def answers(self, port: int) -> bool:
        """Whether something listens on the stack's ``port``, within PATIENCE: for servers that do not say so."""

        def connects() -> bool:
            with netns.inside(self.space):
                command = [which("nc.openbsd", "nc"), "-z", "-w", "2", STACK, str(port)]
                return subprocess.run(command, timeout=PATIENCE, check=False).returncode == 0

        return until(connects, PATIENCE)

    def echoes(self, port: int, *, count: int = 40, together: int = 10, size: int = 20_000) -> bool:
        """Whether that many clients of the kernel's get back from the stack's ``port`` what they send."""
        options = ("--count", count, "--together", together, "--size", size)
        with Peer(self.space, "clients", STACK, port, *options) as clients:
            return bool(clients.report()["intact"] == count)
