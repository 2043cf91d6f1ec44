"""The TCP header and its options (RFC 9293 §3.1, RFC 7323 §2.2 and §3.2, RFC 2018 §2 and §3, RFC 9768 §3.2).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    |          Source Port          |       Destination Port        |
    |                        Sequence Number                        |
    |                    Acknowledgment Number                      |
    |  Data |     |A|C|E|U|A|P|R|S|F|                               |
    | Offset|Rsrvd|E|W|C|R|C|S|S|Y|I|            Window             |
    |       |     | |R|E|G|K|H|T|N|N|                               |
    |           Checksum            |         Urgent Pointer        |
    |                           [Options]                           |

Options come out as one summary, not as objects: a segment after the handshake carries timestamps or nothing, and both
have a short way through. All numbers are as on the wire, 32-bit; who needs the sequence line unwraps. The three
reserved bits are sent as zero and ignored (RFC 9293 §3.1). AE, CWR and ECE may also be one counter of three bits, the
ACE field (RFC 9768 §3.2.2): what they mean is the connection's affair. Parsing does not check the checksum: it may have
been vouched for by the device, see :func:`verify`.
"""

import struct
from collections.abc import Sequence
from typing import Final

from usertcp.errors import WireError
from usertcp.units import MASK32
from usertcp.wire.checksum import VALID, finish, pseudo_header_sum, sum16, sum_parts

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20
ECE: Final = 0x40
CWR: Final = 0x80
AE: Final = 0x100  # the former NS (RFC 9768 §7)
ACE: Final = AE | CWR | ECE  # the three as one field
ACE_SHIFT: Final = 6

PROTOCOL: Final = 6  # in the IP header and the pseudo-header
HEADER_LEN: Final = 20  # bytes, without options
MAX_OPTIONS_LEN: Final = 40  # bytes: a data offset of 15 words
CHECKSUM_OFFSET: Final = 16  # of the checksum in the header, bytes

EOL: Final = 0  # option kinds, RFC 9293 §3.2
NOP: Final = 1
MSS: Final = 2
WINDOW_SCALE: Final = 3  # RFC 7323 §2.2
SACK_PERMITTED: Final = 4  # RFC 2018 §2
SACK: Final = 5  # RFC 2018 §3
TIMESTAMPS: Final = 8  # RFC 7323 §3.2
ACCECN0: Final = 172  # RFC 9768 §3.2.3: EE0B, ECEB, EE1B
ACCECN1: Final = 174  # EE1B, ECEB, EE0B

MAX_WSCALE: Final = 14  # RFC 7323 §2.3: a larger shift is used as 14
SYN_OPTIONS_LEN: Final = 20  # bytes, of all that a SYN mostly has
TIMESTAMPS_LEN: Final = 12  # bytes, with the two NOPs in front

_HEADER: Final = struct.Struct("!HHIIHHHH")
_NUMBER: Final = struct.Struct("!I")
_HEADER_TS: Final = struct.Struct("!HHIIHHHHIII")
_TIMESTAMPS: Final = struct.Struct("!III")
_SYN: Final = struct.Struct("!IIIII")  # MSS, SACK permitted, timestamps, NOP, window scale: Linux's layout, and ours
_HEADER_SYN: Final = struct.Struct("!HHIIHHHHIIIII")  # a header, and these
_TWO32: Final = struct.Struct("!II")
_FLAGS: Final = 0x1FF  # in the word that begins with the data offset
_MSS: Final = 0x0204_0000  # those options with their lengths, and room for what they say
_SACK_TS: Final = 0x0402_080A
_WSCALE: Final = 0x0103_0300
NOP_NOP_TS: Final = 0x0101_080A  # RFC 7323 Appendix A's layout, which everybody sends
_LENGTHS: Final = {MSS: 4, WINDOW_SCALE: 3, SACK_PERMITTED: 2, TIMESTAMPS: 10}  # SACK: 2 + 8 n

EMPTY: Final = memoryview(b"")


class Options:
    """What the options of one segment say. Repeated options: the last one counts.

    ``mss``             bytes, 0: absent
    ``wscale``          shift 0..14, -1: absent
    ``sack``            blocks (left, right edge), 32-bit wire values in the order sent
    ``tsval, tsecr``    meaningful if ``has_ts``
    ``accecn``          (EE0B, ECEB, EE1B), 24-bit counters, -1 for those left out; None: no AccECN option
    ``malformed``       an illegal length ended the parse; what stood before it is kept (RFC 9293 §3.1, MUST-7)
    """

    __slots__ = ("accecn", "has_ts", "malformed", "mss", "sack", "sack_permitted", "tsecr", "tsval", "wscale")

    def __init__(
        self,
        mss: int = 0,
        wscale: int = -1,
        sack_permitted: bool = False,
        sack: tuple[tuple[int, int], ...] = (),
        has_ts: bool = False,
        tsval: int = 0,
        tsecr: int = 0,
        malformed: bool = False,
        accecn: tuple[int, int, int] | None = None,
    ) -> None:
        self.mss = mss
        self.wscale = wscale
        self.sack_permitted = sack_permitted
        self.sack = sack
        self.has_ts = has_ts
        self.tsval = tsval
        self.tsecr = tsecr
        self.malformed = malformed
        self.accecn = accecn

    def __repr__(self) -> str:
        return (
            f"Options(mss={self.mss}, wscale={self.wscale}, sack_permitted={self.sack_permitted}, sack={self.sack}, "
            f"has_ts={self.has_ts}, tsval={self.tsval}, tsecr={self.tsecr}, malformed={self.malformed}, "
            f"accecn={self.accecn})"
        )


NO_OPTIONS: Final = Options()  # shared, never written to


class Segment:
    """One segment, or a super-segment that stands for several of ``gso_size`` bytes. ``payload`` is borrowed.
    ``ecn`` is the code point of the IP header it came with (``wire.ecn``)."""

    __slots__ = ("ack", "dport", "ecn", "flags", "gso_size", "options", "payload", "seq", "sport", "urg", "wnd")

    def __init__(
        self,
        sport: int,
        dport: int,
        seq: int,
        ack: int,
        flags: int,
        wnd: int,
        urg: int = 0,
        options: Options = NO_OPTIONS,
        payload: memoryview = EMPTY,
        gso_size: int = 0,
        ecn: int = 0,
    ) -> None:
        self.sport = sport
        self.dport = dport
        self.seq = seq
        self.ack = ack
        self.flags = flags
        self.wnd = wnd
        self.urg = urg
        self.options = options
        self.payload = payload
        self.gso_size = gso_size
        self.ecn = ecn

    @property
    def length(self) -> int:
        """SEG.LEN: the sequence numbers it occupies, SYN and FIN included (RFC 9293 §3.4)."""
        flags = self.flags
        return len(self.payload) + (flags & FIN) + (flags >> 1 & 1)

    def __repr__(self) -> str:
        return (
            f"Segment(sport={self.sport}, dport={self.dport}, seq={self.seq}, ack={self.ack}, flags={self.flags:#04x}, "
            f"wnd={self.wnd}, urg={self.urg}, options={self.options!r}, payload={len(self.payload)} bytes, "
            f"gso_size={self.gso_size}, ecn={self.ecn})"
        )


def parse(view: memoryview, gso_size: int = 0) -> Segment:
    """The segment that fills ``view``; its checksum is not looked at.

    WireError: shorter than a header, or a data offset below 5 words or beyond the end.
    """
    size = len(view)
    if size >= 32 and view[12] >> 4 == 8:
        sport, dport, seq, ack, word, wnd, _, urg, head, tsval, tsecr = _HEADER_TS.unpack_from(view)
        if head == NOP_NOP_TS:
            options = Options(0, -1, False, (), True, tsval, tsecr, False)
        else:
            options = parse_options(view[20:32])
        return Segment(sport, dport, seq, ack, word & _FLAGS, wnd, urg, options, view[32:], gso_size)
    if size < HEADER_LEN:
        raise WireError("tcp: truncated header")
    sport, dport, seq, ack, word, wnd, _, urg = _HEADER.unpack_from(view)
    offset = word >> 12 << 2
    if offset < HEADER_LEN or offset > size:
        raise WireError("tcp: bad data offset")
    options = parse_options(view[20:offset]) if offset > HEADER_LEN else NO_OPTIONS
    return Segment(sport, dport, seq, ack, word & _FLAGS, wnd, urg, options, view[offset:], gso_size)


def parse_options(view: memoryview) -> Options:
    """The options that fill ``view``, in one pass (RFC 9293 §3.1).

    EOL ends the list, unknown kinds are skipped by their length. A length of 0 or 1, one beyond the header or one wrong
    for its kind ends it too, with ``malformed`` set. Never raises.
    """
    at, end = 0, len(view)
    if end == SYN_OPTIONS_LEN and (usual := usual_syn(view)) is not None:
        mss, shift, tsval = usual
        return Options(mss, shift, True, (), True, tsval, _NUMBER.unpack_from(view, 12)[0])
    options = Options()
    while at < end:
        kind = view[at]
        if kind == NOP:
            at += 1
            continue
        if kind == EOL:
            break
        length = view[at + 1] if at + 1 < end else 0
        if length < 2 or at + length > end or _LENGTHS.get(kind, length) != length:
            options.malformed = True
            break
        if kind == TIMESTAMPS:
            options.has_ts = True
            options.tsval, options.tsecr = _TWO32.unpack_from(view, at + 2)
        elif kind == SACK:
            if length & 7 != 2 or length == 2:
                options.malformed = True
                break
            options.sack = tuple(_TWO32.iter_unpack(view[at + 2 : at + length]))
        elif kind == MSS:
            options.mss = view[at + 2] << 8 | view[at + 3]
        elif kind == WINDOW_SCALE:
            options.wscale = min(view[at + 2], MAX_WSCALE)
        elif kind == SACK_PERMITTED:
            options.sack_permitted = True
        elif kind in (ACCECN0, ACCECN1):
            options.accecn = _parse_accecn(kind, view[at + 2 : at + length])
        at += length
    return options


def usual_syn(view: memoryview) -> tuple[int, int, int] | None:
    """MSS, shift and TSval of options of SYN_OPTIONS_LEN bytes that are laid out as those of a SYN mostly are, with
    SACK permitted; None: they are not."""
    mss, middle, tsval, _, shift = _SYN.unpack(view)
    mss -= _MSS
    shift -= _WSCALE
    if 0 <= mss <= 0xFFFF and middle == _SACK_TS and 0 <= shift <= 0xFF:
        return mss, min(shift, MAX_WSCALE), tsval
    return None


def _parse_accecn(kind: int, view: memoryview) -> tuple[int, int, int]:
    """Whole fields of three bytes, as many as there are, three at most; the rest is padding (RFC 9768 §3.2.3)."""
    first, ceb, last = [
        int.from_bytes(view[at : at + 3], "big") if at + 3 <= len(view) else -1 for at in range(0, 9, 3)
    ]
    return (first, ceb, last) if kind == ACCECN0 else (last, ceb, first)


def header(
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    wnd: int,
    options: bytes = b"",
    urg: int = 0,
) -> bytearray:
    """A header with checksum 0, to be filled in at CHECKSUM_OFFSET.

    ``seq`` and ``ack`` are masked here; ``wnd`` is the 16-bit field; ``options`` are padded to 4 bytes and at most 40.
    """
    word = HEADER_LEN + len(options) << 10 | flags
    return bytearray(_HEADER.pack(sport, dport, seq & MASK32, ack & MASK32, word, wnd, 0, urg) + options)


def plain_header(sport: int, dport: int, seq: int, ack: int, flags: int, wnd: int) -> bytearray:
    """A header as of :func:`header` without options; ``seq`` and ``ack`` are masked already."""
    return bytearray(_HEADER.pack(sport, dport, seq, ack, 0x5000 | flags, wnd, 0, 0))


def stamped_header(
    sport: int, dport: int, seq: int, ack: int, flags: int, wnd: int, tsval: int, tsecr: int
) -> bytearray:
    """A header as of :func:`header` with :func:`timestamps`; all numbers are masked already."""
    return bytearray(_HEADER_TS.pack(sport, dport, seq, ack, 0x8000 | flags, wnd, 0, 0, NOP_NOP_TS, tsval, tsecr))


def syn_header(
    sport: int, dport: int, seq: int, ack: int, flags: int, wnd: int, mss: int, wscale: int, tsval: int, tsecr: int
) -> bytearray:
    """A header as of :func:`header` with all of :func:`syn_options`; all numbers are masked already."""
    word, first, last = 0xA000 | flags, _MSS | mss, _WSCALE | wscale
    return bytearray(_HEADER_SYN.pack(sport, dport, seq, ack, word, wnd, 0, 0, first, _SACK_TS, tsval, tsecr, last))


def repeat(header: bytearray, seq: int, flags: int) -> None:
    """Make ``header`` that of a segment with another number, masked already, and other flags; its checksum is 0."""
    _NUMBER.pack_into(header, 4, seq)
    header[13] = flags
    header[16] = header[17] = 0


def syn_options(mss: int, wscale: int, sack_permitted: bool, ts: tuple[int, int] | None) -> bytes:
    """The options of a SYN: MSS in bytes, shift (-1: none), SACK permitted, (TSval, TSecr); padded with NOPs."""
    out = b"\x02\x04" + mss.to_bytes(2, "big")
    if ts is not None:
        out += (b"\x04\x02\x08\x0a" if sack_permitted else b"\x01\x01\x08\x0a") + _TWO32.pack(*ts)
    elif sack_permitted:
        out += b"\x01\x01\x04\x02"
    return out + b"\x01\x03\x03" + bytes((wscale,)) if wscale >= 0 else out


def timestamps(tsval: int, tsecr: int) -> bytes:
    """The 12 bytes NOP, NOP, Timestamps (RFC 7323 Appendix A); values 32-bit."""
    return _TIMESTAMPS.pack(NOP_NOP_TS, tsval, tsecr)


def sack(blocks: Sequence[tuple[int, int]]) -> bytes:
    """NOP, NOP, SACK with one to four blocks (three beside timestamps), wire values, newest first (RFC 2018 §4)."""
    return bytes((NOP, NOP, SACK, 2 + 8 * len(blocks))) + b"".join([_TWO32.pack(*block) for block in blocks])


def accecn(kind: int, counters: Sequence[int]) -> bytes:
    """ACCECN0 or ACCECN1 with none to three counters in that kind's order, their lowest 24 bits; NOPs in front pad it
    to 4 bytes (RFC 9768 §3.2.3)."""
    length = 2 + 3 * len(counters)
    fields = b"".join([(counter & 0xFF_FFFF).to_bytes(3, "big") for counter in counters])
    return b"\x01" * (-length & 3) + bytes((kind, length)) + fields


def checksum(src: bytes, dst: bytes, header: bytearray | bytes, payload: list[memoryview]) -> int:
    """The checksum for a segment of which ``header`` still has 0 in its place; addresses of 4 or 16 bytes."""
    length = len(header)
    for part in payload:
        length += len(part)
    return finish(sum_parts(payload, pseudo_header_sum(src, dst, PROTOCOL, length) + int.from_bytes(header, "big")))


def verify(src: bytes, dst: bytes, view: memoryview) -> bool:
    """Whether the checksum of the segment that fills ``view`` is right (RFC 9293 §3.1, MUST-3)."""
    return sum16(view, pseudo_header_sum(src, dst, PROTOCOL, len(view))) == VALID
