"""NewReno: the congestion control that the standards describe (RFC 5681, RFC 6582), counting bytes (RFC 3465).

Below ``ssthresh`` the window doubles in a round trip, above it grows by one segment; a loss halves it, a time-out sets
it to one segment::

      cwnd |            . loss
           |          .' |      .' |
           |        .'   |    .'   |  time-out         .'
           |      .'     |  .'     |                 .'    <- congestion avoidance: + mss a round trip
           |     /       |.'       |     _.........-' - - - - ssthresh
           |   _/                  |   _/                  <- slow start: x 2 a round trip
           +----------------------------------------------- time

It knows nothing of delay, and does not pace. All but the slope near the top is in ``loss_based``.
"""

from typing import ClassVar

from usertcp.native import mypyc_attr
from usertcp.tcp.cc.base import AckSample
from usertcp.tcp.cc.loss_based import LossBased


@mypyc_attr(allow_interpreted_subclasses=True)
class NewReno(LossBased):
    """``_credit``: bytes acknowledged towards congestion avoidance's next step."""

    __slots__ = ("_credit",)

    name: ClassVar[str] = "reno"
    beta: ClassVar[tuple[int, int]] = (1, 2)  # RFC 5681 §3.1 equation (4)
    beta_ecn: ClassVar[tuple[int, int]] = (4, 5)  # RFC 8511 §3.1

    def __init__(self, mss: int) -> None:
        super().__init__(mss)
        self._credit = 0

    def _avoid(self, acked: int, sample: AckSample) -> None:
        """One segment more when a window's worth is acknowledged (RFC 5681 §3.1, RFC 3465 §2.1).

        That is the whole segments that the window lets out: to wait for the rest of a window of, say, five and a half
        would take more than a round trip.
        """
        self._credit += acked
        window = self.cwnd - self.cwnd % self._mss
        if self._credit >= window:
            self._credit -= window
            self.cwnd += self._mss

    def _remember(self) -> None:
        super()._remember()
        self._credit = 0
