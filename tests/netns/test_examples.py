"""Every example runs as it stands, says what it promises, and leaves no namespace behind."""

import sys

import pytest

from tests.netns.programs import ROOT, Program
from usertcp.link import netns

EXPECTED = {
    "engine_echo.py": b"2 workers have answered",
    "blocking_client.py": b"usertcp received b'hello, user space'",
    "aio_server.py": b"the kernel received b'HELLO, USER SPACE",
    "socket_http.py": b"200 hello, 10.9.0.2",
    "virtual_hour.py": b"3600 s of virtual time",
    "simulated_loss.py": b"500000 bytes there and back",
    "tally.py": b"{'ann': 100, 'ben': 50}",
    "test_tally.py": b"5 passed",
}


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_example_runs_and_leaves_nothing(path: object) -> None:
    name = str(path).rpartition("/")[2]
    runner = ["-m", "pytest", "-p", "no:cacheprovider"] if name.startswith("test_") else []
    with Program(None, [sys.executable, *runner, str(path)]) as program:
        said = program.finish()
    assert EXPECTED[name] in said
    assert [name for name in netns.names() if name.startswith(f"usertcp-{program.process.pid}-")] == []


@pytest.mark.parametrize("name", ["virtual_hour.py", "simulated_loss.py"])
def test_simulated_example_run_twice_gives_the_same_digest(name: str) -> None:
    command = [sys.executable, str(ROOT / "examples" / name)]
    digests = []
    for _ in range(2):
        with Program(None, command) as program:
            digests += [line for line in program.finish().splitlines() if line.startswith(b"digest")]
    assert len(digests) == 2
    assert digests[0] == digests[1]
