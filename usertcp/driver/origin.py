"""Where in a program a socket was opened, so that one that was forgotten can be found.

That is the innermost frame of the program's own: not of the roads to a connection, which are this package's, nor of
what the standard library puts around them (``socket.create_connection``, ``http.client``, ``asyncio``). It is looked up
whenever a connection is opened, so it must cost next to nothing: a few frames are walked, the code and the line are
kept, and the words are made when somebody asks (``usertcp ss``, a ResourceWarning).

A task or a callback of asyncio's has no caller but the loop: what opens a connection there without a frame of the
program's own in between is said to come from where the loop was started.
"""

import os
import sys
import warnings
import weakref
from types import CodeType, FrameType
from typing import Any, Final

from usertcp.tcp.connection import Connection

_STANDARD: Final = os.path.dirname(os.__file__) + os.sep
_PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_ADDED: Final = ("site-packages", "dist-packages")  # what is not of the standard library, though within its folder
_ROADS: Final = ("blocking.py", "aio.py", "socket.py", "sim.py", "driver", "patching")

BRIEF: Final = 200  # characters of a place in a message

_wraps: Final[dict[str, bool]] = {}  # by file: whether it only stands between the program and the connection


class Place:
    """A place in a program; ``str`` of it is "file:line function"."""

    __slots__ = ("code", "line")

    def __init__(self, code: CodeType, line: int) -> None:
        self.code = code
        self.line = line

    def __str__(self) -> str:
        return f"{self.code.co_filename}:{self.line} {self.code.co_qualname}"


def brief(place: object) -> str:
    """A place for a message, and from one, which may be anybody's: what a terminal shows as it is, and not too long."""
    return ascii(str(place))[1:-1][-BRIEF:]


def here() -> Place:
    """The place in the program that led to this call."""
    first: FrameType = sys._getframe(1)
    frame: FrameType | None = first
    while frame is not None:
        code = frame.f_code
        wraps = _wraps.get(code.co_filename)
        if wraps is None:
            wraps = _wraps[code.co_filename] = _is_wrapper(code.co_filename)
        if not wraps:
            return Place(code, frame.f_lineno)
        frame = frame.f_back
    return Place(first.f_code, first.f_lineno)  # of a module that is run by itself, as with python -m


def _is_wrapper(file: str) -> bool:
    if file.startswith(_PACKAGE):
        return file.removeprefix(_PACKAGE).split(os.sep, 1)[0] in _ROADS
    if file.startswith(_STANDARD):
        return file.removeprefix(_STANDARD).split(os.sep, 1)[0] not in _ADDED
    return file.startswith("<frozen ")


class Loose(weakref.ref[Any]):
    """What stands in the ``user`` slot of a core object for a user who is not to be kept alive by it."""

    __slots__ = ()

    def on_ready(self) -> None:
        user = self()
        if user is not None:
            user.on_ready()


def warn_unclosed(item: object) -> None:
    """``item`` is garbage, and its user has not closed it."""
    warnings.warn(f"unclosed {item!r}", ResourceWarning, stacklevel=2, source=item)


def described(core: Connection) -> str:
    """A connection in a few words, for the ``repr`` of who has it."""
    here, there = core.flow.local, core.flow.remote
    return f"{here[0]}:{here[1]} {there[0]}:{there[1]} {core.state}, opened at {core.flow.opened_by}"
