import io
import struct

import pytest

from usertcp.errors import WireError
from usertcp.link import pcap

AT = 1_700_000_000_123_456_789  # ns


def written(*packets: tuple[int, bytes], linktype: int = pcap.ETHERNET) -> bytes:
    file = io.BytesIO()
    writer = pcap.Writer(file, linktype)
    for at, packet in packets:
        writer.write(at, packet)
    writer.flush()
    return file.getvalue()


def read(data: bytes) -> list[tuple[int, bytes]]:
    return list(pcap.Reader(io.BytesIO(data)))


def test_read_of_what_was_written_gives_it_back() -> None:
    packets = [(0, b""), (AT, b"frame"), (AT - 5, bytes(65536))]
    assert read(written(*packets)) == packets


def test_write_of_parts_is_one_packet() -> None:
    file = io.BytesIO()
    pcap.Writer(file).write(AT, b"he", memoryview(b"ad"), bytearray(b"er"))
    assert read(file.getvalue()) == [(AT, b"header")]


def test_write_beyond_the_snaplen_keeps_the_start_and_the_true_length() -> None:
    file = io.BytesIO()
    pcap.Writer(file, snaplen=4).write(AT, b"abcdef")
    assert read(file.getvalue()) == [(AT, b"abcd")]
    assert file.getvalue()[24 + 12 : 24 + 16] == (6).to_bytes(4, "big")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "fraction", "ns"), [(pcap.MAGIC_US, 123456, 123456000), (pcap.MAGIC_NS, 7, 7)])
def test_read_of_either_byte_order_and_unit_gives_nanoseconds(order: str, magic: int, fraction: int, ns: int) -> None:
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, pcap.RAW)
    record = struct.pack(order + "IIII", 3, fraction, 2, 2) + b"ab"
    reader = pcap.Reader(io.BytesIO(head + record))
    assert (reader.linktype, reader.snaplen) == (pcap.RAW, 65535)
    assert list(reader) == [(3_000_000_000 + ns, b"ab")]


def test_open_of_a_file_whose_frames_keep_their_check_sequence_gives_the_bare_link_type() -> None:
    head = struct.pack("<IHHiIII", pcap.MAGIC_US, 2, 4, 0, 0, 65535, 0x2400_0000 | pcap.ETHERNET)
    assert pcap.Reader(io.BytesIO(head)).linktype == pcap.ETHERNET


@pytest.mark.parametrize("data", [b"", b"\xa1\xb2", b"\x0a\x0d\x0d\x0a" + bytes(60), b"not a capture file at all"])
def test_open_of_a_foreign_file_is_a_wire_error(data: bytes) -> None:
    with pytest.raises(WireError, match="not a capture"):
        read(data)


def test_open_of_another_version_is_a_wire_error() -> None:
    data = written()
    with pytest.raises(WireError, match="version"):
        read(data[:5] + b"\x03" + data[6:])


def test_read_of_a_file_cut_anywhere_is_a_wire_error_or_ends_between_records() -> None:
    data = written((1, b"abc"), (2, b"de"))
    whole = {24: 0, 24 + 19: 1, len(data): 2}  # cuts between records, and how many are before
    for cut in range(4, len(data) + 1):
        if cut in whole:
            assert len(read(data[:cut])) == whole[cut]
        else:
            with pytest.raises(WireError, match="truncated"):
                read(data[:cut])


def test_read_of_a_record_of_impossible_length_is_a_wire_error() -> None:
    data = written() + struct.pack(">IIII", 0, 0, pcap.MAX_SNAPLEN + 1, 10)
    with pytest.raises(WireError, match="too long"):
        read(data)
