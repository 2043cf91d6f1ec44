"""How a program that was written for asyncio is tested on a bad network: ``pytest examples/test_tally.py``, no root.

The fixture ``usertcp_world`` comes with usertcp. Time is virtual, so minutes of partition take no time, and a failure
happens again with the seed that is reported with it.
"""

import asyncio

import pytest
from tally import Tally, serve, vote

from usertcp.sim import HOUR, MS, SEC, RandomLoss, Wire, World


def election(world: World, loss: float, votes: int) -> tuple[Tally, list[int]]:
    """Three clients on lossy wires and one server; what it counted, and the connections of each."""
    tally = Tally()
    server = world.host("server")
    clients = [world.host(f"client{n}", wire=Wire(delay=20 * MS, loss=RandomLoss(loss))) for n in range(3)]

    async def main() -> list[int]:
        await server.create_task(serve(tally))
        casting = [client.create_task(vote("server", client.name, votes)) for client in clients]
        return await asyncio.gather(*casting)

    return tally, world.run_until_complete(main())


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.2])
def test_every_vote_counts_once_however_much_is_lost(usertcp_world: World, loss: float) -> None:
    tally, _ = election(usertcp_world, loss, 100)
    assert tally.votes == {"client0": 100, "client1": 100, "client2": 100}


def test_every_vote_counts_once_when_the_network_falls_apart(usertcp_world: World) -> None:
    world = usertcp_world
    world.call_at(2 * SEC, lambda: world.partition(world.hosts[:2], world.hosts[2:]))
    world.call_at(HOUR, world.heal)
    tally, connections = election(world, 0.02, 100)
    assert tally.votes == {"client0": 100, "client1": 100, "client2": 100}
    assert connections[0] == 1  # it stayed with the server
    assert min(connections[1:]) > 1
    assert world.now > HOUR


def test_the_same_seed_is_the_same_election() -> None:
    worlds = [World(seed) for seed in (1, 1, 2)]
    for world in worlds:
        election(world, 0.05, 20)
    assert worlds[0].digest == worlds[1].digest != worlds[2].digest
