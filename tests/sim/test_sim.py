"""usertcp.sim: asyncio's own functions on the hosts of a world, and what is the same with the same seed."""

import asyncio
import contextvars
import doctest
import socket
import ssl
import subprocess
from typing import Any

import pytest

import usertcp.sim
from usertcp.sim import HOUR, MS, SEC, Deadlock, Host, Outage, RandomLoss, Wire, World
from usertcp.tcp.state import State

PORT = 7


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def ask(name: str, line: bytes = b"hello\n") -> bytes:
    reader, writer = await asyncio.open_connection(name, PORT)
    writer.write(line)
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer


def two(seed: int = 1, loss: float = 0.0) -> tuple[World, Host, Host]:
    world = World(seed)
    return world, world.host("client", wire=Wire(delay=10 * MS, loss=RandomLoss(loss))), world.host("server")


def test_example_in_the_docstring_runs() -> None:
    assert doctest.testmod(usertcp.sim) == (0, 9)


def test_hosts_have_names_addresses_of_their_own_and_no_twins() -> None:
    world, client, server = two()
    assert (client.address, server.address) == ("10.0.0.1", "10.0.0.2")
    assert world.host("third", "10.0.0.77/24").address == "10.0.0.77"
    with pytest.raises(ValueError, match="there is a host 'client'"):
        world.host("client")


def test_server_that_asks_another_server_does_so_from_its_own_host() -> None:
    world, client, server = two()
    behind = world.host("behind")
    peers: list[str] = []

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await ask("behind", await reader.readline()))
        writer.close()

    async def look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername")[0])
        await shout(reader, writer)

    async def main() -> bytes:
        await behind.create_task(asyncio.start_server(look, port=PORT))
        await server.create_task(asyncio.start_server(forward, port=PORT))
        return await client.create_task(ask("server"))

    assert world.run_until_complete(main()) == b"HELLO\n"
    assert peers == [server.address]


class Echo(asyncio.Protocol):
    """Connects to another server from within a callback."""

    asked: "asyncio.Task[bytes]"

    def data_received(self, data: bytes) -> None:
        self.asked = asyncio.get_running_loop().create_task(ask("client"))


def test_callbacks_of_a_protocol_are_on_the_host_that_made_it() -> None:
    world, client, server = two()
    protocols: list[Echo] = []

    def factory() -> Echo:
        protocols.append(Echo())
        return protocols[-1]

    async def main() -> bytes:
        with server.here():
            await asyncio.get_running_loop().create_server(factory, None, PORT)
        with client.here():
            await asyncio.start_server(shout, port=PORT)
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, "server", PORT)
        transport.write(b"x")
        await asyncio.sleep(1)
        return await protocols[0].asked

    assert world.run_until_complete(main()) == b"HELLO\n"


def test_context_of_a_callback_is_that_of_who_made_the_transport() -> None:
    """As asyncio's, whose transports keep the context in which their descriptor was registered."""
    world, client, server = two()
    mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="nobody's")
    seen: list[str] = []

    class Looking(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            seen.append(mine.get())

    async def main() -> None:
        await server.create_task(asyncio.start_server(shout, port=PORT))
        mine.set("main's")
        with client.here():
            transport, _ = await asyncio.get_running_loop().create_connection(Looking, "server", PORT)
        transport.write(b"x\n")
        await asyncio.sleep(1)

    world.run_until_complete(main())
    assert seen == ["main's"]


def test_program_without_a_host_is_told_so() -> None:
    world, _, _ = two()
    with pytest.raises(RuntimeError, match=r"host\.create_task"):
        world.run_until_complete(ask("server"))


def test_names_are_the_worlds_and_others_do_not_resolve() -> None:
    world, client, _ = two()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert (await loop.getaddrinfo("server", "http"))[0][4] == ("10.0.0.2", 80)
        assert (await loop.getaddrinfo("localhost", "7"))[0][4] == ("127.0.0.1", 7)
        assert (await loop.getaddrinfo(None, 7, flags=socket.AI_PASSIVE))[0][4] == ("0.0.0.0", 7)
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("server", "no-such-service")
        for name in ("example.org", "::1"):
            with pytest.raises(OSError, match=r"does not resolve|not supported"):
                await client.net.open_connection(name, PORT)
        with client.here(), socket.socket() as sock, pytest.raises(ValueError, match="no sockets"):
            await asyncio.open_connection(sock=sock)

    world.run_until_complete(main())


def digests(seed: int, context: tuple[ssl.SSLContext, ssl.SSLContext] | None = None) -> tuple[str, str]:
    world, client, server = two(seed, loss=0.1)
    serving, asking = context or (None, None)

    async def talk() -> None:
        words: dict[str, Any] = {} if asking is None else {"ssl": asking, "server_hostname": "localhost"}
        reader, writer = await asyncio.open_connection("server", PORT, **words)
        for n in range(50):
            writer.write(b"%d\n" % n * 100)
            for _ in range(100):
                await reader.readline()
        writer.close()

    async def main() -> None:
        await server.create_task(asyncio.start_server(shout, port=PORT, ssl=serving))
        idle = [client.create_task(asyncio.sleep(HOUR)) for _ in range(3)]
        await asyncio.gather(*(client.create_task(talk()) for _ in range(3)))
        assert not any(task.done() for task in idle)

    world.run_until_complete(main())
    world.run()
    assert not [conn for host in world.hosts for conn in host.stack.connections()]
    return world.digest, world.timeline


def test_same_seed_gives_the_same_frames_and_another_seed_others() -> None:
    assert digests(1) == digests(1) != digests(2)


@pytest.fixture(scope="module")
def rsa(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server and a client, by a key whose signatures are all of one length."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "certificate", folder / "key")
    return serving, ssl.create_default_context(cafile=str(folder / "certificate"))


def test_same_seed_gives_the_same_timeline_under_tls(rsa: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    (digest, timeline), (other_digest, other_timeline) = digests(1, rsa), digests(1, rsa)
    assert timeline == other_timeline
    assert digest != other_digest  # its keys are random


def test_partition_ends_a_connection_and_healing_lets_another_begin() -> None:
    world, client, server = two()

    async def main() -> tuple[str, bytes]:
        await server.create_task(asyncio.start_server(shout, port=PORT))
        world.partition([client], [server])
        try:
            await asyncio.wait_for(client.create_task(ask("server")), 30)
        except OSError as error:
            failure = type(error).__name__
        world.heal()
        return failure, await client.create_task(ask("server"))

    assert world.run_until_complete(main()) == ("OSError", b"HELLO\n")  # EHOSTUNREACH: ARP was not answered


def test_outage_of_a_wire_is_waited_for() -> None:
    world = World(3)
    wire = Wire(delay=MS, loss=Outage(start_at=100 * MS, duration=20 * SEC))
    client, server = world.host("client", wire=wire), world.host("server")

    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection("server", PORT)
        await asyncio.sleep(0.2)
        writer.write(b"late\n")
        return await reader.readline()

    async def main() -> bytes:
        await server.create_task(asyncio.start_server(shout, port=PORT))
        return await client.create_task(talk())

    assert world.run_until_complete(main()) == b"LATE\n"
    assert 20 * SEC < world.now < 60 * SEC


def test_deadlock_names_the_tasks_that_wait() -> None:
    world, client, _ = two()

    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        await client.create_task(forever(), name="lonely")

    with pytest.raises(Deadlock, match=r"lonely \(<coroutine object .*forever"):
        world.run_until_complete(main())


def test_what_a_run_leaves_open_is_closed_and_the_next_run_goes_on() -> None:
    world, client, server = two()

    async def first() -> None:
        await server.create_task(asyncio.start_server(shout, port=PORT))
        with client.here():
            await asyncio.open_connection("server", PORT)

    async def second() -> bytes:
        with pytest.raises(ConnectionRefusedError):
            await client.create_task(ask("server"))
        await server.create_task(asyncio.start_server(shout, port=PORT))
        return await client.create_task(ask("server"))

    world.run_until_complete(first())
    assert not list(server.stack.listeners())
    world.run()
    states = [conn.state for host in world.hosts for conn in host.stack.connections()]
    assert set(states) <= {State.TIME_WAIT}
    assert world.run_until_complete(second()) == b"HELLO\n"


def test_work_for_a_thread_is_done_at_once_and_its_exception_raised() -> None:
    world, _, _ = two()

    async def main() -> int:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        return await asyncio.to_thread(lambda: 42)

    assert world.run_until_complete(main()) == 42
    assert world.now == 0
