"""The network of the benchmark: two namespaces, and a relay of ours as the only way between them.

::

    namespace A                                            namespace B
      usertcp --- u1 (TAP) ---.                             (the peer)
                              |                               kernel
      kernel ------- br0 (bridge) --- r1 (TAP) === relay === r2 (TAP)
    10.77.0.1                                               10.77.0.2

The kernel's TCP of A has its address on the bridge and usertcp has a port of it, so that both take the same way to the
relay. The relay's TAPs have no offloads: frames of one segment each cross them, as on a wire. For the self-test
another kernel, in namespace C, takes usertcp's place. The kernels' settings are those of an ordinary host, but remember
nothing from one connection to the next; the queues of the TAPs are so long that the relay alone decides what is lost.
"""

import socket
import struct
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path
from typing import Final, Self

from usertcp.errors import SetupError
from usertcp.link import netns as namespaces
from usertcp.link import provision
from usertcp.link.device import IFREQ, SIOCSIFTXQLEN

KERNEL: Final = "10.77.0.1"
PEER: Final = "10.77.0.2"
OURS: Final = "10.77.0.3"
PREFIX: Final = 24
BRIDGE: Final = "br0"
RELAY_A: Final = "r1"
RELAY_B: Final = "r2"
TAP: Final = "u1"
VETH: Final = "c1"
QUEUE: Final = 20_000  # frames that a TAP holds: more than all paths together have under way

SETTINGS: Final = {
    "net/ipv4/tcp_no_metrics_save": "1",
    "net/ipv4/tcp_rmem": "4096 131072 6291456",  # Linux's defaults on a machine with 4 GB and more
    "net/ipv4/tcp_wmem": "4096 16384 4194304",
}
BIG_SETTINGS: Final = {  # room for 1 Gbit/s with a round trip and a queue of 100 ms each
    **SETTINGS,
    "net/ipv4/tcp_rmem": "4096 131072 67108864",
    "net/ipv4/tcp_wmem": "4096 16384 67108864",
}


@dataclass(slots=True)
class Net:
    """The names of the namespaces. ``other``: the one in usertcp's place, empty without the self-test."""

    near: str
    far: str
    other: str
    undo: ExitStack
    before: dict[str, int] = field(default_factory=dict)  # what devices dropped before all was there

    @classmethod
    def build(cls, *, calibrate: bool = False, big: bool = False) -> Self:
        """All of it; gone again with the ``with`` block."""
        with ExitStack() as undo:
            near, far = (undo.enter_context(provision.Namespace.create()).name for _ in range(2))
            other = ""
            undo.enter_context(provision.create_bridge(BRIDGE, netns=near))
            undo.enter_context(provision.add_address(BRIDGE, f"{KERNEL}/{PREFIX}", netns=near))
            undo.enter_context(provision.create_tap(RELAY_A, netns=near, address=None))
            undo.enter_context(provision.create_tap(RELAY_B, netns=far, address=f"{PEER}/{PREFIX}"))
            undo.enter_context(provision.set_master(RELAY_A, BRIDGE, netns=near))
            if calibrate:
                other = undo.enter_context(provision.Namespace.create()).name
                undo.enter_context(
                    provision.create_veth(VETH, "eth0", netns=near, peer_netns=other, peer_address=f"{OURS}/{PREFIX}")
                )
                undo.enter_context(provision.set_master(VETH, BRIDGE, netns=near))
            else:
                undo.enter_context(provision.create_tap(TAP, netns=near, address=None))
                undo.enter_context(provision.set_master(TAP, BRIDGE, netns=near))
                lengthen(TAP, near)
            lengthen(RELAY_A, near)
            lengthen(RELAY_B, far)
            for space in filter(None, (near, far, other)):
                for key, value in (BIG_SETTINGS if big else SETTINGS).items():
                    provision.set_sysctl(key, value, netns=space)
            return cls(near, far, other, undo.pop_all())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo.close()

    def counters(self) -> dict[str, dict[str, int]]:
        """What the kernels' TCPs have counted (/proc/net/netstat), by side; what is 0 is left out."""
        found: dict[str, dict[str, int]] = {}
        for side, space in (("near", self.near), ("peer", self.far), ("other", self.other)):
            if not space:
                continue
            with namespaces.inside(space):
                lines = Path("/proc/thread-self/net/netstat").read_text(encoding="ascii").splitlines()
            here = found.setdefault(side, {})
            for heading, values in zip(lines[::2], lines[1::2], strict=True):
                for name, value in zip(heading.split()[1:], values.split()[1:], strict=True):
                    if int(value):
                        here[name] = int(value)
        return found

    def losses(self) -> dict[str, int]:
        """Frames that devices dropped, by device: there must be none, the relay alone is to lose any."""
        found: dict[str, int] = {}
        for space in filter(None, (self.near, self.far, self.other)):
            with namespaces.inside(space):
                lines = Path("/proc/thread-self/net/dev").read_text(encoding="ascii").splitlines()[2:]
            for line in lines:
                name, _, fields = line.partition(":")
                for which, at in (("received", 3), ("transmitted", 11)):
                    key = f"{name.strip()} {which}"
                    found[key] = int(fields.split()[at]) - self.before.get(key, 0)
        return {key: count for key, count in found.items() if count}

    def begin(self) -> None:
        """Everything is there: count from here."""
        self.before = self.losses()


def need(algorithms: Iterable[str]) -> None:
    """SetupError unless the kernel has these congestion controls; for root it loads what it has as modules."""
    for name in sorted(set(algorithms)):
        with socket.socket() as sock, suppress(PermissionError):  # without root the network fails, too, and says so
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
            except FileNotFoundError:
                raise SetupError(
                    f"the kernel has no congestion control {name!r}", f"modprobe tcp_{name}, or leave it out with --cc"
                ) from None


def lengthen(name: str, space: str) -> None:
    """Make room for QUEUE frames in a TAP."""
    with namespaces.inside(space), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        ioctl(sock, SIOCSIFTXQLEN, IFREQ.pack(name.encode(), struct.pack("=i", QUEUE)))
