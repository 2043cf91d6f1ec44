"""The tuner by itself: what it takes for a round trip, and what it makes of it."""

from usertcp.tcp.autotune import BEGIN, SLACK, WindowTuner
from usertcp.tcp.buffers import ReceiveBuffer
from usertcp.tcp.memory import Memory
from usertcp.units import KIB, MIB, MS, SEC, US

BASE = 0xFFFF_FF00
RTT = 100 * MS
START = 64 * KIB


class Bench:
    """A stream that comes in order, its user, and a clock."""

    def __init__(self, maximum: int = 32 * MIB, memory: Memory | None = None, *, handshake: int = RTT) -> None:
        self.now = 1000 * SEC
        self.buffer = ReceiveBuffer(START, memory)
        self.buffer.reset(BASE)
        self.tuner = WindowTuner(self.buffer, maximum)
        self.tuner.begin(BASE)
        self.handshake = handshake
        self.calls = 0

    def come(self, size: int, *, read: bool = True, age: int = RTT) -> None:
        """``size`` bytes arrive, in pieces; ``age``: of the timestamp they echo, -1: they have none."""
        buffer, tuner = self.buffer, self.tuner
        while size:
            n = min(size, 1460)
            size -= n
            buffer.insert(buffer.nxt, bytes(n))
            if buffer.nxt > tuner.bar and self.now >= tuner.due:
                self.calls += 1
                echoed_at = self.now - age if age >= 0 else -1
                tuner.measure(buffer.nxt, buffer.nxt + buffer.room, echoed_at, self.handshake, self.now)
            if read:
                buffer.read(n)

    def rounds(self, *sizes: int, read: bool = True, age: int = RTT) -> list[int]:
        """What comes in each round trip, spread over it; the limit after each."""
        limits = []
        for size in sizes:
            for _ in range(10):
                self.come(size // 10, read=read, age=age)
                self.now += RTT // 10
            limits.append(self.buffer.limit)
        return limits


def test_slow_start_finds_room_for_twice_of_what_came_in_each_round_trip() -> None:
    bench = Bench()
    sizes = [14_600 << n for n in range(9)]
    limits = bench.rounds(*sizes)
    for size, limit in zip(sizes[2:], limits[1:], strict=False):  # ready before the next round trip begins
        assert limit >= size
    assert limits[-1] >= 4 * sizes[-2]
    assert limits == sorted(limits)


def test_steady_stream_gets_twice_its_round_trip_and_no_more() -> None:
    bench = Bench()
    bench.rounds(100_000, 200_000, *[400_000] * 3)
    limits = bench.rounds(*[400_000] * 20)
    assert 800_000 <= limits[-1] <= 7 * 400_000
    assert limits[0] == limits[-1]


def test_user_that_does_not_read_gets_no_growth() -> None:
    bench = Bench()
    assert bench.rounds(6000, 6000, 6000, 6000, read=False)[-1] == START


def test_trickle_however_long_gets_no_growth() -> None:
    bench = Bench(handshake=1 * MS)
    for _ in range(1000):
        bench.come(1460, age=1 * MS)
        bench.now += 50 * MS
    assert bench.buffer.read_seq - BASE > 1_000_000
    assert bench.buffer.limit == START


def test_pause_in_the_stream_is_no_part_of_a_round_trip() -> None:
    for late, grows in ((0, True), (RTT + SLACK + 1, False)):
        bench = Bench()
        bench.come(START // BEGIN + 2 * 1460)  # the round trip begins
        bench.come(30_000)
        bench.now += RTT + late
        bench.come(1460)
        assert (bench.buffer.limit > START) is grows


def test_small_messages_are_not_measured_one_by_one() -> None:
    bench = Bench(handshake=60 * US)
    for _ in range(1000):
        bench.come(10, age=0)
        bench.now += 100 * US
    assert bench.calls <= 2


def test_jump_in_what_the_user_takes_is_followed_by_six_times_as_much_at_most() -> None:
    bench = Bench()
    bench.come(20_000)
    bench.come(1_000_000)
    bench.now += RTT
    bench.come(1460)
    assert 5_000_000 < bench.buffer.limit <= 6 * bench.tuner.taken


def test_limit_stops_at_the_maximum() -> None:
    bench = Bench(maximum=200_000)
    assert bench.rounds(*[50_000 << n for n in range(6)])[-1] == 200_000


def test_chosen_size_is_kept() -> None:
    bench = Bench(maximum=0)
    assert bench.rounds(*[50_000 << n for n in range(6)])[-1] == START
    assert bench.tuner.rtt == RTT  # but measured


def test_memory_bounds_the_limit() -> None:
    memory = Memory(4 * MIB)
    bench = Bench(memory=memory)
    assert bench.rounds(*[50_000 << n for n in range(8)])[-1] == MIB  # a quarter of all there is


def test_memory_under_pressure_stops_growth_and_then_it_goes_on() -> None:
    memory = Memory(64 * MIB)
    bench = Bench(memory=memory)
    memory.charge(0, 60 * MIB)
    assert bench.rounds(50_000, 100_000, 200_000)[-1] == START
    memory.credit(60 * MIB)
    assert bench.rounds(400_000, 800_000)[-1] > 800_000


def test_what_lies_behind_a_gap_is_room_on_top() -> None:
    bench = Bench()
    buffer = bench.buffer
    buffer.insert(buffer.nxt + 30_000, bytes(1000))
    bench.tuner.make_room()
    assert buffer.limit == START + 31_000
    buffer.insert(buffer.nxt + 60_000, bytes(1000))
    bench.tuner.make_room()
    assert buffer.limit == START + 61_000
    bench.tuner.maximum = 0
    buffer.insert(buffer.nxt + 80_000, bytes(1000))
    bench.tuner.make_room()
    assert buffer.limit == START + 61_000


def test_gap_when_much_is_wanted_already_is_room_on_top_of_that() -> None:
    bench = Bench()
    before = bench.rounds(30_000, 60_000, 120_000)[-1]
    bench.buffer.insert(bench.buffer.nxt + before // 2, bytes(1000))
    bench.tuner.make_room()
    assert bench.buffer.limit == before + before // 2 + 1000


def test_lan_whose_round_trip_is_below_the_clocks_step_grows_within_a_few_turns() -> None:
    """A turn of the driver is at one instant, and takes longer than the network's round trip."""
    bench = Bench(handshake=60 * US)
    for _ in range(8):
        bench.come(bench.buffer.limit, age=0)
        bench.now += 300 * US
    assert bench.tuner.rtt == 60 * US
    assert bench.buffer.limit >= MIB


def test_echo_is_raised_by_little_and_lowered_at_once() -> None:
    bench = Bench()
    bench.rounds(30_000, 30_000)
    assert bench.tuner.rtt == RTT
    bench.now += RTT
    bench.come(40_000, age=10 * SEC)  # the peer had nothing to say
    assert RTT < bench.tuner.rtt <= RTT * 5 // 4
    bench.now += 2 * RTT
    bench.come(60_000, age=20 * MS)
    assert bench.tuner.rtt == 20 * MS


def test_without_timestamps_the_handshake_serves() -> None:
    bench = Bench(handshake=RTT)
    limits = bench.rounds(*[14_600 << n for n in range(6)], age=-1)
    assert bench.tuner.rtt == RTT
    assert limits[-1] > 400_000


def test_without_timestamps_and_handshake_a_windows_turn_serves() -> None:
    bench = Bench(handshake=0)
    bench.rounds(*[60_000] * 4, age=-1)
    assert RTT <= bench.tuner.rtt <= 2 * RTT
    assert bench.buffer.limit > START


def test_measuring_happens_at_most_once_a_round_trip() -> None:
    bench = Bench()
    bench.rounds(*[400_000] * 10)
    assert bench.calls <= 12
