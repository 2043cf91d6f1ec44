"""A TAP or TUN device: the kernel's network stack on one side, this process on the other (tuntap(7)).

A TAP carries Ethernet frames, a TUN bare IP packets. With offloads (:mod:`usertcp.link.offload`) the kernel cuts the
super-segments that we send, and hands us whole what it would have cut. What we have not read waits in a queue of
``txqueuelen`` frames; when that is full the kernel loses frames and tells nobody, its own TCP included. Making a
lasting device, giving its kernel side an address and removing it again is in :mod:`usertcp.link.provision`; this module
attaches to it.
"""

import errno
import os
from dataclasses import replace
from fcntl import ioctl
from functools import partial
from typing import Final, Self

from usertcp.errors import SetupError, os_error
from usertcp.frame import LinkCaps
from usertcp.link import netns as namespaces
from usertcp.link.causes import AS_ROOT, FEWER, TUN_DRIVER, TUN_FOR_USERS
from usertcp.link.device import IFREQ, DeviceLink, Facts, activate, neighbour_mac
from usertcp.link.offload import NO_HEADER, NOTHING, Grant, negotiate, takes_longer
from usertcp.link.steering import steer
from usertcp.link.words import checked_name

DEVICE: Final = "/dev/net/tun"

TUNSETIFF: Final = 0x400454CA  # linux/if_tun.h, as on every machine with the generic ioctl numbers
TUNSETOFFLOAD: Final = 0x400454D0
TUNGETFEATURES: Final = 0x800454CF
IFF_TUN: Final = 0x0001
IFF_TAP: Final = 0x0002
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000
IFF_MULTI_QUEUE: Final = 0x0100
GONE: Final = (77, errno.EBADF)  # EBADFD: the device behind the descriptor was removed; EBADF: closed by us


class TapLink(DeviceLink):
    """One attached TAP or TUN; made by :meth:`open`."""

    def __init__(self, descriptor: int, name: str, caps: LinkCaps, facts: Facts, grant: Grant, header: bool) -> None:
        """``header``: there is a virtio header in front of each frame."""
        super().__init__(descriptor, name, caps, header)
        self.lack = grant.lack
        self._grant = grant
        self._queue = facts.queue
        self._host = (facts.mac if caps.mac else b"") if takes_longer(os.uname().release) else None
        self._use(grant)

    @classmethod
    def open(
        cls,
        name: str,
        *,
        netns: str | None = None,
        tun: bool = False,
        offload: bool = True,
        gso: bool = True,
        mac: bytes | None = None,
        create: bool = False,
        queue: tuple[int, int] | None = None,
    ) -> Self:
        """Attach to the device ``name`` in the namespace ``netns``, with the best ``offload`` that the driver has;
        without ``gso`` none that segments.

        ``queue`` (which, of how many): the device is a TUN made for several, of which all are attached in their order.

        With ``create`` a missing device is made and vanishes again with this link. ``mac`` is our end's address, not
        the kernel's. Raises SetupError.
        """
        checked_name(name)
        with namespaces.inside(netns):
            try:
                descriptor = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                raise device_missing(error.errno) from None
            try:
                if not create:
                    Facts(name)
                header = offload and bool(_features(descriptor) & IFF_VNET_HDR)
                flags = (IFF_TUN if tun else IFF_TAP) | IFF_NO_PI | (IFF_VNET_HDR if header else 0)
                flags |= IFF_MULTI_QUEUE if queue else 0
                ioctl(descriptor, TUNSETIFF, IFREQ.pack(name.encode(), flags.to_bytes(2, "little")))
                grant = NO_HEADER if offload else NOTHING
                if header:
                    grant = negotiate(partial(ioctl, descriptor, TUNSETOFFLOAD), gso=gso)
                if queue is not None:
                    steer(descriptor)
                activate(name)
                facts = Facts(name)
            except OSError as error:
                os.close(descriptor)
                raise _cannot_attach(name, tun, queue is not None, error) from None
            except BaseException:
                os.close(descriptor)
                raise
        if tun:
            mac = None
        elif mac is None:
            mac = neighbour_mac(facts.mac, name)
        which, queues = queue or (0, 1)
        return cls(descriptor, name, LinkCaps(facts.mtu, mac, queues=queues, queue=which), facts, grant, header)

    def set_offload(self, on: bool) -> None:
        if self._vnet:
            grant = self._grant if on else NOTHING
            ioctl(self._fd, TUNSETOFFLOAD, grant.flags)
            self._use(grant)

    def _use(self, grant: Grant) -> None:
        kept = 0 if grant.segmentation else self._queue
        host = self._host if grant.segmentation else None
        self.caps = replace(self.caps, tx_checksum=grant.checksum, tx_gso=grant.segmentation, host=host, rx_queue=kept)

    def _read_again(self, error: OSError) -> bool:
        if error.errno in GONE:
            raise os_error(errno.ENETDOWN)
        raise error

    def _send_failed(self, error: OSError) -> bool:
        if error.errno == errno.EIO:  # the kernel side is down: as if the cable were pulled
            self.lost += 1
            return True
        if error.errno in GONE or error.errno in (errno.ENOMEM, errno.ENOBUFS):
            return False  # read() tells that a device is gone
        raise error


def _features(descriptor: int) -> int:
    """The IFF_* flags that the driver knows; 0 if it does not say."""
    try:
        return int.from_bytes(ioctl(descriptor, TUNGETFEATURES, bytes(4)), "little")
    except OSError:
        return 0


def device_missing(number: int | None) -> SetupError:
    """The device file cannot be opened."""
    if number in (errno.EACCES, errno.EPERM):
        return SetupError(f"not allowed to open {DEVICE}", TUN_FOR_USERS)
    if number == errno.ENOENT:
        return SetupError(f"there is no {DEVICE}", TUN_DRIVER)
    if number in (errno.EMFILE, errno.ENFILE):
        return SetupError(f"cannot open {DEVICE} ({os_error(number).strerror})", FEWER)
    return SetupError(f"{DEVICE} has no driver behind it", TUN_DRIVER)


def _cannot_attach(name: str, tun: bool, several: bool, error: OSError) -> SetupError:
    """``several``: to one of several queues."""
    kind = "TUN" if tun else "TAP"
    if error.errno == errno.ENODEV:
        return SetupError(f"there is no interface {name!r}", f"make it with: ip tuntap add {name} mode {kind.lower()}")
    if error.errno == errno.ENOTTY:
        return device_missing(error.errno)
    if error.errno == errno.EBUSY:
        return SetupError(f"{name!r} is in use by another program", "stop that program, or choose another name")
    if error.errno == errno.EINVAL and several:
        cure = f"make it with: ip tuntap add {name} mode tun multi_queue"
        return SetupError(f"{name!r} is no TUN that several can attach to", cure)
    if error.errno == errno.EINVAL:
        return SetupError(f"{name!r} is no {kind} device", "choose another name, or --packet for an ordinary interface")
    if error.errno in (errno.EPERM, errno.EACCES):
        return SetupError(f"not allowed to attach to {name!r}, which is another user's", AS_ROOT)
    return SetupError(f"cannot attach to {name!r} ({error.strerror})", "look at: ip -d link show " + name)
