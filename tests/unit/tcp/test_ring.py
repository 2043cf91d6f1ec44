"""The ring: places, growth, and views that outlive it."""

from usertcp.tcp.memory import MIN_CAPACITY, Memory
from usertcp.tcp.ring import Ring
from usertcp.units import KIB

BASE = 0xFFFF_FF00
LATE = BASE + MIN_CAPACITY - 256  # of a ring that began at BASE, 256 bytes before its end


def _text(n: int) -> bytes:
    return bytes(i * 7 & 0xFF for i in range(n))


def test_new_ring_holds_no_memory() -> None:
    ring = Ring()
    assert ring.capacity == 0
    assert ring.copy(BASE, 0) == b""


def test_first_byte_reserved_takes_the_least_capacity() -> None:
    ring = Ring()
    ring.reserve(BASE, BASE + 1)
    assert ring.capacity == MIN_CAPACITY == 4 * KIB


def test_span_beyond_capacity_reserved_grows_to_the_power_of_two_and_keeps_bytes() -> None:
    ring = Ring()
    ring.reserve(BASE, BASE + 4096)
    ring.write(LATE, _text(4096))  # passes the end of the memory: two pieces
    ring.reserve(LATE, LATE + 4097)
    assert ring.capacity == 8 * KIB
    assert ring.copy(LATE, 4096) == _text(4096)
    ring.reserve(LATE, LATE + 100_000)
    assert ring.capacity == 128 * KIB
    assert ring.copy(LATE, 4096) == _text(4096)
    assert len(ring.views(LATE, 4096)) == 1  # what grows begins anew


def test_span_within_capacity_reserved_moves_nothing() -> None:
    ring = Ring()
    ring.reserve(BASE, BASE + 10)
    before = ring.views(BASE, 10)[0].obj
    ring.reserve(BASE + 5000, BASE + 5000 + MIN_CAPACITY)
    assert ring.views(BASE, 10)[0].obj is before


def test_text_across_the_end_is_seen_in_two_pieces() -> None:
    ring = Ring()
    ring.reserve(BASE, BASE + MIN_CAPACITY)
    ring.write(LATE, _text(1000))
    pieces = ring.views(LATE, 1000)
    assert [len(piece) for piece in pieces] == [256, 744]
    assert b"".join(pieces) == _text(1000)
    target = bytearray(1000)
    ring.read_into(LATE, target)
    assert target == _text(1000)
    assert ring.copy(LATE + 1, 998) == _text(1000)[1:999]


def test_text_up_to_the_end_is_one_piece() -> None:
    ring = Ring()
    ring.reserve(BASE, BASE + MIN_CAPACITY)
    ring.write(LATE, _text(256))
    assert [len(piece) for piece in ring.views(LATE, 256)] == [256]


def test_what_was_emptied_begins_anew_in_one_piece() -> None:
    ring = Ring()
    ring.reserve(BASE, BASE + MIN_CAPACITY)
    ring.release()
    ring.reserve(LATE, LATE + MIN_CAPACITY)
    ring.write(LATE, _text(MIN_CAPACITY))
    assert [bytes(piece) for piece in ring.views(LATE, MIN_CAPACITY)] == [_text(MIN_CAPACITY)]


def test_views_out_during_growth_and_release_keep_their_bytes() -> None:
    ring = Ring()
    ring.reserve(BASE, BASE + 600)
    ring.write(BASE, _text(600))
    views = ring.views(BASE, 600)
    ring.reserve(BASE, BASE + 70_000)
    ring.write(BASE, bytes(600))
    ring.release()
    assert b"".join(views) == _text(600)


def test_released_ring_begins_again_with_its_size_and_then_with_half() -> None:
    ring = Ring()
    ring.reserve(BASE, BASE + 1)
    ring.reserve(BASE, BASE + 64 * KIB)
    sizes = []
    for _ in range(6):
        ring.release()
        assert ring.capacity == 0
        ring.reserve(BASE, BASE + 1)
        sizes.append(ring.capacity // KIB)
    assert sizes == [64, 32, 16, 8, 4, 4]


def test_memory_of_a_ring_that_was_interrupted_is_kept_by_the_size_that_it_has() -> None:
    memory = Memory()
    ring = Ring(memory)
    ring.reserve(BASE, BASE + 10_000)
    ring.capacity = 64 * KIB  # as when the interrupt falls between the lines that make it larger
    ring.release()
    assert {size: len(view) for size, view in memory.kept.items()} == {16 * KIB: 16 * KIB}
