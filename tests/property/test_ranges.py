"""RangeSet against a Python set of ints."""

from hypothesis import given
from hypothesis import strategies as st

from usertcp.tcp.ranges import RangeSet

BASE = 0xFFFF_FF00
_place = st.integers(BASE, BASE + 60)
_step = st.one_of(
    st.tuples(st.just("add"), _place, st.integers(0, 20)),
    st.tuples(st.just("remove"), _place, st.integers(0, 20)),
    st.tuples(st.just("remove_below"), _place, st.just(0)),
)


def _runs(model: set[int]) -> list[tuple[int, int]]:
    """The maximal runs of ``model``, half-open."""
    starts = sorted(n for n in model if n - 1 not in model)
    ends = sorted(n + 1 for n in model if n + 1 not in model)
    return list(zip(starts, ends, strict=True))


@given(steps=st.lists(_step, max_size=25), start=_place, length=st.integers(0, 30))
def test_range_set_after_any_steps_equals_a_set(steps: list[tuple[str, int, int]], start: int, length: int) -> None:
    ranges = RangeSet()
    model: set[int] = set()
    for what, at, n in steps:
        if what == "add":
            added = set(range(at, at + n))
            assert ranges.add(at, at + n) == len(added - model)
            model |= added
        elif what == "remove":
            ranges.remove(at, at + n)
            model -= set(range(at, at + n))
        else:
            ranges.remove_below(at)
            model = {m for m in model if m >= at}
        runs = _runs(model)
        assert list(ranges) == runs
        assert (len(ranges), ranges.total) == (len(runs), len(model))
        assert ranges.first == (runs[0] if runs else None)
    near = set(range(start - 1, start + length + 1))
    assert ranges.touches(start, start + length) == bool(near & model)
    assert (start in ranges) == (start in model)
    assert ranges.around(start) == next((r for r in _runs(model) if r[0] <= start < r[1]), None)
