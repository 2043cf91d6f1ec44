"""What the host makes of ICMP (RFC 792, RFC 1122 §3.2.2), and what it says by it.

Echo requests are answered. An error goes to the connection whose segment it quotes, found by the addresses and ports
in it, with the quoted sequence number, by which the connection sees whether it can be true (RFC 5927 §4.1); what to
make of it, hard or soft, is the connection's decision (RFC 9293 §3.9.2.2). Source quench and redirects are discarded
(RFC 6633, MUST-55). A :class:`Pinger` asks others for echoes. We complain of nothing but datagrams to ports and
protocols that nobody here speaks, and of those no more than RATE a second (RFC 1812 §4.3.2.8).
"""

import errno
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from usertcp.errors import WireError, os_error
from usertcp.net.egress import Egress
from usertcp.net.flow import flow_key
from usertcp.net.route import Routes
from usertcp.net.stats import Drop, Stats
from usertcp.tcp.state import (
    FRAGMENTATION_NEEDED,
    READABLE,
    SOFT,
    UNREACHABLE_HOST,
    UNREACHABLE_NET,
    UNREACHABLE_PORT,
    UNREACHABLE_PROTOCOL,
)
from usertcp.units import SEC
from usertcp.wire import icmp, ipv4
from usertcp.wire.checksum import BadChecksum

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection

RATE: Final = 100  # errors a second that we send at most
BURST: Final = 50  # of them at once
MAX_OUTSTANDING: Final = 1024  # echo requests a pinger remembers
HEADERS: Final = ipv4.HEADER_LEN + icmp.HEADER_LEN  # bytes in front of an echo's payload

# Kinds by the code of a destination unreachable message; the rest is SOFT (RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1).
KINDS: Final = {
    0: UNREACHABLE_NET,
    1: UNREACHABLE_HOST,
    2: UNREACHABLE_PROTOCOL,
    3: UNREACHABLE_PORT,
    4: FRAGMENTATION_NEEDED,
    6: UNREACHABLE_NET,  # network unknown
    7: UNREACHABLE_HOST,  # host unknown
    11: UNREACHABLE_NET,  # for this type of service
    12: UNREACHABLE_HOST,  # for this type of service
    13: UNREACHABLE_HOST,  # administratively prohibited
}
_TEXTS: Final = {
    UNREACHABLE_NET: "network unreachable",
    UNREACHABLE_HOST: "host unreachable",
    UNREACHABLE_PROTOCOL: "protocol unreachable",
    UNREACHABLE_PORT: "port unreachable",
    FRAGMENTATION_NEEDED: "fragmentation needed",
}


class PingReply(NamedTuple):
    """What became of one echo request: ``size`` payload bytes came back, or ``error`` says why not. Times in ns."""

    sequence: int
    size: int
    ttl: int
    sent_at: int
    received_at: int
    source: str
    error: str | None


class Pinger:
    """Sends echo requests to one address and gathers what comes back in ``replies``.

    Made by ``Stack.pinger``; it shows in ``take_ready`` whenever there are new replies. ``user`` is the front end's.
    """

    __slots__ = ("_icmp", "_outstanding", "_sequence", "_source", "ident", "ready", "remote", "replies", "ttl", "user")

    def __init__(self, owner: "Icmp", source: bytes, remote: bytes, ident: int, ttl: int) -> None:
        self._icmp = owner
        self._source = source
        self._sequence = 0
        self._outstanding: OrderedDict[int, int] = OrderedDict()  # sequence: sent at
        self.remote: Final = remote
        self.ident: Final = ident
        self.ttl = ttl
        self.replies: deque[PingReply] = deque()
        self.ready = 0
        self.user: Any = None

    def send(self, now: int, size: int = 56) -> int:
        """One echo request with ``size`` bytes of payload; returns its sequence number.

        EMSGSIZE: larger than the path carries; ENOBUFS: too much waits for the link already.
        """
        self._sequence = sequence = self._sequence + 1 & 0xFFFF
        pattern = bytes(n & 0xFF for n in range(size))
        self._icmp.send_echo(self, self._source, sequence, pattern, now)
        self._outstanding[sequence] = now
        if len(self._outstanding) > MAX_OUTSTANDING:
            self._outstanding.popitem(last=False)
        return sequence

    def close(self) -> None:
        """Take no more replies."""
        self._icmp.forget(self)

    def on_reply(self, sequence: int, size: int, ttl: int, source: bytes, now: int, error: str | None = None) -> bool:
        """An answer came. False: to nothing that was asked, or asked and answered already."""
        sent_at = self._outstanding.pop(sequence, None)
        if sent_at is None:
            return False
        self.replies.append(PingReply(sequence, size, ttl, sent_at, now, ipv4.unpack(source), error))
        self.ready = READABLE
        self._icmp.notify(self)
        return True

    def on_path_failed(self, now: int) -> None:
        """The neighbour does not answer ARP: nothing that was asked will be answered."""
        for sequence in list(self._outstanding):
            self.on_reply(sequence, 0, 0, self._source, now, _TEXTS[UNREACHABLE_HOST])


class Icmp:
    """The ICMP of one host."""

    __slots__ = ("_at", "_egress", "_flows", "_pingers", "_routes", "_stats", "_tokens", "notify")

    def __init__(
        self,
        egress: Egress,
        routes: Routes,
        stats: Stats,
        flows: "dict[bytes, Connection]",
        notify: Callable[[Pinger], None],
    ) -> None:
        self._egress = egress
        self._routes = routes
        self._stats = stats
        self._flows = flows
        self._pingers: dict[int, Pinger] = {}
        self._tokens = BURST * SEC // RATE  # ns worth of messages
        self._at = 0
        self.notify: Final = notify

    def receive(self, packet: ipv4.Packet, now: int) -> None:
        """A message to one of our addresses."""
        try:
            message = icmp.parse(packet.payload)
        except BadChecksum:
            self._stats.drop(Drop.BAD_ICMP_CHECKSUM)
            return
        except WireError:
            self._stats.drop(Drop.BAD_ICMP)
            return
        if isinstance(message, icmp.ErrorMessage):
            self._on_error(message, packet, now)
        elif isinstance(message, icmp.Other):
            self._stats.drop(Drop.ICMP_IGNORED)
        elif message.request:
            body = icmp.echo(False, message.ident, message.sequence, message.payload)
            self._egress.output(packet.dst, packet.src, ipv4.ICMP, body, now)
        else:
            pinger = self._pingers.get(message.ident)
            size = len(message.payload)
            if pinger is None or not pinger.on_reply(message.sequence, size, packet.ttl, packet.src, now):
                self._stats.drop(Drop.ICMP_STRAY)

    def refuse(self, packet: ipv4.Packet, view: memoryview, code: int, now: int) -> None:
        """Answer ``packet``, the start of ``view``, with destination unreachable; the caller saw to it that it may be
        answered at all (RFC 1122 §3.2.2: nothing broadcast, no fragment, no unreal source)."""
        cost = SEC // RATE
        self._tokens = min(BURST * cost, self._tokens + now - self._at)
        self._at = now
        if self._tokens < cost:
            self._stats.drop(Drop.ICMP_LIMITED)
            return
        self._tokens -= cost
        body = icmp.error(icmp.DESTINATION_UNREACHABLE, code, view[: packet.total_len])
        self._egress.output(packet.dst, packet.src, ipv4.ICMP, body, now)

    # --- pingers --------------------------------------------------------------------------------------------------

    def pinger(self, remote: bytes, ident: int, ttl: int) -> Pinger:
        """A new pinger with ``ident`` or the next free one. ENETUNREACH without a route; ENOBUFS: 65536 exist."""
        source = self._routes.source(remote)
        if source is None:
            raise os_error(errno.ENETUNREACH)
        if len(self._pingers) > 0xFFFF:
            raise os_error(errno.ENOBUFS)
        while ident in self._pingers:
            ident = ident + 1 & 0xFFFF
        pinger = self._pingers[ident] = Pinger(self, source, remote, ident, ttl)
        return pinger

    def send_echo(self, pinger: Pinger, source: bytes, sequence: int, payload: bytes, now: int) -> None:
        """The request of ``pinger``; raises as :meth:`Pinger.send` says."""
        if HEADERS + len(payload) > self._routes.mtu(pinger.remote, now):
            raise os_error(errno.EMSGSIZE)
        body = icmp.echo(True, pinger.ident, sequence, payload)
        if not self._egress.output(source, pinger.remote, ipv4.ICMP, body, now, ttl=pinger.ttl, owner=pinger):
            raise os_error(errno.ENOBUFS)

    def forget(self, pinger: Pinger) -> None:
        """``pinger`` was closed."""
        self._pingers.pop(pinger.ident, None)

    # --- errors ---------------------------------------------------------------------------------------------------

    def _on_error(self, message: icmp.ErrorMessage, packet: ipv4.Packet, now: int) -> None:
        if message.type == icmp.SOURCE_QUENCH:
            self._stats.drop(Drop.ICMP_IGNORED)
            return
        kind = KINDS.get(message.code, SOFT) if message.type == icmp.DESTINATION_UNREACHABLE else SOFT
        embedded = message.embedded
        first, second = int.from_bytes(embedded[:2], "big"), int.from_bytes(embedded[2:4], "big")
        seq = int.from_bytes(embedded[4:8], "big")
        if message.proto == ipv4.TCP:
            conn = self._flows.get(flow_key(message.dst, message.src, second, first))
            if conn is None or not conn.flow.next_hop:  # nobody on the wire sees packets to ourselves
                self._stats.drop(Drop.ICMP_STRAY)
                return
            mtu = message.mtu
            if kind == FRAGMENTATION_NEEDED:
                if not is_in_flight(conn, seq):
                    self._stats.drop(Drop.ICMP_STRAY)
                    return
                mtu = self._routes.learn_mtu(message.dst, mtu, now)
            conn.on_unreachable(kind, seq, mtu, now)
        elif message.proto == ipv4.ICMP and first >> 8 == icmp.ECHO_REQUEST:
            pinger = self._pingers.get(seq >> 16)
            text = "time to live exceeded" if message.type == icmp.TIME_EXCEEDED else _TEXTS.get(kind, "unreachable")
            known = pinger is not None and pinger.remote == message.dst
            if pinger is None or not known or not pinger.on_reply(seq & 0xFFFF, 0, packet.ttl, packet.src, now, text):
                self._stats.drop(Drop.ICMP_STRAY)
        else:
            self._stats.drop(Drop.ICMP_STRAY)


def is_in_flight(conn: "Connection", seq: int) -> bool:
    """Whether ``seq`` (32-bit) was sent by ``conn`` and is not acknowledged yet (RFC 5927 §4.1)."""
    snd = conn.snd
    return snd.una <= snd.absolute(seq) < snd.nxt
