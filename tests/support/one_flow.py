"""Congestion controls over one bottleneck, without TCP around them: what an algorithm does, seen from outside.

Segments of one size leave as window and pacing allow; each is lost by chance, or because the queue is full, or passes
the bottleneck at its rate; the receiver acknowledges every ``stretch`` segments of those that arrive, each by name, so
that nothing about it is uncertain; a segment is lost when three sent after it have arrived. Nothing is reordered. The
sample of the delivery rate is draft-ietf-ccwg-bbr-06 §4.1's, recovery Proportional Rate Reduction (RFC 9937).

It is a model: no sequence numbers, no handshake, no timer but a coarse one for silence. It shows windows and shares,
and costs a twentieth of what the stack in the simulated world does.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from usertcp.tcp.cc.base import AckSample, CongestionControl
from usertcp.units import MS, NEVER, SEC

MSS: Final = 1448
FRAME: Final = 1514  # what a segment takes of the bottleneck
SILENCE: Final = 200 * MS  # and two round trips without an ACK: everything is lost
TICK: Final = 50 * MS


@dataclass
class Bottleneck:
    """``rate`` bit/s; ``buffer`` bytes that wait at most; ``loss`` the share lost by chance before the queue, in runs
    of ``run`` segments on average; ``mark`` bytes queued from which a segment is marked (0: never)."""

    rate: int
    buffer: int
    loss: float = 0.0
    run: float = 1.0
    mark: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    free_at: int = 0  # when what is queued has left
    bad: bool = False
    dropped: int = 0
    passed: int = 0
    waited: int = 0  # ns, all of them together

    def _lost_by_chance(self) -> bool:
        if not self.loss:
            return False
        if self.run > 1:
            stay, enter = 1 - 1 / self.run, self.loss / (1 - self.loss) / self.run
            self.bad = self.chance.random() < (stay if self.bad else enter)
            return self.bad
        return self.chance.random() < self.loss

    def cross(self, now: int) -> tuple[int, bool] | None:
        """(when a segment that comes now is through, marked), or None: lost."""
        if self._lost_by_chance():
            return None
        wait = max(0, self.free_at - now)
        queued = wait * self.rate // (8 * SEC)
        if queued + FRAME > self.buffer:
            self.dropped += 1
            return None
        self.free_at = now + wait + FRAME * 8 * SEC // self.rate
        self.waited += wait
        self.passed += 1
        return self.free_at, bool(self.mark) and queued > self.mark


class Packet:
    """A segment on its way, with what §4.1.2.2 notes of it."""

    __slots__ = ("app_limited", "delivered", "delivered_time", "first_sent", "lost", "number", "sent", "tx_in_flight")

    def __init__(self, flow: "Flow", now: int) -> None:
        self.number = flow.number
        self.sent = now
        self.first_sent = flow.first_sent
        self.delivered_time = flow.delivered_time
        self.delivered = flow.delivered
        self.lost = flow.lost
        self.tx_in_flight = flow.pipe
        self.app_limited = flow.app_limited_until > 0


class Flow:
    """One sender and its receiver on ``path``, with ``delay`` ns of round trip without a queue.

    ``stretch``  segments that one ACK answers; ``jitter``: ACKs are late by up to so many ns, in order
    ``supply``   bytes a second that the application writes (0: without end)
    ``drop``     told the number of each segment: True loses it
    """

    def __init__(
        self,
        cc: CongestionControl,
        path: Bottleneck,
        delay: int,
        *,
        stretch: int = 2,
        jitter: int = 0,
        supply: int = 0,
        start: int = 0,
        drop: Callable[[int], bool] | None = None,
    ) -> None:
        self.cc = cc
        self.path = path
        self.delay = delay
        self.stretch = stretch
        self.jitter = jitter
        self.supply = supply
        self.start = start
        self.drop = drop
        self.number = self.pipe = self.delivered = self.lost = self.timeouts = 0
        self.outstanding: deque[Packet] = deque()
        self.delivered_time = self.first_sent = self.next_send = self.last_heard = start
        self.app_limited_until = 0
        self.srtt = 0
        self.min_rtt = NEVER
        self.sample = AckSample()
        self.recover = -1  # the number of the first segment sent after recovery began; -1: no recovery
        self.prr = (0, 0, 1)  # delivered, out, RecoverFS
        self.full_until = 0  # an ACK for a segment below it finds that the window was full
        self._wake_at = self._ack_at = -1
        self._held: list[tuple[Packet, bool]] = []  # at the receiver, not acknowledged yet
        self._arrived = -1

    # --- sending -----------------------------------------------------------------------------------------------------

    def send(self, world: "World") -> None:
        """All that may leave now."""
        now, cc = world.now, self.cc
        while self.pipe + MSS <= cc.cwnd:
            if self.supply and self.supply * (now - self.start) // SEC < self.delivered + self.pipe + MSS:
                self.app_limited_until = self.app_limited_until or self.delivered + self.pipe or 1
                self._wake(world, now + MSS * SEC // self.supply)
                return
            rate = cc.pacing_rate(self.srtt)
            if rate:
                if self.next_send > now:
                    self._wake(world, self.next_send)
                    return
                self.next_send = max(now - MS, self.next_send) + MSS * SEC // rate
            cc.on_send(now, app_limited=self.app_limited_until > 0, flight=self.pipe)
            self._send_one(world)
        self.full_until = self.number

    def _wake(self, world: "World", when: int) -> None:
        """Send again at ``when``, unless that is arranged."""
        if self._wake_at <= world.now or when < self._wake_at:
            self._wake_at = when
            world.at(when, self.send)

    def _send_one(self, world: "World") -> None:
        now = world.now
        if not self.pipe:
            self.first_sent = self.delivered_time = now
        self.pipe += MSS
        delivered, out, recover_fs = self.prr
        self.prr = (delivered, out + MSS, recover_fs)
        packet = Packet(self, now)
        self.number += 1
        self.outstanding.append(packet)
        through = None if self.drop is not None and self.drop(packet.number) else self.path.cross(now)
        if through is not None:
            at, marked = through
            world.at(at + self.delay, lambda world: self._arrives(packet, marked, world))

    def _arrives(self, packet: Packet, marked: bool, world: "World") -> None:
        """The receiver has it (its way there and the ACK's way back are counted already)."""
        self._held.append((packet, marked))
        gap = packet.number != self._arrived + 1
        self._arrived = packet.number
        if len(self._held) < self.stretch and not gap and self.path.free_at > world.now - self.delay:
            return
        held, self._held = self._held, []
        if self.jitter:
            self._ack_at = max(self._ack_at, world.now + world.chance.randrange(self.jitter + 1))
            world.at(self._ack_at, lambda world: self._acked(held, world))
        else:
            self._acked(held, world)

    # --- acknowledgments ---------------------------------------------------------------------------------------------

    def _acked(self, held: list[tuple[Packet, bool]], world: "World") -> None:
        now, sample = world.now, self.sample
        known = {packet.number for packet in self.outstanding}
        got = {packet.number for packet, _ in held if packet.number in known}
        if not got:
            return
        newest = held[-1][0]
        marked = MSS * sum(mark for packet, mark in held if packet.number in got)
        sample.now, sample.acked, sample.flight = now, MSS * len(got), self.pipe
        self.last_heard = self.delivered_time = now
        self.outstanding = deque(packet for packet in self.outstanding if packet.number not in got)
        self.pipe -= sample.acked
        self.delivered += sample.acked
        self.first_sent = max(self.first_sent, newest.sent)
        sample.lost = self._detect(newest.number, now)
        if self.delivered > self.app_limited_until:
            self.app_limited_until = 0
        self._measure(newest, marked, now)
        self._respond(newest.number, now)
        self.send(world)

    def _measure(self, newest: Packet, marked: int, now: int) -> None:
        sample, cc = self.sample, self.cc
        rtt = now - newest.sent
        self.min_rtt = min(self.min_rtt, rtt)
        self.srtt += (rtt - self.srtt) >> 3 if self.srtt else rtt
        interval = max(newest.sent - newest.first_sent, now - newest.delivered_time)
        sample.rtt, sample.min_rtt, sample.srtt = rtt, self.min_rtt, self.srtt
        sample.delivered, sample.prior_delivered = self.delivered, newest.delivered
        sample.interval = interval
        sample.rate = (self.delivered - newest.delivered) * SEC // interval if interval >= self.min_rtt else 0
        sample.app_limited, sample.tx_in_flight = newest.app_limited, newest.tx_in_flight
        sample.lost_since, sample.ecn_marked = self.lost - newest.lost, marked
        slow_start = cc.cwnd < cc.ssthresh
        sample.cwnd_limited = newest.number < self.full_until or (slow_start and 2 * sample.flight > cc.cwnd)

    def _detect(self, newest: int, now: int) -> int:
        """Three sent later have arrived: lost, bytes."""
        lost = 0
        while self.outstanding and self.outstanding[0].number + 3 <= newest:
            packet = self.outstanding.popleft()
            lost += MSS
            self._lose(packet, now)
        self.pipe -= lost
        return lost

    def _lose(self, packet: Packet, now: int) -> None:
        self.lost += MSS
        self.cc.on_lost(MSS, packet.tx_in_flight, self.lost - packet.lost, packet.app_limited, now)

    def _respond(self, newest: int, now: int) -> None:
        cc, sample = self.cc, self.sample
        if 0 <= self.recover <= newest:
            self.recover = -1
            cc.on_recovered(now)
        if (sample.lost or sample.ecn_marked) and self.recover < 0:
            self.recover = self.number
            self.prr = (0, 0, sample.flight)
            cc.on_congestion(sample.flight, now, ecn=not sample.lost)
        sample.pipe = self.pipe
        sample.in_recovery = self.recover >= 0
        if cc.keeps_window or not sample.in_recovery:
            cc.on_ack(sample)
            return
        delivered, out, recover_fs = self.prr
        delivered += sample.acked
        self.prr = (delivered, out, recover_fs)
        if self.pipe > cc.ssthresh:
            more = -(-delivered * cc.ssthresh // recover_fs) - out
        else:
            more = min(cc.ssthresh - self.pipe, max(delivered - out, sample.acked) + MSS)
        cc.cwnd = max(self.pipe + max(more, 0), MSS)

    def tick(self, world: "World") -> None:
        """Is everything silent? Then the retransmission timer runs out, about."""
        now = world.now
        if self.outstanding and now > self.last_heard + 2 * self.srtt + SILENCE:
            self.timeouts += 1
            self.last_heard = now
            flight, self.pipe, self.recover = self.pipe, 0, -1
            while self.outstanding:
                self._lose(self.outstanding.popleft(), now)
            self.cc.on_rto(flight, now, reduced=False)
        self.send(world)
        world.at(now + TICK, self.tick)


class World:
    """Flows, and the clock that moves from one event to the next."""

    def __init__(self, *flows: Flow) -> None:
        self.now = 0
        self.flows = flows
        self.chance = random.Random(7)
        self._events: list[tuple[int, int, Callable[[World], None]]] = []
        self._count = 0
        for flow in flows:
            self.at(flow.start, flow.tick)

    def at(self, when: int, what: "Callable[[World], None]") -> None:
        """Let ``what`` happen at ``when``."""
        self._count += 1
        heapq.heappush(self._events, (when, self._count, what))

    def run(self, duration: int, watch: "Callable[[World], None] | None" = None) -> None:
        """Let ``duration`` ns pass; ``watch`` is told after every event."""
        end = self.now + duration
        while self._events and self._events[0][0] <= end:
            self.now, _, what = heapq.heappop(self._events)
            what(self)
            if watch is not None:
                watch(self)
        self.now = end


def shares(flows: tuple[Flow, ...], world: World, settle: int, duration: int) -> list[int]:
    """What each of ``flows`` is delivered in ``duration`` ns after ``settle`` ns, bit/s."""
    world.run(settle)
    before = [flow.delivered for flow in flows]
    world.run(duration)
    return [(flow.delivered - was) * 8 * SEC // duration for flow, was in zip(flows, before, strict=True)]
