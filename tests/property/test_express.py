"""The short way out (``tcp.express``) and the general one (``tcp.output``) tell the same story, byte for byte.

A storm of :mod:`tests.property.test_two_connections` is played twice from one seed, once with the short way and once
without. Everything that leaves, and when, and every deadline and figure behind it, must be the same.
"""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.test_two_connections import Storm, configs
from tests.support.pair import TEXT, End, Pair
from tests.support.pure import pure_only
from usertcp.tcp import connection, express, output
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.ecn_policy import Ecn
from usertcp.tcp.state import ALONE, CONTROL, DOUBTED, State
from usertcp.tcp.timeouts import answer_due
from usertcp.units import MS

pytestmark = pure_only  # both ways are told apart by putting something in between


class Recorder:
    """Counts the turns that took the short way, and writes down what leaves and how each turn ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, short: bool) -> None:
        self.story: list[Any] = []
        self.plain = 0
        send = End.send

        def noted_send(end: End, conn: Connection, *segment: Any) -> bool:
            header, views, *rest = segment
            taken = send(end, conn, *segment)
            self.story.append((end.name, end.pair.now, bytes(header), b"".join(views), *rest, taken))
            return taken

        def poll(conn: Connection, now: int, tx: output.Transmit, budget: int) -> bool:
            if short:
                plain = express.is_plain(conn)
                assert plain or conn.calm <= DOUBTED
                self.plain += plain
            more = (express.poll if short else output.poll)(conn, now, tx, budget)
            if short and conn.calm in (ALONE, CONTROL):  # to look at its traces would write them down
                if conn.calm == ALONE:
                    assert conn.next_deadline() == min(*conn.timers.due, answer_due(conn))
                self.story.append(None)
                return more
            info = conn.info(now)
            self.story.append((more, conn.timers.due[:], info, conn.rcv.edge, conn.rcv.quick, conn.snd.small_end))
            return more

        monkeypatch.setattr(connection, "poll", poll)
        monkeypatch.setattr(End, "send", noted_send)


def assert_same(short: Recorder, general: Recorder) -> None:
    """Of a message alone (None) the traces are compared when something follows it."""
    assert len(short.story) == len(general.story)
    assert [theirs if ours is None else ours for ours, theirs in zip(short.story, general.story, strict=True)] == (
        general.story
    )


def told(short: bool, chosen: tuple[TcpConfig, TcpConfig], seed: int, steps: int) -> Recorder:
    with pytest.MonkeyPatch.context() as monkeypatch:
        recorder = Recorder(monkeypatch, short=short)
        pair = Pair(chosen, whole_bursts=bool(seed & 1))
        Storm(pair, seed).run(steps)
        pair.finish()
        return recorder


@settings(deadline=None, max_examples=60)
@given(st.tuples(configs, configs), st.integers(0, 1 << 32))
def test_any_story_is_the_same_without_the_short_way(chosen: tuple[TcpConfig, TcpConfig], seed: int) -> None:
    assert_same(told(True, chosen, seed, 150), told(False, chosen, seed, 150))


@pytest.mark.parametrize("nodelay", [False, True])
@pytest.mark.parametrize("timestamps", [False, True])
def test_open_connections_take_the_short_way_and_leave_the_same_traces(nodelay: bool, timestamps: bool) -> None:
    """Bulk and small messages over a good wire, both ways."""

    def play(short: bool) -> Recorder:
        with pytest.MonkeyPatch.context() as monkeypatch:
            recorder = Recorder(monkeypatch, short=short)
            config = TcpConfig(nodelay=nodelay, timestamps=timestamps, ecn=Ecn.OFF)
            pair, rng = Pair((config, config), whole_bursts=True), random.Random(7)
            for _ in range(400):
                end = rng.choice(pair.ends)
                if end.opened:
                    end.full = rng.random() < 0.02
                    end.budget = rng.choice([1, 2, 64])
                    if end.written < len(TEXT) - 70_000:
                        end.write(rng.choice([1, 1, 100, 1448, 5000, 65_000]))
                    end.read(rng.choice([1, 3000, 1 << 20]))
                pair.deliver_all(rng.choice(pair.ends))
                pair.advance(rng.choice([0, 0, MS // 10, MS, 60 * MS]))
            assert all(end.conn.state is State.ESTABLISHED for end in pair.ends)
            pair.finish()
            return recorder

    with_it, without = play(True), play(False)
    assert with_it.plain > 50
    assert_same(with_it, without)
