"""Kernel settings (sysctl), read and changed in a chosen namespace.

A setting is named by its path under /proc/sys: ``"net/ipv4/ip_forward"``. Those under ``net`` belong to the namespace
of the thread that opens the file. A change is a :class:`~usertcp.link.undo.Made` that restores the former value.
"""

from contextlib import suppress
from typing import Final

from usertcp.errors import SetupError
from usertcp.link import netns as namespaces
from usertcp.link.causes import failure
from usertcp.link.undo import Made, apart

RESERVED_PORTS: Final = "net/ipv4/ip_local_reserved_ports"
PORT_RANGE: Final = "net/ipv4/ip_local_port_range"


def sysctl(key: str, *, netns: str | None = None) -> str:
    """The value of a setting."""
    try:
        with namespaces.inside(netns), open(f"/proc/sys/{key}", encoding="ascii") as file:
            return file.read().strip()
    except OSError as error:
        raise failure(f"reading the setting {key}", error.errno) from None


def write(key: str, value: str, *, netns: str | None = None) -> None:
    """Change a setting for good."""
    try:
        with namespaces.inside(netns), open(f"/proc/sys/{key}", "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        raise failure(f"setting {key} to {value!r}", error.errno) from None


def set_sysctl(key: str, value: str | int, *, netns: str | None = None) -> Made:
    """Change a setting; undone, it has its former value."""

    def make() -> Made:
        former = sysctl(key, netns=netns)
        write(key, str(value), netns=netns)
        return Made(f"{key} = {value}", netns, lambda: restore(key, former, netns=netns))

    return apart(make)


def restore(key: str, value: str, *, netns: str | None = None) -> None:
    """Put a former value back. An interface or namespace that is gone took its settings along."""
    with suppress(SetupError):
        write(key, value, netns=netns)


def port_set(text: str) -> set[int]:
    """``"80,8000-8002"`` as numbers."""
    ports: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        low, _, high = part.partition("-")
        ports.update(range(int(low), int(high or low) + 1))
    return ports


def port_text(ports: set[int]) -> str:
    """The reverse of :func:`port_set`."""
    starts = sorted(port for port in ports if port - 1 not in ports)
    ends = sorted(port for port in ports if port + 1 not in ports)
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in zip(starts, ends, strict=True))


def reserve_ports(low: int, high: int, *, netns: str | None = None) -> Made:
    """Keep the kernel from choosing these ports for connections of its own.

    Undone, they are free again, and what others reserved meanwhile stays.
    """

    def make() -> Made:
        there = port_set(sysctl(RESERVED_PORTS, netns=netns))
        first, last = map(int, sysctl(PORT_RANGE, netns=netns).split())
        new = set(range(max(low, first), min(high, last) + 1)) - there
        if new:
            write(RESERVED_PORTS, port_text(there | new), netns=netns)
        return Made(f"ports {low}-{high}", netns, lambda: undo(new))

    def undo(new: set[int]) -> None:
        if new and (netns is None or namespaces.exists(netns)):
            left = port_set(sysctl(RESERVED_PORTS, netns=netns)) - new
            write(RESERVED_PORTS, port_text(left) or "\n", netns=netns)

    return apart(make)
