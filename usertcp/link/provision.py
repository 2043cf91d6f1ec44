"""Devices, addresses, routes, namespaces, packet rules and socket tables of the kernel, through netlink.

Everything here is undone exactly: what makes something gives back a :class:`~usertcp.link.undo.Made`, a context
manager, and each is remembered until it is undone (see :mod:`usertcp.link.undo`; :func:`unwinding` is for programs
that may be ended by a signal). Every failure is a :class:`~usertcp.errors.SetupError` with cause and cure. Addresses
and routes are IPv4. This is the only module that knows pyroute2, and loading that takes a while: who only opens what is
there does without (:mod:`usertcp.link.interfaces`). What ``usertcp up`` and ``down`` do with it is in
:mod:`usertcp.link.uplink`.

A conversation is short: a thread of its own enters the namespace, opens a netlink socket, asks, and closes it. Nothing
is forked, no descriptor stays open, and it does not matter whether the caller runs an event loop.
"""

import errno
import ipaddress
import itertools
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pyroute2 import DiagSocket, IPRoute, NetlinkError
from pyroute2 import netns as pyroute2_netns
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg, nftsocket
from pyroute2.nftables.main import NFTables

from usertcp.errors import SetupError
from usertcp.link import netns as namespaces
from usertcp.link import nft
from usertcp.link.causes import failure
from usertcp.link.device import activate
from usertcp.link.interfaces import addresses as addresses
from usertcp.link.interfaces import link_exists as link_exists
from usertcp.link.marks import is_living, is_orphan, mark
from usertcp.link.settings import set_sysctl as set_sysctl
from usertcp.link.settings import sysctl as sysctl
from usertcp.link.tap import DEVICE, device_missing
from usertcp.link.undo import Made, apart, forget_inside
from usertcp.link.undo import undo_all as undo_all
from usertcp.link.undo import unwinding as unwinding
from usertcp.link.words import checked_mtu, checked_name, checked_space, interface_of

T = TypeVar("T")

GONE: Final = (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENXIO)

_numbers: Final = itertools.count(1)


# --- conversations ----------------------------------------------------------------------------------------------------


def _failure(doing: str, error: OSError | NetlinkError) -> SetupError:
    return failure(doing, error.code if isinstance(error, NetlinkError) else error.errno)


def talk(doing: str, netns: str | None, work: Callable[[IPRoute], T]) -> T:
    """``work(route)`` with a netlink socket (pyroute2's IPRoute) in the namespace; errors become SetupError."""

    def run() -> T:
        try:
            with namespaces.inside(netns), IPRoute() as route:
                return work(route)
        except (NetlinkError, OSError) as error:
            raise _failure(doing, error) from None

    return apart(run)


@contextmanager
def _already_gone() -> Iterator[None]:
    """Undoing what somebody else undid is no error."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in GONE:
            raise


def _undoing(doing: str, netns: str | None, work: Callable[[IPRoute], None]) -> None:
    """The undo half of :func:`talk`; runs in the thread of ``Made.remove``. A namespace that is gone took it along."""
    if netns is not None and not namespaces.exists(netns):
        return
    try:
        with namespaces.inside(netns), IPRoute() as route, _already_gone():
            work(route)
    except (NetlinkError, OSError) as error:
        raise _failure(doing, error) from None


def index_of(route: IPRoute, name: str) -> int:
    found = route.link_lookup(ifname=name)
    if not found:
        raise SetupError(f"there is no interface {name!r}", "look at: ip link (in the namespace meant)")
    index: int = found[0]
    return index


# --- namespaces -------------------------------------------------------------------------------------------------------


class Namespace(Made):
    """A network namespace of our own; made by :meth:`create`, gone with ``remove`` or the ``with`` block."""

    @classmethod
    def create(cls, name: str | None = None) -> "Namespace":
        """A new namespace with its loopback up. Without a name it gets one by which :func:`stale` knows it."""
        chosen = checked_space(f"{mark()}-{next(_numbers)}" if name is None else name)
        doing = f"making the namespace {chosen!r}"

        def make() -> Namespace:
            try:
                namespaces.unshare()
                with namespaces.alone():
                    pyroute2_netns.attach(chosen, "thread-self")
                made = cls(chosen, chosen, lambda: _remove_namespace(chosen))
                with IPRoute() as route:
                    route.link("set", index=index_of(route, "lo"), state="up")
            except FileExistsError:
                raise SetupError(
                    f"the namespace {chosen!r} is there already", f"remove it with: ip netns delete {chosen}"
                ) from None
            except (NetlinkError, OSError) as error:
                raise _failure(doing, error) from None
            return made

        return apart(make)

    def run(self, work: Callable[[], T]) -> T:
        """``work()`` with the calling thread inside. Sockets and processes it makes stay inside; the thread returns."""
        with namespaces.inside(self.name):
            return work()


def _remove_namespace(name: str) -> None:
    forget_inside(name)
    try:
        with suppress(FileNotFoundError):
            pyroute2_netns.remove(name)
    except OSError as error:
        raise _failure(f"removing the namespace {name!r}", error) from None


def namespace_exists(name: str) -> bool:
    return namespaces.exists(name)


def run_inside(netns: str | None, work: Callable[[], T]) -> T:
    """``work()`` with the calling thread in the namespace ``netns`` (None: where it is); the thread returns."""
    with namespaces.inside(netns):
        return work()


def stale() -> list[str]:
    """What a usertcp that was killed left behind: "namespace NAME" and "device NAME" (of this namespace)."""
    left = [f"namespace {name}" for name in namespaces.names() if is_orphan(name)]
    return left + [f"device {link.name}" for link in links() if is_orphan(link.alias)]


def remove_stale() -> list[str]:
    """Remove what :func:`stale` finds, and say what it was."""
    found = stale()
    for item in found:
        kind, _, name = item.partition(" ")
        if kind == "namespace":
            _remove_namespace(name)
        else:
            delete_link(name)
    return found


# --- devices ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """One interface. ``kind`` is the kernel's ("tun", "veth", "bridge"; empty for hardware), ``master`` an index."""

    name: str
    index: int
    mac: str
    mtu: int
    up: bool
    kind: str
    master: int
    alias: str


def links(netns: str | None = None) -> list[LinkInfo]:
    """The interfaces of a namespace."""
    return talk("listing interfaces", netns, lambda route: [_link_info(item) for item in route.get_links()])


def _link_info(item: Any) -> LinkInfo:
    return LinkInfo(
        item.get("ifname"),
        item["index"],
        item.get("address") or "",
        item.get("mtu"),
        bool(item["flags"] & 1),
        item.get(("linkinfo", "kind")) or "",
        item.get("master") or 0,
        item.get("ifalias") or "",
    )


def link_info(name: str, netns: str | None = None) -> LinkInfo:
    """One interface; SetupError if there is none of that name."""
    for item in links(netns):
        if item.name == name:
            return item
    raise SetupError(f"there is no interface {name!r}", "look at: ip link (in the namespace meant)")


def _refuse_name(route: IPRoute, name: str) -> None:
    for index in route.link_lookup(ifname=checked_name(name)):
        cure = "choose another name"
        if not is_living(_link_info(next(iter(route.get_links(index)))).alias):
            cure += f", or: ip link delete {name}"
        raise SetupError(f"an interface {name!r} is there already", cure)


def _new_link(route: IPRoute, name: str, netns: str | None, **arguments: Any) -> Made:
    """Make an interface. An exception after this removes it again through the record."""
    _refuse_name(route, name)
    route.link("add", ifname=name, **arguments)
    (index,) = route.link_lookup(ifname=name)

    def undo(route: IPRoute) -> None:
        if index in route.link_lookup(ifname=name):  # another of the same name is not ours
            route.link("del", index=index)

    made = Made(name, netns, lambda: _undoing(f"removing {name!r}", netns, undo))
    with _or_removed(made):
        route.link("set", index=index, ifalias=mark())
    return made


@contextmanager
def _or_removed(made: Made) -> Iterator[Made]:
    """What fails half made is removed at once."""
    try:
        yield made
    except BaseException:
        made._remove()
        raise


def create_tap(
    name: str,
    *,
    netns: str | None = None,
    address: str | None = "10.9.0.1/24",
    mtu: int = 1500,
    tun: bool = False,
    ipv6: bool = False,
    queues: bool = False,
    owner: int | None = None,
) -> Made:
    """A persistent TAP (or TUN) that is up, ``address`` on its kernel side. Attach with TapLink.open; with ``queues``
    several may.

    The user ``owner`` (None: ours) may attach without any rights. It has one in any case, because the kernel lets
    everybody attach to a device that has none.

    Without ``ipv6`` the kernel does not speak IPv6 on it, so that only what is asked for crosses it.
    """
    if not os.path.exists(DEVICE):
        raise device_missing(errno.ENOENT)
    checked_mtu(mtu, tun=tun)

    def make(route: IPRoute) -> Made:
        _refuse_name(route, name)
        if address is not None:
            _refuse_taken(route, interface_of(address))
        kind: dict[str, Any] = {"kind": "tuntap", "mode": "tun" if tun else "tap", "ifr": {"multi_queue": int(queues)}}
        kind["uid"] = os.geteuid() if owner is None else owner
        with _or_removed(_new_link(route, name, netns, **kind)) as made:
            index = index_of(route, name)
            if not ipv6:
                _disable_ipv6(name)
            route.link("set", index=index, mtu=mtu)
            if address is not None:
                _put_address(route, index, interface_of(address))
            route.link("set", index=index, state="up")
            return made

    return talk(f"making the {'TUN' if tun else 'TAP'} {name!r}", netns, make)


def create_veth(
    name: str,
    peer: str,
    *,
    netns: str | None = None,
    peer_netns: str | None = None,
    address: str | None = None,
    peer_address: str | None = None,
    mtu: int = 1500,
    ipv6: bool = False,
) -> Made:
    """A pair of Ethernet devices, both up, each in its namespace. Removing it removes both ends."""

    def finish(route: IPRoute, end: str, text: str | None) -> None:
        index = index_of(route, end)
        if not ipv6:
            _disable_ipv6(end)
        if text is not None:
            _put_address(route, index, interface_of(text))
        route.link("set", index=index, mtu=mtu, state="up")

    def make(route: IPRoute) -> Made:
        with namespaces.inside(peer_netns or None):
            there = os.open(namespaces.THREAD_NS, os.O_RDONLY | os.O_CLOEXEC)
        try:
            target = {"ifname": checked_name(peer), "net_ns_fd": there}
            if peer_netns is None and netns is not None:
                target = {"ifname": checked_name(peer)}  # unnamed namespace: next to the first end
            made = _new_link(route, name, netns, kind="veth", peer=target)
        finally:
            os.close(there)
        with _or_removed(made):
            finish(route, name, address)
            with namespaces.inside(peer_netns or None), IPRoute() as other:
                finish(other, peer, peer_address)
                activate(peer)
            activate(name)
        return made

    return talk(f"making the pair {name!r} and {peer!r}", netns, make)


def create_bridge(name: str, *, netns: str | None = None, mac: str | None = None, ipv6: bool = False) -> Made:
    """A bridge that is up, without spanning tree, so that it forwards at once."""

    def make(route: IPRoute) -> Made:
        extra = {} if mac is None else {"address": mac}
        with _or_removed(_new_link(route, name, netns, kind="bridge", br_stp_state=0, **extra)) as made:
            if not ipv6:
                _disable_ipv6(name)
            route.link("set", index=index_of(route, name), state="up")
            return made

    return talk(f"making the bridge {name!r}", netns, make)


def delete_link(name: str, *, netns: str | None = None) -> None:
    """Remove an interface, whoever made it; none of that name is no error."""

    def remove(route: IPRoute) -> None:
        for index in route.link_lookup(ifname=name):
            route.link("del", index=index)

    apart(lambda: _undoing(f"removing {name!r}", netns, remove))


def set_master(name: str, master: str | None, *, netns: str | None = None) -> Made:
    """Put an interface under a bridge (None: take it out); undone, it is where it was."""

    def make(route: IPRoute) -> Made:
        index = index_of(route, name)
        former = next(iter(route.get_links(index))).get("master") or 0
        route.link("set", index=index, master=0 if master is None else index_of(route, master))
        return Made(
            f"{name} under {master}",
            netns,
            lambda: _undoing(
                f"taking {name!r} out of {master!r}", netns, lambda again: again.link("set", index=index, master=former)
            ),
        )

    return talk(f"putting {name!r} under {master!r}", netns, make)


def set_up(name: str, up: bool = True, *, netns: str | None = None) -> None:
    """Switch an interface on or off."""
    state = "up" if up else "down"
    talk(f"setting {name!r} {state}", netns, lambda route: route.link("set", index=index_of(route, name), state=state))


def set_mtu(name: str, mtu: int, *, netns: str | None = None) -> None:
    """The largest IP packet of an interface, bytes."""
    talk(f"setting the MTU of {name!r}", netns, lambda route: route.link("set", index=index_of(route, name), mtu=mtu))


def _disable_ipv6(name: str) -> None:
    with suppress(FileNotFoundError), open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as file:
        file.write("1")


# --- addresses and routes ---------------------------------------------------------------------------------------------


def _all_addresses(route: IPRoute) -> Iterator[tuple[int, ipaddress.IPv4Interface]]:
    for item in route.get_addr(family=socket.AF_INET):
        yield item["index"], ipaddress.IPv4Interface(f"{item.get('local') or item.get('address')}/{item['prefixlen']}")


def _refuse_taken(route: IPRoute, wanted: ipaddress.IPv4Interface) -> None:
    """The kernel would take an address, or a network, on two links; traffic would then go to either."""
    for index, there in _all_addresses(route):
        if there.ip == wanted.ip:
            raise SetupError(
                f"{wanted.ip} is already on {_name(route, index)!r}",
                "use that one, or choose another address for the kernel's side (of usertcp up: --kernel-address)",
            )
        if there.network.overlaps(wanted.network) and there.network.prefixlen < 32 and wanted.network.prefixlen < 32:
            raise SetupError(
                f"{wanted.network} overlaps {there.network}, which is on {_name(route, index)!r}",
                "choose one in another network for the kernel's side (of usertcp up: --kernel-address)",
            )


def _name(route: IPRoute, index: int) -> str:
    name: str = next(iter(route.get_links(index))).get("ifname")
    return name


def _put_address(route: IPRoute, index: int, address: ipaddress.IPv4Interface) -> None:
    broadcast = {} if address.network.prefixlen >= 31 else {"broadcast": str(address.network.broadcast_address)}
    try:
        route.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen, **broadcast)
    except NetlinkError as error:
        if error.code == errno.EEXIST:
            raise SetupError(f"{address} is already on {_name(route, index)!r}", "choose another address") from None
        raise


def add_address(name: str, address: str, *, netns: str | None = None) -> Made:
    """Put ``address`` ("10.9.0.1/24") on an interface."""
    wanted = interface_of(address)

    def make(route: IPRoute) -> Made:
        index = index_of(route, name)
        _put_address(route, index, wanted)
        return Made(f"{wanted} on {name}", netns, lambda: _undoing(f"removing {wanted} from {name!r}", netns, undo))

    def undo(route: IPRoute) -> None:
        for index in route.link_lookup(ifname=name):
            route.addr("del", index=index, address=str(wanted.ip), prefixlen=wanted.network.prefixlen)

    return talk(f"putting {wanted} on {name!r}", netns, make)


def add_route(destination: str, *, via: str | None = None, device: str | None = None, netns: str | None = None) -> Made:
    """A route to ``destination`` ("192.0.2.0/24" or "default") through a gateway, a device, or both."""
    doing = f"adding a route to {destination}"
    try:
        if destination != "default":
            ipaddress.IPv4Network(destination)
        if via is not None:
            ipaddress.IPv4Address(via)
    except ValueError as error:
        raise SetupError(f"{doing}: {error}", "write a network like 192.0.2.0/24 and a gateway like 10.9.0.1") from None

    def make(route: IPRoute) -> Made:
        arguments: dict[str, Any] = {"dst": destination}
        if via is not None:
            arguments["gateway"] = via
        if device is not None:
            arguments["oif"] = index_of(route, device)
        try:
            route.route("add", **arguments)
        except NetlinkError as error:
            if error.code in (errno.ENETUNREACH, errno.EHOSTUNREACH):
                raise SetupError(
                    f"the gateway {via} cannot be reached",
                    "give one that lies in the network of an interface that is up",
                ) from None
            raise
        undo: Callable[[IPRoute], None] = lambda again: again.route("del", **arguments)  # noqa: E731
        return Made(f"route to {destination}", netns, lambda: _undoing(f"removing {doing[7:]}", netns, undo))

    return talk(doing, netns, make)


def default_interface(netns: str | None = None) -> str | None:
    """The interface that the default route leaves by; None if there is none."""

    def ask(route: IPRoute) -> str | None:
        found = [item for item in route.get_routes(family=socket.AF_INET, table=254) if item["dst_len"] == 0]
        found = [item for item in found if item.get("oif")]
        found.sort(key=lambda item: item.get("priority") or 0)
        return _name(route, found[0].get("oif")) if found else None

    return talk("asking for the default route", netns, ask)


# --- packet rules -----------------------------------------------------------------------------------------------------


class _Rules(socket.socket):
    """A netlink socket to nftables on which one transaction at a time is made."""

    def __init__(self) -> None:
        super().__init__(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 12)  # NETLINK_NETFILTER
        self.bind((0, 0))
        self.settimeout(10)  # seconds; the kernel answers at once

    def commit(self, steps: Sequence[nft.Step]) -> None:
        """All steps or none of them. NetlinkError as the kernel says."""
        batch = [_nft_message(nfgen_msg, 16, 1, 0, [], NFNL_SUBSYS_NFTABLES)]  # NFNL_MSG_BATCH_BEGIN
        for step in steps:
            kind = (NFNL_SUBSYS_NFTABLES << 8) | getattr(nftsocket, f"NFT_MSG_{step.verb}")
            encoder = getattr(nftsocket, step.message)
            batch.append(_nft_message(encoder, kind, 1 | 4 | step.flags, step.family, step.attrs))  # REQUEST, ACK
        batch.append(_nft_message(nfgen_msg, 17, 1, 0, [], NFNL_SUBSYS_NFTABLES))  # NFNL_MSG_BATCH_END
        self.send(b"".join(batch))
        acknowledged = 0
        while acknowledged < len(steps):
            answer = self.recv(65536)
            while len(answer) >= 20:
                length = int.from_bytes(answer[:4], "little")
                if int.from_bytes(answer[4:6], "little") == 2:  # NLMSG_ERROR, also the acknowledgment
                    number = -int.from_bytes(answer[16:20], "little", signed=True)
                    if number:
                        raise NetlinkError(number)
                    acknowledged += 1
                answer = answer[(length + 3) & ~3 :]


def _nft_message(
    message: Callable[[], Any], kind: int, flags: int, family: int, attrs: Sequence[Any], resource: int = 0
) -> bytes:
    encoded = message()
    encoded["attrs"] = list(attrs)
    encoded["nfgen_family"] = family
    encoded["res_id"] = resource
    encoded["header"]["type"] = kind
    encoded["header"]["flags"] = flags
    encoded["header"]["sequence_number"] = 1
    encoded.encode()
    data: bytes = bytes(encoded.data)
    return data


def install_rules(table: str, steps: Sequence[nft.Step], *, netns: str | None = None, owned: bool = False) -> Made:
    """Put a table of packet rules in, in one transaction; ``steps`` fill the table, which is made here.

    ``owned``: the table goes with a descriptor of this process, and so when that ends, however it ends.
    """

    def make() -> Made:
        with namespaces.inside(netns):
            rules = _Rules()
        try:
            rules.commit([nft.add_table(table, owned=owned), *steps])
        except (NetlinkError, OSError) as error:
            rules.close()
            raise _rules_failure(table, error) from None
        if owned:
            return Made(table, netns, rules.close, bound=True)
        rules.close()
        return Made(table, netns, lambda: remove_rules(table, netns=netns))

    return apart(make)


def _rules_failure(table: str, error: OSError | NetlinkError) -> SetupError:
    number = error.code if isinstance(error, NetlinkError) else error.errno
    if number == errno.EEXIST:
        return SetupError(f"there is a packet table {table!r} already", f"remove it with: nft delete table ip {table}")
    if number in (errno.ENOENT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
        return SetupError(
            f"the kernel does not know the packet rules of {table!r}", "load nf_tables, nft_ct and nft_masq"
        )
    return _failure(f"changing the packet rules {table!r}", error)


def _remove_rules(rules: _Rules, table: str) -> None:
    try:
        with rules, _already_gone():
            rules.commit([nft.delete_table(table)])
    except (NetlinkError, OSError) as error:
        raise _rules_failure(table, error) from None


def remove_rules(table: str, *, netns: str | None = None) -> None:
    """Remove a table of ours; none of that name is no error."""
    if netns is not None and not namespaces.exists(netns):
        return

    def remove() -> None:
        with namespaces.inside(netns):
            rules = _Rules()
        _remove_rules(rules, table)

    apart(remove)


def refusing_tables(netns: str | None = None) -> list[str]:
    """The packet tables whose chains refuse, by default, what is to be forwarded (a host's firewall)."""

    def ask() -> list[str]:
        try:
            with namespaces.inside(netns), NFTables(nfgen_family=0) as tables:
                chains = tables.get_chains()
        except (NetlinkError, OSError):
            return []  # no nftables, no refusal
        found = []
        for chain in chains:
            hook = chain.get("NFTA_CHAIN_HOOK")
            number = hook.get("NFTA_HOOK_HOOKNUM") if hook else None
            if number == nft.FORWARD and chain.get("NFTA_CHAIN_POLICY") == nft.REFUSE:
                found.append(chain.get("NFTA_CHAIN_TABLE"))
        return sorted(set(found))

    return apart(ask)


def packet_tables(netns: str | None = None) -> list[str]:
    """The names of the packet tables of a namespace."""

    def ask() -> list[str]:
        try:
            with namespaces.inside(netns), NFTables(nfgen_family=0) as tables:
                return sorted({str(table.get("NFTA_TABLE_NAME")) for table in tables.get_tables()})
        except (NetlinkError, OSError):
            return []  # no nftables, no tables

    return apart(ask)


# --- the kernel's own TCP ---------------------------------------------------------------------------------------------

STATES: Final = (  # linux/tcp_states.h, spelled as RFC 9293 §3.3.2 does
    "",
    "ESTABLISHED",
    "SYN-SENT",
    "SYN-RECEIVED",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "TIME-WAIT",
    "CLOSED",
    "CLOSE-WAIT",
    "LAST-ACK",
    "LISTEN",
    "CLOSING",
    "SYN-RECEIVED",
)
ALL_STATES: Final = (1 << 12) - 1


@dataclass(frozen=True, slots=True)
class KernelSocket:
    """One TCP socket of the kernel. Queues in bytes (of a listener: connections); ``info`` is its tcp_info, if any.

    ``expires``  milliseconds until the timer that it is waiting for runs out; 0: none
    """

    local: tuple[str, int]
    remote: tuple[str, int]
    state: str
    receive_queue: int
    send_queue: int
    info: dict[str, int]
    expires: int


def tcp_states(netns: str | None = None) -> list[KernelSocket]:
    """Every TCP socket of a namespace: listeners, half-open ones and TIME-WAIT too. IPv4, and IPv4 mapped into IPv6."""

    def ask() -> list[KernelSocket]:
        try:
            with namespaces.inside(netns), DiagSocket() as diag:
                diag.bind()
                found = []
                for family in (socket.AF_INET, socket.AF_INET6):
                    found += diag.get_sock_stats(family=family, states=ALL_STATES, extensions=1 << 1)
        except (NetlinkError, OSError) as error:
            raise _failure("listing the kernel's TCP sockets", error) from None
        return [_kernel_socket(item) for item in found]

    return apart(ask)


def _kernel_socket(item: Any) -> KernelSocket:
    info = item.get("INET_DIAG_INFO") or {}
    info.pop("tcpi_rcv_wscale", None)  # pyroute2 takes it from the wrong half of the byte
    return KernelSocket(
        (item["idiag_src"].removeprefix("::ffff:"), item["idiag_sport"]),
        (item["idiag_dst"].removeprefix("::ffff:"), item["idiag_dport"]),
        STATES[item["idiag_state"]],
        item["idiag_rqueue"],
        item["idiag_wqueue"],
        {key.removeprefix("tcpi_"): value for key, value in info.items() if isinstance(value, int)},
        item["idiag_expires"],
    )
