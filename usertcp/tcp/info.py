"""A connection's figures at one moment, the source of TCP_INFO and of ``usertcp ss``."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usertcp.tcp.recovery import PHASES
from usertcp.tcp.state import State

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """Times in ns, sizes in bytes, counts in segments unless said otherwise."""

    state: State
    congestion: str  # the algorithm's name
    phase: str  # OPEN, CWR, RECOVERY or LOSS: see ``recovery``
    rto: int
    srtt: int
    rttvar: int
    min_rtt: int
    snd_mss: int
    rcv_mss: int
    advertised_mss: int  # what our SYN offered
    path_mss: int  # what the path carries
    cwnd: int
    ssthresh: int
    pacing_rate: int  # bytes a second; 0: not paced
    snd_wnd: int
    rcv_wnd: int
    snd_wscale: int
    rcv_wscale: int
    timestamps: bool
    sack: bool
    ecn: str  # "none", "classic" (RFC 3168) or "accurate" (RFC 9768)
    received_ce: int  # segments that arrived marked
    delivered_ce: int  # segments of ours that arrived marked, as the peer tells
    unacked: int  # bytes sent and not acknowledged, these three among them:
    sacked: int  # reported behind a gap
    lost: int  # held for lost and not sent again yet
    retrans: int  # sent again and under way
    unsent: int  # bytes handed in and not sent
    unread: int  # bytes received in order and not read
    out_of_order: int  # bytes held behind gaps
    send_buffer: int  # what the user may hand in, as tuned
    receive_buffer: int  # the window at its widest, as tuned
    rcv_rtt: int  # the round trip by which the receive buffer is tuned; 0: it was not measured
    rcv_taken: int  # the most bytes that the user took in one
    retries: int  # time-outs in a row
    timeouts: int  # ever
    retransmissions: int
    bytes_retransmitted: int
    undone: int  # reductions of the window that turned out to be mistaken, and were taken back
    reordering_seen: int  # how often something sent earlier came later
    overtaken: int  # by how many bytes at most
    reordering_window: int  # how long RACK waits for it
    dsacks_received: int  # reports that something came twice
    dsacks_sent: int
    delivered: int  # bytes that the peer has, by acknowledgment or SACK
    delivery_rate: int  # of the newest good sample, bytes a second
    delivery_app_limited: bool  # the user, not the network, was the limit of it
    busy_time: int  # with something to send or to be acknowledged, see ``chrono``; these two are parts of it:
    window_limited_time: int  # the peer's window held us back
    buffer_limited_time: int  # the send buffer was too small for the network
    probes: int  # unanswered keepalive or window probes
    segments_in: int
    segments_out: int
    bytes_acked: int
    bytes_received: int
    opened_at: int
    last_received_at: int
    last_sent_at: int
    fin_at: int  # when the peer's FIN was taken, after all its text; 0: it has not closed


def collect(conn: "Connection", now: int) -> TcpInfo:
    """The figures of ``conn``; running times up to ``now``, or to their last change if that is later."""
    snd, rcv = conn.snd, conn.rcv
    board, rate, rtt = snd.board, snd.rate, snd.rtt
    busy, window_limited, buffer_limited = conn.chrono.times(now)
    return TcpInfo(
        state=conn.state,
        congestion=snd.cc.name,
        phase=PHASES[snd.phase],
        rto=rtt.rto,
        srtt=rtt.srtt,
        rttvar=rtt.rttvar,
        min_rtt=rtt.min_rtt,
        snd_mss=snd.cc.mss,
        rcv_mss=rcv.mss,
        advertised_mss=conn.advertised_mss,
        path_mss=conn.path_mss,
        cwnd=snd.cc.cwnd,
        ssthresh=snd.cc.ssthresh,
        pacing_rate=snd.pacer.rate,
        snd_wnd=snd.wnd,
        rcv_wnd=rcv.edge - rcv.nxt,
        snd_wscale=snd.shift,
        rcv_wscale=rcv.shift,
        timestamps=conn.ts_ok,
        sack=conn.sack_ok,
        ecn=conn.ecn.name,
        received_ce=conn.ecn.received_ce,
        delivered_ce=conn.ecn.delivered_ce,
        unacked=snd.outstanding,
        sacked=board.sacked,
        lost=board.lost,
        retrans=board.retrans,
        unsent=max(snd.unsent, 0),
        unread=rcv.buffer.readable,
        out_of_order=rcv.buffer.arrived.total,
        send_buffer=snd.buffer.limit,
        receive_buffer=rcv.buffer.limit,
        rcv_rtt=rcv.tuner.rtt,
        rcv_taken=rcv.tuner.taken if rcv.tuner.rtt else 0,
        retries=snd.retries,
        timeouts=snd.timeouts,
        retransmissions=snd.retransmissions,
        bytes_retransmitted=snd.bytes_resent,
        undone=snd.undone,
        reordering_seen=snd.rack.reordering_seen,
        overtaken=snd.rack.overtaken,
        reordering_window=snd.rack.reo_wnd(rtt.min_rtt, rtt.srtt, eager=False),
        dsacks_received=snd.dsacks,
        dsacks_sent=rcv.dsacks_sent,
        delivered=rate.delivered,
        delivery_rate=rate.rate,
        delivery_app_limited=rate.rate_app_limited,
        busy_time=busy,
        window_limited_time=window_limited,
        buffer_limited_time=buffer_limited,
        probes=conn.probes,
        segments_in=conn.segments_in,
        segments_out=conn.segments_out,
        bytes_acked=conn.bytes_acked,
        bytes_received=conn.bytes_received,
        opened_at=conn.opened_at,
        last_received_at=conn.last_received_at,
        last_sent_at=snd.last_sent_at,
        fin_at=rcv.fin_at,
    )
