"""Addresses as programs write them, and as the stack does.

The stack speaks IPv4. An AF_INET6 socket is one whose addresses are translated, which is enough for everything on this
host and for mapped addresses (RFC 4291 §2.5.5.2)::

    ::              0.0.0.0, of both families; with IPV6_V6ONLY that of ::1
    ::1             an address of 127/8 that is set aside and belongs to no wildcard but ::
    ::ffff:a.b.c.d  a.b.c.d
    all others      EADDRNOTAVAIL to bind, ENETUNREACH to connect to: what Linux says without such an address or route

Only the addresses of ``bind``, ``connect`` and the like: names are looked up by the system.
"""

import _socket
import errno
import ipaddress
from typing import Any, Final

from usertcp.driver.messages import Address
from usertcp.errors import os_error
from usertcp.net.interface import LOOPBACK6

NOWHERE: Final = ("0.0.0.0", 0)
LOCAL6: Final = _socket.inet_ntoa(LOOPBACK6)
MAX_FLOWINFO: Final = 0xFFFFF


def resolve(address: Any, caller: str, six: bool = False) -> Address:
    """A user's address as the stack's, with a numeric host; ``six``: of an AF_INET6 socket.

    TypeError, OverflowError and gaierror as of the standard class; EADDRNOTAVAIL, ENETUNREACH.
    """
    family = "AF_INET6" if six else "AF_INET"
    if not isinstance(address, tuple):
        raise TypeError(f"{caller}(): {family} address must be tuple, not {type(address).__name__}")
    if six and not 2 <= len(address) <= 4:
        raise TypeError("AF_INET6 address must be a tuple (host, port[, flowinfo[, scopeid]])")
    if not six and len(address) != 2:
        raise TypeError("AF_INET address must be a pair (host, port)")
    host, port, *rest = address
    for number in (port, *rest):
        if not hasattr(number, "__index__"):
            raise TypeError(f"'{type(number).__name__}' object cannot be interpreted as an integer")
    if not isinstance(host, str | bytes | bytearray):
        raise TypeError(f"str, bytes or bytearray expected, not {type(host).__name__}")
    port = port.__index__()
    if not 0 <= port <= 0xFFFF:
        raise OverflowError(f"{caller}(): port must be 0-65535.")
    if rest and not 0 <= rest[0].__index__() <= MAX_FLOWINFO:
        raise OverflowError(f"{caller}(): flowinfo must be 0-1048575.")
    host = _encoded(host)
    if not host:
        return NOWHERE[0], port
    if not six and host == b"<broadcast>":
        return "255.255.255.255", port
    found = _socket.getaddrinfo(host, None, _socket.AF_INET6 if six else _socket.AF_INET, _socket.SOCK_STREAM)
    numeric = str(found[0][4][0])
    return (_of_six(numeric, caller) if six else numeric), port


def _encoded(host: str | bytes | bytearray) -> bytes:
    """A host as the system is asked for it; TypeError as of the standard class."""
    if isinstance(host, str):
        try:
            host = host.encode("ascii" if host.isascii() else "idna")
        except UnicodeError:
            raise TypeError("encoding of hostname failed") from None
    if b"\0" in host:
        raise TypeError("host name must not contain null character")
    return bytes(host)


def _of_six(host: str, caller: str) -> str:
    parsed = ipaddress.IPv6Address(host.partition("%")[0])
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    if parsed.is_unspecified:
        return NOWHERE[0]
    if parsed.is_loopback:
        return LOCAL6
    raise os_error(errno.EADDRNOTAVAIL if caller == "bind" else errno.ENETUNREACH)


def presented(address: Address, six: bool) -> Any:
    """The stack's ``address`` as a user of a socket is told it."""
    host, port = address
    if not six:
        return address
    return {NOWHERE[0]: "::", LOCAL6: "::1"}.get(host, f"::ffff:{host}"), port, 0, 0
