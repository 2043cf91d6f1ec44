"""Bulk for a protocol with a buffer of its own: read straight into that, several times in a round of the loop."""

import asyncio
from collections.abc import Callable
from hashlib import shake_128
from typing import Any

import pytest

from tests.api.hosts import PORT, RIGHT, run, two_aio
from usertcp import aio
from usertcp.driver import transport
from usertcp.driver.base import Pump
from usertcp.units import KIB

FLOOD = shake_128(b"bulk").digest(12_000_000)


class Bulk(asyncio.BufferedProtocol):
    """Takes 128 KiB at a time; ``act`` is called once, with the transport, when half of the flood has come."""

    def __init__(self, act: Callable[[aio.Transport], object]) -> None:
        self.act: Callable[[aio.Transport], object] | None = act
        self.buffer = bytearray(128 * KIB)
        self.got = bytearray()
        self.transport: Any = None
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert self.transport.is_reading()
        self.got += self.buffer[:nbytes]
        if self.act is not None and len(self.got) > len(FLOOD) // 2:
            act, self.act = self.act, None
            act(self.transport)

    def connection_lost(self, error: BaseException | None) -> None:
        self.lost.set_result(error)


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(FLOOD)
    writer.close()


def flooded(act: Callable[[aio.Transport], object]) -> tuple[Bulk, BaseException | None]:
    """A protocol that was flooded, and what it was told at the end."""
    found: list[Bulk] = []

    async def main() -> None:
        async with two_aio() as (left, right, _), await right.start_server(flood, None, PORT):
            _, protocol = await left.create_connection(lambda: Bulk(act), RIGHT, PORT)
            assert isinstance(protocol, Bulk)
            await protocol.lost
            found.append(protocol)

    run(main())
    return found[0], found[0].lost.result()


@pytest.fixture
def gulps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much came at once, outside of the loop's rounds."""
    sizes: list[int] = []
    gulp = Pump.gulp

    def counted(pump: Pump, conn: Any, target: memoryview) -> int:
        sizes.append(gulp(pump, conn, target))
        return sizes[-1]

    monkeypatch.setattr(Pump, "gulp", counted)
    return sizes


def test_bulk_comes_in_order_and_mostly_without_a_round_of_the_loop(gulps: list[int]) -> None:
    protocol, error = flooded(lambda _: None)
    assert protocol.got == FLOOD
    assert error is None
    assert sum(gulps) > 512 * KIB


def test_one_who_pauses_in_the_midst_is_left_in_peace(gulps: list[int]) -> None:
    def pause(transport: aio.Transport) -> None:
        transport.pause_reading()
        asyncio.get_running_loop().call_later(0, transport.resume_reading)

    protocol, error = flooded(pause)
    assert protocol.got == FLOOD
    assert error is None
    assert sum(gulps)


def test_one_who_aborts_in_the_midst_gets_nothing_more(gulps: list[int]) -> None:
    protocol, error = flooded(lambda transport: transport.abort())
    assert protocol.got == FLOOD[: len(protocol.got)]
    assert len(FLOOD) // 2 < len(protocol.got) < len(FLOOD)
    assert error is None
    assert sum(gulps)


def test_what_comes_after_the_midst_is_anothers(gulps: list[int]) -> None:
    others: list[Bulk] = []

    def hand_on(transport: aio.Transport) -> None:
        others.append(Bulk(lambda _: None))
        others[0].connection_made(transport)
        others[0].lost = transport.get_protocol().lost  # type: ignore[attr-defined]
        transport.set_protocol(others[0])

    protocol, error = flooded(hand_on)
    assert protocol.got + others[0].got == FLOOD
    assert len(others[0].got) > 0
    assert error is None
    assert sum(gulps)


def test_one_who_fails_in_the_midst_ends_its_connection(gulps: list[int]) -> None:
    class Burst(Exception):
        pass

    def fail(transport: aio.Transport) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        raise Burst

    protocol, error = flooded(fail)
    assert len(protocol.got) < len(FLOOD)
    assert isinstance(error, Burst)
    assert sum(gulps)


def test_before_anything_has_come_memory_that_is_of_no_use_is_no_mistake(
    gulps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "PLENTY", 1)  # whatever came last, more is looked for

    class Exact(Bulk):
        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer if len(self.got) < len(FLOOD) else bytearray()

        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            if len(self.got) == len(FLOOD):
                self.transport.write(b"thanks")

    thanked: list[bytes] = []

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(FLOOD)
        thanked.append(await reader.readexactly(6))
        writer.close()

    async def main() -> None:
        async with two_aio() as (left, right, _), await right.start_server(answered, None, PORT):
            _, protocol = await left.create_connection(lambda: Exact(lambda _: None), RIGHT, PORT)
            assert isinstance(protocol, Exact)
            assert await protocol.lost is None
            assert protocol.got == FLOOD

    run(main())
    assert gulps
    assert thanked == [b"thanks"]
