"""A connection as a file: what ``makefile`` of a blocking connection gives."""

import io
from typing import Any, Protocol


class Stream(Protocol):
    """What a file needs of a connection; both as of a socket."""

    def recv_into(self, buffer: Any) -> int:
        """Fill ``buffer`` with what is there, at least one byte; 0: the end."""
        ...

    def send(self, data: Any) -> int:
        """Send some of ``data``; how much."""
        ...


def buffered(stream: Stream, mode: str, buffering: int) -> Any:
    """A buffered binary file, mode "rb", "wb" or "rwb", else ValueError. Closing it leaves ``stream`` open."""
    raw = _Raw(stream)
    if mode == "rb":
        return io.BufferedReader(raw, buffering)
    if mode == "wb":
        return io.BufferedWriter(raw, buffering)
    if mode == "rwb":
        return io.BufferedRWPair(raw, raw, buffering)
    raise ValueError(f"mode is 'rb', 'wb' or 'rwb', not {mode!r}")


class _Raw(io.RawIOBase):
    """The unbuffered file under it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.recv_into(buffer)

    def write(self, data: Any) -> int:
        return self._stream.send(data)
