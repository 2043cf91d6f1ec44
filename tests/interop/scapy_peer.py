"""A peer made of scapy: it builds every segment by hand, sends it through a real TAP, and dissects every reply.

The stack's side of the TAP is a pump turned by the test; its clock is a number that the test advances, so that nothing
here waits for a timer. The kernel's side has no IP address and scapy has a hardware address of its own, so that the
kernel takes no part in the conversation (and resets nothing). scapy only builds and dissects: the frames go through a
raw AF_PACKET socket, which does not depend on scapy's view of the interfaces.
"""

import os
import select
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import ARP, Ether

from usertcp.driver.base import Pump
from usertcp.link import provision
from usertcp.link.tap import TapLink
from usertcp.net.stack import Stack, StackConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.listener import Listener
from usertcp.tcp.state import State
from usertcp.units import MASK32, MS

MAC: Final = "02:00:5e:00:00:99"
ADDRESS: Final = "10.9.0.1"
STACK: Final = "10.9.0.2"
SETTLE: Final = 0.01  # seconds without a frame on either side: all was said
PATIENCE: Final = 30.0  # seconds until a frame that must come is missing
DEVICE: Final = "tap0"
ETH_P_ALL: Final = 3


class Clock:
    """The stack's time, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000 * MS

    def __call__(self) -> int:
        return self.now


@dataclass
class Bench:
    """One stack on a TAP, and the raw socket on the kernel's side of it."""

    stack: Stack
    pump: Pump
    clock: Clock
    wire: socket.socket
    replies: deque[Any] = field(default_factory=deque)

    def transmit(self, packet: Any) -> None:
        self.wire.send(bytes(packet))

    def settle(self, wanted: int = 0) -> None:
        """Turn the crank until both sides are quiet; with ``wanted``, until so many replies have come."""
        waited = 0.0
        while True:
            while self.pump.turn():
                pass
            patience = SETTLE if len(self.replies) >= wanted else PATIENCE - waited
            if patience <= 0:
                return
            waited += SETTLE
            ready, _, _ = select.select([self.wire.fileno(), self.pump.fileno()], [], [], min(patience, SETTLE))
            if self.wire.fileno() in ready:
                self._dissect()
            elif not ready and len(self.replies) >= wanted:
                return

    def _dissect(self) -> None:
        frame, where = self.wire.recvfrom(65536)
        if where[2] == socket.PACKET_OUTGOING:
            return
        packet = Ether(frame)
        if ARP in packet and packet[ARP].op == 1 and packet[ARP].pdst == ADDRESS:
            mine = ARP(op=2, hwsrc=MAC, psrc=ADDRESS, hwdst=packet.src, pdst=STACK)
            self.transmit(Ether(src=MAC, dst=packet.src) / mine)
        elif TCP in packet and packet[IP].src == STACK:
            self.replies.append(packet[IP])

    def advance(self, nanoseconds: int) -> None:
        """Let the stack's time pass, timer by timer."""
        until = self.clock.now + nanoseconds
        while (deadline := self.pump.deadline(self.clock.now)) <= until:
            self.clock.now = max(deadline, self.clock.now)
            self.settle()
        self.clock.now = until
        self.settle()

    def connection(self) -> Connection:
        """The only connection of the stack."""
        (conn,) = self.stack.connections()
        return conn


class Peer:
    """One end of a conversation, played by hand.

    ``seq``   the number of our next byte; ``ack``: the next that we expect of the stack. Both move only as the test
              says (``say`` does not count what it sends: a test may say anything twice, or out of place)
    """

    def __init__(self, bench: Bench, port: int, stack_port: int, seq: int) -> None:
        self.bench = bench
        self.port = port
        self.stack_port = stack_port
        self.seq = seq
        self.ack = 0
        self.mac = ":".join(f"{byte:02x}" for byte in bench.pump.link.caps.mac or b"")

    def say(
        self,
        flags: str,
        seq: int | None = None,
        ack: int | None = None,
        payload: bytes = b"",
        *,
        window: int = 65535,
        options: list[Any] | None = None,
        urgent: int = 0,
    ) -> None:
        """Send one segment; without ``seq`` and ``ack`` at our place in the conversation."""
        segment = TCP(
            sport=self.port,
            dport=self.stack_port,
            flags=flags,
            seq=(self.seq if seq is None else seq) & MASK32,
            ack=(self.ack if ack is None else ack) & MASK32 if "A" in flags or ack is not None else 0,
            window=window,
            options=options or [],
            urgptr=urgent,
        )
        self.bench.transmit(Ether(src=MAC, dst=self.mac) / IP(src=ADDRESS, dst=STACK) / segment / payload)

    def hear(self) -> Any:
        """The one segment that the stack answers with; its checksums verified by scapy."""
        self.bench.settle(1)
        replies = self.bench.replies
        assert len(replies) == 1, f"one reply was due: {[reply.summary() for reply in replies]}"
        packet = replies.popleft()
        again = packet.copy()
        del again[IP].chksum, again[TCP].chksum
        again = IP(bytes(again))
        assert (again[IP].chksum, again[TCP].chksum) == (packet[IP].chksum, packet[TCP].chksum)
        segment = packet[TCP]
        assert (segment.dport, segment.sport) == (self.port, self.stack_port)
        return segment

    def expect(self, flags: str, seq: int, ack: int | None, payload: bytes = b"") -> Any:
        """The one reply has these flags, numbers and text. ``ack`` None: it carries no ACK, and the field is 0."""
        segment = self.hear()
        text = bytes(segment.payload)
        found = (str(segment.flags), segment.seq, segment.ack, text)
        assert found == (flags, seq & MASK32, (ack or 0) & MASK32, payload)
        return segment

    def silence(self) -> None:
        """Nothing comes back."""
        self.bench.settle()
        assert not self.bench.replies, [reply.summary() for reply in self.bench.replies]

    def open(self, listener: Listener, *, options: list[Any] | None = None) -> Connection:
        """A handshake with the stack's listener; the accepted connection, ESTABLISHED."""
        self.say("S", options=options)
        answer = self.hear()
        assert str(answer.flags) == "SA"
        assert answer.ack == (self.seq + 1) & MASK32
        self.seq += 1
        self.ack = answer.seq + 1
        self.say("A", options=[("NOP", None), ("NOP", None), *self._echo(answer)] if self._echo(answer) else None)
        self.silence()
        conn = listener.accept()
        assert conn is not None
        assert conn.state is State.ESTABLISHED
        return conn

    @staticmethod
    def _echo(answer: Any) -> list[Any]:
        """The timestamp option that answers ``answer``'s, if it has one."""
        return [("Timestamp", (value[0] and 101, value[0])) for name, value in answer.options if name == "Timestamp"]


@contextmanager
def open_bench() -> Iterator[Bench]:
    """Namespace, TAP, raw socket and stack; all gone afterwards."""
    with (
        provision.Namespace.create() as space,
        provision.create_tap(DEVICE, netns=space.name, address=None),
        TapLink.open(DEVICE, netns=space.name, offload=False) as link,
        space.run(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))) as wire,
    ):
        wire.bind((DEVICE, 0))
        clock = Clock()
        stack = Stack(StackConfig((f"{STACK}/24",)), link.caps, os.urandom)
        yield Bench(stack, Pump(stack, link, clock), clock, wire)
