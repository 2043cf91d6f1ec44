"""Segments as one line of text, in the notation of packetdrill.

    S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>
    S. 0:0(0) ack 1 win 65535 <mss 1460>
    P. 1:11(10) ack 1 win 512 urg 3 <nop,nop,TS val 101 ecr 7,nop,nop,sack 1001:2001 3001:4001>
    R 5:5(0)
    SEWA 0:0(0) win 65535 <mss 1460>
    [ce] .6 1:1001(1000) ack 1 win 512 <ecn e0b 1 ceb 1000>

In brackets stands the code point of the IP header, unless it is Not-ECT. Flags are ``F S R P . U E W A`` (``.`` is ACK,
``A`` the AE of RFC 9768, ``-`` stands for none); ECE, CWR and AE may also be one digit, the ACE field. Then the
sequence numbers of the payload and its length in bytes, SYN and FIN not counted; ``ack``, ``win`` (as on the wire,
unscaled) and ``urg`` may be left out when they are 0. Numbers are relative to a base, modulo 2^32; the counters of the
AccECN option are not. Ports, the payload's bytes and gso_size are not shown, and NOPs stand where this stack would put
them. For tests, traces and the laboratory; nothing on the road of a segment.
"""

import re
from typing import Final

from usertcp.errors import WireError
from usertcp.units import MASK32
from usertcp.wire import ecn
from usertcp.wire.tcp import (
    ACE,
    ACE_SHIFT,
    ACK,
    AE,
    CWR,
    ECE,
    FIN,
    NO_OPTIONS,
    PSH,
    RST,
    SYN,
    URG,
    Options,
    Segment,
)

LETTERS: Final = {"F": FIN, "S": SYN, "R": RST, "P": PSH, ".": ACK, "U": URG, "E": ECE, "W": CWR, "A": AE}
_MAX_PAYLOAD: Final = 1 << 16  # bytes: more than any super-segment
_LINE: Final = re.compile(
    r"\s*(\[(?P<ecn>not-ect|ect1|ect0|ce)\]\s+)?"
    r"(?P<flags>(?:[FSRP.U]+|-)[0-7]|[FSRP.UEWA]+|-)\s+(?P<seq>\d{1,10}):(?P<end>\d{1,10})\((?P<len>\d{1,10})\)"
    r"(\s+ack\s+(?P<ack>\d{1,10}))?(\s+win\s+(?P<win>\d{1,10}))?(\s+urg\s+(?P<urg>\d{1,10}))?"
    r"(\s+<(?P<options>[^<>]*)>)?\s*",
    re.ASCII,
)
_TS: Final = re.compile(r"TS val (\d{1,10}) ecr (\d{1,10})", re.ASCII)
_SACK: Final = re.compile(r"sack((?: \d{1,10}:\d{1,10})+)", re.ASCII)
_VALUE: Final = re.compile(r"(mss|wscale) (\d{1,5})", re.ASCII)
_ACCECN: Final = re.compile(r"ecn((?: (?:e0b|ceb|e1b) \d{1,8})*)", re.ASCII)
_COUNTERS: Final = ("e0b", "ceb", "e1b")


def render(
    seg: Segment, *, seq_base: int = 0, ack_base: int = 0, tsval_base: int = 0, tsecr_base: int = 0, ace: bool = False
) -> str:
    """One line for ``seg``; SACK blocks count from ``ack_base``. :func:`parse` with the same bases is the inverse.
    ``ace``: three of the flags are the ACE field, unless it is a SYN or a reset."""
    start = seg.seq - seq_base & MASK32
    size = len(seg.payload)
    digit = ""
    shown = seg.flags
    if ace and not seg.flags & (SYN | RST):
        digit = str(seg.flags >> ACE_SHIFT & 7)
        shown &= ~ACE
    flags = "".join([letter for letter, flag in LETTERS.items() if shown & flag]) or "-"
    line = f"{flags}{digit} {start}:{start + size & MASK32}({size})"
    if seg.ecn:
        line = f"[{ecn.NAMES[seg.ecn]}] {line}"
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
    if options.accecn is not None:
        out.append(_render_accecn(options.accecn))
    if options.malformed:
        out.append("malformed")
    return out


def _render_accecn(counters: tuple[int, int, int]) -> str:
    """In the order of AccECN0, or of AccECN1 when that needs fewer fields."""
    pairs = list(zip(_COUNTERS, counters, strict=True))
    if counters[0] < 0:
        pairs.reverse()
    return "ecn" + "".join([f" {name} {counter}" for name, counter in pairs if counter >= 0])


def parse(line: str, *, seq_base: int = 0, ack_base: int = 0, tsval_base: int = 0, tsecr_base: int = 0) -> Segment:
    """The segment a line describes, with ports 0 and a payload of zeros. WireError if it is not in the notation."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise WireError("text: not a segment")
    field = match.groupdict()
    letters = set(field["flags"]) - {"-"}
    flags = sum([int(c) << ACE_SHIFT if c.isdigit() else LETTERS[c] for c in letters])
    start, end, size = int(field["seq"]), int(field["end"]), int(field["len"])
    wnd, urg = int(field["win"] or 0), int(field["urg"] or 0)
    if end - start & MASK32 != size or size > _MAX_PAYLOAD:
        raise WireError("text: length and sequence numbers disagree")
    if max(wnd, urg) > 0xFFFF:
        raise WireError("text: more than 16 bits")
    ack = 0 if field["ack"] is None else int(field["ack"]) + ack_base & MASK32
    options = _parse_options(field["options"], ack_base, tsval_base, tsecr_base) if field["options"] else NO_OPTIONS
    code = ecn.NAMES.index(field["ecn"] or "not-ect")
    return Segment(0, 0, start + seq_base & MASK32, ack, flags, wnd, urg, options, memoryview(bytes(size)), ecn=code)


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
        elif match := _ACCECN.fullmatch(item):
            words = match[1].split()
            values = dict(zip(words[::2], map(int, words[1::2]), strict=True))
            options.accecn = (values.get("e0b", -1), values.get("ceb", -1), values.get("e1b", -1))
        elif match := _VALUE.fullmatch(item):
            if match[1] == "mss":
                options.mss = int(match[2])
            else:
                options.wscale = int(match[2])
        elif item not in ("nop", "eol"):
            raise WireError("text: unknown option")
    return options
