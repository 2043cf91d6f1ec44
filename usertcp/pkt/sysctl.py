"""``sysctl`` commands in a script: settings that both targets have.

The shell is the kernel's alone, but scripts choose a stack's defaults with it. What such a line says is read here, for
the kernel to be written under /proc/sys of its namespace, and for usertcp to be turned into its ``TcpConfig``.
"""

import re
import shlex
from collections.abc import Callable
from typing import Any, Final

from usertcp.tcp.config import TcpConfig
from usertcp.tcp.ecn_policy import Ecn
from usertcp.units import MS, SEC

Changes = dict[str, Any]

_NAME: Final = re.compile(r"[a-z0-9_]+(?:[./][a-z0-9_]+)+")


def settings(command: str) -> list[tuple[str, str]] | None:
    """(name, value) of each setting that ``command`` changes; None if it does anything else."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if not words or words[0].rpartition("/")[2] != "sysctl":
        return None
    found = []
    for word in words[1:]:
        if word in ("-q", "-w", "-qw", "-wq"):
            continue
        name, equals, value = word.partition("=")
        if not equals or not _NAME.fullmatch(name):
            return None
        found.append((name.replace("/", "."), value))
    return found or None


def path(name: str) -> str:
    """Where a setting lies under /proc/sys."""
    return name.replace(".", "/")


def _flag(field: str) -> Callable[[str], Changes]:
    return lambda value: {field: value != "0"}


def _number(field: str, unit: int = 1) -> Callable[[str], Changes]:
    return lambda value: {field: int(value) * unit}


def _ecn(value: str) -> Changes:
    return {"ecn": {0: Ecn.OFF, 1: Ecn.CLASSIC, 2: Ecn.PASSIVE, 3: Ecn.ACCURATE}[int(value)]}


def _sizes(field: str) -> Callable[[str], Changes]:
    def read(value: str) -> Changes:
        _, first, most = map(int, value.split())
        return {field: first, f"{field}_max": most}

    return read


_FIELDS: Final[dict[str, Callable[[str], Changes]]] = {
    "tcp_timestamps": _flag("timestamps"),
    "tcp_sack": _flag("sack"),
    "tcp_dsack": _flag("dsack"),
    "tcp_window_scaling": _flag("window_scaling"),
    "tcp_ecn": _ecn,
    "tcp_congestion_control": lambda value: {"congestion": value},
    "tcp_syn_retries": _number("syn_retries"),
    "tcp_synack_retries": _number("synack_retries"),
    "tcp_retries1": _number("r1"),
    "tcp_retries2": _number("r2"),
    "tcp_fin_timeout": _number("fin_wait_2_timeout", SEC),
    "tcp_keepalive_time": _number("keepalive_idle", SEC),
    "tcp_keepalive_intvl": _number("keepalive_interval", SEC),
    "tcp_keepalive_probes": _number("keepalive_count"),
    "tcp_rto_max_ms": _number("max_rto", MS),
    "ip_default_ttl": _number("ttl"),
}
PREFIX: Final = "net.ipv4."


def changes(name: str, value: str) -> Changes | None:
    """What a setting of Linux's means to a ``TcpConfig``; None if it means nothing here."""
    read = _FIELDS.get(name.removeprefix(PREFIX))
    if read is None or not name.startswith(PREFIX):
        return None
    try:
        found = read(value)
        TcpConfig(**found)
    except (ValueError, KeyError, TypeError):
        return None
    return found
