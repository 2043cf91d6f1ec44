"""The settings of a connection, with their units, defaults and sources.

One frozen value per connection; ``Connection.configure`` replaces it. Times are nanoseconds, sizes bytes.
"""

from dataclasses import dataclass
from typing import Final

from usertcp.tcp.ecn_policy import Ecn
from usertcp.units import HOUR, KIB, MIB, MS, SEC

MAX_DELAYED_ACK: Final = 500 * MS  # exclusive (RFC 9293 §3.8.6.3, MUST-40)


@dataclass(frozen=True, slots=True)
class TcpConfig:
    """What a user may choose for a connection (or, on a listener, for those it accepts).

    Defaults are Linux's unless the comment says otherwise.
    """

    # Each buffer begins with the first size and tunes itself up to the second (``autotune``, ``SendBuffer.follow``);
    # with a second that is not larger it keeps the first. 1 Gbit/s over 100 ms has 12.5 MB on its way, and the buffers
    # need twice that: what waits behind a loss on the one side, what the user writes meanwhile on the other. Linux has
    # 32 MiB too for what comes (tcp_rmem; 6 MiB until 2025, half of it window) and 4 MiB for what goes (tcp_wmem), some
    # 300 Mbit/s there. What all connections together may take is in ``memory``.
    receive_buffer: int = 64 * KIB  # the first window we offer: four times what a peer sends at first (RFC 6928)
    receive_buffer_max: int = 32 * MIB  # the window scale is chosen for it
    send_buffer: int = 128 * KIB  # what ``write`` takes before the peer acknowledges: two super-segments at first
    send_buffer_max: int = 32 * MIB
    max_segment: int = 0  # upper bound of the segments of both directions (TCP_MAXSEG); 0: what the path carries
    congestion: str = "cubic"  # a name of tcp.cc.registry
    window_clamp: int = 0  # the window we offer never grows beyond it (TCP_WINDOW_CLAMP); 0: the buffer decides
    notsent_lowat: int = 0  # unsent bytes from which on ``writable`` is 0 (TCP_NOTSENT_LOWAT); 0: the buffer decides
    nodelay: bool = False  # True switches Nagle's algorithm off (RFC 9293 §3.7.4, MUST-17)
    cork: bool = False  # True holds small segments back, for 200 ms at most (TCP_CORK)
    timestamps: bool = True  # RFC 7323 §3
    sack: bool = True  # RFC 2018
    dsack: bool = True  # report what came twice (RFC 2883)
    window_scaling: bool = True  # RFC 7323 §2
    ecn: Ecn = Ecn.PASSIVE  # RFC 3168, RFC 9768; Linux's default grants the former only

    delayed_ack: int = 40 * MS  # below 0.5 s (RFC 9293 §3.8.6.3, MUST-40)
    quick_acks: int = 16  # segments from now on acknowledged at once, for the peer's slow start (TCP_QUICKACK)
    initial_rto: int = 1 * SEC  # RFC 6298 §2.1
    min_rto: int = 200 * MS  # by which the RTO exceeds SRTT at least (Linux); RFC 6298 §2.4 asks for an RTO of 1 s
    max_rto: int = 120 * SEC  # RFC 6298 §2.5 asks for at least 60 s
    syn_timeout: int = 180 * SEC  # R2 for SYN, at least 3 minutes (RFC 9293 §3.8.3, MUST-23); Linux gives up at 127 s
    syn_retries: int = 0  # SYN retransmissions after which an active open is given up (TCP_SYNCNT); 0: time decides
    synack_retries: int = 5  # SYN,ACK retransmissions of a passive open
    defer_accept: int = 0  # so long a passive open waits for text, not only the ACK of its SYN (TCP_DEFER_ACCEPT)
    r1: int = 3  # retransmissions after which IP is told (RFC 9293 §3.8.3, SHLD-10)
    r2: int = 15  # retransmissions after which the connection is given up (RFC 9293 §3.8.3, MUST-20)
    connect_fails_on_icmp: bool = (
        False  # True, as Linux (RFC 5461): any ICMP error ends an opening connection (MUST-56)
    )
    reports: bool = True  # the user is told of trouble that ends nothing (RFC 9293 §3.9.1.8, MUST-47, SHLD-20)
    user_timeout: int = 0  # unacknowledged for so long: given up, whatever r2 (RFC 5482); 0: r2 decides

    keepalive: bool = False  # RFC 9293 §3.8.4, MUST-25
    keepalive_idle: int = 2 * HOUR  # MUST-28
    keepalive_interval: int = 75 * SEC
    keepalive_count: int = 9  # unanswered probes before the connection is given up (MUST-29)

    msl: int = 30 * SEC  # TIME-WAIT lasts 2 MSL; RFC 9293 §3.4.2 takes MSL as 2 minutes, Linux as 30 s
    fin_wait_2_timeout: int = 60 * SEC  # FIN-WAIT-2 without a user (TCP_LINGER2)

    ttl: int = 64  # RFC 9293 §3.9.2, MUST-49
    tos: int = 0  # DSCP in the upper six bits (RFC 9293 §3.9.1.9, MUST-48); the lower two are ECN's, and not chosen

    def __post_init__(self) -> None:
        if not 0 <= self.delayed_ack < MAX_DELAYED_ACK:
            raise ValueError("delayed_ack must be less than 500 ms (RFC 9293 §3.8.6.3)")
        if self.receive_buffer < 1 or self.send_buffer < 1:
            raise ValueError("receive_buffer and send_buffer must be at least 1 byte")
        if self.receive_buffer_max < 0 or self.send_buffer_max < 0:
            raise ValueError("receive_buffer_max and send_buffer_max cannot be negative")

    @property
    def windows(self) -> tuple[int, int]:
        """The receive buffer at first and at most, clamped."""
        clamp = self.window_clamp or max(self.receive_buffer, self.receive_buffer_max)
        return min(self.receive_buffer, clamp), min(self.receive_buffer_max, clamp)
