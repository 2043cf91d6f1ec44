"""Three hosts for the fuzzer: the one under test, its honest peer, and a stranger whose every frame is forged.

::

    near  10.9.0.2   the stack under test, behind the pump that runs it on a device
    peer  10.9.0.1   a stack, too, and honest: what its user writes, near's user reads, and the other way round
    evil  10.9.0.66  a name and frames: whatever the fuzzer makes

Nothing moves by itself. What a host sends lies in the air until :meth:`World.exchange`; until then it can be lost,
doubled, delayed or damaged. Time is a number. :meth:`World.check` says what holds at any moment, :meth:`World.finish`
ends everything and looks that nothing is left.
"""

import random
import zlib
from collections import deque
from typing import Final

from benchmarks.core_meters import Bytecode
from tests.support.board import check_board
from usertcp.driver.base import Pump
from usertcp.frame import PLAIN, FrameMeta, LinkCaps
from usertcp.link.callback import CallbackLink
from usertcp.net.egress import MAX_REPLIES
from usertcp.net.listening import Limits
from usertcp.net.stack import Stack, StackConfig
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.receiver import MAX_DSACKS, MAX_RANGES
from usertcp.tcp.state import State
from usertcp.units import HOUR, KIB, MINUTE, MS, NEVER, SEC
from usertcp.wire import ethernet, ipv4

NEAR: Final = ipv4.pack("10.9.0.2")
PEER: Final = ipv4.pack("10.9.0.1")
EVIL: Final = ipv4.pack("10.9.0.66")
MACS: Final = {NEAR: b"\2\0\0\0\0\x02", PEER: b"\2\0\0\0\0\x01", EVIL: b"\2\0\0\0\0\x66"}
PORT: Final = 80  # near's listener, for everybody
BACKWARD: Final = 81  # peer's listener
START: Final = 1000 * SEC
TRIP: Final = 1 * MS  # one way
PATIENCE: Final = 10 * MINUTE  # that the honest transfer gets when all is well again
TURNS: Final = 20_000  # turns of the world in which one story has to come to its end
MEMORY: Final = 1024 * KIB  # of near's buffers: little, so that it runs out
LIMITS: Final = Limits(syn_backlog=8, source_half_open=4, source_connections=24, listener_connections=40, time_wait=8)
BACKLOG: Final = 4
NEIGHBORS: Final = 16
TEXT: Final = random.Random(6).randbytes(1 << 17)
MOST: Final = 1 << 16  # bytes that each honest end says

# Work, in instructions of the interpreter: for a frame that comes in, and for a turn that sends. What one connection
# has in flight (records of what was sent, gaps in what came) may be looked at as a whole now and then.
FRAME_WORK: Final = 12_000
BYTE_WORK: Final = 4
RECORD_WORK: Final = 400
TURN_WORK: Final = 20_000
SENT_WORK: Final = 12_000
COUNTED: Final = 1_000_000  # instructions that are counted of one story: it takes long


class Port:
    """The device of one host: what it sends lies in the air."""

    def __init__(self, world: "World", address: bytes, caps: LinkCaps) -> None:
        self.world = world
        self.address = address
        self.link = CallbackLink(self._send, caps)
        self.sent = 0

    def _send(self, frame: bytes, meta: FrameMeta) -> bool:
        self.sent += 1
        self.world.carry(self.address, frame, meta)
        return True


class Host:
    """A stack, its pump and its port."""

    def __init__(self, world: "World", address: bytes, caps: LinkCaps, config: StackConfig) -> None:
        self.address = address
        self.port = Port(world, address, caps)
        self.stack = Stack(config, caps, random.Random(address).randbytes)
        self.pump = Pump(self.stack, self.port.link, lambda: world.now)


class Talk:
    """One end of the honest connection, and its user."""

    def __init__(self, host: Host, offset: int) -> None:
        self.host = host
        self.conn: Connection | None = None
        self.offset = offset  # of what it says, in TEXT
        self.said = 0
        self.heard = bytearray()
        self.shut = False
        self.ended = False
        self.error: OSError | None = None
        self.other: Talk

    def write(self, size: int) -> None:
        size = min(size, MOST - self.said)
        if self.conn is None or self.shut or self.error is not None or size <= 0:
            return
        start = self.offset + self.said
        try:
            self.said += self.conn.write(TEXT[start : start + size])
        except BlockingIOError:
            pass
        except OSError as error:
            self.error = error

    def read(self, size: int) -> None:
        if self.conn is None or self.error is not None or self.ended:
            return
        try:
            data = self.conn.read(size)
        except BlockingIOError:
            return
        except OSError as error:
            self.error = error
            return
        self.heard += data
        self.ended = not data and size > 0

    def shutdown(self) -> None:
        if self.conn is not None and self.conn.state is not State.CLOSED and not self.shut:
            self.shut = True
            self.conn.shutdown_write()

    def is_intact(self) -> bool:
        """Whether what was heard is the beginning of what the other said."""
        start = self.other.offset
        return TEXT[start : start + len(self.heard)] == self.heard and len(self.heard) <= self.other.said


class World:
    """See the module. ``tainted``: somebody has forged what no TCP can tell from its peer's; then the streams may be
    anything, and only the stack itself has to hold."""

    def __init__(self, data: bytes, config: TcpConfig, *, ether: bool, offload: bool, outgoing: bool, mtu: int) -> None:
        self.now = START
        self.ether = ether
        self.air: dict[bytes, deque[tuple[bytes, FrameMeta]]] = {NEAR: deque(), PEER: deque(), EVIL: deque()}
        self.past: deque[tuple[bytes, bytes, FrameMeta]] = deque(maxlen=64)  # honest frames, with their receivers
        self.tainted = False
        self.turns = 0
        self.outgoing = outgoing
        self.left = COUNTED
        self.meter = Bytecode() if zlib.crc32(data) % 64 == 0 else None
        caps = {ip: LinkCaps(mtu, MACS[ip] if ether else None, offload, offload) for ip in (NEAR, PEER)}
        self.near = Host(self, NEAR, caps[NEAR], self._settings("10.9.0.2/24", config, MEMORY))
        self.peer = Host(self, PEER, caps[PEER], self._settings("10.9.0.1/24", TcpConfig(), 64 * MEMORY))
        self.talks = (Talk(self.near, 0), Talk(self.peer, 5000))
        self.talks[0].other, self.talks[1].other = self.talks[1], self.talks[0]
        self.listener = self.near.stack.listen(("", PORT), BACKLOG)
        self.backward = self.peer.stack.listen(("", BACKWARD), BACKLOG)
        self.strangers: list[Connection] = []  # near's connections with evil, and with whom it pretends to be
        near, peer = self.talks
        if outgoing:
            near.conn = self.near.stack.connect(("10.9.0.1", BACKWARD), self.now, config=config)
        else:
            peer.conn = self.peer.stack.connect(("10.9.0.2", PORT), self.now)

    @staticmethod
    def _settings(address: str, config: TcpConfig, memory: int) -> StackConfig:
        return StackConfig((address,), tcp=config, limits=LIMITS, neighbor_capacity=NEIGHBORS, memory=memory)

    # --- the air ------------------------------------------------------------------------------------------------------

    def carry(self, sender: bytes, frame: bytes, meta: FrameMeta) -> None:
        """A frame leaves ``sender``: for whom it says, or for all others."""
        if meta is not PLAIN:
            meta = FrameMeta(meta.gso_size, csum_valid=bool(meta.csum_start) or meta.csum_valid)
        for ip, waiting in self.air.items():
            if ip != sender and (frame[:6] in (MACS[ip], ethernet.BROADCAST) if self.ether else frame[16:20] == ip):
                waiting.append((frame, meta))
                if ip != EVIL and self.is_packet(frame):
                    self.past.append((ip, frame, meta))

    def is_packet(self, frame: bytes) -> bool:
        """Whether it carries IPv4: ARP is not TCP's to survive."""
        return not self.ether or frame[12:14] == b"\x08\x00"

    def give(self, frame: bytes, meta: FrameMeta = PLAIN) -> None:
        """A forged frame reaches near at once."""
        self.inject(self.near, frame, meta)

    def inject(self, host: Host, frame: bytes, meta: FrameMeta = PLAIN) -> None:
        """A forged frame reaches ``host`` at once, and only that."""
        stack = host.stack
        if self.meter is None or host is not self.near:
            stack.receive(frame, self.now, meta)
            return
        inventory = sum(len(c.snd.board) + len(c.rcv.buffer.arrived) for c in stack.connections())
        self.meter.instructions = 0
        self.meter.start()
        stack.receive(frame, self.now, meta)
        self.meter.stop()
        bound = FRAME_WORK + BYTE_WORK * len(frame) + RECORD_WORK * inventory
        self._judge("a frame", bound)

    def exchange(self) -> bool:
        """Everything in the air arrives, everybody has a turn. Whether anything moved."""
        self.turns += 1
        assert self.turns < TURNS, "the world never comes to rest"
        self.air[EVIL].clear()
        moved = False
        for host in (self.near, self.peer):
            waiting = self.air[host.address]
            moved = moved or bool(waiting)
            for frame, meta in waiting:
                host.port.link.deliver(frame, meta)
            waiting.clear()
            moved = self.turn(host) or moved
        self._accept()
        return moved

    def turn(self, host: Host) -> bool:
        """All that ``host`` can do now. Whether it sent anything."""
        before = host.port.sent
        if self.meter is not None and host is self.near:
            self.turn_counted()
        for _ in range(1000):
            if not host.pump.turn():
                return host.port.sent > before
        raise AssertionError("a host never comes to rest")

    def turn_counted(self) -> None:
        """One turn of near, whose work is bounded by what comes in, what goes out and what there is."""
        assert self.meter is not None
        stack, port = self.near.stack, self.near.port
        conns = list(stack.connections())
        inventory = sum(1 + len(c.snd.board) + len(c.rcv.buffer.arrived) for c in conns)
        frames, sent = stack.stats.frames_in, port.sent
        octets = stack.stats.bytes_in
        self.meter.instructions = 0
        self.meter.start()
        self.near.pump.turn()
        self.meter.stop()
        bound = TURN_WORK + RECORD_WORK * inventory + SENT_WORK * (port.sent - sent + len(conns))
        bound += FRAME_WORK * (stack.stats.frames_in - frames) + BYTE_WORK * (stack.stats.bytes_in - octets)
        self._judge("a turn", bound)

    def _judge(self, what: str, bound: int) -> None:
        """Whether ``what`` was counted to have taken no more than ``bound``."""
        assert self.meter is not None
        took = self.meter.instructions
        assert took <= bound, f"{what} took {took} instructions, not {bound}"
        self.left -= took
        if self.left < 0:
            self.meter = None

    def _accept(self) -> None:
        """The honest users take the connection they wait for."""
        talk, listener = (self.talks[1], self.backward) if self.outgoing else (self.talks[0], self.listener)
        mate = talk.other.conn
        if talk.conn is not None or mate is None:
            return
        for _ in range(len(listener.queue)):
            conn = listener.accept()
            assert conn is not None
            if conn.flow.remote == mate.flow.local:
                talk.conn = conn
                return
            self.strangers.append(conn)

    def next_deadline(self) -> int:
        return min(host.pump.deadline(self.now) for host in (self.near, self.peer))

    def run(self, duration: int) -> None:
        """Time passes; what is in the air arrives."""
        end = self.now + duration
        while self.now < end:
            if self.exchange():
                self.now = min(self.now + TRIP, end)
            else:
                self.now = min(max(self.next_deadline(), self.now + 1), end)
        self.exchange()

    # --- what must hold -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """What holds at any moment."""
        stack, memory = self.near.stack, self.near.stack.memory
        conns = list(stack.connections())
        rings = 0
        for conn in {*conns, *self.strangers, *([self.talks[0].conn] if self.talks[0].conn else [])}:
            rings += check_connection(conn)
        assert 0 <= memory.used <= MEMORY + 2 * memory.minimum * (len(conns) + 1)
        assert rings <= memory.used, "a ring that nobody is charged for"
        assert len(self.listener.half_open) <= max(BACKLOG, LIMITS.syn_backlog)
        assert sum(self.listener.shares.values()) == len(self.listener.half_open)
        assert len(self.listener.queue) <= BACKLOG + 1
        assert len(stack._neighbors) <= NEIGHBORS
        assert len(stack._egress.backlog.frames) + len(stack._egress.local) <= MAX_REPLIES + 64
        assert len(stack._heap) <= 2 * len(conns) + 65
        assert len(stack._time_wait) <= LIMITS.time_wait
        if not self.tainted:
            assert all(talk.is_intact() for talk in self.talks), "a stream is not what was written"

    def heal(self) -> None:
        """The path is good, nobody forges any more, and the users read: what was said arrives, and both ends close."""
        end = self.now + PATIENCE
        self.turns = 0
        quiet = False
        while self.now < end and not self._is_done():
            for talk in self.talks:
                talk.read(1 << 20)
                if talk.said == len(talk.other.heard) or self.tainted:
                    talk.shutdown()
            if not quiet and any(talk.conn is None or talk.conn.state is State.SYN_SENT for talk in self.talks):
                self.dismiss()  # who is not let in for the strangers' sake waits until they are gone
                quiet = True
            self.run(200 * MS)
            self.check()
        if not self.tainted:
            for talk in self.talks:
                assert talk.error is None, talk.error
                assert talk.ended, "the honest peer's stream never ended"
                assert len(talk.heard) == talk.other.said, "what was written did not arrive"

    def _is_done(self) -> bool:
        return all(talk.ended or talk.error is not None for talk in self.talks)

    def dismiss(self) -> None:
        """Near's user lets go of everybody but the honest peer."""
        while conn := self.listener.accept():
            self.strangers.append(conn)
        self._sort_out()
        for conn in self.strangers:
            conn.abort()
        self.strangers.clear()

    def _sort_out(self) -> None:
        """The honest peer's connection may be among those that were accepted."""
        mate = self.talks[1].conn
        if not self.outgoing and self.talks[0].conn is None and mate is not None:
            for conn in self.strangers:
                if conn.flow.remote == mate.flow.local:
                    self.talks[0].conn = conn
                    self.strangers.remove(conn)
                    return

    def finish(self) -> None:
        """Everybody closes: nothing is left, nothing is charged, nothing is due."""
        self.dismiss()
        for talk in self.talks:
            if talk.conn is not None:
                talk.conn.close()
        for listener in (self.listener, self.backward):
            listener.close()
        stack = self.near.stack
        self.turns = 0
        end = self.now + 24 * HOUR
        while (moved := self.exchange()) or self.next_deadline() < NEVER:
            self.now += TRIP if moved else max(min(self.next_deadline(), end) - self.now, TRIP)
            assert self.now < end, f"left: {list(stack.connections())}"
        self.talks[0].conn = self.talks[1].conn = None
        assert not list(stack.connections())
        assert not stack._ports._bound, "a port is still held"
        assert not stack._listening._opened
        assert not stack._time_wait
        assert stack.memory.used == 0, f"{stack.memory.used} bytes are still charged"


def check_connection(conn: Connection) -> int:
    """What holds of one connection at any moment; the bytes of its rings."""
    snd, rcv = conn.snd, conn.rcv
    assert snd.iss <= snd.una <= snd.nxt
    assert snd.pipe >= 0
    assert snd.cc.cwnd >= 1
    check_board(snd)
    buffer = rcv.buffer
    assert buffer.read_seq <= buffer.nxt <= buffer.top
    assert buffer.top <= max(rcv.edge, buffer.nxt)
    assert len(buffer.arrived) <= MAX_RANGES
    assert buffer.arrived.total <= max(buffer.top - buffer.nxt, 0)
    assert len(rcv.dsacks) <= MAX_DSACKS
    if conn.state is State.CLOSED:
        assert conn.next_deadline() == NEVER
        assert not snd.outstanding
    return snd.buffer._ring.capacity + buffer._ring.capacity
