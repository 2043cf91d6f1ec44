"""Which interfaces a namespace has, and their IPv4 addresses: what opening a device that is there must know.

Two questions, asked of the kernel by hand: loading pyroute2 for them would take longer than all the rest of opening a
stack. Whatever changes something, or asks for more, is in :mod:`usertcp.link.provision`. The answer is a dump
of rtnetlink(7): messages of a header, a ``struct ifaddrmsg`` and attributes, each padded to four bytes.
"""

import errno
import socket
import struct
from collections.abc import Iterator
from typing import Final

from usertcp.errors import SetupError, os_error
from usertcp.link import netns as namespaces
from usertcp.link.causes import failure

HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence number, port
ABOUT: Final = struct.Struct("=BBBBi")  # struct ifaddrmsg: family, prefix length, flags, scope, index
ATTRIBUTE: Final = struct.Struct("=HH")  # struct rtattr: length, type
ERROR: Final = 2  # NLMSG_ERROR
DONE: Final = 3  # NLMSG_DONE
NEW_ADDRESS: Final = 20  # RTM_NEWADDR
GET_ADDRESS: Final = 22  # RTM_GETADDR
DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
ADDRESS: Final = 1  # IFA_ADDRESS: of the other end, on a point-to-point link
LOCAL: Final = 2  # IFA_LOCAL: of this one
ROOM: Final = 64 << 10  # bytes; the kernel's dumps come in pieces of at most 32 KiB


def link_exists(name: str, netns: str | None = None) -> bool:
    """Whether there is an interface ``name``."""
    with namespaces.inside(netns):
        return _index(name) != 0


def addresses(name: str | None, *, netns: str | None = None) -> list[str]:
    """The IPv4 addresses of an interface (None: of all), with prefix length. SetupError if it is not there."""
    with namespaces.inside(netns):
        index = _index(name) if name is not None else 0
        if name is not None and not index:
            raise SetupError(f"there is no interface {name!r}", "look at: ip link (in the namespace meant)")
        try:
            return [address for there, address in _dump() if index in (0, there)]
        except OSError as error:
            raise failure(f"asking for the addresses of {name or 'all interfaces'!r}", error.errno) from None


def _index(name: str) -> int:
    """Of an interface in the calling thread's namespace; 0 if there is none."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def _dump() -> Iterator[tuple[int, str]]:
    """(index of the interface, address/prefix) of every IPv4 address in the calling thread's namespace."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as sock:
        question = ABOUT.pack(socket.AF_INET, 0, 0, 0, 0)
        sock.send(HEADER.pack(HEADER.size + ABOUT.size, GET_ADDRESS, DUMP, 1, 0) + question)
        while True:
            data = sock.recv(ROOM)
            at = 0
            while at < len(data):
                length, kind, _, _, _ = HEADER.unpack_from(data, at)
                if kind == DONE:
                    return
                if kind == ERROR:
                    raise os_error(-struct.unpack_from("=i", data, at + HEADER.size)[0] or errno.EIO)
                if kind == NEW_ADDRESS:
                    yield _address(data[at + HEADER.size : at + length])
                at += _padded(length)


def _address(message: bytes) -> tuple[int, str]:
    _, prefix, _, _, index = ABOUT.unpack_from(message)
    at, found = ABOUT.size, dict[int, bytes]()
    while at < len(message):
        length, kind = ATTRIBUTE.unpack_from(message, at)
        found[kind] = message[at + ATTRIBUTE.size : at + length]
        at += _padded(length)
    return index, f"{socket.inet_ntoa(found.get(LOCAL) or found[ADDRESS])}/{prefix}"


def _padded(length: int) -> int:
    return length + 3 & ~3
