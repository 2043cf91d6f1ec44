"""How segments leave a connection: the SYN, data sent again, new data, the FIN, probes, ACKs and resets, in this order.

``poll`` is called whenever something may have to be said. Each step builds one header, hands it with the ring's own
views to ``tx``, and changes the connection only when ``tx`` took it: on False everything is as before and ``poll`` says
that more waits. A burst of full segments is one header and one call (``gso_size``). What may be sent is the sender's
decision, whether an ACK is owed the receiver's; this file only builds.
"""

from typing import TYPE_CHECKING, Final, Protocol

from usertcp.tcp import timers as timer
from usertcp.tcp.receiver import ACK_DELAYED, ACK_NOW
from usertcp.tcp.state import CONTROL, State
from usertcp.tcp.timeouts import rearm
from usertcp.units import MASK32
from usertcp.wire import tcp as wire
from usertcp.wire.ecn import NOT_ECT
from usertcp.wire.tcp import ACK, FIN, PSH, RST, SYN, URG

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection

NO_TEXT: Final[list[memoryview]] = []

# States in which text or a FIN may be on its way out.
_SENDS_TEXT: Final = frozenset(
    {State.ESTABLISHED, State.FIN_WAIT_1, State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK, State.FIN_WAIT_2}
)


class Transmit(Protocol):
    """How a connection's segments get onto the network; ``net`` implements it."""

    def send(
        self, conn: "Connection", header: bytearray, payload: list[memoryview], length: int, gso_size: int, ecn: int
    ) -> bool:
        """Send one (super-)segment: a TCP ``header`` with checksum 0 and ``length`` bytes of ``payload``.

        ``gso_size`` is the text of each segment when ``length`` exceeds it, else 0; ``ecn`` the code point of the IP
        header. False: not taken.
        """
        ...


def poll(conn: "Connection", now: int, tx: Transmit, budget: int) -> bool:
    """Send what may be sent, at most ``budget`` (super-)segments. True: more waits (budget or sink ended it)."""
    if conn.reset_due is not None and not _send_reset(conn, tx, now):
        return True
    if conn.state is State.CLOSED:
        conn.host.forget(conn)
        return False
    if conn.syn_due and not _send_syn(conn, tx, now):
        return True
    if conn.rcv.dsacks and not _send_duplicates(conn, tx, now):
        return True
    if conn.ecn.ack_first() and not send_acks(conn, tx, now):
        return True
    if conn.state in _SENDS_TEXT and (conn.snd.pending or conn.probe_due):
        more = _send_text(conn, tx, now, budget)
        rearm(conn, now)
        if more:
            return True
    if conn.orphan and conn.state is State.FIN_WAIT_2 and not conn.timers.is_set(timer.FIN_WAIT_2):
        conn.timers.set(timer.FIN_WAIT_2, now + conn.config.fin_wait_2_timeout)
    return not send_acks(conn, tx, now)


def _send_text(conn: "Connection", tx: Transmit, now: int, budget: int) -> bool:
    """Retransmissions, new text and the FIN, or a window probe. True: more could go now."""
    snd = conn.snd
    if conn.probe_due:
        return not _send_probe(conn, tx, now)
    snd.start_burst(now)
    options = conn.options(now, text=True)
    payload = max(snd.mss - len(options), 1)
    if snd.tlp.due and not _send_tail_probe(conn, tx, now, options, payload):
        return True
    while snd.pacer.free_at <= now:
        burst = payload  # while the user has urgent data out: the device would repeat the pointer
        if snd.up <= snd.una:
            burst = snd.pacer.burst(conn.max_burst, payload)
        start, length = snd.next_resend(payload, burst)
        if not length:
            start = snd.nxt
            length = snd.next_new(payload, burst, conn.config.nodelay, conn.config.cork)
            if not length and conn.override and snd.wnd:
                length = min(snd.buffer.end - start, snd.una + snd.wnd - start)
            if not length and not snd.may_send_fin():
                if snd.settle_for_old():
                    continue
                snd.end_burst(payload, burst)
                return False
        if budget <= 0:
            return True
        head = start == snd.una < snd.nxt
        if not _send_range(conn, tx, now, start, start + length, options, payload):
            return True
        if head and conn.sack_ok:  # its answer is a round trip away again (RFC 6675 §6, as Linux)
            conn.timers.set(timer.RETRANSMIT, now + snd.rtt.rto)
        conn.override = False
        budget -= 1
    conn.timers.set(timer.PACING, snd.pacer.free_at)
    return False


def _send_tail_probe(conn: "Connection", tx: Transmit, now: int, options: bytes, payload: int) -> bool:
    """A tail loss probe (RFC 8985 §7.3). False: the sink was full."""
    snd = conn.snd
    start, length = snd.next_probe(payload)
    old = start < snd.nxt
    if length and not _send_range(conn, tx, now, start, start + length, options, payload):
        return False
    if length:
        snd.tlp.on_sent(snd.nxt, old)
    else:  # the peer has taken back its window: only the retransmission time-out can tell
        snd.tlp.due = snd.tlp.sampled = False
    return True


def _send_range(conn: "Connection", tx: Transmit, now: int, start: int, end: int, options: bytes, payload: int) -> bool:
    """Send [``start``, ``end``), in which the FIN has the number after the last byte; it rides on the last text."""
    snd = conn.snd
    text_end = snd.buffer.end
    flags = ACK
    if end >= text_end:
        flags |= PSH  # MUST-61
        if snd.fin_queued and snd.una + snd.wnd > text_end:
            end = text_end + 1
            flags = ACK | FIN if start == text_end else ACK | FIN | PSH
    length = min(end, text_end) - start
    views = snd.buffer.views(start, length) if length > 0 else NO_TEXT
    if not _transmit(conn, tx, now, start, flags, options, views, length, payload):
        return False
    if length % payload:
        snd.small_end = max(snd.small_end, start + length)
    snd.on_sent(start, end, now, payload)
    if end > text_end:
        snd.fin_sent = True
    if conn.rcv.quick and length:
        conn.rcv.quick = 0  # the user answers: its answers carry our ACKs
    return True


def _send_probe(conn: "Connection", tx: Transmit, now: int) -> bool:
    """The next byte, or the FIN, into a closed window (RFC 9293 §3.8.6.1)."""
    snd = conn.snd
    start = snd.una
    text_end = snd.buffer.end
    is_fin = start == text_end
    views = NO_TEXT if is_fin else snd.buffer.views(start, 1)
    flags = ACK | FIN if is_fin else ACK
    if not _transmit(conn, tx, now, start, flags, conn.options(now), views, 0 if is_fin else 1, 1):
        return False
    snd.on_sent(start, start + 1, now, 1)
    if is_fin:
        snd.fin_sent = True
    conn.probe_due = False
    return True


def _send_syn(conn: "Connection", tx: Transmit, now: int) -> bool:
    """SYN, or SYN,ACK once the peer's SYN is known, with our options (RFC 9293 §3.7.1, RFC 7323, RFC 2018)."""
    answer = conn.state is State.SYN_RECEIVED
    snd, rcv, config = conn.snd, conn.rcv, conn.config
    with_ts = conn.ts_ok if answer else config.timestamps
    with_scale = conn.scale_ok if answer else config.window_scaling
    options = wire.syn_options(
        conn.advertised_mss,
        rcv.shift if with_scale else -1,
        conn.sack_ok if answer else config.sack,
        (conn.ts_now(now), rcv.ts_recent if answer else 0) if with_ts else None,
    )
    ecn_flags, more = conn.ecn.opening(conn)
    flags = (SYN | ACK if answer else SYN) | ecn_flags
    if not _transmit(conn, tx, now, snd.iss, flags, options + more, NO_TEXT, 0, 1):
        return False
    conn.ecn.on_opening_sent(ecn_flags)
    if snd.nxt == snd.iss and not snd.cc.paced:
        snd.nxt = snd.iss + 1
        snd.last_sent_at = snd.unacked_since = now
        conn.calm = CONTROL
    else:
        conn.doubt()
        snd.on_sent(snd.iss, snd.iss + 1, now, 1)
    conn.syn_due = False
    conn.timers.set(timer.RETRANSMIT, now + snd.rtt.rto)
    return True


def send_acks(conn: "Connection", tx: Transmit, now: int) -> bool:
    """The ACKs that nothing else carried: keepalive probes, duplicates, the delayed one. False: the sink was full."""
    snd, rcv = conn.snd, conn.rcv
    if conn.state is State.SYN_SENT:
        return True
    if conn.keepalive_due:  # SHLD-12: an old number and no text
        if not _transmit(conn, tx, now, snd.nxt - 1, ACK, conn.options(now), NO_TEXT, 0, 1):
            return False
        conn.keepalive_due = False
    if rcv.ack != ACK_NOW and rcv.window_update_due():
        rcv.ack = ACK_NOW
    if rcv.ack == ACK_DELAYED:
        if not conn.timers.is_set(timer.DELAYED_ACK):
            conn.timers.set(timer.DELAYED_ACK, now + conn.config.delayed_ack)
        return True
    while rcv.ack == ACK_NOW:
        # A peer without SACK counts duplicates; one that has it reads them all from a single block list.
        more = rcv.duplicates - 1 if not conn.sack_ok else 0
        if not _transmit(conn, tx, now, snd.bare, ACK, conn.options(now), NO_TEXT, 0, 1):
            return False
        if more > 0:
            rcv.duplicates, rcv.ack = more, ACK_NOW
    return True


def _send_duplicates(conn: "Connection", tx: Transmit, now: int) -> bool:
    """An ACK for each stretch that came twice (RFC 2883 §4): on text, a device that segments would repeat the report.
    False: the sink was full."""
    while conn.rcv.dsacks:
        if not _transmit(conn, tx, now, conn.snd.bare, ACK, conn.options(now, duplicates=True), NO_TEXT, 0, 1):
            return False
        conn.rcv.dsack_sent()
    return True


def _send_reset(conn: "Connection", tx: Transmit, now: int) -> bool:
    """A reset, with timestamps if they were agreed on (RFC 7323 §3.2). False: the sink was full."""
    assert conn.reset_due is not None
    seq, ack, flags = conn.reset_due
    echo = conn.rcv.ts_recent if flags & ACK else 0
    options = wire.timestamps(conn.ts_now(now), echo) if conn.ts_ok else b""
    header = wire.header(conn.sport, conn.dport, seq & MASK32, ack & MASK32, flags, 0, options)
    if not tx.send(conn, header, NO_TEXT, 0, 0, NOT_ECT):
        return False
    conn.reset_due = None
    conn.segments_out += 1
    if conn.tracer is not None:
        parsed = wire.parse_options(memoryview(options))
        seg = wire.Segment(conn.sport, conn.dport, seq & MASK32, ack & MASK32, flags, 0, 0, parsed)
        conn.tracer.on_segment(conn, True, seg, now)
    return True


def _transmit(
    conn: "Connection",
    tx: Transmit,
    now: int,
    seq: int,
    flags: int,
    options: bytes,
    views: list[memoryview],
    length: int,
    payload: int,
) -> bool:
    """Build the header, send, and note what the segment carried: our ACK, our window, the urgent pointer."""
    rcv = conn.rcv
    edge = rcv.edge
    ack = urg = 0
    if flags & ACK:
        ack = rcv.nxt & MASK32
    window = min(rcv.buffer.limit, 0xFFFF) if flags & (SYN | ACK) == SYN else rcv.window_field(syn=bool(flags & SYN))
    new = length > 0 and seq >= conn.snd.nxt and not conn.probe_due
    if not flags & SYN:
        flags |= conn.ecn.flags(conn, new, flags == ACK and length == 0 and not (conn.sack_ok and rcv.buffer.arrived))
    if conn.snd.up > seq and not flags & SYN:
        flags |= URG
        urg = min(conn.snd.up - seq, 0xFFFF)  # MUST-62: the octet after the urgent data
    header = wire.header(conn.sport, conn.dport, seq & MASK32, ack, flags, window, options, urg)
    ecn = conn.ecn.code_point(new)
    if not tx.send(conn, header, views, length, payload if length > payload else 0, ecn):
        rcv.edge = edge
        return False
    if flags & ACK:
        conn.ecn.on_sent(conn, new)
        rcv.ack_sent()
        conn.timers.stop(timer.DELAYED_ACK)
    conn.segments_out += 1
    if conn.tracer is not None:
        text = memoryview(b"".join(views))
        parsed = wire.parse_options(memoryview(options))
        seg = wire.Segment(conn.sport, conn.dport, seq & MASK32, ack, flags, window, urg, parsed, text, ecn=ecn)
        conn.tracer.on_segment(conn, True, seg, now)
    return True


def reset_for(flags: int, seq: int, ack: int, length: int) -> tuple[int, int, int] | None:
    """The reset that answers a segment nobody expects: (seq, ack, flags), or None for a reset (RFC 9293 §3.10.7.1)."""
    if flags & RST:
        return None
    if flags & ACK:
        return ack, 0, RST
    return 0, (seq + length) & MASK32, RST | ACK
