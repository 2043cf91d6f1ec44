"""What the two SYNs of a handshake agree on (RFC 9293 §3.7.1, RFC 7323, RFC 2018, RFC 9768), and straight code for the
handshake as nearly everybody has it: all the options of RFC 7323 and RFC 2018, and no others.

Our first SYN, or SYN,ACK, leaves by :func:`send_syn`; the SYN,ACK that answers ours, with its options laid out as Linux
and we lay them out, is taken by :func:`take_synack`, and the ACK of our own by :func:`take_ack_of_syn`. After that
nothing is the matter with the connection, and nobody needs to ask (``Connection.calm``). What does not fit goes by
``output`` and ``arrives``, which leave the same traces.
"""

from typing import TYPE_CHECKING

from usertcp.tcp.cc.registry import create
from usertcp.tcp.ecn import NOT_ECN
from usertcp.tcp.ecn_setup import agree
from usertcp.tcp.message import acknowledged, calm_down, full_segment
from usertcp.tcp.output import NO_TEXT, Transmit
from usertcp.tcp.receiver import ACK_NOW
from usertcp.tcp.rtt import TS_TICK
from usertcp.tcp.sender import DEFAULT_MSS, MIN_MSS
from usertcp.tcp.seq import HALF
from usertcp.tcp.state import CONTROL, DOUBTED, State
from usertcp.tcp.timeouts import rest
from usertcp.tcp.timers import RETRANSMIT
from usertcp.units import MASK32
from usertcp.wire.ecn import NOT_ECT
from usertcp.wire.tcp import ACK, SYN, Segment, syn_header

if TYPE_CHECKING:
    from usertcp.tcp.config import TcpConfig
    from usertcp.tcp.connection import Connection


def take_syn(conn: "Connection", seg: Segment, now: int) -> None:
    """Agree on MSS, window scale, SACK, timestamps and ECN with the peer's SYN, or SYN,ACK, ``seg``."""
    options, config = seg.options, conn.config
    conn.ecn = agree(conn, seg)
    conn.scale_ok = config.window_scaling and options.wscale >= 0
    conn.sack_ok = config.sack and options.sack_permitted
    conn.ts_ok = config.timestamps and options.has_ts
    _begin(conn, seg.seq, seg.wnd, options.mss, options.wscale, options.tsval, now)


def _begin(conn: "Connection", irs: int, wnd: int, mss: int, shift: int, tsval: int, now: int) -> None:
    """The peer's SYN has the number ``irs``, and says ``wnd``, ``mss`` (0: nothing), window scale and timestamp, as far
    as those are agreed on."""
    config, snd, rcv = conn.config, conn.snd, conn.rcv
    rcv.start(irs, scaled=conn.scale_ok)
    rcv.reports_duplicates = conn.sack_ok and config.dsack
    if conn.ts_ok:
        rcv.ts_recent, rcv.ts_recent_at = tsval, now
    snd.shift = shift if conn.scale_ok else 0
    snd.mss = max(min(conn.advertised_mss, conn.path_mss, mss or DEFAULT_MSS), MIN_MSS)
    snd.sack_ok = conn.sack_ok
    snd.cc = create(config.congestion, full_segment(conn), sack=conn.sack_ok)
    snd.wnd = snd.max_wnd = wnd  # a SYN's window is never scaled
    snd.wl1, snd.wl2 = irs, snd.iss


def is_usual(conn: "Connection") -> bool:
    """Whether the SYN that is due, or SYN,ACK, is the first, with all the options that most have and no more."""
    snd, config = conn.snd, conn.config
    return (
        snd.nxt == snd.iss
        and conn.ecn is NOT_ECN
        and conn.tracer is None
        and conn.reset_due is None
        and not snd.cc.paced
        and (
            conn.ts_ok and conn.sack_ok and conn.scale_ok
            if conn.state is State.SYN_RECEIVED
            else conn.state is State.SYN_SENT and takes_usual(config)
        )
    )


def send_syn(conn: "Connection", now: int, tx: Transmit) -> bool:
    """Send it. True: more waits, the sink was full."""
    snd, rcv = conn.snd, conn.rcv
    ack, flags, echo, window = 0, SYN, 0, rcv.buffer.limit
    if conn.state is State.SYN_RECEIVED:
        ack, flags, echo, window = rcv.nxt & MASK32, SYN | ACK, rcv.ts_recent, rcv.edge - rcv.nxt
    window = window if window < 0xFFFF else 0xFFFF
    stamp = now // TS_TICK + conn.ts_offset & MASK32
    mss, shift = conn.advertised_mss, rcv.shift
    header = syn_header(conn.sport, conn.dport, snd.iss & MASK32, ack, flags, window, mss, shift, stamp, echo)
    if not tx.send(conn, header, NO_TEXT, 0, 0, NOT_ECT):
        return True
    if flags & ACK:
        acknowledged(conn)
    conn.segments_out += 1
    conn.syn_due = False
    snd.nxt = snd.iss + 1
    snd.last_sent_at = snd.unacked_since = now
    conn.calm = CONTROL
    conn.timers.due[RETRANSMIT] = now + snd.rtt.rto
    return False


def takes_usual(config: "TcpConfig") -> bool:
    """Whether all that a SYN mostly asks for is granted."""
    return config.timestamps and config.sack and config.window_scaling


def take_synack(conn: "Connection", seq: int, ack: int, wnd: int, mss: int, shift: int, tsval: int, now: int) -> bool:
    """Take a SYN,ACK without text that has just the options ``mss``, window scale ``shift``, timestamps with ``tsval``
    and SACK, and no mark of ECN, if it answers our SYN, of which nothing is written down (``conn.calm``). Numbers as on
    the wire. False: it does not, or less was asked for, and nothing has changed."""
    snd, config = conn.snd, conn.config
    if (
        conn.state is not State.SYN_SENT
        or ack != snd.nxt & MASK32
        or not takes_usual(config)
        or conn.ecn is not NOT_ECN
        or conn.tracer is not None
        or snd.fin_queued
    ):
        return False
    conn.scale_ok = conn.sack_ok = conn.ts_ok = True
    _begin(conn, seq, wnd, mss, shift, tsval, now)
    _open(conn, now)
    conn.rcv.ack = ACK_NOW
    conn.host.owes(conn)
    return True


def take_ack_of_syn(conn: "Connection", seq: int, ack: int, wnd: int, tsval: int, now: int) -> bool:
    """Take the ACK without text of our SYN,ACK, of which nothing is written down (``conn.calm``), for a listener that
    has room. As :func:`take_synack`; nothing is to be said then, and no turn due."""
    snd, rcv, config, listener = conn.snd, conn.rcv, conn.config, conn.listener
    if (
        conn.state is not State.SYN_RECEIVED
        or seq != rcv.nxt & MASK32
        or ack != snd.nxt & MASK32
        or not (conn.ts_ok and conn.sack_ok and (tsval - rcv.ts_recent) & MASK32 < HALF)
        or conn.ecn is not NOT_ECN
        or conn.tracer is not None
        or config.defer_accept
        or config.keepalive
        or conn.syn_due
        or listener is None
        or not listener.has_room()
    ):
        return False
    rcv.ts_recent, rcv.ts_recent_at = tsval, now
    snd.wl1 = rcv.nxt
    snd.offered(wnd << snd.shift)
    _open(conn, now)
    rest(conn)
    return True


def _open(conn: "Connection", now: int) -> None:
    """Our SYN is acknowledged, by a segment of which the rest is known: nothing has happened since it left, and mostly
    nothing is the matter."""
    snd = conn.snd
    conn.segments_in += 1
    conn.last_received_at = now
    snd.on_answer(now)
    snd.rate.app_limited = 0  # it was no text that ran out
    snd.wl2 = snd.nxt
    conn.calm = DOUBTED
    conn.establish(now)
    if snd.wnd and not (conn.config.cork or snd.cc.paced or snd.fin_queued):
        calm_down(conn)
