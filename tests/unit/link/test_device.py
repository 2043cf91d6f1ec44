"""What a device gives with each frame: the words of the virtio header in front of it."""

import errno
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from usertcp.frame import PLAIN, LinkCaps
from usertcp.link import device
from usertcp.link.device import DeviceLink
from usertcp.wire import vnet

SUPER = struct.pack("=BBHHHH", vnet.NEEDS_CSUM, vnet.GSO_TCPV4, 66, 1448, 34, 16)
LONE = struct.pack("=BBHHHH", vnet.NEEDS_CSUM, vnet.GSO_NONE, 0, 0, 34, 16)


class Device(DeviceLink):
    """One end of a socket pair that keeps frames apart."""

    def _read_again(self, error: OSError) -> bool:
        raise error

    def _send_failed(self, error: OSError) -> bool:
        raise error


Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The device's end, and the far one."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)
    with near, far:
        yield near, far


def on(near: socket.socket, *, header: bool) -> Device:
    return Device(near.fileno(), "pair0", LinkCaps(), header)


def test_read_frame_after_its_header_gives_both(pair: Pair) -> None:
    near, far = pair
    link = on(near, header=True)
    for head, text, size, vouched in (
        (SUPER, b"many", 1448, True),
        (LONE, b"one", 0, True),
        (bytes(10), b"", 0, False),
    ):
        far.send(head + text)
        got = link.read()
        assert got is not None
        assert bytes(got[0]) == text
        assert (got[1].gso_size, got[1].csum_valid) == (size, vouched)
    assert link.read() is None


def test_read_frames_with_the_same_header_gives_the_same_meta(pair: Pair) -> None:
    near, far = pair
    link = on(near, header=True)
    metas = []
    for head in (SUPER, SUPER, LONE, LONE, SUPER):
        far.send(head + b"x")
        got = link.read()
        assert got is not None
        metas.append(got[1])
    assert metas[0] is metas[1] is not metas[2] is metas[3]
    assert metas[4].gso_size == 1448


class Skipping(Device):
    """A device of which some frames cannot be had."""

    skipped = 0

    def _read_again(self, error: OSError) -> bool:
        self.skipped += 1
        return True


def test_read_frames_that_cannot_be_had_are_skipped_a_bounded_number_at_a_time(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = pair
    link = Skipping(near.fileno(), "pair0", LinkCaps(), False)
    bad = 5000

    def readv(descriptor: int, into: list[bytearray]) -> int:
        nonlocal bad
        if bad:
            bad -= 1
            raise OSError(errno.EINVAL, "no word for it")
        return os.readv(descriptor, into)

    monkeypatch.setattr(device, "readv", readv)
    far.send(b"good")
    looks = 0
    while (got := link.read()) is None:
        assert link.skipped <= (looks := looks + 1) * (device.MAX_SKIPPED + 1)
    assert bytes(got[0]) == b"good"
    assert link.skipped == 5000


def test_read_without_headers_is_plain(pair: Pair) -> None:
    near, far = pair
    link = on(near, header=False)
    far.send(SUPER)
    got = link.read()
    assert got is not None
    assert (bytes(got[0]), got[1]) == (SUPER, PLAIN)
