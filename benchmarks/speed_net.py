"""The network of the benchmark of speed: a namespace for the kernel's end, and a wire to each kind of other end.

::

    far, one processor                                        near, another processor
      kernel ---- tap0 (TAP, a new one for every run) -------- usertcp, lwIP, gVisor, PyTCP
             ---- v1 (veth, offloads on) ---------------- v1   kernel, in a namespace
             ---- v2 (veth, offloads off) --------------- v2   kernel, in another

The kernels' settings are those of an ordinary host, but remember nothing from one connection to the next, and keep no
TIME-WAIT: with thousands of connections a second they would only wait for each other's ports.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fcntl import ioctl
from typing import Final, Self

from usertcp.errors import SetupError
from usertcp.link import netns as namespaces
from usertcp.link import provision
from usertcp.link.device import IFREQ, SIOCETHTOOL

PREFIX: Final = 24
FAR: Final = "10.78.1.1"  # the kernel's end, as seen over the TAP
NEAR: Final = "10.78.1.2"
TAP: Final = "tap0"
VETHS: Final = {"v1": "10.78.2", "v2": "10.78.3"}  # device: network; .1 is far, .2 near

SETTINGS: Final = {
    "net/ipv4/tcp_no_metrics_save": "1",
    "net/ipv4/tcp_rmem": "4096 131072 6291456",  # Linux's defaults on a machine with 4 GB and more
    "net/ipv4/tcp_wmem": "4096 16384 4194304",
    "net/ipv4/tcp_max_tw_buckets": "0",
    "net/ipv4/tcp_fin_timeout": "120",  # above 60 s FIN-WAIT-2 is no TIME-WAIT, of which there is none
    "net/ipv4/ip_local_port_range": "10000 65000",
    "net/core/somaxconn": "4096",
    "net/ipv4/tcp_max_syn_backlog": "4096",
}

# linux/ethtool.h: commands that switch an offload off
SETTERS: Final = {"gro": 0x2C, "tso": 0x1F, "gso": 0x24, "tx checksum": 0x17}


@dataclass(slots=True)
class Net:
    """The names of the namespaces. ``near``: by device, of the two kernels."""

    far: str
    near: dict[str, str]
    undo: ExitStack

    @classmethod
    def build(cls) -> Self:
        """All of it; gone again with the ``with`` block."""
        with ExitStack() as undo:
            far = undo.enter_context(provision.Namespace.create()).name
            near: dict[str, str] = {}
            for name, network in VETHS.items():
                space = near[name] = undo.enter_context(provision.Namespace.create()).name
                undo.enter_context(
                    provision.create_veth(
                        name,
                        name,
                        netns=far,
                        peer_netns=space,
                        address=f"{network}.1/{PREFIX}",
                        peer_address=f"{network}.2/{PREFIX}",
                    )
                )
            for space in (far, *near.values()):
                for key, value in SETTINGS.items():
                    provision.set_sysctl(key, value, netns=space)
            for space in (far, near["v2"]):
                without_offloads("v2", space)
            return cls(far, near, undo.pop_all())

    @contextmanager
    def tap(self) -> Iterator[None]:
        """A fresh TAP, for one run: what another one set on it would last."""
        with provision.create_tap(TAP, netns=self.far, address=f"{FAR}/{PREFIX}"):
            yield

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo.close()


def without_offloads(name: str, space: str) -> None:
    """Let a device neither cut nor collect segments nor skip checksums, as ``ethtool -K`` does."""
    with namespaces.inside(space), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for command in SETTERS.values():
            value = ctypes.create_string_buffer(struct.pack("=II", command, 0), 8)  # struct ethtool_value
            ioctl(sock, SIOCETHTOOL, IFREQ.pack(name.encode(), struct.pack("P", ctypes.addressof(value))))


@contextmanager
def pinned(cpus: set[int]) -> Iterator[None]:
    """Processes that are started within run on these processors alone."""
    former = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
        yield
    finally:
        os.sched_setaffinity(0, former)


def processors() -> tuple[int, int]:
    """Two that are ours: for the near end and for the far one. SetupError where there is only one."""
    ours = sorted(os.sched_getaffinity(0))
    if len(ours) < 2:
        raise SetupError("the benchmark needs two processors, and may use one", "run it where there are more")
    return ours[0], ours[1]
