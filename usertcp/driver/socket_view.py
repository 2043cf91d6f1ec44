"""What ``get_extra_info("socket")`` and ``Server.sockets`` give: names and options of a connection or a listener.

The shape is that of ``asyncio.trsock.TransportSocket``. What programs do with that is to set TCP_NODELAY, and to ask on
which port they listen. There is no descriptor: ``fileno()`` is -1, and nothing can be received or sent here. Options
are those of the drop-in socket, with Linux's clamps and errnos (``driver.options``); on a listener they are for what it
accepts from then on.
"""

import errno
import socket as so

from usertcp.driver.base import Pump
from usertcp.driver.options import INT, Options, tell
from usertcp.errors import os_error
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.listener import Listener
from usertcp.tcp.state import State

Address = tuple[str, int]


class SocketView:
    """Names and options of ``core``, which ``pump`` runs; None: of a port that is bound to ``local`` and shall listen
    with the settings ``config``."""

    family = so.AF_INET
    type = so.SOCK_STREAM
    proto = so.IPPROTO_TCP

    def __init__(self, pump: Pump, core: Connection | Listener | None, local: Address, config: TcpConfig) -> None:
        self._pump = pump
        self._local = local
        self._base = config
        self._chosen = Options()
        self.core = core

    def __repr__(self) -> str:
        remote = f", raddr={self.core.flow.remote}" if isinstance(self.core, Connection) else ""
        return f"<usertcp socket without a descriptor, laddr={self._local}{remote}>"

    @property
    def config(self) -> TcpConfig:
        """The settings as they are now."""
        return self._chosen.config(self._base)

    @property
    def resets(self) -> bool:
        """Whether closing shall be a reset: SO_LINGER of no time."""
        return self._chosen.linger == (1, 0)

    def fileno(self) -> int:
        """-1: there is none."""
        return -1

    def getsockname(self) -> Address:
        """This end's address and port."""
        return self._local

    def getpeername(self) -> Address:
        """The other end's. ENOTCONN: no connection, or one that has ended."""
        if not isinstance(self.core, Connection) or self.core.state is State.CLOSED:
            raise os_error(errno.ENOTCONN)
        address: Address = self.core.flow.remote
        return address

    def getsockopt(self, level: int, name: int, buffer_length: int = 0) -> int | bytes:
        """An option's value, as ``socket.getsockopt``."""
        listening = isinstance(self.core, Listener)
        fixed = {so.SO_TYPE: self.type, so.SO_DOMAIN: self.family, so.SO_PROTOCOL: self.proto, so.SO_ERROR: 0}
        fixed[so.SO_ACCEPTCONN] = listening
        if level == so.SOL_SOCKET and name in fixed:
            value = INT.pack(fixed[name])
        else:
            conn = self.core if isinstance(self.core, Connection) else None
            value = tell(self._chosen, (level, name), conn, self._base, self._pump.clock(), listening=listening)
        return value[:buffer_length] if buffer_length else int(INT.unpack_from(value)[0])

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        """Set an option, at once."""
        changes = self._chosen.set(level, name, value)
        if isinstance(self.core, Listener):
            self.core.config = self.config
        elif self.core is not None and changes:
            self.core.configure(**changes)

    def gettimeout(self) -> float:
        """0: it does not block."""
        return 0.0

    def settimeout(self, value: float | None) -> None:
        """Only 0 is allowed."""
        if value != 0:
            raise ValueError("a transport's socket does not block: only a timeout of 0 is allowed")

    def setblocking(self, flag: bool) -> None:
        """Only False is allowed."""
        self.settimeout(None if flag else 0)
