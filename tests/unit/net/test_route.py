"""Next hops, source addresses, and the path MTU with its lifetime."""

import pytest

from usertcp.frame import LinkCaps
from usertcp.net.interface import Interface
from usertcp.net.route import LOOPBACK_MTU, MIN_MTU, PMTU_ENTRIES, PMTU_LIFETIME, Routes
from usertcp.wire.ipv4 import pack

FAR = pack("192.0.2.7")


def routes(*addresses: str, gateway: str | None = None, mac: bytes | None = b"\x02" * 6, mtu: int = 1500) -> Routes:
    interface = Interface(addresses or ("10.9.0.2/24",), LinkCaps(mac=mac, mtu=mtu))
    return Routes(interface, pack(gateway) if gateway else None)


def test_neighbour_is_its_own_next_hop() -> None:
    assert routes().next_hop(pack("10.9.0.1")) == pack("10.9.0.1")


def test_far_without_gateway_has_no_next_hop_and_no_source() -> None:
    assert routes().next_hop(FAR) is None
    assert routes().source(FAR) is None


def test_far_with_gateway_goes_there_from_the_address_beside_it() -> None:
    table = routes("10.8.0.2/24", "10.9.0.2/24", gateway="10.9.0.254")
    assert table.next_hop(FAR) == pack("10.9.0.254")
    assert table.source(FAR) == pack("10.9.0.2")
    assert table.source(pack("10.8.0.77")) == pack("10.8.0.2")


def test_own_addresses_stay_here() -> None:
    table = routes()
    assert table.next_hop(pack("10.9.0.2")) == b""
    assert table.next_hop(pack("127.0.0.5")) == b""
    assert table.source(pack("127.0.0.5")) == pack("127.0.0.1")
    assert table.source(pack("10.9.0.2")) == pack("10.9.0.2")
    assert table.mtu(pack("10.9.0.2"), 0) == LOOPBACK_MTU


@pytest.mark.parametrize("gateway", ["10.8.0.1", "10.9.0.2"])
def test_gateway_off_the_network_refused(gateway: str) -> None:
    with pytest.raises(ValueError, match="gateway"):
        routes(gateway=gateway)


def test_gateway_on_a_link_without_neighbours_may_be_anything() -> None:
    assert routes(gateway="10.8.0.1", mac=None).next_hop(FAR) == pack("10.8.0.1")


def test_path_mtu_learned_then_ten_minutes_pass_link_mtu_again() -> None:
    table = routes(gateway="10.9.0.254")
    assert table.learn_mtu(FAR, 1280, now=5) == 1280
    assert table.mtu(FAR, 5 + PMTU_LIFETIME - 1) == 1280
    assert table.mtu(pack("192.0.2.8"), 5) == 1500
    assert table.mtu(FAR, 5 + PMTU_LIFETIME) == 1500


def test_path_mtu_larger_than_known_changes_nothing() -> None:
    table = routes(gateway="10.9.0.254")
    table.learn_mtu(FAR, 1280, now=0)
    assert table.learn_mtu(FAR, 1400, now=0) == 1280


def test_path_mtu_absurdly_small_stops_at_the_minimum() -> None:
    assert routes(gateway="10.9.0.254").learn_mtu(FAR, 68, now=0) == MIN_MTU


def test_path_mtu_not_told_takes_the_next_plateau() -> None:
    table = routes(gateway="10.9.0.254")
    assert [table.learn_mtu(FAR, 0, now=0) for _ in range(4)] == [1492, 1006, MIN_MTU, MIN_MTU]


def test_path_mtus_of_many_destinations_stay_bounded() -> None:
    table = routes("10.0.0.2/8", mtu=1500)
    for n in range(PMTU_ENTRIES + 100):
        table.learn_mtu((0x0A010000 + n).to_bytes(4, "big"), 1280, now=0)
    assert sum(table.mtu((0x0A010000 + n).to_bytes(4, "big"), 0) == 1280 for n in range(PMTU_ENTRIES + 100)) == (
        PMTU_ENTRIES
    )
