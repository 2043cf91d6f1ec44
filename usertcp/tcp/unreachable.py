"""What an ICMP error does to the connection that it is about (RFC 9293 §3.9.2.2, RFC 5461, RFC 5927, RFC 1191)."""

import errno
from typing import TYPE_CHECKING, Final

from usertcp.tcp.state import (
    FRAGMENTATION_NEEDED,
    UNREACHABLE_HOST,
    UNREACHABLE_NET,
    UNREACHABLE_PORT,
    UNREACHABLE_PROTOCOL,
    State,
)

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection

_ERRNO: Final = {
    UNREACHABLE_NET: errno.ENETUNREACH,
    UNREACHABLE_HOST: errno.EHOSTUNREACH,
    UNREACHABLE_PROTOCOL: errno.ENOPROTOOPT,
    UNREACHABLE_PORT: errno.ECONNREFUSED,
}


def on_unreachable(conn: "Connection", kind: int, seq: int, mtu: int, now: int) -> None:
    """An error of ``kind`` (``state``) about our segment ``seq`` (wire number), which ``mtu`` bytes would have been
    right for; about nothing in flight: ignored (RFC 5927 §4)."""
    snd = conn.snd
    if not snd.una <= snd.absolute(seq) < snd.nxt:
        return
    if kind == FRAGMENTATION_NEEDED:
        conn.set_path_mtu(mtu, now)
        return
    number = _ERRNO.get(kind, errno.EHOSTUNREACH)
    opening = conn.state is State.SYN_SENT or (conn.state is State.SYN_RECEIVED and not conn.passive)
    hard = kind in (UNREACHABLE_PORT, UNREACHABLE_PROTOCOL) or conn.config.connect_fails_on_icmp
    if opening and hard:
        conn.fail(number)
    else:
        conn.complain(number)
