import pytest

from usertcp.errors import WireError
from usertcp.wire import tcp

SRC, DST = bytes((10, 9, 0, 2)), bytes((10, 9, 0, 1))


def options_of(raw: str) -> tcp.Options:
    return tcp.parse_options(memoryview(bytes.fromhex(raw)))


def segment(options: bytes, flags: int, payload: bytes = b"") -> tcp.Segment:
    """A segment with these option bytes, parsed."""
    head = tcp.header(40000, 80, 0xFFFF_FF00, 1, flags, 512, options)
    return tcp.parse(memoryview(bytes(head) + payload))


def test_header_lays_the_fields_out_as_the_rfc_draws_them() -> None:
    head = tcp.header(0x1234, 0x0050, 0x0102_0304, 0x0506_0708, tcp.PSH | tcp.ACK, 0x0A0B, urg=0x0C0D)
    assert bytes(head) == bytes.fromhex("1234 0050 01020304 05060708 5018 0a0b 0000 0c0d")


def test_header_with_options_counts_them_into_the_data_offset() -> None:
    assert tcp.header(1, 2, 3, 4, tcp.SYN, 5, bytes(4))[12] == 0x60
    assert tcp.header(1, 2, 3, 4, tcp.SYN, 5, b"\x01" * 40)[12] == 0xF0


def test_header_of_numbers_beyond_32_bits_masks_them() -> None:
    seg = tcp.parse(memoryview(tcp.header(1, 2, 0x1_0000_0005, 0x7_FFFF_FFFF, 0, 0)))
    assert (seg.seq, seg.ack) == (5, 0xFFFF_FFFF)


def test_parse_of_a_header_gives_its_fields() -> None:
    head = tcp.header(0x1234, 0x0050, 0x0102_0304, 0x0506_0708, 0x1FF, 0x0A0B, urg=0x0C0D)
    seg = tcp.parse(memoryview(bytes(head) + b"payload"), gso_size=1448)
    assert (seg.sport, seg.dport, seg.seq, seg.ack) == (0x1234, 0x0050, 0x0102_0304, 0x0506_0708)
    assert (seg.flags, seg.wnd, seg.urg, bytes(seg.payload), seg.gso_size) == (0x1FF, 0x0A0B, 0x0C0D, b"payload", 1448)
    assert seg.options is tcp.NO_OPTIONS


@pytest.mark.rfc(9293, "MUST-1")
def test_parse_of_the_largest_window_is_not_negative() -> None:
    assert tcp.parse(memoryview(tcp.header(1, 2, 3, 4, tcp.ACK, 0xFFFF))).wnd == 65535


@pytest.mark.parametrize("options", [b"", tcp.timestamps(1, 2)])
def test_parse_of_reserved_bits_ignores_them(options: bytes) -> None:
    head = tcp.header(1, 2, 3, 4, tcp.ACK, 5, options)
    head[12] |= 0x0E
    assert tcp.parse(memoryview(head)).flags == tcp.ACK


@pytest.mark.rfc(9768, "§3.1.1")
@pytest.mark.parametrize("options", [b"", tcp.timestamps(1, 2)])
def test_header_with_ae_sets_the_bit_before_cwr(options: bytes) -> None:
    head = tcp.header(1, 2, 3, 4, tcp.AE | tcp.ACK, 5, options)
    assert head[12] & 0x0F == 0x01
    assert tcp.parse(memoryview(head)).flags == tcp.AE | tcp.ACK


@pytest.mark.rfc(9768, "§3.2.3")
@pytest.mark.parametrize(
    ("raw", "counters"),
    [
        ("ac 0b 000001 000002 000003", (1, 2, 3)),
        ("ac 08 ffffff 000002", (0xFFFFFF, 2, -1)),
        ("ac 05 000001", (1, -1, -1)),
        ("ac 02", (-1, -1, -1)),
        ("ae 0b 000001 000002 000003", (3, 2, 1)),
        ("ae 08 000001 000002", (-1, 2, 1)),
        ("ae 05 000001", (-1, -1, 1)),
        ("ae 02", (-1, -1, -1)),
        ("ac 04 ffff", (-1, -1, -1)),  # other lengths: the whole fields that fit
        ("ac 07 000001 ffff", (1, -1, -1)),
        ("ae 0a 000001 000002 ffff", (-1, 2, 1)),
        ("ac 10 000001 000002 000003 ffffffffff", (1, 2, 3)),
    ],
)
def test_parse_of_an_accecn_option_of_any_length_gives_its_whole_fields(
    raw: str, counters: tuple[int, int, int]
) -> None:
    options = options_of(raw + "02 04 05 b4")
    assert (options.accecn, options.mss, options.malformed) == (counters, 1460, False)


@pytest.mark.rfc(9768, "§3.2.3")
@pytest.mark.parametrize(
    ("kind", "counters", "expected"),
    [
        (tcp.ACCECN0, (1, 0x2_0000_0002, 3), "01 ac 0b 000001 000002 000003"),
        (tcp.ACCECN1, (1, 2), "ae 08 000001 000002"),
        (tcp.ACCECN0, (0xFFFFFF,), "01 01 01 ac 05 ffffff"),
        (tcp.ACCECN1, (), "01 01 ae 02"),
    ],
)
def test_accecn_option_is_padded_in_front_and_counts_modulo_24_bits(
    kind: int, counters: tuple[int, ...], expected: str
) -> None:
    assert tcp.accecn(kind, counters) == bytes.fromhex(expected)


@pytest.mark.parametrize(
    ("flags", "size", "length"),
    [(tcp.ACK, 0, 0), (tcp.SYN, 0, 1), (tcp.FIN | tcp.ACK, 10, 11), (tcp.SYN | tcp.FIN, 3, 5), (tcp.RST, 4, 4)],
)
def test_length_counts_payload_and_syn_and_fin(flags: int, size: int, length: int) -> None:
    assert segment(b"", flags, bytes(size)).length == length


@pytest.mark.parametrize("size", [0, 1, 12, 19])
def test_parse_of_less_than_a_header_is_a_wire_error(size: int) -> None:
    with pytest.raises(WireError, match="truncated"):
        tcp.parse(memoryview(tcp.header(1, 2, 3, 4, tcp.ACK, 5))[:size])


@pytest.mark.parametrize("words", [0, 1, 4, 6, 7, 8, 15])
def test_parse_of_a_data_offset_outside_the_segment_is_a_wire_error(words: int) -> None:
    head = tcp.header(1, 2, 3, 4, tcp.ACK, 5)
    head[12] = words << 4
    with pytest.raises(WireError, match="data offset"):
        tcp.parse(memoryview(head))


@pytest.mark.rfc(9293, "MUST-4")
def test_parse_of_nop_mss_and_eol_gives_the_mss() -> None:
    options = options_of("01 01 02 04 05 b4 00 00")
    assert (options.mss, options.malformed) == (1460, False)


@pytest.mark.rfc(9293, "MUST-4")
@pytest.mark.rfc(9293, "MUST-69")
def test_parse_of_bytes_after_eol_does_not_interpret_them() -> None:
    options = options_of("01 00 02 04 05 b4 05 00")
    assert (options.mss, options.malformed) == (0, False)


@pytest.mark.rfc(9293, "MUST-5")
@pytest.mark.parametrize("flags", [tcp.SYN, tcp.ACK, tcp.FIN | tcp.ACK, tcp.RST, tcp.PSH | tcp.ACK])
def test_parse_of_options_on_any_segment_reads_them(flags: int) -> None:
    for raw in (tcp.timestamps(7, 9), b"\x08\x0a\0\0\0\x07\0\0\0\x09\x00\x00"):  # the usual layout, and another
        seg = segment(raw, flags, b"data")
        assert (seg.options.has_ts, seg.options.tsval, seg.options.tsecr) == (True, 7, 9)
        assert bytes(seg.payload) == b"data"


@pytest.mark.rfc(9293, "MUST-6")
@pytest.mark.parametrize("kind", [6, 7, 9, 19, 30, 34, 79, 253, 254, 255])
@pytest.mark.parametrize("length", [2, 3, 18, 36])
def test_parse_of_an_unknown_option_skips_it_by_its_length(kind: int, length: int) -> None:
    raw = bytes((kind, length)) + b"\x02" * (length - 2) + b"\x02\x04\x02\x18"
    options = tcp.parse_options(memoryview(raw))
    assert (options.mss, options.malformed) == (536, False)


@pytest.mark.rfc(9293, "MUST-7")
@pytest.mark.parametrize(
    "bad",
    [
        "c8 00",  # length 0
        "c8 01",  # length 1
        "c8 3c",  # beyond the header
        "c8 03",  # just beyond the header
        "c8",  # no room for a length
        "02 03 05",  # MSS of a wrong length
        "02 06 05 b4 00 00",
        "03 02",  # window scale
        "03 04 07 00",
        "04 03 00",  # SACK permitted
        "05 02",  # SACK without a block
        "05 09 00 00 00 01 00 00 00",  # half a block
        "05 0e 00000001 00000002 00000003",
        "08 09 00 00 00 01 00 00 00",  # timestamps
        "08 0a 00 00 00 01 00 00",
    ],
)
def test_parse_of_an_illegal_length_stops_and_keeps_what_came_before(bad: str) -> None:
    options = options_of("02 04 05 b4" + bad)
    assert options.malformed
    assert (options.mss, options.wscale, options.sack_permitted, options.sack, options.has_ts) == (
        1460,
        -1,
        False,
        (),
        False,
    )


@pytest.mark.rfc(9293, "MUST-7")
def test_parse_of_an_illegal_length_in_a_segment_still_gives_the_segment() -> None:
    seg = segment(bytes.fromhex("c8 00 01 01"), tcp.ACK, b"data")
    assert seg.options.malformed
    assert bytes(seg.payload) == b"data"


@pytest.mark.rfc(9293, "MUST-64")
def test_parse_of_options_off_word_boundaries_reads_them() -> None:
    options = options_of("03 03 07 08 0a 00000001 00000002 04 02 02 04 05 b4 05 0a 00000005 00000009")
    assert (options.wscale, options.tsval, options.tsecr, options.sack_permitted) == (7, 1, 2, True)
    assert (options.mss, options.sack, options.malformed) == (1460, ((5, 9),), False)


@pytest.mark.rfc(7323, "§2.3")
def test_parse_of_a_shift_above_14_uses_14() -> None:
    assert options_of("03 03 0e").wscale == 14
    assert options_of("03 03 0f").wscale == 14
    assert options_of("03 03 ff").wscale == 14


@pytest.mark.rfc(7323, "§2.3")
@pytest.mark.parametrize("shift", [0, 7, 14, 15, 255])
@pytest.mark.parametrize("mss", [0, 536, 65495])
def test_parse_of_a_syn_in_the_usual_layout_gives_what_it_gives_in_any_other(mss: int, shift: int) -> None:
    usual = tcp.syn_options(mss, shift, True, (0xFFFF_FFFF, 3))
    assert repr(tcp.parse_options(memoryview(usual))) == repr(tcp.parse_options(memoryview(b"\x01" + usual)))


def test_parse_of_a_repeated_option_takes_the_last() -> None:
    assert options_of("02 04 05 b4 02 04 02 18").mss == 536


def test_parse_of_sack_blocks_keeps_their_order() -> None:
    blocks = ((30, 40), (0xFFFF_FFF0, 5), (10, 20), (1, 2))
    assert tcp.parse_options(memoryview(tcp.sack(blocks))).sack == blocks


@pytest.mark.parametrize(
    ("mss", "wscale", "sack_permitted", "ts", "expected"),
    [
        (1460, 7, True, (100, 0), "020405b4 0402080a 00000064 00000000 01030307"),
        (1460, -1, False, None, "020405b4"),
        (536, 0, True, None, "02040218 01010402 01030300"),
        (536, 14, False, (1, 2), "02040218 0101080a 00000001 00000002 0103030e"),
        (65535, -1, True, (1, 2), "0204ffff 0402080a 00000001 00000002"),
    ],
)
def test_syn_options_are_laid_out_in_words(
    mss: int, wscale: int, sack_permitted: bool, ts: tuple[int, int] | None, expected: str
) -> None:
    assert tcp.syn_options(mss, wscale, sack_permitted, ts) == bytes.fromhex(expected)


def test_timestamps_are_in_the_layout_everybody_sends() -> None:
    assert tcp.timestamps(1, 0xFFFF_FFFF) == bytes.fromhex("0101080a 00000001 ffffffff")
    assert len(tcp.timestamps(0, 0)) == tcp.TIMESTAMPS_LEN


def test_timestamps_with_three_sack_blocks_fill_the_header() -> None:
    raw = tcp.timestamps(1, 2) + tcp.sack([(1, 2), (3, 4), (5, 6)])
    assert len(raw) == tcp.MAX_OPTIONS_LEN
    seg = segment(raw, tcp.ACK)
    assert (seg.options.tsval, seg.options.sack, len(seg.payload)) == (1, ((1, 2), (3, 4), (5, 6)), 0)


@pytest.mark.rfc(9293, "MUST-2")
def test_checksum_over_views_that_split_at_odd_bytes_is_that_of_the_whole() -> None:
    head = tcp.header(1, 2, 3, 4, tcp.ACK, 5)
    data = bytes(range(1, 12))
    whole = tcp.checksum(SRC, DST, head, [memoryview(data)])
    assert tcp.checksum(SRC, DST, head, [memoryview(data)[:3], memoryview(data)[3:]]) == whole
    head[16:18] = whole.to_bytes(2, "big")
    assert tcp.verify(SRC, DST, memoryview(bytes(head) + data))


@pytest.mark.rfc(9293, "MUST-3")
@pytest.mark.parametrize("bit", range(0, 23 * 8, 5))
def test_verify_of_a_segment_with_one_bit_flipped_fails(bit: int) -> None:
    head = tcp.header(1, 2, 3, 4, tcp.ACK, 5)
    check = tcp.checksum(SRC, DST, head, [memoryview(b"odd")])
    head[16:18] = check.to_bytes(2, "big")
    damaged = bytearray(bytes(head) + b"odd")
    damaged[bit >> 3] ^= 1 << (bit & 7)
    assert not tcp.verify(SRC, DST, memoryview(damaged))


@pytest.mark.rfc(9293, "MUST-3")
def test_verify_of_a_segment_from_another_address_fails() -> None:
    head = tcp.header(1, 2, 3, 4, tcp.ACK, 5)
    head[16:18] = tcp.checksum(SRC, DST, head, []).to_bytes(2, "big")
    assert tcp.verify(SRC, DST, memoryview(head))
    assert not tcp.verify(SRC, bytes((10, 9, 0, 3)), memoryview(head))


def test_checksum_and_verify_take_ipv6_addresses() -> None:
    src, dst = bytes(15) + b"\x01", bytes(15) + b"\x02"
    head = tcp.header(1, 2, 3, 4, tcp.ACK, 5)
    head[16:18] = tcp.checksum(src, dst, head, []).to_bytes(2, "big")
    assert tcp.verify(src, dst, memoryview(head))


def test_repr_of_a_segment_shows_numbers_not_data() -> None:
    shown = repr(segment(tcp.timestamps(7, 9), tcp.ACK, b"secret"))
    assert "tsval=7" in shown
    assert "payload=6 bytes" in shown
    assert "secret" not in shown
