"""``usertcp engine``: several processes share a TUN, an address and a port, and each flow stays where it began."""

import json
import os
import signal
import socket
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.netns.peer import blocks, digest
from tests.netns.plugged import KERNEL, STACK
from tests.netns.programs import Peer, Program, usertcp
from tests.netns.worker_program import KERNEL_SERVER
from usertcp.link import provision
from usertcp.link.provision import Namespace

MODULE: Final = "tests.netns.worker_program"
FORGETS: Final = 3.0  # seconds of silence after which a TUN forgets which queue a flow was written on (TUN_FLOW_EXPIRE)
EACH: Final = 100_000  # bytes each way on each connection


@pytest.fixture
def space() -> Iterator[Namespace]:
    """A namespace with a TUN that several may attach to."""
    with (
        Namespace.create() as made,
        provision.create_tap("tun0", netns=made.name, address=f"{KERNEL}/24", tun=True, queues=True),
    ):
        yield made


def engine(space: Namespace, function: str, *arguments: int, workers: int = 2) -> Program:
    options = ("--workers", workers, "--tun", "tun0", "--netns", space.name)
    return Program(None, usertcp("engine", *options, f"{MODULE}:{function}", *arguments))


def begun(program: Program) -> None:
    """Wait until it says that its workers run; before, it may warn that they cannot read where Python lies."""
    while b"run" not in (line := program.remark()) or b"warning" in line:
        assert b"warning" in line, line


def said(output: bytes) -> dict[int, dict[str, Any]]:
    """What each worker printed, by its process."""
    told: dict[int, dict[str, Any]] = defaultdict(dict)
    for line in output.splitlines():
        words = json.loads(line)
        told[words["worker"]] |= words
    return told


@pytest.mark.parametrize("workers", [2, 3])
def test_many_connections_both_ways_each_intact_and_every_worker_used(space: Namespace, workers: int) -> None:
    calls, clients = 10, 60
    with (
        Peer(space.name, "echo", *KERNEL_SERVER).ready() as server,
        engine(space, "echo_and_call", 7000, calls, EACH, workers=workers) as program,
    ):
        begun(program)
        options = ("--count", clients, "--together", clients // 2, "--size", EACH)
        with Peer(space.name, "clients", STACK, 7000, *options).ready() as peer:
            assert peer.report()["intact"] == clients
        first = [program.line() for _ in range(workers)]  # all calls are over
        assert server.report()["served"] == calls * workers
        program.process.terminate()
        told = said(b"".join([*first, program.finish(code=143)]))
    assert [one["intact"] for one in told.values()] == [calls] * workers
    assert all(one["served"] > 0 for one in told.values())
    assert sum(one["served"] for one in told.values()) == clients
    assert all("drop_other_queue" not in one["counters"] for one in told.values())


def test_flow_that_was_silent_for_long_is_still_its_workers(space: Namespace) -> None:
    size = 1_000_000
    with space.run(lambda: socket.create_server(KERNEL_SERVER)) as server, engine(space, "listen_long") as program:
        peers = [server.accept()[0] for _ in range(2)]
        time.sleep(FORGETS + 1)
        for peer in peers:
            with peer:
                for block in blocks(size, 7):
                    peer.sendall(block)
        told = said(program.finish())
    assert [one["sha256"] for one in told.values()] == [digest(size, 7)] * 2


def test_worker_that_fails_ends_all(space: Namespace) -> None:
    with engine(space, "fail") as program:
        program.finish(code=1)
    assert "this one fails" in program.errors or "Input/output error" in program.errors
    assert "ended with status 1, and the others end with it" in program.errors


def test_worker_that_is_killed_ends_all_and_an_engine_that_starts_anew_serves(space: Namespace) -> None:
    with engine(space, "echo_and_call", 7000, 0, 0) as program:
        begun(program)
        first, second = (json.loads(program.line())["worker"] for _ in range(2))
        os.kill(first, signal.SIGKILL)
        program.finish(code=1)
        assert f"a worker (process {first}) was killed by signal 9, and the others end with it" in program.errors
        with pytest.raises(ProcessLookupError):
            os.kill(second, 0)
    with engine(space, "echo_and_call", 7000, 0, 0) as program:
        begun(program)
        with Peer(space.name, "clients", STACK, 7000, "--count", 10, "--together", 5, "--size", EACH).ready() as peer:
            assert peer.report()["intact"] == 10


def test_program_that_cannot_be_loaded_is_refused_before_anything_is_made() -> None:
    with Program(None, usertcp("engine", "--workers", 2, "no_such_module:serve")) as program:
        program.finish(code=1)
    assert "cannot load 'no_such_module:serve'" in program.errors


def test_several_workers_on_a_tun_for_one_are_refused() -> None:
    with (
        Namespace.create() as made,
        provision.create_tap("tun0", netns=made.name, address=f"{KERNEL}/24", tun=True),
        engine(made, "fail") as program,
    ):
        program.finish(code=1)
    assert "'tun0' is no TUN that several can attach to" in program.errors
    assert "a worker did not start" in program.errors


def test_several_workers_on_a_tap_are_refused() -> None:
    with Program(None, usertcp("engine", "--workers", 2, "--tap", "tap0", f"{MODULE}:fail")) as program:
        program.finish(code=1)
    assert "several workers share a TUN" in program.errors


def test_one_worker_serves_on_any_device() -> None:
    with (
        Namespace.create() as made,
        Program(
            None, usertcp("engine", "--tap", "tap0", "--netns", made.name, f"{MODULE}:echo_and_call", 7000, 0, 0)
        ) as program,
    ):
        begun(program)
        with Peer(made.name, "clients", STACK, 7000, "--count", 3, "--together", 3, "--size", EACH).ready() as peer:
            assert peer.report()["intact"] == 3
