#!/usr/bin/env python3
"""Two hosts under virtual time: an hour of an idle connection, kept alive once a minute. Needs no root.

Run it twice: the digest over every packet and its time is the same. Change the seed, and it is another.
"""

import time

from usertcp.sim import HOUR, MINUTE, MS, SEC, TcpConfig, Wire, World


def main() -> None:
    began = time.perf_counter()
    world = World(seed=1)
    patient = TcpConfig(keepalive=True, keepalive_idle=MINUTE)
    alice = world.host("alice", "10.0.0.1/24", wire=Wire(delay=20 * MS), config=patient)
    bob = world.host("bob", "10.0.0.2/24", wire=Wire(delay=20 * MS))
    bob.listen(80)
    conn = alice.connect(("10.0.0.2", 80))
    world.run(HOUR)
    print(f"{world.now / SEC:.0f} s of virtual time and {world.frames} frames: the connection is {conn.state}")
    print(f"digest {world.digest}")
    print(f"({time.perf_counter() - began:.2f} s of real time)")


if __name__ == "__main__":
    main()
