"""``usertcp run``: what a program sees of it, which is nothing, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tests.netns.plugged import KERNEL, STACK
from tests.netns.programs import PATIENCE, Peer, Program, usertcp
from usertcp.link import netns, provision

SEES: Final = """
import json, os, socket, sys
with socket.create_server(("", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
    ours = getattr(client, "_tcp", None) is not None
print(json.dumps({"ours": ours, "argv": sys.argv, "path": sys.path[0], "name": __name__, "file": __file__,
                  "package": __package__, "main": sys.modules["__main__"].__dict__ is globals(),
                  "all": [path for path in sys.path if "patching" in path]}))
"""


@pytest.fixture
def space() -> Iterator[str]:
    """A namespace in which ``usertcp run`` makes its TAP; when it has ended there is none."""
    with provision.Namespace.create() as made:
        yield made.name
        assert [link.name for link in provision.links(made.name)] == ["lo"]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def ran(space: str, *words: str | Path, cwd: Path | None = None, code: int = 0, **environment: str) -> str:
    """What a program wrote to stdout under ``usertcp run --quiet``."""
    done = subprocess.run(
        usertcp("run", "--quiet", "--netns", space, *words),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **environment},
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def seen(output: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(output)
    return result


def test_script_sees_what_python_shows_it(space: str, tmp_path: Path) -> None:
    script = write(tmp_path / "folder" / "script.py", SEES)
    found = seen(ran(space, "folder/script.py", "--tap", "-m", "x y", cwd=tmp_path))
    assert found == {
        "ours": True,
        "argv": ["folder/script.py", "--tap", "-m", "x y"],
        "path": str(script.parent),
        "name": "__main__",
        "file": str(script),
        "package": None,
        "main": True,
        "all": [],
    }


def test_module_sees_what_python_shows_it(space: str, tmp_path: Path) -> None:
    write(tmp_path / "package" / "__init__.py", "")
    script = write(tmp_path / "package" / "module.py", SEES)
    found = seen(ran(space, "-m", "package.module", "--address", "-q", cwd=tmp_path))
    assert (found["ours"], found["main"], found["package"]) == (True, True, "package")
    assert (found["argv"], found["path"]) == ([str(script), "--address", "-q"], str(tmp_path))


def test_traceback_is_the_programs_alone(space: str, tmp_path: Path) -> None:
    script = write(
        tmp_path / "script.py", "import socket\n\ndef f():\n    socket.socket().connect(('127.0.0.1', 9))\n\nf()\n"
    )
    with Program(None, usertcp("run", "-q", "--netns", space, script)) as program:
        program.finish(code=1)
    lines = program.errors.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ConnectionRefusedError: [Errno 111] Connection refused"
    frames = [line for line in lines if line.startswith("  File")]
    assert str(script) in frames[0]
    assert str(script) in frames[1]


@pytest.mark.parametrize(
    ("statement", "status"),
    [
        ("import sys; sys.exit(7)", 7),
        ("import os; os._exit(9)", 9),
        ("raise KeyboardInterrupt", -signal.SIGINT),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    ],
)
def test_program_that_ends_gives_its_status(space: str, tmp_path: Path, statement: str, status: int) -> None:
    ran(space, write(tmp_path / "script.py", statement), code=status)


def test_program_that_is_not_there_is_python_s_own_error(space: str) -> None:
    ran(space, "nothing.py", code=2)
    ran(space, "-m", "nothing_of_that_name", code=1)


def test_atexit_runs_and_what_was_sent_last_arrives(space: str, tmp_path: Path) -> None:
    script = write(
        tmp_path / "script.py",
        f"import atexit, socket, sys\nsock = socket.create_connection(('{KERNEL}', int(sys.argv[1])))\n"
        "atexit.register(print, 'bye')\natexit.register(sock.sendall, bytes(3_000_000))\n",
    )
    with (
        provision.create_tap("tap0", netns=space, address=f"{KERNEL}/24"),
        Peer(space, "exchange", KERNEL, 0, "--listen") as peer,
    ):
        assert ran(space, script, str(peer.ready().port)) == "bye\n"
        assert peer.report()["received"] == 3_000_000


WAITS: Final = """
import signal, socket, sys
def on(number, frame):
    print(number, flush=True)
    sys.exit(30)
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
    signal.signal(number, on)
listener = socket.create_server(("", 8000))
try:
    print("ready", flush=True)
    listener.accept()
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_signal_goes_on_to_the_program(space: str, tmp_path: Path, number: signal.Signals) -> None:
    script = write(tmp_path / "script.py", WAITS)
    with Program(None, usertcp("run", "-q", "--netns", space, script)) as program:
        assert program.line() == b"ready\n"
        program.process.send_signal(number)
        assert program.finish(code=30) == f"{int(number)}\n".encode()


IN_TERMINAL: Final = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("whom", ["one", "terminal"])
def test_ctrl_c_interrupts_the_program_once_and_the_exit_says_so(space: str, tmp_path: Path, whom: str) -> None:
    """``terminal``: as Ctrl-C does, to the whole group; from a terminal, for the kernel says so in the signal."""
    script = write(tmp_path / "script.py", WAITS)
    command = usertcp("run", "-q", "--netns", space, script)
    if whom == "one":
        with Program(None, command) as program:
            assert program.line() == b"ready\n"
            program.interrupt()
            assert program.finish(code=-signal.SIGINT) == b"interrupted\n"
            assert program.errors.count("KeyboardInterrupt") == 1
        return
    terminal, inner = os.openpty()
    command = [sys.executable, "-c", IN_TERMINAL, *command]
    process = subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    output = b""
    while b"ready" not in output:
        output += os.read(terminal, 1000)
    os.write(terminal, b"\x03")
    assert process.wait(PATIENCE) == -signal.SIGINT
    with suppress(OSError):  # EIO: nobody has the other end any more
        while more := os.read(terminal, 100_000):
            output += more
    os.close(terminal)
    assert output.count(b"interrupted") == output.count(b"KeyboardInterrupt") == 1


IGNORES: Final = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_children_are_waited_for_although_the_caller_ignores_sigchld(space: str, tmp_path: Path) -> None:
    """Whose children the kernel would forget; and that is inherited."""
    script = write(tmp_path / "script.py", "print('done')")
    ignoring = [sys.executable, "-c", IGNORES]
    with Program(None, [*ignoring, *usertcp("run", "-q", "--netns", space, script)]) as program:
        assert program.finish() == b"done\n"
    with Program(None, [*ignoring, *usertcp("engine", "--netns", space, "--socket", tmp_path / "door")]) as engine:
        assert b"programs" in engine.remark()
        engine.interrupt()
        engine.finish(code=130)
    assert (program.errors, engine.errors.strip()) == ("", "")


CHILDREN: Final = """
import multiprocessing, os, socket, subprocess, sys
def ours(port):
    with socket.create_connection(("127.0.0.1", port)) as sock:
        return getattr(sock, "_tcp", None) is not None
def put(queue, port):
    queue.put(ours(port))
if __name__ == "__main__":
    port = (listener := socket.create_server(("", 0))).getsockname()[1]
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        queue = context.SimpleQueue()
        process = context.Process(target=put, args=(queue, port))
        process.start()
        print(method, queue.get())
        process.join()
    print("subprocess", subprocess.check_output([sys.executable, "-c", sys.argv[1], str(port)], text=True).strip())
    print("exec", flush=True)
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
"""
CHILD: Final = "import socket, sys; print(socket.create_connection(('127.0.0.1', int(sys.argv[1]))).getpeername()[0])"
EXECED: Final = "import socket; print(hasattr(socket.create_server(('', 0)), '_tcp'))"


def test_children_are_on_the_parents_engine(space: str, tmp_path: Path) -> None:
    output = ran(space, write(tmp_path / "script.py", CHILDREN), CHILD, EXECED).splitlines()
    assert output == ["fork True", "spawn True", "forkserver True", "subprocess 127.0.0.1", "exec", "True"]


def test_sitecustomize_that_was_there_runs_too(space: str, tmp_path: Path) -> None:
    write(tmp_path / "site" / "sitecustomize.py", "import socket; mine = socket.socket\nHERE = __file__")
    script = write(
        tmp_path / "script.py",
        "import socket, sitecustomize\nprint(sitecustomize.HERE, sitecustomize.mine is socket.socket, "
        "hasattr(socket.socket(), '_tcp'))",
    )
    paths = os.pathsep.join([str(tmp_path / "site"), *(path for path in sys.path if path)])
    assert ran(space, script, PYTHONPATH=paths).split() == [str(tmp_path / "site/sitecustomize.py"), "True", "True"]


def test_first_sockets_of_many_threads_are_all_ours(space: str, tmp_path: Path) -> None:
    script = write(
        tmp_path / "script.py",
        "import socket, threading\nstart = threading.Barrier(8)\nmade = []\n"
        "def work():\n    start.wait()\n    made.append(hasattr(socket.socket(), '_tcp'))\n"
        "threads = [threading.Thread(target=work) for _ in range(8)]\n"
        "for thread in threads: thread.start()\nfor thread in threads: thread.join()\nprint(made)",
    )
    assert ran(space, script) == f"{[True] * 8}\n"


def test_where_the_program_can_be_reached_is_said(space: str, tmp_path: Path) -> None:
    script = write(tmp_path / "script.py", WAITS)
    with Program(None, usertcp("run", "--netns", space, script)) as program:
        assert program.remark().decode() == f"{STACK} on tap0, in the namespace {space} (ip netns exec {space} …)\n"
        assert program.line() == b"ready\n"
        with netns.inside(space):
            socket.create_connection((STACK, 8000), PATIENCE).close()
        program.finish()


def test_engine_of_another_process_serves_and_stays(space: str, tmp_path: Path) -> None:
    door = tmp_path / "engine"
    with Program(None, usertcp("engine", "--socket", door, "--netns", space)) as engine:
        assert b"programs" in engine.remark()
        script = write(tmp_path / "script.py", SEES)
        for _ in range(2):
            done = subprocess.run(
                usertcp("run", "--engine", door, script, "x"),
                capture_output=True,
                timeout=PATIENCE,
                check=True,
                text=True,
            )
            found = seen(done.stdout)
            assert (found["ours"], found["argv"]) == (True, [str(script), "x"])
        engine.interrupt()
        engine.finish(code=130)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--engine", "/nowhere/engine", "x.py"], 1, "usertcp: "),
        (["--engine", "x", "--tap", "tap0", "x.py"], 2, "not both"),
        (["-m"], 2, "Missing argument"),
        (["--tap", "a/b", "x.py"], 1, "usertcp: "),
    ],
)
def test_mistake_is_told_with_its_cure(words: list[str], code: int, message: str) -> None:
    done = subprocess.run(usertcp("run", *words), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_engine_that_is_killed_ends_the_wait_of_the_program(tmp_path: Path) -> None:
    script = write(tmp_path / "script.py", WAITS)
    with (
        provision.Namespace.create() as made,  # the device stays behind
        Program(None, usertcp("run", "-q", "--netns", made.name, script)) as program,
    ):
        assert program.line() == b"ready\n"
        program.kill()
        assert program.process.stderr is not None
        assert b"StackError: [Errno 100]" in program.process.stderr.read()
