"""A TAP or TUN device: the kernel's network stack on one side, this process on the other (tuntap(7)).

A TAP carries Ethernet frames, a TUN bare IP packets. With offloads each frame is preceded by a virtio_net_hdr in both
directions, so that up to 64 KB of one TCP stream crosses the boundary in a single system call: the kernel cuts what we
send, and hands us what it would have cut. Making the device, giving its kernel side an address and removing it again
is in :mod:`usertcp.link.provision`; this module only attaches to it.
"""

import errno
import os
import socket
import struct
from fcntl import ioctl
from hashlib import blake2s
from typing import Final, Self

from usertcp.errors import SetupError, os_error
from usertcp.frame import PLAIN, FrameMeta, LinkCaps
from usertcp.link import netns as namespaces
from usertcp.link.base import Link
from usertcp.link.causes import AS_ROOT, checked_name
from usertcp.wire import vnet

DEVICE: Final = "/dev/net/tun"
SLAB: Final = vnet.HEADER_LEN + 14 + 65536 + 64  # bytes; the largest frame the kernel hands over, with its header

TUNSETIFF: Final = 0x400454CA  # linux/if_tun.h, as on every machine with the generic ioctl numbers
TUNSETOFFLOAD: Final = 0x400454D0
IFF_TUN: Final = 0x0001
IFF_TAP: Final = 0x0002
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000
TUN_F_CSUM: Final = 0x01
TUN_F_TSO4: Final = 0x02
TUN_F_TSO_ECN: Final = 0x08
SIOCGIFMTU: Final = 0x8921  # linux/sockios.h
SIOCGIFHWADDR: Final = 0x8927

EBADFD: Final = 77  # Linux: the device behind the descriptor was removed

_IFREQ: Final = struct.Struct("16s24s")


def interface_request(name: str, request: int, sock: socket.socket) -> bytes:
    """The 24 bytes with which an SIOCGIF* ioctl answers for the interface ``name`` in the socket's namespace."""
    answer: bytes = _IFREQ.unpack(ioctl(sock, request, _IFREQ.pack(name.encode(), b"")))[1]
    return answer


def interface_facts(name: str) -> tuple[int, bytes]:
    """MTU and hardware address of an interface in the calling thread's namespace. OSError(ENODEV) if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        (mtu,) = struct.unpack_from("=i", interface_request(name, SIOCGIFMTU, sock))
        return mtu, interface_request(name, SIOCGIFHWADDR, sock)[2:8]


def neighbour_mac(kernel_mac: bytes, salt: str) -> bytes:
    """A locally administered address for our end; the same device gives the same, so that no ARP cache goes stale."""
    return b"\x02" + blake2s(kernel_mac + salt.encode(), digest_size=5).digest()


class TapLink(Link):
    """One attached TAP or TUN; made by :meth:`open`.

    ``lost``  frames that the device refused because its kernel side is down
    """

    def __init__(self, descriptor: int, name: str, caps: LinkCaps, offload: bool) -> None:
        self.name = name
        self.caps = caps
        self.lost = 0
        self._fd = descriptor
        self._vnet = offload
        self._gone = False
        self._slab = bytearray(SLAB)
        self._view = memoryview(self._slab)
        self._into = [self._slab]

    @classmethod
    def open(
        cls,
        name: str,
        *,
        netns: str | None = None,
        tun: bool = False,
        offload: bool = True,
        mac: bytes | None = None,
        create: bool = False,
    ) -> Self:
        """Attach to the device ``name`` in the namespace ``netns``.

        With ``create`` a missing device is made and vanishes again with this link. ``mac`` is our end's address, not
        the kernel's. Raises SetupError.
        """
        checked_name(name)
        with namespaces.inside(netns):
            try:
                descriptor = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                raise _device_missing(error) from None
            try:
                if not create:
                    interface_facts(name)
                flags = (IFF_TUN if tun else IFF_TAP) | IFF_NO_PI | (IFF_VNET_HDR if offload else 0)
                ioctl(descriptor, TUNSETIFF, _IFREQ.pack(name.encode(), flags.to_bytes(2, "little")))
                if offload:
                    ioctl(descriptor, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO_ECN)
                mtu, kernel_mac = interface_facts(name)
            except OSError as error:
                os.close(descriptor)
                raise _cannot_attach(name, tun, error) from None
            except BaseException:
                os.close(descriptor)
                raise
        if tun:
            mac = None
        elif mac is None:
            mac = neighbour_mac(kernel_mac, name)
        return cls(descriptor, name, LinkCaps(mtu, mac, offload, offload), offload)

    def fileno(self) -> int:
        return self._fd

    def read(self) -> tuple[memoryview, FrameMeta] | None:
        try:
            size = os.readv(self._fd, self._into)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in (EBADFD, errno.EBADF, errno.EIO):
                self._gone = True
                raise os_error(errno.ENETDOWN) from None
            raise
        if not self._vnet:
            return self._view[:size], PLAIN
        return self._view[vnet.HEADER_LEN : size], vnet.decode(self._view)

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        if self._gone:
            return False
        if self._vnet:
            length = sum(map(len, payload)) if meta.gso_size else 0
            parts = [vnet.encode(meta, length), header, *payload]
        else:
            parts = [header, *payload]
        try:
            os.writev(self._fd, parts)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.EIO:  # the kernel side is down: as if the cable were pulled
                self.lost += 1
                return True
            if error.errno in (EBADFD, errno.EBADF):  # removed; read() says so
                self._gone = True
                return False
            if error.errno in (errno.ENOMEM, errno.ENOBUFS):
                return False
            raise
        return True

    def set_offload(self, on: bool) -> None:
        if not self._vnet:
            return
        ioctl(self._fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO_ECN if on else 0)
        self.caps = LinkCaps(self.caps.mtu, self.caps.mac, on, on)

    def close(self) -> None:
        if self._fd >= 0:
            descriptor, self._fd = self._fd, -1
            self._gone = True
            os.close(descriptor)


def _device_missing(error: OSError) -> SetupError:
    if error.errno in (errno.EACCES, errno.EPERM):
        return SetupError(f"not allowed to open {DEVICE}", AS_ROOT)
    return SetupError(
        f"there is no {DEVICE} ({error.strerror})",
        "load the driver with: modprobe tun; in a container, start it with --device /dev/net/tun",
    )


def _cannot_attach(name: str, tun: bool, error: OSError) -> SetupError:
    kind = "TUN" if tun else "TAP"
    if error.errno == errno.ENODEV:
        return SetupError(f"there is no interface {name!r}", f"make it with: ip tuntap add {name} mode {kind.lower()}")
    if error.errno == errno.EBUSY:
        return SetupError(f"{name!r} is in use by another program", "stop that program, or choose another name")
    if error.errno == errno.EINVAL:
        return SetupError(f"{name!r} is no {kind} device", "choose another name, or --packet for an ordinary interface")
    if error.errno in (errno.EPERM, errno.EACCES):
        return SetupError(f"not allowed to attach to {name!r}", AS_ROOT)
    return SetupError(f"cannot attach to {name!r} ({error.strerror})", "look at: ip -d link show " + name)
