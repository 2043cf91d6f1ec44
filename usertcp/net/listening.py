"""Who listens, and what becomes of a segment that no connection has: a handshake, a cookie, or a reset.

::

    SYN for a listener ---- the accept queue is full, memory or a limit is used up ----> dropped, counted
                       ---- the backlog is full, or the source has its share of it ----> SYN,ACK with a cookie
                       ---- else ------------------------------------------------------> a connection, SYN-RECEIVED
    ACK for a listener ---- a cookie -----------------------------------------> a connection, ESTABLISHED
                       ---- a cookie, but the accept queue is full -----------> dropped: the peer sends it again
                       ---- else ---------------------------------------------> reset
    anything else ---- RFC 9293 §3.10.7.1, .2 --------------------------------> reset, or silence

So a SYN from nowhere costs a place in the backlog, which is bounded, or nothing but the work. ``Limits`` bounds what
sources that do exist may take.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from usertcp.net.egress import Egress
from usertcp.net.flow import Binding, Flow
from usertcp.net.interface import LOOPBACK6
from usertcp.net.route import Routes
from usertcp.net.stats import Drop, Stats
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.cookies import Cookies, SynCookies
from usertcp.tcp.listener import MIN_HALF_OPEN, Listener, closed_reply, listen_reply
from usertcp.tcp.memory import Memory
from usertcp.units import MASK32
from usertcp.wire import ipv4, tcp
from usertcp.wire.tcp import ACK, RST, SYN, Segment

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection


@dataclass(frozen=True, slots=True)
class Limits:
    """What strangers may take of a host. 0: no bound."""

    syn_cookies: SynCookies = SynCookies.PRESSED
    syn_backlog: int = MIN_HALF_OPEN  # half-open connections of a listener, if its backlog is not larger
    source_half_open: int = 64  # of them from one address, before it gets cookies: half of the above
    source_connections: int = 16384  # that one address may have opened; a quarter of its ports, or of the next
    listener_connections: int = 65536  # that were opened to one listener, accepted or not; some 256 MB when idle
    time_wait: int = 8192  # connections in TIME-WAIT, then the oldest leaves (Linux: tcp_max_tw_buckets)


class Make(Protocol):
    """A connection for ``flow``, in the host's table. ``after``: the last sequence number that the flow has used;
    ``iss``: the one to begin with, which the peer knows already."""

    def __call__(
        self, flow: Flow, config: TcpConfig, now: int, after: int | None = None, iss: int | None = None
    ) -> "Connection": ...


class Listening:
    """The listeners of a host, by place: address and port as in the frame."""

    __slots__ = (
        "_cookies",
        "_egress",
        "_flight",
        "_limits",
        "_make",
        "_memory",
        "_opened",
        "_places",
        "_routes",
        "_stats",
        "_ts_now",
    )

    def __init__(
        self,
        limits: Limits,
        cookies: Cookies,
        routes: Routes,
        egress: Egress,
        memory: Memory,
        stats: Stats,
        make: Make,
        flight: Callable[[bytes, int], int],
        ts_now: Callable[[bytes, int], int],
    ) -> None:
        """What the stack has: ``make`` puts a connection into its table; ``flight`` tells how much may be on its way
        from a next hop, for an MSS; ``ts_now`` the timestamp clock of a flow, by its key."""
        self._limits = limits
        self._cookies = cookies
        self._routes = routes
        self._egress = egress
        self._memory = memory
        self._stats = stats
        self._make = make
        self._flight = flight
        self._ts_now = ts_now
        self._places: dict[bytes, list[Listener]] = {}
        self._opened: dict[object, int] = {}  # connections by who opened them, and by which listener

    # --- listeners --------------------------------------------------------------------------------------------------

    def add(self, listener: Listener) -> None:
        """``listener`` is found at the places of its binding."""
        listener.syn_backlog = self._limits.syn_backlog
        binding: Binding = listener.flow
        for place in binding.places:
            self._places.setdefault(place, []).append(listener)

    def remove(self, listener: Listener) -> None:
        """``listener`` is closed."""
        binding: Binding = listener.flow
        for place in binding.places:
            self._places[place].remove(listener)
            if not self._places[place]:
                del self._places[place]

    @property
    def all(self) -> list[Listener]:
        """Every listener that is not closed."""
        return list(dict.fromkeys([listener for found in self._places.values() for listener in found]))

    def find(self, key: bytes) -> Listener | None:
        """The listener for a flow: at its address before at any; among several (reuse_port) always the same one."""
        ip, port = key[4:8], key[10:12]
        found = self._places.get(ip + port) or (self._places.get(ipv4.ANY + port) if ip != LOOPBACK6 else None)
        if not found:
            return None
        return found[0] if len(found) == 1 else found[int.from_bytes(key, "big") % 65521 % len(found)]

    # --- strangers --------------------------------------------------------------------------------------------------

    def on_segment(self, seg: Segment, key: bytes, now: int, after: int | None = None) -> None:
        """A segment without a connection. ``after``: the last sequence number that its flow has used, if it replaces
        one in TIME-WAIT (which needs no new place, so it gets no cookie; as on Linux)."""
        listener = self.find(key)
        kind = seg.flags & (SYN | ACK | RST)
        if listener is not None and kind == SYN:
            self._on_syn(seg, key, listener, now, after)
        elif listener is None or kind != ACK or not self._on_cookie(seg, key, listener, now):
            self._refuse(seg, key, now, listening=listener is not None)

    def _on_syn(self, seg: Segment, key: bytes, listener: Listener, now: int, after: int | None) -> None:
        hop = self._routes.next_hop(key[:4])
        if hop is None:
            self._stats.drop(Drop.NO_ROUTE)
            return
        refused = self._refuses(listener, key[:4])
        policy = self._limits.syn_cookies
        pressed = after is None and self._is_pressed(listener, key[:4])
        if refused is not None:
            self._stats.drop(refused)
        elif after is None and (policy is SynCookies.ALWAYS or (pressed and policy is SynCookies.PRESSED)):
            self._send_cookie(seg, key, listener.config, hop, now)
        elif pressed:
            self._stats.drop(Drop.LISTEN_OVERFLOW)
        else:
            flow = Flow(listener.flow, key[4:8], key[:4], seg.sport, hop, now)
            conn = self._make(flow, listener.config, now, after)
            self._count(conn, listener)
            conn.accept_syn(seg, now, listener)

    def _refuses(self, listener: Listener, source: bytes) -> Drop | None:
        """Why no connection may begin now; None: it may."""
        limits, opened = self._limits, self._opened
        if not listener.has_room():
            return Drop.LISTEN_OVERFLOW
        if self._memory.exhausted:
            return Drop.NO_MEMORY
        if 0 < limits.source_connections <= opened.get(source, 0):
            return Drop.SOURCE_LIMIT
        return Drop.LISTENER_LIMIT if 0 < limits.listener_connections <= opened.get(listener, 0) else None

    def _is_pressed(self, listener: Listener, source: bytes) -> bool:
        """Whether the backlog has no place for ``source``."""
        return listener.is_pressed() or 0 < self._limits.source_half_open <= listener.shares.get(source, 0)

    # --- cookies ----------------------------------------------------------------------------------------------------

    def _send_cookie(self, seg: Segment, key: bytes, config: TcpConfig, hop: bytes, now: int) -> None:
        mss = self._routes.mtu(key[:4], now) - ipv4.HEADER_LEN - tcp.HEADER_LEN
        header = self._cookies.synack(
            seg, key, config, mss=mss, flight=self._flight(hop, mss), ts_now=self._ts_now(key, now), now=now
        )
        if self._send(key, header, now, config.ttl, config.tos):
            self._stats.cookies_out += 1

    def _on_cookie(self, seg: Segment, key: bytes, listener: Listener, now: int) -> bool:
        """An ACK that no connection waits for. False: it acknowledges no cookie either."""
        hop = self._routes.next_hop(key[:4])
        if hop is None or not self._cookies.are_out(now):
            return False
        syn = self._cookies.opened_by(seg, key, now)
        if syn is None:
            self._stats.cookies_bad += 1
            return False
        self._stats.cookies_in += 1
        refused = self._refuses(listener, key[:4])
        if refused is not None:
            self._stats.drop(refused)
            return True
        flow = Flow(listener.flow, key[4:8], key[:4], seg.sport, hop, now)
        conn = self._make(flow, listener.config, now, iss=(seg.ack - 1) & MASK32)
        self._count(conn, listener)
        conn.accept_cookie(syn, seg, now, listener)
        return True

    # --- what is counted --------------------------------------------------------------------------------------------

    def _count(self, conn: "Connection", listener: Listener) -> None:
        opened = self._opened
        for who in (conn.flow.remote_ip, listener):
            opened[who] = opened.get(who, 0) + 1

    def forget(self, conn: "Connection") -> None:
        """``conn``, which a listener begot, is CLOSED."""
        opened = self._opened
        for who in (conn.flow.remote_ip, conn.listener):
            left = opened[who] - 1
            if left:
                opened[who] = left
            else:
                del opened[who]

    # --- answers ----------------------------------------------------------------------------------------------------

    def _refuse(self, seg: Segment, key: bytes, now: int, *, listening: bool) -> None:
        """RFC 9293 §3.10.7.1, §3.10.7.2: a reset, or silence."""
        self._stats.drop(Drop.NO_CONNECTION)
        reply = listen_reply(seg) if listening else closed_reply(seg)
        if reply is None:
            return
        seq, ack, flags = reply
        if self._send(key, tcp.header(seg.dport, seg.sport, seq, ack, flags, 0), now):
            self._stats.resets_out += 1

    def _send(self, key: bytes, header: bytearray, now: int, ttl: int = 64, tos: int = 0) -> bool:
        """Answer what came with the flow ``key`` by a segment that is no connection's."""
        there, here = key[:4], key[4:8]
        check = tcp.checksum(here, there, header, [])
        header[tcp.CHECKSUM_OFFSET : tcp.CHECKSUM_OFFSET + 2] = check.to_bytes(2, "big")
        return self._egress.output(here, there, ipv4.TCP, header, now, ttl=ttl, tos=tos)
