"""usertcp.socket: urgent data is one byte out of band, as with Linux (RFC 9293 §3.8.5, RFC 6093)."""

import fcntl
import select
from collections.abc import Iterator

import pytest

import usertcp.socket as us
from tests.api.hosts import PATIENCE
from tests.api.sockets import connected, local_pair, one_engine, two_engines
from usertcp.driver.bridge import SIOCATMARK


@pytest.fixture(scope="module")
def engine() -> Iterator[us.Engine]:
    with one_engine() as made:
        yield made


def at_mark(sock: us.socket) -> bool:
    return any(fcntl.ioctl(sock.fileno(), SIOCATMARK, bytes(4)))


def exceptional(sock: us.socket) -> bool:
    """Whether select() reports an exceptional condition."""
    return bool(select.select([], [], [sock], PATIENCE)[2])


def test_urgent_byte_lies_beside_the_stream_and_reading_stops_at_the_mark(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    server.setblocking(True)
    with client, server:
        assert client.send(b"stop!", us.MSG_OOB) == 5
        client.sendall(b"more")
        assert exceptional(server)
        assert server.recv(100) == b"stop"
        assert at_mark(server)
        assert server.recv(1, us.MSG_OOB) == b"!"
        assert server.recv(100) == b"more"
        assert not at_mark(server)
        with pytest.raises(OSError, match="Invalid argument"):
            server.recv(1, us.MSG_OOB)


@pytest.mark.rfc(6093, "§6")
def test_urgent_byte_in_line_is_read_where_it_was_sent(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client, server:
        server.setsockopt(us.SOL_SOCKET, us.SO_OOBINLINE, 1)
        client.sendall(b"ab")
        client.send(b"!", us.MSG_OOB)
        assert exceptional(server)
        assert server.recv(100) == b"ab"
        assert at_mark(server)
        assert server.recv(100) == b"!"


def test_urgent_option_of_the_listener_is_inherited(engine: us.Engine) -> None:
    with us.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(us.SOL_SOCKET, us.SO_OOBINLINE, 1)
        with us.create_connection(listener.getsockname(), PATIENCE) as client:
            server, _ = listener.accept()
            with server:
                assert server.getsockopt(us.SOL_SOCKET, us.SO_OOBINLINE) == 1
                client.send(b"!", us.MSG_OOB)
                assert exceptional(server)
                assert server.recv(100) == b"!"


def test_urgent_byte_that_nobody_asks_for_is_passed_over(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client, server:
        for word in (b"one", b"two", b"three"):
            client.sendall(word)
            client.send(b"!", us.MSG_OOB)
        client.shutdown(us.SHUT_WR)
        data = b""
        while part := server.recv(100):
            data += part
        assert data.replace(b"!", b"") == b"onetwothree"
        assert not data.endswith(b"!")


def test_urgent_byte_both_ways_over_a_cable_after_much_text() -> None:
    with two_engines() as (left, right):
        client, server = connected(left, right)
        with client, server:
            text = bytes(300_000)
            for one, other in ((client, server), (server, client)):
                one.settimeout(None)
                other.settimeout(None)
                one.setblocking(False)
                sent = one.send(text)
                one.setblocking(True)
                assert one.send(b"!", us.MSG_OOB) == 1
                got = 0
                while got < sent:
                    got += len(other.recv(1 << 16))
                assert exceptional(other)
                assert other.recv(1, us.MSG_OOB) == b"!"


def test_urgent_send_without_a_connection_says_epipe(engine: us.Engine) -> None:
    with us.socket() as sock:
        with pytest.raises(BrokenPipeError):
            sock.send(b"!", us.MSG_OOB)
        with pytest.raises(OSError, match="Invalid argument"):
            sock.recv(1, us.MSG_OOB)
