"""``usertcp up`` and ``usertcp down``: a TAP that reaches real hosts, and its end.

By *NAT* the TAP is a network of its own: the kernel's side has an address, forwards, and lends its own address to what
leaves by the uplink; only answers come back in. Forwarding is switched on for these two interfaces alone.

    stack 10.9.0.2 -- TAP -- 10.9.0.1 kernel, 192.0.2.5 -- uplink -- 192.0.2.1 ...

By a *bridge* the TAP is a port beside the uplink, and the stack a host on the uplink's own network. The host's
addresses and routes then belong on the bridge; they are moved there, and back.

    stack 192.0.2.77 -- TAP -- bridge (192.0.2.5) -- uplink -- 192.0.2.1 ...

For this *host* alone the TAP is a network of its own as with NAT, and nothing is forwarded.

Whom the TAP is made for attaches to it without any rights. What is done is written to a journal under /run/usertcp
before it is done, so that ``down`` can undo exactly that, even after a crash half-way.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from usertcp.errors import SetupError
from usertcp.link import netns as namespaces
from usertcp.link import nft, provision, settings
from usertcp.link.causes import AS_ROOT
from usertcp.link.device import activate
from usertcp.link.marks import UP
from usertcp.link.undo import Made, apart
from usertcp.link.words import checked_name, interface_of

JOURNALS: Final = Path("/run/usertcp")
ADDRESS: Final = "10.9.0.1/24"  # of the kernel's side
MODES: Final = ("nat", "bridge", "host")

KERNEL: Final = 2  # RTPROT_KERNEL: a route that comes and goes with an address
LOCAL: Final = 255  # RT_TABLE_LOCAL
LINK_SCOPE: Final = 253  # RT_SCOPE_LINK
FILTERED: Final = "net/bridge/bridge-nf-call-iptables"  # whether bridged packets pass the firewall
ON_LINK: Final = 4  # RTNH_F_ONLINK, the one flag of a route that is a wish and not a finding
FOREVER: Final = 0xFFFFFFFF  # seconds
MOVABLE: Final = frozenset(  # attributes of a route that can be moved, or need not be
    ["dst", "gateway", "priority", "prefsrc", "metrics", "oif", "table", "cacheinfo", "pref"]
)

Step = dict[str, Any]


@dataclass
class Uplink:
    """What ``up`` did. ``steps`` is the journal; ``warnings`` are for the user to read."""

    tap: str
    mode: str
    uplink: str
    address: str | None = None
    netns: str | None = None
    bridge: str | None = None
    steps: list[Step] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return _path(self.tap, self.netns)

    def note(self, kind: str, **details: Any) -> None:
        """Write down what is about to be done."""
        self.steps.append({"step": kind, **details})
        self.draft().replace(self.path)

    def draft(self) -> Path:
        """The journal as it is now, under a name of this process's own."""
        file = self.path.with_suffix(f".{os.getpid()}")
        file.write_text(json.dumps(asdict(self), indent=1))
        return file


def _path(tap: str, netns: str | None) -> Path:
    return JOURNALS / (f"{tap}.json" if netns is None else f"{tap}@{netns}.json")


def words(tap: str, netns: str | None) -> str:
    """What names a TAP on the command line."""
    return f"--tap {tap}" + (f" --netns {netns}" if netns is not None else "")


def read(tap: str, *, netns: str | None = None) -> Uplink | None:
    """The journal of a TAP that is up, None if there is none."""
    try:
        return Uplink(**json.loads(_path(tap, netns).read_text()))
    except FileNotFoundError:
        return None
    except PermissionError:
        raise SetupError(f"not allowed to read {_path(tap, netns)}", AS_ROOT) from None
    except (OSError, ValueError, TypeError) as error:
        raise SetupError(f"{_path(tap, netns)} cannot be read ({error})", "undo by hand, and delete it") from None


def list_up() -> list[Uplink]:
    """Everything that is up, in all namespaces."""
    found = []
    for path in sorted(JOURNALS.glob("*.json")):
        tap, _, netns = path.stem.partition("@")
        there = read(tap, netns=netns or None)
        if there is not None:
            found.append(there)
    return found


def up(
    tap: str = "usertcp0",
    *,
    mode: str = "nat",
    address: str | None = None,
    uplink: str | None = None,
    netns: str | None = None,
    mtu: int | None = None,
    tun: bool = False,
    owner: int | None = None,
) -> Uplink:
    """Make the TAP and connect it to ``uplink`` (default: where the default route leaves) by "nat" or "bridge"; or, by
    "host", to this host alone.

    ``address`` (the kernel's side's, default ADDRESS) and ``mtu`` (1500) are not for a bridge, which has those of the
    uplink. The user ``owner`` (None: ours) may attach without any rights. When a step fails nothing is left, and
    SetupError says which.
    """
    checked_name(tap)
    if mode not in MODES:
        raise SetupError(f"{mode!r} is no way to connect", f"choose one of: {', '.join(MODES)}")
    if mode == "host" and uplink is not None:
        raise SetupError("for this host alone there is no uplink", "leave out --uplink, or --host")
    if tun and mode == "bridge":
        raise SetupError("a TUN carries no Ethernet and cannot be bridged", "use a TAP, or nat")
    if mode == "bridge" and (address is not None or mtu is not None):
        raise SetupError("a bridge has the addresses and the MTU of its uplink", "leave out --kernel-address and --mtu")
    there = read(tap, netns=netns)
    if there is not None:
        if netns is None or namespaces.exists(netns):
            cause = f"{tap!r} is up already ({there.mode}{f' by {there.uplink}' if there.uplink else ''})"
            raise SetupError(cause, f"take it down first: usertcp down {words(tap, netns)}")
        there.path.unlink(missing_ok=True)
    info = None if mode == "host" else _outer(uplink, netns)
    record = Uplink(tap, mode, info.name if info else "", (address or ADDRESS) if mode != "bridge" else None, netns)

    def make() -> None:
        _claim(record)
        if mode == "bridge" and info is not None:
            _bridge(record, info, tun, owner)
            return
        _tap(record, record.address, mtu or 1500, tun, owner)
        if info is not None:
            _nat(record, info)

    try:
        apart(make)
    except BaseException:
        if record.steps:
            apart(lambda: _undo(record))
        raise
    return record


def _outer(uplink: str | None, netns: str | None) -> provision.LinkInfo:
    """The interface that leads out, which is up."""
    outer = uplink or provision.default_interface(netns)
    if outer is None:
        raise SetupError(
            "there is no default route, so no uplink is known", "name one with --uplink, or do without: --host"
        )
    info = provision.link_info(outer, netns)
    if not info.up:
        raise SetupError(f"{outer!r} is down", f"switch it on with: ip link set {outer} up")
    return info


def _claim(record: Uplink) -> None:
    """Begin the journal; two at once for the same TAP do not get past this."""
    try:
        JOURNALS.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = record.draft()
        try:
            os.link(draft, record.path)  # unlike a rename, not over another's
        finally:
            draft.unlink()
    except FileExistsError:
        cause = f"{record.tap!r} is being set up already"
        raise SetupError(cause, f"if it is not: usertcp down {words(record.tap, record.netns)}") from None
    except PermissionError:
        raise SetupError(f"not allowed to write {record.path}", AS_ROOT) from None
    record.note("journal")  # from here on it is ours to undo


def _made(record: Uplink, kind: str, make: Callable[[], Made], **details: Any) -> None:
    """Note a step, take it, and leave what it made in place when this process ends."""
    record.note(kind, **details)
    try:
        made = make()
    except BaseException:
        record.steps.pop()  # it undid itself, or was somebody else's
        raise
    made.keep()


def _tap(record: Uplink, address: str | None, mtu: int, tun: bool, owner: int | None) -> None:
    def make() -> Made:
        return provision.create_tap(record.tap, netns=record.netns, address=address, mtu=mtu, tun=tun, owner=owner)

    _made(record, "device", make, name=record.tap)
    _set_alias(record.tap, record.netns)


def _set_alias(name: str, netns: str | None) -> None:
    """It is no orphan when this process has ended."""

    def work(route: Any) -> None:
        route.link("set", index=provision.index_of(route, name), ifalias=UP)

    provision.talk(f"naming {name!r}", netns, work)


def _step_back(name: str, netns: str | None) -> None:
    """A bridge without an address of its own takes the lowest of its ports': ours is not to be that."""

    def work(route: Any) -> None:
        mac = provision.link_info(name, netns).mac
        route.link("set", index=provision.index_of(route, name), address="fe" + mac[2:])

    provision.talk(f"changing the hardware address of {name!r}", netns, work)


# --- NAT --------------------------------------------------------------------------------------------------------------


def _nat(record: Uplink, info: provision.LinkInfo) -> None:
    inner, outer, netns = record.tap, info.name, record.netns
    assert record.address is not None
    network = str(interface_of(record.address).network)
    table = "usertcp_" + "".join(c if c.isalnum() else "_" for c in inner)
    steps = [
        nft.add_chain(table, "postrouting", nft.POSTROUTING, nft.SOURCE_NAT, "nat"),
        nft.add_rule(table, "postrouting", nft.source(network), nft.leaves_by(outer), nft.masquerade()),
        nft.add_chain(table, "forward", nft.FORWARD, nft.FILTER),
        nft.add_rule(table, "forward", nft.comes_by(outer), nft.leaves_by(inner), nft.unasked(), nft.drop()),
        nft.add_rule(table, "forward", nft.comes_by(inner), nft.accept()),
        nft.add_rule(table, "forward", nft.leaves_by(inner), nft.accept()),
    ]
    _made(record, "rules", lambda: provision.install_rules(table, steps, netns=netns), table=table)
    for name in (inner, outer):
        key = f"net/ipv4/conf/{name}/forwarding"
        former = settings.sysctl(key, netns=netns)
        record.note("setting", key=key, former=former)
        settings.write(key, "1", netns=netns)
    for other in provision.refusing_tables(netns):
        record.warnings.append(
            f"the packet table {other!r} refuses forwarding by default; allow it there for what comes by {inner} "
            f"and for the answers (Docker: iptables -I DOCKER-USER -i {inner} -j ACCEPT, and the same with -o)"
        )


# --- bridge -----------------------------------------------------------------------------------------------------------


def _bridge(record: Uplink, info: provision.LinkInfo, tun: bool, owner: int | None) -> None:
    outer, netns = info.name, record.netns
    if info.master:
        raise SetupError(f"{outer!r} is under a bridge already", "name that bridge as the uplink")
    if info.mac in ("", "00:00:00:00:00:00"):
        raise SetupError(f"{outer!r} is no Ethernet interface, and cannot be bridged", "use nat, or another uplink")
    if info.kind == "bridge":  # somebody's own: just one port more
        record.bridge = outer
        _tap(record, None, info.mtu, tun, owner)
        _step_back(record.tap, netns)
    else:
        record.bridge = bridge = f"{record.tap[:12]}-br"
        moved = provision.talk(f"reading the addresses of {outer!r}", netns, lambda route: _belongings(route, outer))
        _tap(record, None, info.mtu, tun, owner)

        def make() -> Made:
            return provision.create_bridge(bridge, netns=netns, mac=info.mac, ipv6=True)

        _made(record, "device", make, name=bridge)
        _set_alias(bridge, netns)
        settings.restore(f"net/ipv6/conf/{bridge}/accept_ra", "0", netns=netns)
        record.note("moved", uplink=outer, bridge=bridge, **moved)
        provision.set_master(outer, bridge, netns=netns).keep()
        _move(moved, outer, bridge, netns)
        provision.run_inside(netns, lambda: activate(bridge))
    provision.set_master(record.tap, record.bridge, netns=netns).keep()
    filtered = Path("/proc/sys", FILTERED)
    if filtered.exists() and settings.sysctl(FILTERED, netns=netns) == "1" and provision.refusing_tables(netns):
        record.warnings.append(f"the firewall filters bridges too ({FILTERED}) and may refuse what crosses this one")


def _belongings(route: Any, name: str) -> Step:
    """The addresses and routes of an interface, as JSON can hold them; those that come by themselves left out."""
    index = provision.index_of(route, name)
    addresses = []
    for item in route.get_addr(index=index):
        if item["scope"] == LINK_SCOPE:
            continue
        times = item.get("cacheinfo") or {}
        addresses.append(
            {
                "family": item["family"],
                "prefixlen": item["prefixlen"],
                "scope": item["scope"],
                "flags": (item.get("flags") or 0) & 0x3E6,  # what is asked for: nodad, noprefixroute and the like
                "address": item.get("address"),
                "local": item.get("local"),
                "broadcast": item.get("broadcast"),
                "label": item.get("label"),
                "metric": item.get("rt_priority"),
                "valid": times.get("ifa_valid", FOREVER),
                "preferred": times.get("ifa_preferred", FOREVER),
            }
        )
    routes = []
    for item in route.get_routes():
        hops = item.get("multipath") or []
        if any(hop["oif"] == index for hop in hops):
            raise SetupError(f"{name!r} is part of a multipath route, which cannot be moved", "use nat")
        if item.get("oif") == index and item["proto"] != KERNEL and (item.get("table") or item["table"]) != LOCAL:
            routes.append(_route(item, name))
    return {"addresses": addresses, "routes": routes}


def _route(item: Any, name: str) -> Step:
    attributes = {key.removeprefix("RTA_").lower(): value for key, value in item["attrs"]}
    strange = sorted(set(attributes) - MOVABLE)
    if strange:
        raise SetupError(f"a route of {name!r} has {', '.join(strange)}, which cannot be moved", "use nat")
    kept = {key: attributes.get(key) for key in ("dst", "gateway", "priority", "prefsrc")}
    metrics = attributes.get("metrics")
    return {
        **kept,
        "metrics": {slot[0].removeprefix("RTAX_").lower(): slot[1] for slot in metrics["attrs"]} if metrics else None,
        "table": attributes.get("table", item["table"]),
        "flags": item["flags"] & ON_LINK,
        **{key: item[key] for key in ("family", "dst_len", "tos", "proto", "scope", "type")},
    }


def _put(route: Any, index: int, moved: Step, *, labels: bool) -> None:
    """Give an interface addresses and routes. What is there already stays."""
    for there in moved["addresses"]:
        arguments = {key: there[key] for key in ("family", "prefixlen", "scope", "address", "local", "broadcast")}
        arguments["IFA_FLAGS"] = there["flags"] or None
        arguments["IFA_RT_PRIORITY"] = there["metric"]
        if labels:
            arguments["label"] = there["label"]
        if there["valid"] != FOREVER:
            arguments["IFA_CACHEINFO"] = {"ifa_valid": there["valid"], "ifa_preferred": there["preferred"]}
        arguments = {key: value for key, value in arguments.items() if value is not None}
        route.addr("replace", index=index, **arguments)
    for there in sorted(moved["routes"], key=lambda there: there["gateway"] is not None):  # on-link ones first
        arguments = {key: there[key] for key in ("family", "tos", "table", "proto", "scope", "type", "flags")}
        for key in ("gateway", "priority", "prefsrc", "metrics"):
            if there[key] is not None:
                arguments[key] = there[key]
        if there["dst"] is not None:
            arguments["dst"] = f"{there['dst']}/{there['dst_len']}"
        route.route("replace", oif=index, **arguments)


def _take(route: Any, index: int, moved: Step) -> None:
    """Take the addresses away, secondary ones before the primary; with them go the routes through them."""
    for there in reversed(moved["addresses"]):
        address = there["local"] or there["address"]
        route.addr("del", index=index, family=there["family"], address=address, prefixlen=there["prefixlen"])


def _move(moved: Step, source: str, target: str, netns: str | None) -> None:
    def work(route: Any) -> None:
        _take(route, provision.index_of(route, source), moved)
        _put(route, provision.index_of(route, target), moved, labels=False)

    provision.talk(f"moving the addresses of {source!r} to {target!r}", netns, work)


# --- down -------------------------------------------------------------------------------------------------------------


def down(tap: str = "usertcp0", *, netns: str | None = None) -> Uplink:
    """Undo what :func:`up` did, newest first. SetupError if it did nothing for this TAP."""
    record = read(tap, netns=netns)
    if record is None:
        known = ", ".join(words(item.tap, item.netns) for item in list_up()) or "nothing at all"
        raise SetupError(f"{tap!r} was not put up by usertcp", f"what is up: {known}")
    apart(lambda: _undo(record))
    return record


def _undo(record: Uplink) -> None:
    if record.netns is None or namespaces.exists(record.netns):
        for step in reversed(record.steps):
            _UNDO[step["step"]](step, record.netns)
    record.path.unlink(missing_ok=True)


def _undo_move(step: Step, netns: str | None) -> None:
    """The bridge goes first, and with it what lay on it."""
    uplink, bridge = step["uplink"], step["bridge"]
    provision.delete_link(bridge, netns=netns)
    if provision.link_exists(uplink, netns):
        provision.talk(
            f"giving {uplink!r} its addresses back",
            netns,
            lambda route: _put(route, provision.index_of(route, uplink), step, labels=True),
        )


_UNDO: Final[dict[str, Callable[[Step, str | None], None]]] = {
    "journal": lambda step, netns: None,
    "device": lambda step, netns: provision.delete_link(step["name"], netns=netns),
    "rules": lambda step, netns: provision.remove_rules(step["table"], netns=netns),
    "setting": lambda step, netns: settings.restore(step["key"], step["former"], netns=netns),
    "moved": _undo_move,
}
