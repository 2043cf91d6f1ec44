"""The obvious mistakes: each gets a message with the cause and the cure, and an exit status that is not 0."""

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netns.programs import PATIENCE, POWERLESS, ROOT, Program, usertcp
from usertcp.link import netns, provision
from usertcp.link.tap import TapLink

STACK = "10.9.0.2"
KERNEL = "10.9.0.1"


def fails(*arguments: str | float | Path, code: int = 1, prefix: tuple[str, ...] = ()) -> str:
    """Run a command line that must fail with ``code``; what it said on stderr."""
    return failed([*prefix, *usertcp(*map(str, arguments))], code)


def failed(command: list[str], code: int = 1) -> str:
    """The same for a command that runs usertcp."""
    done = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr


def cause_and_cure(text: str) -> tuple[str, str]:
    """The two lines of a message."""
    cause, cure = text.splitlines()[-2:]
    assert cause.startswith("usertcp: ")
    assert cure.startswith("  ")
    assert len(cure.split()) >= 3, "a cure in a few words at least"
    return cause.removeprefix("usertcp: "), cure.strip()


@pytest.fixture
def space() -> Iterator[str]:
    """A namespace of the test's own."""
    with provision.Namespace.create() as made:
        yield made.name


@contextmanager
def running(*arguments: str | int) -> Iterator[Program]:
    """A subcommand that has said on stderr that it is ready."""
    with Program(None, usertcp(*arguments)) as program:
        assert program.process.stderr is not None
        assert program.process.stderr.readline(), "it ended without a word"
        yield program


@pytest.mark.parametrize(
    "arguments",
    [["demo"], ["lab", "refused"], ["ping", "-c", "1", KERNEL], ["nc", KERNEL, "9"], ["up"], ["down"]],
    ids=lambda arguments: arguments[0],
)
def test_no_root_every_subcommand_says_so(arguments: list[str]) -> None:
    cause, cure = cause_and_cure(fails(*arguments, prefix=POWERLESS))
    if arguments != ["down"]:
        assert "not" in cause
        assert "root" in cure


def test_no_dev_net_tun_says_how_to_get_it() -> None:
    hidden = "mount -t tmpfs none /dev && exec " + " ".join(f"'{part}'" for part in usertcp("ping", "-c", 1, KERNEL))
    cause, cure = cause_and_cure(failed(["unshare", "--mount", "sh", "-c", hidden]))
    assert "/dev/net/tun" in cause
    assert "modprobe tun" in cure


def test_device_in_use_by_another_program_says_so(space: str) -> None:
    with provision.create_tap("busy0", netns=space), TapLink.open("busy0", netns=space):
        cause, _ = cause_and_cure(fails("ping", "-c", 1, "--tap", "busy0", "--netns", space, KERNEL))
    assert "'busy0' is in use" in cause


def test_interface_that_is_no_tap_says_so(space: str) -> None:
    cause, cure = cause_and_cure(fails("ping", "-c", 1, "--tap", "lo", "--netns", space, KERNEL))
    assert "'lo' is no TAP" in cause
    assert "--packet" in cure


def test_interface_that_is_not_there_says_so(space: str) -> None:
    cause, _ = cause_and_cure(fails("ping", "-c", 1, "--packet", "eth9", "--netns", space, KERNEL))
    assert "'eth9'" in cause


def test_namespace_that_is_not_there_says_so() -> None:
    cause, cure = cause_and_cure(fails("ping", "-c", 1, "--netns", "nosuchspace", KERNEL))
    assert "'nosuchspace'" in cause
    assert "ip netns add nosuchspace" in cure


def test_address_already_on_a_link_says_so(space: str) -> None:
    with provision.create_tap("first0", netns=space):
        cause, _ = cause_and_cure(fails("ping", "-c", 1, "--tap", "second0", "--netns", space, KERNEL))
    assert "10.9.0.1" in cause
    assert not any(item.name == "second0" for item in provision.links(space))


@pytest.mark.parametrize(
    "options",
    [
        ["--address", "10.9.0.2"],
        ["--address", "10.9.0.256/24"],
        ["--gateway", "nowhere"],
        ["--tap", "a", "--packet", "b"],
        ["--tap", "much-too-long-a-name"],
        ["--pcap", "/nonexistent/file.pcap"],
        ["--tap", ""],
        ["--netns", "../../etc/passwd"],
        ["--address", "10.9.0.0/24"],
        ["--address", "10.9.0.255/24"],
        ["--gateway", "10.9.0.2"],
        ["--gateway", "10.9.0.255"],
        ["--gateway", "10.8.0.1"],
        ["--address", "10.50.0.2/24"],
        ["--mtu", "65535"],
    ],
    ids=" ".join,
)
def test_device_option_that_makes_no_sense_is_refused(options: list[str]) -> None:
    cause_and_cure(fails("ping", "-c", 1, *options, KERNEL))


@pytest.mark.parametrize("device", ["--tap", "--packet"])
def test_address_of_the_kernel_says_whose_it_is(space: str, device: str) -> None:
    with provision.create_veth("a0", "b0", netns=space, peer_netns=space, address="10.7.0.1/24"):
        name = "a0" if device == "--packet" else "tap0"
        options = [device, name, "--netns", space, "--address", "10.7.0.1/24"]
        cause, cure = cause_and_cure(fails("ping", "-c", 1, *options, "10.7.0.2"))
    assert cause == "10.7.0.1 is the kernel's own address"
    assert "leave the address out" in cure


def test_no_driver_behind_dev_net_tun_says_how_to_load_it() -> None:
    command = " ".join(f"'{part}'" for part in usertcp("ping", "-c", 1, KERNEL))
    hidden = f"mount --bind /dev/null /dev/net/tun && exec {command}"
    cause, cure = cause_and_cure(failed(["unshare", "--mount", "sh", "-c", hidden]))
    assert "/dev/net/tun has no driver" in cause
    assert "modprobe tun" in cure


def test_payload_that_does_not_fit_says_what_would() -> None:
    cause, cure = cause_and_cure(fails("ping", "-c", 1, "-s", 1473, KERNEL))
    assert "too long" in cause
    assert "--mtu" in cure


def test_living_device_in_the_way_is_not_offered_for_deletion(space: str) -> None:
    with provision.create_tap("tap9", netns=space):
        _, cure = cause_and_cure(fails("up", "--netns", space, "--uplink", "lo", "--tap", "tap9"))
    assert "another name" in cure
    assert "delete" not in cure


def test_bridge_with_what_only_nat_takes_is_refused(space: str) -> None:
    for options in (["--mtu", 9000], ["--kernel-address", "10.9.9.1/24"]):
        cause, _ = cause_and_cure(fails("up", "--bridge", "--netns", space, "--uplink", "lo", *options))
        assert "of its uplink" in cause


def test_nobody_connects_in_time_says_so() -> None:
    assert cause_and_cure(fails("nc", "-l", "-w", 0.1, 7000))[0] == "nobody connected within 0.1 s"


def test_device_of_another_stack_says_so(space: str) -> None:
    with provision.create_tap("tap0", netns=space), running("nc", "-l", "--tap", "tap0", "--netns", space, 7000):
        cause, _ = cause_and_cure(fails("nc", "-l", "--tap", "tap0", "--netns", space, 7001))
    assert "'tap0' is in use" in cause


def test_port_in_use_by_the_kernel_says_so(space: str) -> None:
    with provision.create_veth("a0", "b0", netns=space, peer_netns=space, address="10.7.0.1/24"):
        with netns.inside(space):
            server = socket.create_server(("10.7.0.1", 61500))
        with server:
            cause, cure = cause_and_cure(fails("nc", "-l", "--packet", "a0", "--netns", space, 61500))
    assert "port 61500 of 10.7.0.1 is in use" in cause
    assert "ports" in cure


def test_port_in_use_by_another_stack_says_so(space: str) -> None:
    with (
        provision.create_veth("a0", "b0", netns=space, peer_netns=space, address="10.7.0.1/24"),
        running("nc", "-l", "--packet", "a0", "--netns", space, 61500),
    ):
        cause, _ = cause_and_cure(fails("nc", "-l", "--packet", "a0", "--netns", space, 61500))
    assert "of 10.7.0.1 are in use by another usertcp" in cause


def test_address_that_is_not_the_stacks_says_so() -> None:
    cause, cure = cause_and_cure(fails("nc", "-l", "10.9.0.77", 7000))
    assert "Cannot assign requested address" in cause
    assert "not the stack's" in cure


def test_device_under_a_running_stack_is_removed_connection_says_so(space: str) -> None:
    with (
        provision.create_tap("tap0", netns=space) as tap,
        running("nc", "-l", "--tap", "tap0", "--netns", space, 7000) as nc,
    ):
        tap.remove()
        nc.process.wait(PATIENCE)
        assert nc.process.stderr is not None
        text = nc.process.stderr.read().decode()
    assert nc.process.returncode == 1
    assert "tap0 is gone" in cause_and_cure(text)[0]


@pytest.mark.parametrize("arguments", [["ping", "-c", "1"], ["get"], ["nc"]], ids=lambda arguments: arguments[0])
def test_name_that_does_not_resolve_says_so(arguments: list[str]) -> None:
    name = "no-such-host.invalid"
    cause, cure = cause_and_cure(fails(*arguments, name, *(["80"] if arguments == ["nc"] else [])))
    assert name in cause
    assert "resolve" in cause
    assert "spelling" in cure


def test_ipv6_address_says_that_only_ipv4_is_spoken() -> None:
    cause, cure = cause_and_cure(fails("nc", "::1", 80))
    assert "Address family" in cause
    assert "IPv4" in cure


def test_nobody_listens_is_refused_at_once() -> None:
    cause, cure = cause_and_cure(fails("nc", KERNEL, 9))
    assert cause == f"connecting to {KERNEL} port 9: Connection refused"
    assert "nobody listens" in cure


def test_gateway_that_does_not_answer_says_so() -> None:
    cause, cure = cause_and_cure(fails("nc", "--gateway", "10.9.0.99", "192.0.2.1", 80))
    assert "No route to host" in cause
    assert "--gateway" in cure


def test_no_route_says_that_a_gateway_is_missing() -> None:
    cause, cure = cause_and_cure(fails("nc", "--gateway", "", "192.0.2.1", 80))
    assert "unreachable" in cause
    assert "--gateway" in cure


def test_peer_that_vanishes_connection_ends_with_a_message(space: str) -> None:
    with provision.create_tap("tap0", netns=space):
        with netns.inside(space):
            server = socket.create_server((KERNEL, 7000))
        server.settimeout(PATIENCE)
        with server, Program(None, usertcp("nc", "--tap", "tap0", "--netns", space, KERNEL, 7000)) as nc:
            peer, _ = server.accept()
            with peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            assert nc.process.stderr is not None
            assert nc.process.wait(PATIENCE) == 1
            cause, _ = cause_and_cure(nc.process.stderr.read().decode())
    assert cause == f"the connection to {KERNEL} port 7000: Connection reset by peer"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nc", "80"],
        ["nc", "host", "http"],
        ["nc", "host", "70000"],
        ["nc", "-l", "a", "b", "1"],
        ["lab"],
        ["lab", "nosuch"],
        ["lab", "handshake", "--role", "spectator"],
        ["lab", "--all", "handshake"],
        ["ping"],
        ["ping", "-c", "0", KERNEL],
        ["ping", "-W", "nan", KERNEL],
        ["ping", "-i", "inf", KERNEL],
        ["nc", "-w", "0", KERNEL, "80"],
        ["nc", "-l", "-w", "-1", "80"],
        ["get", "-w", "inf", "http://host/"],
        ["ping", "--mtu", "12", KERNEL],
        ["http-serve", "/no/such/directory"],
        ["nosuch"],
    ],
    ids=" ".join,
)
def test_command_line_that_is_wrong_exits_2(arguments: list[str]) -> None:
    text = fails(*arguments, code=2)
    assert re.search(r"Error: .", text)


def test_url_that_is_not_http_is_refused() -> None:
    for url in ("https://host/", "ftp://host/", "http:///path", "http://host:0/"):
        assert "http://" in cause_and_cure(fails("get", url))[1]


def test_ss_of_a_stack_that_does_not_run_says_what_runs() -> None:
    cause, _ = cause_and_cure(fails("ss", "nosuch"))
    assert "'nosuch'" in cause


def test_down_without_up_says_what_is_up(space: str) -> None:
    cause, _ = cause_and_cure(fails("down", "--tap", "tap7", "--netns", space))
    assert "was not put up" in cause


def test_up_without_default_route_asks_for_the_uplink(space: str) -> None:
    cause, cure = cause_and_cure(fails("up", "--netns", space))
    assert "default route" in cause
    assert "--uplink" in cure


def test_output_of_get_that_cannot_be_written_is_known_before_anything_is_asked(tmp_path: Path) -> None:
    cause, _ = cause_and_cure(fails("get", "-o", tmp_path / "no" / "file", "http://192.0.2.1/"))
    assert cause == f"writing {tmp_path / 'no' / 'file'}: No such file or directory"


def test_lab_file_that_cannot_be_written_says_so_before_the_first_run(tmp_path: Path) -> None:
    command = usertcp("lab", "refused", "--role", "client", "--svg", tmp_path / "no" / "file.svg")
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert "drawing" in cause_and_cure(done.stderr)[0]
    assert done.stdout == ""
