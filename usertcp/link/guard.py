"""Sharing the host's own address with the kernel.

A stack on a raw packet socket with the host's address gets a copy of every frame; the kernel gets the frame as well,
knows no such connection, and resets it. The guard is a small table of packet rules that keeps a range of TCP ports of
that address from the kernel, before it tracks or reads the segment. ARP, ICMP, UDP and all other ports stay the
kernel's: the packet link filters accordingly, so that neither side answers twice.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

from usertcp.errors import SetupError
from usertcp.link import nft
from usertcp.link.provision import KernelSocket, install_rules, packet_tables, tcp_states
from usertcp.link.settings import reserve_ports

PORTS: Final = (61000, 65535)  # above the range from which Linux chooses its own (ip_local_port_range)
BLOCK: Final = 500  # ports of those for a stack that asks for none in particular

_PREFIX: Final = "usertcp_guard_"  # then address, first and last port, process and a number
_numbers: Final = count(1)


@contextmanager
def guard(address: str, ports: tuple[int, int] = PORTS, *, netns: str | None = None) -> Iterator[None]:
    """Within the block the kernel leaves the TCP ``ports`` (first, last) of its own ``address`` to us.

    It never sees a segment to them, so it answers none with RST; a reset from them is dropped besides; and it gives
    none of them to a connection of its own. Its other ports are untouched. SetupError if it uses one of them already.
    If this process is killed, the kernel drops the rules by itself.
    """
    low, high = ports
    if not 0 < low <= high < 65536:
        raise SetupError(f"{low}-{high} is no range of ports", "give two ports between 1 and 65535, the smaller first")
    for there in _kernels(address, netns):
        if low <= there.local[1] <= high:
            raise SetupError(
                f"port {there.local[1]} of {there.local[0]} is in use by the kernel ({there.state})",
                "choose ports that no program of this host uses, or give this stack an address of its own",
            )
    _refuse_guarded(address, low, high, netns)
    table = f"{_PREFIX}{address.replace('.', '_')}_{low}_{high}_{os.getpid()}_{next(_numbers)}"
    host = f"{address}/32"
    steps = [
        nft.add_chain(table, "in", nft.PREROUTING, nft.BEFORE_TRACKING),
        nft.add_rule(table, "in", nft.destination(host), nft.tcp(), nft.destination_port(low, high), nft.drop()),
        nft.add_chain(table, "out", nft.OUTPUT, nft.BEFORE_TRACKING),
        nft.add_rule(table, "out", nft.source(host), nft.tcp(), nft.source_port(low, high), nft.reset(), nft.drop()),
    ]
    with reserve_ports(low, high, netns=netns), install_rules(table, steps, netns=netns, owned=True):
        yield


def free_ports(address: str, *, netns: str | None = None) -> tuple[int, int]:
    """A block (first, last) of PORTS that neither the kernel nor another stack uses on ``address``.

    Where the search begins depends on the process, so that two that start at once do not meet.
    """
    used = [(there.local[1], there.local[1]) for there in _kernels(address, netns)]
    used += [(first, last) for first, last, _ in _guarded(address, netns)]
    blocks = [(low, low + BLOCK - 1) for low in range(PORTS[0], PORTS[1] - BLOCK + 2, BLOCK)]
    begin = os.getpid() % len(blocks)
    for low, high in blocks[begin:] + blocks[:begin]:
        if not any(first <= high and low <= last for first, last in used):
            return low, high
    raise SetupError(
        f"no {BLOCK} ports of {address} from {PORTS[0]} on are free",
        "name ports that no program of this host uses, or give this stack an address of its own",
    )


def _kernels(address: str, netns: str | None) -> list[KernelSocket]:
    """The kernel's sockets that ``address`` is for."""
    return [there for there in tcp_states(netns) if there.local[0] in (address, "0.0.0.0", "::")]


def _guarded(address: str, netns: str | None) -> Iterator[tuple[int, int, str]]:
    """First port, last port and process of every guard of ``address``; the name of its table tells."""
    for name in packet_tables(netns):
        words = name.removeprefix(_PREFIX).split("_")
        if name.startswith(_PREFIX) and len(words) >= 7 and ".".join(words[:4]) == address:
            yield int(words[4]), int(words[5]), words[6]


def _refuse_guarded(address: str, low: int, high: int, netns: str | None) -> None:
    """Two stacks on one address need ports apart."""
    for first, last, process in _guarded(address, netns):
        if first <= high and low <= last:
            raise SetupError(
                f"the ports {first}-{last} of {address} are in use by another usertcp (process {process})",
                "end that one, or give this one other ports or an address of its own",
            )
