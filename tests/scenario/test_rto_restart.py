"""When the retransmission timer starts and stops, and what is lost when it runs out: RFC 6298 §5, RFC 8985 §6.3."""

import pytest

from tests.scenario.flight import MSS, RTT, Flight
from tests.support.script import with_options
from usertcp.tcp import timers as timer
from usertcp.tcp.scoreboard import IN_FLIGHT, LOST
from usertcp.units import MS


def expiry(s: Flight) -> int:
    """When the retransmission timer runs out, ns from now."""
    return s.user.timers.at(timer.RETRANSMIT) - s.now


both = pytest.mark.parametrize("sack", [False, True])


# --- RFC 6298 §5 ------------------------------------------------------------------------------------------------------


@both
@pytest.mark.rfc(6298, "§5.1")
def test_rfc6298_5_1_sending_starts_the_timer_and_sending_more_does_not_restart_it(sack: bool) -> None:
    s = Flight.of(2, sack=sack, more=0)
    s.user.snd.cc.cwnd = 10 * MSS
    assert expiry(s) == s.user.snd.rtt.rto
    s.advance(30 * MS)
    s.write(bytes(MSS))
    assert expiry(s) == s.user.snd.rtt.rto - 30 * MS


@both
@pytest.mark.rfc(6298, "§5.2")
def test_rfc6298_5_2_ack_of_all_stops_the_timer(sack: bool) -> None:
    s = Flight.answered(4, sack=sack, more=0)
    s.ack(4)
    assert not s.user.timers.is_set(timer.RETRANSMIT)
    s.advance(10 * RTT)
    assert s.leaving() == []


@both
@pytest.mark.rfc(6298, "§5.3")
def test_rfc6298_5_3_ack_of_new_data_restarts_the_timer(sack: bool) -> None:
    s = Flight.answered(4, sack=sack, more=0)
    assert expiry(s) == s.user.snd.rtt.rto - RTT
    s.ack(1)
    assert expiry(s) == s.user.snd.rtt.rto


@both
@pytest.mark.rfc(6298, "§5.3")
def test_rfc6298_5_3_duplicate_ack_does_not_restart_the_timer(sack: bool) -> None:
    s = Flight.answered(4, sack=sack, more=0)
    left = expiry(s)
    s.tick(0, *([(1, 2)] if sack else []))
    s.tick(0, *([(1, 3)] if sack else []))
    assert expiry(s) == left - 2 * MS


@both
@pytest.mark.rfc(6298, "§5.4")
@pytest.mark.rfc(6298, "§5.5")
@pytest.mark.rfc(6298, "§5.6")
def test_rfc6298_5_4_time_out_sends_the_earliest_backs_off_and_starts_the_timer(sack: bool) -> None:
    s = Flight.of(4, sack=sack, more=0)
    rto = s.user.snd.rtt.rto
    for times in range(1, 6):
        while s.user.snd.timeouts < times:
            s.advance_to_next_deadline()
        assert s.leaving()[-1] == 0
        assert s.user.snd.rtt.rto == rto << times
        assert expiry(s) == rto << times


@both
@pytest.mark.rfc(6298, "§5")
def test_rfc6298_5_backoff_stays_until_something_that_was_sent_once_is_acknowledged(sack: bool) -> None:
    """RFC 6298 §5, after 5.7: the RTO is computed anew with the next sample, and not with the ACK of a copy."""
    s = Flight.of(2, sack=sack, more=0)
    rto = s.user.snd.rtt.rto
    while s.user.snd.timeouts < 2:
        s.advance_to_next_deadline()
    s.leaving()
    s.tick(1)
    assert s.user.snd.rtt.rto == 4 * rto
    s.tick(2)
    s.write(bytes(MSS))
    assert s.leaving() == [2]
    s.advance(RTT)
    s.ack(3)
    assert s.user.snd.rtt.rto <= rto


# --- RFC 6675 §6 ------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(6675, "§6")
@pytest.mark.parametrize("rtt", [200, 300, 500])
def test_rfc6675_6_head_lost_on_a_long_steady_path_its_retransmission_has_its_own_round_trip(
    rtt: int,
) -> None:
    """The RTO is then SRTT + 200 ms from the sending; the retransmission leaves one round trip after it."""
    s = Flight.answered(1, rtt=rtt * MS, more=0)
    s.ack(1)
    snd = s.user.snd
    snd.rtt.rttvar = 0
    snd.rtt.reset_backoff()
    snd.cc.cwnd = 20 * MSS
    s.write(bytes(20 * MSS))
    s.leaving()
    s.advance(rtt * MS)
    assert s.ack(1, (2, 5)) == [1]
    assert expiry(s) == snd.rtt.rto
    s.advance(rtt * MS)
    assert snd.timeouts == 0
    s.ack(21)
    assert snd.outstanding == 0


@pytest.mark.rfc(6675, "§6")
@pytest.mark.rfc(8985, "§9.1")
def test_rfc6675_6_head_lost_and_its_retransmissions_too_no_time_out_while_recovery_goes_on() -> None:
    s = Flight.of(20)
    sent = s.deliver(60, lose={(0, 0), (0, 1), (0, 2), (3, 0)}, first=range(20))
    assert (sent[0], sent[3]) == (4, 2)
    assert s.user.snd.timeouts == 0


# --- RFC 8985 §6.3 ----------------------------------------------------------------------------------------------------


@pytest.mark.rfc(8985, "§6.3")
def test_rfc8985_6_3_time_out_marks_the_first_segment_and_all_that_had_their_time() -> None:
    s = Flight.of(4, more=0)
    s.advance_to_next_deadline()
    assert s.leaving() == [3]  # the probe
    s.user.snd.cc.cwnd = 10 * MSS
    rto = expiry(s)
    s.advance(rto - 10 * MS)
    s.write(bytes(2 * MSS))
    assert s.leaving() == [4, 5]
    s.advance_to_next_deadline()
    assert s.user.snd.timeouts == 1
    assert s.leaving() == [0]
    states = {(r.start - s.user.snd.una) // MSS: r.state for r in s.user.snd.board}
    assert states[0] == IN_FLIGHT  # sent again
    assert states[1] == LOST
    assert states[4] == IN_FLIGHT  # it left 10 ms ago
    assert s.user.snd.board.lost == 3 * MSS
    assert s.pipe == 3 * MSS
    assert s.window[0] == MSS


@pytest.mark.rfc(8985, "§6.3")
@pytest.mark.rfc(8985, "§3.5")
def test_rfc8985_6_3_time_out_what_left_lately_is_not_sent_again_when_it_is_acknowledged() -> None:
    s = Flight.of(4, more=0)
    s.advance_to_next_deadline()
    s.leaving()
    s.user.snd.cc.cwnd = 10 * MSS
    s.advance(expiry(s) - 10 * MS)
    s.write(bytes(2 * MSS))
    s.leaving()
    s.advance_to_next_deadline()
    sent = s.leaving()
    s.advance(RTT - 10 * MS)
    sent += s.ack(0, (4, 6))  # on their way all the time
    s.advance(10 * MS)
    sent += s.ack(1, (4, 6))
    s.advance(RTT)
    sent += s.ack(3, (4, 6))
    s.advance(RTT)
    sent += s.ack(6)
    assert sorted(sent) == [0, 1, 2, 3]
    assert s.user.snd.outstanding == 0


@pytest.mark.rfc(8985, "§6.3")
def test_rfc8985_6_3_time_out_without_any_answer_marks_all() -> None:
    s = Flight.of(10, more=0)
    while not s.user.snd.timeouts:
        s.advance_to_next_deadline()
    assert s.user.snd.board.lost == 9 * MSS
    assert s.pipe == MSS


@pytest.mark.rfc(5681, "§3.1 time-out")
@both
def test_rfc5681_3_1_time_out_again_of_the_same_segment_leaves_ssthresh(sack: bool) -> None:
    s = Flight.of(10, sack=sack, more=0)
    while not s.user.snd.timeouts:
        s.advance_to_next_deadline()
    ssthresh = s.window[1]
    while s.user.snd.timeouts < 3:
        s.advance_to_next_deadline()
    assert s.window == (MSS, ssthresh)


@pytest.mark.rfc(5681, "§3.1 time-out")
def test_rfc5681_3_1_time_out_in_a_recovery_leaves_ssthresh() -> None:
    """What is outstanding has been paid for; the window starts over all the same."""
    s = Flight.answered(20, more=0)
    assert s.ack(0, (1, 4))[0] == 0
    ssthresh = s.window[1]
    while not s.user.snd.timeouts:
        s.advance_to_next_deadline()
    assert s.window == (MSS, ssthresh)


@both
@pytest.mark.rfc(6298, "§5")
def test_rfc6298_5_timer_does_not_run_out_on_a_path_that_only_gets_slower(sack: bool) -> None:
    """Each round trip takes 20 ms longer than the last: the RTO follows."""
    s = Flight.of(1, sack=sack, more=0, config=with_options(sack=True, send_buffer=1 << 20))
    s.user.snd.cc.cwnd = 10 * MSS
    number = 1
    for extra in range(0, 600, 20):
        s.advance(RTT + extra * MS)
        s.ack(number)
        s.write(bytes(2 * MSS))
        s.leaving()
        number += 2
    assert s.user.snd.timeouts == 0
