"""A bad network: each fault alone, together, repeatably; and none at all is no change at all."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usertcp.frame import PLAIN, FrameMeta
from usertcp.link.faults import Corrupt, Delay, Drop, Duplicate, Faults, Reorder, Rule
from usertcp.link.memory import memory_pair
from usertcp.units import MS, NEVER

HEADER = bytes(12) + b"\x08\x00"  # Ethernet, IPv4


def frame(number: int, size: int = 100) -> bytes:
    return HEADER + number.to_bytes(2, "big") + bytes(size)


def number_of(data: bytes | memoryview) -> int:
    return int.from_bytes(data[14:16], "big")


class Bench:
    """Faults on the left end of a cable; ``arrive`` and ``leave`` push frames through either direction."""

    def __init__(self, *rules: Rule, seed: int = 1, capacity: int = 10_000, keep_offload: bool = False) -> None:
        inner, self.far = memory_pair(offload=True, capacity=capacity)
        self.link = Faults(inner, rules, seed, keep_offload=keep_offload)
        self.now = 0

    def tick(self, now: int) -> None:
        self.now = now
        self.link.tick(now)

    def arrive(self, *frames: bytes) -> list[bytes]:
        for data in frames:
            self.far.send(data, [], PLAIN)
        return self.drain()

    def drain(self) -> list[bytes]:
        got = []
        while (item := self.link.read()) is not None:
            got.append(bytes(item[0]))
        return got

    def leave(self, *frames: bytes) -> list[bytes]:
        for data in frames:
            assert self.link.send(data[:20], [memoryview(data)[20:]], PLAIN)
        return self.left()

    def left(self) -> list[bytes]:
        got = []
        while (item := self.far.read()) is not None:
            got.append(bytes(item[0]))
        return got


def numbers(frames: Sequence[bytes]) -> list[int]:
    return [number_of(data) for data in frames]


FRAMES = [frame(n) for n in range(200)]


@given(st.lists(st.binary(min_size=14, max_size=80), max_size=20))
def test_without_rules_both_directions_are_transparent(frames: list[bytes]) -> None:
    bench = Bench()
    assert bench.arrive(*frames) == frames
    assert bench.leave(*[data.ljust(20, b"\0") for data in frames]) == [data.ljust(20, b"\0") for data in frames]
    assert bench.link.next_deadline() == NEVER


@given(st.integers(0, 2**32), st.sampled_from(["in", "out", "both"]))
def test_same_seed_gives_the_same_faults_whatever_they_are(seed: int, direction: str) -> None:
    def run() -> tuple[list[bytes], list[bytes], dict[str, int]]:
        bench = Bench(
            Drop(probability=0.1, direction=direction),
            Corrupt(probability=0.1, direction=direction),
            Duplicate(probability=0.1, direction=direction),
            Delay(probability=0.1, by=5 * MS, jitter=5 * MS, direction=direction),
            Reorder(probability=0.1, direction=direction),
            seed=seed,
        )
        arrived, left = bench.arrive(*FRAMES[:50]), bench.leave(*FRAMES[:50])
        while (at := bench.link.next_deadline()) != NEVER:
            bench.tick(at)
            arrived += bench.drain()
            left += bench.left()
        return arrived, left, bench.link.counts

    assert run() == run()


@given(st.integers(0, 2**32))
def test_delay_reorder_and_duplicate_lose_nothing(seed: int) -> None:
    bench = Bench(
        Duplicate(probability=0.2), Delay(probability=0.3, jitter=20 * MS), Reorder(probability=0.3), seed=seed
    )
    got = bench.leave(*FRAMES)
    while (at := bench.link.next_deadline()) != NEVER:
        bench.tick(at)
        got += bench.left()
    assert set(got) == set(FRAMES)
    assert len(got) == len(FRAMES) + bench.link.counts["duplicate"]


def test_another_rule_behind_does_not_move_the_strikes_of_the_first() -> None:
    alone = Bench(Drop(probability=0.2)).leave(*FRAMES)
    together = Bench(Drop(probability=0.2), Corrupt(probability=0.5)).leave(*FRAMES)
    assert len(alone) == len(together)
    assert [len(data) for data in alone] == [len(data) for data in together]


def test_drop_with_probability_loses_about_that_share() -> None:
    bench = Bench(Drop(probability=0.1, direction="in"))
    got = bench.arrive(*[frame(n) for n in range(5000)])
    assert 400 < 5000 - len(got) < 600
    assert bench.link.counts == {"drop": 5000 - len(got)}
    assert len(bench.leave(*FRAMES)) == len(FRAMES)


def test_drop_by_predicate_with_limit_takes_the_first_that_match() -> None:
    bench = Bench(Drop(when=lambda data: number_of(data) % 2 == 1, limit=2))
    assert numbers(bench.leave(*FRAMES[:7])) == [0, 2, 4, 5, 6]


def test_limit_over_both_directions_is_one_limit() -> None:
    bench = Bench(Drop(limit=3))
    assert len(bench.arrive(*FRAMES[:2])) + len(bench.leave(*FRAMES[:2])) == 1
    assert bench.link.counts == {"drop": 3}


@pytest.mark.parametrize("direction", ["in", "out"])
def test_delay_holds_a_frame_for_its_time(direction: str) -> None:
    bench = Bench(Delay(by=10 * MS, when=lambda data: number_of(data) == 0, direction=direction))
    push, rest = (bench.arrive, bench.drain) if direction == "in" else (bench.leave, bench.left)
    bench.tick(1000)
    assert numbers(push(*FRAMES[:3])) == [1, 2]
    assert bench.link.next_deadline() == 1000 + 10 * MS
    bench.tick(1000 + 10 * MS - 1)
    assert rest() == []
    bench.tick(1000 + 10 * MS)
    assert numbers(rest()) == [0]
    assert bench.link.next_deadline() == NEVER


@pytest.mark.parametrize("direction", ["in", "out"])
def test_reorder_lets_later_frames_pass(direction: str) -> None:
    bench = Bench(Reorder(behind=2, when=lambda data: number_of(data) == 1, direction=direction))
    push = bench.arrive if direction == "in" else bench.leave
    assert numbers(push(*FRAMES[:6])) == [0, 2, 3, 1, 4, 5]


def test_reorder_without_later_frames_ends_with_its_hold() -> None:
    bench = Bench(Reorder(behind=2, hold=7 * MS))
    assert bench.leave(FRAMES[0]) == []
    bench.tick(bench.link.next_deadline())
    assert bench.now == 7 * MS
    assert numbers(bench.left()) == [0]


def test_duplicate_sends_copies_right_behind() -> None:
    bench = Bench(Duplicate(copies=2, when=lambda data: number_of(data) == 1))
    assert numbers(bench.leave(*FRAMES[:3])) == [0, 1, 1, 1, 2]


@given(st.integers(0, 2**32), st.integers(1, 8))
def test_corrupt_flips_bits_behind_the_ethernet_header(seed: int, bits: int) -> None:
    (got,) = Bench(Corrupt(bits=bits), seed=seed).leave(FRAMES[7])
    assert got[:14] == FRAMES[7][:14]
    assert len(got) == len(FRAMES[7])
    assert sum((a ^ b).bit_count() for a, b in zip(got, FRAMES[7], strict=True)) == bits


def test_corrupt_spares_arp() -> None:
    arp = bytes(12) + b"\x08\x06" + bytes(28)
    bench = Bench(Corrupt())
    assert bench.leave(arp) == [arp]
    assert bench.link.counts == {"corrupt": 0}


def test_corrupted_frame_is_not_vouched_for_any_more() -> None:
    bench = Bench(Corrupt(direction="in"))
    bench.far.send(FRAMES[0], [], FrameMeta(csum_start=34, csum_offset=16))
    item = bench.link.read()
    assert item is not None
    assert not item[1].csum_valid


def test_frames_are_segments_unless_offload_is_kept() -> None:
    assert not Bench(Drop()).link.caps.tx_gso
    assert not Bench(Drop()).link.caps.tx_checksum
    assert Bench(Drop(), keep_offload=True).link.caps.tx_gso


def test_full_device_keeps_the_frame_and_tries_again() -> None:
    bench = Bench(Duplicate(), capacity=1)
    assert bench.link.send(FRAMES[0], [], PLAIN)
    assert bench.link.next_deadline() == Faults.RETRY
    assert not bench.link.send(FRAMES[1], [], PLAIN)
    assert numbers(bench.left()) == [0]
    bench.tick(Faults.RETRY)
    assert numbers(bench.left()) == [0]
    assert bench.link.next_deadline() == NEVER


@pytest.mark.parametrize("wrong", [{"direction": "up"}, {"probability": 1.5}])
def test_rule_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not"):
        Drop(**wrong)  # type: ignore[arg-type]
