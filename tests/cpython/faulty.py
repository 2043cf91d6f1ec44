"""A stack whose loopback is a bad network: 2 % of the packets are lost, others are late or overtaken.

Many tests give a connect two seconds and wait without a limit for whom it was to reach. With the initial time-out of
one second (RFC 6298 §2.1) two losses in a row would end it, on any stack; so it is shorter here.
"""

import random
from dataclasses import replace
from typing import Final

from usertcp.frame import LinkCaps, Sink
from usertcp.link.loss import RandomLoss
from usertcp.link.path import Path, PathConfig, Reorder
from usertcp.net.stack import Stack, StackConfig
from usertcp.units import MS

INITIAL_RTO: Final = 200 * MS
BAD: Final = PathConfig(delay=1 * MS, loss=RandomLoss(0.02), reorder=Reorder(p=0.02, by=3 * MS))


class FaultyStack(Stack):
    """What it sends to itself goes through ``path`` first, both directions of every connection."""

    def __init__(self, config: StackConfig, caps: LinkCaps, seed: int) -> None:
        source = random.Random(seed)
        config = replace(config, tcp=replace(config.tcp, initial_rto=INITIAL_RTO))
        super().__init__(config, caps, source.randbytes)
        self.path = Path(BAD, source)

    def poll(self, now: int, sink: Sink, budget: int = 64) -> bool:
        egress, path = self._egress, self.path
        arrived = path.due(now)
        egress.local.extend(arrived)
        egress.local_bytes = sum(len(packet) for packet, _ in arrived)
        super().poll(now, sink, max(budget, len(arrived)))
        while egress.local:
            path.admit(*egress.take_local(), now)
        return bool(self._dirty or egress.backlog.frames) or self.next_deadline() <= now

    def next_deadline(self) -> int:
        return min(super().next_deadline(), self.path.next_deadline())
