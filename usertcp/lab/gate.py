"""The gate: where a scenario stands on the wire between usertcp and the kernel.

It is a middleware over the TAP. It lets one frame a turn through to the stack, so that the states beside a rung are
those that this one segment made; a rule may drop a TCP segment or keep it back; forged segments enter here, in either
direction, as if their apparent sender had sent them. Everything that is TCP is entered into the ladder, with both
ends' states as they are once the segment has been dealt with. ARP, ICMP and whatever else the kernel chats pass
unseen. The gate does not interpret what it lets through.
"""

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol

from usertcp.errors import WireError
from usertcp.frame import PLAIN, FrameMeta
from usertcp.lab.ladder import Fate, Ladder, Rung
from usertcp.link.base import Link
from usertcp.link.middleware import Middleware
from usertcp.wire import ethernet, ipv4, tcp

Ports = tuple[int, int]  # usertcp's port, the kernel's port


class Verdict(Enum):
    """What a rule decides about one segment."""

    PASS = "pass"
    DROP = "drop"
    HOLD = "hold"


Rule = Callable[[bool, tcp.Segment], Verdict]  # (outgoing, segment); borrowed until it returns


class Watch(Protocol):
    """Who knows both ends' states."""

    def ours(self, ports: Ports) -> str:
        """usertcp's state."""
        ...

    def kernels(self, ports: Ports) -> str:
        """The kernel's state."""
        ...


class Gate(Middleware):
    """See the module. ``zero`` is the time (ns) from which the ladder counts.

    ``rule``     decides about every TCP segment; None: all pass
    ``arrived``  called when the stack has dealt with an incoming segment and has not yet answered it
    ``sent``     called when the kernel has been handed an outgoing segment
    ``closed``   nothing comes in while it is set; what the kernel sent waits in the device
    ``unseen``   segments that pass without a rung, as many as there are: a crowd that nobody wants to read
    """

    def __init__(self, inner: Link, ladder: Ladder, watch: Watch, zero: int) -> None:
        super().__init__(inner)
        inner.set_offload(False)
        self.caps = inner.caps
        self.ladder = ladder
        self.rule: Rule | None = None
        self.arrived: Callable[[], None] | None = None
        self.sent: Callable[[], None] | None = None
        self.closed = False
        self.unseen: Callable[[tcp.Segment], bool] = lambda seg: False
        self.zero = zero
        self._watch: Final = watch
        self._waiting: deque[tuple[bytes, Fate]] = deque()  # to be read: released and forged frames
        self._held: list[tuple[bool, bytes]] = []
        self._open_rung: Rung | None = None  # came in; the stack's state is not yet known
        self._one = False  # a frame was read in this turn

    def tick(self, now: int) -> None:
        super().tick(now)
        self.settle()
        self._one = False

    def next_deadline(self) -> int:
        return self.now if self._waiting and not self.closed else self.inner.next_deadline()

    def read(self) -> tuple[memoryview, FrameMeta] | None:
        self.settle()
        if self._one or self.closed:
            return None
        while True:
            fate = Fate.DELIVERED
            if self._waiting:
                frame, fate = self._waiting.popleft()
                view = memoryview(frame)
            else:
                got = self.inner.read()
                if got is None:
                    return None
                view = got[0]
            seg = segment_of(view)
            if seg is None or self.unseen(seg):
                return view, PLAIN
            if fate is Fate.DELIVERED and self._stopped(False, seg, view):
                continue
            self._one = not self.ladder.folding
            self._open_rung = self._enter(False, seg, fate)
            return view, PLAIN

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        self.settle()
        frame = b"".join((header, *payload))
        view = memoryview(frame)
        seg = segment_of(view)
        if seg is None or self.unseen(seg):
            return self.inner.send(header, payload, meta)
        if self._stopped(True, seg, view):
            return True
        return self._deliver(frame, seg, Fate.DELIVERED)

    def settle(self) -> None:
        """The last incoming segment has been dealt with: note our state, and tell ``arrived``."""
        rung, self._open_rung = self._open_rung, None
        if rung is None:
            return
        rung.ours = self._watch.ours(rung.flow)
        if self.arrived is not None:
            self.arrived()

    def release(self, now: int) -> int:
        """Let the segments go that were kept back; how many there were."""
        self.now = now
        held, self._held = self._held, []
        for outgoing, frame in held:
            seg = segment_of(memoryview(frame))
            assert seg is not None
            if outgoing:
                self._deliver(frame, seg, Fate.RELEASED)
            else:
                self._waiting.append((frame, Fate.RELEASED))
        return len(held)

    def forge(self, frame: bytes, *, outgoing: bool) -> None:
        """Put ``frame`` on the wire: ``outgoing`` to the kernel as if we had sent it, else to us at the next turn."""
        if not outgoing:
            self._waiting.append((frame, Fate.FORGED))
            return
        seg = segment_of(memoryview(frame))
        assert seg is not None, "only TCP is forged"
        self._deliver(frame, seg, Fate.FORGED)

    def _deliver(self, frame: bytes, seg: tcp.Segment, fate: Fate) -> bool:
        if not self.inner.send(frame, [], PLAIN):
            return False
        if self.sent is not None:
            self.sent()
        self._enter(True, seg, fate)
        return True

    def _stopped(self, outgoing: bool, seg: tcp.Segment, view: memoryview) -> bool:
        """Ask the rule; True if the segment goes no further."""
        verdict = Verdict.PASS if self.rule is None else self.rule(outgoing, seg)
        if verdict is Verdict.PASS:
            return False
        if verdict is Verdict.HOLD:
            self._held.append((outgoing, bytes(view)))
        rung = self._enter(outgoing, seg, Fate.LOST if verdict is Verdict.DROP else Fate.WITHHELD)
        if rung is not None:
            rung.ours = self._watch.ours(rung.flow)
        return True

    def _enter(self, outgoing: bool, seg: tcp.Segment, fate: Fate) -> Rung | None:
        rung = self.ladder.segment(self.now - self.zero, outgoing, seg, fate)
        if rung.folded:
            return None
        rung.kernels = self._watch.kernels(rung.flow)
        if outgoing:
            rung.ours = self._watch.ours(rung.flow)
        return rung


def segment_of(frame: memoryview) -> tcp.Segment | None:
    """The TCP segment in an Ethernet frame; None if there is none."""
    try:
        if ethernet.parse(frame).ethertype != ethernet.IPV4:
            return None
        packet = ipv4.parse(frame[ethernet.HEADER_LEN :])
        return tcp.parse(packet.payload) if packet.proto == ipv4.TCP else None
    except WireError:
        return None


def drop_first(count: int, matches: Callable[[bool, tcp.Segment], bool]) -> Rule:
    """A rule that drops the first ``count`` segments that match."""
    left = count

    def rule(outgoing: bool, seg: tcp.Segment) -> Verdict:
        nonlocal left
        if left and matches(outgoing, seg):
            left -= 1
            return Verdict.DROP
        return Verdict.PASS

    return rule
