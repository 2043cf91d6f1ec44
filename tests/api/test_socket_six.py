"""usertcp.socket: AF_INET6 on a stack that speaks IPv4: ::1, :: and mapped addresses, beside AF_INET."""

import errno
import socket as kernel
from collections.abc import Iterator

import pytest

import usertcp.socket as us
from tests.api.hosts import LEFT, PATIENCE
from tests.api.sockets import one_engine
from usertcp.driver.addresses import presented, resolve


@pytest.fixture(scope="module")
def engine() -> Iterator[us.Engine]:
    with one_engine() as made:
        yield made


def bound(host: str, *, only: int | None = None, port: int = 0) -> us.socket:
    sock = us.socket(us.AF_INET6)
    if only is not None:
        sock.setsockopt(us.IPPROTO_IPV6, us.IPV6_V6ONLY, only)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def outcome(family: int, host: str, port: int) -> int:
    with us.socket(family) as sock:
        return sock.connect_ex((host, port))


@pytest.mark.parametrize(
    ("listening", "only", "six", "mapped", "four"),
    [
        ("::1", 0, 0, errno.ECONNREFUSED, errno.ECONNREFUSED),
        ("::", 0, 0, 0, 0),
        ("::", 1, 0, errno.ECONNREFUSED, errno.ECONNREFUSED),
        ("::ffff:127.0.0.1", 0, errno.ECONNREFUSED, 0, 0),
    ],
)
def test_listener_is_reached_as_on_linux(
    engine: us.Engine, listening: str, only: int, six: int, mapped: int, four: int
) -> None:
    with bound(listening, only=only) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        assert listener.getsockname() == (listening, port, 0, 0)
        assert outcome(us.AF_INET6, "::1", port) == six
        assert outcome(us.AF_INET6, "::ffff:127.0.0.1", port) == mapped
        assert outcome(us.AF_INET, "127.0.0.1", port) == four


def test_names_of_both_ends_are_those_of_the_family(engine: us.Engine) -> None:
    with us.create_server(("", 0), family=us.AF_INET6, dualstack_ipv6=True) as listener:
        port = listener.getsockname()[1]
        for host, seen in (("::1", "::1"), ("127.0.0.1", "::ffff:127.0.0.1")):
            with us.create_connection((host, port), PATIENCE) as client:
                server, peer = listener.accept()
                with server:
                    assert server.family == us.AF_INET6
                    assert peer == server.getpeername() == (seen, client.getsockname()[1], 0, 0)
                    assert server.getsockname() == (seen, port, 0, 0)
                    assert server.getsockopt(us.SOL_SOCKET, us.SO_DOMAIN) == us.AF_INET6
                    with us.socket(fileno=server.dup().detach()) as copy:
                        assert (copy.family, copy.getpeername()) == (us.AF_INET6, peer)


def test_connect_to_the_wildcard_reaches_this_host(engine: us.Engine) -> None:
    with us.create_server(("", 0)) as listener:
        port = listener.getsockname()[1]
        with us.create_connection(("0.0.0.0", port), PATIENCE) as client:
            assert client.getpeername() == ("127.0.0.1", port)


def test_wildcards_of_both_families_conflict_unless_v6only(engine: us.Engine) -> None:
    with us.create_server(("", 0)) as four:
        port = four.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            bound("::", port=port)
        with bound("::", only=1, port=port) as six:
            six.listen()
            assert outcome(us.AF_INET6, "::1", port) == 0
        assert outcome(us.AF_INET6, "::1", port) == errno.ECONNREFUSED
        assert outcome(us.AF_INET, "127.0.0.1", port) == 0


def test_address_that_no_stack_of_ipv4_has_says_what_linux_says_without_a_route(engine: us.Engine) -> None:
    assert outcome(us.AF_INET6, "2001:db8::1", 9) == errno.ENETUNREACH
    with pytest.raises(OSError, match="assign requested address"):
        bound("2001:db8::1")


def test_options_of_the_family_are_its_own(engine: us.Engine) -> None:
    with us.socket(us.AF_INET6) as six, us.socket() as four:
        assert six.getsockopt(us.IPPROTO_IPV6, us.IPV6_V6ONLY) == 0
        six.setsockopt(us.IPPROTO_IPV6, us.IPV6_UNICAST_HOPS, 7)
        assert six.getsockopt(us.IPPROTO_IPV6, us.IPV6_UNICAST_HOPS) == 7
        with pytest.raises(OSError, match="Protocol not available"):
            four.setsockopt(us.IPPROTO_IPV6, us.IPV6_V6ONLY, 1)
        six.bind(("::1", 0))
        with pytest.raises(OSError, match="Invalid argument"):
            six.setsockopt(us.IPPROTO_IPV6, us.IPV6_V6ONLY, 1)


@pytest.mark.parametrize(
    "address", [7, ("::1",), ("::1", 1, 2, 3, 4), ("::1", "1"), ("::1", 70000), ("::1", 1, -1), (3, 1), ("::1", 1, "0")]
)
def test_address_of_the_wrong_kind_raises_as_the_standard_class(address: object) -> None:
    with kernel.socket(kernel.AF_INET6) as sock, pytest.raises((TypeError, OverflowError)) as theirs:
        sock.connect(address)  # type: ignore[arg-type]
    with pytest.raises(theirs.type):
        resolve(address, "connect", True)


def test_presented_address_is_resolved_to_itself() -> None:
    for host in ("127.0.0.1", LEFT, "0.0.0.0", "127.255.255.6"):
        assert resolve(presented((host, 80), True), "connect", True) == (host, 80)
