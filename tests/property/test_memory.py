"""Many buffers under one budget, whatever their users do: the sum stays below the bound, no byte that was taken is
lost, nobody is stuck, and in the end nothing is charged."""

from hypothesis import given
from hypothesis import strategies as st

from usertcp.tcp.buffers import ReceiveBuffer, SendBuffer
from usertcp.tcp.memory import Memory
from usertcp.units import KIB

BASE = 0xFFFF_FF00
STREAM = bytes((i * 131 + (i >> 8)) & 0xFF for i in range(1 << 18))
NUMBER = 6  # of send buffers, and of receive buffers

steps = st.lists(
    st.tuples(
        st.integers(0, NUMBER - 1), st.sampled_from(["write", "ack", "come", "skip", "read"]), st.integers(0, 60_000)
    ),
    max_size=80,
)


class Writer:
    def __init__(self, memory: Memory) -> None:
        self.buffer = SendBuffer(100 * KIB, 0, memory)
        self.buffer.reset(BASE)

    def write(self, n: int) -> None:
        buffer = self.buffer
        at = buffer.end - BASE
        data = STREAM[at : at + n]
        promised = buffer.free
        assert promised > 0 or len(buffer)  # an empty one takes something, always
        assert buffer.write(data) == min(len(data), promised)

    def ack(self, n: int) -> None:
        buffer = self.buffer
        start, end = buffer.start, buffer.end
        assert b"".join(buffer.views(start, end - start)) == STREAM[start - BASE : end - BASE]
        buffer.ack(min(start + n, end))


class Reader:
    def __init__(self, memory: Memory) -> None:
        self.buffer = ReceiveBuffer(100 * KIB, memory)
        self.buffer.reset(BASE)
        self.held: set[int] = set()  # reported behind gaps: never to be given up

    def come(self, gap: int, n: int) -> None:
        buffer = self.buffer
        start = min(buffer.nxt + gap, buffer.read_seq + buffer.limit)
        end = min(start + n, buffer.read_seq + buffer.limit)
        before, unread = buffer.nxt, buffer.readable
        advanced = buffer.insert(start, STREAM[start - BASE : end - BASE])
        assert advanced == buffer.nxt - before
        assert advanced or gap or unread or start == end  # whoever reads everything gets more, always
        self.held = {seq for seq in self.held if seq >= buffer.nxt}
        ranges = list(buffer.arrived)
        assert all(any(low <= seq < high for low, high in ranges) for seq in self.held)
        self.held.update(low for low, _ in ranges)
        self.held.update(high - 1 for _, high in ranges)

    def read(self, n: int) -> None:
        at = self.buffer.read_seq - BASE
        data = self.buffer.read(n)
        assert data == STREAM[at : at + len(data)]


@given(steps=steps, limit=st.sampled_from([0, 10_000, 64 * KIB, 200_000, 10 << 20]))
def test_buffers_under_one_budget_stay_below_the_bound_and_keep_what_they_took(
    steps: list[tuple[int, str, int]], limit: int
) -> None:
    memory = Memory(limit)
    writers = [Writer(memory) for _ in range(NUMBER)]
    readers = [Reader(memory) for _ in range(NUMBER)]
    rings = [end.buffer._ring for end in writers] + [end.buffer._ring for end in readers]
    for which, what, n in steps:
        if what == "write":
            writers[which].write(n)
        elif what == "ack":
            writers[which].ack(n)
        elif what == "read":
            readers[which].read(n)
        else:
            readers[which].come(n % 3000 if what == "skip" else 0, n)
        kept = sum(end.buffer._kept.charged for end in writers if end.buffer._kept is not None)
        alone = sum(len(end.buffer.alone) for end in writers if end.buffer.alone is not None)
        assert sum(ring.capacity for ring in rings) + kept + alone == memory.used
        assert memory.used <= limit + memory.minimum * len(rings)
    for writer in writers:
        writer.ack(1 << 20)
    for reader in readers:
        reader.buffer.clear()
    assert memory.used == 0
    assert not memory.pressed
