"""One host: frames in, frames out, and the connections in between.

``receive`` takes a frame to where it belongs and at most queues an answer; ``poll`` does everything that sends. A
caller makes turns of the two and comes back at ``next_deadline`` (calling early is harmless)::

    receive: Ethernet -> ARP
                      -> IPv4 -> TCP  -> connection, by its flow key; or the listener, or a reset
                              -> ICMP -> echo, or the connection that an error is about
    poll:    due timers -> packets to ourselves -> the backlog -> connections that have something to send -> the backlog

Whatever the number of connections, a segment costs the same: connections are found by one dictionary look-up, only
those that declared themselves dirty are polled, round about, and deadlines lie in a heap from which outdated entries
are taken lazily. Whatever arrives, ``receive`` does not raise: it becomes a counted :class:`~usertcp.net.stats.Drop`.
No fragments, no IP options, no IPv6, no forwarding. More than 700 lines, because what comes in, what goes out and the
clock share one table.
"""

import errno
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Any, Final

from usertcp.errors import WireError, os_error
from usertcp.frame import PLAIN, FrameMeta, LinkCaps, Sink, Source, flow_hash
from usertcp.net.ackrun import AHEAD, AckRuns
from usertcp.net.burst import Followed
from usertcp.net.egress import MAX_BURST, Egress
from usertcp.net.flow import Binding, Flow, Ports, flow_key
from usertcp.net.icmp import Icmp, Pinger
from usertcp.net.interface import Interface
from usertcp.net.listening import Limits, Listening
from usertcp.net.listing import listing
from usertcp.net.neighbor import NeighborCache, Owner
from usertcp.net.route import Routes
from usertcp.net.shortcut import Awaited, Shortcut
from usertcp.net.stats import Drop, Stats
from usertcp.tcp.buffers import SMALL
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.cookies import Cookies
from usertcp.tcp.exchange import reply, settle
from usertcp.tcp.express import acknowledge, calms, owes_only, pour
from usertcp.tcp.listener import Listener
from usertcp.tcp.memory import UNBOUNDED, Memory
from usertcp.tcp.message import say
from usertcp.tcp.predicted import may_ride, may_stretch
from usertcp.tcp.ring import Buffer
from usertcp.tcp.rtt import TS_TICK
from usertcp.tcp.seq import initial_sequence, timestamp_offset, unwrap
from usertcp.tcp.state import ALONE, ANSWERED
from usertcp.tcp.timers import DELAYED_ACK
from usertcp.tcp.timewait import outlived, reusable_by
from usertcp.tcp.tlp import MAX_ACK_DELAY
from usertcp.tcp.trace import Tracer
from usertcp.units import MASK32, MIB, NEVER
from usertcp.wire import arp, ethernet, icmp, ipv4, tcp
from usertcp.wire.checksum import BadChecksum
from usertcp.wire.ecn import MASK
from usertcp.wire.tcp import SYN

TCP_HEADERS: Final = ipv4.HEADER_LEN + tcp.HEADER_LEN  # what the MSS leaves out of the MTU (RFC 9293 §3.7.1, MUST-67)
MIN_QUANTUM: Final = 4  # segments a dirty connection may send before it is another's turn
TRAIN: Final = 16  # super-segments that a connection hands over at a time, at most
MAX_TIMERS: Final = 256  # connections whose timers fire in one turn
REUSE_GAP: Final = 65537  # sequence numbers between two incarnations of a flow (Linux; RFC 9293 §3.6.1, MAY-2)

Local = tuple[str, int] | Binding


@dataclass(frozen=True, slots=True)
class StackConfig:
    """A host. Addresses as the user writes them."""

    addresses: tuple[str, ...]  # "10.9.0.2/24"; the first is the one to talk from when nothing else decides
    gateway: str | None = None  # for what is on no network of ours
    tcp: TcpConfig = field(default_factory=TcpConfig)
    name: str = "usertcp"
    ephemeral: tuple[int, int] = (32768, 60999)  # first and last port chosen for connections (Linux)
    ports: tuple[int, int] = (1, 65535)  # first and last port that is ours; fewer beside another TCP of this address
    limits: Limits = field(default_factory=Limits)  # what strangers may take
    neighbor_capacity: int = 512  # ARP entries
    neighbor_queue: int = 101  # packets that wait for one ARP reply (Linux, unres_qlen)
    memory: int = 256 * MIB  # what the buffers of all connections may take (``tcp.memory``): eight of the largest


class Stack:
    """A host on one link. Not safe for several threads at once.

    ``random(n)`` gives n unpredictable bytes; nothing else here is random. ``tracer`` looks on at every connection.
    """

    def __init__(
        self, config: StackConfig, caps: LinkCaps, random: Callable[[int], bytes], tracer: Tracer | None = None
    ) -> None:
        """ValueError if the configuration cannot be: no or bad addresses, a gateway out of reach, bad port range."""
        self.config = config
        self.caps = caps
        self.stats = Stats()
        self.memory = Memory(config.memory, caps.mtu - TCP_HEADERS)
        self._pressed = False  # what ``memory`` said when it was last looked at
        self._random = random
        self._tracer = tracer
        self._secret = random(16)  # of initial sequence numbers (RFC 6528)
        self._ts_secret = random(16)  # of timestamp offsets (RFC 7323 §5.4)
        self._interface = Interface(config.addresses, caps)
        self._routes = Routes(self._interface, ipv4.pack(config.gateway) if config.gateway is not None else None)
        self._neighbors = NeighborCache(
            self._interface.mac, config.neighbor_capacity, config.neighbor_queue, self.stats
        )
        self._egress = Egress(self._interface, caps, self._routes, self._neighbors, self.stats)
        self._backlog, self._local = self._egress.backlog.frames, self._egress.local
        self._asked, self._requests = self._neighbors.asked, self._neighbors.requests
        self._flows: dict[bytes, Connection] = {}
        self._ports = Ports(config.ephemeral, random)
        self._listening = Listening(
            config.limits,
            Cookies(random(16)),
            self._routes,
            self._egress,
            self.memory,
            self.stats,
            self._make,
            self._flight,
            self._ts_now,
        )
        strangers = self._listening if caps.queues == 1 else None
        self._shortcut = Shortcut(self._interface, self._flows, strangers, self.stats)
        self.expect = self._shortcut.expect
        self._ack_runs = AckRuns(self._interface.mac, self._flows, self.stats, self._shortcut.is_ours)
        self._icmp = Icmp(self._egress, self._routes, self.stats, self._flows, self.notify)
        self._time_wait: dict[Connection, None] = {}  # in the order in which they entered it
        self._dirty: deque[Connection] = deque()
        # Whose user is about to go on, or the listener of such a one: its ACK may wait for what he does.
        self.company: Connection | Listener | None = None
        self._rider: Connection | None = None  # whose ACK waits for that
        self._answered: Connection | None = None  # of whose last message the answer has come (``tcp.exchange``)
        self.news: dict[Connection | Listener | Pinger, None] = {}  # what became ready, for :meth:`take_ready`
        self._heap: list[tuple[int, int, Connection]] = []  # (deadline, tie-breaker, connection); see _schedule
        self._serial = 0
        self._latest = 0  # the time of the latest turn: a clock that goes back stands still

    # --- the network's side ---------------------------------------------------------------------------------------

    def receive(self, frame: bytes | bytearray | memoryview, now: int, meta: FrameMeta = PLAIN) -> None:
        """Take one frame, borrowed until the return. Never raises for what is in it."""
        if self._answered is not None:
            self.settle()
        stats = self.stats
        stats.frames_in += 1
        stats.bytes_in += len(frame)
        if self._shortcut.take(frame, now, meta):
            return
        view = memoryview(frame)
        if not self._interface.mac:
            self._on_ip(view, now, meta, group=False, local=False)
            return
        try:
            header = ethernet.parse(view)
        except WireError:
            stats.drop(Drop.SHORT_FRAME)
            return
        group = ethernet.is_group(header.dst)
        if not group and header.dst != self._interface.mac:
            stats.drop(Drop.OTHER_HOST)
        elif header.ethertype == ethernet.IPV4:
            self._on_ip(view[ethernet.HEADER_LEN :], now, meta, group=group, local=False)
        elif header.ethertype == ethernet.ARP:
            self._on_arp(view[ethernet.HEADER_LEN :], now)
        else:
            stats.drop(Drop.UNKNOWN_ETHERTYPE)

    def follow(self, source: Source, clock: Callable[[], int], frames: int, size: int) -> Followed:
        """Take from ``source`` what continues text that came before, up to ``frames`` and ``size`` bytes. The first
        frame that does not, for :meth:`receive`, or None; how many did; their bytes; whether nothing waits any more. So
        with acknowledgments, of which the last may stand for several."""
        if self._answered is not None:
            self.settle()
        runs = self._ack_runs
        if runs.ahead:
            got = runs.ahead.pop()
            return got, 0, 0, got is None
        found = self._shortcut.follow(source, clock, frames, size)
        got, count, octets, _ = found
        if got is None or len(got[0]) != runs.size or frames - count < AHEAD or size - octets < AHEAD * runs.size:
            return found
        return runs.last(got, source.read, clock, count, octets)

    def hear(self, awaited: Awaited, frame: memoryview, now: int, meta: FrameMeta) -> bool:
        """:meth:`receive` for the answer that a reader waits for, and no turn is due. False: nothing has changed."""
        if self._answered is not None:
            self.settle()
        self._answered = awaited[0]  # first, for an interrupt may break off what follows
        if self._shortcut.hear(awaited, frame, now, meta):
            return True
        self._answered = None
        return False

    def settle(self) -> None:
        """Write down what :meth:`hear` has left out."""
        conn, self._answered = self._answered, None
        if conn is not None and conn.calm == ANSWERED:
            settle(conn)
            deadline = min(conn.timers.due)
            if deadline < conn.flow.wake:
                self._schedule(conn, deadline)

    def pull(
        self, conn: Connection, target: memoryview, source: Source, frames: int, size: int, now: int
    ) -> Followed | None:
        """:meth:`follow` for the reader of ``conn``, straight into his memory ``target``; who then is to call
        :meth:`answer`. None: nothing has been read, since it is not known whether what comes continues his text."""
        if self._answered is not None:
            self.settle()
        return None if self._ack_runs.ahead else self._shortcut.pull(conn, target, source, frames, size, now)

    def answer(self, conn: Connection, now: int, sink: Sink, *, waits: bool) -> bool:
        """Acknowledge what the reader of ``conn`` took, or with ``waits``, since he takes more at once, leave that to
        the next time. False: it is for :meth:`poll` to do, as there may be more to be said."""
        flow: Flow = conn.flow
        dirty, heap, asked = self._dirty, self._heap, self._asked
        if not flow.queued:
            self.dirty(conn)
        if not conn.calm:
            calms(conn)
        if len(dirty) != 1 or self._backlog or self._local or self._requests or not owes_only(conn):
            return False
        if waits and may_stretch(conn):
            return True
        due = (heap and heap[0][0] <= now) or (asked and asked[0][0] <= now) or self.memory.pressed != self._pressed
        if due or self._rider is not None or not flow.next_hop:
            return False
        self._egress.begin(sink, now)
        if not acknowledge(conn, now, self._egress):
            return False
        dirty.clear()
        flow.queued = False
        return True

    def _on_arp(self, view: memoryview, now: int) -> None:
        """Answer who asks for one of our addresses, and learn what may be learned (RFC 826, RFC 5227 §2.4)."""
        interface, stats = self._interface, self.stats
        try:
            message = arp.parse(view)
        except WireError:
            stats.drop(Drop.BAD_ARP)
            return
        mac, ip, reply = message.sha, message.spa, message.op == arp.REPLY
        to_us = message.tpa in interface.own
        if ethernet.is_group(mac) or message.op not in (arp.REQUEST, arp.REPLY) or mac == bytes(6):
            stats.drop(Drop.BAD_ARP)
            return
        if ip in interface.own:
            if mac != interface.mac:
                stats.drop(Drop.ARP_CONFLICT)
            return
        if ip != ipv4.ANY:  # a probe (RFC 5227 §2.1.1) says nothing about its sender
            if not interface.is_foreign(ip) or interface.on_link(ip) is None:
                stats.drop(Drop.MARTIAN)
                return
            entry = self._neighbors.learn(ip, mac, now, reply=reply, to_us=to_us)
            if entry is not None:
                self._egress.release(entry)
            elif reply or not to_us:
                stats.drop(Drop.ARP_UNSOLICITED)
        if to_us and not reply:
            self._egress.send_arp(arp.REPLY, message.tpa, mac, ip)

    def _on_ip(self, view: memoryview, now: int, meta: FrameMeta, *, group: bool, local: bool) -> None:
        """One IPv4 packet; ``group``: the frame was for many; ``local``: it never left this host."""
        stats, interface = self.stats, self._interface
        try:
            packet = ipv4.parse(view)
        except BadChecksum:
            stats.drop(Drop.BAD_IP_CHECKSUM)
            return
        except WireError:
            stats.drop(Drop.BAD_IP)
            return
        if not local:
            dst = packet.dst
            if dst not in interface.own:
                if interface.is_group(dst):
                    stats.drop(Drop.NOT_UNICAST)  # MUST-57
                else:
                    stats.drop(Drop.MARTIAN if dst[0] == 127 else Drop.NOT_OURS)
                return
            if not interface.is_foreign(packet.src):
                stats.drop(Drop.MARTIAN)  # MUST-63
                return
            if group:
                stats.drop(Drop.NOT_UNICAST)  # RFC 1122 §3.3.6
                return
        if packet.more_fragments or packet.fragment_offset:
            stats.drop(Drop.FRAGMENT)
        elif packet.proto == ipv4.TCP:
            self._on_tcp(packet, now, meta)
        elif packet.proto == ipv4.ICMP:
            self._icmp.receive(packet, now)
        elif packet.proto == ipv4.UDP:
            stats.drop(Drop.UDP)
            self._icmp.refuse(packet, view, icmp.PORT_UNREACHABLE, now)
        else:
            stats.drop(Drop.UNKNOWN_PROTOCOL)
            self._icmp.refuse(packet, view, icmp.PROTOCOL_UNREACHABLE, now)

    def _on_tcp(self, packet: ipv4.Packet, now: int, meta: FrameMeta) -> None:
        view = packet.payload
        if not meta.csum_valid and not tcp.verify(packet.src, packet.dst, view):
            self.stats.drop(Drop.BAD_TCP_CHECKSUM)  # MUST-3
            return
        try:
            seg = tcp.parse(view, meta.gso_size)
        except WireError:
            self.stats.drop(Drop.BAD_TCP)
            return
        seg.ecn = packet.tos & MASK
        self.stats.segments_in += 1
        key = b"".join((packet.src, packet.dst, view[:4]))
        conn = self._flows.get(key)
        if conn is None:
            if self._is_ours(key):
                self._listening.on_segment(seg, key, now)
            else:  # sent before all queues were there: its retransmission will find the right one
                self.stats.drop(Drop.OTHER_QUEUE)
            return
        if seg.flags & SYN and reusable_by(conn, seg):
            listener = self._listening.find(key)
            if listener is not None and listener.has_room():
                after = self._displace(key)  # RFC 6191: a new incarnation takes the place of one in TIME-WAIT
                self._listening.on_segment(seg, key, now, after)
                return
        conn.on_segment(seg, now)

    # --- the clock's side -----------------------------------------------------------------------------------------

    def poll(self, now: int, sink: Sink, budget: int = 64) -> bool:
        """Let everything out that may go: about ``budget`` segments. True: more waits although nothing new comes in
        (the budget is spent, or ``sink`` is full)."""
        if self._answered is not None:
            self.settle()
        heap, asked = self._heap, self._asked
        due = (heap and heap[0][0] <= now) or (asked and asked[0][0] <= now)
        if self._rider is not None and not self._in_company(self._rider):
            self._unseat()
        frames, requests, local = self._backlog, self._requests, self._local
        if not (due or self._dirty or frames or requests or local or self.memory.pressed != self._pressed):
            return self._rider is not None
        if now < self._latest:
            now = self._latest
        self._latest = now
        egress = self._egress
        egress.begin(sink, now)
        if due:
            self._expire(now)
        if local:
            for _ in range(min(len(local), budget)):
                packet, meta = egress.take_local()
                self._on_ip(memoryview(packet), now, meta, group=False, local=True)
        if frames or requests:
            egress.flush()
        if self._dirty:
            self._poll_connections(now, budget)
        if frames or requests:
            egress.flush()
        if self.memory.pressed != self._pressed:
            self._save_memory()
        if self._dirty or self._rider or frames or requests or local:
            return True
        return bool(heap) and heap[0][0] <= now and self.next_deadline() <= now

    def say(self, conn: Connection, data: Buffer, now: int, sink: Sink) -> int:
        """``conn.put(data)`` and :meth:`poll` in one, where ``data`` goes at once, as a message alone (``tcp.message``)
        or as part of a stream (``tcp.express``), and nobody else has anything to send; its bytes. 0: that is not so,
        and nothing has changed. :attr:`stirred`: a poll is due nevertheless."""
        flow: Flow = conn.flow
        dirty = self._dirty
        others = len(dirty) > flow.queued or self._backlog or self._local or self._requests
        if others or self._rider not in (None, conn) or not flow.next_hop:
            return 0
        if not conn.calm:
            calms(conn)
        self._egress.begin(sink, now)
        taken = 0
        if self._answered is not None:
            if conn is self._answered and not dirty and (taken := reply(conn, data, now, self._egress)):
                self._answered = None
            else:
                self.settle()
        if len(data) > SMALL:
            queued, flow.queued = flow.queued, False  # what it had to do is done with this
            dirty.clear()
            taken = pour(conn, data, now, self._egress)
            if taken:
                self._rider = None
            if queued and not taken:
                self.dirty(conn)
            elif (deadline := min(conn.timers.due)) < flow.wake:
                self._schedule(conn, deadline)
            return taken
        if not (taken or dirty):
            taken = say(conn, data, now, self._egress)
        if taken:
            self._rider = None
        if self._requests:  # who the next hop is has to be asked
            self._egress.flush()
        if flow.wake > now + min(conn.snd.rtt.rto, MAX_ACK_DELAY) and conn.calm == ALONE:
            deadline = conn.next_deadline()
            if deadline < flow.wake:
                self._schedule(conn, deadline)
        return taken

    def tell(self, conn: Connection, now: int, sink: Sink) -> None:
        """:meth:`poll` for ``conn`` alone, whose user has just opened or closed it, if nobody else has anything to say.
        :attr:`stirred`: a poll is due nevertheless."""
        dirty = self._dirty
        if len(dirty) != 1 or dirty[0] is not conn or self._backlog or self._local or self._requests or self._rider:
            return
        self._egress.begin(sink, now)
        self._poll_connections(now, MIN_QUANTUM)

    def _poll_connections(self, now: int, budget: int) -> None:
        """Every dirty connection once, with its share of the budget; those that have more go to the end of the line."""
        dirty, egress, stats = self._dirty, self._egress, self.stats
        count = len(dirty)
        quantum = max(MIN_QUANTUM, budget // count) if count > 1 else budget
        for _ in range(count):
            if budget <= 0:
                return
            conn = dirty.popleft()
            flow: Flow = conn.flow
            if egress.full and flow.next_hop:
                dirty.append(conn)
                continue
            flow.queued = False
            if self._rides(conn):
                continue
            before = stats.segments_out
            if conn.poll(now, egress, quantum if quantum < budget else budget):
                self.dirty(conn)
            budget -= stats.segments_out - before
            deadline = min(conn.timers.due)
            if deadline < flow.wake:
                self._schedule(conn, deadline)

    def _save_memory(self) -> None:
        """Memory has just become scarce, or is no longer: nobody keeps more than what is held needs."""
        self._pressed = self.memory.pressed
        if self._pressed:
            for conn in self._flows.values():
                conn.save_memory()

    def _expire(self, now: int) -> None:
        """Whatever is due: ARP and the connections' timers."""
        for neighbor in self._neighbors.expire(now):
            owners: dict[Owner, None] = {}
            for waiting in self._neighbors.take(neighbor):
                self.stats.drop(Drop.NEIGHBOR_FAILED)
                if waiting.owner is not None:
                    owners[waiting.owner] = None
            for owner in owners:
                owner.on_path_failed(now)
        heap = self._heap
        for _ in range(MAX_TIMERS):
            if not heap or heap[0][0] > now:
                return
            at, _, conn = heappop(heap)
            flow: Flow = conn.flow
            if at != flow.wake:
                continue
            flow.wake = NEVER
            if conn.next_deadline() <= now:
                conn.on_timers(now)
                self.dirty(conn)
            elif conn.next_deadline() < NEVER:
                self._schedule(conn, conn.next_deadline())

    def _schedule(self, conn: Connection, deadline: int) -> None:
        """Make an entry in the heap for ``deadline``, which is earlier than the one there is for ``conn``.

        ``flow.wake`` is the entry that counts; a deadline that moves later leaves it, to be looked at when it comes up.
        """
        conn.flow.wake = deadline
        self._serial += 1
        heap = self._heap
        heappush(heap, (deadline, self._serial, conn))
        if len(heap) > 2 * len(self._flows) + 64:
            heap[:] = [entry for entry in heap if entry[0] == entry[2].flow.wake]
            heapify(heap)

    def next_deadline(self) -> int:
        """When to call ``poll`` again although nothing comes in (ns); 0: at once; NEVER."""
        if self._answered is not None:
            self.settle()
        if self._dirty or self._rider or self._backlog or self._local or self._requests:
            return 0
        heap, others = self._heap, self._neighbors.next_deadline() if self._asked else NEVER
        while heap:
            deadline, _, conn = heap[0]
            if deadline == conn.flow.wake:
                return deadline if deadline < others else others
            heappop(heap)
        return others

    def look_again(self) -> None:
        """A turn was broken off, anywhere: whatever had been noted as due is noted anew."""
        self.settle()
        self._dirty.clear()
        self._rider = None
        self._heap.clear()
        self._ack_runs.ahead.clear()
        self._shortcut.forget()
        for conn in self._flows.values():
            flow: Flow = conn.flow
            flow.queued, flow.wake = False, NEVER
            self.dirty(conn)
            self.notify(conn)
            if conn.next_deadline() < NEVER:
                self._schedule(conn, conn.next_deadline())
        for listener in self._listening.all:
            self.notify(listener)

    @property
    def stirred(self) -> bool:
        """Whether something waits for the next ``poll``, whatever the time."""
        return bool(self._dirty or self._rider or self._backlog or self._local or self._requests)

    @property
    def busy(self) -> bool:
        """The same, but for an ACK that waits for company."""
        return bool(self._dirty or self._backlog or self._local or self._requests)

    # --- the user's side ------------------------------------------------------------------------------------------

    def bind(
        self,
        local: tuple[str, int],
        *,
        reuse_address: bool = False,
        reuse_port: bool = False,
        user: int = 0,
        both: bool = False,
    ) -> Binding:
        """Hold a local address ("" or "0.0.0.0": any) and port (0: an ephemeral one) for a listener or a connection.

        ``user``: whose it is; ``reuse_port`` shares it with the same user's only.
        ``both``: any address means that which stands for ::1, too.
        EADDRINUSE; EADDRNOTAVAIL: not an address, or not a port, of this host; ValueError: not an address at all.
        """
        first, last = self.config.ports
        if local[1] and not first <= local[1] <= last:
            raise os_error(errno.EADDRNOTAVAIL)
        ip = self._own(local[0])
        both = both and ip == ipv4.ANY
        return self._ports.bind(ip, local[1], reuse_address=reuse_address, reuse_port=reuse_port, user=user, both=both)

    def listen(self, local: Local, backlog: int = 128, config: TcpConfig | None = None) -> Listener:
        """Passive OPEN. A binding passes to the listener, and is free again when the last connection of it is.

        Errors as of :meth:`bind`; EADDRINUSE also if another listens there by now.
        """
        binding = local if isinstance(local, Binding) else self.bind(local)
        try:
            self._ports.listen(binding)
        except OSError:
            if binding is not local:
                binding.close()
            raise
        listener = Listener(self, config or self.config.tcp, binding.port, backlog)
        listener.flow = binding
        binding.hold()
        binding.close()
        self._listening.add(listener)
        return listener

    def connect(
        self, remote: tuple[str, int], now: int, local: Local | None = None, config: TcpConfig | None = None
    ) -> Connection:
        """Active OPEN; the SYN leaves at the next ``poll``. A binding passes to the connection. Of several stacks on a
        device's queues each takes ports whose answers come to it.

        ENETUNREACH: no route, or ``remote`` is not one host's address (RFC 9293 §3.9.1.1, MUST-46); EADDRNOTAVAIL: the
        address is not ours, the port is 0, or no four-tuple is free; EADDRINUSE: the local port is not; EINVAL: from
        127/8 to elsewhere; ENOBUFS: the memory of all connections is used up (RFC 9293 §3.10.1).
        """
        ip, port = ipv4.pack(remote[0]), remote[1]
        if not 0 <= port <= MASK32 >> 16:
            raise ValueError("a port lies between 0 and 65535")
        road = self._routes.road(ip)
        if road is None:
            raise os_error(errno.ENETUNREACH)
        hop, source = road
        if port == 0:
            raise os_error(errno.EADDRNOTAVAIL)
        if self.memory.exhausted:
            raise os_error(errno.ENOBUFS)
        binding = local if isinstance(local, Binding) else None
        wanted, wanted_port = (binding.ip, binding.port) if binding else (ipv4.ANY, 0)
        if isinstance(local, tuple):
            wanted, wanted_port = self._own(local[0]), local[1]
        if wanted != ipv4.ANY:
            source = wanted  # MUST-43; otherwise the route's choice, MUST-44
        if hop and source[0] == 127:
            raise os_error(errno.EINVAL)
        if wanted_port and self._occupied(flow_key(ip, source, port, wanted_port), now):
            raise os_error(errno.EADDRNOTAVAIL)
        if binding is None and wanted_port:
            binding = self._ports.bind(wanted, wanted_port)
        elif binding is None:
            here = source
            binding = self._ports.choose(here, lambda chosen: self._occupied(flow_key(ip, here, port, chosen), now))
        flow = Flow(binding, source, ip, port, hop, now)
        try:
            conn = self._make(flow, config or self.config.tcp, now, self._displace(flow.key))
        except OSError:  # the configuration names what does not exist
            if binding is not local:
                binding.close()
            raise
        binding.close()
        conn.open(now)
        return conn

    def pinger(self, remote: str, *, ttl: int = 64) -> Pinger:
        """A sender of ICMP echo requests. ENETUNREACH: no route, or not one host's address."""
        ip = ipv4.pack(remote)
        if not self._interface.is_unicast(ip):
            raise os_error(errno.ENETUNREACH)
        return self._icmp.pinger(ip, int.from_bytes(self._random(2), "big"), ttl)

    def announce(self) -> None:
        """Tell the network our addresses by gratuitous ARP (RFC 5227 §3), as after a change of hardware address."""
        if self._interface.mac:
            for ip in sorted(self._interface.own):
                self._egress.send_arp(arp.REQUEST, ip, b"", ip)

    def take_ready(self) -> list[Connection | Listener | Pinger]:
        """What became ready since the last call, in order, each once."""
        ready = list(self.news)
        self.news.clear()
        return ready

    def connections(self) -> Iterable[Connection]:
        """Every connection that is not CLOSED."""
        return self._flows.values()

    def listeners(self) -> Iterable[Listener]:
        """Every listener that is not closed."""
        return self._listening.all

    def snapshot(self, now: int) -> list[dict[str, Any]]:
        """Listeners, then connections (their ``TcpInfo`` and more), as ``usertcp ss`` shows them. Times in ns, sizes in
        bytes; nothing but what JSON has."""
        return listing(self.listeners(), self._flows.values(), now)

    def counters(self) -> dict[str, int]:
        """What was counted so far, by name: ``Stats``, and how the common memory stands (bytes; refused: segments)."""
        memory = self.memory
        figures = {"memory_limit": memory.limit, "memory_used": memory.used, "memory_peak": memory.peak}
        return self.stats.as_dict() | figures | {"memory_refused": memory.refused}

    # --- what connections and listeners ask (tcp.connection.Host) ---------------------------------------------------

    def dirty(self, conn: Connection) -> None:
        """Poll ``conn`` in the next turn."""
        flow: Flow = conn.flow
        if flow.queued:
            return
        if not self._rides(conn):
            flow.queued = True
            self._dirty.append(conn)

    def owes(self, conn: Connection) -> None:
        """Poll ``conn`` in the next turn, or later, if its user is about to go on: it owes an ACK that may wait."""
        if (
            conn is self.company
            and self._rider is None
            and not conn.flow.queued
            and conn.snd.buffer.end == conn.snd.nxt
        ):
            self._rider = conn
            conn.timers.stop(DELAYED_ACK)
        else:
            self.dirty(conn)

    def wake(self, conn: Connection, at: int) -> None:
        """Look at the timers of ``conn`` at ``at`` (ns), which is earlier than it would be."""
        self._schedule(conn, at)

    def _rides(self, conn: Connection) -> bool:
        """Whether all that ``conn`` has to say is an ACK that waits for company."""
        if (
            self.company is not None
            and self._in_company(conn)
            and (self._rider is None or conn is self._rider)
            and may_ride(conn)
        ):
            self._rider = conn
            conn.timers.stop(DELAYED_ACK)  # it is due, and waits for nothing else
            return True
        if conn is self._rider:
            self._rider = None
        return False

    def _in_company(self, conn: Connection) -> bool:
        """Whether the user of ``conn`` is about to go on."""
        company = self.company
        return company is not None and (conn is company or conn.listener is company)

    def _unseat(self) -> None:
        """The ACK that waits for company goes alone."""
        rider, self._rider = self._rider, None
        if rider is not None:
            self.dirty(rider)

    def notify(self, item: Connection | Listener | Pinger) -> None:
        """``item`` shows up in the next ``take_ready``."""
        self.news[item] = None

    def forget(self, item: Connection | Listener) -> None:
        """``item`` is CLOSED: it gets no more segments, and its port is free. Harmless when repeated."""
        if isinstance(item, Listener):
            binding: Binding = item.flow
            if binding.listening:
                self._listening.remove(item)
                binding.listening = False
                binding.release()
            return
        flow: Flow = item.flow
        if self._flows.get(flow.key) is item:
            del self._flows[flow.key]
            self._shortcut.forget()
            flow.wake = NEVER
            if item is self._rider:
                self._rider = None
            flow.binding.release()
            self._time_wait.pop(item, None)
            if item.passive:
                self._listening.forget(item)

    def waits(self, conn: Connection) -> None:
        """``conn`` entered TIME-WAIT: if there are too many, the one that has waited longest is over."""
        waiting = self._time_wait
        waiting[conn] = None
        if 0 < self.config.limits.time_wait < len(waiting):
            oldest = next(iter(waiting))
            oldest.expire()
            self.forget(oldest)
            self.stats.time_waits_cut += 1

    def suspect(self, conn: Connection) -> None:
        """Nothing that ``conn`` sends seems to arrive: ask its next hop whether it is still there (MUST-20)."""
        self._neighbors.doubt(conn.flow.next_hop)

    # --- within -----------------------------------------------------------------------------------------------------

    def _own(self, address: str) -> bytes:
        """The bytes of a local address; EADDRNOTAVAIL if it is none of this host's."""
        ip = ipv4.pack(address) if address else ipv4.ANY
        if ip != ipv4.ANY and not self._interface.is_local(ip):
            raise os_error(errno.EADDRNOTAVAIL)
        return ip

    def _flight(self, hop: bytes, mss: int) -> int:
        """How many bytes of a connection may be on their way by ``hop``, each way. The link's queue holds the peer's
        text and its ACKs of ours, of which there are no more than segments; each gets half of it."""
        queue = self.caps.rx_queue
        return max(queue // 2, 1) * mss if queue and hop else UNBOUNDED

    def _is_ours(self, key: bytes) -> bool:
        """Whether the segments of a flow come to our queue of the device."""
        return self.caps.queues == 1 or flow_hash(key) % self.caps.queues == self.caps.queue

    def _occupied(self, key: bytes, now: int) -> bool:
        """Whether a new connection cannot have the flow ``key``: another has it, and needs it, or its segments come to
        another queue."""
        conn = self._flows.get(key)
        return (conn is not None and not outlived(conn, now)) or not self._is_ours(key)

    def _displace(self, key: bytes) -> int | None:
        """End what is left in TIME-WAIT of an earlier incarnation of a flow; the last number it used."""
        conn = self._flows.get(key)
        if conn is None:
            return None
        conn.expire()
        self.forget(conn)
        return conn.snd.nxt

    def _ts_now(self, key: bytes, now: int) -> int:
        """The timestamp clock of a flow (RFC 7323 §5.4), as :meth:`Connection.ts_now` has it."""
        return (now // TS_TICK + timestamp_offset(key, self._ts_secret)) & MASK32

    def _make(
        self, flow: Flow, config: TcpConfig, now: int, after: int | None = None, iss: int | None = None
    ) -> Connection:
        """A connection for ``flow``, in the table, holding its port (:class:`usertcp.net.listening.Make`)."""
        mss = self._routes.mtu(flow.remote_ip, now) - TCP_HEADERS
        if iss is None:
            iss = initial_sequence(now, flow.key, self._secret)
        if after is not None and unwrap(iss, after) < after:
            iss = (after + REUSE_GAP) & MASK32
        conn = Connection(
            self,
            config,
            flow.binding.port,
            int.from_bytes(flow.key[8:10], "big"),
            mss=mss,
            iss=iss,
            ts_offset=timestamp_offset(flow.key, self._ts_secret),
            max_burst=max(MAX_BURST, mss),
            train=TRAIN if flow.next_hop else 1,
            flight=self._flight(flow.next_hop, mss),
            tracer=self._tracer,
            memory=self.memory,
        )
        conn.flow = flow
        self._flows[flow.key] = conn
        flow.binding.hold()
        return conn
