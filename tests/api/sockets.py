"""Engines for the tests of the drop-in socket, and bounded waiting for what another thread is about to do."""

import select
import socket as kernel
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import usertcp.socket as us
from tests.api.hosts import LEFT, PATIENCE, RIGHT, STEP, stack_on
from usertcp.link.memory import memory_pair
from usertcp.tcp.config import TcpConfig

SILENT = "10.0.0.77"  # an address on the cable that nobody answers for

_NAMES = ("IN", "OUT", "ERR", "HUP", "RDHUP")


@contextmanager
def one_engine(tcp: TcpConfig | None = None) -> Iterator[us.Engine]:
    """A current engine whose sockets reach each other over 127.0.0.1."""
    link, other = memory_pair(offload=True)
    with us.Engine(stack_on(link, LEFT, tcp), link) as engine:
        yield engine
    other.close()


@contextmanager
def two_engines(tcp: TcpConfig | None = None) -> Iterator[tuple[us.Engine, us.Engine]]:
    """Two engines with a cable between them; neither is current."""
    one, other = memory_pair(offload=True)
    left, right = us.Engine(stack_on(one, LEFT, tcp), one), us.Engine(stack_on(other, RIGHT, tcp), other)
    try:
        yield left, right
    finally:
        left.close()
        right.close()


def connected(client: us.Engine, server: us.Engine, address: str = RIGHT) -> tuple[us.socket, us.socket]:
    """Both ends of a connection from ``client`` to ``server``; neither blocks for longer than PATIENCE."""
    with server.make_socket() as listener:
        listener.bind((address, 0))
        listener.listen()
        listener.settimeout(PATIENCE)
        opened = client.create_connection(listener.getsockname(), PATIENCE)
        accepted, _ = listener.accept()
    accepted.settimeout(PATIENCE)
    return opened, accepted


def local_pair(engine: us.Engine) -> tuple[us.socket, us.socket]:
    """Both ends of a connection over the stack's loopback."""
    return connected(engine, engine, "127.0.0.1")


def polled(sock: kernel.socket) -> str:
    """What poll(2) says, like "IN|OUT"; "-" for nothing."""
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    got = poll.poll(0)
    mask = got[0][1] if got else 0
    return "|".join(name for name in _NAMES if mask & getattr(select, "POLL" + name)) or "-"


def until(condition: Callable[[], Any], what: str = "condition") -> None:
    """Wait until ``condition()`` holds, at most PATIENCE seconds."""
    never = threading.Event()
    for _ in range(round(PATIENCE / STEP)):
        if condition():
            return
        never.wait(STEP)
    raise AssertionError(f"{what} did not come true in {PATIENCE} s")


def read_all(sock: kernel.socket) -> bytes:
    """Everything until the end of the stream."""
    parts = []
    while data := sock.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)
