"""What an error means to the person at the terminal: its cause and its cure.

A :class:`SetupError` brings both. An ``OSError`` brings the cause; where and what was being done is added by
:func:`doing`, and the cure is looked up here by its errno.
"""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from usertcp.errors import SetupError

_CURES: Final = {
    errno.EACCES: "run as root, or choose a file or port that you may use",
    errno.EADDRINUSE: "something uses that port already: choose another one, or end what uses it (usertcp ss shows it)",
    errno.EADDRNOTAVAIL: "that address is not the stack's: give one that is, or leave it out",
    errno.EAFNOSUPPORT: "only IPv4 is spoken: give an IPv4 address",
    errno.ECONNABORTED: "try again",
    errno.ECONNREFUSED: "nobody listens there: check the address and the port, and that the server runs",
    errno.ECONNRESET: "the peer has ended the connection without closing it: it may have crashed or been restarted",
    errno.EHOSTUNREACH: "nobody answers for that address, or for the gateway to it: check both, and --gateway",
    errno.EMSGSIZE: "send less, or raise --mtu: nothing is sent in fragments here",
    errno.ENETDOWN: "the device was removed or switched off: look at: ip link",
    errno.ENETUNREACH: "no way leads there: give one with --gateway; a broadcast or multicast address is no one host's",
    errno.ENOENT: "check the name",
    errno.ENOSPC: "make room on the disk",
    errno.ENOTDIR: "check the name",
    errno.EISDIR: "give the name of a file",
    errno.EPERM: "run as root",
    errno.EPIPE: "the other side does not take any more",
    errno.ETIMEDOUT: "the peer does not answer: check that it is up, and the way there (usertcp ping)",
}
_NAME_CURE: Final = "check the spelling and the resolver (/etc/resolv.conf), or give an address"


def describe(error: BaseException) -> tuple[str, str] | None:
    """(cause, cure) of what a user may see; None for anything else, which is a bug."""
    if isinstance(error, SetupError):
        return error.cause, error.cure
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error), _NAME_CURE
    if not isinstance(error, OSError):
        return None
    cause = str(error)
    if error.errno is not None and error.strerror:
        cause = f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return cause, _CURES.get(error.errno or 0, "")


@contextmanager
def doing(what: str) -> Iterator[None]:
    """An OSError in the block becomes a SetupError that begins with ``what``."""
    try:
        yield
    except OSError as error:
        described = describe(error)
        assert described is not None
        cause, cure = described
        raise SetupError(f"{what}: {cause}", cure) from error
