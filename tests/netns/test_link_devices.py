"""TAP, TUN and packet sockets against the kernel, frame by frame."""

import errno
import select
import socket
from collections.abc import Iterator

import pytest

from tests.netns.programs import PATIENCE
from usertcp.errors import SetupError
from usertcp.frame import PLAIN, FrameMeta
from usertcp.link import provision
from usertcp.link.base import Link
from usertcp.link.faults import Drop, Faults
from usertcp.link.guard import guard
from usertcp.link.packet import PacketLink
from usertcp.link.provision import Namespace
from usertcp.link.tap import TapLink
from usertcp.wire import arp, checksum, ethernet, ipv4
from usertcp.wire import tcp as wire

KERNEL, OURS, HOST = "10.9.0.1", "10.9.0.2", "10.9.0.3"
MAC = b"\x02\x00\x00\x00\x09\x02"


@pytest.fixture
def space() -> Iterator[Namespace]:
    with Namespace.create() as made:
        yield made


@pytest.fixture
def pair(space: Namespace) -> Iterator[Namespace]:
    """``a0`` (the kernel, 10.9.0.1) in ``space``, joined to ``b0`` (10.9.0.3) in the namespace that is given."""
    with (
        Namespace.create() as other,
        provision.create_veth(
            "a0",
            "b0",
            netns=space.name,
            peer_netns=other.name,
            address=f"{KERNEL}/24",
            peer_address=f"{HOST}/24",
        ),
    ):
        yield other


def frames(link: Link, patience: float = PATIENCE) -> list[tuple[bytes, FrameMeta]]:
    """What arrives within ``patience`` seconds, and from then on until nothing more has for a moment."""
    got: list[tuple[bytes, FrameMeta]] = []
    while True:
        item = link.read()
        if item is not None:
            got.append((bytes(item[0]), item[1]))
        elif not select.select([link], [], [], 0.2 if got else patience)[0]:
            return got


def kinds(items: list[tuple[bytes, FrameMeta]]) -> list[int]:
    return [ethernet.parse(data).ethertype for data, _ in items]


def answer_arp(link: Link, address: str) -> None:
    """Wait for the kernel's question after ``address`` and answer it."""
    (question,) = [data for data, _ in frames(link) if ethernet.parse(data).ethertype == ethernet.ARP]
    asked = arp.parse(memoryview(question)[14:])
    assert asked.tpa == ipv4.pack(address)
    assert link.caps.mac is not None
    reply = arp.build(arp.Arp(arp.REPLY, link.caps.mac, asked.tpa, asked.sha, asked.spa))
    assert link.send(ethernet.header(asked.sha, link.caps.mac, ethernet.ARP), [memoryview(reply)], PLAIN)


def datagram(space: Namespace, address: str) -> socket.socket:
    """A kernel's UDP socket that has just sent to ``address``."""
    sock = space.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.sendto(b"hello", (address, 9))
    return sock


def super_segment(size: int, dst_mac: bytes, src_mac: bytes) -> tuple[bytes, memoryview, FrameMeta]:
    """A TCP segment of ``size`` bytes, for the device to cut and to sum."""
    source, target = ipv4.pack(OURS), ipv4.pack(KERNEL)
    head = wire.header(5, 6, 7, 8, wire.ACK, 1000)
    total = checksum.pseudo_header_sum(source, target, ipv4.TCP, len(head) + size)
    head[16:18] = total.to_bytes(2, "big")
    link = ethernet.header(dst_mac, src_mac, ethernet.IPV4) + ipv4.header(source, target, ipv4.TCP, len(head) + size)
    return bytes(link + head), memoryview(bytes(size)), FrameMeta(1460, 34, 16, 54)


@pytest.mark.parametrize("offload", [True, False])
def test_tap_kernel_asks_for_us_and_then_sends(space: Namespace, offload: bool) -> None:
    with provision.create_tap("tap0", netns=space.name), TapLink.open("tap0", netns=space.name, offload=offload) as tap:
        assert tap.caps.mtu == 1500
        assert (tap.caps.tx_gso, tap.caps.tx_checksum) == (offload, offload)
        with datagram(space, OURS):
            answer_arp(tap, OURS)
            ((data, meta),) = frames(tap)
        assert data.endswith(b"hello")
        assert meta.csum_valid is offload


def test_tap_switched_to_plain_frames_gets_checksums_made(space: Namespace) -> None:
    with provision.create_tap("tap0", netns=space.name), TapLink.open("tap0", netns=space.name) as tap:
        link = Faults(tap, [Drop(limit=0)])
        assert not link.caps.tx_gso
        with datagram(space, OURS):
            answer_arp(link, OURS)
            ((data, meta),) = frames(link)
        assert not meta.csum_valid
        packet = ipv4.parse(memoryview(data)[14:])
        start = checksum.pseudo_header_sum(packet.src, packet.dst, packet.proto, len(packet.payload))
        assert checksum.sum16(packet.payload, start) in (0, 0xFFFF)


def test_tap_keeps_its_address_when_attached_again(space: Namespace) -> None:
    with provision.create_tap("tap0", netns=space.name):
        macs = []
        for _ in range(2):
            with TapLink.open("tap0", netns=space.name) as tap:
                macs.append(tap.caps.mac)
        assert macs[0] == macs[1]


def test_tun_carries_bare_packets(space: Namespace) -> None:
    with (
        provision.create_tap("tun0", netns=space.name, tun=True),
        TapLink.open("tun0", netns=space.name, tun=True) as tun,
        datagram(space, OURS),
    ):
        assert tun.caps.mac is None
        ((data, _),) = frames(tun)
        assert data[0] >> 4 == 4
        assert ipv4.parse(memoryview(data)).dst == ipv4.pack(OURS)


def test_tap_whose_kernel_side_is_down_loses_frames(space: Namespace) -> None:
    with provision.create_tap("tap0", netns=space.name), TapLink.open("tap0", netns=space.name) as tap:
        provision.set_up("tap0", False, netns=space.name)
        assert tap.send(bytes(12) + b"\x08\x00", [memoryview(bytes(40))], PLAIN)
        assert tap.lost == 1
        assert tap.read() is None


def test_tap_that_was_removed_says_so_once_read(space: Namespace) -> None:
    made = provision.create_tap("tap0", netns=space.name)
    with TapLink.open("tap0", netns=space.name) as tap:
        made.remove()
        assert not tap.send(bytes(64), [], PLAIN)
        with pytest.raises(OSError, match="Network is down") as gone:
            tap.read()
    assert gone.value.errno == errno.ENETDOWN


def test_tap_made_by_attaching_vanishes_with_the_link(space: Namespace) -> None:
    with TapLink.open("tap0", netns=space.name, create=True):
        assert provision.link_exists("tap0", space.name)
    assert not provision.link_exists("tap0", space.name)


@pytest.mark.parametrize(
    ("name", "words"),
    [("nothere", "no interface"), ("lo", "no TAP"), ("x" * 16, "cannot be called"), ("tap0", "in use")],
)
def test_tap_that_cannot_be_had_is_refused_with_a_cure(space: Namespace, name: str, words: str) -> None:
    with (
        provision.create_tap("tap0", netns=space.name),
        TapLink.open("tap0", netns=space.name),
        pytest.raises(SetupError, match=words) as refused,
    ):
        TapLink.open(name, netns=space.name)
    assert refused.value.cure


def test_packet_own_address_shows_what_is_for_us_only(space: Namespace, pair: Namespace) -> None:
    with (
        PacketLink.open("b0", address=OURS, netns=pair.name) as ours,
        PacketLink.open("b0", address="10.9.0.9", netns=pair.name) as others,
        datagram(space, OURS),
    ):
        assert ours.caps.mac != others.caps.mac
        answer_arp(ours, OURS)
        ((data, meta),) = frames(ours)
        assert data.endswith(b"hello")
        assert meta.csum_valid  # the kernel next door left the checksum out
        assert kinds(frames(others)) == [ethernet.ARP]  # the broadcast


def test_packet_what_we_send_does_not_come_back(space: Namespace, pair: Namespace) -> None:
    with PacketLink.open("b0", address=OURS, netns=pair.name) as link:
        assert link.send(b"\xff" * 6 + MAC + b"\x08\x06", [memoryview(bytes(46))], PLAIN)
        assert frames(link, 0.05) == []


def test_packet_super_segment_crosses_whole_in_both_directions(space: Namespace, pair: Namespace) -> None:
    with (
        PacketLink.open("a0", address=KERNEL, netns=space.name, mac=MAC) as near,
        PacketLink.open("b0", address=OURS, netns=pair.name) as far,
    ):
        assert far.caps.mac is not None
        head, data, meta = super_segment(40_000, MAC, far.caps.mac)
        assert far.send(head, [data[:100], data[100:]], meta)
        ((got, about),) = frames(near)
    assert (len(got), about.gso_size, about.csum_valid) == (40_054, 1460, True)


def test_packet_interface_down_and_up_again_loses_frames_in_between(space: Namespace, pair: Namespace) -> None:
    with PacketLink.open("b0", address=OURS, netns=pair.name) as link:
        provision.set_up("b0", False, netns=pair.name)
        assert frames(link, 0) == []
        assert link.send(bytes(12) + b"\x08\x00", [memoryview(bytes(46))], PLAIN)
        assert link.lost == 1
        provision.set_up("b0", True, netns=pair.name)
        with datagram(space, OURS):
            assert kinds(frames(link)) == [ethernet.ARP]


def test_packet_interface_removed_says_so(space: Namespace) -> None:
    with Namespace.create() as other:
        made = provision.create_veth("a0", "b0", netns=space.name, peer_netns=other.name)
        with PacketLink.open("b0", address=OURS, netns=other.name) as link:
            made.remove()
            assert not link.send(bytes(64), [], PLAIN)
            with pytest.raises(OSError, match="Network is down"):
                link.read()


@pytest.mark.parametrize(("name", "words"), [("nothere", "no interface"), ("lo", "no Ethernet"), ("down0", "is down")])
def test_packet_interface_that_cannot_serve_is_refused_with_a_cure(space: Namespace, name: str, words: str) -> None:
    with provision.create_veth("down0", "up0", netns=space.name):
        provision.set_up("down0", False, netns=space.name)
        with pytest.raises(SetupError, match=words) as refused:
            PacketLink.open(name, address=OURS, netns=space.name)
    assert refused.value.cure


def syn(space: Namespace, port: int) -> socket.socket:
    """A kernel's socket that has begun to connect to the host's address."""
    sock = space.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    sock.setblocking(False)
    assert sock.connect_ex((HOST, port)) == errno.EINPROGRESS
    return sock


def test_packet_hosts_address_behind_the_guard_sees_our_ports_and_the_kernel_keeps_quiet(
    space: Namespace, pair: Namespace
) -> None:
    with (
        PacketLink.open("b0", address=HOST, netns=pair.name, host_ports=(61000, 61010)) as link,
        guard(HOST, (61000, 61010), netns=pair.name),
        syn(space, 61005) as ours,
    ):
        ((data, _),) = frames(link)
        assert wire.parse(ipv4.parse(memoryview(data)[14:]).payload).dport == 61005
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0  # still waiting, not refused
        assert [item.state for item in provision.tcp_states(space.name)] == ["SYN-SENT"]
        with pair.run(lambda: socket.create_server((HOST, 8080))) as server, syn(space, 8080) as theirs:
            server.accept()[0].close()
            select.select([theirs], [], [], PATIENCE)
            assert theirs.recv(1) == b""
        with syn(space, 8081) as refused:
            select.select([], [refused], [], PATIENCE)
            assert refused.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
        assert frames(link, 0) == []


def test_without_the_guard_the_kernel_resets(space: Namespace, pair: Namespace) -> None:
    with (
        PacketLink.open("b0", address=HOST, netns=pair.name, host_ports=(61000, 61010)),
        syn(space, 61005) as ours,
    ):
        select.select([], [ours], [], PATIENCE)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
