"""What a user may say to ``open``, and names. Devices themselves are in tests/netns."""

import errno
import socket

import pytest

from usertcp.driver.open import LinkSpec, resolve
from usertcp.errors import SetupError


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ({"tap": "a", "packet": "b"}, "more than one device"),
        ({"tap": "a", "tun": "b"}, "more than one device"),
        ({"address": "10.0.0.1"}, "not an address with a prefix length"),
        ({"address": "host/24"}, "not an address with a prefix length"),
        ({"gateway": "somewhere"}, "not an address"),
        ({"mtu": 100}, "not usable"),
        ({"address": "10.9.0.0/24"}, "that of the network"),
        ({"address": "10.9.0.255/24"}, "broadcast"),
        ({"address": "0.0.0.0/0"}, "no address"),
        ({"address": "127.0.0.1/8"}, "loopback"),
        ({"kernel_address": "10.9.0.0/24"}, "that of the network"),
        ({"tap": ""}, "cannot be called"),
        ({"packet": "a/b"}, "cannot be called"),
        ({"netns": "../../etc/passwd"}, "cannot be called"),
        ({"netns": ""}, "cannot be called"),
        ({"mtu": 70_000}, "not usable"),
    ],
)
def test_words_that_cannot_be_name_cause_and_cure(words: dict[str, object], cause: str) -> None:
    with pytest.raises(SetupError, match=cause) as caught:
        LinkSpec(**words)  # type: ignore[arg-type]
    assert caught.value.cure


def test_address_resolves_to_itself() -> None:
    assert resolve("10.9.0.1") == "10.9.0.1"


def test_name_that_does_not_resolve_is_named_in_the_error() -> None:
    with pytest.raises(socket.gaierror, match="'no\\.such\\.name\\.invalid' does not resolve"):
        resolve("no.such.name.invalid")


@pytest.mark.parametrize("name", ["", "a" * 300 + ".example", "a..b"])
def test_what_is_no_name_does_not_resolve(name: str) -> None:
    with pytest.raises(OSError, match=r"resolve|name"):
        resolve(name)


def test_ipv6_address_is_not_supported() -> None:
    with pytest.raises(OSError, match="not supported") as caught:
        resolve("2001:db8::1")
    assert caught.value.errno == errno.EAFNOSUPPORT
