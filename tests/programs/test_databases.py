"""redis-py against a real redis-server, pg8000 against a real PostgreSQL."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.programs import PATIENCE, Program, wait_for_listener, which
from tests.programs.wire import Wire

REDIS = """
import redis
client = redis.Redis("10.9.0.1", 6379, socket_timeout=60)
print(client.ping(), client.client_info()["addr"].split(":")[0])
client.set("large", bytes(3_000_000))
print(len(client.get("large")))
with client.pipeline() as pipe:
    for number in range(1000):
        pipe.incr("count")
    print(pipe.execute()[-1])
listener = client.pubsub()
listener.subscribe("news")
client.publish("news", "heard")
print([message["data"] for _ in range(2) if (message := listener.get_message(timeout=60))])
"""


def test_redis_py_talks_to_redis_server(wire: Wire, folder: Path) -> None:
    settings: list[str | Path] = [
        "--bind",
        "10.9.0.1",
        "--port",
        "6379",
        "--save",
        "",
        "--protected-mode",
        "no",
        "--dir",
        folder,
    ]
    with Program(wire.space, [which("redis-server"), *settings], stdout=subprocess.DEVNULL) as server:
        wait_for_listener(wire.space, "10.9.0.1", 6379, server)
        said = wire.output(folder, REDIS).splitlines()
    assert said == ["True 10.9.0.2", "3000000", "1000", "[1, b'heard']"]


def postgres(name: str) -> str:
    """A program of the newest PostgreSQL that Debian has installed."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    if not found:
        raise FileNotFoundError("PostgreSQL is not installed: scripts/setup tools installs it")
    return str(found[-1])


@pytest.fixture
def database() -> Iterator[Path]:
    """The folder of a new database, the user nobody's, for PostgreSQL does not run as root."""
    nobody = pwd.getpwnam("nobody")
    top = Path(tempfile.mkdtemp(prefix="usertcp-postgres-"))
    try:
        (top / "password").write_text("secret")
        for path in (top, top / "password"):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        words: list[str | Path] = [
            "-D",
            top / "data",
            "-U",
            "tester",
            "--auth=scram-sha-256",
            "--pwfile",
            top / "password",
            "--no-sync",
        ]
        subprocess.run(
            [postgres("initdb"), *words],
            user="nobody",
            group=nobody.pw_gid,
            capture_output=True,
            check=True,
            timeout=PATIENCE,
        )
        with (top / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.9.0.0/24 scram-sha-256\n")
        yield top / "data"
    finally:
        shutil.rmtree(top)


PG8000 = """
import pg8000.native
with pg8000.native.Connection("tester", host="10.9.0.1", database="postgres", password="secret", timeout=60) as client:
    print(client.run("SELECT inet_client_addr()::text"))
    client.run("CREATE TABLE numbers (n integer, text text)")
    client.run("INSERT INTO numbers SELECT n, repeat('x', 100) FROM generate_series(1, 20000) AS n")
    rows = client.run("SELECT n, text FROM numbers ORDER BY n")
    print(len(rows), sum(n for n, _ in rows), rows[-1][1] == "x" * 100)
    print(len(client.run("SELECT repeat('y', 3000000)")[0][0]))
"""


def test_pg8000_talks_to_postgresql(wire: Wire, folder: Path, database: Path) -> None:
    settings: list[str | Path] = [
        "-D",
        database,
        "-c",
        "listen_addresses=10.9.0.1",
        "-c",
        "unix_socket_directories=",
        "-c",
        "fsync=off",
    ]
    as_nobody = [which("setpriv"), "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    with Program(wire.space, [*as_nobody, postgres("postgres"), *settings], stdout=subprocess.DEVNULL) as server:
        wait_for_listener(wire.space, "10.9.0.1", 5432, server)
        said = wire.output(folder, PG8000).splitlines()
        server.interrupt()
        server.finish(code=None)
    assert said == ["[['10.9.0.2/32']]", f"20000 {sum(range(20001))} True", "3000000"]
