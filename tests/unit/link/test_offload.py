"""Which offloads a driver grants, with drivers that know less and less."""

import errno

import pytest

from usertcp.errors import os_error
from usertcp.frame import LinkCaps
from usertcp.link.offload import CSUM, TSO4, TSO6, TSO_ECN, negotiate, takes_longer

ALL = CSUM | TSO4 | TSO6 | TSO_ECN


class Driver:
    """Refuses what is not among ``known``; ``asked``: everything it was asked for."""

    def __init__(self, known: int) -> None:
        self.known = known
        self.asked: list[int] = []

    def __call__(self, flags: int) -> None:
        self.asked.append(flags)
        if flags & ~self.known:
            raise os_error(errno.EINVAL)


@pytest.mark.parametrize(
    ("known", "granted", "words"),
    [
        (ALL, ALL, ""),
        (CSUM | TSO4 | TSO6, CSUM | TSO4 | TSO6, "CWR"),
        (CSUM | TSO4, CSUM | TSO4, "CWR"),
        (CSUM, CSUM, "does not segment"),
        (0, 0, "neither"),
    ],
)
def test_driver_that_knows_a_part_gets_asked_step_by_step_for_less(known: int, granted: int, words: str) -> None:
    driver = Driver(known)
    grant = negotiate(driver, gso=True)
    assert grant.flags == driver.asked[-1] == granted
    assert (grant.checksum, grant.segmentation) == (bool(granted & CSUM), bool(granted & TSO4))
    assert words in grant.lack
    assert bool(grant.lack) is bool(words)


def test_driver_that_refuses_even_nothing_is_taken_without_offloads() -> None:
    def refuse(flags: int) -> None:
        raise os_error(errno.ENOTTY)

    grant = negotiate(refuse, gso=True)
    assert grant.flags == 0
    assert grant.lack


def test_without_gso_only_checksums_are_asked_for_and_nothing_is_lacking() -> None:
    driver = Driver(ALL)
    assert negotiate(driver, gso=False).flags == CSUM
    assert driver.asked == [CSUM]
    assert negotiate(driver, gso=False).lack == ""
    assert negotiate(Driver(0), gso=False).lack


@pytest.mark.parametrize(
    ("release", "longer"),
    [
        ("4.4.0", False),
        ("6.1.0-18-amd64", False),
        ("6.2.16-pve", False),
        ("6.3.0", True),
        ("10.0-rc1", True),
        ("", False),
    ],
)
def test_kernels_that_take_super_segments_longer_than_64_kilobytes(release: str, longer: bool) -> None:
    assert takes_longer(release) is longer


def test_capabilities_in_words() -> None:
    assert LinkCaps().offloads == "none"
    assert LinkCaps(tx_checksum=True).offloads == "checksum"
    assert LinkCaps(tx_checksum=True, tx_gso=True).offloads == "checksum, segmentation"
