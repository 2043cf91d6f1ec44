import struct
import sys

import pytest

from usertcp.errors import WireError
from usertcp.frame import PLAIN, FrameMeta
from usertcp.wire import vnet

SUPER = FrameMeta(gso_size=1448, csum_start=34, csum_offset=16, header_len=66)


def test_encode_of_a_plain_frame_asks_nothing() -> None:
    assert vnet.encode(PLAIN) == vnet.PLAIN_HEADER == bytes(vnet.HEADER_LEN)


def test_encode_of_a_partial_checksum_asks_for_it() -> None:
    meta = FrameMeta(csum_start=34, csum_offset=16)
    assert vnet.encode(meta) == struct.pack("=BBHHHH", vnet.NEEDS_CSUM, vnet.GSO_NONE, 0, 0, 34, 16)


def test_encode_of_a_super_segment_asks_for_segmentation() -> None:
    expected = struct.pack("=BBHHHH", vnet.NEEDS_CSUM, vnet.GSO_TCPV4, 66, 1448, 34, 16)
    assert vnet.encode(SUPER) == expected
    assert int.from_bytes(expected[4:6], sys.byteorder) == 1448  # the host's order, not the network's


def test_decode_of_a_plain_header_is_the_shared_plain() -> None:
    assert vnet.decode(memoryview(vnet.PLAIN_HEADER)) is PLAIN


@pytest.mark.parametrize("flags", [vnet.NEEDS_CSUM, vnet.DATA_VALID, vnet.NEEDS_CSUM | vnet.DATA_VALID])
def test_decode_of_a_frame_checked_or_never_on_a_wire_vouches_for_it(flags: int) -> None:
    assert vnet.decode(struct.pack("=BBHHHH", flags, 0, 0, 0, 34, 16)).csum_valid


@pytest.mark.parametrize("kind", [vnet.GSO_TCPV4, vnet.GSO_TCPV6, vnet.GSO_TCPV4 | vnet.GSO_ECN])
def test_decode_of_a_tcp_super_segment_gives_the_segment_size(kind: int) -> None:
    meta = vnet.decode(struct.pack("=BBHHHH", vnet.DATA_VALID, kind, 66, 1448, 0, 0))
    assert (meta.gso_size, meta.header_len, meta.csum_valid) == (1448, 66, True)
    assert not vnet.decode(struct.pack("=BBHHHH", 0, kind, 66, 1448, 0, 0)).csum_valid


@pytest.mark.parametrize("kind", [0, 3, 5, 77])
def test_decode_of_other_segmentation_gives_no_segment_size(kind: int) -> None:
    assert vnet.decode(struct.pack("=BBHHHH", vnet.NEEDS_CSUM, kind, 42, 1448, 34, 6)).gso_size == 0


def test_decode_of_what_encode_made_gives_it_back() -> None:
    meta = vnet.decode(vnet.encode(SUPER))
    assert (meta.gso_size, meta.csum_start, meta.csum_offset, meta.header_len) == (1448, 34, 16, 66)


@pytest.mark.parametrize("size", [0, 9])
def test_decode_of_less_than_a_header_is_a_wire_error(size: int) -> None:
    with pytest.raises(WireError, match="truncated"):
        vnet.decode(bytes(size))
