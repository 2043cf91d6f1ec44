"""Both ends of a transfer: what they send, what they count, and the program that does it over the kernel's TCP.

A transfer lasts a fixed time. The sender's program keeps the connection supplied (with little that is not yet sent, see
``enough``, so that little is left when the time is over), then ends the stream; the receiver takes everything until
that end. Each counts and hashes what it handed in or took out. Goodput is what the receiver's program had in its hands
when the time was over, counted from when its own end of the connection was established.

The bytes are those of one random block over and over; its length is prime, so that nothing misplaced fits by accident.

The program is driven by lines of JSON on stdin: ``listen`` for the transfers of some jobs, or ``connect`` for them; for
each transfer there is a line with its result on stdout.
"""

import argparse
import gc
import hashlib
import heapq
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any, Final

from benchmarks.loss_cells import SEND, Job, job_from
from usertcp.units import MS, SEC

PERIOD: Final = 1_048_583  # bytes of the block, a prime
CHUNK: Final = 1 << 16  # bytes handed in or taken out at a time
LOW: Final = 1 << 17  # bytes handed in and not sent, at least: see ``enough``
SUPPLY: Final = 5 * MS  # how often usertcp's senders are supplied; the kernel says when it wants more
GRACE: Final = 30.0  # seconds after its time until which a transfer must have ended
EVERY: Final = 0.1  # seconds between two samples

TCP_NOTSENT_LOWAT: Final = 25  # linux/tcp.h
TCP_INFO: Final = struct.Struct("=8B24I4Q6I4Q2I2Q6I2HI")
_INFO: Final = {  # linux/tcp.h struct tcp_info: our name, and the place in TCP_INFO
    "rto": 8,
    "snd_mss": 10,
    "unacked": 12,
    "sacked": 13,
    "lost": 14,
    "srtt": 23,
    "rttvar": 24,
    "ssthresh": 25,
    "cwnd": 26,
    "reordering": 28,
    "total_retrans": 31,
    "pacing_rate": 32,
    "min_rtt": 39,
    "data_segs_out": 41,
    "delivery_rate": 42,
    "busy_time": 43,
    "rwnd_limited": 44,
    "sndbuf_limited": 45,
    "bytes_sent": 48,
    "bytes_retrans": 49,
    "dsack_dups": 50,
    "reord_seen": 51,
    "total_rto": 56,
}

_BLOCK: Final = memoryview(2 * Random(PERIOD).randbytes(PERIOD))


def stream(at: int, size: int = CHUNK) -> memoryview:
    """The bytes of every transfer from ``at`` on."""
    at %= PERIOD
    return _BLOCK[at : at + size]


def enough(job: Job) -> int:
    """Bytes handed in and not sent that keep a sender busy: of a fast path, what it carries until supplied again, four
    times."""
    return max(LOW, 4 * SUPPLY * job.cell.rate // (8 * SEC))


class Account:
    """What one end of a transfer did. Times of the monotonic clock, ns."""

    def __init__(self, job: Job, sending: bool) -> None:
        self.job = job
        self.sending = sending
        self.bytes = 0
        self.first = 0  # received in the first half of the time
        self.counted = 0  # received before it was over
        self.began = 0
        self.middle = self.until = 0
        self.total = hashlib.sha256()
        self.samples: list[dict[str, Any]] = []

    def begin(self, now: int) -> None:
        """The connection is established."""
        self.began = now
        self.until = now + round(self.job.seconds * 1e9)
        self.middle = (now + self.until) // 2

    def add(self, data: bytes | memoryview, now: int) -> None:
        """``data`` was handed in, or taken out at ``now``."""
        self.total.update(data)
        self.bytes += len(data)
        if now <= self.until:
            self.counted = self.bytes
            if now <= self.middle:
                self.first = self.bytes

    def result(self, error: str = "", info: dict[str, Any] | None = None) -> dict[str, Any]:
        return {
            "port": self.job.port,
            "sending": self.sending,
            "bytes": self.bytes,
            "first": self.first,
            "counted": self.counted,
            "sha256": self.total.hexdigest(),
            "error": error,
            "info": info or {},
            "samples": self.samples,
        }


def say(**words: Any) -> None:
    """A line for the benchmark."""
    print(json.dumps(words), flush=True)


def hurry(priority: int = 1) -> None:
    """Go before others, and wake on time: a machine that does something else, too, is to disturb neither TCP.

    The timers of an ordinary process may be 50 µs late (prctl(2), PR_SET_TIMERSLACK).
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(priority))
    with suppress(OSError), open("/proc/self/timerslack_ns", "w", encoding="ascii") as file:
        file.write("1000")


class Orders:
    """Lines of JSON from a descriptor, without blocking."""

    def __init__(self, fd: int = 0) -> None:
        self.fd = fd
        self._unread = b""
        self.ended = False

    def read(self) -> list[dict[str, Any]]:
        """What has come; ``ended`` when that was all."""
        got = os.read(self.fd, 1 << 20)
        if not got:
            self.ended = True
        *lines, self._unread = (self._unread + got).split(b"\n")
        return [json.loads(line) for line in lines]


class Alarms:
    """Calls that are due at a time, for a loop that can wait."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[], object]]] = []
        self._order = 0

    def at(self, when: int, call: Callable[[], object]) -> None:
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, call))

    def next(self) -> int | None:
        """When the next is due, ns; None: never."""
        return self._heap[0][0] if self._heap else None

    def run(self, now: int) -> None:
        """Make the calls that are due."""
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2]()


def kernel_info(sock: socket.socket) -> dict[str, Any]:
    """The figures of TCP_INFO that matter here, microseconds and segments as the kernel gives them."""
    raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
    fields = TCP_INFO.unpack(raw.ljust(TCP_INFO.size, b"\0"))
    return {name: fields[place] for name, place in _INFO.items()}


class Transfer:
    """One end of a transfer over a kernel socket."""

    def __init__(self, program: "Program", job: Job, sending: bool, sock: socket.socket) -> None:
        self.program = program
        self.account = Account(job, sending)
        self.sock = sock
        self.over = False  # the FIN is sent

    def begin(self) -> None:
        """The connection is established."""
        now = time.monotonic_ns()
        self.account.begin(now)
        self.program.alarms.at(self.account.until + round(GRACE * 1e9), lambda: self.end("did not end in time"))
        if self.account.sending:
            self.sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, enough(self.account.job))
            self.program.alarms.at(self.account.until, self.finish)
            self.program.watch(self, select.EPOLLIN | select.EPOLLOUT)
        else:
            self.program.watch(self, select.EPOLLIN)
        if self.program.samples:
            self.sample()

    def sample(self) -> None:
        if self.sock.fileno() >= 0:
            at = time.monotonic_ns()
            self.account.samples.append({"at": (at - self.account.began) / 1e9, **kernel_info(self.sock)})
            self.program.alarms.at(at + round(EVERY * 1e9), self.sample)

    def finish(self) -> None:
        """The time is over: end the stream."""
        if not self.over and self.sock.fileno() >= 0:
            self.over = True
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)
            self.program.watch(self, select.EPOLLIN)

    def on_event(self, mask: int) -> None:
        try:
            if not self.account.began:
                number = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number:
                    raise OSError(number, os.strerror(number))
                self.begin()
                return
            if mask & select.EPOLLOUT and not self.over:
                self.send()
            if mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self.receive()
        except BlockingIOError:
            pass
        except OSError as error:
            self.end(str(error))

    def send(self) -> None:
        account, now = self.account, time.monotonic_ns()
        while True:
            view = stream(account.bytes)
            try:
                count = self.sock.send(view)
            except BlockingIOError:
                return
            account.add(view[:count], now)
            if count < len(view):
                return

    def receive(self) -> None:
        account = self.account
        while True:
            data = self.sock.recv(4 * CHUNK)
            if not data:
                self.end("" if self.over or not account.sending else "the peer has ended")
                return
            account.add(data, time.monotonic_ns())
            if len(data) < CHUNK:
                return

    def end(self, error: str = "") -> None:
        """The transfer has ended: say so."""
        if self.sock.fileno() < 0:
            return
        info: dict[str, Any] = {}
        with suppress(OSError):
            info = kernel_info(self.sock)
        self.program.forget(self)
        if error:
            with suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        say(**self.account.result(error, info))


class Program:
    """The loop. ``host``: the peer's address, or our own to listen on."""

    def __init__(self, host: str, samples: bool) -> None:
        self.host = host
        self.samples = samples
        self.alarms = Alarms()
        self.epoll = select.epoll()
        self.callbacks: dict[int, Callable[[int], object]] = {}
        self.watched: dict[int, int] = {}

    def watch(self, transfer: Transfer, events: int) -> None:
        """Call the transfer when its socket has any of ``events``."""
        fd = transfer.sock.fileno()
        self.watch_fd(fd, events, transfer.on_event)

    def watch_fd(self, fd: int, events: int, callback: Callable[[int], object]) -> None:
        if fd in self.callbacks:
            self.epoll.modify(fd, events)
        else:
            self.epoll.register(fd, events)
        self.callbacks[fd] = callback

    def forget(self, transfer: Transfer) -> None:
        self.forget_fd(transfer.sock.fileno())

    def forget_fd(self, fd: int) -> None:
        if self.callbacks.pop(fd, None) is not None:
            self.epoll.unregister(fd)

    def listen(self, job: Job) -> None:
        """Wait for the job's connection; its other end sends if the job says so."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, job.cell.cc.encode())
        listener.bind((self.host, job.port))
        listener.listen(1)
        listener.setblocking(False)

        def on_event(_: int) -> None:
            with suppress(BlockingIOError):
                sock, _peer = listener.accept()
                sock.setblocking(False)
                self.forget_fd(listener.fileno())
                listener.close()
                Transfer(self, job, job.cell.role != SEND, sock).begin()

        self.watch_fd(listener.fileno(), select.EPOLLIN, on_event)

    def connect(self, job: Job) -> None:
        """Begin the job's connection."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, job.cell.cc.encode())
        transfer = Transfer(self, job, job.cell.role == SEND, sock)
        with suppress(BlockingIOError):
            sock.connect((self.host, job.port))
        self.watch(transfer, select.EPOLLOUT)

    def obey(self, orders: list[dict[str, Any]]) -> None:
        for order in orders:
            for job in map(job_from, order["jobs"]):
                if order["do"] == "listen":
                    self.listen(job)
                else:
                    self.alarms.at(order["at"], partial(self.connect, job))
            if order["do"] == "listen":
                say(did="listen")

    def run(self) -> None:
        """Until stdin ends."""
        orders = Orders()
        self.watch_fd(0, select.EPOLLIN, lambda _: self.obey(orders.read()))
        while not orders.ended:
            due = self.alarms.next()
            timeout = None if due is None else max(0, due - time.monotonic_ns()) / 1e9
            for fd, mask in self.epoll.poll(timeout):
                callback = self.callbacks.get(fd)
                if callback is not None:
                    callback(mask)
            self.alarms.run(time.monotonic_ns())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("--samples", action="store_true")
    args = parser.parse_args()
    hurry()
    say(did="start")
    gc.freeze()
    with suppress(KeyboardInterrupt):
        Program(args.host, args.samples).run()
    sys.exit(0)


if __name__ == "__main__":
    main()
