"""TLS over a transport of ours: asyncio's own protocol (``asyncio.sslproto``), with asyncio's arguments.

These are checked before anything is opened, as asyncio does and with its exceptions.
"""

import asyncio
from asyncio.sslproto import SSLProtocol
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How a connection is encrypted.

    ``context``   an SSLContext; None: the default one of a client
    ``hostname``  that a client asks for and verifies; "" for none
    ``handshake_timeout``, ``shutdown_timeout``  seconds; None: asyncio's (60 and 30)
    """

    context: Any
    hostname: str | None = None
    handshake_timeout: float | None = None
    shutdown_timeout: float | None = None

    def __post_init__(self) -> None:
        for name, value in self._timeouts().items():
            if value is not None and value <= 0:
                raise ValueError(f"{name} should be a positive number, got {value}")

    def protocol(
        self, above: asyncio.BaseProtocol, *, server: bool, waiter: "asyncio.Future[None] | None" = None
    ) -> SSLProtocol:
        """TLS below the protocol ``above``; ``waiter`` is told when the handshake is done, or has failed."""
        told: Any = waiter
        loop = asyncio.get_running_loop()
        return SSLProtocol(loop, above, self.context, told, server, self.hostname, True, **self._timeouts())

    def _timeouts(self) -> dict[str, Any]:
        return {"ssl_handshake_timeout": self.handshake_timeout, "ssl_shutdown_timeout": self.shutdown_timeout}


def of_client(
    ssl: SSLContext | bool | None, host: str, hostname: str | None, handshake: float | None, shutdown: float | None
) -> Tls | None:
    """What a client's arguments ask for; None: no TLS. ValueError when they contradict each other."""
    if not ssl:
        given = {"server_hostname": hostname, "ssl_handshake_timeout": handshake, "ssl_shutdown_timeout": shutdown}
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} is only meaningful with ssl")
        return None
    if hostname is None and not host:
        raise ValueError("You must set server_hostname when using ssl without a host")
    context = ssl if isinstance(ssl, SSLContext) else None
    wanted = host if hostname is None else hostname
    return Tls(context=context, hostname=wanted, handshake_timeout=handshake, shutdown_timeout=shutdown)


def of_server(ssl: SSLContext | None, handshake: float | None, shutdown: float | None) -> Tls | None:
    """The same of a server's, which needs a context of its own (TypeError)."""
    if ssl is None:
        for name, value in {"ssl_handshake_timeout": handshake, "ssl_shutdown_timeout": shutdown}.items():
            if value is not None:
                raise ValueError(f"{name} is only meaningful with ssl")
        return None
    if not isinstance(ssl, SSLContext):
        raise TypeError("ssl argument must be an SSLContext or None")
    return Tls(context=ssl, handshake_timeout=handshake, shutdown_timeout=shutdown)
