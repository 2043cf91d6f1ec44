"""The timestamps option: RFC 7323 §3, §4, and PAWS, §5."""

import pytest

from tests.support.script import PEER_TS_BASE, TS_BASE, Script, with_options
from usertcp.tcp.state import State
from usertcp.units import HOUR, MASK32, MS, SEC

TS = with_options(timestamps=True)
DAY = 24 * HOUR


def stamped(tsval: int = 100) -> Script:
    """ESTABLISHED; the peer's clock showed ``tsval`` in its SYN."""
    return Script.established(TS, options=f"mss 1460,sackOK,TS val {tsval} ecr 0")


def data(s: Script, seq: int, tsval: int, size: int = 10) -> None:
    s.peer(f"P. {seq}:{seq + size}({size}) ack 1 win 1000 <nop,nop,TS val {tsval & MASK32} ecr 0>")


def recent(s: Script) -> int:
    return s.user.rcv.ts_recent - PEER_TS_BASE & MASK32


# --- agreeing ---------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(7323, "§3.2")
@pytest.mark.parametrize(("ours", "theirs"), [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("passive", [False, True])
def test_used_if_both_syns_have_them(ours: bool, theirs: bool, passive: bool) -> None:
    options = "mss 1460,sackOK,TS val 0 ecr 0" if theirs else "mss 1460"
    s = Script.established(with_options(timestamps=ours), options=options, passive=passive)
    s.write(b"x")
    (seg,) = s.take()
    assert seg.options.has_ts is (ours and theirs)


@pytest.mark.rfc(7323, "§3.2")
def test_syn_ack_echoes_the_syn() -> None:
    s = Script.listening("S 0:0(0) win 1000 <mss 1460,sackOK,TS val 77 ecr 0>", TS)
    s.expect("S. 0:0(0) ack 1 win 65535 <mss 1460,nop,nop,TS val 0 ecr 77>")


@pytest.mark.rfc(7323, "§3.2")
def test_every_segment_bears_our_clock_and_the_newest_of_theirs() -> None:
    s = stamped(100)
    s.advance(25 * MS)
    s.write(b"x")
    s.expect("P. 1:2(1) ack 1 win 65535 <nop,nop,TS val 25 ecr 100>")
    data(s, 1, 130)
    s.advance(40 * MS)
    s.expect(". 2:2(0) ack 11 win 65525 <nop,nop,TS val 65 ecr 130>")


@pytest.mark.rfc(7323, "§3.2")
def test_reset_bears_them_too() -> None:
    s = stamped(100)
    s.advance(25 * MS)
    s.user.abort()
    s.expect("R. 1:1(0) ack 1 <nop,nop,TS val 25 ecr 100>")


@pytest.mark.rfc(7323, "§3.2")
def test_reset_without_an_ack_echoes_nothing() -> None:
    s = stamped(100)
    s.user.close()
    s.poll()
    s.take()
    s.peer("P. 1:11(10) ack 2 win 1000 <nop,nop,TS val 130 ecr 0>")
    s.expect_state(State.CLOSED)
    (seg,) = s.take()
    assert s.render(seg).startswith("R 2:2(0)")
    assert (seg.options.has_ts, seg.options.tsecr) == (True, 0)


@pytest.mark.rfc(7323, "§3.2")
def test_reset_where_they_were_not_agreed_on_bears_none() -> None:
    s = Script.established(TS, options="mss 1460")
    s.user.abort()
    s.poll()
    (seg,) = s.take()
    assert not seg.options.has_ts


@pytest.mark.rfc(7323, "§3.2")
def test_segment_without_them_is_dropped_silently() -> None:
    s = stamped()
    s.peer("P. 1:11(10) ack 1 win 1000")
    s.expect_nothing()
    assert s.user.readable == 0
    data(s, 1, 100)
    assert s.user.readable == 10


@pytest.mark.rfc(7323, "§3.2")
def test_reset_without_them_is_believed() -> None:
    s = stamped()
    s.peer("R 1:1(0)")
    s.expect_state(State.CLOSED)


@pytest.mark.rfc(7323, "§3.2")
def test_unasked_for_they_are_ignored() -> None:
    s = Script.established(options="mss 1460")
    data(s, 1, 100)
    data(s, 11, 1)
    assert s.user.readable == 20


# --- TS.Recent --------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(7323, "§4.3")
def test_recent_is_renewed_by_a_segment_that_reaches_back_to_the_last_ack() -> None:
    s = stamped(100)
    data(s, 1, 110)
    assert recent(s) == 110


@pytest.mark.rfc(7323, "§4.3")
def test_delayed_ack_echoes_the_earliest_segment_it_covers() -> None:
    """RFC 7323 §4.3 (A): so that the peer measures the delay too."""
    s = stamped(100)
    data(s, 1, 110)
    data(s, 11, 120)
    assert recent(s) == 110
    s.advance(40 * MS)
    s.expect(". 1:1(0) ack 21 win 65515 <nop,nop,TS val 40 ecr 110>")
    data(s, 21, 130)
    assert recent(s) == 130


@pytest.mark.rfc(7323, "§4.3")
def test_hole_echoes_the_segment_before_it_and_then_the_one_that_fills_it() -> None:
    """RFC 7323 §4.3 (B), (C)."""
    s = stamped(100)
    data(s, 1, 110)
    s.advance(40 * MS)
    s.take()
    data(s, 21, 120)
    assert recent(s) == 110
    s.expect(". 1:1(0) ack 11 win 65525 <nop,nop,TS val 40 ecr 110>")
    data(s, 11, 130)
    s.expect(". 1:1(0) ack 31 win 65505 <nop,nop,TS val 40 ecr 130>")


@pytest.mark.rfc(7323, "§5.3")
@pytest.mark.rfc(5961, "§5")
@pytest.mark.parametrize("forged", ["P. {} ack 100000000", "P. {} ack 4294867296", "P {}", "S {}", "SP. {} ack 1"])
def test_recent_is_not_renewed_by_who_does_not_know_what_was_sent(forged: str) -> None:
    """A number in front of RCV.NXT and a new timestamp are soon guessed, with text that reaches back a segment."""
    s = stamped(100)
    data(s, 1, 101, size=1000)
    s.advance(40 * MS)
    s.take()
    head, _, ack = forged.partition(" {}")
    s.peer(f"{head} 500:1500(1000){ack} win 1000 <nop,nop,TS val {1 << 30} ecr 0>")
    assert recent(s) == 101
    data(s, 1001, 141)
    assert s.user.readable == 1010


# --- PAWS -------------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(7323, "§5.3")
def test_older_segment_is_acknowledged_and_dropped() -> None:
    s = stamped(100)
    data(s, 1, 99)
    s.expect(". 1:1(0) ack 1 win 65535 <nop,nop,TS val 0 ecr 100>")
    assert s.user.readable == 0
    assert recent(s) == 100


@pytest.mark.rfc(7323, "§5.3")
def test_older_syn_or_fin_or_ack_changes_nothing() -> None:
    s = stamped(100)
    s.write(b"x")
    s.take()
    for flags, ack in ((".", 2), ("F.", 1), ("S.", 1)):
        s.peer(f"{flags} 1:1(0) ack {ack} win 7 <nop,nop,TS val 99 ecr 0>")
        s.expect(". 2:2(0) ack 1")
    assert s.user.snd.outstanding == 1
    assert s.user.snd.wnd == 65535
    s.expect_state(State.ESTABLISHED)


@pytest.mark.rfc(7323, "§5.2")
def test_older_reset_is_believed() -> None:
    s = stamped(100)
    s.peer("R 1:1(0) <nop,nop,TS val 1 ecr 0>")
    s.expect_state(State.CLOSED)


@pytest.mark.rfc(7323, "§5.2")
def test_nothing_is_learned_from_a_resets_timestamps() -> None:
    s = stamped(100)
    s.peer("R 500:500(0) <nop,nop,TS val 5000 ecr 0>")
    assert recent(s) == 100
    s.expect(". 1:1(0) ack 1 win 65535 <nop,nop,TS val 0 ecr 100>")


@pytest.mark.rfc(7323, "§5.2")
@pytest.mark.rfc(9293, "X-1")
@pytest.mark.parametrize(
    ("tsval", "taken"), [(0x7FFF_FFFF + 100, True), (0x8000_0000 + 100, False), (100 - 1, False), (100, True)]
)
def test_newer_means_less_than_half_the_circle_ahead(tsval: int, taken: bool) -> None:
    s = stamped(100)
    data(s, 1, tsval)
    assert bool(s.user.readable) is taken


@pytest.mark.rfc(9293, "X-1")
def test_clocks_cross_the_wrap() -> None:
    """Unless the numbers are plain ones, theirs starts 32 ticks in front of 2^32, ours 16."""
    s = stamped(0)
    for i in range(10):
        s.advance(10 * MS)
        data(s, 1 + 10 * i, 10 * i)
    assert s.user.readable == 100
    assert s.user.rcv.ts_recent == (PEER_TS_BASE + 80) & MASK32
    assert s.user.ts_now(s.now) == (TS_BASE + 100) & MASK32


@pytest.mark.rfc(7323, "§5.5")
def test_after_24_idle_days_the_memory_is_worthless_and_is_renewed() -> None:
    s = stamped(100)
    data(s, 1, 110)
    s.advance(25 * DAY)
    s.take()
    data(s, 11, 50)  # the clock went more than half round meanwhile
    assert s.user.readable == 20
    assert recent(s) == 50
    s.advance(40 * MS)
    s.take()
    data(s, 21, 49)
    assert s.user.readable == 20


@pytest.mark.rfc(7323, "§5.5")
def test_before_24_idle_days_the_memory_holds() -> None:
    s = stamped(100)
    data(s, 1, 110)
    s.advance(23 * DAY)
    data(s, 11, 50)
    assert s.user.readable == 10


def test_timestamps_take_their_room_from_the_text() -> None:
    """MUST-16: the effective MSS counts the options."""
    s = stamped()
    s.write(bytes(5000))
    assert [len(seg.payload) for seg in s.take()] == [1448, 1448, 1448, 656]


@pytest.mark.rfc(7323, "§5.4")
def test_retransmission_bears_the_time_of_its_own_sending() -> None:
    s = stamped()
    s.write(b"x")
    s.take()
    s.advance(1 * SEC)
    stamps = [seg.options.tsval - TS_BASE & MASK32 for seg in s.take()]
    assert stamps == [200, 600]
