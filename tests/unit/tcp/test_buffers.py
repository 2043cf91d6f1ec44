"""The send and the receive buffer; tests/property/test_buffers.py holds them against plain bytes."""

import array
from collections.abc import Callable
from typing import Any

import pytest

from usertcp.tcp.buffers import ReceiveBuffer, SendBuffer
from usertcp.tcp.memory import Memory

BASE = 0xFFFF_FF00


def _text(n: int) -> bytes:
    return bytes(i * 7 & 0xFF for i in range(n))


def _sending(limit: int = 1000) -> SendBuffer:
    buffer = SendBuffer(limit)
    buffer.reset(BASE)
    return buffer


def _receiving(limit: int = 10_000) -> ReceiveBuffer:
    buffer = ReceiveBuffer(limit)
    buffer.reset(BASE)
    return buffer


def test_send_buffer_written_beyond_its_limit_takes_what_fits() -> None:
    buffer = _sending(1000)
    assert buffer.write(_text(700)) == 700
    assert buffer.free == 300
    assert buffer.write(_text(700)) == 300
    assert (buffer.write(b"x"), buffer.free, len(buffer)) == (0, 0, 1000)
    assert b"".join(buffer.views(BASE, 1000)) == _text(700) + _text(300)


def test_send_buffer_acknowledged_in_part_frees_that_part() -> None:
    buffer = _sending(1000)
    buffer.write(_text(1000))
    buffer.ack(BASE + 400)
    assert (buffer.start, buffer.end, buffer.free) == (BASE + 400, BASE + 1000, 400)
    assert buffer.write(b"y" * 500) == 400
    assert b"".join(buffer.views(BASE + 990, 20)) == _text(1000)[990:] + b"y" * 10


def test_send_buffer_acknowledged_whole_gives_its_memory_back() -> None:
    buffer = _sending(10_000)
    buffer.write(_text(5000))
    assert buffer._ring.capacity > 0
    buffer.ack(BASE + 5001)  # the FIN's number is not the buffer's
    assert (len(buffer), buffer.start, buffer._ring.capacity) == (0, BASE + 5000, 0)
    assert buffer.write(b"more") == 4
    assert b"".join(buffer.views(BASE + 5000, 4)) == b"more"


@pytest.mark.parametrize("first", [bytes, bytearray])
def test_places_for_all_that_is_free_are_offered_behind_large_pieces_too(first: Callable[[int], Any]) -> None:
    """Who is offered less takes less for all that there is (``driver.bridge``)."""
    buffer = _sending(1 << 20)
    buffer.write(first(20_000))
    places = buffer.offer(256 << 10)
    assert sum(map(len, places)) == 256 << 10
    places[0][:3] = b"abc"
    buffer.filled(3)
    assert b"".join(buffer.views(BASE + 19_999, 4)) == b"\0abc"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: array.array("H", data)])
def test_small_message_alone_takes_no_ring_until_more_is_written(kind: Callable[[bytes], Any]) -> None:
    memory = Memory(1 << 20)
    buffer = SendBuffer(10_000, memory=memory)
    buffer.reset(BASE)
    assert buffer.write(kind(b"question")) == 8
    assert (memory.used, buffer._ring.capacity, buffer.free) == (8, 0, 9992)
    buffer.ack(BASE + 2)
    assert b"".join(buffer.views(BASE + 2, 6)) == b"estion"
    assert b"".join(buffer.views(BASE + 3, 2)) == b"st"
    assert buffer.write(b" and more") == 9
    assert memory.used == buffer._ring.capacity > 0
    assert b"".join(buffer.views(BASE + 2, 15)) == b"estion and more"
    buffer.ack(BASE + 17)
    assert (memory.used, len(buffer)) == (0, 0)


def test_small_message_that_was_to_be_changed_afterwards_stays_as_it_was_written() -> None:
    buffer, data = _sending(), bytearray(b"as it was")
    buffer.write(data)
    data[:] = b"different"
    assert b"".join(buffer.views(BASE, 9)) == b"as it was"


def test_small_message_alone_is_let_go_when_the_buffer_is_reset() -> None:
    memory = Memory(1 << 20)
    buffer = SendBuffer(10_000, memory=memory)
    buffer.write(b"never sent")
    buffer.reset(BASE)
    assert memory.used == 0


def test_small_message_goes_to_the_ring_while_memory_is_scarce() -> None:
    memory = Memory(16384)
    memory.charge(0, 12288)
    buffer = SendBuffer(10_000, memory=memory)
    assert buffer.write(b"message") == 7
    assert buffer._ring.capacity > 0


def test_send_buffer_filled_in_part_holds_that_part() -> None:
    buffer = _sending(4000)
    late = BASE + 4096 - 256
    for size in (3000, 840):  # up to 256 bytes before the ring's end
        buffer.write(bytes(size))
        buffer.ack(BASE + 2999)
    buffer.ack(late - 1)
    first, second = buffer.offer(600)
    assert (len(first), len(second)) == (256, 344)
    first[:], second[:44] = _text(300)[:256], _text(300)[256:]
    buffer.filled(300)
    buffer.ack(late)
    assert (len(buffer), buffer.free) == (300, 3700)
    assert b"".join(buffer.views(late, 300)) == _text(300)
    assert sum(map(len, buffer.offer(5000))) == 3700
    buffer.filled(3700)
    assert buffer.offer(1) == []


def test_send_buffer_with_an_old_acknowledgment_is_unchanged() -> None:
    buffer = _sending()
    buffer.write(_text(10))
    buffer.ack(BASE - 5)
    assert len(buffer) == 10


def test_send_buffer_asked_for_what_it_does_not_hold_asserts() -> None:
    buffer = _sending()
    buffer.write(_text(10))
    buffer.ack(BASE + 2)
    assert buffer.views(BASE + 10, 0) == []
    with pytest.raises(AssertionError):
        buffer.views(BASE, 5)
    with pytest.raises(AssertionError):
        buffer.views(BASE + 5, 6)


def test_send_buffer_with_lowered_limit_keeps_what_it_holds() -> None:
    buffer = _sending(1000)
    buffer.write(_text(800))
    buffer.limit = 500
    assert (buffer.free, buffer.write(b"x"), len(buffer)) == (0, 0, 800)


def test_send_buffer_given_wide_items_counts_bytes() -> None:
    buffer = _sending()
    assert buffer.write(memoryview(array.array("I", [1, 2, 3]))) == 12
    assert len(buffer) == 12


def test_receive_buffer_in_order_advances_and_reads_back() -> None:
    buffer = _receiving()
    assert buffer.insert(BASE, memoryview(_text(1000))) == 1000
    assert (buffer.nxt, buffer.readable, buffer.room) == (BASE + 1000, 1000, 9000)
    assert buffer.read(300) == _text(1000)[:300]
    target = bytearray(300)
    assert buffer.read_into(target) == 300
    assert target == _text(1000)[300:600]
    assert b"".join(buffer.peek(9999)) == _text(1000)[600:]
    assert buffer.readable == 400
    buffer.consume(100)
    assert buffer.read(9999) == _text(1000)[700:]
    assert (buffer.read(1), buffer.peek(1), buffer.read_into(target)) == (b"", [], 0)


def test_receive_buffer_with_a_gap_advances_when_it_is_filled() -> None:
    text = _text(300)
    buffer = _receiving()
    assert buffer.insert(BASE + 200, text[200:]) == 0
    assert buffer.insert(BASE + 50, text[50:100]) == 0
    assert (buffer.readable, buffer.top, buffer.arrived.total) == (0, BASE + 300, 150)
    assert buffer.insert(BASE, text[:60]) == 100
    assert list(buffer.arrived) == [(BASE + 200, BASE + 300)]
    assert buffer.insert(BASE + 100, text[100:200]) == 200
    assert (len(buffer.arrived), buffer.nxt) == (0, buffer.top)
    assert buffer.read(300) == text


def test_receive_buffer_read_to_the_gap_keeps_what_is_behind_it() -> None:
    text = _text(300)
    buffer = _receiving()
    buffer.insert(BASE, text[:100])
    buffer.insert(BASE + 200, text[200:])
    assert buffer.read(1000) == text[:100]
    assert buffer._ring.capacity > 0
    assert buffer.insert(BASE + 100, text[100:200]) == 200
    assert buffer.read(1000) == text[100:]
    assert buffer._ring.capacity == 0


def test_receive_buffer_emptied_gives_its_memory_back() -> None:
    buffer = _receiving()
    buffer.insert(BASE, b"abc")
    assert buffer.read(3) == b"abc"
    assert buffer._ring.capacity == 0


def test_receive_buffer_given_nothing_stays_as_it_is() -> None:
    buffer = _receiving()
    assert buffer.insert(BASE, b"") == 0
    assert buffer.insert(BASE + 5, b"") == 0
    assert (buffer.top, len(buffer.arrived), buffer._ring.capacity) == (BASE, 0, 0)


def test_receive_buffer_given_old_data_asserts() -> None:
    buffer = _receiving()
    buffer.insert(BASE, b"abc")
    with pytest.raises(AssertionError):
        buffer.insert(BASE + 1, b"bcd")


def test_receive_buffer_with_lowered_limit_throws_nothing_away() -> None:
    buffer = _receiving(1000)
    buffer.insert(BASE, _text(800))
    buffer.insert(BASE + 900, _text(100))
    buffer.limit = 100
    assert buffer.room == 0
    assert buffer.insert(BASE + 800, _text(100)) == 200
    assert buffer.readable == 1000


def test_receive_buffer_consumed_beyond_what_is_readable_asserts() -> None:
    buffer = _receiving()
    buffer.insert(BASE, b"abc")
    with pytest.raises(AssertionError):
        buffer.consume(4)


def test_receive_buffer_cleared_forgets_all_and_goes_on_at_nxt() -> None:
    buffer = _receiving()
    buffer.insert(BASE, b"abc")
    buffer.insert(BASE + 10, b"xyz")
    buffer.clear()
    assert (buffer.readable, len(buffer.arrived), buffer._ring.capacity) == (0, 0, 0)
    assert buffer.insert(BASE + 3, b"def") == 3
    assert buffer.read(9) == b"def"
