"""The subcommands at work: up and down, ss, ping, http-serve with many clients, get with redirects, lab and demo."""

import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.netns.programs import PATIENCE, ROOT, Program, usertcp
from tests.netns.tenants import among_no_other_names
from usertcp.link import netns, pcap, provision

KERNEL, STACK = "10.9.0.1", "10.9.0.2"
WORLD, HOST = "192.0.2.1", "192.0.2.5"
MEGABYTE = 1_000_000


@pytest.fixture
def space() -> Iterator[str]:
    with provision.Namespace.create() as made:
        yield made.name


def works(*arguments: str | int | float | Path, code: int = 0) -> str:
    """What a command line that must end with ``code`` said on stdout."""
    done = subprocess.run(
        usertcp(*map(str, arguments)), check=False, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def everything(space: str) -> str:
    """The devices, addresses, routes and packet rules of a namespace, as the system's tools list them."""
    commands = (
        ["ip", "-o", "address"],
        ["ip", "route", "show", "table", "all"],
        ["nft", "list", "ruleset"],
        ["sysctl", "-a", "-r", "forwarding"],
    )
    with netns.inside(space):
        text = "".join(subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in commands)
    return re.sub(r"valid_lft.*", "", text)


@pytest.fixture
def two(space: str) -> Iterator[tuple[str, str]]:
    """A host with an uplink, and the world behind it, which knows no way back to the host's TAPs."""
    with (
        provision.Namespace.create() as world,
        provision.create_veth(
            "up0", "eth0", netns=space, peer_netns=world.name, address=f"{HOST}/24", peer_address=f"{WORLD}/24"
        ),
    ):
        yield space, world.name


@pytest.mark.parametrize("mode", ["nat", "bridge"])
def test_up_a_remote_host_answers_and_down_leaves_everything_as_before(two: tuple[str, str], mode: str) -> None:
    host, world = two
    before = everything(host)
    told = works("up", f"--{mode}", "--netns", host, "--uplink", "up0")
    assert "usertcp0 is up" in told
    options: list[str] = ["--tap", "usertcp0", "--netns", host]
    if mode == "bridge":
        options += ["--address", "192.0.2.77/24", "--gateway", WORLD]
    assert "2 received" in works("ping", "-c", 2, "-i", 0.1, *options, WORLD)
    with netns.inside(world):
        server = socket.create_server((WORLD, 80))
    with server:
        answering = threading.Thread(target=answer, args=(server,))
        answering.start()
        assert works("get", *options, f"http://{WORLD}/") == "hello, user space"
        answering.join()
    assert works("down", "--tap", "usertcp0", "--netns", host) == "usertcp0 is down\n"
    assert everything(host) == before


def answer(server: socket.socket) -> None:
    """One HTTP answer without a length: the end of the connection ends it."""
    client, _ = server.accept()
    with client:
        client.recv(65536)
        client.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello, user space")


def test_up_twice_is_refused_with_what_to_type_and_the_first_stays(two: tuple[str, str]) -> None:
    host, _ = two
    works("up", "--netns", host, "--uplink", "up0")
    up = usertcp("up", "--netns", host, "--uplink", "up0")
    done = subprocess.run(up, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"usertcp down --tap usertcp0 --netns {host}" in done.stderr
    assert provision.link_exists("usertcp0", host)
    works("down", "--netns", host)


def test_down_removes_what_a_killed_run_left() -> None:
    def work() -> None:
        with Program(None, usertcp("nc", "-l", 7000)) as nc:
            assert b"listening" in nc.remark()
        assert [name.startswith(f"usertcp-{nc.process.pid}-") for name in netns.names()] == [True]
        works("down")
        assert netns.names() == []

    among_no_other_names(work)


# -- the kernel's own address --------------------------------------------------------------------------------------


@pytest.fixture
def shared(two: tuple[str, str]) -> tuple[str, list[str | int]]:
    """The world's namespace, and the options that share the host's address on the wire to it."""
    host, world = two
    return world, ["--packet", "up0", "--netns", host]


def test_http_serve_on_the_hosts_address_is_reached_at_its_usual_port(
    shared: tuple[str, list[str | int]], tmp_path: Path
) -> None:
    world, options = shared
    (tmp_path / "file").write_bytes(b"content")
    with Program(None, usertcp("http-serve", tmp_path, *options)) as server:
        assert b"8000, from other hosts on the wire of up0" in server.remark()
        with netns.inside(world):
            client = socket.create_connection((HOST, 8000), PATIENCE)
        with client, client.makefile("rb") as file:
            client.sendall(b"GET /file HTTP/1.0\r\n\r\n")
            assert file.read().endswith(b"\r\n\r\ncontent")


def test_several_stacks_on_the_hosts_address_beside_programs_of_the_host(shared: tuple[str, list[str | int]]) -> None:
    _, options = shared
    with netns.inside(str(options[3])):
        server = socket.create_server(("0.0.0.0", 62000))
    with server, Program(None, usertcp("nc", "-l", *options, 62001)) as nc:
        assert b"listening" in nc.remark()
        with Program(None, usertcp("ping", *options, WORLD)) as pinging:
            assert b"PING" in pinging.line()
            assert "1 received" in works("ping", "-c", 1, *options, WORLD)


def test_reader_of_what_is_received_has_gone_is_no_fault_of_the_peer(redirecting: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = usertcp("get", "--netns", redirecting, f"http://{KERNEL}:8080/end")
    done = subprocess.run(
        command, check=False, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=PATIENCE
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_ss_shows_the_listener_and_the_connection_of_a_running_stack(space: str) -> None:
    with Program(None, usertcp("nc", "-l", "--netns", space, 7000)) as nc:
        assert b"listening" in nc.remark()
        name = f"usertcp-{nc.process.pid}"
        (listener,) = json.loads(works("ss", "--json", name))[name]
        assert (listener["state"], listener["local"][1]) == ("LISTEN", 7000)
        with netns.inside(space):
            client = socket.create_connection((STACK, 7000), PATIENCE)
        with client:
            client.sendall(b"hello")
            assert nc.process.stdout is not None
            assert nc.process.stdout.read(5) == b"hello"
            rows = json.loads(works("ss", "--json", name))[name]
            (conn,) = [row for row in rows if row["state"] == "ESTABLISHED"]
            assert conn["bytes_received"] == 5
            table = works("ss", name)
            assert "ESTABLISHED" in table
            assert f"{STACK}:7000" in table
            assert json.loads(works("ss", "--stats", "--json", name))[name]["segments_in"] >= 3
            assert "segments_in" in works("ss", "--stats", name)
        nc.finish(b"")
    works("ss", name, code=1)


def test_ping_counts_and_sums_up() -> None:
    lines = works("ping", "-c", 3, "-i", 0.05, "-s", 1000, KERNEL).splitlines()
    assert (
        len([line for line in lines if re.fullmatch(rf"1000 bytes from {KERNEL}: seq=\d ttl=64 time=.* ms", line)]) == 3
    )
    assert lines[-2] == f"--- {KERNEL}: 3 sent, 3 received, 0% lost"


def test_ping_nobody_answers_exits_1() -> None:
    assert "1 sent, 0 received, 100% lost" in works("ping", "-c", 1, "-W", 0.2, "10.9.0.77", code=1)


def test_tun_instead_of_a_tap_works_as_well(space: str) -> None:
    assert "1 received" in works("ping", "-c", 1, "--tun", "tun0", "--netns", space, KERNEL)


def test_pcap_records_what_crossed(tmp_path: Path) -> None:
    file = tmp_path / "ping.pcap"
    works("ping", "-c", 1, "--pcap", file, KERNEL)
    with open(file, "rb") as stream:
        kinds = [frame[12:14] for _, frame in pcap.Reader(stream)]
    assert kinds.count(b"\x08\x06") >= 2
    assert kinds.count(b"\x08\x00") == 2


def test_http_serve_a_hundred_clients_at_once_all_get_the_file(space: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * (MEGABYTE // 256)
    (tmp_path / "file").write_bytes(content)

    def fetch(number: int) -> bool:
        with netns.inside(space):
            client = socket.create_connection((STACK, 8000), PATIENCE)
        with client:
            client.sendall(f"GET /file?{number} HTTP/1.0\r\n\r\n".encode())
            with client.makefile("rb") as file:
                return file.read().partition(b"\r\n\r\n")[2] == content

    with Program(None, usertcp("http-serve", tmp_path, "--netns", space, "--quiet")) as server:
        assert b"serving" in server.remark()
        with ThreadPoolExecutor(100) as pool:
            assert all(pool.map(fetch, range(100)))
        assert server.process.poll() is None


def test_http_serve_several_requests_on_one_connection_and_one_for_nothing(space: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with Program(None, usertcp("http-serve", tmp_path, "--netns", space)) as server:
        assert b"serving" in server.remark()
        with netns.inside(space):
            client = socket.create_connection((STACK, 8000), PATIENCE)
        with client, client.makefile("rwb") as file:
            for path, status, size in (("file", b"200", b"7"), ("file", b"200", b"7"), ("none", b"404", b"")):
                file.write(f"GET /{path} HTTP/1.1\r\nHost: {STACK}\r\n\r\n".encode())
                file.flush()
                assert status in file.readline()
                headers = dict(line.rstrip().split(b": ", 1) for line in iter(file.readline, b"\r\n"))
                if size:
                    assert headers[b"Content-Length"] == size
                file.read(int(headers[b"Content-Length"]))


class Redirecting(BaseHTTPRequestHandler):
    """/start leads to /end by way of another; /loop leads to itself; /short promises more than it sends."""

    def do_GET(self) -> None:
        targets = {"/start": "middle", "/middle": f"http://{KERNEL}:8080/end?of=it", "/loop": "/loop"}
        if self.path in targets:
            self.send_response(302)
            self.send_header("Location", targets[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = b"the end" if self.path.startswith("/end") else b"too little"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + 90 * (self.path == "/short")))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def redirecting(space: str) -> Iterator[str]:
    """A server in ``space`` that redirects, and a TAP to it."""
    with provision.create_tap("tap0", netns=space, address=f"{KERNEL}/24"):
        with netns.inside(space):
            server = HTTPServer((KERNEL, 8080), Redirecting)
        with server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield space
            server.shutdown()
            thread.join()


def test_get_follows_redirects_relative_and_absolute(redirecting: str) -> None:
    assert works("get", "--netns", redirecting, f"http://{KERNEL}:8080/start") == "the end"


def test_get_redirected_in_a_circle_gives_up(redirecting: str) -> None:
    works("get", "--netns", redirecting, f"http://{KERNEL}:8080/loop", code=1)


def test_get_answer_cut_short_leaves_no_file(redirecting: str, tmp_path: Path) -> None:
    works("get", "--netns", redirecting, "-o", tmp_path / "file", f"http://{KERNEL}:8080/short", code=1)
    assert list(tmp_path.iterdir()) == []


def test_lab_draws_and_records_each_run_under_its_own_name(tmp_path: Path) -> None:
    text = works("lab", "handshake", "--svg", tmp_path / "picture.svg", "--pcap", tmp_path / "wire.pcap")
    assert "2 runs, all hold" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "picture-handshake-client.svg",
        "picture-handshake-server.svg",
        "wire-handshake-client.pcap",
        "wire-handshake-server.pcap",
    ]
    works("lab", "handshake", "--role", "client", "--svg", tmp_path / "one.svg")
    assert (tmp_path / "one.svg").read_text().startswith("<svg ")


def test_demo_prints_the_ladder_and_holds() -> None:
    text = works("demo")
    assert "✗" not in text
    assert "10,000,000 bytes, SHA-256 as sent" in text
    for state in (
        "SYN-SENT",
        "SYN-RECEIVED",
        "ESTABLISHED",
        "FIN-WAIT-1",
        "FIN-WAIT-2",
        "CLOSE-WAIT",
        "LAST-ACK",
        "TIME-WAIT",
    ):
        assert state in text
