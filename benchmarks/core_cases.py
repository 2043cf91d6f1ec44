"""What ``make bench-core`` measures: one stack at work, with another in the same process as its peer, and no device.

Two stacks, each behind its pump, stand at the ends of a cable in memory. A case is cut into rounds; each has a part
that is not measured (the peer's: what it sends, what it makes of our answers) and one that is, the whole of our side:
the turn of the pump and the user's call. Time is a number that moves by ``TURN`` at each of the peer's turns, so that
the same case takes the same way through the code at every run, to the instruction.

What a round costs is divided by its *units*: segments of text, whatever their size, with the acknowledgments that
belong to them; for ``ping-pong`` bytes to and fro; for ``connect`` connections.
"""

import random
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Final

from usertcp.driver.base import Pump
from usertcp.link.memory import memory_pair
from usertcp.net.stack import Stack, StackConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.state import State
from usertcp.units import KIB, US

TURN: Final = 20 * US  # between two turns of the peer: a round trip
PORT: Final = 5201
BULK: Final = 256 * KIB  # bytes that a round of the bulk cases moves
SETTLE: Final = 1000  # turns after which two stacks must have nothing more to say
OPENED_AT_ONCE: Final = 64  # fewer than may wait for an ARP reply
HERE: Final = "10.9.0.2"
THERE: Final = "10.9.0.1"
START: Final = 1_000_000 * US


class Ends:
    """Two stacks on one cable: ``us``, which is measured, and ``peer``.

    ``gso``   the devices take and give super-segments; checksums are the devices' in any case
    ``idle``  connections that are there, established, beside the one that works
    """

    def __init__(self, *, gso: bool = True, idle: int = 0) -> None:
        self.now = START
        self.links = memory_pair(offload=True)
        for link in self.links:
            link.caps = replace(link.caps, tx_gso=gso)
        self.us, self.peer = (
            Pump(
                Stack(StackConfig(addresses=(address,)), link.caps, random.Random(address).randbytes), link, self.clock
            )
            for address, link in zip((f"{HERE}/24", f"{THERE}/24"), self.links, strict=True)
        )
        self.listener = self.peer.stack.listen(("", PORT), backlog=OPENED_AT_ONCE)
        self._idle: list[Connection] = []
        while idle > 0:
            count = min(idle, OPENED_AT_ONCE)
            self._idle += [self.connect() for _ in range(count)]
            self.settle()
            self._idle += [self.accept() for _ in range(count)]
            idle -= count

    def clock(self) -> int:
        return self.now

    def connect(self) -> Connection:
        """An active open of ours, its SYN not yet sent."""
        return self.us.stack.connect((THERE, PORT), self.now)

    def accept(self) -> Connection:
        """The peer's end of the connection opened first."""
        conn = self.listener.accept()
        assert conn is not None
        return conn

    def opened(self) -> tuple[Connection, Connection]:
        """A new connection, our end and the peer's."""
        conn = self.connect()
        self.settle()
        return conn, self.accept()

    def we_turn(self) -> None:
        """We do all that we can do now."""
        turn, link = self.us.turn, self.links[0]
        while turn() or len(link):
            pass

    def peer_turns(self) -> None:
        """The peer does all that it can do now; a round trip passes."""
        self.now += TURN
        while self.peer.turn() or len(self.links[1]):
            pass

    def settle(self) -> None:
        """Until neither has anything to say at once."""
        for _ in range(SETTLE):
            self.we_turn()
            if not len(self.links[1]):
                return
            self.peer_turns()
        raise AssertionError("two stacks never come to rest")


class Case(ABC):
    """A kind of work.

    ``unit``  what its cost is divided by; ``units`` counts them from the start on
    ``gso``   what its ends' devices can do
    """

    name: str
    unit = "segment"
    gso = True

    def __init__(self, ends: Ends) -> None:
        self.ends = ends

    @abstractmethod
    def prepare(self) -> None:
        """The peer's part of a round: not measured."""

    @abstractmethod
    def work(self) -> None:
        """Ours."""

    @property
    @abstractmethod
    def units(self) -> int:
        """Of work done so far."""

    def close(self) -> None:
        """Leave the ends as they were found."""
        self.ends.settle()


class _OneConnection(Case):
    def __init__(self, ends: Ends) -> None:
        super().__init__(ends)
        self.ours, self.theirs = ends.opened()
        self._took = bytearray(BULK)
        self._gives = bytes(BULK)

    def close(self) -> None:
        self.ours.abort()
        super().close()


class BulkIn(_OneConnection):
    """Super-segments come in while their reader waits."""

    name = "bulk in"

    def prepare(self) -> None:
        if self.theirs.writable:
            self.theirs.write(self._gives)
        self.ends.peer_turns()

    def work(self) -> None:
        while self.ends.us.gulp(self.ours, memoryview(self._took)):
            pass

    @property
    def units(self) -> int:
        return self.ends.us.stack.stats.segments_in


class BulkOut(_OneConnection):
    """The user writes, super-segments go out, and the acknowledgments of the last ones come in."""

    name = "bulk out"

    def prepare(self) -> None:
        self.ends.peer_turns()
        while self.theirs.readable:
            self.theirs.read_into(self._took)
            self.ends.peer_turns()

    def work(self) -> None:
        self.ends.we_turn()
        if self.ours.writable:
            self.ours.write(self._gives)
        while self.ends.us.flush():
            pass

    @property
    def units(self) -> int:
        return self.ends.peer.stack.stats.segments_in


class MtuIn(BulkIn):
    """The same with segments of one MTU: a device without segmentation, whose checksums are vouched for."""

    name = "mtu in"
    gso = False


class MtuOut(BulkOut):
    """The same with segments cut to one MTU by ourselves."""

    name = "mtu out"
    gso = False


class PingPong(_OneConnection):
    """A byte comes, is read, and a byte goes back."""

    name = "ping-pong"
    unit = "round trip"

    def __init__(self, ends: Ends) -> None:
        super().__init__(ends)
        self._rounds = 0

    def prepare(self) -> None:
        self.ends.peer_turns()
        if self.theirs.readable:
            self.theirs.read(1)
        self.theirs.write(b"?")
        self.ends.peer.flush()

    def work(self) -> None:
        pump = self.ends.us
        pump.turn()
        answer = self.ours.read(1)
        if not pump.say(self.ours, answer):
            self.ours.write(answer)
            pump.flush()
        self._rounds += 1

    @property
    def units(self) -> int:
        return self._rounds


class Connect(Case):
    """A handshake that we begin and a close that the peer begins, so that nothing is left of it."""

    name = "connect"
    unit = "connection"

    def __init__(self, ends: Ends) -> None:
        super().__init__(ends)
        self._ours: Connection | None = None
        self._theirs: Connection | None = None
        self._done = 0

    def prepare(self) -> None:
        """What the peer's turn has to give depends on how far the connection is."""
        self.ends.peer_turns()
        if self._ours is not None and self._theirs is None and self._ours.state is State.ESTABLISHED:
            self._theirs = self.ends.accept()
            self._theirs.close()
            self.ends.peer.flush()

    def work(self) -> None:
        conn, pump = self._ours, self.ends.us
        pump.turn()
        if conn is None:
            self._ours = self.ends.connect()
            pump.flush()
        elif conn.state is State.CLOSE_WAIT:
            conn.close()
            pump.flush()
        elif conn.state is State.CLOSED:
            self._ours = self._theirs = None
            self._done += 1

    @property
    def units(self) -> int:
        return self._done


CASES: Final[tuple[type[Case], ...]] = (BulkIn, BulkOut, PingPong, MtuIn, MtuOut, Connect)
