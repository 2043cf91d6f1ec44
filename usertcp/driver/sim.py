"""A simulated network: real stacks, no devices, no wall clock.

Discrete event simulation. A :class:`World` keeps a virtual ``now`` and a queue of events ordered by time, and by order
of entry among equals; it moves from one event to the next, so that an hour in which nothing happens costs nothing. The
hosts run the stack that runs on a TAP device, unmodified, behind the pump that runs it there. Everything random comes
from the world's seed: the same seed and the same calls give the same packets, byte for byte, of which ``digest`` is the
short proof.

    host a -- Wire --+            each direction of a wire is a path (``usertcp.link.path``) by itself;
    host b -- Wire --+-- switch   frames go where their destination address says, the others to all;
    host c -- Wire --+            ARP, checksums, ports: all as on a real network

The bottleneck that several flows share is the wire of the host to which they lead: its ``down`` direction has the rate
and the queue, the senders' wires have their delays. A wire's rules (``usertcp.link.middleware``) sit at the host's end
and damage what passes, in or out as they say. There is one broadcast domain and no router here; for real kernels,
routers and address translation see the namespace tests.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Any, BinaryIO, Final

from usertcp.driver.base import Pump
from usertcp.driver.split import frames
from usertcp.frame import PLAIN, FrameMeta, LinkCaps
from usertcp.link import pcap
from usertcp.link.base import Link
from usertcp.link.callback import CallbackLink
from usertcp.link.loss import Loss
from usertcp.link.middleware import Faults, Rule
from usertcp.link.path import CLEAN, Discipline, Path, PathConfig, Reorder, wire_size
from usertcp.link.queue import DropTail
from usertcp.net.stack import Stack, StackConfig
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.listener import Listener
from usertcp.tcp.trace import Tracer
from usertcp.units import HOUR, KIB, MS, NEVER

STUCK: Final = 100_000  # turns of one host at one instant, after which it is taken to be spinning
BROADCAST: Final = b"\xff" * 6


@dataclass(frozen=True, slots=True)
class Wire:
    """The cable between a host and the switch.

    ``delay``    one way, ns; a path through the switch has the delays of both wires
    ``rate``     bits a second in each direction; 0: infinite
    ``queue``    what waits for a busy wire: a discipline, or bytes of a plain queue, of which the rest is lost
    ``ecn``      a queue that is able to marks what allows it, instead of dropping (RFC 3168)
    ``loss``     what is lost however idle the wire (``usertcp.link.loss``)
    ``reorder``  what is late, and overtaken
    ``refuse``   a full wire refuses the host's frames instead (a device's backpressure) and loses only those to it
    ``rules``    what else goes wrong on it
    ``mtu``      largest IP packet, bytes
    ``offload``  the host's device takes super-segments and sums checksums, and they cross the wire whole
    ``split``    super-segments enter the wire as the frames that they stand for: where a queue is to be looked at
    ``up``       from the host to the switch, if that direction is unlike what the fields above say; ``down``: to it
    """

    delay: int = 1 * MS
    rate: int = 0
    queue: int | Discipline = 256 * KIB
    ecn: bool = False
    loss: Loss = CLEAN
    reorder: Reorder | None = None
    refuse: bool = False
    rules: Sequence[Rule] = ()
    mtu: int = 1500
    offload: bool = False
    split: bool = False
    up: PathConfig | None = None
    down: PathConfig | None = None

    def path(self) -> PathConfig:
        """A direction about which nothing else is said."""
        queue = DropTail(self.queue) if isinstance(self.queue, int) else self.queue
        return PathConfig(self.rate, self.delay, queue=queue, ecn=self.ecn, loss=self.loss, reorder=self.reorder)


class _Line:
    """One direction of a wire in the world: gives each frame to ``arrive`` when it has crossed ``path``."""

    __slots__ = ("_armed", "arrive", "path", "split", "world")

    def __init__(self, world: "World", path: Path, split: bool, arrive: Callable[[bytes, FrameMeta], None]) -> None:
        self.world = world
        self.path = path
        self.split = split
        self.arrive = arrive
        self._armed = NEVER  # the time of the wake-up that is queued

    def send(self, frame: bytes, meta: FrameMeta) -> None:
        path, now = self.path, self.world.now
        if meta.gso_size and self.split:
            for part, with_it in frames(frame, meta):
                path.admit(part, with_it, now)
        else:
            path.admit(frame, meta, now)
        self._arm()

    def _arm(self) -> None:
        at = self.path.next_deadline()
        if at < self._armed:
            self._armed = at
            self.world.call_at(at, self._wake, at)

    def _wake(self, at: int) -> None:
        if at != self._armed:  # an earlier one took its place
            return
        self._armed = NEVER
        for frame, meta in self.path.due(self.world.now):
            self.arrive(frame, meta)
        self._arm()


class SimHost:
    """One stack in a world. Made by :meth:`World.host`.

    ``up, down``  the two directions of its wire: what they lost, dropped, marked and delayed
    ``on_turn``  called after each turn, for front ends that keep books
    """

    def __init__(self, world: "World", name: str, index: int, wire: Wire, config: StackConfig, tracer: Tracer | None):
        self.world = world
        self.name = name
        self.index = index
        self.mac = b"\x02\x00\x00\x00" + (index + 1).to_bytes(2)
        self.plugged = True
        self.wire = wire
        self.up = Path(wire.up or wire.path(), world.random(f"{name}/up"))
        self.down = Path(wire.down or wire.path(), world.random(f"{name}/down"))
        self._to_switch = _Line(world, self.up, wire.split, partial(world.switch, self))
        self._from_switch = _Line(world, self.down, wire.split, self._receive)
        caps = LinkCaps(wire.mtu, self.mac, wire.offload, wire.offload)
        self.port = CallbackLink(self._transmit, caps, name)
        link: Link = self.port
        if wire.rules:
            link = Faults(link, wire.rules, world.random(f"{name}/rules").getrandbits(64), keep_offload=wire.offload)
        self.stack = Stack(config, link.caps, world.random(f"{name}/stack").randbytes, tracer)
        self.pump = Pump(self.stack, link, lambda: world.now)
        self._armed = NEVER  # the time of the wake-up that is queued
        self._turns = 0  # turns at the instant `_turned_at`
        self._turned_at = -1

    @property
    def address(self) -> str:
        """The host's first address."""
        return self.stack.config.addresses[0].partition("/")[0]

    def connect(
        self, remote: tuple[str, int], *, local: tuple[str, int] | None = None, config: TcpConfig | None = None
    ) -> Connection:
        """An active open, under way when the world runs on."""
        conn = self.stack.connect(remote, self.world.now, local, config)
        self.kick()
        return conn

    def listen(self, port: int, *, backlog: int = 128, config: TcpConfig | None = None) -> Listener:
        """A listener on every address of the host."""
        return self.stack.listen(("0.0.0.0", port), backlog, config)

    def plug(self) -> None:
        """Connect the wire again."""
        self.plugged = True

    def unplug(self) -> None:
        """Pull the wire: what is sent to or from the host from now on is lost."""
        self.plugged = False

    def close(self) -> None:
        """Take the host out of the world as a crash would: nothing is said to anybody."""
        self.unplug()
        self.pump.link.close()

    def kick(self) -> None:
        """Have the host look at its work at this instant: after a user's call from outside its callbacks."""
        self._arm(self.world.now)

    def turn(self) -> None:
        """Everything that is to be done at this instant."""
        now = self.world.now
        if now != self._turned_at:
            self._turned_at, self._turns = now, 0
        while True:
            self._turns += 1
            assert self._turns < STUCK, f"{self.name} is spinning at {now} ns"
            if not self.pump.turn():
                break
        deadline = self.pump.deadline(now)
        if deadline < NEVER:
            self._arm(max(deadline, now))

    def _arm(self, at: int) -> None:
        if at < self._armed:
            self._armed = at
            self.world.call_at(at, self._wake, at)

    def _wake(self, at: int) -> None:
        if at == self._armed:  # else an earlier one took its place
            self._armed = NEVER
            self.turn()

    def _transmit(self, frame: bytes, meta: FrameMeta) -> bool:
        """A frame leaves the host: onto the wire, to the switch."""
        if self.wire.refuse and not self.up.has_room(wire_size(frame, meta), self.world.now):
            return False
        self.world.seen(self, frame)
        if self.plugged:
            self._to_switch.send(frame, meta)
        return True

    def carry(self, frame: bytes, meta: FrameMeta) -> None:
        """The switch puts a frame for the host on its wire."""
        self._from_switch.send(frame, meta)

    def _receive(self, frame: bytes, meta: FrameMeta) -> None:
        if self.plugged:
            self.port.deliver(frame, _across(meta))
            self.turn()


class World:
    """A switched LAN of hosts under virtual time.

    ``seed``    of everything random
    ``pcap``    a file that gets every frame that a host sent
    ``frames``  how many those were
    ``now``     virtual time, ns, from 0
    """

    host_type: type[SimHost] = SimHost

    def __init__(self, seed: int = 0, *, pcap_file: BinaryIO | None = None) -> None:
        self.seed = seed
        self.now = 0
        self.frames = 0
        self.hosts: list[SimHost] = []
        self.observers: list[Callable[[int, str, bytes], None]] = []  # (now, sender's name, frame)
        self._events: list[tuple[int, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = 0
        self._by_mac: dict[bytes, SimHost] = {}
        self._parts: tuple[frozenset[SimHost], ...] = ()
        self._hash = blake2b(digest_size=16)
        self._times = blake2b(digest_size=16)
        self._pcap = pcap.Writer(pcap_file) if pcap_file is not None else None

    # -- building --------------------------------------------------------------------------------------------------

    def host(
        self,
        name: str,
        address: str,
        *,
        wire: Wire | None = None,
        config: TcpConfig | None = None,
        gateway: str | None = None,
        tracer: Tracer | None = None,
    ) -> SimHost:
        """A new host with ``address`` ("10.0.0.1/24") at the end of ``wire``."""
        settings = StackConfig(addresses=(address,), gateway=gateway, tcp=config or TcpConfig(), name=name)
        host = self.host_type(self, name, len(self.hosts), wire or Wire(), settings, tracer)
        self.hosts.append(host)
        self._by_mac[host.mac] = host
        return host

    def random(self, purpose: str) -> random.Random:
        """A stream of random numbers of its own for ``purpose``, so that one more user does not shift the others."""
        return random.Random(f"{self.seed}/{purpose}")

    def partition(self, *parts: Iterable[SimHost]) -> None:
        """From now on frames pass only between hosts of the same part (hosts in none reach nobody)."""
        self._parts = tuple(frozenset(part) for part in parts)

    def heal(self) -> None:
        """End the partition."""
        self._parts = ()

    # -- running -----------------------------------------------------------------------------------------------------

    def call_at(self, at: int, callback: Callable[..., object], *args: object) -> None:
        """Call at virtual time ``at`` (ns; the past means now)."""
        self._order += 1
        heappush(self._events, (max(at, self.now), self._order, callback, args))

    def call_later(self, delay: int, callback: Callable[..., object], *args: object) -> None:
        """Call ``delay`` ns from now."""
        self.call_at(self.now + delay, callback, *args)

    def next_event(self) -> int:
        """When something happens next (ns); NEVER: nothing is scheduled."""
        return self._events[0][0] if self._events else NEVER

    def kick(self) -> None:
        """Have every host look at its work: the user may have called any of them."""
        for host in self.hosts:
            host.kick()

    def step(self, limit: int = NEVER) -> bool:
        """The next event, if it is not later than ``limit`` (ns). False: there was none, and time stands."""
        events = self._events
        if not events or events[0][0] > limit:
            return False
        self.now, _, callback, args = heappop(events)
        callback(*args)
        return True

    def run(self, until: int = NEVER) -> None:
        """Everything up to the virtual time ``until``, at which it then is; NEVER: until nothing is scheduled."""
        self.kick()
        while self.step(until):
            pass
        if until < NEVER:
            self.now = max(self.now, until)

    def run_for(self, duration: int) -> None:
        """Everything in the next ``duration`` ns."""
        self.run(self.now + duration)

    def run_until(self, predicate: Callable[[], bool], limit: int = HOUR) -> bool:
        """Until ``predicate()`` holds, at most ``limit`` ns from now. Whether it held."""
        self.kick()
        end = self.now + limit
        while not predicate():
            if not self.step(end):
                self.now = end
                return predicate()
        return True

    # -- looking on ----------------------------------------------------------------------------------------------------

    @property
    def digest(self) -> str:
        """Hash over the time, sender and bytes of every frame sent so far (32 hexadecimal digits)."""
        return self._hash.hexdigest()

    @property
    def timeline(self) -> str:
        """The same over the time, sender and length alone: what repeats where contents are random, as under TLS."""
        return self._times.hexdigest()

    def seen(self, sender: SimHost, frame: bytes) -> None:
        """``sender`` puts ``frame`` on its wire (called by the host)."""
        self.frames += 1
        moment = b"%d %d %d " % (self.now, sender.index, len(frame))
        self._times.update(moment)
        self._hash.update(moment)
        self._hash.update(frame)
        if self._pcap is not None:
            self._pcap.write(self.now, frame)
        for observer in self.observers:
            observer(self.now, sender.name, frame)

    def switch(self, sender: SimHost, frame: bytes, meta: FrameMeta = PLAIN) -> None:
        """A frame is at the switch: forward it (called when it has crossed the sender's wire)."""
        known = self._by_mac.get(frame[:6])
        for host in (known,) if known is not None else self.hosts:
            if host is sender or not (host.plugged and self._joined(sender, host)):
                continue
            host.carry(frame, meta)

    def _joined(self, one: SimHost, other: SimHost) -> bool:
        return not self._parts or any(one in part and other in part for part in self._parts)


def _across(meta: FrameMeta) -> FrameMeta:
    """What the receiving device says of a frame that was sent with ``meta``."""
    if meta is PLAIN or not (meta.csum_start or meta.gso_size or meta.csum_valid):
        return PLAIN
    return FrameMeta(gso_size=meta.gso_size, csum_valid=True)
