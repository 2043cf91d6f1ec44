"""A TAP that was made for a user: that user's programs need no rights; and what those are told that want more."""

import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.netns.peer import digest
from tests.netns.plugged import KERNEL
from tests.netns.programs import ROOT, Peer, Program, usertcp
from tests.netns.tenants import ONE, OTHER, folder
from tests.netns.test_least_privilege import rights
from usertcp.errors import SetupError
from usertcp.link import provision, uplink

SIZE: Final = 3_000_000
TAP: Final = "mine0"
TRANSFERS: Final = f"""
import hashlib, sys
from tests.netns.peer import blocks
from usertcp import blocking
with blocking.open(tap={TAP!r}) as host, host.connect(({KERNEL!r}, int(sys.argv[1])), timeout=60) as conn:
    for block in blocks({SIZE}, 5):
        conn.sendall(block)
    conn.shutdown()
    total, count = hashlib.sha256(), 0
    while data := conn.recv(1 << 18):
        total.update(data)
        count += len(data)
print(count, total.hexdigest())
"""
ECHOES = """
import sys, usertcp.socket as us
with us.attach(sys.argv[1]) as engine, us.create_connection(("10.9.0.1", int(sys.argv[2])), 60) as sock:
    sock.sendall(b"hello")
    print(sock.recv(100).decode(), us.create_server(("", 0)).getsockname()[0])
"""
STATUS: Final = "import json; from tests.netns.test_least_privilege import rights; print(json.dumps(rights('self')))"


def without_rights(user: int, command: Sequence[str], *, mode: int = 0o666) -> list[str]:
    """``command`` as a process of ``user`` without capabilities, to which /dev/net/tun has the permissions ``mode`` and
    who can read Python and this checkout, wherever they lie; all that in a mount namespace of its own."""
    script = [
        "set -e",
        "mount -t tmpfs -o mode=755 none /dev/net",
        f"mknod /dev/net/tun c 10 200 && chmod {mode:o} /dev/net/tun",
        *_made_readable(),
        f"exec setpriv --reuid {user} --regid {user} --clear-groups --bounding-set=-all --inh-caps=-all "
        f"--no-new-privs -- {shlex.join(command)}",
    ]
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(script)]


def _made_readable() -> Iterator[str]:
    """The lines of a script that lay bare, under folders that only root may enter, what a program needs."""
    needed = {Path(path).resolve() for path in (ROOT, sys.prefix, sys.base_prefix)}
    closed = {step for path in needed for step in path.parents if not step.stat().st_mode & 1}
    for outermost in [step for step in closed if not closed & set(step.parents)]:
        inside = [path for path in needed if outermost in path.parents]
        for number, path in enumerate(inside):
            yield f"mkdir /dev/net/{number} && mount --bind {path} /dev/net/{number}"
        yield f"mount -t tmpfs -o mode=755 none {outermost}"
        for number, path in enumerate(inside):
            yield f"mkdir -p {path} && mount --bind /dev/net/{number} {path}"


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


@pytest.fixture(scope="module")
def space() -> Iterator[str]:
    """A namespace with a TAP of the user ONE's."""
    with provision.Namespace.create() as made:
        up = usertcp("up", "--host", "--tap", TAP, "--user", ONE, "--netns", made.name)
        with Program(None, up) as program:
            assert b"for this host alone (10.9.0.1/24)" in program.finish()
        assert uplink.read(TAP, netns=made.name) is not None
        yield made.name
        with Program(None, usertcp("down", "--tap", TAP, "--netns", made.name)) as program:
            program.finish()
        assert uplink.read(TAP, netns=made.name) is None
        assert [link.name for link in provision.links(made.name)] == ["lo"]


def test_the_user_of_these_tests_may_do_nothing() -> None:
    with Program(None, without_rights(ONE, python(STATUS))) as program:
        found = json.loads(program.finish())
    assert found["Uid"].split() == 4 * [str(ONE)]
    assert {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {16 * "0"}
    assert rights("self")["CapEff"] != 16 * "0"


def test_owner_of_a_tap_pings_and_transfers_without_any_rights(space: str) -> None:
    with Program(space, without_rights(ONE, usertcp("ping", "-c", 1, "--tap", TAP, KERNEL))) as program:
        assert b"1 received" in program.finish()
    with Peer(space, "echo", KERNEL, 0) as peer:
        command = without_rights(ONE, python(TRANSFERS, peer.ready().port))
        with Program(space, command) as program:
            assert program.finish().decode().split() == [str(SIZE), digest(SIZE, 5)]


def test_owner_of_a_tap_runs_an_engine_for_others_without_any_rights(space: str) -> None:
    with folder() as made, Peer(space, "echo", KERNEL, 0) as peer:
        own = made / "own"
        own.mkdir()
        own.chmod(0o755)
        os.chown(own, ONE, ONE)
        home = {"XDG_RUNTIME_DIR": str(own)}
        command = usertcp("engine", "--tap", TAP, "--socket", own / "door", "--mode", 666)
        with Program(space, without_rights(ONE, command), environment=home) as engine:
            assert b"is there for programs" in engine.remark()
            pid = engine.process.pid
            assert rights(pid)["Uid"].split() == 4 * [str(ONE)]
            assert rights(pid)["CapPrm"] == 16 * "0"
            client = without_rights(OTHER, python(ECHOES, own / "door", peer.ready().port))
            with Program(space, client) as program:
                assert program.finish() == b"hello 0.0.0.0\n"
            with Program(space, without_rights(ONE, usertcp("ss")), environment=home) as program:
                assert f"on {TAP}".encode() in program.finish()
            engine.process.terminate()
            engine.finish(code=143)
        assert [path.name for path in own.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize(
    ("words", "user", "mode", "cause", "cure"),
    [
        (("--tap", TAP), OTHER, 0o666, f"not allowed to attach to '{TAP}', which is another user's", "up --user YOU"),
        (("--tap", TAP), ONE, 0o600, "not allowed to open /dev/net/tun", "chmod 666 /dev/net/tun"),
        ((), ONE, 0o666, "making the namespace", "root"),
        (("--tap", TAP, "--netns", "{space}"), ONE, 0o666, "not allowed to enter the namespace", "ip netns exec"),
    ],
    ids=["another-user-s", "closed-device-file", "no-device", "another-namespace"],
)
def test_what_is_missing_is_said_with_its_cure(
    space: str, words: tuple[str, ...], user: int, mode: int, cause: str, cure: str
) -> None:
    ping = usertcp("ping", "-c", 1, *(word.format(space=space) for word in words), KERNEL)
    with Program(None if "--netns" in words else space, without_rights(user, ping, mode=mode)) as program:
        program.finish(code=1)
    said, _, remedy = program.errors.partition("\n")
    assert cause in said
    assert cure in remedy
    assert "Traceback" not in program.errors


def test_device_that_is_not_there_is_not_made_without_rights() -> None:
    with provision.Namespace.create() as empty:
        ping = usertcp("ping", "-c", 1, "--tap", "none0", KERNEL)
        with Program(empty.name, without_rights(ONE, ping)) as program:
            program.finish(code=1)
        assert [link.name for link in provision.links(empty.name)] == ["lo"]
    assert "making the TAP 'none0': not permitted" in program.errors
    assert "usertcp up --user YOU" in program.errors


def test_tap_that_root_made_is_not_everybody_s(space: str) -> None:
    with provision.create_tap("root0", netns=space, address="10.8.0.1/24"):
        ping = usertcp("ping", "-c", 1, "--tap", "root0", "10.8.0.1")
        with Program(space, without_rights(ONE, ping)) as program:
            program.finish(code=1)
    assert "which is another user's" in program.errors


def test_up_says_what_cannot_be() -> None:
    with pytest.raises(SetupError, match="there is no uplink"):
        uplink.up(TAP, mode="host", uplink="lo")
    with Program(None, usertcp("up", "--host", "--user", "nobody-is-called-so")) as program:
        program.finish(code=2)
    assert "there is no user 'nobody-is-called-so'" in program.errors
