"""SEGMENT ARRIVES: RFC 9293 §3.10.7, one function a step, in the RFC's order and with its ordinals.

::

    CLOSED, LISTEN  §3.10.7.1, .2   in ``listener``: there is no connection yet
    SYN-SENT        §3.10.7.3       ``_in_syn_sent``
    all others      §3.10.7.4       ``_first_check_sequence`` ... ``eighth_process_fin``

In front of the eight steps stands header prediction: the next segment of an established stream passes the first four at
one glance. (What ``predicted`` takes does not even come here.) RFC 5961 (blind attacks), RFC 7323 (PAWS) and RFC 1337
(TIME-WAIT) speak up where their step is. A step that answers False ends the matter. Nothing is sent here: replies
become due and leave in ``output``.
"""

import errno
from typing import TYPE_CHECKING, Final

from usertcp.tcp import timers as timer
from usertcp.tcp.opening import take_syn
from usertcp.tcp.output import reset_for
from usertcp.tcp.receiver import ACK_NOW
from usertcp.tcp.rtt import TS_TICK
from usertcp.tcp.seq import keyed
from usertcp.tcp.state import CAN_RECEIVE, CAN_SEND, CONTROL, DOUBTED, EOF, READABLE, URGENT, WRITABLE, State
from usertcp.tcp.timeouts import arm_user_timeout, rearm
from usertcp.units import MASK32, SEC
from usertcp.wire.tcp import ACE, ACK, FIN, PSH, RST, SYN, URG, Segment

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection

MIN_CHALLENGES: Final = 50  # ACKs that a connection sends in a second to segments that may be forged (RFC 5961 §7)
MAX_CHALLENGES: Final = 150  # exclusive


def segment_arrives(conn: "Connection", seg: Segment, now: int) -> None:
    """SEGMENT ARRIVES for a connection that exists (RFC 9293 §3.10.7): the state may change, replies become due."""
    if conn.state is State.SYN_SENT:
        _in_syn_sent(conn, seg, now)
    elif conn.state is not State.CLOSED:
        _otherwise(conn, seg, now)


def _in_syn_sent(conn: "Connection", seg: Segment, now: int) -> None:
    """RFC 9293 §3.10.7.3."""
    snd = conn.snd
    ack = snd.absolute(seg.ack)
    acceptable = bool(seg.flags & ACK) and snd.una < ack <= snd.nxt
    if seg.flags & ACK and not acceptable:
        conn.reset_due = reset_for(seg.flags, seg.seq, seg.ack, seg.length)
        return
    if seg.flags & RST:
        if acceptable:
            conn.fail(errno.ECONNREFUSED)
        return
    if not seg.flags & SYN:
        return
    take_syn(conn, seg, now)
    if not acceptable:  # both ends open at once (RFC 9293 §3.5, MUST-10)
        conn.enter(State.SYN_RECEIVED)
        conn.syn_due = True
        return
    _syn_acked(conn, seg, ack, now)
    snd.wl2 = ack
    conn.establish(now)
    conn.ecn.on_established(conn, seg)
    conn.rcv.ack = ACK_NOW
    if seg.payload or seg.flags & FIN:
        _seventh_process_text(conn, seg, conn.rcv.irs, now)


def _otherwise(conn: "Connection", seg: Segment, now: int) -> None:
    """RFC 9293 §3.10.7.4."""
    seq = conn.rcv.absolute(seg.seq)
    if _predicted(conn, seg, seq):
        if not _paws_passes(conn, seg, now):
            return
    else:
        if not _first_check_sequence(conn, seg, seq, now):
            return
        if seg.flags & RST:
            _second_check_rst(conn, seq, now)
            return
        # third: security and compartment, obsolete (RFC 9293 §A.1)
        if seg.flags & SYN and not _fourth_check_syn(conn, seg, seq, now):
            return
    if not _fifth_check_ack(conn, seg, seq, now):
        return
    if conn.ts_ok and seg.options.has_ts:
        conn.rcv.update_ts_recent(seq, seg.options.tsval, now)
    conn.ecn.on_arrival(conn, seg, seq)
    if seg.flags & URG:
        _sixth_check_urg(conn, seg, seq)
    if seg.payload or seg.flags & FIN:
        _seventh_process_text(conn, seg, seq, now)


def _predicted(conn: "Connection", seg: Segment, seq: int) -> bool:
    """Header prediction: the next segment in order, inside the window, an ACK and nothing else but PSH and what ECN
    has to tell."""
    rcv = conn.rcv
    return (
        seg.flags & ~(PSH | ACE) == ACK
        and seq == rcv.nxt
        and conn.state is State.ESTABLISHED
        and seq + len(seg.payload) <= rcv.edge
    )


def _paws_passes(conn: "Connection", seg: Segment, now: int) -> bool:
    """RFC 7323 §5.3 R1: timestamps first. False: the segment is dropped.

    TS.Recent is renewed (R3) after the fifth check only, as Linux does: who guesses a number in front of RCV.NXT, but
    no acknowledgment, could otherwise have all that the peer says from then on taken for old.
    """
    if not conn.ts_ok or seg.flags & RST:
        return True
    options = seg.options
    if not options.has_ts:
        return False  # RFC 7323 §3.2: silently
    if conn.rcv.paws_rejects(options.tsval, now):
        _acknowledge_suspicious(conn, seg, now)
        return False
    return True


def _first_check_sequence(conn: "Connection", seg: Segment, seq: int, now: int) -> bool:
    rcv = conn.rcv
    if conn.state is State.SYN_RECEIVED and seg.flags & SYN and seq == rcv.irs and not seg.flags & RST:
        if not seg.flags & ACK:  # the peer's SYN again: our SYN,ACK was lost
            conn.syn_due = True
            if not conn.ecn.on_syn_again(seg):
                conn.reset_peer()
                conn.fail(errno.EPROTO)
            return False
        return True  # a simultaneous open's SYN,ACK: its ACK counts (RFC 9293 §3.5, Figure 7)
    if not rcv.acceptable(seq, seg.length):
        if conn.state is State.TIME_WAIT and seg.flags & FIN and seq + seg.length == rcv.nxt:
            conn.timers.set(timer.TIME_WAIT, now + 2 * conn.config.msl)  # eighth, TIME-WAIT: start 2 MSL anew
        if not seg.flags & RST:
            _acknowledge_suspicious(conn, seg, now)
            if (
                seg.flags & (SYN | ACK) == SYN | ACK
                and seq == rcv.irs
                and conn.snd.absolute(seg.ack) == conn.snd.iss + 1
            ):
                conn.ecn.on_synack_again(seg)
            if seq == rcv.nxt - 1 and not seg.length and conn.state is not State.SYN_RECEIVED:
                # From a peer that does not know yet that we took its probe, when ours crossed it: if neither end
                # believed the other's ACK, neither would ever hear of it (RFC 9293 §A.2).
                _ = _paws_passes(conn, seg, now) and _fifth_check_ack(conn, seg, seq, now)
        return False
    return _paws_passes(conn, seg, now)


def _acknowledge_suspicious(conn: "Connection", seg: Segment, now: int) -> None:
    """An ACK for what is old, out of the window or forged. Bare ACKs are answered sparingly, so that two ends that
    disagree do not answer each other for ever, and SYNs as well, wherever they lie (RFC 5961 §4, §7)."""
    if seg.length == 0 or seg.flags & SYN:
        _challenge(conn, now)
    else:
        conn.rcv.ack = ACK_NOW
        if seg.payload:
            seq = conn.rcv.absolute(seg.seq)
            conn.rcv.duplicate(seq, seq + len(seg.payload))


def _challenge(conn: "Connection", now: int) -> None:
    """A challenge ACK (RFC 5961 §3, §4, §5), rationed (§7).

    Each connection has its own ration: of one that all share, who has a connection himself could count what is left,
    and so learn whether his guesses at another hit (CVE-2016-5696). And it is another every second, by a number that
    only the two ends know.
    """
    if now - conn.challenge_at >= SEC:
        conn.challenge_at = now
        draw = keyed(now.to_bytes(8, "big"), conn.snd.iss.to_bytes(8, "big"), b"ration")
        conn.challenges = MIN_CHALLENGES + draw % (MAX_CHALLENGES - MIN_CHALLENGES)
    if conn.challenges:
        conn.challenges -= 1
        conn.rcv.ack = ACK_NOW


def _second_check_rst(conn: "Connection", seq: int, now: int) -> None:
    """RFC 5961 §3: only the very next number resets; one elsewhere in the window is asked about."""
    if conn.state is State.TIME_WAIT:  # RFC 1337: an old reset must not end TIME-WAIT early
        return
    if seq != conn.rcv.nxt:
        _challenge(conn, now)
        return
    if conn.state is State.SYN_RECEIVED:
        if conn.passive:  # back to LISTEN, which is the listener (MUST-11)
            conn.end()
        else:
            conn.fail(errno.ECONNREFUSED)
    elif conn.state is State.CLOSE_WAIT:
        conn.fail(errno.EPIPE)  # as Linux: the peer had closed already
    elif conn.state in (State.CLOSING, State.LAST_ACK):
        conn.end()
    else:
        conn.fail(errno.ECONNRESET)


def _fourth_check_syn(conn: "Connection", seg: Segment, seq: int, now: int) -> bool:
    if conn.state is State.SYN_RECEIVED:
        if seq == conn.rcv.irs:
            return True
        if conn.passive:  # back to LISTEN
            conn.end()
            return False
    _challenge(conn, now)  # RFC 5961 §4
    return False


def _fifth_check_ack(conn: "Connection", seg: Segment, seq: int, now: int) -> bool:
    if not seg.flags & ACK:
        return False
    snd = conn.snd
    ack = snd.absolute(seg.ack)
    if conn.state is State.SYN_RECEIVED:
        if not _ack_of_syn(conn, seg, seq, ack, now):
            return False
    elif ack > snd.nxt or ack < max(snd.una - snd.max_wnd, snd.iss + 1):  # RFC 5961 §5; and of what was ever sent
        _challenge(conn, now)
        return False
    elif ack >= snd.una:
        _take_ack(conn, seg, seq, ack, now)
    conn.probes = 0
    conn.soft_error = None
    if snd.fin_acked:
        return fin_acked(conn, now)
    return True


def _ack_of_syn(conn: "Connection", seg: Segment, seq: int, ack: int, now: int) -> bool:
    """SYN-RECEIVED, fifth: an ACK of our SYN establishes; any other is answered by a reset."""
    snd = conn.snd
    if not snd.una < ack <= snd.nxt:
        conn.reset_due = reset_for(seg.flags, seg.seq, seg.ack, seg.length)
        return False
    if conn.listener is not None and not conn.listener.has_room():
        return False  # the accept queue is full: the peer's next segment tries again
    if conn.passive and not seg.length and now < conn.opened_at + conn.config.defer_accept:
        conn.timers.set(timer.RETRANSMIT, conn.opened_at + conn.config.defer_accept)  # then a SYN,ACK asks once more
        return False
    _syn_acked(conn, seg, ack, now)
    snd.wnd = seg.wnd if seg.flags & SYN else seg.wnd << snd.shift  # a SYN's window is never scaled (RFC 7323 §2.2)
    snd.max_wnd = max(snd.max_wnd, snd.wnd)
    snd.wl1, snd.wl2 = seq, ack
    conn.establish(now)
    conn.ecn.on_established(conn, seg)
    rearm(conn, now)
    return True


def _syn_acked(conn: "Connection", seg: Segment, ack: int, now: int) -> None:
    """Our SYN is acknowledged: one that was sent once, which is nearly always so, has left no more than its time."""
    snd = conn.snd
    if conn.syn_due:  # once more, or with the ACK of the peer's: the device had no room for it, and it is of no use now
        conn.syn_due = False
        conn.rcv.ack = ACK_NOW
    if conn.calm == CONTROL and snd.sack_ok:
        snd.on_answer(now)
        snd.rate.app_limited = 0  # it was no text that ran out
        conn.calm = DOUBTED
        return
    conn.doubt()
    snd.on_ack(ack, now, echoed_at=_echoed_at(conn, seg.options.tsecr, now))


def _take_ack(conn: "Connection", seg: Segment, seq: int, ack: int, now: int) -> None:
    """ESTABLISHED, fifth: SND.UNA, the window, duplicates."""
    snd = conn.snd
    before = snd.una
    changed = snd.update_window(seq, ack, seg.wnd << snd.shift)
    marked = conn.ecn.marked(conn, seg, ack - before)
    if marked:
        snd.on_ecn(marked, now)
    duplicate = ack == before and not seg.payload and not seg.flags & FIN and not changed and snd.wnd > 0
    acked = snd.on_ack(
        ack,
        now,
        blocks=seg.options.sack,
        duplicate=duplicate and (snd.outstanding > 0 or snd.tlp.end >= 0),
        echoed_at=_echoed_at(conn, seg.options.tsecr, now),
        marked=marked,
    )
    after_ack(conn, acked, now)
    if not acked and (changed or seg.options.sack):
        rearm(conn, now)


def after_ack(conn: "Connection", acked: int, now: int) -> None:
    """The sender has taken an ACK of ``acked`` bytes: what follows for the user and for the timers."""
    snd = conn.snd
    if not conn.ready & WRITABLE and conn.state in CAN_SEND:  # a user was turned away
        aside = snd.outstanding - snd.pipe
        snd.buffer.follow(snd.useful, aside)
        lowat = conn.config.notsent_lowat
        if snd.buffer.inviting(aside) and (not lowat or snd.unsent < lowat):
            conn.signal(WRITABLE)
    if acked:
        conn.bytes_acked += acked
        if snd.buffer.start == snd.buffer.end:  # the next turn may be a while off (``predicted.may_ride``)
            conn.chrono.rest(now)
        rearm(conn, now, restart=snd.restarts_timer)
        arm_user_timeout(conn)


def _echoed_at(conn: "Connection", tsecr: int, now: int) -> int:
    """When the segment was sent, at the latest, whose timestamp ``tsecr`` (0: none) echoes (RFC 7323 §4.1), ns; -1
    without one."""
    if not conn.ts_ok or not tsecr:
        return -1
    ticks = (conn.ts_now(now) - tsecr) & MASK32
    return max(-1, (now // TS_TICK - ticks + 1) * TS_TICK - 1) if ticks < 1 << 31 else -1


def fin_acked(conn: "Connection", now: int) -> bool:
    """Our FIN is acknowledged. False: the connection is gone."""
    if conn.state is State.FIN_WAIT_1:
        conn.enter(State.FIN_WAIT_2)
    elif conn.state is State.CLOSING:
        conn.time_wait(now)
    elif conn.state is State.LAST_ACK:  # gone at once: what else comes finds nobody
        conn.finish()
        conn.host.forget(conn)
        return False
    return True


def _sixth_check_urg(conn: "Connection", seg: Segment, seq: int) -> None:
    if conn.state in CAN_RECEIVE and conn.rcv.urgent(seq, seg.urg):
        conn.ready &= ~URGENT  # told anew each time the pointer advances (MUST-32)
        conn.signal(URGENT)


def _seventh_process_text(conn: "Connection", seg: Segment, seq: int, now: int) -> None:
    if conn.state not in CAN_RECEIVE:
        return
    rcv = conn.rcv
    if seg.flags & SYN:
        seq += 1
    seq, text, fin = rcv.trim(seg, seq)
    if text:
        if conn.orphan:  # nobody will read it: the peer must know (SHLD-3), by the number that it expects
            conn.reset_due = reset_for(seg.flags, seg.seq, seg.ack, seg.length)
            conn.end()
            return
        take_text(conn, seq, text, seg.gso_size or len(seg.payload), seg.options.tsecr, now)
    if fin:
        rcv.take_fin(seq + len(text))
    if rcv.fin is not None and rcv.fin_reached():
        eighth_process_fin(conn, now)


def take_text(conn: "Connection", seq: int, text: memoryview, segment_size: int, tsecr: int, now: int) -> None:
    """Text inside the window, for a user who reads; it came in segments of ``segment_size`` that echo ``tsecr``."""
    rcv = conn.rcv
    before = rcv.nxt
    if rcv.take(seq, text, segment_size):
        conn.bytes_received += rcv.nxt - before
        conn.signal(READABLE)
        tuner = rcv.tuner
        if rcv.nxt > tuner.bar and now >= tuner.due:
            measure(conn, tsecr, now)


def measure(conn: "Connection", tsecr: int, now: int) -> None:
    """A round trip of the receiving half is over, or the user took more than ever in one."""
    rcv = conn.rcv
    rcv.tuner.measure(rcv.nxt, rcv.edge, _echoed_at(conn, tsecr, now), conn.snd.rtt.min_rtt, now)


def eighth_process_fin(conn: "Connection", now: int) -> None:
    """The peer's FIN is in order."""
    conn.rcv.fin_at = now
    if conn.state is State.ESTABLISHED:
        conn.enter(State.CLOSE_WAIT)
    elif conn.state is State.FIN_WAIT_1:
        conn.enter(State.CLOSING)
    elif conn.state is State.FIN_WAIT_2:
        conn.time_wait(now)
    conn.signal(EOF | READABLE)
