"""Of a run of acknowledgments the last one stands for all."""

import random
from collections import deque
from collections.abc import Callable
from typing import Final

import pytest

from tests.support.reading import Reading, read_all
from usertcp.frame import FrameMeta, LinkCaps
from usertcp.net.burst import Frame
from usertcp.net.stack import Stack, StackConfig
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.units import KIB, MIB, SEC, US

MACS: Final = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"))
VALID: Final = FrameMeta(csum_valid=True)
ACK: Final = slice(42, 46)  # in a frame, behind Ethernet
TCP_FLAGS: Final = 47


class Wire:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        self.frames.append(b"".join((header, *payload)))
        return True


class Sending:
    """A stack that has much in flight, and the acknowledgments for it, one a segment, on the wire."""

    def __init__(self, mac: bool = True) -> None:
        self.now = 5 * SEC
        self.wires = Wire(), Wire()
        self.us, self.peer = (
            Stack(
                StackConfig((f"10.9.0.{i + 1}/24",), tcp=TcpConfig(send_buffer=MIB)),
                LinkCaps(1500, MACS[i] if mac else None, tx_checksum=True),
                random.Random(i).randbytes,
            )
            for i in range(2)
        )
        listener = self.peer.listen(("", 80))
        self.conn = self.us.connect(("10.9.0.2", 80), self.now)
        for _ in range(4):
            self.exchange()
        accepted = listener.accept()
        assert accepted is not None
        self.theirs = accepted
        self.conn.write(bytes(10 * KIB))
        for _ in range(2):
            self.exchange()
        self.theirs.read(MIB)
        self.exchange()
        self.conn.write(bytes(MIB))
        self.us.poll(self.now, self.wires[0])
        self.now += 100 * US
        while self.wires[0].frames:
            self.peer.receive(self.wires[0].frames.popleft(), self.now, VALID)
            self.theirs.read(MIB)
            self.theirs.rcv.acknowledge_quickly(1)
            self.peer.poll(self.now, self.wires[1])
        self.acks = list(self.wires[1].frames)
        self.now += 100 * US

    def exchange(self) -> None:
        for stack, wire, other in ((self.us, self.wires[0], self.peer), (self.peer, self.wires[1], self.us)):
            stack.poll(self.now, wire)
            self.now += 50 * US
            while wire.frames:
                other.receive(wire.frames.popleft(), self.now, VALID)

    def arrive(self, frames: list[bytes]) -> int:
        """As the pump does it; how many frames were received by themselves."""
        waiting = deque(memoryview(frame) for frame in frames)

        def read() -> Frame | None:
            return (waiting.popleft(), VALID) if waiting else None

        return read_all(self.us, read, self.now)


def state(conn: Connection) -> object:
    return conn.info(0), conn.timers.due[:], conn.snd.rate.delivered, conn.snd.usage_full


@pytest.mark.parametrize("mac", [True, False])
def test_last_ack_of_a_run_does_what_it_would_do_alone(mac: bool) -> None:
    run, alone = Sending(mac), Sending(mac)
    assert len(run.acks) > 3
    assert run.arrive(run.acks) == 1
    assert alone.arrive(alone.acks[-1:]) == 1
    assert run.conn.segments_in == alone.conn.segments_in + len(run.acks) - 1
    run.conn.segments_in = alone.conn.segments_in
    assert state(run.conn) == state(alone.conn)
    assert run.us.stats.frames_in == alone.us.stats.frames_in + len(run.acks) - 1


def _repeated(sending: Sending) -> list[bytes]:
    first = sending.acks[0]
    return [first, first, first]


def _damaged(sending: Sending) -> list[bytes]:
    second = bytearray(sending.acks[1])
    second[14 + 10] ^= 1  # the IPv4 header's checksum
    return [sending.acks[0], bytes(second), sending.acks[2]]


def _finished(sending: Sending) -> list[bytes]:
    second = bytearray(sending.acks[1])
    second[TCP_FLAGS] |= 1
    return [sending.acks[0], bytes(second)]


def _backwards(sending: Sending) -> list[bytes]:
    return sending.acks[2::-1]


def _beyond(sending: Sending) -> list[bytes]:
    second = bytearray(sending.acks[1])
    second[ACK] = (int.from_bytes(second[ACK], "big") + 100 * MIB & 0xFFFFFFFF).to_bytes(4, "big")
    return [sending.acks[0], bytes(second)]


@pytest.mark.parametrize("frames", [_repeated, _damaged, _finished, _backwards, _beyond])
def test_what_is_no_run_is_received_one_by_one(frames: Callable[[Sending], list[bytes]]) -> None:
    sending = Sending()
    chosen = frames(sending)
    assert sending.arrive(chosen) == len(chosen)


def test_acks_count_by_themselves_when_something_was_lost() -> None:
    sending = Sending()
    sending.conn.snd.board.mark_first_lost()
    assert sending.arrive(sending.acks[:2]) == 2


def test_lost_frame_behind_an_ack_loses_only_itself() -> None:
    sending = Sending()
    waiting = deque([memoryview(sending.acks[0]), None, memoryview(sending.acks[1])])

    def read() -> Frame | None:
        if not waiting:
            return None
        view = waiting.popleft()
        if view is None:
            raise OSError(5, "lost")
        return view, VALID

    with pytest.raises(OSError, match="lost"):
        sending.us.follow(Reading(read), lambda: sending.now, 1000, MIB)
    found = sending.us.follow(Reading(read), lambda: sending.now, 1000, MIB)[0]
    assert found is not None
    assert found[0] == sending.acks[0]
    found = sending.us.follow(Reading(read), lambda: sending.now, 1000, MIB)[0]
    assert found is not None
    assert found[0] == sending.acks[1]


def test_nothing_is_read_ahead_when_few_frames_are_wanted() -> None:
    sending = Sending()
    asked = []

    def read() -> Frame | None:
        asked.append(1)
        return memoryview(sending.acks[0]), VALID

    assert sending.us.follow(Reading(read), lambda: sending.now, 2, MIB)[0] is not None
    assert len(asked) == 1
