"""The user's words for a device, a namespace, an address and a size, looked at before anything is made of them.

Each function returns what it was given, or raises a SetupError that says what would do instead. Whether a name is free
or an address is somebody else's is not known here; the kernel is asked for that where the thing is made.
"""

import ipaddress
from typing import Final

from usertcp.errors import SetupError

MIN_MTU: Final = 68  # bytes (RFC 791 §3.2)
MAX_TUN_MTU: Final = 65535  # bytes
MAX_TAP_MTU: Final = 65521  # bytes: a TAP's frame with its Ethernet header is no longer than 65535


def checked_name(name: str) -> str:
    """``name`` if an interface may be called so (dev_valid_name in the kernel)."""
    good = 0 < len(name.encode()) <= 15 and name not in (".", "..")
    if not good or any(character in "/:" or character.isspace() for character in name):
        raise SetupError(
            f"an interface cannot be called {name!r}", "choose a name of 1 to 15 characters without '/', ':' and spaces"
        )
    return name


def checked_space(name: str) -> str:
    """``name`` if a network namespace may be called so: it is the name of a file (ip-netns(8))."""
    if not 0 < len(name.encode()) <= 255 or "/" in name or "\0" in name or name in (".", ".."):
        raise SetupError(f"a namespace cannot be called {name!r}", "give a name as ip netns lists it, without '/'")
    return name


def checked_mtu(mtu: int, *, tun: bool) -> int:
    """``mtu`` (bytes) if a TAP, or a TUN, may have it."""
    most = MAX_TUN_MTU if tun else MAX_TAP_MTU
    if not MIN_MTU <= mtu <= most:
        kind = "TUN" if tun else "TAP"
        raise SetupError(f"a {kind} cannot have an MTU of {mtu}", f"choose one between {MIN_MTU} and {most}")
    return mtu


def interface_of(text: str) -> ipaddress.IPv4Interface:
    """``"10.9.0.1/24"`` as an address with its network, if one host on that network can have it."""
    try:
        if "/" not in text:
            raise ValueError("no prefix length")
        interface = ipaddress.IPv4Interface(text)
    except ValueError:
        raise SetupError(f"{text!r} is not an address with a prefix length", "write it like 10.9.0.1/24") from None
    reason = _unusable(interface)
    if reason:
        raise SetupError(f"{interface.ip} cannot be a host's address: it is {reason}", "choose one like 10.9.0.2/24")
    return interface


def _unusable(interface: ipaddress.IPv4Interface) -> str:
    """Why it is not the address of one host on a wire (RFC 1122 §3.2.1.3; RFC 3021 for /31); "" if it is."""
    ip, network = interface.ip, interface.network
    if ip.packed[0] == 0:
        return "no address at all"
    if ip.is_loopback:
        return "every host's own loopback"
    if ip.is_multicast:
        return "a multicast address"
    if ip.is_reserved:  # 240/4, the limited broadcast among it
        return "reserved"
    if network.prefixlen < 31 and ip == network.network_address:
        return f"that of the network {network}"
    if network.prefixlen < 31 and ip == network.broadcast_address:
        return f"the broadcast address of {network}"
    return ""
