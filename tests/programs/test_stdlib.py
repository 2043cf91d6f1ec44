"""Programs of the standard library: socketserver, TLS, multiprocessing.connection, a socket that a child inherits."""

import subprocess
from pathlib import Path

import pytest

from tests.netns.plugged import STACK
from tests.netns.programs import PATIENCE, Program, wait_for_listener, which
from tests.programs.wire import Wire

SOCKETSERVER = """
import shutil, signal, socketserver, sys
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.wfile.write(data)
class Server(getattr(socketserver, sys.argv[1])):
    request_queue_size = 50
    allow_reuse_address = True
with Server(("10.9.0.2", int(sys.argv[2])), Echo) as server:
    print("ready", flush=True)
    server.serve_forever(0.1)
"""


@pytest.mark.parametrize(("kind", "port"), [("ThreadingTCPServer", 8010), ("ForkingTCPServer", 8011)])
def test_socketserver_answers_many_clients(wire: Wire, folder: Path, kind: str, port: int) -> None:
    with wire.serving(folder, SOCKETSERVER, kind, port):
        assert wire.echoes(port)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and its certificate, for the addresses of both sides, in one file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=both", "-addext", f"subjectAltName=IP:{STACK},IP:10.9.0.1"]
    subprocess.run(
        [*command, "-keyout", f"{path}.key", "-out", f"{path}.crt"], check=True, capture_output=True, timeout=60
    )
    path.write_text(Path(f"{path}.key").read_text() + Path(f"{path}.crt").read_text())
    return path


TLS_SERVER = """
import http.server, ssl, sys
class Big(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(bytes(3_000_000))
    def log_message(self, *_):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
with http.server.ThreadingHTTPServer(("10.9.0.2", 8012), Big) as server:
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print("ready", flush=True)
    server.serve_forever(0.1)
"""


def test_tls_server_by_wrap_socket_serves_curl(wire: Wire, folder: Path, certificate: Path) -> None:
    with wire.serving(folder, TLS_SERVER, certificate):
        assert wire.curl("--cacert", certificate, f"https://{STACK}:8012/") == bytes(3_000_000)


TLS_CLIENT = """
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
with socket.create_connection(("10.9.0.1", 8443), 60) as sock:
    with context.wrap_socket(sock, server_hostname="10.9.0.1") as tls:
        tls.sendall(b"GET /data HTTP/1.0\\r\\n\\r\\n")
        got = b"".join(iter(lambda: tls.recv(65536), b""))
        print(tls.version(), tls.getpeername(), len(got.partition(b"\\r\\n\\r\\n")[2]))
"""


def test_tls_client_by_wrap_socket_talks_to_openssl(wire: Wire, folder: Path, certificate: Path) -> None:
    (folder / "data").write_bytes(bytes(3_000_000))
    server: list[str | Path] = [
        which("openssl"),
        "s_server",
        "-accept",
        "10.9.0.1:8443",
        "-cert",
        certificate,
        "-WWW",
        "-quiet",
    ]
    command: list[str | Path] = ["sh", "-c", 'cd "$0" && exec "$@"', folder, *server]
    with Program(wire.space, command, stdout=subprocess.DEVNULL) as program:
        wait_for_listener(wire.space, "10.9.0.1", 8443, program)
        assert wire.output(folder, TLS_CLIENT, certificate) == "TLSv1.3 ('10.9.0.1', 8443) 3000000\n"


CONNECTION = """
import multiprocessing, sys
from multiprocessing.connection import Client, Listener
def child(address):
    with Client(address, authkey=b"secret") as client:
        client.send({"numbers": list(range(200_000))})
        print(client.recv())
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with Listener(("127.0.0.1", 0), authkey=b"secret") as listener:
        process = multiprocessing.Process(target=child, args=(listener.address,))
        process.start()
        with listener.accept() as connection:
            connection.send((sum(connection.recv()["numbers"]), listener.last_accepted[0]))
        process.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_connection_over_tcp(wire: Wire, folder: Path, method: str) -> None:
    assert wire.output(folder, CONNECTION, method) == f"({sum(range(200_000))}, '127.0.0.1')\n"


INHERITED = """
import socket, subprocess, sys
child = '''
import socket, sys
with socket.socket(fileno=int(sys.argv[1])) as sock:
    print(sock.getpeername()[0], sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO) & 0xFF, file=sys.stderr)
    while data := sock.recv(65536):
        sock.sendall(data)
'''
with socket.create_server(("10.9.0.2", 8013), backlog=50) as listener:
    print("ready", flush=True)
    for command in (["cat"], [sys.executable, "-c", child]):
        sock, _ = listener.accept()
        with sock:
            if command == ["cat"]:
                subprocess.run(command, stdin=sock, stdout=sock, check=True)
            else:
                said = subprocess.run([*command, str(sock.fileno())], pass_fds=[sock.fileno()], stderr=-1, check=True)
                assert said.stderr in (b"10.9.0.1 1\\n", b"10.9.0.1 8\\n"), said  # CLOSE_WAIT: the peer was quick
    with listener:
        server = "import socket; sock, _ = socket.socket(fileno=0).accept(); sock.sendall(sock.recv(100))"
        subprocess.run([sys.executable, "-c", server], stdin=listener, check=True)
"""


def test_socket_that_a_child_inherits_is_a_connection_there(wire: Wire, folder: Path) -> None:
    with wire.program(folder, INHERITED) as program:
        assert program.line() == b"ready\n"
        for _ in range(2):
            assert wire.echoes(8013, count=1, together=1, size=1_000_000)
        assert wire.echoes(8013, count=1, together=1, size=50)
        program.finish(timeout=PATIENCE)
