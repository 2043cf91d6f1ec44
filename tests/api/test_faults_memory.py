"""No memory: the machine's, injected where rings are made. Who needs some gets an errno, and nobody else notices."""

import errno
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.hosts import PATIENCE, PORT, RIGHT, nothing_left, two_blocking
from tests.api.sockets import connected, read_all, two_engines
from tests.api.test_pump import Two
from tests.support.pure import pure_only
from usertcp.tcp import buffers, references, ring
from usertcp.tcp.memory import Memory
from usertcp.tcp.ring import Ring

TEXT = bytes(range(256)) * 1024
LARGE = 8 << 10  # bytes; what is larger cannot be had

pytestmark = pure_only


class Scarce:
    """Stands for ``bytearray`` in the modules that make buffers: none larger than ``most``."""

    def __init__(self) -> None:
        self.most = LARGE
        self.refused = 0

    def __call__(self, size: int = 0) -> bytearray:
        if size > self.most:
            self.refused += 1
            raise MemoryError
        return bytearray(size)


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scarce]:
    allocator = Scarce()
    for module in (ring, references, buffers):
        monkeypatch.setattr(module, "bytearray", allocator, raising=False)
    yield allocator
    assert allocator.refused


def test_ring_that_cannot_grow_stays_as_it_was_and_is_charged_for_that(scarce: Scarce) -> None:
    memory = Memory()
    small = Ring(memory)
    assert small.reserve(0, 4000)
    small.write(0, TEXT[:4000])
    used = memory.used
    assert not small.reserve(0, 100_000)
    assert (memory.used, small.capacity) == (used, 4096)
    assert small.copy(0, 4000) == TEXT[:4000]
    scarce.most = 1 << 30
    assert small.reserve(0, 100_000)
    assert small.copy(0, 4000) == TEXT[:4000]
    small.release()
    assert memory.used == 0


def test_ring_that_cannot_be_made_smaller_stays_as_it_was(scarce: Scarce) -> None:
    memory = Memory()
    large = Ring(memory)
    scarce.most = 1 << 30
    assert large.reserve(0, 60_000)
    large.write(0, TEXT[:100])
    used, scarce.most = memory.used, 0
    large.fit(0, 100)
    assert memory.used == used
    assert large.copy(0, 100) == TEXT[:100]


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_write_that_finds_no_memory_is_enobufs_and_the_connection_goes_on(kind: Any, scarce: Scarce) -> None:
    two = Two()
    conn, peer = two.connected()
    scarce.most = 0
    with pytest.raises(OSError, match="No buffer space") as refused:
        conn.write(kind(TEXT[:5000]))
    assert refused.value.errno == errno.ENOBUFS
    scarce.most = 1 << 30
    assert conn.write(kind(TEXT[:5000])) == 5000
    two.run()
    assert peer.read(1 << 20) == TEXT[:5000]
    assert two.left.stack.memory.used == two.right.stack.memory.used == 0


def test_text_that_finds_no_memory_counts_as_lost_and_comes_again(scarce: Scarce) -> None:
    two = Two()
    conn, peer = two.connected()
    conn.write(TEXT[:60_000])
    two.left.flush()
    scarce.most = 0
    two.right.turn()
    assert peer.readable == 0
    assert two.right.stack.memory.used == 0
    scarce.most = 1 << 30
    for _ in range(40):
        two.wait(100_000_000)
        two.run()
    assert peer.read(1 << 20) == TEXT[:60_000]


def test_blocking_send_without_memory_is_enobufs_and_others_go_on(scarce: Scarce) -> None:
    with nothing_left(), two_blocking() as (left, right):
        listener = right.listen(("", PORT))
        pairs = []
        for _ in range(2):
            conn = left.connect((RIGHT, PORT), timeout=PATIENCE)
            pairs.append((conn, listener.accept()))
        (poor, _), (other, peer) = pairs
        with pytest.raises(OSError, match="No buffer space"):
            poor.sendall(bytearray(TEXT))
        for number in range(20):
            other.sendall(b"%d" % number)
            peer.settimeout(PATIENCE)
            assert peer.recv() == b"%d" % number
        scarce.most = 1 << 30
        poor.sendall(b"again")
        assert pairs[0][1].recv() == b"again"
        for pair in pairs:
            for end in pair:
                end.close()
        listener.close()


def test_socket_engine_without_memory_fails_the_connection_that_needs_it_and_no_other(scarce: Scarce) -> None:
    with nothing_left(), two_engines() as (left, right):
        poor, poor_peer = connected(left, right)
        other, peer = connected(left, right)
        poor.settimeout(PATIENCE)

        def send_much() -> None:
            while True:
                poor.sendall(TEXT)

        with pytest.raises(OSError, match=r"No buffer space|Broken pipe"):
            send_much()
        with pytest.raises(ConnectionResetError):
            read_all(poor_peer)  # and it does not take what came for the whole
        assert left.alive
        other.sendall(b"alive")
        assert peer.recv(100) == b"alive"
        for sock in (poor, poor_peer, other, peer):
            sock.close()
