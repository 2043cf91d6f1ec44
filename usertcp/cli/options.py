"""The options that subcommands share, so that each is spelled, and means, the same everywhere."""

import pwd
from collections.abc import Callable
from functools import update_wrapper
from math import nan
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import click
from rich.console import Console

from usertcp.driver.open import LinkSpec

P = ParamSpec("P")
R = TypeVar("R")

LONGEST: Final = 1e9  # seconds, over 30 years: what a clock of nanoseconds can hold, with room


def seconds(text: str | float) -> float:
    """A type of option: a time, more than 0."""
    return _time(text, "more than 0", lambda value: 0 < value <= LONGEST)


def seconds_or_zero(text: str | float) -> float:
    """The same, or 0."""
    return _time(text, "not less than 0", lambda value: 0 <= value <= LONGEST)


def _time(text: str | float, range_: str, good: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not good(value):
        raise click.BadParameter(f"{text!r} is no time: give seconds, {range_}, like 0.5")
    return value


tap = click.option("--tap", metavar="NAME", help="TAP device; made, and removed afterwards, if it is not there.")
tun = click.option("--tun", metavar="NAME", help="TUN device, likewise.")
packet = click.option("--packet", metavar="NAME", help="Existing interface, used beside the kernel by a packet socket.")
netns = click.option("--netns", metavar="NAME", help="Network namespace in which the device lies.")
address = click.option("--address", metavar="IP/LEN", help="Address of the stack, as in 10.9.0.2/24.")
gateway = click.option("--gateway", metavar="IP", help="Where other networks are reached.")
mtu = click.option("--mtu", metavar="BYTES", type=click.IntRange(576, 65535), help="Largest IP packet.")
pcap = click.option(
    "--pcap",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Record what crosses the device, for Wireshark or tcpdump.",
)

_DEVICE = (tap, tun, packet, netns, address, gateway, mtu, pcap)
_WORDS = ("tap", "tun", "packet", "netns", "address", "gateway", "mtu", "pcap")


def device_options(function: Callable[Concatenate[LinkSpec, P], R]) -> Callable[P, R]:
    """Add all options about the device; the function gets them as one :class:`LinkSpec` in front."""

    call: Any = function

    def wrapper(**options: Any) -> R:
        words = {name: options.pop(name) for name in _WORDS}
        result: R = call(LinkSpec(**{name: value for name, value in words.items() if value is not None}), **options)
        return result

    decorated: Any = update_wrapper(wrapper, function)
    for option in reversed(_DEVICE):
        decorated = option(decorated)
    result: Callable[P, R] = decorated
    return result


def user_number(text: str) -> int:
    """A type of option: a user."""
    try:
        return int(text) if text.isdecimal() else pwd.getpwnam(text).pw_uid
    except KeyError:
        raise click.BadParameter(f"there is no user {text!r}") from None


def port_number(text: str) -> int:
    """A port from the command line; UsageError unless it is one."""
    if not text.isdecimal() or not 0 < int(text) <= 0xFFFF:
        raise click.UsageError(f"{text!r} is not a port: give a number from 1 to 65535")
    return int(text)


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Where to print: colours in a terminal only, and room enough for a ladder where there is no terminal.

    ``width`` columns are used although the terminal may have fewer: it breaks the lines, and nothing is cut.
    """
    output = Console(stderr=stderr, highlight=False, width=width)
    if width is None and not output.is_terminal:
        output = Console(stderr=stderr, highlight=False, width=112)
    return output
