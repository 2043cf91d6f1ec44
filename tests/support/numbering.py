"""What a whole run of tests chooses, before the test modules are read.

Where numbers begin: both initial sequence numbers, and both timestamp clocks. By default that is just before 2^32, so
that nearly every script crosses the wrap; ``plain`` begins far from it. Where a whole stack is under test its own
initial numbers are moved too (:class:`Wrapping`).

And by which way segments come and go in a script: by default the general one, ``tcp.arrives`` and ``tcp.output``,
which is the RFC's; or, wherever it is open, the short one (``tcp.predicted``, ``tcp.express``), which a user's segments
take. ``tests/conformance`` runs the marked tests with either numbers by the short ways.
"""

from typing import Final, NamedTuple

from usertcp.tcp.seq import ISN_TICK
from usertcp.units import MASK32


class Numbering(NamedTuple):
    """``iss`` is ours, ``irs`` the peer's; ``ts`` and ``peer_ts`` the timestamp clocks when a script starts."""

    iss: int
    irs: int
    ts: int
    peer_ts: int


WRAP: Final = "wrap"
PLAIN: Final = "plain"
NUMBERINGS: Final = {
    PLAIN: Numbering(1_000_000, 2_000_000, 3_000_000, 4_000_000),
    WRAP: Numbering(0xFFFF_FF00, 0xFFFF_FF80, 0xFFFF_FFF0, 0xFFFF_FFE0),
}

_name = WRAP
_short = False


def choose(name: str, *, short: bool) -> None:
    """Begin with the numbers ``name`` from now on, and go the ``short`` ways: for modules that are not imported yet."""
    global _name, _short
    _name, _short = name, short


def chosen() -> Numbering:
    """Where numbers begin in this run."""
    return NUMBERINGS[_name]


def short_ways() -> bool:
    """Whether scripts go the short ways where they are open."""
    return _short


class Wrapping:
    """In place of ``initial_sequence``: the first connection of a stack begins just before 2^32, and later ones as much
    after it as the clock of RFC 9293 §3.4.1 has moved."""

    def __init__(self) -> None:
        self._first: dict[bytes, int] = {}

    def __call__(self, now: int, flow_key: bytes, secret: bytes) -> int:
        since = now - self._first.setdefault(secret, now)
        return (NUMBERINGS[WRAP].iss + since // ISN_TICK) & MASK32
