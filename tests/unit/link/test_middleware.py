"""The recorder and the observer."""

import io
from pathlib import Path

import pytest

from usertcp.frame import PLAIN
from usertcp.link.memory import memory_pair
from usertcp.link.middleware import Middleware, Observe, Pcap
from usertcp.link.pcap import Reader, Writer

A = bytes(12) + b"\x08\x00" + b"incoming"
B = bytes(12) + b"\x08\x00" + b"outgoing"


def test_middleware_alone_hands_everything_on() -> None:
    inner, far = memory_pair(pollable=True)
    with Middleware(inner) as link:
        assert (link.name, link.caps, link.fileno(), link.next_deadline()) == (
            inner.name,
            inner.caps,
            inner.fileno(),
            inner.next_deadline(),
        )
        far.send(A, [], PLAIN)
        item = link.read()
        assert item is not None
        assert item[0] == A
        assert link.send(B, [], PLAIN)
    far.close()
    assert inner.fileno() == -1


def test_pcap_records_both_directions_with_the_time_of_day() -> None:
    inner, far = memory_pair()
    file = io.BytesIO()
    link = Pcap(inner, Writer(file), epoch_offset=1_000_000)
    link.tick(5)
    far.send(A, [], PLAIN)
    link.read()
    link.read()
    link.tick(9)
    link.send(B[:14], [memoryview(B)[14:]], PLAIN)
    link.close()
    file.seek(0)
    assert [(at, bytes(data)) for at, data in Reader(file)] == [(1_000_005, A), (1_000_009, B)]


def test_pcap_frame_that_the_device_refused_is_not_recorded(tmp_path: Path) -> None:
    inner, _ = memory_pair(capacity=1)
    path = tmp_path / "wire.pcap"
    with Pcap.open(inner, path) as link:
        assert link.send(A, [], PLAIN)
        assert not link.send(B, [], PLAIN)
    with path.open("rb") as file:
        assert [bytes(data) for _, data in Reader(file)] == [A]


def test_pcap_on_bare_packets_is_marked_as_such(tmp_path: Path) -> None:
    inner, _ = memory_pair(ethernet=False)
    path = tmp_path / "tun.pcap"
    Pcap.open(inner, path).close()
    assert path.read_bytes()[20:24] in (b"\x65\0\0\0", b"\0\0\0\x65")  # LINKTYPE_RAW


def test_pcap_into_a_folder_that_is_not_there_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Pcap.open(memory_pair()[0], tmp_path / "no" / "file")


def test_observer_sees_frames_that_crossed_and_no_others() -> None:
    inner, far = memory_pair(capacity=1)
    seen: list[tuple[str, bytes, int]] = []
    link = Observe(inner, lambda direction, data, now: seen.append((direction, data, now)))
    link.tick(3)
    far.send(A, [], PLAIN)
    link.read()
    link.read()
    assert link.send(B[:3], [memoryview(B)[3:]], PLAIN)
    assert not link.send(B, [], PLAIN)
    assert seen == [("in", A, 3), ("out", B, 3)]
