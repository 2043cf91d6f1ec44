"""The relay: a process between two TAPs, in which every TCP connection has a path of its own.

    TAP of A --> read --> path of the flow: loss, queue, rate, delay --> write --> TAP of B      and the way back

A frame belongs to the flow that the peer's port names; the paths are those of :mod:`usertcp.link.path`, with a clock
that begins with the flow's first frame. ARP, and what belongs to no flow, passes at once. The loop sleeps in select(2),
whose time-out counts microseconds (epoll's counts milliseconds), until a frame comes or is due.

A relay that comes late falsifies what it relays. So it accounts for itself: how late frames left, how much of a
processor it took, and whether a device refused one. And since it sees every segment, it is also the judge of
retransmissions, by one measure for both TCPs: data segments that bring nothing new, and duplicates that the receiver
reports (DSACK, RFC 2883) in acknowledgments that arrived.

It is driven by lines of JSON on stdin: ``open`` flows, ``close`` some and tell their counters, ``report`` on itself. On
request it records each flow in two captures, as seen by the data's sender and by its receiver: what the one has and the
other has not was lost.
"""

import argparse
import gc
import json
import os
import pathlib
import select
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from heapq import heappop, heappush
from random import Random
from typing import Any, BinaryIO, Final

from benchmarks.loss_cells import SEND, Job, job_from, paths
from benchmarks.loss_ends import hurry
from benchmarks.loss_net import RELAY_A, RELAY_B
from usertcp.frame import PLAIN, FrameMeta
from usertcp.link import pcap
from usertcp.link.path import Path
from usertcp.link.tap import TapLink
from usertcp.units import MASK32, NEVER, SEC
from usertcp.wire import vnet

READS: Final = 16  # frames taken from a TAP before what is due leaves
LATE: Final = 2_000_000  # ns; later than this counts as ``late``
IPV4: Final = b"\x08\x00"
HALF: Final = 1 << 31
SACK: Final = 5  # option kind
SNAPLEN: Final = 110  # bytes kept of a captured frame: every header


@dataclass(slots=True)
class Counters:
    """What a flow did. Segments, as they entered the path or (``dsacks``) left it.

    ``segments``     with data
    ``repeated``     of those, without a byte that was not sent before
    ``acks``         without data, the other way
    ``dsacks``       duplicates that the receiver reported and the sender heard of
    ``lost``, ``drops``, ``acks_lost``  by the loss model, by the full queue, and on the way back
    ``queue_ms``     the mean time a frame waited in the queue
    """

    segments: int = 0
    repeated: int = 0
    acks: int = 0
    dsacks: int = 0
    lost: int = 0
    drops: int = 0
    acks_lost: int = 0
    queue_ms: float = 0.0


class Lane:
    """One direction of one flow: a path, the device at its end, and what is counted on the way in and out."""

    __slots__ = ("base", "captures", "counters", "data", "fd", "highest", "origin", "path", "scheduled")

    def __init__(self, path: Path, fd: int, data: bool, counters: Counters, base: int) -> None:
        self.path = path
        self.fd = fd
        self.data = data
        self.counters = counters
        self.base = base  # where the Ethernet header begins
        self.origin = 0
        self.scheduled = NEVER
        self.highest = -1  # the sequence number after the newest byte
        self.captures: tuple[pcap.Writer, pcap.Writer] | None = None  # of where it enters, of where it leaves

    def count_in(self, frame: bytes) -> None:
        """A frame enters: data, new or not, or an acknowledgment."""
        base = self.base
        header = (frame[base + 46] >> 4) * 4
        text = int.from_bytes(frame[base + 16 : base + 18], "big") - 20 - header
        counters = self.counters
        if text <= 0:
            if not self.data:
                counters.acks += 1
            return
        if not self.data:
            return
        counters.segments += 1
        end = (int.from_bytes(frame[base + 38 : base + 42], "big") + text) & MASK32
        if self.highest < 0 or 0 < (end - self.highest) & MASK32 < HALF:
            self.highest = end
        else:
            counters.repeated += 1

    def count_out(self, frame: bytes) -> None:
        """An acknowledgment arrives: does it report a duplicate (RFC 2883 §4)?"""
        base = self.base
        at, end = base + 54, base + 34 + (frame[base + 46] >> 4) * 4
        while at + 1 < end:
            kind = frame[at]
            if kind == SACK:
                break
            if kind == 0:
                return
            at += 1 if kind == 1 else max(frame[at + 1], 2)
        else:
            return
        blocks = [int.from_bytes(frame[i : i + 4], "big") for i in range(at + 2, at + frame[at + 1], 4)]
        if len(blocks) < 2:
            return
        ack = int.from_bytes(frame[base + 42 : base + 46], "big")
        below = 0 < (ack - blocks[0]) & MASK32 < HALF  # what it reports first was acknowledged before
        inside = (
            len(blocks) >= 4 and (blocks[0] - blocks[2]) & MASK32 < HALF and (blocks[3] - blocks[1]) & MASK32 < HALF
        )
        if below or inside:
            self.counters.dsacks += 1


class Relay:
    """See the module. ``base``: bytes in front of the Ethernet header, those of virtio with offloads."""

    def __init__(self, near: TapLink, far: TapLink, base: int, folder: pathlib.Path | None = None) -> None:
        self.near, self.far = near.fileno(), far.fileno()
        self.base = base
        self.folder = folder  # for captures
        self.files: dict[bytes, list[BinaryIO]] = {}
        self.flows: dict[bytes, tuple[Lane, Lane]] = {}  # by the peer's port: away from A, back to A
        self.heap: list[tuple[int, int, Lane]] = []
        self.order = 0
        self.refused = 0  # frames that a device did not take
        self.frames = 0
        self.late_sum = self.late_max = self.late = self.wakes = 0
        self.cpu = self.began = 0.0
        self.wall = time.time_ns() - time.monotonic_ns()

    # -- what the benchmark asks ------------------------------------------------------------------

    def open(self, job: Job, name: str) -> None:
        """Make the paths of a flow that is about to begin; ``name``: of its captures."""
        counters = Counters()
        configs = paths(job.cell, job.seed)
        data, acks = (Path(config, Random(f"{job.seed}/{n}")) for n, config in enumerate(configs))
        if job.cell.role == SEND:
            lanes = (Lane(data, self.far, True, counters, self.base), Lane(acks, self.near, False, counters, self.base))
        else:
            lanes = (Lane(acks, self.far, False, counters, self.base), Lane(data, self.near, True, counters, self.base))
        key = job.port.to_bytes(2, "big")
        self.flows[key] = lanes
        if self.folder is not None:
            files = [(self.folder / f"{name}-{end}.pcap").open("wb") for end in ("sender", "receiver")]
            sender, receiver = (pcap.Writer(file, snaplen=SNAPLEN) for file in files)
            self.files[key] = list(files)
            for lane in lanes:
                lane.captures = (sender, receiver) if lane.data else (receiver, sender)

    def close(self, port: int) -> dict[str, Any]:
        """The counters of a flow that has ended; it is forgotten."""
        key = port.to_bytes(2, "big")
        lanes = self.flows.pop(key)
        for file in self.files.pop(key, []):
            file.close()
        data, acks = lanes if lanes[0].data else (lanes[1], lanes[0])
        for lane in lanes:
            lane.scheduled = -1  # its entries in the heap are void
            lane.captures = None
        counters, path = data.counters, data.path
        counters.lost, counters.drops, counters.acks_lost = path.lost, path.drops, acks.path.lost
        counters.queue_ms = path.delay_sum / max(path.sent, 1) / 1e6
        return asdict(counters)

    def report(self) -> dict[str, Any]:
        """How the relay itself did since the last report. Lateness in microseconds; ``cpu``: share of a processor."""
        wall, cpu = time.monotonic(), time.process_time()
        answer = {
            "frames": self.frames,
            "refused": self.refused,
            "late_mean": self.late_sum / max(self.wakes, 1) / 1000,
            "late_max": self.late_max / 1000,
            "late_share": self.late / max(self.wakes, 1),
            "cpu": (cpu - self.cpu) / max(wall - self.began, 1e-9),
        }
        self.frames = self.refused = self.late_sum = self.late_max = self.late = self.wakes = 0
        self.cpu, self.began = cpu, wall
        return answer

    # -- relaying ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Relay until stdin ends."""
        near, far, clock = self.near, self.far, time.monotonic_ns
        watched = [near, far, 0]
        heap = self.heap
        self.report()
        unread = b""
        while True:
            timeout = None
            if heap:
                timeout = max(0, heap[0][0] - clock()) / SEC
            ready, _, _ = select.select(watched, (), (), timeout)
            if near in ready:
                self.take(near, far, 36 + self.base)
            if heap and heap[0][0] <= clock():
                self.deliver(clock())
            if far in ready:
                self.take(far, near, 34 + self.base)
            if heap and heap[0][0] <= clock():
                self.deliver(clock())
            if 0 in ready:
                got = os.read(0, 65536)
                if not got:
                    return
                *lines, unread = (unread + got).split(b"\n")
                for line in lines:
                    self.obey(json.loads(line))

    def take(self, fd: int, other: int, port: int) -> None:
        """Read what has come; ``port``: where in the frame the peer's port lies."""
        base, flows, away = self.base, self.flows, fd == self.near
        for _ in range(READS):
            try:
                frame = os.read(fd, 65636)
            except BlockingIOError:
                return
            now = time.monotonic_ns()
            lanes = flows.get(frame[port : port + 2]) if frame[base + 12 : base + 14] == IPV4 else None
            if lanes is None:
                self.write(other, frame)
                continue
            lane = lanes[0] if away else lanes[1]
            if not lane.origin:
                lanes[0].origin = lanes[1].origin = now
            lane.count_in(frame)
            if lane.captures is not None:
                lane.captures[0].write(now + self.wall, frame[base:])
            lane.path.admit(frame, PLAIN if not base else vnet_meta(frame), now - lane.origin)
            self.schedule(lane)

    def schedule(self, lane: Lane) -> None:
        """See to it that the lane's next arrival is attended to."""
        at = lane.path.next_deadline()
        if at < NEVER:
            at += lane.origin
            if at < lane.scheduled:
                lane.scheduled = at
                self.order += 1
                heappush(self.heap, (at, self.order, lane))

    def deliver(self, now: int) -> None:
        """Write what has arrived by ``now``."""
        heap = self.heap
        while heap and heap[0][0] <= now:
            at, _, lane = heappop(heap)
            if at != lane.scheduled:
                continue
            lane.scheduled = NEVER
            self.wakes += 1
            late = now - at
            self.late_sum += late
            if late > self.late_max:
                self.late_max = late
            if late > LATE:
                self.late += 1
            for frame, _ in lane.path.due(now - lane.origin):
                if not lane.data and frame[self.base + 46] > 0x8F:  # more options than timestamps
                    lane.count_out(frame)
                if lane.captures is not None:
                    lane.captures[1].write(now + self.wall, frame[self.base :])
                self.write(lane.fd, frame)
            self.schedule(lane)

    def write(self, fd: int, frame: bytes) -> None:
        self.frames += 1
        try:
            os.write(fd, frame)
        except OSError:
            self.refused += 1

    def obey(self, order: dict[str, Any]) -> None:
        """One line of the benchmark."""
        answer: Any = None
        if order["do"] == "open":
            for words in order["jobs"]:
                self.open(job_from(words), words["name"])
        elif order["do"] == "close":
            answer = {str(port): self.close(port) for port in order["ports"]}
        else:
            answer = self.report()
        print(json.dumps({"did": order["do"], "answer": answer}), flush=True)


def vnet_meta(frame: bytes) -> FrameMeta:
    """How large the segments are that a super-segment stands for."""
    meta = vnet.decode(frame)
    return PLAIN if not meta.gso_size else meta


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("near")
    parser.add_argument("far")
    parser.add_argument("--offload", action="store_true")
    parser.add_argument("--pcap", type=pathlib.Path, help="a folder for captures")
    args = parser.parse_args()
    hurry(3)
    with (
        TapLink.open(RELAY_A, netns=args.near, offload=args.offload) as near,
        TapLink.open(RELAY_B, netns=args.far, offload=args.offload) as far,
    ):
        print(json.dumps({"did": "start", "answer": None}), flush=True)
        gc.freeze()
        gc.disable()  # nothing here refers back to itself, and a collection would hold up frames
        with suppress(KeyboardInterrupt):
            Relay(near, far, vnet.HEADER_LEN if args.offload else 0, args.pcap).run()
    sys.exit(0)


if __name__ == "__main__":
    main()
