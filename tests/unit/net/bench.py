"""A stack between a sink that remembers and a peer made of frames: what the tests of ``net`` stand on.

Time is a number that the test moves. Nothing is random: the stack gets a seeded generator.
"""

import random
from typing import Any, Final

from tests.support.numbering import chosen
from usertcp.frame import PLAIN, FrameMeta, LinkCaps
from usertcp.net.stack import Stack, StackConfig
from usertcp.net.stats import Drop
from usertcp.tcp.connection import Connection
from usertcp.units import MS
from usertcp.wire import arp, ethernet, icmp, ipv4, tcp
from usertcp.wire.tcp import ACK, SYN, Segment

OUR_MAC: Final = bytes.fromhex("020000000002")
PEER_MAC: Final = bytes.fromhex("020000000001")
OTHER_MAC: Final = bytes.fromhex("0200000000aa")
US: Final = "10.9.0.2"
PEER: Final = "10.9.0.1"
GATEWAY: Final = "10.9.0.254"
FAR: Final = "192.0.2.7"
PEER_ISS: Final = chosen().irs
CAPS: Final = LinkCaps(mac=OUR_MAC)
TUN: Final = LinkCaps()


class FakeSink:
    """Takes frames until ``room`` is used up (None: for ever)."""

    def __init__(self) -> None:
        self.frames: list[tuple[bytes, FrameMeta]] = []
        self.room: int | None = None

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        if self.room is not None:
            if self.room == 0:
                return False
            self.room -= 1
        self.frames.append((b"".join((header, *payload)), meta))
        return True


class Owner:
    """Waits for a neighbour, and remembers that it was told of its failure."""

    def __init__(self) -> None:
        self.failed_at: list[int] = []

    def on_path_failed(self, now: int) -> None:
        self.failed_at.append(now)


class Bench:
    """``stack`` at 10.9.0.2/24 (or ``addresses``), with ``now`` in ns and every frame it sent."""

    def __init__(self, caps: LinkCaps = CAPS, **config: Any) -> None:
        config.setdefault("addresses", (f"{US}/24",))
        self.stack = Stack(StackConfig(**config), caps, random.Random(1).randbytes)
        self.sink = FakeSink()
        self.now = 1_000 * MS
        self.caps = caps

    # --- the wire ---

    def give(self, frame: bytes, meta: FrameMeta = PLAIN) -> None:
        self.stack.receive(frame, self.now, meta)

    def turn(self, budget: int = 64) -> bool:
        return self.stack.poll(self.now, self.sink, budget)

    def settle(self) -> None:
        for _ in range(1000):
            if not self.turn():
                return
        raise AssertionError("the stack never comes to rest")

    def advance(self, ns: int) -> None:
        """Time passes, with a turn at every deadline."""
        end = self.now + ns
        while True:
            self.settle()
            self.now = max(self.now, min(end, self.stack.next_deadline()))
            if self.now >= end:
                self.settle()
                return

    def take(self) -> list[bytes]:
        """Frames sent since the last call, after a turn."""
        self.settle()
        frames = [frame for frame, _ in self.sink.frames]
        self.sink.frames.clear()
        return frames

    def take_packets(self) -> list[ipv4.Packet]:
        skip = ethernet.HEADER_LEN if self.caps.mac else 0
        frames = [frame for frame in self.take() if not skip or ethernet.parse(frame).ethertype == ethernet.IPV4]
        return [ipv4.parse(memoryview(frame)[skip:]) for frame in frames]

    def take_segments(self) -> list[Segment]:
        packets = [packet for packet in self.take_packets() if packet.proto == ipv4.TCP]
        if not self.caps.tx_checksum:
            assert all(tcp.verify(packet.src, packet.dst, packet.payload) for packet in packets)
        return [tcp.parse(packet.payload) for packet in packets]

    def take_icmp(self) -> list[icmp.Message]:
        return [icmp.parse(packet.payload) for packet in self.take_packets() if packet.proto == ipv4.ICMP]

    def take_arp(self) -> list[arp.Arp]:
        frames = self.take()
        return [arp.parse(frame[14:]) for frame in frames if ethernet.parse(frame).ethertype == ethernet.ARP]

    # --- the peer ---

    def meet(self, ip: str = PEER, mac: bytes = PEER_MAC) -> None:
        """The peer is a REACHABLE neighbour, and no frame of that is left."""
        self.give(arp_frame(arp.REQUEST, ip, US, mac))
        self.give(arp_frame(arp.REQUEST, ip, US, mac))
        self.take()

    def drops(self) -> dict[Drop, int]:
        return {reason: count for reason, count in self.stack.stats.drops.items() if count}

    def handshake(self, conn: Connection) -> Segment:
        """Answer the SYN of ``conn``; returns that SYN."""
        (syn,) = self.take_segments()
        self.give(
            tcp_frame(
                SYN | ACK, PEER_ISS, syn.seq + 1, sport=syn.dport, dport=syn.sport, src=conn.flow.remote[0], mss=1460
            )
        )
        return syn


def ip_frame(
    body: bytes,
    proto: int = ipv4.TCP,
    *,
    src: str = PEER,
    dst: str = US,
    to: bytes = OUR_MAC,
    ttl: int = 64,
    tos: int = 0,
    ethertype: int = ethernet.IPV4,
) -> bytes:
    packet = ipv4.header(ipv4.pack(src), ipv4.pack(dst), proto, len(body), ttl=ttl, tos=tos) + body
    return ethernet.header(to, PEER_MAC, ethertype) + packet


def tcp_bytes(
    flags: int,
    seq: int = PEER_ISS,
    ack: int = 0,
    payload: bytes = b"",
    *,
    sport: int = 40000,
    dport: int = 80,
    src: str = PEER,
    dst: str = US,
    mss: int = 0,
    wnd: int = 65535,
    options: bytes = b"",
) -> bytes:
    options = tcp.syn_options(mss, -1, False, None) if mss else options
    header = tcp.header(sport, dport, seq, ack, flags, wnd, options)
    check = tcp.checksum(ipv4.pack(src), ipv4.pack(dst), header, [memoryview(payload)])
    header[16:18] = check.to_bytes(2, "big")
    return bytes(header) + payload


def tcp_frame(flags: int, seq: int = PEER_ISS, ack: int = 0, payload: bytes = b"", **more: Any) -> bytes:
    ends = {key: more[key] for key in ("src", "dst") if key in more}
    to = more.pop("to", OUR_MAC)
    return ip_frame(tcp_bytes(flags, seq, ack, payload, **more), to=to, **ends)


def arp_frame(op: int, sender: str, target: str, mac: bytes = PEER_MAC, to: bytes = OUR_MAC) -> bytes:
    message = arp.build(arp.Arp(op, mac, ipv4.pack(sender), bytes(6), ipv4.pack(target)))
    return ethernet.header(to, mac, ethernet.ARP) + message


def error_frame(kind: int, code: int, about: bytes, *, mtu: int = 0, src: str = PEER) -> bytes:
    """An ICMP error from ``src`` about the IP packet ``about``."""
    return ip_frame(icmp.error(kind, code, memoryview(about), mtu), ipv4.ICMP, src=src)
