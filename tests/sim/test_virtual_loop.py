"""usertcp.aio, as it is, under virtual time: streams, cancellation, time-outs, and no real second passes."""

import asyncio
import errno
import hashlib
from collections.abc import Sequence

import pytest

from tests.sim.flows import payload
from usertcp import aio
from usertcp.driver import virtual_loop
from usertcp.driver.sim import Wire, World
from usertcp.driver.virtual_loop import TURN, Deadlock, run
from usertcp.link.middleware import Drop, Reorder, Rule
from usertcp.tcp.config import TcpConfig
from usertcp.units import HOUR, KIB, MS, SEC

PORT = 7


def two(seed: int = 1, rules: Sequence[Rule] = ()) -> tuple[World, aio.Host, aio.Host]:
    world = World(seed)
    a = world.host("a", "10.0.0.1/24", wire=Wire(delay=5 * MS, rules=rules))
    b = world.host("b", "10.0.0.2/24", wire=Wire(delay=5 * MS))
    return world, aio.Host(a), aio.Host(b)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(10_000):
        writer.write(data)
        await writer.drain()
    writer.close()


async def echoed(host: aio.Host, data: bytes) -> bytes:
    """What comes back of ``data`` from the echo server."""
    reader, writer = await host.open_connection("10.0.0.2", PORT)

    async def send() -> None:
        for start in range(0, len(data), 7_000):
            writer.write(data[start : start + 7_000])
            await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(send())
    back = await reader.read(-1)
    await sending
    writer.close()
    await writer.wait_closed()
    return back


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_echo_server_several_clients_get_their_bytes_back(loss: float) -> None:
    world, a, b = two(rules=[Drop(probability=loss), Reorder(probability=loss)])

    async def main() -> list[bytes]:
        async with await b.start_server(echo, None, PORT):
            return await asyncio.gather(*(echoed(a, payload(60_000, n)) for n in range(4)))

    assert run(world, main()) == [payload(60_000, n) for n in range(4)]


def test_same_seed_gives_same_packets() -> None:
    def once(seed: int) -> str:
        world, a, b = two(seed, [Drop(probability=0.05)])

        async def main() -> None:
            async with await b.start_server(echo, None, PORT):
                assert await echoed(a, payload(50_000)) == payload(50_000)

        run(world, main())
        return world.digest

    assert once(1) == once(1)
    assert once(1) != once(2)


def test_cancelled_connect_leaves_no_connection() -> None:
    world, a, b = two()

    async def main() -> None:
        b.stack.listen(("0.0.0.0", PORT))
        task = asyncio.create_task(a.open_connection("10.0.0.2", PORT))
        await asyncio.sleep(0.030)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(10)
        assert not [*a.stack.connections(), *b.stack.connections()]

    run(world, main())


def test_connect_to_nobody_times_out_at_the_virtual_second() -> None:
    world, a, _ = two()

    async def main() -> float:
        start = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await a.open_connection("10.0.0.77", PORT)
        return asyncio.get_running_loop().time() - start

    assert run(world, main()) == pytest.approx(0.5)


@pytest.mark.rfc(9293, "MUST-47")
@pytest.mark.rfc(9293, "SHLD-9")
@pytest.mark.rfc(9293, "SHLD-20")
@pytest.mark.parametrize("wanted", [True, False])
def test_peer_that_falls_silent_is_reported_to_a_protocol_that_wants_to_know(wanted: bool) -> None:
    """``error_received``, as a DatagramProtocol has it; the connection goes on."""
    deaf: list[bool] = []
    world, a, b = two(rules=[Drop(when=lambda frame: bool(deaf))])
    told: list[OSError] = []

    class Listener(asyncio.Protocol):
        def error_received(self, error: OSError) -> None:
            told.append(error)

    async def main() -> None:
        b.stack.listen(("0.0.0.0", PORT))
        config = TcpConfig(reports=wanted)
        transport, _ = await a.create_connection(Listener, "10.0.0.2", PORT, config=config)
        deaf.append(True)
        transport.write(b"hello")
        await asyncio.sleep(1)
        assert told == []
        await asyncio.sleep(5)
        assert [error.errno for error in told] == [errno.ETIMEDOUT] * wanted
        deaf.clear()
        await asyncio.sleep(20)
        assert transport.get_extra_info("connection").bytes_acked == 5

    run(world, main())


def test_connect_to_a_closed_port_is_refused() -> None:
    world, a, _ = two()
    with pytest.raises(ConnectionRefusedError):
        run(world, a.open_connection("10.0.0.2", PORT))


def test_sleep_of_an_hour_takes_an_hour_of_the_world() -> None:
    world, _, _ = two()
    run(world, asyncio.sleep(3600))
    assert HOUR <= world.now < HOUR + SEC


def test_task_that_waits_for_nothing_is_a_deadlock() -> None:
    world, _, _ = two()

    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run(world, main())


def test_waiting_by_turning_lets_time_pass_and_is_the_same_each_time() -> None:
    def once() -> tuple[str, int]:
        world, a, b = two(rules=[Drop(probability=0.05)])

        async def main() -> None:
            async with await b.start_server(echo, None, PORT):
                task = asyncio.create_task(echoed(a, payload(50_000)))
                while not task.done():
                    await asyncio.sleep(0)
                assert task.result() == payload(50_000)

        run(world, main())
        return world.digest, world.now

    assert once() == once()


def test_timer_of_call_later_0_that_sets_itself_lets_time_pass() -> None:
    world, _, _ = two()

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def again() -> None:
            loop.call_later(0, again)

        again()
        await asyncio.sleep(0.5)

    run(world, main())
    assert SEC / 2 <= world.now < SEC / 2 + MS


def test_turning_for_a_while_takes_about_the_time_that_it_takes() -> None:
    world, _, _ = two()

    async def main() -> None:
        async with asyncio.timeout(5):
            for _ in range(20_000):
                await asyncio.sleep(0)

    run(world, main())
    assert 19_000 * TURN <= world.now < 20_000 * TURN


def test_few_turns_take_no_time() -> None:
    world, _, _ = two()

    async def main() -> None:
        for _ in range(10):
            for _ in range(900):
                await asyncio.sleep(0)
            await asyncio.sleep(0.001)

    run(world, main())
    assert 10 * MS <= world.now < 10 * MS + TURN


def test_waiting_by_turning_for_an_hour_leaps_and_is_not_late() -> None:
    world, _, _ = two()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        passed: list[float] = []
        loop.call_later(3600, lambda: passed.append(loop.time()))
        while not passed:
            await asyncio.sleep(0)
        assert passed == [pytest.approx(3600, abs=1e-6)]

    run(world, main())


def test_waiting_by_turning_for_what_never_comes_is_a_deadlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_loop, "IDLE", 1_000)
    monkeypatch.setattr(virtual_loop, "LOST", 3_000)
    world, _, _ = two()
    ended: list[str] = []

    async def main() -> None:
        try:
            while True:
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(1)
            ended.append("cleaned up")

    with pytest.raises(Deadlock, match=r"turned 3000 times .* asyncio\.Event"):
        run(world, main())
    assert ended == ["cleaned up"]


def test_reader_that_does_not_read_stops_the_writer() -> None:
    world, a, b = two()

    async def main() -> None:
        gate = asyncio.Event()
        received = hashlib.sha256()
        ended = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await gate.wait()
            while data := await reader.read(100_000):
                received.update(data)
            writer.close()
            ended.set()

        async with await b.start_server(slow, None, PORT):
            _, writer = await a.open_connection("10.0.0.2", PORT)
            data, sent = payload(8 << 20), 0

            async def fill() -> None:
                nonlocal sent
                while sent < len(data):
                    writer.write(data[sent : sent + 64 * KIB])
                    sent += 64 * KIB
                    await writer.drain()

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(fill(), 30)
            assert sent < 4 << 20  # both rings, the stream's limit, and one write
            gate.set()
            writer.write(data[sent:])
            await writer.drain()
            writer.close()
            await ended.wait()
            assert received.digest() == hashlib.sha256(data).digest()

    run(world, main())


def test_peer_that_resets_is_an_error_for_the_reader() -> None:
    world, a, b = two()

    async def rude(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def main() -> None:
        async with await b.start_server(rude, None, PORT):
            reader, writer = await a.open_connection("10.0.0.2", PORT)
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
            writer.close()

    run(world, main())


def test_handler_that_fails_leaves_the_server_serving() -> None:
    world, a, b = two()

    async def picky(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(1) == b"x":
            writer.transport.abort()
            raise ValueError("do not like this one")
        writer.write(b"ok")
        writer.close()

    async def main() -> bytes:
        complaints: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        async with await b.start_server(picky, None, PORT):
            reader, writer = await a.open_connection("10.0.0.2", PORT)
            writer.write(b"x")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
            reader, writer = await a.open_connection("10.0.0.2", PORT)
            writer.write(b"y")
            answer = await reader.read()
            writer.close()
            return answer

    assert run(world, main()) == b"ok"


def test_host_close_delivers_what_was_written() -> None:
    world, a, b = two(rules=[Drop(probability=0.1)])

    async def main() -> bytes:
        got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.set_result(await reader.read(-1))
            writer.close()

        async with await b.start_server(keep, None, PORT):
            _, writer = await a.open_connection("10.0.0.2", PORT)
            writer.write(payload(100_000))
            await a.close()
            return await got

    assert run(world, main()) == payload(100_000)


def test_ping_goes_there_and_back() -> None:
    world, a, _ = two()
    reply = run(world, a.ping("10.0.0.2"))
    assert (reply.source, reply.size, reply.error) == ("10.0.0.2", 56, None)
