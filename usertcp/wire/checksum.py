"""The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

The sum of 16-bit words in one's complement is the sum modulo 0xFFFF, except that a sum of anything but zeros never
comes out as 0 (it is 0xFFFF, "minus zero"). So the whole buffer can be read as one big integer and reduced: 2^16 is 1
modulo 0xFFFF, hence every word weighs the same. That is four times as fast in CPython as adding up words, and makes
headers cheap too: the sum of a header is the sum of its fields. A long number is first folded onto itself in halves,
which costs less than to divide all of it. From some 700 bytes on numpy is faster still (a quarter of the time for a
segment of an Ethernet, a tenth for 64 KB); it is used where it is installed and somebody asks for it
(:func:`use_numpy`), since loading it takes longer than all the rest.

A *sum* here is a folded, not negated 16-bit value; a *checksum* is the negated one that goes on the wire. Data that is
summed with a correct checksum in place gives 0xFFFF. UDP's rule that 0 is sent as 0xFFFF is not applied here.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from usertcp.errors import WireError

Buffer: TypeAlias = bytes | bytearray | memoryview

VALID: Final = 0xFFFF  # the sum over data that carries its own correct checksum

_LONG: Final = 256  # bytes from which on halving is faster than dividing
_VECTOR: Final = 640  # bytes from which on numpy is faster than either (1.5 µs), measured on CPython 3.11
_TOP: Final = 18  # 2^18 bits: half of the largest packet
_MASKS: Final = tuple((1 << (1 << level)) - 1 for level in range(_TOP + 1))


_sum_long: Callable[[Buffer], int] | None = None  # numpy's, once it is asked for


def use_numpy() -> bool:
    """Let numpy sum long data from now on; False: it is not installed. For who puts a stack on a device that does not
    sum: loading it takes a tenth of a second, which must not be spent when the first segment arrives."""
    global _sum_long  # noqa: PLW0603
    if _sum_long is None:
        try:
            from usertcp.wire.checksum_numpy import sum_long
        except ImportError:
            return False
        _sum_long = sum_long
    return True


class BadChecksum(WireError):
    """The checksum does not match: damage on the way, where every other WireError is a malformed packet."""


def sum16(data: Buffer, start: int = 0) -> int:
    """The folded sum of ``data``, padded right with a zero byte if its length is odd, added to the sum ``start``."""
    size = len(data)
    if size >= _VECTOR and _sum_long is not None:
        total = _sum_long(data) + start
        return total % 0xFFFF or (0xFFFF if total else 0)
    total = int.from_bytes(data, "big")
    if size >= _LONG:
        level = min((size * 8 - 1).bit_length() - 1, _TOP)
        while level > 9:
            total = (total & _MASKS[level]) + (total >> (1 << level))
            level -= 1
    if size & 1:
        total = (total % 0xFFFF or (0xFFFF if total else 0)) << 8
    total += start
    return total % 0xFFFF or (0xFFFF if total else 0)


def sum_parts(parts: list[memoryview], start: int = 0) -> int:
    """The folded sum of the concatenation of ``parts`` added to ``start``; a part may begin at an odd offset."""
    total = start
    odd = 0
    for part in parts:
        word = sum16(part)
        total += (word << 8 | word >> 8) & 0xFFFF if odd else word  # RFC 1071 §2 (B): byte order independence
        odd ^= len(part) & 1
    return total % 0xFFFF or (0xFFFF if total else 0)


def finish(total: int) -> int:
    """The checksum that goes on the wire from a sum, folded or not."""
    return 0xFFFF - (total % 0xFFFF or (0xFFFF if total else 0))


def checksum(*parts: Buffer) -> int:
    """The checksum of the concatenation of ``parts``, each of any length."""
    return finish(sum_parts([memoryview(part) for part in parts]))


def pseudo_header_sum(src: bytes, dst: bytes, proto: int, length: int) -> int:
    """The folded sum of the pseudo-header: IPv4 (RFC 9293 §3.1) or IPv6 (RFC 8200 §8.1) by the width of the addresses.

    ``length`` is that of the transport header and data, in bytes. Never 0, as the protocol is not.
    """
    return (int.from_bytes(src, "big") + int.from_bytes(dst, "big") + proto + length) % 0xFFFF or 0xFFFF


def update(check: int, old16: int, new16: int) -> int:
    """The checksum after one 16-bit word under it changed from ``old16`` to ``new16`` (RFC 1624 §3, equation 3)."""
    return finish((check ^ 0xFFFF) + (old16 ^ 0xFFFF) + new16)
