"""usertcp.patch() and install(): our methods in place on the standard class, whoever holds it; as before afterwards."""

import asyncio
import gc
import multiprocessing
import os
import pickle
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import usertcp
import usertcp.socket as us
from tests.api.hosts import PATIENCE
from tests.api.sockets import one_engine
from usertcp.patching import bypass

HELD_BEFORE = socket.socket  # as by a module that was imported first


class OfTheirOwn(socket.socket):
    """A subclass that was there before the patch, and has room for nothing."""

    __slots__ = ()


@pytest.fixture
def patched() -> Iterator[us.Engine]:
    with one_engine() as engine, usertcp.patch():
        yield engine


def is_ours(sock: Any) -> bool:
    return getattr(sock, "_tcp", None) is not None


def connected(made: type[socket.socket] = HELD_BEFORE) -> tuple[socket.socket, socket.socket]:
    with made() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = socket.create_connection(listener.getsockname(), PATIENCE)
        accepted, _ = listener.accept()
    accepted.settimeout(PATIENCE)
    return client, accepted


def test_every_way_to_a_tcp_socket_makes_ours_and_its_type_stays(patched: us.Engine) -> None:
    client, accepted = connected()
    with client, accepted:
        assert type(client) is type(accepted) is HELD_BEFORE is socket.socket
        copies = [client.dup(), socket.fromfd(client.fileno(), socket.AF_INET, socket.SOCK_STREAM)]
        for sock in (client, accepted, *copies):
            assert is_ours(sock)
        assert copies[1].getpeername() == client.getpeername() == accepted.getsockname()
        assert copies[0]._tcp is client._tcp  # type: ignore[attr-defined]
        for copy in copies:
            copy.close()
        client.sendall(b"over the stack")
        assert accepted.recv(100) == b"over the stack"
        assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO) == 1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", 9))


def test_what_is_not_tcp_stays_the_kernels(patched: us.Engine) -> None:
    one, other = socket.socketpair()
    with one, other, socket.socket(type=socket.SOCK_DGRAM) as udp:
        assert not any(map(is_ours, (one, other, udp)))
        udp.bind(("127.0.0.1", 0))
        one.sendall(b"x")
        assert other.recv(1) == b"x"


def test_subclass_that_was_there_before_is_ours_too(patched: us.Engine) -> None:
    with OfTheirOwn() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with OfTheirOwn() as client:
            client.connect(listener.getsockname())
            assert is_ours(client)
            accepted, peer = listener.accept()
            accepted.close()
            assert peer == client.getsockname()


def test_afterwards_the_module_is_exactly_as_before() -> None:
    before = dict(vars(socket.socket)), dict(vars(socket))
    with one_engine(), usertcp.patch(), usertcp.patch():
        client, accepted = connected()
        with socket.socket() as fresh:
            assert is_ours(fresh)
    assert (dict(vars(socket.socket)), dict(vars(socket))) == before
    with socket.socket() as fresh:
        assert not hasattr(fresh, "_tcp")
        fresh.bind(("127.0.0.1", 0))  # the kernel's
    client.close()
    accepted.close()


def test_socket_from_before_stays_the_kernels() -> None:
    with socket.socket() as early:
        with one_engine(), usertcp.patch():
            assert not is_ours(early)
            early.bind(("127.0.0.1", 0))
            early.listen()
            assert early.getsockname()[0] == "127.0.0.1"
        with socket.create_connection(early.getsockname(), PATIENCE) as client:
            accepted, peer = early.accept()
            accepted.close()
            assert peer == client.getsockname()


def test_block_ends_by_an_exception_and_restores() -> None:
    before = socket.socket.__init__
    with pytest.raises(ZeroDivisionError), one_engine(), usertcp.patch():
        raise ZeroDivisionError
    assert socket.socket.__init__ is before


def test_threads_may_patch_at_once() -> None:
    before = dict(vars(socket.socket))
    start = threading.Barrier(4)

    def work(_: int) -> bool:
        start.wait(PATIENCE)
        with usertcp.patch():
            client, accepted = connected()
            with client, accepted:
                return is_ours(client)

    with one_engine(), ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [True] * 4
    assert dict(vars(socket.socket)) == before


def test_state_beside_an_object_goes_with_it(patched: us.Engine) -> None:
    beside = vars(socket.socket)["_tcp"]
    gc.collect()  # what earlier tests have left
    before = len(beside._kept)
    for _ in range(20):
        socket.socket().close()
    with socket.socket():
        assert len(beside._kept) == before + 1
    assert len(beside._kept) == before


def test_tls_both_roles_by_the_standard_ssl_module(patched: us.Engine, certificate: Path) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    asking = ssl.create_default_context(cafile=str(certificate))
    client, accepted = connected()
    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(serving.wrap_socket, accepted, server_side=True)
        with asking.wrap_socket(client, server_hostname="localhost") as here, served.result(PATIENCE) as there:
            assert is_ours(here)
            assert here.getpeername() == there.getsockname()
            here.sendall(b"x" * 100_000)
            got = b""
            while len(got) < 100_000:
                got += there.recv(1 << 16)
            assert got == b"x" * 100_000


def test_asyncio_streams_are_ours(patched: us.Engine) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def main() -> bytes:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert is_ours(writer.get_extra_info("socket")._sock)
            writer.write(b"there and back\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) == b"there and back\n"


def test_socket_passed_to_another_process_is_ours_there(patched: us.Engine) -> None:
    client, accepted = connected()
    with client, accepted:
        context = multiprocessing.get_context("fork")
        process = context.Process(target=_send_name, args=(client,))
        process.start()
        got = b""
        while not got.endswith(b"\n"):
            got += accepted.recv(100)
        process.join(PATIENCE)
        assert process.exitcode == 0
        assert pickle.loads(got[:-1]) == client.getsockname()


def _send_name(sock: socket.socket) -> None:
    sock.sendall(pickle.dumps(sock.getsockname()) + b"\n")


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, **environment},
    )


INSTALLED = """
import socket, threading
import usertcp
from usertcp.link.memory import memory_pair
from usertcp.net.stack import Stack, StackConfig
import usertcp.socket as us, os
link, _ = memory_pair()
us.Engine(Stack(StackConfig(addresses=("10.0.0.1/24",)), link.caps, os.urandom), link).__enter__()
usertcp.install()
usertcp.install()
with socket.create_server(("10.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
    print(client.getpeername()[0])
"""


def test_install_lasts_until_the_program_ends() -> None:
    done = run(INSTALLED)
    assert (done.stdout, done.stderr, done.returncode) == ("10.0.0.1\n", "", 0)


def test_install_says_what_is_wrong_when_a_socket_needs_the_engine() -> None:
    done = run("import usertcp, socket\nusertcp.install(packet='nowhere0')\nsocket.create_connection(('10.0.0.1', 9))")
    assert done.returncode == 1
    assert any("SetupError" in line and not line.startswith(" ") for line in done.stderr.splitlines())


def test_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        usertcp.nothing  # noqa: B018


# -- what goes past it -------------------------------------------------------------------------------------------------


def loaded(name: str) -> str:
    """The file of an extension module."""
    found = __import__(name, fromlist=["x"]).__file__
    assert found is not None
    return str(found)


def test_extension_that_calls_socket_and_connect_is_found_by_its_file() -> None:
    assert bypass.opens_sockets(loaded("_socket"))
    assert not bypass.opens_sockets(loaded("numpy.linalg._umath_linalg"))


def test_file_that_is_no_extension_opens_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    for content in (b"", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 200, Path(loaded("_socket")).read_bytes()[:4000]):
        broken.write_bytes(content)
        assert not bypass.opens_sockets(str(broken))
    assert not bypass.opens_sockets(str(tmp_path / "nothing.so"))


def make_impostor(folder: Path, package: str) -> None:
    """A package whose extension is a copy of the interpreter's own _socket."""
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text("from . import _socket")
    extension = Path(loaded("_socket"))
    (folder / package / extension.name).write_bytes(extension.read_bytes())


@pytest.mark.parametrize("when", ["before", "after"])
def test_package_that_bypasses_is_named_loudly_and_once(tmp_path: Path, when: str) -> None:
    load = "import opener; del sys.modules['opener._socket'], sys.modules['opener']; import opener"
    patch = "usertcp.install()"
    first, second = (load, patch) if when == "before" else (patch, load)
    make_impostor(tmp_path, "opener")
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = run(f"import sys, usertcp\n{first}\n{second}", PYTHONPATH=paths)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("WARNING") == 1
    assert "usertcp: WARNING: opener opens sockets itself" in done.stderr
