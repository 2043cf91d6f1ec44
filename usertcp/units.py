"""Units of time and size, and the width of the sequence space.

Inside usertcp time is an ``int`` of nanoseconds; seconds as ``float`` exist only at the user's edge, and these two
functions are that edge. Nothing here reads a clock.
"""

from typing import Final

US: Final = 1_000  # nanoseconds in a microsecond
MS: Final = 1_000_000  # nanoseconds in a millisecond
SEC: Final = 1_000_000_000  # nanoseconds in a second
MINUTE: Final = 60 * SEC
HOUR: Final = 60 * MINUTE

NEVER: Final = 1 << 62  # a deadline (ns) that does not come: nothing is scheduled

KIB: Final = 1 << 10  # bytes
MIB: Final = 1 << 20  # bytes

MASK32: Final = 0xFFFF_FFFF  # sequence numbers, acknowledgments and timestamps on the wire (RFC 9293 §3.4)


def from_seconds(seconds: float) -> int:
    """Nanoseconds from the user's seconds, rounded."""
    return round(seconds * SEC)


def to_seconds(nanoseconds: int) -> float:
    """The user's seconds from nanoseconds."""
    return nanoseconds / SEC
