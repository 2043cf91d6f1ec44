"""Which AF_UNIX socket is whose, asked of the kernel by number: sock_diag(7), which needs no rights.

A name says nothing about who has it, and /proc/net/unix shows names as they are, newlines included, so that a line of
it may be anybody's invention. Here the inode is asked for, and the name comes in a field of its own.

One question and one answer, by hand: pyroute2 does not work inside a running asyncio loop, and an engine may be in one
(``looped``).
"""

import _socket
import errno
import os
import struct
from typing import Final

HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
REQUEST: Final = struct.Struct("=BBHIIIII")  # struct unix_diag_req: family, -, -, states, inode, show, cookie
REPLY: Final = struct.Struct("=BBBBIII")  # struct unix_diag_msg: family, type, state, -, inode, cookie
ATTRIBUTE: Final = struct.Struct("=HH")  # struct nlattr: length with this header, type
ERROR: Final = struct.Struct("=i")
INODE: Final = struct.Struct("=I")

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
NLMSG_ERROR: Final = 2
NLM_F_REQUEST: Final = 1
UDIAG_SHOW_NAME: Final = 1
UDIAG_SHOW_PEER: Final = 4
UNIX_DIAG_NAME: Final = 0
UNIX_DIAG_PEER: Final = 2
ANY: Final = 0xFFFFFFFF
ALIGN: Final = 4  # bytes
ROOM: Final = 4096  # bytes that a reply has at most


def may_be_called(inode: int, name: bytes) -> bool:
    """Whether the AF_UNIX socket ``inode`` has ``name``; True also if the kernel does not say."""
    try:
        return name_of(inode) == name or not _answers()
    except OSError:
        return True


def _answers() -> bool:
    """Whether the kernel knows any socket: without its module for AF_UNIX (CONFIG_UNIX_DIAG) it says ENOENT to all."""
    sock = _socket.socket(_socket.AF_UNIX)
    try:
        return name_of(os.fstat(sock.fileno()).st_ino) is not None
    finally:
        sock.close()


def other_end_lives(inode: int) -> bool:
    """Whether what the AF_UNIX socket ``inode`` is, or was, connected to has a descriptor anywhere; True also if the
    kernel does not say. A hang-up is no proof of the contrary: shut down from both ends looks the same."""
    try:
        peer = _asked(inode, UDIAG_SHOW_PEER, UNIX_DIAG_PEER)
        if peer is None:
            return not _answers()
        return bool(peer and any(peer)) and name_of(INODE.unpack(peer)[0]) is not None
    except OSError:
        return True


def name_of(inode: int) -> bytes | None:
    """The name of the AF_UNIX socket ``inode`` of the calling thread's network namespace, empty if it has none.

    None: there is no such socket. OSError: the kernel does not say.
    """
    return _asked(inode, UDIAG_SHOW_NAME, UNIX_DIAG_NAME)


def _asked(inode: int, show: int, wanted: int) -> bytes | None:
    """The attribute ``wanted`` of a socket, for which ``show`` asks; empty if it has none, None if there is no such
    socket."""
    request = REQUEST.pack(_socket.AF_UNIX, 0, 0, ANY, inode, show, ANY, ANY)
    header = HEADER.pack(HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0)
    sock = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, NETLINK_SOCK_DIAG)
    try:
        sock.setblocking(False)  # the kernel answers while it is asked
        sock.sendto(header + request, (0, 0))
        data = sock.recv(ROOM)
    finally:
        sock.close()
    _, kind, *_ = HEADER.unpack_from(data)
    if kind == NLMSG_ERROR:
        number = -ERROR.unpack_from(data, HEADER.size)[0]
        if number == errno.ENOENT:
            return None
        raise OSError(number, os.strerror(number))
    at = HEADER.size + REPLY.size
    while at + ATTRIBUTE.size <= len(data):
        length, attribute = ATTRIBUTE.unpack_from(data, at)
        if attribute == wanted:
            return data[at + ATTRIBUTE.size : at + length]
        at += -(-length // ALIGN) * ALIGN
    return b""
