"""Capture files in the classic pcap format, as tcpdump and Wireshark read and write them.

    file    | magic 4 | major 2 | minor 2 | zone 4 | accuracy 4 | snaplen 4 | link type 4 |
    record  | seconds 4 | fraction 4 | captured bytes 4 | bytes on the wire 4 | captured bytes ... |

The magic tells the byte order of all the rest, and whether the fraction counts microseconds or nanoseconds. Written are
nanoseconds in big-endian order. Not pcapng, and no compression.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

from usertcp.errors import WireError
from usertcp.units import SEC

Buffer = bytes | bytearray | memoryview

ETHERNET: Final = 1  # link types: LINKTYPE_ETHERNET
RAW: Final = 101  # LINKTYPE_RAW: bare IP packets

MAGIC_US: Final = 0xA1B2C3D4
MAGIC_NS: Final = 0xA1B23C4D
MAX_SNAPLEN: Final = 262144  # bytes a record may have: libpcap's limit, and what keeps a bad file from filling memory

_MAGIC: Final = struct.Struct(">I")
_FILE: Final = {order: struct.Struct(order + "HHiIII") for order in "<>"}
_RECORD: Final = {order: struct.Struct(order + "IIII") for order in "<>"}
_FORMATS: Final = {  # the four magic bytes: byte order, nanoseconds in the fraction's unit
    struct.pack(order + "I", magic): (order, unit)
    for order in "<>"
    for magic, unit in ((MAGIC_US, 1000), (MAGIC_NS, 1))
}


class Writer:
    """Writes packets to a file opened for binary writing, which stays the caller's to close."""

    def __init__(self, file: BinaryIO, linktype: int = ETHERNET, snaplen: int = MAX_SNAPLEN) -> None:
        """``snaplen``: bytes of a packet that are kept, at most."""
        self._file = file
        self._snaplen = snaplen
        file.write(_MAGIC.pack(MAGIC_NS) + _FILE[">"].pack(2, 4, 0, 0, snaplen, linktype))

    def write(self, at_ns: int, *parts: Buffer) -> None:
        """One packet, the concatenation of ``parts``, at a time in nanoseconds (since 1970, if it is to be a date)."""
        packet = b"".join(parts)
        kept = packet[: self._snaplen]
        seconds, fraction = divmod(at_ns, SEC)
        self._file.write(_RECORD[">"].pack(seconds & 0xFFFF_FFFF, fraction, len(kept), len(packet)) + kept)

    def flush(self) -> None:
        """Hand what is written to the operating system."""
        self._file.flush()


class Reader:
    """Iterates over ``(at_ns, packet)`` of a file opened for buffered binary reading.

    ``linktype`` and ``snaplen`` are the file's. WireError: not a pcap file, or one that ends in mid-record.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        form = _FORMATS.get(file.read(4))
        if form is None:
            raise WireError("pcap: not a capture file")
        self._order, self._unit = form
        fields = _FILE[self._order]
        major, _, _, _, self.snaplen, linktype = fields.unpack(self._exactly(fields.size))
        if major != 2:
            raise WireError("pcap: unknown version")
        self.linktype = linktype & 0xFFFF  # above: whether, and how long, a frame check sequence is kept

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        fields = _RECORD[self._order]
        while start := self._file.read(1):
            seconds, fraction, kept, _ = fields.unpack(start + self._exactly(fields.size - 1))
            if kept > MAX_SNAPLEN:
                raise WireError("pcap: record too long")
            yield seconds * SEC + fraction * self._unit, self._exactly(kept)

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise WireError("pcap: truncated")
        return data
