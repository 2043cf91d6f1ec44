"""The exception tree.

Malformed input is a :class:`WireError` inside ``wire`` and a counted drop outside it. What the peer or the path did is
kept as ``conn.error`` and raised as the builtin ``OSError`` kind that Linux would give. A mistake in the set-up of
devices is a :class:`SetupError`, which names the cause and the cure. A broken invariant is an ``AssertionError``.
"""

import errno
from typing import Final

_MESSAGES: Final = {
    errno.EACCES: "Permission denied",
    errno.EADDRINUSE: "Address already in use",
    errno.EADDRNOTAVAIL: "Cannot assign requested address",
    errno.EAFNOSUPPORT: "Address family not supported by protocol",
    errno.EAGAIN: "Resource temporarily unavailable",
    errno.EALREADY: "Operation already in progress",
    errno.EBADF: "Bad file descriptor",
    errno.ECONNABORTED: "Software caused connection abort",
    errno.ECONNREFUSED: "Connection refused",
    errno.ECONNRESET: "Connection reset by peer",
    errno.EDEADLK: "Resource deadlock avoided",
    errno.EHOSTUNREACH: "No route to host",
    errno.EINPROGRESS: "Operation now in progress",
    errno.EINVAL: "Invalid argument",
    errno.EISCONN: "Transport endpoint is already connected",
    errno.EIO: "Input/output error",
    errno.EMFILE: "Too many open files",
    errno.EMSGSIZE: "Message too long",
    errno.ENETDOWN: "Network is down",
    errno.ENETUNREACH: "Network is unreachable",
    errno.ENFILE: "Too many open files in system",
    errno.ENOBUFS: "No buffer space available",
    errno.ENOMEM: "Cannot allocate memory",
    errno.ENOENT: "No such file or directory",
    errno.ENOPROTOOPT: "Protocol not available",
    errno.ENOTCONN: "Transport endpoint is not connected",
    errno.EOPNOTSUPP: "Operation not supported",
    errno.EPIPE: "Broken pipe",
    errno.EPROTO: "Protocol error",
    errno.ETIMEDOUT: "Connection timed out",
}


def os_error(number: int) -> OSError:
    """The builtin ``OSError`` kind for ``number`` (``ConnectionResetError`` for ECONNRESET), worded as Linux does."""
    return OSError(number, _MESSAGES.get(number, errno.errorcode.get(number, "unknown error")))


class WireError(ValueError):
    """Bytes that are not what they claim to be. Raised by ``wire`` alone; outside it a counted drop."""


class StackError(OSError):
    """The engine under a socket is gone. ``errno`` is ENETDOWN."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.ENETDOWN, message)


class SetupError(Exception):
    """A device, namespace, address or rule could not be set up or used.

    ``cause`` says what is wrong, ``cure`` what the user can do about it; the command line prints both.
    """

    def __init__(self, cause: str, cure: str) -> None:
        super().__init__(f"{cause}: {cure}")
        self.cause = cause
        self.cure = cure
