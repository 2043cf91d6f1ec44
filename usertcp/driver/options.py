"""Socket options: Linux's names, ranges, clamps and errnos, and what they mean to a connection.

An option is validated where it is set and never silently ignored: one that is not here raises ENOPROTOOPT. The values
that a user chose live in an :class:`Options`, kept by the socket while no engine knows it, and by the engine from then
on; :meth:`Options.config` turns them into the core's :class:`~usertcp.tcp.config.TcpConfig`. What only a living
connection can tell (TCP_INFO, the true TCP_MAXSEG) is computed from its :class:`~usertcp.tcp.info.TcpInfo`.

SO_ERROR, SO_TYPE, SO_DOMAIN, SO_PROTOCOL and SO_ACCEPTCONN are no choices and are answered by the socket itself.
"""

import errno
import socket as so
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from usertcp.errors import os_error
from usertcp.tcp.cc.base import UNLIMITED
from usertcp.tcp.cc.registry import NAMES
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.info import TcpInfo
from usertcp.tcp.state import State
from usertcp.units import MS, SEC, US

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection

INT: Final = struct.Struct("=i")
LINGER: Final = struct.Struct("=ii")
INFO: Final = struct.Struct("=8B24I4Q6I4Q2I2Q6I2HI")  # struct tcp_info of Linux 6.7, 248 bytes
# fmt: off
INFO_FIELDS: Final = (
    "state", "ca_state", "retransmits", "probes", "backoff", "options", "wscale", "flags",
    "rto", "ato", "snd_mss", "rcv_mss", "unacked", "sacked", "lost", "retrans", "fackets", "last_data_sent",
    "last_ack_sent", "last_data_recv", "last_ack_recv", "pmtu", "rcv_ssthresh", "rtt", "rttvar", "snd_ssthresh",
    "snd_cwnd", "advmss", "reordering", "rcv_rtt", "rcv_space", "total_retrans",
    "pacing_rate", "max_pacing_rate", "bytes_acked", "bytes_received",
    "segs_out", "segs_in", "notsent_bytes", "min_rtt", "data_segs_in", "data_segs_out",
    "delivery_rate", "busy_time", "rwnd_limited", "sndbuf_limited",
    "delivered", "delivered_ce",
    "bytes_sent", "bytes_retrans",
    "dsack_dups", "reord_seen", "rcv_ooopack", "snd_wnd", "rcv_wnd", "rehash",
    "total_rto", "total_rto_recoveries",
    "total_rto_time",
)
# fmt: on
_WIDE: Final = frozenset(INFO_FIELDS[32:36] + INFO_FIELDS[42:46] + INFO_FIELDS[48:50])
_DEFAULTS: Final = TcpConfig()
MAX_U32: Final = 0xFFFF_FFFF
MAX_U64: Final = 0xFFFF_FFFF_FFFF_FFFF
HEADERS: Final = 40  # bytes of IPv4 and TCP header without options
DUPLICATES: Final = 3  # duplicate ACKs that mean a loss (RFC 5681 §3.2)
MAX_REORDERING: Final = 300  # segments; Linux tells no more (net.ipv4.tcp_max_reordering)

DEFAULT_MSS: Final = 536  # bytes; TCP_MAXSEG of a socket without a connection (RFC 9293 §3.7.1, MUST-15)
MIN_RCVBUF: Final = 2304  # bytes, after doubling (Linux: SOCK_MIN_RCVBUF)
MIN_SNDBUF: Final = 4608  # bytes, after doubling (Linux: SOCK_MIN_SNDBUF)
MAX_BUFFER: Final = 4 << 20  # bytes, before doubling (Linux: net.core.rmem_max, wmem_max since 6.x)
NAME_LENGTH: Final = 16  # bytes of a congestion control's name (Linux: TCP_CA_NAME_MAX)
SYN_RETRIES: Final = 6  # what TCP_SYNCNT tells by default (Linux: tcp_syn_retries); the core gives up by time
MIN_CLAMP: Final = 1152  # bytes; TCP_WINDOW_CLAMP (Linux: half of SOCK_MIN_RCVBUF)
MAX_LINGER2: Final = 120  # s; TCP_LINGER2 (Linux: TCP_FIN_TIMEOUT_MAX)
MAX_RTO: Final = 120  # s; the longest wait between two SYN,ACKs (Linux: TCP_RTO_MAX)
MAX_RETRIES: Final = 255  # SYN,ACKs that TCP_DEFER_ACCEPT can mean (Linux: u8)
ROUTE_TTL: Final = 64  # what IP_TTL answers and -1 restores (RFC 1700; Linux: ip_default_ttl)

Key = tuple[int, int]
Changes = dict[str, Any]

SO_LINGER: Final = (so.SOL_SOCKET, so.SO_LINGER)
SO_REUSEADDR: Final = (so.SOL_SOCKET, so.SO_REUSEADDR)
SO_REUSEPORT: Final = (so.SOL_SOCKET, so.SO_REUSEPORT)
SO_RCVBUF: Final = (so.SOL_SOCKET, so.SO_RCVBUF)
SO_SNDBUF: Final = (so.SOL_SOCKET, so.SO_SNDBUF)
BUFFERS: Final = (SO_RCVBUF, SO_SNDBUF)
TCP_INFO: Final = (so.IPPROTO_TCP, so.TCP_INFO)
TCP_MAXSEG: Final = (so.IPPROTO_TCP, so.TCP_MAXSEG)
TCP_CONGESTION: Final = (so.IPPROTO_TCP, so.TCP_CONGESTION)
TCP_WINDOW_CLAMP: Final = (so.IPPROTO_TCP, so.TCP_WINDOW_CLAMP)
IPV6_V6ONLY: Final = (so.IPPROTO_IPV6, so.IPV6_V6ONLY)
SO_OOBINLINE: Final = (so.SOL_SOCKET, so.SO_OOBINLINE)

# The number in TCP_INFO of each state (Linux: net/tcp_states.h).
PHASE_NUMBERS: Final = {"OPEN": 0, "CWR": 2, "RECOVERY": 3, "LOSS": 4}  # of TCP_INFO (Linux: enum tcp_ca_state)
STATE_NUMBERS: Final = {
    State.ESTABLISHED: 1,
    State.SYN_SENT: 2,
    State.SYN_RECEIVED: 3,
    State.FIN_WAIT_1: 4,
    State.FIN_WAIT_2: 5,
    State.TIME_WAIT: 6,
    State.CLOSED: 7,
    State.CLOSE_WAIT: 8,
    State.LAST_ACK: 9,
    State.LISTEN: 10,
    State.CLOSING: 11,
}


def _ranged(low: int, high: int) -> Callable[[int], int]:
    def check(value: int) -> int:
        if not low <= value <= high:
            raise os_error(errno.EINVAL)
        return value

    return check


def _flag(value: int) -> int:
    return int(value != 0)


def _ttl(value: int) -> int:
    if value == -1:
        return ROUTE_TTL
    return _ranged(1, 255)(value)


def _hops(value: int) -> int:
    return ROUTE_TTL if value == -1 else _ranged(0, 255)(value)


def _tos(value: int) -> int:
    return value & 0xFF & ~3  # the lowest two bits are ECN's, and TCP's own (Linux: INET_ECN_MASK)


def _tclass(value: int) -> int:
    return 0 if value == -1 else _tos(_ranged(0, 255)(value))


def _maxseg(value: int) -> int:
    return 0 if value == 0 else _ranged(88, 32767)(value)


def _receive_buffer(value: int) -> int:
    return max(2 * min(value & MAX_U32, MAX_BUFFER), MIN_RCVBUF)


def _send_buffer(value: int) -> int:
    return max(2 * min(value & MAX_U32, MAX_BUFFER), MIN_SNDBUF)


def _clamp(value: int) -> int:
    return max(value, MIN_CLAMP) if value else 0


def _linger2(value: int) -> int:
    return -1 if value < 0 else min(value, MAX_LINGER2)


def _defer(value: int) -> int:
    """Seconds, up to the next that a series of SYN,ACKs ends after, each wait twice the one before."""
    if value <= 0:
        return 0
    period = wait = count = 1
    while value > period and count < MAX_RETRIES:
        count += 1
        wait = min(2 * wait, MAX_RTO)
        period += wait
    return period


def _any(value: int) -> int:
    return value


class _Option:
    """One integer option: how it is checked, which field of TcpConfig it is, and the unit of that field; without a
    field, or with one that does not tell, what it is by default."""

    __slots__ = ("check", "default", "field", "unit")

    def __init__(self, check: Callable[[int], int], field: str = "", unit: int = 1, default: int = 0) -> None:
        self.check = check
        self.field = field
        self.unit = unit
        self.default = default


_TCP: Final = so.IPPROTO_TCP
_IP: Final = so.IPPROTO_IP
_LEVELS: Final = (so.SOL_SOCKET, _TCP, _IP, so.IPPROTO_IPV6)
_OPTIONS: Final[dict[Key, _Option]] = {
    SO_REUSEADDR: _Option(_flag),
    SO_REUSEPORT: _Option(_flag),
    SO_OOBINLINE: _Option(_flag),
    (so.SOL_SOCKET, so.SO_BROADCAST): _Option(_flag),  # means nothing to TCP, on Linux neither
    (so.SOL_SOCKET, so.SO_KEEPALIVE): _Option(_flag, "keepalive"),
    SO_RCVBUF: _Option(_receive_buffer, "receive_buffer"),
    SO_SNDBUF: _Option(_send_buffer, "send_buffer"),
    (_TCP, so.TCP_NODELAY): _Option(_flag, "nodelay"),
    (_TCP, so.TCP_KEEPIDLE): _Option(_ranged(1, 32767), "keepalive_idle", SEC),
    (_TCP, so.TCP_KEEPINTVL): _Option(_ranged(1, 32767), "keepalive_interval", SEC),
    (_TCP, so.TCP_KEEPCNT): _Option(_ranged(1, 127), "keepalive_count"),
    (_TCP, so.TCP_USER_TIMEOUT): _Option(_ranged(0, 0x7FFF_FFFF), "user_timeout", MS),
    TCP_MAXSEG: _Option(_maxseg, "max_segment"),
    (_TCP, so.TCP_CORK): _Option(_flag, "cork"),
    (_TCP, so.TCP_QUICKACK): _Option(_flag, "quick_acks", default=1),
    (_TCP, so.TCP_DEFER_ACCEPT): _Option(_defer, "defer_accept", SEC),
    (_TCP, so.TCP_SYNCNT): _Option(_ranged(1, 127), "syn_retries", default=SYN_RETRIES),
    (_TCP, so.TCP_LINGER2): _Option(_linger2, "fin_wait_2_timeout", SEC),
    (_TCP, so.TCP_NOTSENT_LOWAT): _Option(_any, "notsent_lowat"),
    TCP_WINDOW_CLAMP: _Option(_clamp, "window_clamp"),
    (_IP, so.IP_TTL): _Option(_ttl, "ttl"),
    (_IP, so.IP_TOS): _Option(_tos, "tos"),
    IPV6_V6ONLY: _Option(_flag),
    (so.IPPROTO_IPV6, so.IPV6_UNICAST_HOPS): _Option(_hops, "ttl"),
    (so.IPPROTO_IPV6, so.IPV6_TCLASS): _Option(_tclass, "tos"),
}


class Options:
    """What a user chose. Values are as getsockopt gives them back."""

    __slots__ = ("_values", "congestion", "linger")

    def __init__(self) -> None:
        self._values: dict[Key, int] = {}
        self.linger = (0, 0)  # (on, seconds)
        self.congestion = ""  # "": the stack's own

    def copy(self) -> "Options":
        """Those of an accepted connection, which inherits its listener's."""
        other = Options()
        other._values = dict(self._values)
        other.linger = self.linger
        other.congestion = self.congestion
        return other

    def set(self, level: int, name: int, value: int | bytes) -> Changes:
        """Set an option; the changes that it means to a TcpConfig. EINVAL, ENOENT, ENOPROTOOPT as Linux."""
        key = (level, name)
        if key == SO_LINGER:
            if isinstance(value, int) or len(value) < LINGER.size:
                raise os_error(errno.EINVAL)
            on, seconds = LINGER.unpack_from(value)
            self.linger = (int(on != 0), seconds)
            return {}
        if key == TCP_CONGESTION:
            if value == b"":
                raise os_error(errno.EINVAL)
            text = b"" if isinstance(value, int) else bytes(value).split(b"\0", 1)[0][: NAME_LENGTH - 1]
            if text.decode("ascii", "replace") not in NAMES:
                raise os_error(errno.ENOENT)
            self.congestion = text.decode("ascii")
            return {"congestion": self.congestion}
        option = _OPTIONS.get(key)
        short = not isinstance(value, int) and len(value) < INT.size
        if short and (level == so.SOL_SOCKET or (option is not None and level != _IP)):
            raise os_error(errno.EINVAL)
        if option is None:
            raise os_error(errno.ENOPROTOOPT)
        if not isinstance(value, int):
            value = INT.unpack_from(value)[0] if len(value) >= INT.size else value[0] if value else 0
        elif not -(1 << 31) <= value < 1 << 32:
            raise os_error(errno.EINVAL)
        kept = option.check(INT.unpack((value & MAX_U32).to_bytes(INT.size, sys.byteorder))[0])  # 32 bits: C's int
        self._values[key] = kept
        return _change(option, kept)

    def get(self, level: int, name: int, config: TcpConfig) -> bytes:
        """An option's value; what was not chosen is ``config``'s. ENOPROTOOPT if it does not exist, EOPNOTSUPP if its
        level does not."""
        key = (level, name)
        if key == SO_LINGER:
            return LINGER.pack(*self.linger)
        if key == TCP_CONGESTION:
            return (self.congestion or config.congestion).encode().ljust(NAME_LENGTH, b"\0")
        if key == TCP_MAXSEG:
            return INT.pack(self._values.get(key) or DEFAULT_MSS)
        option = _OPTIONS.get(key)
        if option is None:
            raise os_error(errno.ENOPROTOOPT if level in _LEVELS else errno.EOPNOTSUPP)
        value = self._values.get(key)
        if value is None or (value == 0 and key == (_TCP, so.TCP_LINGER2)):
            tells = option.field and not option.default
            value = int(getattr(config, option.field)) // option.unit if tells else option.default
        return INT.pack(value)

    def flag(self, key: Key) -> bool:
        """Whether the on-off option ``key`` is on."""
        return bool(self._values.get(key))

    def chosen(self, key: Key) -> bool:
        """Whether the user chose the option ``key``."""
        return key in self._values

    def config(self, base: TcpConfig) -> TcpConfig:
        """``base`` with what was chosen."""
        changes: Changes = {}
        for key, value in self._values.items():
            changes.update(_change(_OPTIONS[key], value))
        if self.congestion:
            changes["congestion"] = self.congestion
        return replace(base, **changes) if changes else base

    def dump(self) -> list[list[Any]]:
        """For a message: [level, name, value as int or hex]."""
        rows: list[list[Any]] = [[*key, value] for key, value in self._raw().items()]
        if self.linger != (0, 0):
            rows.append([*SO_LINGER, LINGER.pack(*self.linger).hex()])
        if self.congestion:
            rows.append([*TCP_CONGESTION, self.congestion.encode().hex()])
        return rows

    @classmethod
    def load(cls, rows: list[list[Any]]) -> "Options":
        """The inverse of :meth:`dump`."""
        options = cls()
        for level, name, value in rows:
            options.set(level, name, bytes.fromhex(value) if isinstance(value, str) else value)
        return options

    def _raw(self) -> dict[Key, int]:
        """The values as a user would set them: buffers are doubled when they are set."""
        raw = dict(self._values)
        for key in BUFFERS:
            if key in raw:
                raw[key] //= 2
        return raw


def _change(option: _Option, value: int) -> Changes:
    if not option.field:
        return {}
    if option.field in ("keepalive", "nodelay", "cork"):
        return {option.field: bool(value)}
    if option.field == "quick_acks":
        return {option.field: _DEFAULTS.quick_acks if value else 0}
    if option.field == "fin_wait_2_timeout":  # 0: the default; negative: do not wait at all
        return {option.field: max(value, 0) * SEC if value else _DEFAULTS.fin_wait_2_timeout}
    if option.field == "notsent_lowat":
        return {option.field: value & MAX_U32}
    if option.field in ("receive_buffer", "send_buffer"):  # whoever chooses a size keeps it (as Linux)
        return {option.field: value, option.field + "_max": 0}
    return {option.field: value * option.unit}


def tell(
    chosen: Options, key: Key, conn: "Connection | None", base: TcpConfig, now: int, *, listening: bool = False
) -> bytes:
    """What getsockopt answers of a socket for which ``chosen`` was set, and which is ``conn`` by now, or listens;
    ``base``: the settings of one that is no connection. Errors as of :meth:`Options.get`."""
    if conn is None:
        if key == TCP_INFO:
            return tcp_info(None, State.LISTEN if listening else State.CLOSED, now)
        return chosen.get(*key, base)
    if key == TCP_INFO:
        return tcp_info(conn.info(now), conn.state, now)
    if key == TCP_MAXSEG and conn.state is not State.SYN_SENT:
        return INT.pack(conn.info().snd_mss)
    if key == TCP_WINDOW_CLAMP:
        return INT.pack(max(conn.config.windows))
    if key in BUFFERS and not chosen.chosen(key):
        info = conn.info()
        return INT.pack(info.receive_buffer if key == SO_RCVBUF else info.send_buffer)  # as tuned
    return chosen.get(*key, conn.config)


def tcp_info(info: TcpInfo | None, state: State, now: int) -> bytes:
    """Linux's ``struct tcp_info`` of a connection, or with ``info`` None that of a socket without one."""
    fields = dict.fromkeys(INFO_FIELDS, 0)
    fields["state"] = STATE_NUMBERS[state]
    if info is not None:
        mss = max(info.snd_mss, 1)
        scaled = info.snd_wscale > 0 or info.rcv_wscale > 0
        fields |= {
            "ca_state": PHASE_NUMBERS[info.phase],
            "retransmits": min(info.retries, 255),
            "probes": min(info.probes, 255),
            "backoff": min(info.retries, 255),
            "options": info.timestamps | info.sack << 1 | scaled << 2 | (info.ecn != "none") << 3,
            "delivered_ce": info.delivered_ce,
            "wscale": max(info.snd_wscale, 0) & 15 | (max(info.rcv_wscale, 0) & 15) << 4,
            "flags": int(info.delivery_app_limited),
            "rto": info.rto // US,
            "snd_mss": info.snd_mss,
            "rcv_mss": info.rcv_mss,
            "unacked": -(-info.unacked // mss),  # segments
            "sacked": -(-info.sacked // mss),
            "lost": -(-info.lost // mss),
            "retrans": -(-info.retrans // mss),
            "last_data_sent": _since(info.last_sent_at, now),
            "last_data_recv": _since(info.last_received_at, now),
            "last_ack_recv": _since(info.last_received_at, now),
            "pmtu": info.path_mss + HEADERS,
            "rcv_ssthresh": info.receive_buffer,
            "rtt": info.srtt // US,
            "rttvar": info.rttvar // US,
            "snd_ssthresh": info.ssthresh if info.ssthresh >= UNLIMITED else info.ssthresh // mss,  # segments
            "snd_cwnd": info.cwnd // mss,  # segments
            "advmss": info.advertised_mss,
            "reordering": min(max(DUPLICATES, -(-info.overtaken // mss)), MAX_REORDERING),
            "rcv_rtt": info.rcv_rtt // US,
            "rcv_space": info.rcv_taken,
            "total_retrans": info.retransmissions,
            "bytes_acked": info.bytes_acked,
            "bytes_received": info.bytes_received,
            "pacing_rate": info.pacing_rate or MAX_U64,  # as Linux when nothing is paced
            "max_pacing_rate": MAX_U64,
            "delivery_rate": info.delivery_rate,
            "busy_time": info.busy_time // US,
            "rwnd_limited": info.window_limited_time // US,
            "sndbuf_limited": info.buffer_limited_time // US,
            "delivered": -(-info.delivered // mss),  # segments
            "bytes_sent": info.bytes_acked + info.unacked + info.bytes_retransmitted,
            "bytes_retrans": info.bytes_retransmitted,
            "dsack_dups": info.dsacks_received,
            "reord_seen": info.reordering_seen,
            "total_rto": info.timeouts,
            "segs_out": info.segments_out,
            "segs_in": info.segments_in,
            "notsent_bytes": info.unsent,
            "min_rtt": info.min_rtt // US,
            "snd_wnd": info.snd_wnd,
            "rcv_wnd": info.rcv_wnd,
        }
    return INFO.pack(*(min(max(0, fields[name]), MAX_U64 if name in _WIDE else MAX_U32) for name in INFO_FIELDS))


def _since(moment: int, now: int) -> int:
    """Milliseconds since ``moment``; 0 if there was none."""
    return max(0, now - moment) // MS if moment else 0
