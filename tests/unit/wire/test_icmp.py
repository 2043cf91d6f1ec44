import pytest

from usertcp.errors import WireError
from usertcp.wire import icmp, ipv4
from usertcp.wire.checksum import BadChecksum

from .strategies import with_checksum

SRC, DST = bytes((10, 9, 0, 2)), bytes((10, 9, 0, 1))
TCP_START = bytes.fromhex("0050 1389 ffffff00")  # ports and sequence number
ORIGINAL = ipv4.header(SRC, DST, ipv4.TCP, 8) + TCP_START

seal = with_checksum(2, len)


def message(kind: int, code: int, rest: str, body: bytes) -> memoryview:
    return memoryview(seal(bytes((kind, code, 0, 0)) + bytes.fromhex(rest) + body))


@pytest.mark.parametrize("request_", [True, False])
def test_echo_goes_out_and_comes_back_the_same(request_: bool) -> None:
    sent = icmp.echo(request_, 0x1234, 7, b"odd")
    assert sent[0] == (icmp.ECHO_REQUEST if request_ else icmp.ECHO_REPLY)
    parsed = icmp.parse(memoryview(sent))
    assert isinstance(parsed, icmp.Echo)
    assert (parsed.request, parsed.ident, parsed.sequence, bytes(parsed.payload)) == (request_, 0x1234, 7, b"odd")


def test_echo_of_a_known_request_has_its_checksum() -> None:
    assert icmp.echo(True, 1, 1, b"") == bytes.fromhex("0800 f7fd 0001 0001")


def test_error_about_a_packet_names_its_flow_and_keeps_its_bytes() -> None:
    parsed = icmp.parse(memoryview(icmp.error(3, icmp.PORT_UNREACHABLE, memoryview(ORIGINAL))))
    assert isinstance(parsed, icmp.ErrorMessage)
    assert (parsed.type, parsed.code, parsed.mtu, parsed.pointer) == (3, 3, 0, 0)
    assert (parsed.src, parsed.dst, parsed.proto, bytes(parsed.embedded)) == (SRC, DST, 6, TCP_START)


def test_error_that_fragmentation_was_needed_carries_the_mtu() -> None:
    built = icmp.error(icmp.DESTINATION_UNREACHABLE, icmp.FRAGMENTATION_NEEDED, memoryview(ORIGINAL), mtu=1400)
    parsed = icmp.parse(memoryview(built))
    assert isinstance(parsed, icmp.ErrorMessage)
    assert parsed.mtu == 1400


def test_parse_of_a_host_unreachable_ignores_the_unused_field() -> None:
    parsed = icmp.parse(message(3, icmp.HOST_UNREACHABLE, "00000578", ORIGINAL))
    assert isinstance(parsed, icmp.ErrorMessage)
    assert parsed.mtu == 0


def test_parse_of_a_parameter_problem_gives_the_pointer() -> None:
    parsed = icmp.parse(message(icmp.PARAMETER_PROBLEM, 0, "14000000", ORIGINAL))
    assert isinstance(parsed, icmp.ErrorMessage)
    assert parsed.pointer == 20


def test_parse_of_an_embedded_header_with_options_skips_them() -> None:
    embedded = b"\x47" + ORIGINAL[1:20] + b"\x01" * 8 + TCP_START + b"more"
    parsed = icmp.parse(message(icmp.TIME_EXCEEDED, 0, "00000000", embedded))
    assert isinstance(parsed, icmp.ErrorMessage)
    assert bytes(parsed.embedded) == TCP_START + b"more"


@pytest.mark.parametrize("size", range(len(ORIGINAL)))
def test_parse_of_a_truncated_embedded_packet_is_a_wire_error(size: int) -> None:
    with pytest.raises(WireError, match="embedded"):
        icmp.parse(message(3, 3, "00000000", ORIGINAL[:size]))


def test_parse_of_embedded_options_that_leave_too_little_is_a_wire_error() -> None:
    with pytest.raises(WireError, match="truncated embedded"):
        icmp.parse(message(3, 3, "00000000", b"\x46" + ORIGINAL[1:]))


@pytest.mark.parametrize("first", [0x35, 0x65, 0x44, 0x40])
def test_parse_of_an_embedded_packet_of_another_kind_is_a_wire_error(first: int) -> None:
    with pytest.raises(WireError, match="not IPv4"):
        icmp.parse(message(3, 3, "00000000", bytes((first,)) + ORIGINAL[1:] + bytes(60)))


@pytest.mark.parametrize("fragment", ["0001", "2100", "1f00"])
def test_parse_of_an_error_about_a_later_fragment_is_a_wire_error(fragment: str) -> None:
    with pytest.raises(WireError, match="first fragment"):
        icmp.parse(message(3, 3, "00000000", ORIGINAL[:6] + bytes.fromhex(fragment) + ORIGINAL[8:]))


def test_error_about_a_long_packet_stays_within_576_bytes() -> None:
    packet = ipv4.header(SRC, DST, ipv4.UDP, 1480) + bytes(1480)
    assert ipv4.HEADER_LEN + len(icmp.error(3, 3, memoryview(packet))) == 576


@pytest.mark.parametrize("kind", [5, 9, 10, 13, 14, 17, 40, 255])
def test_parse_of_another_type_is_other(kind: int) -> None:
    parsed = icmp.parse(message(kind, 1, "0a090001", b"body"))
    assert isinstance(parsed, icmp.Other)
    assert (parsed.type, parsed.code, bytes(parsed.body)) == (kind, 1, b"body")


@pytest.mark.parametrize("size", [0, 4, 7])
def test_parse_of_less_than_a_header_is_a_wire_error(size: int) -> None:
    with pytest.raises(WireError, match="truncated header"):
        icmp.parse(memoryview(icmp.echo(True, 1, 1, b""))[:size])


def test_parse_of_a_damaged_message_is_a_bad_checksum() -> None:
    damaged = bytearray(icmp.echo(True, 1, 1, b"payload"))
    damaged[-1] ^= 1
    with pytest.raises(BadChecksum):
        icmp.parse(memoryview(damaged))
