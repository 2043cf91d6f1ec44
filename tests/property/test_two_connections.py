"""Two connections over a wire that hypothesis controls: whatever it does, the bytes that come out are those put in.

The wire loses, doubles, reorders and holds back segments; the users write, read or do not, close each direction when
they like; sinks refuse; time passes. After each step :meth:`Pair.check` holds. In the end the wire heals and both
connections must come to their end, everything delivered, unless a user wished otherwise.
"""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.pair import Pair
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.state import State
from usertcp.units import MS, SEC

BASE = TcpConfig(synack_retries=100, syn_timeout=100_000 * SEC, r2=60, msl=2 * SEC)  # patience: healing may come late

ends = st.integers(0, 1)
places = st.sampled_from([0, 0, 0, 1, 2, 3, 7])
sizes = st.sampled_from([1, 2, 10, 99, 535, 536, 1000, 1460, 3000, 9000, 30_000])
buffers = st.sampled_from([300, 1000, 4000, 30_000, 65_535, 200_000])
configs = st.builds(
    lambda receive, send, timestamps, sack, scaling, nodelay, keepalive: replace(
        BASE,
        receive_buffer=receive,
        send_buffer=send,
        timestamps=timestamps,
        sack=sack,
        window_scaling=scaling,
        nodelay=nodelay,
        keepalive=keepalive,
        keepalive_idle=5 * SEC,
        keepalive_count=1000,
    ),
    buffers,
    buffers,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


class TwoConnections(RuleBasedStateMachine):
    """The rules are what the world may do."""

    pair: Pair

    @initialize(
        pair=st.tuples(configs, configs),
        mss=st.sampled_from([100, 536, 1460, 8960]),
        max_burst=st.sampled_from([1460, 20_000, 65_000]),
        whole_bursts=st.booleans(),
        simultaneous=st.booleans(),
        established=st.booleans(),
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
        if self.pair.ends[end].opened and self.pair.ends[end].written < 150_000:
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

    # --- the sinks and the clock --------------------------------------------------------------------------------------

    @rule(end=ends, full=st.booleans(), budget=st.sampled_from([1, 2, 64]))
    def sink(self, end: int, full: bool, budget: int) -> None:
        side = self.pair.ends[end]
        side.full, side.budget = full, budget
        side.poll()

    @rule(duration=st.sampled_from([1 * MS, 40 * MS, 200 * MS, 1 * SEC, 5 * SEC]))
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


TestTwoConnections = TwoConnections.TestCase
TestTwoConnections.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
