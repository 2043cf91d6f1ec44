"""Entering a network namespace with one thread, and coming back.

A namespace belongs to a thread (setns(2)); a socket or a TAP's descriptor belongs for good to the namespace in which
it was made. So a link or a netlink conversation enters, opens, and returns at once, and no process is forked. Names
are those of ip-netns(8). Making and removing namespaces is in :mod:`usertcp.link.provision`.
"""

import ctypes
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from usertcp.errors import SetupError
from usertcp.link.words import checked_space

RUN_DIR: Final = "/var/run/netns"  # where ip-netns(8) binds the names
THREAD_NS: Final = "/proc/thread-self/ns/net"
CLONE_NEWNET: Final = 0x40000000

_libc: Final = ctypes.CDLL(None, use_errno=True)


def path(name: str) -> str:
    """The file of the namespace ``name``; SetupError if none can be called so."""
    return f"{RUN_DIR}/{checked_space(name)}"


def exists(name: str) -> bool:
    return os.path.exists(path(name))


def names() -> list[str]:
    """The named namespaces, sorted."""
    try:
        return sorted(os.listdir(RUN_DIR))
    except FileNotFoundError:
        return []


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def unshare() -> None:
    """Put the calling thread into a new, empty, nameless namespace."""
    if _libc.unshare(CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def alone() -> Iterator[None]:
    """Within the block nobody else who asks for it makes a namespace, of us or by ip-netns(8), which locks the same.

    The first on a machine mounts RUN_DIR on itself; if two did, names would be hidden under the second mount.
    """
    os.makedirs(RUN_DIR, exist_ok=True)
    directory = os.open(RUN_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


@contextmanager
def inside(name: str | None) -> Iterator[None]:
    """Run the block with the calling thread in the namespace ``name`` (None: where it is). It returns in any case."""
    if name is None:
        yield
        return
    try:
        target = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SetupError(
            f"there is no network namespace {name!r}", f"make it with: ip netns add {name}, or leave out --netns"
        ) from None
    try:
        home = os.open(THREAD_NS, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                _setns(target)
            except PermissionError:
                raise SetupError(
                    f"not allowed to enter the namespace {name!r}",
                    f"run as root; or have root start you there, and leave out --netns: ip netns exec {name} su YOU",
                ) from None
            except OSError as error:
                raise SetupError(
                    f"{name!r} is no network namespace ({error.strerror})", f"remove it with: ip netns delete {name}"
                ) from None
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(home)
    finally:
        os.close(target)
