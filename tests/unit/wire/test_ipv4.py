import pytest

from usertcp.errors import WireError
from usertcp.wire import checksum, ipv4

SRC, DST = bytes.fromhex("ac100a63"), bytes.fromhex("ac100a0c")
KNOWN = bytes.fromhex("4500003c1c4640004006b1e6ac100a63ac100a0c")  # a header with its checksum, 40 bytes to follow


def packet(first: bytes, payload: bytes = b"", options: bytes = b"") -> memoryview:
    """A packet from the first 10 bytes of its header, checksum put in place."""
    blank = first + b"\0\0" + SRC + DST + options
    check = checksum.checksum(blank).to_bytes(2, "big")
    return memoryview(first + check + SRC + DST + options + payload)


def test_header_of_a_known_packet_is_its_bytes() -> None:
    assert ipv4.header(SRC, DST, ipv4.TCP, 40, ident=0x1C46) == KNOWN


def test_parse_of_a_known_packet_gives_its_fields() -> None:
    parsed = ipv4.parse(memoryview(KNOWN + b"x" * 40))
    assert (parsed.src, parsed.dst, parsed.proto, parsed.ttl, parsed.tos) == (SRC, DST, ipv4.TCP, 64, 0)
    assert (parsed.ident, parsed.df, parsed.more_fragments, parsed.fragment_offset) == (0x1C46, True, False, 0)
    assert (parsed.header_len, parsed.total_len, bytes(parsed.payload)) == (20, 60, b"x" * 40)


def test_parse_of_a_padded_frame_cuts_the_padding() -> None:
    assert bytes(ipv4.parse(memoryview(KNOWN + b"x" * 40 + bytes(6))).payload) == b"x" * 40


def test_parse_of_a_total_length_beyond_the_frame_is_a_wire_error() -> None:
    with pytest.raises(WireError, match="beyond the frame"):
        ipv4.parse(memoryview(KNOWN + b"x" * 39))


def test_parse_of_a_fragment_shows_flags_and_offset_in_bytes() -> None:
    parsed = ipv4.parse(packet(bytes.fromhex("45000014 0001 20b9 4006")))
    assert (parsed.df, parsed.more_fragments, parsed.fragment_offset) == (False, True, 1480)
    last = ipv4.parse(packet(bytes.fromhex("45000014 0001 5fff 4006")))
    assert (last.df, last.more_fragments, last.fragment_offset) == (True, False, 65528)


@pytest.mark.rfc(9293, "MUST-50")
@pytest.mark.parametrize("words", range(1, 11))
def test_parse_of_a_header_with_options_skips_them(words: int) -> None:
    options = b"\x83" + bytes((words * 4,)) + b"\xee" * (words * 4 - 2)  # a source route, not followed
    first = bytes((0x45 + words, 0)) + (20 + words * 4 + 3).to_bytes(2, "big") + bytes.fromhex("0000 0000 4006")
    parsed = ipv4.parse(packet(first, b"abc", options))
    assert parsed.header_len == 20 + words * 4
    assert bytes(parsed.payload) == b"abc"


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ("65000014 0000 0000 4006", "version"),
        ("05000014 0000 0000 4006", "version"),
        ("44000014 0000 0000 4006", "header length"),
        ("40000014 0000 0000 4006", "header length"),
        ("46000014 0000 0000 4006", "header length"),  # options beyond the total length
        ("45000013 0000 0000 4006", "header length"),
        ("45000000 0000 0000 4006", "header length"),
        ("45000015 0000 0000 4006", "beyond the frame"),
    ],
)
def test_parse_of_lengths_that_cannot_be_is_a_wire_error(first: str, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        ipv4.parse(packet(bytes.fromhex(first)))


@pytest.mark.parametrize("size", [0, 1, 19])
def test_parse_of_less_than_a_header_is_a_wire_error(size: int) -> None:
    with pytest.raises(WireError, match="truncated"):
        ipv4.parse(memoryview(KNOWN)[:size])


@pytest.mark.parametrize("bit", range(160))
def test_parse_of_a_header_with_one_bit_flipped_is_a_wire_error(bit: int) -> None:
    damaged = bytearray(KNOWN + b"x" * 40)
    damaged[bit >> 3] ^= 1 << (bit & 7)
    with pytest.raises(WireError):
        ipv4.parse(memoryview(damaged))


def test_parse_of_a_damaged_address_is_a_bad_checksum() -> None:
    with pytest.raises(checksum.BadChecksum):
        ipv4.parse(memoryview(KNOWN[:12] + b"\xad" + KNOWN[13:] + bytes(40)))


def test_header_of_the_largest_packet_fits_and_of_a_larger_one_asserts() -> None:
    assert ipv4.parse(memoryview(ipv4.header(SRC, DST, 6, 65515) + bytes(65515))).total_len == 65535
    with pytest.raises(AssertionError):
        ipv4.header(SRC, DST, 6, 65516)


def test_header_without_df_and_with_tos_and_ttl_carries_them() -> None:
    parsed = ipv4.parse(memoryview(ipv4.header(SRC, DST, ipv4.ICMP, 0, ident=0xFFFF, ttl=5, tos=0xB8, df=False)))
    assert (parsed.df, parsed.tos, parsed.ttl, parsed.ident, parsed.proto) == (False, 0xB8, 5, 0xFFFF, 1)


def test_addresses_go_to_text_and_back() -> None:
    assert ipv4.pack("10.9.0.2") == bytes((10, 9, 0, 2))
    assert ipv4.unpack(bytes((255, 0, 1, 20))) == "255.0.1.20"


@pytest.mark.parametrize("text", ["", "10.9.0", "10.9.0.256", "010.9.0.1", "::1", "host"])
def test_pack_of_what_is_no_address_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ipv4.pack(text)


def test_special_addresses_are_recognised_at_their_bounds() -> None:
    assert [
        ipv4.is_multicast(ipv4.pack(a)) for a in ("223.255.255.255", "224.0.0.0", "239.255.255.255", "240.0.0.0")
    ] == [
        False,
        True,
        True,
        False,
    ]
    assert [ipv4.is_loopback(ipv4.pack(a)) for a in ("126.0.0.1", "127.0.0.1", "127.255.0.9")] == [False, True, True]
    assert ipv4.unpack(ipv4.LIMITED_BROADCAST) == "255.255.255.255"
