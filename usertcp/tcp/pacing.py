"""Pacing: a window's worth of data is spread over the round trip instead of sent at once.

Time is the token: what was sent at ``rate`` occupies the line until ``free_at``, and nothing more goes before. A burst
is still one super-segment, as large as the line takes in about a millisecond, since neither clocks nor devices do
better with less. A driver that wakes late may catch up a little. There is no timer here: the connection sets one for
``free_at``."""

from typing import Final

from usertcp.units import MS, SEC

QUANTUM: Final = 1 * MS  # of sending at the rate makes one burst (Linux: sk_pacing_shift)
MIN_SEGMENTS: Final = 2  # of a burst, however slow (Linux: tcp_min_tso_segs)
MIN_WINDOW: Final = 4  # segments a round trip, however low the rate (draft-ietf-ccwg-bbr: MinPipeCwnd)
CATCH_UP: Final = 2 * MS  # of lateness that may be made good by sending earlier afterwards


class Pacer:
    """``rate`` in bytes a second, 0: not paced; ``free_at``: when the burst after that of ``sent_at`` may go (ns)."""

    __slots__ = ("free_at", "rate", "sent_at")

    def __init__(self) -> None:
        self.rate = 0
        self.free_at = self.sent_at = 0

    def follow(self, rate: int, mss: int, srtt: int) -> None:
        """Send at ``rate`` bytes a second (0: as the window allows) from now on, but at no less than four segments of
        ``mss`` bytes in a round trip of ``srtt`` ns: no window is smaller, and a rate that was measured while there was
        little to send must not silence the connection."""
        if rate and srtt:
            rate = max(rate, MIN_WINDOW * mss * SEC // srtt)
        if rate > self.rate and self.rate:  # what waits, waits at the new rate
            self.free_at = self.sent_at + (self.free_at - self.sent_at) * self.rate // rate
        self.rate = rate

    def burst(self, limit: int, payload: int) -> int:
        """Bytes to send at a time, at most ``limit``, in segments of ``payload`` bytes."""
        if not self.rate:
            return limit
        return min(limit, max(self.rate * QUANTUM // SEC, MIN_SEGMENTS * payload))

    def on_sent(self, size: int, now: int) -> None:
        """``size`` bytes have left."""
        if self.rate:
            self.sent_at = now
            self.free_at = max(self.free_at, now - CATCH_UP) + size * SEC // self.rate
