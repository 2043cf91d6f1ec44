"""The send buffer with references against a plain list of bytes: whatever is written, in whatever pieces."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usertcp.tcp import references
from usertcp.tcp.buffers import SendBuffer
from usertcp.tcp.memory import Memory

START = 0xFFFF_FF00
kinds = st.sampled_from(
    [bytes, bytearray, memoryview, lambda data: memoryview(data)[1:], lambda data: memoryview(data)[::2]]
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.binary(min_size=1, max_size=60), kinds),
        st.tuples(st.just("ack"), st.integers(0, 80), st.none()),
        st.tuples(st.just("look"), st.integers(0, 200), st.integers(0, 200)),
        st.tuples(st.just("fit"), st.none(), st.none()),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(steps, st.integers(1, 300), st.sampled_from([1 << 40, 20_000]))
def test_whatever_is_written_comes_out_and_memory_is_given_back(steps, limit, budget) -> None:  # type: ignore[no-untyped-def]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(references, "WORTH_IT", 16)
        monkeypatch.setattr(references, "STEP", 32)
        memory = Memory(budget)
        buffer = SendBuffer(limit, 0, memory)
        buffer.reset(START)
        model, start = b"", START
        for what, first, second in steps:
            if what == "write":
                data = second(first)
                taken = buffer.write(data)
                assert taken == min(len(data), limit - len(model))
                model += bytes(data)[:taken]
            elif what == "ack":
                count = min(first, len(model))
                buffer.ack(start + count)
                start, model = start + count, model[count:]
            elif what == "look":
                low = min(first, len(model))
                count = min(second, len(model) - low)
                assert b"".join(buffer.views(start + low, count)) == model[low : low + count]
            else:
                buffer.fit()
            assert (buffer.start, buffer.end, len(buffer)) == (start, start + len(model), len(model))
            assert memory.used >= (1 if model else 0)
        buffer.ack(start + len(model))
        assert memory.used == 0
        del buffer
        assert memory.used == 0


def test_large_bytes_are_not_copied_and_a_bytearray_is() -> None:
    buffer = SendBuffer(1 << 20)
    large = bytes(100_000)
    assert buffer.write(large) == buffer.write(memoryview(large)) == 100_000
    assert all(view.obj is large for view in buffer.views(0, 200_000))
    changeable = bytearray(100_000)
    buffer.write(changeable)
    changeable[:] = b"x" * 100_000
    assert b"".join(buffer.views(200_000, 100_000)) == bytes(100_000)


def test_small_pieces_after_a_reference_share_memory() -> None:
    buffer = SendBuffer(1 << 20)
    buffer.write(bytes(20_000))
    for n in range(1000):
        buffer.write(bytes((n & 0xFF,)))
    (view,) = buffer.views(20_000, 1000)
    assert view == bytes(n & 0xFF for n in range(1000))


def test_object_is_let_go_when_its_last_byte_is_acknowledged() -> None:
    memory = Memory()
    buffer = SendBuffer(1 << 20, 0, memory)
    buffer.write(bytes(50_000))
    buffer.write(bytes(50_000))
    buffer.ack(49_999)
    assert memory.used == 100_000
    buffer.ack(50_000)
    assert memory.used == 50_000
    buffer.reset(7)
    assert memory.used == 0
