"""How fast data is delivered: a sample of the delivery rate with each acknowledgment (draft-ietf-ccwg-bbr §4.1).

Whenever something is sent, its record notes how many bytes had been delivered by then. When it is acknowledged, the
bytes delivered in between are what the network carried in between::

      rate = (delivered now - delivered when it was sent) / max(time between the sendings, time between the ACKs)

The longer of the two intervals counts, since ACKs may come bunched, and sendings too. A sample taken while the user had
nothing more to send says only that the network carries at least that much: it is ``app_limited``. Without SACK nobody
sees what is delivered behind a gap; when it closes, all of that would seem to come in one round trip: from what was
sent before there is no sample.
"""

from usertcp.tcp.cc.base import AckSample
from usertcp.tcp.scoreboard import Fresh, Sent
from usertcp.units import SEC


class DeliveryRate:
    """``delivered`` bytes, the last at ``delivered_at`` (ns); ``lost`` bytes held for lost, ever; ``rate``: the newest
    sample, bytes a second, taken when ``rate_app_limited``; ``app_limited``: until so many bytes are delivered samples
    are limited by the user (0: they are not)."""

    __slots__ = (
        "_blind_until",
        "_first_sent_at",
        "app_limited",
        "delivered",
        "delivered_at",
        "lost",
        "rate",
        "rate_app_limited",
    )

    def __init__(self) -> None:
        self.delivered = self.delivered_at = self.lost = 0
        self._first_sent_at = 0
        self._blind_until = 0  # ``delivered`` when a gap was last closed that nobody saw into
        self.app_limited = 0
        self.rate = 0
        self.rate_app_limited = False

    def on_send(self, record: Sent, flight: int, now: int, *, idle: bool) -> None:
        """``record`` leaves, and ``flight`` bytes are then in the network; ``idle``: before there were none."""
        if idle:  # the interval begins here
            self._first_sent_at = self.delivered_at = now
        limited = self.app_limited > 0
        record.then = self.delivered, self.delivered_at, self._first_sent_at, self.lost, flight, limited

    def on_user_idle(self, flight: int) -> None:
        """The user has nothing more to send, although the window would allow it, with ``flight`` bytes under way."""
        self.app_limited = max(self.delivered + flight, 1)

    def sample(self, fresh: list[Fresh], sample: AckSample, *, blind: bool = False) -> None:
        """Take in what an ACK delivered and fill the rate's part of ``sample``, whose ``now`` and ``min_rtt`` stand.
        ``blind``: there was a gap, and no SACK."""
        newest: Sent | None = None
        delivered = 0
        for record, _, size in fresh:
            delivered += size
            if newest is None or (record.sent_at, record.start) > (newest.sent_at, newest.start):
                newest = record
        if blind:
            self._blind_until = self.delivered + delivered
        if newest is not None:
            self.take(newest, delivered, sample)
        else:
            sample.delivered = self.delivered
            sample.rate = sample.interval = 0

    def on_message(self, size: int, trip: int, now: int) -> None:
        """:meth:`on_send`, :meth:`on_user_idle` and :meth:`take` for a message alone, of which there is no record: its
        answer came after ``trip`` ns. For who wants no sample."""
        prior, limited = self.delivered, self.app_limited > 0
        self._first_sent_at = now - trip
        self.delivered = self.app_limited = prior + size
        self.delivered_at = now
        if trip > 0 and prior >= self._blind_until:
            rate = size * SEC // trip
            if rate >= self.rate or not limited:
                self.rate = rate
                self.rate_app_limited = limited

    def take(self, newest: Sent, delivered: int, sample: AckSample) -> None:
        """The same for ``delivered`` bytes, of which those of the record ``newest`` were sent last."""
        now, sent_at = sample.now, newest.sent_at
        prior, delivered_at, first_sent_at, lost, sample.tx_in_flight, limited = newest.then
        self.delivered = delivered = self.delivered + delivered
        self.delivered_at = now
        if delivered > self.app_limited:
            self.app_limited = 0
        sample.delivered, sample.prior_delivered = delivered, prior
        sample.lost_since = self.lost - lost
        sample.app_limited = limited
        if sent_at > self._first_sent_at:
            self._first_sent_at = sent_at
        interval = now - delivered_at
        sending = sent_at - first_sent_at
        if sending > interval:
            interval = sending
        # shorter than the shortest round trip: a retransmission answered before it arrived
        if prior < self._blind_until or interval <= 0 or interval < sample.min_rtt:
            sample.rate = sample.interval = 0
            return
        sample.interval = interval
        sample.rate = rate = (delivered - prior) * SEC // interval
        if rate >= self.rate or not limited:
            self.rate = rate
            self.rate_app_limited = limited
