"""The engine that the programs run on, a process of its own; the kernel of a namespace is at the TAP's other end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.peer import digest
from tests.netns.plugged import KERNEL
from tests.netns.programs import Program, folder_of, nginx, usertcp
from tests.programs.wire import HTTP, SIZE, Web, Wire
from usertcp.link import provision


@pytest.fixture(scope="session")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """One for all programs; they leave nothing on it."""
    door = tmp_path_factory.mktemp("engine") / "door"
    with (
        provision.Namespace.create() as space,
        provision.create_tap("tap0", netns=space.name, address=f"{KERNEL}/24"),
        Program(None, usertcp("engine", "--socket", door, "--netns", space.name, "--tap", "tap0")) as engine,
    ):
        assert b"programs" in engine.remark()
        yield Wire(space.name, door)
        engine.interrupt()
        engine.finish(code=130)


@pytest.fixture(scope="session")
def web(wire: Wire, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    folder = tmp_path_factory.mktemp("nginx")
    files = folder_of(folder / "files", SIZE, HTTP)
    with nginx(wire.space, folder / "nginx", files, KERNEL, HTTP):
        yield Web(f"http://{KERNEL}:{HTTP}/data", digest(SIZE, HTTP))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """For what a test writes."""
    return tmp_path
