"""``usertcp engine``: programs of several users on one stack, what a crash of theirs leaves behind, and of its own."""

import contextlib
import errno
import hashlib
import json
import os
import random
import select
import signal
import socket as kernel
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import usertcp.socket as us
from tests.netns.peer import blocks, digest
from tests.netns.plugged import KERNEL, STACK, until
from tests.netns.programs import PATIENCE, ROOT, Peer, Program, usertcp, which
from tests.netns.tenants import GROUP, ONE, OTHER, Child, Connection, Served, Tenant, folder, served
from usertcp.driver import messages
from usertcp.driver.endpoint import VIGIL
from usertcp.driver.operations import NOT_OF_ONE_SOCKET, OPERATIONS
from usertcp.errors import SetupError, StackError
from usertcp.link import netns, provision

SIZE = 8_000_000
FOREVER = 1 << 40  # bytes
SILENT = "10.9.0.99"  # nobody has this address
DEAF = 9  # the kernel's port that nothing comes from, not even a reset
AT_ONCE = 4.0  # seconds, less than the broker's SWEEP: nothing but the end of its process can have told it
SOON = 1.0  # seconds in which every socket knows that its engine is dead
MANY = 24  # who wait for one listener
TRIES = 3  # the machine may have had something else to do


@pytest.fixture(scope="module")
def engine() -> Iterator[Served]:
    with served() as made:
        yield made


# -- what programs do ------------------------------------------------------------------------------------------------


def exchange(pipe: Connection, engine: us.Attachment, port: int, size: int, seed: int) -> None:
    """Send ``size`` bytes to the kernel's listener and read until the end, at once; say what came."""
    with us.create_connection((KERNEL, port), PATIENCE) as sock:

        def send() -> None:
            for block in blocks(size, seed):
                sock.sendall(block)
            sock.shutdown(us.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        count, total = 0, hashlib.sha256()
        while data := sock.recv(1 << 18):
            if not count:
                pipe.send("begun")
            count += len(data)
            total.update(data)
        sender.join()
        pipe.send((count, total.hexdigest()))


def serve(pipe: Connection, engine: us.Attachment, port: int = 0, reuse: bool = False) -> None:
    """Listen, say where, and accept nobody until told to end."""
    with us.socket() as listener:
        if reuse:
            listener.setsockopt(us.SOL_SOCKET, us.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError as error:
            pipe.send(error.errno)
            return
        listener.listen()
        pipe.send(listener.getsockname())
        pipe.recv()


def share(pipe: Connection, engine: us.Attachment, port: int = 0) -> None:
    """Listen on a port that others may share, and say where, or why not."""
    with us.socket() as listener:
        listener.setsockopt(us.SOL_SOCKET, us.SO_REUSEPORT, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()
        except OSError as error:
            pipe.send(error.errno)
            return
        pipe.send(listener.getsockname()[1])
        pipe.recv()


def hold(pipe: Connection, engine: us.Attachment) -> None:
    """Have a bound port, a connection that is never answered, and a listener with its own clients in its queue."""
    with us.socket() as bound, us.socket() as pending, us.create_server(("", 0)) as listener:
        bound.bind(("", 0))
        pending.bind(("", 0))
        pending.setblocking(False)
        assert pending.connect_ex((SILENT, 9)) == errno.EINPROGRESS
        pipe.send([sock.getsockname()[1] for sock in (bound, pending, listener)])
        pipe.recv()


def take(pipe: Connection, engine: us.Attachment, ports: list[int]) -> None:
    """Bind each of ``ports``; say which it was that could not be had."""
    taken = []
    for port in ports:
        with us.socket() as sock:
            try:
                sock.bind(("", port))
            except OSError as error:
                taken.append((port, error.errno))
    pipe.send(taken)


def wait_in_all_ways(pipe: Connection, engine: us.Attachment, port: int) -> None:
    """Be blocked in everything that blocks, and say how long after the test's word each came back, and with what."""
    listener, polled = us.create_server(("", 0)), us.create_server(("", 0))
    inherited = us.create_server(("", 0))
    connected = [us.create_connection((KERNEL, port), PATIENCE) for _ in range(4)]
    for sock in (listener, polled, inherited, *connected):
        sock.settimeout(None)
    pending, held, fresh = us.socket(), us.socket(), us.socket()
    held.bind(("", 0))
    connected[1].setsockopt(us.SOL_SOCKET, us.SO_SNDBUF, 4608)

    def select_then_accept() -> None:
        select.select([polled], [], [])
        polled.accept()

    def select_then_receive() -> None:
        select.select([connected[2]], [], [])
        connected[2].recv(1)

    def send_for_ever() -> None:
        while True:
            connected[1].sendall(bytes(1 << 16))

    def read_a_file() -> None:
        with connected[3].makefile("rb") as file:
            file.read()

    ways: list[Callable[[], object]] = [
        lambda: connected[0].recv(1),
        send_for_ever,
        select_then_receive,
        read_a_file,
        listener.accept,
        select_then_accept,
        inherited.accept,
        lambda: pending.connect((KERNEL, DEAF)),
    ]
    results: list[tuple[str, float]] = []

    def run(way: Callable[[], object]) -> None:
        try:
            way()
            what = "nothing"
        except StackError as error:
            what = errno.errorcode[error.errno or 0]
        except BaseException as error:
            what = repr(error)
        results.append((what, time.monotonic()))

    child = os.fork()  # what it waits in is its parent's listener
    if child == 0:
        try:
            inherited.accept()
        except StackError:
            os._exit(0)
        os._exit(1)
    threads = [threading.Thread(target=run, args=(way,)) for way in ways]
    for thread in threads:
        thread.start()
    pipe.send("waiting")
    began = pipe.recv()
    for thread in threads:
        thread.join()
    _, status = os.waitpid(child, 0)
    with pytest.raises(StackError):
        held.listen()
    with pytest.raises(StackError):
        fresh.bind(("", 0))
    pipe.send(([what for what, _ in results], max(at for _, at in results) - began, status, engine.alive))


@contextlib.contextmanager
def deaf(engine: Served) -> Iterator[None]:
    """Who connects to DEAF waits for minutes; of an address that nobody has the stack knows after seconds."""
    rules = "add table ip deaf; add chain ip deaf in { type filter hook input priority 0; }; "
    with netns.inside(engine.space):
        subprocess.run([which("nft"), rules + f"add rule ip deaf in tcp dport {DEAF} drop"], check=True)
    yield


# -- several programs ------------------------------------------------------------------------------------------------


def test_program_killed_in_the_middle_of_a_transfer_does_not_disturb_the_other(engine: Served) -> None:
    with (
        Peer(engine.space, "exchange", KERNEL, 0, "--listen", "--send", SIZE, "--seed", 1) as peer,
        Peer(engine.space, "exchange", KERNEL, 0, "--listen", "--send", 50 * SIZE, "--seed", 2) as bereft,
        Tenant(ONE, engine.door, exchange, peer.ready().port, SIZE, 3) as unharmed,
        Tenant(OTHER, engine.door, exchange, bereft.ready().port, FOREVER, 4) as killed,
    ):
        assert (unharmed.hear(), killed.hear()) == ("begun", "begun")
        killed.kill()
        assert unharmed.hear() == (SIZE, digest(SIZE, 1))
        unharmed.finish()
        report = peer.report()
        assert (report["received"], report["sha256"]) == (SIZE, digest(SIZE, 3))
        assert until(lambda: all(row["remote"][1] != bereft.port for row in engine.rows() if row["remote"]))


def test_what_a_killed_program_held_is_free_at_once(engine: Served) -> None:
    assert until(lambda: engine.ports() == [])
    for _ in range(TRIES):
        with Tenant(ONE, engine.door, hold) as tenant:
            ports = tenant.hear()
            assert set(ports[2:]) == set(engine.ports())
            tenant.kill()
            killed = time.monotonic()
            assert until(lambda: engine.rows() == [])
            took = time.monotonic() - killed
        if took < AT_ONCE:
            break
    assert took < AT_ONCE
    with Tenant(OTHER, engine.door, take, ports) as tenant:
        assert tenant.hear() == []
        tenant.finish()


def test_port_is_shared_by_programs_of_one_user_only(engine: Served) -> None:
    with Tenant(ONE, engine.door, share) as first:
        port = first.hear()
        with Tenant(ONE, engine.door, share, port) as same, Tenant(OTHER, engine.door, share, port) as other:
            assert same.hear() == port
            assert other.hear() == errno.EADDRINUSE
        with Tenant(0, engine.door, share, port) as root:
            assert root.hear() == errno.EADDRINUSE


def stall(pipe: Connection, engine: us.Attachment, port: int) -> None:
    """Ask an engine that is stopped for all sorts of things; say what came of it, and how it went on."""
    waiting = (BlockingIOError, TimeoutError)
    idle, timed, held, asked = us.socket(), us.socket(), us.socket(), us.create_connection((KERNEL, port), PATIENCE)
    idle.setblocking(False)
    timed.settimeout(0.5)
    held.bind(("", 0))
    held.setblocking(False)
    asked.settimeout(0.5)
    pipe.send("ready")
    pipe.recv()
    begun = idle.connect_ex((KERNEL, port)), timed.connect_ex((KERNEL, port))
    for ask in (held.listen, idle.getsockname, lambda: asked.getsockopt(us.IPPROTO_TCP, us.TCP_NODELAY)):
        with pytest.raises(waiting):
            ask()
    with pytest.raises(TimeoutError):
        asked.recv(1)
    pipe.send(begun)
    pipe.recv()
    held.settimeout(PATIENCE)
    held.listen()
    for sock in (idle, timed, asked):
        assert select.select([], [sock], [], PATIENCE)[1]
        assert sock.getsockopt(us.SOL_SOCKET, us.SO_ERROR) == 0
        assert sock.getsockname()[0] == STACK
        sock.settimeout(PATIENCE)
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    pipe.send(held.getsockname()[1])
    pipe.recv()


def test_engine_that_is_stopped_keeps_no_socket_longer_than_its_timeout(engine: Served) -> None:
    with (
        Peer(engine.space, "echo", KERNEL, 0) as peer,
        Tenant(ONE, engine.door, stall, peer.ready().port) as tenant,
    ):
        assert tenant.hear() == "ready"
        os.kill(engine.process.pid, signal.SIGSTOP)
        try:
            tenant.tell()
            assert tenant.hear() == (errno.EINPROGRESS, errno.EAGAIN)
        finally:
            os.kill(engine.process.pid, signal.SIGCONT)
        tenant.tell()
        assert tenant.hear() in engine.ports()


def test_connections_that_a_killed_program_has_not_accepted_are_reset(engine: Served) -> None:
    with Tenant(ONE, engine.door, serve) as tenant:
        _, port = tenant.hear()
        with netns.inside(engine.space):
            clients = [kernel.create_connection((STACK, port), PATIENCE) for _ in range(3)]
        clients[0].sendall(b"nobody will read this")
        tenant.kill()
        for client in clients:
            with client, pytest.raises(ConnectionResetError):
                client.recv(1)
    with netns.inside(engine.space), pytest.raises(ConnectionRefusedError):
        kernel.create_connection((STACK, port), PATIENCE)


def test_ss_shows_what_programs_listen_on(engine: Served) -> None:
    with Tenant(ONE, engine.door, serve) as tenant:
        _, port = tenant.hear()
        done = subprocess.run(usertcp("ss", engine.name), cwd=ROOT, capture_output=True, text=True, check=True)
        assert f"0.0.0.0:{port}" in done.stdout
        tenant.tell()
        tenant.finish()


def test_environment_names_the_engine_of_a_program(engine: Served) -> None:
    program = "import usertcp.socket as s; print(s.create_server(('', 0)).getsockname()[0], s.current_engine().address)"
    with Program(None, [sys.executable, "-c", program], environment={"USERTCP_ENGINE": str(engine.door)}) as child:
        assert child.finish() == f"0.0.0.0 {STACK}\n".encode()


def test_program_in_another_network_namespace_uses_it_all_the_same(engine: Served) -> None:
    with provision.Namespace.create() as elsewhere:
        with (
            Peer(engine.space, "exchange", KERNEL, 0, "--listen", "--send", SIZE, "--seed", 5) as peer,
            Tenant(ONE, engine.door, exchange, peer.ready().port, SIZE, 6, space=elsewhere.name) as tenant,
        ):
            assert tenant.hear() == "begun"
            assert tenant.hear() == (SIZE, digest(SIZE, 5))
            tenant.finish()
        with Tenant(ONE, engine.door, abroad, space=elsewhere.name) as tenant:
            tenant.finish()


def abroad(pipe: Connection, engine: us.Attachment) -> None:
    """Everything that makes a socket, in a namespace where the engine's names mean nothing."""
    assert engine.abroad
    with us.create_server(("", 0)) as listener, us.socket() as refused:
        refused.bind(("", 0))
        with pytest.raises(ConnectionRefusedError):
            refused.connect((STACK, refused.getsockname()[1] ^ 1))
        port = listener.getsockname()[1]
        refused.connect((STACK, port))  # on a fresh descriptor
        accepted, address = listener.accept()
        with accepted:
            assert address == refused.getsockname()
            accepted.sendall(b"hello")
            assert refused.recv(100) == b"hello"
        with engine.make_socket(type=us.SOCK_STREAM | us.SOCK_NONBLOCK) as plain:
            assert plain.gettimeout() == 0.0
            assert plain.connect_ex((STACK, port)) == errno.EINPROGRESS
            assert not plain.get_inheritable()


# -- the end of the engine -------------------------------------------------------------------------------------------


def another_guard(engine: Served) -> None:
    """Kill its guard, and wait for the next."""
    (first,) = engine.guards()
    os.kill(first, signal.SIGKILL)
    assert until(lambda: engine.guards() not in ([], [first]))


@pytest.mark.parametrize("guards", [1, 2], ids=["", "with-its-second-guard"])
def test_killed_engine_every_socket_of_every_program_says_enetdown_within_a_second(guards: int) -> None:
    longest = 0.0
    for _ in range(TRIES):
        with (
            provision.Namespace.create() as elsewhere,
            served() as engine,
            deaf(engine),
            Peer(engine.space, "echo", KERNEL, 0) as peer,
            Tenant(ONE, engine.door, wait_in_all_ways, peer.ready().port) as one,
            Tenant(OTHER, engine.door, wait_in_all_ways, peer.port, space=elsewhere.name) as other,
        ):
            for tenant in (one, other):
                assert tenant.hear() == "waiting"
            if guards > 1:
                another_guard(engine)
            time.sleep(0.2)  # so that they are blocked
            engine.kill()
            began = time.monotonic()
            one.tell(began)
            other.tell(began)
            longest = 0.0
            for tenant in (one, other):
                whats, took, status, alive = tenant.hear()
                assert whats == ["ENETDOWN"] * len(whats)
                assert (status, alive) == (0, False)
                longest = max(longest, took)
                tenant.finish()
        if longest < SOON:
            return
    raise AssertionError(f"it took {longest:.2f} s in {TRIES} tries")


def wait_together(pipe: Connection, engine: us.Attachment) -> None:
    """Be many who wait for one listener, whose queue has room for few: in threads and in children, of which half poll,
    and one is busy when the others are told. Say, when all have come back, how many of the threads were told."""
    listener, polled = us.create_server(("", 0), backlog=1), us.create_server(("", 0), backlog=1)
    polled.setblocking(False)

    def told(sock: us.socket) -> bool:
        while True:
            try:
                select.select([sock], [], [])
                sock.accept()
            except BlockingIOError:  # another was faster
                continue
            except StackError:
                return True

    def told_in_accept() -> bool:
        with pytest.raises(StackError):
            listener.accept()
        return True

    ways: list[Callable[[], bool]] = [told_in_accept, lambda: told(listener), lambda: told(polled)]
    children = []
    for number in range(MANY):
        child = os.fork()
        if child == 0:
            os._exit(0 if ways[number % len(ways)]() else 1)
        children.append(child)
    late, go = os.pipe()
    busy = os.fork()
    if busy == 0:
        os.read(late, 1)
        os._exit(0 if told_in_accept() else 1)
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(told_in_accept())) for _ in range(MANY)]
    for thread in threads:
        thread.start()
    pipe.send("waiting")
    for thread in threads:
        thread.join()
    statuses = [os.waitpid(child, 0)[1] for child in children]
    os.write(go, b"x")
    pipe.send((len(results), {*statuses, os.waitpid(busy, 0)[1]}))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_all_who_wait_for_one_listener_learn_that_the_engine_is_gone(number: signal.Signals) -> None:
    with served() as engine, Tenant(ONE, engine.door, wait_together) as tenant:
        assert tenant.hear() == "waiting"
        time.sleep(0.5)  # so that they are blocked
        engine.process.send_signal(number)
        assert tenant.hear() == (MANY, {0})
        tenant.finish()


def test_listener_of_a_dead_engine_does_not_keep_an_event_loop_busy_for_ever() -> None:
    with served() as engine, us.attach(engine.door) as attached, attached.make_socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        listener.setblocking(False)
        engine.kill()
        began = time.monotonic()
        while select.select([listener], [], [], VIGIL)[0]:
            with pytest.raises(StackError):
                listener.accept()
            assert time.monotonic() - began < PATIENCE


def test_code_in_the_directory_where_it_is_started_is_not_run() -> None:
    with folder() as made, provision.Namespace.create() as space:
        for name in ("signal", "select", "json", "usertcp"):
            (made / f"{name}.py").write_text("open('run', 'w')\n")
        search = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        code = usertcp()[-1]
        engine = subprocess.Popen(
            [sys.executable, "-P", "-c", code, "engine", "--socket", str(made / "door"), "--netns", space.name],
            cwd=made,
            env=os.environ | {"PYTHONPATH": search},
            stderr=subprocess.PIPE,
            text=True,
        )
        with engine, attached_to(engine, made / "door") as attached, attached.make_socket() as listener:
            listener.bind(("", 0))
            listener.listen()
            listener.settimeout(PATIENCE / 4)
            engine.kill()
            with pytest.raises(StackError):
                listener.accept()
        assert not (made / "run").exists()


@contextlib.contextmanager
def attached_to(engine: "subprocess.Popen[str]", door: Path) -> Iterator[us.Attachment]:
    """Attached to ``engine`` when it serves at ``door``; it is killed afterwards."""
    assert engine.stderr is not None
    try:
        assert "is there for programs" in engine.stderr.readline()
        with us.attach(door) as attached:
            yield attached
    finally:
        engine.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_once_everything_was_delivered(number: signal.Signals) -> None:
    with (
        served() as engine,
        Peer(engine.space, "exchange", KERNEL, 0, "--listen", "--pause", "0.5") as peer,
        Tenant(ONE, engine.door, send_and_stay, peer.ready().port) as tenant,
    ):
        assert tenant.hear() == "sent"
        helpers = engine.children()
        engine.process.send_signal(number)
        report = peer.report()
        assert (report["received"], report["sha256"]) == (SIZE // 10, digest(SIZE // 10, 7))
        engine.finish(code=128 + number)
        assert "Traceback" not in engine.errors
        assert not engine.door.exists()
        assert list(engine.door.parent.iterdir()) == []
        assert not provision.link_exists("tap0", engine.space)
        assert not any(Path(f"/proc/{pid}").exists() for pid in helpers)
        tenant.tell()
        assert tenant.hear() == "ENETDOWN"
        tenant.finish()


def send_and_stay(pipe: Connection, engine: us.Attachment, port: int) -> None:
    """Send, do not close, and after the test's word listen to what the engine's end means."""
    with us.create_connection((KERNEL, port)) as sock:
        for block in blocks(SIZE // 10, 7):
            sock.sendall(block)
        pipe.send("sent")
        pipe.recv()
        try:
            while sock.recv(1):
                pass
        except StackError as error:
            pipe.send(errno.errorcode[error.errno or 0])


def test_device_that_is_removed_ends_it_with_the_cause() -> None:
    with (
        served() as engine,
        deaf(engine),
        Peer(engine.space, "echo", KERNEL, 0) as peer,
        Tenant(ONE, engine.door, wait_in_all_ways, peer.ready().port) as tenant,
    ):
        assert tenant.hear() == "waiting"
        subprocess.run(["ip", "-n", engine.space, "link", "delete", "tap0"], check=True)
        tenant.tell(time.monotonic())
        whats, _, status, alive = tenant.hear()
        assert whats == ["ENETDOWN"] * len(whats)
        assert (status, alive) == (0, False)
        engine.finish(code=1)
        assert "the device tap0 is gone" in engine.errors
        assert "Traceback" not in engine.errors


# -- who may do what -------------------------------------------------------------------------------------------------


def enter(pipe: Connection, door: Path, port: int) -> None:
    """Say where it listens on ``port``, or why it does not."""
    try:
        with us.attach(door), us.create_server(("", port)) as listener:
            pipe.send(listener.getsockname())
    except (SetupError, OSError) as error:
        pipe.send(str(error))


def pass_by_the_door(pipe: Connection, token: str) -> None:
    """Ask at the engine's abstract names, as somebody who has read them in /proc/net/unix."""
    with pytest.raises(PermissionError):
        messages.call(token, {"op": "hello"})
    fd, _ = messages.create()
    with messages.View(fd) as view:
        messages.connect(view, messages.data_name(token))
        view.settimeout(PATIENCE)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            view.send(messages.connect_request({"remote": (KERNEL, 9), "options": []}, messages.BUFFER))
            assert view.recv(1) == b""
    pipe.send("refused")


def said_by(child: Child) -> object:
    with child:
        what = child.hear()
        child.finish()
    return what


def test_door_lets_in_whom_its_permissions_let_in(engine: Served) -> None:
    with served(mode="600") as private:
        assert "does not let this user in" in str(said_by(Child(ONE, enter, private.door, 0)))
        with us.attach(private.door) as attached:
            assert said_by(Child(ONE, pass_by_the_door, attached.token)) == "refused"
            assert said_by(Child(0, enter, private.door, 80)) == ("0.0.0.0", 80)
    with served("--group", GROUP, "--low-ports", mode="660") as of_group:
        assert said_by(Child(ONE, enter, of_group.door, 80, groups=(GROUP,))) == ("0.0.0.0", 80)
        assert "does not let this user in" in str(said_by(Child(OTHER, enter, of_group.door, 80)))
    assert "Permission denied" in str(said_by(Child(ONE, enter, engine.door, 80)))


def show(pipe: Connection, engine: us.Attachment) -> None:
    """Have one socket of each kind, and say what they are called; then lose them without a word to the engine."""
    listener, bound = us.create_server(("", 0)), us.socket()
    bound.bind(("", 0))
    client = us.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    pipe.send((engine.token, [sock._tcp.ident for sock in (listener, bound, client) if sock._tcp]))
    pipe.send(listener.getsockname()[1])
    pipe.recv()
    for sock in (listener, bound):
        os.close(sock.detach())
    pipe.send("lost")
    pipe.recv()
    client.sendall(b"still there")
    assert accepted.recv(100) == b"still there"


def meddle(pipe: Connection, engine: us.Attachment, idents: list[str]) -> None:
    """Ask everything that can be asked about another user's sockets; say what the answers were."""
    answers = set()
    for operation in OPERATIONS.keys() - NOT_OF_ONE_SOCKET:
        for ident in idents:
            try:
                engine_says: object = messages.call(engine.token, {"op": operation, "id": ident})
            except OSError as error:
                engine_says = error.errno
            answers.add(str(engine_says))
    pipe.send(answers)


def impersonate(pipe: Connection, engine: us.Attachment, idents: list[str], port: int) -> None:
    """Take the names of another user's sockets that are gone: wait for connections, and connect."""
    post, held = (kernel.socket(kernel.AF_UNIX) for _ in range(2))
    with post, held:
        post.bind(messages.own_name(idents[0]))
        post.listen()
        pipe.send("listening")
        pipe.recv()
        post.setblocking(False)
        try:
            with post.accept()[0] as stolen:
                pipe.send(stolen.recv(100))
        except (BlockingIOError, ConnectionResetError):  # the engine knew already that its listener is gone
            pipe.send(b"")
        held.bind(messages.own_name(idents[1]))
        messages.connect(held, messages.data_name(engine.token))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            held.settimeout(PATIENCE / 4)
            held.send(messages.connect_request({"remote": (KERNEL, port), "options": []}, messages.BUFFER))
            assert held.recv(1) == b""
        pipe.send("refused")


def call_and_tell(port: int) -> None:
    """A client of the kernel's has a secret for who listens on ``port``; it must see that nobody does."""
    with contextlib.suppress(ConnectionError), kernel.create_connection((STACK, port), PATIENCE) as client:
        client.sendall(b"a secret")
        assert client.recv(1) == b""


def test_sockets_of_one_user_are_not_the_others(engine: Served) -> None:
    with Peer(engine.space, "echo", KERNEL, 0) as peer, Tenant(ONE, engine.door, show) as owner:
        token, idents = owner.hear()
        port = owner.hear()
        assert token
        with Tenant(OTHER, engine.door, meddle, idents) as meddler:
            assert meddler.hear() == {str(errno.EPERM)}
            meddler.finish()
        assert port in engine.ports()  # and its sweep after the meddler's end is over
        owner.tell()
        assert owner.hear() == "lost"
        with Tenant(OTHER, engine.door, impersonate, idents, peer.ready().port) as thief:
            assert thief.hear() == "listening"
            with netns.inside(engine.space):
                call_and_tell(port)
            thief.tell()
            assert (thief.hear(), thief.hear()) == (b"", "refused")
            thief.finish()
        owner.tell()
        owner.finish()


def lose(pipe: Connection, engine: us.Attachment) -> None:
    """Have a listener and a bound socket, and lose them without a word to the engine."""
    socks = us.create_server(("", 0)), us.socket()
    socks[1].bind(("", 0))
    pipe.send(([sock._tcp.ident for sock in socks if sock._tcp], [sock.getsockname()[1] for sock in socks]))
    pipe.recv()
    for sock in socks:
        os.close(sock.detach())
    pipe.send("lost")
    pipe.recv()


def squat(pipe: Connection, engine: us.Attachment, idents: list[str], ports: list[int]) -> None:
    """Have the names of another user's sockets that are gone, and take their ports."""
    squatters = [kernel.socket(kernel.AF_UNIX) for _ in idents]
    for squatter, ident in zip(squatters, idents, strict=True):
        squatter.bind(messages.own_name(ident))
        squatter.listen()
    take(pipe, engine, ports)
    for squatter in squatters:
        squatter.close()


@pytest.mark.parametrize("abroad", [False, True], ids=["", "of-another-namespace"])
def test_ports_of_a_socket_that_is_gone_are_free_though_another_has_its_name(engine: Served, abroad: bool) -> None:
    with contextlib.ExitStack() as stack:
        space = stack.enter_context(provision.Namespace.create()).name if abroad else None
        owner = stack.enter_context(Tenant(ONE, engine.door, lose, space=space))
        idents, ports = owner.hear()
        owner.tell()
        assert owner.hear() == "lost"
        thief = stack.enter_context(Tenant(OTHER, engine.door, squat, idents, ports))
        assert thief.hear() == []
        thief.finish()
        owner.tell()
        owner.finish()


@pytest.mark.parametrize(
    ("options", "said"), [((), "is unknown in this user namespace"), (("--map-root-user",), STACK)]
)
def test_engine_is_used_in_a_user_namespace_that_knows_who_runs_it(options: tuple[str, ...], said: str) -> None:
    with served("--keep-root") as engine:
        program = f"""if True:
        import usertcp.socket as us
        from usertcp.errors import SetupError
        try:
            with us.attach({str(engine.door)!r}) as engine, us.create_server(("", 0)):
                print(engine.address)
        except SetupError as error:
            print(error)"""
        with Program(None, ["unshare", "--user", *options, sys.executable, "-c", program]) as child:
            assert said in child.finish().decode()


def chatter(pipe: Connection, engine: us.Attachment) -> None:
    """Say everything to the engine that a program of ours would not."""
    source = random.Random(3)
    words: list[object] = [None, -1, 1 << 70, 0.5, "x", [], {}, "v6", [1, 2], ["127.0.0.1", 1 << 20], True]
    own = messages.new_ident()
    names = ["id", "address", "options", "backlog", "both", "level", "name", "value", "seconds", "remote", "six"]
    raw = [b"", b"{", b"[]", b"\xff", b"[" * 60_000, b'{"op":[]}', b'{"op":"bind"}']
    for operation in OPERATIONS:
        for _ in range(40):
            message = {name: source.choice(words) for name in source.sample(names, 8)}
            message["id"] = source.choice([own, *words])
            raw.append(messages.encode({"op": operation, **message}))
    for data in raw:
        with kernel.socket(kernel.AF_UNIX, kernel.SOCK_SEQPACKET) as control:
            control.connect(messages.control_name(engine.token))
            control.settimeout(PATIENCE)
            control.send(data)
            if b"linger" not in data:
                control.recv(messages.MESSAGE)
    request = {"remote": (KERNEL, 9), "options": []}
    for changes in ({"fill": -1}, {"fill": 1 << 40}, {"fill": "x"}, {"fill": 60_000}, {"remote": 7}, {"options": 1}):
        fd, _ = messages.create()
        with messages.View(fd) as view:
            messages.connect(view, messages.data_name(engine.token))
            body = messages.encode({"fill": 9000, **request, **changes})
            view.send(struct.pack("=I", len(body)) + body)
        os.close(fd)
    pipe.send(engine.alive)


def test_no_message_harms_the_engine(engine: Served) -> None:
    with Tenant(ONE, engine.door, chatter) as tenant:
        assert tenant.hear() is True
        tenant.finish()
    assert until(lambda: engine.rows() == []), engine.rows()
    assert engine.process.poll() is None


# -- mistakes --------------------------------------------------------------------------------------------------------


def refused(*arguments: str | Path, code: int = 1) -> str:
    """What ``usertcp engine`` says when it does not start."""
    command = usertcp("engine", *arguments)
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_file_of_a_dead_engine_is_replaced_and_that_of_a_living_one_is_not(engine: Served) -> None:
    assert "runs at" in refused("--socket", engine.door)
    assert engine.process.poll() is None
    with folder() as made:
        with Served(made / "door") as first:
            os.kill(first.janitor, signal.SIGKILL)
            first.kill()
        with pytest.raises(SetupError, match="is dead"):
            us.attach(made / "door")
        with Served(made / "door"), us.attach(made / "door") as attached:
            assert attached.alive
        (made / "door").unlink(missing_ok=True)


def test_engine_says_what_is_wrong_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is no socket" in refused("--socket", tmp_path / "file")
    assert "directory" in refused("--socket", tmp_path / "no" / "door")
    assert "too long" in refused("--socket", tmp_path / ("x" * 100))
    assert "no user" in refused("--owner", "nobody-is-called-so", code=2)
    assert "permissions" in refused("--mode", "999", code=2)
    assert "needs a program" in refused("--workers", "2", code=2)
    assert "without program" in refused("--socket", "x", "tests.netns.worker_program:echo_and_call", code=2)


def test_attaching_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no such file"):
        us.attach(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="is dead"):
        us.attach(tmp_path / "file")
    with kernel.socket(kernel.AF_UNIX) as stream:
        stream.bind(str(tmp_path / "stream"))
        stream.listen()
        with pytest.raises(SetupError, match="is no engine's socket"):
            us.attach(tmp_path / "stream")
    with kernel.socket(kernel.AF_UNIX, kernel.SOCK_SEQPACKET) as old:
        old.bind(str(tmp_path / "old"))
        old.listen()

        def answer() -> None:
            for _ in range(2):
                sock, _ = old.accept()
                with sock:
                    if sock.recv(1000):
                        sock.send(json.dumps({"version": 0, "token": "x"}).encode())

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SetupError, match="version 0"):
            us.attach(tmp_path / "old")
        thread.join()
