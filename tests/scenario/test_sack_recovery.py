"""Losses mended by what SACK reports: RFC 6675, RFC 2018, RFC 8985 §6; limited transmit: RFC 3042."""

import pytest

from tests.scenario.flight import MSS, RTT, Flight, edge
from usertcp.tcp.scoreboard import IN_FLIGHT, LOST, SACKED
from usertcp.units import MASK32, MS

SMALL = 85  # bytes: segment 3 of this size begins exactly at 2^32


# --- entering and leaving ---------------------------------------------------------------------------------------------


@pytest.mark.rfc(6675, "§5")
@pytest.mark.rfc(8985, "§6.2")
def test_rfc6675_5_one_loss_third_sacked_segment_begins_recovery_and_the_full_ack_ends_it() -> None:
    s = Flight.answered(10)
    assert s.tick(0, (1, 2)) == [10]
    assert s.tick(0, (1, 3)) == [11]
    assert s.phase == "OPEN"
    assert s.tick(0, (1, 4)) == [0]
    assert s.phase == "RECOVERY"
    assert s.window[1] == 5 * MSS
    for n in range(5, 11):
        s.tick(0, (1, n))
    s.advance(RTT - 10 * MS)
    s.tick(0, (1, 12))
    assert s.phase == "RECOVERY"
    s.tick(12)  # the retransmission has filled the hole
    assert s.phase == "OPEN"
    assert s.window == (5 * MSS, 5 * MSS)
    assert s.user.snd.retransmissions == 1
    assert s.user.snd.timeouts == 0


@pytest.mark.rfc(6675, "§5")
def test_rfc6675_5_two_losses_in_a_window_are_mended_in_one_recovery() -> None:
    s = Flight.answered(10)
    assert s.tick(0, (1, 2)) == [10]
    assert s.tick(0, (1, 3)) == [11]
    assert s.tick(0, (4, 5), (1, 3)) == [0]  # the third that was SACKed: 0 and 3 are missing
    assert s.user.snd.board.lost == MSS
    sent = [s.tick(0, (4, n), (1, 3)) for n in range(6, 11)]
    assert next(n for out in sent for n in out) == 3  # before anything new (RFC 6675 §4, NextSeg rule 1)
    s.advance(RTT - 10 * MS)
    s.tick(3, (4, 12))  # a partial ACK: the first hole is filled
    assert s.phase == "RECOVERY"
    s.tick(12)
    assert s.phase == "OPEN"
    assert s.window == (5 * MSS, 5 * MSS)
    assert s.user.snd.retransmissions == 2


@pytest.mark.rfc(6675, "§5")
@pytest.mark.rfc(9937, "§6.4")
@pytest.mark.parametrize("count", [1, 2, 3, 7, 12, 17])
def test_rfc6675_5_many_losses_at_the_head_of_a_window_each_is_sent_again_once(count: int) -> None:
    s = Flight.of(20)
    lost = {(n, 0) for n in range(count)}
    sent = s.deliver(60, lose=lost, first=range(20))
    assert {n for n, times in sent.items() if times > 1} == set(range(count))
    assert max(sent.values()) == 2
    assert s.user.snd.timeouts == 0
    assert s.window[1] == 10 * MSS


@pytest.mark.rfc(6675, "§5")
@pytest.mark.parametrize("step", [2, 3, 5])
def test_rfc6675_5_many_losses_scattered_over_a_window_each_is_sent_again_once(step: int) -> None:
    s = Flight.of(20)
    lost = {(n, 0) for n in range(0, 20, step)}
    sent = s.deliver(60, lose=lost, first=range(20))
    assert {n for n, times in sent.items() if times > 1} == {n for n, _ in lost}
    assert max(sent.values()) == 2
    assert s.user.snd.timeouts == 0
    assert s.window[1] == 10 * MSS


@pytest.mark.rfc(2018, "§5.1")
@pytest.mark.rfc(6675, "§5")
def test_rfc6675_5_two_segments_sacked_are_not_enough() -> None:
    s = Flight.answered(10)
    assert s.ack(0, (1, 3)) == [10, 11]
    assert s.phase == "OPEN"


@pytest.mark.rfc(6675, "§5")
def test_rfc6675_5_three_segments_in_one_block_of_one_ack_are_enough() -> None:
    """RFC 6675 §5 (2): the ACKs before may have been lost."""
    s = Flight.answered(10)
    assert s.ack(0, (1, 4))[0] == 0
    assert s.phase == "RECOVERY"


@pytest.mark.rfc(6675, "§2")
def test_rfc6675_2_ack_that_advances_may_begin_recovery() -> None:
    """What is cumulatively acknowledged and what is missing behind it come in one ACK."""
    s = Flight.answered(10)
    assert s.ack(2, (3, 6))[0] == 2
    assert s.phase == "RECOVERY"
    assert s.window[1] == 5 * MSS


@pytest.mark.rfc(6675, "§5")
@pytest.mark.rfc(5681, "§4.3")
def test_rfc6675_5_loss_in_the_next_window_after_a_recovery_halves_again() -> None:
    s = Flight.of(20)
    sent = s.deliver(100, lose={(0, 0), (40, 0)}, first=range(20))
    assert (sent[0], sent[40]) == (2, 2)
    assert s.window[1] == pytest.approx(5 * MSS, abs=MSS)


@pytest.mark.rfc(6675, "§5")
@pytest.mark.rfc(5681, "§4.3")
def test_rfc6675_5_loss_of_data_sent_in_the_recovery_halves_again_when_that_is_over() -> None:
    """Segment 30 is of the next window; it is found and mended before the first one's losses are."""
    s = Flight.of(20)
    sent = s.deliver(100, lose={(5, 0), (5, 1), (7, 0), (30, 0)}, first=range(20))
    assert (sent[5], sent[7], sent[30]) == (3, 2, 2)
    assert s.user.snd.timeouts == 0
    assert s.window[1] == 5 * MSS


@pytest.mark.rfc(6675, "§5")
def test_rfc6675_5_losses_of_one_window_halve_once() -> None:
    s = Flight.of(20)
    s.deliver(60, lose={(0, 0), (9, 0), (19, 0)}, first=range(20))
    assert s.window[1] == 10 * MSS


@pytest.mark.rfc(6675, "§5")
def test_rfc6675_5_recovery_point_is_what_was_sent_when_recovery_began() -> None:
    """What limited transmit sent belongs to it; what is sent in the recovery does not."""
    s = Flight.answered(10)
    s.tick(0, (1, 3))
    s.tick(0, (1, 4))
    for n in range(5, 11):
        s.tick(0, (1, n))
    new = s.user.snd.outstanding // MSS
    assert new > 12
    s.advance(RTT)
    s.tick(11, (12, 13))
    assert s.phase == "RECOVERY"
    s.tick(12)
    assert s.phase == "OPEN"


@pytest.mark.rfc(6675, "§5")
def test_rfc6675_5_what_is_sacked_above_the_recovery_point_is_kept_when_recovery_ends() -> None:
    s = Flight.answered(10)
    assert s.tick(0, (1, 4))[0] == 0
    for n in range(5, 11):
        s.tick(0, (1, n))
    s.advance(RTT)
    s.tick(0, (11, 12), (1, 10))
    assert s.phase == "RECOVERY"
    s.tick(10)  # the recovery point: but the segment there, sent meanwhile, is lost too
    assert s.phase == "RECOVERY"
    assert s.user.snd.board.sacked == MSS


# --- the retransmission is lost as well -------------------------------------------------------------------------------


@pytest.mark.rfc(8985, "§9.1")
def test_rfc8985_9_1_lost_retransmission_is_found_by_what_was_sent_after_it() -> None:
    s = Flight.of(20)
    sent = s.deliver(60, lose={(5, 0), (5, 1), (8, 0)}, first=range(20))
    assert (sent[5], sent[8]) == (3, 2)
    assert max(times for n, times in sent.items() if n not in (5, 8)) == 1
    assert s.user.snd.timeouts == 0


@pytest.mark.rfc(8985, "§9.1")
def test_rfc8985_9_1_lost_retransmissions_of_a_burst_are_found() -> None:
    s = Flight.of(20)
    burst = range(5, 9)
    sent = s.deliver(60, lose={(n, k) for n in burst for k in (0, 1)}, first=range(20))
    assert [sent[n] for n in burst] == [3] * 4
    assert s.user.snd.timeouts == 0


@pytest.mark.rfc(8985, "§9.1")
def test_rfc8985_9_1_retransmission_of_which_nothing_later_is_known_is_not_held_for_lost() -> None:
    s = Flight.answered(20)
    assert s.tick(0, (1, 4)) == [0]
    for n in range(5, 21):
        assert 0 not in s.tick(0, (1, n))  # all of them were sent before the retransmission
    assert s.user.snd.retransmissions == 1


@pytest.mark.rfc(8985, "§6.2")
def test_rfc8985_6_2_lost_retransmission_is_marked_when_the_segment_sent_after_it_is_sacked() -> None:
    s = Flight.answered(20)
    assert s.tick(0, (1, 4)) == [0]
    assert s.tick(0, (1, 5)) == [20]
    for n in range(6, 21):
        assert 0 not in s.tick(0, (1, n))
    s.advance(RTT - 16 * MS)
    assert s.tick(0, (1, 21))[0] == 0
    assert s.phase == "RECOVERY"


# --- the scoreboard ---------------------------------------------------------------------------------------------------


@pytest.mark.rfc(6675, "§4")
def test_rfc6675_4_pipe_counts_neither_what_is_sacked_nor_what_is_lost_but_what_was_sent_again() -> None:
    s = Flight.answered(10, more=0)
    assert s.pipe == 10 * MSS
    s.tick(0, (1, 2))
    assert s.pipe == 9 * MSS
    s.tick(0, (5, 6), (1, 2))
    assert s.pipe == 8 * MSS
    assert s.tick(0, (7, 8), (5, 6), (1, 2)) == [0]  # 0, 2, 3, 4 and 6 are lost, 0 is sent again; 8 and 9 fly
    assert s.user.snd.board.lost == 4 * MSS
    assert s.pipe == 3 * MSS
    assert s.pipe == s.user.snd.outstanding - s.user.snd.board.sacked - s.user.snd.board.lost


@pytest.mark.rfc(6675, "§3")
def test_rfc6675_3_block_in_a_super_segment_splits_its_record_and_neighbours_join_again() -> None:
    s = Flight.answered(20)
    board = s.user.snd.board
    assert s.bursts > 0
    assert len(board) == 1  # one burst, one record
    s.ack(0, (3, 5))
    spans = [(r.start - board.first.start, r.end - board.first.start) for r in board] if board.first else []
    assert spans[:3] == [(0, 3 * MSS), (3 * MSS, 5 * MSS), (5 * MSS, 20 * MSS)]
    s.ack(0, (3, 6))
    assert [r.state for r in board].count(SACKED) == 1
    s.ack(0, (8, 9), (3, 6))
    assert [r.state for r in board].count(SACKED) == 2
    s.ack(0, (3, 9))
    assert [r.state for r in board].count(SACKED) == 1
    s.ack(9)
    assert [r.state for r in board].count(SACKED) == 0


@pytest.mark.rfc(6675, "§3")
def test_rfc6675_3_records_are_as_many_as_holes_and_not_as_segments() -> None:
    s = Flight.answered(40, more=0)
    for n in range(1, 40):
        s.ack(0, (1, n + 1))
    assert len(s.user.snd.board) == 2


@pytest.mark.rfc(2018, "§5")
def test_rfc2018_4_block_that_covers_half_a_segment_reports_none_of_it() -> None:
    """A record is only cut between segments: what is not wholly there is sent again as a whole."""
    s = Flight.answered(10, more=0)
    s.peer(f". 1:1(0) ack 1 win 65535 <nop,nop,sack {edge(2) + 500}:{edge(5) + 300}>")
    assert s.user.snd.board.sacked == 2 * MSS
    sacked = [r for r in s.user.snd.board if r.state == SACKED]
    assert [(r.start - s.user.snd.una) // MSS for r in sacked] == [3]


@pytest.mark.rfc(2018, "§5")
@pytest.mark.parametrize("block", ["1:1", "3001:2001", "9001:12001", "11001:12001", f"{MASK32 - 5000}:1"])
def test_rfc2018_4_block_that_cannot_be_is_ignored(block: str) -> None:
    """Empty, turned round, past SND.NXT, long past."""
    s = Flight.answered(10, more=0)
    s.peer(f". 1:1(0) ack 1 win 65535 <nop,nop,sack {block}>")
    assert s.leaving() == []
    assert s.user.snd.board.sacked == 0
    assert s.pipe == 10 * MSS


@pytest.mark.rfc(6675, "§3")
def test_rfc6675_3_holes_at_the_wrap_of_the_sequence_numbers_are_mended() -> None:
    """Segment 3 begins at 2^32: the blocks end there, begin there, and reach across. (Plain numbers do not.)"""
    s = Flight.of(20, mss=SMALL)
    s.advance(RTT)
    assert s.user.snd.iss < 1 << 31 or (s.user.snd.una + 3 * SMALL) % 2**32 == 0
    assert s.tick(0, (1, 3)) == [20, 21]  # up to the wrap
    assert s.tick(0, (4, 5), (1, 3)) == [0]
    assert s.user.snd.board.lost == SMALL  # segment 3, which begins there
    assert s.tick(0, (4, 6), (1, 3)) == []
    assert s.tick(0, (4, 7), (1, 3)) == []
    assert s.tick(0, (4, 8), (1, 3)) == [3]
    s.advance(RTT)
    assert 3 not in s.tick(3, (4, 22))  # the ACK is 2^32 itself
    s.tick(22)
    assert s.phase == "OPEN"
    assert s.user.snd.retransmissions == 2


@pytest.mark.rfc(6675, "§3")
def test_rfc6675_3_one_block_across_the_wrap_is_one_record() -> None:
    s = Flight.of(20, mss=SMALL)
    s.advance(RTT)
    assert s.tick(0, (2, 5))[0] == 0
    sacked = [r for r in s.user.snd.board if r.state == SACKED]
    assert [(r.start - s.user.snd.una) // SMALL for r in sacked] == [2]
    assert sacked[0].end - sacked[0].start == 3 * SMALL


@pytest.mark.rfc(6675, "§5")
@pytest.mark.parametrize("shift", range(5))
def test_rfc6675_5_losses_around_the_wrap_are_mended_wherever_they_lie(shift: int) -> None:
    s = Flight.of(20, mss=SMALL)
    lost = {(n + shift, 0) for n in (0, 1, 3)}
    sent = s.deliver(60, lose=lost, first=range(20))
    assert {n for n, times in sent.items() if times > 1} == {n for n, _ in lost}
    assert s.user.snd.timeouts == 0


# --- a peer that reneges ----------------------------------------------------------------------------------------------


@pytest.mark.rfc(2018, "§5 left edge")
@pytest.mark.rfc(2018, "§5 time-out")
@pytest.mark.rfc(2018, "§8")
def test_rfc2018_8_reneging_peer_gets_after_the_time_out_what_it_threw_away() -> None:
    """It reported 1 to 9, then lost its memory: segment 0 arrives, and it asks for 1."""
    s = Flight.answered(10, more=0)
    assert s.ack(0, (1, 10)) == [0]
    s.advance(RTT)
    s.ack(1)  # not 10, and no blocks
    assert s.user.snd.board.sacked == 9 * MSS
    s.advance_to_next_deadline()
    assert s.user.snd.timeouts == 1
    assert s.leaving() == [1]
    assert s.user.snd.board.sacked == 0
    sent = []
    for n in range(2, 11):
        s.advance(RTT)
        sent += s.ack(n)
    assert sent == list(range(2, 10))
    assert s.user.snd.outstanding == 0


@pytest.mark.rfc(2018, "§8")
def test_rfc2018_8_sacked_data_stays_in_the_buffer_until_it_is_acknowledged() -> None:
    s = Flight.answered(10, more=0)
    s.ack(0, (1, 10))
    assert len(s.user.snd.buffer) == 10 * MSS


@pytest.mark.rfc(2018, "§5 left edge")
@pytest.mark.rfc(2018, "§5 time-out")
@pytest.mark.rfc(6675, "§5.1")
def test_rfc6675_5_1_time_out_with_sacked_data_sends_the_first_segment_again() -> None:
    s = Flight.answered(10, more=0)
    assert s.ack(0, (1, 10)) == [0]
    s.advance_to_next_deadline()
    assert s.leaving() == [0]
    assert s.user.snd.timeouts == 1
    s.advance(RTT)
    assert s.ack(10) == []
    assert s.user.snd.outstanding == 0


# --- limited transmit -------------------------------------------------------------------------------------------------


@pytest.mark.rfc(5681, "§3.2 step 1")
@pytest.mark.rfc(3042, "§2")
@pytest.mark.parametrize("sack", [False, True])
def test_rfc3042_2_limited_transmit_one_new_segment_for_each_of_the_first_two_duplicates(sack: bool) -> None:
    s = Flight.answered(4, sack=sack)
    blocks = [((1, n + 1),) if sack else () for n in range(1, 4)]
    assert s.tick(0, *blocks[0]) == [4]
    assert s.tick(0, *blocks[1]) == [5]
    assert s.window == (4 * MSS, 4 * MSS)  # they do not change the window
    assert s.tick(0, *blocks[2]) == [0]
    assert s.window[1] == 2 * MSS  # and are not counted when it is halved (RFC 5681 §3.2 step 2)


@pytest.mark.rfc(5681, "§3.2 step 1")
@pytest.mark.rfc(3042, "§2")
def test_rfc3042_2_limited_transmit_duplicate_without_new_sack_information_sends_nothing() -> None:
    """RFC 3042 §2: with SACK, only a duplicate that reports something new."""
    s = Flight.answered(4)
    assert s.tick(0, (1, 2)) == [4]
    assert s.tick(0, (1, 2)) == []
    assert s.tick(0) == []
    assert s.phase == "OPEN"


@pytest.mark.rfc(5681, "§3.2 step 1")
@pytest.mark.rfc(3042, "§2")
@pytest.mark.parametrize("sack", [False, True])
def test_rfc3042_2_limited_transmit_keeps_to_the_peers_window(sack: bool) -> None:
    s = Flight.answered(4, sack=sack, win=4 * MSS)
    assert s.tick(0, *([(1, 2)] if sack else []), win=4 * MSS) == []
    assert s.tick(0, *([(1, 3)] if sack else []), win=4 * MSS) == []


@pytest.mark.rfc(3042, "§2")
@pytest.mark.parametrize("sack", [False, True])
def test_rfc3042_2_limited_transmit_window_of_three_segments_recovers_without_time_out(sack: bool) -> None:
    """What limited transmit is for: the third duplicate comes of the segment that the first one let go. (With SACK
    the reordering timer is faster.)"""
    s = Flight.answered(3, sack=sack)
    assert s.tick(0, *([(1, 2)] if sack else [])) == [3]
    assert s.tick(0, *([(1, 3)] if sack else [])) == [4]
    s.advance(RTT - 2 * MS)
    s.tick(0, *([(1, 4)] if sack else []))
    assert s.phase == "RECOVERY"
    assert s.user.snd.retransmissions == 1
    assert s.user.snd.timeouts == 0


# --- what goes next ---------------------------------------------------------------------------------------------------


@pytest.mark.rfc(6675, "§4")
def test_rfc6675_4_recovery_holes_go_before_new_data_the_lowest_first() -> None:
    s = Flight.answered(20)
    sent = s.ack(0, (1, 2), (4, 5), (7, 9))
    for k in range(10, 21):
        sent += s.tick(0, (7, k), (4, 5), (1, 2))
    assert sent[:5] == [0, 2, 3, 5, 6]
    assert all(n >= 20 for n in sent[5:])


@pytest.mark.rfc(6675, "§5")
def test_rfc6675_5_peers_window_stops_new_data_but_not_what_was_lost() -> None:
    s = Flight.answered(20, win=20 * MSS)
    assert s.ack(0, (1, 5), win=20 * MSS) == [0]
    for n in range(6, 21):
        assert s.tick(0, (1, n), win=20 * MSS) == []
    assert s.user.snd.retransmissions == 1


@pytest.mark.rfc(9293, "MAY-7")
def test_rfc9293_3_8_6_window_taken_back_limits_retransmissions() -> None:
    """SHLD-14 says that a peer does not do so; MUST-34: what it does not want is not sent, before it opens again."""
    s = Flight.answered(10, more=0)
    assert s.ack(0, (5, 9), win=1 * MSS) == [0]  # 0 to 4 are lost: the window holds 0
    assert s.tick(0, (5, 10), win=1 * MSS) == []
    s.advance(RTT)
    assert s.ack(1, (5, 10), win=2 * MSS) == [1, 2]
    assert s.tick(1, (5, 10), win=9 * MSS) == [3, 4]


@pytest.mark.rfc(6675, "§5")
def test_rfc6675_5_lost_record_is_told_apart_from_one_in_flight() -> None:
    s = Flight.answered(10, more=0)
    s.ack(0, (4, 7))
    states = {(r.start - s.user.snd.una) // MSS: r.state for r in s.user.snd.board}
    assert states == {0: IN_FLIGHT, 2: LOST, 4: SACKED, 7: IN_FLIGHT}
    assert s.pipe == 5 * MSS  # 0 and 1, sent again, and 7 to 9


@pytest.mark.rfc(6675, "§5.1")
def test_rfc6675_5_1_after_a_time_out_no_recovery_begins_before_all_that_was_out_is_acknowledged() -> None:
    s = Flight.of(10)
    while not s.user.snd.timeouts:
        s.advance_to_next_deadline()
    s.leaving()
    recover = s.user.snd.outstanding // MSS
    ssthresh = s.window[1]
    s.advance(RTT)
    new = s.tick(1)
    s.advance(RTT)
    s.tick(1, (new[0], new[1] + 1))  # the loss was real
    s.advance(RTT)
    s.tick(3, (new[0], new[1] + 1))
    s.advance(RTT)
    assert s.phase == "LOSS"
    s.tick(3, (4, 6), (new[0], new[1] + 1))  # 3 was lost again: it is sent again, and that is all
    assert s.phase == "LOSS"
    assert s.window[1] == ssthresh
    assert recover > 6
