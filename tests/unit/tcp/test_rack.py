"""RACK (RFC 8985 §6.2): who has lost the race, by when it was sent and what of it is known to have arrived."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usertcp.tcp.rack import PERSIST, Rack
from usertcp.tcp.scoreboard import IN_FLIGHT, LOST, Scoreboard
from usertcp.units import MS, NEVER

BASE: Final = 0xFFFF_FF00
SEG: Final = 1000
RTT: Final = 40 * MS


def _seq(i: int) -> int:
    """Where segment ``i`` begins."""
    return BASE + i * SEG


class Path:
    """Segments, one record each, and what RACK makes of their acknowledgments."""

    def __init__(self, *sent_at: int) -> None:
        """Segment i was sent at ``sent_at[i]`` (ms)."""
        self.board = Scoreboard()
        self.rack = Rack()
        for i, at in enumerate(sent_at):
            self.board.push(_seq(i), _seq(i + 1), at * MS, SEG)

    def sack(self, at: int, *segments: int, echoed: int = -1, min_rtt: int = 0) -> None:
        """At ``at`` (ms) an ACK reports ``segments``; its echo is of what was sent at ``echoed`` (ms)."""
        for i in segments:
            self.board.sack(_seq(i), _seq(i + 1))
        self._deliver(at, echoed, min_rtt)

    def ack(self, at: int, upto: int, echoed: int = -1, min_rtt: int = 0) -> None:
        """At ``at`` (ms) an ACK covers the segments below ``upto``."""
        self.board.ack_to(_seq(upto))
        self._deliver(at, echoed, min_rtt)

    def _deliver(self, at: int, echoed: int, min_rtt: int) -> None:
        self.rack.on_delivered(self.board.fresh, echoed if echoed < 0 else echoed * MS, min_rtt * MS, at * MS)
        self.board.fresh.clear()

    def resend(self, i: int, at: int) -> None:
        """Segment ``i`` is sent again at ``at`` (ms)."""
        for record in list(self.board):
            if record.start == _seq(i) and record.state == IN_FLIGHT:
                self.board.mark_lost(record)
        self.board.resend(_seq(i), _seq(i + 1), at * MS, SEG)

    def detect(self, at: int, reo_wnd: int = 0) -> tuple[list[int], int]:
        """The segments found lost at ``at`` (ms), and when to look again (ms; NEVER: need not)."""
        lost, due = self.rack.detect(self.board, reo_wnd * MS, at * MS)
        return [(record.start - BASE) // SEG for record in lost], due if due == NEVER else due // MS

    @property
    def newest(self) -> tuple[int, int, int]:
        """When the newest delivered segment was sent (ms), its end in segments, its round trip (ms)."""
        rack = self.rack
        return rack.sent_at // MS, (rack.end - BASE) // SEG, rack.rtt // MS

    def states(self) -> str:
        return "".join(".LS"[record.state] for record in self.board for _ in range(record.start, record.end, SEG))


# --- step 2: the delivered segment that was sent last ----------------------------------------------------------------


@pytest.mark.rfc(8985, "§6.2 step 2")
def test_delivered_segment_sent_later_is_the_one_remembered() -> None:
    path = Path(0, 10, 20)
    path.sack(41, 1)
    assert path.newest == (10, 2, 31)
    path.sack(60, 2)
    assert path.newest == (20, 3, 40)


@pytest.mark.rfc(8985, "§6.2 step 2")
def test_delivered_segment_sent_earlier_leaves_the_newest() -> None:
    path = Path(0, 10, 20)
    path.sack(60, 2)
    path.ack(65, 1)
    assert path.newest[:2] == (20, 3)


@pytest.mark.rfc(8985, "§6.2")
def test_segments_of_one_instant_delivered_are_told_apart_by_their_number() -> None:
    path = Path(0, 0, 0)
    path.sack(40, 1)
    assert path.newest == (0, 2, 40)
    path.ack(41, 1)
    assert path.newest[:2] == (0, 2)
    path.sack(42, 2)
    assert path.newest[:2] == (0, 3)


@pytest.mark.rfc(8985, "§6.2 step 2")
def test_retransmission_answered_sooner_than_the_least_round_trip_does_not_count() -> None:
    path = Path(0, 10)
    path.resend(0, 50)
    path.ack(80, 1, min_rtt=40)  # the original answers
    assert path.rack.sent_at == -1
    path.ack(90, 2, min_rtt=40)
    assert path.newest == (10, 2, 80)


@pytest.mark.rfc(8985, "§6.2 step 2")
def test_retransmission_answered_with_an_older_echo_does_not_count() -> None:
    path = Path(0, 10)
    path.resend(0, 50)
    path.ack(100, 1, echoed=0, min_rtt=40)
    assert path.rack.sent_at == -1


@pytest.mark.rfc(8985, "§6.2 step 2")
@pytest.mark.parametrize("echoed", [-1, 50])
def test_retransmission_answered_in_its_time_counts(echoed: int) -> None:
    path = Path(0, 10)
    path.resend(0, 50)
    path.ack(90, 1, echoed=echoed, min_rtt=40)
    assert path.newest == (50, 1, 40)


@pytest.mark.rfc(8985, "§6.2 step 2")
def test_round_trip_of_an_ack_for_many_is_that_of_the_one_sent_last() -> None:
    path = Path(0, 0, 0)
    path.resend(0, 100)
    path.ack(140, 3, min_rtt=40)  # the SACKs of the originals were lost
    assert path.newest == (100, 1, 40)


def test_original_answered_sooner_than_ever_counts() -> None:
    path = Path(0)
    path.ack(10, 1, min_rtt=40)
    assert path.newest == (0, 1, 10)


# --- step 3: reordering ----------------------------------------------------------------------------------------------


@pytest.mark.rfc(8985, "§6.2 step 3")
def test_original_delivered_below_the_highest_shows_reordering() -> None:
    path = Path(0, 0, 0)
    path.sack(40, 2)
    assert not path.rack.reordering_seen
    assert path.rack.fack == _seq(3)
    path.ack(41, 1)
    assert path.rack.reordering_seen
    assert path.rack.overtaken == 2 * SEG
    assert path.rack.fack == _seq(3)


@pytest.mark.rfc(8985, "§6.2 step 3")
def test_retransmission_delivered_below_the_highest_shows_no_reordering() -> None:
    path = Path(0, 0, 0)
    path.sack(40, 2)
    path.resend(0, 50)
    path.ack(90, 1)
    assert not path.rack.reordering_seen


@pytest.mark.rfc(8985, "§6.2 step 3")
def test_segments_delivered_by_one_ack_with_the_highest_block_first_show_no_reordering() -> None:
    path = Path(0, 0, 0, 0, 0)
    path.sack(40, 4, 2)  # the ACK between was lost; the newest block comes first (RFC 2018 §4)
    assert not path.rack.reordering_seen
    path.sack(41, 3)
    assert path.rack.reordering_seen


def test_segments_delivered_in_order_show_no_reordering() -> None:
    path = Path(0, 0, 0, 0)
    path.ack(40, 1)
    path.sack(40, 2, 3)
    assert not path.rack.reordering_seen


# --- step 4: the reordering window -----------------------------------------------------------------------------------


@pytest.mark.rfc(8985, "§6.2 step 4")
def test_window_without_reordering_is_nothing_for_the_eager_and_a_quarter_otherwise() -> None:
    rack = Rack()
    assert rack.reo_wnd(RTT, 2 * RTT, eager=True) == 0
    assert rack.reo_wnd(RTT, 2 * RTT, eager=False) == RTT // 4


@pytest.mark.rfc(8985, "§6.2 step 4")
def test_window_once_reordering_was_seen_is_a_quarter_for_the_eager_too() -> None:
    rack = Rack()
    rack.reordering_seen = 1
    assert rack.reo_wnd(RTT, 2 * RTT, eager=True) == RTT // 4


def test_window_before_any_sample_is_nothing() -> None:
    assert Rack().reo_wnd(0, 0, eager=False) == 0


@pytest.mark.rfc(8985, "§6.2 step 4")
def test_duplicate_reports_widen_the_window_by_a_quarter_each_round_trip_up_to_srtt() -> None:
    rack = Rack()
    widths = []
    for round_trip in range(10):
        for _ in range(3):  # of those in one round trip only the first counts
            rack.on_dsack(una=1000 * round_trip, nxt=1000 * (round_trip + 1))
        widths.append(rack.reo_wnd(RTT, 2 * RTT, eager=False) * 4 // RTT)
    assert widths == [2, 3, 4, 5, 6, 7, 8, 8, 8, 8]


@pytest.mark.rfc(8985, "§6.2 step 4")
def test_duplicate_reports_before_the_round_trip_is_over_count_once() -> None:
    rack = Rack()
    rack.on_dsack(una=BASE, nxt=BASE + 5000)
    rack.on_dsack(una=BASE + 4999, nxt=BASE + 9000)
    assert rack.mult == 2
    rack.on_dsack(una=BASE + 5000, nxt=BASE + 9000)
    assert rack.mult == 3


@pytest.mark.rfc(8985, "§6.2 step 4")
def test_widened_window_after_sixteen_recoveries_is_narrow_again() -> None:
    rack = Rack()
    rack.on_dsack(0, 1000)
    rack.on_dsack(1000, 2000)
    for _ in range(PERSIST - 1):
        rack.on_recovered()
    assert rack.mult == 3
    rack.on_recovered()
    assert rack.mult == 1
    assert PERSIST == 16


@pytest.mark.rfc(8985, "§6.2 step 4")
def test_duplicate_report_amid_recoveries_begins_the_sixteen_anew() -> None:
    rack = Rack()
    rack.on_dsack(0, 1000)
    for _ in range(PERSIST - 1):
        rack.on_recovered()
    rack.on_dsack(1000, 2000)
    for _ in range(PERSIST - 1):
        rack.on_recovered()
    assert rack.mult == 3
    rack.on_recovered()
    assert rack.mult == 1


def test_recoveries_without_any_duplicate_report_leave_the_window_narrow() -> None:
    rack = Rack()
    for _ in range(3):
        rack.on_recovered()
    rack.on_dsack(0, 1000)
    for _ in range(PERSIST - 1):
        rack.on_recovered()
    assert rack.mult == 2


# --- step 5: what is lost --------------------------------------------------------------------------------------------


def test_nothing_delivered_finds_nothing_lost() -> None:
    assert Path(0, 10).detect(1000) == ([], NEVER)
    assert Path().detect(1000) == ([], NEVER)


@pytest.mark.rfc(8985, "§6.2 step 5")
def test_segment_overtaken_is_lost_after_its_round_trip() -> None:
    path = Path(0, 10, 20)
    path.sack(50, 1)  # the round trip is 40
    assert path.detect(50) == ([0], NEVER)
    assert path.states() == "LS."


@pytest.mark.rfc(8985, "§6.2 step 5")
def test_segment_overtaken_within_the_reordering_window_waits_for_its_end() -> None:
    path = Path(0, 4, 6, 20)
    path.sack(46, 2)
    assert path.detect(46, reo_wnd=10) == ([], 50)
    assert path.detect(49, reo_wnd=10) == ([], 50)
    assert path.detect(50, reo_wnd=10) == ([0], 54)
    assert path.detect(54, reo_wnd=10) == ([1], NEVER)
    assert path.states() == "LLS."


@pytest.mark.rfc(8985, "§6.2 step 5")
def test_segment_sent_later_than_the_delivered_is_not_lost_however_old() -> None:
    path = Path(0, 10, 20)
    path.ack(50, 2)
    assert path.detect(10_000) == ([], NEVER)


@pytest.mark.rfc(8985, "§6.2 step 5")
def test_segments_of_one_instant_below_the_delivered_are_lost_those_above_not() -> None:
    path = Path(0, 0, 0, 0)
    path.sack(40, 2)
    assert path.detect(40) == ([0, 1], NEVER)
    assert path.states() == "LLS."


@pytest.mark.rfc(8985, "§6.2 step 5")
def test_retransmission_overtaken_is_lost_again() -> None:
    path = Path(0, 10, 60)
    path.sack(50, 1)
    assert path.detect(50) == ([0], NEVER)
    path.resend(0, 51)
    assert path.detect(90) == ([], NEVER)  # nothing sent after it has arrived
    path.sack(100, 2)
    assert path.detect(100) == ([0], NEVER)
    assert path.states() == "LSS"


@pytest.mark.rfc(8985, "§6.2 step 5")
def test_originals_are_judged_before_a_retransmission_below_them() -> None:
    path = Path(0, 10, 20, 30)
    path.resend(0, 51)
    path.sack(71, 3)  # the round trip is 41
    assert path.detect(71) == ([1, 2], NEVER)
    assert path.states() == ".LLS"


@pytest.mark.rfc(8985, "§6.2 step 5")
def test_burst_with_a_hole_delivered_loses_the_hole_and_not_what_follows() -> None:
    path = Path()
    path.board.push(_seq(0), _seq(10), 0, SEG)
    path.sack(40, 3, 4)
    assert path.detect(40) == ([0], NEVER)
    assert path.states() == "LLLSS....."


@pytest.mark.rfc(8985, "§6.3")
def test_time_out_marks_the_first_and_what_has_had_its_time() -> None:
    path = Path(0, 5, 100, 180)
    path.sack(220, 3)  # the round trip is 40
    path.rack.on_timeout(path.board, 10 * MS, 150 * MS)
    assert path.states() == "LLLS"
    late = Path(0, 5, 101)
    late.rack.sent_at, late.rack.rtt = 0, 40 * MS
    late.rack.on_timeout(late.board, 10 * MS, 150 * MS)
    assert late.states() == "LL."


@pytest.mark.rfc(8985, "§6.3")
def test_time_out_marks_the_first_even_when_it_was_just_sent() -> None:
    path = Path(145, 146)
    path.rack.sent_at, path.rack.rtt = 0, 40 * MS
    path.rack.on_timeout(path.board, 0, 150 * MS)
    assert path.states() == "L."


def test_time_out_before_anything_was_delivered_marks_all() -> None:
    path = Path(0, 50, 100)
    path.rack.on_timeout(path.board, 0, 100 * MS)
    assert path.states() == "LLL"


@given(
    gaps=st.lists(st.integers(0, 5), min_size=1, max_size=15),
    resent=st.lists(st.integers(0, 14), max_size=5),
    delivered=st.sets(st.integers(0, 14), max_size=6),
    wait=st.integers(0, 60),
    reo_wnd=st.integers(0, 20),
)
def test_any_transmissions_judged_agree_with_the_rule_taken_one_by_one(
    gaps: list[int], resent: list[int], delivered: set[int], wait: int, reo_wnd: int
) -> None:
    at, sent = 0, []
    for gap in gaps:
        at += gap
        sent.append(at)
    path = Path(*sent)
    times = dict(enumerate(sent))
    for i in resent:
        if i in times:
            at += 1
            path.resend(i, at)
            times[i] = at
    at += wait
    path.sack(at, *sorted(delivered & times.keys()))
    rack = path.rack
    lost, due = [], NEVER
    for i, sent_at in times.items():
        overtaken = (rack.sent_at, rack.end) > (sent_at * MS, _seq(i + 1))
        if i in delivered or not overtaken:
            continue
        ends = sent_at * MS + rack.rtt + reo_wnd * MS
        if ends <= at * MS:
            lost.append(i)
        else:
            due = min(due, ends // MS)
    found, again = path.detect(at, reo_wnd)
    assert (sorted(found), again) == (lost, due)
    records = {(record.start - BASE) // SEG: record.state for record in path.board}
    assert [i for i in sorted(records) if records[i] == LOST] == lost
