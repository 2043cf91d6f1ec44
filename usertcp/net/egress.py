"""The way out: IPv4 and Ethernet around what connections and the stack itself send, and who takes it.

Three things may happen to a packet. It is for this host: its bytes wait in ``local`` until the stack's next turn, and
nobody sums them. Its next hop has a hardware address: it goes to the sink at once, the payload as the views it came
in. Or it waits, copied, with its neighbour (``net.neighbor``). What the stack says of its own accord while it
receives (resets, ICMP, ARP) has no sink at hand and waits in ``backlog``, bounded, until the next turn; the backlog
leaves first, so order is kept.

What a connection hands over at a time is a *train*: segments that differ in their numbers alone. It is cut to what the
device takes at once, super-segments or single ones.

What a connection sends is not committed before the sink took it: :meth:`Egress.send` then says False. Only the rest
of a train of which the sink took the beginning goes to the backlog.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from usertcp.frame import PLAIN, FrameMeta, LinkCaps, Sink
from usertcp.net.interface import Interface
from usertcp.net.neighbor import Neighbor, NeighborCache, Owner, Waiting
from usertcp.net.route import Routes
from usertcp.net.segmentation import FLAGS, NUMBER, SEQ, flags_along, pieces
from usertcp.net.stats import Drop, Stats
from usertcp.net.template import Template
from usertcp.units import KIB, MASK32, MIB, NEVER
from usertcp.wire import arp, ethernet, ipv4, tcp
from usertcp.wire.ecn import MASK
from usertcp.wire.tcp import CWR

if TYPE_CHECKING:
    from usertcp.net.flow import Flow
    from usertcp.tcp.connection import Connection

MAX_REPLIES: Final = 256  # frames in the backlog beyond which answers are dropped
MAX_LOCAL: Final = 4 * MIB  # bytes on the way from this host to itself
MAX_BURST: Final = 64 * KIB - 1 - ipv4.HEADER_LEN - 60  # bytes of payload in a super-segment, whatever its options
LONGEST: Final = 256 * KIB - ethernet.HEADER_LEN - ipv4.HEADER_LEN - 60  # in one for a host that takes such
MAX_TEMPLATES: Final = 512  # kept for connections to come
LOCAL: Final = FrameMeta(csum_valid=True)  # a packet that never left this host

BARE: Final = Neighbor(b"")  # whoever is at the other end of a link without Ethernet
BARE.mac, BARE.fresh_until = b"-", NEVER


class Backlog:
    """A sink that always takes: frames, copied, that wait for the real one."""

    __slots__ = ("frames",)

    def __init__(self) -> None:
        self.frames: deque[tuple[bytes, FrameMeta]] = deque()

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        """Keep a copy."""
        self.frames.append((b"".join((header, *payload)), meta))
        return True


class _Unresolved:
    """A sink that always takes: what is for a neighbour without a hardware address waits with it, copied."""

    __slots__ = ("_cache", "_neighbor", "_owner")

    def __init__(self, cache: NeighborCache, neighbor: Neighbor, owner: Owner) -> None:
        self._cache = cache
        self._neighbor = neighbor
        self._owner = owner

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        """Keep a copy."""
        self._cache.wait(self._neighbor, Waiting(b"".join((header, *payload)), meta, self._owner))
        return True


class Egress:
    """Implements ``Transmit``. ``full``: the sink refused during this turn."""

    def __init__(
        self, interface: Interface, caps: LinkCaps, routes: Routes, neighbors: NeighborCache, stats: Stats
    ) -> None:
        self._interface = interface
        self._routes = routes
        self._neighbors = neighbors
        self._stats = stats
        self._checksum = caps.tx_checksum
        self._host = caps.host
        self._gso = caps.tx_checksum and caps.tx_gso  # segments need their checksums done, so one implies the other
        self._link_len = ethernet.HEADER_LEN if interface.mac else 0
        self._templates: dict[bytes, Template] = {}  # by both addresses: the latest, for the next connection
        self._now = 0
        self.backlog: Final = Backlog()
        self._sink: Sink = self.backlog
        self.local: Final[deque[tuple[bytes, FrameMeta]]] = deque()
        self.local_bytes = 0
        self.full = False

    def begin(self, sink: Sink, now: int) -> None:
        """A turn begins: frames go to ``sink`` until the next one."""
        self._sink = sink
        self._now = now
        self.full = False

    # --- connections ----------------------------------------------------------------------------------------------

    def send(
        self, conn: "Connection", header: bytearray, payload: list[memoryview], length: int, gso_size: int, ecn: int
    ) -> bool:
        """One segment of ``conn``, or with ``gso_size`` a train of them. False: not taken, try again next turn."""
        flow = conn.flow
        template: Template | None = flow.template
        if template is None and not flow.next_hop:
            return self._send_local(conn, header, payload, length, gso_size, ecn)
        if self.full:
            return False
        if template is None or self._now >= template.neighbor.fresh_until or not template.serves(conn.config):
            template = self._template(conn)
        sink = self._sink if template.neighbor.mac else _Unresolved(self._neighbors, template.neighbor, conn)
        stats = self._stats
        kind = length, len(header), gso_size, ecn, header[FLAGS] & CWR, conn.snd.rate.lost > 0
        if kind != template.kind and gso_size and (unit := self._unit(conn, template, header, gso_size)) < length:
            taken = self._send_train(sink, conn, template, header, payload, length, unit, gso_size, ecn)
        else:
            if kind != template.kind:
                template.suit(len(header), length, gso_size, ecn)
                template.kind = kind
            frame = template.head + header
            frame[template.where] = template.seed
            meta = template.meta
            if not self._checksum:
                meta = PLAIN
                template.finish(frame, payload)
            taken = sink.send(frame, payload, meta)
            if taken and sink is self._sink:
                stats.frames_out += 1
                stats.bytes_out += template.size
        if taken:
            stats.segments_out += 1
        else:
            self.full = True
        return taken

    def _unit(self, conn: "Connection", template: Template, header: bytearray, gso_size: int) -> int:
        """How much text of a train goes into one frame: a super-segment, where the device cuts it.

        A device would keep CWR in the first segment alone, or (without being told of it) in all. So a train with it is
        cut here, where it is known whether the bit is the flag or part of a counter (RFC 9768 §3.3.4). Once something
        was lost, no frame is longer than any kernel takes: the next one might be lost for its length.
        """
        if self._gso and not header[FLAGS] & CWR:
            most = MAX_BURST if conn.snd.rate.lost else template.most
            return max(most - most % gso_size, gso_size)
        return gso_size

    def _send_train(
        self,
        sink: Sink,
        conn: "Connection",
        template: Template,
        header: bytearray,
        payload: list[memoryview],
        length: int,
        unit: int,
        gso_size: int,
        ecn: int,
    ) -> bool:
        """A train in frames with ``unit`` bytes of text; once the first is out, the rest is committed."""
        send, rest, front = sink.send, length, template.start + len(header)
        at, flags_at = template.start + SEQ, template.start + FLAGS
        (seq,) = NUMBER.unpack_from(header, SEQ)
        flags, middle, last = flags_along(header[FLAGS], conn.ecn.accurate)
        template.suit(len(header), unit, gso_size if unit > gso_size else 0, ecn)
        frame = template.head + header
        for frames, piece in enumerate(pieces(payload, length, unit)):
            if rest <= unit:
                flags = last
                template.suit(len(header), rest, gso_size if rest > gso_size else 0, ecn)
                frame[: template.start] = template.head
            NUMBER.pack_into(frame, at, seq & MASK32)
            frame[flags_at] = flags
            frame[template.where] = template.seed
            meta = template.meta
            if not self._checksum:
                meta = PLAIN
                template.finish(frame, piece)
            if not send(frame, piece, meta):
                if not frames:
                    return False
                self.full = True
                self._count(sink, frames, length - rest + frames * front)
                sink = self.backlog
                send = sink.send
                send(frame, piece, meta)
            flags = middle
            seq += unit
            rest -= unit
        frames += 1
        self._count(sink, frames, length + frames * front)
        return True

    def _count(self, sink: Sink, frames: int, size: int) -> None:
        """The link has got ``frames`` of ``size`` bytes together, if ``sink`` is the link."""
        if sink is self._sink:
            stats = self._stats
            stats.frames_out += frames
            stats.bytes_out += size

    def _template(self, conn: "Connection") -> Template:
        """The head of the packets of ``conn``, from now on; without a link header while the next hop has no address."""
        flow = conn.flow
        ends = flow.local_ip + flow.remote_ip
        old: Template | None = flow.template
        made = self._templates.get(ends)
        if old is None and made is not None and self._now < made.neighbor.fresh_until and made.serves(conn.config):
            flow.template = made
            return made
        neighbor = self._neighbors.lookup(flow.next_hop, self._now) if self._link_len else BARE
        if old is not None and old.neighbor is neighbor and old.serves(conn.config):
            return old
        if made is None or made.neighbor is not neighbor or not made.serves(conn.config):
            made = Template(flow, conn.config, neighbor, neighbor.header, self._link_len + ipv4.HEADER_LEN)
            made.most = LONGEST if self._is_host(flow, neighbor) else MAX_BURST
            if len(self._templates) >= MAX_TEMPLATES:
                self._templates.clear()
            self._templates[ends] = made
        flow.template = made
        return made

    def _is_host(self, flow: "Flow", neighbor: Neighbor) -> bool:
        """Whether the packets of ``flow`` end at the host at the device's other end, which takes longer ones than a
        network: whoever passes them on would have to cut them itself."""
        return flow.next_hop == flow.remote_ip and self._host == (neighbor.mac if self._link_len else b"")

    def _send_local(
        self, conn: "Connection", header: bytearray, payload: list[memoryview], length: int, gso_size: int, ecn: int
    ) -> bool:
        if self.local and self.local_bytes > MAX_LOCAL:
            return False
        flow, config = conn.flow, conn.config
        size = len(header) + length
        tos = config.tos & ~MASK | ecn
        ip = ipv4.header(flow.local_ip, flow.remote_ip, tcp.PROTOCOL, size, ttl=config.ttl, tos=tos)
        meta = FrameMeta(gso_size, csum_valid=True) if gso_size else LOCAL
        self._keep_local(b"".join((ip, header, *payload)), meta)
        self._stats.segments_out += 1
        return True

    # --- the stack itself -----------------------------------------------------------------------------------------

    def output(
        self,
        src: bytes,
        dst: bytes,
        proto: int,
        body: bytes | bytearray,
        now: int,
        *,
        ttl: int = 64,
        tos: int = 0,
        owner: Owner | None = None,
    ) -> bool:
        """A packet that no connection sends: it leaves next turn. False, and counted: no route, or too much waits.

        ``owner`` is told if the neighbour does not answer.
        """
        hop = self._routes.next_hop(dst)
        if hop is None:
            self._stats.drop(Drop.NO_ROUTE)
            return False
        if len(self.local) + len(self.backlog.frames) >= MAX_REPLIES:
            self._stats.drop(Drop.REPLY_OVERFLOW)
            return False
        packet = ipv4.header(src, dst, proto, len(body), ttl=ttl, tos=tos) + body
        if not hop:
            self._keep_local(packet, LOCAL)
            return True
        if not self._link_len:
            self.backlog.frames.append((packet, PLAIN))
            return True
        neighbor = self._neighbors.lookup(hop, now)
        if neighbor.mac:
            self.backlog.frames.append((neighbor.header + packet, PLAIN))
        else:
            self._neighbors.wait(neighbor, Waiting(packet, PLAIN, owner))
        return True

    def release(self, neighbor: Neighbor) -> None:
        """``neighbor`` has a hardware address now: what waited for it leaves next turn."""
        for waiting in self._neighbors.take(neighbor):
            self.backlog.frames.append((neighbor.header + waiting.packet, waiting.meta))

    def send_arp(self, op: int, own: bytes, mac: bytes, ip: bytes) -> None:
        """An ARP message to ``mac`` (b"": everybody) about ``ip``, from our address ``own``."""
        if len(self.backlog.frames) >= MAX_REPLIES:
            self._stats.drop(Drop.REPLY_OVERFLOW)
            return
        mine = self._interface.mac
        message = arp.build(arp.Arp(op, mine, own, mac if op == arp.REPLY else bytes(6), ip))
        header = ethernet.header(mac or ethernet.BROADCAST, mine, ethernet.ARP)
        self.backlog.frames.append((header + message, PLAIN))

    def flush(self) -> None:
        """Hand the backlog to the sink, as far as it takes it."""
        requests = self._neighbors.requests
        while requests:
            ip, mac = requests.popleft()
            self.send_arp(arp.REQUEST, self._interface.on_link(ip) or self._interface.primary, mac, ip)
        frames = self.backlog.frames
        while frames and not self.full:
            frame, meta = frames[0]
            if not self._sink.send(frame, [], meta):
                self.full = True
                return
            frames.popleft()
            self._stats.frames_out += 1
            self._stats.bytes_out += len(frame)

    def take_local(self) -> tuple[bytes, FrameMeta]:
        """The next packet from this host to itself."""
        packet, meta = self.local.popleft()
        self.local_bytes -= len(packet)
        return packet, meta

    def _keep_local(self, packet: bytes, meta: FrameMeta) -> None:
        self.local.append((packet, meta))
        self.local_bytes += len(packet)
