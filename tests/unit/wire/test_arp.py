import pytest

from usertcp.errors import WireError
from usertcp.wire import arp

WHO_HAS = bytes.fromhex("0001 0800 06 04 0001 020000000002 0a090002 000000000000 0a090001")


def test_parse_of_a_request_gives_its_fields() -> None:
    message = arp.parse(memoryview(WHO_HAS + bytes(18)))  # padded to an Ethernet minimum frame
    assert message == arp.Arp(arp.REQUEST, b"\x02\0\0\0\0\x02", b"\x0a\x09\0\x02", bytes(6), b"\x0a\x09\0\x01")


def test_build_is_the_inverse_of_parse() -> None:
    assert arp.build(arp.parse(WHO_HAS)) == WHO_HAS
    assert len(WHO_HAS) == arp.LEN


@pytest.mark.parametrize("size", [0, 7, 27])
def test_parse_of_a_short_message_is_a_wire_error(size: int) -> None:
    with pytest.raises(WireError, match="truncated"):
        arp.parse(WHO_HAS[:size])


@pytest.mark.parametrize(("offset", "value"), [(1, 6), (2, 0x86), (4, 8), (5, 16)])
def test_parse_of_other_hardware_or_protocol_is_a_wire_error(offset: int, value: int) -> None:
    message = bytearray(WHO_HAS)
    message[offset] = value
    with pytest.raises(WireError, match="not IPv4 over Ethernet"):
        arp.parse(message)
