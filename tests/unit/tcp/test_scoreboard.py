"""The scoreboard: each transition by itself, any history against bytes noted one by one, and what it costs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, SupportsIndex, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.board import check_board
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.scoreboard import GONE, IN_FLIGHT, LOST, MAX_RECORDS, SACKED, Scoreboard, Sent
from usertcp.tcp.sender import Sender

BASE: Final = 0xFFFF_FF00  # the numbers that follow pass 2^32
SEG: Final = 100
ALL: Final = 1 << 30  # bytes of a lost stretch to look at
MARKS: Final = {IN_FLIGHT: "", LOST: "L", SACKED: "S"}


def _board(*sizes: int) -> Scoreboard:
    """Bursts of ``sizes`` in segments of ``SEG``, sent at 100, 200, ..."""
    board = Scoreboard()
    at = BASE
    for i, size in enumerate(sizes, 1):
        board.push(at, at + size, i * 100, SEG)
        at += size
    return board


def _sack(board: Scoreboard, start: int, end: int) -> list[tuple[int, int]]:
    """SACK [``start``, ``end``) from BASE; what that delivers, likewise."""
    board.sack(BASE + start, BASE + end)
    taken = [(end - size - BASE, end - BASE) for _, end, size in board.fresh]
    board.fresh.clear()
    return taken


def _ack(board: Scoreboard, una: int) -> list[tuple[int, int]]:
    board.ack_to(BASE + una)
    taken = [(end - size - BASE, end - BASE) for _, end, size in board.fresh]
    board.fresh.clear()
    return taken


def _picture(board: Scoreboard) -> str:
    """The records: length, state, R when sent more than once."""
    return " ".join(f"{s.end - s.start}{MARKS[s.state]}{'R' * s.retransmitted}" for s in board)


def _sums(board: Scoreboard) -> tuple[int, int, int, int]:
    return board.in_flight, board.retrans, board.lost, board.sacked


def _starts(records: list[Sent]) -> list[int]:
    return [record.start - BASE for record in records]


def _drain(board: Scoreboard) -> list[int]:
    """The starts of what is in flight in the order of sending; it is all held for lost afterwards."""
    out = []
    while (record := board.oldest_in_flight()) is not None:
        out.append(record.start - BASE)
        board.mark_lost(record)
    return out


# --- sending -------------------------------------------------------------------------------------------------------


def test_empty_board_asked_has_nothing() -> None:
    board = Scoreboard()
    board.ack_to(BASE)
    board.sack(BASE, BASE + 10)
    board.mark_all_lost()
    board.unmark_lost()
    board.renege()
    assert (len(board), board.first, board.last, board.oldest_in_flight()) == (0, None, None, None)
    assert (board.mark_first_lost(), board.lost_run(ALL), board.fresh) == (None, (0, 0), [])


def test_bursts_pushed_are_one_record_each_and_in_flight() -> None:
    board = _board(1000, 500)
    assert (_picture(board), _sums(board)) == ("1000 500", (1500, 0, 0, 0))
    first, last = board.first, board.last
    assert first is not None
    assert last is not None
    assert (first.start, first.end, first.sent_at, first.size) == (BASE, BASE + 1000, 100, SEG)
    assert (last.start, last.end, last.sent_at) == (BASE + 1000, BASE + 1500, 200)


def test_push_that_does_not_follow_asserts() -> None:
    board = _board(1000)
    with pytest.raises(AssertionError):
        board.push(BASE + 500, BASE + 1500, 1, SEG)
    with pytest.raises(AssertionError):
        board.push(BASE + 1000, BASE + 1000, 1, SEG)


def test_cleared_board_forgets_everything_and_serves_again() -> None:
    board = _board(1000, 1000)
    board.sack(BASE + 1000, BASE + 2000)
    board.mark_first_lost()
    board.clear()
    assert (len(board), _sums(board), board.fresh, board.lost_run(ALL)) == (0, (0, 0, 0, 0), [], (0, 0))
    assert board.oldest_in_flight() is None
    board.push(BASE, BASE + 1, 1, 1)
    assert _picture(board) == "1"


# --- acknowledgments -----------------------------------------------------------------------------------------------


def test_acknowledged_bursts_go_and_are_fresh() -> None:
    board = _board(1000, 1000, 1000)
    assert _ack(board, 2000) == [(0, 1000), (1000, 2000)]
    assert (_picture(board), _sums(board)) == ("1000", (1000, 0, 0, 0))


def test_burst_acknowledged_in_part_is_cut() -> None:
    board = _board(1000)
    assert _ack(board, 400) == [(0, 400)]
    assert _picture(board) == "600"
    assert _ack(board, 1000) == [(400, 1000)]
    assert (len(board), _sums(board)) == (0, (0, 0, 0, 0))


def test_old_acknowledgment_changes_nothing() -> None:
    board = _board(1000)
    assert _ack(board, 0) == []
    assert _picture(board) == "1000"


def test_acknowledgment_of_what_was_sacked_is_not_fresh_again() -> None:
    board = _board(1000)
    _sack(board, 200, 500)
    assert _ack(board, 700) == [(0, 200), (500, 700)]
    assert (_picture(board), _sums(board)) == ("300", (300, 0, 0, 0))


def test_acknowledgment_into_a_sacked_record_leaves_its_rest_sacked() -> None:
    board = _board(1000)
    _sack(board, 200, 500)
    assert _ack(board, 300) == [(0, 200)]
    assert (_picture(board), _sums(board)) == ("200S 500", (500, 0, 0, 200))


def test_acknowledgment_of_what_was_held_for_lost_is_fresh() -> None:
    board = _board(1000, 1000)
    board.mark_all_lost()
    assert _ack(board, 1500) == [(0, 1000), (1000, 1500)]
    assert (_picture(board), _sums(board), board.lost_run(ALL)) == ("500L", (0, 0, 500, 0), (BASE + 1500, BASE + 2000))


def test_record_acknowledged_is_marked_gone_for_who_still_holds_it() -> None:
    board = _board(1000)
    record = board.first
    assert record is not None
    board.ack_to(BASE + 1000)
    assert record.state == GONE


@pytest.mark.rfc(2018, "§8")
def test_block_inside_a_burst_splits_it_at_segments() -> None:
    board = _board(1000)
    assert _sack(board, 300, 500) == [(300, 500)]
    assert (_picture(board), _sums(board)) == ("300 200S 500", (800, 0, 0, 200))


def test_block_reported_again_is_not_fresh() -> None:
    board = _board(1000)
    _sack(board, 300, 500)
    assert _sack(board, 300, 500) == []
    assert _sack(board, 200, 600) == [(200, 300), (500, 600)]
    assert _picture(board) == "200 400S 400"


@pytest.mark.parametrize(
    ("start", "end", "taken"),
    [(301, 600, [(400, 600)]), (300, 599, [(300, 500)]), (399, 501, [(400, 500)]), (310, 390, []), (350, 450, [])],
)
def test_block_that_cuts_segments_counts_only_whole_ones(start: int, end: int, taken: list[tuple[int, int]]) -> None:
    board = _board(1000)
    assert _sack(board, start, end) == taken
    assert board.sacked == sum(b - a for a, b in taken)


def test_block_over_a_short_last_segment_takes_it_whole_or_not() -> None:
    board = _board(250, 1000)
    assert _sack(board, 200, 249) == []
    assert _sack(board, 200, 250) == [(200, 250)]
    assert _sack(board, 150, 360) == [(250, 350)]  # the second burst's segments begin at 250
    assert _picture(board) == "200 150S 900"


def test_block_over_several_bursts_makes_one_record_of_them() -> None:
    board = _board(1000, 1000, 1000)
    assert _sack(board, 500, 2500) == [(500, 1000), (1000, 2000), (2000, 2500)]
    assert (_picture(board), _sums(board)) == ("500 2000S 500", (1000, 0, 0, 2000))


def test_blocks_growing_together_become_one_record() -> None:
    board = _board(1000)
    for start in (100, 500, 300, 700, 200, 600, 400, 0, 900, 800):
        assert _sack(board, start, start + 100) == [(start, start + 100)]
    assert (_picture(board), _sums(board)) == ("1000S", (0, 0, 0, 1000))


def test_block_on_what_was_held_for_lost_takes_it_out_of_the_losses() -> None:
    board = _board(1000)
    board.mark_all_lost()
    assert _sack(board, 0, 400) == [(0, 400)]
    assert (_picture(board), _sums(board)) == ("400S 600L", (0, 0, 600, 400))
    assert board.lost_run(ALL) == (BASE + 400, BASE + 1000)


def test_block_beyond_what_was_sent_takes_what_there_is() -> None:
    board = _board(300)
    assert _sack(board, 200, 900) == [(200, 300)]
    assert _sack(board, 400, 900) == []


@pytest.mark.rfc(8985, "§6.2 step 4")
def test_segments_reported_are_counted_until_none_is_missing_behind_them() -> None:
    board = _board(250, 1000)
    _sack(board, 200, 250)  # a short one
    assert board.reports == 1
    _sack(board, 200, 450)
    assert board.reports == 3
    _sack(board, 200, 450)  # nothing new
    _sack(board, 560, 640)  # no whole segment
    assert board.reports == 3
    _ack(board, 450)
    _sack(board, 650, 750)
    assert board.reports == 1


@pytest.mark.rfc(2018, "§8")
def test_reneging_peer_gets_all_of_it_again() -> None:
    board = _board(1000)
    _sack(board, 200, 400)
    _sack(board, 600, 1000)
    board.renege()
    assert (_picture(board), _sums(board)) == ("200 200L 200 400L", (400, 0, 600, 0))
    assert board.lost_run(ALL) == (BASE + 200, BASE + 400)
    assert _sack(board, 600, 1000) == [(600, 1000)]


# --- losses and sending again --------------------------------------------------------------------------------------


def test_lost_record_is_not_in_flight_and_makes_a_run() -> None:
    board = _board(1000, 1000)
    record = board.oldest_in_flight()
    assert record is not None
    board.mark_lost(record)
    assert (_picture(board), _sums(board), board.lost_run(ALL)) == (
        "1000L 1000",
        (1000, 0, 1000, 0),
        (BASE, BASE + 1000),
    )
    with pytest.raises(AssertionError):
        board.mark_lost(record)


def test_first_segment_lost_leaves_the_rest_of_its_burst_in_flight() -> None:
    board = _board(1000)
    record = board.mark_first_lost()
    assert record is not None
    assert (record.start, record.end) == (BASE, BASE + SEG)
    assert (_picture(board), _sums(board)) == ("100L 900", (900, 0, 100, 0))
    assert board.mark_first_lost() is None  # it is already


def test_first_segment_lost_where_it_was_sacked_does_nothing() -> None:
    board = _board(1000)
    _sack(board, 0, 300)
    assert board.mark_first_lost() is None
    assert _picture(board) == "300S 700"


def test_lost_run_ends_where_something_else_begins() -> None:
    board = _board(300, 300, 300, 300)
    _sack(board, 600, 900)
    board.mark_all_lost()
    assert board.lost_run(ALL) == (BASE, BASE + 600)
    board.resend(BASE, BASE + 600, 900, SEG)
    assert board.lost_run(ALL) == (BASE + 900, BASE + 1200)
    board.resend(BASE + 900, BASE + 1200, 900, SEG)
    assert board.lost_run(ALL) == (0, 0)


def test_lost_run_over_many_records_is_looked_at_no_further_than_asked() -> None:
    board = _board(300, 300, 300, 300)
    board.mark_all_lost()
    runs = [board.lost_run(limit) for limit in (1, 300, 301, 600, 1200)]
    assert runs == [(BASE, BASE + end) for end in (300, 300, 600, 600, 1200)]


def test_loss_below_those_known_is_the_next_to_go() -> None:
    board = _board(300, 300)
    board.mark_all_lost()
    board.resend(BASE, BASE + 300, 900, SEG)
    assert board.lost_run(ALL)[0] == BASE + 300
    board.mark_first_lost()
    assert board.lost_run(ALL) == (BASE, BASE + 100)


@pytest.mark.rfc(8985, "§6.1")
@pytest.mark.rfc(8985, "§6.2")
def test_resent_range_is_in_flight_again_and_the_newest() -> None:
    board = _board(300, 300)
    board.mark_first_lost()
    assert _starts(board.resend(BASE, BASE + 100, 900, SEG)) == [0]
    assert (_picture(board), _sums(board)) == ("100R 200 300", (600, 100, 0, 0))
    assert _drain(board) == [100, 300, 0]


def test_resent_range_inside_a_record_splits_it_there() -> None:
    board = _board(1000)
    board.mark_all_lost()
    board.resend(BASE + 210, BASE + 350, 900, 70)
    assert (_picture(board), _sums(board)) == ("210L 140R 650L", (140, 140, 860, 0))
    assert board.lost_run(ALL) == (BASE, BASE + 210)


def test_resent_segments_have_the_edges_of_their_new_size() -> None:
    board = _board(1000)
    board.mark_all_lost()
    board.resend(BASE, BASE + 1000, 900, 300)
    assert _sack(board, 250, 650) == [(300, 600)]


def test_many_small_retransmissions_in_one_turn_make_one_record() -> None:
    board = _board(100_000)
    board.mark_all_lost()
    for start in range(0, 90_000, 36):
        board.resend(BASE + start, BASE + start + 36, 900, 36)
    assert _picture(board) == "90000R 10000L"


def test_retransmissions_of_different_turns_or_sizes_stay_apart() -> None:
    board = _board(1000)
    board.mark_all_lost()
    board.resend(BASE, BASE + 200, 900, SEG)
    board.resend(BASE + 200, BASE + 400, 901, SEG)
    board.resend(BASE + 400, BASE + 600, 901, 50)
    board.resend(BASE + 600, BASE + 770, 901, 50)
    board.resend(BASE + 770, BASE + 800, 901, 50)  # behind half a segment: the next has not its edges
    assert _picture(board) == "200R 200R 370R 30R 200L"


def test_retransmission_behind_an_original_of_the_same_turn_stays_apart() -> None:
    board = Scoreboard()
    board.push(BASE, BASE + 200, 900, SEG)
    board.push(BASE + 200, BASE + 400, 900, SEG)
    board.resend(BASE + 200, BASE + 400, 900, SEG)
    assert (_picture(board), _sums(board)) == ("200 200R", (400, 200, 0, 0))


def test_retransmission_over_several_records_makes_one() -> None:
    board = _board(300, 300, 300)
    board.mark_all_lost()
    assert len(board.resend(BASE, BASE + 900, 900, SEG)) == 1
    assert (_picture(board), _sums(board)) == ("900R", (900, 900, 0, 0))


def test_retransmission_over_records_of_odd_lengths_has_the_edges_of_its_own_segments() -> None:
    board = _board(50, 400)
    board.mark_all_lost()
    assert len(board.resend(BASE, BASE + 450, 900, SEG)) == 1
    assert _sack(board, 100, 300) == [(100, 300)]
    assert _picture(board) == "100R 200SR 150R"


def test_reported_number_probed_after_the_peer_has_forgotten_it_is_in_flight_again() -> None:
    board = _board(300)
    _sack(board, 100, 300)
    _ack(board, 100)  # and not 300
    board.resend(BASE + 100, BASE + 101, 900, 1)
    assert (_picture(board), _sums(board)) == ("1R 199S", (1, 1, 0, 199))


def test_lost_retransmission_counts_as_lost_and_may_go_again() -> None:
    board = _board(300)
    board.mark_all_lost()
    board.resend(BASE, BASE + 300, 900, SEG)
    board.mark_all_lost()
    assert (_picture(board), _sums(board)) == ("300LR", (0, 0, 300, 0))
    board.resend(BASE, BASE + 300, 950, SEG)
    assert (_picture(board), _sums(board)) == ("300R", (300, 300, 0, 0))


def test_parts_of_a_split_record_keep_its_place_in_time() -> None:
    board = _board(600, 600)
    _sack(board, 200, 300)
    assert _drain(board) == [0, 300, 600]


@pytest.mark.rfc(8985, "§6.1")
def test_split_record_keeps_what_was_noted_when_it_was_sent() -> None:
    board = Scoreboard()
    record = board.push(BASE, BASE + 300, 100, SEG)
    record.then = 1, 2, 3, 4, 5, True
    board.sack(BASE + 100, BASE + 200)
    for part in board:
        assert (part.then, part.sent_at, part.size) == ((1, 2, 3, 4, 5, True), 100, SEG)


@pytest.mark.rfc(4015, "§3")
def test_false_alarm_puts_what_was_not_sent_again_back_into_flight_in_its_time() -> None:
    board = _board(300, 300, 300)
    board.mark_all_lost()
    board.resend(BASE, BASE + 300, 900, SEG)
    board.unmark_lost()
    assert (_picture(board), _sums(board), board.lost_run(ALL)) == ("300R 300 300", (900, 300, 0, 0), (0, 0))
    assert _drain(board) == [300, 600, 0]


def test_false_alarm_leaves_what_was_sacked() -> None:
    board = _board(300)
    _sack(board, 100, 200)
    board.mark_all_lost()
    board.unmark_lost()
    assert (_picture(board), _sums(board)) == ("100 100S 100", (200, 0, 0, 100))


def test_lost_run_is_found_while_others_are_held_sent_and_acknowledged() -> None:
    board = _board(*[SEG] * 50)
    for turn in range(3):
        board.mark_all_lost()
        for _ in range(20):
            start, _ = board.lost_run(ALL)
            board.resend(start, start + SEG, 10_000 + turn, SEG)
        _ack(board, (turn + 1) * 10 * SEG)
        lost = [record.start for record in board if record.state == LOST]
        assert board.lost_run(ALL) == (lost[0], BASE + 50 * SEG)


# --- any history, byte by byte -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Byte:
    """What a naive sender notes of each byte."""

    sent_at: int
    size: int
    state: int = IN_FLIGHT
    again: bool = False


class Model:
    """Every byte from ``una`` on, by itself."""

    def __init__(self) -> None:
        self.una = BASE
        self.bytes: list[Byte] = []

    @property
    def nxt(self) -> int:
        return self.una + len(self.bytes)

    def change(self, start: int, end: int, to: Callable[[Byte], Byte]) -> list[int]:
        """Apply ``to`` to [``start``, ``end``); the numbers of those that changed."""
        changed = []
        for number in range(max(start, self.una), min(end, self.nxt)):
            old = self.bytes[number - self.una]
            new = to(old)
            if new != old:
                self.bytes[number - self.una] = new
                changed.append(number)
        return changed


def _segments(board: Scoreboard) -> list[tuple[int, int]]:
    """The segments that the records stand for."""
    return [(at, min(at + r.size, r.end)) for r in board for at in range(r.start, r.end, r.size)]


def _to(state: int) -> Callable[[Byte], Byte]:
    return lambda byte: replace(byte, state=state)


def _lost_if_flying(byte: Byte) -> Byte:
    return replace(byte, state=LOST) if byte.state == IN_FLIGHT else byte


Step: TypeAlias = tuple[str, int, int]


def _run_step(board: Scoreboard, model: Model, step: Step, now: int) -> None:
    """One step on both."""
    what, a, b = step
    at = model.una + a
    size = (3, 5, 8)[b % 3]
    if what == "push":
        model.bytes += [Byte(now, size)] * (a + 1)
        board.push(model.nxt - a - 1, model.nxt, now, size)
    elif what == "ack":
        _acknowledge(board, model, min(at, model.nxt))
    elif what == "sack":
        _report(board, model, at, at + b)
    elif what == "resend":
        start, end = board.lost_run(ALL)
        end = min(end, start + a + 1)
        board.resend(start, end, now, size)
        model.change(start, end, lambda byte: Byte(now, size, IN_FLIGHT, True))
    elif what == "probe":
        if board.last is not None and board.last.state == IN_FLIGHT:
            start = max(board.last.start, board.last.end - b - 1)
            board.resend(start, model.nxt, now, size)
            model.change(start, model.nxt, lambda byte: Byte(now, size, IN_FLIGHT, True))
    elif what == "oldest":
        record = board.oldest_in_flight()
        assert (record is None) == all(byte.state != IN_FLIGHT for byte in model.bytes)
        if record is not None:
            assert record.sent_at == min(byte.sent_at for byte in model.bytes if byte.state == IN_FLIGHT)
            board.mark_lost(record)
            model.change(record.start, record.end, _to(LOST))
    elif what == "first":
        end = _segments(board)[0][1] if len(board) else model.una
        assert (board.mark_first_lost() is not None) == bool(model.change(model.una, end, _lost_if_flying))
    elif what == "all":
        board.mark_all_lost()
        model.change(model.una, model.nxt, _lost_if_flying)
    elif what == "unmark":
        board.unmark_lost()
        model.change(model.una, model.nxt, lambda byte: replace(byte, state=SACKED * (byte.state == SACKED)))
    else:
        board.renege()
        kept = _bytes(board)  # joined records have kept one time and size for all
        model.bytes = [
            replace(kept[i], state=LOST) if byte.state == SACKED else byte for i, byte in enumerate(model.bytes)
        ]


def _fresh(board: Scoreboard) -> list[int]:
    numbers = [number for _, end, size in board.fresh for number in range(end - size, end)]
    board.fresh.clear()
    return numbers


def _acknowledge(board: Scoreboard, model: Model, ack: int) -> None:
    board.ack_to(ack)
    gone = model.bytes[: ack - model.una]
    assert _fresh(board) == [model.una + i for i, byte in enumerate(gone) if byte.state != SACKED]
    del model.bytes[: ack - model.una]
    model.una = ack


def _report(board: Scoreboard, model: Model, start: int, end: int) -> None:
    whole = [segment for segment in _segments(board) if start <= segment[0] and segment[1] <= end]
    board.sack(start, end)
    changed: list[int] = []
    for segment in whole:
        changed += model.change(*segment, _to(SACKED))
    assert _fresh(board) == changed


def _bytes(board: Scoreboard) -> list[Byte]:
    return [Byte(r.sent_at, r.size, r.state, r.retransmitted) for r in board for _ in range(r.start, r.end)]


def _compare(board: Scoreboard, model: Model) -> None:
    assert [_known(byte) for byte in _bytes(board)] == [_known(byte) for byte in model.bytes]
    snd = Sender(TcpConfig(), model.una, SEG)
    snd.nxt = model.nxt
    snd.board = board
    check_board(snd)
    start, end = board.lost_run(ALL)
    lost = [model.una + i for i, byte in enumerate(model.bytes) if byte.state == LOST]
    assert (start, end) == (0, 0) if not lost else lost[0] == start
    assert end - 1 in lost or not lost
    assert end not in lost


def _known(byte: Byte) -> Byte | None:
    """Of what was SACKed only that matters."""
    return None if byte.state == SACKED else byte


_small: Final = st.integers(0, 40)
_step: Final = st.tuples(
    st.sampled_from(
        3 * ["push", "sack"] + 2 * ["resend", "oldest"] + ["ack", "first", "probe", "all", "unmark", "renege"]
    ),
    _small,
    _small,
)


@given(steps=st.lists(_step, max_size=40))
def test_board_after_any_history_agrees_with_the_bytes_noted_one_by_one(steps: list[Step]) -> None:
    board, model = Scoreboard(), Model()
    for now, step in enumerate(steps):
        _run_step(board, model, step, now // 2)
        _compare(board, model)


# --- what it costs -------------------------------------------------------------------------------------------------


class Counting(list[Sent]):
    """Counts how often a record is looked up, put in or taken out."""

    touched = 0

    def __getitem__(self, i: int) -> Sent:  # type: ignore[override]
        self.touched += 1
        return super().__getitem__(i)

    def insert(self, i: SupportsIndex, x: Sent) -> None:
        self.touched += 1
        super().insert(i, x)

    def __delitem__(self, i: SupportsIndex | slice) -> None:
        self.touched += 1
        super().__delitem__(i)


SEGMENTS: Final = 4096
LOG: Final = 13  # SEGMENTS.bit_length()


def _counted(burst: int) -> tuple[Scoreboard, Counting]:
    """``SEGMENTS`` segments in bursts of ``burst``."""
    board = _board(*[burst * SEG] * (SEGMENTS // burst))
    records = Counting(board._records)
    board._records = records
    records.touched = 0
    return board, records


def _shuffled() -> list[int]:
    """0 ... SEGMENTS - 1 in an order without pattern."""
    return [i * 2039 % SEGMENTS for i in range(SEGMENTS)]


ORDERS: Final = {
    "upwards": list(range(SEGMENTS)),
    "downwards": list(range(SEGMENTS))[::-1],
    "every other": [*range(0, SEGMENTS, 2), *range(1, SEGMENTS, 2)],
    "from both ends": [i // 2 if i % 2 else SEGMENTS - 1 - i // 2 for i in range(SEGMENTS)],
    "shuffled": _shuffled(),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("burst", [1, 64])
def test_segments_sacked_one_by_one_cost_a_search_each(order: list[int], burst: int) -> None:
    board, records = _counted(burst)
    assert sorted(order) == list(range(SEGMENTS))
    for i in order:
        board.sack(BASE + i * SEG, BASE + (i + 1) * SEG)
    assert _picture(board) == f"{SEGMENTS * SEG}S"
    assert records.touched <= SEGMENTS * (LOG + 16)


def test_blocks_that_report_nothing_new_cost_a_search_each() -> None:
    board, records = _counted(64)
    for i in range(1, SEGMENTS, 2):
        board.sack(BASE + i * SEG, BASE + (i + 1) * SEG)
    board.sack(BASE + SEG, BASE + SEGMENTS * SEG // 2)
    records.touched = 0
    for i in range(SEGMENTS):
        board.sack(BASE + SEG, BASE + SEGMENTS * SEG // 2)
        board.sack(BASE + i * SEG + 1, BASE + (i + 1) * SEG - 1)  # inside a segment
    assert records.touched <= 2 * SEGMENTS * (LOG + 8)


def test_widening_blocks_over_alternate_holes_touch_each_record_once() -> None:
    board, records = _counted(1)
    for i in range(1, SEGMENTS, 2):
        board.sack(BASE + i * SEG, BASE + (i + 1) * SEG)
    records.touched = 0
    for i in range(SEGMENTS):
        board.sack(BASE + SEG, BASE + i * SEG)
    assert board.sacked == (SEGMENTS - 1) * SEG
    assert records.touched <= SEGMENTS * (LOG + 16)


def test_losses_sent_again_a_segment_at_a_time_cost_a_search_each() -> None:
    board, records = _counted(1)
    board.mark_all_lost()
    for turn in range(SEGMENTS):
        start, end = board.lost_run(10 * SEG)
        assert start == BASE + turn * SEG
        board.resend(start, min(end, start + SEG), 1000 + turn, SEG)
    assert (board.lost, board.lost_run(1)) == (0, (0, 0))
    assert records.touched <= SEGMENTS * (2 * LOG + 40)


def test_records_of_full_bursts_with_few_holes_are_few() -> None:
    board, _ = _counted(64)
    holes = {i for i in range(SEGMENTS) if i % 256 == 77}
    for i in _shuffled():
        if i not in holes:
            board.sack(BASE + i * SEG, BASE + (i + 1) * SEG)
    assert len(board) == 2 * len(holes) + 1


def test_blocks_that_split_no_segment_make_no_records() -> None:
    board, _ = _counted(64)
    before = len(board)
    for i in range(SEGMENTS):
        board.sack(BASE + i * SEG + 1, BASE + (i + 1) * SEG - 1)
        board.sack(BASE + i * SEG + 50, BASE + (i + 1) * SEG + 50)
    assert (board.sacked, len(board)) == (0, before)


def test_losses_that_come_and_go_leave_little_behind() -> None:
    board, _ = _counted(64)
    for turn in range(100):
        board.mark_all_lost()
        start, end = board.lost_run(ALL)
        board.resend(start, end, 1000 + turn, SEG)
    assert (len(board), board.lost_run(1)) == (1, (0, 0))
    assert len(board._lost_heap) == 0


def test_peer_that_crumbles_the_board_is_not_believed_beyond_so_many_records() -> None:
    board = Scoreboard()
    count = MAX_RECORDS + 100
    board.push(BASE, BASE + count * SEG, 0, SEG)
    for i in range(1, count, 2):
        board.sack(BASE + i * SEG, BASE + (i + 1) * SEG)
    assert len(board) <= MAX_RECORDS + 1
    assert board.sacked + board.in_flight == count * SEG
    board.sack(BASE, BASE + count * SEG)  # all of it: that makes fewer
    assert _picture(board) == f"{count * SEG}S"


def test_peer_that_takes_its_reports_back_again_and_again_leaves_no_heap_of_them() -> None:
    board = Scoreboard()
    for i in range(100):
        board.push(BASE + i * SEG, BASE + (i + 1) * SEG, i, SEG)
    for _ in range(50):
        for i in range(0, 100, 2):
            board.sack(BASE + i * SEG, BASE + (i + 1) * SEG)
        board.renege()
    assert len(board._lost_heap) <= 2 * 100 + 65
    assert board.lost_run(10 * SEG) == (BASE, BASE + SEG)
