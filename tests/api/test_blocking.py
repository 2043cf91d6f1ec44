"""usertcp.blocking: several threads, leaders and followers, time-outs, errors, and an end without leftovers."""

import errno
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import shake_128
from socket import SHUT_RDWR

import pytest

from tests.api.hosts import LEFT, PATIENCE, PORT, RIGHT, nothing_left, stack_on, two_blocking
from tests.api.sockets import until
from tests.support.faulty import FaultyLink
from usertcp import blocking
from usertcp.link.memory import memory_pair
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.state import State
from usertcp.units import KIB, MS


def payload(size: int, seed: int = 1) -> bytes:
    return shake_128(seed.to_bytes(4, "big")).digest(size)


def read_all(conn: blocking.Conn) -> bytes:
    parts = []
    while data := conn.recv(1 << 18):
        parts.append(data)
    return b"".join(parts)


def echo(listener: blocking.Listener, times: int) -> None:
    """Serve ``times`` connections one after another."""
    for _ in range(times):
        with listener.accept() as conn:
            while data := conn.recv():
                conn.sendall(data)


def send_once(listener: blocking.Listener, data: bytes) -> None:
    """Send ``data`` to who connects, and close."""
    with listener.accept() as conn:
        conn.sendall(data)


def echoed(host: blocking.Host, data: bytes) -> bytes:
    with host.connect((RIGHT, PORT), timeout=PATIENCE) as conn, ThreadPoolExecutor(1) as pool:
        conn.settimeout(PATIENCE)

        def send() -> None:
            conn.sendall(data)
            conn.shutdown()

        sending = pool.submit(send)
        back = read_all(conn)
        sending.result()
        return back


def test_transfer_with_a_busy_poll_arrives_intact() -> None:
    with nothing_left(), two_blocking(busy_poll=50) as (left, right), ThreadPoolExecutor(1) as pool:
        serving = pool.submit(echo, right.listen(("", PORT)), 2)
        assert echoed(left, payload(100_000)) == payload(100_000)
        with left.connect((RIGHT, PORT), timeout=PATIENCE) as conn:
            conn.settimeout(PATIENCE)
            for n in range(20):
                conn.sendall(bytes((n,)))
                assert conn.recv(10) == bytes((n,))
            conn.settimeout(0.01)
            with pytest.raises(TimeoutError):  # longer than a busy poll: it sleeps in the end
                conn.recv(1)
        serving.result(PATIENCE)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_sendall_of_more_than_the_buffer_takes_whatever_it_is_made_of(kind: Callable[[bytes], bytes]) -> None:
    with nothing_left(), two_blocking() as (left, right), ThreadPoolExecutor(1) as pool:
        serving = pool.submit(echo, right.listen(("", PORT)), 1)
        assert echoed(left, kind(payload(3_000_001))) == payload(3_000_001)
        serving.result(PATIENCE)


def test_transfer_both_ways_arrives_intact() -> None:
    with nothing_left(), two_blocking() as (left, right), ThreadPoolExecutor(1) as pool:
        serving = pool.submit(echo, right.listen(("", PORT)), 1)
        assert echoed(left, payload(5_000_000)) == payload(5_000_000)
        serving.result(PATIENCE)


def test_many_threads_on_one_host_each_get_their_own() -> None:
    with nothing_left(), two_blocking() as (left, right), ThreadPoolExecutor(24) as pool:
        listener = right.listen(("", PORT))
        servers = [pool.submit(echo, listener, 2) for _ in range(8)]
        clients = [pool.submit(echoed, left, payload(200_000, n)) for n in range(16)]
        for n, client in enumerate(clients):
            assert client.result(PATIENCE * 2) == payload(200_000, n)
        for server in servers:
            server.result(PATIENCE)


def test_loopback_within_one_host() -> None:
    with nothing_left(), two_blocking() as (left, _), ThreadPoolExecutor(1) as pool:
        listener = left.listen(("127.0.0.1", 0))
        serving = pool.submit(echo, listener, 1)
        with left.connect(listener.getsockname(), timeout=PATIENCE) as conn:
            conn.sendall(b"hello")
            assert conn.recv() == b"hello"
            conn.shutdown()
            assert conn.recv() == b""
        serving.result(PATIENCE)


def test_recv_without_data_times_out_and_can_be_repeated() -> None:
    with two_blocking() as (left, right):
        listener = right.listen(("", PORT))
        with left.connect((RIGHT, PORT), timeout=PATIENCE) as conn, listener.accept() as peer:
            conn.settimeout(0.01)
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    conn.recv()
            conn.settimeout(0)
            with pytest.raises(BlockingIOError):
                conn.recv()
            conn.settimeout(PATIENCE)
            peer.sendall(b"late")
            assert conn.recv() == b"late"


def test_send_to_a_peer_that_does_not_read_times_out() -> None:
    with two_blocking(
        tcp=TcpConfig(send_buffer=10_000, send_buffer_max=0, receive_buffer=10_000, receive_buffer_max=0), linger=0.05
    ) as (left, right):
        listener = right.listen(("", PORT))
        with left.connect((RIGHT, PORT), timeout=PATIENCE) as conn, listener.accept():
            conn.settimeout(0.1)
            with pytest.raises(TimeoutError):
                conn.sendall(bytes(100_000))
            conn.abort()


def test_connect_to_nobody_times_out_and_leaves_nothing() -> None:
    with nothing_left(), two_blocking() as (left, _):
        with pytest.raises(TimeoutError):
            left.connect(("10.0.0.77", PORT), timeout=0.05)
        assert not [conn for conn in left.stack.connections() if conn.state is not State.CLOSED]


def test_connect_to_a_closed_port_is_refused() -> None:
    with two_blocking() as (left, _), pytest.raises(ConnectionRefusedError):
        left.connect((RIGHT, PORT), timeout=PATIENCE)


def test_connect_without_a_route_is_unreachable() -> None:
    with two_blocking() as (left, _), pytest.raises(OSError, match="unreachable") as caught:
        left.connect(("192.0.2.1", PORT), timeout=PATIENCE)
    assert caught.value.errno == errno.ENETUNREACH


def test_connect_to_a_name_that_does_not_resolve_says_so() -> None:
    with two_blocking() as (left, _), pytest.raises(OSError, match="'no\\.such\\.name\\.invalid' does not resolve"):
        left.connect(("no.such.name.invalid", PORT), timeout=PATIENCE)


def test_listen_on_a_port_in_use_is_refused() -> None:
    with two_blocking() as (left, _):
        left.listen(("", PORT))
        with pytest.raises(OSError, match="in use"):
            left.listen((LEFT, PORT))


def test_peer_that_aborts_is_a_reset_then_the_end() -> None:
    with two_blocking() as (left, right):
        listener = right.listen(("", PORT))
        with left.connect((RIGHT, PORT), timeout=PATIENCE) as conn:
            conn.settimeout(PATIENCE)
            listener.accept().abort()
            with pytest.raises(ConnectionResetError):
                conn.recv()
            assert conn.recv() == b""
            with pytest.raises(BrokenPipeError):
                conn.send(b"x")


def test_half_close_reading_goes_on() -> None:
    with two_blocking() as (left, right), ThreadPoolExecutor(1) as pool:
        listener = right.listen(("", PORT))

        def answer() -> None:
            with listener.accept() as peer:
                peer.sendall(read_all(peer)[::-1])

        serving = pool.submit(answer)
        with left.connect((RIGHT, PORT), timeout=PATIENCE) as conn:
            conn.sendall(b"abc")
            conn.shutdown()
            with pytest.raises(BrokenPipeError):
                conn.send(b"x")
            assert read_all(conn) == b"cba"
        serving.result(PATIENCE)


def test_recv_into_and_makefile_read_and_write() -> None:
    with two_blocking() as (left, right), ThreadPoolExecutor(1) as pool:
        serving = pool.submit(echo, right.listen(("", PORT)), 1)
        with left.connect((RIGHT, PORT), timeout=PATIENCE) as conn:
            with conn.makefile("rwb") as file:
                file.write(b"one\ntwo\nthree")
                file.flush()
                assert file.readline() == b"one\n"
                assert file.readline() == b"two\n"
                assert file.read(5) == b"three"
            buffer = bytearray(10)
            conn.sendall(b"four")
            assert conn.recv_into(buffer, 3) == 3
            assert conn.recv_into(buffer) == 1
            assert buffer == b"rou" + bytes(7)
        serving.result(PATIENCE)


@pytest.mark.parametrize("room", [1, 1000, 100_000, 3_000_000])
def test_recv_into_any_buffer_gets_the_stream(room: int) -> None:
    data = payload(200_000 if room < 1000 else 3_000_000)
    with nothing_left(), two_blocking() as (left, right), ThreadPoolExecutor(1) as pool:
        listener = right.listen(("", PORT))
        sending = pool.submit(lambda: send_once(listener, data[: 2000 if room == 1 else len(data)]))
        with left.connect((RIGHT, PORT), timeout=PATIENCE) as conn:
            conn.settimeout(PATIENCE)
            got, buffer = bytearray(), bytearray(room + 1)
            while taken := conn.recv_into(memoryview(buffer)[:room]):
                got += buffer[:taken]
            assert got == data[: len(got)]
            assert len(got) == (2000 if room == 1 else len(data))
            assert buffer[-1] == 0  # nothing beyond what was offered
        sending.result(PATIENCE)


def test_recv_into_memory_that_cannot_be_filled_is_refused_and_takes_nothing() -> None:
    with two_blocking() as (left, right):
        client, server = pair(left, right)
        with client, server:
            server.sendall(b"text")
            for memory in (memoryview(b"read only"), memoryview(bytearray(8))[::2]):
                with pytest.raises(TypeError):
                    client.recv_into(memory)
            assert client.recv(100) == b"text"


def test_what_is_no_bytes_is_refused_and_the_connection_lives() -> None:
    with two_blocking() as (left, right):
        client, server = pair(left, right)
        with client, server:
            for send in (client.send, client.sendall):
                with pytest.raises(TypeError):
                    send("text")  # type: ignore[arg-type]
            client.sendall(b"text")
            assert server.recv(100) == b"text"


def test_two_threads_that_recv_into_their_buffers_share_the_stream() -> None:
    data = bytes(range(256)) * 4000
    with nothing_left(), two_blocking() as (left, right), ThreadPoolExecutor(3) as pool:
        listener = right.listen(("", PORT))
        with left.connect((RIGHT, PORT), timeout=PATIENCE) as conn:

            def take() -> bytes:
                got, buffer = bytearray(), bytearray(5000)
                while taken := conn.recv_into(buffer):
                    got += buffer[:taken]
                return bytes(got)

            takers = [pool.submit(take) for _ in range(2)]
            send_once(listener, data)
            assert sorted(b"".join(taker.result(PATIENCE) for taker in takers)) == sorted(data)


def test_recv_into_that_timed_out_keeps_its_hands_off_the_buffer() -> None:
    with nothing_left(), two_blocking() as (left, right):
        listener = right.listen(("", PORT))
        with left.connect((RIGHT, PORT), timeout=PATIENCE) as conn, listener.accept() as peer:
            conn.settimeout(0.01)
            buffer = bytearray(10)
            with pytest.raises(TimeoutError):
                conn.recv_into(buffer)
            peer.sendall(b"late")
            conn.settimeout(PATIENCE)
            assert conn.recv(10) == b"late"
            assert buffer == bytes(10)


def test_keeper_that_comes_after_the_time_of_a_timer_does_not_sleep_over_it() -> None:
    with nothing_left(), two_blocking(tcp=TcpConfig(msl=1 * MS)) as (left, right):
        listener = right.listen(("", PORT))
        for _ in range(20):
            with left.connect((RIGHT, PORT), timeout=PATIENCE) as conn, listener.accept() as peer:
                conn.shutdown()
                assert peer.recv() == b""
                peer.close()
                assert conn.recv() == b""  # and with it TIME-WAIT, for less time than until the keeper looks in
        until(lambda: not [row for row in left.snapshot() + right.snapshot() if row["state"] == "TIME-WAIT"])


def test_getnames_state_and_info_tell_of_the_connection() -> None:
    with two_blocking() as (left, right):
        listener = right.listen(("", PORT))
        with left.connect((RIGHT, PORT), timeout=PATIENCE) as conn, listener.accept() as peer:
            assert conn.getpeername() == (RIGHT, PORT)
            assert peer.getpeername() == conn.getsockname()
            assert conn.state is State.ESTABLISHED
            assert conn.info().snd_mss > 500
            conn.configure(nodelay=True)
            assert {row["state"] for row in right.snapshot()} == {"LISTEN", "ESTABLISHED"}


def waiting(call: Callable[[], object], pool: ThreadPoolExecutor) -> "Callable[[], BaseException | None]":
    """Start ``call`` in a thread; what the result function gives is the exception that ended it."""
    started = threading.Event()

    def run() -> object:
        started.set()
        return call()

    future = pool.submit(run)
    assert started.wait(PATIENCE)
    return lambda: future.exception(PATIENCE)


def test_close_in_another_thread_wakes_who_waits() -> None:
    with nothing_left(), two_blocking() as (left, right), ThreadPoolExecutor(4) as pool:
        listener = right.listen(("", PORT))
        conn = left.connect((RIGHT, PORT), timeout=PATIENCE)
        peer = listener.accept()
        results = [waiting(conn.recv, pool), waiting(listener.accept, pool)]
        conn.close()
        listener.close()
        for result in results:
            error = result()
            assert isinstance(error, OSError)
            assert error.errno == errno.EBADF
        peer.close()


def send_on(conn: blocking.Conn) -> None:
    while True:
        conn.sendall(bytes(1 << 16))


@pytest.mark.parametrize(
    ("how", "expected"),
    [("close", errno.EBADF), ("abort", errno.EBADF), ("shutdown", errno.EPIPE), ("reset", errno.ECONNRESET)],
)
def test_end_by_another_thread_wakes_a_send_that_waits(how: str, expected: int) -> None:
    small = TcpConfig(send_buffer=64 * KIB, send_buffer_max=0, receive_buffer=8 * KIB, receive_buffer_max=0)
    with nothing_left(), two_blocking(tcp=small, linger=0.05) as (left, right), ThreadPoolExecutor(1) as pool:
        conn, peer = pair(left, right)
        fill(conn)
        conn.settimeout(None)
        result = waiting(lambda: send_on(conn), pool)
        peer.abort() if how == "reset" else getattr(conn, how)()
        error = result()
        assert isinstance(error, OSError)
        assert error.errno == expected
        conn.close()
        peer.abort()


def pair(left: blocking.Host, right: blocking.Host) -> tuple[blocking.Conn, blocking.Conn]:
    listener = right.listen(("", PORT))
    conn = left.connect((RIGHT, PORT), timeout=PATIENCE)
    return conn, listener.accept()


def test_shutdown_by_another_thread_ends_a_recv_that_waits() -> None:
    with nothing_left(), two_blocking() as (left, right), ThreadPoolExecutor(1) as pool:
        conn, peer = pair(left, right)
        result = pool.submit(conn.recv)
        conn.shutdown(SHUT_RDWR)
        assert result.result(PATIENCE) == b""
        conn.close()
        peer.close()


def test_close_of_the_host_wakes_a_connect_and_leaves_nothing() -> None:
    with nothing_left(), two_blocking() as (left, _), ThreadPoolExecutor(1) as pool:
        result = waiting(lambda: left.connect(("10.0.0.77", PORT)), pool)
        left.close()
        error = result()
        assert isinstance(error, OSError)
        assert error.errno == errno.EBADF
        assert not list(left.stack.connections())


def test_thousands_of_connects_given_up_leave_nothing() -> None:
    with nothing_left(), two_blocking() as (left, right), ThreadPoolExecutor(8) as pool:
        listener = right.listen(("", PORT), backlog=4)

        def give_up(number: int) -> None:
            address = RIGHT if number % 2 else "10.0.0.77"
            with suppress(TimeoutError):
                left.connect((address, PORT), timeout=0.001 * (number % 3)).abort()

        for done in [pool.submit(give_up, number) for number in range(3000)]:
            done.result(PATIENCE)
        listener.close()
        assert not [conn for conn in left.stack.connections() if conn.state is not State.CLOSED]
        assert left.stack.counters()["memory_used"] == 0


def test_close_of_the_host_wakes_who_waits() -> None:
    with nothing_left(), two_blocking() as (left, right), ThreadPoolExecutor(4) as pool:
        listener = right.listen(("", PORT))
        conn = left.connect((RIGHT, PORT), timeout=PATIENCE)
        peer = listener.accept()
        results = [waiting(peer.recv, pool), waiting(listener.accept, pool), waiting(listener.accept, pool)]
        right.close()
        for result in results:
            error = result()
            assert isinstance(error, OSError)
            assert error.errno == errno.EBADF
        for call in (peer.recv, listener.accept, lambda: right.connect((LEFT, 1))):
            with pytest.raises(OSError, match="Bad file descriptor"):
                call()
        assert conn.recv() == b""


def test_host_that_closes_delivers_what_was_sent() -> None:
    with nothing_left(), two_blocking() as (left, right), ThreadPoolExecutor(1) as pool:
        listener = right.listen(("", PORT))
        conn = left.connect((RIGHT, PORT), timeout=PATIENCE)
        received = pool.submit(read_all, listener.accept())
        conn.sendall(payload(900_000))
        left.close()
        assert received.result(PATIENCE) == payload(900_000)


def fill(conn: blocking.Conn) -> int:
    """Send until nothing more is taken; how many bytes that were."""
    sent = 0
    conn.settimeout(0.1)
    while True:
        try:
            sent += conn.send(bytes(1 << 14))
        except TimeoutError:
            return sent


@pytest.mark.parametrize("ended_by", ["host", "connection first", "interrupt"])
def test_host_that_closes_with_a_peer_that_does_not_read_resets_it(
    ended_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = TcpConfig(send_buffer=64 * KIB, send_buffer_max=0, receive_buffer=8 * KIB, receive_buffer_max=0)
    with nothing_left(), two_blocking(tcp=small, linger=0.2) as (left, right):
        listener = right.listen(("", PORT))
        conn = left.connect((RIGHT, PORT), timeout=PATIENCE)
        peer = listener.accept()
        peer.settimeout(PATIENCE)
        assert fill(conn) > 64 * KIB
        if ended_by == "connection first":
            conn.close()
        if ended_by == "interrupt":

            def interrupted(_: int) -> bool:
                raise KeyboardInterrupt

            monkeypatch.setattr(left._engine, "step", interrupted)
            with pytest.raises(KeyboardInterrupt):
                left.close()
        left.close()
        with pytest.raises(ConnectionResetError):
            read_all(peer)


def test_keeper_acknowledges_while_nobody_waits() -> None:
    with two_blocking(tcp=TcpConfig(delayed_ack=10 * MS)) as (left, right):
        listener = right.listen(("", PORT))
        conn = left.connect((RIGHT, PORT), timeout=PATIENCE)
        peer = listener.accept()
        conn.sendall(b"x" * 100)
        acknowledged = threading.Event()
        for _ in range(500):  # the keepers of both hosts do it; this thread only looks
            if conn.info().unacked == 0:
                acknowledged.set()
                break
            threading.Event().wait(0.01)
        assert acknowledged.is_set()
        peer.close()


def test_device_that_dies_fails_who_waits_and_who_comes_later() -> None:
    one, other = memory_pair(pollable=True)
    flaky = FaultyLink(one)
    with nothing_left(), ThreadPoolExecutor(4) as pool:
        left, right = blocking.Host(stack_on(one, LEFT), flaky), blocking.Host(stack_on(other, RIGHT), other)
        listener, own = right.listen(("", PORT)), left.listen(("", PORT))
        conn = left.connect((RIGHT, PORT), timeout=PATIENCE)
        peer = listener.accept()
        results = [waiting(conn.recv, pool), waiting(own.accept, pool)]
        flaky.read_error = OSError(errno.ENETDOWN, "gone")
        for _ in range(2):
            with pytest.raises(OSError, match=r"down|gone") as caught:
                left.connect((RIGHT, PORT), timeout=PATIENCE)
            assert caught.value.errno == errno.ENETDOWN
        for result in results:
            error = result()
            assert isinstance(error, OSError)
            assert error.errno == errno.ENETDOWN
        left.close()
        right.linger = 0
        right.close()
        assert peer.state is State.CLOSED


def test_interrupt_ends_a_wait_and_the_host_goes_on() -> None:
    with nothing_left(), two_blocking() as (left, right), ThreadPoolExecutor(1) as pool:
        serving = pool.submit(echo, right.listen(("", PORT)), 1)
        with left.connect((RIGHT, PORT), timeout=PATIENCE) as conn:
            timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):  # noqa: PT012  # whenever it comes
                timer.start()
                conn.recv()
            timer.join()
            conn.sendall(b"still here")
            assert conn.recv() == b"still here"
        serving.result(PATIENCE)


def test_ping_is_answered_or_times_out() -> None:
    with two_blocking() as (left, _):
        assert left.ping(RIGHT, timeout=PATIENCE).size == 56
        with pytest.raises(TimeoutError):
            left.ping("10.0.0.77", timeout=0.05)


def test_two_hundred_connections_one_after_another_leave_nothing() -> None:
    with nothing_left(), two_blocking(tcp=TcpConfig(msl=1 * MS)) as (left, right), ThreadPoolExecutor(1) as pool:
        serving = pool.submit(echo, right.listen(("", PORT)), 200)
        for n in range(200):
            with left.connect((RIGHT, PORT), timeout=PATIENCE) as conn:
                conn.sendall(b"%d" % n)
                assert conn.recv() == b"%d" % n
        serving.result(PATIENCE)
