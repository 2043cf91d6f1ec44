"""What happens when time passes: the timers' events (RFC 9293 §3.10.8), and which timers have to run.

::

    RETRANSMIT, LOSS_PROBE, REORDER   something is in flight          RFC 6298 §5, RFC 8985 §7, §6.3
    PERSIST                           the peer's window is closed     RFC 9293 §3.8.6.1
    SWS_OVERRIDE                      text waits for a better window  RFC 9293 §3.8.6.2.1
    DELAYED_ACK                       an ACK waits for company        RFC 9293 §3.8.6.3 (set in ``output``)
    PACING                            the next burst has its time     (set in ``output``)
    USER_TIMEOUT, KEEPALIVE           nobody answers                  RFC 5482, RFC 9293 §3.8.4
    FIN_WAIT_2, TIME_WAIT             it is as good as over           RFC 9293 §3.6.1

Like ``arrives`` it changes the connection and sends nothing: what becomes due leaves in ``output``.
"""

import errno
from typing import TYPE_CHECKING, Final

from usertcp.tcp import timers as timer
from usertcp.tcp.receiver import ACK_NOW
from usertcp.tcp.recovery import on_reorder_timeout, on_rto
from usertcp.tcp.state import State
from usertcp.units import MS, NEVER

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection

SWS_OVERRIDE_DELAY: Final = 200 * MS  # 0.1 to 1 s (RFC 9293 §3.8.6.2.1)
ORPHAN_PROBES: Final = 8  # of a closed window, after the user has closed (Linux, tcp_orphan_retries)


def on_timers(conn: "Connection", now: int) -> None:
    """Act on every timer that has run out by ``now``."""
    due = conn.timers.expired(now)
    for which in due:
        if which == timer.RETRANSMIT:
            if timer.LOSS_PROBE in due:  # the probe comes first (RFC 8985 §7.2)
                continue
            verdict_at = now if timer.REORDER in due else conn.timers.at(timer.REORDER)
            if verdict_at != NEVER:  # and so does the verdict on what is late, and may be so only (RFC 8985 §8)
                conn.timers.set(timer.RETRANSMIT, verdict_at + conn.snd.rtt.rto)
                continue
            _on_retransmit_timeout(conn, now)
        elif which == timer.LOSS_PROBE:
            conn.snd.tlp.due = True
            conn.timers.set(timer.RETRANSMIT, now + conn.snd.rtt.rto)
        elif which == timer.REORDER:
            on_reorder_timeout(conn.snd, now)
            conn.timers.set(timer.REORDER, conn.snd.reorder_at)
        elif which == timer.PERSIST:
            _on_persist_timeout(conn)
        elif which == timer.DELAYED_ACK:
            conn.rcv.ack = ACK_NOW
        elif which == timer.SWS_OVERRIDE:
            conn.override = True
        elif which == timer.KEEPALIVE:
            _on_keepalive(conn, now)
        elif which == timer.USER_TIMEOUT:
            _timed_out(conn)
        elif which != timer.PACING:  # TIME_WAIT, FIN_WAIT_2
            conn.end()
        if conn.state is State.CLOSED:
            break


def rearm(conn: "Connection", now: int, *, restart: bool = False) -> None:
    """Set the timers that belong to sending: retransmission (RFC 6298 §5.1 to §5.3), the probe of a closed window
    (RFC 9293 §3.8.6.1), the reordering window and the tail loss probe (RFC 8985 §6.3, §7.2), the override of
    silly-window avoidance (§3.8.6.2.1)."""
    snd, timers, due = conn.snd, conn.timers, conn.timers.due
    outstanding = snd.nxt - snd.una
    if snd.wnd == 0 and (outstanding or snd.pending):
        timers.stop(timer.RETRANSMIT)
        timers.stop(timer.LOSS_PROBE)
        timers.stop(timer.REORDER)
        if not timers.is_set(timer.PERSIST):
            delay = min(snd.rtt.rto << min(snd.backed_off_probes, 16), conn.config.max_rto)
            timers.set(timer.PERSIST, now + delay)
        arm_user_timeout(conn)
        return
    due[timer.PERSIST] = NEVER
    conn.probe_due = False
    if not outstanding:
        due[timer.RETRANSMIT] = NEVER
    elif restart or due[timer.RETRANSMIT] == NEVER:
        due[timer.RETRANSMIT] = now + snd.rtt.rto
        arm_user_timeout(conn)
    due[timer.REORDER] = snd.reorder_at
    if not outstanding or not snd.may_probe:
        due[timer.LOSS_PROBE] = NEVER
    elif restart or snd.last_sent_at == now or due[timer.LOSS_PROBE] == NEVER:
        _set_probe(conn, now)
    if outstanding or not snd.silly_blocked():
        due[timer.SWS_OVERRIDE] = NEVER
    elif due[timer.SWS_OVERRIDE] == NEVER:
        due[timer.SWS_OVERRIDE] = now + SWS_OVERRIDE_DELAY


def text_sent(conn: "Connection", now: int) -> None:
    """:func:`rearm` when a super-segment has just left, nothing is the matter, and no user timeout was asked for."""
    snd, due = conn.snd, conn.timers.due
    if (limit := due[timer.RETRANSMIT]) == NEVER:
        due[timer.RETRANSMIT] = limit = now + snd.rtt.rto
        due[timer.SWS_OVERRIDE] = NEVER
    if snd.tlp.sampled:
        at = now + snd.tlp.timeout(snd.rtt.srtt, lone=False)
        due[timer.LOSS_PROBE] = at if at < limit else limit


def text_acked(conn: "Connection", now: int) -> None:
    """The same when some, but not all, of what was sent has just been acknowledged."""
    due = conn.timers.due
    due[timer.RETRANSMIT], due[timer.REORDER] = now + conn.snd.rtt.rto, NEVER
    _set_probe(conn, now)


def _set_probe(conn: "Connection", now: int) -> None:
    """Start the timer of the tail loss probe (RFC 8985 §7.2)."""
    snd, due = conn.snd, conn.timers.due
    at = now + snd.tlp.timeout(snd.rtt.srtt, snd.nxt - snd.una <= snd.cc.mss)
    limit = due[timer.RETRANSMIT]
    due[timer.LOSS_PROBE] = at if at < limit else limit


def arm_lone(conn: "Connection", now: int) -> None:
    """:func:`rearm` when what has just left is all that is on its way, nothing waits, and nothing is the matter."""
    snd, due = conn.snd, conn.timers.due
    due[timer.OF_SENDING] = timer.AT_REST
    due[timer.RETRANSMIT] = now + snd.rtt.rto
    if snd.tlp.sampled:
        _set_probe(conn, now)
    if conn.config.user_timeout:
        arm_user_timeout(conn)


def rest(conn: "Connection") -> None:
    """:func:`rearm` and :func:`arm_user_timeout` when all that was sent is acknowledged, and nothing waits to be."""
    conn.timers.due[timer.OF_SENDING] = timer.AT_REST
    conn.probe_due = False


def answer_due(conn: "Connection") -> int:
    """When the first timer runs out for a message that has left alone (``message``), ns: nobody has set it yet."""
    snd = conn.snd
    rtt, tlp = snd.rtt, snd.tlp
    return snd.last_sent_at + (min(rtt.rto, tlp.timeout(rtt.srtt, lone=True)) if tlp.sampled else rtt.rto)


def arm_user_timeout(conn: "Connection") -> None:
    """RFC 5482: the user's bound on how long data may stay unacknowledged, also because the peer's window is
    closed (as on Linux): without a bound a peer that answers probes may take its time (MUST-37)."""
    if conn.config.user_timeout and conn.snd.outstanding:
        conn.timers.set(timer.USER_TIMEOUT, conn.snd.unacked_since + conn.config.user_timeout)
    else:
        conn.timers.stop(timer.USER_TIMEOUT)


def _on_retransmit_timeout(conn: "Connection", now: int) -> None:
    snd, config = conn.snd, conn.config
    if conn.state in (State.SYN_SENT, State.SYN_RECEIVED):
        if conn.passive and snd.retries >= config.synack_retries:
            conn.end()
            return
        if not conn.passive and 0 < config.syn_retries <= snd.retries:
            _timed_out(conn)
            return
        snd.retries += 1  # an active open has its time limit in USER_TIMEOUT
        if snd.retries == config.r1:
            _suspect(conn)
        snd.rtt.backoff()
        conn.syn_due = True
        return
    if snd.retries >= config.r2:
        _timed_out(conn)
        return
    on_rto(snd, now)
    if snd.retries == config.r1:
        _suspect(conn)
    rearm(conn, now)


def _suspect(conn: "Connection") -> None:
    """R1: IP looks after the path, and the user hears of it (RFC 9293 §3.8.3, MUST-20, SHLD-9)."""
    conn.host.suspect(conn)
    conn.report(errno.ETIMEDOUT)


def _on_persist_timeout(conn: "Connection") -> None:
    """Probe, as long as the peer answers, however often (RFC 9293 §3.8.6.1, MUST-37). But once the user has closed,
    nobody waits for what an answering peer does not take (RFC 6429 §3): a peer that takes a byte now and then may hold
    it as long as there is memory for others."""
    most = 0 if conn.rcv.buffer.memory.pressed else ORPHAN_PROBES
    if conn.probes > conn.config.r2 or (conn.orphan and conn.snd.backed_off_probes >= most):
        _timed_out(conn)
        return
    conn.probes += 1
    conn.snd.backed_off_probes += 1
    conn.probe_due = True


def _on_keepalive(conn: "Connection", now: int) -> None:
    """RFC 9293 §3.8.4: only when nothing is outstanding and nothing came for the whole interval (MUST-26)."""
    config = conn.config
    idle_until = conn.last_received_at + config.keepalive_idle
    if idle_until > now:
        conn.probes = 0
        conn.timers.set(timer.KEEPALIVE, idle_until)
        return
    if conn.snd.outstanding or conn.snd.pending:
        conn.timers.set(timer.KEEPALIVE, now + config.keepalive_interval)
        return
    silent = now - conn.last_received_at
    if conn.probes >= config.keepalive_count or (config.user_timeout and conn.probes and silent >= config.user_timeout):
        _timed_out(conn)
        return
    conn.probes += 1
    conn.keepalive_due = True
    conn.timers.set(timer.KEEPALIVE, now + config.keepalive_interval)


def _timed_out(conn: "Connection") -> None:
    """R2, the user timeout or keepalive gave the peer up: reset it, tell the user (RFC 9293 §3.8.3)."""
    if conn.peer_waits():
        conn.reset_peer()
    soft = conn.soft_error
    conn.fail(soft.errno if soft is not None and soft.errno else errno.ETIMEDOUT)
