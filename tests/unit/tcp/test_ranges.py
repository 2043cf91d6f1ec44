"""The set of bytes that have arrived; tests/property/test_ranges.py holds it against Python's own sets."""

from usertcp.tcp.ranges import RangeSet

BASE = 0xFFFF_FF00


def _set(*ranges: tuple[int, int]) -> RangeSet:
    made = RangeSet()
    for start, end in ranges:
        made.add(start, end)
    return made


def test_empty_set_has_no_first_and_holds_nothing() -> None:
    empty = RangeSet()
    assert (len(empty), empty.total, list(empty), empty.first) == (0, 0, [], None)
    assert BASE not in empty


def test_touching_ranges_added_become_one() -> None:
    made = _set((BASE, BASE + 100), (BASE + 200, BASE + 300))
    assert made.add(BASE + 100, BASE + 200) == 100
    assert list(made) == [(BASE, BASE + 300)]
    assert made.total == 300


def test_range_over_several_added_counts_only_what_is_new() -> None:
    made = _set((BASE + 10, BASE + 20), (BASE + 30, BASE + 40), (BASE + 90, BASE + 95))
    assert made.add(BASE + 15, BASE + 50) == 20
    assert list(made) == [(BASE + 10, BASE + 50), (BASE + 90, BASE + 95)]
    assert made.add(BASE + 12, BASE + 13) == 0
    assert made.add(BASE + 60, BASE + 60) == 0
    assert made.total == 45


def test_range_holding_a_number_is_found_around_it() -> None:
    made = _set((BASE + 10, BASE + 20), (BASE + 30, BASE + 40))
    assert made.around(BASE + 30) == (BASE + 30, BASE + 40)
    assert made.around(BASE + 19) == (BASE + 10, BASE + 20)
    assert made.around(BASE + 20) is None
    assert made.first == (BASE + 10, BASE + 20)


def test_remove_below_a_number_inside_a_range_cuts_it() -> None:
    made = _set((BASE + 10, BASE + 20), (BASE + 30, BASE + 40))
    made.remove_below(BASE + 35)
    assert list(made) == [(BASE + 35, BASE + 40)]
    assert made.total == 5
    made.remove_below(BASE + 40)
    assert (len(made), made.total) == (0, 0)


def test_clear_takes_everything_out() -> None:
    made = _set((BASE, BASE + 1))
    made.clear()
    assert (len(made), made.total) == (0, 0)


def test_range_that_overlaps_or_adjoins_touches_others_do_not() -> None:
    held = RangeSet()
    held.add(10, 20)
    held.add(30, 40)
    assert [
        held.touches(*new) for new in ((0, 9), (0, 10), (20, 21), (21, 29), (25, 30), (15, 16), (40, 41), (41, 42))
    ] == [
        False,
        True,
        True,
        False,
        True,
        True,
        True,
        False,
    ]
