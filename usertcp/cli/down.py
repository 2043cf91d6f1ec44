"""``usertcp down``: undo what ``usertcp up`` did, exactly, and remove what killed runs have left."""

import click

from usertcp.cli.host import say
from usertcp.cli.options import netns
from usertcp.cli.up import chosen, tap, tun
from usertcp.link import provision
from usertcp.link import uplink as uplinks


@click.command()
@tap
@tun
@netns
def down(tap: str | None, tun: str | None, netns: str | None) -> None:
    """Remove the TAP (usertcp0) and what connects it.

    Namespaces and devices of other subcommands that were killed (kill -9) and could not remove them go, too.
    """
    name = chosen(tap, tun)
    orphans = provision.remove_stale()
    for item in orphans:
        say(f"removed the {item}, left by a run that was killed")
    if orphans and tap is None and tun is None and uplinks.read(name, netns=netns) is None:
        return
    gone = uplinks.down(name, netns=netns)
    click.echo(f"{gone.tap} is down")
