"""What an errno of the kernel means to the user, and what to do about it."""

import errno
import os
from typing import Final

from usertcp.errors import SetupError

AS_ROOT: Final = "run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN"


def failure(doing: str, number: int | None) -> SetupError:
    """The kernel refused ``doing`` with errno ``number``."""
    if number in (errno.EPERM, errno.EACCES):
        return SetupError(f"{doing}: not permitted", AS_ROOT)
    if number == errno.EEXIST:
        return SetupError(f"{doing}: it is there already", "choose another one, or remove what is there")
    if number == errno.EOPNOTSUPP:
        return SetupError(f"{doing}: this kernel cannot", "load the kernel module for it, or use another kernel")
    reason = os.strerror(number) if number else "no answer from the kernel"
    return SetupError(f"{doing}: {reason}", "look at: ip link, ip address and ip route in the namespace meant")


def checked_name(name: str) -> str:
    """``name`` if an interface may be called so (dev_valid_name in the kernel), else SetupError."""
    good = 0 < len(name.encode()) <= 15 and name not in (".", "..")
    if not good or any(character in "/:" or character.isspace() for character in name):
        raise SetupError(
            f"an interface cannot be called {name!r}", "choose a name of 1 to 15 characters without '/', ':' and spaces"
        )
    return name
