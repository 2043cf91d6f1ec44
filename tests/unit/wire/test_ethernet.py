import pytest

from usertcp.errors import WireError
from usertcp.wire import ethernet

DST, SRC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


def test_header_is_destination_source_type() -> None:
    assert ethernet.header(DST, SRC, ethernet.IPV4) == bytes.fromhex("020000000001 020000000002 0800")


def test_parse_of_a_header_gives_its_fields() -> None:
    frame = ethernet.header(ethernet.BROADCAST, SRC, ethernet.ARP) + bytes(46)
    assert ethernet.parse(memoryview(frame)) == ethernet.Header(ethernet.BROADCAST, SRC, ethernet.ARP)


def test_parse_of_a_tagged_frame_shows_the_tag_as_its_type() -> None:
    assert ethernet.parse(DST + SRC + bytes.fromhex("8100 0005 0800")).ethertype == 0x8100


@pytest.mark.parametrize("size", [0, 1, 13])
def test_parse_of_a_short_frame_is_a_wire_error(size: int) -> None:
    with pytest.raises(WireError, match="truncated"):
        ethernet.parse(bytes(size))


def test_group_addresses_are_told_by_their_first_bit() -> None:
    assert ethernet.is_group(ethernet.BROADCAST)
    assert ethernet.is_group(bytes.fromhex("01005e000001"))
    assert not ethernet.is_group(DST)
