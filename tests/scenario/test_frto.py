"""Was the time-out spurious? What the first two ACKs after it say: F-RTO, RFC 5682."""

import pytest

from tests.scenario.flight import MSS, RTT, Flight

FULL = (10 * MSS, 10 * MSS)  # cwnd and ssthresh before


def timed_out(*, sack: bool, more: int = 1000, win: int = 65535) -> Flight:
    """Ten segments were out when the retransmission timer ran out; segment 0 has been sent again."""
    s = Flight.of(10, sack=sack, more=more, win=win)
    assert s.window == FULL
    while not s.user.snd.timeouts:
        s.advance_to_next_deadline()
    assert s.leaving()[-1] == 0
    assert s.phase == "LOSS"
    assert s.window[0] == MSS
    assert halved(s)
    return s


def halved(s: Flight) -> bool:
    """Whether ssthresh is half of what was out; a tail loss probe may have been an eleventh segment."""
    return 5 * MSS <= s.window[1] <= 11 * MSS // 2


def new_ones(s: Flight) -> list[int]:
    """The next two segments that were never sent."""
    first = s.user.snd.outstanding // MSS
    return [first, first + 1]


both = pytest.mark.parametrize("sack", [False, True])


# --- spurious ---------------------------------------------------------------------------------------------------------


@both
@pytest.mark.rfc(5682, "§2.1 step 3b")
@pytest.mark.rfc(5682, "§3.1 step 3b")
def test_rfc5682_2_1_step_3b_second_ack_advances_over_what_was_never_sent_again_spurious(sack: bool) -> None:
    """The originals were late: each is acknowledged in its turn."""
    s = timed_out(sack=sack)
    resent = s.user.snd.retransmissions
    new = new_ones(s)
    assert s.tick(1) == new  # step 2b: new data, nothing of what is held for lost
    assert s.phase == "LOSS"
    assert all(n > new[1] for n in s.tick(2))
    assert s.phase == "OPEN"
    assert s.window == FULL
    assert 10 * MSS <= s.pipe <= 11 * MSS
    assert s.user.snd.board.lost == 0
    for n in range(3, 11):
        assert all(k > new[1] for k in s.tick(n))
    assert s.user.snd.retransmissions == resent  # no going back


@pytest.mark.rfc(5682, "§3.1 step 3b")
def test_rfc5682_3_1_step_3b_with_sack_second_ack_reports_what_was_never_sent_again_spurious() -> None:
    """A duplicate, but its SACK block is of data sent before the time-out."""
    s = timed_out(sack=True)
    new = new_ones(s)
    assert s.tick(1) == new
    assert s.user.snd.undone == 0
    s.tick(1, (2, 3))
    assert s.user.snd.undone == 1
    assert s.window[1] == FULL[1]


@pytest.mark.rfc(5682, "§3.1 step 3b")
@pytest.mark.rfc(8985, "§6.2 step 2")
def test_rfc5682_3_1_step_3b_undone_the_answer_to_the_original_makes_no_other_late() -> None:
    """The first ACK seemed to be the retransmission's. If RACK went on to believe that, all that was sent before the
    time-out would have lost the race, and be lost a reordering window later."""
    s = timed_out(sack=True)
    s.advance(RTT + RTT // 5)
    s.tick(1)
    s.tick(2)
    assert s.user.snd.undone == 1
    s.advance(2 * RTT)  # the next ACKs take their time
    assert s.phase == "OPEN"
    assert s.window == FULL


@both
@pytest.mark.rfc(5682, "§2.1 step 3b")
def test_rfc5682_2_1_step_3b_spurious_time_out_of_a_window_in_slow_start_goes_on_in_slow_start(sack: bool) -> None:
    s = Flight.of(10, sack=sack)
    s.user.snd.cc.ssthresh = 1000 * MSS
    while not s.user.snd.timeouts:
        s.advance_to_next_deadline()
    s.leaving()
    s.tick(1)
    s.tick(2)
    assert s.window[1] == 1000 * MSS
    assert s.window[0] >= 10 * MSS


@pytest.mark.rfc(5682, "§2.1 step 1 again")
@both
def test_rfc5682_2_1_two_time_outs_of_the_same_segment_then_spurious_gives_all_back(sack: bool) -> None:
    """The algorithm begins again from step 1 with each time-out."""
    s = timed_out(sack=sack)
    while s.user.snd.timeouts < 2:
        s.advance_to_next_deadline()
    assert s.leaving() == [0]
    assert s.window[0] == MSS
    assert halved(s)
    s.tick(1)
    s.tick(2)
    assert s.phase == "OPEN"
    assert s.window[1] == FULL[1]
    assert s.window[0] >= FULL[0]


# --- the loss was real ------------------------------------------------------------------------------------------------


@both
@pytest.mark.rfc(5682, "§2.1 step 3a")
@pytest.mark.rfc(5682, "§3.1 step 3a")
def test_rfc5682_2_1_step_3a_second_ack_is_a_duplicate_the_loss_is_real(sack: bool) -> None:
    """The new segments arrive behind a gap. Slow start goes on with what is held for lost, up to three segments."""
    s = timed_out(sack=sack)
    new = new_ones(s)
    s.advance(RTT)
    assert s.tick(1) == new
    s.advance(RTT)
    out = s.tick(1, *([(new[0], new[0] + 1)] if sack else []))
    assert out[:1] == [1]
    assert s.phase == "LOSS"
    assert s.window[0] <= 3 * MSS
    assert halved(s)
    out += s.tick(1, *([(new[0], new[1] + 1)] if sack else []))
    assert out[:2] == [1, 2]
    assert s.user.snd.undone == 0


@both
@pytest.mark.rfc(5682, "§2.1 step 2a")
@pytest.mark.rfc(5682, "§3.1 step 2a")
def test_rfc5682_2_1_step_2a_first_ack_covers_all_that_was_out_no_verdict(sack: bool) -> None:
    """It may answer the retransmission, all others having arrived long ago and their ACKs been lost."""
    s = timed_out(sack=sack, more=0)
    s.advance(RTT)
    s.tick(10)
    assert s.phase == "OPEN"
    assert s.user.snd.undone == 0
    assert s.window[0] <= 2 * MSS
    assert halved(s)


@pytest.mark.rfc(5682, "§2.1 step 2a")
def test_rfc5682_2_1_step_2a_without_sack_first_ack_is_a_duplicate_no_verdict() -> None:
    s = timed_out(sack=False)
    assert s.tick(0) == []
    assert s.tick(1) == [1, 2]  # conventional recovery: nothing new
    s.tick(2)
    assert s.user.snd.undone == 0
    assert s.phase == "LOSS"


@both
@pytest.mark.rfc(5682, "§2.1 step 2a")
def test_rfc5682_2_1_step_2a_first_ack_covers_a_part_of_the_retransmission_no_verdict(sack: bool) -> None:
    """A peer that acknowledges in crumbs must not make a loss look like none."""
    s = timed_out(sack=sack)
    highest = s.user.snd.nxt
    s.peer(". 1:1(0) ack 501 win 65535")
    s.take()
    assert s.user.snd.nxt == highest  # nothing new has left
    s.peer(". 1:1(0) ack 801 win 65535")
    assert s.user.snd.undone == 0
    assert s.phase == "LOSS"


# --- it cannot be tried -----------------------------------------------------------------------------------------------


@both
@pytest.mark.rfc(5682, "§2.1 step 2b")
def test_rfc5682_2_1_step_2b_nothing_new_to_send_conventional_recovery(sack: bool) -> None:
    s = timed_out(sack=sack, more=0)
    s.advance(RTT)
    assert s.tick(1) == [1, 2]
    s.tick(3)
    assert s.user.snd.undone == 0
    assert s.phase == "LOSS"
    assert halved(s)


@both
@pytest.mark.rfc(5682, "§2.1 step 2b")
def test_rfc5682_2_1_step_2b_peers_window_holds_nothing_new_conventional_recovery(sack: bool) -> None:
    s = timed_out(sack=sack, win=10 * MSS)
    s.advance(RTT)
    assert s.tick(1, win=9 * MSS) == [1, 2]
    s.tick(3, win=7 * MSS)
    assert s.user.snd.undone == 0
    assert halved(s)


@pytest.mark.rfc(5682, "§3.1")
def test_rfc5682_3_1_time_out_in_a_recovery_is_not_tried_with_sack() -> None:
    """The ACKs of what was sent before would look like originals."""
    s = Flight.answered(20)
    assert s.ack(0, (1, 4)) == [0]
    while not s.user.snd.timeouts:
        s.advance_to_next_deadline()
    s.leaving()
    s.advance(RTT)
    out = s.tick(4)
    assert all(n < 20 for n in out)
    s.tick(5)
    assert s.user.snd.undone == 0
    assert s.window[1] == 10 * MSS


@both
@pytest.mark.rfc(5682, "§2.1 step 1")
def test_rfc5682_2_1_step_1_time_out_in_a_recovery_after_a_time_out_is_not_tried(sack: bool) -> None:
    """RFC 5682 §2.1 step 1: already in RTO recovery, and another segment times out."""
    s = timed_out(sack=sack, more=0)
    s.advance(RTT)
    assert s.tick(1) == [1, 2]
    s.write(bytes(100 * MSS))
    s.leaving()
    while s.user.snd.timeouts < 2:
        s.advance_to_next_deadline()
    assert s.leaving()[-1] == 1
    before = s.user.snd.nxt
    s.advance(RTT)
    s.tick(2)
    assert s.user.snd.nxt == before  # nothing new: conventional
    s.tick(4)
    assert s.user.snd.undone == 0


@both
@pytest.mark.rfc(5681, "§3.1")
def test_rfc5681_3_1_whole_window_lost_is_mended_by_slow_start(sack: bool) -> None:
    """The three verdicts cost nothing when the loss is real: every segment goes again once, in a few round trips."""
    s = timed_out(sack=sack)
    began = s.now
    sent = s.deliver(10, first=[0])
    assert s.user.snd.timeouts == 1
    assert s.user.snd.undone == 0
    assert max(sent[n] for n in range(10)) == 1
    assert s.now - began < 7 * RTT


@pytest.mark.rfc(5682, "§2")
@pytest.mark.parametrize("sack", [False, True])
def test_rfc5682_2_segment_that_is_neither_an_ack_of_something_nor_a_duplicate_is_ignored(sack: bool) -> None:
    """A window update between the time-out and the first ACK."""
    s = Flight.of(10, sack=sack)
    while not s.user.snd.timeouts:
        s.advance_to_next_deadline()
    s.leaving()
    s.peer(". 1:1(0) ack 1 win 60000")
    s.take()
    s.tick(1, win=60000)
    s.tick(2, win=60000)
    assert s.user.snd.undone == 1


@pytest.mark.rfc(5682, "§3.1")
def test_rfc5682_3_1_with_sack_duplicate_before_the_first_ack_that_advances_stays_in_step_2() -> None:
    """Reordering around a delay: segment 1 overtakes 0, both late; then all is acknowledged in turn."""
    s = Flight.of(10)
    while not s.user.snd.timeouts:
        s.advance_to_next_deadline()
    s.leaving()
    s.tick(0, (1, 2))
    s.tick(2)
    s.tick(3)
    assert s.user.snd.undone == 1
    assert s.window[1] == 10 * MSS


@both
@pytest.mark.rfc(5682, "§2.1 step 2b")
def test_rfc5682_2_1_new_data_that_nagle_holds_back_gives_no_verdict_and_no_stall(sack: bool) -> None:
    """A small segment is out and another waits for its ACK: what is held for lost goes at once."""
    s = Flight.of(8, sack=sack, more=0)
    s.user.snd.cc.cwnd = 20 * MSS
    s.write(bytes(100))
    s.write(bytes(50))
    s.take()
    while not s.user.snd.timeouts:
        s.advance_to_next_deadline()
    s.take()
    s.advance(RTT)
    s.peer(f". 1:1(0) ack {1 + MSS} win 65535")
    assert len(s.take()) == 2
    assert s.user.snd.timeouts == 1
