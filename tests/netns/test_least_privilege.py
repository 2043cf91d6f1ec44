"""What each process of usertcp may still do once it has its device, and that it works all the same."""

import contextlib
import hashlib
import json
import os
import signal
import socket as kernel
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import usertcp.socket as us
from tests.api.test_engine import controlled
from tests.netns.peer import blocks, digest
from tests.netns.plugged import KERNEL, STACK, until
from tests.netns.programs import PATIENCE, Peer, Program, traces, usertcp
from tests.netns.tenants import ONE, OTHER, Child, Connection, Served, Tenant, folder, served
from usertcp.driver import control, messages, privilege
from usertcp.errors import SetupError
from usertcp.link import netns, provision
from usertcp.link.settings import PORT_RANGE, RESERVED_PORTS, write

SIZE: Final = 2_000_000
CLEARED: Final = "0000000000000000"
WORKERS: Final = "tests.netns.worker_program"
WAYS: Final = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]


def rights(pid: int | str) -> dict[str, str]:
    """What the kernel says that a process may do."""
    lines = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    wanted = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
    return {name: " ".join(value.split()) for name, _, value in lines if name in wanted}


def nothing(who: privilege.Account) -> dict[str, str]:
    """What a process of ``who`` has that may do nothing at all."""
    ids = {"Uid": " ".join(4 * [str(who.user)]), "Gid": " ".join(4 * [str(who.group)]), "Groups": ""}
    return ids | dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), CLEARED) | {"NoNewPrivs": "1"}


@pytest.fixture(scope="module")
def engine() -> Iterator[Served]:
    with served() as made:
        yield made


# -- the engine --------------------------------------------------------------------------------------------------------


def echo_to_myself(pipe: Connection, engine: us.Attachment, port: int) -> None:
    """Be a client of the kernel's, with BBR, which is loaded late; and server and client of oneself, with options."""
    with us.socket() as sock:
        sock.setsockopt(us.IPPROTO_TCP, us.TCP_CONGESTION, b"bbr")
        sock.connect((KERNEL, port))
        total = hashlib.sha256()
        for block in blocks(SIZE, 1):
            sock.sendall(block)
            total.update(block)
        sock.shutdown(us.SHUT_WR)
        with sock.makefile("rb") as file:
            data = file.read()
    with us.create_server(("", 0)) as listener, us.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            accepted.setsockopt(us.IPPROTO_TCP, us.TCP_NODELAY, 1)
            accepted.sendall(b"hello")
            assert client.recv(100) == b"hello"
            assert accepted.getsockopt(us.IPPROTO_TCP, us.TCP_NODELAY) == 1
    pipe.send((len(data), hashlib.sha256(data).hexdigest()))


def test_engine_and_guard_may_do_nothing_and_serve_users_without_rights(engine: Served) -> None:
    who = privilege.account()
    assert rights(engine.process.pid) == nothing(who)
    assert [rights(guard) for guard in engine.guards()] == [nothing(who)]
    with Peer(engine.space, "echo", KERNEL, 0) as peer:
        peer.ready()
        with Tenant(ONE, engine.door, echo_to_myself, peer.port) as one:
            with Tenant(OTHER, engine.door, echo_to_myself, peer.port) as other:
                assert one.hear() == other.hear() == (SIZE, digest(SIZE, 1))
            one.finish()
    assert rights(engine.process.pid) == nothing(who)


def test_janitor_has_nothing_open_but_its_channel(engine: Served) -> None:
    assert rights(engine.janitor)["Uid"] == "0 0 0 0"
    folder = Path(f"/proc/{engine.janitor}/fd")
    assert until(lambda: len(list(folder.iterdir())) == 3)  # it may not have had its turn yet
    opened = [os.readlink(file) for file in folder.iterdir()]
    assert sum(name.startswith("pipe:") for name in opened) == len(opened) - 1 == 2  # the channel and stderr
    assert "/dev/null" in opened


def test_user_is_chosen_or_root_kept() -> None:
    daemon = privilege.account("daemon")
    with served("--user", "daemon") as engine, Peer(engine.space, "echo", KERNEL, 0) as peer:
        assert rights(engine.process.pid) == nothing(daemon)
        with Tenant(ONE, engine.door, echo_to_myself, peer.ready().port) as tenant:
            assert tenant.hear() == (SIZE, digest(SIZE, 1))
    with served("--keep-root") as engine:
        assert rights(engine.process.pid)["Uid"] == "0 0 0 0"
        assert rights(engine.process.pid)["CapEff"] == rights("self")["CapEff"]


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("--user", "nobody-is-called-so"), "there is no user 'nobody-is-called-so'", 1),
        (("--user", "root"), "'root' is root, who keeps all rights", 1),
        (("--user", "nobody", "--keep-root"), "contradict each other", 2),
    ],
)
def test_user_that_cannot_be_is_refused_before_anything_is_made(words: tuple[str, ...], said: str, code: int) -> None:
    with Program(None, usertcp("engine", *words)) as program:
        program.finish(code=code)
    assert said in program.errors
    assert "Traceback" not in program.errors
    assert not [name for name in netns.names() if f"-{program.process.pid}-" in name]


def test_process_that_is_not_root_s_becomes_nobody_else() -> None:
    def become(pipe: Connection) -> None:
        with pytest.raises(SetupError, match="not allowed to become the user 'nobody'"):
            privilege.drop(privilege.account("nobody"))
        pipe.send(True)

    with Child(ONE, become) as child:
        assert child.hear() is True
        child.finish()


# -- who has the user that the engine became ---------------------------------------------------------------------------


def ask_for_everything(pipe: Connection, token: str, door: Path, ident: str) -> None:
    """Be a process of the user whose the engine is, who was not let in: ask for what root and the engine may do."""
    with pytest.raises(SetupError, match="does not let this user in"):
        us.attach(door)
    for message in ({"op": "hello"}, {"op": "names", "id": ident}):
        with pytest.raises(PermissionError):
            messages.call(token, message)
    pipe.send("refused")


def listen_and_tell(pipe: Connection, engine: us.Attachment) -> None:
    with us.create_server(("", 0)) as listener:
        assert listener._tcp is not None
        pipe.send((engine.token, listener._tcp.ident, listener.getsockname()[1]))
        accepted, _ = listener.accept()
        with accepted:
            pipe.send(accepted.recv(100))


def forge(pipe: Connection, token: str, ident: str) -> None:
    """Put connections into another user's accept queue that say to be of the engine, and that it is dead."""
    names = [
        messages.peer_name(token, messages.new_ident(), (STACK, 1), ("192.0.2.66", 6666)),
        messages.dead_name(token, messages.new_ident()),
    ]
    for name in names:
        sock = messages.reach(ident, name, messages.BUFFER)
        with contextlib.suppress(BrokenPipeError):
            sock.send(b"forged")
        sock.close()
    pipe.send("forged")


def test_processes_of_the_engine_s_user_may_no_more_than_others() -> None:
    nobody = privilege.account().user
    with served(mode="600") as private, us.attach(private.door) as attached, attached.make_socket() as sock:
        sock.bind(("", 0))
        assert sock._tcp is not None
        with Child(nobody, ask_for_everything, attached.token, private.door, sock._tcp.ident) as child:
            assert child.hear() == "refused"
            child.finish()


def test_connections_and_news_of_the_engine_s_user_but_not_its_process_are_not_believed(engine: Served) -> None:
    with Tenant(ONE, engine.door, listen_and_tell) as owner:
        token, ident, port = owner.hear()
        with Child(privilege.account().user, forge, token, ident) as thief:
            assert thief.hear() == "forged"
            thief.finish()
        with netns.inside(engine.space), kernel.create_connection((STACK, port), PATIENCE) as client:
            client.sendall(b"true")
            assert owner.hear() == b"true"
        owner.finish()


def ask(pipe: Connection, directory: Path) -> None:
    """Ask a stack at its control socket, and say why there is no answer."""
    try:
        pipe.send(control.query("one", directory=directory))
    except OSError as error:
        pipe.send(str(error))


def test_control_socket_that_others_can_reach_answers_root_and_its_user_only() -> None:
    with folder() as made, controlled(made) as (_, server):
        assert server.path.stat().st_mode & 0o777 == 0o600
        server.path.chmod(0o666)
        for user, answered in ((ONE, False), (privilege.account().user, False), (0, True)):
            with Child(user, ask, made) as child:
                said = child.hear()
                child.finish()
            assert (said[0]["state"] == "LISTEN") if answered else ("answers root and the user who" in said)


# -- workers, and an address shared with the kernel --------------------------------------------------------------------


def test_workers_and_who_looks_after_them_may_do_nothing() -> None:
    who = privilege.account()
    with (
        provision.Namespace.create() as space,
        Program(None, usertcp("engine", "--workers", 2, "--netns", space.name, f"{WORKERS}:wait")) as program,
    ):
        workers = {json.loads(program.line())["worker"] for _ in range(2)}
        assert [rights(pid) for pid in (*workers, program.process.pid)] == 3 * [nothing(who)]
        program.process.terminate()
        program.finish(code=143)
        assert [link.name for link in provision.links(space.name)] == ["lo"]
    assert [left for pid in workers for left in traces(pid)] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_address_shared_with_the_kernel_is_the_kernel_s_again(number: signal.Signals) -> None:
    with (
        provision.Namespace.create() as space,
        provision.create_veth("a0", "b0", netns=space.name, peer_netns=space.name, address="10.7.0.1/24"),
        folder() as made,
    ):
        write(PORT_RANGE, "32768 65535", netns=space.name)  # among them those that are taken from the kernel
        words = ("--socket", made / "door", "--netns", space.name, "--packet", "a0")
        with Program(None, usertcp("engine", *words)) as program:
            assert b"is there for programs" in program.remark()
            assert rights(program.process.pid) == nothing(privilege.account())
            assert provision.packet_tables(space.name) != []
            assert provision.sysctl(RESERVED_PORTS, netns=space.name) != ""
            program.process.send_signal(number)
            program.finish(code=None)
        assert until(lambda: provision.packet_tables(space.name) == [])
        assert until(lambda: provision.sysctl(RESERVED_PORTS, netns=space.name) == "")
        assert until(lambda: list(made.iterdir()) == [])


# -- ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", WAYS, ids=lambda number: number.name)
def test_engine_that_ends_leaves_nothing_however_it_ends(number: signal.Signals) -> None:
    with folder() as made, Program(None, usertcp("engine", "--socket", made / "door")) as program:
        assert b"is there for programs" in program.remark()
        pid = program.process.pid
        assert len(traces(pid)) == 2
        program.process.send_signal(number)
        program.finish(code=None)
        assert until(lambda: traces(pid) == [])
        assert until(lambda: list(made.iterdir()) == [])


def test_run_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text("import os, sys\nprint(os.environ['USERTCP_ENGINE'], flush=True)\nsys.stdin.read()\n")
    with Program(None, usertcp("run", script)) as program:
        door = Path(program.line().decode().strip())
        assert door.exists()
        pid = program.process.pid
        assert len(traces(pid)) == 2
        program.process.kill()
        program.finish(code=-signal.SIGKILL)
        assert until(lambda: traces(pid) == [])
        assert until(lambda: not door.parent.exists())


def test_janitor_that_was_killed_is_missed_and_that_is_said() -> None:
    with served() as engine:
        os.kill(engine.janitor, signal.SIGKILL)
        engine.process.send_signal(signal.SIGTERM)
        engine.finish(code=1)
        assert "not everything that was made could be removed" in engine.errors
        assert "Traceback" not in engine.errors
        engine.door.unlink()
    control.stacks()
