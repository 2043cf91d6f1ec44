"""The fuzz target ``stack``: one host on a network where nobody can be trusted.

The first record says which connection there is (who opens it, with which options, on which device) and how far its
handshake has come; every other one is something that happens:

- the honest users write, read and close, the path loses, doubles, swaps, holds back and damages their frames;
- forged segments arrive for the honest connection, at either end, and for the stranger's own;
- the stranger opens connections, floods the listener, acknowledges cookies; near connects to it, and serves it;
- ICMP, ARP, fragments, nonsense; time.

Then all is well again. The honest streams have to come through whole, unless a segment was forged that no TCP can tell
from its peer's (:meth:`tests.fuzz.forge.Forgery.is_harmless`), and in the end nothing may be left.
"""

from collections.abc import Callable
from typing import Final

from tests.fuzz.feed import RECORD, Feed, records
from tests.fuzz.forge import Forgery, complaint, framed, oddity, resolution
from tests.fuzz.world import EVIL, MACS, NEAR, PEER, PORT, TRIP, World
from usertcp.errors import WireError
from usertcp.frame import PLAIN
from usertcp.tcp.cc.registry import NAMES
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.ecn_policy import Ecn
from usertcp.tcp.state import State
from usertcp.units import KIB, MS, SEC
from usertcp.wire import arp, ethernet, ipv4, tcp
from usertcp.wire.tcp import ACK, FIN, PSH, SYN

STEPS: Final = 48  # records that count
SPENT: Final = 20 * SEC  # that may pass before all is well again: nobody has given up by then
SIZES: Final = (1, 7, 100, 536, 1460, 3000, 9000, 20_000)
WAITS: Final = (0, 1 * MS, 5 * MS, 41 * MS, 201 * MS, 700 * MS, 1500 * MS, 4 * SEC)
EVERY: Final = 1 << 20


class Story:
    """One input, as it happens."""

    def __init__(self, data: bytes) -> None:
        feed = Feed(data[:RECORD])
        shape, options, sizes, stage = feed.byte(), feed.byte(), feed.byte(), feed.byte()
        config = TcpConfig(
            timestamps=not options & 1,
            sack=not options & 2,
            window_scaling=not options & 4,
            ecn=tuple(Ecn)[options >> 3 & 3],
            nodelay=bool(options & 32),
            keepalive=bool(options & 64),
            keepalive_idle=3 * SEC,
            receive_buffer=(64 * KIB, 4000, 600, 16 * KIB)[sizes & 3],
            receive_buffer_max=(32 * KIB * KIB, 0)[sizes >> 2 & 1],
            send_buffer=(128 * KIB, 3000)[sizes >> 3 & 1],
            congestion=NAMES[(sizes >> 4) % len(NAMES)],
            msl=2 * SEC,
        )
        self.world = world = World(
            data,
            config,
            ether=not shape & 1,
            offload=bool(shape & 2),
            outgoing=bool(shape & 4),
            mtu=(1500, 9000, 600, 1500)[shape >> 3 & 3],
        )
        self.spent = 0
        self.ports = 0
        if world.ether:
            self._meet()
        if stage & 1:  # somewhere within the handshake
            for _ in range(stage >> 1 & 7):
                world.exchange()
        else:
            world.run(20 * TRIP)
            for talk in world.talks:
                talk.write(4000)
            world.turn(world.near)
            world.turn(world.peer)

    def _meet(self) -> None:
        """The stranger is a neighbour of near's."""
        message = arp.build(arp.Arp(arp.REQUEST, MACS[EVIL], EVIL, bytes(6), NEAR))
        self.world.give(ethernet.header(MACS[NEAR], MACS[EVIL], ethernet.ARP) + message)
        self.world.turn(self.world.near)

    def play(self, feed: Feed) -> None:
        """What one record says."""
        kind = feed.byte()
        self._KINDS[kind % len(self._KINDS)](self, feed)

    # --- honest people ------------------------------------------------------------------------------------------------

    def _write(self, feed: Feed) -> None:
        self.world.talks[feed.byte() & 1].write(feed.choice(SIZES))
        self._turns(feed.byte())

    def _read(self, feed: Feed) -> None:
        self.world.talks[feed.byte() & 1].read(feed.choice((1, 100, 5000, EVERY)))
        self._turns(feed.byte())

    def _shutdown(self, feed: Feed) -> None:
        if feed.byte() & 3 == 3:
            self.world.talks[feed.byte() & 1].shutdown()

    def _turns(self, which: int) -> None:
        world = self.world
        if which & 1:
            world.exchange()
            world.now += TRIP
        if which & 2:
            world.turn(world.near)
        if which & 4:
            world.turn(world.peer)

    def _wait(self, feed: Feed) -> None:
        duration = min(feed.choice(WAITS), SPENT - self.spent)
        self.spent += duration
        self.world.run(duration)

    def _offer(self, feed: Feed) -> None:
        """Near's user waits with memory of its own, as ``recv_into`` does."""
        talk = self.world.talks[0]
        if talk.conn is None or talk.error is not None or talk.ended or talk.conn.readable:
            return
        target = bytearray(feed.choice(SIZES))
        count = 0
        if self.world.near.pump.offer(talk.conn, memoryview(target)):
            self.world.exchange()
            count = self.world.near.pump.take_back(talk.conn)
        talk.heard += target[:count]

    def _configure(self, feed: Feed) -> None:
        conn = self.world.talks[0].conn
        if conn is None or conn.state is State.CLOSED:
            return
        which = feed.byte()
        changes = (
            {"receive_buffer": feed.choice((600, 4000, 64 * KIB)), "receive_buffer_max": 0},
            {"send_buffer": feed.choice((1, 3000, 64 * KIB)), "send_buffer_max": 0},
            {"nodelay": bool(which & 8)},
            {"cork": bool(which & 8)},
            {"congestion": feed.choice(NAMES)},
            {"window_clamp": feed.choice((0, 1200, 9000))},
            {"notsent_lowat": feed.choice((0, 1, 5000))},
            {"quick_acks": feed.byte()},
        )
        conn.configure(**changes[which & 7])

    # --- the path -----------------------------------------------------------------------------------------------------

    def _path(self, feed: Feed) -> None:
        """Something happens to a frame in the air, or to one of the past."""
        world = self.world
        what, to, place, at, bits = feed.byte() % 7, feed.choice((NEAR, PEER)), feed.byte(), feed.number(), feed.byte()
        waiting = world.air[to]
        if what == 0 and world.past:  # an old one comes again
            receiver, frame, meta = world.past[place % len(world.past)]
            world.air[receiver].append((frame, meta))
            return
        if not waiting:
            return
        place %= len(waiting)
        frame, meta = waiting[place]
        if not world.is_packet(frame):
            return
        if what == 1:
            del waiting[place]
        elif what == 2:
            waiting.append((frame, meta))
        elif what == 3:
            del waiting[place]
            waiting.append((frame, meta))
        elif what == 4 and meta is PLAIN and bits:  # a single byte: no checksum misses that
            at = (14 if world.ether else 0) + at % (len(frame) - (14 if world.ether else 0))
            waiting[place] = (frame[:at] + bytes((frame[at] ^ bits,)) + frame[at + 1 :], meta)
        elif what == 5:
            waiting[place] = (frame[: len(frame) - 1 - at % len(frame)], meta)
        else:
            for _ in range(min(len(waiting) - place, 1 + bits % 8)):
                if world.is_packet(waiting[place][0]):
                    del waiting[place]

    # --- forgers ------------------------------------------------------------------------------------------------------

    def _blind(self, feed: Feed) -> None:
        """A segment for the honest connection, at either end; the addresses and ports are right."""
        world = self.world
        which = feed.byte()
        talk = world.talks[which & 1]
        forgery = Forgery(feed, talk.conn, (40000, PORT), world.now)
        if not forgery.is_harmless():
            if which & 0xE0:  # mostly the forger is as blind as he should be
                return
            world.tainted = True
        frame, meta = forgery.frame(talk.other.host.address, talk.host.address, world.ether)
        for _ in range(1 + (which >> 1 & 3)):
            world.inject(talk.host, frame, meta)
        self._turns(which >> 3 & 3)

    def _stranger(self, feed: Feed) -> None:
        """A segment of the stranger's, who knows all the numbers of his own connections."""
        world = self.world
        which = feed.byte()
        conn = self._strange(which >> 2)
        forgery = Forgery(feed, conn, (50_000 + (which >> 2 & 7), PORT), world.now)
        frame, meta = forgery.frame(EVIL, NEAR, world.ether)
        world.give(frame, meta)
        self._turns(which & 3)

    def _strange(self, which: int) -> Connection | None:
        found = [c for c in self.world.near.stack.connections() if c.flow.remote_ip == EVIL]
        return found[which % len(found)] if found else None

    def _follow(self, feed: Feed) -> None:
        """What a peer who knows how would send next on a strange connection: text, acknowledgments, a FIN."""
        world = self.world
        which = feed.byte()
        conn = self._strange(which)
        if conn is None:
            return
        size = feed.choice((0, 1, 100, 1460, 1460))
        snd, rcv = conn.snd, conn.rcv
        lag = feed.byte() if which & 64 else 0
        flags = ACK | (FIN if which & 32 else 0) | (PSH if which & 16 else 0)
        flags |= SYN if conn.state is State.SYN_SENT else 0
        options = tcp.timestamps(rcv.ts_recent + 1, conn.ts_now(world.now)) if conn.ts_ok else b""
        if flags & SYN:
            options = tcp.syn_options(feed.number(), feed.byte() & 15, bool(which & 16), None)
            size = 0
        gap = feed.byte() << 4 if which & 128 else 0
        ack = max(snd.una, snd.nxt - lag)
        self._send(EVIL, conn, rcv.nxt + gap, ack, flags, feed.number(), options, b"e" * size)
        self._turns(which & 3)

    def _send(
        self, source: bytes, conn: Connection, seq: int, ack: int, flags: int, wnd: int, options: bytes, text: bytes
    ) -> None:
        remote = int.from_bytes(conn.flow.key[8:10], "big")
        head = tcp.header(remote, conn.flow.binding.port, seq, ack, flags, wnd, options)
        head[16:18] = tcp.checksum(source, NEAR, head, [memoryview(text)]).to_bytes(2, "big")
        packet = ipv4.header(source, NEAR, ipv4.TCP, len(head) + len(text)) + head + text
        self.world.give(framed(packet, source, NEAR, self.world.ether))

    def _crumbs(self, feed: Feed) -> None:
        """Many segments of a strange connection, each with a gap before it."""
        conn = self._strange(feed.byte())
        if conn is None or conn.state not in (State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2):
            return
        rcv, snd = conn.rcv, conn.snd
        count, step, size = 1 + feed.byte() % 32, 2 + feed.number() % 3000, 1 + feed.byte() % 64
        options = tcp.timestamps(rcv.ts_recent, conn.ts_now(self.world.now)) if conn.ts_ok else b""
        base, sign = rcv.nxt + 1, -1 if feed.flag() else 1
        for n in range(count):
            at = base + step * (n if sign > 0 else count - n)
            self._send(EVIL, conn, at, snd.una, ACK, 500, options, b"c" * size)

    def _connect(self, feed: Feed) -> None:
        """Near's user connects to the stranger."""
        port = 1 + feed.byte()
        try:
            self.world.strangers.append(self.world.near.stack.connect(("10.9.0.66", port), self.world.now))
        except OSError:
            return
        self._turns(feed.byte())

    def _knock(self, feed: Feed) -> None:
        """The stranger opens a connection in order, and near's answer is acknowledged."""
        world = self.world
        self.ports += 1
        sport, seq = 20_000 + self.ports, feed.number(4)
        mss, shift, which = feed.number(), feed.byte() & 15, feed.byte()
        options = tcp.syn_options(mss, shift if which & 1 else -1, bool(which & 2), (1, 0) if which & 4 else None)
        extra = tcp.ACE if which & 8 else 0
        self._syn(EVIL, sport, seq, options, SYN | extra)
        world.air[EVIL].clear()
        world.turn(world.near)
        for frame, _ in list(world.air[EVIL]):
            try:
                packet = ipv4.parse(memoryview(frame)[14 if world.ether else 0 :])
                answer = tcp.parse(packet.payload)
            except WireError:
                continue
            if answer.flags & (SYN | ACK) == SYN | ACK and answer.dport == sport:
                stamps = tcp.timestamps(2, answer.options.tsval) if answer.options.has_ts else b""
                head = tcp.header(sport, PORT, seq + 1, answer.seq + 1, ACK, feed.number(), stamps)
                head[16:18] = tcp.checksum(EVIL, NEAR, head, []).to_bytes(2, "big")
                world.give(framed(ipv4.header(EVIL, NEAR, ipv4.TCP, len(head)) + head, EVIL, NEAR, world.ether))

    def _syn(self, source: bytes, sport: int, seq: int, options: bytes, flags: int = SYN) -> None:
        head = tcp.header(sport, PORT, seq, 0, flags, 1000, options)
        head[16:18] = tcp.checksum(source, NEAR, head, []).to_bytes(2, "big")
        self.world.give(framed(ipv4.header(source, NEAR, ipv4.TCP, len(head)) + head, source, NEAR, self.world.ether))

    def _flood(self, feed: Feed) -> None:
        """SYNs of sources that may not exist, and ACKs that guess at cookies."""
        count, spread, seq = 1 + feed.byte() % 24, feed.byte(), feed.number(4)
        options = tcp.syn_options(1460, 7, True, (1, 0) if spread & 1 else None)
        for n in range(count):
            source = ipv4.pack(f"10.9.0.{100 + n % (1 + spread % 50)}")
            self._syn(source, 1024 + n, seq + n, options, ACK if spread & 2 else SYN)
        self._turns(feed.byte())

    def _serve(self, feed: Feed) -> None:
        """Near's user sees to the strangers: takes a connection, reads, writes, closes."""
        world = self.world
        what = feed.byte()
        if what & 3 == 0:
            conn = world.listener.accept()
            if conn is not None:
                world.strangers.append(conn)
            return
        if not world.strangers:
            return
        conn = world.strangers[(what >> 5) % len(world.strangers)]
        try:
            if what & 3 == 1:
                conn.read(feed.choice(SIZES))
            elif what & 3 == 2:
                conn.write(bytes(feed.choice(SIZES)), urgent=bool(what & 4))
            elif what & 12 == 12:
                conn.abort()
            elif what & 8:
                conn.close()
            else:
                conn.shutdown_write()
        except OSError:
            pass
        self._turns(feed.byte())

    # --- below TCP ----------------------------------------------------------------------------------------------------

    def _icmp(self, feed: Feed) -> None:
        world = self.world
        which = feed.byte()
        conn = world.talks[0].conn if which & 1 else self._strange(which >> 1)
        if conn is world.talks[0].conn and conn is not None and conn.state in (State.SYN_SENT, State.SYN_RECEIVED):
            return  # an opening connection believes what an unreachable host's router says
        world.give(complaint(feed, conn, world))

    def _arp(self, feed: Feed) -> None:
        if self.world.ether:
            self.world.give(resolution(feed))

    def _odd(self, feed: Feed) -> None:
        self.world.give(oddity(feed, self.world))

    def _raw(self, feed: Feed) -> None:
        frame = feed.rest()
        world = self.world
        world.give(frame)
        if world.ether:
            world.give(ethernet.header(MACS[NEAR], MACS[EVIL], ethernet.IPV4) + frame)

    _KINDS: Final[tuple[Callable[["Story", Feed], None], ...]] = (
        _write,
        _read,
        _wait,
        _path,
        _blind,
        _stranger,
        _follow,
        _knock,
        _serve,
        _connect,
        _crumbs,
        _flood,
        _icmp,
        _arp,
        _odd,
        _raw,
        _shutdown,
        _offer,
        _configure,
        _blind,
        _stranger,
        _follow,
        _path,
        _wait,
    )


def run(data: bytes) -> None:
    """One input, to its end. AssertionError, or whatever the stack raises, is a finding."""
    story = Story(data)
    for feed in records(data[RECORD:], STEPS):
        story.play(feed)
        story.world.check()
    story.world.heal()
    story.world.finish()
