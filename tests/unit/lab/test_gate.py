"""The gate: one segment a turn, losses, withheld and forged segments, and whose state is entered when."""

import pytest

from usertcp.frame import PLAIN
from usertcp.lab import forge
from usertcp.lab.gate import Gate, Ports, Verdict, drop_first, segment_of
from usertcp.lab.ladder import Fate, Ladder
from usertcp.link.memory import MemoryLink, memory_pair
from usertcp.wire import tcp
from usertcp.wire.tcp import ACK, RST, SYN

OUR_MAC, KERNEL_MAC = b"\x02\0\0\0\0\x02", b"\x02\0\0\0\0\x01"
OURS, KERNELS = "10.9.0.2", "10.9.0.1"
PORTS = (40000, 9000)


class World:
    """Both ends' states, as the test sets them."""

    def __init__(self) -> None:
        self.our_state, self.kernel_state = "SYN-SENT", "LISTEN"

    def ours(self, ports: Ports) -> str:
        assert ports == PORTS
        return self.our_state

    def kernels(self, ports: Ports) -> str:
        assert ports == PORTS
        return self.kernel_state


class Wire:
    """A gate over an in-memory link, and the kernel's end of it."""

    def __init__(self) -> None:
        self.world = World()
        inner, self.far = memory_pair()
        self.ladder = Ladder("test")
        self.gate = Gate(inner, self.ladder, self.world, 0)

    def turn(self) -> None:
        self.gate.tick(self.gate.now + 1)


@pytest.fixture
def wire() -> Wire:
    return Wire()


def frame(outgoing: bool, flags: int, seq: int = 1000, ack: int = 0, payload: bytes = b"") -> bytes:
    macs, addresses, ports = (OUR_MAC, KERNEL_MAC), (OURS, KERNELS), PORTS
    if not outgoing:
        macs, addresses, ports = macs[::-1], addresses[::-1], ports[::-1]
    return forge.frame(macs, addresses, ports, seq=seq, ack=ack, flags=flags, payload=payload)


def taken(link: MemoryLink | Gate) -> bytes | None:
    got = link.read()
    return None if got is None else bytes(got[0])


def test_forged_frame_is_a_right_segment() -> None:
    data = frame(True, ACK, 7, 8, b"odd")
    seg = segment_of(memoryview(data))
    assert seg is not None
    assert (seg.sport, seg.dport, seg.seq, seg.ack, seg.flags, bytes(seg.payload)) == (*PORTS, 7, 8, ACK, b"odd")
    addresses = data[26:30], data[30:34]
    assert tcp.verify(*addresses, memoryview(data)[34:])


@pytest.mark.parametrize("data", [b"", bytes(14), bytes(60), frame(True, SYN)[:40], b"\xff" * 60])
def test_frame_without_tcp_is_no_segment(data: bytes) -> None:
    assert segment_of(memoryview(data)) is None


def test_two_frames_waiting_one_comes_each_turn(wire: Wire) -> None:
    for seq in (1, 2):
        wire.far.send(frame(False, ACK, seq), [], PLAIN)
    wire.turn()
    assert taken(wire.gate) == frame(False, ACK, 1)
    assert taken(wire.gate) is None
    wire.turn()
    assert taken(wire.gate) == frame(False, ACK, 2)


def test_incoming_segment_our_state_is_entered_after_the_stack_dealt_with_it(wire: Wire) -> None:
    seen: list[str] = []
    wire.gate.arrived = lambda: seen.append(wire.world.our_state)
    wire.far.send(frame(False, SYN | ACK), [], PLAIN)
    wire.turn()
    assert taken(wire.gate) is not None
    wire.world.our_state = "ESTABLISHED"
    assert seen == []
    assert taken(wire.gate) is None
    assert seen == ["ESTABLISHED"]
    assert [(rung.ours, rung.kernels) for rung in wire.ladder.rungs()] == [("ESTABLISHED", "LISTEN")]


def test_outgoing_segment_kernels_state_is_entered_after_it_was_delivered(wire: Wire) -> None:
    def sent() -> None:
        wire.world.kernel_state = "SYN-RECEIVED"

    wire.gate.sent = sent
    assert wire.gate.send(frame(True, SYN), [], PLAIN)
    assert [(rung.ours, rung.kernels) for rung in wire.ladder.rungs()] == [("SYN-SENT", "SYN-RECEIVED")]
    assert taken(wire.far) == frame(True, SYN)


def test_drop_first_loses_as_many_as_asked_and_counts_as_taken(wire: Wire) -> None:
    wire.gate.rule = drop_first(2, lambda outgoing, seg: outgoing)
    assert all(wire.gate.send(frame(True, SYN), [], PLAIN) for _ in range(3))
    assert taken(wire.far) is not None
    assert taken(wire.far) is None
    assert [rung.fate for rung in wire.ladder.rungs()] == [Fate.LOST, Fate.LOST, Fate.DELIVERED]


def test_drop_incoming_the_next_one_comes_in_the_same_turn(wire: Wire) -> None:
    wire.gate.rule = drop_first(1, lambda outgoing, seg: not outgoing)
    for seq in (1, 2):
        wire.far.send(frame(False, ACK, seq), [], PLAIN)
    wire.turn()
    assert taken(wire.gate) == frame(False, ACK, 2)


def test_hold_then_release_delivers_both_directions_in_order(wire: Wire) -> None:
    wire.gate.rule = lambda outgoing, seg: Verdict.HOLD
    wire.gate.send(frame(True, ACK), [], PLAIN)
    wire.far.send(frame(False, ACK), [], PLAIN)
    wire.turn()
    assert taken(wire.gate) is None
    assert taken(wire.far) is None
    wire.gate.rule = None
    assert wire.gate.release(wire.gate.now) == 2
    assert taken(wire.far) == frame(True, ACK)
    assert wire.gate.next_deadline() <= wire.gate.now
    wire.turn()
    assert taken(wire.gate) == frame(False, ACK)
    fates = [rung.fate for rung in wire.ladder.rungs()]
    assert fates == [Fate.WITHHELD, Fate.WITHHELD, Fate.RELEASED, Fate.RELEASED]


def test_forge_goes_to_the_end_it_is_meant_for(wire: Wire) -> None:
    wire.gate.forge(frame(True, SYN), outgoing=True)
    wire.gate.forge(frame(False, RST), outgoing=False)
    assert taken(wire.far) == frame(True, SYN)
    wire.turn()
    assert taken(wire.gate) == frame(False, RST)
    assert {rung.fate for rung in wire.ladder.rungs()} == {Fate.FORGED}


def test_closed_gate_lets_nothing_in_until_it_opens(wire: Wire) -> None:
    wire.far.send(frame(False, ACK), [], PLAIN)
    wire.gate.closed = True
    wire.turn()
    assert taken(wire.gate) is None
    wire.gate.closed = False
    assert taken(wire.gate) == frame(False, ACK)


def test_frames_that_are_not_tcp_pass_unseen(wire: Wire) -> None:
    arp = b"\xff" * 6 + KERNEL_MAC + b"\x08\x06" + bytes(28)
    wire.gate.rule = lambda outgoing, seg: Verdict.DROP
    wire.far.send(arp, [], PLAIN)
    assert wire.gate.send(arp, [], PLAIN)
    wire.turn()
    assert taken(wire.gate) == arp
    assert taken(wire.far) == arp
    assert wire.ladder.lines == []
