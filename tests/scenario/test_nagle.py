"""What becomes of small writes, and PSH: RFC 9293 §3.7.4, §3.9.1.2."""

import pytest

from tests.support.script import Script, with_options
from usertcp.wire.tcp import PSH

MSS = 1460


@pytest.mark.rfc(9293, "MAY-16")
@pytest.mark.rfc(9293, "SHLD-7")
@pytest.mark.rfc(9293, "SHLD-27")
@pytest.mark.rfc(9293, "MUST-61")
def test_small_writes_wait_for_the_ack_of_the_first_and_leave_as_one() -> None:
    s = Script.established()
    for _ in range(10):
        s.write(b"0123456789")
    s.expect("P. 1:11(10) ack 1")
    s.peer(". 1:1(0) ack 11 win 65535")
    s.expect("P. 11:101(90) ack 1")


@pytest.mark.rfc(9293, "MUST-17")
def test_nodelay_small_writes_leave_at_once() -> None:
    s = Script.established(with_options(nodelay=True))
    s.write(b"a")
    s.write(b"b")
    s.expect("P. 1:2(1)", "P. 2:3(1)")


@pytest.mark.rfc(9293, "MUST-17")
def test_nodelay_switched_on_lets_the_waiting_go() -> None:
    s = Script.established()
    s.write(b"a")
    s.write(b"b")
    s.expect("P. 1:2(1)")
    s.user.configure(nodelay=True)
    s.expect("P. 2:3(1)")


@pytest.mark.rfc(9293, "SHLD-7")
def test_full_segment_does_not_wait() -> None:
    s = Script.established()
    s.write(b"a")
    s.write(bytes(MSS + 10))
    s.expect("P. 1:2(1)", f". 2:{2 + MSS}({MSS})")
    s.peer(f". 1:1(0) ack {2 + MSS} win 65535")
    s.expect(f"P. {2 + MSS}:{12 + MSS}(10)")


def test_small_tail_behind_full_segments_does_not_wait() -> None:
    """Minshall's reading: only an unacknowledged small segment holds another one back."""
    s = Script.established()
    s.write(bytes(2 * MSS + 10))
    s.expect(f". 1:{1 + MSS}({MSS})", f". {1 + MSS}:{1 + 2 * MSS}({MSS})", f"P. {1 + 2 * MSS}:{11 + 2 * MSS}(10)")
    s.write(b"more")
    s.expect_nothing()
    s.peer(f". 1:1(0) ack {1 + 2 * MSS} win 65535")
    s.expect_nothing()
    s.peer(f". 1:1(0) ack {11 + 2 * MSS} win 65535")
    s.expect(f"P. {11 + 2 * MSS}:{15 + 2 * MSS}(4)")


def test_small_segment_sent_again_in_parts_still_holds_the_next_back() -> None:
    """What is sent again must not make the sender forget the small segment behind it."""
    s = Script.established()
    s.write(bytes(100))
    s.write(bytes(MSS))
    s.expect("P. 1:101(100)", f"P. 101:{101 + MSS}({MSS})")
    s.peer(f". 1:1(0) ack {101 + MSS} win 65535")
    seq = 101 + MSS
    s.write(bytes(3 * MSS + 10))
    s.take()
    s.peer(f". 1:1(0) ack {seq + 500} win 65535")  # a part of a segment
    for _ in range(3):
        s.peer(f". 1:1(0) ack {seq + 500} win 65535")
    s.take()
    s.write(b"more")
    s.expect_nothing()


def test_fin_takes_the_waiting_along() -> None:
    s = Script.established()
    s.write(b"a")
    s.write(b"b")
    s.take()
    s.user.shutdown_write()
    s.expect("FP. 2:3(1)")


@pytest.mark.rfc(9293, "MUST-60")
def test_single_byte_leaves_without_further_ado() -> None:
    s = Script.established()
    s.write(b"a")
    s.expect("P. 1:2(1)")


@pytest.mark.rfc(9293, "MUST-60")
def test_byte_held_back_leaves_with_the_retransmission_when_the_ack_is_lost() -> None:
    s = Script.established()
    s.write(b"a")
    s.write(b"b")
    s.take()
    s.advance_to_next_deadline()
    s.expect("P. 1:3(2)")


@pytest.mark.rfc(9293, "MUST-61")
@pytest.mark.rfc(9293, "SHLD-27")
@pytest.mark.parametrize("max_burst", [MSS, 65_000])
@pytest.mark.parametrize("size", [1, MSS, 3 * MSS, 5 * MSS + 7])
def test_psh_is_on_the_last_segment_of_what_is_buffered(size: int, max_burst: int) -> None:
    """However often the user wrote."""
    s = Script.established(max_burst=max_burst)
    for start in range(0, size, 500):
        s.user.write(bytes(min(500, size - start)))
    s.poll()
    sent = s.take()
    assert [bool(seg.flags & PSH) for seg in sent] == [False] * (len(sent) - 1) + [True]


@pytest.mark.rfc(9293, "SHLD-28")
@pytest.mark.parametrize("max_burst", [MSS, 10_000, 65_000])
def test_all_but_the_last_segment_are_full(max_burst: int) -> None:
    s = Script.established(max_burst=max_burst)
    s.write(bytes(100_000))
    sizes: list[int] = []
    acked = 1
    while sent := s.take():
        sizes += [len(seg.payload) for seg in sent]
        acked += sum(len(seg.payload) for seg in sent)
        s.peer(f". 1:1(0) ack {acked} win 65535")
    assert sum(sizes) == 100_000
    assert set(sizes[:-1]) == {MSS}


@pytest.mark.rfc(9293, "SHLD-28")
def test_writes_of_odd_sizes_behind_a_closed_congestion_window_leave_as_full_segments() -> None:
    s = Script.established()
    s.user.snd.cc.cwnd = MSS
    for _ in range(20):
        s.write(bytes(333))
    s.take()
    s.peer(". 1:1(0) ack 334 win 65535")
    assert {len(seg.payload) for seg in s.take()} == {MSS}
