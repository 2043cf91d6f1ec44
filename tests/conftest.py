"""Settings of the whole test suite: hypothesis, and what becomes of tests for which this machine lacks something."""

import os

import pytest
from hypothesis import HealthCheck, settings

from usertcp.pytest_plugin import require_root

# Names that nobody has are asked for; where there is no name server that takes long enough to end a test's patience.
os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:1")

# A loaded machine is no bug: no deadlines. In CI the same examples every time; elsewhere new ones.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--snapshot-update``: see tests/support/snapshot.py."""
    parser.addoption("--snapshot-update", action="store_true", help="write the tables in tests/sim/snapshots anew")


def pytest_configure(config: pytest.Config) -> None:
    """In CI nothing is skipped silently."""
    if os.environ.get("CI"):
        config.option.usertcp_netns = "fail"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked ``netns``, and all in tests/netns and tests/programs, need root: see the plugin."""
    if item.get_closest_marker("netns") is not None or {"netns", "programs"} & set(item.path.parts):
        require_root(item.config)
