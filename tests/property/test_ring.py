"""The ring against a dict from sequence number to byte."""

from hypothesis import given
from hypothesis import strategies as st

from usertcp.tcp.memory import MIN_CAPACITY
from usertcp.tcp.ring import Ring

BASE = 0xFFFF_FF00


@given(
    writes=st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 5000), st.integers(0, 255)), max_size=12),
    slide=st.integers(0, 3000),
)
def test_ring_after_any_writes_gives_back_the_last_word(writes: list[tuple[int, int, int]], slide: int) -> None:
    ring = Ring()
    model = bytearray(20_000 + 12 * 3000)
    written = bytearray(len(model))
    lo = hi = 0
    for offset, n, value in writes:
        at = lo + offset
        data = bytes((value + i) & 0xFF for i in range(n))
        hi = max(hi, at + n)
        ring.reserve(BASE + lo, BASE + hi)
        ring.write(BASE + at, data)
        model[at : at + n] = data
        written[at : at + n] = b"\1" * n
        assert ring.capacity == 0 or ring.capacity & (ring.capacity - 1) == 0
        assert hi - lo <= ring.capacity
        assert ring.capacity <= max(MIN_CAPACITY, 2 * 14_000)
        seen = ring.copy(BASE + lo, hi - lo)
        known = written[lo:hi]
        assert all(a == b for a, b, k in zip(seen, model[lo:hi], known, strict=True) if k)
        assert b"".join(ring.views(BASE + lo, hi - lo)) == seen
        target = bytearray(hi - lo)
        ring.read_into(BASE + lo, target)
        assert target == seen
        lo = min(hi, lo + slide)
