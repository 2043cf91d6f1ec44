"""Who talks to whom: the four-tuple of a connection, and who may hold which local port.

A flow is known by its key, the slice of the packet that holds addresses and ports, as the peer's segments carry it
(12 bytes with IPv4)::

    | remote address | local address | remote port | local port |

A port is held by bindings. Two on one port conflict if their addresses overlap (the same, or either is the wildcard),
unless both asked to reuse the address and neither listens, or both asked to reuse the port: Linux's rules, which keep
the port of a connection in TIME-WAIT from a server that did not say SO_REUSEADDR. The stand-in of ::1 is no part of
the wildcard, unless a binding is for *both* families. A connection holds its binding until CLOSED. Ephemeral ports
are searched for from a random start (RFC 6056 §3.3.1), for a connection by its four-tuple, so that one port serves
many remotes.
"""

import errno
from collections.abc import Callable, Iterator
from typing import Final

from usertcp.errors import os_error
from usertcp.net.interface import LOOPBACK6
from usertcp.net.template import Template
from usertcp.units import NEVER
from usertcp.wire import ipv4

MAX_PORT: Final = 0xFFFF


def flow_key(remote: bytes, local: bytes, remote_port: int, local_port: int) -> bytes:
    """The key under which segments from ``remote`` find their connection."""
    return remote + local + (remote_port << 16 | local_port).to_bytes(4, "big")


class Flow:
    """The two ends of a connection, and what the stack notes about it.

    ``local``, ``remote``  as the user writes them
    ``local_ip``, ``remote_ip``, ``key``  as they are in packets
    ``address_sum``  what the two addresses add to the checksum of an IP header
    ``next_hop``   the neighbour to send by, b"": this host itself
    ``opened_at``  ns
    ``opened_by``  where in the user's program, as far as its front end tells; ``str`` of it is for people
    ``wake``       when the stack's clock has an entry for the connection, ns; NEVER: none
    ``queued``     whether the connection waits to be polled
    ``template``   the head of its packets, once one was sent
    """

    __slots__ = (
        "_remote_port",
        "address_sum",
        "binding",
        "key",
        "local_ip",
        "next_hop",
        "opened_at",
        "opened_by",
        "queued",
        "remote_ip",
        "template",
        "wake",
    )

    def __init__(
        self, binding: "Binding", local: bytes, remote: bytes, remote_port: int, next_hop: bytes, now: int
    ) -> None:
        self.binding = binding
        self.local_ip = local
        self.remote_ip = remote
        self._remote_port = remote_port
        self.key = flow_key(remote, local, remote_port, binding.port)
        self.address_sum = int.from_bytes(remote + local, "big") % 0xFFFF
        self.next_hop = next_hop
        self.opened_at = now
        self.opened_by: object = ""
        self.wake = NEVER
        self.queued = False
        self.template: Template | None = None

    @property
    def local(self) -> tuple[str, int]:
        return ipv4.unpack(self.local_ip), self.binding.port

    @property
    def remote(self) -> tuple[str, int]:
        return ipv4.unpack(self.remote_ip), self._remote_port


class Binding:
    """A local address and port, held. It ends when its user closed it and no listener or connection uses it."""

    __slots__ = (
        "_holds",
        "_mine",
        "_ports",
        "automatic",
        "both",
        "ip",
        "listening",
        "port",
        "reuse_address",
        "reuse_port",
        "user",
    )

    def __init__(
        self,
        ports: "Ports",
        ip: bytes,
        port: int,
        *,
        reuse_address: bool = False,
        reuse_port: bool = False,
        user: int = 0,
        both: bool = False,
        automatic: bool = False,
    ) -> None:
        self._ports = ports
        self._holds = 1
        self._mine = True
        self.ip = ip
        self.port = port
        self.reuse_address = reuse_address
        self.reuse_port = reuse_port
        self.user = user  # whose it is: reuse_port is for those of one user
        self.both = both  # the wildcard of both families
        self.automatic = automatic  # chosen for one connection: shared with others of its kind, whose tuples differ
        self.listening = False

    @property
    def local(self) -> tuple[str, int]:
        """The address and port as the user writes them."""
        return ipv4.unpack(self.ip), self.port

    @property
    def places(self) -> list[bytes]:
        """The addresses, with the port behind them, under which a listener on it is found."""
        port = self.port.to_bytes(2, "big")
        return [self.ip + port, LOOPBACK6 + port] if self.both else [self.ip + port]

    def close(self) -> None:
        """The user gives it up, or has handed it to a listener or connection. Harmless when repeated."""
        if self._mine:
            self._mine = False
            self.release()

    def hold(self) -> None:
        """A listener or connection uses it as well."""
        self._holds += 1

    def release(self) -> None:
        """A listener or connection is done with it."""
        self._holds -= 1
        if self._holds == 0:
            self._ports.free(self)


class Ports:
    """The bindings of one host, by port."""

    __slots__ = ("_bound", "_first", "_random", "_span")

    def __init__(self, ephemeral: tuple[int, int], random: Callable[[int], bytes]) -> None:
        """``ephemeral``: the first and last of the ports to choose from."""
        self._first, last = ephemeral
        self._span = last - self._first + 1
        if not 0 < self._first <= last <= MAX_PORT:
            raise ValueError("ephemeral ports lie between 1 and 65535, the first before the last")
        self._random = random
        self._bound: dict[int, list[Binding]] = {}

    def bind(
        self,
        ip: bytes,
        port: int,
        *,
        reuse_address: bool = False,
        reuse_port: bool = False,
        user: int = 0,
        both: bool = False,
    ) -> Binding:
        """Hold ``port``, or with 0 an ephemeral one that nobody holds.

        EADDRINUSE: somebody holds it, or all of them; nothing of theirs is touched (RFC 9293 §3.9.1.1, MUST-41).
        """
        if not 0 <= port <= MAX_PORT:
            raise ValueError("a port lies between 0 and 65535")
        if port == 0:
            port = next((each for each in self._candidates() if each not in self._bound), 0)
            if port == 0:
                raise os_error(errno.EADDRINUSE)
        binding = Binding(self, ip, port, reuse_address=reuse_address, reuse_port=reuse_port, user=user, both=both)
        if any(_conflict(binding, other, listening=False) for other in self._bound.get(port, ())):
            raise os_error(errno.EADDRINUSE)
        return self._keep(binding)

    def choose(self, ip: bytes, taken: Callable[[int], bool]) -> Binding:
        """An ephemeral port for a connection from ``ip``; ``taken`` tells whether its four-tuple exists with that port.

        EADDRNOTAVAIL if there is none (as Linux says).
        """
        for port in self._candidates():
            others = self._bound.get(port)
            if (not others or all(other.automatic for other in others)) and not taken(port):
                return self._keep(Binding(self, ip, port, automatic=True))
        raise os_error(errno.EADDRNOTAVAIL)

    def listen(self, binding: Binding) -> None:
        """Mark ``binding`` as listening. EADDRINUSE if another listener would get its segments."""
        others = self._bound.get(binding.port, ())
        if any(_conflict(binding, other, listening=True) for other in others if other is not binding):
            raise os_error(errno.EADDRINUSE)
        binding.listening = True

    def free(self, binding: Binding) -> None:
        """Nobody uses ``binding`` any more."""
        bound = self._bound[binding.port]
        bound.remove(binding)
        if not bound:
            del self._bound[binding.port]

    def _candidates(self) -> Iterator[int]:
        start = int.from_bytes(self._random(4), "big") % self._span
        for n in range(self._span):
            yield self._first + (start + n) % self._span

    def _keep(self, binding: Binding) -> Binding:
        self._bound.setdefault(binding.port, []).append(binding)
        return binding


def _conflict(new: Binding, other: Binding, *, listening: bool) -> bool:
    """Whether ``new`` may not be where ``other`` is; ``listening``: it is about to listen, beside non-listeners."""
    if not (_covers(new, other.ip) or _covers(other, new.ip)):
        return False
    if new.reuse_port and other.reuse_port and new.user == other.user:
        return False
    if listening:
        return other.listening
    return other.listening or not (new.reuse_address and other.reuse_address)


def _covers(binding: Binding, ip: bytes) -> bool:
    """Whether ``ip`` is the address of ``binding``, or within it."""
    return binding.ip == ip or (binding.ip == ipv4.ANY and (binding.both or ip != LOOPBACK6))
