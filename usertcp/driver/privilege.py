"""Giving up, for good, what a process may do, once it has the device and needs no more.

A stack needs rights to open its device and none to use it: a descriptor is its own permission. So root opens, and what
turns the stack, and reads what strangers send, is an unprivileged user's process that can get nothing back:

- user, group and supplementary groups are the account's (real, effective and saved; setresuid(2), credentials(7));
- the permitted, effective, inheritable and ambient sets of capabilities are empty, and the bounding set too, if the
  process may empty that (capabilities(7));
- no program that it executes gets more (PR_SET_NO_NEW_PRIVS, prctl(2));
- no other process of that user reads or changes its memory (PR_SET_DUMPABLE; ptrace(2)).

Capabilities belong to a thread, so this is for a process that has only one as yet; later ones inherit. Modules that
are loaded late are loaded before: the interpreter may lie where the account cannot read. What was made in the kernel,
which only root can undo, must be somebody else's to undo by then (:mod:`usertcp.link.janitor`).
"""

import ctypes
import errno
import importlib
import os
import pwd
import threading
from pathlib import Path
from typing import Final, NamedTuple

from usertcp.errors import SetupError

ACCOUNTS: Final = ("usertcp", "nobody")  # the first that there is, unless one is named
LAST_CAPABILITY: Final = Path("/proc/sys/kernel/cap_last_cap")

PR_SET_DUMPABLE: Final = 4  # linux/prctl.h
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
CAPABILITY_VERSION: Final = 0x20080522  # linux/capability.h: _LINUX_CAPABILITY_VERSION_3
LATE: Final = ("usertcp.tcp.cc.bbr",)  # modules that a stack loads when they are first asked for

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, *4 * [ctypes.c_ulong]]


class Account(NamedTuple):
    """Who a process becomes."""

    name: str
    user: int
    group: int


def account(name: str | None = None) -> Account:
    """The account ``name``, a user's name or number; without one the first of ACCOUNTS, or ours if we are not root.
    SetupError."""
    if name is None and os.geteuid() != 0:
        name = str(os.geteuid())
    for candidate in ACCOUNTS if name is None else (name,):
        found = _look_up(candidate)
        if found is not None and found.user == 0:
            raise SetupError(f"{found.name!r} is root, who keeps all rights", "name another user")
        if found is not None:
            return found
    wanted = repr(name) if name is not None else " or ".join(map(repr, ACCOUNTS))
    raise SetupError(f"there is no user {wanted}", "name one of: getent passwd; or make it: useradd --system usertcp")


def _look_up(name: str) -> Account | None:
    """We ourselves need not be known to the system by a name."""
    try:
        found = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        return Account(name, os.geteuid(), os.getegid()) if name == str(os.geteuid()) else None
    return Account(found.pw_name, found.pw_uid, found.pw_gid)


def drop(who: Account) -> None:
    """This process is ``who``'s from now on, and may do no more than any other of that user's; no way leads back.

    SetupError when that cannot be, and then it must not go on.
    """
    if threading.active_count() > 1:
        raise SetupError("rights cannot be given up for threads that run already", "give them up before")
    for module in LATE:
        importlib.import_module(module)
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "refusing new rights")
    _empty_bounding_set()
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if os.getresuid() != 3 * (who.user,):
        _become(who)
    _empty_sets()
    _check(_libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "protecting the memory")


def unreadable(who: Account) -> str | None:
    """The folder of Python's own modules, if ``who`` cannot read there what was not loaded before."""
    folder = Path(os.__file__).parent
    for step in (folder, *folder.parents):
        facts = step.stat()
        bits = facts.st_mode >> (6 if facts.st_uid == who.user else 3 if facts.st_gid == who.group else 0)
        if not bits & 1:
            return str(folder)
    return None


def _become(who: Account) -> None:
    """Change user and groups; the latter first, which only root may."""
    try:
        os.setgroups([])
        os.setresgid(who.group, who.group, who.group)
        os.setresuid(who.user, who.user, who.user)
    except OSError as error:
        raise _cannot_become(who, error) from None


def _empty_bounding_set() -> None:
    """Only for who has CAP_SETPCAP; for others there is nothing to be gained from it by an execve(2) either."""
    for capability in range(int(LAST_CAPABILITY.read_text()) + 1 if LAST_CAPABILITY.exists() else 64):
        if _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            return


def _empty_sets() -> None:
    """The effective, permitted and inheritable set of this thread."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)  # struct __user_cap_header_struct: version, process
    nothing = (ctypes.c_uint32 * 6)()  # two of struct __user_cap_data_struct
    _check(_libc.capset(header, nothing), "giving up capabilities")


def _check(result: int, doing: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise SetupError(f"{doing}: {os.strerror(number)}", "keep the rights, or use a kernel that can do this")


def _cannot_become(who: Account, error: OSError) -> SetupError:
    if error.errno == errno.EPERM:
        return SetupError(f"not allowed to become the user {who.name!r}", "run as root, or as that user")
    if error.errno == errno.EINVAL:
        cause = f"the user {who.name!r} ({who.user}) is unknown in this user namespace"
        return SetupError(cause, "name one that is mapped into it")
    return SetupError(f"cannot become the user {who.name!r}: {error.strerror}", "name another user")
