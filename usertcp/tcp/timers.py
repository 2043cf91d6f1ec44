"""The timers of a connection: a closed set over one flat list of deadlines.

A timer is an index, a deadline is an int of nanoseconds, and a stopped timer's deadline never comes. A dozen of them
are searched faster than any heap is kept in order, and restarting one, which happens with every acknowledgment, is one
store. Nothing here knows what a timer means or does when it is due: that is ``Connection.on_timers``."""

from typing import Final

from usertcp.units import NEVER

# Those that belong to sending come first: they are stopped together when all that was sent is acknowledged.
RETRANSMIT: Final = 0  # the oldest unacknowledged segment is sent again (RFC 6298 §5)
LOSS_PROBE: Final = 1  # nothing came after the last transmission: a tail loss probe is sent (RFC 8985 §7.2)
REORDER: Final = 2  # what was overtaken by later segments has had its time: it is lost (RFC 8985 §6.3)
PERSIST: Final = 3  # a zero window is probed (RFC 9293 §3.8.6.1, MUST-36)
SWS_OVERRIDE: Final = 4  # data held back against silly windows is sent (RFC 9293 §3.8.6.2.1, MUST-38)
USER_TIMEOUT: Final = (
    5  # unacknowledged data has waited too long: the connection is given up (RFC 9293 §3.9.1, RFC 5482)
)
DELAYED_ACK: Final = 6  # an acknowledgment held back is sent (RFC 9293 §3.8.6.3, MUST-40)
KEEPALIVE: Final = 7  # an idle peer is probed (RFC 9293 §3.8.4)
FIN_WAIT_2: Final = 8  # the peer of a connection that the user has closed sends no FIN: given up
TIME_WAIT: Final = 9  # 2 MSL have passed: CLOSED (RFC 9293 §3.6.1, MUST-13)
PACING: Final = 10  # the next burst may leave at the pacing rate

NAMES: Final = (
    "RETRANSMIT",
    "LOSS_PROBE",
    "REORDER",
    "PERSIST",
    "SWS_OVERRIDE",
    "USER_TIMEOUT",
    "DELAYED_ACK",
    "KEEPALIVE",
    "FIN_WAIT_2",
    "TIME_WAIT",
    "PACING",
)  # by id, for traces and tools

OF_SENDING: Final = slice(RETRANSMIT, DELAYED_ACK)
AT_REST: Final = (NEVER,) * DELAYED_ACK  # what those are when nothing is on its way, nor waits


_STOPPED: Final = [NEVER] * len(NAMES)


class Timers:
    """The deadlines (ns) of one connection's timers, :data:`NEVER` for those that are stopped: ``due``, by timer."""

    __slots__ = ("due",)

    def __init__(self) -> None:
        self.due = _STOPPED[:]

    def set(self, timer: int, at: int) -> None:
        """Start ``timer``, or start it anew, so that it is due at ``at`` (ns)."""
        self.due[timer] = at

    def stop(self, timer: int) -> None:
        """Stop ``timer``; no harm when it is stopped already."""
        self.due[timer] = NEVER

    def stop_all(self) -> None:
        """Stop every timer."""
        self.due = _STOPPED[:]

    def is_set(self, timer: int) -> bool:
        """Whether ``timer`` runs."""
        return self.due[timer] != NEVER

    def at(self, timer: int) -> int:
        """When ``timer`` is due (ns); :data:`NEVER` when it is stopped."""
        return self.due[timer]

    def next_deadline(self) -> int:
        """When the first timer is due (ns); :data:`NEVER` when none runs."""
        return min(self.due)

    def expired(self, now: int) -> list[int]:
        """The timers that are due at ``now``, the earliest first (of equals the lower id), and stop them."""
        at = self.due
        if min(at) > now:
            return []
        expired = sorted([timer for timer, when in enumerate(at) if when <= now], key=at.__getitem__)
        for timer in expired:
            at[timer] = NEVER
        return expired
