"""Whatever arrives: ``receive`` does not raise, what is silent stays silent, what is kept stays bounded."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.net.bench import (
    CAPS,
    OUR_MAC,
    PEER,
    PEER_ISS,
    PEER_MAC,
    TUN,
    US,
    Bench,
    arp_frame,
    error_frame,
    ip_frame,
    tcp_bytes,
    tcp_frame,
)
from usertcp.frame import FrameMeta
from usertcp.net.egress import MAX_REPLIES
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.ecn_policy import Ecn
from usertcp.units import MASK32, SEC
from usertcp.wire import arp, ethernet, icmp, ipv4, tcp
from usertcp.wire.ipv4 import pack
from usertcp.wire.tcp import ACK, FIN, RST, SYN

EXAMPLES = 300
OWN_SYN = tcp_frame(SYN, src=US, dst=PEER, sport=5000, dport=80)[14:]
VALID = [
    tcp_frame(SYN, mss=1460),
    tcp_frame(ACK, PEER_ISS + 1, 5, b"data"),
    tcp_frame(RST, 5),
    ip_frame(icmp.echo(True, 1, 2, b"ping"), ipv4.ICMP),
    error_frame(3, 3, OWN_SYN),
    error_frame(3, 4, OWN_SYN, mtu=600),
    ip_frame(bytes(8), ipv4.UDP),
    arp_frame(arp.REQUEST, PEER, US),
    arp_frame(arp.REPLY, PEER, US),
]


def busy(tun: bool = False, ecn: Ecn = Ecn.PASSIVE) -> Bench:
    """A host with a listener, a half-open connection of its own, and a pinger."""
    bench = Bench(TUN if tun else CAPS, tcp=TcpConfig(ecn=ecn))
    bench.stack.listen(("", 80))
    if not tun:
        bench.meet()
    bench.stack.connect((PEER, 80), bench.now, (US, 5000))
    bench.stack.pinger(PEER).send(bench.now)
    bench.take()
    return bench


@settings(max_examples=EXAMPLES, deadline=None)
@given(frames=st.lists(st.binary(max_size=120), max_size=8), tun=st.booleans(), valid=st.booleans())
def test_random_bytes_received_never_raise(frames: list[bytes], tun: bool, valid: bool) -> None:
    bench = busy(tun)
    for frame in frames:
        bench.give(frame, FrameMeta(csum_valid=valid))
        bench.give(ethernet.header(OUR_MAC, PEER_MAC, ethernet.IPV4) + frame)
        bench.give(ethernet.header(OUR_MAC, PEER_MAC, ethernet.ARP) + frame)
    bench.settle()
    assert sum(bench.stack.stats.drops.values()) <= 3 * len(frames)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    which=st.sampled_from(range(len(VALID))),
    changes=st.lists(st.tuples(st.integers(0, 100), st.integers(1, 255)), max_size=6),
    cut=st.integers(0, 60),
    meta=st.sampled_from([FrameMeta(), FrameMeta(csum_valid=True), FrameMeta(gso_size=3, csum_valid=True)]),
    mended=st.booleans(),
)
def test_mutated_frames_received_never_raise(
    which: int, changes: list[tuple[int, int]], cut: int, meta: FrameMeta, mended: bool
) -> None:
    bench = busy()
    frame = bytearray(VALID[which])
    for at, bits in changes:
        frame[at % len(frame)] ^= bits
    if mended and len(frame) >= 34 and frame[14] == 0x45:
        frame[24:26] = bytes(2)
        total = sum(int.from_bytes(frame[n : n + 2], "big") for n in range(14, 34, 2))
        frame[24:26] = (0xFFFF - (total % 0xFFFF or 0xFFFF)).to_bytes(2, "big")
    for _ in range(2):
        bench.give(bytes(frame[: len(frame) - cut]) if cut < 40 else bytes(frame), meta)
        bench.settle()
    bench.advance(SEC)


segments = st.tuples(
    st.integers(0, 511),
    st.sampled_from([PEER_ISS, PEER_ISS + 1, 0, MASK32]) | st.integers(0, MASK32),
    st.integers(0, MASK32) | st.none(),
    st.binary(max_size=40),
    st.sampled_from([40000, 40001]),
    st.sampled_from([80, 81, 5000]),
    st.binary(max_size=40).map(lambda options: options + bytes(-len(options) % 4))
    | st.builds(tcp.accecn, st.sampled_from([tcp.ACCECN0, tcp.ACCECN1]), st.lists(st.integers(0, MASK32), max_size=3)),
    st.integers(0, 3),
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(given=st.lists(segments, max_size=12), wait=st.integers(0, 3 * SEC), ecn=st.sampled_from(Ecn))
def test_any_valid_segments_received_never_raise_and_resets_are_never_reset(
    given: list[tuple[int, int, int | None, bytes, int, int, bytes, int]], wait: int, ecn: Ecn
) -> None:
    bench = busy(ecn=ecn)
    for flags, seq, ack, payload, sport, dport, options, code in given:
        conns = list(bench.stack.connections())
        wanted = conns[0].snd.nxt if ack is None and conns else ack or 0
        header = tcp.header(sport, dport, seq, wanted, flags, 1000, options[:40])
        check = tcp.checksum(pack(PEER), pack(US), header, [memoryview(payload)])
        header[16:18] = check.to_bytes(2, "big")
        known = len(conns)
        bench.give(ip_frame(bytes(header) + payload, tos=code))
        answers = bench.take_segments()
        if flags & RST:
            assert not any(seg.flags & RST for seg in answers)
            assert len(list(bench.stack.connections())) <= known
    bench.advance(wait)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    kind=st.integers(0, 20),
    code=st.integers(0, 20),
    mtu=st.integers(0, 65535),
    inner=st.binary(max_size=40),
    tail=st.sampled_from([b"", tcp_bytes(SYN, 7, sport=5000, dport=80, src=US, dst=PEER)]),
)
def test_any_icmp_error_received_never_raises(kind: int, code: int, mtu: int, inner: bytes, tail: bytes) -> None:
    bench = busy()
    about = ipv4.header(pack(US), pack(PEER), ipv4.TCP, 20) + tail + inner
    bench.give(error_frame(kind, code, about, mtu=mtu))
    bench.give(ip_frame(icmp._build(kind, code, mtu, 5, inner), ipv4.ICMP))
    bench.settle()


def test_flood_of_everything_without_a_turn_stays_bounded() -> None:
    bench = busy()
    for n in range(20_000):
        source = f"10.9.0.{3 + n % 250}"
        bench.give(tcp_frame(SYN, sport=1 + n % 60_000, dport=9 if n % 2 else 80, src=source))
        bench.give(tcp_frame(ACK | FIN, sport=1 + n % 60_000, dport=9, src=source))
    assert len(bench.stack._egress.backlog.frames) <= MAX_REPLIES
    assert len(bench.stack._neighbors) <= bench.stack.config.neighbor_capacity
    assert len(list(bench.stack.connections())) <= 1 + 128
    for neighbor in bench.stack._neighbors._entries.values():
        assert len(neighbor.queue) <= bench.stack.config.neighbor_queue
