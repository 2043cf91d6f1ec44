"""Queue disciplines: CoDel's control law, RED's average and evenly spaced strikes, marks in place of drops."""

import random
from collections.abc import Iterator
from itertools import pairwise
from math import sqrt

import pytest

from usertcp.frame import PLAIN
from usertcp.link.mark import mark
from usertcp.link.queue import DropTail, Queue
from usertcp.link.queue_codel import CoDel, CoDelQueue
from usertcp.link.queue_red import Red, RedQueue
from usertcp.units import MIB, MS, SEC
from usertcp.wire import checksum

SIZE = 1000
NOT_ECT, ECT1, ECT0, CE = range(4)


def ip_frame(code: int, identification: int = 0) -> bytes:
    header = bytearray.fromhex("4500 0064 0000 4000 4006 0000 0a000001 0a000002")
    header[1] = 0xB8 | code
    header[4:6] = identification.to_bytes(2)
    header[10:12] = checksum.checksum(header).to_bytes(2)
    return bytes(12) + b"\x08\x00" + bytes(header) + bytes(SIZE - 34)


# -- marks -----------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(3168, "§5")
@pytest.mark.parametrize("code", [ECT0, ECT1])
def test_mark_ect_becomes_ce_and_the_checksum_holds(code: int) -> None:
    for identification in range(0, 0x10000, 61):
        marked = mark(ip_frame(code, identification))
        assert marked is not None
        assert marked[15] == 0xB8 | CE
        assert marked == ip_frame(CE, identification)
        assert checksum.sum16(marked[14:34]) == checksum.VALID


@pytest.mark.rfc(3168, "§5")
def test_mark_spares_what_is_not_capable_and_leaves_ce_as_it_is() -> None:
    assert mark(ip_frame(NOT_ECT)) is None
    assert mark(ip_frame(CE)) == ip_frame(CE)
    assert mark(bytes(12) + b"\x08\x06" + b"\xff" * 40) is None  # ARP
    assert mark(bytes(10)) is None


# -- drop-tail -------------------------------------------------------------------------------------------------------


def test_drop_tail_keeps_to_its_bytes_and_order_and_never_marks() -> None:
    queue = DropTail(2_500).start(0, True, random.Random(1))
    for n in range(3):
        queue.push(SIZE, ip_frame(ECT0, n), PLAIN, n)
    assert (queue.size, queue.drops, queue.marks) == (2_000, 1, 0)
    queue.push(500, b"small", PLAIN, 3)
    assert [queue.pop(9) for _ in range(4)] == [
        (0, SIZE, ip_frame(ECT0, 0), PLAIN),
        (1, SIZE, ip_frame(ECT0, 1), PLAIN),
        (3, 500, b"small", PLAIN),
        None,
    ]
    assert queue.size == 0


# -- CoDel -----------------------------------------------------------------------------------------------------------


def overloaded(queue: Queue, frame: bytes, until: int, backlog: int = 100) -> Iterator[tuple[int, int, int]]:
    """One frame in and one out each millisecond with ``backlog`` waiting; (now, drops, marks) after each."""
    for n in range(backlog):
        queue.push(SIZE, frame, PLAIN, (n - backlog) * MS)
    for now in range(0, until, MS):
        queue.push(SIZE, frame, PLAIN, now)
        while len(queue.items) < backlog:  # what was dropped is made up for: the overload stays
            queue.push(SIZE, frame, PLAIN, now)
        queue.pop(now)
        yield now, queue.drops, queue.marks


def strike_times(queue: Queue, frame: bytes, until: int) -> list[int]:
    times: list[int] = []
    for now, drops, marks in overloaded(queue, frame, until):
        times += [now] * (drops + marks - len(times))
    return times


@pytest.mark.rfc(8289, "§5.6")
@pytest.mark.parametrize("code", [NOT_ECT, ECT0])
def test_codel_standing_queue_is_struck_by_the_control_law(code: int) -> None:
    queue = CoDel().start(0, True, random.Random(1))
    times = strike_times(queue, ip_frame(code), 2 * SEC)
    expected, at = [], 100.0 * MS  # an interval above target, then gaps of interval / sqrt(count)
    for count in range(1, len(times) + 1):
        expected.append(at)
        at += 100 * MS / sqrt(count)
    assert len(times) > 30
    for time, wanted in zip(times, expected, strict=True):
        assert 0 <= time - wanted <= MS  # a strike waits for the next departure
    assert (queue.drops > 0, queue.marks > 0) == (code == NOT_ECT, code == ECT0)


@pytest.mark.rfc(8289, "§4.2")
def test_codel_delay_below_target_is_left_alone() -> None:
    queue = CoDel().start(0, False, random.Random(1))
    for _, drops, _ in overloaded(queue, ip_frame(NOT_ECT), 5 * SEC, backlog=4):
        assert drops == 0


@pytest.mark.rfc(8289, "§4.2")
def test_codel_burst_shorter_than_an_interval_is_left_alone() -> None:
    queue = CoDel().start(0, False, random.Random(1))
    for n in range(90):
        queue.push(SIZE, ip_frame(NOT_ECT, n), PLAIN, 0)
    taken = [queue.pop(n * MS) for n in range(91)]
    assert [item is None for item in taken] == [False] * 90 + [True]


@pytest.mark.rfc(8289, "§5.5")
def test_codel_single_waiting_frame_is_left_alone_however_long_it_waited() -> None:
    queue = CoDel().start(0, False, random.Random(1))
    for n in range(100):
        queue.push(SIZE, ip_frame(NOT_ECT, n), PLAIN, n * SEC)
        assert queue.pop(n * SEC + 900 * MS) is not None


@pytest.mark.rfc(8289, "§5.5")
@pytest.mark.parametrize(("pause", "resumed"), [(200 * MS, True), (3 * SEC, False)])
def test_codel_overload_that_soon_returns_meets_the_rate_of_before(pause: int, resumed: bool) -> None:
    queue = CoDel().start(0, False, random.Random(1))
    assert isinstance(queue, CoDelQueue)
    for _ in overloaded(queue, ip_frame(NOT_ECT), SEC):
        pass
    reached = queue.count
    assert reached > 10
    while queue.pop(SEC) is not None:
        pass
    assert not queue.dropping
    start = SEC + pause
    for n in range(300):
        queue.push(SIZE, ip_frame(NOT_ECT), PLAIN, start)
        queue.push(SIZE, ip_frame(NOT_ECT), PLAIN, start)
        queue.pop(start + n * MS)
        if queue.dropping:
            break
    assert queue.count == (pytest.approx(reached, abs=1) if resumed else 1)


def test_codel_empty_queue_gives_nothing_and_ends_dropping() -> None:
    queue = CoDel().start(0, False, random.Random(1))
    assert queue.pop(0) is None


# -- RED -------------------------------------------------------------------------------------------------------------


def red(seed: int = 1, *, rate: int = 12_000_000, ecn: bool = False, **config: float) -> RedQueue:
    queue = Red(**config).start(rate, ecn, random.Random(seed))  # type: ignore[arg-type]
    assert isinstance(queue, RedQueue)
    return queue


@pytest.mark.rfc(2309, "§3")
def test_red_average_follows_the_queue_by_its_weight() -> None:
    queue = red(weight=0.1, low=10 * MIB, high=20 * MIB)
    average, size = 0.0, 0
    draw = random.Random(2)
    queue.push(SIZE, b"first", PLAIN, 0)
    size += SIZE
    for now in range(1, 300):
        if draw.random() < 0.4 and len(queue.items) > 1:
            queue.pop(now)
            size -= SIZE
        average = 0.9 * average + 0.1 * size
        queue.push(SIZE, b"frame", PLAIN, now)
        size += SIZE
        assert queue.average == pytest.approx(average)


@pytest.mark.rfc(2309, "§3")
def test_red_average_decays_while_the_queue_is_empty() -> None:
    queue = red(rate=12_000_000, weight=0.1, low=10 * MIB, high=20 * MIB)  # 1500 bytes take a millisecond
    for now in range(50):
        queue.push(SIZE, b"frame", PLAIN, now)
    before = queue.average
    while queue.pop(100) is not None:
        pass
    queue.push(SIZE, b"frame", PLAIN, 100 + 7 * MS)
    assert queue.average == pytest.approx(before * 0.9**7)


@pytest.mark.rfc(2309, "§3")
def test_red_below_the_lower_threshold_strikes_nothing_and_above_the_upper_everything() -> None:
    queue = red(low=20_000, high=60_000)
    for n in range(1000):
        queue.average = 15_000.0
        queue.push(SIZE, b"frame", PLAIN, n)
        queue.pop(n)
    assert queue.drops == 0
    queue.items.append((0, 1, b"waits", PLAIN))
    for n in range(50):
        queue.average = 70_000.0
        queue.push(SIZE, ip_frame(ECT0), PLAIN, 1000 + n)
    assert queue.drops == 50  # marking would not be enough (RFC 3168 §7)


def evenly(queue: RedQueue, average: float, count: int, frame: bytes = b"frame") -> list[int]:
    """The places of the strikes among ``count`` arrivals while the average is held."""
    struck: list[int] = []
    queue.items.append((0, SIZE, b"waits", PLAIN))
    for n in range(count):
        queue.average = average
        queue.size = int(average)
        before = queue.drops + queue.marks
        queue.push(SIZE, frame, PLAIN, n)
        if queue.drops + queue.marks > before:
            struck.append(n)
        while len(queue.items) > 1:
            queue.items.pop()
    return struck


@pytest.mark.rfc(2309, "§3")
@pytest.mark.parametrize("average", [30_000, 40_000, 55_000])
def test_red_between_the_thresholds_strikes_at_even_gaps_of_the_rising_probability(average: int) -> None:
    struck = evenly(red(low=20_000, high=60_000, max_p=0.1, limit=1 << 30), average, 20_000)
    probability = 0.1 * (average - 20_000) / 40_000
    gaps = [later - earlier for earlier, later in pairwise(struck)]
    # uniform from 1 to 1/p (Floyd and Jacobson 1993 §8): a mean of half, and none much longer
    assert sum(gaps) / len(gaps) == pytest.approx((1 / probability + 1) / 2, rel=0.1)
    assert max(gaps) <= 1 / probability + 1
    assert min(gaps) <= 2


@pytest.mark.rfc(3168, "§7")
def test_red_marks_what_allows_it_and_drops_the_rest() -> None:
    marking = red(low=20_000, high=60_000, limit=1 << 30, ecn=True)
    evenly(marking, 50_000, 1000, ip_frame(ECT0))
    assert marking.marks > 20
    assert marking.drops == 0
    dropping = red(low=20_000, high=60_000, limit=1 << 30, ecn=True)
    evenly(dropping, 50_000, 1000, ip_frame(NOT_ECT))
    assert dropping.drops == marking.marks
    assert dropping.marks == 0


def test_red_queue_that_is_full_drops_whatever_the_average() -> None:
    queue = red(limit=3_000)
    for n in range(5):
        queue.push(SIZE, b"frame", PLAIN, n)
    assert (queue.size, queue.drops) == (3_000, 2)


@pytest.mark.parametrize("wrong", [{"max_p": 2}, {"weight": -1}, {"low": 5, "high": 5}])
def test_red_that_makes_no_sense_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"between|order"):
        Red(**wrong)
