"""Where received bytes go: standard output, or a file.

A failure here is not the connection's and must not be told as one, so each has a form of its own: OutputGone when the
reader of our output has gone (``usertcp get URL | head``), a SetupError that names the file otherwise.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_IMODE, S_ISREG
from types import TracebackType
from typing import Final, Self

from usertcp.cli.causes import describe
from usertcp.errors import SetupError

STDOUT: Final = "standard output"


class OutputGone(Exception):
    """Nobody reads what we write. Nothing to complain about; the exit status tells."""


@contextmanager
def _writing(name: str) -> Iterator[None]:
    """An OSError in the block is about ``name``, by whatever other name it was reached."""
    try:
        yield
    except BrokenPipeError:
        raise OutputGone from None
    except OSError as error:
        cause, cure = describe(OSError(error.errno, error.strerror)) or ("", "")
        raise SetupError(f"writing {name}: {cause}", cure) from None


def put(data: bytes) -> None:
    """To standard output, at once."""
    with _writing(STDOUT):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def stdout_is_gone() -> bool:
    """Whether the reader of standard output has gone (``usertcp lab --list | head``); nothing more is written then."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


class Output:
    """The file ``path``; None: standard output. Opened at once, so that what cannot be written is known early.

    An ordinary file gets its name, with the mode and owner of the one it replaces, when ``complete`` is called, and
    is not there before. A symbolic link stays one; a device or a FIFO is written to as it is.
    """

    def __init__(self, path: Path | None) -> None:
        self._name = STDOUT if path is None else str(path)
        self._file: io.FileIO | None = None
        self._part: Path | None = None
        if path is not None:
            with _writing(self._name):
                self._open(path.resolve())

    def _open(self, target: Path) -> None:
        self._target = target
        there = target.stat() if target.exists() else None
        if there is not None and not S_ISREG(there.st_mode):
            self._file = io.FileIO(target, "w")
            return
        part = target.with_name(f".usertcp-{os.getpid()}.part")
        self._file = io.FileIO(part, "w")
        self._part = part
        if there is not None:
            with suppress(OSError):  # what may not be taken over is left as it is
                os.chown(part, there.st_uid, there.st_gid)
                part.chmod(S_IMODE(there.st_mode))

    def write(self, data: bytes) -> None:
        """All of ``data``."""
        if self._file is None:
            put(data)
            return
        with _writing(self._name):
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]

    def complete(self) -> None:
        """Everything is written."""
        with _writing(self._name):
            if self._file is not None:
                self._file.close()
            if self._part is not None:
                self._part.replace(self._target)
                self._part = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if self._part is not None:
            self._part.unlink(missing_ok=True)
