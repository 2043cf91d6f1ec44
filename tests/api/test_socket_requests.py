"""What an engine does for requests that no program of ours would make: it refuses them, and keeps nothing of them."""

import contextlib
import socket as kernel
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import usertcp.socket as us
from tests.api.hosts import PATIENCE
from tests.api.sockets import one_engine
from usertcp.driver import messages


@contextmanager
def fresh() -> Iterator[tuple[kernel.socket, str]]:
    """A program's socket, and its identity."""
    fd, ident = messages.create()
    with kernel.socket(fileno=fd) as sock:
        sock.settimeout(PATIENCE)
        yield sock, ident


def kept(engine: us.Engine) -> list[Any]:
    """What the stack has, and the ports that are held."""
    stack = engine.stack
    return engine.call(lambda: [*stack.connections(), *stack.listeners(), *stack._ports._bound])  # type: ignore[no-any-return]


@pytest.mark.parametrize("missing", ["remote", "options", "place"])
def test_connect_request_that_lacks_a_word_opens_nothing(missing: str) -> None:
    request = {"remote": ["127.0.0.1", 80], "options": [], "place": "here"}
    del request[missing]
    with one_engine() as engine, fresh() as (sock, _):
        sock.connect(messages.data_name(engine.token))
        sock.send(messages.connect_request(request, messages.BUFFER))
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        assert kept(engine) == []


@pytest.mark.parametrize("missing", ["address", "backlog", "options", "place", "both"])
def test_listen_request_that_lacks_a_word_listens_nowhere(missing: str) -> None:
    words = {"address": ["127.0.0.1", 80], "backlog": 1, "options": [], "place": "here", "both": False}
    del words[missing]
    with one_engine() as engine, fresh() as (_, ident):
        with pytest.raises(OSError, match="Invalid argument"):
            messages.call(engine.token, {"op": "listen", "id": ident} | words)
        assert kept(engine) == []


@pytest.mark.parametrize("place", ["x/x", "00/00", "7f00000100500/7f0000010050", "/"])
def test_caller_with_a_name_like_the_engines_own_is_turned_away(place: str) -> None:
    with one_engine() as engine, kernel.socket(kernel.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.bind(messages.PREFIX + f"{engine.token}/b/0.0.{messages.new_ident()[-16:]}/{place}".encode())
        sock.connect(messages.data_name(engine.token))
        assert sock.recv(1) == b""
        assert kept(engine) == []


@pytest.mark.parametrize(
    "name", [kernel.TCP_NOTSENT_LOWAT, kernel.TCP_KEEPIDLE, kernel.TCP_WINDOW_CLAMP, kernel.TCP_LINGER2]
)
@pytest.mark.parametrize("value", [1 << 31, (1 << 32) - 1, 1 << 40])
def test_option_of_more_than_31_bits_ends_no_engine(name: int, value: int) -> None:
    with one_engine() as engine, fresh() as (_, ident):
        here = {"address": ["127.0.0.1", 80], "backlog": 1, "options": [], "place": "here", "both": False}
        messages.call(engine.token, {"op": "listen", "id": ident} | here)
        for operation in ("set", "get"):
            words = {"level": kernel.IPPROTO_TCP, "name": name, "value": value}
            with contextlib.suppress(OSError):
                messages.call(engine.token, {"op": operation, "id": ident} | words)
        assert messages.call(engine.token, {"op": "names", "id": ident})["local"] == ["127.0.0.1", 80]
