"""The methods of :class:`usertcp.socket.socket`, put in place on the standard class.

The class stays the same object, so it does not matter who has imported it, or derived from it, and when:
``ssl.SSLSocket``, what asyncio, trio or requests hold, and the type of a new socket are what they were. What an object
is to TCP is kept beside it, for the standard class has no room for that. A socket that was there before stays the
kernel's.

Taken back, the class is exactly as before. A TCP socket that is still open then is the AF_UNIX stream that lies below
it: it can be read, written and closed.
"""

import socket as stdlib
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import usertcp.socket as us
from usertcp.driver.endpoint import Endpoint
from usertcp.driver.forking import ForkLock
from usertcp.driver.open import LinkSpec
from usertcp.patching import bypass

_OWN: Final = {"__module__", "__doc__", "__slots__", "_tcp"}  # of the subclass alone

_ABSENT: Final = object()  # what a name was that was not there

_lock: Final = ForkLock()
_depth = 0  # of patch() and install()
_undo: list[tuple[Any, str, Any]] = []  # (where, name, what it was)


class Beside:
    """An attribute of objects that have no room for it: an :class:`Endpoint`, None unless it was set."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[weakref.ref[Any], Endpoint]] = {}

    def __get__(self, instance: Any, owner: object = None) -> Any:
        if instance is None:
            return self
        kept = self._kept.get(id(instance))
        return None if kept is None else kept[1]

    def __set__(self, instance: Any, value: Endpoint | None) -> None:
        key = id(instance)
        if value is None:
            self._kept.pop(key, None)
        else:
            self._kept[key] = weakref.ref(instance, lambda _: self._kept.pop(key, None)), value


_beside: Final = Beside()


def _put(where: Any, name: str, value: Any) -> None:
    _undo.append((where, name, vars(where).get(name, _ABSENT)))
    setattr(where, name, value)


def _begin() -> None:
    global _depth  # noqa: PLW0603
    with _lock:
        _depth += 1
        if _depth > 1:
            return
        for name, value in vars(us.socket).items():
            if name not in _OWN:
                _put(stdlib.socket, name, value)
        _put(stdlib.socket, "_tcp", _beside)
        bypass.watch()


def _end() -> None:
    global _depth  # noqa: PLW0603
    with _lock:
        _depth -= 1
        if _depth:
            return
        bypass.unwatch()
        while _undo:
            where, name, former = _undo.pop()
            if former is _ABSENT:
                delattr(where, name)
            else:
                setattr(where, name, former)


@contextmanager
def patch(spec: LinkSpec | None = None, **words: Any) -> Iterator[None]:
    """Within the block TCP sockets of the standard module, in every thread, are usertcp's.

    ``spec`` or ``words`` (``tap=``, ``address=`` ...; see :func:`usertcp.socket.engine`) open an engine for the block.
    Without any the current one is used: that of a surrounding ``with usertcp.socket.engine(...)``, or one that starts
    when a socket first needs it. Blocks may be nested. SetupError when the device cannot be had.
    """
    if spec is not None or words:
        with us.engine(spec, **words), patch():
            yield
        return
    _begin()
    try:
        yield
    finally:
        _end()


def install(spec: LinkSpec | None = None, **words: Any) -> None:
    """From now on TCP sockets of the standard module are usertcp's, for the rest of the program.

    ``spec`` or ``words`` are as for :func:`patch`; that engine is started when a socket first needs it.
    """
    if spec is not None or words:
        us.configure(spec, **words)
    _begin()
