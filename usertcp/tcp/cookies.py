"""SYN cookies (RFC 4987 §3.6): a listener under a flood of SYNs answers all of them and remembers none.

A SYN,ACK's sequence number comes back in the ACK. So it can carry what a half-open connection would have kept, sealed
with a secret, and whoever shows it has an address at which the SYN,ACK arrived::

    ISN = F(flow) + ISN of the peer + | t: 8 bits | F(flow, t) + index of the MSS: 24 bits |      (mod 2^32)

``t`` counts minutes; a cookie is good for the minute it was made in and the next. Adding the peer's number and the time
makes the numbers of one flow grow, as those of RFC 6528 do. Of 2^32 numbers sixteen are good at any time, and none of
them was ever seen by who does not get our SYN,ACKs.

Window scale, SACK and ECN have no room there. A peer that sends timestamps echoes ours: the low bits of the SYN,ACK's
hold them (the clock is behind by up to ``1 << TS_BITS`` ticks in that one segment). Without timestamps all three are
forgone, as on Linux.

What cookies cost: a SYN,ACK that is lost is not sent again, until the peer's SYN is; the MSS is rounded down to one of
the table; the handshake gives no RTT; and when the ACK is lost and the peer waits for us to speak, it waits in vain.
That is why they are only for when the backlog is full.
"""

from enum import Enum
from typing import Final

from usertcp.tcp.config import TcpConfig
from usertcp.tcp.ecn_policy import SYN_FLAGS
from usertcp.tcp.ecn_setup import grant
from usertcp.tcp.receiver import window_shift
from usertcp.tcp.seq import keyed
from usertcp.units import MASK32, MINUTE
from usertcp.wire import tcp as wire
from usertcp.wire.tcp import ACK, SYN, Options, Segment

PERIOD: Final = 1 * MINUTE  # of t (Linux)
PERIODS: Final = 2  # in which a cookie is good, the one it was made in included (Linux)
COUNT_SHIFT: Final = 24  # where t begins in the number
MARK: Final = (1 << COUNT_SHIFT) - 1
# The peer's MSS, rounded down so that it is never exceeded (RFC 9293 §3.7.1, MUST-16): the least that is believed, the
# default, IPv6's least MTU, tunnels, PPPoE, Ethernet, jumbo frames.
MSS_TABLE: Final = (48, 216, 536, 1220, 1360, 1440, 1460, 8960)

NO_SCALE: Final = 15  # a shift of the window goes to 14 (RFC 7323 §2.3)
SACK_BIT: Final = 1 << 4
ECN_SHIFT: Final = 5  # two bits: what the SYN,ACK granted, of ``ecn_policy``
TS_BITS: Final = 7


class SynCookies(Enum):
    """When a SYN is answered with a cookie. Behind them Linux's tcp_syncookies."""

    NEVER = "never"  # 0: a SYN that finds the backlog full is dropped
    PRESSED = "pressed"  # 1: when the backlog is full, or one source has its share of it
    ALWAYS = "always"  # 2


class Cookies:
    """The cookies of one host. ``secret``: 16 random bytes. The key of a flow is that of ``initial_sequence``."""

    __slots__ = ("_issued_at", "_secret")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._issued_at = -PERIODS * PERIOD  # the last one, ns

    def synack(
        self, seg: Segment, key: bytes, config: TcpConfig, *, mss: int, flight: int, ts_now: int, now: int
    ) -> bytearray:
        """The header of the SYN,ACK for the SYN ``seg``, its checksum 0: what a connection with ``config`` would say.

        ``mss``: the largest segment that the path carries; ``flight``: the most that may be on its way to us, bytes;
        ``ts_now``: our timestamp clock for this flow.
        """
        options = seg.options
        first, most = config.windows
        stamped = options.has_ts and config.timestamps
        scaled = stamped and config.window_scaling and options.wscale >= 0
        sack = stamped and config.sack and options.sack_permitted
        feedback = grant(config.ecn.grants if stamped else 0, seg)
        stamp = None
        if stamped:
            kept = (options.wscale if scaled else NO_SCALE) | (SACK_BIT if sack else 0) | feedback.level << ECN_SHIFT
            stamp = (_behind(ts_now, kept), options.tsval)
        self._issued_at = now
        offer = wire.syn_options(
            min(mss, config.max_segment or mss), window_shift(max(first, most)) if scaled else -1, sack, stamp
        )
        iss = self._number(key, seg.seq, now // PERIOD, _index(options.mss))
        window = min(first, flight, 0xFFFF)
        flags = SYN | ACK | feedback.granted
        return wire.header(seg.dport, seg.sport, iss, (seg.seq + 1) & MASK32, flags, window, offer)

    def are_out(self, now: int) -> bool:
        """Whether any cookie is still good: otherwise no ACK is looked at."""
        return now - self._issued_at < PERIODS * PERIOD

    def opened_by(self, seg: Segment, key: bytes, now: int) -> Segment | None:
        """The SYN that was answered with the cookie that ``seg`` acknowledges, as far as it is known still; None: that
        is no cookie of ours, or a stale one."""
        irs = (seg.seq - 1) & MASK32
        index = self._open(key, irs, (seg.ack - 1) & MASK32, now // PERIOD)
        if index is None:
            return None
        options = seg.options
        kept = options.tsecr & (1 << TS_BITS) - 1 if options.has_ts else NO_SCALE
        shift = kept & NO_SCALE
        agreed = Options(
            mss=MSS_TABLE[index],
            wscale=shift if shift != NO_SCALE else -1,
            sack_permitted=bool(kept & SACK_BIT),
            has_ts=options.has_ts,
            tsval=options.tsval,
        )
        level = kept >> ECN_SHIFT
        flags = SYN | (SYN_FLAGS[level] if level < len(SYN_FLAGS) else 0)
        return Segment(seg.sport, seg.dport, irs, 0, flags, 0, options=agreed)

    def _number(self, key: bytes, irs: int, count: int, index: int) -> int:
        sealed = (self._mark(key, count) + index) & MARK
        return (self._base(key) + irs + (count << COUNT_SHIFT) + sealed) & MASK32

    def _open(self, key: bytes, irs: int, iss: int, count: int) -> int | None:
        """The index in ``iss``; None: it was not made here, or too long ago."""
        rest = (iss - irs - self._base(key)) & MASK32
        age = (count - (rest >> COUNT_SHIFT)) & 0xFF
        if age >= PERIODS:
            return None
        index = (rest - self._mark(key, count - age)) & MARK
        return index if index < len(MSS_TABLE) else None

    def _base(self, key: bytes) -> int:
        return keyed(key, self._secret, b"cookie")

    def _mark(self, key: bytes, count: int) -> int:
        minute = (count & MASK32).to_bytes(4, "big")  # before the first minute lies the last
        return keyed(key + minute, self._secret, b"minute") & MARK


def _index(mss: int) -> int:
    """The largest entry of the table that is not above ``mss`` (0: the default, RFC 9293 §3.7.1, MUST-15)."""
    wanted = mss or 536
    return max(sum([each <= wanted for each in MSS_TABLE]) - 1, 0)


def _behind(ts_now: int, kept: int) -> int:
    """The latest timestamp not after ``ts_now`` whose low bits are ``kept``."""
    span = 1 << TS_BITS
    return (ts_now - ((ts_now - kept) & span - 1)) & MASK32
