"""The budget by itself, and rings and buffers that live under one."""

import pytest

from usertcp.tcp.buffers import ReceiveBuffer, SendBuffer
from usertcp.tcp.memory import MIN_CAPACITY, UNBOUNDED, Memory
from usertcp.tcp.ring import Ring
from usertcp.units import KIB, MIB

BASE = 0xFFFF_FF00


def test_budget_without_a_bound_is_never_pressed() -> None:
    memory = Memory()
    assert memory.limit == UNBOUNDED
    assert memory.charge(0, 1 << 40)
    assert not memory.pressed
    assert not memory.exhausted


def test_pressure_begins_at_two_thirds_and_ends_at_half() -> None:
    memory = Memory(96 * KIB)
    assert memory.charge(0, 64 * KIB)
    assert not memory.pressed
    assert memory.charge(0, 4 * KIB)
    assert memory.pressed
    memory.credit(16 * KIB)
    assert memory.pressed  # 52 KiB: still more than half
    memory.credit(4 * KIB)
    assert not memory.pressed


def test_limit_reached_refuses_all_but_the_minimum() -> None:
    memory = Memory(64 * KIB)
    assert memory.charge(0, 64 * KIB)
    assert memory.exhausted
    assert not memory.charge(0, 8 * KIB)
    assert memory.used == 64 * KIB
    assert memory.charge(0, MIN_CAPACITY)
    assert (memory.used, memory.peak) == (68 * KIB, 68 * KIB)
    memory.credit(68 * KIB)
    assert (memory.used, memory.peak, memory.exhausted) == (0, 68 * KIB, False)


@pytest.mark.parametrize(("segment", "minimum"), [(0, 4), (1460, 4), (8960, 32), (65495, 128)])
def test_minimum_holds_two_of_the_largest_segments(segment: int, minimum: int) -> None:
    assert Memory(MIB, segment).minimum == minimum * KIB


def test_ceiling_is_the_largest_ring_that_would_be_granted() -> None:
    memory = Memory(100 * KIB)
    assert memory.charge(0, 16 * KIB)
    assert memory.ceiling(16 * KIB) == 64 * KIB  # 100 KiB in all for it, and a power of two
    assert memory.ceiling(0) == 64 * KIB
    assert memory.charge(0, 64 * KIB)
    assert memory.ceiling(16 * KIB) == 32 * KIB
    assert not memory.charge(16 * KIB, 64 * KIB)
    assert memory.charge(16 * KIB, 32 * KIB)
    assert memory.ceiling(0) == MIN_CAPACITY


def test_allowance_under_pressure_is_what_is_held_or_a_share_of_what_is_left() -> None:
    memory = Memory(64 * MIB)
    assert memory.allowance(0) == 64 * MIB
    assert memory.charge(0, 32 * MIB)
    assert memory.charge(0, 16 * MIB)
    assert memory.pressed
    assert memory.allowance(0) == 64 * KIB  # a 256th of 16 MiB
    assert memory.allowance(MIB) == MIB
    assert memory.charge(0, 16 * MIB)
    assert memory.allowance(0) == MIN_CAPACITY


def test_ring_of_a_link_with_large_segments_begins_small_and_may_have_its_minimum() -> None:
    memory = Memory(64 * KIB, 65_000)
    assert memory.minimum == 128 * KIB
    ring = Ring(memory)
    assert ring.reserve(BASE, BASE + 100)
    assert ring.capacity == MIN_CAPACITY
    assert memory.charge(0, 60 * KIB)
    assert ring.reserve(BASE, BASE + 128 * KIB)
    assert not ring.reserve(BASE, BASE + 128 * KIB + 1)


def test_ring_refused_by_the_budget_stays_as_it_is() -> None:
    memory = Memory(16 * KIB)
    ring = Ring(memory)
    assert ring.reserve(BASE, BASE + 8000)
    ring.write(BASE, b"x" * 8000)
    assert not ring.reserve(BASE, BASE + 16 * KIB + 1)
    assert (ring.capacity, memory.used) == (8 * KIB, 8 * KIB)
    assert ring.copy(BASE, 8000) == b"x" * 8000
    assert ring.reserve(BASE, BASE + 16 * KIB)
    ring.release()
    assert memory.used == 0


def test_ring_under_pressure_begins_no_larger_than_it_must() -> None:
    memory = Memory(256 * KIB)
    ring = Ring(memory)
    ring.reserve(BASE, BASE + 1)
    ring.reserve(BASE, BASE + 64 * KIB)
    ring.release()
    assert memory.charge(0, 180 * KIB)
    assert memory.pressed
    ring.reserve(BASE, BASE + 1)
    assert ring.capacity == MIN_CAPACITY


def test_ring_whose_old_size_does_not_fit_begins_with_what_it_needs() -> None:
    memory = Memory(256 * KIB)
    ring = Ring(memory)
    ring.reserve(BASE, BASE + 1)
    ring.reserve(BASE, BASE + 128 * KIB)
    ring.release()
    assert memory.charge(0, 160 * KIB)
    assert not memory.pressed
    assert ring.reserve(BASE, BASE + 1)
    assert ring.capacity == MIN_CAPACITY


def test_ring_that_nobody_knows_any_more_is_credited() -> None:
    memory = Memory(MIB)
    ring = Ring(memory)
    ring.reserve(BASE, BASE + 1)
    assert memory.used == MIN_CAPACITY
    del ring
    assert memory.used == 0


def test_send_buffer_beyond_the_budget_takes_what_there_is_memory_for() -> None:
    memory = Memory(64 * KIB)
    other = Ring(memory)
    other.reserve(BASE, BASE + 32 * KIB)
    buffer = SendBuffer(MIB, MIB, memory)
    buffer.reset(BASE)
    assert buffer.free == 32 * KIB
    assert buffer.write(bytearray(MIB)) == 32 * KIB
    assert (buffer.free, memory.exhausted) == (0, True)
    assert buffer.write(b"x") == 0
    buffer.ack(BASE + 10 * KIB)
    assert (buffer.free, buffer.inviting()) == (10 * KIB, False)
    buffer.ack(BASE + 11 * KIB)
    assert buffer.inviting()  # a third of what it may have, not of its limit
    other.release()
    assert buffer.free > 11 * KIB


def test_send_buffer_under_pressure_takes_a_share_of_what_is_left_though_that_is_much() -> None:
    memory = Memory(64 * MIB)
    memory.charge(0, 48 * MIB)
    buffer = SendBuffer(MIB, 0, memory)
    buffer.reset(BASE)
    assert buffer.write(bytearray(MIB)) == 64 * KIB


def test_send_buffer_when_nothing_is_left_takes_the_minimum() -> None:
    memory = Memory(64 * KIB)
    assert memory.charge(0, 64 * KIB)
    buffer = SendBuffer(MIB, 0, memory)
    buffer.reset(BASE)
    assert buffer.inviting()
    assert buffer.write(bytearray(MIB)) == MIN_CAPACITY


def test_send_buffer_follows_twice_the_congestion_window_up_to_its_maximum() -> None:
    buffer = SendBuffer(128 * KIB, MIB)
    for cwnd, limit in [(10 * KIB, 128), (100 * KIB, 200), (50 * KIB, 200), (400 * KIB, 800), (4 * MIB, 1024)]:
        buffer.follow(cwnd)
        assert buffer.limit == limit * KIB


def test_send_buffer_what_is_held_aside_comes_on_top_and_does_not_keep_the_user_waiting() -> None:
    buffer = SendBuffer(128 * KIB, MIB)
    buffer.reset(BASE)
    buffer.write(bytearray(MIB))
    assert not buffer.inviting(128 * KIB)  # nothing is free
    buffer.follow(40 * KIB, 80 * KIB)
    assert buffer.limit == 160 * KIB
    assert not buffer.inviting()
    assert buffer.inviting(80 * KIB)


def test_send_buffer_without_a_maximum_keeps_its_size() -> None:
    buffer = SendBuffer(10 * KIB)
    buffer.follow(MIB)
    assert buffer.limit == 10 * KIB


def test_send_buffer_under_pressure_and_beyond_a_quarter_of_the_budget_does_not_grow() -> None:
    memory = Memory(4 * MIB)
    buffer = SendBuffer(128 * KIB, 32 * MIB, memory)
    buffer.follow(10 * MIB)
    assert buffer.limit == MIB
    buffer.limit = 128 * KIB
    memory.charge(0, 3 * MIB)
    buffer.follow(10 * MIB)
    assert buffer.limit == 128 * KIB


def test_receive_buffer_at_the_limit_keeps_what_it_has_and_takes_the_start_of_what_comes() -> None:
    memory = Memory(16 * KIB)
    assert memory.charge(0, 16 * KIB)
    buffer = ReceiveBuffer(64 * KIB, memory)
    buffer.reset(BASE)
    assert buffer.insert(BASE, b"a" * 3000) == 3000
    assert buffer.insert(BASE + 3000, b"b" * 3000) == 1096
    assert memory.refused == 1
    assert buffer.insert(BASE + 8192, b"c" * 100) == 0
    assert (memory.refused, len(buffer.arrived), buffer.top) == (2, 0, BASE + 4096)
    assert buffer.read(10_000) == b"a" * 3000 + b"b" * 1096
    assert buffer.insert(BASE + 4096, b"b" * 1904) == 1904


def test_receive_buffer_at_the_limit_never_gives_up_what_arrived_behind_a_gap() -> None:
    memory = Memory(16 * KIB)
    buffer = ReceiveBuffer(64 * KIB, memory)
    buffer.reset(BASE)
    assert buffer.insert(BASE + 1000, b"b" * 5000) == 0
    assert memory.charge(0, 8 * KIB)
    assert buffer.insert(BASE + 6000, b"c" * 5000) == 0
    assert list(buffer.arrived) == [(BASE + 1000, BASE + 8192)]  # what the ring holds
    assert buffer.insert(BASE, b"a" * 1000) == 8192
    assert buffer.read(10_000) == b"a" * 1000 + b"b" * 5000 + b"c" * 2192


def test_receive_buffer_under_pressure_has_room_for_what_it_holds_memory_for() -> None:
    memory = Memory(MIB)
    buffer = ReceiveBuffer(64 * KIB, memory)
    buffer.reset(BASE)
    buffer.insert(BASE, b"x" * 10_000)
    assert buffer.room == 64 * KIB - 10_000
    memory.charge(0, 700 * KIB)
    assert memory.pressed
    assert buffer.room == 16 * KIB - 10_000
    buffer.read(10_000)
    assert buffer.room == MIN_CAPACITY
    memory.credit(700 * KIB)
    assert buffer.room == 64 * KIB


def test_ring_that_was_large_gives_back_what_its_one_byte_does_not_need() -> None:
    memory = Memory(1 << 20, 1460)
    buffer = SendBuffer(1 << 20, memory=memory)
    buffer.reset(5)
    buffer.write(bytearray(300_000))
    buffer.write(b"x")
    buffer.ack(5 + 300_000)
    assert memory.used == 1 << 19
    buffer.fit()
    assert memory.used == memory.minimum
    assert b"".join(buffer.views(5 + 300_000, 1)) == b"x"


def test_byte_far_behind_a_gap_takes_no_memory_under_pressure() -> None:
    memory = Memory(1 << 20, 1460)
    others = SendBuffer(1 << 20, memory=memory)
    others.write(bytearray(600_000))
    buffer = ReceiveBuffer(1 << 19, memory)
    assert memory.pressed
    used = memory.used
    assert buffer.insert(100_000, b"x") == 0
    assert not buffer.arrived
    assert memory.used == used
    assert buffer.insert(0, b"y") == 1  # in order it has its place
