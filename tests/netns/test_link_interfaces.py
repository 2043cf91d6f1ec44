"""What opening a device asks of the kernel, and what it does not load for that."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.netns.programs import PATIENCE
from usertcp.errors import SetupError
from usertcp.link import interfaces, provision
from usertcp.link.provision import Namespace


@pytest.fixture
def space() -> Iterator[str]:
    with Namespace.create() as made:
        yield made.name


def test_addresses_are_those_that_were_put_there(space: str) -> None:
    with provision.create_tap("tap0", netns=space, address="10.9.0.1/24"):
        provision.add_address("tap0", "10.10.0.1/16", netns=space)
        assert interfaces.addresses("tap0", netns=space) == ["10.9.0.1/24", "10.10.0.1/16"]
        assert sorted(interfaces.addresses(None, netns=space)) == ["10.10.0.1/16", "10.9.0.1/24", "127.0.0.1/8"]


def test_addresses_of_many_come_in_several_pieces(space: str) -> None:
    with provision.create_tap("tap0", netns=space, address=None):
        batch = "".join(f"address add 10.{i >> 8}.{i & 255}.1/24 dev tap0\n" for i in range(1000))
        subprocess.run(["ip", "-n", space, "-batch", "-"], input=batch, text=True, check=True)
        assert len(set(interfaces.addresses("tap0", netns=space))) == 1000


def test_address_of_a_point_to_point_link_is_this_ends(space: str) -> None:
    with provision.create_tap("tun0", netns=space, address=None, tun=True):
        command = ["ip", "-n", space, "address", "add", "10.9.0.1", "peer", "10.9.0.2/32", "dev", "tun0"]
        subprocess.run(command, check=True)
        assert interfaces.addresses("tun0", netns=space) == ["10.9.0.1/32"]


def test_interface_that_is_not_there_is_told(space: str) -> None:
    assert interfaces.link_exists("lo", space)
    assert not interfaces.link_exists("tap0", space)
    with pytest.raises(SetupError, match="there is no interface 'tap0'"):
        interfaces.addresses("tap0", netns=space)
    with pytest.raises(SetupError, match="there is no network namespace"):
        interfaces.addresses(None, netns=space + "-not")


def test_stack_on_a_ready_tap_opens_without_loading_what_makes_devices(space: str) -> None:
    program = (
        "import sys\n"
        "from usertcp import blocking\n"
        f"with blocking.open(tap='tap0', netns='{space}') as host:\n"
        "    host.ping('10.9.0.1')\n"
        "assert 'pyroute2' not in sys.modules and 'usertcp.link.provision' not in sys.modules\n"
    )
    with provision.create_tap("tap0", netns=space, address="10.9.0.1/24"):
        subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE)
