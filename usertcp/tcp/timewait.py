"""When a four-tuple in TIME-WAIT may be used again before 2 MSL are over (RFC 6191, RFC 9293 §3.6.1).

TIME-WAIT keeps segments of the old connection from being taken for those of a new one. If everything the new one will
say is told apart by its timestamps, or lies beyond the old numbers, nothing needs to be waited for.
"""

from typing import TYPE_CHECKING, Final

from usertcp.tcp import timers as timer
from usertcp.tcp.state import State
from usertcp.units import SEC
from usertcp.wire.tcp import ACK, RST, SYN, Segment

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection

REUSE_DELAY: Final = 1 * SEC  # of TIME-WAIT, before we use its four-tuple again ourselves (Linux; RFC 7323 §B.2)


def reusable_by(conn: "Connection", seg: Segment) -> bool:
    """Whether ``seg``, a SYN, may replace ``conn`` in TIME-WAIT: its timestamp or its number is newer (RFC 6191 §2,
    MAY-2)."""
    if conn.state is not State.TIME_WAIT or seg.flags & (SYN | ACK | RST) != SYN:
        return False
    if seg.options.has_ts and conn.config.timestamps:
        if not conn.ts_ok:
            return True  # what is still under way has no timestamps: it will not be taken for the new one's
        if seg.options.tsval != conn.rcv.ts_recent:
            return conn.rcv.ts_age(seg.options.tsval) < 0
    return conn.rcv.absolute(seg.seq) > conn.rcv.nxt


def outlived(conn: "Connection", now: int) -> bool:
    """Whether an active OPEN of ours may replace ``conn``: in TIME-WAIT for more than a second, so that its timestamps
    are older than all that will come (RFC 7323 §B.2; Linux: tcp_tw_reuse), and closed by its user."""
    if conn.state is not State.TIME_WAIT or not (conn.ts_ok and conn.orphan):
        return False
    return now > conn.timers.at(timer.TIME_WAIT) - 2 * conn.config.msl + REUSE_DELAY
