"""The fuzz target ``parsers``: everything that reads bytes or text from outside, one parser an input.

The first byte chooses the parser, the rest is what it reads. Each may raise the one error that it declares, and
nothing else; what it accepts must be built again to what was read; where scapy knows the format it has to read the
same fields. What a client may send to an engine, and what the other end of a measurement says, is here as well.
"""

import io
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.l2 import ARP, Ether

from usertcp.driver import messages, options
from usertcp.driver.addresses import resolve
from usertcp.errors import SetupError, WireError
from usertcp.link import pcap
from usertcp.net.segmentation import split
from usertcp.perf import protocol
from usertcp.pkt import parser as scripts
from usertcp.pkt import tcp_options, text
from usertcp.pkt.syntax import ScriptError
from usertcp.tcp.config import TcpConfig
from usertcp.wire import arp, ethernet, icmp, ipv4, tcp, vnet
from usertcp.wire.checksum import checksum, sum16

FLAGS: Final = 0x1FF


def run(data: bytes) -> None:
    """One input."""
    if data:
        READERS[data[0] % len(READERS)](data[1:])


def _ethernet(data: bytes) -> None:
    try:
        header = ethernet.parse(data)
    except WireError:
        assert len(data) < ethernet.HEADER_LEN
        return
    assert ethernet.header(*header) == data[: ethernet.HEADER_LEN]
    theirs = Ether(data[: ethernet.HEADER_LEN])
    if header.ethertype > 1500:  # below it is a length to scapy: IEEE 802.3
        assert (theirs.dst, theirs.src, theirs.type) == (header.dst.hex(":"), header.src.hex(":"), header.ethertype)


def _arp(data: bytes) -> None:
    try:
        message = arp.parse(data)
    except WireError:
        assert len(data) < arp.LEN or data[:6] != b"\0\1\x08\0\6\4"
        return
    assert arp.build(message) == data[: arp.LEN]
    theirs = ARP(data[: arp.LEN])
    assert (theirs.op, theirs.hwsrc, theirs.hwdst) == (message.op, message.sha.hex(":"), message.tha.hex(":"))
    assert (theirs.psrc, theirs.pdst) == (ipv4.unpack(message.spa), ipv4.unpack(message.tpa))


def _mended(data: bytes, at: int, size: int) -> bytes:
    """``data`` with the right Internet checksum over its first ``size`` bytes at ``at``, or as it is."""
    if len(data) < at + 2 or not data[-1] & 1:
        return data
    zeroed = data[:at] + b"\0\0" + data[at + 2 :]
    return data[:at] + checksum(zeroed[:size]).to_bytes(2, "big") + data[at + 2 :]


def _ipv4(data: bytes) -> None:
    data = _mended(data, 10, (data[0] & 15) * 4 if data else 0)
    try:
        packet = ipv4.parse(memoryview(data))
    except WireError:
        return
    assert 20 <= packet.header_len <= packet.total_len <= len(data)
    assert bytes(packet.payload) == data[packet.header_len : packet.total_len]
    if packet.header_len == ipv4.HEADER_LEN:
        theirs = IP(data[:20])
        assert (theirs.version, theirs.ihl * 4, theirs.len) == (4, packet.header_len, packet.total_len)
        assert (theirs.src, theirs.dst, theirs.proto) == (
            ipv4.unpack(packet.src),
            ipv4.unpack(packet.dst),
            packet.proto,
        )
        assert (theirs.ttl, theirs.tos, theirs.id) == (packet.ttl, packet.tos, packet.ident)
        assert theirs.frag * 8 == packet.fragment_offset
        assert ("DF" in theirs.flags, "MF" in theirs.flags) == (packet.df, packet.more_fragments)
        if not packet.fragment_offset and not packet.more_fragments and not int(theirs.flags) & 4:
            header = ipv4.header(
                packet.src,
                packet.dst,
                packet.proto,
                packet.total_len - 20,
                ident=packet.ident,
                ttl=packet.ttl,
                tos=packet.tos,
                df=packet.df,
            )
            assert header[:10] + header[12:] == data[:10] + data[12:20]


def _icmp(data: bytes) -> None:
    data = _mended(data, 2, len(data))
    try:
        message = icmp.parse(memoryview(data))
    except WireError:
        return
    if isinstance(message, icmp.Other):
        assert (message.type, message.code, bytes(message.body)) == (data[0], data[1], data[icmp.HEADER_LEN :])
        return
    theirs = ICMP(data[: icmp.HEADER_LEN])
    if isinstance(message, icmp.Echo):
        assert icmp.echo(message.request, message.ident, message.sequence, message.payload)[4:] == data[4:]
        assert (theirs.id, theirs.seq) == (message.ident, message.sequence)
        return
    assert (theirs.type, theirs.code) == (message.type, message.code)
    assert len(message.src) == len(message.dst) == 4
    assert len(message.embedded) >= icmp.EMBEDDED_MIN
    assert data.endswith(bytes(message.embedded))
    if theirs.type == icmp.DESTINATION_UNREACHABLE and theirs.code == icmp.FRAGMENTATION_NEEDED:
        assert theirs.nexthopmtu == message.mtu


def _tcp(data: bytes) -> None:
    try:
        seg = tcp.parse(memoryview(data))
    except WireError:
        assert len(data) < 20 or (offset := data[12] >> 4 << 2) < 20 or offset > len(data)
        return
    offset = data[12] >> 4 << 2
    assert bytes(seg.payload) == data[offset:]
    raw = bytes(data[20:offset])
    built = tcp.header(seg.sport, seg.dport, seg.seq, seg.ack, seg.flags, seg.wnd, raw, seg.urg)
    assert built[:12] + built[13:16] == data[:12] + data[13:16]
    assert text.render(seg)
    with suppress(struct.error):  # scapy wants the two numbers of a TCP-AO option, which may not be there
        theirs = TCP(data[:offset])
        assert (theirs.sport, theirs.dport, theirs.seq, theirs.ack) == (seg.sport, seg.dport, seg.seq, seg.ack)
        assert (int(theirs.flags) & FLAGS, theirs.window, theirs.urgptr) == (seg.flags, seg.wnd, seg.urg)
        _same_options(seg.options, theirs.options)
    src, dst = ipv4.pack("10.9.0.1"), ipv4.pack("10.9.0.2")
    head = bytearray(data[:offset])
    head[16:18] = bytes(2)
    head[16:18] = tcp.checksum(src, dst, head, [seg.payload]).to_bytes(2, "big")
    assert tcp.verify(src, dst, memoryview(bytes(head) + data[offset:]))


def _same_options(ours: tcp.Options, theirs: list[tuple[Any, Any]]) -> None:
    """What scapy reads of the options we read, too. A list that is malformed is not compared: scapy reads on."""
    if ours.malformed:
        return
    known = {name: value for name, value in theirs if isinstance(name, str)}
    assert known.get("MSS", 0) == ours.mss
    assert ("SAckOK" in known) == ours.sack_permitted
    assert (-1 if "WScale" not in known else min(known["WScale"], tcp.MAX_WSCALE)) == ours.wscale
    if ours.has_ts:
        assert known["Timestamp"] == (ours.tsval, ours.tsecr)
    if ours.sack:
        assert known["SAck"] == tuple(edge for block in ours.sack for edge in block)


def _tcp_options(data: bytes) -> None:
    """Both readers of options: the connection's, and the one of scripts, which keeps the order."""
    data = data[: tcp.MAX_OPTIONS_LEN]
    summary = tcp.parse_options(memoryview(data))
    assert 0 <= summary.mss <= 0xFFFF
    assert -1 <= summary.wscale <= tcp.MAX_WSCALE
    assert len(summary.sack) <= len(data) // 8
    listed = tcp_options.decode(memoryview(data))
    assert tcp_options.render(listed) or not listed
    if not summary.malformed and len(data) % 4 == 0:
        encoded = tcp_options.encode(listed)
        again = tcp.parse_options(memoryview(encoded))
        assert repr(again) == repr(summary)


def _vnet(data: bytes) -> None:
    try:
        meta = vnet.decode(data)
    except WireError:
        assert len(data) < vnet.HEADER_LEN
        return
    if meta.csum_start and meta.gso_size:
        again = vnet.decode(vnet.encode(meta))
        assert (again.gso_size, again.csum_start, again.csum_offset) == (
            meta.gso_size,
            meta.csum_start,
            meta.csum_offset,
        )


def _pcap(data: bytes) -> None:
    try:
        reader = pcap.Reader(io.BytesIO(data))
        packets = list(reader)
    except WireError:
        return
    assert sum(len(packet) + 16 for _, packet in packets) + 24 == len(data)
    file = io.BytesIO()
    writer = pcap.Writer(file, reader.linktype)
    for at, packet in packets:
        writer.write(at, packet)
    file.seek(0)
    assert [packet for _, packet in pcap.Reader(file)] == [packet for _, packet in packets]


def _text(data: bytes) -> None:
    line = data.decode("latin-1")
    try:
        seg = text.parse(line)
    except WireError:
        return
    shown = text.render(seg)
    assert text.render(text.parse(shown)) == shown


def _checksum(data: bytes) -> None:
    start = data[0] if data else 0
    words = data + b"\0" * (len(data) & 1)
    total = sum(struct.unpack(f"!{len(words) // 2}H", words)) + start
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert sum16(data, start) == total


def _split(data: bytes) -> None:
    """A super-segment, cut as a device would: the text is whole, the numbers go on, FIN and PSH are at the end."""
    if len(data) < 6:
        return
    flags, size, seq = data[0] & (tcp.FIN | tcp.PSH | tcp.CWR), 1 + data[1], int.from_bytes(data[2:6], "big")
    payload = data[6:] * 3
    if not payload:
        return
    header = tcp.header(1, 2, seq, 5, flags | tcp.ACK, 100)
    parts, at = [], 0
    for views in split(header, [memoryview(payload)], len(payload), size):
        piece = tcp.parse(memoryview(bytes(header)))
        assert piece.seq == (seq + at) & 0xFFFF_FFFF
        joined = b"".join(views)
        at += len(joined)
        assert piece.flags & tcp.FIN == (flags & tcp.FIN if at == len(payload) else 0)
        assert len(joined) == size or at == len(payload)
        parts.append(joined)
    assert b"".join(parts) == payload


def _script(data: bytes) -> None:
    try:
        script = scripts.parse(data.decode("latin-1"))
    except ScriptError as error:
        assert str(error)
        return
    assert script.events


def _request(data: bytes) -> None:
    """The head of a connect request, and what a program may ask an engine for."""
    try:
        message = messages.parse_request(data)
    except messages.MALFORMED:
        return
    if message is not None:
        assert messages.decode(messages.encode(message)) == message


def _message(data: bytes) -> None:
    """A control message, its address, its identity and its options."""
    try:
        message = messages.decode(data)
    except messages.MALFORMED:
        return
    for reads in (messages.address, messages.owner, messages.inode, options.Options.load):
        for value in message.values():
            try:
                found: Any = reads(value)
            except (OSError, *messages.MALFORMED):
                continue
            if isinstance(found, options.Options):
                assert options.Options.load(found.dump()).dump() == found.dump()
                found.config(TcpConfig())


def _name(data: bytes) -> None:
    """What the kernel says a socket is called: anybody may choose that."""
    for raw in (data, messages.PREFIX + data):
        found = messages.parse_name(raw)
        if raw.isascii() and found is not None and found.local is not None and found.remote is not None:
            assert messages.peer_name(found.token, found.ident, found.local, found.remote) == raw


def _address(data: bytes) -> None:
    """An address as a program writes it: numeric hosts alone, since names are the system's."""
    host = "".join(chr(byte) for byte in data[1:] if chr(byte) in "0123456789abcdefABCDEFx.:%")
    for six in (False, True):
        try:
            found = resolve((host + ".1", data[0] if data else 0), "connect", six)
        except (OSError, TypeError, OverflowError):
            continue
        assert ipv4.unpack(ipv4.pack(found[0])) == found[0]


class _Said:
    """A connection on which ``data`` comes, and then the end."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def recv_into(self, buffer: bytearray | memoryview, /) -> int:
        return self._file.readinto(buffer)


def _perf(data: bytes) -> None:
    """The other end of a measurement."""
    conn: Any = _Said(data[1:])
    try:
        match data[0] % 3 if data else 0:
            case 0:
                protocol.greeted(conn)
            case 1:
                protocol.Control(conn).receive_test()
            case _:
                protocol.Control(conn).receive_result()
    except SetupError as error:
        assert error.cure


READERS: Final[tuple[Callable[[bytes], None], ...]] = (
    _tcp,
    _tcp_options,
    _ipv4,
    _icmp,
    _arp,
    _ethernet,
    _vnet,
    _pcap,
    _text,
    _checksum,
    _split,
    _script,
    _request,
    _message,
    _name,
    _address,
    _perf,
)
