"""Opening a stack for a subcommand, and saying where it is."""

from dataclasses import replace

import click

from usertcp import blocking
from usertcp.driver.open import LinkSpec
from usertcp.tcp.config import TcpConfig


def open_host(
    spec: LinkSpec, *, listen: int | None = None, linger: float = blocking.LINGER, tcp: TcpConfig | None = None
) -> blocking.Host:
    """A stack on the device that was asked for. ``listen``: the port that it must be reached at.

    Where the kernel's own address is shared, that is the one port taken from the kernel.
    """
    if listen is not None and spec.packet is not None and spec.address is None:
        spec = replace(spec, ports=(listen, listen))
    words = {name: getattr(spec, name) for name in spec.__dataclass_fields__}
    return blocking.open(linger=linger, tcp=tcp, **words)


def whereabouts(host: blocking.Host, listener: blocking.Listener) -> str:
    """Where a listener can be reached, and from where."""
    address, port = listener.getsockname()
    opened = host.opened
    if opened is not None and address == "0.0.0.0":
        address = opened.address
    text = f"{address} port {port}"
    if opened is not None and opened.spec.packet is not None:
        text += f", from other hosts on the wire of {opened.spec.packet} (this host's kernel does not see it)"
    elif opened is not None and opened.netns is not None:
        text += f", from the namespace {opened.netns} (ip netns exec {opened.netns} …)"
    return text


def say(text: str) -> None:
    """A remark, on stderr at once."""
    click.echo(text, err=True)
