"""Marks made on the way by nftables, between the stack and the kernel's TCP, or two stacks: who hears of them."""

import subprocess
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.netns.peer import digest
from tests.netns.plugged import OURS, THEIRS, Plugged, Received, exchange, exchange_as, plugged, until
from tests.netns.programs import PATIENCE, which
from usertcp import blocking
from usertcp.blocking import Conn
from usertcp.errors import SetupError
from usertcp.link import netns, provision
from usertcp.tcp.accecn import CEB, DIVACE, Accurate
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.ecn_policy import Ecn

MB = 1_000_000
SIZE = 5 * MB

# What we send is marked before the kernel's IP sees it, so that it counts the marks; what it sends, after.
BESIDE_THE_KERNEL = """
table netdev marks {
  chain in {
    type filter hook ingress device "tap0" priority 0;
    ip ecn { ect0, ect1 } numgen inc mod 10 == 0 ip ecn set ce
  }
}
table ip marks {
  chain out {
    type filter hook postrouting priority 0;
    oifname "tap0" ip ecn { ect0, ect1 } numgen inc mod 50 == 0 ip ecn set ce
  }
}
"""
ON_THE_ROUTER = """
table ip marks {
  chain forward {
    type filter hook forward priority 0;
    ip ecn { ect0, ect1 } numgen inc mod 7 == 0 ip ecn set ce
  }
}
"""


def mark(space: str, rules: str) -> None:
    with netns.inside(space):
        subprocess.run([which("nft"), "-f", "-"], input=rules.encode(), check=True)


def counters(space: str) -> dict[str, int]:
    """What the kernel's TCP and IP have counted in ``space``."""
    out: dict[str, int] = {}
    with netns.inside(space):
        for name in ("netstat", "snmp"):
            lines = Path(f"/proc/thread-self/net/{name}").read_text().splitlines()
            for names, values in zip(lines[::2], lines[1::2], strict=True):
                out.update(zip(names.split()[1:], map(int, values.split()[1:]), strict=True))
    return out


def kernel_takes(space: str, mode: int) -> bool:
    """Set tcp_ecn, if this kernel has the value."""
    with suppress(SetupError):
        provision.set_sysctl("net/ipv4/tcp_ecn", mode, netns=space)
        return True
    return False


def through_marks(here: Plugged, role: str) -> tuple[Conn, dict[str, int]]:
    """``SIZE`` bytes both ways, the stack being client or server; the connection, and what the kernel counted."""
    mark(here.space, BESIDE_THE_KERNEL)
    before = counters(here.space)
    conn = exchange_as(role, here, SIZE)
    after = counters(here.space)
    return conn, {name: after[name] - before[name] for name in after}


@pytest.mark.rfc(9293, "SHLD-8")
@pytest.mark.parametrize(
    ("role", "policy", "mode"),
    [
        ("client", Ecn.CLASSIC, 2),  # the kernel's default grants
        ("client", Ecn.ACCURATE, 2),  # what it grants to who asks for more
        ("server", Ecn.PASSIVE, 1),  # our default grants
    ],
)
def test_marks_between_stack_and_kernel_are_heard_of_at_both_ends(role: str, policy: Ecn, mode: int) -> None:
    with plugged(tcp=TcpConfig(ecn=policy)) as here:
        assert kernel_takes(here.space, mode)
        conn, kernel = through_marks(here, role)
        feedback = conn.core.ecn
        assert feedback.name == "classic"
        assert feedback.received_ce > 0
        assert feedback.delivered_ce > 0
        assert kernel["InCEPkts"] > 0
        assert kernel["TCPDeliveredCE"] > 0
        assert kernel["InECT1Pkts"] == 0


@pytest.mark.parametrize(("role", "policy", "mode"), [("client", Ecn.CLASSIC, 0), ("server", Ecn.OFF, 1)])
def test_without_an_agreement_nothing_that_is_sent_can_be_marked(role: str, policy: Ecn, mode: int) -> None:
    with plugged(tcp=TcpConfig(ecn=policy)) as here:
        assert kernel_takes(here.space, mode)
        conn, kernel = through_marks(here, role)
        assert conn.core.ecn.name == "none"
        assert (kernel["InCEPkts"], kernel["InECT0Pkts"], kernel["TCPDeliveredCE"]) == (0, 0, 0)


@pytest.mark.parametrize(("role", "mode"), [("client", 3), ("client", 5), ("server", 3)])
def test_accecn_with_a_kernel_that_has_it_counts_alike_at_both_ends(role: str, mode: int) -> None:
    with plugged(tcp=TcpConfig(ecn=Ecn.ACCURATE)) as here:
        if not kernel_takes(here.space, mode):
            pytest.skip(f"this kernel does not offer AccECN (net.ipv4.tcp_ecn={mode})")
        conn, kernel = through_marks(here, role)
        feedback = conn.core.ecn
        assert isinstance(feedback, Accurate)
        assert feedback.sends_ect
        assert feedback.received_ce > 0
        assert 0 < feedback.delivered_ce <= kernel["InCEPkts"] * 45  # the kernel counts super-segments
        assert feedback.reported.counters[CEB] > 0


def agree(sender: Accurate, receiver: Accurate) -> bool:
    """Whether ``sender`` knows what ``receiver`` has counted."""
    return (
        sender.delivered_ce % DIVACE == receiver.received_ce % DIVACE
        and sender.reported.cep % DIVACE == receiver.received.cep % DIVACE
        and tuple(sender.reported.counters) == receiver.received.counters
    )


@pytest.mark.rfc(9768, "§3.2")
def test_accecn_between_two_stacks_across_a_marking_router_counters_agree() -> None:
    """The kernel forwards between two TAPs, and cuts, joins and marks super-segments as it likes. Those of bytes agree,
    that of segments but for eights, which three bits cannot tell when many small ones were marked."""
    config = TcpConfig(ecn=Ecn.ACCURATE)
    with ExitStack() as stack:
        space = stack.enter_context(provision.Namespace.create()).name
        provision.set_sysctl("net/ipv4/ip_forward", 1, netns=space)
        left, right = (
            stack.enter_context(
                blocking.open(
                    tap=f"tap{n}", netns=space, address=f"10.{n}.0.2/24", kernel_address=f"10.{n}.0.1/24", tcp=config
                )
            )
            for n in (1, 2)
        )
        mark(space, ON_THE_ROUTER)
        served: list[tuple[Conn, Received]] = []
        with right.listen(("10.2.0.2", 5001)) as listener:
            listener.settimeout(PATIENCE)

            def serve() -> None:
                conn = listener.accept()
                served.append((conn, exchange(conn, SIZE, THEIRS)))

            server = threading.Thread(target=serve)
            server.start()
            conn = left.connect(("10.2.0.2", 5001), timeout=PATIENCE)
            received = exchange(conn, SIZE, OURS)
            server.join()
        ((other, other_received),) = served
        assert received == Received(SIZE, digest(SIZE, THEIRS))
        assert other_received == Received(SIZE, digest(SIZE, OURS))
        here, there = conn.core.ecn, other.core.ecn
        assert isinstance(here, Accurate)
        assert isinstance(there, Accurate)
        for sender, receiver in ((here, there), (there, here)):
            assert receiver.received_ce > 0
            assert until(lambda: agree(sender, receiver))  # noqa: B023  # the last ACK may be on its way
            assert sender.sends_ect
