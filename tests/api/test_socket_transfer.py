"""usertcp.socket: bytes, ends of streams, and how a connection is closed."""

import errno
import hashlib
import io
import os
import socket as kernel
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import usertcp.socket as us
from tests.api.hosts import PATIENCE, RIGHT, nothing_left
from tests.api.sockets import connected, local_pair, one_engine, polled, read_all, two_engines, until
from usertcp.tcp.config import TcpConfig
from usertcp.units import KIB


@pytest.fixture(scope="module")
def engine() -> Iterator[us.Engine]:
    with one_engine() as made:
        yield made


def linger(sock: us.socket, on: int, seconds: int) -> None:
    sock.setsockopt(us.SOL_SOCKET, us.SO_LINGER, struct.pack("ii", on, seconds))


def states(engine: us.Engine) -> list[str]:
    found: list[str] = engine.call(lambda: [str(conn.state) for conn in engine.stack.connections()])
    return found


def test_queue_of_errors_is_empty_and_takes_nothing_of_the_data(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client, server:
        server.sendall(b"data")
        for receive in (
            lambda: client.recv(9, us.MSG_ERRQUEUE),
            lambda: client.recv_into(bytearray(9), 0, us.MSG_ERRQUEUE),
            lambda: client.recvmsg(9, 0, us.MSG_ERRQUEUE),
            lambda: client.recvmsg_into([bytearray(9)], 0, us.MSG_ERRQUEUE),
        ):
            with pytest.raises(BlockingIOError):
                receive()
        assert client.recv(4, us.MSG_WAITALL) == b"data"


def test_transfer_both_ways_at_once_arrives_intact_and_leaves_nothing() -> None:
    data = os.urandom(4_000_000)
    with nothing_left(), two_engines() as (left, right), ThreadPoolExecutor(3) as pool:
        client, server = connected(left, right)

        def send(sock: us.socket) -> None:
            sock.sendall(data)
            sock.shutdown(us.SHUT_WR)

        with client, server:
            sending = [pool.submit(send, client), pool.submit(send, server)]
            reading = pool.submit(read_all, server)
            assert hashlib.sha256(read_all(client)).digest() == hashlib.sha256(data).digest()
            assert reading.result(PATIENCE) == data
            for each in sending:
                each.result(PATIENCE)


def test_shutdown_write_reads_end_and_still_receives(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client, server:
        client.sendall(b"question")
        client.shutdown(us.SHUT_WR)
        assert read_all(server) == b"question"
        server.sendall(b"answer")
        server.close()
        assert read_all(client) == b"answer"
        with pytest.raises(BrokenPipeError):
            client.send(b"more")


def test_shutdown_read_reads_what_came_then_end_and_still_sends(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client, server:
        server.sendall(b"early")
        until(lambda: "IN" in polled(client))
        client.shutdown(us.SHUT_RD)
        assert client.recv(100) == b"early"
        assert client.recv(100) == b""
        server.sendall(b"thrown away")
        client.sendall(b"still there")
        assert server.recv(100) == b"still there"


def test_shutdown_both_ways_then_close_ends_the_connection_without_reset(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with server:
        client.sendall(b"last words")
        client.shutdown(us.SHUT_RDWR)
        assert client.recv(1) == b""
        client.close()
        assert read_all(server) == b"last words"
        server.sendall(b"x" * 10)
        server.close()


def test_close_with_bytes_in_every_buffer_delivers_them_before_the_end() -> None:
    small = TcpConfig(send_buffer=32 * KIB, send_buffer_max=0, receive_buffer=32 * KIB, receive_buffer_max=0)
    with two_engines(small) as (left, right):
        client, server = connected(left, right)
        with server:
            client.setblocking(False)
            sent = 0
            block = bytes(range(256)) * 64
            while True:
                try:
                    sent += client.send(block)
                except BlockingIOError:
                    if sent > 200_000 or not wait_writable(client, 0.3):
                        break
            client.close()
            got = read_all(server)
        assert len(got) == sent
        assert got == (block * (sent // len(block) + 1))[:sent]


def wait_writable(sock: us.socket, seconds: float) -> bool:
    import select

    return bool(select.select([], [sock], [], seconds)[1])


def fill(sock: us.socket) -> int:
    """Send until nothing more is taken; how many bytes that were."""
    sock.setblocking(False)
    sent = 0
    while True:
        try:
            sent += sock.send(bytes(1 << 14))
        except BlockingIOError:
            if not wait_writable(sock, 0.3):
                return sent


@pytest.mark.parametrize("closing", ["close", "shutdown", "both"])
def test_read_side_shut_then_closed_with_bytes_in_every_buffer_delivers_them_before_the_end(closing: str) -> None:
    with two_engines(
        TcpConfig(send_buffer=32 * KIB, send_buffer_max=0, receive_buffer=32 * KIB, receive_buffer_max=0)
    ) as (left, right):
        client, server = connected(left, right)
        with client, server:
            client.shutdown(us.SHUT_RD)
            sent = fill(client)
            if closing != "close":
                client.shutdown(us.SHUT_WR)
            if closing != "shutdown":
                client.close()
            assert len(read_all(server)) == sent


def test_engine_closed_without_patience_resets_a_peer_that_lacks_bytes() -> None:
    with two_engines(TcpConfig(send_buffer=32 * KIB, send_buffer_max=0)) as (left, right):
        client, server = connected(left, right)
        with client, server:
            fill(client)
            left.close(0)
            with pytest.raises(ConnectionResetError):
                read_all(server)


def test_engine_closed_while_a_program_sends_delivers_all_that_was_taken() -> None:
    with two_engines() as (left, right), ThreadPoolExecutor(2) as pool:
        client, server = connected(left, right)
        with client, server:

            def send() -> int:
                sent = 0
                while True:
                    try:
                        sent += client.send(bytes(1000))
                    except OSError:
                        return sent

            sending, reading = pool.submit(send), pool.submit(read_all, server)
            until(
                lambda: left.call(lambda: sum(conn.info().bytes_acked for conn in left.stack.connections())) > 100_000
            )
            left.close()
            assert len(reading.result(PATIENCE)) == sending.result(PATIENCE)


def test_close_with_unread_bytes_resets_the_peer(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client:
        client.sendall(b"never read")
        until(lambda: "IN" in polled(server))
        server.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert client.recv(1) == b""


def test_linger_zero_close_resets_the_peer_after_queued_bytes(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client:
        server.sendall(b"queued")
        until(lambda: "IN" in polled(client))
        linger(server, 1, 0)
        server.close()
        until(lambda: "HUP" in polled(client).split("|"))
        assert client.recv(100) == b"queued"
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert client.recv(1) == b""
        with pytest.raises(BrokenPipeError):
            client.send(b"x")


def test_linger_zero_close_sends_what_was_sent_before_and_returns_when_it_is_reset(engine: us.Engine) -> None:
    for _ in range(20):
        client, server = local_pair(engine)
        with client:
            linger(server, 1, 0)
            server.sendall(b"sent")
            server.close()
            assert "HUP" in polled(client).split("|")
            assert client.recv(100) == b"sent"
            with pytest.raises(ConnectionResetError):
                client.recv(1)


def test_linger_zero_close_resets_the_peer_after_the_reading_was_shut_down(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client:
        linger(server, 1, 0)
        server.shutdown(us.SHUT_RD)
        server.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


@pytest.mark.parametrize("order", [(us.SHUT_RD, us.SHUT_WR), (us.SHUT_WR, us.SHUT_RD), (us.SHUT_RDWR,)])
def test_linger_zero_shutdown_of_both_directions_is_no_close(engine: us.Engine, order: tuple[int, ...]) -> None:
    client, server = local_pair(engine)
    with client, server:
        linger(server, 1, 0)
        server.sendall(b"sent")
        for how in order:
            server.shutdown(how)
        assert read_all(client) == b"sent"


@pytest.mark.parametrize("accepted", [True, False])
def test_linger_zero_shutdown_after_the_peer_has_closed_delivers_what_was_sent(
    engine: us.Engine, accepted: bool
) -> None:
    one, other = local_pair(engine)
    client, server = (one, other) if accepted else (other, one)
    with client, server, ThreadPoolExecutor(1) as pool:
        linger(server, 1, 0)
        client.shutdown(us.SHUT_WR)
        assert server.recv(1) == b""

        def answer() -> None:
            server.sendall(bytes(3_000_000))
            server.shutdown(us.SHUT_WR)

        answering = pool.submit(answer)
        assert len(read_all(client)) == 3_000_000
        answering.result(PATIENCE)


def test_linger_close_after_the_reading_was_shut_down_waits_too_and_nothing_is_kept(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client:
        linger(server, 1, 30)
        server.sendall(b"sent")
        server.shutdown(us.SHUT_RD)
        server.close()
        assert client.recv(100) == b"sent"
        assert client.recv(1) == b""
    assert engine.local.broker.closing == {}


def test_linger_seconds_close_returns_when_everything_is_acknowledged() -> None:
    with two_engines() as (left, right), ThreadPoolExecutor(1) as pool:
        client, server = connected(left, right)
        with server:
            reading = pool.submit(read_all, server)
            linger(client, 1, 10)
            client.sendall(bytes(1_000_000))
            client.close()
            assert not {"ESTABLISHED", "FIN-WAIT-1"} & set(states(left))
            assert len(reading.result(PATIENCE)) == 1_000_000


def test_linger_seconds_close_of_one_of_two_descriptors_returns_at_once(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with server:
        linger(client, 1, 30)
        copy = client.dup()
        client.close()
        copy.sendall(b"alive")
        assert server.recv(10) == b"alive"
        server.close()
        copy.close()


def test_recv_blocked_in_a_thread_is_woken_by_reset(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.recv, 1)
        linger(server, 1, 0)
        server.close()
        with pytest.raises(ConnectionResetError):
            waiting.result(PATIENCE)


def test_shutdown_in_another_thread_wakes_recv(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client, server, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.recv, 1)
        client.shutdown(us.SHUT_RDWR)
        assert waiting.result(PATIENCE) == b""


def test_stalled_reader_blocks_the_sender_at_the_buffers() -> None:
    small = TcpConfig(send_buffer=64 * KIB, send_buffer_max=0, receive_buffer=64 * KIB, receive_buffer_max=0)
    with two_engines(small) as (left, right):
        client, server = connected(left, right)
        with client, server:
            client.setblocking(False)
            sent = 0
            while wait_writable(client, 0.3):
                try:
                    sent += client.send(bytes(16 * KIB))
                except BlockingIOError:
                    continue
            assert 128 * KIB < sent < 512 * KIB
            server.setblocking(True)
            taking = 0
            while taking < sent:
                taking += len(server.recv(1 << 16))
            assert taking == sent
            until(lambda: "OUT" in polled(client))


def test_recv_times_out_and_the_connection_goes_on(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client, server:
        client.settimeout(0.02)
        with pytest.raises(TimeoutError):
            client.recv(1)
        server.sendall(b"late")
        client.settimeout(PATIENCE)
        assert client.recv(10) == b"late"


def test_every_way_to_receive_and_to_send_moves_bytes(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client, server:
        buffer = bytearray(4)
        client.sendall(b"a" * 4)
        assert (server.recv_into(buffer, 0), bytes(buffer)) == (4, b"aaaa")
        client.sendmsg([b"b", b"bb"])
        assert server.recvfrom(10) == (b"bbb", None)
        client.sendto(b"cc", ("127.0.0.1", 1))
        assert server.recvmsg(10) == (b"cc", [], 0, None)
        client.send(memoryview(b"dddd"))
        assert server.recvfrom_into(buffer) == (4, None)
        client.send(b"efgh")
        assert server.recv(2, us.MSG_PEEK) == b"ef"
        assert server.recvmsg_into([bytearray(1), bytearray(3)])[0] == 4
        client.shutdown(us.SHUT_WR)
        assert server.recv_into(buffer) == 0
        assert server.recv(0) == b""
        assert server.recvmsg_into([buffer])[0] == 0


def test_sendfile_and_makefile_carry_a_file(engine: us.Engine, tmp_path: "os.PathLike[str]") -> None:
    path = os.path.join(tmp_path, "data")
    data = os.urandom(300_000)
    with open(path, "wb") as file:
        file.write(data)
    client, server = local_pair(engine)
    with client, server, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_all, server)
        with open(path, "rb") as file:
            assert client.sendfile(file) == len(data)
        with client.makefile("w", encoding="ascii", newline="") as text:
            text.write("end\r\n")
        client.shutdown(us.SHUT_WR)
        assert reading.result(PATIENCE) == data + b"end\r\n"


def test_makefile_readline_survives_close_of_the_socket(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client:
        lines = server.makefile("rb")
        assert isinstance(lines, io.BufferedReader)
        server.close()
        client.sendall(b"one\ntwo\n")
        client.shutdown(us.SHUT_WR)
        assert lines.readlines() == [b"one\n", b"two\n"]
        lines.close()


def test_engine_closed_delivers_what_was_sent_and_then_sockets_say_enetdown() -> None:
    with two_engines() as (left, right), ThreadPoolExecutor(2) as pool:
        client, server = connected(left, right)
        listener = left.make_socket()
        listener.bind(("", 0))
        listener.listen()
        accepting = pool.submit(listener.accept)
        data = os.urandom(900_000)
        client.setblocking(True)
        reading = pool.submit(read_all, server)
        client.sendall(data)
        left.close()
        assert reading.result(PATIENCE) == data
        with pytest.raises(OSError, match="engine of this socket is gone"):
            client.recv(1)
        assert client.recv(1) == b""
        with pytest.raises(OSError, match="engine of this socket is gone"):
            accepting.result(PATIENCE)
        with pytest.raises(OSError, match="engine of this socket is gone"):
            left.create_connection((RIGHT, 1))
        for sock in (client, server, listener):
            sock.close()


def test_device_unplugged_fails_every_socket() -> None:
    with two_engines() as (left, right), ThreadPoolExecutor(2) as pool:
        client, server = connected(left, right)
        waiting = pool.submit(client.recv, 1)
        left.call(lambda: left.local.broker.engine.pump.fail(OSError(19, "No such device")))
        with pytest.raises(OSError, match=r"gone|down") as caught:
            waiting.result(PATIENCE)
        assert caught.value.errno == errno.ENETDOWN
        assert not left.alive
        client.close()
        server.close()
        right.close(0.1)  # its peer will not acknowledge anything any more


def test_fork_child_neither_holds_connections_open_nor_disturbs_them(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # the child uses the inherited socket, and goes without cleaning up
        try:
            client.sendall(b"from the child")
            os.write(writer, b"1")
        finally:
            os._exit(0)
    os.close(writer)
    assert os.read(reader, 1) == b"1"
    os.close(reader)
    os.waitpid(child, 0)
    assert server.recv(100) == b"from the child"
    client.close()
    assert server.recv(100) == b""
    server.close()


def test_fork_child_that_lives_does_not_keep_a_closed_connection_open(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(writer)
            client.close()
            server.close()
            os.read(reader, 1)
        finally:
            os._exit(0)
    os.close(reader)
    try:
        client.close()
        assert server.recv(100) == b""
        server.close()
    finally:
        os.close(writer)
        os.waitpid(child, 0)


def test_program_that_ends_without_close_has_its_bytes_delivered() -> None:
    code = """
        import os, sys, threading
        import usertcp.socket as us
        from tests.api.sockets import two_engines, connected
        from tests.api.hosts import stack_on, LEFT, RIGHT
        from usertcp.link.memory import memory_pair
        one, other = memory_pair(offload=True)
        right = us.Engine(stack_on(other, RIGHT), other)
        left = us.Engine(stack_on(one, LEFT), one)
        client, server = connected(left, right)
        got = []
        def read():
            while data := server.recv(65536):
                got.append(data)
            print(sum(map(len, got)), flush=True)
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        client.sendall(bytes(2_000_000))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "2000000\n"


def test_kernel_sockets_fall_through(engine: us.Engine) -> None:
    one, other = us.socketpair()
    with one, other:
        assert type(one) is us.socket
        one.send(b"x")
        assert other.recv(1) == b"x"
        assert one.family == us.AF_UNIX
    with us.socket(us.AF_INET, us.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.sendto(b"dgram", udp.getsockname())
        assert udp.recvfrom(10) == (b"dgram", udp.getsockname())
    with kernel.socket() as foreign, us.socket(fileno=os.dup(foreign.fileno())) as adopted:
        assert adopted.family == us.AF_INET
        assert adopted.getsockname() == ("0.0.0.0", 0)
    with pytest.raises(OSError, match="Protocol not supported"):
        us.socket(us.AF_INET, us.SOCK_STREAM, us.IPPROTO_UDP)


def test_threads_many_at_once_keep_their_streams_apart(engine: us.Engine) -> None:
    threads = set(threading.enumerate())
    with us.create_server(("127.0.0.1", 0), backlog=64) as listener, ThreadPoolExecutor(24) as pool:
        address = listener.getsockname()

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(read_all(sock)[::-1])

        def ask(number: int) -> bool:
            with us.create_connection(address, PATIENCE) as sock:
                data = bytes([number]) * 50_000 + b"!"
                sock.sendall(data)
                sock.shutdown(us.SHUT_WR)
                return read_all(sock) == data[::-1]

        serving = [pool.submit(serve) for _ in range(12)]
        assert all(pool.map(ask, range(12)))
        for each in serving:
            each.result(PATIENCE)
    assert set(threading.enumerate()) <= threads
