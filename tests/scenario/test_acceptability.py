"""Which segments are taken: RFC 9293 §3.10.7.4, first, fourth and fifth; data injection: RFC 5961 §4, §5.

The first check is compared with an oracle written straight from the RFC's table.
"""

import pytest

from tests.support.script import IRS, ISS, PLAIN, Script, with_options
from tests.support.states import SYNCHRONIZED, reach
from usertcp.tcp.state import FAILED, URGENT, State
from usertcp.units import MASK32
from usertcp.wire.tcp import ACK

BUFFER = 20  # bytes: the whole window, small enough to try every number
OUT = 10  # bytes of ours that each segment tried acknowledges


def oracle(nxt: int, wnd: int, seq: int, length: int) -> bool:
    """RFC 9293 §3.10.7.4, first, Table 6."""
    if length == 0 and wnd == 0:
        return seq == nxt
    if length == 0:
        return nxt <= seq < nxt + wnd
    if wnd == 0:
        return False
    return nxt <= seq < nxt + wnd or nxt <= seq + length - 1 < nxt + wnd


def expected(nxt: int, wnd: int, seq: int, size: int, flags: str) -> tuple[bool, bool, int, bool, bool]:
    """What becomes of a segment: (ACK sent, connection reset, RCV.NXT, its ACK taken, in order up to the FIN)."""
    length = size + ("F" in flags) + ("S" in flags)
    acceptable = oracle(nxt, wnd, seq, length) or (seq < nxt and seq + length > nxt + wnd > nxt)  # trimmed at both ends
    if "R" in flags:
        exact = seq == nxt  # also at a zero window (MUST-66)
        return acceptable and not exact, exact, nxt, False, False
    if "S" in flags or "." not in flags:
        # SYN: a challenge (RFC 5961 §4). Neither SYN nor ACK: dropped.
        at_zero = wnd == 0 and seq == nxt  # looked at, so that an ACK could be taken
        return "S" in flags or not (acceptable or at_zero), False, nxt, False, False
    if not acceptable:
        # At a zero window a valid ACK is taken; so is one from just before the next number (RFC 9293 §A.2).
        return True, False, nxt, (wnd == 0 and seq == nxt) or (seq == nxt - 1 and length == 0), False
    start, end = max(seq, nxt), min(seq + size, nxt + wnd)
    after = max(end, nxt) if start == nxt else nxt
    fin = "F" in flags and seq + size < nxt + wnd and after == seq + size
    return length > 0, False, after + fin, True, fin


@pytest.mark.rfc(9293, "X-2")
@pytest.mark.parametrize("flags", [".", "F.", "S", "S.", "R", "R.", "-", "F"])
@pytest.mark.parametrize("size", [0, 1, 2, BUFFER, BUFFER + 4])
@pytest.mark.parametrize("wnd", [0, BUFFER])
def test_every_number_round_the_window_is_judged_as_the_table_says(wnd: int, size: int, flags: str) -> None:
    for offset in range(-BUFFER - 6, BUFFER + 3):
        s = Script.established(with_options(receive_buffer=BUFFER))
        nxt = 1
        if wnd == 0:
            s.peer(f". 1:{1 + BUFFER}({BUFFER}) ack 1 win 1000")
            nxt += BUFFER
        s.write(bytes(OUT))
        s.take()
        s.user.rcv.quick = 16  # text in order is acknowledged at once
        seq = nxt + offset
        ack = f" ack {1 + OUT}" if "." in flags else ""
        s.peer(f"{flags} {seq & MASK32}:{seq + size & MASK32}({size}){ack} win 1000")
        sent = s.take()
        got = (
            bool(sent),
            bool(s.user.ready & FAILED),
            s.user.rcv.nxt - IRS,
            s.user.bytes_acked == OUT,
            s.user.state is State.CLOSE_WAIT,
        )
        assert got == expected(nxt, wnd, seq, size, flags), f"seq NXT{offset:+}"
        assert len(sent) <= 1
        assert all(seg.flags == ACK and seg.ack == s.user.rcv.nxt & MASK32 for seg in sent)


@pytest.mark.rfc(9293, "X-2")
@pytest.mark.parametrize("state", [State.SYN_RECEIVED, *SYNCHRONIZED])
@pytest.mark.parametrize(("offset", "size"), [(-1, 0), (-5, 5), (65535, 0), (70000, 10), (2**30, 1)])
def test_unacceptable_segment_is_answered_with_an_ack_in_each_state(state: State, offset: int, size: int) -> None:
    at = reach(state)
    at.peer(".", at.rcv + offset, size)
    at.s.expect(f". {at.snd}:{at.snd}(0) ack {at.rcv}")
    at.s.expect_state(state)


@pytest.mark.rfc(9293, "X-3")
def test_segment_with_old_and_new_bytes_gives_the_new_ones() -> None:
    s = Script.established()
    s.peer("P. 1:6(5) ack 1 win 1000", payload=b"hello")
    s.peer("P. 3:12(9) ack 1 win 1000", payload=b"??? world")
    assert s.read() == b"hello world"


@pytest.mark.rfc(9293, "X-3")
def test_bytes_past_the_right_edge_are_cut_and_the_fin_with_them() -> None:
    s = Script.established(with_options(receive_buffer=10))
    s.peer("FP. 1:13(12) ack 1 win 1000", payload=b"0123456789ab")
    s.expect(". 1:1(0) ack 11 win 0")
    s.expect_state(State.ESTABLISHED)
    assert s.read() == b"0123456789"
    s.expect(". 1:1(0) ack 11 win 10")
    s.peer("FP. 11:13(2) ack 1 win 1000", payload=b"ab")
    assert s.read() == b"ab"
    s.expect_state(State.CLOSE_WAIT)


@pytest.mark.rfc(9293, "X-3")
def test_fin_just_outside_the_window_is_not_processed() -> None:
    s = Script.established(with_options(receive_buffer=10))
    s.peer("FP. 1:11(10) ack 1 win 1000")
    s.expect(". 1:1(0) ack 11 win 0")
    s.expect_state(State.ESTABLISHED)


@pytest.mark.rfc(9293, "X-1")
def test_window_across_the_wrap_is_one_window() -> None:
    """Unless the numbers are plain ones, IRS stands 128 in front of 2^32."""
    s = Script.established()
    s.peer(". 101:201(100) ack 1 win 1000", ". 1:101(100) ack 1 win 1000")
    s.expect(". 1:1(0) ack 201")
    assert s.user.rcv.nxt & MASK32 == (IRS + 201) & MASK32


# --- fourth: the SYN bit ----------------------------------------------------------------------------------------------


@pytest.mark.rfc(5961, "§4.2")
@pytest.mark.rfc(9293, "X-5")
@pytest.mark.rfc(5961, "§4")
@pytest.mark.parametrize("flags", ["S", "S.", "SF."])
@pytest.mark.parametrize("offset", [0, 1, 100, -1, -2, 70000, 2**30])
@pytest.mark.parametrize("state", [state for state in SYNCHRONIZED if state is not State.TIME_WAIT])
def test_syn_in_a_synchronized_state_is_challenged(state: State, offset: int, flags: str) -> None:
    at = reach(state)
    at.peer(flags, at.rcv + offset)
    at.s.expect(f". {at.snd}:{at.snd}(0) ack {at.rcv}")
    at.s.expect_state(state)
    assert at.s.user.rcv.nxt - IRS == at.rcv


@pytest.mark.rfc(9293, "X-5")
def test_syn_received_other_syn_in_the_window_returns_to_listen() -> None:
    at = reach(State.SYN_RECEIVED)
    at.peer("S", 100)
    at.s.expect_nothing()
    at.s.expect_state(State.CLOSED)  # LISTEN is the listener's
    assert at.s.user.error is None
    assert at.s.host.forgotten == [at.s.user]


def test_simultaneous_open_syn_ack_again_is_acknowledged() -> None:
    """Our SYN,ACK was lost, the peer repeats its own while we are ESTABLISHED."""
    s = Script.opening()
    s.peer("S 0:0(0) win 1000 <mss 1460>", "S. 0:0(0) ack 1 win 1000 <mss 1460>")
    s.take()
    s.expect_state(State.ESTABLISHED)
    s.peer("S. 0:0(0) ack 1 win 1000 <mss 1460>")
    s.expect(". 1:1(0) ack 1")


# --- fifth: the ACK field ---------------------------------------------------------------------------------------------


@pytest.mark.rfc(9293, "X-6")
def test_segment_without_ack_is_dropped_with_its_text() -> None:
    s = Script.established()
    s.peer("P 1:6(5) win 1000")
    s.expect_nothing()
    assert s.user.readable == 0


@pytest.mark.rfc(9293, "X-7")
def test_ack_of_what_was_never_sent_is_answered_and_its_text_dropped() -> None:
    s = Script.established()
    s.write(b"hello")
    s.take()
    s.peer("P. 1:6(5) ack 7 win 500")
    s.expect(". 6:6(0) ack 1")
    assert s.user.readable == 0
    assert s.user.snd.una == ISS + 1
    assert s.user.snd.wnd == 65535
    s.peer("P. 1:6(5) ack 6 win 500")
    assert s.user.readable == 5


@pytest.mark.rfc(9293, "MAY-12")
@pytest.mark.rfc(5961, "§5")
def test_ack_older_than_any_window_is_challenged_and_its_text_dropped() -> None:
    s = Script.established(win=1000)
    for at in (1, 1001):
        s.write(bytes(1000))
        s.peer(f". 1:1(0) ack {at + 1000} win 1000")
    s.take()
    s.peer("P. 1:6(5) ack 1000 win 1000")  # 1001 below SND.UNA, 1 more than MAX.SND.WND
    s.expect(". 2001:2001(0) ack 1")
    assert s.user.readable == 0
    s.peer("P. 1:6(5) ack 1001 win 1000")
    assert s.user.readable == 5


@pytest.mark.rfc(5961, "§5")
@pytest.mark.parametrize("ack", [0, 4294967295, 4294967000])
def test_ack_of_what_was_never_sent_is_challenged_though_the_window_is_large(ack: int) -> None:
    """Of who has sent little there is little to guess, however much the peer would take (as Linux since 6.7)."""
    s = Script.established(win=65535)
    s.write(bytes(100))
    s.peer(". 1:1(0) ack 101 win 65535")
    s.take()
    s.peer(f"P. 1:6(5) ack {ack} win 1000")
    s.expect(". 101:101(0) ack 1")
    assert s.user.readable == 0
    s.peer("P. 1:6(5) ack 1 win 65535")
    assert s.user.readable == 5


@pytest.mark.rfc(9293, "X-7")
def test_old_ack_is_ignored_but_its_text_is_taken() -> None:
    s = Script.established()
    s.write(b"hello")
    s.peer(". 1:1(0) ack 6 win 1000")
    s.peer("P. 1:6(5) ack 3 win 500")
    assert s.user.readable == 5
    assert s.user.snd.una == ISS + 6
    assert s.user.snd.wnd == 1000


@pytest.mark.rfc(9293, "X-7")
def test_duplicate_ack_still_updates_the_window() -> None:
    s = Script.established(with_options(nodelay=True), win=5)
    s.write(b"hello world")
    s.expect(". 1:6(5) ack 1")
    s.peer(". 1:1(0) ack 1 win 20")
    s.expect("P. 6:12(6) ack 1")


@pytest.mark.rfc(9293, "X-8")
def test_window_of_a_reordered_older_ack_is_not_taken() -> None:
    """SND.WL2: the number is the same, the acknowledgment older."""
    s = Script.established(win=1000)
    s.write(bytes(500))
    s.peer(". 1:1(0) ack 401 win 1000")
    s.peer(". 1:1(0) ack 301 win 50")
    assert s.user.snd.wnd == 1000
    s.peer(". 1:1(0) ack 401 win 50")
    assert s.user.snd.wnd == 50


@pytest.mark.rfc(9293, "X-8")
def test_window_of_a_reordered_older_segment_is_not_taken() -> None:
    """SND.WL1: the acknowledgment is the same, the number older."""
    s = Script.established(win=1000)
    s.peer("P. 11:21(10) ack 1 win 2000")
    s.peer("P. 1:11(10) ack 1 win 50")
    assert s.user.snd.wnd == 2000
    s.peer(". 21:21(0) ack 1 win 60")
    assert s.user.snd.wnd == 60


@pytest.mark.rfc(9293, "MUST-1")
@pytest.mark.rfc(9293, "REC-1")
@pytest.mark.parametrize("win", [0x8000, 0xFFFF])
def test_window_is_unsigned(win: int) -> None:
    s = Script.established(win=win, max_burst=1 << 20)
    s.user.snd.cc.cwnd = 1 << 20
    s.write(bytes(1 << 18))
    assert sum(len(seg.payload) for seg in s.take()) >= win - 1460


@pytest.mark.rfc(9293, "REC-1")
def test_window_scaled_to_a_gigabyte_is_used() -> None:
    s = Script.established(with_options(window_scaling=True), options="mss 1460,nop,wscale 14")
    s.peer(". 1:1(0) ack 1 win 65535")
    assert s.user.snd.wnd == 65535 << 14


def test_syn_received_ack_of_simultaneous_open_has_an_unscaled_window() -> None:
    """RFC 7323 §2.2: the window of a segment with SYN is never scaled."""
    s = Script.opening(with_options(window_scaling=True))
    s.peer("S 0:0(0) win 1000 <mss 1460,nop,wscale 7>")
    s.peer("S. 0:0(0) ack 1 win 1000 <mss 1460,nop,wscale 7>")
    s.expect_state(State.ESTABLISHED)
    assert s.user.snd.wnd == 1000


@pytest.mark.rfc(9293, "MUST-66")
def test_zero_window_urgent_pointer_and_ack_are_processed() -> None:
    s = Script.established(with_options(receive_buffer=BUFFER))
    s.peer(f". 1:{1 + BUFFER}({BUFFER}) ack 1 win 1000")
    s.write(bytes(OUT))
    s.take()
    s.peer(f"U. {1 + BUFFER}:{2 + BUFFER}(1) ack {1 + OUT} win 1000 urg 1")
    s.expect(f". {1 + OUT}:{1 + OUT}(0) ack {1 + BUFFER} win 0")
    assert s.user.ready & URGENT
    assert s.user.urgent_mark == BUFFER + 1
    assert s.user.snd.una == ISS + 1 + OUT


def test_options_on_any_segment_are_skipped_or_used() -> None:
    """MUST-5, MUST-65: an MSS outside a SYN says nothing."""
    s = Script.established(PLAIN, options="mss 1000")
    s.peer("FP. 1:6(5) ack 1 win 65535 <mss 100,nop,wscale 3,nop,nop,TS val 1 ecr 0>")
    assert s.user.snd.mss == 1000
    assert s.user.snd.wnd == 65535
    assert s.user.rcv.nxt - IRS == 7
