"""What is in flight: one record for each burst that was sent, oldest first.

A record is a range of the sequence line (SYN and FIN count one), the time it was last sent, and whether it was sent
more than once. A burst of 64 KB is one record; records are split where an acknowledgment or a retransmission cuts them.
From here come the round-trip samples that need no timestamps. Whether something is lost, and what to send next, is the
sender's decision.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from operator import attrgetter
from typing import Final

_END: Final = attrgetter("end")


class Sent:
    """``[start, end)`` was sent, the last time at ``sent_at`` (ns)."""

    __slots__ = ("end", "retransmitted", "sent_at", "start")

    def __init__(self, start: int, end: int, sent_at: int, retransmitted: bool = False) -> None:
        self.start = start
        self.end = end
        self.sent_at = sent_at
        self.retransmitted = retransmitted

    def split(self, at: int) -> "Sent":
        """Keep what is below ``at``, return a record of the rest."""
        rest = Sent(at, self.end, self.sent_at, self.retransmitted)
        self.end = at
        return rest


class SentQueue:
    """The records of everything sent and not acknowledged: ascending, disjoint, without gaps."""

    __slots__ = ("_records",)

    def __init__(self) -> None:
        self._records: deque[Sent] = deque()

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Sent]:
        """The records, oldest first; they are not to be changed while iterating."""
        return iter(self._records)

    def clear(self) -> None:
        """Forget everything."""
        self._records.clear()

    def push(self, start: int, end: int, now: int) -> None:
        """``[start, end)`` is sent for the first time at ``now`` (ns); it follows what was sent before."""
        records = self._records
        assert start < end
        assert not records or records[-1].end == start
        records.append(Sent(start, end, now))

    def ack_to(self, una: int, now: int) -> int:
        """Forget what is below ``una``; return a round-trip time in ns, or -1 when the ACK gives none.

        The time is that of the newest record wholly acknowledged, since the ACK was sent for it. When any record of
        them was retransmitted there is none: nobody knows which copy is answered (Karn; RFC 6298 §3), and what lay
        behind the hole has been waiting for the repair.
        """
        records = self._records
        sent_at = -1
        clean = True
        while records:
            record = records[0]
            if record.start >= una:
                break
            if record.retransmitted:
                clean = False
            if record.end > una:
                record.start = una
                break
            sent_at = record.sent_at
            records.popleft()
        return now - sent_at if clean and sent_at >= 0 else -1

    def mark_retransmitted(self, start: int, end: int, now: int) -> None:
        """``[start, end)`` is sent again at ``now`` (ns); records are split at its edges.

        What is sent again in one turn becomes one record, so that small segments do not make many.
        """
        records = self._records
        i = bisect_right(records, start, key=_END)
        while i < len(records):
            record = records[i]
            if record.start >= end:
                return
            if record.end > start:
                if record.start < start:
                    i += 1
                    record, low = record.split(start), record
                    assert low.end == record.start
                    records.insert(i, record)
                if record.end > end:
                    records.insert(i + 1, record.split(end))
                record.sent_at = now
                record.retransmitted = True
                before = records[i - 1] if i else record
                if before is not record and before.retransmitted and before.sent_at == now:
                    before.end = record.end
                    del records[i]
                    i -= 1
            i += 1
