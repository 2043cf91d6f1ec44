"""Long stretches of virtual time: nothing here waits, however long it lasts."""

import errno

import pytest

from tests.sim.flows import PORT, End, Server, transfer, two_hosts
from usertcp.link.middleware import Drop
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.state import State
from usertcp.units import HOUR, MINUTE, MS, NEVER, SEC


def is_arp(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x06"


@pytest.mark.rfc(9293, "MUST-25")
def test_hour_of_keepalive_on_an_idle_connection_keeps_it_open() -> None:
    config = TcpConfig(keepalive=True, keepalive_idle=60 * SEC, keepalive_interval=10 * SEC, keepalive_count=3)
    world, a, b = two_hosts(config=config)
    server = Server(b.listen(PORT), lambda conn: End(conn, close=False))
    client = End(a.connect((b.address, PORT)), close=False)
    world.run_for(SEC)
    segments = a.stack.stats.segments_in + b.stack.stats.segments_in
    world.run_for(HOUR)
    assert client.conn.state is server.ends[0].conn.state is State.ESTABLISHED
    segments = a.stack.stats.segments_in + b.stack.stats.segments_in - segments
    assert 100 <= segments <= 250  # a probe and its answer a minute, from one side or from both


@pytest.mark.rfc(9293, "MUST-29")
def test_keepalive_of_a_dead_peer_gives_up_after_its_probes() -> None:
    config = TcpConfig(keepalive=True, keepalive_idle=60 * SEC, keepalive_interval=10 * SEC, keepalive_count=3)
    deaf: list[bool] = []
    world, a, b = two_hosts(config=config, rules=[Drop(when=lambda frame: bool(deaf) and not is_arp(frame))])
    b.listen(PORT)
    client = End(a.connect((b.address, PORT)), close=False)
    world.run_for(SEC)
    deaf.append(True)
    assert world.run_until(lambda: client.ended, HOUR)
    assert isinstance(client.error, TimeoutError)
    assert 89 * SEC < world.now < 92 * SEC


def test_idle_hour_without_keepalive_sends_nothing() -> None:
    world, a, b = two_hosts()
    b.listen(PORT)
    client = End(a.connect((b.address, PORT)), close=False)
    world.run_for(MINUTE)
    before = world.frames
    world.run_for(HOUR)
    assert world.frames == before
    assert client.conn.state is State.ESTABLISHED


@pytest.mark.rfc(9293, "MUST-23")
def test_syn_without_an_answer_gives_up_after_180_seconds() -> None:
    world, a, b = two_hosts(rules=[Drop(when=lambda frame: not is_arp(frame))])
    client = End(a.connect((b.address, PORT)))
    assert world.run_until(lambda: client.ended, HOUR)
    assert isinstance(client.error, TimeoutError)
    assert 180 * SEC <= world.now < 181 * SEC


def test_syn_to_an_address_nobody_has_is_unreachable_after_three_arp_requests() -> None:
    world, a, _ = two_hosts()
    client = End(a.connect(("10.0.0.77", PORT)))
    assert world.run_until(lambda: client.ended, MINUTE)
    assert client.error is not None
    assert client.error.errno == errno.EHOSTUNREACH
    assert world.now < 5 * SEC


@pytest.mark.rfc(9293, "MUST-13")
def test_time_wait_lasts_two_msl() -> None:
    msl = 30 * SEC
    world, a, b = two_hosts(config=TcpConfig(msl=msl))
    server = Server(b.listen(PORT), lambda conn: End(conn, close=False))
    client = transfer(a, server, b, b"hello")
    assert world.run_until(lambda: bool(server.ends) and server.ends[0].ended)
    server.ends[0].conn.close()
    assert world.run_until(lambda: client.conn.state is State.TIME_WAIT)
    start = world.now
    world.run_for(SEC)
    world.run(start + 2 * msl - 50 * MS)
    assert len([*a.stack.connections(), *b.stack.connections()]) == 1
    world.run(start + 2 * msl + 50 * MS)
    assert not [*a.stack.connections(), *b.stack.connections()]


def test_everything_closed_leaves_nothing_scheduled() -> None:
    world, a, b = two_hosts()
    client = transfer(a, Server(b.listen(PORT), End), b, b"hello")
    assert world.run_until(lambda: client.ended)
    world.run()
    assert world.next_event() == NEVER
    assert a.stack.next_deadline() == b.stack.next_deadline() == NEVER
