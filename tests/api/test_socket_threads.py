"""One thread waits, another closes or shuts: the drop-in socket answers as the kernel's, which is asked here, too.

On Linux close() wakes nobody: the call that waits holds the connection, and goes on until the peer or the network ends
it. What wakes is shutdown(). When the call returns nothing is left of the socket. (A call with a timeout polls, and
then looks for the descriptor's number again, by now perhaps another's: that is not tested where others are opened.)
"""

import errno
import socket as kernel
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import usertcp.socket as us
from tests.api.hosts import PATIENCE, until_asleep
from tests.api.sockets import SILENT, one_engine, read_all, two_engines, until
from usertcp.tcp.state import State

BUFFER = 64 << 10
MODULES = pytest.mark.parametrize("m", [kernel, us], ids=["kernel", "usertcp"])
RESET = struct.pack("ii", 1, 0)


class Waiting:
    """``call`` in a thread of its own, which has fallen asleep in it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._result: Any = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()
        until_asleep(self._thread)

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self._result = call()
        except OSError as error:
            self._result = errno.errorcode[error.errno or 0]

    @property
    def still(self) -> bool:
        return self._thread.is_alive()

    def ends(self) -> Any:
        """What the call gave: its result, or the name of its errno."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "it hangs"
        return self._result


@pytest.fixture(scope="module")
def engine() -> Iterator[us.Engine]:
    with one_engine() as current:
        yield current


@pytest.fixture(autouse=True)
def nothing_stays(engine: us.Engine) -> Iterator[None]:
    """After each test the engine knows of no socket any more."""
    yield
    until(lambda: not engine.call(lambda: list(engine.stack.listeners())), "the end of the listeners")
    until(lambda: {conn.state for conn in engine.call(engine.stack.connections)} <= {State.TIME_WAIT}, "the end of all")


def pair(m: Any) -> tuple[Any, Any]:
    """Both ends of a connection, with small buffers, client first."""
    with m.socket() as listener:
        listener.setsockopt(m.SOL_SOCKET, m.SO_RCVBUF, BUFFER)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = m.socket()
        client.setsockopt(m.SOL_SOCKET, m.SO_SNDBUF, BUFFER)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
    server.settimeout(PATIENCE)
    return client, server


@MODULES
def test_close_leaves_a_recv_that_waits_until_the_peer_sends(m: Any) -> None:
    client, server = pair(m)
    with server:
        waiting = Waiting(lambda: client.recv(10))
        client.close()
        assert waiting.still
        server.sendall(b"late")
        assert waiting.ends() == b"late"
        assert server.recv(10) == b""


@MODULES
def test_close_leaves_a_recv_that_waits_until_the_peer_closes(m: Any) -> None:
    client, server = pair(m)
    waiting = Waiting(lambda: client.recv(10))
    client.close()
    server.close()
    assert waiting.ends() == b""


@MODULES
def test_close_under_a_recv_with_a_timeout_is_ebadf_when_it_wakes(m: Any) -> None:
    client, server = pair(m)
    with server:
        client.settimeout(PATIENCE)
        waiting = Waiting(lambda: client.recv(10))
        client.close()
        server.sendall(b"late")
        assert waiting.ends() == "EBADF"


@MODULES
@pytest.mark.parametrize("how", [kernel.SHUT_RD, kernel.SHUT_RDWR])
def test_shutdown_wakes_a_recv_with_the_end(m: Any, how: int) -> None:
    client, server = pair(m)
    with client, server:
        waiting = Waiting(lambda: client.recv(10))
        client.shutdown(how)
        assert waiting.ends() == b""


def send_on(sock: Any) -> None:
    while True:
        sock.send(bytes(BUFFER))


@MODULES
def test_close_leaves_a_send_that_waits_and_all_of_it_arrives(m: Any) -> None:
    client, server = pair(m)
    with server:
        waiting = Waiting(lambda: client.send(bytes(40 * BUFFER)))
        client.close()
        assert waiting.still
        assert len(read_all(server)) == 40 * BUFFER
        assert waiting.ends() == 40 * BUFFER


@MODULES
@pytest.mark.parametrize("how", [kernel.SHUT_WR, kernel.SHUT_RDWR])
def test_shutdown_wakes_a_send_with_epipe(m: Any, how: int) -> None:
    client, server = pair(m)
    with client, server:
        waiting = Waiting(lambda: send_on(client))
        client.shutdown(how)
        assert waiting.ends() == "EPIPE"


@MODULES
def test_reset_wakes_a_send_with_econnreset(m: Any) -> None:
    client, server = pair(m)
    with client:
        waiting = Waiting(lambda: send_on(client))
        server.setsockopt(m.SOL_SOCKET, m.SO_LINGER, RESET)
        server.close()
        assert waiting.ends() == "ECONNRESET"


@MODULES
def test_close_leaves_an_accept_that_waits_until_somebody_comes(m: Any) -> None:
    listener = m.create_server(("127.0.0.1", 0))
    there = listener.getsockname()
    waiting = Waiting(listener.accept)
    listener.close()
    with m.create_connection(there, PATIENCE) as client:
        accepted, peer = waiting.ends()
        with accepted:
            assert peer == client.getsockname()
    with pytest.raises(ConnectionRefusedError):
        m.create_connection(there, PATIENCE)


@MODULES
def test_shutdown_wakes_an_accept_with_einval(m: Any) -> None:
    with m.create_server(("127.0.0.1", 0)) as listener:
        waiting = Waiting(listener.accept)
        listener.shutdown(m.SHUT_RDWR)
        assert waiting.ends() == "EINVAL"


@pytest.fixture
def silent(m: Any) -> Iterator[tuple[str, int]]:
    """Where a connect waits: of the kernel's, a listener whose queue is full; of ours, an address that nobody has."""
    if m is us:
        yield (SILENT, 9)
        return
    with kernel.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with kernel.create_connection(listener.getsockname()):
            yield listener.getsockname()


@MODULES
@pytest.mark.parametrize("how", [kernel.SHUT_RD, kernel.SHUT_WR, kernel.SHUT_RDWR])
def test_shutdown_wakes_a_connect_with_econnreset_and_it_can_begin_again(
    m: Any, how: int, silent: tuple[str, int]
) -> None:
    with m.socket() as client:
        waiting = Waiting(lambda: client.connect(silent))
        client.shutdown(how)
        assert waiting.ends() == "ECONNRESET"
        client.setblocking(False)
        assert client.connect_ex(silent) == errno.EINPROGRESS


@MODULES
@pytest.mark.parametrize("how", [kernel.SHUT_RD, kernel.SHUT_WR, kernel.SHUT_RDWR])
def test_shutdown_of_a_pending_connect_gives_it_up(m: Any, how: int, silent: tuple[str, int]) -> None:
    with m.socket() as client:
        client.setblocking(False)
        assert client.connect_ex(silent) == errno.EINPROGRESS
        client.shutdown(how)
        assert client.getsockopt(m.SOL_SOCKET, m.SO_ERROR) == errno.ECONNRESET
        with pytest.raises(BrokenPipeError):
            client.send(b"x")
        assert client.connect_ex(silent) == errno.EINPROGRESS


def test_close_leaves_a_connect_that_waits_until_the_network_says_no() -> None:
    client = us.socket()
    waiting = Waiting(lambda: client.connect((SILENT, 9)))
    client.close()
    assert waiting.ends() == "EBADF"


def test_thousands_of_connects_closed_or_shut_half_way_leave_nothing(engine: us.Engine) -> None:
    with us.create_server(("127.0.0.1", 0), backlog=16) as listener:
        for n in range(2000):
            with us.socket() as client:
                client.setblocking(False)
                there = (SILENT, 9) if n % 2 else listener.getsockname()
                assert client.connect_ex(there) == errno.EINPROGRESS
                if n % 4 >= 2:
                    client.shutdown(us.SHUT_RDWR)
    assert engine.call(engine.stack.counters)["memory_used"] < 1 << 20


def test_end_of_the_engine_wakes_all_who_accept() -> None:
    with two_engines() as (engine, _), engine.make_socket() as listener:
        listener.bind(("", 0))
        listener.listen(1)
        waiting = [Waiting(listener.accept) for _ in range(8)]
        engine.close()
        assert [one.ends() for one in waiting] == ["ENETDOWN"] * 8
