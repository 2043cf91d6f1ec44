"""A connection's figures at one moment, the source of TCP_INFO and of ``usertcp ss``."""

from dataclasses import dataclass

from usertcp.tcp.state import State


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """Times in ns, sizes in bytes, counts in segments unless said otherwise."""

    state: State
    rto: int
    srtt: int
    rttvar: int
    min_rtt: int
    snd_mss: int
    rcv_mss: int
    cwnd: int
    ssthresh: int
    snd_wnd: int
    rcv_wnd: int
    snd_wscale: int
    rcv_wscale: int
    timestamps: bool
    sack: bool
    ecn: str  # "none", "classic" (RFC 3168) or "accurate" (RFC 9768)
    received_ce: int  # segments that arrived marked
    delivered_ce: int  # segments of ours that arrived marked, as the peer tells
    unacked: int  # bytes sent and not acknowledged
    unsent: int  # bytes handed in and not sent
    unread: int  # bytes received in order and not read
    out_of_order: int  # bytes held behind gaps
    retries: int  # time-outs in a row
    retransmissions: int
    probes: int  # unanswered keepalive or window probes
    segments_in: int
    segments_out: int
    bytes_acked: int
    bytes_received: int
    opened_at: int
    last_received_at: int
    last_sent_at: int
