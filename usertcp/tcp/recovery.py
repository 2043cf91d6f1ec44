"""Losses and how they are mended: when a recovery begins, what each ACK means in it, when it ends or was a mistake.

::

                 three duplicates (RFC 5681), RACK (RFC 8985)            una >= recover
        OPEN ------------------------------------------------> RECOVERY ----------------> OPEN
         | ECN, a loss that the tail probe mended                 |
         +----------> CWR ----------------------------------------+     time-out (RFC 6298)
         |             | una >= recover: OPEN                     +------------> LOSS ---> OPEN, una >= recover
         +-------------+------------------------------------------------------->

        RECOVERY, LOSS -- una >= recover, and something sent since is lost ----> RECOVERY
        any of them -- the originals arrived after all: undone, the window as before ----> OPEN

``recover`` is SND.NXT when the phase began. In RECOVERY and CWR the window comes down by Proportional Rate Reduction
(``prr``), in LOSS it starts over. What is lost is said by ``rack``; a peer without SACK has only duplicate ACKs, and
then it is NewReno's rules (RFC 6582): the first unacknowledged segment, and the next one with each partial ACK.

That a recovery was a mistake shows in three ways: the timestamp echoed was sent before the first retransmission (Eifel,
RFC 3522, RFC 4015), the peer reports by DSACK that each retransmission came twice (RFC 2883, RFC 3708), or data that
was never sent again is acknowledged after a time-out (F-RTO, RFC 5682). These functions decide for a ``Sender``; they
send nothing and set no timer."""

from typing import TYPE_CHECKING, Final

from usertcp.tcp.scoreboard import SACKED, Sent
from usertcp.units import NEVER

if TYPE_CHECKING:
    from usertcp.tcp.sender import Sender

OPEN: Final = 0
CWR: Final = 1  # congestion window reduced, nothing to mend
RECOVERY: Final = 2
LOSS: Final = 3
PHASES: Final = ("OPEN", "CWR", "RECOVERY", "LOSS")

DUPLICATE_THRESHOLD: Final = 3  # duplicate ACKs, or segments SACKed, that mean a loss (RFC 5681 §3.2, RFC 6675 §2)

# F-RTO (RFC 5682 §3.1): where it stands.
NO_FRTO: Final = 0
FIRST_ACK: Final = 1  # the first ACK after the time-out is awaited
NEW_DATA: Final = 2  # it advanced SND.UNA: new data goes out instead of retransmissions, and the second is awaited


def on_ack(snd: "Sender", acked: int, *, duplicate: bool, dsack: tuple[int, int] | None, echoed_at: int) -> None:
    """An ACK that brings news: ``snd.board.fresh`` is what it delivers, ``acked`` by how much SND.UNA advanced.

    ``duplicate``: it is a duplicate ACK; ``dsack``: what it reports as received twice; ``echoed_at``: when the segment
    was sent, at the latest, whose timestamp it echoes (ns), -1 without.
    """
    now = snd.sample.now
    growing = acked > 0 and (snd.sack_ok or snd.phase in (OPEN, LOSS))
    if dsack is not None:
        _on_dsack(snd, dsack)
    if snd.tlp.end >= 0:
        matches = dsack is not None and dsack[1] == snd.tlp.end
        if snd.tlp.mended(snd.una, matches, duplicate and not snd.board.fresh):
            reduce(snd, now)
    if snd.phase == LOSS:
        _in_loss(snd, acked, duplicate, echoed_at, now)
    elif _was_mistake(snd, acked, dsack is not None, echoed_at):
        undo(snd)
    elif snd.phase != OPEN and snd.una >= snd.recover:
        _leave(snd, now)
    lost_before = snd.rate.lost
    if snd.sack_ok:
        detect(snd, now)
    else:
        _count_duplicates(snd, acked, duplicate)
    safe = acked > 0 and snd.rate.lost == lost_before
    if snd.rate.lost > lost_before and snd.phase < RECOVERY:
        enter_recovery(snd, now, acked)
    _open_window(snd, growing=growing or snd.rack.reordering_seen > 0, safe=safe)


def _open_window(snd: "Sender", *, growing: bool, safe: bool) -> None:
    """Let the congestion control, or in its place PRR, say how much may be in flight now.

    The window grows (``growing``) when SND.UNA advances outside a recovery, with SACK by the ACK that ends one as well
    (as Linux), and where the path is known to reorder also with what is delivered behind a gap."""
    cc, sample = snd.cc, snd.sample
    sample.pipe = snd.pipe
    sample.in_recovery = snd.phase in (CWR, RECOVERY)
    if cc.keeps_window:
        if sample.acked or sample.lost:
            cc.on_ack(sample)
    elif not sample.in_recovery:
        if sample.acked and growing:
            cc.on_ack(sample)
    elif sample.acked:
        _reduce_in_proportion(snd, safe=safe)


def _reduce_in_proportion(snd: "Sender", *, safe: bool) -> None:
    cc, acked, repair = snd.cc, snd.sample.acked, snd.board.lost > 0
    window = snd.prr.on_ack(acked, snd.pipe, cc.ssthresh, cc.mss, safe=safe, repair=repair)
    cc.cwnd = max(window, cc.mss)


# --- what is lost ----------------------------------------------------------------------------------------------------


def detect(snd: "Sender", now: int) -> None:
    """Ask RACK what is lost by ``now``, and when to ask again (``snd.reorder_at``)."""
    rtt, board = snd.rtt, snd.board
    eager = snd.phase >= RECOVERY or (board.sacked > 0 and board.reports >= DUPLICATE_THRESHOLD)
    lost, snd.reorder_at = snd.rack.detect(board, snd.rack.reo_wnd(rtt.min_rtt, rtt.srtt, eager=eager), now)
    for record in lost:
        _count_lost(snd, record, now)


def _count_lost(snd: "Sender", record: Sent, now: int) -> None:
    size = record.end - record.start
    rate = snd.rate
    rate.lost += size
    snd.sample.lost += size
    snd.sample.lost_since += size
    *_, lost, flight, app_limited = record.then
    snd.cc.on_lost(size, flight, rate.lost - lost, app_limited, now)


def on_reorder_timeout(snd: "Sender", now: int) -> None:
    """The reordering window of something has passed without its delivery (RFC 8985 §6.3)."""
    lost_before = snd.rate.lost
    detect(snd, now)
    if snd.rate.lost > lost_before and snd.phase < RECOVERY:
        snd.sample.acked = 0
        enter_recovery(snd, now, 0)
        if not snd.cc.keeps_window:
            _reduce_in_proportion(snd, safe=False)


def _count_duplicates(snd: "Sender", acked: int, duplicate: bool) -> None:
    """Without SACK: RFC 5681 §3.2 and RFC 6582 §3.2. A duplicate means that one segment has left the network."""
    mss = snd.cc.mss
    if acked:
        snd.sample.acked = max(snd.sample.acked - snd.dup_credit, min(acked, mss))
        snd.dup_credit = max(0, snd.dup_credit - max(acked - mss, 0))
        if snd.phase == RECOVERY:
            snd.partial_acks += 1
            _hold_first(snd)
        else:
            snd.duplicates = snd.dup_credit = 0
    elif duplicate:
        snd.duplicates += 1
        credit = min(mss, snd.pipe, _credible(snd))
        snd.dup_credit += credit
        snd.sample.acked += credit
        if snd.duplicates == DUPLICATE_THRESHOLD and snd.phase < RECOVERY and snd.una > snd.recover:
            _hold_first(snd)


def _credible(snd: "Sender") -> int:
    """How many bytes a duplicate may claim to have left the network: a peer can invent duplicates. Two segments before
    they mean a loss (RFC 3042), what was outstanding in recovery (RFC 9937 §6.2), after a time-out only new data."""
    if snd.phase == RECOVERY:
        return max(snd.prr.recover_fs - snd.prr.delivered - snd.sample.acked, 0)
    if snd.phase == LOSS:
        return max(snd.nxt - snd.recover - snd.dup_credit, 0)
    return snd.cc.mss if snd.duplicates <= DUPLICATE_THRESHOLD else 0


def _hold_first(snd: "Sender") -> None:
    record = snd.board.mark_first_lost()
    if record is not None:
        _count_lost(snd, record, snd.sample.now)
        snd.resend_now = True


# --- phases ----------------------------------------------------------------------------------------------------------


def enter_recovery(snd: "Sender", now: int, acked: int) -> None:
    """Fast recovery begins (RFC 6675 §5 step 4, RFC 6582 §3.2 step 2, RFC 9937 §6.1). The ACK that tells of the loss
    advanced SND.UNA by ``acked``."""
    reduced = snd.phase == CWR
    if not reduced:
        _reduce_window(snd, now, acked)
    _begin(snd, RECOVERY, snd.board.retrans)
    snd.undoable = not reduced  # that reduction had another cause


def reduce(snd: "Sender", now: int, *, ecn: bool = False) -> None:
    """Reduce the window though nothing is to be mended: the network says so by ECN (RFC 3168 §6.1.2), or a tail loss
    probe has mended what was lost (RFC 8985 §7.4.2). Once for a window of data."""
    if snd.phase != OPEN:
        return
    _reduce_window(snd, now, 0, ecn=ecn)
    snd.phase = CWR
    snd.recover = snd.nxt
    snd.undoable = False


def _reduce_window(snd: "Sender", now: int, acked: int, *, ecn: bool = False) -> None:
    cc = snd.cc
    cc.on_congestion(min(snd.outstanding + acked, cc.cwnd), now, ecn=ecn)
    snd.reduced = True
    snd.prr.begin(snd.outstanding - snd.board.sacked - snd.dup_credit + snd.sample.acked)


def _begin(snd: "Sender", phase: int, flying: int) -> None:
    """Enter RECOVERY or LOSS; from now on retransmissions are counted, to find out whether they were needed. ``flying``
    bytes of an earlier phase, or of a probe, were under way: by what they are answered is not known yet."""
    snd.phase = phase
    snd.recover = snd.nxt
    snd.resend_now = True
    snd.partial_acks = 0
    snd.tlp.cancel()
    snd.undoable = True
    if flying:
        snd.undo_left = -(-flying // snd.cc.mss)
        snd.resent.remove_below(snd.una)
        snd.first_resent_at = max(snd.first_resent_at, snd.board.first_flying_again)
        return
    snd.undo_left = -1
    snd.resent.clear()
    snd.first_resent_at = -1


def _leave(snd: "Sender", now: int) -> None:
    """All that was outstanding when the phase began is acknowledged."""
    if snd.phase != LOSS:
        snd.cc.on_recovered(now)
    mended = snd.phase >= RECOVERY
    if mended:
        snd.rack.on_recovered()
    snd.phase = OPEN
    snd.frto = NO_FRTO
    snd.duplicates = snd.dup_credit = 0
    if mended and (snd.board.lost or snd.board.retrans):  # sent since it began: another window, another reduction
        enter_recovery(snd, now, 0)


def on_rto(snd: "Sender", now: int) -> None:
    """RFC 6298 §5.4 to §5.6, RFC 5681 §3.1, RFC 8985 §6.3: back off, hold for lost what had its time, start over."""
    board, rack = snd.board, snd.rack
    flight, flying = min(snd.outstanding, snd.cc.cwnd), board.retrans
    reduced = snd.phase != OPEN and snd.una < snd.recover and not (snd.phase == LOSS and snd.retries == 0)
    first = board.first
    if first is not None and first.state == SACKED:
        board.renege()
    held = board.lost
    if snd.sack_ok:
        rack.on_timeout(board, rack.reo_wnd(snd.rtt.min_rtt, snd.rtt.srtt, eager=True), now)
    else:
        board.mark_all_lost()
    snd.rate.lost += board.lost - held
    snd.reorder_at = NEVER
    snd.frto = FIRST_ACK if snd.phase < RECOVERY or snd.retries else NO_FRTO
    snd.cc.on_rto(flight, now, reduced=reduced)
    snd.reduced = True
    if reduced:
        snd.phase = LOSS
        snd.recover = snd.nxt
        snd.resend_now = True
        snd.tlp.cancel()
    else:
        _begin(snd, LOSS, flying)
    snd.retries += 1
    snd.timeouts += 1
    snd.rtt.backoff()
    snd.duplicates = snd.dup_credit = 0


def _in_loss(snd: "Sender", acked: int, duplicate: bool, echoed_at: int, now: int) -> None:
    """After a time-out: was it spurious (Eifel, F-RTO), is it over?"""
    if _was_mistake(snd, acked, False, echoed_at):
        undo(snd)
        return
    if snd.frto == NEW_DATA:
        if snd.undoable and _original_arrived(snd):  # RFC 5682 §3.1 step 3b: the time-out was spurious
            undo(snd)
            return
        if acked or duplicate or snd.board.fresh:
            snd.frto = NO_FRTO  # step 3a: the loss is real
    elif snd.frto == FIRST_ACK:
        if acked:
            snd.frto = NEW_DATA if _may_try_new_data(snd) else NO_FRTO  # step 2b
        elif duplicate and not snd.sack_ok:  # step 2a; with SACK a duplicate says nothing yet
            snd.frto = NO_FRTO
    if snd.una >= snd.recover:
        if snd.undo_left == 0:
            undo(snd)
        else:
            _leave(snd, now)


def _may_try_new_data(snd: "Sender") -> bool:
    """Whether the first ACK after the time-out answers what was sent again, and no more, and new data can go."""
    first = snd.board.first
    answered = snd.una < snd.recover and first is not None and not first.retransmitted
    return answered and snd.unsent > 0 and snd.nxt < snd.una + snd.wnd


def _original_arrived(snd: "Sender") -> bool:
    """Whether the ACK delivers what was sent before the time-out and never again."""
    recover = snd.recover
    return any(not record.retransmitted and end <= recover for record, end, _ in snd.board.fresh)


# --- mistakes --------------------------------------------------------------------------------------------------------


def _was_mistake(snd: "Sender", acked: int, dsack: bool, echoed_at: int) -> bool:
    """Whether the phase should not have begun: what advanced SND.UNA was sent before our first retransmission
    (RFC 3522 §3.2), or everything sent again since was reported twice (RFC 3708 §3), which may come later."""
    if not snd.undoable:
        return False
    eifel = snd.phase >= RECOVERY and acked > 0 and 0 <= echoed_at < snd.first_resent_at
    return eifel or (dsack and snd.undo_left == 0)


def _on_dsack(snd: "Sender", dsack: tuple[int, int]) -> None:
    """RFC 2883 §4: the peer got something twice."""
    snd.dsacks += 1
    start, end = dsack
    if snd.undo_left > 0 and start in snd.resent:  # else it was the network that doubled it (RFC 3708 §3)
        snd.resent.remove(start, end)
        snd.undo_left = max(0, snd.undo_left - -(-(end - start) // snd.cc.mss))
    if end != snd.tlp.end:
        snd.rack.on_dsack(snd.una, snd.nxt)


def undo(snd: "Sender") -> None:
    """The last reduction was a mistake: go on as if it had not been made (RFC 4015 §3, RFC 5682 §3.1, RFC 3708 §3)."""
    snd.cc.on_spurious()
    snd.reduced = False
    snd.board.unmark_lost()
    snd.phase = OPEN
    snd.frto = NO_FRTO
    snd.undoable = False
    snd.undone += 1
    snd.resend_now = False
    snd.duplicates = snd.dup_credit = 0
    snd.rack.on_undone()
    snd.rtt.reset_backoff()
