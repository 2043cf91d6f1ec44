"""A connection in the shape that ``http`` of the standard library expects of a socket.

What differs from a :class:`~usertcp.blocking.Conn` is small: ``makefile`` takes the standard library's buffering
numbers, and ``close`` waits until the files made from it are closed, as a socket's does.
"""

import io
import threading
from typing import Any, Final

from usertcp.blocking import Conn

BUFFER: Final = 64 << 10  # bytes


class Stream:
    """Over ``conn``, which it closes at the end."""

    def __init__(self, conn: Conn) -> None:
        self.conn = conn
        self._lock = threading.Lock()
        self._users = 1

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        self.conn.sendall(data)

    def settimeout(self, seconds: float | None) -> None:
        self.conn.settimeout(seconds)

    def makefile(self, mode: str = "rb", buffering: int = -1) -> io.BufferedReader:
        """Only for reading, which is all that ``http`` asks."""
        assert "w" not in mode
        with self._lock:
            self._users += 1
        return io.BufferedReader(_Reader(self), buffering if buffering > 0 else BUFFER)

    def close(self) -> None:
        """Our own hold on it ends."""
        self.release()

    def release(self) -> None:
        """One hold ends; the last one closes the connection."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self.conn.close()


class _Reader(io.RawIOBase):
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.conn.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._stream.release()
