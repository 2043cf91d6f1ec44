"""Every scenario by its name, in the order in which they are told."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from usertcp.lab import closing, failing, flooding, leaking, opening
from usertcp.lab.bench import Bench, Stopped
from usertcp.lab.result import BOTH, Result, Scenario
from usertcp.tcp.config import TcpConfig

CLIENT_SERVER: Final = ("client", "server")
ACTIVE_PASSIVE: Final = ("active", "passive")


def _scenario(
    name: str,
    roles: tuple[str, ...],
    summary: str,
    steps: Callable[[Bench, str], None],
    config: TcpConfig | None = None,
) -> Scenario:
    """A scenario that runs ``steps`` on a bench of its own."""

    def play(role: str, pcap: Path | None) -> Result:
        title = name if role == BOTH else f"{name}, usertcp as {role}"
        with Bench(title, config, pcap=pcap) as bench:
            try:
                steps(bench, role)
            except Stopped:
                pass  # it is among the checks
            except OSError as error:
                bench.check("no call of a socket fails", False, error)
            return bench.result

    return Scenario(name, roles, summary, play)


_ALL: Final = (
    _scenario("handshake", CLIENT_SERVER, "SYN, SYN+ACK, ACK: a connection opens", opening.handshake),
    _scenario(
        "stale-syn", CLIENT_SERVER, "an old SYN reaches the listener: why its sender has the last word",
        opening.stale_syn, opening.QUICK,
    ),
    _scenario("two-way", CLIENT_SERVER, "the third segment is withheld: why two are not enough", opening.two_way),
    _scenario("lost-syn", CLIENT_SERVER, "the SYN is lost", opening.lost_syn),
    _scenario("lost-synack", CLIENT_SERVER, "the SYN+ACK is lost", opening.lost_synack),
    _scenario("lost-ack", CLIENT_SERVER, "the third segment is lost, and healed by data", opening.lost_ack),
    _scenario("simultaneous-open", (BOTH,), "both connect, the SYNs cross: one connection", opening.simultaneous_open),
    _scenario("refused", CLIENT_SERVER, "nobody listens: RST, ECONNREFUSED at once", failing.refused),
    _scenario("teardown", ACTIVE_PASSIVE, "FIN, ACK, FIN, ACK: it closes", closing.teardown, closing.SHORT_MSL),
    _scenario(
        "half-close", ACTIVE_PASSIVE, "one side is done and listens on: 1 MB in FIN-WAIT-2",
        closing.half_close, closing.SHORT_MSL,
    ),
    _scenario(
        "three-segment-close", ACTIVE_PASSIVE, "ACK and FIN travel together: when four may be three",
        closing.three_segment_close, closing.SHORT_MSL,
    ),
    _scenario(
        "simultaneous-close", (BOTH,), "both close, and the FINs cross: CLOSING",
        closing.simultaneous_close, closing.SHORT_MSL,
    ),
    _scenario(
        "lost-last-ack", ACTIVE_PASSIVE, "the final ACK is lost: what TIME-WAIT is for",
        closing.lost_last_ack, closing.SHORT_MSL,
    ),
    _scenario(
        "time-wait", ("active",), "the same four-tuple during and after 2 MSL", closing.time_wait, closing.SHORT_MSL
    ),
    _scenario("syn-flood", ("server",), "forged SYNs by the ten thousand: backlog and cookies", flooding.syn_flood),
    _scenario(
        "time-wait-flood", ("active",), "connections that are over pile up: four remedies", flooding.time_wait_flood
    ),
    _scenario(
        "close-wait-leak", ("server",), "the program forgets close(): what piles up, and what helps",
        leaking.close_wait_leak,
    ),
    _scenario("half-open", ("survivor", "vanished"), "one end comes back without memory, or never", failing.half_open),
)  # fmt: skip

SCENARIOS: Final[dict[str, Scenario]] = {scenario.name: scenario for scenario in _ALL}
