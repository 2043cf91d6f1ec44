"""``usertcp up``: a TAP that reaches real hosts, by NAT or a bridge, and stays until ``usertcp down``.

It may be made for a user, who then needs no rights at all.
"""

import click

from usertcp.cli.host import say
from usertcp.cli.options import mtu, netns, user_number
from usertcp.errors import SetupError
from usertcp.link import uplink as uplinks

DEVICE = "usertcp0"  # unless another is named

tap = click.option("--tap", metavar="NAME", help=f"Name of the TAP, which stays until down; otherwise {DEVICE}.")
tun = click.option("--tun", metavar="NAME", help="Name of a TUN instead.")


def chosen(tap: str | None, tun: str | None) -> str:
    """The name that was given, or the usual one."""
    if tap is not None and tun is not None:
        raise SetupError("more than one device was named", "give one of --tap and --tun")
    return next((name for name in (tap, tun) if name is not None), DEVICE)


@click.command()
@click.option(
    "--nat", "mode", flag_value="nat", default="nat", help="A network of its own, behind this host (default)."
)
@click.option("--bridge", "mode", flag_value="bridge", help="A port beside the uplink, on the uplink's own network.")
@click.option("--host", "mode", flag_value="host", help="A network of its own with this host alone.")
@click.option("--uplink", metavar="NAME", help="Interface that leads out; otherwise that of the default route.")
@click.option(
    "--kernel-address",
    metavar="IP/LEN",
    help=f"The kernel's side, with NAT and --host; otherwise {uplinks.ADDRESS}.",
)
@click.option(
    "--user", type=user_number, metavar="USER", help="Who may use the TAP, without root; otherwise only root."
)
@tap
@tun
@netns
@mtu
def up(
    mode: str,
    uplink: str | None,
    kernel_address: str | None,
    user: int | None,
    tap: str | None,
    tun: str | None,
    netns: str | None,
    mtu: int | None,
) -> None:
    """Make a TAP (usertcp0) and connect it to the network that the uplink leads to."""
    name = chosen(tap, tun)
    made = uplinks.up(
        name,
        mode=mode,
        address=kernel_address,
        uplink=uplink,
        netns=netns,
        mtu=mtu,
        tun=tun is not None,
        owner=user,
    )
    for warning in made.warnings:
        say(f"usertcp: warning: {warning}")
    words = f"--{'tun' if tun is not None else 'tap'} {name}" + (f" --netns {netns}" if netns is not None else "")
    if mode == "nat":
        click.echo(f"{name} is up, NAT by {made.uplink}; use it with: usertcp ping {words} HOST")
    elif mode == "host":
        click.echo(f"{name} is up, for this host alone ({made.address}); use it with: usertcp ping {words} HOST")
    else:
        click.echo(
            f"{name} is up, bridged to {made.uplink} by {made.bridge}; use it with a free address of that network:\n"
            f"  usertcp ping {words} --address IP/LEN --gateway IP HOST"
        )
    click.echo(f"and end it with: usertcp down {words}")
