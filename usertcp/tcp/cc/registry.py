"""The congestion control algorithms by the names that users give (``TCP_CONGESTION``)."""

import errno
from functools import lru_cache
from typing import Final

from usertcp.errors import os_error
from usertcp.tcp.cc.base import CongestionControl
from usertcp.tcp.cc.cubic import Cubic
from usertcp.tcp.cc.newreno import NewReno

BBR: Final = "bbr"  # loaded when it is asked for: it is as large as all the rest, and few do
_ALGORITHMS: Final[dict[str, type[CongestionControl]]] = {kind.name: kind for kind in (NewReno, Cubic)}

NAMES: Final = (*_ALGORITHMS, BBR)


@lru_cache(maxsize=64)
def opening(name: str, mss: int) -> CongestionControl:
    """What a connection has in its place until the peer's SYN has told for what segments to :func:`create` one: shared,
    never written to."""
    return create(name, mss)


def create(name: str, mss: int, *, sack: bool = True) -> CongestionControl:
    """The algorithm called ``name`` for segments of ``mss`` bytes; FileNotFoundError (ENOENT), as Linux, if unknown.

    A model of the path must see when each segment is delivered. Without ``sack`` nobody does behind a gap: then cubic
    takes its place.
    """
    if name == BBR and name not in _ALGORITHMS:
        from usertcp.tcp.cc.bbr import Bbr

        _ALGORITHMS[name] = Bbr
    algorithm = _ALGORITHMS.get(name)
    if algorithm is None:
        raise os_error(errno.ENOENT)
    return Cubic(mss) if algorithm.keeps_window and not sack else algorithm(mss)
