"""TCP options in their order, as a script writes them and a packet carries them.

:class:`usertcp.wire.tcp.Options` is what a connection makes of them; here the order, the padding and what is unknown
count too, since a script holds the whole header to what it says.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from usertcp.pkt.syntax import TcpOption
from usertcp.wire import tcp

FAST_OPEN: Final = 34  # RFC 7413 §4.1.1

_FORMS: Final = {
    tcp.MSS: struct.Struct("!H"),
    tcp.WINDOW_SCALE: struct.Struct("!B"),
    tcp.SACK_PERMITTED: struct.Struct(""),
    tcp.TIMESTAMPS: struct.Struct("!II"),
}
MASK24: Final = (1 << 24) - 1  # a counter of AccECN's
ACCECN_WORDS: Final = {tcp.ACCECN0: ("e0b", "ceb", "e1b"), tcp.ACCECN1: ("e1b", "ceb", "e0b")}  # RFC 9768 §3.2.3
_EDGE: Final = struct.Struct("!I")


def encode(options: Iterable[TcpOption]) -> bytes:
    """Their bytes, padded with EOL to whole words."""
    out = b"".join([_encode(option) for option in options])
    return out + bytes(-len(out) & 3)


def _encode(option: TcpOption) -> bytes:
    if option.kind in (tcp.NOP, tcp.EOL):
        return bytes((option.kind,))
    if option.kind in _FORMS and option.numbers:
        body = _FORMS[option.kind].pack(*option.numbers)
    elif option.kind == tcp.SACK and option.numbers:
        body = b"".join([_EDGE.pack(edge) for edge in option.numbers])
    elif option.kind in ACCECN_WORDS and option.numbers:
        body = b"".join([number.to_bytes(3, "big") for number in option.numbers])
    else:
        body = option.octets
    return bytes((option.kind, len(body) + 2)) + body


def decode(view: memoryview) -> tuple[TcpOption, ...]:
    """The options that fill ``view``. What does not fit its kind, or the header, shows as octets."""
    found = []
    at = 0
    while at < len(view):
        kind = view[at]
        if kind in (tcp.NOP, tcp.EOL):
            found.append(TcpOption(kind))
            at += 1
            continue
        length = max(view[at + 1], 2) if at + 1 < len(view) else 2
        found.append(_decode(kind, bytes(view[at + 2 : at + length])))
        at += length
    while found and found[-1].kind == tcp.EOL:  # the padding behind the end
        found.pop()
    return tuple(found)


def _decode(kind: int, body: bytes) -> TcpOption:
    form = _FORMS.get(kind)
    if form is not None and len(body) == form.size:
        return TcpOption(kind, form.unpack(body))
    if kind == tcp.SACK and body and len(body) % 8 == 0:
        return TcpOption(kind, tuple(edge for (edge,) in _EDGE.iter_unpack(body)))
    if kind in ACCECN_WORDS and body and len(body) in (3, 6, 9):
        return TcpOption(kind, tuple(int.from_bytes(body[at : at + 3], "big") for at in range(0, len(body), 3)))
    return TcpOption(kind, octets=body)


def moved(
    options: Iterable[TcpOption], edge: Callable[[int], int], stamps: Callable[[int, int], tuple[int, int]]
) -> tuple[TcpOption, ...]:
    """The same with SACK edges and timestamps in other numbers."""
    found = []
    for option in options:
        if option.kind == tcp.SACK and option.numbers:
            option = replace(option, numbers=tuple(map(edge, option.numbers)))
        elif option.kind == tcp.TIMESTAMPS and option.numbers:
            option = replace(option, numbers=stamps(*option.numbers))
        found.append(option)
    return tuple(found)


def render(options: Sequence[TcpOption]) -> str:
    """As a script writes them, without the brackets."""
    return ",".join(map(_render, options))


def _render(option: TcpOption) -> str:
    numbers = option.numbers
    match option.kind:
        case tcp.NOP:
            return "nop"
        case tcp.EOL:
            return "eol"
        case tcp.MSS if numbers:
            return f"mss {numbers[0]}"
        case tcp.WINDOW_SCALE if numbers:
            return f"wscale {numbers[0]}"
        case tcp.SACK_PERMITTED if not option.octets:
            return "sackOK"
        case tcp.TIMESTAMPS if numbers:
            return f"TS val {numbers[0]} ecr {numbers[1]}"
        case tcp.SACK if numbers:
            return "sack " + " ".join([f"{left}:{right}" for left, right in zip(*[iter(numbers)] * 2, strict=True)])
    if option.kind in ACCECN_WORDS and numbers:
        words = zip(ACCECN_WORDS[option.kind], numbers, strict=False)
        return "ECN " + " ".join([f"{word} {number}" for word, number in words])
    name = "FO" if option.kind == FAST_OPEN else f"kind {option.kind}"
    return f"{name} {option.octets.hex()}".rstrip()
