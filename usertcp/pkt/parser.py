"""The packetdrill language: text to :class:`~usertcp.pkt.syntax.Script`, by recursive descent, one function a rule.

::

    script  = { --option=value } { `shell` } { event }
    event   = [usertcp: | kernel:] [when] `shell` | [usertcp: | kernel:] when ( packet | call | %{ code }% )
    when    = time | +time | time~time | +time~+time | *
    packet  = (< | >) [ip] flags seq:end(length) [ack n] [win n] [urg n] [<options>]
            | < [ip] [seq:end(length)] icmp type [code] [mtu n]
    call    = [...time] name(arguments) = result [ERRNO] [(note)]

Names of constants are looked up at once, so that a script that was read has none left that do not exist. Not in it:
UDP, IPv6, tunnels and MPTCP. Our own are ``port n`` among the ``ip`` words, which tells several connections apart,
``ttl n``, and the name of a target before an event that only that one plays.
"""

import ast
import ipaddress
import re
from collections.abc import Callable
from dataclasses import replace
from types import EllipsisType
from typing import Any, Final, TypeVar

from usertcp.link.words import MAX_TUN_MTU
from usertcp.pkt.calls import ARITY
from usertcp.pkt.names import CONSTANTS, ERRNOS, ICMP_CODES, ICMP_TYPES
from usertcp.pkt.scanner import Scanner
from usertcp.pkt.snippet import check
from usertcp.pkt.syntax import (
    ECN_WORDS,
    Action,
    Call,
    Code,
    Event,
    Expression,
    IcmpPacket,
    IpInfo,
    Script,
    Settings,
    Shell,
    Struct,
    TcpOption,
    TcpPacket,
    When,
)
from usertcp.pkt.tcp_options import ACCECN_WORDS, FAST_OPEN, MASK24, encode
from usertcp.pkt.text import LETTERS
from usertcp.units import MASK32, SEC, US
from usertcp.wire import icmp, tcp

T = TypeVar("T")

MAX_TIME: Final = 1_000_000 * SEC  # eleven days
MAX_TEXT: Final = 65_535 - 60  # bytes in one packet of a script that comes in; one that goes out may stand for several
MAX_BURST: Final = 1 << 24  # bytes of it
DEEPEST: Final = 16  # structures and arrays within each other

_TIME: Final = re.compile(r"\d*\.\d+|\d+", re.ASCII)
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]+|-?\d+", re.ASCII)
_PLAIN: Final = re.compile(r"\d+", re.ASCII)
_WORD: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_ERRNO: Final = re.compile(r"[A-Z]\w*", re.ASCII)
_OPTION: Final = re.compile(r"--(\w+)", re.ASCII)
_VALUE: Final = re.compile(r"[^\s/]+", re.ASCII)
_FLAGS: Final = re.compile(r"(?:[FSRP.UEWA]+[0-7]?|-)(?=\s)", re.ASCII)
_RANGE: Final = re.compile(r"(\d+):(\d+)\((\d+)\)", re.ASCII)
_EDGES: Final = re.compile(r"(\d+):(\d+)", re.ASCII)
_ECHOED: Final = re.compile(r"\[\s*(\d+):(\d+)\((\d+)\)\s*\]", re.ASCII)
_STRING: Final = re.compile(r'"((?:\\.|[^"\\\n])*)"', re.ASCII)
_SHELL: Final = re.compile(r"`([^`]*)`")
_CODE: Final = re.compile(r"%\{(.*?)\}%", re.DOTALL)
_NOTE: Final = re.compile(r"\([^()\n]*\)")
_COOKIE: Final = re.compile(r"(?:[0-9a-fA-F]{2})+", re.ASCII)
_ONLY: Final = re.compile(r"(usertcp|kernel):", re.ASCII)
_NAMED: Final = re.compile(r"([A-Za-z_]\w*)\s*(?:\([^()]*\)\s*)?=(?!=)", re.ASCII)


def parse(text: str, name: str = "script") -> Script:
    """The script that ``text`` is. ScriptError otherwise, and nothing else."""
    scan = Scanner(text)
    settings = Settings()
    while scan.looking_at(_OPTION):
        settings = _setting(scan, settings)
    shell = []
    while match := scan.take(_SHELL):
        shell.append(Shell(match[1]))
    events = []
    while not scan.done:
        events.append(_event(scan))
    if not events:
        raise scan.wanted("an event")
    return Script(name, settings, tuple(shell), tuple(events))


# -- options ---------------------------------------------------------------------------------------------------------


def _microseconds(text: str) -> int:
    return _bounded(text, 0, MAX_TIME // US) * US


def _port(text: str) -> int:
    return _bounded(text, 1, 0xFFFF)


def _bounded(text: str, low: int, high: int) -> int:
    value = int(text) if text.isdecimal() and text.isascii() and len(text) < 20 else -1
    if not low <= value <= high:
        raise ValueError(f"a number from {low} to {high} is wanted")
    return value


def _address(text: str) -> str:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        address = ipaddress.IPv4Address(0)
    if address.is_multicast or address.is_loopback or address.is_reserved or address.is_unspecified:
        raise ValueError("an IPv4 address of one host is wanted")
    return str(address)


_SETTINGS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "tolerance_usecs": ("tolerance", _microseconds),
    "tcp_ts_tick_usecs": ("ts_tick", _microseconds),
    "mtu": ("mtu", lambda text: _bounded(text, 576, MAX_TUN_MTU)),
    "local_ip": ("local_ip", _address),
    "remote_ip": ("remote_ip", _address),
    "bind_port": ("bind_port", _port),
    "connect_port": ("connect_port", _port),
}


def _setting(scan: Scanner, settings: Settings) -> Settings:
    at = scan.at
    name = scan.need(_OPTION, "an option")[1]
    if name not in _SETTINGS:
        raise scan.error(f"there is no option --{name}; there is: --{', --'.join(_SETTINGS)}", at)
    scan.expect("=")
    at = scan.at
    value = scan.need(_VALUE, "the option's value")[0]
    field, read = _SETTINGS[name]
    try:
        changed = replace(settings, **{field: read(value)})
    except ValueError as error:
        raise scan.error(f"--{name}={value}: {error}", at) from None
    if changed.local_ip == changed.remote_ip:
        raise scan.error("both ends would have the same address", at)
    return changed


# -- events ----------------------------------------------------------------------------------------------------------


def _event(scan: Scanner) -> Event:
    line = scan.line
    only = scan.take(_ONLY)
    when = When(0, 0, True) if scan.looking_at(_SHELL) else _when(scan)
    at = scan.at
    if scan.done:
        raise scan.wanted("what happens then")
    action = _action(scan, when)
    return Event(
        when, action, line, scan.text[at : scan.at].split("\n")[0].split("//")[0].strip(), only[1] if only else ""
    )


def _when(scan: Scanner) -> When:
    if scan.accept("*"):
        return When(None, 0, True)
    at = scan.at
    relative = scan.accept("+")
    low = high = _time(scan)
    if scan.accept("~"):
        if relative:
            scan.expect("+")
        high = _time(scan)
        if high < low:
            raise scan.error("this range of time ends before it begins", at)
    return When(low, high, relative)


def _time(scan: Scanner) -> int:
    at = scan.at
    whole, _, fraction = scan.need(_TIME, "a time, such as 0, 0.1, +.05 or *,")[0].partition(".")
    if len(whole) > 9:
        raise scan.error("so late a time is not reached", at)
    value = int(whole or "0") * SEC + int(fraction[:9].ljust(9, "0"))
    if value > MAX_TIME:
        raise scan.error("so late a time is not reached", at)
    return value


def _action(scan: Scanner, when: When) -> Action:
    if scan.accept("<"):
        return _packet(scan, inbound=True)
    if scan.accept(">"):
        return _packet(scan, inbound=False)
    if match := scan.take(_SHELL):
        return Shell(match[1])
    line = scan.line
    if match := scan.take(_CODE):
        check(scan, match)
        return Code(match[1], line)
    if when.low is None or when.high != when.low:
        raise scan.wanted("a packet that goes out: only that may come at any time or in a range of it, and it")
    return _call(scan, when)


# -- packets ---------------------------------------------------------------------------------------------------------


def _packet(scan: Scanner, *, inbound: bool) -> TcpPacket | IcmpPacket:
    start = scan.at
    ip = _ip_info(scan) if scan.looking_at(re.compile(r"\[\s*[A-Za-z]")) else IpInfo()
    echoed = scan.take(_ECHOED)
    if echoed is not None or scan.looking_at(re.compile(r"icmp\b")):
        if not inbound:
            raise scan.error("an ICMP error only comes in", start)
        return _icmp(scan, ip, echoed)
    if scan.looking_at(re.compile(r"udp\b")):
        raise scan.error("only TCP and ICMP are spoken here")
    word = scan.need(_FLAGS, "the flags, some of FSRP.UEWA or -,")[0]
    seq, length = _range(scan, most=MAX_TEXT if inbound else MAX_BURST)
    ack = _after(scan, "ack", MASK32)
    win = _after(scan, "win", 0xFFFF)
    urg = _after(scan, "urg", 0xFFFF)
    flags = _flags(word)
    if ack is not None and not flags & tcp.ACK:
        raise scan.error("a segment with an ack needs the flag '.'", start)
    options: tuple[TcpOption, ...] | None = ()
    if scan.accept("<"):
        at = scan.at
        options = _tcp_options(scan, inbound=inbound)
        if inbound and options is not None and len(encode(options)) > tcp.MAX_OPTIONS_LEN:
            raise scan.error("a header has no room for so many options", at)
    if inbound and (ip.ecn is not None and len(ip.ecn) > 1):
        raise scan.error("a packet that comes in has one code point: ect0 or ect1", start)
    return TcpPacket(inbound, ip, flags, seq, length, ack, win, urg, options)


def _flags(word: str) -> int:
    flags = 0
    for letter in word.strip("-"):
        flags |= int(letter) << tcp.ACE_SHIFT if letter.isdecimal() else LETTERS[letter]
    return flags


def _ip_info(scan: Scanner) -> IpInfo:
    scan.expect("[")
    info = IpInfo()
    while True:
        at = scan.at
        word = scan.need(_WORD, "noecn, ect0, ect1, ect01, ce, tos, ttl or port")[0]
        if word in ECN_WORDS:
            info = replace(info, ecn=ECN_WORDS[word])
        elif word == "tos":
            info = replace(info, tos=_number(scan, 0, 255))
        elif word == "ttl":
            info = replace(info, ttl=_number(scan, 0, 255))
        elif word == "port":
            info = replace(info, port=_number(scan, 1, 0xFFFF))
        else:
            raise scan.error(f"{word!r} is none of noecn, ect0, ect1, ect01, ce, tos, ttl and port", at)
        if not scan.accept(","):
            break
    scan.expect("]")
    return info


def _range(scan: Scanner, *, most: int) -> tuple[int, int]:
    """``seq:end(length)`` as (seq, length)."""
    at = scan.at
    match = scan.need(_RANGE, "sequence numbers, as in 1:1001(1000),")
    return _agreeing(scan, match, at, most)


def _agreeing(scan: Scanner, match: re.Match[str], at: int, most: int) -> tuple[int, int]:
    if max(map(len, match.groups())) > 10:
        raise scan.error("a sequence number has 32 bits", at)
    seq, end, length = map(int, match.groups())
    if max(seq, end) > MASK32:
        raise scan.error("a sequence number has 32 bits", at)
    if end - seq & MASK32 != length:
        raise scan.error(f"from {seq} to {end} it is {end - seq & MASK32} bytes, not {length}", at)
    if length > most:
        raise scan.error(f"a packet carries {most} bytes at most", at)
    return seq, length


def _after(scan: Scanner, word: str, most: int) -> int | None:
    """The number after ``word``; None if that does not come next."""
    return _number(scan, 0, most) if scan.take(re.compile(rf"{word}\b")) else None


def _number(scan: Scanner, low: int, high: int) -> int:
    at = scan.at
    text = scan.need(_NUMBER, "a number")[0]
    value = int(text, 0 if text[:2].lower() == "0x" else 10) if len(text) < 20 else -1
    if not low <= value <= high:
        raise scan.error(f"a number from {low} to {high} is wanted", at)
    return value


def _icmp(scan: Scanner, ip: IpInfo, echoed: re.Match[str] | None) -> IcmpPacket:
    scan.expect("icmp")
    at = scan.at
    word = scan.need(_WORD, "the type of the ICMP error")[0]
    if word not in ICMP_TYPES:
        raise scan.error(f"{word!r} is none of {', '.join(ICMP_TYPES)}", at)
    code = 0
    at = scan.at
    if scan.looking_at(_WORD) and not scan.looking_at(re.compile(r"mtu\b")):
        named = scan.need(_WORD, "a code")[0]
        if named not in ICMP_CODES:
            raise scan.error(f"{named!r} is none of {', '.join(ICMP_CODES)}", at)
        code = ICMP_CODES[named]
    mtu = _after(scan, "mtu", 0xFFFF)
    seq, length = (None, 0) if echoed is None else _agreeing(scan, echoed, echoed.start(), MAX_BURST)
    kind = ICMP_TYPES[word]
    if mtu is not None and (kind, code) != (icmp.DESTINATION_UNREACHABLE, icmp.FRAGMENTATION_NEEDED):
        raise scan.error("only frag_needed tells an mtu", at)
    return IcmpPacket(ip, kind, code, mtu or 0, seq, length)


def _tcp_options(scan: Scanner, *, inbound: bool) -> tuple[TcpOption, ...] | None:
    if scan.looking_at(re.compile(r"\.\.\.\s*>")):
        if inbound:
            raise scan.error("a packet that comes in has the options that are written: which?")
        scan.expect("...")
        scan.expect(">")
        return None
    found = []
    while True:
        found.append(_tcp_option(scan))
        if not scan.accept(","):
            break
    scan.expect(">")
    return tuple(found)


def _tcp_option(scan: Scanner) -> TcpOption:
    at = scan.at
    word = scan.need(_WORD, "a TCP option")[0]
    match word:
        case "nop":
            return TcpOption(tcp.NOP)
        case "eol":
            return TcpOption(tcp.EOL)
        case "mss":
            return TcpOption(tcp.MSS, (_number(scan, 0, 0xFFFF),))
        case "wscale":
            return TcpOption(tcp.WINDOW_SCALE, (_number(scan, 0, 255),))
        case "sackOK":
            return TcpOption(tcp.SACK_PERMITTED)
        case "sack":
            return TcpOption(tcp.SACK, _edges(scan))
        case "TS":
            scan.expect("val")
            val = _number(scan, 0, MASK32)
            scan.expect("ecr")
            return TcpOption(tcp.TIMESTAMPS, (val, _number(scan, 0, MASK32)))
        case "ECN":
            return _counters(scan)
        case "FO":
            cookie = scan.take(_COOKIE)
            return TcpOption(FAST_OPEN, octets=bytes.fromhex(cookie[0]) if cookie else b"")
        case "kind":  # whatever has no name: what there is is shown so
            kind = _number(scan, 2, 255)
            octets = scan.take(_COOKIE)
            return TcpOption(kind, octets=bytes.fromhex(octets[0]) if octets else b"")
    raise scan.error(f"{word!r} is none of mss, wscale, sackOK, sack, TS, nop, eol, ECN, FO and kind", at)


def _counters(scan: Scanner) -> TcpOption:
    """``ECN e0b 1 ceb 0 e1b 1``: AccECN0, or AccECN1 if e1b stands first (RFC 9768 §3.2.3)."""
    words = ACCECN_WORDS[tcp.ACCECN1 if scan.looking_at(re.compile(r"e1b\b")) else tcp.ACCECN0]
    numbers: list[int] = []
    for word in words:
        value = _after(scan, word, MASK24)
        if value is None:
            break
        numbers.append(value)
    if not numbers:
        raise scan.wanted("a counter, e0b or e1b,")
    return TcpOption(tcp.ACCECN0 if words[0] == "e0b" else tcp.ACCECN1, tuple(numbers))


def _edges(scan: Scanner) -> tuple[int, ...]:
    edges: list[int] = []
    while match := scan.take(_EDGES):
        if max(map(len, match.groups())) > 10 or max(map(int, match.groups())) > MASK32:
            raise scan.error("a sequence number has 32 bits", match.start())
        edges += map(int, match.groups())
    if not edges:
        raise scan.wanted("a SACK block, as in 1001:2001,")
    return tuple(edges)


# -- calls -----------------------------------------------------------------------------------------------------------


def _call(scan: Scanner, when: When) -> Call:
    end = None
    at = scan.at
    if scan.accept("..."):
        end = _time(scan)
        if when.low is not None and end < when.low:
            raise scan.error("the call would return before it began", at)
    at = scan.at
    name = scan.need(_WORD, "a packet, a call, `shell` or %{ code }%")[0]
    if name not in ARITY:
        raise scan.error(f"{name}() is no call known here; there is: {', '.join(sorted(ARITY))}", at)
    scan.expect("(")
    arguments = _list(scan, ")", 0)
    least, most = ARITY[name]
    if not least <= len(arguments) <= most:
        wanted = str(most) if least == most else f"{least} to {most}"
        raise scan.error(f"{name}() takes {wanted} arguments, not {len(arguments)}", at)
    scan.expect("=")
    at = scan.at
    result = _expression(scan, 0)
    if not isinstance(result, int | EllipsisType):
        raise scan.error("a call gives a number", at)
    at = scan.at
    number = 0
    if word := scan.take(_ERRNO):
        if word[0] not in ERRNOS:
            raise scan.error(f"there is no errno {word[0]}", at)
        if result != -1:
            raise scan.error("a call that fails gives -1", at)
        number = ERRNOS[word[0]]
    elif result == -1:
        raise scan.wanted("the errno of a call that fails")
    scan.take(_NOTE)
    return Call(name, arguments, result, number, end)


def _list(scan: Scanner, closing: str, depth: int) -> tuple[Expression, ...]:
    """Expressions between commas, up to ``closing``, which is then behind us."""
    found: list[Expression] = []
    if scan.accept(closing):
        return ()
    while True:
        found.append(_expression(scan, depth))
        if scan.accept(closing):
            return tuple(found)
        scan.expect(",")


def _expression(scan: Scanner, depth: int) -> Expression:
    """A value, or several numbers joined by ``|``."""
    at = scan.at
    value = _value(scan, depth)
    while scan.accept("|"):
        other = _value(scan, depth)
        if not isinstance(value, int) or not isinstance(other, int):
            raise scan.error("only numbers can be joined by '|'", at)
        value |= other
    return value


def _value(scan: Scanner, depth: int) -> Expression:
    if depth > DEEPEST:
        raise scan.error(f"more than {DEEPEST} brackets within each other")
    if scan.accept("..."):
        return ...
    if scan.looking_at(_NUMBER):
        return _number(scan, -(1 << 63), (1 << 64) - 1)
    at = scan.at
    if match := scan.take(_STRING):
        scan.accept("...")
        return _unescaped(scan, match[1], at)
    if scan.accept("["):
        return _list(scan, "]", depth + 1)
    if scan.accept("{"):
        return _struct(scan, depth + 1)
    name = scan.need(_WORD, "a value")[0]
    if name in ("htons", "ntohs", "inet_addr"):
        scan.expect("(")
        value = _expression(scan, depth + 1)
        scan.expect(")")
        return value
    if name not in CONSTANTS:
        raise scan.error(f"there is no constant {name}", at)
    return CONSTANTS[name]


def _unescaped(scan: Scanner, text: str, at: int) -> bytes:
    try:
        value: bytes = ast.literal_eval(f'b"{text}"')
    except (ValueError, SyntaxError):
        raise scan.error("this string has an escape that means nothing", at) from None
    return value


def _struct(scan: Scanner, depth: int) -> Struct:
    fields: dict[str, Expression] = {}
    items: list[Expression] = []
    if scan.accept("}"):
        return Struct(fields)
    while True:
        if match := scan.take(_NAMED):
            fields[match[1]] = _expression(scan, depth)
        else:
            items.append(_expression(scan, depth))
        if scan.accept("}"):
            return Struct(fields, tuple(items))
        scan.expect(",")
