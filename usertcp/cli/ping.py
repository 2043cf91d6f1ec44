"""``usertcp ping``: ICMP echo requests, and how long the replies took."""

import itertools
import time

import click

from usertcp.blocking import Host
from usertcp.cli.causes import doing
from usertcp.cli.host import open_host
from usertcp.cli.options import device_options, seconds, seconds_or_zero
from usertcp.driver.open import LinkSpec, resolve
from usertcp.units import MS


@click.command()
@click.option("-c", "--count", type=click.IntRange(min=1), metavar="N", help="Stop after N requests.")
@click.option(
    "-i", "--interval", type=seconds_or_zero, metavar="SECONDS", default=1.0, show_default=True, help="Between."
)
@click.option("-s", "--size", type=click.IntRange(0, 65507), default=56, show_default=True, help="Bytes to carry.")
@click.option("-t", "--ttl", type=click.IntRange(1, 255), default=64, show_default=True, help="Hops allowed.")
@click.option("-W", "--wait", type=seconds, default=1.0, show_default=True, help="Seconds to wait.")
@click.argument("name", metavar="HOST")
@device_options
def ping(spec: LinkSpec, name: str, count: int | None, interval: float, size: int, ttl: int, wait: float) -> int:
    """Ask HOST for an echo, once a second. Exit status 1 if no reply came."""
    with doing(f"pinging {name}"):
        there = resolve(name)
    times: list[float] = []
    sent = 0
    with open_host(spec) as host:
        click.echo(f"PING {name} ({there}): {size} bytes")
        try:
            for sequence in itertools.count(1) if count is None else range(1, count + 1):
                if sequence > 1:
                    time.sleep(interval)
                sent = sequence
                times += _once(host, there, sequence, size, ttl, wait)
        finally:
            _sum_up(name, sent, times)
    return 0 if times else 1


def _once(host: Host, there: str, sequence: int, size: int, ttl: int, wait: float) -> list[float]:
    """One request; the time of its reply in ms, if one came."""
    try:
        reply = host.ping(there, size=size, ttl=ttl, timeout=wait)
    except TimeoutError:
        click.echo(f"no reply to request {sequence} within {wait:g} s")
        return []
    if reply.error is not None:
        click.echo(f"from {reply.source}: request {sequence}: {reply.error}")
        return []
    took = (reply.received_at - reply.sent_at) / MS
    click.echo(f"{reply.size} bytes from {reply.source}: seq={sequence} ttl={reply.ttl} time={took:.3f} ms")
    return [took]


def _sum_up(name: str, sent: int, times: list[float]) -> None:
    lost = 100 * (sent - len(times)) // sent if sent else 0
    click.echo(f"--- {name}: {sent} sent, {len(times)} received, {lost}% lost")
    if times:
        click.echo(f"    min/avg/max {min(times):.3f}/{sum(times) / len(times):.3f}/{max(times):.3f} ms")
