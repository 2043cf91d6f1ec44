"""Socket options, set and read on a fresh socket of the kernel and on one of ours: clamps, ranges and errnos agree."""

import errno
import socket as kernel
from collections.abc import Iterator

import pytest

import usertcp.socket as us
from tests.api.hosts import PATIENCE
from tests.api.sockets import local_pair, one_engine, until

TCP, SOCKET, IP, IP6 = us.IPPROTO_TCP, us.SOL_SOCKET, us.IPPROTO_IP, us.IPPROTO_IPV6
NAMES = (
    *((TCP, "TCP_" + name) for name in ("CORK", "QUICKACK", "DEFER_ACCEPT", "SYNCNT", "LINGER2", "NOTSENT_LOWAT")),
    *((TCP, "TCP_" + name) for name in ("WINDOW_CLAMP", "KEEPIDLE", "KEEPCNT", "KEEPINTVL", "USER_TIMEOUT", "MAXSEG")),
    *((TCP, "TCP_" + name) for name in ("NODELAY",)),
    *((SOCKET, "SO_" + name) for name in ("OOBINLINE", "BROADCAST", "KEEPALIVE", "REUSEADDR", "REUSEPORT", "SNDLOWAT")),
    *((SOCKET, "SO_" + name) for name in ("LINGER", "ERROR", "TYPE", "ACCEPTCONN", "DOMAIN", "PROTOCOL")),
    *((IP, name) for name in ("IP_TOS", "IP_TTL")),
    *((IP6, name) for name in ("IPV6_V6ONLY", "IPV6_UNICAST_HOPS", "IPV6_TCLASS")),
)
NUMBERS = [0, 1, 2, 3, 5, 7, 8, 60, 87, 88, 100, 120, 121, 127, 128, 255, 256, 1000, 1152, 32767, 32768, 10**8, -1, -5]
VALUES: list[int | bytes] = [*NUMBERS, b"", b"\1", b"\1\0\0\0", b"\1\0\0\0\0"]


@pytest.fixture(scope="module")
def engine() -> Iterator[us.Engine]:
    with one_engine() as made:
        yield made


def after(sock: kernel.socket, level: int, name: int, value: int | bytes) -> int | str:
    """What the option is after it was set, or the errno."""
    try:
        sock.setsockopt(level, name, value)
        return sock.getsockopt(level, name)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


@pytest.mark.parametrize(("level", "name"), NAMES, ids=str)
def test_option_is_set_and_read_as_by_the_kernel(level: int, name: str) -> None:
    family = us.AF_INET6 if level == IP6 else us.AF_INET
    number = getattr(us, name)
    with kernel.socket(family) as theirs, us.socket(family) as ours:
        assert ours.getsockopt(level, number) == theirs.getsockopt(level, number)
        for value in VALUES:
            assert (value, after(ours, level, number, value)) == (value, after(theirs, level, number, value))


@pytest.mark.parametrize(("level", "name"), [(TCP, 99), (99, 1), (SOCKET, 999), (IP6, us.IPV6_V6ONLY)])
def test_option_that_is_not_there_is_refused_as_by_the_kernel(level: int, name: int) -> None:
    with kernel.socket() as theirs, us.socket() as ours:
        assert after(ours, level, name, 1) == after(theirs, level, name, 1)
        for sock in (ours, theirs):
            with pytest.raises(OSError, match="not") as caught:
                sock.getsockopt(level, name)
            assert caught.value.errno == (errno.ENOPROTOOPT if level in (TCP, SOCKET) else errno.EOPNOTSUPP)


def test_corked_bytes_wait_for_the_cork(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client, server:
        client.setsockopt(TCP, us.TCP_CORK, 1)
        client.sendall(b"head")
        client.sendall(b"tail")
        client.setsockopt(TCP, us.TCP_CORK, 0)
        assert server.recv(100, us.MSG_WAITALL | us.MSG_PEEK) in (b"head", b"headtail")
        until(lambda: server.recv(100, us.MSG_PEEK) == b"headtail")


def test_deferred_accept_waits_for_text(engine: us.Engine) -> None:
    with us.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(TCP, us.TCP_DEFER_ACCEPT, 30)
        listener.settimeout(0.1)
        with us.create_connection(listener.getsockname(), PATIENCE) as client:
            with pytest.raises(TimeoutError):
                listener.accept()
            client.sendall(b"text")
            listener.settimeout(PATIENCE)
            server, _ = listener.accept()
            with server:
                assert server.recv(100) == b"text"


def test_window_clamp_of_zero_is_refused_on_a_connection(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client, server:
        with pytest.raises(OSError, match="Invalid argument"):
            client.setsockopt(TCP, us.TCP_WINDOW_CLAMP, 0)
        client.setsockopt(TCP, us.TCP_WINDOW_CLAMP, 5000)
        assert client.getsockopt(TCP, us.TCP_WINDOW_CLAMP) == 5000
        client.settimeout(None)
        server.sendall(bytes(200_000))
        assert len(client.recv(200_000, us.MSG_WAITALL)) == 200_000


def test_bytes_unsent_beyond_the_low_water_mark_are_not_taken(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client, server:
        client.setsockopt(TCP, us.TCP_NOTSENT_LOWAT, 20_000)
        text = bytes(1_000_000)
        client.setblocking(False)
        sent = 0
        got = 0
        while got < len(text):
            try:
                sent += client.send(text[sent:])
            except BlockingIOError:
                got += len(server.recv(1 << 16))
            if sent == len(text):
                got += len(server.recv(1 << 16))
        assert got == len(text)
