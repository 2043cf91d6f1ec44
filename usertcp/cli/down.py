"""``usertcp down``: undo what ``usertcp up`` did, exactly."""

import click

from usertcp.cli.options import netns, tap, tun
from usertcp.cli.up import DEVICE
from usertcp.errors import SetupError
from usertcp.link import uplink as uplinks


@click.command()
@tap
@tun
@netns
def down(tap: str | None, tun: str | None, netns: str | None) -> None:
    """Remove the TAP (usertcp0) and what connects it."""
    if tap is not None and tun is not None:
        raise SetupError("more than one device was named", "give one of --tap and --tun")
    gone = uplinks.down(tap or tun or DEVICE, netns=netns)
    click.echo(f"{gone.tap} is down")
