"""Congestion control measured: bulk flows over one simulated bottleneck, under virtual time.

::

    sender 0 -- own delay --+
    sender 1 -- own delay --+-- switch -- bottleneck: rate, queue, losses --> receiver
    sender 2 -- own delay --+                       <-- ACKs: no rate, losses

Every sender is a host of its own with one connection, writes as fast as its buffer takes, and is an unmodified stack;
what it sends as super-segments enters the bottleneck as single frames. The receiver reads at once. Nothing else is in
the network, so what the figures show is the congestion control's and the recovery's doing. The same experiment with the
same seed gives the same figures to the last digit.

In a network without any chance flows of equal round trips lock into phase, and the same one always finds the queue
full (Floyd and Jacobson, "On Traffic Phase Effects in Packet-Switched Gateways", 1992). As they advise, what a sender
sends is delayed at random by up to the time that one frame takes at the bottleneck.

Goodput counts bytes that arrived, each once. The retransmitted share counts payload on the sender's wire, by
itself and not by the sender's own book-keeping. Real time, the machine's speed and the kernel's TCP play no part: for
those see the benchmarks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from usertcp.driver.sim import SimHost, Wire, World
from usertcp.link.loss import Loss, RandomLoss
from usertcp.link.path import CLEAN, Discipline, PathConfig, Reorder
from usertcp.link.queue import DropTail
from usertcp.tcp.cc.base import UNLIMITED
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.units import KIB, MS, SEC

PORT: Final = 5001  # of the first flow's listener
CHUNK: Final = memoryview(bytes(256 * KIB))  # what is written at once
HEADERS: Final = 34  # bytes of Ethernet and IPv4 in front of TCP
FRAME: Final = 1514  # bytes of a full one
FINEST: Final = 10 * MS  # between samples


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """What the flows share.

    ``rate``      bit/s
    ``rtt``       round trip without any queue, ns; of flows that do not say otherwise
    ``queue``     the discipline; None: drop-tail of one bandwidth-delay product
    ``ecn``       the discipline marks what allows it
    ``loss``      of data, beside what the queue drops; ``ack_loss``: of acknowledgments, a share by chance
    ``reorder``   of data
    ``split``     super-segments enter it as single frames; False: whole, which is coarse, and fast at high rates
    """

    rate: int = 10_000_000
    rtt: int = 50 * MS
    queue: Discipline | None = None
    ecn: bool = False
    loss: Loss = CLEAN
    ack_loss: float = 0.0
    reorder: Reorder | None = None
    split: bool = True

    @property
    def bdp(self) -> int:
        """The bandwidth-delay product, bytes."""
        return self.rate * self.rtt // (8 * SEC)

    def wire(self) -> Wire:
        """The receiver's wire."""
        queue = self.queue if self.queue is not None else DropTail(self.bdp)
        down = PathConfig(self.rate, queue=queue, ecn=self.ecn, loss=self.loss, reorder=self.reorder)
        return Wire(down=down, up=PathConfig(loss=RandomLoss(self.ack_loss)), offload=True, split=self.split)


@dataclass(frozen=True, slots=True)
class Flow:
    """One bulk transfer.

    ``congestion``  the algorithm's name
    ``start``       when it connects, ns
    ``rtt``         its own round trip without any queue, ns; 0: the bottleneck's
    ``config``      everything else
    """

    congestion: str
    start: int = 0
    rtt: int = 0
    config: TcpConfig = field(default_factory=TcpConfig)


@dataclass(frozen=True, slots=True)
class Series:
    """One flow over time, a value a sample: times in ns, sizes in bytes, throughput in bit/s. ``ssthresh`` is None, and
    ``srtt``, before there is one."""

    time: list[int] = field(default_factory=list)
    cwnd: list[int] = field(default_factory=list)
    ssthresh: list[int | None] = field(default_factory=list)
    srtt: list[int | None] = field(default_factory=list)
    throughput: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FlowResult:
    """``goodput`` in bit/s; ``retransmitted``: the share of the payload sent that had been sent before."""

    flow: Flow
    goodput: float
    retransmitted: float
    series: Series


@dataclass(frozen=True, slots=True)
class Outcome:
    """One experiment; ``goodput`` and ``retransmitted`` are of all flows together.

    ``delay_mean, delay_95``  of what passed the queue: how long it waited, ns
    ``drops, marks``          frames that the queue dropped and marked; ``lost``: by the loss model
    ``queue``                 (when, how long a frame that came then had to wait) at each sample, ns
    ``digest``                of all frames
    """

    flows: list[FlowResult]
    goodput: float
    retransmitted: float
    delay_mean: int
    delay_95: int
    drops: int
    marks: int
    lost: int
    jain: float
    queue: list[tuple[int, int]]
    digest: str


def jain(values: Sequence[float]) -> float:
    """Jain's fairness index: 1 if all are equal, 1/n if one has it all (1984, DEC-TR-301)."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


class _Sender:
    """Writes without end, and books what its host puts on the wire.

    ``sent``  bytes of payload, the same as often as it is sent
    """

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.conn: Connection | None = None
        self.sent = 0

    def connect(self, host: SimHost, remote: tuple[str, int], config: TcpConfig) -> None:
        self.conn = host.connect(remote, config=config)
        self.conn.user = self

    def on_ready(self) -> None:
        conn = self.conn
        assert conn is not None
        while conn.writable and conn.write(CHUNK):
            pass

    def saw(self, frame: bytes) -> None:
        """The host sent ``frame``."""
        if frame[12:14] == b"\x08\x00" and len(frame) > HEADERS + 12:
            self.sent += len(frame) - HEADERS - (frame[HEADERS + 12] >> 4 << 2)

    @property
    def unique(self) -> int:
        """Bytes of payload that were sent at least once."""
        if self.conn is None:
            return 0
        info = self.conn.info()
        return info.bytes_acked + info.unacked


class _Receiver:
    """Reads what comes; ``size``: how much that was, bytes."""

    def __init__(self) -> None:
        self.size = 0
        self.conn: Connection | None = None

    @property
    def arrived(self) -> int:
        """The same with what is held behind gaps: what came at least once."""
        return self.size + (self.conn.info().out_of_order if self.conn is not None else 0)

    def on_ready(self) -> None:
        conn = self.conn
        assert conn is not None
        while conn.readable:
            self.size += len(conn.read(CHUNK.nbytes))


class _Door:
    """Accepts the one connection of ``receiver``."""

    def __init__(self, host: SimHost, port: int, receiver: _Receiver, config: TcpConfig) -> None:
        self.listener = host.listen(port, config=config)
        self.listener.user = self
        self.receiver = receiver

    def on_ready(self) -> None:
        conn = self.listener.accept()
        if conn is not None:
            self.receiver.conn = conn
            conn.user = self.receiver
            self.receiver.on_ready()


class Experiment:
    """Flows over a bottleneck: built by the constructor, played by :meth:`run`.

    ``interval``  between samples, ns; 0: a round trip, 10 ms at least
    ``settle``    the figures leave out the time until so long after the last flow's start, ns
    """

    def __init__(
        self, bottleneck: Bottleneck, flows: Sequence[Flow], *, seed: int = 1, interval: int = 0, settle: int = 0
    ) -> None:
        self.bottleneck = bottleneck
        self.world = World(seed)
        self.receiver = self.world.host("receiver", "10.0.0.1/16", wire=bottleneck.wire())
        self.interval = interval or max(bottleneck.rtt, FINEST)
        self.since = max(flow.start for flow in flows) + settle
        self._senders: dict[str, _Sender] = {}
        self._receivers: list[_Receiver] = []
        for n, flow in enumerate(flows):
            self._add(n, flow)
        self._series = [Series() for _ in flows]
        self._queue: list[tuple[int, int]] = []
        self._sizes = [0] * len(flows)  # at the last sample
        self._before: list[tuple[int, int, int]] = [(0, 0, 0)] * len(flows)  # arrived, sent, unique at ``since``
        self._struck = (0, 0, 0)  # drops, marks, losses at ``since``
        self.world.observers.append(self._saw)
        self.world.call_at(self.since, self._begin)
        self.world.call_at(self.interval, self._sample)

    def _add(self, n: int, flow: Flow) -> None:
        name = f"sender {n}"
        delay = (flow.rtt or self.bottleneck.rtt) // 2
        up = PathConfig(delay=delay, jitter=FRAME * 8 * SEC // self.bottleneck.rate)
        wire = Wire(delay=delay, up=up, offload=True)
        host = self.world.host(name, f"10.0.{n // 200 + 1}.{n % 200 + 1}/16", wire=wire)
        sender, receiver = _Sender(flow), _Receiver()
        self._senders[name] = sender
        self._receivers.append(receiver)
        config = replace(flow.config, congestion=flow.congestion)
        _Door(self.receiver, PORT + n, receiver, config)
        self.world.call_at(flow.start, sender.connect, host, (self.receiver.address, PORT + n), config)

    def run(self, duration: int) -> Outcome:
        """Play until virtual time ``duration`` (ns) and sum up."""
        if duration <= self.since:
            raise ValueError("the experiment ends before its figures begin")
        self.world.run(duration)
        seconds = (duration - self.since) / SEC
        results, sent, unique = [], 0, 0
        for sender, receiver, before, series in zip(
            self._senders.values(), self._receivers, self._before, self._series, strict=True
        ):
            mine, once = sender.sent - before[1], sender.unique - before[2]
            goodput = (receiver.arrived - before[0]) * 8 / seconds
            results.append(FlowResult(sender.flow, goodput, _share(mine - once, mine), series))
            sent += mine
            unique += once
        path = self.receiver.down
        waited = sorted(path.record or [0])
        goodputs = [result.goodput for result in results]
        return Outcome(
            flows=results,
            goodput=sum(goodputs),
            retransmitted=_share(sent - unique, sent),
            delay_mean=sum(waited) // len(waited),
            delay_95=waited[len(waited) * 95 // 100],
            drops=path.drops - self._struck[0],
            marks=path.marks - self._struck[1],
            lost=path.lost - self._struck[2],
            jain=jain(goodputs),
            queue=self._queue,
            digest=self.world.digest,
        )

    def _saw(self, now: int, name: str, frame: bytes) -> None:
        sender = self._senders.get(name)
        if sender is not None:
            sender.saw(frame)

    def _begin(self) -> None:
        """The figures begin."""
        path = self.receiver.down
        path.record = []
        self._struck = (path.drops, path.marks, path.lost)
        self._before = [
            (receiver.arrived, sender.sent, sender.unique)
            for sender, receiver in zip(self._senders.values(), self._receivers, strict=True)
        ]

    def _sample(self) -> None:
        now = self.world.now
        for n, (sender, receiver) in enumerate(zip(self._senders.values(), self._receivers, strict=True)):
            conn = sender.conn
            if conn is None:
                continue
            info, series = conn.info(), self._series[n]
            series.time.append(now)
            series.cwnd.append(info.cwnd)
            series.ssthresh.append(info.ssthresh if info.ssthresh < UNLIMITED else None)
            series.srtt.append(info.srtt or None)
            series.throughput.append((receiver.size - self._sizes[n]) * 8 * SEC // self.interval)
            self._sizes[n] = receiver.size
        self._queue.append((now, self.receiver.down.backlog(now) * 8 * SEC // self.bottleneck.rate))
        self.world.call_later(self.interval, self._sample)


def _share(part: int, whole: int) -> float:
    return part / whole if whole > 0 else 0.0
