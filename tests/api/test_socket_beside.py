"""The same few lines on the kernel's sockets and on ours: what the errno matrix does not ask."""

import errno
import gc
import os
import select
import socket as kernel
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import usertcp.socket as us
from tests.api.hosts import PATIENCE
from tests.api.sockets import one_engine, until

MODULES = pytest.mark.parametrize("m", [kernel, us], ids=["kernel", "usertcp"])


@pytest.fixture(scope="module", autouse=True)
def engine() -> Iterator[us.Engine]:
    with one_engine() as current:
        yield current


def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """What ``call`` returns, or the name of its errno, or the class of what it raises."""
    try:
        return call(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error))
    except Exception as error:
        return type(error)


def listening(m: Any) -> Any:
    sock = m.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


# -- a listener that is shut -------------------------------------------------------------------------------------------


@MODULES
@pytest.mark.parametrize("timeout", [0, PATIENCE, None], ids=str)
def test_listener_that_was_shut_accepts_nobody_at_once(m: Any, timeout: float | None) -> None:
    with listening(m) as listener:
        listener.settimeout(timeout)
        listener.shutdown(m.SHUT_RDWR)
        assert select.select([listener], [], [], 0)[0]  # so that a loop asks
        assert outcome(listener.accept) == "EINVAL"


@MODULES
def test_listener_that_was_shut_resets_whom_it_has_not_accepted(m: Any) -> None:
    with listening(m) as listener, m.create_connection(listener.getsockname(), PATIENCE) as client:
        select.select([listener], [], [], PATIENCE)
        listener.shutdown(m.SHUT_RD)
        assert outcome(client.recv, 1) == "ECONNRESET"


@MODULES
def test_listener_that_was_shut_listens_anew_at_its_port(m: Any) -> None:
    with m.socket() as holder, m.socket() as listener:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        holder.close()
        listener.bind(("127.0.0.1", port))
        listener.listen()
        listener.shutdown(m.SHUT_RD)
        assert listener.getsockopt(m.SOL_SOCKET, m.SO_ACCEPTCONN) == 0
        assert listener.getsockname() == ("127.0.0.1", port)
        listener.listen()
        with m.create_connection(("127.0.0.1", port), PATIENCE) as client:
            accepted, address = listener.accept()
            with accepted:
                assert address == client.getsockname()


# -- ports -------------------------------------------------------------------------------------------------------------


@MODULES
@pytest.mark.parametrize("option", ["SO_REUSEADDR", "SO_REUSEPORT"])
@pytest.mark.parametrize("on", [True, False])
def test_port_is_shared_as_the_holder_says_now(m: Any, option: str, on: bool) -> None:
    number = getattr(m, option)
    with m.socket() as holder, m.socket() as other:
        holder.setsockopt(m.SOL_SOCKET, number, not on)
        other.setsockopt(m.SOL_SOCKET, number, 1)
        holder.bind(("127.0.0.1", 0))
        holder.setsockopt(m.SOL_SOCKET, number, on)
        assert outcome(other.bind, holder.getsockname()) == SHARED[option, on]


SHARED = {
    ("SO_REUSEADDR", True): None,
    ("SO_REUSEADDR", False): "EADDRINUSE",
    ("SO_REUSEPORT", True): None,
    ("SO_REUSEPORT", False): None,  # that it was shared is remembered
}


@MODULES
def test_listener_that_was_forgotten_refuses_at_once(m: Any) -> None:
    listener = listening(m)
    address = listener.getsockname()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del listener
        gc.collect()
    assert outcome(m.create_connection, address, PATIENCE) == "ECONNREFUSED"


# -- connect after a failure -------------------------------------------------------------------------------------------


@MODULES
def test_connect_whose_failure_somebody_else_has_taken_says_aborted_and_begins_anew(m: Any) -> None:
    with m.socket() as free, m.socket() as sock:
        free.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        assert outcome(sock.connect, free.getsockname()) == "EINPROGRESS"
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        until(lambda: poll.poll(0), "the refusal")
        assert sock.getsockopt(m.SOL_SOCKET, m.SO_ERROR) == errno.ECONNREFUSED
        assert outcome(sock.connect, free.getsockname()) == "ECONNABORTED"
        assert outcome(sock.recv, 1) == "ENOTCONN"
        free.listen()
        assert outcome(sock.connect, free.getsockname()) == "EINPROGRESS"


# -- shared before it is anything --------------------------------------------------------------------------------------


def in_a_child(work: Callable[[], Any]) -> int:
    """The status of a child that has done ``work``."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@MODULES
def test_socket_that_a_child_has_connected_is_connected(m: Any) -> None:
    with listening(m) as listener, m.socket() as client:
        there = listener.getsockname()
        assert in_a_child(lambda: client.connect(there)) == 0
        accepted, here = listener.accept()
        with accepted:
            accepted.settimeout(PATIENCE)
            assert (client.getsockname(), client.getpeername()) == (here, there)
            assert outcome(client.connect, there) == "EISCONN"
            client.sendall(b"text")
            assert accepted.recv(10) == b"text"


@MODULES
def test_socket_that_a_child_has_bound_listens(m: Any) -> None:
    with m.socket() as listener:

        def work() -> None:
            listener.bind(("127.0.0.1", 0))
            listener.listen()

        assert in_a_child(work) == 0
        assert listener.getsockopt(m.SOL_SOCKET, m.SO_ACCEPTCONN) == 1
        with m.create_connection(listener.getsockname(), PATIENCE):
            listener.settimeout(PATIENCE)
            listener.accept()[0].close()


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("shutdown", (1.0,)),
        ("shutdown", ("a",)),
        ("getsockopt", ("a", 1)),
        ("setsockopt", (kernel.SOL_SOCKET, "a", 1)),
        ("setsockopt", (kernel.SOL_SOCKET, kernel.SO_REUSEADDR, 1.0)),
        ("setsockopt", (kernel.SOL_SOCKET, kernel.SO_REUSEADDR, b"\1\0\0\0", 4)),
        ("setsockopt", (kernel.SOL_SOCKET, kernel.SO_REUSEADDR, -(1 << 31))),
        ("__init__", (kernel.AF_INET, kernel.SOCK_STREAM, -5)),
    ],
    ids=repr,
)
def test_argument_of_the_wrong_kind_is_answered_as_by_the_kernel(method: str, arguments: tuple[Any, ...]) -> None:
    with kernel.socket() as theirs, us.socket() as ours:
        assert outcome(getattr(ours, method), *arguments) == outcome(getattr(theirs, method), *arguments)


@MODULES
def test_descriptor_tells_its_protocol(m: Any) -> None:
    with m.socket() as sock:
        again = m.socket(fileno=sock.detach())
        with again:
            assert (again.family, again.type, again.proto) == (m.AF_INET, m.SOCK_STREAM, m.IPPROTO_TCP)


def test_fast_open_is_refused_and_sends_nothing() -> None:
    with (
        listening(us) as listener,
        us.create_connection(listener.getsockname(), PATIENCE) as client,
        us.socket() as new,
    ):
        assert outcome(client.send, b"x", us.MSG_FASTOPEN) == "ENOTSUP"
        assert outcome(new.sendto, b"x", us.MSG_FASTOPEN, listener.getsockname()) == "ENOTSUP"
