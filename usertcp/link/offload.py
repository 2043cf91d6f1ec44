"""What the driver of a TAP or TUN takes off our hands, found out by asking for it (tuntap(7), TUNSETOFFLOAD).

The kernel may leave to us what it would otherwise do to each frame: sum it up, and cut what one connection sends at a
time into segments. A driver knows all of it, or an older part, or (in some sandboxes) none; nothing says which, so the
best is asked for first, and what is refused makes room for the next. What is granted is taken for both directions: a
driver that hands super-segments out takes them in.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

CSUM: Final = 0x01  # TUN_F_CSUM, linux/if_tun.h
TSO4: Final = 0x02
TSO6: Final = 0x04
TSO_ECN: Final = 0x08

_LADDER: Final = (
    (CSUM | TSO4 | TSO6 | TSO_ECN, ""),
    (CSUM | TSO4 | TSO6, "segments with ECN's CWR come singly"),
    (CSUM | TSO4, "segments with ECN's CWR come singly"),
    (CSUM, "the driver does not segment"),
    (0, "the driver neither segments nor leaves checksums out"),
)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a driver does: ``flags`` for TUNSETOFFLOAD; and ``lack``, what it refused, in words ("": nothing)."""

    flags: int
    lack: str = ""

    @property
    def checksum(self) -> bool:
        """Whether checksums are left out."""
        return bool(self.flags & CSUM)

    @property
    def segmentation(self) -> bool:
        """Whether super-segments cross whole."""
        return bool(self.flags & TSO4)


NOTHING: Final = Grant(0)
NO_HEADER: Final = Grant(0, "the driver has no virtio header")


def negotiate(ask: Callable[[int], object], *, gso: bool) -> Grant:
    """The most that ``ask(flags)`` does not refuse by an OSError; without ``gso`` nothing that segments."""
    for flags, lack in _LADDER:
        if not gso and flags & TSO4:
            continue
        try:
            ask(flags)
        except OSError:
            continue
        return Grant(flags, lack if gso or not flags & CSUM else "")
    return Grant(0, _LADDER[-1][1])


def takes_longer(release: str) -> bool:
    """Whether the kernel ``release`` takes a super-segment over IPv4 that is longer than 64 KB, whose length field is
    0: since Linux 6.3 ("BIG TCP", net/ipv4/ip_input.c)."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return found is not None and (int(found[1]), int(found[2])) >= (6, 3)
