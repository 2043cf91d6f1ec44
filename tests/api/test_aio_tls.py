"""TLS over usertcp.aio, which is asyncio's own: both ends on the stack, virtual time, and nothing is left behind."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.api.hosts import PORT, RIGHT
from tests.api.test_aio_server import SMALL, Recorder, alive, both, two
from usertcp.tcp.config import TcpConfig
from usertcp.units import SEC

DATA = bytes(n % 251 for n in range(300_000))


@pytest.fixture(scope="module")
def serving(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture(scope="module")
def asking(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


class Taker(Recorder, asyncio.BufferedProtocol):
    """Reads into a buffer of its own."""

    def get_buffer(self, sizehint: int) -> memoryview:  # asyncio's TLS loses what it reads into slices of a bytearray
        self.buffer = memoryview(bytearray(5000))
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.buffer[:nbytes]


@pytest.mark.parametrize("kind", [Recorder, Taker])
@pytest.mark.parametrize("tcp", [None, SMALL], ids=["tuned", "small"])
def test_protocols_of_both_kinds_echo_over_tls(
    kind: type[Recorder], tcp: TcpConfig | None, serving: ssl.SSLContext, asking: ssl.SSLContext
) -> None:
    world, left, right = two(tcp)

    async def main() -> None:
        async with await right.start_server(echo, None, PORT, ssl=serving):
            transport, protocol = await left.create_connection(
                kind, RIGHT, PORT, ssl=asking, server_hostname="localhost"
            )
            assert isinstance(protocol, kind)
            assert protocol.transport is transport
            assert transport.get_extra_info("peername") == (RIGHT, PORT)
            assert transport.get_extra_info("cipher")[1].startswith("TLS")
            assert transport.get_extra_info("ssl_object").server_hostname == "localhost"
            assert transport.get_extra_info("sslcontext") is asking
            assert transport.get_extra_info("peercert")["subject"] == ((("commonName", "localhost"),),)
            assert transport.get_extra_info("socket").fileno() == -1
            transport.write(DATA)
            while len(protocol.data) < len(DATA):
                await asyncio.sleep(0.01)
            assert protocol.data == DATA
            assert ("pause" in protocol.events) == ("resume" in protocol.events)
            transport.close()
            await protocol.lost
            assert protocol.error is None
        await asyncio.sleep(1)
        assert alive(left) == alive(right) == []

    both(world, main())


@pytest.mark.parametrize("tls_from", ["start", "server asks", "client asks"])
def test_streams_turn_to_tls_at_the_start_or_later(
    tls_from: str, serving: ssl.SSLContext, asking: ssl.SSLContext
) -> None:
    world, left, right = two()
    early = serving if tls_from == "start" else None

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if early is None:
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"go\n")
            await writer.start_tls(serving)
        await echo(reader, writer)

    async def main() -> None:
        words: dict[str, Any] = {} if early is None else {"ssl": asking, "server_hostname": "localhost"}
        async with await right.start_server(serve, None, PORT, ssl=early):
            reader, writer = await left.open_connection(RIGHT, PORT, **words)
            if early is None:
                writer.write(b"STARTTLS\n")
                assert await reader.readline() == b"go\n"
                await writer.start_tls(asking, server_hostname="localhost")
            writer.write(b"secret\n")
            assert await reader.readline() == b"secret\n"
            assert writer.get_extra_info("ssl_object") is not None
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(1)
        assert alive(left) == alive(right) == []

    both(world, main())


def test_loop_start_tls_gives_a_protocol_another_transport(serving: ssl.SSLContext, asking: ssl.SSLContext) -> None:
    world, left, right = two()
    secured: list[Recorder] = []

    class Upgrading(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.task = asyncio.get_running_loop().create_task(self.upgrade())

        async def upgrade(self) -> None:
            assert isinstance(self.transport, asyncio.Transport)
            loop = asyncio.get_running_loop()
            self.secure = await loop.start_tls(self.transport, self, serving, server_side=True)
            secured.append(self)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await right.create_server(Upgrading, None, PORT):
            transport, protocol = await left.create_connection(Recorder, RIGHT, PORT)
            above = await loop.start_tls(transport, protocol, asking, server_hostname="localhost")
            assert above is not None
            above.write(b"over TLS")
            while not (secured and secured[0].data):
                await asyncio.sleep(0.01)
            assert secured[0].data == b"over TLS"
            above.close()
            assert isinstance(protocol, Recorder)
            await protocol.lost
            await secured[0].lost

    both(world, main())


def test_certificate_of_another_name_is_refused_and_leaves_nothing(
    serving: ssl.SSLContext, asking: ssl.SSLContext
) -> None:
    world, left, right = two()
    complaints: list[object] = []

    async def main() -> None:
        async with await right.start_server(echo, None, PORT, ssl=serving):
            with pytest.raises(ssl.SSLCertVerificationError):
                await left.open_connection(RIGHT, PORT, ssl=asking, server_hostname="elsewhere")
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            await asyncio.sleep(1)
            assert alive(left) == alive(right) == []

    both(world, main())


@pytest.mark.parametrize("silent", ["client", "server"])
def test_handshake_that_does_not_end_in_time_is_given_up(
    silent: str, serving: ssl.SSLContext, asking: ssl.SSLContext
) -> None:
    world, left, right = two()

    async def main() -> None:
        words: dict[str, Any] = {"ssl": serving, "ssl_handshake_timeout": 5} if silent == "client" else {}
        async with await right.create_server(Recorder, None, PORT, **words):
            if silent == "client":
                _, protocol = await left.create_connection(Recorder, RIGHT, PORT)
                assert isinstance(protocol, Recorder)
                await protocol.lost
                assert isinstance(protocol.error, ConnectionResetError)
            else:
                with pytest.raises(ConnectionAbortedError, match="5"):
                    await left.open_connection(
                        RIGHT, PORT, ssl=asking, server_hostname="localhost", ssl_handshake_timeout=5
                    )
            assert world.now == pytest.approx(5 * SEC, rel=0.1)
            await asyncio.sleep(1)
            assert alive(left) == alive(right) == []

    both(world, main())


@pytest.mark.parametrize("how", ["cancel", "time-out"])
@pytest.mark.parametrize("after", [0.001, 0.006, 0.0085, 0.011])  # ARP, SYN, TLS, TLS
def test_connect_over_tls_given_up_at_any_moment_leaves_nothing(
    how: str, after: float, serving: ssl.SSLContext, asking: ssl.SSLContext
) -> None:
    world, left, right = two()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await right.start_server(echo, None, PORT, ssl=serving):
            connecting = asyncio.create_task(left.open_connection(RIGHT, PORT, ssl=asking, server_hostname="localhost"))
            if how == "cancel":
                await asyncio.sleep(after)
                assert not connecting.done()
                connecting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await connecting
            else:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(connecting, after)
            await asyncio.sleep(0.1)
            assert alive(left) == alive(right) == []
            pending = [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
            assert pending == []

    both(world, main())


def test_arguments_of_tls_that_contradict_each_other_are_refused_before_anything_is_sent(
    asking: ssl.SSLContext,
) -> None:
    world, left, _ = two()

    async def refused(text: str, **words: Any) -> None:
        with pytest.raises(ValueError, match=text):
            await left.open_connection(RIGHT, PORT, **words)

    async def main() -> None:
        await refused("server_hostname is only", server_hostname="x")
        await refused("ssl_handshake_timeout is only", ssl_handshake_timeout=1)
        await refused("ssl_shutdown_timeout is only", ssl_shutdown_timeout=1)
        await refused("positive", ssl=asking, ssl_handshake_timeout=0)
        with pytest.raises(ValueError, match="server_hostname"):
            await left.open_connection("", PORT, ssl=asking)
        with pytest.raises(ValueError, match="only meaningful"):
            await left.create_server(Recorder, None, PORT, ssl_handshake_timeout=1)
        with pytest.raises(TypeError, match="SSLContext"):
            await left.create_server(Recorder, None, PORT, ssl=True)  # type: ignore[arg-type]

    both(world, main())
    assert world.frames == 0


def test_peer_that_resets_during_the_handshake_is_an_error_of_connect(asking: ssl.SSLContext) -> None:
    world, left, right = two()

    async def rude(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def main() -> None:
        async with await right.start_server(rude, None, PORT):
            with pytest.raises(ConnectionResetError):
                await left.open_connection(RIGHT, PORT, ssl=asking, server_hostname="localhost")
        assert alive(left) == []

    both(world, main())


def test_sendfile_over_tls_arrives_intact(serving: ssl.SSLContext, asking: ssl.SSLContext, tmp_path: Path) -> None:
    world, left, right = two()
    path = tmp_path / "file"
    path.write_bytes(DATA)

    async def main() -> None:
        got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.set_result(await reader.readexactly(len(DATA)))
            writer.close()

        async with await right.start_server(take, None, PORT, ssl=serving):
            _, writer = await left.open_connection(RIGHT, PORT, ssl=asking, server_hostname="localhost")
            with path.open("rb") as file:
                assert await asyncio.get_running_loop().sendfile(writer.transport, file) == len(DATA)
            assert await got == DATA
            writer.close()
            await writer.wait_closed()

    both(world, main())
