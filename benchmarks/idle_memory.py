#!/usr/bin/env python3
"""Bytes that an idle connection costs: two simulated hosts, connections that have carried data and now carry none."""

import gc
import sys
import tracemalloc

from usertcp.driver.sim import SimHost, World
from usertcp.tcp.connection import Connection
from usertcp.tcp.listener import Listener
from usertcp.units import SEC


def grow(world: World, client: SimHost, listener: Listener, count: int) -> list[Connection]:
    """``count`` more connections, both their ends, each with 1000 bytes behind it."""
    ends = [client.connect(("10.0.0.2", 80)) for _ in range(count)]
    world.run_for(5 * SEC)
    for conn in ends:
        conn.write(bytes(1000))
    world.run_for(5 * SEC)
    while (accepted := listener.accept()) is not None:
        accepted.read(1000)
        ends.append(accepted)
    world.run_for(5 * SEC)
    return ends


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    world = World()
    client, server = world.host("client", "10.0.0.1/24"), world.host("server", "10.0.0.2/24")
    listener = server.listen(80, backlog=2 * count)
    grow(world, client, listener, 10)
    tracemalloc.start()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    ends = grow(world, client, listener, count)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    print(f"{len(ends)} idle ends, {held / len(ends):.0f} bytes each (Python {sys.version.split()[0]})")


if __name__ == "__main__":
    main()
