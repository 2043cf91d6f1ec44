"""Words that cannot be a device, a namespace, an address or a size are refused, and what would do is said."""

import pytest

from usertcp.errors import SetupError
from usertcp.link import netns
from usertcp.link.words import checked_mtu, checked_name, checked_space, interface_of


@pytest.mark.parametrize("name", ["", "a" * 16, "a/b", "a b", "..", "a:b"])
def test_interface_name_that_the_kernel_would_not_take_is_refused_with_a_cure(name: str) -> None:
    with pytest.raises(SetupError) as refused:
        checked_name(name)
    assert refused.value.cure


@pytest.mark.parametrize("name", ["", ".", "..", "../../etc/passwd", "/etc/passwd", "a" * 256, "a\0b"])
def test_namespace_name_that_is_no_file_of_its_folder_is_refused_wherever_it_is_used(name: str) -> None:
    with pytest.raises(SetupError, match="cannot be called") as refused:
        checked_space(name)
    assert refused.value.cure
    with pytest.raises(SetupError, match="cannot be called"), netns.inside(name):
        pass
    with pytest.raises(SetupError, match="cannot be called"):
        netns.exists(name)


@pytest.mark.parametrize(("mtu", "tun"), [(67, False), (65522, False), (65535, False), (65536, True), (0, True)])
def test_mtu_that_the_device_cannot_have_is_refused_with_the_range(mtu: int, tun: bool) -> None:
    with pytest.raises(SetupError, match=str(mtu)) as refused:
        checked_mtu(mtu, tun=tun)
    assert "between 68 and" in refused.value.cure


def test_mtu_at_the_limits_is_taken() -> None:
    assert [checked_mtu(mtu, tun=False) for mtu in (68, 65521)] == [68, 65521]
    assert checked_mtu(65535, tun=True) == 65535


@pytest.mark.parametrize("text", ["10.9.0.1/24", "10.9.0.0/31", "10.9.0.1/31", "10.9.0.255/32", "10.0.255.255/8"])
def test_address_of_one_host_is_taken(text: str) -> None:
    assert str(interface_of(text)) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.9.0.0/24", "that of the network 10.9.0.0/24"),
        ("10.9.0.255/24", "the broadcast address of 10.9.0.0/24"),
        ("0.0.0.0/0", "no address"),
        ("0.1.2.3/8", "no address"),
        ("127.0.0.1/8", "loopback"),
        ("224.0.0.1/24", "multicast"),
        ("240.0.0.1/24", "reserved"),
        ("255.255.255.255/32", "reserved"),
        ("10.9.0.1", "not an address with a prefix length"),
        ("10.9.0.1/33", "not an address with a prefix length"),
    ],
)
def test_address_that_no_host_can_have_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(SetupError, match=reason) as refused:
        interface_of(text)
    assert "like 10.9.0" in refused.value.cure
