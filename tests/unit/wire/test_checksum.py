import pytest

from usertcp.wire import checksum


def test_sum_of_the_rfc_1071_example_is_as_printed() -> None:
    data = bytes.fromhex("0001f203f4f5f6f7")
    assert checksum.sum16(data) == 0xDDF2
    assert checksum.checksum(data) == 0x220D


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (bytes(2), 0),
        (bytes(1500), 0),
        (b"\xff\xff", 0xFFFF),
        (b"\xff\xff\xff\xff", 0xFFFF),
        (b"\x00\x01\xff\xfe", 0xFFFF),  # cancels to minus zero, not to zero
        (b"\x80\x00\x80\x00", 1),  # end-around carry
        (b"\xff\xff\x00\x01", 1),
        (b"\xff" * 65536, 0xFFFF),
    ],
)
def test_sum_at_the_ends_of_the_range_tells_zero_from_minus_zero(data: bytes, expected: int) -> None:
    assert checksum.sum16(data) == expected
    assert checksum.checksum(data) == 0xFFFF - expected


@pytest.mark.parametrize(
    ("data", "expected"), [(b"\x01", 0x0100), (b"\x00\x01\xff", 0xFF01), (b"\xff\xff\xff", 0xFF00)]
)
def test_sum_of_odd_length_is_padded_right(data: bytes, expected: int) -> None:
    assert checksum.sum16(data) == expected


def test_sum_with_a_start_continues_it() -> None:
    assert checksum.sum16(b"\xff\xfe", 1) == 0xFFFF
    assert checksum.sum16(b"\xff\xff", 1) == 1
    assert checksum.sum16(b"", 0x1FFFE) == 0xFFFF


def test_checksum_of_parts_of_odd_length_is_that_of_the_whole() -> None:
    assert checksum.checksum(b"\x01", b"\x02\x03\x04", b"", b"\x05", b"\x06") == checksum.checksum(bytes(range(1, 7)))


@pytest.mark.parametrize("word", [b"\x00\x01", b"\x01\x00", b"\xff\xff", b"\x00\x00"])
def test_checksum_of_a_part_at_an_odd_offset_has_its_bytes_swapped(word: bytes) -> None:
    assert checksum.checksum(b"\x00", word, b"\x00") == checksum.checksum(b"\x00" + word + b"\x00")


def test_finish_folds_any_size() -> None:
    assert checksum.finish(0) == 0xFFFF
    assert checksum.finish(0xFFFF) == 0
    assert checksum.finish(0x1_0000) == 0xFFFE


def test_pseudo_header_sum_is_the_sum_of_its_layout() -> None:
    src, dst = bytes.fromhex("c0000201"), bytes.fromhex("c6336402")
    layout = src + dst + b"\x00\x06" + (1480).to_bytes(2, "big")
    assert checksum.pseudo_header_sum(src, dst, 6, 1480) == checksum.sum16(layout)


def test_pseudo_header_sum_of_ipv6_takes_a_32_bit_length() -> None:
    src, dst = bytes.fromhex("20010db8" + "00" * 11 + "01"), bytes.fromhex("20010db8" + "00" * 11 + "02")
    layout = src + dst + (70000).to_bytes(4, "big") + b"\x00\x00\x00\x06"
    assert checksum.pseudo_header_sum(src, dst, 6, 70000) == checksum.sum16(layout)


def test_update_of_the_rfc_1624_example_gives_zero_not_minus_zero() -> None:
    assert checksum.update(0xDD2F, 0x5555, 0x3285) == 0x0000
