"""What a host wants of ECN: which way its own SYN asks for, and which it grants to a SYN that asks.

The way that carries more includes the other: who asks for AccECN may be granted RFC 3168. How the two ends come to an
agreement is in ``ecn_setup``.
"""

from enum import Enum
from typing import Final

from usertcp.wire.tcp import ACE, CWR, ECE

ASKS_NOTHING: Final = 0  # what a SYN asks for
ASKS_CLASSIC: Final = 1
ASKS_ACCURATE: Final = 2
SYN_FLAGS: Final = (0, CWR | ECE, ACE)  # of a SYN that asks for each of them


def asks(flags: int) -> int:
    """What a SYN with these flags asks for: RFC 3168 §6.1.1, RFC 9768 §3.1.2; reserved combinations count as AccECN
    (§3.1.3)."""
    flags &= ACE
    if not flags:
        return ASKS_NOTHING
    return ASKS_CLASSIC if flags == CWR | ECE else ASKS_ACCURATE


class Ecn(Enum):
    """What our SYN asks for, and the most that a SYN that asks is granted. Behind them Linux's tcp_ecn."""

    OFF = (ASKS_NOTHING, ASKS_NOTHING)  # 0
    CLASSIC = (ASKS_CLASSIC, ASKS_CLASSIC)  # 1: RFC 3168
    CLASSIC_PASSIVE = (ASKS_NOTHING, ASKS_CLASSIC)  # 2
    ACCURATE = (ASKS_ACCURATE, ASKS_ACCURATE)  # 3: RFC 9768, which includes the other
    CLASSIC_ACTIVE = (ASKS_CLASSIC, ASKS_ACCURATE)  # 4
    PASSIVE = (ASKS_NOTHING, ASKS_ACCURATE)  # 5

    asks: int
    grants: int


for _policy in Ecn:
    _policy.asks, _policy.grants = _policy.value
