"""The runs on ``usertcp.aio``: protocols on its transports, as a service that cares for speed is written."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from benchmarks.speed_job import CHUNK, GSO, PLAIN, Count, Job, chunks, say
from benchmarks.speed_net import NEAR, PREFIX, TAP
from usertcp import aio
from usertcp.tcp.config import TcpConfig

ONE: Final = b"S"


class Base(asyncio.BaseProtocol):
    """What the clients have in common: ``over`` is done when the run is."""

    def __init__(self, count: Count) -> None:
        self.count = count
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: aio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, aio.Transport)
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.finish(error)

    def finish(self, error: Exception | None = None) -> None:
        if self.over.done():
            return
        if error is None:
            self.over.set_result(None)
        else:
            self.over.set_exception(error)


class Taker(Base, asyncio.BufferedProtocol):
    """Takes what the source sends, into one buffer."""

    def __init__(self, count: Count, check: int) -> None:
        super().__init__(count)
        self.view = memoryview(bytearray(CHUNK))
        self.digest = hashlib.sha256() if check else None
        self.left = check

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.view

    def buffer_updated(self, nbytes: int) -> None:
        at = time.monotonic()
        self.count.add(nbytes, at)
        if self.digest is not None:
            self.digest.update(self.view[:nbytes])
            self.left -= nbytes
        elif at >= self.count.until:
            self.finish()


class Giver(Base, asyncio.Protocol):
    """Sends to the sink whenever it may."""

    def __init__(self, count: Count, job: Job) -> None:
        super().__init__(count)
        self.chunks: list[bytes] | list[bytearray] = list(chunks(job.check > 0))
        if not job.reference:
            self.chunks = [bytearray(chunk) for chunk in self.chunks]
        self.digest = hashlib.sha256() if job.check else None
        self.left = job.check
        self.number = 0
        self.paused = False

    def give(self) -> None:
        """Until the transport says that it is enough, or the time is over."""
        while not self.paused:
            at = time.monotonic()
            if at >= self.count.until and self.left <= 0:
                self.transport.write_eof()
                return
            chunk = self.chunks[self.number % len(self.chunks)]
            self.number += 1
            self.transport.write(chunk)
            if self.digest is not None:
                self.digest.update(chunk)
                self.left -= len(chunk)
            self.count.add(len(chunk), at)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        asyncio.get_running_loop().call_soon(self.give)


class Pinger(Base, asyncio.Protocol):
    """A byte there and back, again and again."""

    def data_received(self, data: bytes) -> None:
        at = time.monotonic()
        self.count.add(1, at)
        if at < self.count.until:
            self.transport.write(ONE)
        else:
            self.finish()


class Greeter(Base, asyncio.Protocol):
    """A byte there and back, and the end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(ONE)


class Answerer(asyncio.Protocol):
    """The server's end of a greeting."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, aio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def bulk_in(host: aio.Host, job: Job) -> dict[str, Any]:
    taker = Taker(Count(job), job.check)
    await host.create_connection(lambda: taker, job.host, job.port)
    await taker.over
    found = taker.count.result()
    taker.transport.abort()
    return found | ({"sha256": taker.digest.hexdigest(), "left": taker.left} if taker.digest else {})


async def bulk_out(host: aio.Host, job: Job) -> dict[str, Any]:
    giver = Giver(Count(job), job)
    await host.create_connection(lambda: giver, job.host, job.port)
    giver.give()
    await giver.over
    found = giver.count.result()
    return found | ({"sha256": giver.digest.hexdigest(), "left": 0} if giver.digest else {})


async def ping(host: aio.Host, job: Job) -> dict[str, Any]:
    """On one connection, or on many."""
    count = Count(job)
    pingers = [Pinger(count) for _ in range(job.count)]
    for pinger in pingers:
        await host.create_connection(lambda one=pinger: one, job.host, job.port)  # type: ignore[misc]
    for pinger in pingers:
        pinger.transport.write(ONE)
    await pingers[0].over
    return count.result()


async def connect(host: aio.Host, job: Job) -> dict[str, Any]:
    """``count`` at once."""
    count = Count(job)

    async def work() -> None:
        while (at := time.monotonic()) < count.until:
            greeter = Greeter(count)
            await host.create_connection(lambda one=greeter: one, job.host, job.port)  # type: ignore[misc]
            await greeter.over
            count.add(1, at)

    await asyncio.gather(*(work() for _ in range(job.count)))
    return count.result()


async def accept(host: aio.Host, job: Job) -> dict[str, Any]:
    """Serve greetings until this process is ended."""
    server = await host.create_server(Answerer, None, job.port, backlog=1024)
    say(ready=True)
    await asyncio.Event().wait()
    server.close()
    return {}


Run = Callable[[aio.Host, Job], Coroutine[Any, Any, dict[str, Any]]]

RUNS: Final[dict[str, Run]] = {
    "in": bulk_in,
    "out": bulk_out,
    "ping": ping,
    "ping-many": ping,
    "connect": connect,
    "connect-many": connect,
    "accept": accept,
    "accept-many": accept,
}


async def run(space: str, job: Job) -> dict[str, Any]:
    """One run on a stack of its own."""
    async with aio.open(
        tcp=TcpConfig(nodelay=True),
        linger=0,
        tap=TAP,
        netns=space,
        address=f"{NEAR}/{PREFIX}",
        offload=job.offload != PLAIN,
        gso=job.offload == GSO,
        control=False,
    ) as host:
        return await RUNS[job.kind](host, job)
