"""AccECN (RFC 9768): marks are counted, and the counts repeated on every ACK.

RFC 3168 tells a sender once a round trip that there were marks. Here the receiver of text keeps four counters and shows
their lowest bits all the time, so that a lost ACK loses nothing and CWR is not needed::

    r.cep  segments with CE             3 bits, the ACE field (AE, CWR, ECE), on every segment
    r.ceb  bytes of text with CE        |
    r.e0b  bytes of text with ECT(0)    | 24 bits each, in the AccECN option
    r.e1b  bytes of text with ECT(1)    |

The sender of text keeps s.cep and so on, and adds what the fields advanced. Three bits come round after eight marks: an
ACK for many segments is ambiguous unless an option says by how many bytes. The option is sent when a counter has moved
since the last ACK (§3.2.3.3), with every counter that ever moved, as room allows. An ACK is sent at once when marks
begin, and for every second one (§3.2.2.5.1).

In the handshake the same three bits say what became of the IP header's code point (§3.1.1, §3.2.2.1). Our SYN and
SYN,ACK say Not-ECT; if anything else arrived, something on the path writes into the field, and our text says Not-ECT
from then on (§3.2.2.3). So it does after a handshake that one of the two had to do without the flags, and when the
peer's feedback is no feedback: all zero (§3.2.2.4), or contradicting itself (§3.2.3.2.5).

Not done: no cache of paths that block the option or the flags; a path that marks everything is not told from one that
is congested; ACKs with the option that vanish are noticed in the handshake alone.
"""

from typing import TYPE_CHECKING, Final

from usertcp.tcp.ecn import Feedback, segments
from usertcp.tcp.ecn_policy import ASKS_ACCURATE, ASKS_CLASSIC, ASKS_NOTHING, asks
from usertcp.tcp.receiver import ACK_NOW
from usertcp.units import MASK32
from usertcp.wire.ecn import CE, ECT_0, ECT_1, NOT_ECT
from usertcp.wire.tcp import ACCECN0, ACCECN1, ACE_SHIFT, ACK, FIN, MAX_OPTIONS_LEN, SYN, Options, Segment, accecn

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection

HANDSHAKE: Final = (0b010, 0b011, 0b100, 0b110)  # by the code point that arrived: Table 2 (§3.1.2), Table 3 (§3.2.2.1)
FIRST_CEP: Final = 5  # the counters' first values (§3.2.1): not 0, so that a zeroed field is recognized
FIRST: Final = (1, 0, 1)  # of e0b, ceb, e1b
E0B, CEB, E1B = 0, 1, 2  # where in a list of counters

DIVACE: Final = 8  # values of the ACE field
DIVOPT: Final = 1 << 24  # values of a field of the option
SAFETY_FACTOR: Final = 2  # marked segments are at least half full (§A.2.2)
RARELY_ACKED: Final = DIVACE // 2  # segments an ACK; where that is usual, many are no sign of lost ones (§A.2.1)
MARKS_AN_ACK: Final = 2  # while there is text to acknowledge (§3.2.2.5.1)
MARKS_WITHOUT_TEXT: Final = 3  # else, so that two ends that mark each other's ACKs come to rest
CONTRADICTIONS: Final = 3  # ACKs in a row with bytes marked and no segment, before they count as mangled (§3.2.3.2.5)
SHORT: Final = 8  # bytes of an option with two counters, padded; with one it takes as many
LONG: Final = 12  # with three

_COUNTER: Final = {ECT_0: E0B, CE: CEB, ECT_1: E1B}
_ARRIVED: Final = {bits: code for code, bits in enumerate(HANDSHAKE)}


def arrived(flags: int) -> int:
    """The code point with which our SYN arrived, as the SYN,ACK's flags tell, or our SYN,ACK, as those of its ACK; -1:
    they tell nothing."""
    return _ARRIVED.get(flags >> ACE_SHIFT & 7, -1)


class Received:
    """The half that receives text: r.cep, r.e0b, r.ceb, r.e1b, and how they are told."""

    __slots__ = ("_told", "cep", "counters", "last_ce", "option_works", "pending", "telling")

    def __init__(self) -> None:
        self.cep = FIRST_CEP
        self.counters = FIRST
        self._told = FIRST  # what the last option that left said
        self.telling: tuple[int, int, int] | None = None  # what the one now on its way to the sink says
        self.option_works = True
        self.last_ce = False  # the segment before was marked
        self.pending = 0  # marks since the last ACK

    def count(self, seg: Segment) -> bool:
        """``seg`` is acceptable. True: marks have begun."""
        code, size = seg.ecn, len(seg.payload)
        begun = False
        if code == CE:
            marks = segments(seg)
            self.cep += marks
            self.pending += marks
            begun = not self.last_ce
        self.last_ce = code == CE
        if size and code != NOT_ECT:
            counters = list(self.counters)
            counters[_COUNTER[code]] += size
            self.counters = (counters[E0B], counters[CEB], counters[E1B])
        return begun

    def option(self, room: int, always: bool) -> bytes:
        """The option for a segment with ``room`` bytes left, if a counter moved since the last one or it is sent
        ``always``; b"" also when what moved has no room (§3.2.3.3). Two counters take as much as one."""
        self.telling = None
        e0b, ceb, e1b = counters = self.counters
        told = self._told
        if not self.option_works or room < SHORT or (counters == told and not always):
            return b""
        if e1b == FIRST[E1B] and e0b != FIRST[E0B]:  # the usual case: the peer says ECT(0)
            out = accecn(ACCECN0, (e0b, ceb))
        elif e0b == FIRST[E0B] and e1b != FIRST[E1B]:
            out = accecn(ACCECN1, (e1b, ceb))
        elif room >= LONG:
            out = accecn(ACCECN0, counters)
        elif e1b == told[E1B]:
            out = accecn(ACCECN0, (e0b, ceb))
        elif e0b == told[E0B]:
            out = accecn(ACCECN1, (e1b, ceb))
        else:
            return b""
        self.telling = counters
        return out

    def on_sent(self) -> None:
        """A segment left with the ACE field, and with the option if one was built for it."""
        self.pending = 0
        if self.telling is not None:
            self._told = self.telling


class Reported:
    """The half that sends text: s.cep, s.e0b, s.ceb, s.e1b, brought up by what the peer tells."""

    __slots__ = ("_contradictions", "_guessed", "_per_ack", "_ts", "cep", "counters", "option_works")

    def __init__(self) -> None:
        self.cep = FIRST_CEP
        self.counters = list(FIRST)
        self.option_works = True
        self._guessed = 0  # marked bytes inferred from ACE alone, which an option may yet tell
        self._per_ack = 0  # eight times the segments that an ACK delivers, averaged
        self._ts = -1  # the newest timestamp on an ACK, wire-sized
        self._contradictions = 0

    @property
    def contradictory(self) -> bool:
        """Whether bytes were marked, again and again, and no segment."""
        return self._contradictions >= CONTRADICTIONS

    def check_option(self, options: Options) -> None:
        """The first option there is: fields that start from 1 cannot be 0 (§3.2.3.2.4)."""
        if options.accecn is not None and 0 in (options.accecn[E0B], options.accecn[E1B]):
            self.option_works = False

    def read(self, seg: Segment, delivered: int, mss: int) -> tuple[int, int]:
        """(segments, bytes) newly told as marked by ``seg``, which delivers ``delivered`` bytes; (0, 0) if a newer ACK
        has been read: it delivers nothing, and was not sent later either (§A.1)."""
        if not self._is_newer(seg.options) and not delivered:
            return 0, 0
        packets = -(-delivered // mss)
        least = (seg.flags >> ACE_SHIFT) - self.cep & DIVACE - 1
        ceb = self._read_option(seg.options)
        marks = self._safest_likely(least, packets, ceb, mss)
        self._per_ack += packets - (self._per_ack >> 3)
        self.cep += marks
        if ceb < 0:
            guess = marks * mss
            self._guessed += guess
            return marks, guess
        if marks or not ceb or packets >= DIVACE:
            self._contradictions = 0
        else:
            self._contradictions += 1
        told, self._guessed = max(0, ceb - self._guessed), 0
        return marks, told or (marks and min(mss, delivered))

    def _is_newer(self, options: Options) -> bool:
        """Whether a timestamp shows that the ACK was sent after the last one read."""
        if not options.has_ts or (self._ts >= 0 and not 0 < options.tsval - self._ts & MASK32 < 1 << 31):
            return False
        self._ts = options.tsval
        return True

    def _read_option(self, options: Options) -> int:
        """Take the counters of the option; the bytes newly marked, -1 if there is none to tell. A counter that is left
        out has not moved (§3.2.3); what runs backwards is not believed."""
        fields = options.accecn
        if fields is None or not self.option_works:
            return -1
        counters = self.counters
        steps = [
            field - counter & DIVOPT - 1 if field >= 0 else 0 for field, counter in zip(fields, counters, strict=True)
        ]
        if max(steps) >= DIVOPT // 2:
            return -1
        self.counters = [counter + step for counter, step in zip(counters, steps, strict=True)]
        return steps[CEB]

    def _safest_likely(self, least: int, packets: int, ceb: int, mss: int) -> int:
        """Marked segments: the ACE field says ``least``, or eight more, or sixteen... (§3.2.2.5.2, §A.2).

        ``packets`` is how many segments the delivered bytes take at least. They were more if some were not full: so
        marked bytes that ``least`` segments cannot hold are heeded first.
        """
        while ceb > mss * least and SAFETY_FACTOR * min(packets, ceb // mss) >= least + DIVACE:
            least += DIVACE
        if packets < least + DIVACE:
            return least
        most = packets - (packets - least) % DIVACE
        if ceb < 0:
            return most if self._per_ack < RARELY_ACKED << 3 else least
        if ceb <= mss * least and ceb * SAFETY_FACTOR < mss * most:
            return least
        return most


class Accurate(Feedback):
    """An AccECN connection, begun by ``seg``: the peer's SYN, or its SYN,ACK.

    ``sends_ect``: our text may say ECT; ``_responds``: we believe the peer's feedback. We go on telling ours in any
    case (§3.1.5).
    """

    __slots__ = (
        "_fresh",
        "_introduce_ack",
        "_introduce_text",
        "_responds",
        "_syn_arrived",
        "_syn_marked",
        "_synack_counted",
        "received",
        "reported",
        "sends_ect",
    )

    name = "accurate"
    accurate = True
    level = ASKS_ACCURATE

    def __init__(self, seg: Segment) -> None:
        super().__init__()
        self.received = Received()
        self.reported = Reported()
        self.sends_ect = True
        self._responds = True
        self._fresh = True  # no ACE field was read yet
        self._syn_arrived = seg.ecn  # the code point of the peer's latest SYN or SYN,ACK
        self._syn_marked = False  # our SYN, or SYN,ACK, arrived with CE
        self._synack_counted = False
        self._introduce_ack = self._introduce_text = False  # the first of each carries the option, whatever was counted
        if seg.flags & ACK:
            self._begin_as_client(seg)

    # --- the handshake (§3.1, §3.2.2.1, §3.2.3.2.1, .2) --------------------------------------------------------------

    def _begin_as_client(self, seg: Segment) -> None:
        self._look_for_mangling(arrived(seg.flags))
        self._count_synack(seg)
        self.reported.check_option(seg.options)
        self._introduce_ack = self._introduce_text = True

    def _look_for_mangling(self, code: int) -> None:
        """Our SYN or SYN,ACK arrived with ``code``; it left as Not-ECT (§3.2.2.3)."""
        if code > NOT_ECT:
            self.sends_ect = False
            self._syn_marked = code == CE

    def _count_synack(self, seg: Segment) -> None:
        """Its mark counts once, however often it comes (§3.2.2.2)."""
        self._syn_arrived = seg.ecn
        if seg.ecn == CE and not self._synack_counted:
            self._synack_counted = True
            self.received.cep += 1
            self.received_ce += 1

    @property
    def granted(self) -> int:
        return HANDSHAKE[self._syn_arrived] << ACE_SHIFT

    def opening(self, conn: "Connection") -> tuple[int, bytes]:
        """SYN,ACK. The first has the option, the second does without, the third without the flags (§3.2.3.2.2)."""
        if conn.snd.retries:
            self.received.option_works = False
        if conn.snd.retries > 1:
            return 0, b""
        return self.granted, self.received.option(LONG, always=True)

    def on_opening_sent(self, flags: int) -> None:
        if not flags:
            self.sends_ect = False  # the peer may have taken that for the answer (§3.1.5)

    def on_syn_again(self, seg: Segment) -> bool:
        """§3.1.5: the mode stays, and the latest SYN's code point is reported; one that asks for RFC 3168 is an error.
        One that asks again may mean that the option did not get through, one that does not that our text must not say
        ECT."""
        asked = asks(seg.flags)
        self._syn_arrived = seg.ecn
        if asked == ASKS_NOTHING:
            self.sends_ect = False
        else:
            self.received.option_works = False
        return asked != ASKS_CLASSIC

    def on_established(self, conn: "Connection", seg: Segment) -> None:
        """Of a server: the ACK of its SYN,ACK, if it is pure, says how that arrived (§3.2.2.1 Table 4). When both
        opened at once it is a SYN,ACK, perhaps one that was sent without the flags in the end (§3.1.5)."""
        if seg.flags & SYN:
            self.sends_ect = self.sends_ect and asks(seg.flags) != ASKS_NOTHING
        else:
            self.reported.check_option(seg.options)
            if is_pure(seg):
                self._look_for_mangling(arrived(seg.flags))
                self._check_first(seg)
                if self._syn_marked:
                    self.reported.cep += 1
                    self.delivered_ce += 1
            else:
                self._syn_marked = self.marked(conn, seg, 1) > 0
        if self._syn_marked and self._responds:
            conn.snd.cc.on_syn_lost()  # what the loss of it would have led to (RFC 5681 §3.1)

    def on_synack_again(self, seg: Segment) -> None:
        """Our ACK did not arrive; perhaps for its option. How the latest arrived is told, with flags or without."""
        self.received.option_works = False
        self._count_synack(seg)
        self._introduce_ack = True

    def ack_first(self) -> bool:
        return self._introduce_ack

    # --- what we send ------------------------------------------------------------------------------------------------

    def flags(self, conn: "Connection", new: bool, pure: bool) -> int:
        ace = HANDSHAKE[self._syn_arrived] if pure and self._introduce_ack else self.received.cep & DIVACE - 1
        return ace << ACE_SHIFT

    def code_point(self, new: bool) -> int:
        return ECT_0 if new and self.sends_ect else NOT_ECT

    def option(self, conn: "Connection", room: int, text: bool) -> bytes:
        snd = conn.snd
        if snd.retries and snd.una == snd.iss + 1:  # our first text vanished; perhaps for its option
            self.received.option_works = False
        return self.received.option(room, self._introduce_ack or (text and self._introduce_text))

    def on_sent(self, conn: "Connection", new: bool) -> None:
        self.received.on_sent()
        self._introduce_ack = False
        if new:
            self._introduce_text = False

    # --- what arrives ------------------------------------------------------------------------------------------------

    def on_arrival(self, conn: "Connection", seg: Segment, seq: int) -> None:
        """Count, and see whether the peer must hear of it at once (§3.2.2.5.1). ACKs of ACKs are sent to a peer with
        SACK alone, which can tell them from duplicates."""
        received = self.received
        before = received.cep
        begun = received.count(seg)
        self.received_ce += received.cep - before
        if not received.pending:
            return
        if seg.payload:
            due = begun or received.pending >= MARKS_AN_ACK
        elif conn.rcv.nxt > conn.rcv.last_ack_sent:
            due = received.pending >= MARKS_AN_ACK
        else:
            due = received.pending >= MARKS_WITHOUT_TEXT and conn.sack_ok
        if due:
            conn.rcv.ack = ACK_NOW

    def marked(self, conn: "Connection", seg: Segment, delivered: int) -> int:
        self._check_first(seg)
        marks, size = self.reported.read(seg, delivered, conn.snd.cc.mss)
        self.delivered_ce += marks
        if self.reported.contradictory:
            self.sends_ect = False
        return size if self._responds else 0

    def _check_first(self, seg: Segment) -> None:
        """The first ACE field after the handshake is not zero, or there is no feedback (§3.2.2.1 Note 1, §3.2.2.4)."""
        if self._fresh and not seg.flags >> ACE_SHIFT & 7:
            self.sends_ect = self._responds = False
        self._fresh = False


def is_pure(seg: Segment) -> bool:
    """Whether ``seg`` is an ACK and nothing else, without SACK blocks."""
    return not seg.payload and not seg.flags & (SYN | FIN) and not seg.options.sack


assert LONG <= MAX_OPTIONS_LEN
