"""What we report of data behind a gap: RFC 2018, in the receiver's part. Of duplicates: ``test_dsack``."""

import pytest

from tests.support.script import IRS, Script, with_options
from usertcp.units import MASK32

SACK = with_options(sack=True, dsack=False)
SACK_TS = with_options(sack=True, dsack=False, timestamps=True)
OFFERED = "mss 1460,nop,nop,sackOK"


def sacking() -> Script:
    return Script.established(SACK, options=OFFERED)


def blocks(s: Script) -> list[tuple[int, int]]:
    """The blocks of the one ACK sent, relative."""
    (seg,) = s.take()
    return [(left - IRS & MASK32, right - IRS & MASK32) for left, right in seg.options.sack]


def piece(s: Script, start: int, end: int) -> list[tuple[int, int]]:
    s.peer(f"P. {start}:{end}({end - start}) ack 1 win 65535{s.echo()}")
    return blocks(s)


@pytest.mark.rfc(2018, "§2")
@pytest.mark.parametrize(("ours", "theirs"), [(True, False), (False, True), (False, False)])
def test_without_both_ends_consent_there_are_no_blocks(ours: bool, theirs: bool) -> None:
    s = Script.established(with_options(sack=ours), options=OFFERED if theirs else "mss 1460")
    assert piece(s, 11, 21) == []


@pytest.mark.rfc(2018, "§2")
@pytest.mark.parametrize("passive", [False, True])
def test_consent_is_on_the_syn_alone(passive: bool) -> None:
    s = Script.established(SACK, options="mss 1460,sackOK", passive=passive)
    s.write(bytes(5000))
    s.peer(". 1001:1101(100) ack 1461 win 65535")
    s.user.shutdown_write()
    s.poll()
    s.user.abort()
    sent = s.take()
    assert len(sent) > 5
    assert not any(seg.options.sack_permitted for seg in sent)


@pytest.mark.rfc(2018, "§4")
def test_block_with_the_segment_that_just_came_is_first() -> None:
    s = sacking()
    assert piece(s, 11, 21) == [(11, 21)]
    assert piece(s, 31, 41) == [(31, 41), (11, 21)]
    assert piece(s, 51, 61) == [(51, 61), (31, 41), (11, 21)]
    assert piece(s, 15, 21) == [(11, 21), (51, 61), (31, 41)]  # again: its block, whole


@pytest.mark.rfc(2018, "§4")
def test_blocks_that_touch_are_one() -> None:
    s = sacking()
    piece(s, 11, 21)
    assert piece(s, 31, 41) == [(31, 41), (11, 21)]
    assert piece(s, 21, 31) == [(11, 41)]
    assert piece(s, 35, 50) == [(11, 50)]


@pytest.mark.rfc(2018, "§3")
def test_four_blocks_fit_without_timestamps() -> None:
    s = sacking()
    for start in (11, 31, 51, 71):
        piece(s, start, start + 10)
    assert piece(s, 91, 101) == [(91, 101), (71, 81), (51, 61), (31, 41)]


@pytest.mark.rfc(2018, "§3")
def test_three_blocks_fit_beside_timestamps() -> None:
    s = Script.established(SACK_TS, options="mss 1460,sackOK,TS val 0 ecr 0")
    for start in (11, 31, 51):
        piece(s, start, start + 10)
    s.peer(f"P. 71:81(10) ack 1 win 1000{s.echo()}")
    s.expect(". 1:1(0) ack 1 win 65535 <nop,nop,TS val 0 ecr 0,nop,nop,sack 71:81 51:61 31:41>")


@pytest.mark.rfc(2018, "§4")
def test_each_block_is_reported_at_least_as_often_as_there_is_room() -> None:
    """RFC 2018 §4 (c): repeat the most recently reported blocks, so that a lost ACK costs nothing."""
    s = sacking()
    for start in (11, 31, 51, 71, 91, 111):
        piece(s, start, start + 10)
    assert piece(s, 91, 101) == [(91, 101), (111, 121), (71, 81), (51, 61)]


def test_blocks_cross_the_wrap() -> None:
    """IRS stands 128 in front of 2^32."""
    s = sacking()
    s.peer("P. 101:201(100) ack 1 win 1000")
    (seg,) = s.take()
    ((left, right),) = seg.options.sack
    assert (left, right) == ((IRS + 101) & MASK32, (IRS + 201) & MASK32)
    assert right < left


@pytest.mark.rfc(2018, "§4")
def test_blocks_go_when_the_gap_fills() -> None:
    s = sacking()
    piece(s, 11, 21)
    piece(s, 31, 41)
    assert piece(s, 1, 11) == [(31, 41)]
    s.peer("P. 21:31(10) ack 1 win 1000")
    s.expect(". 1:1(0) ack 41 win 65495")
    assert not s.user.options(s.now)


@pytest.mark.rfc(2018, "§4")
def test_blocks_ride_on_data_too() -> None:
    s = sacking()
    piece(s, 11, 21)
    s.write(bytes(3000))
    sent = s.take()
    assert all(seg.options.sack for seg in sent)
    assert [len(seg.payload) for seg in sent] == [1460 - 12, 1460 - 12, 3000 - 2 * (1460 - 12)]  # MUST-16


@pytest.mark.rfc(2018, "§8")
def test_what_was_reported_is_never_given_up() -> None:
    """We never renege: neither for want of room nor when the buffer's limit is lowered."""
    s = Script.established(with_options(sack=True, receive_buffer=100), options=OFFERED)
    s.peer("P. 51:101(50) ack 1 win 1000", payload=b"b" * 50)
    assert blocks(s) == [(51, 101)]
    s.user.configure(receive_buffer=10)
    s.advance(10**12)
    s.peer(". 1:51(50) ack 1 win 1000", payload=b"a" * 50)
    s.expect(". 1:1(0) ack 101 win 0")
    assert s.read() == b"a" * 50 + b"b" * 50


def test_text_out_of_order_past_the_right_edge_is_cut_from_the_report() -> None:
    s = Script.established(with_options(sack=True, receive_buffer=100), options=OFFERED)
    assert piece(s, 91, 120) == [(91, 101)]


def test_fin_out_of_order_is_in_no_block() -> None:
    s = sacking()
    s.peer("FP. 11:21(10) ack 1 win 1000")
    assert blocks(s) == [(11, 21)]
    s.peer(". 1:11(10) ack 1 win 1000")
    s.expect(". 1:1(0) ack 22")
