"""Loss told by time, and the probe of a tail: RFC 8985."""

import pytest

from tests.scenario.flight import MSS, RTT, Flight
from tests.support.script import ISS, Script, with_options
from usertcp.tcp import timers as timer
from usertcp.tcp.tlp import MAX_ACK_DELAY
from usertcp.units import MASK32, MS, NEVER, SEC


def spread(times: tuple[int, ...]) -> Flight:
    """Segments that left so many ms after the first one, which left RTT ago."""
    s = Flight.of(1, more=0)
    s.user.snd.cc.cwnd = s.user.snd.cc.ssthresh = 10 * MSS
    began = s.now
    for at in times:
        s.advance(began + at * MS - s.now)
        s.write(bytes(MSS))
    s.leaving()
    s.advance(began + RTT - s.now)
    return s


def all_acknowledged() -> Flight:
    """Idle, ten segments were sent and acknowledged: number 10 is next."""
    s = Flight.answered(10, more=0)
    s.ack(10)
    return s


def three_more(s: Flight) -> int:
    """Three segments leave, and a round trip later the second is reported: the first one's number."""
    s.user.snd.cc.cwnd = 10 * MSS
    s.write(bytes(3 * MSS))
    first = s.leaving()[0]
    s.advance(RTT)
    assert s.ack(first, (first + 1, first + 2)) == []
    return first


def reordering_window(s: Flight) -> int:
    """How long after the round trip of its successor a segment is waited for, ns; then it comes."""
    first = three_more(s)
    window = s.user.next_deadline() - s.now
    assert s.ack(first + 3) == []
    return window


def repeated_needlessly(s: Flight) -> None:
    """A segment comes later than the reordering window lasts, after its retransmission left: a DSACK tells so."""
    first = three_more(s)
    s.advance_to_next_deadline()
    assert s.leaving() == [first]
    s.tick(first + 3)
    s.tick(first + 3, (first, first + 1))
    assert s.phase == "OPEN"


# --- reordering -------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(8985, "§6.2")
def test_rfc8985_6_2_reordering_within_a_quarter_of_the_rtt_is_waited_for() -> None:
    s = Flight.answered(10, more=0)
    assert s.ack(0, (1, 3)) == []
    s.advance(RTT // 4 - 1)
    assert s.ack(3) == []
    s.advance(1)
    assert s.leaving() == []
    assert s.phase == "OPEN"
    assert s.user.snd.retransmissions == 0


@pytest.mark.rfc(8985, "§6.2")
def test_rfc8985_6_2_reordering_beyond_a_quarter_of_the_rtt_is_a_loss() -> None:
    s = Flight.answered(10, more=0)
    assert s.ack(0, (1, 3)) == []
    assert s.user.timers.is_set(timer.REORDER)
    assert s.advance_to_next_deadline() == RTT // 4
    assert s.leaving() == [0]
    assert s.phase == "RECOVERY"
    assert s.window[1] == 5 * MSS
    assert s.user.snd.timeouts == 0


@pytest.mark.rfc(8985, "§6.2")
def test_rfc8985_6_2_reordering_window_runs_from_when_the_segment_was_sent() -> None:
    """Segment.xmit_ts + RACK.rtt + RACK.reo_wnd: what was sent 20 ms later is waited for 20 ms longer."""
    s = spread((20, 20))
    s.advance(20 * MS)
    assert s.ack(0, (2, 3)) == []  # sent at 20, its round trip took 100
    assert s.advance_to_next_deadline() == 5 * MS  # 0 + 100 + 25 is 125, and this is 120
    assert s.leaving() == [0]
    assert s.user.snd.board.lost == 0  # segment 1 left at 20; it is waited for until 145


@pytest.mark.rfc(8985, "§6.2")
def test_rfc8985_6_2_reordering_once_seen_three_segments_sacked_are_no_loss() -> None:
    """Only the window's end is."""
    s = Flight.answered(20)
    assert s.tick(0, (1, 2)) == [20]
    assert s.tick(2) == [21]  # 0 came after 1: the path reorders
    assert s.user.snd.rack.reordering_seen
    assert set(s.tick(2, (3, 10))) == set(range(22, 29))
    assert s.phase == "OPEN"
    assert s.advance_to_next_deadline() == RTT // 4  # the round trip of 9 took as long as it is since 2 was sent
    assert s.leaving()[0] == 2
    assert s.phase == "RECOVERY"


@pytest.mark.rfc(8985, "§6.2")
def test_rfc8985_6_2_segment_that_was_sent_again_is_no_evidence_of_reordering() -> None:
    s = Flight.answered(10, more=0)
    assert s.ack(0, (1, 4)) == [0]
    s.advance(RTT)
    s.ack(4)
    assert not s.user.snd.rack.reordering_seen


@pytest.mark.rfc(8985, "§9.1")
def test_rfc8985_9_1_losses_of_a_sparse_flight_are_found_by_time() -> None:
    """Three segments, each later than the last by more than the window; the first and the last one are lost."""
    s = spread((30, 60))
    s.advance(30 * MS)
    assert s.ack(0, (1, 2)) == [0]  # at once: it had its time
    s.advance(RTT)
    assert s.ack(2) == [2]  # the retransmission was sent after it, and was delivered
    s.advance(RTT)
    assert s.ack(3) == []
    assert s.user.snd.timeouts == 0
    assert s.phase == "OPEN"


@pytest.mark.rfc(8985, "§6.2")
def test_rfc8985_6_2_ack_soon_after_a_retransmission_is_of_the_original_and_says_nothing_of_others() -> None:
    """Step 2: a round trip shorter than the smallest cannot be the retransmission's. Were it believed, all that was
    sent before the retransmission would be late."""
    s = Flight.answered(20)
    assert s.ack(0, (1, 4)) == [0]
    s.tick(4)
    assert s.user.snd.board.lost == 0
    s.tick(6)
    s.tick(9)
    assert s.user.snd.retransmissions == 1


@pytest.mark.rfc(8985, "§6.2")
def test_rfc8985_6_2_timestamp_echo_older_than_the_retransmission_says_nothing_of_others() -> None:
    """The same by the timestamp, when the original comes a full round trip late."""
    s = Flight.answered(20, timestamps=True)
    sent_at = s.now - RTT
    assert s.ack(0, (1, 4), echo=sent_at) == [0]
    s.advance(RTT + 5 * MS)
    before = s.user.snd.rack.sent_at
    s.ack(0, (0, 4), echo=sent_at)
    assert s.user.snd.rack.sent_at == before


# --- the window adapts ------------------------------------------------------------------------------------------------


@pytest.mark.rfc(8985, "§6.2")
def test_rfc8985_6_2_dsack_widens_the_reordering_window_by_a_quarter_of_the_rtt() -> None:
    s = all_acknowledged()
    assert reordering_window(s) == RTT // 4
    repeated_needlessly(s)
    assert reordering_window(s) == 2 * RTT // 4
    repeated_needlessly(s)
    assert reordering_window(s) == 3 * RTT // 4


def first_of_a_burst_is_late() -> Flight:
    """A long steady path that delays some segments by up to a round trip more: the reordering window is as wide as can
    be, and reaches beyond the retransmission time-out. Ten segments left together, and the first is late."""
    s = Flight.of(10, more=0, rtt=900 * MS)
    s.advance(900 * MS)
    s.ack(10)
    for _ in range(50):
        s.user.snd.rtt.sample(900 * MS, 900 * MS)
    s.user.snd.rack.reordering_seen, s.user.snd.rack.mult = 1, 4
    s.write(bytes(10 * MSS))
    assert s.leaving() == list(range(10, 20))
    s.advance(900 * MS)
    assert s.ack(10, (11, 20)) == []
    assert s.user.snd.rtt.rto == 1100 * MS
    return s


@pytest.mark.rfc(8985, "§8")
@pytest.mark.parametrize("later", [100 * MS, 300 * MS, 890 * MS])
def test_rfc8985_8_time_out_waits_for_the_verdict_on_what_is_late_and_it_comes(later: int) -> None:
    s = first_of_a_burst_is_late()
    s.advance(later)
    assert s.leaving() == []
    s.ack(20)
    assert (s.user.snd.timeouts, s.user.snd.retransmissions) == (0, 0)
    assert s.user.next_deadline() == NEVER


@pytest.mark.rfc(8985, "§8")
def test_rfc8985_8_time_out_waits_for_the_verdict_on_what_is_late_and_that_is_a_loss() -> None:
    s = first_of_a_burst_is_late()
    s.advance(899 * MS)
    assert s.leaving() == []
    s.advance(1 * MS)
    assert s.leaving() == [10]
    assert s.phase == "RECOVERY"
    assert s.advance_to_next_deadline() == 1100 * MS  # that is lost as well, and nothing sent later can tell
    assert s.leaving() == [10]
    assert s.phase == "LOSS"


@pytest.mark.rfc(8985, "§8")
def test_rfc8985_8_verdict_put_off_because_the_window_has_widened_is_asked_for_again() -> None:
    s = first_of_a_burst_is_late()
    s.user.snd.rtt.srtt += 100 * MS
    s.user.snd.rtt.min_rtt += 100 * MS
    s.advance(950 * MS)
    assert s.leaving() == []
    s.advance(50 * MS)
    assert s.leaving() == [10]
    assert s.user.snd.timeouts == 0


@pytest.mark.rfc(8985, "§8")
def test_rfc8985_8_verdict_and_time_out_due_at_once_are_a_loss_and_no_time_out() -> None:
    """The clock jumps: nobody looked for a while."""
    s = first_of_a_burst_is_late()
    s.now += 5 * SEC
    s.user.on_timers(s.now)
    s.poll()
    assert s.leaving() == [10]
    assert (s.phase, s.user.snd.timeouts) == ("RECOVERY", 0)


@pytest.mark.rfc(8985, "§6.2")
def test_rfc8985_6_2_reordering_window_is_never_more_than_the_srtt() -> None:
    s = all_acknowledged()
    for _ in range(6):
        repeated_needlessly(s)
    assert s.user.snd.rtt.min_rtt == RTT
    assert reordering_window(s) <= s.user.snd.rtt.srtt


@pytest.mark.rfc(8985, "§6.2")
def test_rfc8985_6_2_dsacks_of_one_round_trip_widen_the_window_once() -> None:
    s = Flight.answered(20, more=0)
    assert s.ack(0, (1, 3)) == []
    s.advance_to_next_deadline()
    assert s.leaving() == [0]
    s.tick(3)
    s.tick(3, (0, 1))
    s.tick(4, (0, 1))
    s.tick(20)
    assert reordering_window(s) == 2 * RTT // 4


@pytest.mark.rfc(8985, "§6.2")
def test_rfc8985_6_2_widened_window_lasts_for_sixteen_recoveries() -> None:
    s = all_acknowledged()
    repeated_needlessly(s)
    for _ in range(15):
        first = three_more(s)
        s.advance_to_next_deadline()
        assert s.leaving() == [first]
        s.advance(RTT)
        s.ack(first + 3)  # this one was needed
        assert s.phase == "OPEN"
    assert reordering_window(s) == 2 * RTT // 4
    first = three_more(s)
    s.advance_to_next_deadline()
    assert s.leaving() == [first]
    s.advance(RTT)
    s.ack(first + 3)
    assert reordering_window(s) == RTT // 4


# --- when the probe goes ----------------------------------------------------------------------------------------------


@pytest.mark.rfc(8985, "§7.2")
def test_rfc8985_7_2_probe_timeout_is_twice_the_srtt() -> None:
    s = Flight.of(4, more=0)
    passed = s.advance_to_next_deadline()
    assert 2 * RTT <= passed <= 2 * RTT + 5 * MS
    assert s.leaving() == [3]
    assert s.user.snd.timeouts == 0


@pytest.mark.rfc(8985, "§7.2")
def test_rfc8985_7_2_probe_timeout_of_a_lone_segment_allows_for_a_delayed_ack() -> None:
    s = Flight.of(1, more=0, rtt=400 * MS)
    assert s.user.snd.rtt.rto > 2 * 400 * MS + MAX_ACK_DELAY
    assert s.advance_to_next_deadline() == 2 * 400 * MS + MAX_ACK_DELAY
    assert s.leaving() == [0]


@pytest.mark.rfc(8985, "§8")
@pytest.mark.rfc(8985, "§7.2")
def test_rfc8985_7_2_probe_timeout_is_never_later_than_the_rto_and_the_probe_goes_in_its_place() -> None:
    s = Flight.of(1, more=0)
    rto = s.user.snd.rtt.rto
    assert rto < 2 * RTT + MAX_ACK_DELAY
    assert s.advance_to_next_deadline() == rto
    assert s.leaving() == [0]
    assert s.user.snd.timeouts == 0
    assert s.window == (1 * MSS, 1 * MSS)
    assert s.advance_to_next_deadline() == rto  # from the probe on (RFC 8985 §7.3)
    assert s.leaving() == [0]
    assert s.user.snd.timeouts == 1


@pytest.mark.rfc(8985, "§7.2")
def test_rfc8985_7_2_probe_timeout_without_any_sample_is_one_second() -> None:
    """The SYN was sent twice, so its answer is no sample (RFC 6298 §3); the RTO is then 3 s (§5.7)."""
    s = Script.opening(with_options(sack=True))
    s.advance(1 * SEC)
    s.peer("S. 0:0(0) ack 1 win 65535 <mss 1460,nop,nop,sackOK>")
    assert s.user.snd.rtt.srtt == 0
    s.take()
    s.write(bytes(3 * 1460))
    s.take()
    assert s.advance_to_next_deadline() == 1 * SEC
    s.expect("P. 2921:4381(1460)")


@pytest.mark.rfc(8985, "§7.2")
def test_rfc8985_7_2_probe_timeout_starts_anew_with_new_data_and_with_an_ack_that_advances() -> None:
    s = Flight.of(4, more=0)
    s.user.snd.cc.cwnd = 10 * MSS
    first = s.user.next_deadline()
    margin = first - s.now - 2 * RTT
    s.advance(50 * MS)
    s.write(bytes(MSS))
    assert s.user.next_deadline() == first + 50 * MS
    s.advance(60 * MS)
    s.ack(2)
    at = s.now + 2 * s.user.snd.rtt.srtt + margin
    assert s.user.next_deadline() == at
    s.advance(10 * MS)
    s.ack(2)  # a duplicate is no reason
    assert s.user.next_deadline() == at


@pytest.mark.rfc(8985, "§7.2")
def test_rfc8985_7_2_no_probe_while_segments_are_sacked_or_in_recovery() -> None:
    s = Flight.answered(10, more=0)
    s.ack(0, (1, 3))
    assert not s.user.timers.is_set(timer.LOSS_PROBE)
    s.advance_to_next_deadline()
    assert s.phase == "RECOVERY"
    assert not s.user.timers.is_set(timer.LOSS_PROBE)
    s.tick(3)
    assert s.phase == "RECOVERY"
    assert not s.user.timers.is_set(timer.LOSS_PROBE)


@pytest.mark.rfc(8985, "§4")
def test_rfc8985_4_no_probe_without_sack() -> None:
    s = Flight.of(10, more=0, sack=False)
    assert s.advance_to_next_deadline() == s.user.snd.rtt.rto // 2  # the RTO before its backoff
    assert s.user.snd.timeouts == 1


@pytest.mark.rfc(8985, "§8")
@pytest.mark.rfc(8985, "§7.3")
def test_rfc8985_7_3_one_probe_at_a_time_then_the_rto_from_the_probe_on() -> None:
    s = Flight.of(10, more=0)
    s.advance_to_next_deadline()
    assert s.leaving() == [9]
    rto = s.user.snd.rtt.rto
    assert s.advance_to_next_deadline() == rto
    assert s.user.snd.timeouts == 1
    assert s.leaving() == [0]
    assert s.window == (MSS, 5 * MSS)


# --- what the probe is ------------------------------------------------------------------------------------------------


@pytest.mark.rfc(8985, "§9.3")
@pytest.mark.rfc(8985, "§7.3")
def test_rfc8985_7_3_probe_is_new_data_beyond_the_congestion_window() -> None:
    s = Flight.of(10)
    s.advance_to_next_deadline()
    assert s.leaving() == [10]
    assert s.pipe == 11 * MSS
    assert s.user.snd.retransmissions == 0
    assert s.window == (10 * MSS, 10 * MSS)


@pytest.mark.rfc(8985, "§7.3")
def test_rfc8985_7_3_probe_that_the_peers_window_does_not_hold_is_the_last_segment() -> None:
    s = Flight.of(10, win=10 * MSS)
    s.advance_to_next_deadline()
    assert s.leaving() == [9]


@pytest.mark.rfc(8985, "§7.3")
def test_rfc8985_7_3_probe_that_the_peer_has_no_window_for_any_more_leaves_it_to_the_rto() -> None:
    """The peer took back its window but for half a segment: there is no probe, and none puts off the RTO."""
    s = Flight.of(4, more=0)
    s.ack(0, win=MSS // 2)
    s.advance_to_next_deadline()
    assert s.leaving() == []
    rto = s.user.snd.rtt.rto
    assert s.advance_to_next_deadline() == rto
    assert [(seg.seq - ISS & MASK32, len(seg.payload)) for seg in s.take()] == [(1, MSS // 2)]
    assert s.user.snd.timeouts == 1


@pytest.mark.rfc(8985, "§7.3")
def test_rfc8985_7_3_probe_of_a_short_tail_is_that_tail() -> None:
    s = Flight.of(4, more=0)
    s.ack(4)
    s.write(bytes(2 * MSS + 7))
    s.take()
    s.advance_to_next_deadline()
    s.expect("P. 6001:6008(7)")


# --- what its answer tells --------------------------------------------------------------------------------------------


@pytest.mark.rfc(8985, "§7.4.1")
@pytest.mark.parametrize("lost", [2, 3, 5, 10])
def test_rfc8985_7_4_1_tail_of_a_flight_lost_is_mended_without_a_time_out(lost: int) -> None:
    s = Flight.of(10, more=0)
    sent = s.deliver(10, lose={(n, 0) for n in range(10 - lost, 10)}, first=range(10))
    assert s.user.snd.timeouts == 0
    assert max(sent.values()) == 2
    assert s.user.snd.retransmissions == lost
    assert s.window[1] == 5 * MSS if lost == 10 else s.window[1] <= 5 * MSS


@pytest.mark.rfc(8985, "§7.4.1")
def test_rfc8985_7_4_1_new_data_probe_reveals_the_losses_before_it() -> None:
    s = Flight.of(4)
    s.advance_to_next_deadline()
    assert s.leaving() == [4]
    s.advance(RTT)
    assert s.ack(0, (4, 5))[0] == 0
    assert s.phase == "RECOVERY"
    assert s.user.snd.timeouts == 0


@pytest.mark.rfc(8985, "§7.4.2")
def test_rfc8985_7_4_2_probe_that_repaired_the_only_loss_reduces_the_window() -> None:
    s = Flight.answered(10, more=0)
    s.ack(9)
    s.advance_to_next_deadline()
    assert s.leaving() == [9]
    s.advance(RTT)
    s.ack(10)
    assert s.phase == "OPEN"
    assert s.window[1] == 10 * MSS  # not known yet
    s.write(bytes(30 * MSS))
    out = len(s.leaving())
    s.advance(RTT)
    s.ack(11)  # more than the probe, and nobody has reported it twice
    assert s.phase == "CWR"
    assert s.window[1] == pytest.approx(out * MSS // 2, abs=MSS)
    for n in range(12, 11 + out):
        s.tick(n)
    assert s.phase == "OPEN"
    assert s.window[0] <= s.window[1] + MSS
    assert s.user.snd.timeouts == 0


@pytest.mark.rfc(8985, "§7.4.2")
@pytest.mark.parametrize("first_ack", ["lost", "first", "late"])
def test_rfc8985_7_4_2_probe_whose_original_arrived_as_well_reduces_nothing(first_ack: str) -> None:
    """Case 1: a DSACK reports the probe as received twice."""
    s = Flight.answered(10, more=0)
    s.ack(9)
    s.advance_to_next_deadline()
    assert s.leaving() == [9]
    if first_ack == "first":
        s.tick(10)
    s.tick(10, (9, 10))
    if first_ack == "late":
        s.tick(10)
    s.write(bytes(30 * MSS))
    s.leaving()
    s.advance(RTT)
    s.ack(11)
    assert s.phase == "OPEN"
    assert s.window[1] == 10 * MSS
    assert s.user.snd.rack.mult == 1  # the probe was no mistake of RACK's


@pytest.mark.rfc(8985, "§7.4.2")
def test_rfc8985_7_4_2_probe_answered_by_a_duplicate_without_sack_reduces_nothing() -> None:
    """Case 2: a peer that does not report duplicates. There is data out again when it comes."""
    s = Flight.answered(10, more=0)
    s.ack(9)
    s.advance_to_next_deadline()
    assert s.leaving() == [9]
    s.tick(10)
    s.write(bytes(30 * MSS))
    s.leaving()
    s.tick(10)
    s.advance(RTT)
    s.ack(11)
    assert s.phase == "OPEN"
    assert s.window[1] == 10 * MSS


@pytest.mark.rfc(8985, "§7.4.2")
def test_rfc8985_7_4_2_probe_with_new_data_reduces_nothing() -> None:
    s = Flight.of(10)
    s.advance_to_next_deadline()
    assert s.leaving() == [10]
    s.advance(RTT)
    s.ack(10)
    s.ack(11)
    s.advance(RTT)
    s.ack(12)
    assert s.phase == "OPEN"
    assert s.window[1] == 10 * MSS


@pytest.mark.rfc(8985, "§7.4.2")
def test_rfc8985_7_4_2_probe_answered_by_a_duplicate_when_nothing_is_out_reduces_nothing() -> None:
    """Case 2, and the usual one: original and probe were the tail; nothing is outstanding when the duplicate comes."""
    s = Flight.answered(10, more=0)
    s.ack(9)
    s.advance_to_next_deadline()
    assert s.leaving() == [9]
    s.tick(10)
    s.tick(10)
    s.write(bytes(30 * MSS))
    s.leaving()
    s.advance(RTT)
    s.ack(11)
    assert s.phase == "OPEN"
    assert s.window[1] == 10 * MSS


@pytest.mark.rfc(8985, "§7.3")
def test_rfc8985_7_3_no_second_probe_before_a_new_rtt_sample() -> None:
    s = Flight.answered(10, more=0)
    s.ack(9)
    s.advance_to_next_deadline()
    assert s.leaving() == [9]
    s.tick(10, (9, 10))  # sent twice: no sample
    s.write(bytes(4 * MSS))
    s.leaving()
    probes = s.user.snd.tlp.sent
    s.advance(s.user.snd.rtt.rto)
    assert s.user.snd.tlp.sent == probes
    assert s.user.snd.timeouts == 1


@pytest.mark.rfc(8985, "§6.2")
def test_rfc8985_6_2_three_small_segments_sacked_begin_recovery() -> None:
    """RACK.segs_sacked counts segments, not bytes (and RFC 6675 §5 (1): DupAcks)."""
    s = Flight.of(1, more=0)
    s.user.snd.cc.cwnd = 10 * MSS
    s.user.configure(nodelay=True)
    for _ in range(5):
        s.write(bytes(10))
    s.take()
    s.advance(RTT)
    s.peer(". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:1011>")
    s.peer(". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:1021>")
    s.peer(". 1:1(0) ack 1 win 65535 <nop,nop,sack 1001:1031>")
    assert s.phase == "RECOVERY"


@pytest.mark.rfc(8985, "§7.4.2")
def test_rfc8985_7_4_2_probe_while_a_reduction_for_ecn_ends_begins_no_recovery() -> None:
    """Nothing was lost: what was sent again is only the probe."""
    s = Flight.answered(10, more=0)
    s.user.snd.on_ecn(MSS, s.now)
    assert s.phase == "CWR"
    s.tick(6)
    s.write(bytes(MSS))
    assert s.leaving() == [10]
    while not s.user.snd.tlp.sent:
        s.advance_to_next_deadline()
    assert s.leaving() == [10]
    ssthresh = s.window[1]
    s.tick(10)
    assert s.phase == "OPEN"
    assert s.window[1] == ssthresh


@pytest.mark.rfc(8985, "§6.2")
def test_rfc8985_6_2_rtt_is_of_the_segment_sent_last_of_those_that_an_ack_delivers() -> None:
    """Step 2: in ascending order of Segment.xmit_ts, whatever the order of the blocks."""
    s = Flight.of(1, more=0)
    s.user.snd.cc.cwnd = 10 * MSS
    began = s.now
    for at in (10, 40, 80):
        s.advance(began + at * MS - s.now)
        s.write(bytes(MSS))
    s.leaving()
    s.advance(began + 180 * MS - s.now)
    # 1 and 3 arrived, the first ACK was lost: the round trip of 3 is 100 ms (that of 1 170), and 2 left 140 ms ago
    assert s.ack(0, (3, 4), (1, 2)) == [0, 2]


@pytest.mark.rfc(8985, "§6.2")
def test_rfc8985_6_2_blocks_reported_for_the_first_time_newest_first_are_no_reordering() -> None:
    """Step 3: in ascending order of Segment.end_seq. The ACK that told of 1 was lost; the option lists the newest block
    first (RFC 2018 §4), so 3 comes before 1 there, but not on the path."""
    s = Flight.answered(10, more=0)
    s.ack(0, (3, 4), (1, 2))
    assert not s.user.snd.rack.reordering_seen
    assert s.ack(0, (5, 6), (3, 4), (1, 2))[:1] == [0]
    assert s.phase == "RECOVERY"
