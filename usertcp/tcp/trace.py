"""What a tracer is told: every state change, every segment in and out.

``None`` in place of a tracer costs one comparison; the ladder diagrams and the tests hand in one of their own.
"""

from typing import TYPE_CHECKING, Protocol

from usertcp.native import mypyc_attr
from usertcp.tcp.state import State
from usertcp.wire.tcp import Segment

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection


@mypyc_attr(native_class=False)
class Tracer(Protocol):
    """Looks on; changes nothing. Segments are borrowed until the call returns."""

    def on_state(self, conn: "Connection", old: State, new: State) -> None:
        """``conn`` went from ``old`` to ``new``."""
        ...

    def on_segment(self, conn: "Connection", outgoing: bool, seg: Segment, now: int) -> None:
        """``conn`` sent (``outgoing``) or was handed ``seg`` at ``now`` (ns)."""
        ...
