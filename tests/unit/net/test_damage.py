"""Segments with a wrong checksum are dropped and counted, whichever way they come in (RFC 9293 §3.1, MUST-3)."""

from collections import deque

import pytest

from tests.support.reading import read_all
from tests.unit.net.bench import PEER, PEER_ISS, US, Bench, tcp_frame
from usertcp.frame import PLAIN
from usertcp.net.burst import Frame
from usertcp.net.stats import Drop
from usertcp.tcp.connection import Connection
from usertcp.tcp.state import State
from usertcp.wire import tcp
from usertcp.wire.tcp import ACK, PSH, RST, SYN

SIZE = 600  # bytes of text: enough for a burst
TCP_AT = 14 + 20  # where TCP begins in a frame


def established(bench: Bench, *, stamped: bool) -> tuple[Connection, int]:
    """A connection to the peer's port 80, and SND.NXT on the wire."""
    bench.meet()
    conn = bench.stack.connect((PEER, 80), bench.now, (US, 5000))
    (syn,) = bench.take_segments()
    options = tcp.syn_options(1460, -1, False, (1, syn.options.tsval) if stamped else None)
    bench.give(tcp_frame(SYN | ACK, PEER_ISS, syn.seq + 1, sport=80, dport=5000, options=options))
    bench.take()
    assert conn.state is State.ESTABLISHED
    conn.rcv.quick = 0
    return conn, syn.seq + 1


def text(bench: Bench, conn: Connection, ack: int, nth: int, flags: int = ACK | PSH) -> bytes:
    """The frame with the ``nth`` segment of the peer's text."""
    options = tcp.timestamps(2, conn.ts_now(bench.now)) if conn.ts_ok else b""
    seq = PEER_ISS + 1 + nth * SIZE
    return tcp_frame(flags, seq, ack, bytes([nth]) * SIZE, sport=80, dport=5000, options=options)


def damaged(frame: bytes, at: int) -> bytes:
    return frame[:at] + bytes((frame[at] ^ 0x40,)) + frame[at + 1 :]


@pytest.mark.rfc(9293, "MUST-3")
@pytest.mark.parametrize("stamped", [False, True])
def test_established_text_with_one_bit_flipped_is_neither_taken_nor_acknowledged(stamped: bool) -> None:
    bench = Bench()
    conn, ack = established(bench, stamped=stamped)
    frame = text(bench, conn, ack, 0)
    places = [*range(TCP_AT, TCP_AT + 40), len(frame) - 1]
    for at in places:
        bench.give(damaged(frame, at))
    assert bench.take() == []
    assert not conn.readable
    assert conn.rcv.nxt == conn.rcv.irs + 1
    assert bench.drops() == {Drop.BAD_TCP_CHECKSUM: len(places)}
    bench.give(frame)
    assert conn.readable == SIZE


@pytest.mark.rfc(9293, "MUST-3")
def test_established_reset_with_one_bit_flipped_is_none() -> None:
    bench = Bench()
    conn, _ = established(bench, stamped=True)
    bench.give(damaged(tcp_frame(RST, PEER_ISS + 1, sport=80, dport=5000), TCP_AT + 18))
    assert conn.state is State.ESTABLISHED
    assert bench.drops() == {Drop.BAD_TCP_CHECKSUM: 1}


@pytest.mark.rfc(9293, "MUST-3")
def test_text_for_a_waiting_reader_ends_in_front_of_the_damaged_segment() -> None:
    bench = Bench()
    conn, ack = established(bench, stamped=True)
    target = bytearray(10 * SIZE)
    assert conn.offer(memoryview(target))
    frames = [text(bench, conn, ack, nth) for nth in range(4)]
    frames[2] = damaged(frames[2], len(frames[2]) - 1)
    waiting = deque(memoryview(frame) for frame in frames)

    def read() -> Frame | None:
        return (waiting.popleft(), PLAIN) if waiting else None

    read_all(bench.stack, read, bench.now)
    assert conn.take_back() == 2 * SIZE
    assert target[: 3 * SIZE] == bytes([0]) * SIZE + bytes([1]) * SIZE + bytes(SIZE)
    assert conn.rcv.nxt == conn.rcv.irs + 1 + 2 * SIZE
    assert bench.drops() == {Drop.BAD_TCP_CHECKSUM: 1}
