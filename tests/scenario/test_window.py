"""The windows, ours and the peer's: RFC 9293 §3.8.6; scaling: RFC 7323 §2."""

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.script import IRS, ISS, PLAIN, Script, with_options
from usertcp.tcp import timers as timer
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.memory import Memory
from usertcp.tcp.recovery import OPEN
from usertcp.tcp.state import State
from usertcp.tcp.timeouts import SWS_OVERRIDE_DELAY
from usertcp.units import HOUR, MASK32, MS, NEVER, SEC

MSS = 1460


def closed(config: TcpConfig = PLAIN, data: int = 5000, *, quick: bool = False) -> Script:
    """ESTABLISHED with 200 ms of RTO, ``data`` bytes waiting before a closed window."""
    s = Script.established(config, win=0, quick=quick)
    s.write(bytes(data))
    s.expect_nothing()
    return s


# --- probing a closed window ------------------------------------------------------------------------------------------


@pytest.mark.rfc(9293, "MUST-36")
@pytest.mark.rfc(9293, "SHLD-29")
@pytest.mark.rfc(9293, "SHLD-30")
def test_zero_window_is_probed_after_one_rto_and_then_ever_more_rarely() -> None:
    s = closed()
    rto = s.user.snd.rtt.rto
    assert rto == pytest.approx(200 * MS, abs=10)
    gaps = []
    for _ in range(14):
        gaps.append(s.advance_to_next_deadline())
        s.expect(". 1:2(1) ack 1")
        s.peer(". 1:1(0) ack 1 win 0")
    assert gaps == [min(rto << i, PLAIN.max_rto) for i in range(14)]


@pytest.mark.rfc(9293, "MUST-36")
@pytest.mark.parametrize("data", [1, 2, 5000])
@pytest.mark.parametrize("fin", [False, True])
def test_lost_window_update_is_found_by_a_probe(data: int, fin: bool) -> None:
    """However little waits: all of it may be in the probe."""
    s = closed(data=data)
    if fin:
        s.user.shutdown_write()
    for _ in range(5):
        s.advance_to_next_deadline()
        s.expect(". 1:2(1) ack 1")
        s.peer(". 1:1(0) ack 1 win 0")
    s.advance_to_next_deadline()
    s.take()
    s.peer(". 1:1(0) ack 2 win 60000")
    assert sum(len(seg.payload) for seg in s.take()) == data - 1
    s.peer(f". 1:1(0) ack {1 + data + fin} win 60000")
    assert s.user.snd.outstanding == 0
    assert s.user.snd.fin_acked is fin


@pytest.mark.rfc(9293, "MUST-36")
def test_fin_before_a_closed_window_is_its_own_probe() -> None:
    s = Script.established(win=0)
    s.user.shutdown_write()
    s.expect_nothing()
    for _ in range(5):
        s.advance_to_next_deadline()
        s.expect("F. 1:1(0) ack 1")
        s.peer(". 1:1(0) ack 1 win 0")
    s.peer(". 1:1(0) ack 1 win 1000")
    s.expect("F. 1:1(0) ack 1")
    s.peer(". 1:1(0) ack 2 win 1000")
    s.expect_state(State.FIN_WAIT_2)


def test_window_opened_by_a_bare_ack_ends_probing_and_sends_at_once() -> None:
    s = closed(data=5000)
    s.advance_to_next_deadline()
    s.take()
    s.peer(". 1:1(0) ack 1 win 60000")
    s.expect(". 1:1461(1460)", ". 1461:2921(1460)", ". 2921:4381(1460)", "P. 4381:5001(620)")
    assert not s.user.timers.is_set(timer.PERSIST)
    assert s.user.timers.is_set(timer.RETRANSMIT)
    s.peer(". 1:1(0) ack 5001 win 60000")
    assert s.user.next_deadline() == NEVER


@pytest.mark.rfc(9293, "MUST-37")
def test_peer_that_answers_probes_for_24_hours_keeps_the_connection() -> None:
    s = closed(data=1)
    end = s.now + 24 * HOUR
    probes = 0
    while s.now < end:
        s.advance_to_next_deadline()
        for _ in s.take():
            probes += 1
            s.peer(". 1:1(0) ack 1 win 0")
    assert probes > 24 * HOUR // PLAIN.max_rto - 10
    s.expect_state(State.ESTABLISHED)
    s.peer(". 1:1(0) ack 1 win 1000")
    s.expect("P. 1:2(1)")


def test_answers_to_probes_are_no_duplicates_that_mean_loss() -> None:
    """They look like duplicate ACKs (RFC 5681 §2), but nothing was lost: the peer had said it would not take it."""
    s = closed()
    cwnd = s.user.snd.cc.cwnd
    for _ in range(20):
        s.advance_to_next_deadline()
        s.peer(". 1:1(0) ack 1 win 0")
    assert s.user.snd.cc.cwnd == cwnd
    assert s.user.snd.phase == OPEN
    s.peer(". 1:1(0) ack 1 win 60000")
    assert sum(len(seg.payload) for seg in s.take() if len(seg.payload) > 1) == 5000


def test_peer_that_falls_silent_at_a_closed_window_is_given_up_at_r2() -> None:
    """RFC 9293 §3.8.6.1 keeps the connection for a peer that answers, no other."""
    s = closed()
    start = s.now
    s.advance(3 * HOUR)
    s.expect_state(State.CLOSED)
    assert s.user.error is not None
    assert s.user.error.errno == errno.ETIMEDOUT
    assert len([seg for seg in s.sent if len(seg.payload) == 1]) == PLAIN.r2 + 1
    assert s.sent_at[-1] - start > 100 * SEC


def test_our_acks_are_acceptable_to_the_peer_while_a_probe_is_out() -> None:
    """Both windows are closed and both ends probe: an ACK numbered after the probe would be dropped, for ever."""
    s = closed()
    s.advance_to_next_deadline()
    s.expect(". 1:2(1)")
    s.peer("P. 1:11(10) ack 1 win 0")
    s.advance(PLAIN.delayed_ack)
    s.expect(". 1:1(0) ack 11")


@pytest.mark.rfc(9293, "§A.2")
def test_probes_that_cross_and_are_both_taken_are_both_acknowledged() -> None:
    """Neither end knows that its probe was taken, so each numbers its ACK before it: who drops such, never learns."""
    s = closed(with_options(receive_buffer=1000, nodelay=True), quick=True)
    s.peer(". 1:1001(1000) ack 1 win 0")
    s.expect(". 1:1(0) ack 1001 win 0")
    s.advance_to_next_deadline()
    s.expect(". 1:2(1) ack 1001")
    s.read()
    s.expect(". 1:1(0) ack 1001 win 1000")
    s.peer(". 1001:1002(1) ack 1 win 0")  # its probe
    s.expect(". 1:1(0) ack 1002 win 999")
    s.peer(". 1001:1001(0) ack 2 win 500")  # it took ours
    sent = [s.render(seg) for seg in s.take()]
    assert sent[0].startswith(". 2:502(500) ack 1002")
    assert s.user.snd.una == ISS + 2


def test_probe_refused_by_the_sink_leaves_later() -> None:
    s = closed()
    s.sink_full = True
    s.advance(10 * SEC)
    assert s.poll()
    s.sink_full = False
    s.expect(". 1:2(1) ack 1")


def test_data_that_crosses_the_closing_of_the_window_goes_again_after_it_opened() -> None:
    """The peer closes its window in front of what is in flight."""
    s = Script.established(win=3000)
    s.write(bytes(3000))
    s.take()
    s.peer(". 1:1(0) ack 1 win 0")
    s.advance_to_next_deadline()
    s.expect(". 1:2(1)")
    s.peer(". 1:1(0) ack 1 win 3000")
    s.expect(". 1:1461(1460)", ". 1461:2921(1460)", "P. 2921:3001(80)")


@pytest.mark.rfc(9293, "MUST-37")
def test_user_timeout_holds_at_a_closed_window_too() -> None:
    """The user has asked for it, as with TCP_USER_TIMEOUT; without one a peer that answers may take for ever."""
    s = closed(with_options(user_timeout=5 * SEC))
    start = s.now
    while s.state is State.ESTABLISHED and s.now < start + HOUR:
        s.advance_to_next_deadline()
        if s.state is State.ESTABLISHED:
            s.peer(". 1:1(0) ack 1 win 0")
    assert 5 * SEC <= s.now - start <= 6 * SEC
    assert s.user.error is not None
    assert s.user.error.errno == errno.ETIMEDOUT


# --- a window that shrinks --------------------------------------------------------------------------------------------


@pytest.mark.rfc(7323, "§2.4")
@pytest.mark.rfc(9293, "MUST-34")
@pytest.mark.rfc(9293, "SHLD-15")
def test_shrunk_window_nothing_new_is_sent_past_its_edge() -> None:
    s = Script.established(win=4 * MSS)
    s.write(bytes(10 * MSS))
    assert len(s.take()) == 4
    s.peer(f". 1:1(0) ack {1 + MSS} win {MSS}")  # the edge was at 5841, now it is at 2921: SND.NXT is outside
    s.expect_nothing()
    s.peer(f". 1:1(0) ack {1 + 3 * MSS} win {MSS}")  # it took them nevertheless
    s.expect_nothing()
    s.peer(f". 1:1(0) ack {1 + 3 * MSS} win {3 * MSS}")
    s.expect(f". {1 + 4 * MSS}:{1 + 5 * MSS}({MSS})", f". {1 + 5 * MSS}:{1 + 6 * MSS}({MSS})")


@pytest.mark.rfc(7323, "§2.4 (4)")
@pytest.mark.rfc(9293, "SHLD-16")
@pytest.mark.rfc(9293, "MAY-7")
def test_shrunk_window_old_data_inside_is_sent_again_and_none_outside() -> None:
    s = Script.established(win=4 * MSS)
    s.write(bytes(4 * MSS))
    s.take()
    s.peer(f". 1:1(0) ack 1 win {2 * MSS}")
    s.advance_to_next_deadline()
    s.expect(f". 1:{1 + MSS}({MSS})")
    s.peer(f". 1:1(0) ack {1 + MSS} win {MSS}")
    s.expect(f". {1 + MSS}:{1 + 2 * MSS}({MSS})")
    s.peer(f". 1:1(0) ack {1 + 2 * MSS} win 0")
    s.expect_nothing()
    s.advance_to_next_deadline()
    s.expect(f". {1 + 2 * MSS}:{2 + 2 * MSS}(1)")
    s.peer(f". 1:1(0) ack {1 + 2 * MSS} win {4 * MSS}")
    assert sum(len(seg.payload) for seg in s.take()) == 2 * MSS


@pytest.mark.rfc(9293, "MUST-35")
@pytest.mark.rfc(9293, "SHLD-17")
def test_window_shrunk_to_nothing_is_probed_for_hours() -> None:
    s = Script.established(win=4 * MSS)
    s.write(bytes(4 * MSS))
    s.take()
    s.peer(". 1:1(0) ack 1 win 0")
    for _ in range(100):
        s.advance_to_next_deadline()
        s.expect(". 1:2(1)")
        s.peer(". 1:1(0) ack 1 win 0")
    s.expect_state(State.ESTABLISHED)
    s.peer(f". 1:1(0) ack 1 win {4 * MSS}")
    assert sum(len(seg.payload) for seg in s.take()) == 4 * MSS


# --- sending: no silly segments ---------------------------------------------------------------------------------------


@pytest.mark.rfc(9293, "MUST-38")
def test_window_that_opens_byte_by_byte_gets_no_silly_segments() -> None:
    s = Script.established(win=2 * MSS)
    s.write(bytes(20 * MSS))
    s.take()
    s.peer(f". 1:1(0) ack {1 + 2 * MSS} win 1")
    for win in range(2, MSS, 50):
        s.peer(f". 1:1(0) ack {1 + 2 * MSS} win {win}")
        s.expect_nothing()
    s.peer(f". 1:1(0) ack {1 + 2 * MSS} win {MSS}")
    s.expect(f". {1 + 2 * MSS}:{1 + 3 * MSS}({MSS})")


@pytest.mark.rfc(9293, "MUST-38")
def test_silly_window_is_used_after_the_override_time() -> None:
    """RFC 9293 §3.8.6.2.1, (4): 0.1 to 1 second."""
    assert 100 * MS <= SWS_OVERRIDE_DELAY <= 1 * SEC
    s = Script.established(win=2 * MSS)
    s.write(bytes(20 * MSS))
    s.take()
    s.peer(f". 1:1(0) ack {1 + 2 * MSS} win 100")
    s.advance(SWS_OVERRIDE_DELAY - 1)
    s.expect_nothing()
    s.advance(1)
    s.expect(f". {1 + 2 * MSS}:{101 + 2 * MSS}(100)")
    s.peer(f". 1:1(0) ack {101 + 2 * MSS} win 60")
    s.expect_nothing()
    s.advance(SWS_OVERRIDE_DELAY)
    s.expect(f". {101 + 2 * MSS}:{161 + 2 * MSS}(60)")


@pytest.mark.rfc(9293, "MUST-38")
def test_half_of_the_largest_window_is_enough() -> None:
    """RFC 9293 §3.8.6.2.1, (3): a peer with a buffer smaller than a segment."""
    s = Script.established(win=1000)
    s.write(bytes(3000))
    s.expect(". 1:1001(1000)")
    s.peer(". 1:1(0) ack 1001 win 499")
    s.expect_nothing()
    s.peer(". 1:1(0) ack 1001 win 500")
    s.expect(". 1001:1501(500)")


def test_small_rest_that_fits_goes_at_once() -> None:
    """RFC 9293 §3.8.6.2.1, (2): all that is queued, and nothing is outstanding."""
    s = Script.established(win=2 * MSS)
    s.write(bytes(2 * MSS))
    s.take()
    s.peer(f". 1:1(0) ack {1 + 2 * MSS} win 100")
    s.write(bytes(100))
    s.expect(f"P. {1 + 2 * MSS}:{101 + 2 * MSS}(100)")


# --- receiving: our window --------------------------------------------------------------------------------------------


def offer(size: int, *, scaled: bool = False, most: int = 0, memory: Memory | None = None) -> Script:
    config = with_options(receive_buffer=size, receive_buffer_max=most, window_scaling=scaled)
    s = Script.established(config, options="mss 1460,nop,wscale 7", quick=True, memory=memory)
    s.user.rcv.mss = MSS
    return s


def fill(s: Script) -> int:
    """The peer sends all it may; the number after that."""
    seq = s.user.rcv.nxt - IRS
    while s.user.rcv.edge > s.user.rcv.nxt:
        size = min(MSS, s.user.rcv.edge - s.user.rcv.nxt)
        s.peer(f". {seq & MASK32}:{seq + size & MASK32}({size}) ack 1 win 1000")
        seq += size
        s.advance(PLAIN.delayed_ack)
    return seq


@pytest.mark.rfc(9293, "MUST-39")
@pytest.mark.rfc(9293, "X-18")
@pytest.mark.parametrize(("size", "scaled"), [(1000, False), (65535, False), (1 << 20, False), (1 << 20, True)])
def test_full_buffer_drained_is_announced_at_once(size: int, scaled: bool) -> None:
    s = offer(size, scaled=scaled)
    seq = fill(s)
    assert s.take()[-1].wnd == 0
    assert len(s.user.read(2 << 20)) == seq - 1
    s.poll()
    (update,) = s.take()
    assert update.ack == (IRS + seq) & MASK32
    assert update.wnd << s.user.rcv.shift == (size if scaled else min(size, 65535))


@pytest.mark.rfc(9293, "MUST-39")
@pytest.mark.parametrize(("size", "step"), [(1000, 500), (65535, MSS)])
def test_full_buffer_read_by_the_byte_opens_by_a_segment_or_half(size: int, step: int) -> None:
    s = offer(size)
    seq = fill(s)
    s.take()
    for _ in range(step - 1):
        s.user.read(1)
    s.expect_nothing()
    s.peer(f". {seq}:{seq + 1}(1) ack 1 win 1000")  # a probe
    s.expect(f". 1:1(0) ack {seq} win 0")
    s.user.read(1)
    s.expect(f". 1:1(0) ack {seq} win {step}")


@pytest.mark.rfc(9293, "X-18")
def test_full_buffer_drained_with_an_ack_pending_is_announced_at_once() -> None:
    """The delayed ACK of the last segment must not hold the news back."""
    s = offer(2 * MSS)
    s.user.rcv.quick = 0
    s.peer(f". 1:{1 + MSS}({MSS}) ack 1 win 1000")
    s.advance(PLAIN.delayed_ack)
    s.take()
    s.peer(f". {1 + MSS}:{1 + 2 * MSS}({MSS}) ack 1 win 1000")
    s.expect_nothing()
    s.read()
    s.expect(f". 1:1(0) ack {1 + 2 * MSS} win {2 * MSS}")


@pytest.mark.rfc(9293, "MUST-39")
def test_window_that_is_left_is_small_beside_what_was_freed() -> None:
    """A peer that waits for room for a full segment, while we have seen none of its full segments yet."""
    s = Script.established(with_options(receive_buffer=20000), quick=True)
    seq = 1
    while s.user.rcv.edge - s.user.rcv.nxt > 1000:
        s.peer(f". {seq}:{seq + 500}(500) ack 1 win 1000")
        seq += 500
    s.take()
    s.user.rcv.quick = 0
    s.user.read(5000)
    s.expect(f". 1:1(0) ack {seq} win 6000")


def test_window_is_not_announced_while_there_is_enough() -> None:
    """No update for each read: the ACKs carry the window."""
    s = Script.established(with_options(receive_buffer=65535))
    seq = 1
    for _ in range(100):
        s.peer(f". {seq}:{seq + MSS}({MSS}) ack 1 win 1000")
        seq += MSS
        s.read()
        s.poll()
    assert len(s.take()) == 50


@pytest.mark.rfc(9293, "MAY-8")
def test_window_kept_closed_for_a_day_each_probe_is_answered() -> None:
    s = offer(1000)
    seq = fill(s)
    s.take()
    for _ in range(1440):
        s.advance(60 * SEC)
        s.peer(f". {seq}:{seq + 1}(1) ack 1 win 1000")
        s.expect(f". 1:1(0) ack {seq} win 0")
    s.expect_state(State.ESTABLISHED)


@pytest.mark.rfc(9293, "SHLD-14")
@pytest.mark.parametrize("smaller", [1, 1000, 10_000])
def test_receive_buffer_lowered_does_not_shrink_the_window(smaller: int) -> None:
    s = offer(65535)
    s.peer(f". 1:{1 + MSS}({MSS}) ack 1 win 1000")
    s.user.configure(receive_buffer=smaller)
    edge = s.user.rcv.edge
    seq = fill(s)
    assert seq + IRS == edge
    edges = [seg.ack - IRS + seg.wnd & MASK32 for seg in s.take()]
    assert edges == sorted(edges)


@pytest.mark.rfc(7323, "§2.4")
@settings(max_examples=150)
@given(
    scaled=st.booleans(),
    buffer=st.sampled_from([1, 100, 5000, 65535, 300_000, 1 << 20]),
    most=st.sampled_from([0, 0, 200_000, 32 << 20]),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["send", "send", "send", "read", "read", "tick", "resize", "skip", "press", "ease"]),
            st.integers(1, 1 << 18),
        ),
        max_size=60,
    ),
)
@pytest.mark.rfc(9293, "SHLD-14")
def test_right_edge_never_moves_left(scaled: bool, buffer: int, most: int, steps: list[tuple[str, int]]) -> None:
    """As the peer reads it off the wire. Scaled, it may seem to by less than the scale's unit (RFC 7323 §2.4)."""
    memory = Memory(16 << 20)
    pressure = 0
    s = offer(buffer, scaled=scaled, most=most, memory=memory)
    unit = 1 << s.user.rcv.shift
    edge = s.user.rcv.edge - IRS
    skipped = 0
    for what, amount in steps:
        rcv = s.user.rcv
        nxt = rcv.nxt - IRS
        if what in ("send", "skip"):
            gap = 0 if what == "send" else amount % 3000
            size = min(amount % 20000 + 1, edge - nxt - gap, 60000)
            if size > 0:
                start, end = nxt + gap & MASK32, nxt + gap + size & MASK32
                s.peer(f". {start}:{end}({size}) ack 1 win 1000")
                skipped += gap > 0
        elif what == "read" and s.user.readable:
            s.user.read(amount)
        elif what == "tick":
            s.advance(PLAIN.delayed_ack)
        elif what == "resize":
            s.user.configure(receive_buffer=amount)
        elif what == "press" and memory.charge(0, amount * 60):
            pressure += amount * 60
        elif what == "ease":
            memory.credit(pressure)
            pressure = 0
        s.poll()
        for seg in s.take():
            told = (s.user.rcv.absolute(seg.ack) - IRS) + (seg.wnd << s.user.rcv.shift)
            assert told > edge - unit
            edge = max(edge, told)
        assert s.user.rcv.edge - IRS >= edge
        assert s.user.rcv.buffer.top <= s.user.rcv.edge
        assert s.user.rcv.nxt <= s.user.rcv.edge


def test_scaled_window_small_segments_cannot_stretch_it_without_end() -> None:
    """Rounding up to the scale's unit gives a little with each ACK: a sixteenth of the buffer at most."""
    s = offer(1 << 20, scaled=True)
    assert s.user.rcv.shift == 5
    seq = 1
    while s.user.rcv.edge > s.user.rcv.nxt and seq < 3 << 20:
        size = min(s.user.rcv.edge - s.user.rcv.nxt, 4001)
        s.peer(f". {seq}:{seq + size}({size}) ack 1 win 1000")
        seq += size
    assert seq - 1 <= (1 << 20) + (1 << 16) + 32
    assert s.user.readable == seq - 1


@pytest.mark.rfc(7323, "§2.2")
def test_scale_is_the_least_that_can_say_the_buffer() -> None:
    for size, shift in [(1, 0), (65535, 0), (65536, 1), (131070, 1), (1 << 20, 5), (1 << 30, 14), (1 << 34, 14)]:
        s = Script.opening(with_options(window_scaling=True, receive_buffer=size))
        (syn,) = s.take()
        assert syn.options.wscale == shift
        assert syn.wnd == min(size, 65535)


@pytest.mark.rfc(7323, "§2.3")
def test_peers_scale_of_14_is_used() -> None:
    s = Script.established(with_options(window_scaling=True), options="mss 1460,nop,wscale 14", win=1)
    s.peer(". 1:1(0) ack 1 win 3")
    assert s.user.snd.wnd == 3 << 14
    assert s.user.snd.una == ISS + 1


@pytest.mark.rfc(9293, "X-8")
def test_retransmission_with_a_new_ack_brings_its_window_too() -> None:
    """RFC 9293 §3.10.7.4, fifth: WL1 would keep the old window, and a right edge that nobody offered."""
    s = Script.established(win=4000)
    s.write(bytes(1000))
    s.take()
    s.peer("F. 500:500(0) ack 1 win 4000")  # out of order, with the highest number so far
    s.peer("P. 1:500(499) ack 1001 win 100")  # sent again, and newer than the FIN
    assert s.user.snd.wnd == 100


@pytest.mark.rfc(7323, "§2.2")
def test_scale_offered_by_the_peer_alone_scales_nothing() -> None:
    s = Script.established(options="mss 1460,nop,wscale 7")
    s.peer(". 1:1(0) ack 1 win 10")
    assert s.user.snd.wnd == 10


def test_rest_of_a_small_write_that_the_window_cut_is_its_rest_though_nothing_else_is_on_its_way() -> None:
    data = bytes(range(200)) * 9
    s = Script.established(
        with_options(timestamps=True, sack=True), options="mss 1460,sackOK,TS val 0 ecr 0", win=1500, traced=False
    )
    s.write(data)
    (first,) = s.take()
    assert first.payload == data[:1448]
    s.advance(1 * MS)
    s.peer(f". 1:1(0) ack {1 + len(first.payload)} win 60000{s.echo()}")
    (rest,) = s.take()
    assert rest.payload == data[1448:]
