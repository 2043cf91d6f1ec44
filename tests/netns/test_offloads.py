"""Every device with every offload and MTU, against the kernel's TCP: each byte arrives, and nothing is lost unseen."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import pytest

from tests.netns.peer import digest
from tests.netns.plugged import KERNEL, OURS, STACK, THEIRS, Received, exchange
from tests.netns.programs import PATIENCE, Peer, usertcp
from usertcp import blocking
from usertcp.blocking import Host
from usertcp.link import provision
from usertcp.link.offload import takes_longer
from usertcp.link.provision import Namespace
from usertcp.link.tap import TapLink
from usertcp.tcp.info import TcpInfo

MB: Final = 1_000_000
OFFLOADS: Final[dict[str, dict[str, bool]]] = {
    "all": {},
    "checksum": {"gso": False},
    "none": {"offload": False},
}


@contextmanager
def opened(kind: str, space: str, mtu: int, **words: Any) -> Iterator[Host]:
    """A stack on a TAP, a TUN, or a packet socket at the other end of a veth; the kernel, KERNEL, is in ``space``."""
    with ExitStack() as undo:
        words |= {"mtu": mtu, "address": f"{STACK}/24"}
        if kind == "packet":
            words["netns"] = undo.enter_context(Namespace.create()).name
            undo.enter_context(
                provision.create_veth(
                    "a0", "b0", netns=space, peer_netns=words["netns"], address=f"{KERNEL}/24", mtu=mtu
                )
            )
        else:
            words["netns"] = space
        words[kind] = "b0" if kind == "packet" else f"{kind}0"
        yield undo.enter_context(blocking.open(**words))


def exchanged(host: Host, space: str, size: int) -> TcpInfo:
    """``size`` bytes both ways at once, both digests checked; the connection's figures."""
    with Peer(space, "exchange", KERNEL, 5001, "--listen", "--send", size, "--seed", THEIRS).ready() as peer:
        conn = host.connect((KERNEL, 5001), timeout=PATIENCE)
        received = exchange(conn, size, OURS)
        report = peer.report()
    assert received == Received(size, digest(size, THEIRS))
    assert (report["received"], report["sha256"]) == (size, digest(size, OURS))
    return conn.info()


def lost_by(device: str, space: str) -> int:
    """Frames for us that the device had no room for."""
    text = subprocess.check_output(["ip", "-n", space, "-s", "-j", "link", "show", device])
    lost: int = json.loads(text)[0]["stats64"]["tx"]["dropped"]
    return lost


@pytest.mark.rfc(9293, "MUST-2")
@pytest.mark.rfc(9293, "MUST-3")
@pytest.mark.parametrize("mtu", [1500, 9000, 65521])
@pytest.mark.parametrize("offloads", OFFLOADS)
@pytest.mark.parametrize("kind", ["tap", "tun", "packet"])
def test_each_device_offload_and_mtu_streams_arrive_intact(kind: str, offloads: str, mtu: int) -> None:
    with (
        Namespace.create() as space,
        opened(kind, space.name, mtu, **OFFLOADS[offloads]) as host,
    ):
        caps = host.stack.caps
        assert (caps.mtu, caps.tx_checksum, caps.tx_gso) == (mtu, offloads != "none", offloads == "all")
        assert (caps.host is not None) == (kind != "packet" and caps.tx_gso and takes_longer(os.uname().release))
        info = exchanged(host, space.name, 20 * MB)
        assert info.snd_mss == mtu - 52  # with timestamps
        if kind != "packet":
            assert lost_by(f"{kind}0", space.name) == 0


@pytest.mark.parametrize("kind", ["tap", "tun"])
def test_older_kernel_gets_no_longer_super_segments(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usertcp.link.tap.takes_longer", lambda release: False)
    with Namespace.create() as space, opened(kind, space.name, 1500) as host:
        assert host.stack.caps.tx_gso
        assert host.stack.caps.host is None
        exchanged(host, space.name, 5 * MB)


@pytest.mark.parametrize("queue", [20, 100])
def test_tap_that_segments_nothing_never_has_more_in_flight_than_its_queue_holds(queue: int) -> None:
    """The kernel would lose the rest without a word, and take it for congestion of the network."""
    with Namespace.create() as space, provision.create_tap("tap0", netns=space.name, address=f"{KERNEL}/24"):
        subprocess.run(["ip", "-n", space.name, "link", "set", "tap0", "txqueuelen", str(queue)], check=True)
        with opened("tap", space.name, 1500, gso=False) as host:
            assert host.stack.caps.rx_queue == queue
            exchanged(host, space.name, 20 * MB)
            assert lost_by("tap0", space.name) == 0


@pytest.mark.rfc(7323, "§5.7")
@pytest.mark.rfc(9293, "MUST-16")
@pytest.mark.parametrize("offloads", OFFLOADS)
@pytest.mark.parametrize("mtu", [9000, 65521])
def test_path_narrower_than_both_ends_is_discovered_each_way(offloads: str, mtu: int) -> None:
    """The stack's device and the far host's carry ``mtu``, what lies between them 1500 (RFC 1191)."""
    with ExitStack() as undo:
        near, router, far = (undo.enter_context(Namespace.create()).name for _ in range(3))
        for one, other, ends, size in (
            (near, router, ("192.0.2.1/24", "192.0.2.2/24"), 1500),
            (router, far, ("198.51.100.2/24", "198.51.100.1/24"), mtu),
        ):
            undo.enter_context(
                provision.create_veth(
                    f"to-{other[-4:]}",
                    f"to-{one[-4:]}",
                    netns=one,
                    peer_netns=other,
                    address=ends[0],
                    peer_address=ends[1],
                    mtu=size,
                )
            )
        host = undo.enter_context(opened("tap", near, mtu, **OFFLOADS[offloads]))
        for space in (near, router):
            provision.set_sysctl("net/ipv4/ip_forward", 1, netns=space)
        provision.add_route("default", via="192.0.2.2", netns=near)
        provision.add_route("default", via="192.0.2.1", netns=router)
        provision.add_route("default", via="198.51.100.2", netns=far)
        options = ("--listen", "--send", 5 * MB, "--seed", THEIRS)
        with Peer(far, "exchange", "198.51.100.1", 5001, *options).ready() as peer:
            conn = host.connect(("198.51.100.1", 5001), timeout=PATIENCE)
            received = exchange(conn, 5 * MB, OURS)
            report = peer.report(120)
        assert received == Received(5 * MB, digest(5 * MB, THEIRS))
        assert (report["received"], report["sha256"]) == (5 * MB, digest(5 * MB, OURS))
        assert conn.info().snd_mss == 1448


def test_driver_that_lacks_an_offload_is_named_by_ss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usertcp.link.tap._features", lambda descriptor: 0)
    with Namespace.create() as space, opened("tap", space.name, 1500) as host:
        assert not host.stack.caps.tx_checksum
        assert host.opened is not None
        assert host.opened.link.lack == "the driver has no virtio header"
        exchanged(host, space.name, MB)
        text = subprocess.check_output(usertcp("ss"), text=True)
    assert "tap0, MTU 1500, offloads: none (the driver has no virtio header)" in text


def test_offloads_of_a_tap_switched_off_and_on_are_what_they_were() -> None:
    with (
        Namespace.create() as space,
        provision.create_tap("tap0", netns=space.name),
        TapLink.open("tap0", netns=space.name) as tap,
    ):
        before = tap.caps
        tap.set_offload(False)
        assert (tap.caps.tx_checksum, tap.caps.tx_gso, tap.caps.rx_queue) == (False, False, 1000)
        tap.set_offload(True)
        assert tap.caps == before
        assert before.rx_queue == 0
