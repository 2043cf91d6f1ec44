"""The demonstration: a whole life of one connection with the kernel's TCP, drawn while it happens.

The handshake, 10 MB each way at the same time, verified by SHA-256, and the closing in four segments.
"""

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from usertcp.lab.bench import Bench, Pair, Stopped
from usertcp.lab.ladder import Note, Rung
from usertcp.lab.result import Result
from usertcp.tcp.config import TcpConfig
from usertcp.units import MS
from usertcp.wire.tcp import ACK, FIN, SYN

TITLE: Final = "usertcp against the kernel's TCP"
CONFIG: Final = TcpConfig(msl=500 * MS)
SIZE: Final = 10_000_000  # bytes each way
CHUNK: Final = 1 << 18  # bytes handed over at once
PATIENCE: Final = 120.0  # seconds for the transfer


def run(show: Callable[[Rung | Note], None], pcap: Path | None = None, size: int = SIZE) -> Result:
    """Play it; ``show`` gets each line of the ladder when it is complete."""
    with Bench(TITLE, CONFIG, pcap=pcap, on_line=show) as bench:
        try:
            _play(bench, size)
        except Stopped:
            pass  # it is among the checks
        except OSError as error:
            bench.check("no call of a socket fails", False, error)
        bench.show(all_of_it=True)
        return bench.result


def _play(bench: Bench, size: int) -> None:
    bench.heading("The handshake")
    pair = bench.open(client=True)
    rungs = bench.ladder.rungs()
    bench.check("SYN, SYN+ACK, ACK", [rung.flags for rung in rungs] == [SYN, SYN | ACK, ACK])
    bench.heading(f"{size / 1e6:g} MB each way at the same time")
    _transfer(bench, pair, size)
    start = bench.heading("The closing in four segments")
    bench.note(f"usertcp: close() (MSL set to {bench.config.msl / 1e9:g} s)")
    pair.conn.close()
    bench.need("usertcp is in FIN-WAIT-2", lambda: bench.ours(pair.ports) == "FIN-WAIT-2")
    bench.need("the kernel's program reads the end", lambda: bench.kernel_at_end(pair.sock))
    bench.note("kernel: close()")
    pair.sock.close()
    bench.need("usertcp is in TIME-WAIT", lambda: bench.ours(pair.ports) == "TIME-WAIT")
    bench.need("after 2 MSL usertcp is CLOSED", lambda: bench.ours(pair.ports) == "CLOSED")
    bench.note("2 MSL are over")
    flags = [rung.flags for rung in bench.ladder.rungs(after=start)]
    bench.check("FIN, ACK, FIN, ACK", flags == [FIN | ACK, ACK, FIN | ACK, ACK])
    paths = [
        (True, "usertcp", "CLOSED SYN-SENT ESTABLISHED FIN-WAIT-1 FIN-WAIT-2 TIME-WAIT CLOSED"),
        (False, "the kernel", "LISTEN SYN-RECEIVED ESTABLISHED CLOSE-WAIT LAST-ACK CLOSED"),
    ]
    for ours, name, path in paths:
        seen = " ".join(bench.ladder.states(ours=ours))
        bench.check(f"{name} goes {path.replace(' ', ' → ')}", seen == path, "" if seen == path else seen)


class _Direction:
    """One direction of the transfer: random bytes on their way from ``send`` to ``receive``."""

    def __init__(
        self, name: str, size: int, send: Callable[[memoryview], int], receive: Callable[[], bytes | None]
    ) -> None:
        self.name = name
        self._size = size
        data = os.urandom(size)
        self._left = memoryview(data)
        self._wanted = hashlib.sha256(data).hexdigest()
        self._send = send
        self._receive = receive
        self._digest = hashlib.sha256()
        self.arrived = 0

    def step(self) -> None:
        """Send and receive what is possible now."""
        if self._left:
            with suppress(BlockingIOError):
                self._left = self._left[self._send(self._left[:CHUNK]) :]
        got = self._receive()
        if got:
            self._digest.update(got)
            self.arrived += len(got)

    def check(self, bench: Bench) -> None:
        """Whether what arrived is what was sent."""
        statement = f"{self.name}: {self._size:,} bytes, SHA-256 as sent"
        bench.check(statement, self._digest.hexdigest() == self._wanted, self._wanted[:16] + "…")


def _transfer(bench: Bench, pair: Pair, size: int) -> None:
    """Send and receive at both ends until all has arrived; compare the digests."""
    conn, sock = pair.conn, pair.sock
    out = _Direction("usertcp → kernel", size, conn.write, lambda: bench.kernel_receive(sock))
    back = _Direction("kernel → usertcp", size, sock.send, lambda: bench.receive(conn))

    def flow() -> bool:
        out.step()
        back.step()
        return out.arrived >= size and back.arrived >= size and conn.info().unacked == 0

    bench.ladder.fold(True)
    started = time.monotonic()
    bench.need(f"{size:,} bytes arrive at both ends", flow, PATIENCE)
    took = time.monotonic() - started
    # What is still owed would come again in the middle of the closing.
    bench.need("everything is acknowledged", lambda: conn.rcv.last_ack_sent == conn.rcv.nxt)
    bench.quiet()
    bench.ladder.fold(False)
    bench.note(f"{took:.1f} s, {2 * size / took / 1e6:.1f} MB/s in all")
    out.check(bench)
    back.check(bench)
