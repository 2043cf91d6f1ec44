"""What the simulation tests have in common: ends that act on readiness, and the transfer that most of them do."""

import hashlib
from collections.abc import Callable, Sequence

from usertcp.driver.sim import SimHost, Wire, World
from usertcp.link.middleware import Rule
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.listener import Listener
from usertcp.tcp.state import CAN_SEND
from usertcp.units import HOUR, KIB, MS

PORT = 7000


def payload(size: int, seed: int = 1) -> bytes:
    """``size`` bytes that look like nothing."""
    return hashlib.shake_128(seed.to_bytes(4, "big")).digest(size)


class End:
    """One end: sends ``data`` and a FIN as the buffer takes it, reads to the end, and closes.

    ``error``  how it ended, if not well; ``ended``  the peer's FIN came, or the error
    """

    def __init__(self, conn: Connection, data: bytes = b"", *, close: bool = True) -> None:
        self.conn = conn
        self.size = 0
        self.ended = False
        self.error: OSError | None = None
        self._hash = hashlib.sha256()
        self._rest = memoryview(data)
        self._close = close
        self._fin = close
        conn.user = self
        self.on_ready()

    @property
    def digest(self) -> bytes:
        """The hash of what came."""
        return self._hash.digest()

    def on_ready(self) -> None:
        conn = self.conn
        while self._rest and conn.writable:
            self._rest = self._rest[conn.write(self._rest) :]
        if not self._rest and self._fin and conn.state in CAN_SEND:
            self._fin = False
            conn.shutdown_write()
        while conn.readable:
            data = conn.read(64 * KIB)
            self._hash.update(data)
            self.size += len(data)
        if conn.at_eof and not self.ended:
            self.ended = True
            self.error = conn.take_error()
        if self.ended and self._close and (self.error is not None or not self._rest):
            conn.close()


class Server:
    """Makes an end of every connection that ``listener`` accepts."""

    def __init__(self, listener: Listener, serve: Callable[[Connection], End]) -> None:
        self.listener = listener
        self.ends: list[End] = []
        self._serve = serve
        listener.user = self

    def on_ready(self) -> None:
        while (conn := self.listener.accept()) is not None:
            self.ends.append(self._serve(conn))


def transfer(client: SimHost, server: Server, host: SimHost, data: bytes) -> End:
    """Send ``data`` from ``client`` to the server at ``host``; the client's end, when the world runs on."""
    return End(client.connect((host.address, server.listener.port)), data)


def two_hosts(
    seed: int = 1,
    *,
    delay: int = 1 * MS,
    rate: int = 0,
    rules: Sequence[Rule] = (),
    config: TcpConfig | None = None,
) -> tuple[World, SimHost, SimHost]:
    """A world of two hosts, a and b; the wire of a is the bad one."""
    world = World(seed)
    a = world.host("a", "10.0.0.1/24", wire=Wire(delay=delay, rate=rate, rules=rules), config=config)
    b = world.host("b", "10.0.0.2/24", wire=Wire(delay=delay, rate=rate), config=config)
    return world, a, b


def both_ways(world: World, a: SimHost, b: SimHost, size: int, limit: int = HOUR) -> tuple[End, End]:
    """``size`` bytes each way between two hosts, checked by hash; the ends of a and b."""
    there, back = payload(size, 1), payload(size, 2)
    server = Server(b.listen(PORT), lambda conn: End(conn, back))
    client = transfer(a, server, b, there)
    assert world.run_until(lambda: client.ended and bool(server.ends) and server.ends[0].ended, limit)
    (far,) = server.ends
    assert (client.error, far.error) == (None, None)
    assert far.digest == hashlib.sha256(there).digest()
    assert client.digest == hashlib.sha256(back).digest()
    return client, far
