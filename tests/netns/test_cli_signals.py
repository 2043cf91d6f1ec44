"""Ctrl-C, SIGTERM and SIGHUP: the exit status a shell expects, and nothing that was made is left behind."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.netns.programs import PATIENCE, ROOT, traces, usertcp
from usertcp import blocking
from usertcp.link import netns, provision

KERNEL = "10.9.0.1"
EXIT = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture
def space() -> Iterator[str]:
    with provision.Namespace.create() as made:
        yield made.name


def begun(*arguments: str | int) -> subprocess.Popen[bytes]:
    """A subcommand in a session of its own."""
    return subprocess.Popen(
        usertcp(*arguments),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def listening(program: subprocess.Popen[bytes]) -> None:
    """Wait until it says so."""
    assert program.stderr is not None
    assert b"listening" in program.stderr.readline()


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.02)


def spaces_of(pid: int) -> list[str]:
    return [name for name in netns.names() if name.startswith(f"usertcp-{pid}-")]


def ended(program: subprocess.Popen[bytes], number: signal.Signals, *others: int) -> None:
    """Send the signal, and wait for the exit status that belongs to it, or one of ``others``."""
    program.send_signal(number)
    try:
        _, text = program.communicate(timeout=PATIENCE)
    finally:
        program.kill()
    assert program.returncode in (EXIT[number], *others), text
    assert b"Traceback" not in text
    assert traces(program.pid) == []


@pytest.mark.parametrize("number", EXIT, ids=lambda number: number.name)
@pytest.mark.parametrize(
    "arguments",
    [["nc", "-l", "7000"], ["http-serve", "."], ["ping", KERNEL], ["nc", "192.0.2.1", "7000", "--gateway", "10.9.0.9"]],
    ids=["listening", "serving", "pinging", "connecting"],
)
def test_interrupted_at_work_namespace_and_control_socket_are_gone(
    arguments: list[str], number: signal.Signals
) -> None:
    program = begun(*arguments)
    until(lambda: bool(spaces_of(program.pid)), "a namespace")
    time.sleep(0.5)
    ended(program, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("arguments", [["lab", "--all"], ["demo"]], ids=["lab", "demo"])
def test_interrupted_lab_its_namespace_is_gone(arguments: list[str], number: signal.Signals) -> None:
    program = begun(*arguments)
    until(lambda: bool(spaces_of(program.pid)), "a namespace")
    time.sleep(0.2)
    ended(program, number)


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.005, 0.01, 0.02, 0.04])
def test_terminated_while_setting_up_nothing_is_left(delay: float) -> None:
    program = begun("nc", "-l", 7000)
    until(lambda: bool(spaces_of(program.pid)) or program.poll() is not None, "a namespace")
    time.sleep(delay)
    ended(program, signal.SIGTERM)


def test_terminated_twice_undoing_is_not_disturbed() -> None:
    program = begun("nc", "-l", 7000)
    until(lambda: bool(spaces_of(program.pid)), "a namespace")
    time.sleep(0.5)
    program.send_signal(signal.SIGTERM)
    ended(program, signal.SIGTERM, -signal.SIGTERM)  # when all is undone nobody keeps the second from ending it


def test_interrupted_while_the_peer_takes_nothing_ends_at_once(space: str) -> None:
    with provision.create_tap("tap0", netns=space):
        with netns.inside(space):
            server = socket.create_server((KERNEL, 7000))
        with server, open("/dev/zero", "rb") as endless:
            command = usertcp("nc", "--tap", "tap0", "--netns", space, KERNEL, 7000)
            program = subprocess.Popen(command, cwd=ROOT, stdin=endless, stderr=subprocess.PIPE, start_new_session=True)
            with server.accept()[0]:
                time.sleep(0.5)  # until the window is closed
                started = time.monotonic()
                ended(program, signal.SIGINT)
                assert time.monotonic() - started < blocking.LINGER  # that it would wait for acknowledgments


def test_interrupted_tap_that_was_there_before_stays(space: str) -> None:
    with provision.create_tap("mine0", netns=space):
        program = begun("nc", "-l", "--tap", "mine0", "--netns", space, 7000)
        listening(program)
        ended(program, signal.SIGTERM)
        assert provision.link_exists("mine0", space)
        assert provision.addresses("mine0", netns=space) == ["10.9.0.1/24"]


def test_interrupted_tap_that_was_made_is_gone(space: str) -> None:
    program = begun("nc", "-l", "--tap", "made0", "--netns", space, 7000)
    listening(program)
    assert provision.link_exists("made0", space)
    ended(program, signal.SIGTERM)
    assert not provision.link_exists("made0", space)


def test_interrupted_shared_address_the_rules_that_kept_the_kernel_away_are_gone(space: str) -> None:
    with provision.create_veth("a0", "b0", netns=space, peer_netns=space, address="10.7.0.1/24"):
        program = begun("nc", "-l", "--packet", "a0", "--netns", space, 61500)
        listening(program)
        assert provision.run_inside(space, rules) != ""
        ended(program, signal.SIGTERM)
        assert provision.run_inside(space, rules) == ""
        reserved = "net/ipv4/ip_local_reserved_ports"
        assert provision.run_inside(space, lambda: Path("/proc/sys", reserved).read_text().strip()) == ""


def rules() -> str:
    """The packet rules of this namespace, as nft lists them."""
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout.strip()


def test_reader_of_the_output_has_gone_no_traceback() -> None:
    command = f"{' '.join(repr(part) for part in usertcp('lab', '--list'))} | head -n 1"
    done = subprocess.run(["sh", "-c", command], check=False, cwd=ROOT, capture_output=True, timeout=PATIENCE)
    assert done.stdout
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr
