"""Frames of a stream that are foretold, by peers that count their packets in one way or another."""

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator

import pytest

from tests.support.reading import Reading
from tests.unit.net.bench import OUR_MAC, PEER, PEER_MAC, US, Bench
from usertcp.driver.base import Pump
from usertcp.frame import FrameMeta, LinkCaps, Run
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.state import State
from usertcp.units import MASK32
from usertcp.wire import ethernet, ipv4, tcp
from usertcp.wire.tcp import ACK, PSH, SYN

MSS = 1448
CHUNK = [65160, 65160, 65160, 65160, 1504]  # 256 KB as Linux sends them
BURSTS, LONE = FrameMeta(MSS, csum_valid=True), FrameMeta(csum_valid=True)
COUNTS: dict[str, Callable[[int], int]] = {
    "segments": lambda segments: segments,
    "frames": lambda _: 1,
    "nothing": lambda _: 0,
    "anything": lambda _: random.randrange(1 << 16),
}


class Frames(Reading):
    """A link that gives frames, and counts how many were foretold and how many were looked at."""

    def __init__(self, caps: LinkCaps, waiting: deque[tuple[bytes, FrameMeta]]) -> None:
        super().__init__(lambda: (memoryview(waiting[0][0]), waiting.popleft()[1]) if waiting else None)
        self.caps = caps
        self.seen: Counter[str] = Counter()

    def read_run(self, run: Run, place: memoryview, frames: int, until: int) -> None:
        super().read_run(run, place, frames, until)
        self.seen["foretold"] += run.count
        self.seen["looked at"] += run.odd > 0

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        return True


class Peer:
    """The other end of a connection to its port 80, whose sequence numbers begin at ``iss``."""

    def __init__(self, iss: int, bench: Bench | None = None, port: int = 5000) -> None:
        caps = LinkCaps(mac=OUR_MAC, tx_checksum=True, tx_gso=True)
        self.bench = bench or Bench(caps, tcp=TcpConfig(receive_buffer=8 << 20))
        self.bench.meet()
        self.port = port
        self.conn = self.bench.stack.connect((PEER, 80), self.bench.now, (US, port))
        (syn,) = self.bench.take_segments()
        self.seq, self.ack, self.stamp, self.ident = iss, syn.seq + 1 & MASK32, MASK32 - 3, 0
        self.echo = syn.options.tsval
        options = tcp.syn_options(MSS + 12, 7, True, (self.stamp, self.echo))
        self.bench.give(self.frame(b"", SYN | ACK, options)[0], LONE)
        self.seq = self.seq + 1 & MASK32
        self.bench.take()
        assert self.conn.state is State.ESTABLISHED
        self.conn.rcv.quick = 0

    def frame(self, text: bytes, flags: int = ACK, options: bytes = b"") -> tuple[bytes, FrameMeta]:
        """The next one, and what goes with it."""
        options = options or tcp.timestamps(self.stamp, self.echo)
        segment = tcp.header(80, self.port, self.seq, self.ack, flags, 512, options) + text
        addresses = ipv4.pack(PEER), ipv4.pack(US)
        head = ipv4.header(*addresses, ipv4.TCP, len(segment), ident=self.ident)
        meta = BURSTS if len(text) > MSS else LONE
        return ethernet.header(OUR_MAC, PEER_MAC, ethernet.IPV4) + head + segment, meta

    def says(self, size: int, step: int, flags: int = ACK) -> tuple[bytes, FrameMeta]:
        """The next ``size`` bytes of text, after which the identification is ``step`` more."""
        text = (self.seq & 0xFF).to_bytes(1, "big") * size
        found = self.frame(text, flags)
        self.seq = self.seq + size & MASK32
        self.ident = self.ident + step & 0xFFFF
        return found

    def gulp(self, frames: list[tuple[bytes, FrameMeta]], size: int = 256 << 10) -> tuple[bytes, Counter[str]]:
        """What a reader of the connection gets of ``frames``, and how they came."""
        waiting, got = deque(frames), b""
        link, target = Frames(self.bench.caps, waiting), memoryview(bytearray(size))
        pump = Pump(self.bench.stack, link, lambda: self.bench.now)
        while waiting:
            got += target[: pump.gulp(self.conn, target)]
            got += self.conn.read(1 << 24) if self.conn.readable else b""
        return got, link.seen


def stream(peer: Peer, chunks: int, counts: str, sizes: list[int]) -> Iterator[tuple[bytes, FrameMeta]]:
    for n in range(chunks):
        for size in sizes:
            segments = -(-size // MSS)
            yield peer.says(size, COUNTS[counts](segments), ACK if n % 3 else ACK | PSH)


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("sizes", [CHUNK, [65160], [1448, 1448, 100], [65160, 376]])
def test_text_arrives_whatever_its_sender_counts_and_most_of_it_is_foretold(counts: str, sizes: list[int]) -> None:
    """Sequence number and identification pass their ends, and the timestamps' clock goes on."""
    random.seed(1)
    peer = Peer(MASK32 - 3_000_000)
    peer.ident = 0xFFFF - 1000
    text, seen = b"", Counter[str]()
    for _ in range(12):
        peer.stamp = peer.stamp + 1 & MASK32
        frames = list(stream(peer, 600_000 // sum(sizes), counts, sizes))
        got, how = peer.gulp(frames)
        text += got
        seen += how
        assert got == b"".join(frame[66:] for frame, _ in frames)
    assert peer.conn.rcv.nxt - peer.conn.rcv.irs - 1 == len(text) > 6_000_000
    assert peer.bench.drops() == {}
    if counts != "anything":
        assert seen["foretold"] > 4 * seen["looked at"]
    else:
        assert seen["looked at"] > 50


@pytest.mark.parametrize("field", ["seq", "ident"])
def test_no_frame_is_foretold_in_which_a_field_carries_into_the_one_in_front_of_it(field: str) -> None:
    """The number that follows when a field passes its end belongs to another port, or to a packet of another length."""
    peer = Peer(MASK32 - 7 * 1448 if field == "seq" else 1000)
    peer.ident = 0xFFFF - 6 if field == "ident" else 100
    frames = [peer.says(MSS, 1) for _ in range(9)]
    last = next(n for n in range(2, 9) if _wraps(frames, n, field))
    numbers = [int.from_bytes(frame[:66]) for frame, _ in frames]
    forged = (2 * numbers[last - 1] - numbers[last - 2]).to_bytes(66, "big") + b"forged" + frames[last][0][72:]
    got, seen = peer.gulp([*frames[:last], (forged, LONE), *frames[last:]])
    assert got == b"".join(frame[66:] for frame, _ in frames)
    assert seen["foretold"] > 0
    assert sum(peer.bench.drops().values()) == 1


def _wraps(frames: list[tuple[bytes, FrameMeta]], n: int, field: str) -> bool:
    at = slice(38, 42) if field == "seq" else slice(18, 20)
    return frames[n][0][at] < frames[n - 1][0][at]


def test_reader_who_has_shut_down_reading_gets_nothing_straight() -> None:
    peer = Peer(1000)
    peer.gulp([peer.says(MSS, 1) for _ in range(3)])
    peer.conn.shutdown_read()
    conn: Connection = peer.conn
    assert peer.bench.stack.pull(conn, memoryview(bytearray(9000)), Reading(lambda: None), 9, 9, 0) is None
    assert conn.at_eof


def test_much_is_acknowledged_at_once_by_one_segment_and_without_a_turn() -> None:
    peer = Peer(1000)
    peer.gulp([peer.says(65160, 45) for _ in range(3)])
    stack, before = peer.bench.stack, peer.bench.stack.stats.segments_out
    for _ in range(8):
        frames = deque(peer.says(65160, 45) for _ in range(5))
        pump = Pump(stack, Frames(peer.bench.caps, frames), lambda: peer.bench.now)
        while len(frames) > 1:
            assert pump.gulp(peer.conn, memoryview(bytearray(65160))) == 65160
            assert stack.stirred  # what is owed waits for more
        assert pump.gulp(peer.conn, memoryview(bytearray(131072))) == 65160  # now nothing more waits
        assert not stack.stirred
        assert peer.conn.rcv.last_ack_sent == peer.conn.rcv.nxt
    assert stack.stats.segments_out - before == 8


def test_what_lies_behind_the_packet_in_a_frame_is_no_text() -> None:
    peer = Peer(1000)
    frames = [peer.says(MSS, 1) for _ in range(6)]
    got, seen = peer.gulp([(frame + b"trailer", meta) for frame, meta in frames])
    assert got == b"".join(frame[66:] for frame, _ in frames)
    assert seen["foretold"] > 0


def test_frames_of_the_last_run_are_not_counted_again_if_an_interrupt_comes_before_the_next_has_begun() -> None:
    class Interrupted(Frames):
        def read_run(self, run: Run, place: memoryview, frames: int, until: int) -> None:
            raise KeyboardInterrupt

    peer = Peer(1000)
    _, seen = peer.gulp([peer.says(MSS, 1) for _ in range(6)])
    assert seen["foretold"] > 0
    stack, nxt = peer.bench.stack, peer.conn.rcv.nxt
    with pytest.raises(KeyboardInterrupt):
        stack.pull(peer.conn, memoryview(bytearray(1 << 20)), Interrupted(peer.bench.caps, deque()), 32, 1 << 20, 0)
    assert peer.conn.rcv.nxt == nxt


def test_others_are_told_of_what_came_for_them_in_between() -> None:
    class Watch:
        calls = 0

        def on_ready(self) -> None:
            self.calls += 1

    peer = Peer(1000)
    other = Peer(5000, peer.bench, 5001)
    other.conn.user = watch = Watch()
    peer.bench.stack.take_ready()
    peer.gulp([peer.says(MSS, 1) for _ in range(3)])
    got, _ = peer.gulp([peer.says(MSS, 1), other.says(100, 1), peer.says(MSS, 1), peer.says(MSS, 1)])
    assert len(got) == 3 * MSS
    assert other.conn.readable == 100
    assert watch.calls == 1
