"""nftables rules as data.

A base chain hangs on a hook of the kernel's packet path; a rule is a row of expressions that load a field into a
register and compare it, ended by a verdict. Here the few that usertcp needs are spelled as netlink attributes
(linux/netfilter/nf_tables.h); sending them, all or none, is :func:`usertcp.link.provision.install_rules`. A table is
always one of our own, so that removing the table removes all that we put in, and nobody else's rules are touched.
"""

import ipaddress
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

IPV4: Final = 2  # NFPROTO_IPV4: the family "ip"
CREATE: Final = 0x400  # netlink flags: NLM_F_CREATE
EXCLUSIVE: Final = 0x200  # NLM_F_EXCL
APPEND: Final = 0x800  # NLM_F_APPEND
OWNED: Final = 2  # NFT_TABLE_F_OWNER: the table goes with the socket that made it

PREROUTING: Final = 0  # hooks: enum nf_inet_hooks
FORWARD: Final = 2
OUTPUT: Final = 3
POSTROUTING: Final = 4

BEFORE_TRACKING: Final = -300  # priorities: NF_IP_PRI_RAW
FILTER: Final = 0
SOURCE_NAT: Final = 100

REFUSE: Final = 0  # a chain's policy: NF_DROP

EQUAL: Final = 0  # enum nft_cmp_ops
AT_MOST: Final = 3
AT_LEAST: Final = 5

_NETWORK: Final = 1  # enum nft_payload_bases
_TRANSPORT: Final = 2

Expression = dict[str, Any]


class Step(NamedTuple):
    """One message of a transaction: ``verb`` as in NFT_MSG_<verb>, ``message`` the class that encodes it."""

    verb: str
    message: str
    flags: int
    family: int
    attrs: Sequence[tuple[str, Any]]


def add_table(name: str, *, owned: bool = False) -> Step:
    attrs: list[tuple[str, Any]] = [("NFTA_TABLE_NAME", name)]
    if owned:
        attrs.append(("NFTA_TABLE_FLAGS", OWNED))
    return Step("NEWTABLE", "nft_table_msg", CREATE | EXCLUSIVE, IPV4, attrs)


def delete_table(name: str) -> Step:
    return Step("DELTABLE", "nft_table_msg", 0, IPV4, [("NFTA_TABLE_NAME", name)])


def add_chain(table: str, name: str, hook: int, priority: int, kind: str = "filter") -> Step:
    """A base chain; ``kind`` "filter" or "nat". What no rule decides is accepted."""
    place = {"attrs": [("NFTA_HOOK_HOOKNUM", hook), ("NFTA_HOOK_PRIORITY", priority)]}
    attrs = [
        ("NFTA_CHAIN_TABLE", table),
        ("NFTA_CHAIN_NAME", name),
        ("NFTA_CHAIN_HOOK", place),
        ("NFTA_CHAIN_TYPE", kind),
    ]
    return Step("NEWCHAIN", "nft_chain_msg", CREATE, IPV4, attrs)


def add_rule(table: str, chain: str, *matches: list[Expression]) -> Step:
    """A rule of the matches in order; the last is a verdict."""
    expressions = [expression for match in matches for expression in match]
    attrs = [("NFTA_RULE_TABLE", table), ("NFTA_RULE_CHAIN", chain), ("NFTA_RULE_EXPRESSIONS", expressions)]
    return Step("NEWRULE", "nft_rule_msg", CREATE | APPEND, IPV4, attrs)


def _expression(name: str, **data: Any) -> Expression:
    values = [(f"NFTA_{name.upper()}_{key.upper()}", value) for key, value in data.items()]
    return {"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", {"attrs": values})]}


def _value(data: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", data)]}


def _load(base: int, offset: int, length: int) -> Expression:
    return _expression("payload", dreg=1, base=base, offset=offset, len=length)


def _compare(data: bytes, operation: int = EQUAL) -> Expression:
    return _expression("cmp", sreg=1, op=operation, data=_value(data))


def _mask(mask: bytes) -> Expression:
    return _expression("bitwise", sreg=1, dreg=1, len=len(mask), mask=_value(mask), xor=_value(bytes(len(mask))))


def _network(text: str, offset: int) -> list[Expression]:
    network = ipaddress.IPv4Network(text, strict=False)
    return [_load(_NETWORK, offset, 4), _mask(network.netmask.packed), _compare(network.network_address.packed)]


def source(network: str) -> list[Expression]:
    """``ip saddr``"""
    return _network(network, 12)


def destination(network: str) -> list[Expression]:
    """``ip daddr``"""
    return _network(network, 16)


def tcp() -> list[Expression]:
    """``meta l4proto tcp``"""
    return [_expression("meta", key=16, dreg=1), _compare(b"\x06")]


def _port(offset: int, low: int, high: int) -> list[Expression]:
    load = _load(_TRANSPORT, offset, 2)
    return [load, _compare(low.to_bytes(2, "big"), AT_LEAST), _compare(high.to_bytes(2, "big"), AT_MOST)]


def source_port(low: int, high: int) -> list[Expression]:
    """``tcp sport low-high``"""
    return _port(0, low, high)


def destination_port(low: int, high: int) -> list[Expression]:
    """``tcp dport low-high``"""
    return _port(2, low, high)


def reset() -> list[Expression]:
    """``tcp flags & rst == rst``"""
    return [_load(_TRANSPORT, 13, 1), _mask(b"\x04"), _compare(b"\x04")]


def comes_by(interface: str) -> list[Expression]:
    """``iifname``"""
    return [_expression("meta", key=6, dreg=1), _compare(interface.encode().ljust(16, b"\0"))]


def leaves_by(interface: str) -> list[Expression]:
    """``oifname``"""
    return [_expression("meta", key=7, dreg=1), _compare(interface.encode().ljust(16, b"\0"))]


def unasked() -> list[Expression]:
    """Neither of an established connection nor related to one: ``ct state & (established | related) == 0``"""
    return [_expression("ct", key=0, dreg=1), _mask((2 | 4).to_bytes(4, "little")), _compare(bytes(4))]


def masquerade() -> list[Expression]:
    return [_expression("masq")]


def _verdict(code: int) -> list[Expression]:
    verdict = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": [("NFTA_VERDICT_CODE", code)]})]}
    return [_expression("immediate", dreg=0, data=verdict)]


def drop() -> list[Expression]:
    return _verdict(0)


def accept() -> list[Expression]:
    return _verdict(1)
