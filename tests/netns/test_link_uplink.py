"""``up`` and ``down``: real hosts are reached, and afterwards everything is as it was, also when it failed half-way."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256

import pytest

from tests.netns.programs import PATIENCE, which
from usertcp import blocking
from usertcp.errors import SetupError
from usertcp.link import provision, uplink
from usertcp.link import settings as settings_of
from usertcp.link.provision import Namespace

SIZE = 10_000_000
FAR = "198.51.100.1"


@pytest.fixture
def net() -> Iterator[tuple[Namespace, Namespace]]:
    """``near`` 192.0.2.1 -- router -- ``far`` 198.51.100.1; the router knows nothing of the TAP's network."""
    with ExitStack() as stack:
        near, router, far = (stack.enter_context(Namespace.create()) for _ in range(3))
        for end, port, host, via in ((near, "r0", "192.0.2.1", "192.0.2.254"), (far, "r1", FAR, "198.51.100.254")):
            stack.enter_context(
                provision.create_veth(
                    "eth0", port, netns=end.name, peer_netns=router.name, address=f"{host}/24", peer_address=f"{via}/24"
                )
            )
            provision.add_route("default", via=via, netns=end.name)
        provision.set_sysctl("net/ipv4/ip_forward", 1, netns=router.name)
        yield near, far


def ip(space: Namespace, line: str) -> str:
    return subprocess.run(
        [which("ip"), "-n", space.name, *line.split()], check=True, capture_output=True, text=True
    ).stdout


def picture(space: Namespace) -> dict[str, str]:
    """All that ``up`` may touch. Left out is what runs by itself: remaining lifetimes, carriers."""
    rules = [which("nft"), "list", "ruleset"]
    settings = [which("sysctl"), "-a", "--pattern", "net.ipv4.*forward|net.ipv4.*reserved"]
    look = {
        "addresses": ip(space, "address"),
        "routes": ip(space, "route show table all"),
        "routes6": ip(space, "-6 route show table all"),
        "rules": space.run(lambda: subprocess.run(rules, check=True, capture_output=True, text=True).stdout),
        "settings": space.run(lambda: subprocess.run(settings, check=True, capture_output=True, text=True).stdout),
    }
    return {
        key: re.sub(r"\d+sec|,?LOWER_UP|NO-CARRIER,?|,?M-DOWN| linkdown| state \w+", "", text)
        for key, text in look.items()
    }


@contextmanager
def put_up(near: Namespace, **words: str) -> Iterator[uplink.Uplink]:
    before = picture(near)
    done = uplink.up("utcp0", netns=near.name, **words)  # type: ignore[arg-type]
    try:
        assert picture(near) != before
        yield done
    finally:
        uplink.down("utcp0", netns=near.name)
    assert picture(near) == before
    assert uplink.read("utcp0", netns=near.name) is None


def transfer(near: Namespace, far: Namespace, address: str, gateway: str, seen_as: str) -> None:
    """10 MB there and back, checked by what came back."""
    data = bytes(range(251)) * (SIZE // 251)
    report: list[object] = []
    server = far.run(lambda: socket.create_server((FAR, 5001)))

    def serve() -> None:
        conn, peer = server.accept()
        with conn:
            received = b"".join(iter(lambda: conn.recv(1 << 20), b""))
            report.extend((peer[0], sha256(received).hexdigest()))
            conn.sendall(received)

    thread = threading.Thread(target=serve)
    thread.start()
    with server, blocking.open(tap="utcp0", netns=near.name, address=address, gateway=gateway) as host:
        with host.connect((FAR, 5001), timeout=PATIENCE) as conn:
            conn.sendall(data)
            conn.shutdown(socket.SHUT_WR)
            received = b"".join(iter(conn.recv, b""))
        thread.join(PATIENCE)
    assert report == [seen_as, sha256(data).hexdigest()]
    assert sha256(received).hexdigest() == report[1]


def test_nat_reaches_a_host_two_hops_away_and_is_undone(net: tuple[Namespace, Namespace]) -> None:
    near, far = net
    with put_up(near) as done:
        assert (done.mode, done.uplink, done.warnings) == ("nat", "eth0", [])
        transfer(near, far, "10.9.0.2/24", "10.9.0.1", "192.0.2.1")


def test_bridge_reaches_a_host_two_hops_away_and_is_undone(net: tuple[Namespace, Namespace]) -> None:
    near, far = net
    with put_up(near, mode="bridge"):
        transfer(near, far, "192.0.2.60/24", "192.0.2.254", "192.0.2.60")
        with far.run(lambda: socket.create_server((FAR, 5002))) as server:  # the host itself is still on the network
            near.run(lambda: socket.create_connection((FAR, 5002), PATIENCE)).close()
            assert server.accept()[1][0] == "192.0.2.1"


def test_bridge_that_is_there_already_gets_one_port_more_and_keeps_its_address(
    net: tuple[Namespace, Namespace],
) -> None:
    near, _ = net
    with (
        provision.create_bridge("br0", netns=near.name),
        provision.set_master("eth0", "br0", netns=near.name),
    ):
        mac = provision.link_info("br0", near.name).mac
        with put_up(near, mode="bridge", uplink="br0"):
            assert {link.name for link in provision.links(near.name)} == {"lo", "eth0", "br0", "utcp0"}
            assert provision.link_info("br0", near.name).mac == mac


def test_bridge_moves_all_kinds_of_addresses_and_routes_there_and_back(net: tuple[Namespace, Namespace]) -> None:
    near, _ = net
    settings_of.write("net/ipv6/conf/eth0/disable_ipv6", "0", netns=near.name)
    for line in (
        "address add 192.0.2.2/24 dev eth0 label eth0:1",
        "address add 10.55.0.6/24 dev eth0 valid_lft 5000 preferred_lft 3000",
        "address add 10.66.0.6/32 dev eth0",
        "address add 2001:db8::5/64 dev eth0 nodad",
        "route replace default via 192.0.2.254 dev eth0 metric 100 mtu 1400",
        "route add 10.1.0.0/16 dev eth0 src 192.0.2.2",
        "route add 10.2.0.0/16 via 192.0.2.9 dev eth0 table 77",
        "route add 10.3.0.0/16 via 10.3.0.1 dev eth0 onlink",
        "-6 route add default via 2001:db8::1 dev eth0",
    ):
        ip(near, line)
    with put_up(near, mode="bridge", uplink="eth0"):
        assert provision.addresses("eth0", netns=near.name) == []
        assert len(provision.addresses("utcp0-br", netns=near.name)) == 4
        assert ip(near, "route show dev eth0") == ""


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ({"address": "192.0.2.7/24"}, "overlaps"),
        ({"uplink": "nothere"}, "no interface"),
        ({"mode": "magic"}, "magic"),
        ({"address": "10.9.0.1"}, "prefix"),
        ({"uplink": "lo", "mode": "bridge"}, "no Ethernet"),
    ],
)
def test_what_cannot_be_connected_is_refused_and_nothing_is_left(
    net: tuple[Namespace, Namespace], words: dict[str, str], cause: str
) -> None:
    near, _ = net
    before = picture(near)
    with pytest.raises(SetupError, match=cause) as refused:
        uplink.up("utcp0", netns=near.name, **words)  # type: ignore[arg-type]
    assert refused.value.cure
    assert picture(near) == before
    assert uplink.read("utcp0", netns=near.name) is None


def test_up_twice_and_down_of_nothing_are_refused(net: tuple[Namespace, Namespace]) -> None:
    near, _ = net
    with put_up(near):
        assert "utcp0" in [item.tap for item in uplink.list_up()]
        with pytest.raises(SetupError, match="up already"):
            uplink.up("utcp0", netns=near.name)
    with pytest.raises(SetupError, match="not put up"):
        uplink.down("utcp0", netns=near.name)


def test_device_of_that_name_which_is_somebody_elses_stays(net: tuple[Namespace, Namespace]) -> None:
    near, _ = net
    with provision.create_tap("utcp0", netns=near.name, address=None):
        with pytest.raises(SetupError, match="there already"):
            uplink.up("utcp0", netns=near.name)
        assert provision.link_exists("utcp0", near.name)


def test_firewall_that_refuses_forwarding_is_pointed_out(net: tuple[Namespace, Namespace]) -> None:
    near, _ = net
    rules = "add table ip fw; add chain ip fw forward { type filter hook forward priority 0; policy drop; }"
    near.run(lambda: subprocess.run([which("nft"), rules], check=True))
    with put_up(near) as done:
        assert len(done.warnings) == 1
        assert "'fw'" in done.warnings[0]


@pytest.mark.parametrize("mode", ["nat", "bridge"])
def test_killed_half_way_down_undoes_what_the_journal_says(net: tuple[Namespace, Namespace], mode: str) -> None:
    near, _ = net
    before = picture(near)
    script = f"""
import os, signal
from usertcp.link import settings, uplink
def die(*args, **words): os.kill(os.getpid(), signal.SIGKILL)
settings.write = die
uplink._put = die
uplink.up("utcp0", netns={near.name!r}, mode={mode!r})
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    assert picture(near) != before
    uplink.down("utcp0", netns=near.name)
    assert picture(near) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_up_that_is_ended_half_way_leaves_nothing(net: tuple[Namespace, Namespace], number: signal.Signals) -> None:
    near, _ = net
    before = picture(near)
    script = f"""
import os, sys
from usertcp.cli.main import main
from usertcp.link import settings
write = settings.write
def end(*args, **words):
    os.kill(os.getpid(), {int(number)})
    write(*args, **words)
settings.write = end
sys.argv = ["usertcp", "up", "--tap", "utcp0", "--netns", {near.name!r}]
main()
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 128 + number
    assert "Traceback" not in done.stderr
    assert picture(near) == before
    assert uplink.read("utcp0", netns=near.name) is None


def test_journal_of_a_namespace_that_is_gone_is_no_obstacle() -> None:
    with Namespace.create() as space, provision.create_tap("eth0", netns=space.name, address="192.0.2.1/24"):
        name = space.name
        uplink.up("utcp0", netns=name, uplink="eth0")
    record = uplink.read("utcp0", netns=name)
    assert record is not None
    assert json.loads(record.path.read_text())["mode"] == "nat"
    uplink.down("utcp0", netns=name)
    assert uplink.read("utcp0", netns=name) is None
