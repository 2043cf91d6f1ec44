"""Settings of the whole test suite: hypothesis, and what becomes of tests for which this machine lacks something."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from usertcp.cli.version import compiled

# An algorithm of the tests' own inherits from a class of the core, which a compiled one does not allow.
collect_ignore = ["sim/test_linux_cubic.py", "sim/test_fairness.py"] if compiled() else []

# A loaded machine is no bug: no deadlines. In CI the same examples every time; elsewhere new ones.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--snapshot-update``: see tests/support/snapshot.py."""
    parser.addoption("--snapshot-update", action="store_true", help="write the tables in tests/sim/snapshots anew")


def missing() -> str | None:
    """What a test that makes devices and namespaces lacks here, or None."""
    if os.geteuid() != 0:
        return "needs root: it makes network namespaces and TAP devices"
    if not Path("/dev/net/tun").is_char_device():
        return "needs /dev/net/tun: modprobe tun, or start the container with --device /dev/net/tun"
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked ``netns``, and all in tests/netns, are skipped where they cannot run; in CI they fail."""
    if item.get_closest_marker("netns") is None and "netns" not in item.path.parts:
        return
    reason = missing()
    if reason is not None:
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
