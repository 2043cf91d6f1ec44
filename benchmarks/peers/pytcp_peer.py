"""PyTCP (its last release on PyPI) as one end of the runs, on a TAP; run by the Python of an environment of its own.

    python -O pytcp_peer.py TAP ADDRESS KIND HOST PORT SECONDS WARM COUNT

With ``-O`` it does not log. The kinds are in, out, ping, ping-many, connect and connect-many. It has no half-close and
its send buffer has no limit, so that what it was given and has not yet had acknowledged is looked up inside it.
"""

import json
import os
import struct
import sys
import threading
import time
from collections.abc import Callable
from fcntl import ioctl
from importlib import import_module
from socket import AF_INET, SOCK_DGRAM, socket
from typing import Any

AT_LEAST = 3.0  # seconds of a run: less may pass before the first byte
ENOUGH = 256 << 10  # bytes handed in and not yet acknowledged
SIOCGIFTXQLEN, SIOCSIFTXQLEN = 0x8942, 0x8943


def carrier(name: str) -> None:
    """Let the device transmit at once: the change of its queue does it (``usertcp.link.device.activate``)."""
    with socket(AF_INET, SOCK_DGRAM) as sock:
        found = ioctl(sock, SIOCGIFTXQLEN, struct.pack("16s24s", name.encode(), b""))
        (length,) = struct.unpack_from("=i", found, 16)
        for wanted in (length + 1, length):
            ioctl(sock, SIOCSIFTXQLEN, struct.pack("16si20x", name.encode(), wanted))


class Run:
    """One run; counts from when the warming up is over."""

    def __init__(self, words: list[str]) -> None:
        self.tap, self.address, self.kind, self.host = words[:4]
        self.port, self.seconds, self.warm, self.count = int(words[4]), float(words[5]), float(words[6]), int(words[7])
        pytcp = import_module("pytcp")
        self.api = import_module("pytcp.lib.socket")
        self.stack = pytcp.TcpIpStack(interface=self.tap, ip4_address=f"{self.address}/24", ip4_gateway=self.host)
        config: Any = import_module("pytcp.config")
        config.IP6_SUPPORT = False  # which the line above has switched on
        carrier(self.tap)
        self.stack.start()
        self.began = 0.0
        self.amount = 0
        self.lock = threading.Lock()
        self.warm_until = self.until = 0.0

    def connect(self) -> Any:
        sock = self.api.socket(family=self.api.AF_INET4, type=self.api.SOCK_STREAM)
        sock.connect((self.host, self.port))
        return sock

    def add(self, amount: int, at: float) -> None:
        with self.lock:
            if self.began:
                self.amount += amount
            elif at >= self.warm_until:
                self.began = at

    def more(self) -> float:
        """The time while there is some left, else 0."""
        at = time.monotonic()
        return at if at < self.until else 0.0

    def bulk_in(self) -> None:
        sock = self.connect()
        while at := self.more():
            self.add(len(sock.recv()), at)

    def bulk_out(self) -> None:
        sock, data = self.connect(), bytes(64 << 10)
        waiting = sock.tcp_session._tx_buffer
        while at := self.more():
            if len(waiting) < ENOUGH:
                self.add(sock.send(data), at)
            else:
                time.sleep(0.001)
        self.amount -= len(waiting)

    def ping(self) -> None:
        sock = self.connect()
        while at := self.more():
            sock.send(b"S")
            sock.recv()
            self.add(1, at)

    def greet(self) -> None:
        while at := self.more():
            sock = self.connect()
            sock.send(b"S")
            while sock.recv():
                pass
            sock.close()
            self.add(1, at)

    def start(self) -> None:
        """All of it, for the time that was set; then the result."""
        works: dict[str, Callable[[], None]] = {"in": self.bulk_in, "out": self.bulk_out}
        works |= {"ping": self.ping, "ping-many": self.ping, "connect": self.greet, "connect-many": self.greet}
        self.warm_until = time.monotonic() + self.warm
        self.until = self.warm_until + max(self.seconds, AT_LEAST)
        threads = [threading.Thread(target=works[self.kind], daemon=True) for _ in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, self.until - time.monotonic()))
        if not self.began:
            print(f"nothing was done in {self.until - self.warm_until:g} s", file=sys.stderr, flush=True)
            os._exit(1)
        seconds = time.monotonic() - self.began
        print(json.dumps({"amount": self.amount, "seconds": seconds, "cpu": 0.0}), flush=True)
        os._exit(0)


if __name__ == "__main__":
    Run(sys.argv[1:]).start()
