"""The command line against real programs: curl, nginx and OpenBSD's nc, in a namespace, 20 MB each with SHA-256."""

import hashlib
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.netns.peer import blocks, digest
from tests.netns.programs import Program, folder_of, nginx, usertcp, wait_for_listener, which
from usertcp.link import netns, provision

KERNEL, STACK = "10.9.0.1", "10.9.0.2"
SIZE = 20_000_000
SEED = 5


@pytest.fixture
def space() -> Iterator[str]:
    """A namespace in which the subcommands make their TAP; when they have ended there is none."""
    with provision.Namespace.create() as made:
        yield made.name
        assert [link.name for link in provision.links(made.name)] == ["lo"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with one file of 20 MB."""
    return folder_of(tmp_path / "files", SIZE, SEED)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def curl(space: str, *arguments: str | Path) -> bytes:
    with netns.inside(space):
        command = [which("curl"), "--silent", "--show-error", "--fail", "--max-time", "60", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, check=True).stdout


def test_curl_fetches_20_mb_from_http_serve(space: str, files: Path, tmp_path: Path) -> None:
    with Program(None, usertcp("http-serve", files, "--netns", space, "--port", 8000)) as server:
        assert b"serving" in server.remark()
        target = tmp_path / "fetched"
        curl(space, "-o", target, f"http://{STACK}:8000/data")
        assert sha256(target) == digest(SIZE, SEED)
        server.interrupt()
        server.finish(code=130)


def test_get_fetches_20_mb_from_nginx(space: str, files: Path, tmp_path: Path) -> None:
    with provision.create_tap("tap0", netns=space, address=f"{KERNEL}/24"):
        with nginx(space, tmp_path / "nginx", files, KERNEL, 8080):
            target = tmp_path / "fetched"
            with Program(None, usertcp("get", "--netns", space, "-o", target, f"http://{KERNEL}:8080/data")) as client:
                client.finish()
        assert sha256(target) == digest(SIZE, SEED)


def test_get_of_what_nginx_does_not_have_fails_with_a_message(space: str, files: Path, tmp_path: Path) -> None:
    with (
        provision.create_tap("tap0", netns=space, address=f"{KERNEL}/24"),
        nginx(space, tmp_path / "nginx", files, KERNEL, 8080),
        Program(None, usertcp("get", "--netns", space, f"http://{KERNEL}:8080/nothing")) as client,
    ):
        assert client.finish(code=1) == b""
        assert "404" in client.errors


@pytest.mark.parametrize("listener", ["kernel", "usertcp"])
def test_nc_talks_to_nc_both_ways(space: str, listener: str) -> None:
    ours, theirs = (b"".join(blocks(SIZE // 2, seed)) for seed in (1, 2))
    kernel_nc = [which("nc.openbsd", "nc"), "-N", "-v"]
    with provision.create_tap("tap0", netns=space, address=f"{KERNEL}/24"):
        if listener == "kernel":
            with Program(space, [*kernel_nc, "-l", KERNEL, "7000"]) as there:
                wait_for_listener(space, KERNEL, 7000, there)
                with Program(None, usertcp("nc", "--netns", space, KERNEL, 7000)) as here:
                    talk(here, ours, there, theirs, patient=True)
        else:
            with Program(None, usertcp("nc", "-l", "--netns", space, 7000)) as here:
                assert b"listening" in here.remark()
                with Program(space, [*kernel_nc, STACK, "7000"]) as there:
                    talk(here, ours, there, theirs)


def talk(here: Program, ours: bytes, there: Program, theirs: bytes, *, patient: bool = False) -> None:
    """Each program gets its side's bytes on stdin, and gives the other side's on stdout.

    ``patient``: ours ends only when all of theirs has come, for ``nc -l`` of OpenBSD ends with its peer's FIN, even if
    its own input goes on.
    """
    with ThreadPoolExecutor() as pool:
        second = pool.submit(there.finish, theirs)
        if patient:
            stdin, stdout = here.process.stdin, here.process.stdout
            assert stdin is not None
            assert stdout is not None
            feeding = pool.submit(stdin.write, ours)
            received = stdout.read(len(theirs))
            feeding.result()
            received += here.finish()
        else:
            received = here.finish(ours)
        assert received == theirs
        assert second.result() == ours
