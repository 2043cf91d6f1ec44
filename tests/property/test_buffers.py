"""The buffers against plain bytes: whatever the order of pieces, acknowledgments and reads, one stream comes out."""

from hypothesis import given
from hypothesis import strategies as st

from usertcp.tcp.buffers import ReceiveBuffer, SendBuffer

BASE = 0xFFFF_FF00
STREAM = bytes((i * 131 + (i >> 8)) & 0xFF for i in range(40_000))


@given(
    steps=st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 9000), st.booleans()), max_size=20),
    limit=st.integers(1, 12_000),
)
def test_send_buffer_after_any_writes_and_acks_holds_the_stream(steps: list[tuple[int, int, bool]], limit: int) -> None:
    buffer = SendBuffer(limit)
    buffer.reset(BASE)
    start = end = 0
    for n, acked, in_place in steps:
        data = STREAM[end : end + n]
        taken = put(buffer, data) if in_place else buffer.write(data)
        assert taken == min(len(data), limit - (end - start))
        end += taken
        assert b"".join(buffer.views(BASE + start, end - start)) == STREAM[start:end]
        start = min(end, start + acked)
        buffer.ack(BASE + start)
        assert (buffer.start, buffer.end) == (BASE + start, BASE + end)
        assert (len(buffer), buffer.free) == (end - start, limit - (end - start))
        assert (buffer._ring.capacity == 0 and buffer.alone is None) == (start == end)


def put(buffer: SendBuffer, data: bytes) -> int:
    """``data`` into the places that the buffer offers for it."""
    taken = 0
    for place in buffer.offer(len(data)):
        place[:] = data[taken : taken + len(place)]
        taken += len(place)
    buffer.filled(taken)
    return taken


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 6000), st.integers(0, 3000), st.integers(0, 4000), st.sampled_from("ripo")),
        max_size=30,
    ),
    limit=st.integers(1, 9000),
)
def test_receive_buffer_after_any_pieces_and_reads_gives_the_stream(
    steps: list[tuple[int, int, int, str]], limit: int
) -> None:
    buffer = ReceiveBuffer(limit)
    buffer.reset(BASE)
    held: set[int] = set()  # offsets that arrived, from nxt on
    read = nxt = 0
    for offset, n, wanted, how in steps:
        at = min(nxt + offset * (offset % 3 > 0), read + limit)  # a third of the pieces come in order
        end = min(at + n, read + limit, len(STREAM))
        held.update(range(at, end))
        before = nxt
        while nxt in held:
            held.discard(nxt)
            nxt += 1
        assert buffer.insert(BASE + at, memoryview(STREAM)[at:end]) == nxt - before
        assert (buffer.nxt, buffer.readable, buffer.room) == (BASE + nxt, nxt - read, limit - (nxt - read))
        assert buffer.arrived.total == len(held)
        assert buffer.top == BASE + max(held, default=nxt - 1) + 1
        expected = STREAM[read : min(nxt, read + wanted)]
        if how == "o":  # the reader waits, and what comes next lands with it, if nothing is in front of that
            target, more = bytearray(wanted), STREAM[nxt : nxt + min(n, limit - nxt + read)]
            straight = read == nxt and not held
            buffer.offer(memoryview(target))
            if not held:
                assert buffer.insert(BASE + nxt, memoryview(more)) == len(more)
                nxt += len(more)
            assert buffer.wanted == wanted - buffer.landed
            landed = buffer.take_back()
            assert landed == (min(wanted, len(more)) if straight else 0)
            assert target[:landed] == STREAM[read : read + landed]
            expected = b""
            read += landed
        elif how == "r":
            assert buffer.read(wanted) == expected
        elif how == "i":
            target = bytearray(wanted)
            assert buffer.read_into(target) == len(expected)
            assert target[: len(expected)] == expected
        else:
            assert b"".join(buffer.peek(wanted)) == expected
            buffer.consume(len(expected))
        read += len(expected)
        assert (buffer._ring.capacity == 0) == (buffer.top == buffer.read_seq)
