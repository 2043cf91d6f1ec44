"""usertcp.socket on a TAP against the kernel's TCP: bulk, programs of the standard library, curl, TLS, resets."""

import asyncio
import errno
import hashlib
import http.client
import http.server
import os
import random
import socket as kernel
import socketserver
import ssl
import struct
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

import usertcp.socket as us
from tests.netns.peer import blocks, digest
from tests.netns.plugged import KERNEL, STACK, descriptors, until
from tests.netns.programs import PATIENCE, Peer, folder_of, nginx, which
from usertcp.link import netns

SIZE = 20_000_000
SEED = 11


@pytest.fixture(scope="module")
def engine() -> Iterator[us.Engine]:
    threads, files = threading.active_count(), descriptors()
    with us.engine() as made:
        assert (made.address, made.kernel_address) == (STACK, KERNEL)
        yield made
    assert until(lambda: threading.active_count() <= threads and descriptors() <= files)


@pytest.fixture
def space(engine: us.Engine) -> str:
    assert engine.netns is not None
    return engine.netns


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with one file of 20 MB."""
    return folder_of(tmp_path / "files", SIZE, SEED)


def kernel_listener(space: str) -> kernel.socket:
    with netns.inside(space):
        return kernel.create_server((KERNEL, 0))


def exchange(sock: us.socket, size: int, seed: int) -> tuple[int, str]:
    """Send ``size`` bytes and a FIN, read until the end at once; how many and their SHA-256."""

    def send() -> None:
        for block in blocks(size, seed):
            sock.sendall(block)
        sock.shutdown(us.SHUT_WR)

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        count, total = 0, hashlib.sha256()
        while data := sock.recv(1 << 18):
            count += len(data)
            total.update(data)
        sending.result(PATIENCE)
    return count, total.hexdigest()


def test_bulk_both_ways_at_once_client(space: str) -> None:
    with Peer(space, "exchange", KERNEL, 0, "--listen", "--send", SIZE, "--seed", 1) as peer:
        with us.create_connection((KERNEL, peer.ready().port), PATIENCE) as sock:
            assert exchange(sock, SIZE, 2) == (SIZE, digest(SIZE, 1))
        report = peer.report()
    assert (report["received"], report["sha256"]) == (SIZE, digest(SIZE, 2))


def test_bulk_both_ways_at_once_server(space: str) -> None:
    with us.create_server((STACK, 0)) as listener:
        port = listener.getsockname()[1]
        with Peer(space, "exchange", STACK, port, "--connect", "--send", SIZE, "--seed", 3) as peer:
            listener.settimeout(PATIENCE)
            sock, _ = listener.accept()
            with sock:
                assert exchange(sock, SIZE, 4) == (SIZE, digest(SIZE, 3))
            report = peer.report()
    assert (report["received"], report["sha256"]) == (SIZE, digest(SIZE, 4))


def test_http_server_of_the_standard_library_serves_curl(
    space: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socketserver, "socket", us)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((STACK, 0), partial(Quiet, directory=str(files))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        target = tmp_path / "got"
        try:
            with netns.inside(space):
                command = [which("curl"), "-sSf", "--max-time", "60", "-o", str(target)]
                subprocess.run([*command, f"http://{STACK}:{server.server_port}/data"], check=True, timeout=PATIENCE)
        finally:
            server.shutdown()
            thread.join(PATIENCE)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == digest(SIZE, SEED)


def test_urllib_and_http_client_fetch_from_nginx(
    space: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "create_connection", us.create_connection)
    with nginx(space, tmp_path / "nginx", files, KERNEL, 8080):
        with urllib.request.urlopen(f"http://{KERNEL}:8080/data", timeout=PATIENCE) as answer:
            assert hashlib.sha256(answer.read()).hexdigest() == digest(SIZE, SEED)
        client = http.client.HTTPConnection(KERNEL, 8080, timeout=PATIENCE)
        for _ in range(20):
            client.request("GET", "/data", headers={"Range": "bytes=0-99999"})
            assert len(client.getresponse().read()) == 100_000
        client.close()


def test_tls_both_roles_with_the_kernel(space: str, tmp_path: Path) -> None:
    certificate = tmp_path / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=usertcp", "-addext", "subjectAltName=DNS:usertcp"]
    subprocess.run(
        [*command, "-keyout", f"{certificate}.key", "-out", f"{certificate}.crt"],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    certificate.write_text(Path(f"{certificate}.key").read_text() + Path(f"{certificate}.crt").read_text())
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    asking = ssl.create_default_context(cafile=str(certificate))
    data = random.Random(SEED).randbytes(2_000_000)

    def serve(listener: kernel.socket) -> None:
        sock, _ = listener.accept()
        with serving.wrap_socket(sock, server_side=True) as tls:
            got = bytearray()
            while len(got) < len(data):
                got += tls.recv(1 << 16)
            tls.sendall(got[::-1])
            tls.recv(1)

    def ask(sock: kernel.socket) -> bytes:
        with asking.wrap_socket(sock, server_hostname="usertcp") as tls:
            tls.sendall(data)
            got = bytearray()
            while len(got) < len(data):
                got += tls.recv(1 << 16)
            return bytes(got)

    with ThreadPoolExecutor(1) as pool:
        with kernel_listener(space) as listener:
            done = pool.submit(serve, listener)
            assert ask(us.create_connection(listener.getsockname(), PATIENCE)) == data[::-1]
            done.result(PATIENCE)
        with us.create_server((STACK, 0)) as ours:
            done = pool.submit(serve, ours)
            with netns.inside(space):
                sock = kernel.create_connection(ours.getsockname(), PATIENCE)
            assert ask(sock) == data[::-1]
            done.result(PATIENCE)


def test_asyncio_server_answers_many_kernel_clients(space: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        listener = us.create_server((STACK, 0), backlog=100)
        async with await asyncio.start_server(serve, sock=listener, backlog=100):
            port = listener.getsockname()[1]
            options = ("--count", 100, "--together", 20, "--size", 20_000)
            with Peer(space, "clients", STACK, port, *options) as clients:
                await asyncio.to_thread(clients.report)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


@pytest.mark.rfc(9293, "MUST-12")
@pytest.mark.rfc(9293, "X-12")
def test_kernel_reset_and_refusal_raise_what_linux_raises(space: str) -> None:
    with kernel_listener(space) as listener:
        address = listener.getsockname()
        with us.create_connection(address, PATIENCE) as sock:
            other, _ = listener.accept()
            other.sendall(b"queued")
            assert sock.recv(3, us.MSG_PEEK | us.MSG_WAITALL) == b"que"
            other.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, struct.pack("ii", 1, 0))
            other.close()
            assert sock.recv(100) == b"queued"
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
            assert sock.recv(1) == b""
            with pytest.raises(BrokenPipeError):
                sock.send(b"x")
    with pytest.raises(ConnectionRefusedError):
        us.create_connection(address, PATIENCE)


@pytest.mark.rfc(9293, "SHLD-3")
@pytest.mark.rfc(9293, "MUST-12")
def test_close_tells_the_kernel_a_fin_or_a_reset(space: str) -> None:
    with kernel_listener(space) as listener:
        listener.settimeout(PATIENCE)
        for unread, expected in ((False, ""), (True, "ECONNRESET")):
            sock = us.create_connection(listener.getsockname(), PATIENCE)
            other, _ = listener.accept()
            other.settimeout(PATIENCE)
            with other:
                sock.sendall(b"all of it")
                if unread:
                    other.sendall(b"unread")
                    sock.recv(1)
                assert other.recv(100) == b"all of it"
                sock.close()
                try:
                    assert other.recv(100) == b""
                    got = ""
                except OSError as error:
                    got = errno.errorcode[error.errno or 0]
            assert got == expected


@pytest.mark.rfc(9293, "MUST-30")
@pytest.mark.rfc(9293, "MUST-31")
@pytest.mark.rfc(6093, "§4")
def test_urgent_byte_is_out_of_band_at_the_kernel_and_comes_from_it_so(space: str) -> None:
    with (
        kernel_listener(space) as listener,
        us.create_connection(listener.getsockname(), PATIENCE) as sock,
        listener.accept()[0] as other,
    ):
        other.settimeout(PATIENCE)
        sides: list[tuple[kernel.socket, kernel.socket]] = [(sock, other), (other, sock)]
        for sender, receiver in sides:
            sender.sendall(b"before")
            sender.send(b"!", kernel.MSG_OOB)
            sender.sendall(b"after")
            sender.shutdown(kernel.SHUT_WR)
            assert until(lambda end=receiver: urgent(end) == b"!")  # type: ignore[misc]
            assert b"".join(iter(lambda end=receiver: end.recv(100), b"")) == b"beforeafter"  # type: ignore[misc]


def urgent(sock: kernel.socket) -> bytes:
    """The urgent byte; nothing if none is there yet."""
    try:
        return sock.recv(1, kernel.MSG_OOB)
    except (BlockingIOError, OSError):
        return b""


def test_close_at_once_after_a_burst_delivers_it_to_a_slow_kernel(space: str) -> None:
    data = os.urandom(3_000_000)
    with kernel_listener(space) as listener:
        listener.setsockopt(kernel.SOL_SOCKET, kernel.SO_RCVBUF, 20_000)
        sock = us.create_connection(listener.getsockname(), PATIENCE)
        other, _ = listener.accept()
        other.settimeout(PATIENCE)
        with other, ThreadPoolExecutor(1) as pool:

            def send_and_close() -> None:
                sock.sendall(data)
                sock.close()

            done = pool.submit(send_and_close)
            got = bytearray()
            while part := other.recv(1 << 16):
                got += part
            done.result(PATIENCE)
        assert got == data


def test_peer_that_the_kernel_sees_has_our_options(space: str) -> None:
    with kernel_listener(space) as listener, us.socket() as sock:
        sock.setsockopt(us.IPPROTO_TCP, us.TCP_MAXSEG, 1000)
        sock.bind((STACK, 0))
        sock.connect(listener.getsockname())
        other, peer = listener.accept()
        with other:
            assert peer == sock.getsockname()
            assert other.getsockopt(kernel.IPPROTO_TCP, kernel.TCP_MAXSEG) == 988  # less the timestamps
            assert sock.getsockopt(us.IPPROTO_TCP, us.TCP_INFO, 248)[0] == 1
