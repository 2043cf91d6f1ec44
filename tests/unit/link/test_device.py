"""Frames read in pieces from a descriptor, as far as they are foretold, beside the same frames read in one."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usertcp.frame import NO_MORE, NOT_ASKED, FrameMeta, LinkCaps, Run
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


def frames(front: int, texts: list[bytes]) -> list[bytes]:
    """Frames whose first bytes are a number that goes up by what is behind them."""
    found, number = [], 1 << 8 * front - 2
    for text in texts:
        found.append(number.to_bytes(front, "big") + text)
        number += len(text)
    return found


@pytest.mark.parametrize("vnet_header", [True, False])
@given(
    front=st.integers(8, 70),
    texts=st.lists(st.binary(min_size=1, max_size=3), min_size=2, max_size=12),
    odd=st.binary(min_size=1, max_size=300),
    at_most=st.integers(1, 12),
    room=st.integers(3, 40),
)
def test_frames_that_are_foretold_lie_in_their_places_and_the_first_that_is_not_can_be_put_together(
    vnet_header: bool, front: int, texts: list[bytes], odd: bytes, at_most: int, room: int
) -> None:
    with device(vnet_header=vnet_header) as (link, other):
        run, place = Run(front, 0), memoryview(bytearray(room))
        link.read_run(run, place, at_most, room - 3)
        assert (run.count, run.odd) == (0, NO_MORE)
        stream = frames(front, texts)
        before = HEAD if vnet_header else b""
        for frame in (*stream, odd):
            other.send(before + frame)
        link.read_run(run, place, at_most, room - 3)
        assert (run.count, run.at, run.odd) == (0, 0, len(stream[0]))  # nobody has foretold it
        assert (run.its.gso_size, run.its.csum_valid) == ((1460, True) if vnet_header else (0, False))
        assert run.front == stream[0][:front]
        assert link.rejoin(run, place) == stream[0]
        lead = run.lead << 8 * front
        run.head = lead + int.from_bytes(stream[1][:front])
        run.sizes.update({front + size: (size, 0, size) for size in {len(text) for text in texts}})
        link.read_run(run, place, at_most, room - 3)
        taken, wanted = b"", texts[1:]
        while wanted and len(taken) <= room - 3 and run.count > len(texts) - 1 - len(wanted):
            taken += wanted.pop(0)
        assert (run.count, run.at) == (len(texts) - 1 - len(wanted), len(taken))
        assert run.last == (len(texts[run.count]) if run.count else 0)
        assert place[: run.at] == taken
        assert run.head == lead + int.from_bytes(stream[1][:front]) + run.at
        if run.count < at_most and run.at <= room - 3:
            assert not wanted
            assert run.odd == len(odd)
            assert run.front[: len(odd)] == odd[:front]
            assert link.rejoin(run, place) == odd
            assert place[: run.at] == taken
        else:
            assert run.odd == NOT_ASKED
            got = link.read()
            assert got is not None
            assert got[0] == (stream[len(texts) - len(wanted)] if wanted else odd)


def test_frame_that_goes_with_something_else_is_not_as_foretold() -> None:
    with device() as (link, other):
        run, place = Run(2, 0), memoryview(bytearray(9))
        run.head, run.sizes[3] = int.from_bytes(HEAD + b"ab"), (1, 0, 0)
        for head in (HEAD, vnet.encode(FrameMeta(1448, 34, 16, 66)), HEAD):
            other.send(head + b"abc")
        link.read_run(run, place, 9, 8)
        assert (run.count, run.odd, run.its.gso_size) == (1, 3, 1448)
        link.read_run(run, place, 9, 8)
        assert (run.count, run.odd) == (1, NO_MORE)


def test_what_was_read_before_the_device_failed_is_told() -> None:
    with device() as (link, other):
        run, place = Run(2, 0), memoryview(bytearray(9))
        run.head, run.sizes[3] = int.from_bytes(HEAD + b"ab"), (1, 0, 0)
        other.send(HEAD + b"abc")
        other.send(HEAD + b"abd")
        other.shutdown(socket.SHUT_WR)
        link.read_run(run, place, 2, 8)
        assert (run.count, run.at, bytes(place[:2])) == (2, 2, b"cd")


def test_frame_as_large_as_the_kernel_gives_fits_behind_a_small_place() -> None:
    frame = os.urandom(14 + 65536)
    with device() as (link, other):
        other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        other.send(HEAD + frame)
        run, place = Run(66, 0), memoryview(bytearray(10))
        link.read_run(run, place, 1, 0)
        assert run.odd == len(frame)
        assert link.rejoin(run, place) == frame
