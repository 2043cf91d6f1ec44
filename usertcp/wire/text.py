"""Segments as one line of text, in the notation of packetdrill.

    S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>
    S. 0:0(0) ack 1 win 65535 <mss 1460>
    P. 1:11(10) ack 1 win 512 urg 3 <nop,nop,TS val 101 ecr 7,nop,nop,sack 1001:2001 3001:4001>
    R 5:5(0)

Flags are ``F S R P . U E W`` (``.`` is ACK, ``-`` stands for none); then the sequence numbers of the payload and its
length in bytes, SYN and FIN not counted; ``ack``, ``win`` (as on the wire, unscaled) and ``urg`` may be left out when
they are 0. Numbers are relative to a base, modulo 2^32. Ports, the payload's bytes and gso_size are not shown, and NOPs
stand where this stack would put them. For tests, traces and the laboratory; nothing on the road of a segment.
"""

import re
from typing import Final

from usertcp.errors import WireError
from usertcp.units import MASK32
from usertcp.wire.tcp import ACK, CWR, ECE, FIN, NO_OPTIONS, PSH, RST, SYN, URG, Options, Segment

_LETTERS: Final = {"F": FIN, "S": SYN, "R": RST, "P": PSH, ".": ACK, "U": URG, "E": ECE, "W": CWR}
_MAX_PAYLOAD: Final = 1 << 16  # bytes: more than any super-segment
_LINE: Final = re.compile(
    r"\s*(?P<flags>[FSRP.UEW]+|-)\s+(?P<seq>\d{1,10}):(?P<end>\d{1,10})\((?P<len>\d{1,10})\)"
    r"(\s+ack\s+(?P<ack>\d{1,10}))?(\s+win\s+(?P<win>\d{1,10}))?(\s+urg\s+(?P<urg>\d{1,10}))?"
    r"(\s+<(?P<options>[^<>]*)>)?\s*",
    re.ASCII,
)
_TS: Final = re.compile(r"TS val (\d{1,10}) ecr (\d{1,10})", re.ASCII)
_SACK: Final = re.compile(r"sack((?: \d{1,10}:\d{1,10})+)", re.ASCII)
_VALUE: Final = re.compile(r"(mss|wscale) (\d{1,5})", re.ASCII)


def render(seg: Segment, *, seq_base: int = 0, ack_base: int = 0, tsval_base: int = 0, tsecr_base: int = 0) -> str:
    """One line for ``seg``; SACK blocks count from ``ack_base``. :func:`parse` with the same bases is the inverse."""
    start = seg.seq - seq_base & MASK32
    size = len(seg.payload)
    flags = "".join([letter for letter, flag in _LETTERS.items() if seg.flags & flag]) or "-"
    line = f"{flags} {start}:{start + size & MASK32}({size})"
    if seg.flags & ACK or seg.ack:
        line += f" ack {seg.ack - ack_base & MASK32}"
    if seg.wnd or not seg.flags & RST:
        line += f" win {seg.wnd}"
    if seg.flags & URG or seg.urg:
        line += f" urg {seg.urg}"
    options = _render_options(seg.options, ack_base, tsval_base, tsecr_base)
    return f"{line} <{','.join(options)}>" if options else line


def _render_options(options: Options, ack_base: int, tsval_base: int, tsecr_base: int) -> list[str]:
    out = []
    if options.mss:
        out.append(f"mss {options.mss}")
    if options.sack_permitted:
        out += ["sackOK"] if options.has_ts else ["nop", "nop", "sackOK"]
    if options.has_ts:
        out += [] if options.sack_permitted else ["nop", "nop"]
        out.append(f"TS val {options.tsval - tsval_base & MASK32} ecr {options.tsecr - tsecr_base & MASK32}")
    if options.wscale >= 0:
        out += ["nop", f"wscale {options.wscale}"]
    if options.sack:
        blocks = [f" {left - ack_base & MASK32}:{right - ack_base & MASK32}" for left, right in options.sack]
        out += ["nop", "nop", "sack" + "".join(blocks)]
    if options.malformed:
        out.append("malformed")
    return out


def parse(line: str, *, seq_base: int = 0, ack_base: int = 0, tsval_base: int = 0, tsecr_base: int = 0) -> Segment:
    """The segment a line describes, with ports 0 and a payload of zeros. WireError if it is not in the notation."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise WireError("text: not a segment")
    field = match.groupdict()
    flags = sum({_LETTERS[letter] for letter in field["flags"] if letter != "-"})
    start, end, size = int(field["seq"]), int(field["end"]), int(field["len"])
    wnd, urg = int(field["win"] or 0), int(field["urg"] or 0)
    if end - start & MASK32 != size or size > _MAX_PAYLOAD:
        raise WireError("text: length and sequence numbers disagree")
    if max(wnd, urg) > 0xFFFF:
        raise WireError("text: more than 16 bits")
    ack = 0 if field["ack"] is None else int(field["ack"]) + ack_base & MASK32
    options = _parse_options(field["options"], ack_base, tsval_base, tsecr_base) if field["options"] else NO_OPTIONS
    return Segment(0, 0, start + seq_base & MASK32, ack, flags, wnd, urg, options, memoryview(bytes(size)))


def _parse_options(text: str, ack_base: int, tsval_base: int, tsecr_base: int) -> Options:
    options = Options()
    for item in text.split(","):
        item = item.strip()
        if item == "sackOK":
            options.sack_permitted = True
        elif item == "malformed":
            options.malformed = True
        elif match := _TS.fullmatch(item):
            options.has_ts = True
            options.tsval = int(match[1]) + tsval_base & MASK32
            options.tsecr = int(match[2]) + tsecr_base & MASK32
        elif match := _SACK.fullmatch(item):
            edges = [int(edge) + ack_base & MASK32 for edge in re.split("[ :]", match[1].strip())]
            options.sack = tuple(zip(edges[::2], edges[1::2], strict=True))
        elif match := _VALUE.fullmatch(item):
            if match[1] == "mss":
                options.mss = int(match[2])
            else:
                options.wscale = int(match[2])
        elif item not in ("nop", "eol"):
            raise WireError("text: unknown option")
    return options
