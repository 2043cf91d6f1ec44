"""Two ends of one cable in memory, and the link whose other side is the caller."""

import select

import pytest

from usertcp.frame import PLAIN, FrameMeta, LinkCaps
from usertcp.link.callback import CallbackLink
from usertcp.link.memory import memory_pair


def test_pair_sends_header_and_views_peer_reads_one_frame() -> None:
    left, right = memory_pair()
    assert left.send(b"head", [memoryview(b"er and "), memoryview(b"data")], PLAIN)
    item = right.read()
    assert item is not None
    assert (bytes(item[0]), item[1]) == (b"header and data", PLAIN)
    assert right.read() is None
    assert left.read() is None


def test_pair_sender_reuses_its_buffer_frame_is_unchanged() -> None:
    left, right = memory_pair()
    buffer = bytearray(b"first")
    left.send(b"", [memoryview(buffer)], PLAIN)
    buffer[:] = b"other"
    item = right.read()
    assert item is not None
    assert bytes(item[0]) == b"first"


def test_full_queue_refuses_until_a_frame_is_read() -> None:
    left, right = memory_pair(capacity=2)
    assert [left.send(bytes([n]), [], PLAIN) for n in range(3)] == [True, True, False]
    right.read()
    assert left.send(b"\x02", [], PLAIN)
    assert len(right) == 2


def test_super_segment_with_offload_arrives_whole_and_vouched_for() -> None:
    left, right = memory_pair(offload=True)
    assert left.caps.tx_gso
    assert left.caps.tx_checksum
    left.send(
        bytes(54), [memoryview(bytes(3000))], FrameMeta(gso_size=1460, csum_start=34, csum_offset=16, header_len=54)
    )
    item = right.read()
    assert item is not None
    assert (item[1].gso_size, item[1].csum_valid, item[1].csum_start) == (1460, True, 0)


def test_closed_peer_frames_are_lost_and_reading_says_so() -> None:
    left, right = memory_pair()
    right.close()
    right.close()
    assert left.send(b"x", [], PLAIN)
    with pytest.raises(OSError, match="Network is down"):
        left.read()


def test_pollable_pair_is_readable_exactly_while_a_frame_waits() -> None:
    left, right = memory_pair(pollable=True)
    with left, right:
        poll = select.poll()
        poll.register(right.fileno(), select.POLLIN)
        assert poll.poll(0) == []
        left.send(b"a", [], PLAIN)
        left.send(b"b", [], PLAIN)
        assert poll.poll(0)
        while right.read() is not None:
            pass
        assert poll.poll(0) == []


def test_arrival_calls_on_readable() -> None:
    left, right = memory_pair()
    woken: list[int] = []
    right.on_readable = lambda: woken.append(len(right))
    left.send(b"a", [], PLAIN)
    assert woken == [1]


def test_callback_link_delivers_in_and_hands_copies_out() -> None:
    sent: list[bytes] = []
    link = CallbackLink(lambda frame, meta: sent.append(frame), LinkCaps(mtu=900))
    buffer = bytearray(b"in")
    link.deliver(buffer)
    buffer[:] = b"no"
    item = link.read()
    assert item is not None
    assert bytes(item[0]) == b"in"
    assert link.read() is None
    assert link.send(b"o", [memoryview(b"ut")], PLAIN)
    assert sent == [b"out"]


def test_callback_that_answers_false_did_not_take_the_frame() -> None:
    link = CallbackLink(lambda frame, meta: False)
    assert not link.send(b"x", [], PLAIN)
    link.close()
    with pytest.raises(OSError, match="Network is down"):
        link.read()
