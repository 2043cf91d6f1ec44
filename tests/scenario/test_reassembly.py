"""Data out of order, twice, cut otherwise than before: RFC 9293 §3.10.7.4 seventh."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.script import PLAIN, Script, with_options
from usertcp.tcp.state import State

TEXT = bytes(i * 7 + (i >> 8) & 0xFF for i in range(2000))


def piece(s: Script, start: int, end: int) -> None:
    seg = s.segment(f". {1 + start}:{1 + end}({end - start}) ack 1 win 1000", TEXT[start:end])
    s.user.on_segment(seg, s.now)


@pytest.mark.rfc(9293, "SHLD-31")
def test_last_first_is_delivered_once_in_order_and_the_ack_jumps() -> None:
    s = Script.established()
    piece(s, 200, 300)
    s.poll()
    piece(s, 100, 200)
    s.poll()
    assert s.user.readable == 0
    s.take()
    piece(s, 0, 100)
    s.expect(". 1:1(0) ack 301")
    assert s.read() == TEXT[:300]


@pytest.mark.rfc(9293, "SHLD-31")
@pytest.mark.parametrize("seed", range(20))
def test_any_order_gives_the_stream(seed: int) -> None:
    rng = random.Random(seed)
    cuts = sorted(rng.sample(range(1, len(TEXT)), 40))
    pieces = list(zip([0, *cuts], [*cuts, len(TEXT)], strict=True))
    rng.shuffle(pieces)
    s = Script.established()
    for start, end in pieces:
        piece(s, start, end)
    assert s.read() == TEXT
    assert not s.user.rcv.buffer.arrived


@pytest.mark.rfc(9293, "SHLD-31")
@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 1999), st.integers(1, 600)), max_size=40),
    st.sampled_from([100, 700, 1300, 65535]),
)
def test_overlapping_pieces_give_each_byte_once(pieces: list[tuple[int, int]], buffer: int) -> None:
    s = Script.established(with_options(receive_buffer=buffer))
    got = b""
    have: set[int] = set()
    for start, size in pieces:
        room = range(len(got), len(got) + s.user.rcv.edge - s.user.rcv.buffer.read_seq)
        end = min(start + size, len(TEXT))
        have.update(set(range(start, end)) & set(room))
        piece(s, start, end)
        s.poll()
        upto = next(i for i in range(len(TEXT) + 1) if i not in have)
        assert len(got) + s.user.readable == upto
        if start % 3 == 0 and s.user.readable:
            got += s.user.read(size)
            s.poll()
    assert TEXT.startswith(got)


@pytest.mark.rfc(9293, "X-12")
def test_text_and_fin_on_the_syn_ack_are_taken() -> None:
    """RFC 9293 §3.10.7.3, fourth: other controls or text in the segment."""
    s = Script.opening(PLAIN)
    s.take()
    s.peer("SF. 0:5(5) ack 1 win 1000 <mss 1460>", payload=b"hello")
    s.expect(". 1:1(0) ack 7")
    s.expect_state(State.CLOSE_WAIT)
    assert s.read() == b"hello"
    assert s.read() == b""
