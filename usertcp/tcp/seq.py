"""The sequence line: 32-bit wire numbers on an unbounded axis, and where a connection begins on it.

RFC 9293 §3.4 counts bytes modulo 2^32, and comparing such numbers is correct only while they lie within 2^31 of each
other. Here a wire number is put once, on entry, on the integer line next to a number that is known (``SND.UNA`` or
``RCV.NXT``); from then on ``<``, ``-`` and ``max`` mean what they say. On exit ``& MASK32`` folds it again::

      wire   0 ........ 2^32-1 | 0 ........ 2^32-1 | 0 ...
      line   0 ...............  2^32 ...............  2^33 ...
                                   ^ near:  a wire number means the place within 2^31 of it

There is no sequence number class, and no check whether a number is acceptable: that is the receiver's.
"""

from hashlib import blake2s
from typing import Final

from usertcp.units import MASK32, US

HALF: Final = 1 << 31  # half of the sequence space (bytes)
ISN_TICK: Final = 4 * US  # one step of the initial sequence number's clock (RFC 9293 §3.4.1, MUST-8)


def unwrap(wire: int, near: int) -> int:
    """The place of the 32-bit ``wire`` on the line that is nearest ``near``: in ``[near - 2^31, near + 2^31)``.

    Works for sequence numbers, acknowledgments and timestamps alike; the result may be below 0 when ``near`` is.
    """
    return near + ((wire - near + HALF) & MASK32) - HALF


def initial_sequence(now: int, flow_key: bytes, secret: bytes) -> int:
    """An initial sequence number, 32 bits: ISN = M + F(flow, secret) (RFC 6528 §3; RFC 9293 §3.4.1, SHLD-1).

    ``now`` in ns drives M, a clock of 4 us that no earlier incarnation of the flow can be ahead of; ``flow_key`` names
    addresses and ports; ``secret`` (1 to 32 bytes, random, one a host) keeps F from being guessed off the path.
    """
    return (now // ISN_TICK + keyed(flow_key, secret, b"isn")) & MASK32


def timestamp_offset(flow_key: bytes, secret: bytes) -> int:
    """What to add to the timestamp clock of a flow, 32 bits, so that it does not tell the host's uptime.

    The same function as for the initial sequence number, under another name (RFC 7323 §5.4 and §7.1).
    """
    return keyed(flow_key, secret, b"tsval")


def keyed(flow_key: bytes, secret: bytes, purpose: bytes) -> int:
    """A 32-bit pseudo-random function of ``flow_key``, one for each ``secret`` and ``purpose`` (up to 8 bytes)."""
    return int.from_bytes(blake2s(flow_key, digest_size=4, key=secret, person=purpose).digest(), "big")
