"""What users plug in raises, signals come anywhere: the connection in hand may end, the others and the host go on."""

import asyncio
import errno
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import usertcp
import usertcp.socket as us
from tests.api.hosts import LEFT, PATIENCE, PORT, RIGHT, nothing_left, run, stack_on, two_aio
from tests.api.sockets import connected, read_all, until
from tests.api.test_pump import Two, Watch
from tests.support.faulty import FaultyLink
from usertcp import blocking
from usertcp.blocking import Conn
from usertcp.cli.version import compiled
from usertcp.driver.bridge import Bridge
from usertcp.driver.open import LinkSpec, OpenStack
from usertcp.link.memory import memory_pair
from usertcp.link.middleware import Observe, Pcap
from usertcp.net.stack import Stack, StackConfig
from usertcp.tcp.cc import registry
from usertcp.tcp.cc.newreno import NewReno
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.state import State
from usertcp.wire.tcp import Segment

TEXT = bytes(range(256)) * 20
PACKAGE = str(Path(usertcp.__file__).parent)


class Unlucky(Exception):
    """What something of the user's raises."""


class Tracer:
    """Raises when it is told of ``port``."""

    def __init__(self) -> None:
        self.port = -1

    def on_state(self, conn: Connection, old: State, new: State) -> None:
        if self.port in (conn.sport, conn.dport):
            raise Unlucky

    def on_segment(self, conn: Connection, outgoing: bool, seg: Segment, now: int) -> None:
        if self.port in (conn.sport, conn.dport):
            raise Unlucky


class BadReno(NewReno):
    """A congestion control that fails at the first acknowledgment."""

    name = "bad"

    def on_ack(self, *_: Any, **__: Any) -> None:
        raise Unlucky


def traced(link: Any, address: str, tracer: Tracer) -> Stack:
    config = StackConfig(addresses=(f"{address}/24",))
    return Stack(config, link.caps, lambda n: bytes(range(n)), tracer)


# -- callbacks -------------------------------------------------------------------------------------------------------


def test_watcher_that_raises_ends_its_connection_and_the_others_are_told_all_the_same() -> None:
    two = Two()
    two.left.mends = True
    first, peer = two.connected()
    others = [two.left.stack.connect((RIGHT, PORT), two.now) for _ in range(3)]
    two.run()
    watches = [Watch() for _ in others]

    def fail() -> None:
        first.user = None
        raise Unlucky

    first.user = Watch(fail)
    for other, watch in zip(others, watches, strict=True):
        other.user = watch
    peers = [conn for conn in two.right.stack.connections() if conn.passive]
    for conn in peers:
        conn.write(b"news")
    two.run()
    assert [watch.calls > 0 for watch in watches] == [True] * 3
    assert first.state is State.CLOSED
    assert [other.read(100) for other in others] == [b"news"] * 3
    two.run()
    assert peer.state is State.ESTABLISHED
    peer.write(b"x")
    two.run()
    assert isinstance(peer.take_error(), ConnectionResetError)


def test_congestion_control_that_raises_ends_its_connection_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._ALGORITHMS, "bad", BadReno)
    with nothing_left():
        one, other = memory_pair(pollable=True)
        left, right = us.Engine(stack_on(one, LEFT), one), us.Engine(stack_on(other, RIGHT), other)
        client, server = connected(left, right)
        listener = right.make_socket()
        listener.bind((RIGHT, PORT))
        listener.listen()
        bad = left.make_socket()
        bad.settimeout(PATIENCE)
        bad.connect((RIGHT, PORT))
        peer, _ = listener.accept()
        bridge = left.local.broker.table[bad._tcp.ident]  # type: ignore[union-attr]
        assert isinstance(bridge, Bridge)
        left.call(lambda: bridge.conn.configure(congestion="bad"))
        with pytest.raises(OSError, match=r"abort|Broken pipe"):
            bad.sendall(TEXT * 1000)
        assert left.alive
        client.sendall(TEXT)
        client.shutdown(us.SHUT_WR)
        assert read_all(server) == TEXT
        for sock in (client, server, bad, peer, listener):
            sock.close()
        left.close()
        right.close(0.1)
        one.close()
        other.close()


def test_tracer_that_raises_under_aio_ends_the_connection_it_was_told_of(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        tracer = Tracer()
        async with two_aio(make=lambda link, address: traced(link, address, tracer)) as (left, right, _):

            async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while data := await reader.read(1000):
                    writer.write(data)
                writer.close()

            servers = [await right.start_server(echo, None, port) for port in (PORT, PORT + 1)]
            streams = [await left.open_connection(RIGHT, port) for port in (PORT, PORT + 1)]
            tracer.port = PORT
            for _, writer in streams:
                writer.write(b"hello")
            with pytest.raises(ConnectionAbortedError):
                await streams[0][0].readexactly(5)
            assert await streams[1][0].readexactly(5) == b"hello"
            tracer.port = -1
            for _, writer in streams:
                writer.close()
            for server in servers:
                server.close()

    run(main())
    assert "a connection has failed" in caplog.text


class Raising(logging.Handler):
    """A handler of logs that fails."""

    def handle(self, record: logging.LogRecord) -> bool:
        raise Unlucky


@contextmanager
def failing_log() -> Iterator[None]:
    log, handler = logging.getLogger("usertcp"), Raising()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def test_log_handler_that_raises_disturbs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    two = Two()
    two.left.mends = True
    conn, _ = two.connected()
    other = two.left.stack.connect((RIGHT, PORT), two.now)
    two.run()

    def fail() -> None:
        raise Unlucky

    conn.user = Watch(fail)
    with failing_log():
        two.left.stack.notify(conn)
        two.run()
    assert conn.state is State.CLOSED
    assert other.state is State.ESTABLISHED


def test_observer_that_raises_is_told_no_more_and_frames_pass(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    def on_frame(direction: str, frame: bytes, now: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Unlucky

    two = Two()
    two.left.link = Observe(two.link, on_frame)
    two.left._send = two.left.link.send
    conn, peer = two.connected()
    conn.write(TEXT)
    two.run()
    assert peer.read(len(TEXT)) == TEXT
    assert calls == 3
    assert "Unlucky" in caplog.text


class Full:
    """A file on a disk that is full."""

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_recorder_whose_disk_is_full_stops_and_frames_pass(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    two = Two()
    recorder = Pcap.open(two.link, tmp_path / "x.pcap")
    two.left.link = recorder
    two.left._send = recorder.send
    conn, peer = two.connected()
    file, recorder.writer._file = recorder.writer._file, Full()  # type: ignore[assignment]
    conn.write(TEXT)
    two.run()
    assert peer.read(len(TEXT)) == TEXT
    assert two.left.lost == 0
    assert caplog.text.count("No space left") == 1
    recorder.writer._file = file
    recorder.close()


# -- signals, anywhere ---------------------------------------------------------------------------------------------


class Interrupt(BaseException):
    """What the handler of a signal raises."""


def within_del(frame: FrameType | None) -> bool:
    """Whether Python would drop what is raised in ``frame``."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


def interrupted_at(number: int, work: Callable[[], object]) -> bool:
    """Do ``work``, in which at the ``number``-th line of the stack an exception comes from outside. False: it ended
    before."""
    count = 0

    def line(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if event == "line":
            count += 1
            if count >= number and not within_del(frame):
                sys.settrace(None)
                raise Interrupt
        return line

    def call(frame: FrameType, event: str, _: object) -> Any:
        name = frame.f_code.co_filename.removeprefix(PACKAGE)
        return line if name.startswith(("/tcp/", "/net/", "/link/", "/driver/base.py")) else None

    former = sys.gettrace()
    sys.settrace(call)
    try:
        work()
    except Interrupt:
        return True
    finally:
        sys.settrace(former)
    return False


def serve(listener: blocking.Listener) -> None:
    """Echo everybody, each in a thread."""

    def echo(conn: Conn) -> None:
        try:
            while data := conn.recv():
                conn.sendall(data)
        except OSError:
            pass
        conn.close()

    try:
        while True:
            threading.Thread(target=echo, args=(listener.accept(),), daemon=True).start()
    except OSError:
        pass


def ask(conn: Conn, data: bytes) -> bytes:
    conn.settimeout(PATIENCE)
    conn.sendall(data)
    got = b""
    while len(got) < len(data):
        got += conn.recv() or b"?" * len(data)
    return got


def test_interrupt_at_any_line_of_a_turn_leaves_nothing_locked_and_other_connections_whole() -> None:
    """Every 13th line of an exchange (every third where only what drives the core has lines); each time with hosts of
    their own, on which another connection is quiet: it has said nothing yet, so that no timer of its own is due in that
    turn."""
    number, struck, stride = 1, 0, 3 if compiled() else 13
    ends: set[int] = set()
    with nothing_left():
        while True:
            one, other = memory_pair(offload=True, pollable=True)
            left = blocking.Host(stack_on(one, LEFT), one, linger=0.1)
            right = blocking.Host(stack_on(other, RIGHT), other, linger=0.1)
            listener = right.listen(("", PORT))
            server = threading.Thread(target=serve, args=(listener,))
            server.start()
            busy, quiet = (left.connect((RIGHT, PORT), timeout=PATIENCE) for _ in range(2))
            until(lambda: not left.stack.stirred, "the ACK of its handshake")  # noqa: B023

            def work() -> None:
                ask(busy, TEXT * 3)  # noqa: B023

            hit = interrupted_at(number, work)
            assert ask(quiet, TEXT[::-1]) == TEXT[::-1]
            try:
                busy.sendall(b"x")
            except OSError as error:
                ends.add(error.errno or 0)
            with left.connect((RIGHT, PORT), timeout=PATIENCE) as fresh:
                assert ask(fresh, TEXT) == TEXT
            for each in (busy, quiet, listener):
                each.close()
            left.close()
            right.close()
            server.join(PATIENCE)
            until(lambda: not any("echo" in thread.name for thread in threading.enumerate()))
            struck += hit
            number += stride
            if not hit:
                break
    assert struck > (5 if compiled() else 20)
    assert ends <= {errno.ECONNABORTED, errno.EPIPE}


def test_alarm_whose_handler_raises_oserror_within_a_read_is_not_taken_for_the_devices() -> None:
    with nothing_left():
        one, other = memory_pair(pollable=True)
        link = FaultyLink(one)
        left = blocking.Host(stack_on(one, LEFT), link, linger=0.1)
        right = blocking.Host(stack_on(other, RIGHT), other, linger=0.1)
        listener = right.listen(("", PORT))
        conn = left.connect((RIGHT, PORT), timeout=PATIENCE)
        peer = listener.accept()

        def late(_: int, __: object) -> None:
            raise TimeoutError("the user's own")

        def once() -> None:
            link.on_read = lambda: None
            signal.raise_signal(signal.SIGUSR1)

        former = signal.signal(signal.SIGUSR1, late)
        try:
            sender = threading.Timer(0.02, peer.send, (b"hello",))
            sender.start()
            with pytest.raises(TimeoutError, match="the user's own"):  # noqa: PT012
                link.on_read = once  # by whichever thread: the handler runs in this one
                ask(conn, TEXT)
        finally:
            signal.signal(signal.SIGUSR1, former)
        sender.join(PATIENCE)
        assert left._pump.lost == 0
        for each in (conn, peer, listener, left, right):
            each.close()


def test_log_handler_that_raises_does_not_keep_a_stack_from_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    from usertcp.driver import open as opening

    one, other = memory_pair()
    closed: list[bool] = []

    class Opened:
        link, address, gateway, ports = one, f"{LEFT}/24", None, None

        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr(opening, "OpenLink", lambda spec: Opened())
    with failing_log():
        stack = OpenStack(LinkSpec(tap="tap0"), None, TcpConfig(), None)
    assert not closed
    stack.close()
    one.close()
    other.close()
