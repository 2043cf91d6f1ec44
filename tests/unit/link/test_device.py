"""Frames read in pieces from a descriptor, beside the same frames read in one."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usertcp.frame import FrameMeta, LinkCaps
from usertcp.link.device import DeviceLink
from usertcp.wire import vnet

HEAD = vnet.encode(FrameMeta(1460, 34, 16, 66))


class Piece(DeviceLink):
    """A device made of a socket that keeps frames apart."""

    def _read_again(self, error: OSError) -> bool:
        raise error

    def _send_failed(self, error: OSError) -> bool:
        raise error


@contextmanager
def device(*, vnet_header: bool = True) -> Iterator[tuple[Piece, socket.socket]]:
    """A device, and its other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.setblocking(False)
        link = Piece(ours.detach(), "piece0", LinkCaps(), vnet_header)
        try:
            yield link, theirs
        finally:
            link.close()


@pytest.mark.parametrize("vnet_header", [True, False])
@given(frame=st.binary(min_size=1, max_size=300), before=st.integers(0, 120), room=st.integers(0, 250))
def test_frame_read_apart_lies_in_its_places_and_can_be_put_together(
    vnet_header: bool, frame: bytes, before: int, room: int
) -> None:
    with device(vnet_header=vnet_header) as (link, other):
        front, place = bytearray(before), memoryview(bytearray(room))
        assert link.read_apart(front, place) is None
        for text in (frame, bytes(reversed(frame))):
            other.send((HEAD if vnet_header else b"") + text)
            got = link.read_apart(front, place)
            assert got is not None
            size, meta = got
            assert size == len(text)
            assert (meta.gso_size, meta.csum_valid) == ((1460, True) if vnet_header else (0, False))
            assert front[:size] == text[:before]
            assert place[: max(size - before, 0)] == text[before : before + room]
            assert link.rejoin(front, place, size) == text


def test_frame_as_large_as_the_kernel_gives_fits_behind_a_small_place() -> None:
    frame = os.urandom(14 + 65536)
    with device() as (link, other):
        other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        other.send(HEAD + frame)
        front, place = bytearray(66), memoryview(bytearray(10))
        assert link.read_apart(front, place) == (len(frame), link._last_meta)
        assert link.rejoin(front, place, len(frame)) == frame
