"""What is in flight: one record for each burst that was sent, and what is known of its fate.

A record is a range of the sequence line (SYN and FIN count one). A burst of 64 KB is one record; it is split where an
acknowledgment, a SACK block or a retransmission cuts it, always between segments, and neighbours that were SACKed
become one again, so that there are about as many records as holes. Each is in one of three states::

      una                                                          nxt
       |  LOST  |  SACKED   |  IN FLIGHT  |  SACKED  |  IN FLIGHT   |
    ---+--------+-----------+-------------+----------+--------------+--->      pipe (RFC 6675 §4) = bytes IN FLIGHT

       IN FLIGHT --SACK--> SACKED       IN FLIGHT --held for lost--> LOST --sent again--> IN FLIGHT (retransmitted)

The same records hang, while they are in flight, on a second line by the time of their last transmission, which is the
order in which RACK looks at them (RFC 8985 §6.2). Who is lost is decided in ``rack`` and ``recovery``; what goes next
in ``sender``."""

from bisect import bisect_right
from collections.abc import Iterator
from heapq import heappop, heappush
from operator import attrgetter
from typing import Final, TypeAlias

IN_FLIGHT: Final = 0
LOST: Final = 1
SACKED: Final = 2
GONE: Final = 3  # acknowledged, or become part of another record

MAX_RECORDS: Final = 16384  # some 4 MB; beyond it reports that would make more are not believed

_END: Final = attrgetter("end")
_SENT_AT: Final = attrgetter("sent_at")


# For the delivery rate: bytes delivered so far; when the last was; when the sampling interval began; bytes lost so far;
# bytes in the network, the record's included; whether the user had no more to send.
Then: TypeAlias = tuple[int, int, int, int, int, bool]
UNKNOWN: Final[Then] = (0, 0, 0, 0, 0, False)


class Sent:
    """``[start, end)`` was sent, the last time at ``sent_at`` (ns), in segments of ``size`` bytes.

    ``retransmitted``: it was sent more than once. ``then``: how things stood when it was.
    """

    __slots__ = (
        "end",
        "newer",
        "older",
        "retransmitted",
        "sent_at",
        "size",
        "start",
        "state",
        "then",
    )
    __deletable__ = ("newer", "older")  # what mypyc must be told

    def __init__(self, start: int, end: int, sent_at: int, size: int) -> None:
        self.start = start
        self.end = end
        self.sent_at = sent_at
        self.size = size
        self.state = IN_FLIGHT
        self.retransmitted = False
        self.then = UNKNOWN
        self.older: Sent  # on the line by time, while in flight
        self.newer: Sent

    def split(self, at: int) -> "Sent":
        """Keep what is below ``at``, return a record of the rest."""
        rest = Sent(at, self.end, self.sent_at, self.size)
        rest.state = self.state
        rest.retransmitted = self.retransmitted
        rest.then = self.then
        self.end = at
        return rest


Fresh: TypeAlias = tuple[Sent, int, int]


class Scoreboard:
    """The records of everything sent and not acknowledged: ascending, disjoint, without gaps.

    ``in_flight``   bytes in the network (pipe, RFC 6675 §4)
    ``retrans``     of those, sent more than once
    ``lost``        bytes held for lost and not sent again yet
    ``sacked``      bytes that the peer has reported behind a gap, ``reports`` segments since there were none
    ``fresh``       what the ACK being processed delivers: (record, end of the part, bytes of it); its reader clears it
    """

    __slots__ = (
        "_lost_heap",
        "_records",
        "_serial",
        "_timeline",
        "fresh",
        "in_flight",
        "lost",
        "reports",
        "retrans",
        "sacked",
    )

    def __init__(self) -> None:
        self._records: list[Sent] = []  # indexing is what counts; acknowledging moves the rest once an ACK
        self._timeline = line = Sent(0, 0, 0, 0)  # its newer is the oldest in flight, its older the newest: a ring
        line.older = line.newer = line
        self._lost_heap: list[tuple[int, int, Sent]] = []  # by number; entries whose record is LOST no more are stale
        self._serial = 0
        self.fresh: list[Fresh] = []
        self.in_flight = self.retrans = self.lost = self.sacked = self.reports = 0

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Sent]:
        """The records, lowest first; they are not to be changed while iterating."""
        return iter(self._records)

    @property
    def first(self) -> Sent | None:
        """The record at SND.UNA."""
        return self._records[0] if self._records else None

    @property
    def last(self) -> Sent | None:
        """The record that ends at SND.NXT."""
        return self._records[-1] if self._records else None

    def clear(self) -> None:
        """Forget everything."""
        if not (self._records or self._lost_heap or self.fresh):
            return
        line = self._timeline
        while line.newer is not line:  # records point at each other: let them go one by one
            self._unlink(line.newer)
        self._records.clear()
        self._lost_heap.clear()
        self.fresh.clear()
        self.in_flight = self.retrans = self.lost = self.sacked = self.reports = 0

    # --- sending ------------------------------------------------------------------------------------------------------

    def push(self, start: int, end: int, now: int, size: int) -> Sent:
        """``[start, end)`` is sent for the first time at ``now`` (ns); it follows what was sent before."""
        records, line = self._records, self._timeline
        assert start < end
        assert not records or records[-1].end == start
        record = Sent(start, end, now, size)
        records.append(record)
        self.in_flight += end - start
        before = record.older = line.older
        before.newer = line.older = record
        record.newer = line
        return record

    def resend(self, start: int, end: int, now: int, size: int) -> list[Sent]:
        """``[start, end)`` is sent again at ``now`` (ns) in segments of ``size`` bytes: its records, split at its
        edges.

        What is sent again at once becomes one record, with the edges that its segments have on the wire; and what is in
        one turn, so that small segments do not make many.
        """
        records = self._records
        out: list[Sent] = []
        i = self._index(start)
        while i < len(records) and records[i].start < end:
            record = records[i]
            if record.start < start:
                self._split(i, start)
                i += 1
                continue
            if record.end > end:
                self._split(i, end)
            if record.state == SACKED:  # a window probe where the peer has thrown away what it reported
                self.sacked -= record.end - record.start
            else:
                self._take_out(record)
            record.state = IN_FLIGHT
            record.sent_at = now
            record.size = size
            record.retransmitted = True
            length = record.end - record.start
            self.in_flight += length
            self.retrans += length
            before = records[i - 1] if i else record
            if record.start > start or (
                before is not record
                and before.state == IN_FLIGHT
                and before.retransmitted
                and before.sent_at == now
                and before.size == size
                and not (before.end - before.start) % size
            ):
                before.end = record.end
                record.state = GONE
                del records[i]
            else:
                self._link_newest(record)
                out.append(record)
                i += 1
        return out

    # --- acknowledgments ----------------------------------------------------------------------------------------------

    def ack_to(self, una: int) -> None:
        """Forget what is below ``una``; what was not SACKed before goes to ``fresh``."""
        records = self._records
        gone = 0
        for record in records:
            start = record.start
            if start >= una:
                break
            end = record.end
            if record.state == SACKED:
                self.sacked -= min(end, una) - start
            else:
                upto = end if end < una else una
                self.fresh.append((record, upto, upto - start))
                self._account(record, start - upto)
            if end > una:
                record.start = una
                break
            if record.state == IN_FLIGHT:
                self._unlink(record)
            record.state = GONE
            gone += 1
        del records[:gone]

    def ack_in_order(self, una: int) -> Sent:
        """:meth:`ack_to` while all records are in flight, sent once, and lie before or around ``una``; the last record
        of which something was acknowledged. ``fresh`` stays as it is."""
        records, line = self._records, self._timeline
        self.in_flight -= una - records[0].start
        gone = 0
        for record in records:
            if record.end > una:
                break
            gone += 1
        for record in records[:gone]:  # on the line they are the oldest, in this order: the rest of it begins behind
            record.state = GONE
            after = record.newer
            del record.older, record.newer
        if gone:
            line.newer, after.older = after, line
        if gone == len(records) or records[gone].start >= una:
            record = records[gone - 1]
        else:
            record = records[gone]
            record.start = una
        del records[:gone]
        return record

    def sack(self, start: int, end: int) -> None:
        """The peer reports ``[start, end)``: whole segments of it that it did not report before go to ``fresh``."""
        records = self._records
        news = len(self.fresh)
        i = self._index(start)
        if i < len(records) and records[i].start < start and records[i].state != SACKED:
            self._cut_front(i, start, end)
            i += 1
        first = i
        while i < len(records) and records[i].start < end:
            record = records[i]
            if record.state != SACKED:
                if record.end > end:
                    at = record.start + (end - record.start) // record.size * record.size
                    if at == record.start or not self._may_split:
                        break
                    self._split(i, at)
                self._report(record)
            i += 1
        if len(self.fresh) > news:
            self._join_sacked(first, i)

    def _cut_front(self, i: int, start: int, end: int) -> None:
        """Cut the record at ``i``, which ``start`` is in, before the first segment that is wholly reported."""
        record = self._records[i]
        at = record.start - (record.start - start) // record.size * record.size
        if at < record.end and min(at + record.size, record.end) <= end and self._may_split:
            self._split(i, at)

    @property
    def _may_split(self) -> bool:
        """A report is advice (RFC 2018 §8): of a peer that crumbles the board no more are taken."""
        return len(self._records) < MAX_RECORDS

    def _report(self, record: Sent) -> None:
        length = record.end - record.start
        self.fresh.append((record, record.end, length))
        self._take_out(record)
        record.state = SACKED
        self.reports = (self.reports if self.sacked else 0) - -length // record.size
        self.sacked += length

    def _join_sacked(self, first: int, last: int) -> None:
        """Make one of the records from index ``first`` up to ``last``, all of them SACKed, and their SACKed
        neighbours."""
        records = self._records
        if first and records[first - 1].state == SACKED:
            first -= 1
        if last < len(records) and records[last].state == SACKED:
            last += 1
        records[first].end = records[last - 1].end
        for record in records[first + 1 : last]:
            record.state = GONE
        del records[first + 1 : last]

    def renege(self) -> None:
        """The peer has thrown away what it reported (RFC 2018 §8): believe nothing, hold it for lost."""
        for record in self._records:
            if record.state == SACKED:
                self.sacked -= record.end - record.start
                self._hold(record)

    # --- losses -------------------------------------------------------------------------------------------------------

    def oldest_in_flight(self) -> Sent | None:
        """The record in flight whose last transmission is the longest ago."""
        record = self._timeline.newer
        return None if record is self._timeline else record

    @property
    def first_flying_again(self) -> int:
        """When the first of what is under way for the second time was sent again (ns); -1: nothing is."""
        line = self._timeline
        record = line.newer
        while record is not line:
            if record.retransmitted:
                return record.sent_at
            record = record.newer
        return -1

    def mark_lost(self, record: Sent) -> None:
        """Hold ``record``, in flight, for lost."""
        assert record.state == IN_FLIGHT
        self._take_out(record)
        self._hold(record)

    def mark_first_lost(self) -> Sent | None:
        """Hold the segment at SND.UNA for lost, if it is in flight; its record."""
        record = self.first
        if record is None or record.state != IN_FLIGHT:
            return None
        if record.end - record.start > record.size:
            self._split(0, record.start + record.size)
        self.mark_lost(record)
        return record

    def mark_all_lost(self) -> None:
        """Hold everything in flight for lost."""
        line = self._timeline
        while line.newer is not line:
            self.mark_lost(line.newer)

    def unmark_lost(self) -> None:
        """Nothing was lost after all: what was not sent again counts as in flight."""
        flying = []
        for record in self._records:
            if record.state == LOST:
                self._take_out(record)
                record.state = IN_FLIGHT
                self._account(record, record.end - record.start)
            elif record.state == IN_FLIGHT:
                self._unlink(record)
            else:
                continue
            flying.append(record)
        for record in sorted(flying, key=_SENT_AT):
            self._link_newest(record)
        self._lost_heap.clear()

    def lost_run(self, limit: int) -> tuple[int, int]:
        """The lowest stretch held for lost, over records until it has ``limit`` bytes; (0, 0): there is none."""
        heap = self._lost_heap
        while heap and heap[0][2].state != LOST:
            heappop(heap)
        if not heap:
            return 0, 0
        first = heap[0][2]
        end = first.end
        records = self._records
        for i in range(self._index(first.start) + 1, len(records)):
            if records[i].state != LOST or end - first.start >= limit:
                break
            end = records[i].end
        return first.start, end

    # --- within -------------------------------------------------------------------------------------------------------

    def _index(self, number: int) -> int:
        """The index of the record that ``number`` is in (or of the next one)."""
        return bisect_right(self._records, number, key=_END)

    def _hold(self, record: Sent) -> None:
        record.state = LOST
        self.lost += record.end - record.start
        heap = self._lost_heap
        if len(heap) > 2 * len(self._records) + 64:  # most are stale: a peer may take back its reports again and again
            heap[:] = [(one.start, n, one) for n, one in enumerate(self._records) if one.state == LOST]
            return
        self._serial += 1
        heappush(heap, (record.start, self._serial, record))

    def _account(self, record: Sent, length: int) -> None:
        """Add ``length`` bytes (negative: take away) to the sums of the state of ``record``."""
        if record.state == LOST:
            self.lost += length
        else:
            self.in_flight += length
            if record.retransmitted:
                self.retrans += length

    def _take_out(self, record: Sent) -> None:
        """``record``, in flight or lost, is about to change its state."""
        self._account(record, record.start - record.end)
        if record.state == IN_FLIGHT:
            self._unlink(record)

    def _split(self, i: int, at: int) -> None:
        """Cut the record at index ``i`` in two at the number ``at``, inside it."""
        record = self._records[i]
        rest = record.split(at)
        self._records.insert(i + 1, rest)
        if record.state == LOST:
            self._serial += 1
            heappush(self._lost_heap, (at, self._serial, rest))
        elif record.state == IN_FLIGHT:
            self._link_behind(record, rest)

    def _link_newest(self, record: Sent) -> None:
        self._link_behind(self._timeline.older, record)

    def _link_behind(self, before: Sent, record: Sent) -> None:
        after = before.newer
        before.newer = after.older = record
        record.older, record.newer = before, after

    def _unlink(self, record: Sent) -> None:
        record.older.newer = record.newer
        record.newer.older = record.older
        del record.older, record.newer  # which would keep what was acknowledged alive
