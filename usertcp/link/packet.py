"""A raw packet socket on an existing interface (packet(7)): the wire itself, beside the kernel.

Two ways to share an interface with the kernel. With an *address of our own* we are another host on the same wire, with
a hardware address of our own; the interface is put into promiscuous mode, and the kernel ignores what is not for it. It
cannot talk to us itself, since what it sends does not come back by the wire. With the *host's address* we take a range
of TCP ports of it; the kernel must be kept from resetting our connections by :func:`usertcp.link.guard.guard`, and
keeps ARP, ping, UDP and its other ports, which a filter on the socket does not even show us.

Frames from a local kernel (over veth) arrive as it left them: super-segments without checksums. The virtio header in
front of each says so; therefore it is always asked for, whatever we use for sending.
"""

import errno
import ipaddress
import socket
import struct
from dataclasses import replace
from fcntl import ioctl
from typing import Final, Self

from usertcp.errors import SetupError, os_error
from usertcp.frame import LinkCaps
from usertcp.link import bpf
from usertcp.link import netns as namespaces
from usertcp.link.causes import AS_ROOT
from usertcp.link.device import ETHERNET, IFREQ, SIOCGIFNAME, DeviceLink, Facts, neighbour_mac
from usertcp.link.offload import NO_HEADER
from usertcp.link.words import checked_name
from usertcp.units import MIB

SOL_PACKET: Final = 263  # linux/if_packet.h
PACKET_ADD_MEMBERSHIP: Final = 1
PACKET_VNET_HDR: Final = 15
PACKET_IGNORE_OUTGOING: Final = 23
PACKET_MR_PROMISC: Final = 1
ETH_P_ALL: Final = 3
SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33
QUEUE: Final = 32 * MIB  # bytes the kernel keeps for us while we are busy; it doubles that for its own bookkeeping
OVERHEAD: Final = 2048  # bytes that a frame may cost it beyond the packet


class PacketLink(DeviceLink):
    """A raw socket on one Ethernet interface; made by :meth:`open`."""

    def __init__(self, sock: socket.socket, name: str, index: int, caps: LinkCaps, header: bool) -> None:
        """``header``: there is a virtio header in front of each frame."""
        super().__init__(sock.detach(), name, caps, header)
        self._index = index
        self._granted = caps

    @classmethod
    def open(
        cls,
        interface: str,
        *,
        address: str,
        netns: str | None = None,
        host_ports: tuple[int, int] | None = None,
        mac: bytes | None = None,
        offload: bool = True,
        gso: bool = True,
    ) -> Self:
        """A link on ``interface`` for the IPv4 ``address`` (a prefix length is ignored).

        ``host_ports`` (first, last): the address is the host's own, and these TCP ports of it are ours; without it the
        address is ours alone, with the hardware address ``mac`` or one derived from it. Raises SetupError.
        """
        checked_name(interface)
        wanted = ipaddress.IPv4Interface(address).ip
        try:
            with namespaces.inside(netns):
                facts = Facts(interface)
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        except OSError as error:
            raise _cannot_open(interface, error) from None
        try:
            if facts.kind != ETHERNET:
                raise SetupError(f"{interface!r} is no Ethernet interface", "choose another one, or a TAP")
            if not facts.up:
                raise SetupError(f"{interface!r} is down", f"switch it on with: ip link set {interface} up")
            if host_ports is not None:
                mac = facts.mac
                bpf.attach(sock, bpf.for_ports(wanted.packed, *host_ports))
            else:
                mac = mac if mac is not None else neighbour_mac(facts.mac, str(wanted))
                bpf.attach(sock, bpf.for_address(mac))
                membership = struct.pack("=iHH8s", facts.index, PACKET_MR_PROMISC, 0, b"")
                sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
            header = _has_header(sock)
            sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, QUEUE)
            sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, QUEUE)
            sock.bind((interface, ETH_P_ALL))  # frames come from here on, the filter in place
        except OSError as error:
            sock.close()
            raise _cannot_open(interface, error) from None
        except BaseException:
            sock.close()
            raise
        kept = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // (facts.mtu + OVERHEAD)
        offloads = header and offload
        link = cls(sock, interface, facts.index, LinkCaps(facts.mtu, mac, offloads, offloads and gso, kept), header)
        link.lack = NO_HEADER.lack if offload and not header else ""
        return link

    def set_offload(self, on: bool) -> None:
        """For sending. What a local peer left undone arrives undone all the same."""
        granted = self._granted
        self.caps = granted if on else replace(granted, tx_checksum=False, tx_gso=False)

    def _exists(self) -> bool:
        try:
            ioctl(self._fd, SIOCGIFNAME, IFREQ.pack(b"", struct.pack("=i", self._index)))
        except OSError:
            return False
        return True

    def _read_again(self, error: OSError) -> bool:
        if error.errno == errno.EINVAL:
            self.unknown += 1
            return True
        if error.errno == errno.ENETDOWN and self._exists():
            self._ailing = True  # down, and may come up again, or be on its way out
            return True
        if error.errno in (errno.ENETDOWN, errno.EBADF):
            raise os_error(errno.ENETDOWN)
        raise error

    def _examine(self) -> None:
        if not self._exists():
            raise os_error(errno.ENETDOWN)

    def _send_failed(self, error: OSError) -> bool:
        if error.errno in (errno.ENETDOWN, errno.EMSGSIZE):  # too long: the interface's MTU was lowered meanwhile
            self.lost += 1
            return True
        if error.errno in (errno.ENXIO, errno.ENODEV):
            return False
        if error.errno in (errno.ENOBUFS, errno.ENOMEM, errno.EBADF):
            return False
        raise error


def _has_header(sock: socket.socket) -> bool:
    """Have a virtio header put in front of each frame, if there is such a thing here."""
    try:
        sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    except OSError:
        return False
    return True


def _cannot_open(interface: str, error: OSError) -> SetupError:
    if error.errno == errno.ENODEV:
        return SetupError(f"there is no interface {interface!r}", "look at: ip link (in the namespace meant)")
    if error.errno in (errno.EPERM, errno.EACCES):
        return SetupError(f"not allowed to open a packet socket on {interface!r}", AS_ROOT)
    return SetupError(f"cannot open a packet socket on {interface!r} ({error.strerror})", "choose another interface")
