"""The control socket: how ``usertcp ss`` asks a running stack what it is doing.

A stack listens on an AF_UNIX stream socket, ``/run/usertcp/NAME.ctl``, in a directory that only its owner may enter
(that of a user who is not root is in XDG_RUNTIME_DIR),
and answers nobody but root and the user who started it (SO_PEERCRED). A client sends one line, a command's name, and
gets one JSON document and the end of the stream. The commands are ``snapshot``, ``stats`` and ``link``; an unknown one
is answered ``{"error": ...}``. The socket is served by the engine, between turns, and never blocks it: a client that
does not read is dropped with the buffer the kernel gives it.

A socket whose owner has died is removed by whoever finds it. Nothing can be *changed* over it.
"""

import errno
import json
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from select import EPOLLET
from typing import Any, Final

from usertcp.driver import messages
from usertcp.driver.engine import IN, OUT, Engine
from usertcp.errors import os_error
from usertcp.link.undo import Made, apart

ROOT_DIR: Final = "/run"
RUN_DIR: Final = Path(ROOT_DIR if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", ROOT_DIR), "usertcp")
SUFFIX: Final = ".ctl"
MAX_REQUEST: Final = 4096  # bytes of a command line
MAX_CLIENTS: Final = 16  # at a time
MODE: Final = 0o600  # of the socket
REFUSAL: Final = {"errno": errno.EACCES, "error": "it answers root and the user who started it only"}

Commands = Mapping[str, Callable[[], object]]


class Place:
    """A name by which a stack can be asked. Somebody listens there from now on, but answers when there is a server."""

    def __init__(self, name: str, directory: Path = RUN_DIR) -> None:
        """OSError: EADDRINUSE if a living stack has the name, EACCES without the rights."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = directory / (name + SUFFIX)
        self.user = os.geteuid()
        stacks(directory)  # whatever was killed goes, so that its socket does not lie about
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._made = apart(self._listen)
        except BaseException:
            self.listener.close()
            raise

    def _listen(self) -> Made:
        """The name appears when somebody listens: before that it would be taken for a dead one's.

        It is remembered as what the kernel was given, so that a signal that ends the program here leaves none behind.
        """
        draft = self.path.with_name(f".{os.getpid()}-{self.path.stem}")
        self.listener.bind(str(draft))
        try:
            os.chmod(draft, MODE)
            self.listener.listen(MAX_CLIENTS)
            os.link(draft, self.path)
            return Made(str(self.path), None, lambda: self.path.unlink(missing_ok=True))
        except FileExistsError:
            raise os_error(errno.EADDRINUSE) from None
        finally:
            draft.unlink()

    def close(self) -> None:
        """Nobody listens any more. Closing twice is harmless."""
        self.listener.close()
        self._made.remove()


class ControlServer:
    """Answers at ``place``, which it closes in the end, as long as the engine runs."""

    def __init__(self, engine: Engine, place: Place, commands: Commands) -> None:
        self.path = place.path
        self._engine = engine
        self._place = place
        self._commands = commands
        self._clients: dict[int, _Client] = {}
        try:
            engine.register(place.listener.fileno(), IN | EPOLLET, self._accept)
        except BaseException:
            place.close()
            raise

    def close(self) -> None:
        """Stop answering and remove the socket. Closing twice is harmless."""
        if self._place.listener.fileno() < 0:
            return
        for client in list(self._clients.values()):
            client.close()
        self._engine.unregister(self._place.listener.fileno())
        self._place.close()

    def _accept(self, _: int) -> None:
        """Take all who wait: for those without a descriptor the kernel tells no more until the next comes."""
        while True:
            try:
                peer, _address = self._place.listener.accept()
            except OSError:  # nobody waits, or no descriptors are left: the stack goes on without this client
                return
            if len(self._clients) >= MAX_CLIENTS:
                peer.close()
                continue
            peer.setblocking(False)
            if messages.peer(peer).user not in (0, self._place.user):
                with suppress(OSError):
                    peer.send(json.dumps(REFUSAL).encode())
                peer.close()
                continue
            try:
                self._clients[peer.fileno()] = _Client(self._engine, peer, self._commands, self._clients)
            except OSError:  # the kernel watches no more descriptors
                peer.close()


class _Client:
    """One conversation: a line in, a document out."""

    def __init__(self, engine: Engine, peer: socket.socket, commands: Commands, clients: "dict[int, _Client]") -> None:
        self._engine = engine
        self._peer = peer
        self._commands = commands
        self._clients = clients
        self._request = b""
        self._answer = memoryview(b"")
        engine.register(peer.fileno(), IN, self._on_event)

    def close(self) -> None:
        self._clients.pop(self._peer.fileno(), None)
        self._engine.unregister(self._peer.fileno())
        self._peer.close()

    def _on_event(self, _: int) -> None:
        try:
            done = self._write() if self._answer else self._read()
        except BlockingIOError:
            return
        except OSError:  # the client went away
            done = True
        if done:
            self.close()

    def _read(self) -> bool:
        data = self._peer.recv(MAX_REQUEST)
        self._request += data
        line, newline, _ = self._request.partition(b"\n")
        if not newline:
            return not data or len(self._request) > MAX_REQUEST
        name = line.decode("ascii", "replace").strip()
        command = self._commands.get(name)
        answer = command() if command is not None else {"error": f"unknown command {name!r}"}
        self._answer = memoryview(json.dumps(answer, default=str).encode() + b"\n")
        self._engine.modify(self._peer.fileno(), OUT)
        return self._write()

    def _write(self) -> bool:
        self._answer = self._answer[self._peer.send(self._answer) :]
        return not self._answer


def stacks(directory: Path = RUN_DIR) -> list[str]:
    """The names of the stacks that answer, sorted. Sockets whose owner has died are removed."""
    found = []
    for path in sorted(directory.glob("*" + SUFFIX)):
        if _alive(path):
            found.append(path.name.removesuffix(SUFFIX))
        else:
            path.unlink(missing_ok=True)
    return found


def query(name: str, command: str = "snapshot", *, timeout: float = 2.0, directory: Path = RUN_DIR) -> Any:
    """The answer of the stack ``name`` to ``command``.

    OSError when it does not run, does not answer within ``timeout`` seconds or does not answer us; ValueError when it
    refuses the command.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        sock.connect(str(directory / (name + SUFFIX)))
        document = b""
        with suppress(BrokenPipeError, ConnectionResetError):  # turned away unheard: the reason is there
            sock.sendall(command.encode() + b"\n")
        with suppress(ConnectionResetError):
            while data := sock.recv(65536):
                document += data
    if not document:
        raise OSError(errno.ECONNABORTED, f"the stack {name} did not answer")
    answer = json.loads(document)
    if isinstance(answer, dict) and "errno" in answer:
        raise OSError(answer["errno"], answer["error"])
    if isinstance(answer, dict) and "error" in answer:
        raise ValueError(str(answer["error"]))
    return answer


def default_name() -> str:
    """A name that no other running process takes for its first stack."""
    return f"usertcp-{os.getpid()}"


def _alive(path: Path) -> bool:
    """Whether somebody listens on the socket at ``path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.connect(str(path))
        except BlockingIOError:  # its queue is full
            return True
        except PermissionError:
            return True
        except OSError:
            return False
    return True
