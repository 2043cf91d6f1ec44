"""Two connections over a wire that hypothesis controls: whatever it does, the bytes that come out are those put in.

The wire loses, marks, doubles, reorders and holds back segments; the users write, read or do not, close each direction
when they like; sinks refuse; time passes. After each step :meth:`Pair.check` holds. In the end the wire heals and both
connections must come to their end, everything delivered, unless a user wished otherwise.
"""

import random
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.pair import End, Pair
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.ecn_policy import Ecn
from usertcp.tcp.state import State
from usertcp.units import MS, SEC
from usertcp.wire.tcp import SYN

BASE = TcpConfig(synack_retries=100, syn_timeout=100_000 * SEC, r2=60, msl=2 * SEC)  # patience: healing may come late

BUFFERS = (300, 1000, 4000, 30_000, 65_535, 200_000)
SIZES = (1, 2, 10, 99, 535, 536, 1000, 1460, 3000, 9000, 30_000)
WAITS = (1 * MS, 40 * MS, 200 * MS, 1 * SEC, 5 * SEC)
MOST = 200_000  # bytes that each end says

ends = st.integers(0, 1)
places = st.sampled_from([0, 0, 0, 1, 2, 3, 7])
sizes = st.sampled_from(SIZES)
buffers = st.sampled_from(BUFFERS)


def config(
    receive: int, send: int, ecn: Ecn, timestamps: bool, sack: bool, scaling: bool, nodelay: bool, keepalive: bool
) -> TcpConfig:
    return replace(
        BASE,
        receive_buffer=receive,
        receive_buffer_max=BUFFERS[-1] if scaling else 0,
        send_buffer=send,
        send_buffer_max=BUFFERS[-1] if nodelay else 0,
        ecn=ecn,
        timestamps=timestamps,
        sack=sack,
        window_scaling=scaling,
        nodelay=nodelay,
        keepalive=keepalive,
        keepalive_idle=5 * SEC,
        keepalive_count=1000,
    )


configs = st.builds(config, buffers, buffers, st.sampled_from(Ecn), *[st.booleans()] * 5)


class Storm:
    """Many steps at random, weighted: what single rules, picked evenly, seldom lead to. Same seed, same story."""

    def __init__(self, pair: Pair, seed: int) -> None:
        self.pair = pair
        self.rng = rng = random.Random(seed)
        self.loss = rng.choice([0, 0, 0.02, 0.1, 0.3])
        self.double = rng.choice([0, 0, 0.05, 0.3])
        self.swap = rng.choice([0, 0, 0.1, 0.5])
        self.refuse = rng.choice([0, 0, 0.2])
        self.mark = rng.choice([0, 0.1, 0.5])
        self.reads = [rng.choice([0, 0.05, 0.3, 1]) for _ in range(2)]
        self.writes = [rng.choice([0, 0.2, 0.6]) for _ in range(2)]
        self.sizes = rng.sample(SIZES, 3)
        self.most = rng.choice([100, 3000, 1 << 20])  # bytes read at once
        self.half_close = rng.choice([0, 0, 0, 0.01])
        self.resize = rng.choice([0, 0, 0.02])

    def run(self, steps: int) -> None:
        if self.rng.random() < 0.3:
            self.drought()
        for _ in range(steps):
            self.step()
            self.pair.check()

    def drought(self) -> None:
        """One end or both fill the other's window to the last byte, and then want to say a little more."""
        pair, rng = self.pair, self.rng
        dry = rng.choice([pair.ends, pair.ends[:1], pair.ends[1:]])
        for _ in range(30):
            for end in dry:
                snd = end.conn.snd
                if end.conn.state is State.ESTABLISHED and end.written < MOST:
                    end.write(snd.una + snd.wnd - snd.buffer.end)
            self.exchange()
        for end in dry:
            end.write(rng.choice([1, 1, 2, 5000]))
            if self.half_close:
                end.shutdown()
        for _ in range(rng.randint(1, 20)):
            self.exchange()
            pair.advance(200 * MS)
            pair.check()
        if rng.random() < 0.5:
            for end in pair.ends:
                end.read(1 << 20)
                end.wire.clear()  # the news of the open window

    def exchange(self) -> None:
        for end in self.pair.ends:
            self.pair.deliver_all(end)
        self.pair.advance(10 * MS)

    def step(self) -> None:
        pair, rng = self.pair, self.rng
        for i, end in enumerate(pair.ends):
            if self.refuse:
                end.full = rng.random() < self.refuse
                end.budget = rng.choice([1, 3, 64])
            if end.opened and end.written < MOST and rng.random() < self.writes[i]:
                end.write(rng.choice(self.sizes))
            if rng.random() < self.reads[i]:
                end.read(rng.randint(1, self.most))
            if rng.random() < self.half_close:
                end.shutdown()
            if rng.random() < self.resize:
                end.conn.configure(receive_buffer=rng.choice(BUFFERS))
            end.poll()
            for _ in range(rng.randint(0, len(end.wire))):
                self.carry(end)
        deadline = pair.next_deadline() - pair.now
        wait = rng.choice(WAITS[:3])
        pair.advance(max(1, deadline) if deadline < 2 * SEC and rng.random() < 0.2 else wait)

    def carry(self, end: End) -> None:
        """The next segment, or the one after it, or none, or the same again."""
        rng = self.rng
        if not end.wire:
            return
        if rng.random() < self.loss:
            del end.wire[0]
            return
        place = rng.randint(0, min(4, len(end.wire) - 1)) if rng.random() < self.swap else 0
        if rng.random() < self.mark:
            self.pair.mark(end, place)
        self.pair.deliver(end, place, keep=rng.random() < self.double)


class TwoConnections(RuleBasedStateMachine):
    """The rules are what the world may do."""

    pair: Pair

    @initialize(
        pair=st.tuples(configs, configs),
        mss=st.sampled_from([100, 536, 1460, 8960]),
        max_burst=st.sampled_from([1460, 20_000, 65_000]),
        whole_bursts=st.booleans(),
        simultaneous=st.booleans(),
        established=st.sampled_from([True, True, False]),
        violent=st.sampled_from([False, False, True]),
    )
    def begin(
        self,
        pair: tuple[TcpConfig, TcpConfig],
        mss: int,
        max_burst: int,
        whole_bursts: bool,
        simultaneous: bool,
        established: bool,
        violent: bool,
    ) -> None:
        self.pair = Pair(
            pair, mss=mss, max_burst=max(max_burst, mss), whole_bursts=whole_bursts, simultaneous=simultaneous
        )
        self.pair.violent = violent
        if established:
            for _ in range(3):
                for end in self.pair.ends:
                    self.pair.deliver_all(end)

    # --- the users ----------------------------------------------------------------------------------------------------

    @rule(end=ends, size=sizes)
    def write(self, end: int, size: int) -> None:
        if self.pair.ends[end].opened and self.pair.ends[end].written < MOST:
            self.pair.ends[end].write(size)

    @rule(end=ends, size=sizes)
    def read(self, end: int, size: int) -> None:
        self.pair.ends[end].read(size)

    @rule(end=ends)
    def read_all(self, end: int) -> None:
        self.pair.ends[end].read(1 << 20)

    @rule(end=ends)
    def shutdown(self, end: int) -> None:
        self.pair.ends[end].shutdown()

    @precondition(lambda self: self.pair.violent)
    @rule(end=ends, abort=st.booleans())
    def close(self, end: int, abort: bool) -> None:
        side = self.pair.ends[end]
        if side.opened:
            side.shut = True
            (side.conn.abort if abort else side.conn.close)()
            side.poll()

    @rule(end=ends, size=buffers)
    def resize(self, end: int, size: int) -> None:
        self.pair.ends[end].conn.configure(receive_buffer=size)
        self.pair.ends[end].poll()

    # --- the wire -----------------------------------------------------------------------------------------------------

    @rule(end=ends)
    def deliver_all(self, end: int) -> None:
        self.pair.deliver_all(self.pair.ends[end])

    @rule()
    def round_trips(self) -> None:
        for _ in range(3):
            for end in self.pair.ends:
                self.pair.deliver_all(end)
            self.pair.advance(10 * MS)

    @rule(end=ends, place=places, keep=st.sampled_from([False, False, True]))
    def deliver(self, end: int, place: int, keep: bool) -> None:
        self.pair.deliver(self.pair.ends[end], place, keep=keep)

    @rule(end=ends, place=places)
    def lose(self, end: int, place: int) -> None:
        wire = self.pair.ends[end].wire
        if place < len(wire):
            del wire[place]

    @rule(end=ends, place=places)
    def mark(self, end: int, place: int) -> None:
        self.pair.mark(self.pair.ends[end], place)

    @rule(end=ends)
    def mark_all(self, end: int) -> None:
        side = self.pair.ends[end]
        for place in range(len(side.wire)):
            self.pair.mark(side, place)

    @rule(end=ends)
    def lose_all(self, end: int) -> None:
        self.pair.ends[end].wire.clear()

    @rule(end=ends)
    def reverse(self, end: int) -> None:
        self.pair.ends[end].wire.reverse()

    @rule(end=ends, mtu=st.sampled_from([600, 1000, 1400]))
    def smaller_mtu(self, end: int, mtu: int) -> None:
        self.pair.ends[end].conn.set_path_mtu(mtu, self.pair.now)
        self.pair.ends[end].poll()

    # --- many steps at once, towards what seldom comes about by single ones -------------------------------------------

    @rule(end=ends, size=sizes)
    def fill(self, end: int, size: int) -> None:
        """One writes until the other, who does not read, has closed the window."""
        side = self.pair.ends[end]
        for _ in range(12):
            self.write(end, size)
            self.pair.deliver_all(side)
            self.pair.deliver_all(side.peer)
            self.pair.advance(10 * MS)

    @rule(end=ends)
    def read_all_and_lose_the_news(self, end: int) -> None:
        side = self.pair.ends[end]
        side.read(1 << 20)
        side.wire.clear()

    @rule(end=ends, duration=st.sampled_from([300 * MS, 3 * SEC, 10 * SEC]))
    def deaf(self, end: int, duration: int) -> None:
        """Nothing of what one sends arrives for a while; all that the other sends does."""
        side = self.pair.ends[end]
        until = self.pair.now + duration
        while self.pair.now < until:
            side.wire.clear()
            self.pair.deliver_all(side.peer)
            self.pair.advance(max(1, min(self.pair.next_deadline(), until) - self.pair.now))

    @rule(end=ends, every=st.integers(2, 5), count=st.integers(1, 10))
    def lossy(self, end: int, every: int, count: int) -> None:
        """Of what one sends, every so-manieth is lost."""
        side = self.pair.ends[end]
        for i in range(count):
            if i % every == 0 and side.wire:
                side.wire.pop(0)
            self.pair.deliver(side)
            self.pair.deliver_all(side.peer)

    @rule(seed=st.integers(0, 1 << 16), steps=st.integers(1, 30))
    def storm(self, seed: int, steps: int) -> None:
        Storm(self.pair, seed).run(steps)

    # --- the sinks and the clock --------------------------------------------------------------------------------------

    @rule(end=ends, full=st.booleans(), budget=st.sampled_from([1, 2, 64]))
    def sink(self, end: int, full: bool, budget: int) -> None:
        side = self.pair.ends[end]
        side.full, side.budget = full, budget
        side.poll()

    @rule(duration=st.sampled_from(WAITS))
    def wait(self, duration: int) -> None:
        self.pair.advance(duration)

    @rule()
    def wait_for_a_timer(self) -> None:
        deadline = self.pair.next_deadline()
        if deadline - self.pair.now <= 30 * SEC:
            self.pair.advance(max(deadline - self.pair.now, 0))

    # --- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "pair"):
            self.pair.check()

    def teardown(self) -> None:
        if hasattr(self, "pair"):
            self.pair.finish()
            if all(end.opened for end in self.pair.ends):
                assert {end.conn.state for end in self.pair.ends} == {State.CLOSED}


@pytest.mark.parametrize("seed", range(100))
def test_storm_passes_and_everything_has_arrived(seed: int) -> None:
    rng = random.Random(seed)
    flags = [[rng.random() < 0.5 for _ in range(5)] for _ in range(2)]
    policies = [rng.choice([Ecn.ACCURATE, Ecn.ACCURATE, *Ecn]) for _ in range(2)]
    a, b = (
        config(rng.choice(BUFFERS), rng.choice(BUFFERS), policy, *each)
        for policy, each in zip(policies, flags, strict=True)
    )
    pair = Pair(
        (a, b),
        mss=rng.choice([100, 536, 1460, 8960]),
        max_burst=rng.choice([8960, 20_000, 65_000]),
        whole_bursts=rng.random() < 0.5,
        simultaneous=rng.random() < 0.2,
    )
    Storm(pair, seed).run(100)
    Storm(pair, seed + 1000).run(100)
    pair.finish()


TestTwoConnections = TwoConnections.TestCase
TestTwoConnections.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


@pytest.mark.parametrize("policy", [Ecn.OFF, Ecn.CLASSIC, Ecn.ACCURATE])
@pytest.mark.parametrize("common", [True, False])
def test_syn_due_again_for_which_there_was_no_room_does_not_leave_once_it_is_acknowledged(
    policy: Ecn, common: bool
) -> None:
    chosen = config(65_535, 65_535, policy, common, common, common, False, False)
    pair = Pair((chosen, chosen))
    opener, other = pair.ends
    opener.full = True
    pair.advance(chosen.initial_rto)
    pair.deliver_all(opener)  # the first SYN, late
    pair.deliver_all(other)
    assert opener.conn.state is State.ESTABLISHED
    opener.full = False
    opener.poll()
    assert [frame[13] & SYN for frame, *_ in opener.wire] == [0]  # an ACK alone
    pair.deliver_all(opener)
    assert other.conn.state is State.ESTABLISHED
    pair.finish()
