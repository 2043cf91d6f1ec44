"""Between a script's numbers and the wire's, one connection at a time.

A script counts sequence numbers from each side's SYN, as packetdrill does. On the wire the peer, which is us, begins
just before 2^32, so that every script crosses the wrap; where the stack begins is read off its SYN, and off the first
segment if there is none. The peer's timestamps are sent as they are written; the stack's are those that the script has
given names: ``TS val 100`` stands for whatever it sent there, and ``ecr 100`` later for the same.

A connection is known by the peer's port. The stack's own is the one that was bound, or is read off what it sends.
"""

from dataclasses import dataclass, field
from typing import Final

from usertcp.pkt.syntax import IcmpPacket, IpInfo, Settings, TcpOption, TcpPacket
from usertcp.pkt.tcp_options import decode, encode, moved
from usertcp.units import MASK32
from usertcp.wire import icmp, ipv4, tcp
from usertcp.wire.ecn import MASK
from usertcp.wire.tcp import SYN

PEER_ISN: Final = 0xFFFF_F000  # where the peer's numbers begin: the wrap comes after 4 KiB


@dataclass(frozen=True, slots=True)
class Seen:
    """A segment that the stack sent. ``seq``, ``ack`` and ``numbers`` of options are the wire's.

    ``faults``  what is wrong with it however it was expected, in words
    """

    at: int
    src: bytes
    dst: bytes
    tos: int
    ttl: int
    sport: int
    dport: int
    flags: int
    seq: int
    ack: int
    win: int
    urg: int
    options: tuple[TcpOption, ...]
    text: bytes
    faults: tuple[str, ...] = ()


@dataclass(slots=True)
class Flow:
    """One connection's numbers.

    ``local_isn``  the stack's first number on the wire; 0 as long as it is not known
    ``opening``    a SYN is on its way: the next SYN of the stack's says where it begins
    ``stamps``     the stack's timestamps by the script's
    ``last``       the newest segment of the stack's
    """

    port: int
    local_port: int
    local_isn: int = 0
    opening: bool = True
    stamps: dict[int, int] = field(default_factory=dict)
    last: Seen | None = None

    # -- in ----------------------------------------------------------------------------------------------------------

    def build(self, packet: TcpPacket, settings: Settings, src: bytes, dst: bytes) -> bytes:
        """The IP packet that a script's inbound ``packet`` is."""
        if packet.flags & SYN:
            self.opening = True
        options = moved(packet.options or (), self._to_local, lambda val, ecr: (val, self._stamp(ecr)))
        ack = 0 if packet.ack is None else self._to_local(packet.ack)
        seq = packet.seq + PEER_ISN & MASK32
        header = tcp.header(
            self.port, self.local_port, seq, ack, packet.flags, packet.win or 0, encode(options), packet.urg or 0
        )
        text = pattern(packet.seq + (packet.flags >> 1 & 1), packet.length)  # a SYN stands before its text
        check = tcp.checksum(src, dst, header, [memoryview(text)])
        header[tcp.CHECKSUM_OFFSET : tcp.CHECKSUM_OFFSET + 2] = check.to_bytes(2, "big")
        return _ip(src, dst, ipv4.TCP, bytes(header) + text, packet.ip)

    def build_icmp(self, packet: IcmpPacket, src: bytes, dst: bytes) -> bytes:
        """The ICMP error about a segment of the stack's: the one the script names, or the last."""
        if packet.seq is not None:
            seq, size = self._to_local(packet.seq), packet.length
        else:
            seq, size = (self.last.seq, len(self.last.text)) if self.last is not None else (self.local_isn, 0)
        segment = bytes(tcp.header(self.local_port, self.port, seq, 0, tcp.ACK, 0)) + bytes(size)
        about = ipv4.header(dst, src, ipv4.TCP, len(segment)) + segment
        message = icmp.error(packet.kind, packet.code, memoryview(about), packet.mtu)
        return _ip(src, dst, ipv4.ICMP, message, packet.ip)

    def _to_local(self, number: int) -> int:
        return number + self.local_isn & MASK32

    def _stamp(self, ecr: int) -> int:
        """The wire's value of a timestamp that the script echoes: by its name, or as far from one as it says."""
        if ecr in self.stamps or not self.stamps:
            return self.stamps.get(ecr, ecr)
        name = next(reversed(self.stamps))
        return self.stamps[name] + ecr - name & MASK32

    # -- out ---------------------------------------------------------------------------------------------------------

    def meet(self, seen: Seen, script_seq: int) -> None:
        """``seen`` was expected with the number ``script_seq``: learn what it tells."""
        if seen.flags & SYN and self.opening:
            self.local_isn = seen.seq - script_seq & MASK32
            self.opening = False
            self.stamps.clear()
        self.local_port = seen.sport
        self.last = seen

    def seq_of(self, seen: Seen) -> int:
        """The script's number of what the stack sent."""
        return seen.seq - self.local_isn & MASK32

    def ack_of(self, seen: Seen) -> int:
        """The script's number of what it acknowledges."""
        return seen.ack - PEER_ISN & MASK32

    def options_of(self, seen: Seen) -> tuple[TcpOption, ...]:
        """Its options with the script's numbers; a timestamp that has no name yet stays as it is."""
        return moved(seen.options, lambda edge: edge - PEER_ISN & MASK32, lambda val, ecr: (self.stamp_of(val), ecr))

    def stamp_of(self, val: int) -> int:
        """The script's number of the stack's timestamp ``val``: as far from the last that has a name as on the wire."""
        if not self.stamps:
            return val
        name = next(reversed(self.stamps))
        return val - self.stamps[name] + name & MASK32

    def name_stamp(self, name: int, val: int) -> None:
        """``val`` on the wire is what the script calls ``name``, from now on."""
        self.stamps.pop(name, None)
        self.stamps[name] = val


def _ip(src: bytes, dst: bytes, proto: int, payload: bytes, info: IpInfo) -> bytes:
    tos = (info.tos or 0) | (info.ecn[0] if info.ecn else 0)
    return ipv4.header(src, dst, proto, len(payload), tos=tos, ttl=info.ttl or 64) + payload


def pattern(start: int, length: int) -> bytes:
    """The text of sequence numbers from ``start`` on: what a script does not write out, and both ends send."""
    first = start % _PERIOD
    times = (first + length) // _PERIOD + 1
    return (_PATTERN * times)[first : first + length]


_PATTERN: Final = bytes(range(251))  # a prime: no shift by a power of two, nor by 1000 or 1460, looks the same
_PERIOD: Final = len(_PATTERN)


def read(packet: bytes, at: int) -> Seen | None:
    """The segment in an IP packet that the stack sent; None: it carries something else. WireError: no packet at all."""
    ip = ipv4.parse(memoryview(packet))
    if ip.proto != ipv4.TCP:
        return None
    view = ip.payload
    segment = tcp.parse(view)
    faults = []
    if not tcp.verify(ip.src, ip.dst, view):
        faults.append("its checksum is wrong")
    if segment.options.malformed:
        faults.append("its options are malformed")
    offset = len(view) - len(segment.payload)
    return Seen(
        at,
        ip.src,
        ip.dst,
        ip.tos,
        ip.ttl,
        segment.sport,
        segment.dport,
        segment.flags,
        segment.seq,
        segment.ack,
        segment.wnd,
        segment.urg,
        decode(view[tcp.HEADER_LEN : offset]),
        bytes(segment.payload),
        tuple(faults),
    )


def joined(first: Seen, second: Seen) -> Seen | None:
    """Two segments as the one that a script may write for them: the second goes on where the first ends, and differs in
    nothing else but PSH and FIN, which are the second's: where a stack pushes on the way is its own affair. None
    otherwise."""
    last = tcp.PSH | tcp.FIN
    if second.seq != (first.seq + len(first.text)) & MASK32 or not first.text or first.flags & tcp.FIN:
        return None
    same = (first.dport, first.sport, first.ack, first.win, first.urg, first.options, first.tos, first.ttl)
    if same != (second.dport, second.sport, second.ack, second.win, second.urg, second.options, second.tos, second.ttl):
        return None
    if first.flags & ~last != second.flags & ~last:
        return None
    return Seen(
        first.at,
        first.src,
        first.dst,
        first.tos,
        first.ttl,
        first.sport,
        first.dport,
        second.flags,
        first.seq,
        first.ack,
        first.win,
        first.urg,
        first.options,
        first.text + second.text,
        first.faults + second.faults,
    )


def code_point(seen: Seen) -> int:
    """The ECN field."""
    return seen.tos & MASK
