"""ICMP for IPv4 (RFC 792): echo both ways, and the errors that concern a connection.

An error carries the IP header of the packet it complains of and at least 8 bytes after it: for TCP the ports and the
sequence number, enough to find the connection and to see whether the number can be ours (RFC 5927 §4.1).

    | type | code | checksum |  type 3 code 4: unused, next-hop MTU (RFC 1191 §4);  type 12: pointer
    | embedded IP header and options | first 8 or more bytes of its payload |

Not here: redirects, timestamps and whatever else, which show as :class:`Other`, and the extensions of RFC 4884.
"""

import struct
from typing import Final, NamedTuple, TypeAlias

from usertcp.errors import WireError
from usertcp.wire import ipv4
from usertcp.wire.checksum import VALID, BadChecksum, Buffer, checksum, sum16

HEADER_LEN: Final = 8  # bytes

ECHO_REPLY: Final = 0  # types, RFC 792
DESTINATION_UNREACHABLE: Final = 3
SOURCE_QUENCH: Final = 4
ECHO_REQUEST: Final = 8
TIME_EXCEEDED: Final = 11
PARAMETER_PROBLEM: Final = 12

NET_UNREACHABLE: Final = 0  # codes of DESTINATION_UNREACHABLE, RFC 792 and RFC 1122 §3.2.2.1
HOST_UNREACHABLE: Final = 1
PROTOCOL_UNREACHABLE: Final = 2
PORT_UNREACHABLE: Final = 3
FRAGMENTATION_NEEDED: Final = 4
SOURCE_ROUTE_FAILED: Final = 5
ADMINISTRATIVELY_PROHIBITED: Final = 13  # RFC 1812 §5.2.7.1

TTL_EXCEEDED: Final = 0  # codes of TIME_EXCEEDED
REASSEMBLY_TIME_EXCEEDED: Final = 1

EMBEDDED_MIN: Final = 8  # bytes of the offending packet's payload, RFC 792
_EMBEDDED_MAX: Final = 576 - ipv4.HEADER_LEN - HEADER_LEN  # an error stays within 576 bytes, RFC 1812 §4.3.2.3

_HEADER: Final = struct.Struct("!BBHHH")
_ERRORS: Final = (DESTINATION_UNREACHABLE, SOURCE_QUENCH, TIME_EXCEEDED, PARAMETER_PROBLEM)


class Echo(NamedTuple):
    """A ping or, with ``request`` false, its answer. ``payload`` is borrowed."""

    request: bool
    ident: int
    sequence: int
    payload: "memoryview"  # quoted here and below: mypyc does not find this one class of Python's own


class ErrorMessage(NamedTuple):
    """An error, and the packet it is about: ``src`` (us), ``dst``, ``proto`` and ``embedded``, its transport bytes.

    ``mtu``      next-hop MTU in bytes; 0 unless fragmentation was needed, and 0 then from routers older than RFC 1191
    ``pointer``  the offending byte of the packet; 0 unless a parameter problem
    """

    type: int
    code: int
    mtu: int
    pointer: int
    src: bytes
    dst: bytes
    proto: int
    embedded: "memoryview"


class Other(NamedTuple):
    """A message of which only type and code are understood."""

    type: int
    code: int
    body: "memoryview"


Message: TypeAlias = Echo | ErrorMessage | Other


def parse(view: memoryview) -> Message:
    """The message that fills ``view``. WireError: truncated, or the embedded packet is; BadChecksum."""
    if len(view) < HEADER_LEN:
        raise WireError("icmp: truncated header")
    kind, code, _, high, low = _HEADER.unpack_from(view)
    if sum16(view) != VALID:
        raise BadChecksum("icmp: checksum")
    body = view[HEADER_LEN:]
    if kind in (ECHO_REQUEST, ECHO_REPLY):
        return Echo(kind == ECHO_REQUEST, high, low, body)
    if kind not in _ERRORS:
        return Other(kind, code, body)
    header_len = (body[0] & 15) << 2 if body else 0
    if header_len < ipv4.HEADER_LEN or body[0] >> 4 != 4:
        raise WireError("icmp: embedded packet is not IPv4")
    if len(body) < header_len + EMBEDDED_MIN:
        raise WireError("icmp: truncated embedded packet")
    if body[6] & 0x1F or body[7]:
        raise WireError("icmp: embedded packet is not a first fragment")  # RFC 1122 §3.2.2: never sent about one
    mtu = low if kind == DESTINATION_UNREACHABLE and code == FRAGMENTATION_NEEDED else 0
    pointer = high >> 8 if kind == PARAMETER_PROBLEM else 0
    return ErrorMessage(kind, code, mtu, pointer, bytes(body[12:16]), bytes(body[16:20]), body[9], body[header_len:])


def echo(request: bool, ident: int, sequence: int, payload: Buffer) -> bytes:
    """A ping or its answer."""
    return _build(ECHO_REQUEST if request else ECHO_REPLY, 0, ident, sequence, payload)


def error(kind: int, code: int, original_packet: memoryview, mtu: int = 0) -> bytes:
    """An error of type ``kind`` about a received IP packet, of which it carries what fits (RFC 1812 §4.3.2.3)."""
    return _build(kind, code, 0, mtu, original_packet[:_EMBEDDED_MAX])


def _build(kind: int, code: int, high: int, low: int, body: Buffer) -> bytes:
    head = _HEADER.pack(kind, code, 0, high, low)
    check = checksum(head, body)
    return b"".join((_HEADER.pack(kind, code, check, high, low), body))
