"""The sequence line: unwrapping, and where connections begin."""

import pytest

from usertcp.tcp.seq import HALF, initial_sequence, timestamp_offset, unwrap
from usertcp.units import MASK32, MS, SEC, US

SECRET = bytes(range(16))
FLOW = bytes((10, 9, 0, 2, 10, 9, 0, 1, 0x9C, 0x40, 0, 80))


@pytest.mark.parametrize(
    ("wire", "near", "expected"),
    [
        (5, 5, 5),
        (0xFFFF_FF00, 0xFFFF_FF00, 0xFFFF_FF00),
        (0x10, 0xFFFF_FFF0, 0x1_0000_0010),  # the wire has wrapped, the line goes on
        (0xFFFF_FFF0, 0x1_0000_0010, 0xFFFF_FFF0),  # an old number from before the wrap
        (0x10, 0x5_FFFF_FFF0, 0x6_0000_0010),
        (0xFFFF_FFFF, 0, -1),  # just below the start of the line
        ((HALF - 1) & MASK32, 0, HALF - 1),
        (HALF, 0, -HALF),  # exactly opposite counts as before
    ],
)
def test_unwrap_near_a_known_number_gives_the_closest_place(wire: int, near: int, expected: int) -> None:
    assert unwrap(wire, near) == expected


@pytest.mark.rfc(9293, "MUST-8")
def test_initial_sequence_with_time_steps_every_four_microseconds() -> None:
    start = initial_sequence(7 * SEC, FLOW, SECRET)
    assert initial_sequence(7 * SEC + 3 * US, FLOW, SECRET) == start
    assert initial_sequence(7 * SEC + 4 * US, FLOW, SECRET) == (start + 1) & MASK32
    assert initial_sequence(7 * SEC + 4 * MS, FLOW, SECRET) == (start + 1000) & MASK32


def test_initial_sequence_after_its_clock_wraps_stays_32_bits_and_repeats() -> None:
    cycle = (1 << 32) * 4 * US  # 4.77 hours
    start = initial_sequence(0, FLOW, SECRET)
    assert 0 <= start <= MASK32
    assert initial_sequence(cycle - 4 * US, FLOW, SECRET) == (start - 1) & MASK32
    assert initial_sequence(cycle, FLOW, SECRET) == start


@pytest.mark.rfc(9293, "SHLD-1")
@pytest.mark.rfc(6528, "3")
def test_initial_sequence_of_another_flow_or_secret_is_unrelated() -> None:
    other_port = FLOW[:-1] + b"\x51"
    numbers = {
        initial_sequence(0, FLOW, SECRET),
        initial_sequence(0, other_port, SECRET),
        initial_sequence(0, FLOW, SECRET[::-1]),
        timestamp_offset(FLOW, SECRET),
        timestamp_offset(other_port, SECRET),
    }
    assert len(numbers) == 5


def test_timestamp_offset_of_one_flow_is_constant_and_32_bits() -> None:
    assert timestamp_offset(FLOW, SECRET) == timestamp_offset(FLOW, SECRET)
    assert 0 <= timestamp_offset(FLOW, SECRET) <= MASK32
