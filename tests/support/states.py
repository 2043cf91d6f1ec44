"""A scripted connection in any state that a connection can be in, and the numbers its peer must use there."""

from typing import Any, NamedTuple

from tests.support.script import PLAIN, Script
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.state import State

SYNCHRONIZED = (
    State.ESTABLISHED,
    State.FIN_WAIT_1,
    State.FIN_WAIT_2,
    State.CLOSE_WAIT,
    State.CLOSING,
    State.LAST_ACK,
    State.TIME_WAIT,
)
WITH_PEER = (State.SYN_RECEIVED, *SYNCHRONIZED)  # RCV.NXT is known


class At(NamedTuple):
    """``s`` is in the state asked for; relative numbers: ``rcv`` is RCV.NXT, ``snd`` SND.NXT, ``una`` SND.UNA."""

    s: Script
    rcv: int
    snd: int
    una: int

    def peer(
        self, flags: str, seq: int | None = None, size: int = 0, *, ack: int | None = None, win: int = 1000
    ) -> None:
        """A segment of the peer, by default the next one, that acknowledges nothing new."""
        seq = self.rcv if seq is None else seq
        acked = f" ack {self.una if ack is None else ack}" if "." in flags else ""
        self.s.peer(f"{flags} {seq % 2**32}:{(seq + size) % 2**32}({size}){acked} win {win}")


def reach(state: State, config: TcpConfig = PLAIN, *, win: int = 1000, **kwargs: Any) -> At:
    """A connection in ``state``; nothing of what it sent is left to look at."""
    if state is State.CLOSED:
        return At(Script(config, **kwargs), 0, 0, 0)
    if state is State.SYN_SENT:
        return _at(Script.opening(config, **kwargs), state, 0, 1, 0)
    if state is State.SYN_RECEIVED:
        return _at(Script.listening(f"S 0:0(0) win {win}", config, **kwargs), state, 1, 1, 0)
    s = Script.established(config, win=win, **kwargs)
    if state is State.ESTABLISHED:
        return _at(s, state, 1, 1, 1)
    if state in (State.CLOSE_WAIT, State.LAST_ACK):
        s.peer(f"F. 1:1(0) ack 1 win {win}")
        if state is State.CLOSE_WAIT:
            return _at(s, state, 2, 1, 1)
        s.user.shutdown_write()
        return _at(s, state, 2, 2, 1)
    s.user.shutdown_write()
    s.poll()
    if state is State.FIN_WAIT_1:
        return _at(s, state, 1, 2, 1)
    if state is State.CLOSING:
        s.peer(f"F. 1:1(0) ack 1 win {win}")
        return _at(s, state, 2, 2, 1)
    s.peer(f". 1:1(0) ack 2 win {win}")
    if state is State.FIN_WAIT_2:
        return _at(s, state, 1, 2, 2)
    assert state is State.TIME_WAIT
    s.peer(f"F. 1:1(0) ack 2 win {win}")
    return _at(s, state, 2, 2, 2)


def _at(s: Script, state: State, rcv: int, snd: int, una: int) -> At:
    s.poll()
    s.take()
    s.expect_state(state)
    return At(s, rcv, snd, una)
