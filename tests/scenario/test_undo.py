"""Recoveries that were a mistake, and are taken back: DSACK (RFC 2883, RFC 3708), Eifel (RFC 3522, RFC 4015)."""

import pytest

from tests.scenario.flight import MSS, RTT, Flight
from usertcp.units import MS

FULL = (20 * MSS, 20 * MSS)  # cwnd and ssthresh before
HALF = 10 * MSS
MARKED = 16 * MSS  # ABE (RFC 8511)


def recovering(*, timestamps: bool = False, more: int = 1000) -> Flight:
    """Twenty segments were out; 1 to 3 are reported, segment 0 has been sent again."""
    s = Flight.answered(20, timestamps=timestamps, more=more)
    assert s.window == FULL
    assert s.ack(0, (1, 4))[0] == 0
    assert s.phase == "RECOVERY"
    assert s.window[1] == HALF
    return s


def two_sent_again() -> Flight:
    """Segments 0 and 4 have been sent again."""
    s = Flight.answered(20)
    assert s.ack(0, (1, 4), (5, 6)) == [0, 4]
    return s


# --- DSACK ------------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(3708, "§3")
@pytest.mark.rfc(2883, "§4")
def test_rfc3708_3_dsack_in_recovery_of_the_only_retransmission_undoes_it() -> None:
    s = recovering()
    s.tick(5)  # the original came late
    s.tick(6)
    assert s.phase == "RECOVERY"
    s.tick(7, (0, 1))
    assert s.phase == "OPEN"
    assert s.window == FULL
    assert s.pipe == 20 * MSS  # and the window is used at once
    assert s.user.snd.retransmissions == 1


@pytest.mark.rfc(3708, "§3")
def test_rfc3708_3_dsack_after_recovery_undoes_it() -> None:
    s = recovering()
    recover = s.user.snd.outstanding // MSS
    for n in range(4, recover + 1):
        s.tick(n)
    assert s.phase == "OPEN"
    assert s.window[1] == HALF
    s.tick(recover + 1, (0, 1))
    assert s.window == FULL


@pytest.mark.rfc(3708, "§3")
def test_rfc3708_3_dsack_with_nothing_outstanding_undoes_as_well() -> None:
    s = recovering(more=0)
    for n in range(4, 21):
        s.tick(n)
    assert s.user.snd.outstanding == 0
    s.tick(20, (0, 1))
    assert s.window == FULL


@pytest.mark.rfc(3708, "§3")
def test_rfc3708_3_dsack_of_each_of_two_retransmissions_undoes_with_the_last() -> None:
    s = two_sent_again()
    s.tick(4)
    s.tick(6)
    s.tick(6, (0, 1))
    assert s.window[1] == HALF
    s.tick(6, (4, 5))
    assert s.phase == "OPEN"
    assert s.window == FULL


@pytest.mark.rfc(3708, "§3")
@pytest.mark.parametrize("needed", [0, 4])
def test_rfc3708_3_dsack_of_one_of_two_retransmissions_undoes_nothing(needed: int) -> None:
    """The other one was needed (B.2)."""
    s = two_sent_again()
    s.advance(RTT)
    s.tick(4, (5, 20))
    s.tick(20)
    s.tick(20, (4 - needed, 5 - needed))
    for n in range(21, 30):
        s.tick(n)
    assert s.phase == "OPEN"
    assert s.window[1] == HALF
    assert s.user.snd.undone == 0


@pytest.mark.rfc(3708, "§3")
def test_rfc3708_3_dsack_once_of_a_segment_sent_again_twice_undoes_nothing() -> None:
    """A.3: one of the two may have been needed."""
    s = recovering()
    sent = s.tick(0, (1, 8))
    assert sent
    s.advance(RTT)
    assert 0 in s.tick(0, (20, 21), (1, 8))  # the retransmission was lost, so it seems
    s.tick(4)
    s.tick(5, (0, 1))
    assert s.window[1] == HALF
    assert s.user.snd.undone == 0


@pytest.mark.rfc(3708, "§3")
def test_rfc3708_3_dsack_again_after_the_undo_changes_nothing() -> None:
    s = recovering()
    s.tick(5)
    s.tick(6, (0, 1))
    assert s.window == FULL
    s.tick(7, (0, 1))
    s.tick(7, (0, 1))
    assert s.window == FULL
    assert s.user.snd.undone == 1


@pytest.mark.rfc(3708, "§3")
def test_rfc3708_3_dsack_of_something_without_a_recovery_changes_nothing() -> None:
    """The network has duplicated a segment (A.4)."""
    s = Flight.answered(20)
    s.tick(5)
    s.tick(6, (3, 4))
    assert s.window == FULL
    assert s.phase == "OPEN"
    assert s.user.snd.undone == 0


@pytest.mark.rfc(2883, "§4")
def test_rfc2883_4_dsack_within_a_block_of_its_own_is_read_as_well() -> None:
    """RFC 2883 §4.1.3: received twice, but above the acknowledgment: the second block holds the first."""
    s = Flight.answered(20)
    assert s.ack(0, (1, 4), (5, 6)) == [0, 4]
    s.tick(0, (1, 7))  # 4 came late, 0 still waits
    s.tick(0, (4, 5), (1, 8))  # and its retransmission
    assert s.user.snd.dsacks == 1
    s.tick(8)
    s.tick(9, (0, 1))
    assert s.window == FULL


@pytest.mark.rfc(3708, "§3")
@pytest.mark.rfc(3168, "§6.1.2")
def test_rfc3708_3_dsack_does_not_undo_what_the_network_asked_for() -> None:
    s = Flight.answered(20)
    s.user.snd.on_ecn(MSS, s.now)
    s.tick(2)
    s.tick(3, (0, 1))
    assert s.phase == "CWR"
    assert s.window[1] == MARKED


# --- timestamps -------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(3522, "§3.2")
@pytest.mark.rfc(4015, "§3.1")
def test_rfc3522_3_2_eifel_ack_that_echoes_the_original_undoes_at_once() -> None:
    s = recovering(timestamps=True)
    sent_at = s.now - RTT
    s.tick(5, echo=sent_at)
    assert s.phase == "OPEN"
    assert s.window == FULL
    assert s.pipe == 20 * MSS
    assert s.user.snd.retransmissions == 1


@pytest.mark.rfc(3522, "§3.2")
@pytest.mark.parametrize("after", [0, 1 * MS, 20 * MS])
def test_rfc3522_3_2_eifel_ack_that_echoes_the_retransmission_undoes_nothing(after: int) -> None:
    s = recovering(timestamps=True)
    sent_again_at = s.now
    s.advance(RTT)
    s.tick(4, echo=sent_again_at + after)
    assert s.phase == "RECOVERY"
    assert s.window[1] == HALF
    assert s.user.snd.undone == 0


@pytest.mark.rfc(3522, "§3.2")
def test_rfc3522_3_2_eifel_duplicate_that_echoes_an_old_timestamp_undoes_nothing() -> None:
    """Only an ACK that advances SND.UNA is acceptable in this sense."""
    s = recovering(timestamps=True)
    sent_at = s.now - RTT
    for n in range(5, 12):
        s.tick(0, (1, n), echo=sent_at)
    assert s.phase == "RECOVERY"
    assert s.user.snd.undone == 0


@pytest.mark.rfc(3522, "§3.2")
def test_rfc3522_3_2_eifel_second_hole_filled_by_its_retransmission_undoes_nothing() -> None:
    """RetransmitTS is the first retransmission's, whatever is sent again later."""
    s = Flight.answered(20, timestamps=True)
    first_at = s.now
    assert s.ack(0, (1, 4), (5, 6), echo=first_at - RTT) == [0, 4]
    s.advance(RTT)
    s.tick(4, (5, 20), echo=first_at)
    s.tick(20, echo=first_at)
    assert s.user.snd.undone == 0
    assert s.window[1] == HALF


@pytest.mark.rfc(3522, "§3.2")
def test_rfc3522_3_2_eifel_original_in_the_millisecond_of_the_retransmission_is_no_evidence() -> None:
    """The timestamps are equal, not smaller."""
    s = recovering(timestamps=True)
    s.tick(5, echo=s.now)
    assert s.user.snd.undone == 0


@pytest.mark.rfc(4015, "§3.3")
def test_rfc4015_3_3_eifel_what_was_held_for_lost_is_not_sent_again_after_the_undo() -> None:
    s = Flight.answered(20, timestamps=True, more=0)
    sent_at = s.now - RTT
    assert s.ack(0, (15, 18), echo=sent_at) == [0, 1, 2]
    assert s.user.snd.board.lost == 12 * MSS
    assert s.tick(4, (15, 18), echo=sent_at) == []
    assert s.phase == "OPEN"
    assert s.user.snd.board.lost == 0
    assert s.window == FULL
    for n in range(5, 15):
        assert s.tick(n, (15, 18), echo=sent_at) == []
    assert s.tick(20, echo=sent_at) == []
    assert s.user.snd.retransmissions == 3


@pytest.mark.rfc(3522, "§3.2")
@pytest.mark.rfc(4015, "§3.1")
def test_rfc3522_3_2_eifel_time_out_that_was_spurious_is_undone() -> None:
    s = Flight.of(20, timestamps=True, sack=False)
    sent_at = s.now
    s.advance_to_next_deadline()
    assert s.leaving() == [0]
    assert s.window == (MSS, HALF)
    assert s.tick(1, echo=sent_at) == [20]  # nothing is sent again (RFC 4015 §3.3)
    assert s.phase == "OPEN"
    assert s.window == FULL
    assert s.tick(2, echo=sent_at) == [21]
    assert s.user.snd.retransmissions == 1


@pytest.mark.rfc(3522, "§3.2")
def test_rfc3522_3_2_eifel_two_time_outs_that_were_spurious_give_back_the_first_window() -> None:
    """RetransmitTS must not be overwritten by the second time-out, nor what is remembered of the window."""
    s = Flight.of(20, timestamps=True, sack=False)
    sent_at = s.now
    s.advance_to_next_deadline()
    first_at = s.now
    s.advance_to_next_deadline()
    assert s.leaving() == [0, 0]
    s.tick(1, echo=sent_at)
    assert s.window == FULL
    assert first_at > sent_at


@pytest.mark.rfc(3522, "§3.2")
def test_rfc3522_3_2_eifel_second_time_out_the_first_retransmission_answers_undoes_nothing() -> None:
    s = Flight.of(20, timestamps=True, sack=False)
    s.advance_to_next_deadline()
    first_at = s.now
    s.advance_to_next_deadline()
    s.leaving()
    s.tick(1, echo=first_at)
    assert s.user.snd.undone == 0
    assert s.window[1] == HALF


@pytest.mark.rfc(3522, "§3.2")
def test_rfc3522_3_2_eifel_time_out_that_was_needed_stays() -> None:
    s = Flight.of(20, timestamps=True, sack=False)
    s.advance_to_next_deadline()
    assert s.leaving() == [0]
    again_at = s.now
    s.advance(RTT)
    s.ack(1, echo=again_at)
    assert s.phase == "LOSS"
    assert s.window[1] == HALF


# --- what follows -----------------------------------------------------------------------------------------------------


@pytest.mark.rfc(8985, "§6.2")
@pytest.mark.parametrize("by", ["dsack", "eifel"])
def test_rfc8985_6_2_recovery_after_an_undone_one_is_one_of_its_own(by: str) -> None:
    s = recovering(timestamps=by == "eifel")
    sent_at = s.now - RTT
    if by == "eifel":
        s.tick(20, echo=sent_at)
    else:
        s.tick(20)
        s.tick(20, (0, 1))
    assert s.window[1] == 20 * MSS
    first = s.user.snd.outstanding // MSS
    s.advance(RTT)
    out = s.ack(20, (21, 30))
    s.advance(RTT)
    out += s.leaving()
    assert 20 in out
    assert s.phase == "RECOVERY"
    assert s.window[1] == pytest.approx(first * MSS // 2, abs=MSS)


@pytest.mark.rfc(3708, "§3")
def test_rfc3708_3_reordering_without_loss_costs_no_window() -> None:
    """Segments come 60 ms late, again and again: spurious recoveries are undone, and are fewer as the window adapts."""
    s = Flight.of(20)
    late = {(n, 0): 60 * MS for n in range(30, 400, 20)}
    sent = s.deliver(400, late=late, first=range(20))
    assert s.user.snd.timeouts == 0
    assert s.window[0] >= 20 * MSS
    assert s.window[1] >= 20 * MSS
    repeated = sum(times - 1 for times in sent.values())
    assert repeated < len(late) // 2


@pytest.mark.rfc(3708, "§3")
def test_rfc3708_3_dsack_of_data_from_before_the_recovery_undoes_nothing() -> None:
    """A needed retransmission; then a late duplicate of something long acknowledged (a probe, a recovery before)."""
    s = Flight.answered(20)
    s.ack(10)
    s.advance(RTT)
    assert s.ack(10, (11, 14))[0] == 10
    s.tick(10, (3, 4), (11, 15))
    s.advance(RTT)
    s.tick(20)
    assert s.user.snd.undone == 0


@pytest.mark.rfc(3708, "§3")
def test_rfc3708_3_dsack_of_a_segment_never_sent_again_undoes_nothing() -> None:
    """A.4: the network has duplicated 5; the retransmission of 0 was needed."""
    s = Flight.answered(20)
    assert s.ack(0, (1, 4))[0] == 0
    s.tick(0, (5, 6), (1, 8))
    s.advance(RTT)
    s.tick(20)
    assert s.user.snd.undone == 0


@pytest.mark.rfc(3522, "§3.2")
def test_rfc3522_3_2_ack_of_a_retransmission_from_the_recovery_before_undoes_nothing() -> None:
    """Recovery follows recovery; the first one's retransmission of 30 is older than the second one's first."""
    s = Flight.of(20, timestamps=True)
    s.deliver(100, lose={(5, 0), (5, 1), (7, 0), (30, 0), (36, 0)}, first=range(20))
    assert s.user.snd.undone == 0
    assert s.window[1] == 5 * MSS


@pytest.mark.rfc(3522, "§3.2")
def test_rfc3522_3_2_ack_of_the_probe_after_a_time_out_undoes_nothing() -> None:
    """The lone segment was lost; its probe is late, the RTO runs out. The echo is the probe's: no original arrived."""
    s = Flight.of(1, more=0, timestamps=True)
    s.advance_to_next_deadline()
    assert s.leaving() == [0]
    assert s.user.snd.timeouts == 0
    probed_at = s.now
    s.advance_to_next_deadline()
    assert s.user.snd.timeouts == 1
    s.tick(1, echo=probed_at)
    assert s.user.snd.undone == 0


@pytest.mark.rfc(3708, "§3")
def test_rfc3708_3_same_dsack_twice_counts_once() -> None:
    """Of two retransmissions one was needed; the network doubles the other one."""
    s = Flight.answered(20)
    assert s.ack(0, (1, 4), (5, 6)) == [0, 4]
    s.tick(0, (1, 7))  # 4 came late
    s.tick(0, (4, 5), (1, 8))
    s.tick(0, (4, 5), (1, 9))
    s.advance(RTT)
    s.tick(20)
    assert s.user.snd.undone == 0


# --- ECN --------------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(3168, "§6.1.2")
@pytest.mark.parametrize("marked_first", [True, False])
def test_rfc3168_6_1_2_dsack_undoes_no_reduction_that_a_mark_asked_for(marked_first: bool) -> None:
    s = Flight.answered(20)
    left = MARKED if marked_first else HALF
    if marked_first:
        s.user.snd.on_ecn(MSS, s.now)
        assert s.phase == "CWR"
    assert s.ack(0, (1, 4))[0] == 0
    assert (s.phase, s.window[1]) == ("RECOVERY", left)
    if not marked_first:
        s.user.snd.on_ecn(MSS, s.now)
    s.tick(5)
    s.tick(6)
    s.tick(7, (0, 1))
    assert (s.phase, s.window[1]) == ("RECOVERY", left)


@pytest.mark.rfc(3522, "§3.2")
def test_rfc3522_3_2_recovery_after_recovery_remembers_only_what_is_under_way() -> None:
    """A recovery that begins with a retransmission of the last one under way: a peer that arranges it for ever must not
    make us remember for ever."""
    s = recovering()
    snd = s.user.snd
    s.advance(RTT)
    assert s.tick(4, (7, 30))[:3] == [4, 5, 6]
    again_at = s.now
    snd.recover = snd.una + MSS  # as if it had begun there
    s.tick(5, (7, 31))
    assert s.phase == "RECOVERY"
    assert snd.recover == snd.nxt
    assert [start for start, _ in snd.resent] == [snd.una]
    assert snd.first_resent_at == again_at
