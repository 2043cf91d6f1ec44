"""The table of what Linux answers in nineteen states, asked of Linux itself."""

import socket as kernel
from collections.abc import Iterator

import pytest

import usertcp.socket as us
from tests.api import test_socket_matrix as matrix
from usertcp.link import netns

SILENT = "10.9.0.77"  # an address on the device's network that nobody answers for


class Kernel:
    """Sockets of the kernel, asked for as an engine is."""

    def make_socket(self) -> kernel.socket:
        return kernel.socket()

    def create_connection(self, address: tuple[str, int], timeout: float) -> kernel.socket:
        """Blocking at first: with a timeout Python never tells the kernel that it knows of the handshake's end."""
        sock = kernel.create_connection(address)
        sock.settimeout(timeout)
        return sock


@pytest.fixture(scope="module")
def space() -> Iterator[str]:
    """A network namespace with a device that works."""
    with us.engine() as made:
        assert made.netns is not None
        yield made.netns


@pytest.mark.parametrize(("state", "column", "linux"), matrix.CELLS)
def test_kernel_answers_as_the_table_says(
    space: str, monkeypatch: pytest.MonkeyPatch, state: str, column: str, linux: str
) -> None:
    monkeypatch.setattr(matrix, "SILENT", SILENT)
    with netns.inside(space):
        matrix.check(Kernel(), state, column, linux)
