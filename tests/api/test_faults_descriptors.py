"""Descriptors run out, at every place that makes one: an errno says so, nothing leaks, and later all is well."""

import contextlib
import errno
import gc
import os
import resource
import select
import socket as kernel
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import usertcp.socket as us
from tests.api.hosts import LEFT, PATIENCE, PORT, RIGHT, nothing_left, stack_on
from tests.api.sockets import connected, local_pair, one_engine, two_engines, until
from usertcp import blocking
from usertcp.driver import broker, messages
from usertcp.driver.base import Pump
from usertcp.driver.control import ControlServer, Place
from usertcp.driver.engine import Engine
from usertcp.errors import SetupError
from usertcp.link import tap
from usertcp.link.memory import MemoryLink, memory_pair

MOST = 40  # descriptors that no single thing here needs


@contextmanager
def only(count: int) -> Iterator[None]:
    """Within the block there are ``count`` descriptors left, and no more can be had."""
    gc.collect()  # what earlier tests have left is not to be closed in the block
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = max(map(int, os.listdir("/proc/self/fd"))) + MOST
    hoard: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (top, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                hoard.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        for _ in range(count):
            os.close(hoard.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in hoard:
            os.close(fd)


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine takes the limit as it is."""
    monkeypatch.setattr(broker, "_raise_descriptor_limit", lambda: None)


def number(action: Callable[[], object]) -> str:
    """The name of the errno that ``action`` raises, "" if none."""
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


# -- beginning -------------------------------------------------------------------------------------------------------


def begin_blocking(link: MemoryLink) -> None:
    blocking.Host(stack_on(link, LEFT), link, linger=0).close()


def begin_engine(link: MemoryLink) -> None:
    us.Engine(stack_on(link, LEFT), link).close(0)


@pytest.mark.parametrize("begin", [begin_blocking, begin_engine])
def test_stack_with_too_few_descriptors_says_emfile_leaves_none_open_and_begins_once_there_are_enough(
    begin: Callable[[MemoryLink], None], limited: None
) -> None:
    with nothing_left():
        for count in range(MOST):
            link, other = memory_pair()
            with only(count):
                files = os.listdir("/proc/self/fd") if count else []
                outcome = number(lambda: begin(link))  # noqa: B023
                if count:
                    assert len(os.listdir("/proc/self/fd")) == len(files)
            link.close()
            other.close()
            if not outcome:
                break
            assert outcome == "EMFILE"
        assert 0 < count < 15


def test_device_file_without_a_descriptor_names_the_limit_and_not_the_driver() -> None:
    with only(0), pytest.raises(SetupError, match="Too many open files") as refused:
        raise tap.device_missing(OSError(errno.EMFILE, "").errno)
    assert "ulimit" in refused.value.cure


# -- sockets ---------------------------------------------------------------------------------------------------------


def test_sockets_without_descriptors_say_emfile_and_those_that_are_open_go_on(limited: None) -> None:
    with nothing_left(), two_engines() as (left, right):
        client, server = connected(left, right)
        with only(0):
            assert number(left.make_socket) == "EMFILE"
            assert number(lambda: left.create_connection((RIGHT, PORT))) == "EMFILE"
            client.sendall(b"still")
            assert server.recv(100) == b"still"
        again, other = connected(left, right)
        for sock in (again, other, client, server):
            sock.close()


def test_accept_without_a_descriptor_says_emfile_and_the_connection_waits(limited: None) -> None:
    with nothing_left(), two_engines() as (left, right):
        listener = right.make_socket()
        listener.bind((RIGHT, 0))
        listener.listen()
        listener.settimeout(PATIENCE)
        client = left.create_connection(listener.getsockname(), PATIENCE)
        assert select.select([listener], [], [], PATIENCE)[0]
        with only(0):
            assert number(listener.accept) == "EMFILE"
        client.sendall(b"in spite of it")
        server, _ = listener.accept()
        server.settimeout(PATIENCE)
        assert server.recv(100) == b"in spite of it"
        for sock in (client, server, listener):
            sock.close()


def test_connection_for_which_the_engine_has_no_descriptor_waits_and_is_accepted_later(limited: None) -> None:
    """Its end of it, and the program's: the peer is connected all the while."""
    with nothing_left(), two_engines() as (left, right):
        listener = right.make_socket()
        listener.bind((RIGHT, 0))
        listener.listen()
        listener.settimeout(PATIENCE)
        client = left.make_socket()
        client.setblocking(False)
        address = listener.getsockname()
        with only(1):  # for the client's end of the request; the engines have their spares
            number(lambda: client.connect(address))
        client.close()
        client = left.create_connection(address, PATIENCE)
        client.sendall(b"x")
        text = b""
        while not text:  # the first who connected, if it came to that, is gone
            server, _ = listener.accept()
            server.settimeout(PATIENCE)
            with contextlib.suppress(ConnectionResetError):
                text = server.recv(1)
            server.close()
        assert text == b"x"
        for sock in (client, listener):
            sock.close()


def test_sweep_without_descriptors_gives_nothing_up_and_does_not_end_the_engine(
    limited: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "SWEEP", 1_000_000)
    with nothing_left(), one_engine() as engine:
        held = engine.make_socket()
        held.bind((LEFT, PORT))
        listener = engine.make_socket()
        listener.bind((LEFT, PORT + 1))
        listener.listen()
        with only(0):
            swept = engine.local.broker._sweep_at
            engine.call(lambda: None)
            until(lambda: engine.local.broker._sweep_at != swept, "a sweep")
            assert engine.alive
        assert len(engine.local.broker.table) == 2
        client = engine.create_connection((LEFT, PORT + 1), PATIENCE)
        for sock in (client, held, listener):
            sock.close()


def test_reset_by_linger_without_descriptors_does_not_end_the_engine(limited: None) -> None:
    """Whether another descriptor keeps the socket is asked by a socket: what cannot be known is taken to be so."""
    with nothing_left(), one_engine() as engine:
        client, server = local_pair(engine)
        client.setsockopt(us.SOL_SOCKET, us.SO_LINGER, struct.pack("ii", 1, 0))
        client.shutdown(us.SHUT_WR)
        server.shutdown(us.SHUT_WR)
        assert client.recv(1) == b""
        broker = engine.local.broker
        with only(0):
            probed = engine.call(broker.is_alive, client._tcp.ident)  # type: ignore[union-attr]
        assert probed
        client.close()
        server.close()
        until(lambda: not broker.table, "nothing being left")


# -- descriptors on their way ----------------------------------------------------------------------------------------


def test_descriptor_that_finds_no_room_at_its_receiver_is_emfile() -> None:
    ours, theirs = kernel.socketpair(kernel.AF_UNIX, kernel.SOCK_SEQPACKET)
    with nothing_left(), open("/dev/null", "rb") as passed:
        theirs.sendmsg([b"{}"], messages.passing(passed.fileno()))
        with only(0):
            assert number(lambda: messages._receive(ours)) == "EMFILE"
        theirs.sendmsg([b"{}"], messages.passing(passed.fileno()))
        data, fd = messages._receive(ours)
        assert data == b"{}"
        assert fd is not None
        os.close(fd)
    ours.close()
    theirs.close()


def test_socket_made_by_the_engine_for_which_a_program_has_no_room_is_emfile_and_none_is_left(limited: None) -> None:
    """What a program in another namespace does: the engine makes its sockets and passes them on."""
    with nothing_left(), one_engine() as engine:
        name = messages.control_name(engine.token)
        with messages.Control(kernel.AF_UNIX, kernel.SOCK_SEQPACKET) as control:
            control.settimeout(PATIENCE)
            messages.connect(control, name)
            until(lambda: len(engine.local.broker._requests) == 1)
            with only(2):  # for the socket that the engine makes, and what it asks with
                control.send(messages.encode({"op": "socket", "six": False}))
                assert select.select([control], [], [], PATIENCE)[0]
                until(lambda: not engine.local.broker._requests)
                with only(0):
                    assert number(lambda: messages._receive(control)) == "EMFILE"


def test_engine_that_cannot_make_a_socket_for_a_program_says_enfile(limited: None) -> None:
    with nothing_left(), one_engine() as engine:
        with messages.Control(kernel.AF_UNIX, kernel.SOCK_SEQPACKET) as control:
            control.settimeout(PATIENCE)
            messages.connect(control, messages.control_name(engine.token))
            until(lambda: len(engine.local.broker._requests) == 1)
            with only(0):
                control.send(messages.encode({"op": "socket", "six": False}))
                answer = messages.decode(control.recv(messages.MESSAGE))
        assert answer == {"errno": errno.ENFILE}


# -- the control socket ----------------------------------------------------------------------------------------------


def test_control_socket_without_descriptors_keeps_nobody_busy_and_answers_later(tmp_path: Path) -> None:
    link, other = memory_pair()
    engine = Engine(Pump(stack_on(link, LEFT), link, time.monotonic_ns))
    server = ControlServer(engine, Place("one", tmp_path), {"snapshot": list})
    poll = select.poll()
    poll.register(engine.fileno(), select.POLLIN)
    first, second = (kernel.socket(kernel.AF_UNIX) for _ in range(2))
    first.connect(str(server.path))
    first.sendall(b"snapshot\n")
    with only(0):
        engine.step(0)
        assert not poll.poll(0)
    second.connect(str(server.path))
    second.sendall(b"snapshot\n")
    for _ in range(5):
        engine.step(0)
    for sock in (first, second):
        sock.settimeout(PATIENCE)
        assert sock.recv(100) == b"[]\n"
        sock.close()
    server.close()
    engine.close()
    link.close()
    other.close()


# -- the kernel watches no more --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ENOSPC", "ENOMEM"])
def test_descriptor_that_cannot_be_watched_ends_its_connection_and_no_other(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nothing_left(), two_engines() as (left, right):
        client, server = connected(left, right)
        register, refusing = Engine.register, [True]

        def refuse(self: Engine, fd: int, events: int, callback: Any) -> None:
            if refusing and self.pump.stack is left.stack:
                raise OSError(getattr(errno, name), name)
            register(self, fd, events, callback)

        monkeypatch.setattr(Engine, "register", refuse)
        assert number(lambda: left.create_connection((RIGHT, PORT), 1.0)) == "ENOBUFS"
        assert left.alive
        refusing.clear()
        client.sendall(b"others go on")
        assert server.recv(100) == b"others go on"
        again, other = connected(left, right)
        for sock in (client, server, again, other):
            sock.close()


# -- the end of a stream ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "reset"])
def test_end_of_a_stream_without_a_descriptor_to_ask_why_is_emfile_and_then_what_it_is(
    reset: bool, limited: None
) -> None:
    """The end of the data alone may be that of a connection that was reset: it is not taken for that of the stream."""
    with nothing_left(), two_engines() as (left, right):
        client, server = connected(left, right)
        if reset:
            server.setsockopt(us.SOL_SOCKET, us.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        assert select.select([client], [], [], PATIENCE)[0]
        with only(0):
            assert number(lambda: client.recv(10)) == "EMFILE"
        if reset:
            assert number(lambda: client.recv(10)) == "ECONNRESET"
        assert client.recv(10) == b""
        client.close()
