"""A host two hops away, reached in every way there is; and afterwards the machine is as it was before.

    near (the stack's machine)           router                            far
    192.0.2.1/24 eth0 ------------- r0 192.0.2.254, 198.51.100.254 r1 ------------- eth0 198.51.100.1

The router knows nothing of 10.9.0.0/24: whoever comes from there is heard of again only through address translation.
"""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from tests.netns.peer import digest
from tests.netns.plugged import Received, exchange
from tests.netns.programs import PATIENCE, Peer, Program, usertcp, which
from usertcp import blocking
from usertcp.link import netns, provision

SIZE = 10_000_000
TAP = "tap0"
NEAR, GATEWAY, FAR = "192.0.2.1", "192.0.2.254", "198.51.100.1"
OPERATIONAL = 0x10040  # IFF_RUNNING and IFF_LOWER_UP (netdevice(7)), which the kernel sees to in the background
CONF = "/proc/sys/net/ipv4/conf"
OWN = "192.0.2.60/24"  # an address on near's network that nobody has


@dataclass(frozen=True)
class Net:
    """The names of the namespaces."""

    near: str
    far: str


@pytest.fixture
def net() -> Iterator[Net]:
    with ExitStack() as stack:
        near, router, far = (stack.enter_context(provision.Namespace.create()).name for _ in range(3))
        for name, end, here, there in (("r0", near, NEAR, GATEWAY), ("r1", far, FAR, "198.51.100.254")):
            stack.enter_context(
                provision.create_veth(
                    "eth0", name, netns=end, peer_netns=router, address=f"{here}/24", peer_address=f"{there}/24"
                )
            )
            provision.add_route("default", via=there, netns=end)
        provision.set_sysctl("net/ipv4/ip_forward", 1, netns=router)
        yield Net(near, far)


def picture(space: str) -> dict[str, Any]:
    """Everything that a way out may change in a namespace."""
    with netns.inside(space), IPRoute() as route:
        links = {
            item.get("ifname"): (
                item["flags"] & ~OPERATIONAL,
                item.get("master"),
                item.get("promiscuity"),
                item.get("mtu"),
            )
            for item in route.get_links()
        }
        addresses = sorted(
            (item["index"], item.get("address"), item["prefixlen"]) for item in route.get_addr(family=socket.AF_INET)
        )
        ruleset = subprocess.run([which("nft"), "list", "ruleset"], capture_output=True, check=True).stdout
        return {
            "links": links,
            "addresses": addresses,
            "routes": Path("/proc/thread-self/net/route").read_text(),
            "rules": ruleset.decode(),
            "forwarding": {
                str(path): path.read_text()
                for path in [Path("/proc/sys/net/ipv4/ip_forward"), *Path(CONF).glob("*/forwarding")]
            },
        }


@contextmanager
def undone(space: str) -> Iterator[None]:
    """After the block the namespace looks as before, and in between it did not."""
    before = picture(space)
    yield
    assert picture(space) == before


def transfer(net: Net, host: blocking.Host, seen_as: str) -> None:
    """10 MB both ways with the far host, which sees ``seen_as`` as its peer."""
    with Peer(net.far, "exchange", FAR, 5001, "--listen", "--send", SIZE, "--seed", 2).ready() as peer:
        with host.connect((FAR, 5001), timeout=PATIENCE) as conn:
            received = exchange(conn, SIZE, 1)
        report = peer.report()
    assert received == Received(SIZE, digest(SIZE, 2))
    assert (report["received"], report["sha256"]) == (SIZE, digest(SIZE, 1))
    assert report["peer"] == seen_as


@contextmanager
def up(net: Net, mode: str) -> Iterator[None]:
    """``usertcp up`` in the near namespace, and ``usertcp down``."""
    with Program(None, usertcp("up", f"--{mode}", "--tap", TAP, "--netns", net.near)) as program:
        assert b"is up" in program.finish()
    try:
        yield
    finally:
        with Program(None, usertcp("down", "--tap", TAP, "--netns", net.near)) as program:
            assert b"is down" in program.finish()


def test_tap_behind_nat_reaches_a_host_two_hops_away(net: Net) -> None:
    with undone(net.near), up(net, "nat"), blocking.open(tap=TAP, netns=net.near) as host:
        transfer(net, host, NEAR)


def test_tap_on_a_bridge_reaches_a_host_two_hops_away(net: Net) -> None:
    with (
        undone(net.near),
        up(net, "bridge"),
        blocking.open(tap=TAP, netns=net.near, address=OWN, gateway=GATEWAY) as host,
    ):
        transfer(net, host, OWN.partition("/")[0])


def test_packet_link_with_its_own_address_reaches_a_host_two_hops_away(net: Net) -> None:
    with undone(net.near), blocking.open(packet="eth0", netns=net.near, address=OWN, gateway=GATEWAY) as host:
        transfer(net, host, OWN.partition("/")[0])


def test_packet_link_with_its_own_address_is_reached_from_two_hops_away(net: Net) -> None:
    own = OWN.partition("/")[0]
    with undone(net.near), blocking.open(packet="eth0", netns=net.near, address=OWN, gateway=GATEWAY) as host:
        options = ("--connect", "--send", SIZE, "--seed", 2)
        with host.listen((own, 5001)) as listener, Peer(net.far, "exchange", own, 5001, *options) as peer:
            listener.settimeout(PATIENCE)
            with listener.accept() as conn:
                received = exchange(conn, SIZE, 1)
            report = peer.report()
    assert received == Received(SIZE, digest(SIZE, 2))
    assert (report["received"], report["sha256"]) == (SIZE, digest(SIZE, 1))


def test_packet_link_with_the_kernels_address_reaches_a_host_two_hops_away(net: Net) -> None:
    with undone(net.near), blocking.open(packet="eth0", netns=net.near, gateway=GATEWAY) as host:
        assert picture(net.near)["rules"]  # the guard that keeps the kernel from resetting what it does not know
        transfer(net, host, NEAR)


def test_packet_link_with_the_kernels_address_leaves_the_kernels_own_traffic_alone(net: Net) -> None:
    with undone(net.near), blocking.open(packet="eth0", netns=net.near, gateway=GATEWAY) as host:
        transfer(net, host, NEAR)
        options = ("--send", 1_000_000)
        with (
            Peer(net.far, "exchange", FAR, 5002, "--listen", *options).ready() as there,
            Peer(net.near, "exchange", FAR, 5002, "--connect", *options).ready() as here,
        ):
            assert here.report()["sha256"] == there.report()["sha256"] == digest(1_000_000, 0)
