"""Unwrapping is the inverse of masking for every number within half the space."""

from hypothesis import given
from hypothesis import strategies as st

from usertcp.tcp.seq import HALF, unwrap
from usertcp.units import MASK32


@given(near=st.integers(0, 1 << 80), distance=st.integers(-HALF, HALF - 1))
def test_number_masked_near_another_unwraps_to_itself(near: int, distance: int) -> None:
    number = near + distance
    assert unwrap(number & MASK32, near) == number


@given(near=st.integers(0, 1 << 40), wire=st.integers(0, MASK32))
def test_wire_number_unwrapped_is_congruent_and_close(near: int, wire: int) -> None:
    place = unwrap(wire, near)
    assert place & MASK32 == wire
    assert -HALF <= place - near < HALF
