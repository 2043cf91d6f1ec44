"""The bytes themselves: one thread a stream, which sends or receives until its end and counts.

The clock starts when the threads do. A sender looks at it after each write, and ends with a FIN; what it counted it has
handed in, of which some may be on its way still: it is the receiver's count over the receiver's time that tells the
rate. Whoever looks on reads ``total`` while the threads work.
"""

import threading
import time
from collections.abc import Sequence
from math import inf
from typing import Final

from usertcp.errors import SetupError
from usertcp.perf.protocol import Conn, Half, Plan, finish
from usertcp.perf.roads import Road

PATIENCE: Final = 10.0  # seconds after the time of a test in which its streams must have ended


class _Stream(threading.Thread):
    """One stream. ``failure``: what ended it."""

    def __init__(self, conn: Conn, test: Plan, count: int | None, sends: bool) -> None:
        super().__init__(name="usertcp-perf-stream", daemon=True)
        self.conn = conn
        self.test = test
        self.count = count  # bytes to send; None: as many as the time allows
        self.sends = sends
        self.bytes = 0
        self.ended = 0.0  # time.monotonic()
        self.failure: OSError | None = None

    def run(self) -> None:
        try:
            if self.sends:
                self._send()
            else:
                self._receive()
        except OSError as error:
            self.failure = error
        self.ended = time.monotonic()

    def _send(self) -> None:
        conn, clock, block = self.conn, time.monotonic, memoryview(bytes(self.test.length))
        until = clock() + self.test.seconds if self.test.seconds else inf
        while clock() < until:
            if self.count is not None:
                block = block[: self.count - self.bytes]
                if not block:
                    break
            conn.sendall(block)
            self.bytes += len(block)
        finish(conn)

    def _receive(self) -> None:
        recv_into, buffer = self.conn.recv_into, bytearray(self.test.length)
        while got := recv_into(buffer):
            self.bytes += got


class Streams:
    """All streams of one end of a test."""

    def __init__(self, road: Road, conns: Sequence[Conn], test: Plan, *, sends: bool) -> None:
        self.road = road
        self.test = test
        share, rest = divmod(test.bytes, len(conns))
        self.streams = [
            _Stream(conn, test, share + (number < rest) if test.bytes else None, sends)
            for number, conn in enumerate(conns)
        ]
        self.sends = sends
        self._began = 0.0
        self._cpu = 0.0

    def start(self) -> None:
        self._began, self._cpu = time.monotonic(), time.process_time()
        for stream in self.streams:
            stream.start()

    @property
    def total(self) -> int:
        """Bytes so far."""
        return sum(stream.bytes for stream in self.streams)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def wait(self, seconds: float) -> bool:
        """Until all have ended, for at most so long. SetupError when one has failed, or the test takes too long."""
        until = time.monotonic() + seconds
        for stream in self.streams:
            stream.join(max(0.0, until - time.monotonic()))
            if stream.failure is not None:
                raise stream.failure
        if any(stream.is_alive() for stream in self.streams):
            if self.test.seconds and self.elapsed > self.test.seconds + PATIENCE:
                raise SetupError(
                    f"the streams have not ended {PATIENCE:g} s after their time", "the other end is gone, or stuck"
                )
            return False
        return True

    def half(self) -> Half:
        """What was found, when all have ended."""
        ended = max((stream.ended for stream in self.streams), default=self._began)
        return Half(
            bytes=[stream.bytes for stream in self.streams],
            seconds=ended - self._began,
            retransmits=[self.road.retransmits(stream.conn) for stream in self.streams] if self.sends else [],
            cpu=time.process_time() - self._cpu,
            stack=self.road.name,
        )
