"""Fixtures for pytest: a simulated network, and a real one in a namespace. Installed with usertcp, they are just there.

``usertcp_world``  a :class:`usertcp.sim.World`. Its seed is a hash of the test's id, so that each test has another one
                   and always the same; ``@pytest.mark.usertcp_seed(7)`` and ``--usertcp-seed 7`` choose. When the
                   test fails, the report says the seed, the digest and how to run it again.
``usertcp_netns``  a :class:`Netns`: a network namespace, a TAP device and a stack on it, the kernel at the other end.

Namespaces need root. Without, a test that asks for one fails and says so; with ``--usertcp-netns=skip``, or
``usertcp_netns = "skip"`` in the configuration, it is skipped. ``--usertcp-pcap DIR`` records what the worlds send.
"""

import os
import re
from collections.abc import Callable, Generator, Iterator
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest

if TYPE_CHECKING:  # nothing of usertcp is loaded before a test asks for it
    from usertcp.blocking import Host
    from usertcp.sim import World

T = TypeVar("T")

_WORLD: Final = pytest.StashKey["World"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options above."""
    group = parser.getgroup("usertcp", "usertcp")
    group.addoption("--usertcp-seed", type=int, metavar="N", help="the seed of usertcp_world, in every test")
    group.addoption("--usertcp-pcap", metavar="DIR", help="record the frames of every usertcp_world into DIR")
    text = "what becomes of tests that need root for usertcp_netns, when there is none (default: fail)"
    group.addoption("--usertcp-netns", choices=("fail", "skip"), help=text)
    parser.addini("usertcp_netns", text, default="fail")


def pytest_configure(config: pytest.Config) -> None:
    """The marker; a mistake in the configuration is said at once."""
    config.addinivalue_line("markers", "usertcp_seed(number): the seed of the test's usertcp_world")
    if config.getini("usertcp_netns") not in ("fail", "skip"):
        raise pytest.UsageError("usertcp_netns is 'fail' or 'skip'")


# -- the simulated network ---------------------------------------------------------------------------------------------


@pytest.fixture
def usertcp_world(request: pytest.FixtureRequest) -> "Iterator[World]":
    """A simulated network (usertcp.sim.World) whose seed is the test's own."""
    from usertcp.sim import World

    node, folder = request.node, request.config.getoption("--usertcp-pcap")
    if folder is None:
        node.stash[_WORLD] = world = World(seed_of(node))
        yield world
        return
    path = Path(folder, re.sub(r"[^\w.-]+", "_", node.nodeid) + ".pcap")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        node.stash[_WORLD] = world = World(seed_of(node), pcap_file=file)
        yield world


def seed_of(item: pytest.Item) -> int:
    """The seed of a test: of the command line, of its marker, or of its id."""
    chosen: int | None = item.config.getoption("--usertcp-seed")
    if chosen is not None:
        return chosen
    marker = item.get_closest_marker("usertcp_seed")
    if marker is None:
        return int.from_bytes(blake2b(item.nodeid.encode(), digest_size=4).digest(), "big")
    if len(marker.args) != 1 or not isinstance(marker.args[0], int):
        raise pytest.UsageError(f"{item.nodeid}: usertcp_seed takes one number")
    return marker.args[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say with a failure what it takes to see it again."""
    report = yield
    world = item.stash.get(_WORLD, None)
    if world is not None and report.failed:
        seconds = world.now / 1e9
        text = (
            f"seed {world.seed}, {seconds:.6f} s of virtual time, {world.frames} frames\n"
            f"digest {world.digest}, timeline {world.timeline}\n"
            f"again with: pytest '{item.nodeid}' --usertcp-seed {world.seed}"
        )
        report.sections.append(("usertcp_world", text))
    return report


# -- the real one ------------------------------------------------------------------------------------------------------


class Netns:
    """A network namespace for one test; everything in it goes away with it.

    ``name``   of the namespace, as ``ip netns`` knows it
    ``words``  put a stack into it by another road: ``aio.open(**netns.words)``, ``socket.engine(**netns.words)``
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.words: dict[str, Any] = {"netns": name}
        self._host: Host | None = None

    @cached_property
    def host(self) -> "Host":
        """A stack (usertcp.blocking) on a TAP in the namespace, opened when it is first asked for."""
        from usertcp import blocking

        self._host = blocking.open(**self.words)
        return self._host

    @property
    def address(self) -> str:
        """That of ``host``'s stack."""
        assert self.host.opened is not None
        return self.host.opened.address

    @property
    def kernel_address(self) -> str:
        """That of the kernel, at the other end of the TAP."""
        assert self.host.opened is not None
        assert self.host.opened.kernel_address is not None
        return self.host.opened.kernel_address

    def run(self, work: Callable[[], T]) -> T:
        """``work()`` inside: the kernel's sockets and the processes that it makes stay there."""
        from usertcp.link import provision

        return provision.run_inside(self.name, work)

    def close(self) -> None:
        """Close ``host``, if it was opened."""
        if self._host is not None:
            self._host.close()


@pytest.fixture
def usertcp_netns(request: pytest.FixtureRequest) -> Iterator[Netns]:
    """A network namespace with a TAP device and a stack on it (usertcp.pytest_plugin.Netns). Needs root."""
    require_root(request.config)
    from usertcp.link import provision

    with provision.Namespace.create() as space:
        netns = Netns(space.name)
        try:
            yield netns
        finally:
            netns.close()


def require_root(config: pytest.Config) -> None:
    """Fail the test, or skip it where that is wanted, when namespaces and TAP devices cannot be made here."""
    if os.geteuid() != 0:
        cause, cure = "this test needs root: it makes network namespaces and TAP devices", "run pytest as root"
    elif not Path("/dev/net/tun").is_char_device():
        cause, cure = "this test needs /dev/net/tun", "modprobe tun, or start the container with --device /dev/net/tun"
    else:
        return
    if (config.getoption("--usertcp-netns") or config.getini("usertcp_netns")) == "skip":
        pytest.skip(f"{cause}: {cure}")
    pytest.fail(f"{cause}: {cure}, or skip such tests with --usertcp-netns=skip", pytrace=False)
