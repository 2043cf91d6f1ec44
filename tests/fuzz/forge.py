"""Frames that nobody sent: valid ones, bent by the fuzzer's bytes.

Sequence and acknowledgment numbers are told as an *anchor* of the victim's connection (the edges of its windows, what
it sent first) and a distance from it, so that few bytes are enough to come close to where things change.

:func:`is_harmless` is the other half: which forged segment a TCP as RFC 9293, RFC 5961 and RFC 7323 ask for can tell
from its peer's. It is written from those texts and not from the code under test.
"""

from typing import Final

from tests.fuzz.feed import Feed
from tests.fuzz.world import EVIL, MACS, NEAR, PEER, World
from usertcp.frame import PLAIN, FrameMeta
from usertcp.tcp.connection import Connection
from usertcp.tcp.state import State
from usertcp.units import MASK32
from usertcp.wire import arp, ethernet, icmp, ipv4, tcp
from usertcp.wire.tcp import ACK, FIN, RST, SYN

ADDRESSES: Final = (PEER, EVIL, NEAR, ipv4.pack("10.9.0.255"), ipv4.pack("127.0.0.1"), ipv4.pack("192.0.2.9"), bytes(4))
PROTOCOLS: Final = (ipv4.TCP, ipv4.UDP, ipv4.ICMP, 2, 255)
FORGED: Final = b"\xee" * 70_000
MD5: Final = bytes((19, 18)) + bytes(16)  # RFC 2385, which is not known here
SYNCHRONIZED: Final = (
    State.ESTABLISHED,
    State.FIN_WAIT_1,
    State.FIN_WAIT_2,
    State.CLOSE_WAIT,
    State.CLOSING,
    State.LAST_ACK,
    State.TIME_WAIT,
)
LENGTHS: Final = (0, 0, 0, 1, 2, 100, 536, 1460, 1400, 4000)


class Forgery:
    """A segment for the victim ``conn`` (None: for nobody), by one record: 14 bytes of it."""

    def __init__(self, feed: Feed, conn: Connection | None, ports: tuple[int, int], now: int) -> None:
        """``ports``: source and destination when there is no connection."""
        self.conn = conn
        self.flags = feed.byte()
        extra = feed.byte()
        self.flags |= (extra & 1) << 8
        self.bad_checksum = bool(extra & 2) and bool(extra & 4)
        self.gso = bool(extra & 8) and bool(extra & 16)
        self.code = extra >> 5 & 3
        self.ports = ports
        if conn is not None:
            self.ports = (int.from_bytes(conn.flow.key[8:10], "big"), conn.flow.binding.port)
        self.seq = self._anchor(feed.byte(), "rcv") + feed.signed()
        self.ack = self._anchor(feed.byte(), "snd") + feed.signed()
        self.wnd = feed.number()
        self.length = LENGTHS[feed.byte() % len(LENGTHS)]
        self.options = self._options(feed.byte(), feed.number(), now)

    def _anchor(self, which: int, side: str) -> int:
        conn = self.conn
        if conn is None:
            return which << 24
        snd, rcv = conn.snd, conn.rcv
        here = (rcv.nxt, rcv.edge, rcv.irs, rcv.buffer.top, rcv.nxt - 1, rcv.nxt + (1 << 31))
        there = (snd.nxt, snd.una, snd.una - snd.max_wnd, snd.iss, snd.nxt + 1, snd.una + (1 << 31))
        return (here if side == "rcv" else there)[which % 6]

    def _options(self, which: int, distance: int, now: int) -> bytes:
        conn = self.conn
        out = b""
        if which & 1:
            tsval = conn.rcv.ts_recent if conn is not None else now // 1_000_000
            tsecr = conn.ts_now(now) if conn is not None else 0
            skew = (distance >> 8) - 128 if which & 2 else 0
            if which & 64:  # so far that the peer's own do not come up to it within the story
                skew <<= 23
            out += tcp.timestamps(tsval + skew & MASK32, tsecr - (distance & 0xFF if which & 4 else 0) & MASK32)
        if which & 8 and conn is not None:
            left = conn.snd.una + (distance << 2 if which & 2 else distance & 0xFFF)
            blocks = [(left + 3000 * n & MASK32, left + 3000 * n + 1 + (distance & 0x7FF) & MASK32) for n in range(2)]
            out += tcp.sack(blocks if which & 4 else blocks[:1])
        if which & 16:
            out += tcp.syn_options(distance, distance & 15 if which & 2 else -1, bool(which & 4), None)
        if which & 32:
            kind = tcp.ACCECN0 if which & 2 else tcp.ACCECN1
            out += tcp.accecn(kind, [distance, distance >> 3, distance << 3][: distance & 3])
        if which & 64:
            out += MD5
        if which & 128:
            out += distance.to_bytes(2, "big") + bytes((which, distance & 7))
        out = out[: tcp.MAX_OPTIONS_LEN]
        return out + bytes(-len(out) & 3)

    @property
    def text(self) -> bytes:
        return FORGED[: self.length]

    def frame(self, source: bytes, to: bytes, ether: bool, mutation: int = 0) -> tuple[bytes, FrameMeta]:
        """The frame from ``source`` for the host ``to``."""
        head = tcp.header(*self.ports, self.seq, self.ack, self.flags, self.wnd, self.options, self.wnd >> 3)
        check = tcp.checksum(source, to, head, [memoryview(self.text)])
        head[16:18] = (check ^ self.bad_checksum).to_bytes(2, "big")
        packet = ipv4.header(source, to, ipv4.TCP, len(head) + self.length, tos=self.code) + head + self.text
        meta = FrameMeta(gso_size=536) if self.gso and self.length > 536 else PLAIN
        return framed(packet, source, to, ether), meta

    def is_harmless(self) -> bool:
        """Whether the victim is asked, by the standards, to see that it is not its peer's.

        RFC 9293 §3.10.7.4 first and fifth, RFC 5961 §3 to §5, RFC 7323 §3.2 and §5.3.
        """
        if self.bad_checksum:
            return True
        conn = self.conn
        if conn is None or conn.state not in SYNCHRONIZED:
            return False
        snd, rcv = conn.snd, conn.rcv
        seq, ack = rcv.absolute(self.seq & MASK32), snd.absolute(self.ack & MASK32)
        if self.flags & RST:
            return seq != rcv.nxt
        if self.flags & SYN:
            return conn.state is not State.TIME_WAIT
        if not self.flags & ACK:
            return True
        if conn.ts_ok and not self._has_timestamps():
            return True
        if ack > snd.nxt or ack < snd.una - snd.max_wnd:
            return True
        size = self.length + (self.flags & FIN)
        if not size and seq == rcv.nxt - 1:  # an answer to a probe, of which the acknowledgment counts
            return False
        if rcv.edge == rcv.nxt:
            return seq != rcv.nxt
        return seq >= rcv.edge or (seq + size <= rcv.nxt if size else seq < rcv.nxt)

    def _has_timestamps(self) -> bool:
        return tcp.parse_options(memoryview(self.options)).has_ts


def framed(packet: bytes, source: bytes, to: bytes, ether: bool) -> bytes:
    """``packet`` as it comes to the host ``to``."""
    if not ether:
        return packet
    return ethernet.header(MACS[to], MACS.get(source, MACS[EVIL]), ethernet.IPV4) + packet


def complaint(feed: Feed, conn: Connection | None, world: World) -> bytes:
    """An ICMP message: about a segment of near's ``conn``, or an echo, or neither."""
    kind, code = feed.byte() % 20, feed.byte() % 16
    which, distance, mtu = feed.byte(), feed.signed(), feed.number()
    if conn is not None and which & 1:
        seq = (conn.snd.una if which & 2 else conn.snd.nxt) + distance
        remote = ipv4.pack(conn.flow.remote[0])
        head = tcp.header(conn.sport, conn.dport, seq, 0, ACK, 1000)
        about = ipv4.header(NEAR, remote, ipv4.TCP, len(head)) + head
    else:
        about = feed.rest()
    if which & 4:
        body = icmp.echo(bool(which & 8), mtu, distance & 0xFFFF, about)
    else:
        body = icmp.error(kind, code, memoryview(about), mtu)
    if which & 16:
        body = body[:which]
    source = ADDRESSES[which % len(ADDRESSES)]
    return framed(ipv4.header(source, NEAR, ipv4.ICMP, len(body)) + body, EVIL, NEAR, world.ether)


def resolution(feed: Feed) -> bytes:
    """An ARP message for near: of anybody about anybody."""
    op = feed.byte() % 4
    sender, target = feed.choice(ADDRESSES), feed.choice(ADDRESSES)
    mac = feed.choice((MACS[EVIL], MACS[PEER], MACS[NEAR], bytes(6), ethernet.BROADCAST, b"\2" + feed.take(5).ljust(5)))
    to = feed.choice((MACS[NEAR], ethernet.BROADCAST))
    message = arp.build(arp.Arp(op, mac, sender, bytes(6), target))
    cut = feed.byte()
    return ethernet.header(to, MACS[EVIL], ethernet.ARP) + (message[:cut] if cut & 64 else message)


def oddity(feed: Feed, world: World) -> bytes:
    """A packet that is none of TCP's business: a fragment, options, wrong lengths, other protocols, false addresses."""
    source, to = feed.choice(ADDRESSES), feed.choice((NEAR, NEAR, PEER, *ADDRESSES[3:]))
    proto = feed.choice(PROTOCOLS)
    shape = feed.byte()
    body = feed.take(6) * (1 + shape % 12)
    packet = bytearray(ipv4.header(source, to, proto, len(body), df=bool(shape & 1)) + body)
    if shape & 2:  # a fragment
        packet[6:8] = (feed.byte() << 5).to_bytes(2, "big")
    if shape & 4:  # options
        packet[20:20] = feed.take(1) * 4
        packet[0] = 0x46
        packet[2:4] = len(packet).to_bytes(2, "big")
    if shape & 8:
        packet[2:4] = feed.number().to_bytes(2, "big")
    if shape & 16:
        packet[0] = feed.byte()
    packet[10:12] = bytes(2)
    size = max((packet[0] & 15) * 4, 20)
    total = sum(int.from_bytes(packet[at : at + 2], "big") for at in range(0, min(size, len(packet)), 2))
    packet[10:12] = (0xFFFF - (total % 0xFFFF or 0xFFFF)).to_bytes(2, "big") if not shape & 32 else b"\1\2"
    frame = framed(bytes(packet), EVIL, NEAR, world.ether)
    if shape & 64 and world.ether:
        frame = ethernet.BROADCAST + frame[6:]
    return frame
