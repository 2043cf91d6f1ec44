"""A segment that was sent, held to the one that a script expects: field by field, so that what differs can be shown."""

from dataclasses import dataclass
from typing import Final

from usertcp.pkt.flow import Flow, Seen, code_point, pattern
from usertcp.pkt.syntax import ECN_WORDS, Settings, TcpOption, TcpPacket
from usertcp.pkt.tcp_options import render
from usertcp.pkt.text import LETTERS
from usertcp.units import MASK32
from usertcp.wire import ecn, tcp


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a segment, as the script has it (empty: it does not say) and as it was."""

    name: str
    expected: str
    actual: str
    differs: bool


def fields(packet: TcpPacket, seen: Seen, flow: Flow, settings: Settings, *, text_known: bool) -> list[Field]:
    """Every field of ``seen``, beside what ``packet`` says of it. ``text_known``: its text should be the pattern."""
    start = flow.seq_of(seen)
    ack = flow.ack_of(seen) if seen.flags & tcp.ACK else None
    found = [
        _field("port", _asked(packet.ip.port, flow.port), seen.dport),
        Field("flags", letters(packet.flags), letters(seen.flags), packet.flags != seen.flags),
        _field("seq", sequence(packet.seq, packet.length), sequence(start, len(seen.text))),
        _field("ack", packet.ack if packet.flags & tcp.ACK else None, ack),
        _field("win", packet.win, seen.win),
        _field("urg", packet.urg if packet.urg is not None else 0, seen.urg),
        _options(packet.options, seen, flow, settings),
    ]
    if packet.ip.ecn is not None:
        point = code_point(seen)
        words = "/".join([ecn.NAMES[each] for each in packet.ip.ecn])
        found.append(Field("ecn", words, ecn.NAMES[point], point not in packet.ip.ecn))
    if packet.ip.tos is not None:
        found.append(_field("tos", packet.ip.tos, seen.tos))
    if packet.ip.ttl is not None:
        found.append(_field("ttl", packet.ip.ttl, seen.ttl))
    if text_known and not seen.flags & tcp.SYN and seen.text != pattern(start, len(seen.text)):
        found.append(Field("text", "what was written", "something else", True))
    if seen.faults:
        found.append(Field("header", "in order", ", ".join(seen.faults), True))
    return [each for each in found if each.differs or each.expected or each.actual]


def _asked(chosen: int | None, usual: int) -> int:
    return usual if chosen is None else chosen


def _field(name: str, expected: int | str | None, actual: int | str | None) -> Field:
    """A field that is not compared if nothing is expected of it."""
    if name in ("port", "urg") and expected == actual:
        return Field(name, "", "", False)
    shown = "" if expected is None else str(expected)
    return Field(name, shown, "" if actual is None else str(actual), expected is not None and expected != actual)


def _options(expected: tuple[TcpOption, ...] | None, seen: Seen, flow: Flow, settings: Settings) -> Field:
    actual = flow.options_of(seen)
    if expected is None:
        return Field("options", "...", render(actual), False)
    differs = len(expected) != len(actual)
    for ours, theirs in zip(expected, actual, strict=False):
        differs |= not _alike(ours, theirs, flow, settings)
    if not differs:
        return Field("options", render(expected), render(expected), False)
    return Field("options", render(expected), render(actual), True)


def _alike(expected: TcpOption, actual: TcpOption, flow: Flow, settings: Settings) -> bool:
    """Whether one option is the other. Timestamps of ours are compared if the script gives their tick."""
    if expected.kind != tcp.TIMESTAMPS or actual.kind != tcp.TIMESTAMPS or not actual.numbers:
        return expected == actual
    if expected.numbers[1] != actual.numbers[1]:
        return False
    if not settings.ts_tick or not flow.stamps:
        return True
    apart = (expected.numbers[0] - actual.numbers[0] + HALF & MASK32) - HALF
    return abs(apart) * settings.ts_tick <= settings.tolerance


HALF: Final = 1 << 31
_ORDER: Final = "FSRPUEWA."  # of flags


def learn(packet: TcpPacket, seen: Seen, flow: Flow) -> None:
    """``seen`` was what ``packet`` expects: its timestamp has the script's name from now on."""
    stamps = [option.numbers[0] for option in seen.options if option.kind == tcp.TIMESTAMPS and option.numbers]
    for option in packet.options or ():
        if option.kind == tcp.TIMESTAMPS and stamps:
            flow.name_stamp(option.numbers[0], stamps[0])


def letters(flags: int) -> str:
    """Flags as a script writes them."""
    return "".join([letter for letter in _ORDER if flags & LETTERS[letter]]) or "-"


def sequence(start: int, length: int) -> str:
    """``1:1001(1000)``."""
    return f"{start}:{start + length & MASK32}({length})"


def line(seen: Seen, flow: Flow) -> str:
    """``seen`` as a script would write it."""
    parts = [f"> [port {seen.dport}]"] if seen.dport != flow.port else [">"]
    if code_point(seen):
        parts.append(f"[{list(ECN_WORDS)[[0, 2, 1, 4][code_point(seen)]]}]")
    parts += [letters(seen.flags), sequence(flow.seq_of(seen), len(seen.text))]
    if seen.flags & tcp.ACK:
        parts.append(f"ack {flow.ack_of(seen)}")
    if not seen.flags & tcp.RST or seen.win:
        parts.append(f"win {seen.win}")
    if seen.urg:
        parts.append(f"urg {seen.urg}")
    if seen.options:
        parts.append(f"<{render(flow.options_of(seen))}>")
    return " ".join(parts)
