"""RACK: a segment is lost when one sent later was delivered, and its own time is up (RFC 8985 §6).

Time, not the counting of duplicates, tells loss from reordering. Of everything delivered so far the segment sent last
is remembered; one sent before it and not delivered has lost the race, if it is late by more than the reordering
window::

      sent ----x--------o------------------> time        o delivered, its RTT known
               |<---- RTT + reo_wnd --->|  x is lost from here on; until then a timer waits for it

The window is nothing as long as the path was never seen to reorder and three segments were SACKed, as the classical
three duplicates would have it; otherwise a quarter of the smallest RTT, and one quarter more for each round trip in
which the peer's DSACK says that we repeated without need, for sixteen recoveries. A retransmission is a transmission
like any other: that it was lost is found in the same way."""

from typing import Final

from usertcp.tcp.scoreboard import Fresh, Scoreboard, Sent
from usertcp.units import NEVER

PERSIST: Final = 16  # recoveries for which a widened reordering window lasts (RFC 8985 §6.2, step 4)


class Rack:
    """``sent_at`` and ``end`` of the delivered segment that was sent last, its ``rtt`` (ns); ``fack``: the highest
    number delivered; ``mult`` quarters of the smallest RTT make the reordering window; ``reordering_seen``: how often
    something came later than what was sent after it, ``overtaken`` by so many bytes at most."""

    __slots__ = ("_dsack_round", "_persist", "end", "fack", "mult", "overtaken", "reordering_seen", "rtt", "sent_at")

    def __init__(self) -> None:
        self.sent_at = -1
        self.end = 0
        self.rtt = 0
        self.fack = 0
        self.reordering_seen = 0
        self.overtaken = 0
        self.mult = 1
        self._persist = 0
        self._dsack_round = -1

    def on_delivered(self, fresh: list[Fresh], echoed_at: int, min_rtt: int, now: int) -> None:
        """RFC 8985 §6.2 steps 2 and 3. ``echoed_at``: when the segment whose timestamp is echoed was sent, at the
        latest (ns); -1: no echo."""
        highest, latest = self.fack, -1  # ``fresh`` is in no order: newest report first (RFC 2018 §4)
        for record, end, _ in fresh:
            sent_at = record.sent_at
            if end > self.fack:
                self.fack = end
            if end < highest and not record.retransmitted:
                self.reordering_seen += 1
                self.overtaken = max(self.overtaken, highest - end)
            rtt = now - sent_at
            if record.retransmitted and (rtt < min_rtt or 0 <= echoed_at < sent_at):
                continue  # the original answers, not the retransmission
            if sent_at >= latest:
                latest = sent_at
                self.rtt = rtt
            if sent_at > self.sent_at or (sent_at == self.sent_at and end > self.end):
                self.sent_at = sent_at
                self.end = end

    def on_undone(self) -> None:
        """Retransmissions were without need: the originals are late, and what seemed to answer the former may have
        answered the latter. Who was sent last is known again with the next delivery."""
        self.reordering_seen += 1
        self.sent_at = -1
        self.end = 0

    def on_in_order(self, newest: Sent, end: int, now: int) -> None:
        """:meth:`on_delivered` for what was sent once and is acknowledged in the order in which it was sent, up to the
        number ``end`` in the record ``newest``."""
        if end > self.fack:
            self.fack = end
        self.rtt = now - newest.sent_at
        self.sent_at = newest.sent_at
        self.end = end

    def on_dsack(self, una: int, nxt: int) -> None:
        """A retransmission was without need: widen the window, once a round trip (step 4)."""
        if una >= self._dsack_round:
            self._dsack_round = nxt
            self.mult += 1
            self._persist = PERSIST

    def on_recovered(self) -> None:
        """A recovery ended: after sixteen without DSACK the window is narrow again."""
        self._persist -= 1
        if self._persist <= 0:
            self.mult = 1

    def reo_wnd(self, min_rtt: int, srtt: int, *, eager: bool) -> int:
        """The reordering window, ns; ``eager``: in recovery, or three segments were SACKed (step 4)."""
        if eager and not self.reordering_seen:
            return 0
        return min(self.mult * min_rtt >> 2, srtt)

    def on_timeout(self, board: Scoreboard, reo_wnd: int, now: int) -> None:
        """Mark what is lost when the retransmission timer ran out: the first, and all that had its time (§6.3)."""
        _ = board.mark_first_lost()
        late = self.rtt + reo_wnd if self.sent_at >= 0 else 0
        while (record := board.oldest_in_flight()) is not None and record.sent_at + late <= now:
            board.mark_lost(record)

    def detect(self, board: Scoreboard, reo_wnd: int, now: int) -> tuple[list[Sent], int]:
        """Mark what is lost by ``now`` (step 5): the records, and when to look again (ns; NEVER: need not)."""
        lost: list[Sent] = []
        while True:
            record = board.oldest_in_flight()
            if record is None or (record.sent_at, record.end) >= (self.sent_at, self.end):
                return lost, NEVER
            due = record.sent_at + self.rtt + reo_wnd
            if due > now:
                return lost, due
            board.mark_lost(record)
            lost.append(record)
