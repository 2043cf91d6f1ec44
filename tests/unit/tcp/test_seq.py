"""The sequence line: unwrapping, and where connections begin."""

from hashlib import blake2s
from itertools import pairwise

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


@pytest.mark.rfc(9293, "MUST-9")
@pytest.mark.rfc(9293, "SHLD-1")
@pytest.mark.rfc(6528, "§3")
def test_initial_sequence_is_the_clock_and_a_keyed_hash_of_the_flow() -> None:
    keyed = int.from_bytes(blake2s(FLOW, digest_size=4, key=SECRET, person=b"isn").digest(), "big")
    assert initial_sequence(0, FLOW, SECRET) == keyed
    assert initial_sequence(40 * US, FLOW, SECRET) == (keyed + 10) & MASK32


@pytest.mark.rfc(9293, "MUST-9")
def test_initial_sequence_of_neighbouring_ports_gives_no_step_and_no_bit_away() -> None:
    """What an attacker sees of his own connections tells nothing of the next port, nor with another secret of this."""
    flows = [FLOW[:8] + port.to_bytes(2, "big") + FLOW[10:] for port in range(32768, 32768 + 512)]
    numbers = [initial_sequence(0, flow, SECRET) for flow in flows]
    steps = [(b - a) & MASK32 for a, b in pairwise(numbers)]
    assert len(set(numbers)) == len(flows)
    assert len(set(steps)) == len(steps)
    for bit in range(32):  # of 512 fair coins 180 to 332 fall so in all but one of 10^10 cases
        assert 180 < sum(number >> bit & 1 for number in numbers) < 332
        assert 180 < sum(step >> bit & 1 for step in steps) < 332
    others = [initial_sequence(0, flow, SECRET[::-1]) for flow in flows]
    assert len({(a - b) & MASK32 for a, b in zip(numbers, others, strict=True)}) == len(flows)


def test_initial_sequence_after_its_clock_wraps_stays_32_bits_and_repeats() -> None:
    cycle = (1 << 32) * 4 * US  # 4.77 hours
    start = initial_sequence(0, FLOW, SECRET)
    assert 0 <= start <= MASK32
    assert initial_sequence(cycle - 4 * US, FLOW, SECRET) == (start - 1) & MASK32
    assert initial_sequence(cycle, FLOW, SECRET) == start


@pytest.mark.rfc(9293, "SHLD-1")
@pytest.mark.rfc(6528, "§3")
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


@pytest.mark.rfc(7323, "§5.4")
def test_timestamp_offset_of_one_flow_is_constant_and_32_bits() -> None:
    assert timestamp_offset(FLOW, SECRET) == timestamp_offset(FLOW, SECRET)
    assert 0 <= timestamp_offset(FLOW, SECRET) <= MASK32
