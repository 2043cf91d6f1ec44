"""What is in flight: samples by Karn's rule, and records that are split where they are cut."""

import pytest

from usertcp.tcp.scoreboard import SentQueue

BASE = 0xFFFF_FF00
Record = tuple[int, int, int, bool]


def _queue(*sizes: int) -> SentQueue:
    """Bursts of ``sizes``, sent at 100, 200, ..."""
    queue = SentQueue()
    at = BASE
    for i, size in enumerate(sizes, 1):
        queue.push(at, at + size, i * 100)
        at += size
    return queue


def _records(queue: SentQueue) -> list[Record]:
    return [(s.start - BASE, s.end - BASE, s.sent_at, s.retransmitted) for s in queue]


def test_empty_queue_acknowledged_gives_no_sample() -> None:
    queue = SentQueue()
    assert (len(queue), queue.ack_to(BASE, 5)) == (0, -1)


def test_several_bursts_acknowledged_give_the_time_of_the_newest() -> None:
    queue = _queue(1000, 1000, 1000)
    assert queue.ack_to(BASE + 2000, 250) == 50
    assert _records(queue) == [(2000, 3000, 300, False)]


def test_burst_acknowledged_in_part_is_cut_and_gives_no_sample() -> None:
    queue = _queue(1000)
    assert queue.ack_to(BASE + 400, 150) == -1
    assert _records(queue) == [(400, 1000, 100, False)]
    assert queue.ack_to(BASE + 1000, 170) == 70
    assert len(queue) == 0


def test_old_acknowledgment_changes_nothing() -> None:
    queue = _queue(1000)
    assert queue.ack_to(BASE, 150) == -1
    assert _records(queue) == [(0, 1000, 100, False)]


@pytest.mark.rfc(6298, "3")
def test_retransmitted_burst_acknowledged_gives_no_sample() -> None:
    queue = _queue(1000, 1000)
    queue.mark_retransmitted(BASE, BASE + 1000, 500)
    assert queue.ack_to(BASE + 1000, 600) == -1
    assert queue.ack_to(BASE + 2000, 700) == 500


def test_acknowledgment_over_a_repaired_hole_gives_no_sample() -> None:
    queue = _queue(1000, 1000)
    queue.mark_retransmitted(BASE, BASE + 1000, 500)
    assert queue.ack_to(BASE + 2000, 600) == -1


def test_retransmission_inside_a_burst_splits_it() -> None:
    queue = _queue(1000, 1000)
    queue.mark_retransmitted(BASE + 200, BASE + 300, 500)
    assert _records(queue) == [
        (0, 200, 100, False),
        (200, 300, 500, True),
        (300, 1000, 100, False),
        (1000, 2000, 200, False),
    ]


def test_retransmission_over_several_bursts_marks_them_all() -> None:
    queue = _queue(1000, 1000, 1000)
    queue.mark_retransmitted(BASE + 900, BASE + 2000, 500)
    assert _records(queue) == [
        (0, 900, 100, False),
        (900, 2000, 500, True),
        (2000, 3000, 300, False),
    ]


def test_retransmission_of_a_whole_burst_splits_nothing() -> None:
    queue = _queue(1000)
    queue.mark_retransmitted(BASE, BASE + 1000, 500)
    queue.mark_retransmitted(BASE, BASE + 1000, 600)
    assert _records(queue) == [(0, 1000, 600, True)]


def test_push_that_does_not_follow_asserts() -> None:
    queue = _queue(1000)
    with pytest.raises(AssertionError):
        queue.push(BASE + 500, BASE + 1500, 1)
    with pytest.raises(AssertionError):
        queue.push(BASE + 1000, BASE + 1000, 1)


def test_clear_forgets_everything() -> None:
    queue = _queue(1000, 1000)
    queue.clear()
    assert len(queue) == 0
    queue.push(BASE, BASE + 1, 1)


def test_many_small_retransmissions_in_one_turn_make_one_record() -> None:
    queue = _queue(100_000)
    for start in range(0, 90_000, 36):
        queue.mark_retransmitted(BASE + start, BASE + start + 36, 500)
    assert _records(queue) == [(0, 90_000, 500, True), (90_000, 100_000, 100, False)]
