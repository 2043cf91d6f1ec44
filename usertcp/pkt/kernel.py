"""The kernel under a script: its own TCP in a network namespace, behind a TUN whose other end is the script.

Everything is in real time. The namespace is made for the script and removed after it; what a script does to its
settings is gone with it. Calls run in threads of their own, since they may block; where it is allowed to, the process
asks the scheduler not to let it wait, as a late packet would look like a late kernel.
"""

import contextlib
import errno
import fcntl
import os
import select
import socket as so
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from usertcp.driver.options import INFO, INT, TCP_INFO
from usertcp.errors import SetupError, os_error
from usertcp.frame import PLAIN
from usertcp.link import netns as namespaces
from usertcp.link.provision import Namespace, add_route, create_tap
from usertcp.link.settings import write
from usertcp.link.tap import TapLink
from usertcp.pkt import sysctl
from usertcp.pkt.snippet import describe
from usertcp.pkt.syntax import Settings
from usertcp.pkt.target import Pending
from usertcp.units import MS, SEC

Address = tuple[str, int]

DEVICE: Final = "tun0"
SLACK: Final = 50 * MS  # what the scheduler of a machine that does other things as well may cost
PATIENCE: Final = 5 * SEC  # for a call that does not block, and for a command of the shell
HORIZON: Final = 60 * SEC
PRIORITY: Final = 1  # the lowest of the real-time ones: above every ordinary process
CONGESTION: Final = f"{sysctl.PREFIX}tcp_congestion_control"
LINGER: Final = INT.pack(1) + INT.pack(0)

# What differs from machine to machine and from kernel to kernel, and scripts should not have to say.
_DEFAULTS: Final = (
    ("tcp_rmem", "4096 131072 33554432"),
    ("tcp_wmem", "4096 16384 4194304"),
    ("tcp_timestamps", "1"),
    ("tcp_sack", "1"),
    ("tcp_window_scaling", "1"),
    ("tcp_no_metrics_save", "1"),
    ("tcp_ecn", "2"),
)


class KernelSockets:
    """The calls of :class:`usertcp.pkt.calls.Sockets`: the kernel's own, on sockets in ``space``."""

    def __init__(self, space: str) -> None:
        self.space = space
        self.congestion = "cubic"  # chosen for each socket: as a namespace's default not every algorithm is allowed
        self.open: set[so.socket] = set()

    def socket(self, family: int, kind: int, proto: int) -> so.socket:
        with namespaces.inside(self.space):
            sock = so.socket(family, kind, proto)
        with contextlib.suppress(OSError):  # this kernel does not have it
            sock.setsockopt(so.IPPROTO_TCP, so.TCP_CONGESTION, self.congestion.encode())
        return self._keep(sock)

    def bind(self, sock: so.socket, address: Address) -> None:
        sock.bind(address)

    def listen(self, sock: so.socket, backlog: int) -> None:
        sock.listen(backlog)

    def accept(self, sock: so.socket, flags: int) -> so.socket:
        accepted, _ = sock.accept()
        if flags & so.SOCK_NONBLOCK:
            self.set_flags(accepted, os.O_NONBLOCK)
        return self._keep(accepted)

    def connect(self, sock: so.socket, address: Address) -> None:
        sock.connect(address)

    def send(self, sock: so.socket, data: bytes, flags: int) -> int:
        return sock.send(data, flags | so.MSG_NOSIGNAL)

    def recv(self, sock: so.socket, size: int, flags: int) -> bytes:
        return sock.recv(size, flags)

    def shutdown(self, sock: so.socket, how: int) -> None:
        sock.shutdown(how)

    def close(self, sock: so.socket) -> None:
        self.open.discard(sock)
        sock.close()

    def setsockopt(self, sock: so.socket, level: int, name: int, value: bytes) -> None:
        sock.setsockopt(level, name, value)

    def getsockopt(self, sock: so.socket, level: int, name: int, size: int) -> bytes:
        return sock.getsockopt(level, name, max(size, 1))

    def get_flags(self, sock: so.socket) -> int:
        return fcntl.fcntl(sock, fcntl.F_GETFL)

    def set_flags(self, sock: so.socket, flags: int) -> None:
        fcntl.fcntl(sock, fcntl.F_SETFL, flags)

    def poll(self, wanted: Sequence[tuple[so.socket, int]], timeout: int) -> list[int]:
        poll = select.poll()
        for sock, events in wanted:
            poll.register(sock, events)
        found = dict(poll.poll(timeout))
        return [found.get(sock.fileno(), 0) for sock, _ in wanted]

    def ask(self, sock: so.socket, request: int) -> int:
        answer: int = INT.unpack(fcntl.ioctl(sock, request, bytes(INT.size)))[0]
        return answer

    def drop(self) -> None:
        """Close what is open, so that whoever waits in a call returns from it."""
        for sock in list(self.open):
            with contextlib.suppress(OSError):
                sock.setsockopt(so.SOL_SOCKET, so.SO_LINGER, LINGER)
            with contextlib.suppress(OSError):
                sock.shutdown(so.SHUT_RDWR)
            self.close(sock)

    def _keep(self, sock: so.socket) -> so.socket:
        self.open.add(sock)
        return sock


class Kernel:
    """A :class:`~usertcp.pkt.target.Target`. SetupError if the namespace or the device cannot be made."""

    def __init__(self, settings: Settings, slack: int = SLACK) -> None:
        self.name = "kernel"
        self.slack = slack
        self.patience = PATIENCE
        self.horizon = HORIZON
        self.sent: deque[tuple[int, bytes]] = deque()
        self._undo = contextlib.ExitStack()
        with self._undo:
            self._open(settings)
            self._undo = self._undo.pop_all()
        self._zero = time.monotonic_ns()

    def _open(self, settings: Settings) -> None:
        undo = self._undo
        self._space = undo.enter_context(Namespace.create()).name
        for name, value in _DEFAULTS:
            with contextlib.suppress(SetupError):  # an older kernel knows fewer
                write(sysctl.path(f"{sysctl.PREFIX}{name}"), value, netns=self._space)
        address = settings.local_network
        undo.enter_context(create_tap(DEVICE, netns=self._space, address=address, mtu=settings.mtu, tun=True))
        undo.enter_context(add_route("default", via=settings.gateway, netns=self._space))
        self._link = undo.enter_context(TapLink.open(DEVICE, netns=self._space, tun=True, offload=False))
        self._sockets = KernelSockets(self._space)
        undo.callback(self._sockets.drop)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        undo.callback(os.close, self._wake)
        self._waker = threading.Lock()  # a call that ends late does not write to a descriptor that is closed
        self._closed = False
        self._poll = select.poll()
        self._poll.register(self._link.fileno(), select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        undo.callback(_hurry())

    def now(self) -> int:
        return time.monotonic_ns() - self._zero

    def wait(self, until: int, done: Callable[[], bool]) -> None:
        while True:
            while (got := self._link.read()) is not None:
                self.sent.append((self.now(), bytes(got[0])))
            if done():
                return
            left = until - self.now()
            if left <= 0:
                return
            self._poll.poll(left / MS)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)

    def inject(self, packet: bytes) -> None:
        self._link.send(packet, [], PLAIN)

    def call(self, method: str, *arguments: Any) -> Pending:
        pending = Pending()
        threading.Thread(target=self._perform, args=(pending, method, arguments), name="pkt call", daemon=True).start()
        return pending

    def _perform(self, pending: Pending, method: str, arguments: tuple[Any, ...]) -> None:
        try:
            value = getattr(self._sockets, method)(*arguments)
        except OSError as error:
            pending.finish(self.now(), error=error)
        except (OverflowError, ValueError):  # a number that no int of C's holds
            pending.finish(self.now(), error=os_error(errno.EINVAL))
        else:
            pending.finish(self.now(), value)
        with self._waker:
            if not self._closed:
                os.eventfd_write(self._wake, 1)

    def shell(self, command: str) -> str:
        found = sysctl.settings(command)
        try:
            if found is not None:
                for name, value in found:
                    self._set(name, value)
                return ""
            with namespaces.inside(self._space):
                result = subprocess.run(
                    ["/bin/sh", "-c", command], capture_output=True, text=True, timeout=PATIENCE / SEC, check=False
                )
        except SetupError as error:
            return error.cause
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if result.returncode:
            return f"exit status {result.returncode} {result.stderr.strip() or result.stdout.strip()}".strip()
        return ""

    def _set(self, name: str, value: str) -> None:
        """A setting of the namespace, or of the sockets to come."""
        if name == CONGESTION:
            self._sockets.congestion = value
        else:
            write(sysctl.path(name), value, netns=self._space)

    def state(self, handle: so.socket) -> str:
        try:
            return describe(handle.getsockopt(*TCP_INFO, INFO.size))
        except OSError:
            return ""

    def close(self) -> None:
        with self._waker:
            self._closed = True
        self._undo.close()


def _hurry() -> Callable[[], object]:
    """Let the calling thread, and those that it starts, run before others. What takes it back."""
    former = os.sched_getscheduler(0), os.sched_getparam(0)
    with contextlib.suppress(OSError):  # not allowed to: then it has to wait like everybody
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        return lambda: os.sched_setscheduler(0, *former)
    return lambda: None
