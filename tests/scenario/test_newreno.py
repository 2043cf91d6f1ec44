"""Losses without SACK: RFC 6582."""

import pytest

from tests.scenario.flight import MSS, RTT, Flight
from usertcp.tcp import timers as timer
from usertcp.units import MS


def reno(out: int, **kwargs: int) -> Flight:
    return Flight.answered(out, sack=False, **kwargs)


@pytest.mark.rfc(6582, "§3.2 step 2")
def test_rfc6582_3_2_step_2_third_duplicate_sends_again_and_the_full_ack_ends_it() -> None:
    s = reno(10)
    assert s.tick(0) == [10]
    assert s.tick(0) == [11]
    assert s.tick(0) == [0]
    assert s.phase == "RECOVERY"
    assert s.window[1] == 5 * MSS
    s.advance(RTT)
    s.tick(12)
    assert s.phase == "OPEN"
    assert s.window == (5 * MSS, 5 * MSS)


@pytest.mark.rfc(6582, "§3.2 step 3")
@pytest.mark.parametrize("holes", [(0, 3), (0, 3, 6), (0, 1, 2, 9), tuple(range(0, 10, 2))])
def test_rfc6582_3_2_step_3_each_partial_ack_sends_the_next_hole(holes: tuple[int, ...]) -> None:
    s = reno(10, more=0)
    sent = s.ack(0, times=3)
    assert sent == [0]
    for hole in holes[1:]:
        s.advance(30 * MS)
        sent += s.ack(hole)
        assert s.phase == "RECOVERY"
    assert sent == list(holes)
    s.advance(30 * MS)
    assert s.ack(10) == []
    assert s.phase == "OPEN"
    assert s.window == (5 * MSS, 5 * MSS)
    assert s.user.snd.retransmissions == len(holes)


@pytest.mark.rfc(6582, "§3.2 step 3")
def test_rfc6582_3_2_step_3_partial_ack_of_a_part_of_a_segment_sends_from_there() -> None:
    s = reno(10, more=0)
    assert s.ack(0, times=3) == [0]
    s.advance(RTT)
    s.peer(". 1:1(0) ack 2501 win 65535")
    s.expect(". 2501:3501(1000)")


@pytest.mark.rfc(6582, "§3.2 step 3")
def test_rfc6582_3_2_step_3_first_partial_ack_restarts_the_timer_and_the_next_one_does_not() -> None:
    """The impatient variant: many losses end in a time-out instead of a round trip each."""
    s = reno(10, more=0)
    s.ack(0, times=3)
    s.advance(50 * MS)
    s.ack(2)
    at = s.user.timers.at(timer.RETRANSMIT)
    assert at == s.now + s.user.snd.rtt.rto
    s.advance(50 * MS)
    s.ack(4)
    assert s.user.timers.at(timer.RETRANSMIT) == at
    s.advance(50 * MS)
    s.ack(10)
    assert not s.user.timers.is_set(timer.RETRANSMIT)


@pytest.mark.rfc(6582, "§3.2 step 3")
def test_rfc6582_3_2_step_3_duplicates_after_a_partial_ack_let_new_data_go_and_nothing_again() -> None:
    s = reno(10)
    for _ in range(9):
        s.tick(0)
    s.advance(RTT)
    out = s.tick(5)
    assert out[0] == 5
    again = s.user.snd.retransmissions
    for _ in range(4):
        out += s.tick(5)
    assert s.user.snd.retransmissions == again
    assert s.window[1] == 5 * MSS


@pytest.mark.rfc(6582, "§3.2 step 2")
def test_rfc6582_3_2_step_2_duplicates_that_cover_no_more_than_recover_begin_nothing() -> None:
    """After a time-out three segments may have been sent again for nothing (§4)."""
    s = reno(10, more=0)
    s.advance_to_next_deadline()
    assert s.leaving() == [0]
    s.advance(RTT)
    assert s.ack(1) == [1, 2]
    s.advance(RTT)
    window = s.window
    s.ack(1, times=5)
    assert s.window == window
    assert s.phase == "LOSS"
    s.advance(RTT)
    s.ack(10)
    assert s.phase == "OPEN"
    s.write(bytes(20 * MSS))
    s.leaving()
    s.advance(RTT)
    ssthresh = s.window[1]
    s.ack(10, times=5)  # recover is 10: the ACK must cover more
    assert s.phase == "OPEN"
    assert s.window[1] == ssthresh


@pytest.mark.rfc(6582, "§3.2 step 2")
def test_rfc6582_3_2_step_2_duplicates_that_cover_more_than_recover_begin_a_new_recovery() -> None:
    s = reno(10)
    s.ack(0, times=3)
    s.advance(RTT)
    recover = s.user.snd.recover - s.user.snd.una
    s.ack(recover // MSS)
    assert s.phase == "OPEN"
    s.advance(RTT)
    s.ack(recover // MSS + 1)
    s.ack(recover // MSS + 1, times=3)
    assert s.phase == "RECOVERY"
    assert s.window[1] < 5 * MSS


@pytest.mark.rfc(6582, "§3.2 step 4")
def test_rfc6582_3_2_step_4_time_out_in_a_recovery_ends_it() -> None:
    s = reno(10, more=0)
    s.ack(0, times=3)
    ssthresh = s.window[1]
    s.advance_to_next_deadline()
    assert s.phase == "LOSS"
    assert s.window == (MSS, ssthresh)
    assert s.leaving() == [0]
    s.advance(RTT)
    assert s.ack(1) == [1, 2]


@pytest.mark.rfc(6582, "§3.2")
@pytest.mark.parametrize("lost", [1, 2, 4])
def test_rfc6582_3_2_losses_of_a_window_are_mended_without_sack(lost: int) -> None:
    s = Flight.of(20, sack=False)
    holes = range(3, 3 + 4 * lost, 4)
    sent = s.deliver(60, lose={(n, 0) for n in holes}, first=range(20))
    assert all(sent[n] >= 2 for n in holes)
    assert s.window[1] <= 10 * MSS


@pytest.mark.rfc(5681, "§3.2")
def test_rfc5681_3_2_window_is_never_halved_below_two_segments() -> None:
    s = reno(3)
    s.ack(0, times=3)
    assert s.window[1] == 2 * MSS


@pytest.mark.rfc(9937, "§6.2")
def test_rfc9937_6_2_invented_duplicates_deliver_no_more_than_was_out() -> None:
    """DeliveredData grows no further than RecoverFS, however many duplicates come."""
    s = reno(20)
    s.ack(0)
    s.ack(0)
    sent = s.ack(0)
    for _ in range(200):
        sent += s.tick(0)
    assert len(sent) <= 20


@pytest.mark.rfc(3042, "§2")
def test_rfc3042_2_invented_duplicates_before_a_recovery_let_two_segments_go() -> None:
    """They cover no more than recover, so none of them begins one."""
    s = reno(10, more=0)
    s.ack(0, times=3)
    s.advance(RTT)
    s.ack(10)
    assert s.phase == "OPEN"
    s.user.snd.cc.cwnd = 5 * MSS
    s.write(bytes(100 * MSS))
    s.leaving()
    sent = []
    for _ in range(50):
        sent += s.tick(10)
    assert s.phase == "OPEN"
    assert len(sent) <= 3


@pytest.mark.rfc(5682, "§2.1 step 3a")
def test_rfc5682_2_1_without_sack_invented_duplicates_after_a_time_out_let_no_more_go_than_new_data_left() -> None:
    s = Flight.of(10, sack=False)
    s.advance_to_next_deadline()
    assert s.leaving() == [0]
    s.advance(RTT)
    assert s.ack(1) == [10, 11]
    sent = []
    for _ in range(200):
        sent += s.tick(1)
    assert len(sent) <= 3
