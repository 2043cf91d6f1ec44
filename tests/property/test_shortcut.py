"""The short way in against the general one: whatever happens on the wire, both give the same connection.

Two stacks talk over a wire that loses, doubles and reorders, and everything they send and everything that can be known
of them is noted at each step. Then it all happens again, with the same dice and without the short way.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.pure import pure_only
from tests.support.reading import Reading, read_all
from usertcp.driver import base
from usertcp.driver.base import Pump
from usertcp.frame import PLAIN, FrameMeta, LinkCaps, Source
from usertcp.net import stack as stack_module
from usertcp.net.burst import Followed
from usertcp.net.shortcut import Awaited, Shortcut, unlooked_at
from usertcp.net.stack import Stack, StackConfig
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.ecn_policy import Ecn
from usertcp.tcp.exchange import reply
from usertcp.tcp.express import is_plain
from usertcp.tcp.predicted import take_answer
from usertcp.tcp.receiver import ACK_DELAYED
from usertcp.tcp.sender import Sender
from usertcp.tcp.state import ALONE, ANSWERED, DOUBTED, EOF, READABLE, WRITABLE, State
from usertcp.tcp.timers import DELAYED_ACK, LOSS_PROBE, RETRANSMIT, USER_TIMEOUT
from usertcp.units import KIB, MASK32, MS, NEVER, SEC, US

pytestmark = pure_only  # both ways are told apart by putting something in between

MACS: Final = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"))
STEPS: Final = 150
NOISE: Final = 1 << 20
TEXT: Final = random.Random(4).randbytes(NOISE)
LIVES: Final = 5
VOUCHED: Final[dict[int, FrameMeta]] = {}  # by gso_size: links give the same one again


class Counting:
    """A shortcut that counts what it took; ``closed``: it takes nothing."""

    def __init__(self, inner: Shortcut, *, closed: bool) -> None:
        self.inner = inner
        self.closed = closed
        self.taken = 0
        self.followed = 0  # of those, as the burst before them goes on
        self.pulled = 0  # of those, straight to the reader

    def take(self, frame: bytes | bytearray | memoryview, now: int, meta: FrameMeta) -> bool:
        taken = not self.closed and self.inner.take(frame, now, meta)
        self.taken += taken
        return taken

    def follow(self, source: Source, clock: Callable[[], int], frames: int, size: int) -> Followed:
        return self.counted(unlooked_at(source) if self.closed else self.inner.follow(source, clock, frames, size))

    def pull(
        self, conn: Connection, target: memoryview, source: Source, frames: int, size: int, now: int
    ) -> Followed | None:
        found = None if self.closed else self.inner.pull(conn, target, source, frames, size, now)
        self.pulled += found is not None and found[1]
        return None if found is None else self.counted(found)

    def counted(self, found: Followed) -> Followed:
        self.taken += found[1]
        self.followed += found[1]
        return found

    def expect(self, conn: Connection) -> Awaited | None:
        return self.inner.expect(conn)

    def hear(self, awaited: Awaited, frame: memoryview, now: int, meta: FrameMeta) -> bool:
        return self.inner.hear(awaited, frame, now, meta)

    def forget(self) -> None:
        self.inner.forget()


@dataclass
class End:
    stack: Stack
    shortcut: Counting
    wire: deque[tuple[bytes, FrameMeta]] = field(default_factory=deque)  # what it sent and nobody has got yet
    conn: Connection | None = None
    target: bytearray | None = None  # offered to the connection
    said: int = 0  # what was handed in and left at once
    quiet: bool = False  # the last of it, after which nothing was left to do
    full: bool = False  # it takes nothing
    heard: int = 0  # answers that were awaited
    replied: int = 0  # of these, such that were followed by the next message at once

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        if self.full:
            return False
        arrives = PLAIN
        if meta.csum_start:
            arrives = VOUCHED.setdefault(meta.gso_size, FrameMeta(meta.gso_size, csum_valid=True))
        self.wire.append((b"".join((header, *payload)), arrives))
        return True

    def hear(self, frames: list[tuple[bytes, FrameMeta]], now: int, *, closed: bool) -> None:
        """As who waits for an answer; ``closed``: he does not know what it is."""
        assert self.conn is not None
        awaited = None if closed or not frames else self.stack.expect(self.conn)
        if awaited is None:
            self.arrive(frames, now)
            return
        (frame, meta), *others = frames
        if self.stack.hear(awaited, memoryview(frame), now, meta):
            self.heard += 1
        else:
            others = frames
        if others:
            self.arrive(others, now)

    def arrive(self, frames: list[tuple[bytes, FrameMeta]], now: int) -> None:
        """As the pump does it."""
        waiting = deque((memoryview(frame), meta) for frame, meta in frames)
        read_all(self.stack, lambda: waiting.popleft() if waiting else None, now)
        self.stack.poll(now, self)

    def gulp(self, frames: list[tuple[bytes, FrameMeta]], now: int, log: list[Any]) -> None:
        """The same for a reader of the connection who takes all that it gives, in calls that the pump knows."""
        assert self.conn is not None
        waiting = deque((memoryview(frame), meta) for frame, meta in frames)
        link = Reading(lambda: waiting.popleft() if waiting else None)
        link.caps, link.send = self.stack.caps, self.send  # type: ignore[method-assign]
        pump, target = Pump(self.stack, link, lambda: now), memoryview(bytearray(1 << 22))
        while waiting:
            landed = pump.gulp(self.conn, target)
            log.append((bytes(target[:landed]), len(waiting), list(self.wire)))
            if self.conn.readable:
                log.append(self.conn.read(1 << 22))
        self.stack.poll(now, self)


class World:
    """Two stacks and dice."""

    def __init__(self, seed: int, *, closed: bool) -> None:
        self.dice = dice = random.Random(seed)
        self.now = 5 * SEC
        offload = dice.random() < 0.7
        ethernet = dice.random() < 0.7
        self.start = 14 if ethernet else 0  # of IP's header
        self.loss = dice.choice([0, 0, 0, 0.02, 0.1])
        self.double = dice.choice([0, 0, 0.05])
        self.swap = dice.choice([0, 0, 0.1])
        self.closed = closed
        self.calls = random.Random(seed + 1)
        self.gulps = self.calls.random() < 0.5  # whoever reads all at once does so by the pump
        self.ends = [self._end(i, dice, offload, MACS[i] if ethernet else None, closed) for i in range(2)]
        self.log: list[Any] = []

    def _end(self, i: int, dice: random.Random, offload: bool, mac: bytes | None, closed: bool) -> End:
        tcp = self.settings(dice)
        caps = LinkCaps(1500, mac, offload, offload)
        stack = Stack(StackConfig((f"10.9.0.{i + 1}/24",), tcp=tcp), caps, random.Random(i).randbytes)
        shortcut = Counting(stack._shortcut, closed=closed)
        stack._shortcut = shortcut  # type: ignore[assignment]
        if closed:
            stack._ack_runs._is_ours = lambda head, middle: False
        return End(stack, shortcut)

    def settings(self, dice: random.Random) -> TcpConfig:
        return TcpConfig(
            congestion=dice.choice(["cubic", "cubic", "reno", "bbr"]),
            ecn=dice.choice([Ecn.PASSIVE, Ecn.PASSIVE, Ecn.CLASSIC, Ecn.ACCURATE]),
            timestamps=dice.random() < 0.95,
            sack=dice.random() < 0.9,
            nodelay=dice.random() < 0.5,
            receive_buffer=dice.choice([4 * KIB, 64 * KIB, 1024 * KIB]),
            send_buffer=dice.choice([8 * KIB, 128 * KIB]),
        )

    def run(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(base, "OFFER_BYTES", 1 << 30)
            if self.gulps:  # slices of a gulp are as long by both ways, runs in them are not
                patch.setattr(stack_module, "AHEAD", 1 << 30)
            if self.closed:  # what a reader took is for his turn to say
                patch.setattr(stack_module, "acknowledge", lambda *_: False)
            self.play()

    def meet(self) -> tuple[End, End]:
        """The client's and the server's end, between which there is a connection unless luck is bad."""
        client, server = self.ends
        listener = server.stack.listen(("", 80))
        client.conn = client.stack.connect(("10.9.0.2", 80), self.now)
        for _ in range(30):
            self.carry_all()
            if server.conn is None:
                server.conn = listener.accept()
        return client, server

    def play(self) -> None:
        self.meet()
        for n in range(STEPS):
            self.step()
            if n % 5 == 0:
                self.note()

    def step(self) -> None:
        dice = self.dice
        for end in self.ends:
            conn = end.conn
            if conn is None:
                continue
            if dice.random() < 0.4 and conn.writable:
                self.write(end, conn, bytes(dice.choice([1, 1, 100, 1448, 5000, 60_000, 90_000])))
            if end.target is not None and dice.random() < 0.7:
                landed, end.target = end.target[: conn.take_back()], None
                self.log.append((bytes(landed), conn.readable))
            if dice.random() < 0.6 and conn.readable and end.target is None:
                conn.read(dice.choice([1, 3000, 1 << 20]))
            if dice.random() < 0.5 and end.target is None:
                end.target = bytearray(dice.choice([1, 5000, 1 << 20]))
                conn.offer(memoryview(end.target))
            if dice.random() < 0.003 and conn.state is State.ESTABLISHED:
                conn.shutdown_write()
        self.now += dice.choice([1 * US, 50 * US, 1 * MS, 45 * MS])
        if dice.random() < 0.1:
            conns = [conn for end in self.ends for conn in end.stack.connections()]
            due = min([conn.next_deadline() for conn in conns], default=NEVER)  # the stack's own may be earlier
            if self.now < due < self.now + 10 * SEC:
                self.now = due
        self.carry_all()

    def write(self, end: End, conn: Connection, data: bytes | bytearray, *, at_once: bool = False) -> None:
        """The user hands in ``data``, and half of the time it leaves at once; ``at_once``: always, and nobody looks
        first whether there is something else to do."""
        end.quiet = False
        if not at_once and self.dice.random() < 0.5:
            conn.write(data)
            return
        if not at_once or end.stack.stirred:
            end.stack.poll(self.now, end)
        answered = conn.calm == ANSWERED
        said = 0 if end.shortcut.closed else end.stack.say(conn, data, self.now, end)
        assert said in (0, len(data))
        end.said += said > 0
        end.replied += said > 0 and answered
        end.quiet = said > 0 and not end.stack.stirred
        if not said and conn.writable:
            conn.write(data)
        end.stack.poll(self.now, end)

    def carry_all(self) -> None:
        dice = self.dice
        for me, other in ((self.ends[0], self.ends[1]), (self.ends[1], self.ends[0])):
            me.stack.poll(self.now, me)
            me.wire = deque(sorted(me.wire, key=self.flow_of))  # whose turn comes first is nobody's concern
            self.log.append(list(me.wire))
            arriving = []
            while me.wire:
                place = dice.randrange(min(3, len(me.wire))) if dice.random() < self.swap else 0
                frame, meta = me.wire[place]
                if dice.random() >= self.double:
                    del me.wire[place]
                if dice.random() >= self.loss:
                    arriving.append((frame, meta))
            gulps = self.gulps and self.calls.random() < 0.7
            if gulps and other.conn is not None and other.target is None and not other.conn.readable:
                other.gulp(arriving, self.now, self.log)
            else:
                other.arrive(arriving, self.now)

    def flow_of(self, frame: tuple[bytes, FrameMeta]) -> bytes:
        """The ports of a TCP segment."""
        return frame[0][self.start + 20 : self.start + 24]

    def note(self) -> None:
        for end in self.ends:
            assert all(is_plain(conn) or conn.calm <= DOUBTED for conn in end.stack.connections())
            counters = end.stack.counters()
            del counters["memory_used"], counters["memory_peak"]  # the short way takes a ring for what is to come
            assert end.stack.memory.used == 0 or any(
                conn.rcv.buffer.top > conn.rcv.buffer.read_seq or len(conn.snd.buffer)
                for conn in [*end.stack.connections(), *([end.conn] if end.conn is not None else [])]
            )
            self.log.append((end.stack.snapshot(self.now), counters))
            if end.conn is not None:
                snd, rcv, conn = end.conn.snd, end.conn.rcv, end.conn
                self.log.append((conn.ready, snd.una, snd.nxt, conn.segments_in, conn.bytes_acked))
                if conn.state is State.CLOSED:  # what was last learnt of its path is of no use any more
                    continue
                self.log.append((rcv.ts_recent, rcv.ts_recent_at, rcv.last_ack_sent, rcv.edge, rcv.ack, rcv.since_ack))
                self.log.append((snd.una, snd.nxt, snd.wl1, snd.wl2, snd.max_wnd, snd.cc.cwnd, snd.reorder_at))
                self.log.append((snd.rack.sent_at, snd.rack.end, snd.rack.rtt, snd.rack.fack, vars_of(snd.rate)))
                self.log.append((vars_of(end.conn.timers), end.conn.ready, vars_of(rcv.tuner)))


class Talks(World):
    """Both ends ask and answer, and wait for what the other one says with memory of their own."""

    def run(self) -> None:
        client, server = self.meet()
        for n in range(STEPS):
            for me, other in ((client, server), (server, client)):
                if me.conn is not None and other.conn is not None:
                    self.talk(me, me.conn, other, other.conn)
            if n % 5 == 0:
                self.note()

    def settings(self, dice: random.Random) -> TcpConfig:
        """Such as most have: only then is there a short way."""
        return TcpConfig(
            nodelay=dice.random() < 0.7,
            receive_buffer=dice.choice([64 * KIB, 1024 * KIB]),
            delayed_ack=dice.choice([40 * MS, 1 * MS]),
            send_buffer=dice.choice([1 * KIB, 128 * KIB]),
        )

    def talk(self, me: End, mine: Connection, other: End, theirs: Connection) -> None:
        """The other one waits, I say something and look what the answer to what I said before has done."""
        dice = self.dice
        target = bytearray(dice.choice([16, 16, 16, 300, 5000]))
        waits = dice.random() < 0.9 and not theirs.readable and theirs.offer(memoryview(target))
        size = dice.choice([1, 1, 1, 1, 2, 200, 200, 400, 1448, 5000]) if dice.random() < 0.95 else 0
        if size and mine.writable:
            self.write(me, mine, bytes(size), at_once=dice.random() < 0.9)
        if dice.random() < 0.05:
            changes: list[dict[str, Any]] = [{"tos": 8}, {"nodelay": True}, {"receive_buffer": 128 * KIB}]
            mine.configure(**dice.choice(changes))
        me.stack.poll(self.now, me)
        self.now += dice.choice([10 * US, 100 * US, 100 * US, 1 * MS, 50 * MS if dice.random() < 0.2 else 1 * US])
        frames, me.wire = list(me.wire), deque()
        self.log.append(frames)
        if frames and dice.random() < self.loss:
            frames.pop(0)
        if frames and dice.random() < self.double:
            frames.insert(0, frames[0])
        other.hear(frames, self.now, closed=other.shortcut.closed or not waits)
        if waits:
            landed = target[: theirs.take_back()]
            self.log.append((bytes(landed), theirs.readable))
        if theirs.readable:
            self.log.append(theirs.read(dice.choice([10, 1 << 20])))
        self.happens(other, theirs)

    def happens(self, end: End, conn: Connection) -> None:
        """Between an answer and what its reader says, or instead of it."""
        dice = self.dice
        what = dice.choice(["", "", "", "", "", "info", "deadline", "time", "long", "write", "close", "poll"])
        if what == "info" and conn.state is not State.CLOSED:  # what is over learns nothing more of its path
            self.log.append((conn.info(self.now), conn.writable))
        elif what == "deadline":
            due = end.stack.next_deadline()
            assert due <= conn.next_deadline()
        elif what == "time":
            self.now += dice.choice([10 * US, 300 * US, 900 * US])
        elif what == "long":
            self.now += dice.choice([1 * MS, 39 * MS, 41 * MS, 199 * MS, 201 * MS, 3 * SEC])
            end.stack.poll(self.now, end)
        elif what == "write" and conn.writable:
            conn.write(bytes(dice.choice([1, 2000])))
        elif what == "close" and dice.random() < 0.02:
            dice.choice([conn.close, conn.shutdown_write])()
        elif what == "poll":
            end.stack.poll(self.now, end)


class Lives(World):
    """Connections that open, exchange little, and close, one after the other."""

    def play(self) -> None:
        client, server = self.ends
        listener = server.stack.listen(("", 80))
        for _ in range(LIVES):
            for end in self.ends:
                if end.conn is not None:
                    end.conn.close()  # what it has not read takes memory
            client.conn, server.conn = client.stack.connect(("10.9.0.2", 80), self.now), None
            self.tell(client, client.conn)
            for n in range(12):
                self.pass_time()
                for end in self.ends:
                    end.stack.company = end.conn if self.dice.random() < 0.5 else None
                self.carry_all()
                if server.conn is None:
                    server.conn = listener.accept()
                if self.dice.random() < 0.5:  # who looks has what is on its way alone written down
                    self.note()
                for end in self.ends:
                    self.use(end, closing=n > 3)

    def settings(self, dice: random.Random) -> TcpConfig:
        """Half of the time such as most have: only then is there a short way to open and to close."""
        if dice.random() < 0.5:
            return super().settings(dice)
        return TcpConfig(nodelay=dice.random() < 0.5, user_timeout=dice.choice([0, 0, 5 * SEC]))

    def use(self, end: End, *, closing: bool) -> None:
        """The user of the connection at ``end`` does something, or nothing."""
        conn, dice = end.conn, self.dice
        if conn is None:
            return
        if conn.readable and dice.random() < 0.7:
            conn.read(1 << 20)
        if dice.random() < 0.4 and conn.writable:
            self.write(end, conn, bytes(dice.choice([1, 100, 5000])))
        if closing and dice.random() < 0.5:
            dice.choice([conn.close, conn.close, conn.shutdown_write])()
            self.tell(end, conn)

    def tell(self, end: End, conn: Connection) -> None:
        """The user of ``conn`` has opened or closed it, and half of the time what is to be said leaves at once."""
        if self.dice.random() < 0.5:
            if not end.shortcut.closed:
                end.stack.tell(conn, self.now, end)
            end.stack.poll(self.now, end)

    def pass_time(self) -> None:
        self.now += self.dice.choice([10 * US, 300 * US, 300 * US, 300 * US, 45 * MS, 250 * MS])


class Streams(World):
    """Text in bulk for readers who wait for nothing else, and now and then a message the other way."""

    def step(self) -> None:
        (client, server), dice = self.ends, self.calls
        if client.conn is not None and client.conn.writable and dice.random() < 0.9:
            self.write(client, client.conn, bytes(dice.choice([262_144, 262_144, 65_536, 3000, 200_000])))
        if server.conn is not None and server.conn.writable and dice.random() < 0.03:
            self.write(server, server.conn, bytes(100))
        for end in self.ends:
            if end.conn is not None and end.conn.readable:
                end.conn.read(1 << 22)
        self.now += dice.choice([1 * US, 50 * US, 50 * US, 300 * US, 1 * MS])
        self.carry_all()

    def settings(self, dice: random.Random) -> TcpConfig:
        self.loss, self.gulps = self.loss / 20, True
        return TcpConfig(congestion=dice.choice(["cubic", "reno"]), quick_acks=dice.choice([0, 16]))


def vars_of(thing: Any) -> dict[str, Any]:
    """What an object with slots holds."""
    return {name: repr(getattr(thing, name)) for name in type(thing).__slots__ if name != "buffer"}


def plain(log: list[Any]) -> list[Any]:
    """Frames as bytes: a ``FrameMeta`` has no equality."""
    return [[(frame, meta.gso_size) for frame, meta in entry] if isinstance(entry, list) else entry for entry in log]


def give_the_same(kind: type[World], seed: int) -> None:
    short, general = kind(seed, closed=False), kind(seed, closed=True)
    short.run()
    general.run()
    for i, (one, other) in enumerate(zip(plain(short.log), plain(general.log), strict=True)):
        assert one == other, f"entry {i}"


@example(seed=11275868)  # what a reader takes straight ends with a FIN: the levels are as after any other taking
@example(seed=1159)  # a message comes after the window of one with a higher number was taken (RFC 9293 §3.10.7.4)
@example(seed=255)  # a burst goes on with a newer timestamp after an ACK was sent (RFC 7323 §4.3)
@given(seed=st.integers(0, 1 << 32))
def test_any_traffic_by_the_short_way_and_by_the_general_one_gives_the_same(seed: int) -> None:
    give_the_same(World, seed)


@given(seed=st.integers(0, 1 << 32))
def test_any_bulk_by_the_short_way_and_by_the_general_one_gives_the_same(seed: int) -> None:
    give_the_same(Streams, seed)


@given(seed=st.integers(0, 1 << 32))
def test_any_talk_by_the_short_way_and_by_the_general_one_is_the_same(seed: int) -> None:
    give_the_same(Talks, seed)


def test_answers_that_are_awaited_are_heard_and_replied_to() -> None:
    heard = replied = 0
    for seed in range(20):
        world = Talks(seed, closed=False)
        world.run()
        heard += sum(end.heard for end in world.ends)
        replied += sum(end.replied for end in world.ends)
    assert heard > 300
    assert replied > 200


@given(seed=st.integers(0, 1 << 32))
def test_any_short_lives_by_the_short_way_and_by_the_general_one_are_the_same(seed: int) -> None:
    give_the_same(Lives, seed)


def opened(*, closed: bool, offload: bool) -> tuple[World, End, End]:
    """A connection without ECN on a quiet wire: the world, the client and the server."""
    world = World(0, closed=closed)
    world.loss = world.double = world.swap = 0
    world.gulps = False
    world.ends = [world._end(i, random.Random(18), offload, MACS[i], closed) for i in range(2)]
    client, server = world.ends
    listener = server.stack.listen(("", 80))
    client.conn = client.stack.connect(("10.9.0.2", 80), world.now)
    for _ in range(3):
        world.carry_all()
    server.conn = listener.accept()
    assert client.conn.ts_ok
    assert server.conn is not None
    assert client.conn.ecn.name == "none"
    return world, client, server


@pytest.mark.parametrize("closed", [False, True])
def test_user_who_was_turned_away_after_a_message_is_told_when_it_is_acknowledged(closed: bool) -> None:
    world, client, server = opened(closed=closed, offload=True)
    conn = client.conn
    assert conn is not None
    for _ in range(2):  # the first makes the connection's case plain
        conn.configure(notsent_lowat=1)
        conn.write(b"question")
        assert not conn.writable
        client.stack.poll(world.now, client)
        assert not conn.ready & WRITABLE
        world.carry_all()
        world.carry_all()
        assert conn.snd.una == conn.snd.nxt
        assert conn.ready & WRITABLE
    assert server.conn is not None
    assert server.conn.read(100) == b"questionquestion"


def after_damage(at: int, bits: int, *, closed: bool, vouched: bool, burst: int = 0) -> tuple[list[Any], int]:
    """What is to be seen after a frame with text of which the byte ``at`` was changed; how many took the short way.

    ``burst``: so many came before it, whose reader waits.
    """
    world, client, server = opened(closed=closed, offload=False)
    assert client.conn is not None
    assert server.conn is not None
    client.conn.write(b"x" * 1448 * (burst + 1))
    client.stack.poll(world.now, client)
    meta = FrameMeta(csum_valid=vouched)
    target = bytearray(10_000)
    if burst:
        server.conn.rcv.quick = 0
        server.conn.offer(memoryview(target))
    frames = [frame for frame, _ in client.wire]
    frames[burst] = bytes(each ^ (bits if n == at else 0) for n, each in enumerate(frames[burst]))
    server.shortcut.taken = -burst
    world.log.clear()
    server.arrive([(frame, meta) for frame in frames[: burst + 1]], world.now)
    taken = server.shortcut.taken
    server.stack.poll(world.now, server)
    world.note()
    world.log.append(list(server.wire))
    landed = server.conn.take_back()
    world.log.append((target[:landed], landed))
    world.log.append(server.conn.read(10_000) if server.conn.readable else b"")
    return plain(world.log), taken


@pytest.mark.parametrize(("vouched", "burst"), [(True, 0), (False, 0), (True, 4)])
@pytest.mark.parametrize("bits", [0x01, 0x80])
def test_frame_with_any_damage_to_its_headers_is_the_same_by_both_ways(bits: int, vouched: bool, burst: int) -> None:
    ways = [after_damage(at, bits, closed=False, vouched=vouched, burst=burst) for at in range(67)]
    for at, (seen, _) in enumerate(ways):
        assert seen == after_damage(at, bits, closed=True, vouched=vouched, burst=burst)[0], f"byte {at}"
    taken = [at for at, (_, short) in enumerate(ways) if short]
    assert set(range(6, 12)) <= set(taken)  # the sender's hardware address is nobody's business
    assert not set(taken) & {*range(6), *range(12, 34)}  # and everything in the IP header is summed


def test_undamaged_frame_takes_the_short_way() -> None:
    for vouched, burst in ((True, 0), (False, 0), (True, 4)):
        assert after_damage(0, 0, closed=False, vouched=vouched, burst=burst)[1] == 1


def test_frames_of_a_burst_whose_reader_waits_are_taken_by_comparison() -> None:
    world, client, server = opened(closed=False, offload=True)
    assert client.conn is not None
    assert server.conn is not None
    server.shortcut.taken = 0
    server.conn.rcv.quick = 0
    server.conn.rcv.tuner.due = NEVER  # a segment by which the round trip is measured is looked at
    target = bytearray(100_000)
    server.conn.offer(memoryview(target))
    text = bytes(range(120)) * 100
    for at in range(0, 12_000, 3000):
        client.conn.write(text[at : at + 3000])
        client.stack.poll(world.now, client)
    frames = list(client.wire)
    server.arrive(frames, world.now)
    assert server.shortcut.taken == len(frames)
    assert server.shortcut.followed == len(frames) - 1 > 2
    assert target[: server.conn.take_back()] == text


def test_all_segments_of_a_connection_find_it_by_the_short_way() -> None:
    world, client, server = opened(closed=False, offload=True)
    assert client.conn is not None
    assert server.conn is not None
    for conn in (client.conn, server.conn):
        conn.close()
        for _ in range(3):
            world.carry_all()
    assert [end.shortcut.taken for end in world.ends] == [3, 4]  # SYN,ACK, ACK, FIN; SYN, ACK, FIN, ACK
    assert client.conn.state is State.TIME_WAIT
    assert server.conn.state is State.CLOSED


@given(seed=st.integers(0, 1 << 32))
def test_expected_acknowledgments_taken_as_such_and_like_any_other_give_the_same(seed: int) -> None:
    """``Sender.on_expected_ack`` against the whole of ``Sender.on_ack``."""
    short, general = World(seed, closed=True), World(seed, closed=True)
    short.run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sender, "expects", lambda *_: False)
        general.run()
    for i, (one, other) in enumerate(zip(plain(short.log), plain(general.log), strict=True)):
        assert one == other, f"entry {i}"


@pytest.mark.parametrize("kind", ["text", "acknowledgments"])
def test_undisturbed_transfer_takes_the_short_way(kind: str) -> None:
    world, client, server = opened(closed=False, offload=True)
    assert client.conn is not None
    assert server.conn is not None
    before = [end.stack.stats.segments_in for end in world.ends]
    for end in world.ends:
        end.shortcut.taken = 0
    for _ in range(100):
        if client.conn.writable:
            client.conn.write(bytes(50_000))
        world.now += 100 * US
        world.carry_all()
        server.conn.read(1 << 20)
    end = server if kind == "text" else client
    arrived = end.stack.stats.segments_in - before[world.ends.index(end)]
    assert arrived > 50
    assert end.shortcut.taken >= arrived - 1


def test_a_request_needs_no_turn_before_its_reply_and_is_acknowledged_without_one() -> None:
    world, client, server = opened(closed=False, offload=True)
    assert client.conn is not None
    assert server.conn is not None
    server.conn.rcv.quick = 0
    delay = server.conn.config.delayed_ack
    due = []
    for _ in range(3):
        world.now += delay // 4
        client.conn.write(b"?")
        client.stack.poll(world.now, client)
        for frame, meta in client.wire:
            server.stack.receive(frame, world.now, meta)
        client.wire.clear()
        due.append(server.stack.stirred)
        server.stack.poll(world.now, server)
        server.conn.write(server.conn.read(1))
        server.stack.poll(world.now, server)
        client.arrive([(frame, meta) for frame, meta in server.wire], world.now)
        server.wire.clear()
        assert client.conn.read(1) == b"?"
    assert due == [False, False, False]
    world.now += 1
    client.conn.write(b"!")
    client.stack.poll(world.now, client)
    for frame, meta in client.wire:
        server.stack.receive(frame, world.now, meta)
    assert not server.stack.stirred
    while not server.wire and (at := server.stack.next_deadline()) <= world.now + delay:
        server.stack.poll(at, server)
    assert at == world.now + delay
    assert len(server.wire) == 1
    assert server.conn.rcv.last_ack_sent == server.conn.rcv.nxt


def test_messages_in_turn_leave_at_once_and_are_answered_in_one_step() -> None:
    """Each ends of itself where it began: nothing waits, no timer runs, and the figures are those of any text."""
    world, client, server = opened(closed=False, offload=True)
    ours, theirs = client.conn, server.conn
    assert ours is not None
    assert theirs is not None
    for n in range(20):
        for end, conn, peer in ((client, ours, server), (server, theirs, client)):
            if not end.stack.say(conn, memoryview(b"message").cast("b"), world.now, end):
                assert n < 2  # it is not known yet that nothing is the matter
                conn.write(b"message")
            world.now += 100 * US
            world.carry_all()
            assert peer.conn is not None
            assert peer.conn.read(100) == b"message"
    assert ours.snd.una == ours.snd.nxt == ours.snd.iss + 1 + 20 * len(b"message")
    assert {ours.timers.at(which) for which in (RETRANSMIT, LOSS_PROBE, USER_TIMEOUT)} == {NEVER}
    info = ours.info(world.now)
    assert (info.unacked, info.delivered, info.bytes_acked) == (0, 141, 140)  # of the first, the SYN
    assert info.srtt > 0
    assert theirs.snd.nxt - theirs.snd.una == 7  # its last message, for which no timer had to be set yet
    assert world.now < server.stack.next_deadline() <= world.now + SEC
    left_at = theirs.snd.last_sent_at
    while world.now < left_at + SEC and not theirs.snd.tlp.sent:
        world.now = server.stack.next_deadline()
        server.stack.poll(world.now, server)
    assert theirs.snd.tlp.sent == 1  # lost, it is sent again


def spoken(world: World, client: End, server: End) -> Connection:
    """The client's connection, of which it is known that nothing is the matter."""
    conn = client.conn
    assert conn is not None
    for _ in range(2):
        conn.write(b"x")
        for _ in range(3):
            world.now += 50 * MS
            world.carry_all()
    assert client.stack.say(conn, b"at once", world.now, client) == 7
    for _ in range(3):
        world.now += 50 * MS
        world.carry_all()
    assert conn.snd.una == conn.snd.nxt
    return conn


def streamed(*, closed: bool, offload: bool, sizes: list[int]) -> tuple[list[Any], int, int]:
    """What is to be seen of a stream that is written in pieces of ``sizes``, in turn, to a reader who takes all; how
    many pieces left at once, and after how many of these no turn was needed."""
    world, client, server = opened(closed=closed, offload=offload)
    ours, theirs = client.conn, server.conn
    assert ours is not None
    assert theirs is not None
    ours.configure(send_buffer=4096 * KIB)
    theirs.configure(receive_buffer=4096 * KIB)
    dice, done = random.Random(3), 0
    for n in range(250):
        size = sizes[n % len(sizes)]
        client.quiet = False
        if ours.snd.buffer.free > size:
            client.stack.poll(world.now, client)
            at = dice.randrange(NOISE - size)
            world.write(client, ours, dice.choice([bytes, bytearray])(TEXT[at : at + size]))
            done += client.quiet
        if dice.random() < 0.1:  # what the other way brings shows in the headers
            theirs.write(bytes(dice.choice([100, 1448, 5000])))
        if ours.readable and dice.random() < 0.5:
            ours.read(3000)
        if dice.random() < 0.4:
            world.now += 100 * US
            world.carry_all()
            if theirs.readable:
                theirs.read(1 << 22)
        world.note()
    return plain(world.log), client.said, done


@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize(
    "sizes", [[256 * KIB], [70_000, 100, 300_000], [66_000, 20_000], [256 * KIB, 16_000, 16_000, 16_000]]
)
def test_stream_that_leaves_within_the_users_calls_is_the_same_as_by_turns(offload: bool, sizes: list[int]) -> None:
    ways = [streamed(closed=closed, offload=offload, sizes=sizes) for closed in (False, True)]
    for i, (one, other) in enumerate(zip(ways[0][0], ways[1][0], strict=True)):
        assert one == other, f"entry {i}"
    _, said, quiet = ways[0]
    assert said > 30
    assert quiet > 20


def flowing(world: World, client: End) -> Connection:
    """The client's connection with a stream on its way, of which the last piece left without a turn."""
    conn = client.conn
    assert conn is not None
    assert world.ends[1].conn is not None
    conn.configure(send_buffer=4096 * KIB)
    world.ends[1].conn.configure(receive_buffer=4096 * KIB)
    for n in range(200):
        client.stack.poll(world.now, client)
        if client.stack.say(conn, bytes(256 * KIB), world.now, client) and not client.stack.stirred:
            return conn
        if not n % 3:
            conn.write(bytes(256 * KIB))
        world.now += 100 * US
        world.carry_all()
        if world.ends[1].conn.readable:
            world.ends[1].conn.read(1 << 22)
    raise AssertionError("no piece left without a turn")


def test_what_a_connection_had_to_do_is_done_with_the_next_piece_of_its_stream_or_stays_to_be_done() -> None:
    world, client, _ = opened(closed=False, offload=True)
    conn = flowing(world, client)
    client.stack.dirty(conn)
    assert client.stack.say(conn, bytes(conn.snd.buffer.free + 1), world.now, client) == 0
    assert client.stack.stirred
    conn.snd.cc.cwnd = conn.snd.wnd = 4096 * KIB
    assert client.stack.say(conn, bytes(100_000), world.now, client) == 100_000
    assert not client.stack.stirred


def test_acknowledgment_that_takes_back_some_of_the_window_is_not_the_expected_answer() -> None:
    world, client, _ = opened(closed=False, offload=True)
    conn = flowing(world, client)
    snd, rcv = conn.snd, conn.rcv
    acked = 1448
    least = -(-(snd.nxt - snd.una - acked) >> snd.shift)
    ack, before = snd.una + acked & MASK32, snd.una
    numbers = rcv.nxt & MASK32, ack
    assert not take_answer(conn, *numbers, least - 1, rcv.ts_recent, NEVER, world.now)
    assert snd.una == before
    assert take_answer(conn, *numbers, least, rcv.ts_recent, NEVER, world.now)
    assert snd.una == before + acked
    assert conn.calm
    assert is_plain(conn)


def test_message_after_a_long_silence_does_not_leave_at_once_for_the_window_decays() -> None:
    world, client, server = opened(closed=False, offload=True)
    conn = spoken(world, client, server)
    conn.snd.cc.cwnd = 100 * 1448
    world.now += conn.snd.rtt.rto + 1
    assert client.stack.say(conn, b"late", world.now, client) == 0
    conn.write(b"late")
    client.stack.poll(world.now, client)
    assert conn.snd.cc.cwnd < 100 * 1448  # RFC 5681 §4.1


@pytest.mark.parametrize("most", ["cwnd", "wnd", "mss", "nothing"])
def test_message_too_large_for_a_window_or_a_segment_does_not_leave_at_once(most: str) -> None:
    world, client, server = opened(closed=False, offload=True)
    conn = spoken(world, client, server)
    snd, size = conn.snd, 1000
    if most == "cwnd":
        snd.cc.cwnd = 2 * size - 1
    elif most == "wnd":
        snd.wnd = size - 1
    elif most == "mss":
        size = snd.mss - 11
    before = snd.nxt
    assert client.stack.say(conn, bytes(size), world.now, client) == (size if most == "nothing" else 0)
    assert (snd.nxt - before, snd.buffer.end - before) == ((size, size) if most == "nothing" else (0, 0))


def test_answer_to_a_message_leaves_what_other_text_needs_to_know() -> None:
    """That the window was not in use, where the small segment ended (Nagle), and what is expected next."""
    world, client, server = opened(closed=False, offload=True)
    conn = spoken(world, client, server)
    snd = conn.snd
    assert (snd.usage_full, snd.usage_flight, snd.usage_end, snd.small_end) == (False, 7, snd.una, snd.una)
    assert snd.cc._used >= 7  # type: ignore[attr-defined]
    assert client.stack.say(conn, b"lost", world.now, client) == 4
    client.wire.clear()
    conn.write(b"and more")
    client.stack.poll(world.now + 10 * MS, client)  # the message is alone no more
    assert snd.unacked_since == snd.board.first.sent_at == world.now  # type: ignore[union-attr]
    assert conn.timers.is_set(RETRANSMIT)


def asking() -> tuple[World, End, Connection, Awaited, tuple[bytes, FrameMeta]]:
    """A client that waits, with memory of its own, for the answer to a message: the world, the client, its connection,
    what it waits for, and the frame with that, which has not come yet."""
    world, client, server = opened(closed=False, offload=True)
    ours, theirs = client.conn, server.conn
    assert ours is not None
    assert theirs is not None
    for n in range(12):
        for end, conn, peer in ((client, ours, theirs), (server, theirs, ours)):
            if not end.stack.say(conn, b"message", world.now, end):
                conn.write(b"message")
            world.now += 100 * US
            world.carry_all()
            if end is server and n == 11:
                break
            assert peer.read(100) == b"message"
    ours.read(100)
    assert client.stack.say(ours, b"question", world.now, client) == 8
    world.now += 100 * US
    client.target = bytearray(16)
    assert ours.offer(memoryview(client.target))
    awaited = client.stack.expect(ours)
    assert awaited is not None
    server.arrive(list(client.wire), world.now)
    client.wire.clear()
    assert theirs.read(100) == b"question"
    assert server.stack.say(theirs, b"answer", world.now, server) == 6
    world.now += 100 * US
    return world, client, ours, awaited, server.wire.popleft()


def test_answer_that_is_awaited_is_where_its_reader_wants_it_and_the_next_message_leaves_at_once() -> None:
    world, client, conn, awaited, (frame, meta) = asking()
    assert client.stack.hear(awaited, memoryview(frame), world.now, meta)
    assert client.target is not None
    assert bytes(client.target[: conn.take_back()]) == b"answer"
    assert not conn.ready & READABLE
    assert not client.stack.hear(awaited, memoryview(frame), world.now, meta)  # once
    assert client.stack.say(conn, b"next", world.now, client) == 4
    assert len(client.wire) == 1
    assert conn.calm == ALONE
    assert conn.info(world.now).unacked == 4
    client.stack.receive(frame, world.now, meta)  # the answer again: it is a duplicate
    client.stack.poll(world.now, client)
    assert len(client.wire) == 2
    assert conn.readable == 0


def damaged(frame: bytes, at: int, value: int) -> bytes:
    """``frame`` with another byte."""
    return frame[:at] + bytes([value]) + frame[at + 1 :]


@pytest.mark.parametrize(
    "what", ["a bit", "fin", "ecn", "window", "old", "sum", "memory", "closed", "longer", "shorter", "another"]
)
def test_frame_that_is_not_the_answer_that_is_awaited_changes_nothing(what: str) -> None:
    world, client, conn, awaited, (frame, meta) = asking()
    ip, tcp = 14, 34
    if what == "a bit":
        frame = damaged(frame, ip + 8, frame[ip + 8] ^ 1)
    elif what == "fin":
        frame = damaged(frame, tcp + 13, frame[tcp + 13] | 1)
    elif what == "ecn":
        frame = damaged(frame, ip + 1, 3)
    elif what == "window":
        frame = damaged(frame, tcp + 15, frame[tcp + 15] ^ 1)
    elif what == "old":
        conn.rcv.ts_recent += 1000
    elif what == "sum":
        meta = PLAIN
    elif what == "memory":
        conn.rcv.buffer.memory.pressed = True
    elif what == "closed":
        conn.shutdown_write()
    elif what == "longer":
        awaited = (*awaited[:2], 5, awaited[3])
    elif what == "shorter":
        frame = frame[:-1]
    else:
        frame = damaged(frame, tcp + 1, frame[tcp + 1] ^ 1)
    before = conn.rcv.nxt, conn.segments_in, vars_of(conn.rcv.buffer), client.stack.stats.frames_in
    assert not client.stack.hear(awaited, memoryview(frame), world.now, meta)
    assert before == (conn.rcv.nxt, conn.segments_in, vars_of(conn.rcv.buffer), client.stack.stats.frames_in)


def test_answer_that_came_another_way_while_its_reader_slept_is_not_heard_a_second_time() -> None:
    """Who connects meanwhile takes what has come, and another writes: the message is alone again, but a later one."""
    world, client, conn, awaited, (frame, meta) = asking()
    client.stack.receive(frame, world.now, meta)
    client.stack.poll(world.now, client)
    assert client.stack.say(conn, b"next", world.now, client) == 4
    assert conn.calm == ALONE
    nxt, una = conn.rcv.nxt, conn.snd.una
    assert not client.stack.hear(awaited, memoryview(frame), world.now, meta)
    assert (conn.rcv.nxt, conn.snd.una, conn.landed) == (nxt, una, 6)


def test_text_that_found_no_room_while_the_answer_was_awaited_leaves_after_it() -> None:
    """What waits for the device in front of it keeps the connection from its turn."""
    world, client, conn, awaited, (frame, meta) = asking()
    client.full = True
    client.stack._egress.backlog.send(bytearray(60), [], PLAIN)
    assert conn.put(b"more") == 4
    client.stack.poll(world.now, client)
    assert conn.calm == ALONE
    assert not client.stack.hear(awaited, memoryview(frame), world.now, meta)
    client.stack.receive(frame, world.now, meta)
    assert conn.landed == 6
    client.full = False
    client.stack.poll(world.now, client)
    assert client.wire[-1][0].endswith(b"more")


def test_answer_is_settled_before_another_is_heard() -> None:
    """As while the device is full, when nobody asks the stack when it is due."""
    world, client, conn, awaited, (frame, meta) = asking()
    assert client.stack.hear(awaited, memoryview(frame), world.now, meta)
    assert not client.stack.hear(awaited, memoryview(frame), world.now, meta)
    assert conn.calm != ANSWERED
    assert conn.snd.una == conn.snd.nxt
    assert conn.flow.wake <= conn.timers.at(DELAYED_ACK) == world.now + conn.config.delayed_ack


@pytest.mark.parametrize("what", ["quick", "news", "unread", "closed", "odd window", "due", "queued", "local"])
def test_reader_who_waits_for_something_that_is_to_be_looked_at_knows_no_answer(what: str) -> None:
    _, client, conn, _, _ = asking()
    if what == "quick":
        conn.rcv.quick = 1
    elif what == "news":
        conn.ready |= EOF
    elif what == "unread":
        conn.rcv.buffer.read_seq -= 1
    elif what == "closed":
        conn.shutdown_write()
    elif what == "odd window":
        conn.snd.shift, conn.snd.wnd = 7, conn.snd.wnd | 1
    elif what == "due":
        conn.rcv.ack = ACK_DELAYED
    elif what == "local":  # what comes from a device in the name of this host is a martian
        conn.flow.next_hop = b""
    else:
        client.stack.dirty(conn)
    assert client.stack.expect(conn) is None


@pytest.mark.parametrize("what", ["idle", "cwnd", "wnd", "mss", "memory", "kind", "full", "nothing"])
def test_message_that_may_not_follow_an_answer_at_once_goes_the_general_way(what: str) -> None:
    """Nothing of it has changed then, but that the answer is written down."""
    world, client, conn, awaited, (frame, meta) = asking()
    assert client.stack.hear(awaited, memoryview(frame), world.now, meta)
    conn.take_back()
    data: bytes | bytearray = bytes(1000)
    snd, now = conn.snd, world.now
    if what == "idle":
        now += snd.rtt.least + 1
    elif what == "cwnd":
        snd.cc.cwnd = 1999
    elif what == "wnd":
        snd.wnd = 999
    elif what == "mss":
        snd.lone = 999
    elif what == "memory":
        conn.rcv.buffer.memory.pressed = True
    elif what == "kind":
        data = bytearray(data)
    elif what == "full":
        client.full = True
    nxt, edge, sent = snd.nxt, conn.rcv.edge, conn.segments_out
    client.stack._egress.begin(client, now)
    assert reply(conn, data, now, client.stack._egress) == (1000 if what == "nothing" else 0)
    if what == "nothing":
        return
    assert conn.calm == ANSWERED
    assert (snd.nxt, conn.rcv.edge, conn.segments_out) == (nxt, edge, sent)
    client.stack.settle()
    assert snd.una == snd.nxt
    assert conn.rcv.ack == ACK_DELAYED
    assert conn.timers.at(DELAYED_ACK) == world.now + conn.config.delayed_ack
    assert conn.flow.wake <= conn.timers.at(DELAYED_ACK)
