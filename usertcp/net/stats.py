"""What a host counts: frames, packets and segments both ways, and why something was thrown away.

Nothing malformed, foreign or refused raises out of the stack: it ends as one increment of a :class:`Drop` reason.
What a connection does with a segment that reached it (duplicates, old acknowledgments) is the connection's own
account.
"""

from enum import Enum
from typing import Final


class Drop(Enum):
    """Why a frame, a packet, or something that was to be sent went no further."""

    SHORT_FRAME = "shorter than an Ethernet header"
    OTHER_HOST = "Ethernet destination is another host's"
    UNKNOWN_ETHERTYPE = "neither IPv4 nor ARP"
    BAD_ARP = "malformed ARP"
    ARP_UNSOLICITED = "ARP claim that nobody asked for"
    ARP_CONFLICT = "somebody else claims our address"
    BAD_IP = "malformed IPv4 header"
    BAD_IP_CHECKSUM = "IPv4 header checksum"
    FRAGMENT = "IPv4 fragment"
    NOT_OURS = "IPv4 destination is not ours"
    NOT_UNICAST = "sent to a broadcast or multicast address"
    MARTIAN = "source or destination that cannot be on this wire"
    UNKNOWN_PROTOCOL = "neither TCP, ICMP nor UDP"
    UDP = "UDP, which nobody listens for"
    BAD_TCP = "malformed TCP header"
    BAD_TCP_CHECKSUM = "TCP checksum"
    OTHER_QUEUE = "first segment of a flow that another queue of the device has"
    NO_CONNECTION = "segment for no connection and no listener"
    LISTEN_OVERFLOW = "the listener's backlog is full"
    SOURCE_LIMIT = "its source has as many connections as one may have"
    LISTENER_LIMIT = "the listener has as many connections as it may have"
    NO_MEMORY = "a SYN when the memory of all connections was used up"
    BAD_ICMP = "malformed ICMP"
    BAD_ICMP_CHECKSUM = "ICMP checksum"
    ICMP_IGNORED = "ICMP message that calls for nothing"
    ICMP_STRAY = "ICMP error or echo reply about nothing of ours"
    ICMP_LIMITED = "ICMP error withheld by the rate limit"
    NO_ROUTE = "no route to answer by"
    REPLY_OVERFLOW = "too many answers waiting for the link"
    NEIGHBOR_QUEUE = "too many packets waiting for an ARP reply"
    NEIGHBOR_EVICTED = "waited for a neighbour that the bounded cache gave up"
    NEIGHBOR_FAILED = "no ARP reply"


COUNTERS: Final = (
    "bytes_in",
    "bytes_out",
    "cookies_bad",
    "cookies_in",
    "cookies_out",
    "frames_in",
    "frames_out",
    "resets_out",
    "segments_in",
    "segments_out",
    "time_waits_cut",
)


class Stats:
    """Plain counters; ``drops`` has every reason, most of them 0. A super-segment counts as one segment and frame."""

    __slots__ = ("drops", *COUNTERS)

    def __init__(self) -> None:
        self.frames_in = 0
        self.bytes_in = 0
        self.frames_out = 0
        self.bytes_out = 0
        self.segments_in = 0  # well-formed TCP segments addressed to us
        self.segments_out = 0  # segments of connections
        self.cookies_out = 0  # SYN,ACKs that nothing here remembers (Linux: SyncookiesSent)
        self.cookies_in = 0  # ACKs of them (SyncookiesRecv)
        self.cookies_bad = 0  # ACKs that should have been, but were forged or stale (SyncookiesFailed)
        self.resets_out = 0  # answers to segments that belong to no connection
        self.time_waits_cut = 0  # connections that left TIME-WAIT early, for others (Linux: TCPTimeWaitOverflow)
        self.drops: Final[dict[Drop, int]] = dict.fromkeys(Drop, 0)

    def drop(self, reason: Drop) -> None:
        """One more thrown away for ``reason``."""
        self.drops[reason] += 1

    def as_dict(self) -> dict[str, int]:
        """Every counter by name; drop reasons that never happened are left out."""
        counters = {name: getattr(self, name) for name in COUNTERS}
        return counters | {f"drop_{reason.name.lower()}": n for reason, n in self.drops.items() if n}
