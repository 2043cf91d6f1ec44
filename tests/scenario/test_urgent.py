"""Urgent data, delivered in line: RFC 9293 §3.8.5, §3.10.7.4 sixth; RFC 6093."""

import pytest

from tests.support.script import IRS, Script, with_options
from tests.support.states import SYNCHRONIZED, reach
from usertcp.tcp.state import CAN_RECEIVE, URGENT, State
from usertcp.wire.tcp import SYN, URG

MSS = 1460


# --- received ---------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(6093, "§3.1")
@pytest.mark.rfc(6093, "§6")
@pytest.mark.rfc(9293, "MUST-30")
@pytest.mark.rfc(9293, "MUST-32")
def test_urgent_segment_is_announced_and_its_text_stays_in_the_stream() -> None:
    s = Script.established()
    notified = len(s.host.notified)
    s.peer("PU. 1:6(5) ack 1 win 1000 urg 5", payload=b"hello")
    assert s.user.ready & URGENT
    assert len(s.host.notified) > notified
    assert s.read() == b"hello"
    assert not s.user.ready & URGENT


@pytest.mark.rfc(6093, "§4")
@pytest.mark.rfc(9293, "MUST-33")
@pytest.mark.rfc(9293, "MUST-62")
def test_mark_tells_how_much_is_still_to_be_read() -> None:
    """The pointer names the octet after the urgent data (RFC 6093 §4)."""
    s = Script.established()
    s.peer("P. 1:6(5) ack 1 win 1000", "PU. 6:11(5) ack 1 win 1000 urg 3")
    marks = []
    for _ in range(10):
        marks.append(s.user.urgent_mark)
        s.user.read(1)
    assert marks == [8, 7, 6, 5, 4, 3, 2, 1, None, None]


@pytest.mark.rfc(9293, "MUST-32")
def test_pointer_that_advances_is_announced_and_one_repeated_is_not() -> None:
    s = Script.established()
    s.peer("U. 1:1(0) ack 1 win 1000 urg 10")
    assert s.host.notified.count(s.user) >= 1
    before = len(s.host.notified)
    s.peer("U. 1:1(0) ack 1 win 1000 urg 10", "U. 1:1(0) ack 1 win 1000 urg 3")
    assert len(s.host.notified) == before
    s.peer("U. 1:1(0) ack 1 win 1000 urg 20")
    assert len(s.host.notified) == before + 1
    assert s.user.urgent_mark == 20


@pytest.mark.rfc(6093, "§3.2")
@pytest.mark.rfc(9293, "MUST-31")
def test_urgent_span_of_any_length() -> None:
    """70,000 bytes: the pointer's 16 bits reach it step by step."""
    s = Script.established(with_options(receive_buffer=60_000))
    seq = 1
    while seq < 70_001:
        left = 70_001 - seq
        s.peer(f"U. {seq}:{seq + 1000}(1000) ack 1 win 1000 urg {min(left, 65535)}")
        seq += 1000
        assert s.user.urgent_mark is not None
        s.user.read(500)
    assert s.user.rcv.up - IRS == 70_001
    assert s.user.urgent_mark == s.user.readable


def test_urgent_pointer_without_the_flag_says_nothing() -> None:
    s = Script.established()
    s.peer("P. 1:6(5) ack 1 win 1000 urg 5")
    assert not s.user.ready & URGENT
    assert s.user.urgent_mark is None


def test_urgent_pointer_to_what_was_read_is_not_announced() -> None:
    s = Script.established()
    s.peer("P. 1:6(5) ack 1 win 1000")
    s.read()
    s.peer("U. 6:6(0) ack 1 win 1000 urg 0")
    assert not s.user.ready & URGENT


def test_urgent_out_of_order_is_announced_before_its_text_is_there() -> None:
    s = Script.established()
    s.peer("PU. 11:16(5) ack 1 win 1000 urg 5")
    assert s.user.urgent_mark == 15
    assert s.user.readable == 0


@pytest.mark.parametrize("state", SYNCHRONIZED)
def test_urgent_after_the_peers_fin_is_ignored(state: State) -> None:
    """RFC 9293 §3.10.7.4, sixth: this should not occur since a FIN has been received."""
    at = reach(state)
    at.s.peer(f"U. {at.rcv}:{at.rcv}(0) ack {at.una} win 1000 urg 5")
    assert bool(at.s.user.ready & URGENT) is (state in CAN_RECEIVE)


# --- sent -------------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(6093, "§4")
@pytest.mark.rfc(9293, "MUST-30")
@pytest.mark.rfc(9293, "MUST-62")
def test_urgent_write_points_behind_its_last_byte() -> None:
    s = Script.established()
    s.user.write(b"hello", urgent=True)
    s.expect("P.U 1:6(5) ack 1 win 65535 urg 5")
    s.write(b"more")
    s.peer(". 1:1(0) ack 6 win 65535")
    s.expect("P. 6:10(4) ack 1 win 65535")


@pytest.mark.rfc(9293, "MUST-31")
@pytest.mark.parametrize("size", [1, 1000, 10 * MSS, 70_000])
def test_urgent_span_each_segment_points_to_its_end(size: int) -> None:
    """As far as 16 bits reach; in bursts too, which the device cuts without minding the pointer."""
    s = Script.established()
    s.user.snd.cc.cwnd = 1 << 20
    assert s.user.write(bytes(size), urgent=True) == size
    s.poll()
    s.peer(f". 1:1(0) ack {min(65535, size) - min(65535, size) % MSS + 1 if size > MSS else 1} win 65535")
    seen = 0
    for seg in s.take():
        if not seg.payload:
            continue
        start = seg.seq - s.user.snd.iss - 1 & 0xFFFF_FFFF
        assert seg.flags & URG
        assert seg.urg == min(size - start, 65535)
        seen = max(seen, start + len(seg.payload))
    assert seen == size


def test_urgent_data_does_not_wait_for_nagle() -> None:
    s = Script.established()
    s.write(b"a")
    s.user.write(b"b", urgent=True)
    s.expect("P. 1:2(1)", "P.U 2:3(1) ack 1 win 65535 urg 1")


@pytest.mark.rfc(9293, "MUST-66")
@pytest.mark.rfc(9293, "MUST-30")
def test_urgent_is_announced_past_a_closed_window() -> None:
    """The probe and every ACK bear the pointer: the peer's user is to read on."""
    s = Script.established(win=0)
    s.user.write(b"hello", urgent=True)
    s.poll()
    s.advance_to_next_deadline()
    s.expect(".U 1:2(1) ack 1 win 65535 urg 5")
    s.peer("P. 1:11(10) ack 1 win 0")
    s.advance(40_000_000)
    s.expect(".U 1:1(0) ack 11 win 65525 urg 5")


def test_urgent_written_before_the_handshake_is_not_on_the_syn() -> None:
    s = Script.opening()
    s.take()
    s.user.write(b"hello", urgent=True)
    s.advance(1_000_000_000)
    (syn,) = s.take()
    assert syn.flags == SYN
    assert syn.urg == 0
    s.peer("S. 0:0(0) ack 1 win 1000 <mss 1460>")
    s.expect("P.U 1:6(5) ack 1 win 65535 urg 5")


def test_urgent_sent_again_points_to_the_same_octet() -> None:
    s = Script.established()
    s.user.write(b"hello", urgent=True)
    s.poll()
    s.take()
    s.user.write(b" world")
    s.advance_to_next_deadline()
    s.expect("P.U 1:12(11) ack 1 win 65535 urg 5")
