"""The ladder: every segment between two ends in the order it passed the wire, with both ends' states beside it.

A rung is one segment, a note is a line between two rungs. Sequence numbers are kept both as they were on the wire (the
checks want those) and relative to the initial sequence number of the side that counts them (people want those), as
RFC 9293 draws its figures with small numbers. The left lifeline is usertcp, the right one the kernel. A ladder only
remembers; who looks at the wire is ``gate``, who draws is ``text`` and ``svg``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from usertcp.units import MASK32
from usertcp.wire.tcp import ACK, FIN, PSH, RST, SYN, URG, Segment

_NAMES: Final = ((SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (PSH, "PSH"), (URG, "URG"), (ACK, "ACK"))


def flag_names(flags: int) -> str:
    """``flags`` as the articles write them: ``SYN``, ``SYN+ACK``, ``FIN+ACK``; without PSH, which moves no state."""
    return "+".join(name for bit, name in _NAMES if flags & bit and bit != PSH) or "none"


def _relative(number: int, isn: int) -> int | None:
    """``number`` counted from ``isn`` (-1: not known); what lies before it is negative."""
    if isn < 0:
        return None
    distance = (number - isn) & MASK32
    return distance if distance < 1 << 31 else distance - (1 << 32)


class Fate(Enum):
    """What became of a segment between the two lifelines."""

    DELIVERED = "delivered"
    LOST = "lost"  # taken off the wire by the scenario
    WITHHELD = "withheld"  # kept back by the scenario, perhaps delivered later
    RELEASED = "released"  # delivered after it had been kept back
    FORGED = "forged"  # put on the wire by the scenario: its apparent sender knows nothing of it


@dataclass(slots=True)
class Rung:
    """One segment, or with ``count > 1`` a run of data segments and their ACKs folded into one line.

    ``at``          ns since the ladder began
    ``outgoing``    from usertcp (left) to the kernel (right)
    ``seq, ack``    as on the wire, 32 bits
    ``rel_seq``     ``seq`` relative to the sender's ISN, ``rel_ack`` to the receiver's; None: that is not known
    ``length``      payload bytes; of a run those of all its segments, each byte counted once
    ``ours, kernels``  the states once the segment had its effect
    """

    at: int
    outgoing: bool
    flow: tuple[int, int]
    flags: int
    seq: int
    ack: int
    rel_seq: int | None
    rel_ack: int | None
    length: int
    fate: Fate = Fate.DELIVERED
    retransmission: bool = False
    ours: str = ""
    kernels: str = ""
    count: int = 1
    folded: bool = False  # it went into an earlier rung and is none of its own

    @property
    def name(self) -> str:
        """The flags in words."""
        return flag_names(self.flags)

    @property
    def label(self) -> str:
        """What stands on the arrow."""
        if self.count > 1:
            return f"{self.count:,} segments, {self.length:,} bytes" if self.length else f"{self.count:,} ACKs"
        text = self.name
        if self.rel_seq is not None:
            text += f" seq={self.rel_seq}"
        if self.rel_ack is not None:
            text += f" ack={self.rel_ack}"
        if self.length:
            text += f" len={self.length:,}"
        return text

    @property
    def remark(self) -> str:
        """What stands beside the label: the fate, when it is not the usual one."""
        words = []
        if self.retransmission:
            words.append("again")
        if self.fate is not Fate.DELIVERED:
            words.append(self.fate.value)
        return ", ".join(words)


@dataclass(slots=True)
class Note:
    """A line of words between two rungs: a call of the program, a timer, or the heading of a part."""

    at: int
    text: str
    heading: bool = False
    ours: str = ""
    kernels: str = ""


@dataclass(slots=True)
class _Flow:
    """The ISNs of one connection and how far each side has come; index 0 is ours, 1 the kernel's."""

    isn: list[int] = field(default_factory=lambda: [-1, -1])
    high: list[int] = field(default_factory=lambda: [-1, -1])
    syn: list[int] = field(default_factory=lambda: [0, 0])  # the flags of the last SYN


@dataclass(slots=True)
class Ladder:
    """The lines of one run. ``left`` and ``right`` name the lifelines."""

    title: str
    left: str = "usertcp"
    right: str = "kernel"
    lines: list[Rung | Note] = field(default_factory=list)
    _flows: dict[tuple[int, int], _Flow] = field(default_factory=dict)
    folding: bool = False  # see ``fold``
    _fold_from: int = 0  # the line from which on they may run together

    def segment(self, at: int, outgoing: bool, seg: Segment, fate: Fate = Fate.DELIVERED) -> Rung:
        """Enter ``seg``, seen ``at`` ns after the beginning; the flow is (our port, the kernel's port)."""
        ports = (seg.sport, seg.dport) if outgoing else (seg.dport, seg.sport)
        flow = self._flows.setdefault(ports, _Flow())
        mine, theirs = (0, 1) if outgoing else (1, 0)
        if seg.flags & SYN and flow.isn[mine] != seg.seq:
            if not seg.flags & ACK:
                flow.isn[theirs] = flow.high[theirs] = -1  # a new connection begins
            flow.isn[mine], flow.high[mine] = seg.seq, -1
        rel_seq = _relative(seg.seq, flow.isn[mine])
        rel_ack = _relative(seg.ack, flow.isn[theirs]) if seg.flags & ACK else None
        again, fresh = False, len(seg.payload)
        if rel_seq is not None and rel_seq >= 0 and seg.length and fate is not Fate.FORGED:
            end = rel_seq + seg.length
            again = fate is not Fate.RELEASED and end <= flow.high[mine]
            fresh = min(fresh, max(0, end - flow.high[mine])) if flow.high[mine] >= 0 else fresh
            flow.high[mine] = max(flow.high[mine], end)
            if seg.flags & SYN:
                again &= flow.syn[mine] == seg.flags  # SYN, then SYN+ACK: the SYNs crossed
                flow.syn[mine] = seg.flags
        rung = Rung(at, outgoing, ports, seg.flags, seg.seq, seg.ack, rel_seq, rel_ack, len(seg.payload), fate, again)
        rung.folded = self._folded(rung, fresh)
        if not rung.folded:
            self.lines.append(rung)
        return rung

    def note(self, at: int, text: str, ours: str = "", kernels: str = "") -> None:
        """Enter a line of words, with the states at that moment."""
        self.lines.append(Note(at, text, ours=ours, kernels=kernels))

    def heading(self, at: int, text: str) -> None:
        """Begin a part."""
        self.lines.append(Note(at, text, heading=True))

    def fold(self, on: bool) -> None:
        """While on, data segments and pure ACKs of each direction run together into one rung."""
        self.folding = on
        self._fold_from = len(self.lines)

    def rungs(self, *, outgoing: bool | None = None, flags: int | None = None, after: int = 0) -> list[Rung]:
        """The segments from line ``after`` on; of one direction and with just these flags (PSH apart) if asked."""
        return [
            line
            for line in self.lines[after:]
            if isinstance(line, Rung)
            and (outgoing is None or line.outgoing == outgoing)
            and (flags is None or line.flags & ~PSH == flags)
        ]

    def states(self, *, ours: bool, after: int = 0) -> list[str]:
        """One side's states in the order they were seen, each once in a row."""
        seen: list[str] = []
        for line in self.lines[after:]:
            state = line.ours if ours else line.kernels
            if state and (not seen or seen[-1] != state):
                seen.append(state)
        return seen

    def __iter__(self) -> Iterator[Rung | Note]:
        return iter(self.lines)

    def _folded(self, rung: Rung, fresh: int) -> bool:
        """Add ``rung`` to the run of its direction among the last lines, if folding is on and it is nothing special.

        Of its bytes the run counts the ``fresh`` ones, those that were not sent before.
        """
        if not self.folding or rung.flags & (SYN | FIN | RST) or rung.fate is not Fate.DELIVERED:
            return False
        for line in reversed(self.lines[max(self._fold_from, len(self.lines) - 2) :]):
            if not isinstance(line, Rung) or line.flow != rung.flow:
                return False
            if line.flags & (SYN | FIN | RST) or line.fate is not Fate.DELIVERED:
                return False
            if line.outgoing == rung.outgoing:
                line.count += 1
                line.length += fresh
                return True
        return False
