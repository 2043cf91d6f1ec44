"""usertcp.socket in nineteen states, operation by operation, against what Linux answers.

Both ends are on the stack's loopback and real segments go between them. The table is what Linux's own TCP sockets
answers to the same builders (``tests/netns/test_socket_matrix.py`` asks it). The cells that differ are in ``KNOWN``,
each with its reason.
"""

import errno
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import usertcp.socket as us
from tests.api.sockets import SILENT, local_pair, one_engine, polled, until

COLUMNS = (
    *("poll", "recv", "send", "send_twice", "connect", "listen", "accept", "bind", "getpeername", "shutdown_wr"),
    *("SO_ERROR", "recv_after_SO_ERROR", "recv_twice", "TCP_INFO_state"),
)
LINUX = """
fresh OUT|HUP ENOTCONN EPIPE EPIPE EINPROGRESS None EINVAL None ENOTCONN ENOTCONN 0 ENOTCONN ENOTCONN,ENOTCONN 7
bound OUT|HUP ENOTCONN EPIPE EPIPE EINPROGRESS None EINVAL EINVAL ENOTCONN ENOTCONN 0 ENOTCONN ENOTCONN,ENOTCONN 7
listening - ENOTCONN EPIPE EPIPE EISCONN None EAGAIN EINVAL ENOTCONN None 0 ENOTCONN ENOTCONN,ENOTCONN 10
connecting - EAGAIN EAGAIN EAGAIN EALREADY EINVAL EINVAL EINVAL ENOTCONN None 0 EAGAIN EAGAIN,EAGAIN 2
refused_nb IN|OUT|ERR|HUP|RDHUP ECONNREFUSED ECONNREFUSED ECONNREFUSED ECONNREFUSED EINVAL EINVAL None ENOTCONN \
ENOTCONN 111 b'' ECONNREFUSED,b'' 7
refused_blocking OUT|HUP ENOTCONN EPIPE EPIPE EINPROGRESS None EINVAL None ENOTCONN ENOTCONN 0 ENOTCONN \
ENOTCONN,ENOTCONN 7
established OUT EAGAIN 1 1 EISCONN EINVAL EINVAL EINVAL PEER None 0 EAGAIN EAGAIN,EAGAIN 1
nodelay_est OUT EAGAIN 1 1 EISCONN EINVAL EINVAL EINVAL PEER None 0 EAGAIN EAGAIN,EAGAIN 1
data_queued IN|OUT b'abc' 1 1 EISCONN EINVAL EINVAL EINVAL PEER None 0 b'abc' b'abc',EAGAIN 1
peer_fin IN|OUT|RDHUP b'' 1 1 EISCONN EINVAL EINVAL EINVAL PEER None 0 b'' b'',b'' 8
peer_closed IN|OUT|RDHUP b'' 1 EPIPE EISCONN EINVAL EINVAL EINVAL PEER None 0 b'' b'',b'' 8
peer_closed_then_sent IN|OUT|ERR|HUP|RDHUP b'' EPIPE EPIPE EISCONN EINVAL EINVAL None ENOTCONN ENOTCONN 32 b'' \
b'',b'' 7
peer_rst IN|OUT|ERR|HUP|RDHUP ECONNRESET ECONNRESET ECONNRESET EISCONN EINVAL EINVAL None ENOTCONN ENOTCONN 104 b'' \
ECONNRESET,b'' 7
peer_rst_data_queued IN|OUT|ERR|HUP|RDHUP b'abc' ECONNRESET ECONNRESET EISCONN EINVAL EINVAL None ENOTCONN ENOTCONN \
104 b'abc' b'abc',ECONNRESET 7
peer_closed_unread IN|OUT|ERR|HUP|RDHUP ECONNRESET ECONNRESET ECONNRESET EISCONN EINVAL EINVAL None ENOTCONN ENOTCONN \
104 b'' ECONNRESET,b'' 7
shut_wr OUT EAGAIN EPIPE EPIPE EISCONN EINVAL EINVAL EINVAL PEER None 0 EAGAIN EAGAIN,EAGAIN 4|5
shut_rd IN|OUT|RDHUP b'' 1 1 EISCONN EINVAL EINVAL EINVAL PEER None 0 b'' b'',b'' 1
both_fin IN|OUT|HUP|RDHUP b'' EPIPE EPIPE EISCONN EINVAL EINVAL None ENOTCONN ENOTCONN 0 b'' b'',b'' 7
closed ValueError EBADF EBADF EBADF EBADF EBADF EBADF EBADF EBADF EBADF EBADF EBADF EBADF,EBADF EBADF
"""
_DEAD = ("peer_closed_then_sent", "peer_rst", "peer_rst_data_queued", "peer_closed_unread")
_NO_ERR = "AF_UNIX has no way to set the error bit of the other end; HUP says the same"
KNOWN = {
    **{(state, "poll"): ("IN|OUT|HUP|RDHUP", _NO_ERR) for state in _DEAD},
    **{
        (state, "bind"): ("EINVAL", "binding a dead connection leads nowhere on Linux")
        for state in (*_DEAD, "both_fin")
    },
}
CELLS = [
    pytest.param(line.split()[0], column, value, id=f"{line.split()[0]}-{column}")
    for line in LINUX.strip().splitlines()
    for column, value in zip(COLUMNS, line.split()[1:], strict=True)
]


@pytest.fixture(scope="module")
def engine() -> Iterator[us.Engine]:
    with one_engine() as made:
        yield made


def answer(operation: Callable[[], Any]) -> Any:
    try:
        return operation()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except ValueError:
        return "ValueError"


def reset(sock: us.socket) -> None:
    sock.setsockopt(us.SOL_SOCKET, us.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def dead(sock: us.socket) -> bool:
    return "HUP" in polled(sock).split("|")


def saw_fin(sock: us.socket) -> bool:
    return "RDHUP" in polled(sock)


def unconnected(engine: us.Engine, state: str) -> us.socket:
    sock = engine.make_socket()
    if state in ("bound", "listening"):
        sock.bind(("127.0.0.1", 0))
    if state == "listening":
        sock.listen(5)
    if state == "connecting":
        sock.setblocking(False)
        assert answer(lambda: sock.connect((SILENT, 9))) == "EINPROGRESS"
    if state.startswith("refused"):
        sock.setblocking(state == "refused_blocking")
        with engine.make_socket() as free:
            free.bind(("127.0.0.1", 0))
            address = free.getsockname()
        refused = answer(lambda: sock.connect(address))
        assert refused == ("ECONNREFUSED" if state == "refused_blocking" else "EINPROGRESS")
        until(lambda: dead(sock))
    if state == "closed":
        sock.close()
    return sock


def connected(engine: us.Engine, state: str) -> tuple[us.socket, us.socket]:
    sock, peer = local_pair(engine)
    if state == "nodelay_est":
        sock.setsockopt(us.IPPROTO_TCP, us.TCP_NODELAY, 1)
    elif state in ("data_queued", "peer_rst_data_queued"):
        peer.send(b"abc")
        until(lambda: "IN" in polled(sock))
    elif state in ("peer_fin", "both_fin"):
        peer.shutdown(us.SHUT_WR)
        until(lambda: saw_fin(sock))
    elif state.startswith("peer_closed") and state != "peer_closed_unread":
        peer.close()
        until(lambda: saw_fin(sock))
    elif state == "peer_closed_unread":
        sock.send(b"unread")
        until(lambda: "IN" in polled(peer))
        peer.close()
    if state in ("peer_rst", "peer_rst_data_queued"):
        reset(peer)
    if state == "peer_closed_then_sent":
        sock.send(b"x")
    if state in ("shut_wr", "both_fin"):
        sock.shutdown(us.SHUT_WR)
        until(lambda: saw_fin(peer))
    if state == "shut_rd":
        sock.shutdown(us.SHUT_RD)
    if state in (*_DEAD, "both_fin"):
        until(lambda: dead(sock))
    return sock, peer


def build(engine: us.Engine, state: str) -> tuple[us.socket, us.socket | None]:
    lone = ("fresh", "bound", "listening", "connecting", "refused_nb", "refused_blocking", "closed")
    sock, peer = (unconnected(engine, state), None) if state in lone else connected(engine, state)
    if state != "closed":
        sock.setblocking(False)
    return sock, peer


def send_twice(sock: us.socket, expected: str) -> Any:
    first = answer(lambda: sock.send(b"x"))
    if first != 1:
        return first
    if expected != "1":
        until(lambda: dead(sock))  # the peer's reset has come
    return answer(lambda: sock.send(b"x"))


def after_so_error(sock: us.socket) -> Any:
    answer(lambda: sock.getsockopt(us.SOL_SOCKET, us.SO_ERROR))
    return answer(lambda: sock.recv(10))


OPERATIONS: dict[str, Callable[[us.socket], Any]] = {
    "poll": lambda sock: answer(lambda: polled(sock)),
    "recv": lambda sock: answer(lambda: sock.recv(10)),
    "send": lambda sock: answer(lambda: sock.send(b"x")),
    "connect": lambda sock: answer(lambda: sock.connect(("127.0.0.1", 9))),
    "listen": lambda sock: answer(lambda: sock.listen(1)),
    "accept": lambda sock: answer(sock.accept),
    "bind": lambda sock: answer(lambda: sock.bind(("127.0.0.1", 0))),
    "getpeername": lambda sock: answer(sock.getpeername),
    "shutdown_wr": lambda sock: answer(lambda: sock.shutdown(us.SHUT_WR)),
    "SO_ERROR": lambda sock: answer(lambda: sock.getsockopt(us.SOL_SOCKET, us.SO_ERROR)),
    "recv_after_SO_ERROR": after_so_error,
    "recv_twice": lambda sock: f"{answer(lambda: sock.recv(10))},{answer(lambda: sock.recv(10))}",
    "TCP_INFO_state": lambda sock: answer(lambda: sock.getsockopt(us.IPPROTO_TCP, us.TCP_INFO, 1)[0]),
}


def check(engine: Any, state: str, column: str, expected: str) -> None:
    """That a socket of ``engine`` in ``state`` answers ``expected`` to the operation ``column``."""
    sock, peer = build(engine, state)
    try:
        got = send_twice(sock, expected) if column == "send_twice" else OPERATIONS[column](sock)
        if expected == "PEER":
            assert got[0] == "127.0.0.1"
            assert got[1] > 0
        elif column == "TCP_INFO_state":
            assert str(got) in expected.split("|")
        else:
            assert str(got) == expected
    finally:
        sock.close()
        if peer is not None:
            peer.close()


@pytest.mark.parametrize(("state", "column", "linux"), CELLS)
def test_matrix_operation_answers_as_linux(engine: us.Engine, state: str, column: str, linux: str) -> None:
    check(engine, state, column, KNOWN.get((state, column), (linux, ""))[0])


def test_matrix_known_differences_are_at_most_ten() -> None:
    assert len(KNOWN) <= 10
