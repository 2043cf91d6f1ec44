"""The benchmark's relay: what it takes for data sent again, and for a duplicate reported."""

from random import Random

import pytest

from benchmarks.loss_relay import Counters, Lane
from usertcp.link.path import Path, PathConfig


def frame(*, seq: int = 0, ack: int = 0, text: int = 0, options: bytes = b"") -> bytes:
    """Ethernet, IPv4 and TCP headers with what the relay looks at, and ``text`` bytes."""
    header = 20 + len(options)
    ip = b"\x45\x00" + (20 + header + text).to_bytes(2, "big") + bytes(16)
    tcp = bytes(4) + seq.to_bytes(4, "big") + ack.to_bytes(4, "big") + bytes([header // 4 << 4]) + bytes(7)
    return bytes(12) + b"\x08\x00" + ip + tcp + options + bytes(text)


def sack(*blocks: tuple[int, int]) -> bytes:
    edges = b"".join(edge.to_bytes(4, "big") for block in blocks for edge in block)
    return b"\x01\x01\x08\x0a" + bytes(8) + b"\x01\x01\x05" + bytes([2 + len(edges)]) + edges


def lane(*, data: bool) -> Lane:
    return Lane(Path(PathConfig(), Random(1)), -1, data, Counters(), 0)


def test_data_sent_again_is_counted_across_the_wrap() -> None:
    here = lane(data=True)
    for seq in (0xFFFF_FF00, 0x200, 0x500, 0xFFFF_FF00, 0x200, 0x800):
        here.count_in(frame(seq=seq, text=0x300))
    assert (here.counters.segments, here.counters.repeated, here.counters.acks) == (6, 2, 0)


def test_acknowledgments_are_counted_on_their_way_alone() -> None:
    here = lane(data=False)
    here.count_in(frame(ack=7))
    here.count_in(frame(ack=7, text=100))
    assert (here.counters.segments, here.counters.acks) == (0, 1)


@pytest.mark.parametrize(
    ("ack", "blocks", "reported"),
    [
        (5000, [(6000, 7000)], False),
        (5000, [(6000, 7000), (9000, 9500)], False),
        (5000, [(3000, 4000)], True),
        (5000, [(4000, 5000)], True),
        (5000, [(6200, 6300), (6000, 7000)], True),
        (5000, [(6000, 7000), (6200, 6300)], False),
        (200, [(0xFFFF_FF00, 100)], True),
        (0xFFFF_FF00, [(100, 200)], False),
    ],
)
def test_a_first_block_below_the_acknowledgment_or_in_the_second_is_a_duplicate(
    ack: int, blocks: list[tuple[int, int]], reported: bool
) -> None:
    here = lane(data=False)
    here.count_out(frame(ack=ack, options=sack(*blocks)))
    assert here.counters.dsacks == reported


def test_options_without_sack_report_nothing() -> None:
    here = lane(data=False)
    for options in (b"", b"\x01\x01\x08\x0a" + bytes(8), b"\x02\x04\x05\xb4\x04\x02\x00\x00"):
        here.count_out(frame(ack=5000, options=options))
    assert here.counters.dsacks == 0
