"""The separate pass: streams through the same code as is measured, hashed at both ends.

The other end is the kernel's TCP from Python, which can hash: ``python -m benchmarks.speed_check give PORT BYTES`` (or
``take``).
"""

import hashlib
import json
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any, Final

from benchmarks.speed_job import CHUNK, GSO, IN, OUT, PLAIN, SUM, chunks, say
from benchmarks.speed_net import FAR
from benchmarks.speed_rows import Column, Run
from benchmarks.speed_run import HERE, RIVALS, Bench, Failed, end, finished, started, tree_of

BYTES: Final = {GSO: 400_000_000, SUM: 40_000_000, PLAIN: 40_000_000}  # at least so many
SHORTER: Final = 10  # times, when it is to be quick
PATIENCE: Final = 60.0  # seconds that a stream may take
OTHERS: Final = ("veth", "veth-off", *RIVALS)  # not ours to prove


def give(conn: socket.socket, size: int) -> str:
    """Send at least ``size`` bytes; their SHA-256."""
    digest, left = hashlib.sha256(), size
    for chunk in cycle(chunks(check=True)):
        conn.sendall(chunk)
        digest.update(chunk)
        left -= len(chunk)
        if left <= 0:
            return digest.hexdigest()
    raise AssertionError("the stream has no end")


def take(conn: socket.socket) -> str:
    """Receive until the end; the SHA-256."""
    digest, view = hashlib.sha256(), memoryview(bytearray(CHUNK))
    while got := conn.recv_into(view):
        digest.update(view[:got])
    return digest.hexdigest()


def main() -> None:
    what, port, size = sys.argv[1:]
    with socket.create_server(("", int(port))) as listener:
        say(ready=True)
        conn, _ = listener.accept()
        with conn:
            found = give(conn, int(size)) if what == "give" else take(conn)
            conn.shutdown(socket.SHUT_WR)
    say(sha256=found)


def check_stream(bench: Bench, column: str, run: Run, size: int) -> str:
    """One stream; empty, or what was wrong with it."""
    what = "give" if run.kind == IN else "take"
    peer = started(
        bench.net.far, {bench.far_cpu}, [sys.executable, "-m", "benchmarks.speed_check", what, str(HERE), str(size)]
    )
    try:
        assert peer.stdout is not None
        peer.stdout.readline()
        with bench.net.tap():
            job = replace(bench.job(run, FAR), port=HERE, check=size)
            ours = started(None, {bench.near_cpu}, bench.command(column, job), tree_of(column))
            try:
                mine = finished(ours, PATIENCE)
            finally:
                end(ours)
        theirs = finished(peer, PATIENCE)
    except (Failed, json.JSONDecodeError) as error:
        return str(error)
    finally:
        end(peer)
    return "" if mine["sha256"] == theirs["sha256"] else "the hashes differ"


def check_streams(bench: Bench, columns: Sequence[Column], *, quick: bool) -> list[dict[str, Any]]:
    """A stream for each road of usertcp among the columns, way and offload."""
    found = []
    for column in columns:
        for kind in (IN, OUT):
            for offload in () if column.key in OTHERS else column.offloads:
                for reference in {False, kind == OUT and column.reference}:
                    run = Run(kind, offload=offload, reference=reference)
                    why = check_stream(bench, column.key, run, BYTES[offload] // (SHORTER if quick else 1))
                    found.append({"column": column.key, "kind": kind, "offload": offload, "why": why})
    return found


if __name__ == "__main__":
    main()
