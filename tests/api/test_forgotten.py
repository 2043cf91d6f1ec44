"""Connections that a program forgets to close: since when, where each was opened, and what collecting them does."""

import asyncio
import gc
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import usertcp.socket as us
from tests.api.hosts import LEFT, PATIENCE, PORT, RIGHT, run, two_aio, two_blocking
from tests.api.sockets import one_engine, until
from usertcp import aio, blocking
from usertcp.driver import origin
from usertcp.lab import bench

Row = dict[str, Any]


def rows(snapshot: list[Row], port: int, *, local: bool) -> list[Row]:
    """The connections, not the listeners, whose local (or else remote) port is ``port``."""
    key = "local" if local else "remote"
    return [row for row in snapshot if row["state"] != "LISTEN" and row[key][1] == port]


def line_of(function: Callable[..., object], offset: int) -> str:
    """What :class:`origin.Place` says of a line of ``function``."""
    code = function.__code__
    return f"{code.co_filename}:{code.co_firstlineno + offset} {code.co_qualname}"


def dial(host: blocking.Host) -> blocking.Conn:
    return host.connect((RIGHT, PORT), timeout=PATIENCE)


def answer(listener: blocking.Listener) -> blocking.Conn:
    return listener.accept()


# -- blocking ----------------------------------------------------------------------------------------------------------


def test_blocking_connection_tells_where_it_was_opened_and_since_when_its_peer_has_closed() -> None:
    with two_blocking() as (left, right):
        listener = right.listen(("", PORT))
        conn = dial(left)
        peer = answer(listener)
        (row,) = rows(left.snapshot(), PORT, local=False)
        assert (row["opened_by"], row["finished"], row["state"]) == (line_of(dial, 1), None, "ESTABLISHED")
        conn.close()
        assert peer.recv() == b""
        (row,) = rows(right.snapshot(), PORT, local=True)
        assert (row["opened_by"], row["state"]) == (line_of(answer, 1), "CLOSE-WAIT")
        assert 0 <= row["finished"] < row["age"]
        assert repr(peer) == f"<usertcp connection {RIGHT}:{PORT} {LEFT}:{row['remote'][1]} CLOSE-WAIT, " + (
            f"opened at {line_of(answer, 1)}>"
        )
        peer.close()


def test_blocking_connection_that_is_garbage_warns_with_its_place_and_is_closed() -> None:
    with two_blocking() as (left, right):
        listener = right.listen(("", PORT))
        conn = dial(left)
        peers = [answer(listener)]
        with pytest.warns(ResourceWarning, match=rf"unclosed .* opened at .*{answer.__name__}"):
            peers.clear()
        conn.settimeout(PATIENCE)
        assert conn.recv() == b""
        conn.close()
        until(lambda: [row["state"] for row in rows(right.snapshot(), PORT, local=True)] == ["TIME-WAIT"])


def test_blocking_connection_that_was_closed_or_whose_host_was_does_not_warn() -> None:
    gc.collect()  # what earlier tests have forgotten is theirs
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", ResourceWarning)
        with two_blocking() as (left, right):
            listener = right.listen(("", PORT))
            with dial(left), answer(listener):
                pass
            kept = dial(left)
            answer(listener).close()
        del kept
        gc.collect()
    assert [str(warning.message) for warning in heard] == []


# -- the drop-in socket ------------------------------------------------------------------------------------------------


def test_socket_tells_where_it_was_connected_and_accepted_past_the_standard_library() -> None:
    with one_engine() as engine, us.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> Any:
            return listener.accept()[0]

        def call() -> Any:
            return us.create_connection(("127.0.0.1", port), PATIENCE)

        with call() as client, serve() as server:
            snapshot = engine.call(engine.stack.snapshot, 0)
            assert [row["opened_by"] for row in rows(snapshot, port, local=False)] == [line_of(call, 1)]
            assert [row["opened_by"] for row in rows(snapshot, port, local=True)] == [line_of(serve, 1)]
            assert repr(client).endswith(f", opened at {line_of(call, 1)}>")
            assert repr(server).endswith(f", opened at {line_of(serve, 1)}>")
            assert "opened" not in repr(us.socket())


def test_socket_that_is_garbage_warns_with_its_place() -> None:
    with one_engine(), us.create_server(("127.0.0.1", 0)) as listener:
        client = us.create_connection(listener.getsockname(), PATIENCE)
        with client:
            held = [listener.accept()[0]]
            with pytest.warns(ResourceWarning, match=r"unclosed <usertcp.socket.socket fd=.* opened at .*its_place"):
                held.clear()


def test_socket_that_had_nothing_to_read_is_not_kept_by_the_error_that_said_so() -> None:
    with (
        one_engine(),
        us.create_server(("127.0.0.1", 0)) as listener,
        us.create_connection(listener.getsockname(), PATIENCE) as client,
    ):
        held = [listener.accept()[0]]
        held[0].setblocking(False)
        gc.disable()
        try:
            with suppress(BlockingIOError):
                held[0].recv(1)
            with pytest.warns(ResourceWarning, match="unclosed"):
                held.clear()
        finally:
            gc.enable()
        assert client.recv(1) == b""


def test_socket_accepted_in_another_process_tells_where_its_listener_was_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("usertcp.driver.entries.place_of", lambda ident: None)
    with one_engine() as engine, us.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def opened_by() -> str:
            found = rows(engine.call(engine.stack.snapshot, 0), port, local=True)
            return " ".join(row["opened_by"] for row in found if row["state"] == "ESTABLISHED")

        with us.create_connection(("127.0.0.1", port), PATIENCE), listener.accept()[0]:
            assert opened_by().endswith(" test_socket_accepted_in_another_process_tells_where_its_listener_was_opened")
            before = opened_by()
        until(lambda: not opened_by())
        monkeypatch.setattr("usertcp.driver.endpoint.DEVELOPMENT", True)
        with us.create_connection(("127.0.0.1", port), PATIENCE), listener.accept()[0]:
            assert opened_by() not in ("", before)


def test_place_of_a_message_is_short_and_harmless() -> None:
    assert origin.brief("/tmp/\x1b[31m:1 é\n") == "/tmp/\\x1b[31m:1 \\xe9\\n"
    assert len(origin.brief("x" * 5000)) == origin.BRIEF
    assert origin.brief(origin.brief("/a.py:1 f")) == "/a.py:1 f"


def test_socket_with_a_small_buffer_and_a_long_place_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usertcp.driver.endpoint.here", lambda: "\\" * 5000)
    with one_engine(), us.create_server(("127.0.0.1", 0)) as listener, us.socket() as client:
        client.setsockopt(us.SOL_SOCKET, us.SO_SNDBUF, 1)
        client.settimeout(PATIENCE)
        client.connect(listener.getsockname())


# -- asyncio -----------------------------------------------------------------------------------------------------------


def test_aio_connection_tells_where_it_was_opened_and_where_its_server_was() -> None:
    async def main() -> None:
        async with two_aio() as (left, right, _):
            peers: list[asyncio.StreamWriter] = []

            async def serve() -> aio.Server:
                return await right.start_server(lambda _, writer: peers.append(writer), None, PORT)

            async def call() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
                return await left.open_connection(RIGHT, PORT, happy_eyeballs_delay=1)

            server = await serve()
            _, writer = await call()
            while not peers:
                await asyncio.sleep(0)
            assert [row["opened_by"] for row in rows(left.stack.snapshot(0), PORT, local=False)] == [line_of(call, 1)]
            assert [row["opened_by"] for row in rows(right.stack.snapshot(0), PORT, local=True)] == [line_of(serve, 1)]
            assert f"opened at {line_of(call, 1)}" in repr(writer)
            server.close()

    run(main())


class Forgetful(asyncio.Protocol):
    """Keeps the connection when the peer has closed, and nobody keeps it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def eof_received(self) -> bool:
        return True


async def collected(reader: asyncio.StreamReader, size: int) -> None:
    """``size`` bytes come while the other end must not be collected; then the end of the stream, when it was."""
    await asyncio.sleep(0.01)
    gc.collect()
    await reader.readexactly(size)
    await asyncio.sleep(0.01)
    gc.collect()
    assert await reader.read() == b""


@pytest.mark.parametrize("late", [False, True], ids=["", "writing"])
def test_aio_transport_in_close_wait_that_is_garbage_warns_with_its_place_and_is_closed(late: bool) -> None:
    async def main() -> None:
        async with two_aio() as (left, right, _):
            server = await right.create_server(Forgetful, None, PORT)
            reader, writer = await left.open_connection(RIGHT, PORT)
            if late:
                while not (found := [conn for conn in right.stack.connections() if conn.user is not None]):
                    await asyncio.sleep(0)
                found[0].user.write(bytes(8_000_000))  # more than the buffers take: the transport waits for room
                del found
            writer.write_eof()
            while not any(conn.state.value == "CLOSE-WAIT" for conn in right.stack.connections()):
                await asyncio.sleep(0)
            with pytest.warns(ResourceWarning, match="unclosed <usertcp transport .* opened at .*main"):
                await collected(reader, 8_000_000 if late else 0)
            server.close()
            await server.wait_closed()
            writer.close()

    run(main())


# -- places ------------------------------------------------------------------------------------------------------------


def test_place_of_a_module_that_is_run_by_itself_is_the_nearest_frame() -> None:
    code = compile("def here(find):\n    return find()\n", origin._STANDARD + "made_up.py", "exec")
    names: dict[str, Any] = {}
    exec(code, names)
    assert str(names["here"](origin.here)).startswith(__file__)
    assert origin._is_wrapper(origin._STANDARD + "http/client.py")
    assert not origin._is_wrapper(origin._STANDARD + "site-packages/requests/api.py")
    assert origin._is_wrapper("<frozen runpy>")
    assert not origin._is_wrapper("<stdin>")
    assert origin._is_wrapper(str(blocking.__file__))
    assert not origin._is_wrapper(str(bench.__file__))
