"""Namespaces, devices, addresses, routes, rules and settings: made, refused with a cure, and gone without a trace."""

import fcntl
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyroute2 import netns as pyroute2_netns

from tests.netns.programs import PATIENCE, POWERLESS, which
from tests.netns.tenants import among_no_other_names
from usertcp.errors import SetupError
from usertcp.link import netns, provision, settings
from usertcp.link.guard import guard
from usertcp.link.marks import mark
from usertcp.link.provision import Namespace


@pytest.fixture
def space() -> Iterator[Namespace]:
    with Namespace.create() as made:
        yield made


def rules(space: Namespace) -> str:
    command = [which("nft"), "list", "ruleset"]
    return space.run(lambda: subprocess.run(command, capture_output=True, text=True, check=True)).stdout


def home() -> str:
    return os.readlink(netns.THREAD_NS)


def test_fifty_namespaces_with_a_tap_leave_no_descriptor_thread_or_name() -> None:

    def held() -> tuple[list[str], int, list[str]]:
        return sorted(os.listdir("/proc/self/fd")), threading.active_count(), [n for n in netns.names() if mark() in n]

    gc.collect()  # what earlier tests have left
    before = held()
    for _ in range(50):
        with Namespace.create() as made, provision.create_tap("tap0", netns=made.name):
            pass
    assert held() == before


def test_namespaces_are_made_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones of two programs at once would mount the folder of names twice."""
    attach, locked = pyroute2_netns.attach, []

    def look(*words: str) -> None:
        folder = os.open(netns.RUN_DIR, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            locked.append(words)
        os.close(folder)
        attach(*words)

    monkeypatch.setattr(pyroute2_netns, "attach", look)
    with Namespace.create():
        assert locked
        with netns.alone():  # it is over
            pass


def test_thread_returns_from_a_namespace_also_when_what_it_ran_failed(space: Namespace) -> None:
    there = home()
    assert space.run(home) != there
    with pytest.raises(ZeroDivisionError):
        space.run(lambda: 1 // 0)
    assert home() == there


def test_namespace_runs_in_many_threads_at_once(space: Namespace) -> None:
    with Namespace.create() as other:
        inside = {made.name: made.run(home) for made in (space, other)}
        wrong: list[str] = []

        def work(made: Namespace) -> None:
            for _ in range(50):
                if made.run(home) != inside[made.name] or provision.link_exists("nothere", made.name):
                    wrong.append(made.name)

        threads = [threading.Thread(target=work, args=(made,)) for made in (space, other) * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_tap_is_up_with_its_address_and_gone_afterwards(space: Namespace) -> None:
    with provision.create_tap("tap0", netns=space.name, address="10.7.0.1/16", mtu=1300):
        info = provision.link_info("tap0", space.name)
        assert (info.up, info.mtu, info.kind) == (True, 1300, "tun")
        assert provision.addresses("tap0", netns=space.name) == ["10.7.0.1/16"]
    assert not provision.link_exists("tap0", space.name)


def test_device_that_somebody_else_removed_is_undone_quietly(space: Namespace) -> None:
    made = provision.create_tap("tap0", netns=space.name)
    provision.delete_link("tap0", netns=space.name)
    with provision.create_bridge("tap0", netns=space.name):  # another of the same name is not ours
        made.remove()
        assert provision.link_exists("tap0", space.name)


def test_failing_half_way_leaves_nothing(space: Namespace) -> None:
    with pytest.raises(SetupError):
        provision.create_tap("tap0", netns=space.name, mtu=1_000_000)
    assert [link.name for link in provision.links(space.name)] == ["lo"]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda name: provision.create_tap("tap0", netns=name, address="10.8.0.1/24"), "there already"),
        (lambda name: provision.create_tap("tap1", netns=name), "10.9.0.1 is already on 'tap0'"),
        (lambda name: provision.create_tap("tap1", netns=name, address="10.9.0.9/16"), "overlaps"),
        (lambda name: provision.create_tap("tap1", netns=name, address="10.9.0.9"), "prefix"),
        (lambda name: provision.create_tap("tap1", netns="nothere"), "no network namespace"),
        (lambda name: provision.add_address("tap0", "10.9.0.1/24", netns=name), "already on"),
        (lambda name: provision.add_route("default", via="1.2.3.4", netns=name), "cannot be reached"),
        (lambda name: provision.add_route("10.1/8", via="10.9.0.9", netns=name), "route"),
        (lambda name: provision.set_up("nothere", netns=name), "no interface"),
        (lambda name: provision.create_veth("v0", "tap0", netns=name), "there already"),
        (Namespace.create, "there already"),
        (lambda name: Namespace.create("a/b"), "cannot be called"),
        (lambda name: provision.sysctl("net/nothere", netns=name), "net/nothere"),
    ],
)
def test_what_cannot_be_is_refused_with_a_cure(space: Namespace, what: Callable[[str], object], words: str) -> None:
    with provision.create_tap("tap0", netns=space.name):
        with pytest.raises(SetupError, match=words) as refused:
            what(space.name)
        assert refused.value.cure
        assert sorted(link.name for link in provision.links(space.name)) == ["lo", "tap0"]


def test_route_bridge_and_setting_are_there_and_then_as_before(space: Namespace) -> None:
    def route() -> str:
        return space.run(lambda: Path("/proc/thread-self/net/route").read_text())

    with provision.create_tap("tap0", netns=space.name), provision.create_bridge("br0", netns=space.name):
        before = route()
        with (
            provision.add_route("default", via="10.9.0.2", netns=space.name),
            provision.set_master("tap0", "br0", netns=space.name),
            provision.set_sysctl("net/ipv4/ip_forward", 1, netns=space.name),
        ):
            assert provision.default_interface(space.name) == "tap0"
            assert provision.link_info("tap0", space.name).master
            assert provision.sysctl("net/ipv4/ip_forward", netns=space.name) == "1"
        assert route() == before
        assert not provision.link_info("tap0", space.name).master
        assert provision.sysctl("net/ipv4/ip_forward", netns=space.name) == "0"


def test_guard_is_there_reserves_our_ports_and_leaves_nothing(space: Namespace) -> None:
    with provision.create_tap("tap0", netns=space.name):
        settings.write(settings.RESERVED_PORTS, "40000", netns=space.name)
        before = rules(space)
        with guard("10.9.0.1", (50000, 62000), netns=space.name):
            assert "tcp dport 50000-62000 drop" in rules(space)
            assert "rst" in rules(space)
            assert settings.sysctl(settings.RESERVED_PORTS, netns=space.name) == "40000,50000-60999"
            settings.write(settings.RESERVED_PORTS, "40000,40005,50000-60999", netns=space.name)
        assert rules(space) == before
        assert settings.sysctl(settings.RESERVED_PORTS, netns=space.name) == "40000,40005"


def test_guard_of_a_port_that_the_kernel_uses_is_refused(space: Namespace) -> None:
    with provision.create_tap("tap0", netns=space.name), space.run(lambda: socket.create_server(("", 61005))):
        before = rules(space)
        with pytest.raises(SetupError, match="61005"), guard("10.9.0.1", netns=space.name):
            pass
        assert rules(space) == before


def await_states(look: Callable[[], object], wanted: object) -> None:
    """An acknowledgment may be delayed, or the machine be busy."""
    end = time.monotonic() + 30
    while look() != wanted and time.monotonic() < end:
        time.sleep(0.01)
    assert look() == wanted


def test_states_of_the_kernels_sockets_are_spelled_as_in_the_rfc(space: Namespace) -> None:
    def states(port: int) -> set[str]:
        return {item.state for item in provision.tcp_states(space.name) if item.local[1] == port}

    with space.run(lambda: socket.create_server(("127.0.0.1", 81))) as server:
        client = space.run(lambda: socket.create_connection(("127.0.0.1", 81)))
        conn, _ = server.accept()
        port = client.getsockname()[1]
        assert states(81) == {"LISTEN", "ESTABLISHED"}
        client.close()
        await_states(lambda: (states(port), states(81)), ({"FIN-WAIT-2"}, {"LISTEN", "CLOSE-WAIT"}))
        conn.close()
        await_states(lambda: (states(port), states(81)), ({"TIME-WAIT"}, {"LISTEN"}))


def test_half_open_connections_are_listed_on_both_sides(space: Namespace) -> None:
    with (
        Namespace.create() as other,
        space.run(socket.socket) as client,
        provision.create_veth(
            "a0", "b0", netns=space.name, peer_netns=other.name, address="10.1.0.1/24", peer_address="10.1.0.2/24"
        ),
    ):
        server = other.run(lambda: socket.create_server(("10.1.0.2", 81)))
        drop = "add table ip t; add chain ip t c { type filter hook input priority 0; }; add rule ip t c drop"
        space.run(lambda: subprocess.run([which("nft"), drop], check=True))
        client.setblocking(False)
        client.connect_ex(("10.1.0.2", 81))
        with server:
            assert [item.state for item in provision.tcp_states(space.name)] == ["SYN-SENT"]
            await_states(lambda: {item.state for item in provision.tcp_states(other.name)}, {"LISTEN", "SYN-RECEIVED"})


PROGRAM = """
import sys, time
from usertcp.link import provision
from usertcp.link.guard import guard
from usertcp.link.marks import mark
with provision.unwinding():
    outer = sys.argv[1]
    made = provision.Namespace.create()
    provision.create_tap("tap7", netns=outer, address="10.7.0.1/24")
    provision.set_sysctl("net/ipv4/ip_forward", 1, netns=outer)
    provision.add_route("192.0.2.0/24", via="10.7.0.2", netns=outer)
    with guard("10.7.0.1", netns=outer):
        print(made.name, flush=True)
        time.sleep(60)
"""


@contextmanager
def started(space: Namespace) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A program that has set much up in ``space``, and a namespace of its own whose name is given, and waits."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM, space.name], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            yield program, program.stdout.readline().strip()
        finally:
            program.kill()


def picture(space: Namespace) -> tuple[object, ...]:
    route = space.run(lambda: Path("/proc/thread-self/net/route").read_text())
    forward = provision.sysctl("net/ipv4/ip_forward", netns=space.name)
    return [link.name for link in provision.links(space.name)], route, forward, rules(space)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_program_ended_by_a_signal_leaves_nothing(space: Namespace, number: signal.Signals) -> None:
    before = picture(space)
    with started(space) as (program, name):
        assert netns.exists(name)
        assert picture(space) != before
        program.send_signal(number)
        assert program.wait(PATIENCE) != 0
    assert not netns.exists(name)
    assert picture(space) == before


def test_program_that_was_killed_leaves_orphans_that_are_known_and_no_rules() -> None:
    def work() -> None:
        with Namespace.create() as space:
            with started(space) as (program, name):
                assert f"namespace {name}" not in provision.stale()
                program.kill()
                program.wait(PATIENCE)
            assert rules(space) == ""  # the kernel dropped the guard with its owner
            assert f"namespace {name}" in provision.stale()
            assert "device tap7" in space.run(provision.stale)
            assert f"namespace {name}" in provision.remove_stale()
            assert not netns.exists(name)

    among_no_other_names(work)


def test_without_root_every_road_ends_with_a_cause_and_a_cure() -> None:
    script = """
from usertcp.errors import SetupError
from usertcp.link import provision, settings
from usertcp.link.guard import guard
from usertcp.link.marks import mark
from usertcp.link.packet import PacketLink
from usertcp.link.tap import TapLink
from usertcp.link.uplink import up
def guarded():
    with guard("127.0.0.1"): pass
roads = [provision.Namespace.create, lambda: provision.create_tap("tap7"), lambda: TapLink.open("tap7", create=True),
    lambda: PacketLink.open("lo", address="10.0.0.1"), lambda: provision.create_bridge("br7"), guarded,
    lambda: settings.write("net/ipv4/ip_forward", "0"), lambda: provision.add_address("lo", "10.0.0.1/8"),
    lambda: up("tap7", uplink="lo")]
for road in roads:
    try:
        road()
    except SetupError as error:
        print(error.cure)
    else:
        print("done?")
"""
    cmd = [*POWERLESS, sys.executable, "-c", script]
    done = subprocess.run(cmd, capture_output=True, text=True, timeout=PATIENCE, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == 9, done.stderr
    assert all("root" in line for line in lines), lines
