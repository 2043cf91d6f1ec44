"""Which hardware address a neighbour has: ARP (RFC 826) as a bounded cache with a state for each entry.

::

                 lookup: ask                    ARP reply to us               60 s pass, or somebody
    (unknown) ----------------> INCOMPLETE ----------------------> REACHABLE ------------------------> STALE
                                    |   ^ asked 3 times, 1 s apart      ^   contradicts it                |
                   no answer:       |                                   |                                 |
                   forgotten, the <-+                                   +---- ARP reply ---- lookup: ask -+
                   waiting told                                                              and go on using it

A claim that nobody asked for never makes an entry and never changes one: a differing one only makes the entry STALE,
so that its owner is asked; who really took over an address answers that. (A neighbour that asks for *our* address is
believed if we know nothing of it, as RFC 826 has it, and verified at first use.) Packets for an INCOMPLETE neighbour
wait in a short queue, the oldest leaving first. Whoever makes us answer addresses at which nobody is fills no more than
half of the table with them: then the oldest of those leaves, and none that is known. This file sends nothing:
``requests`` says what is to be asked.
"""

from collections import OrderedDict, deque
from enum import Enum
from typing import Final, NamedTuple, Protocol

from usertcp.frame import FrameMeta
from usertcp.net.stats import Drop, Stats
from usertcp.units import NEVER, SEC
from usertcp.wire import ethernet

RETRY: Final = 1 * SEC  # between requests; RFC 1122 §2.3.2.1 allows at most one a second
TRIES: Final = 3  # requests, then the neighbour is unreachable (Linux, mcast_solicit)
LIFETIME: Final = 60 * SEC  # an answer is believed for so long; RFC 1122 §2.3.2.1 says of the order of a minute
MAX_WAITING: Final = 1 << 20  # bytes that wait for any one neighbour
MAX_WAITING_ALL: Final = 8 << 20  # for all of them, but for a packet each


class Reach(Enum):
    """What is known of a neighbour."""

    INCOMPLETE = "INCOMPLETE"
    REACHABLE = "REACHABLE"
    STALE = "STALE"


class Owner(Protocol):
    """Who sent a waiting packet, and is told that it never left."""

    def on_path_failed(self, now: int) -> None: ...


class Waiting(NamedTuple):
    """A copied IP packet."""

    packet: bytes
    meta: FrameMeta
    owner: Owner | None


class Neighbor:
    """One entry. ``mac`` is b"" while INCOMPLETE; ``header`` is the Ethernet header for IPv4 packets to it."""

    __slots__ = ("deadline", "fresh_until", "header", "ip", "mac", "queue", "queued_bytes", "tries")

    def __init__(self, ip: bytes) -> None:
        self.ip = ip
        self.mac = b""
        self.header = b""
        self.fresh_until = 0
        self.tries = 0  # requests sent and not answered
        self.deadline = NEVER  # when the next one is due
        self.queue: deque[Waiting] = deque()
        self.queued_bytes = 0

    def state(self, now: int) -> Reach:
        """The state at ``now``."""
        if not self.mac:
            return Reach.INCOMPLETE
        return Reach.REACHABLE if now < self.fresh_until else Reach.STALE


class NeighborCache:
    """At most ``capacity`` neighbours, the least recently used leaving first (of those that have not answered, when
    they are more than half), with ``queue_limit`` packets for each.
    ``asked``: who was, and when it is time to ask again (ns), in order; some have answered since."""

    __slots__ = (
        "_capacity",
        "_entries",
        "_mac",
        "_queue_limit",
        "_stats",
        "_unanswered",
        "_waiting",
        "asked",
        "requests",
    )

    def __init__(self, mac: bytes, capacity: int, queue_limit: int, stats: Stats) -> None:
        self._mac = mac
        self._capacity = capacity
        self._queue_limit = queue_limit
        self._stats = stats
        self._entries: OrderedDict[bytes, Neighbor] = OrderedDict()
        self._unanswered: OrderedDict[bytes, Neighbor] = OrderedDict()  # those of them that are INCOMPLETE
        self._waiting = 0  # bytes in all queues
        self.asked: deque[tuple[int, Neighbor]] = deque()  # every request waits RETRY, so this is in order of time
        self.requests: deque[tuple[bytes, bytes]] = deque(maxlen=capacity)  # (whom, at which MAC; b"": broadcast)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, ip: bytes) -> Neighbor | None:
        """The entry as it is; asks nobody."""
        return self._entries.get(ip)

    def lookup(self, ip: bytes, now: int) -> Neighbor:
        """The entry to send by: made, and asked for, if there is none; verified if it is STALE."""
        entry = self._entries.get(ip)
        if entry is None:
            entry = self._add(ip)
            self._ask(entry, now)
            return entry
        self._entries.move_to_end(ip)
        if not entry.mac:
            self._unanswered.move_to_end(ip)
        if now >= entry.fresh_until and not entry.tries:
            self._ask(entry, now)
        return entry

    def wait(self, entry: Neighbor, waiting: Waiting) -> None:
        """Keep a packet until ``entry`` has a hardware address; the oldest leave if there are too many."""
        queue, size = entry.queue, len(waiting.packet)
        queue.append(waiting)
        entry.queued_bytes += size
        self._waiting += size
        while len(queue) > self._queue_limit or (self._is_much(entry) and len(queue) > 1):
            size = len(queue.popleft().packet)
            entry.queued_bytes -= size
            self._waiting -= size
            self._stats.drop(Drop.NEIGHBOR_QUEUE)

    def _is_much(self, entry: Neighbor) -> bool:
        return entry.queued_bytes > MAX_WAITING or self._waiting > MAX_WAITING_ALL

    def take(self, entry: Neighbor) -> deque[Waiting]:
        """The packets that waited for ``entry``, which wait no longer."""
        queue, entry.queue = entry.queue, deque()
        self._waiting -= entry.queued_bytes
        entry.queued_bytes = 0
        return queue

    def learn(self, ip: bytes, mac: bytes, now: int, *, reply: bool, to_us: bool) -> Neighbor | None:
        """``mac`` claims ``ip``, in a request or a ``reply``. Returns the entry if the claim is believed."""
        entry = self._entries.get(ip)
        if entry is None:
            if reply or not to_us:
                return None
            entry = self._add(ip)
        elif entry.mac and entry.mac != mac and not (entry.tries and reply and to_us):
            entry.fresh_until = min(entry.fresh_until, now)
            return None
        elif not entry.mac and not to_us:
            return None
        else:
            entry.fresh_until = now + LIFETIME
        self._unanswered.pop(ip, None)
        entry.mac = mac
        entry.header = ethernet.header(mac, self._mac, ethernet.IPV4)
        entry.tries = 0
        entry.deadline = NEVER
        return entry

    def doubt(self, ip: bytes) -> None:
        """Nothing seems to arrive there (RFC 9293 §3.8.3, R1): verify at the next use."""
        entry = self._entries.get(ip)
        if entry is not None:
            entry.fresh_until = 0

    def expire(self, now: int) -> list[Neighbor]:
        """Ask again whom it is time to ask; returns those who never answered, forgotten already, their queues full."""
        failed = []
        while self.asked and self.asked[0][0] <= now:
            deadline, entry = self.asked.popleft()
            if entry.deadline != deadline:
                continue
            if entry.tries < TRIES:
                self._ask(entry, now)
            else:
                entry.deadline = NEVER
                del self._entries[entry.ip]
                self._unanswered.pop(entry.ip, None)
                failed.append(entry)
        return failed

    def next_deadline(self) -> int:
        """When :meth:`expire` has something to do, ns."""
        due = self.asked
        while due and due[0][0] != due[0][1].deadline:
            due.popleft()
        return due[0][0] if due else NEVER

    def _add(self, ip: bytes) -> Neighbor:
        if len(self._entries) >= self._capacity:
            self._evict()
        entry = self._entries[ip] = self._unanswered[ip] = Neighbor(ip)
        return entry

    def _evict(self) -> None:
        crowded = len(self._unanswered) > self._capacity // 2
        old = next(iter((self._unanswered if crowded else self._entries).values()))
        del self._entries[old.ip]
        self._unanswered.pop(old.ip, None)
        old.deadline = NEVER
        for _ in self.take(old):
            self._stats.drop(Drop.NEIGHBOR_EVICTED)
        self.next_deadline()  # lets go of what the clock still holds of it

    def _ask(self, entry: Neighbor, now: int) -> None:
        """One more request: to the known address first, then to everybody (RFC 1122 §2.3.2.1)."""
        self.requests.append((entry.ip, entry.mac if not entry.tries else b""))
        entry.tries += 1
        entry.deadline = now + RETRY
        self.asked.append((entry.deadline, entry))
