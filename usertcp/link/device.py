"""What TAP and packet sockets have in common: a descriptor that carries one frame a read and one a write.

With a virtio_net_hdr in front of each frame (:mod:`usertcp.wire.vnet`) up to 64 KB of one TCP stream cross in a single
system call, and checksums within this machine are never computed. Frames are read into one slab that is used again.
"""

import ctypes
import os
import socket
import struct
from abc import abstractmethod
from contextlib import suppress
from fcntl import ioctl
from hashlib import blake2s
from os import readv, writev
from typing import Final

from usertcp.frame import NO_MORE, NOT_ASKED, PLAIN, FrameMeta, LinkCaps, Run
from usertcp.link.base import Link
from usertcp.wire import vnet

SLAB: Final = 14 + 65536 + 64  # bytes; the largest frame the kernel hands over
MAX_SKIPPED: Final = 32  # frames in a row that cannot be read, after which others have their turn
MAX_METAS: Final = 64  # headers of which is remembered what they say: of a stream they are few

ETHERNET: Final = 1  # ARPHRD_ETHER
SIOCGIFNAME: Final = 0x8910  # linux/sockios.h
SIOCGIFFLAGS: Final = 0x8913
SIOCGIFMTU: Final = 0x8921
SIOCGIFHWADDR: Final = 0x8927
SIOCGIFINDEX: Final = 0x8933
SIOCETHTOOL: Final = 0x8946
ETHTOOL_GLINK: Final = 0x0A
SIOCGIFTXQLEN: Final = 0x8942
SIOCSIFTXQLEN: Final = 0x8943
IFF_UP: Final = 1

from_bytes: Final = int.from_bytes  # the most significant first

IFREQ: Final = struct.Struct("16s24s")  # struct ifreq: a name, and what is asked or answered


class Facts:
    """What the kernel says of an interface in the calling thread's namespace. OSError(ENODEV) if there is none.

    ``queue``  frames that it keeps for whom they are to be sent to (txqueuelen)
    """

    __slots__ = ("index", "kind", "mac", "mtu", "queue", "up")

    def __init__(self, name: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            (self.mtu,) = struct.unpack_from("=i", _ask(sock, name, SIOCGIFMTU))
            (self.index,) = struct.unpack_from("=i", _ask(sock, name, SIOCGIFINDEX))
            (self.queue,) = struct.unpack_from("=i", _ask(sock, name, SIOCGIFTXQLEN))
            self.up = bool(_ask(sock, name, SIOCGIFFLAGS)[0] & IFF_UP)
            hardware = _ask(sock, name, SIOCGIFHWADDR)
            (self.kind,) = struct.unpack_from("=H", hardware)
            self.mac = hardware[2:8]


def _ask(sock: socket.socket, name: str, request: int) -> bytes:
    answer: bytes = IFREQ.unpack(ioctl(sock, request, IFREQ.pack(name.encode(), b"")))[1]
    return answer


def activate(name: str) -> None:
    """Let an interface of the calling thread's namespace, whose carrier has just come on, transmit now.

    The kernel sees to a carrier in the background, up to a second later, and until then silently loses what it should
    send: the answer to our first SYN. Linux 6.8 sees to it when asked for the carrier; before that, changing the
    length of the queue has the same effect. Without the permission one has to wait.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock, suppress(OSError):
        value = ctypes.create_string_buffer(struct.pack("=II", ETHTOOL_GLINK, 0), 8)  # struct ethtool_value
        ioctl(sock, SIOCETHTOOL, IFREQ.pack(name.encode(), struct.pack("P", ctypes.addressof(value))))
        (length,) = struct.unpack_from("=i", _ask(sock, name, SIOCGIFTXQLEN))
        for wanted in (length + 1, length):
            ioctl(sock, SIOCSIFTXQLEN, IFREQ.pack(name.encode(), struct.pack("=i", wanted)))


def neighbour_mac(kernel_mac: bytes, salt: str) -> bytes:
    """A locally administered address for our end; the same device gives the same, so that no ARP cache goes stale."""
    return b"\x02" + blake2s(kernel_mac + salt.encode(), digest_size=5).digest()


class DeviceLink(Link):
    """A link on a descriptor.

    ``lost``     frames that the device refused because it is down
    ``unknown``  frames that the kernel could not describe (an offload that virtio has no word for)
    """

    def __init__(self, descriptor: int, name: str, caps: LinkCaps, vnet_header: bool) -> None:
        self.name = name
        self.caps = caps
        self.lost = 0
        self.unknown = 0
        self._fd = descriptor
        self._vnet = vnet_header
        self._skipped = 0  # reads in a row that failed
        self._ailing = False  # something was wrong: look whether it still is when nothing comes
        self._slab = bytearray(SLAB)
        self._view = memoryview(self._slab)
        self._before = vnet.HEADER_LEN if vnet_header else 0
        self._head = bytearray(self._before)
        self._apart = self._head  # the same, and the front of a frame that is read apart from the rest
        self._into = [self._head, self._slab] if vnet_header else [self._slab]
        self._last_head = b""  # what came before the latest frame, and what it says: of a stream it is always the same
        self._last_meta = PLAIN
        self._metas: dict[bytes, FrameMeta] = {}  # what other headers said

    def fileno(self) -> int:
        return self._fd

    def read(self) -> tuple[memoryview, FrameMeta] | None:
        try:
            size = readv(self._fd, self._into)
        except BlockingIOError:
            if self._ailing:
                self._examine()
            return None
        except OSError as error:
            return self._read_on(error)
        if self._head != self._last_head:
            self._look_up(bytes(self._head))
        return self._view[: size - self._before], self._last_meta

    def read_run(self, run: Run, place: memoryview, frames: int, until: int) -> None:
        if not self._vnet:
            super().read_run(run, place, frames, until)
            return
        apart, before = self._apart, self._before
        if len(apart) != before + len(run.front):
            apart = self._apart = bytearray(before + len(run.front))
        fd, spill, sizes, free, head = self._fd, self._slab, run.sizes, run.free, run.head
        count = at = last = size = 0
        run.odd = NOT_ASKED
        try:
            for count in range(frames):  # noqa: B007  (what it was when the loop ended is told)
                if at > until:
                    break
                size = readv(fd, (apart, place[at:], spill)) - before
                text, more, step = sizes[size]
                if from_bytes(apart) | free != head + more:
                    self._found(run, size)
                    break
                head += step
                at += text
                last = text
            else:
                count = frames
        except KeyError:
            self._found(run, size)
        except BlockingIOError:
            run.odd = NO_MORE
            if self._ailing:
                self._examine()
        except OSError as error:
            run.odd = NO_MORE
            got = self._read_on(error)
            if got is not None:
                self._put_apart(run, *got, int.from_bytes(self._last_head), place[at:])
        finally:
            run.head = head
            run.count, run.at, run.last = count, at, last

    def _found(self, run: Run, size: int) -> None:
        """The frame of ``size`` bytes that has just been read apart is not as foretold."""
        self._whole = None
        head = bytes(self._apart[: self._before])
        if head != self._last_head:
            self._look_up(head)
        run.front[:] = self._apart[self._before :]
        run.odd, run.its, run.lead = size, self._last_meta, int.from_bytes(head)

    def rejoin(self, run: Run, place: memoryview) -> memoryview:
        if self._whole is not None:
            return self._whole
        size, view = run.odd, self._view
        start = min(len(run.front), size)
        end = min(start + len(place) - run.at, size)
        view[end:size] = bytes(view[: size - end])
        view[start:end] = place[run.at : run.at + end - start]
        view[:start] = memoryview(run.front)[:start]
        return view[:size]

    def _read_on(self, error: OSError) -> tuple[memoryview, FrameMeta] | None:
        """A read failed: skip what cannot be had, but no more than ``MAX_SKIPPED`` in a row; poll tells of the rest."""
        if not self._read_again(error) or self._skipped >= MAX_SKIPPED:
            self._skipped = 0
            return None
        self._skipped += 1
        try:
            return self.read()
        finally:
            self._skipped = 0

    def _look_up(self, head: bytes) -> None:
        """The frame just read came with ``head``, and the one before it with another."""
        meta = self._metas.get(head)
        if meta is None:
            if len(self._metas) >= MAX_METAS:
                self._metas.clear()
            meta = self._metas[head] = vnet.decode(head)
        self._last_head, self._last_meta = head, meta

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        try:
            if self._vnet:
                encoded = meta.encoded
                if not encoded:
                    encoded = meta.encoded = vnet.encode(meta)
                writev(self._fd, [encoded, header, *payload])
            else:
                writev(self._fd, [header, *payload])
        except BlockingIOError:
            return False
        except OSError as error:
            return self._send_failed(error)
        return True

    @abstractmethod
    def _read_again(self, error: OSError) -> bool:
        """A read failed. True: read again; False: nothing waits; or raises OSError(ENETDOWN): the device is gone."""

    def _examine(self) -> None:
        """Raise OSError(ENETDOWN) if an ailing device is gone."""

    @abstractmethod
    def _send_failed(self, error: OSError) -> bool:
        """A write failed. True: the frame is lost; False: it was not taken."""

    def close(self) -> None:
        if self._fd >= 0:
            descriptor, self._fd = self._fd, -1
            os.close(descriptor)
