"""A sink that takes nothing: what was to be sent stays to be sent, and nothing else has changed.

Every kind of segment is offered to a full sink first, then to one with room; what leaves must be what would have left,
and what the connection holds in between must be what it held before.
"""

from collections.abc import Callable

import pytest

from tests.support.script import PLAIN, Script, with_options
from tests.support.states import reach
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.state import State
from usertcp.units import MS, SEC

MSS = 1460


def snapshot(s: Script) -> list[object]:
    """What a refusal must not change."""
    conn = s.user
    snd, rcv = conn.snd, conn.rcv
    return [
        conn.state,
        conn.ready,
        conn.reset_due,
        conn.syn_due,
        conn.probe_due,
        conn.keepalive_due,
        conn.segments_out,
        snd.una,
        snd.nxt,
        snd.tlp.due,
        snd.resend_now,
        snd.fin_sent,
        snd.small_end,
        snd.retransmissions,
        snd.last_sent_at,
        snd.cc.cwnd,
        [(sent.start, sent.end, sent.sent_at, sent.retransmitted, sent.state) for sent in snd.board],
        len(snd.buffer),
        rcv.nxt,
        rcv.edge,
        rcv.duplicates,
        rcv.since_ack,
        rcv.last_ack_sent,
        rcv.buffer.readable,
    ]


Step = Callable[[Script], None]


def queue(data: int) -> Step:
    def step(s: Script) -> None:
        assert s.user.write(bytes(data)) == data

    return step


def arrive(*lines: str) -> Step:
    def step(s: Script) -> None:
        for line in lines:
            s.user.on_segment(s.segment(line), s.now)

    return step


def ring(s: Script) -> None:
    """The next timer runs out."""
    s.now = s.user.next_deadline()
    s.user.on_timers(s.now)


def written(count: int, win: int = 65535, config: TcpConfig = PLAIN) -> Callable[[], Script]:
    def start() -> Script:
        s = Script.established(config, win=win)
        s.write(bytes(count))
        return s

    return start


def half_read() -> Script:
    s = Script.established(with_options(receive_buffer=2 * MSS), quick=True)
    s.peer(f". 1:{1 + MSS}({MSS}) ack 1 win 1000", f". {1 + MSS}:{1 + 2 * MSS}({MSS}) ack 1 win 1000")
    return s


CASES: dict[str, tuple[Callable[[], Script], Step, list[str]]] = {
    "SYN": (Script, lambda s: s.user.open(s.now), ["S 0:0(0) win 65535 <mss 1460>"]),
    "SYN again": (Script.opening, ring, ["S 0:0(0) win 65535 <mss 1460>"]),
    "SYN,ACK": (
        Script.opening,
        arrive("S 0:0(0) win 1000 <mss 1460>"),
        ["S. 0:0(0) ack 1 win 65535 <mss 1460>"],
    ),
    "ACK of SYN,ACK": (Script.opening, arrive("S. 0:0(0) ack 1 win 1000"), [". 1:1(0) ack 1 win 65535"]),
    "reset in SYN-SENT": (Script.opening, arrive(". 0:0(0) ack 77 win 1000"), ["R 77:77(0)"]),
    "small text": (Script.established, queue(10), ["P. 1:11(10) ack 1 win 65535"]),
    "burst": (
        Script.established,
        queue(2 * MSS + 1),
        [f". 1:{1 + MSS}({MSS})", f". {1 + MSS}:{1 + 2 * MSS}({MSS})", f"P. {1 + 2 * MSS}:{2 + 2 * MSS}(1)"],
    ),
    "text again": (written(10), ring, ["P. 1:11(10) ack 1 win 65535"]),
    "fast retransmit": (
        written(3 * MSS),
        arrive(*[". 1:1(0) ack 1 win 65535"] * 3),
        [f". 1:{1 + MSS}({MSS}) ack 1"],
    ),
    "FIN": (Script.established, lambda s: s.user.shutdown_write(), ["F. 1:1(0) ack 1"]),
    "FIN again": (lambda: reach(State.FIN_WAIT_1).s, ring, ["F. 1:1(0) ack 1"]),
    "window probe": (written(10, win=0), ring, [". 1:2(1) ack 1"]),
    "small text at last": (
        written(2 * MSS, win=100),
        ring,
        [". 1:101(100) ack 1"],
    ),
    "keepalive": (
        lambda: Script.established(with_options(keepalive=True, keepalive_idle=SEC)),
        ring,
        [". 0:0(0) ack 1"],
    ),
    "delayed ACK": (
        lambda: _after(Script.established(), "P. 1:11(10) ack 1 win 1000"),
        ring,
        [". 1:1(0) ack 11 win 65525"],
    ),
    "ACK at once": (Script.established, arrive("P. 11:21(10) ack 1 win 1000"), [". 1:1(0) ack 1 win 65535"]),
    "three duplicates": (
        Script.established,
        arrive(*[f"P. {start}:{start + 10}(10) ack 1 win 1000" for start in (11, 21, 31)]),
        [". 1:1(0) ack 1"] * 3,
    ),
    "challenge": (Script.established, arrive("S 9:9(0) win 1000"), [". 1:1(0) ack 1"]),
    "window update": (half_read, lambda s: assert_read(s, 2 * MSS), [f". 1:1(0) ack {1 + 2 * MSS} win {2 * MSS}"]),
    "ACK of FIN": (Script.established, arrive("F. 1:1(0) ack 1 win 1000"), [". 1:1(0) ack 2"]),
    "ACK in TIME-WAIT": (lambda: reach(State.TIME_WAIT).s, arrive("F. 1:1(0) ack 2 win 1000"), [". 2:2(0) ack 2"]),
    "reset by abort": (Script.established, lambda s: s.user.abort(), ["R. 1:1(0) ack 1"]),
    "smaller MTU": (
        written(MSS),
        lambda s: s.user.set_path_mtu(1000, s.now),
        [". 1:961(960) ack 1", "P. 961:1461(500) ack 1"],
    ),
}


def _after(s: Script, line: str) -> Script:
    s.peer(line)
    return s


def assert_read(s: Script, count: int) -> None:
    assert len(s.user.read(count)) == count


@pytest.mark.parametrize("case", CASES)
def test_refused_segment_leaves_the_connection_as_it_was_and_leaves_later(case: str) -> None:
    start, step, sent = CASES[case]
    s = start()
    s.take()
    step(s)
    before = snapshot(s)
    s.sink_full = True
    for _ in range(3):
        assert s.poll(), "more waits"
        assert snapshot(s) == before
    assert s.refused == 3
    assert s.host.forgotten == []
    s.sink_full = False
    s.expect(*sent)
    assert not s.poll()


@pytest.mark.parametrize("case", CASES)
def test_refused_for_a_while_nothing_is_lost(case: str) -> None:
    """Timers that run out meanwhile may change what leaves, but something does."""
    start, step, _ = CASES[case]
    s = start()
    s.take()
    step(s)
    s.sink_full = True
    s.poll()
    s.advance(150 * MS)
    s.sink_full = False
    s.poll()
    assert s.take()
    assert not s.poll()


def test_sink_that_takes_every_other_segment_gets_all_of_it() -> None:
    s = Script.established(max_burst=MSS)
    s.user.snd.cc.cwnd = 1 << 20
    s.user.write(bytes(20 * MSS))
    s.peer(". 1:11(10) ack 1 win 65535")
    send = s.send
    turn = [0]

    def every_other(*args: object) -> bool:
        turn[0] += 1
        s.sink_full = bool(turn[0] % 2)
        return send(*args)  # type: ignore[arg-type]

    s.send = every_other  # type: ignore[method-assign,assignment]
    while s.poll():
        pass
    sizes = [len(seg.payload) for seg in s.take() if seg.payload]
    assert sum(sizes) == 20 * MSS
    starts = [record.start for record in s.user.snd.board]
    assert starts == sorted(set(starts))


@pytest.mark.parametrize("budget", [1, 2, 7])
def test_budget_counts_segments_with_text_and_loses_none(budget: int) -> None:
    s = Script.established(max_burst=MSS)
    s.user.snd.cc.cwnd = 1 << 20
    s.user.write(bytes(20 * MSS))
    total = 0
    while True:
        more = s.poll(budget)
        sent = len(s.take())
        assert sent <= budget
        total += sent
        if not more:
            break
    assert total == 20


def test_window_announced_in_a_refused_segment_was_not_announced() -> None:
    """The right edge belongs to the peer only once it was told."""
    s = half_read()
    s.take()
    edge = s.user.rcv.edge
    s.read()
    s.sink_full = True
    s.poll()
    assert s.user.rcv.edge == edge
