"""One direction of a path: its rate to the nanosecond, its delay, its order, its rules."""

import random
from collections.abc import Iterable

import pytest

from usertcp.frame import PLAIN, FrameMeta
from usertcp.link.loss import Outage, RandomLoss
from usertcp.link.path import Path, PathConfig, Reorder, wire_size
from usertcp.link.queue import DropTail
from usertcp.link.queue_codel import CoDel
from usertcp.link.queue_red import Red
from usertcp.units import MIB, MS, NEVER, SEC, US

FRAME = bytes(1000)


def make(seed: int = 1, **config: object) -> Path:
    return Path(PathConfig(**config), random.Random(seed))  # type: ignore[arg-type]


def numbered(count: int, size: int = 1000) -> list[bytes]:
    return [n.to_bytes(4) + bytes(size - 4) for n in range(count)]


def drain(path: Path) -> list[tuple[int, int]]:
    """(when, number) of everything under way, each taken at its deadline."""
    out = []
    while (at := path.next_deadline()) < NEVER:
        out += [(at, int.from_bytes(frame[:4])) for frame, _ in path.due(at)]
    return out


def run(path: Path, frames: Iterable[tuple[int, bytes]]) -> list[tuple[int, int]]:
    """Admit ``frames`` at their times, taking what is due in between; (when, number) of all that arrives."""
    out = []
    for at, frame in frames:
        while (deadline := path.next_deadline()) <= at:
            out += [(deadline, int.from_bytes(got[:4])) for got, _ in path.due(deadline)]
        path.admit(frame, PLAIN, at)
    return out + drain(path)


def test_no_rate_frame_arrives_after_the_delay_alone() -> None:
    path = make(delay=7 * MS)
    path.admit(FRAME, PLAIN, 5)
    assert path.next_deadline() == 7 * MS + 5
    assert path.due(7 * MS + 4) == []
    assert path.due(7 * MS + 5) == [(FRAME, PLAIN)]
    assert path.next_deadline() == NEVER


def test_idle_transmitter_frame_arrives_after_its_own_time_and_the_delay() -> None:
    path = make(rate=8_000_000, delay=10 * MS)
    path.admit(FRAME, PLAIN, 3 * SEC)
    assert path.due(3 * SEC + 11 * MS - 1) == []
    assert path.due(3 * SEC + 11 * MS) == [(FRAME, PLAIN)]


def test_busy_transmitter_rate_is_exact_however_it_divides() -> None:
    rate = 77_777_777  # a frame of 1001 bytes takes no whole number of nanoseconds
    path = make(rate=rate, queue=DropTail(100 * MIB))
    frames = numbered(10_000, 1001)
    arrived = run(path, ((0, frame) for frame in frames))
    for count, (at, _) in enumerate(arrived, 1):
        assert 0 <= count * 1001 * 8 * SEC / rate - at < 1
    assert path.sent_bytes == 10_010_000


def test_pause_between_frames_earns_no_credit() -> None:
    path = make(rate=8_000_000)
    arrived = run(path, [(at, frame) for at, frame in zip((0, 0, 10 * MS, 10 * MS), numbered(4), strict=True)])
    assert [at for at, _ in arrived] == [1 * MS, 2 * MS, 11 * MS, 12 * MS]


@pytest.mark.parametrize("queue", [DropTail(), CoDel(), Red()])
def test_caller_that_comes_late_changes_no_frame_and_no_order(queue: DropTail | CoDel | Red) -> None:
    draw = random.Random(4)
    times = sorted(draw.randrange(300 * MS) for _ in range(600))
    frames = list(zip(times, numbered(600), strict=True))

    def passed(lazy: bool) -> list[int]:
        path = make(rate=8_000_000, delay=20 * MS, queue=queue)
        if not lazy:
            return [number for _, number in run(path, frames)]
        for at, frame in frames:
            path.admit(frame, PLAIN, at)
        return [int.from_bytes(frame[:4]) for frame, _ in path.due(100 * SEC)]

    assert passed(lazy=True) == passed(lazy=False)
    assert len(passed(lazy=True)) < 600


def test_full_queue_drops_the_newest_and_keeps_to_its_limit() -> None:
    path = make(rate=8_000_000, queue=DropTail(10_000))
    for frame in numbered(20):
        path.admit(frame, PLAIN, 0)
    assert path.backlog(0) == 10_000
    assert path.drops == 9  # one is being sent and ten wait
    assert [number for _, number in drain(path)] == list(range(11))
    assert path.delay_max == 10 * MS
    assert path.delay_sum == 55 * MS


def test_full_queue_has_room_again_when_a_frame_left() -> None:
    path = make(rate=8_000_000, queue=DropTail(2_000))
    for frame in numbered(3):
        path.admit(frame, PLAIN, 0)
    assert not path.has_room(1000, 1 * MS - 1)
    assert path.has_room(1000, 1 * MS)
    assert not path.has_room(1001, 1 * MS)


def test_record_gets_the_time_that_each_frame_waited() -> None:
    path = make(rate=8_000_000)
    path.record = []
    run(path, ((0, frame) for frame in numbered(4)))
    assert path.record == [0, 1 * MS, 2 * MS, 3 * MS]


def test_super_segment_takes_the_time_of_its_segments() -> None:
    meta = FrameMeta(gso_size=1000, csum_start=34, csum_offset=16, header_len=54)
    frame = bytes(54 + 3500)
    assert wire_size(frame, meta) == 3500 + 4 * 54
    path = make(rate=8_000_000)
    path.admit(frame, meta, 0)
    assert path.next_deadline() == (3500 + 4 * 54) * US
    ((got, with_it),) = path.due(SEC)
    assert got == frame
    assert with_it is meta


def test_super_segment_that_does_not_tell_its_header_has_an_ordinary_one() -> None:
    assert wire_size(bytes(66 + 2000), FrameMeta(gso_size=1000)) == 2000 + 2 * 66
    assert wire_size(bytes(66), FrameMeta(gso_size=1000)) == 66


def test_reordering_share_arrives_late_by_no_more_than_its_bound_and_the_rest_in_order() -> None:
    path = make(rate=80_000_000, delay=10 * MS, reorder=Reorder(0.05, 5 * MS))
    arrived = run(path, ((n * 200 * US, frame) for n, frame in enumerate(numbered(10_000))))
    assert sorted(number for _, number in arrived) == list(range(10_000))
    late = {number for at, number in arrived if at > number * 200 * US + 100 * US + 10 * MS}
    assert len(late) == path.late
    assert 400 < len(late) < 600
    assert all(at <= number * 200 * US + 100 * US + 15 * MS for at, number in arrived)
    in_time = [number for _, number in arrived if number not in late]
    assert in_time == sorted(in_time)
    assert [number for _, number in arrived] != sorted(number for _, number in arrived)


def test_jitter_delays_each_frame_by_no_more_than_its_bound_and_keeps_the_order() -> None:
    path = make(delay=10 * MS, jitter=4 * MS)
    arrived = run(path, ((n * MS, frame) for n, frame in enumerate(numbered(2000))))
    assert [number for _, number in arrived] == list(range(2000))
    extra = [at - number * MS - 10 * MS for at, number in arrived]
    assert min(extra) >= 0
    assert 3 * MS < max(extra) < 4 * MS
    assert len(set(extra)) > 1000


def test_lone_late_frame_is_still_delivered() -> None:
    path = make(rate=8_000_000, delay=MS, reorder=Reorder(1.0, MS))
    path.admit(FRAME, PLAIN, 0)
    path.admit(FRAME, PLAIN, 0)
    assert len(drain(path)) == 2


def test_duplicate_share_arrives_twice() -> None:
    path = make(duplicate=0.1)
    arrived = run(path, ((n, frame) for n, frame in enumerate(numbered(10_000))))
    assert 900 < len(arrived) - 10_000 < 1100
    assert {number for _, number in arrived} == set(range(10_000))


def test_lost_frames_take_no_time_of_the_transmitter() -> None:
    path = make(rate=8_000_000, queue=DropTail(100 * MIB), loss=RandomLoss(0.5))
    arrived = run(path, ((0, frame) for frame in numbered(1000)))
    assert len(arrived) == 1000 - path.lost
    assert 400 < path.lost < 600
    assert arrived[-1][0] == len(arrived) * MS


def test_outage_loses_what_enters_in_it_and_not_what_waits() -> None:
    path = make(rate=8_000_000, loss=Outage(5 * MS, 10 * MS))
    arrived = run(path, [(at * MS, frame) for at, frame in zip((0, 0, 0, 4, 5, 14, 15), numbered(7), strict=True)])
    assert [number for _, number in arrived] == [0, 1, 2, 3, 6]
    assert path.lost == 2


FAULTY: dict[str, object] = {
    "rate": 8_000_000,
    "delay": 10 * MS,
    "loss": RandomLoss(0.1),
    "reorder": Reorder(0.1, 20 * MS),
    "duplicate": 0.1,
    "queue": Red(low=2_000, high=20_000, weight=0.1),
}


def outcome(seed: int, **changes: object) -> list[tuple[int, int]]:
    path = make(seed, **{**FAULTY, **changes})
    return run(path, ((n * 900 * US, frame) for n, frame in enumerate(numbered(1000))))


def test_same_seed_gives_the_same_outcome_and_another_seed_another() -> None:
    assert outcome(1) == outcome(1)
    assert outcome(1) != outcome(2)


def test_one_more_kind_of_fault_leaves_the_strikes_of_the_others_alone() -> None:
    def losses(**changes: object) -> set[int]:
        return set(range(1000)) - {number for _, number in outcome(1, queue=DropTail(MIB), **changes)}

    assert losses() == losses(reorder=None) == losses(duplicate=0.0)


@pytest.mark.parametrize(
    "wrong",
    [{"rate": -1}, {"delay": -1}, {"jitter": -1}, {"duplicate": 1.5}],
)
def test_path_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"not|negative"):
        PathConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("share", "by"), [(1.1, MS), (0.1, 0)])
def test_reordering_that_makes_no_sense_is_refused(share: float, by: int) -> None:
    with pytest.raises(ValueError, match="not"):
        Reorder(share, by)
