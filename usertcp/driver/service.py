"""An engine that is a process of its own: the device is its, and programs of several users share its stack.

Programs find it by a file, the *door*, an AF_UNIX socket: whoever may write to it (its owner, group and mode, and the
directories above it: the kernel's business) is let in, and then all goes as with an engine in a thread
(:mod:`usertcp.driver.messages`). What else is different:

- A program that is killed takes its connections along (the kernel closes them), and what it held and listened on is
  given up at once, because the broker watches the processes of those who ask.
- When the engine is killed, its programs' sockets say ENETDOWN: those on a connection because the kernel closes the
  other end, those that wait for one because of the :mod:`guard <usertcp.driver.guard>`.
- Signals end it between two turns, and not in one: what was sent is delivered first.

The door of an engine that was killed is replaced; that of one that is alive is not.
"""

import _socket
import errno
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from usertcp.driver import messages
from usertcp.driver.base import Pump
from usertcp.driver.broker import QUEUE, SocketEngine
from usertcp.driver.engine import IN
from usertcp.driver.guard import Guard
from usertcp.driver.open import OpenStack
from usertcp.driver.privilege import Account
from usertcp.errors import SetupError
from usertcp.link.undo import SIGNALS, Ended, Made, apart
from usertcp.units import SEC

LINGER: Final = 5.0  # s that an engine which ends waits for acknowledgments
MODE: Final = 0o600
LONGEST_PATH: Final = 107  # bytes; sun_path without its end


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """The file by which an engine is found.

    ``owner``, ``group``  its, as numbers; -1: of the process that makes it
    ``mode``              who may use the engine: those with the right to write
    """

    path: Path
    owner: int = -1
    group: int = -1
    mode: int = MODE

    def open(self, runner: int | None = None) -> tuple[_socket.socket, Made]:
        """Listen. SetupError when that cannot be; a file that a dead engine has left is replaced.

        ``runner``: the user whom this process is about to become. Programs ask the kernel who runs their engine, and
        the kernel says who listened.
        """
        path = Path(os.path.abspath(self.path))
        if len(os.fsencode(path)) + len(".12345678") > LONGEST_PATH:
            raise SetupError(f"{path} is too long for the name of a socket", "choose a shorter one")
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            sock.setblocking(False)
            self._clear(path)
            return sock, apart(lambda: self._listen(sock, path, os.geteuid() if runner is None else runner))
        except OSError as error:
            sock.close()
            raise SetupError(f"cannot make {path}: {error.strerror}", _CURES.get(error.errno or 0, "")) from None
        except BaseException:
            sock.close()
            raise

    def _listen(self, sock: _socket.socket, path: Path, runner: int) -> Made:
        """The name appears when somebody listens, and when its permissions are what they are to be."""
        draft = path.with_name(path.name + f".{os.getpid()}")
        draft.unlink(missing_ok=True)
        sock.bind(str(draft))
        try:
            os.chmod(draft, self.mode)
            os.chown(draft, self.owner, self.group)
            with _acting_as(runner):
                sock.listen(QUEUE)
            os.link(draft, path)
            return Made(str(path), None, lambda: path.unlink(missing_ok=True))
        finally:
            draft.unlink()

    @staticmethod
    def _clear(path: Path) -> None:
        """Remove what a dead engine has left at ``path``; SetupError if there is anything else."""
        if not os.path.lexists(path):
            return
        if not path.is_socket():
            raise SetupError(f"{path} is there, and is no socket", "name another file, or remove that one")
        with messages.Control(_socket.AF_UNIX, _socket.SOCK_SEQPACKET) as probe:
            probe.setblocking(False)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
                return
            except BlockingIOError:  # its queue is full
                pass
            except OSError as error:
                cause = f"cannot tell whose socket {path} is: {error.strerror}"
                raise SetupError(cause, "name another file, or remove that one") from None
        raise SetupError(f"an engine runs at {path} already", "use that one, end it, or name another file")


@contextmanager
def _acting_as(user: int) -> Iterator[None]:
    """Within the block this process is ``user``'s, who is not to be asked for anything but a name."""
    former = os.geteuid()
    if user == former:
        yield
        return
    try:
        os.seteuid(user)
    except OSError as error:
        cause = f"not allowed to become the user {user}: {error.strerror}"
        raise SetupError(cause, "run as root, and name a user that is known in this user namespace") from None
    try:
        yield
    finally:
        os.seteuid(former)


_CURES: Final = {
    errno.EACCES: "name a file in a directory that you may write to",
    errno.EEXIST: "another engine has just been started there: use that one, or name another file",
    errno.ENOENT: "make its directory first, or name a file in one that is there",
    errno.EPERM: "run as root, or leave --owner and --group out",
}


class Service:
    """A stack that serves programs at a door, in the calling thread. Close it when it has run."""

    def __init__(
        self, opened: OpenStack, door: Door, *, low_ports: bool = False, become: Account | None = None
    ) -> None:
        """``become``: whose process this is from now on; None: it keeps its rights. What was made until now, and the
        door, a janitor undoes when it has ended."""
        self._undo = ExitStack()
        owner = os.geteuid()
        with ExitStack() as undo:
            listener, made = door.open(None if become is None else become.user)
            undo.callback(listener.close)
            undo.callback(made.remove)
            opened.settle(become)
            stack = opened.stack
            self.engine = engine = SocketEngine(
                Pump(stack, opened.link, time.monotonic_ns), low_ports=low_ports, owner=owner
            )
            undo.callback(engine.close)
            engine.broker.about = {
                "address": opened.address,
                "kernel_address": opened.kernel_address,
                "netns": opened.netns,
                "namespace": messages.namespace(),
            }
            control = opened.serve_control(engine, lambda: stack.snapshot(time.monotonic_ns()))
            if control is not None:
                undo.callback(control.close)
            guard = Guard(engine)
            undo.callback(guard.close)
            undo.callback(engine.broker.close)
            engine.broker.open_door(listener)
            self._undo = undo.pop_all()

    def run(self) -> None:
        """Serve until a signal comes, which is then raised as it would have been; or the device dies: StackError."""
        engine = self.engine
        with _noticed(engine) as heard:
            engine.begin()
            while not heard and engine.pump.failure is None:
                engine.step(engine.timeout_ns())
        if engine.pump.failure is not None:
            raise engine.pump.failure
        if heard[0] == signal.SIGINT:
            raise KeyboardInterrupt
        raise Ended(128 + heard[0])

    def close(self, linger: float = LINGER) -> None:
        """Let nobody in any more, deliver what was sent, at most ``linger`` seconds long, and end."""
        with self._undo:
            self.engine.linger(self.engine.pump.clock() + round(linger * SEC))


@contextmanager
def _noticed(engine: SocketEngine) -> Iterator[list[int]]:
    """Within the block the signals that end a program only end a wait of ``engine``; the list says which came."""
    heard: list[int] = []

    def hear(number: int, _: FrameType | None) -> None:
        heard.append(number)

    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    former_wakeup = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    former = {number: signal.getsignal(number) for number in SIGNALS}
    engine.register(readable, IN, lambda _: os.read(readable, 64))
    try:
        for number, handler in former.items():
            if handler != signal.SIG_IGN:  # nohup(1) means what it says
                signal.signal(number, hear)
        yield heard
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(former_wakeup)
        engine.unregister(readable)
        os.close(readable)
        os.close(writable)
