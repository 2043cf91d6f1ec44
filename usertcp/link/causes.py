"""What an errno of the kernel means to the user, and what to do about it."""

import errno
import os
from typing import Final

from usertcp.errors import SetupError

AS_ROOT: Final = "run as root, or use a device that root has made for you (usertcp up --user YOU)"
TUN_FOR_USERS: Final = "run as root, or have root allow it, as udev does on most systems: chmod 666 /dev/net/tun"
TUN_DRIVER: Final = "load the driver with: modprobe tun; in a container, start it with --device /dev/net/tun"
FEWER: Final = "close files that are not needed, or allow more with: ulimit -n"


def failure(doing: str, number: int | None) -> SetupError:
    """The kernel refused ``doing`` with errno ``number``."""
    if number in (errno.EPERM, errno.EACCES):
        return SetupError(f"{doing}: not permitted", AS_ROOT)
    if number == errno.EEXIST:
        return SetupError(f"{doing}: it is there already", "choose another one, or remove what is there")
    if number == errno.ENOTTY:  # what a TAP is made with is a file, but not the driver's
        return SetupError(f"{doing}: /dev/net/tun has no driver behind it", TUN_DRIVER)
    if number == errno.EOPNOTSUPP:
        return SetupError(f"{doing}: this kernel cannot", "load the kernel module for it, or use another kernel")
    reason = os.strerror(number) if number else "no answer from the kernel"
    return SetupError(f"{doing}: {reason}", "look at: ip link, ip address and ip route in the namespace meant")
