"""``make flood``: forged SYNs by the ten thousand, and clients that come all the same (root).

A usertcp stack on a TAP in a namespace of its own serves a file. Kernel clients fetch it one after another, first in
peace and then while SYNs arrive from addresses that do not exist. What is told: how many clients were served (their
bytes hashed), how long their ``connect`` took, and by how much the process of the stack grew. The same without SYN
cookies shows what they are for. The flood and the clients are processes of their own.
"""

import argparse
import errno
import hashlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from benchmarks.words import count as whole
from usertcp import blocking
from usertcp.lab import forge
from usertcp.link import netns, provision
from usertcp.link.tap import TapLink
from usertcp.net.listening import Limits
from usertcp.net.stack import Stack, StackConfig
from usertcp.net.stats import Drop
from usertcp.tcp.cookies import SynCookies
from usertcp.wire import tcp

ROOT: Final = Path(__file__).parents[1]
KERNEL: Final = "10.9.0.1"
OURS: Final = "10.9.0.2"
TAP: Final = "tap0"
PORT: Final = 9000
FORGED: Final = "198.{}.{}.{}"  # 198.18.0.0/15, for benchmarks (RFC 2544): nobody answers there
CHUNK: Final = 10  # SYNs sent at once: a flood comes evenly
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Plan:
    """``syns`` forged at ``rate`` a second; ``clients`` that fetch ``size`` bytes and wait no longer than ``patience``
    seconds for a connection; ``cookies``: those of the stack."""

    syns: int = 50_000
    rate: int = 5_000
    clients: int = 20
    size: int = 1_000_000
    patience: float = 3.0
    cookies: SynCookies = SynCookies.PRESSED

    @property
    def pause(self) -> float:
        """Seconds between two clients, so that the last one meets the flood as well."""
        return self.syns / self.rate / (self.clients + 1)


@dataclass(frozen=True)
class Figures:
    """What was seen. ``connects``: seconds of each client that was served; times in peace, then in the flood."""

    peace: list[float]
    flood: list[float]
    intact: int  # clients of both whose bytes were those that were sent
    sent: int  # SYNs that left
    seconds: float  # that it took
    busy: float  # seconds of processor time of the stack's process meanwhile
    grown: int  # bytes of the same
    counters: dict[str, int]
    connections: int  # that the stack had when the flood had ended

    @property
    def ratio(self) -> float:
        """Of the slowest percentile of ``connect``, flood to peace."""
        return slowest(self.flood) / slowest(self.peace) if self.flood and self.peace else float("inf")


def slowest(seconds: list[float]) -> float:
    """The 99th percentile, by the nearest rank."""
    ranked = sorted(seconds)
    return ranked[-(-len(ranked) * 99 // 100) - 1]


def content(size: int) -> bytes:
    """What is served."""
    return random.Random(size).randbytes(size)


# --- the programs in the namespace ------------------------------------------------------------------------------------


def send_flood(count: int, rate: int, mac: str) -> None:
    """Forged SYNs to the stack whose hardware address is ``mac``, when stdin says so; what left, as JSON."""
    source = random.Random(1)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((TAP, 0))
        macs = sock.getsockname()[4], bytes.fromhex(mac.replace(":", ""))
        frames = [forged(source, macs) for _ in range(count)]
        print("ready", flush=True)
        sys.stdin.readline()
        began = time.monotonic()
        sent = 0
        while sent < count:
            for frame in frames[sent : sent + CHUNK]:
                try:
                    sock.send(frame)
                except OSError as error:  # a full device loses it, as a wire would
                    if error.errno != errno.ENOBUFS:
                        raise
            sent = min(sent + CHUNK, count)
            time.sleep(max(0.0, began + sent / rate - time.monotonic()))
        print(json.dumps({"sent": sent, "seconds": time.monotonic() - began}), flush=True)


def forged(source: random.Random, macs: tuple[bytes, bytes]) -> bytes:
    """One SYN from nobody, with the options that everybody sends."""
    address = FORGED.format(source.choice((18, 19)), source.randrange(256), source.randrange(1, 255))
    options = tcp.syn_options(1460, 7, True, (source.getrandbits(32), 0))
    ports = source.randrange(1024, 65536), PORT
    return forge.frame(macs, (address, OURS), ports, seq=source.getrandbits(32), flags=tcp.SYN, options=options)


def run_clients(count: int, pause: float, patience: float) -> None:
    """``count`` clients, one after another: seconds to connect and the SHA-256 of what came, or why not, as JSON."""
    for _ in range(count):
        began = time.monotonic()
        try:
            with socket.create_connection((OURS, PORT), timeout=patience) as sock:
                opened = time.monotonic() - began
                total = hashlib.sha256()
                while data := sock.recv(1 << 16):
                    total.update(data)
            print(json.dumps({"connect": opened, "sha256": total.hexdigest()}), flush=True)
        except OSError as error:
            print(json.dumps({"error": str(error)}), flush=True)
        time.sleep(max(0.0, began + pause - time.monotonic()))


# --- the stack --------------------------------------------------------------------------------------------------------


class Server:
    """A thread that serves ``data`` to whoever comes."""

    def __init__(self, host: blocking.Host, data: bytes) -> None:
        self._listener = host.listen(("", PORT))
        self._data = data
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        with suppress(OSError):  # the listener is closed in the end
            for conn in self._listener:
                with suppress(OSError):  # that client is gone
                    conn.sendall(self._data)
                conn.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join()


@contextmanager
def running(limits: Limits) -> Iterator[tuple[str, blocking.Host, str]]:
    """A namespace with a TAP, a stack on it; its name, the stack's host, the stack's hardware address."""
    with provision.Namespace.create() as namespace, provision.create_tap(TAP, netns=namespace.name):
        link = TapLink.open(TAP, netns=namespace.name, offload=True)
        config = StackConfig(addresses=(f"{OURS}/24",), gateway=KERNEL, limits=limits)
        stack = Stack(config, link.caps, os.urandom)
        with blocking.Host(stack, link, linger=0) as host:
            assert link.caps.mac is not None
            yield namespace.name, host, link.caps.mac.hex()


def program(space: str, *words: object) -> "subprocess.Popen[str]":
    """One of the two programs above, in the namespace."""
    command = [sys.executable, "-m", "benchmarks.flood", *map(str, words)]
    with netns.inside(space):
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def fetched(space: str, plan: Plan, wanted: str, count: int, pause: float) -> tuple[list[float], int]:
    """The clients' times, and how many of them got what was sent."""
    with program(space, "--be-clients", count, pause, plan.patience) as clients:
        out, _ = clients.communicate(timeout=60 + count * (plan.patience + pause))
    told = [json.loads(line) for line in out.splitlines()]
    return [each["connect"] for each in told if "connect" in each], sum(each.get("sha256") == wanted for each in told)


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def await_pressure(stack: Stack, seconds: float = 30.0) -> None:
    """Until the flood has filled the backlog, so that every client meets it."""
    limit = time.monotonic() + seconds
    while not (stack.stats.cookies_out or stack.stats.drops[Drop.LISTEN_OVERFLOW]) and time.monotonic() < limit:
        time.sleep(0.002)


def measure(plan: Plan) -> Figures:
    """Serve in peace, then in the flood."""
    data = content(plan.size)
    wanted = hashlib.sha256(data).hexdigest()
    with running(Limits(syn_cookies=plan.cookies)) as (space, host, mac), Server(host, data):
        flood = program(space, "--be-flood", plan.syns, plan.rate, mac)
        with flood:
            assert flood.stdin is not None
            assert flood.stdout is not None
            assert flood.stdout.readline() == "ready\n"
            peace, first = fetched(space, plan, wanted, plan.clients, 0.05)
            before, busy = resident(), time.process_time()
            flood.stdin.write("go\n")
            flood.stdin.flush()
            await_pressure(host.stack)
            times, second = fetched(space, plan, wanted, plan.clients, plan.pause)
            said = json.loads(flood.stdout.readline())
            busy = time.process_time() - busy
        grown = resident() - before
        counters, connections = host.stack.counters(), len(list(host.stack.connections()))
    return Figures(peace, times, first + second, said["sent"], said["seconds"], busy, grown, counters, connections)


def tell(plan: Plan, seen: Figures) -> str:
    """The figures in words."""
    counted = {name: n for name, n in seen.counters.items() if "cookie" in name or "listen" in name}
    lines = [
        f"cookies {plan.cookies.value}: {seen.sent:,} forged SYNs in {seen.seconds:.1f} s",
        f"  clients served        {len(seen.peace)} of {plan.clients} in peace, {len(seen.flood)} of {plan.clients} in "
        f"the flood; {seen.intact} of {2 * plan.clients} intact",
    ]
    for name, times in (("peace", seen.peace), ("flood", seen.flood)):
        if times:
            middle, most = statistics.median(times), slowest(times)
            lines.append(f"  connect, {name}        median {middle * 1e3:.2f} ms, p99 {most * 1e3:.2f} ms")
    if seen.flood:
        lines.append(f"  p99, flood to peace   {seen.ratio:.1f}")
    lines.append(f"  processor             {seen.busy:.1f} s of the stack's, clients and all")
    lines.append(f"  memory                grown by {seen.grown / 1e6:.2f} MB; {seen.connections} connections are left")
    lines.append(f"  counted               {', '.join(f'{name} {n:,}' for name, n in counted.items())}")
    return "\n".join(lines)


def main() -> int:
    """The exit status: 0 if what is promised holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flood", description=__doc__)
    parser.add_argument("--syns", type=whole, default=Plan.syns, help="forged SYNs")
    parser.add_argument("--rate", type=whole, default=Plan.rate, help="of them a second")
    parser.add_argument("--clients", type=whole, default=Plan.clients)
    parser.add_argument("--size", type=whole, default=Plan.size, help="bytes that each of them fetches")
    parser.add_argument("--be-clients", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--be-flood", nargs=3, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.be_clients:
        run_clients(int(words.be_clients[0]), float(words.be_clients[1]), float(words.be_clients[2]))
        return 0
    if words.be_flood:
        send_flood(int(words.be_flood[0]), int(words.be_flood[1]), words.be_flood[2])
        return 0
    plan = Plan(words.syns, words.rate, words.clients, words.size)
    seen = measure(plan)
    print(tell(plan, seen))
    without = Plan(words.syns // 5, words.rate, 3, words.size, cookies=SynCookies.NEVER)
    print(tell(without, measure(without)))
    served = len(seen.flood) == plan.clients and seen.intact == 2 * plan.clients
    return 0 if served and seen.ratio < 10 and seen.grown < 5_000_000 else 1


if __name__ == "__main__":
    sys.exit(main())
