"""usertcp.socket: one socket in several processes and under several numbers; descriptors that are passed on."""

import os
import signal
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator

import pytest

import usertcp.socket as us
from tests.api.hosts import PATIENCE
from tests.api.sockets import local_pair, one_engine, polled, read_all, until


@pytest.fixture(scope="module")
def engine() -> Iterator[us.Engine]:
    with one_engine() as made:
        yield made


def in_child(work: Callable[[], object]) -> int:
    """The number of a child that does ``work`` and ends, within PATIENCE."""
    child = os.fork()
    if child:
        return child
    signal.alarm(int(PATIENCE))
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def ended_well(child: int) -> bool:
    return os.waitpid(child, 0)[1] == 0


def test_connected_socket_passed_over_af_unix_works_in_the_other_process(engine: us.Engine) -> None:
    ours, theirs = us.socketpair()
    client, server = local_pair(engine)
    server.settimeout(None)  # whether it blocks goes with it
    name, peer = server.getsockname(), server.getpeername()

    def serve() -> None:
        _, (fd,), _, _ = us.recv_fds(theirs, 1, 1)
        sock = us.socket(fileno=fd)
        assert (sock.getsockname(), sock.getpeername()) == (name, peer)
        assert sock.getsockopt(us.SOL_SOCKET, us.SO_TYPE) == us.SOCK_STREAM
        sock.setsockopt(us.IPPROTO_TCP, us.TCP_NODELAY, 1)
        sock.sendall(sock.recv(100).upper())
        sock.close()

    with ours, theirs, client:
        child = in_child(serve)
        us.send_fds(ours, [b"x"], [server.fileno()])
        server.close()
        client.sendall(b"hello")
        assert read_all(client) == b"HELLO"
        assert ended_well(child)


def test_listener_passed_over_af_unix_accepts_in_the_other_process(engine: us.Engine) -> None:
    ours, theirs = us.socketpair()

    def serve() -> None:
        _, (fd,), _, _ = us.recv_fds(theirs, 1, 1)
        with us.socket(fileno=fd) as listener:
            assert listener.getsockname() == address
            sock, peer = listener.accept()
            with sock:
                sock.sendall(b"%d" % peer[1])

    with ours, theirs:
        listener = us.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        child = in_child(serve)
        us.send_fds(ours, [b"x"], [listener.fileno()])
        listener.close()
        with us.create_connection(address, PATIENCE) as client:
            assert read_all(client) == b"%d" % client.getsockname()[1]
        assert ended_well(child)


def test_socket_shared_across_fork_is_one_connection_until_both_have_closed(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client:
        child = in_child(lambda: server.sendall(b"from the child, "))
        assert ended_well(child)
        server.sendall(b"from the parent")
        server.close()
        assert read_all(client) == b"from the child, from the parent"


def test_socket_inherited_by_a_program_is_its_standard_output(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    server.settimeout(None)
    with client:
        program = "import sys; print(sys.stdin.readline().upper(), end='')"
        running = subprocess.Popen([sys.executable, "-c", program], stdin=server.fileno(), stdout=server.fileno())
        server.close()
        client.sendall(b"hello\n")
        assert read_all(client) == b"HELLO\n"
        assert running.wait(PATIENCE) == 0


def test_descriptors_are_not_inheritable_until_told(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    with client, server, us.create_server(("127.0.0.1", 0)) as listener, client.dup() as copy:
        for sock in (client, server, listener, copy):
            assert not sock.get_inheritable()
            sock.set_inheritable(True)
            assert os.get_inheritable(sock.fileno())


def test_inheritable_flag_outlives_a_refused_connect(engine: us.Engine) -> None:
    with us.socket() as sock, us.socket() as free:
        free.bind(("127.0.0.1", 0))
        sock.set_inheritable(True)
        with pytest.raises(ConnectionRefusedError):
            sock.connect(free.getsockname())
        assert sock.get_inheritable()


def test_socket_forgotten_without_close_warns_and_ends_its_connection(engine: us.Engine) -> None:
    client, *others = local_pair(engine)
    with client:
        with pytest.warns(ResourceWarning, match="unclosed"):
            others.clear()
        assert client.recv(1) == b""


@pytest.mark.parametrize("item", [7, (0, 0), (0, 0, b"", 1), (object(), 0, b""), (0, object(), b""), (0, 0, object())])
def test_ancillary_data_of_the_wrong_kind_raises_as_the_standard_class(engine: us.Engine, item: object) -> None:
    client, server = local_pair(engine)
    with client, server:
        with pytest.raises(TypeError):
            client.sendmsg([b"x"], [item])
        assert client.sendmsg([b"x"], [(us.SOL_SOCKET, us.SCM_RIGHTS, b"")]) == 1


def test_socket_collected_in_the_engines_thread_does_not_ask_the_engine(engine: us.Engine) -> None:
    client, server = local_pair(engine)
    listener = us.create_server(("127.0.0.1", 0))
    server.setsockopt(us.SOL_SOCKET, us.SO_LINGER, struct.pack("ii", 1, 1))
    client.shutdown(us.SHUT_WR)
    server.shutdown(us.SHUT_WR)
    until(lambda: "HUP" in polled(server).split("|"))
    with client:
        assert "raddr" not in engine.call(repr, server)
        engine.call(server.close)
        engine.call(listener.close)
        assert client.recv(1) == b""
