"""``make blind``: somebody who sees nothing of a connection, but knows both its ends, tries to end it or to slip in.

Two stacks in one process, on a cable in memory, send each other text both ways. Between any two of their turns forged
frames arrive at both: resets, SYNs, text, acknowledgments, ICMP errors. The numbers that the attacker does not know are
guessed in steps over the whole sequence space (as those did who found that one need only hit the window), the others at
random. The addresses and ports are always right: that is the attacker at his luckiest. In the end every byte has to be
the one that was written, and both ends have to close as if nothing had been.

Time is a number and randomness has a seed: the same run every time, and no clock in it.
"""

import argparse
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.words import count
from usertcp.driver.base import Pump
from usertcp.link.memory import MemoryLink, memory_pair
from usertcp.net.stack import Stack, StackConfig
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.state import State
from usertcp.units import KIB, MASK32, MIB, MS
from usertcp.wire import ethernet, icmp, ipv4, tcp
from usertcp.wire.tcp import ACK, PSH, RST, SYN

PORT: Final = 9000
TURN: Final = 1 * MS  # between two turns: half a round trip
BURST: Final = 100  # forged frames for each end between two turns
WINDOW: Final = 1 * MIB  # that each end offers: what an attacker has to hit
CHUNK: Final = 8 * KIB  # bytes that each end writes at a time
EVIL: Final = b"\xee" * 100  # what forged text says; none of it may be read


class End:
    """One of the two: its stack, its connection, what it wrote and what it read."""

    def __init__(self, address: str, link: MemoryLink, clock: Callable[[], int], config: TcpConfig) -> None:
        settings = StackConfig(addresses=(f"{address}/24",), tcp=config)
        self.address = ipv4.pack(address)
        self.link = link
        self.stack = Stack(settings, link.caps, random.Random(address).randbytes)
        self.pump = Pump(self.stack, link, clock)
        self.conn: Connection
        self.wrote = bytearray()
        self.read = bytearray()

    def turn(self) -> None:
        """All that it can do now."""
        while self.pump.turn() or len(self.link):
            pass
        if self.conn.readable:
            self.read += self.conn.read(self.conn.readable)


class Cable:
    """Two ends with a connection between them."""

    def __init__(self, *, timestamps: bool) -> None:
        self.now = 1000 * MS
        links = memory_pair()
        config = TcpConfig(timestamps=timestamps, receive_buffer=WINDOW, receive_buffer_max=0)
        self.ends = [
            End(address, link, lambda: self.now, config)
            for address, link in zip(("10.9.0.1", "10.9.0.2"), links, strict=True)
        ]
        first, second = self.ends
        listener = second.stack.listen(("", PORT))
        first.conn = second.conn = first.stack.connect(("10.9.0.2", PORT), self.now)
        self.rest()
        accepted = listener.accept()
        assert accepted is not None
        second.conn = accepted

    def turn(self, disturb: Callable[[], None] = lambda: None) -> None:
        """Half a round trip for each, with what ``disturb`` does in front of each."""
        for end in self.ends:
            disturb()
            self.now += TURN
            end.turn()

    def rest(self) -> None:
        """Until both have been still for a while, longer than any time-out of theirs."""
        for _ in range(500):
            self.turn()


@dataclass(frozen=True)
class Outcome:
    """``guesses``: for each end; ``intact``: both streams, and both ends' way to the end; ``reached``: forged frames
    that found the connection, past every check of the layers below; ``bytes``: of the streams."""

    kind: str
    guesses: int
    intact: bool
    reached: int
    bytes: int
    why: str = ""


Forge = Callable[[random.Random, int, End, End], bytes]


def _segment(to: End, other: End, seq: int, ack: int, flags: int, text: bytes = b"", *, stamp: int | None) -> bytes:
    conn = to.conn
    options = tcp.timestamps(stamp, stamp) if stamp is not None else b""
    head = tcp.header(conn.dport, conn.sport, seq, ack, flags, 1000, options)
    head[16:18] = tcp.checksum(other.address, to.address, head, [memoryview(text)]).to_bytes(2, "big")
    return _packet(to, other.address, ipv4.TCP, bytes(head) + text)


def _packet(to: End, source: bytes, proto: int, body: bytes) -> bytes:
    mac = to.stack.caps.mac
    link = ethernet.header(mac, bytes.fromhex("0200000000ee"), ethernet.IPV4) if mac else b""
    return link + ipv4.header(source, to.address, proto, len(body)) + body


def _reset(source: random.Random, guess: int, to: End, other: End) -> bytes:
    return _segment(to, other, guess, 0, RST, stamp=None)


def _syn(source: random.Random, guess: int, to: End, other: End) -> bytes:
    return _segment(to, other, guess, 0, SYN, stamp=None)


def _text(source: random.Random, guess: int, to: End, other: End) -> bytes:
    stamp = source.getrandbits(32) if to.conn.ts_ok else None
    return _segment(to, other, guess, source.getrandbits(32), ACK | PSH, EVIL, stamp=stamp)


def _ack(source: random.Random, guess: int, to: End, other: End) -> bytes:
    stamp = source.getrandbits(32) if to.conn.ts_ok else None
    return _segment(to, other, source.getrandbits(32), guess, ACK, stamp=stamp)


def _icmp(source: random.Random, guess: int, to: End, other: End) -> bytes:
    """Protocol and port unreachable, and fragmentation needed, about a segment that ``to`` may have sent."""
    head = tcp.header(to.conn.sport, to.conn.dport, guess, 0, ACK, 1000)
    quoted = ipv4.header(to.address, other.address, ipv4.TCP, 1000) + head
    body = icmp.error(icmp.DESTINATION_UNREACHABLE, source.choice((1, 2, 3, 4)), memoryview(bytes(quoted)), 68)
    return _packet(to, other.address, ipv4.ICMP, body)


ATTACKS: Final[dict[str, Forge]] = {"RST": _reset, "SYN": _syn, "data": _text, "ACK": _ack, "ICMP": _icmp}


def attack(kind: str, guesses: int, *, timestamps: bool = True, seed: int = 1) -> Outcome:
    """One connection; each end gets ``guesses`` forged frames of ``kind``."""
    source, content, cable = random.Random(seed), random.Random(seed + 1), Cable(timestamps=timestamps)
    step = (1 << 32) // guesses
    start, made, forge = source.getrandbits(32), 0, ATTACKS[kind]
    ends = cable.ends

    def disturb() -> None:
        nonlocal made
        for _ in range(min(BURST, guesses - made)):
            guess = (start + made * step) & MASK32
            for to, other in (ends, ends[::-1]):
                to.stack.receive(forge(source, guess, to, other), cable.now)
            made += 1

    while made < guesses:
        for end in ends:
            data = content.randbytes(CHUNK)
            if end.conn.state is State.ESTABLISHED and end.conn.writable >= CHUNK:
                end.wrote += data
                end.conn.write(data)
        cable.turn(disturb)
    why = _finish(cable)
    dropped = sum(sum(end.stack.stats.drops.values()) for end in ends)
    return Outcome(kind, made, not why, 2 * made - dropped, sum(len(end.read) for end in ends), why)


def _finish(cable: Cable) -> str:
    """Let both close; what is not as it should be."""
    for end in cable.ends:
        if end.conn.state is not State.ESTABLISHED:
            return f"a connection is {end.conn.state}"
        end.conn.shutdown_write()
    cable.rest()
    first, second = cable.ends
    if first.read != second.wrote or second.read != first.wrote:
        return "a stream is not what was written"
    if any(end.conn.error for end in cable.ends) or not all(end.conn.at_eof for end in cable.ends):
        return "an end did not close in order"
    return ""


def main() -> int:
    """The exit status: 0 if every transfer was intact."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blind", description=__doc__)
    parser.add_argument("--guesses", type=count, default=100_000, help="of each kind, for each end")
    words = parser.parse_args()
    worst = 0
    for timestamps in (True, False):
        print(f"timestamps {'on' if timestamps else 'off'}")
        for kind in ATTACKS:
            seen = attack(kind, words.guesses, timestamps=timestamps)
            verdict = "intact" if seen.intact else seen.why
            told = f"{seen.guesses:,} guesses for each end, {seen.reached:,} reached it, {seen.bytes / 1e6:.1f} MB"
            print(f"  {kind:5} {told}: {verdict}")
            worst |= not seen.intact
    return int(worst)


if __name__ == "__main__":
    sys.exit(main())
