"""From a user's words to a running stack: the one place where devices, addresses and stacks are put together.

Programs, the command line and the three roads to a connection all say what they want in the words of a
:class:`LinkSpec`, and :func:`open_stack` answers with a stack on a link, and with what must be undone afterwards:

    nothing             a network namespace of its own with a TAP in it; both go away with the stack
    tap= / tun=         that device, attached to; made and given an address if it is not there, and then removed
    packet=, address=   an existing interface, beside the kernel, with an address (and a MAC) of our own
    packet= alone       the same with the kernel's own address; the kernel is kept away from some ports of it

Who drives the stack, and when, is not decided here. What makes things in the kernel, and what only some ask for, is
imported when it is needed: a stack on a TAP that is there needs none of it, and loading it takes longer than the rest.
"""

import errno
import ipaddress
import itertools
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from usertcp.driver.engine import Engine
from usertcp.errors import SetupError, os_error
from usertcp.link.base import Link
from usertcp.link.interfaces import addresses, link_exists
from usertcp.link.tap import TapLink
from usertcp.link.words import checked_name, checked_space, interface_of
from usertcp.net.stack import Stack, StackConfig
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.trace import Tracer
from usertcp.wire import ipv4
from usertcp.wire.checksum import use_numpy

if TYPE_CHECKING:
    from usertcp.driver.control import ControlServer, Place
    from usertcp.driver.privilege import Account
    from usertcp.link.faults import Rule
    from usertcp.link.undo import Made

KERNEL_ADDRESS: Final = "10.9.0.1/24"  # of the kernel's side of a device that we make
DEVICE: Final = "tap0"  # its name in a namespace of our own
NAMES: Final = 100  # control sockets that one process may have

_log: Final = logging.getLogger("usertcp")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """What a stack is to be put on.

    ``tap``, ``tun``, ``packet``  the device, at most one of them
    ``netns``           the network namespace it lies in
    ``address``         our address ("10.9.0.2/24"); left out on a TAP or TUN: the neighbour of the kernel's
    ``kernel_address``  for the kernel's side of a device that is made
    ``gateway``         where other networks are reached; left out on a TAP or TUN: the kernel's side; "" for none
    ``ports``           when the kernel's own address is used: the ports (first, last) that are ours, to listen on too;
                        left out: some high ones that are free, to connect from
    ``mtu``             largest IP packet, bytes; 0: the device's (1500 on one that is made)
    ``offload``         let the kernel cut super-segments and sum checksums, as far as the device can
    ``gso``             whether the former is among it
    ``queue``           (which, of how many): a TUN that is there, made for several stacks, of which this is one
    ``pcap``            a file that records what crosses the device
    ``rules``, ``seed``  what goes wrong on purpose (``usertcp.link.middleware``)
    ``control``         answer ``usertcp ss`` while the stack runs
    ``user``            whom this process becomes, for good, when the device is open (:mod:`usertcp.driver.privilege`)
    """

    tap: str | None = None
    tun: str | None = None
    packet: str | None = None
    netns: str | None = None
    address: str | None = None
    kernel_address: str = KERNEL_ADDRESS
    gateway: str | None = None
    ports: tuple[int, int] | None = None
    mtu: int = 0
    offload: bool = True
    gso: bool = True
    queue: tuple[int, int] | None = None
    pcap: str | Path | None = None
    rules: "Sequence[Rule]" = ()
    seed: int = 0
    control: bool = True
    user: str | None = None

    def __post_init__(self) -> None:
        if sum(name is not None for name in (self.tap, self.tun, self.packet)) > 1:
            raise SetupError("more than one device was named", "give one of tap, tun and packet")
        for name in (self.tap, self.tun, self.packet):
            if name is not None:
                checked_name(name)
        if self.queue is not None and self.tun is None:
            raise SetupError("only a TUN has queues for several stacks", "name one made for that: tun=")
        if self.netns is not None:
            checked_space(self.netns)
        for address in (self.address, self.kernel_address):
            if address is not None:
                interface_of(address)
        if self.gateway and ipaddress_of(self.gateway) is None:
            raise SetupError(f"{self.gateway!r} is not an address", "give the gateway like 10.9.0.1")
        if self.mtu and not 576 <= self.mtu <= 65535:
            raise SetupError(f"an MTU of {self.mtu} is not usable", "choose one between 576 and 65535")


class OpenLink:
    """A link with an address, and what has to be undone when it is closed.

    ``netns``           the namespace of the device; one of our own when none was asked for
    ``kernel_address``  the address of the kernel's side ("10.9.0.1/24"), None where there is none
    ``ports``           those of the kernel's own address that are ours (first, last); None: the address is ours
    """

    def __init__(self, spec: LinkSpec) -> None:
        self._undo = ExitStack()
        self.spec = spec
        self.netns = spec.netns
        self.kernel_address: str | None = None
        self.gateway = spec.gateway or None
        self.ports: tuple[int, int] | None = None
        try:
            if spec.packet is not None:
                from usertcp.link.packet import PacketLink

                self.address = self._checked_address() or self._share_address(spec.packet)
                opened: Link = PacketLink.open(
                    spec.packet,
                    address=self.address,
                    netns=spec.netns,
                    host_ports=self.ports,
                    offload=spec.offload,
                    gso=spec.gso,
                )
            else:
                opened = self._attach()
                self.address = self._checked_address() or self._beside_kernel()
                if spec.gateway is None and self.kernel_address is not None:
                    self.gateway = self.kernel_address.partition("/")[0]
            self.device = self._undo.enter_context(opened)
            self._check_gateway()
            self.link = self._cover(opened)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the link and undo what was made for it. Closing twice is harmless."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _attach(self) -> Link:
        """The TAP or TUN that was named, made if need be; or one of our own in a namespace of our own."""
        spec = self.spec
        tun = spec.tun is not None
        name = spec.tap if spec.tap is not None else spec.tun
        if name is None:
            name = DEVICE
            if self.netns is None:
                from usertcp.link import provision

                self.netns = self._undo.enter_context(provision.Namespace.create()).name
        if not link_exists(name, self.netns):
            from usertcp.link import provision

            made = provision.create_tap(
                name, netns=self.netns, address=spec.kernel_address, mtu=spec.mtu or 1500, tun=tun
            )
            self._undo.enter_context(made)
        there = addresses(name, netns=self.netns)
        self.kernel_address = there[0] if there else None
        return TapLink.open(name, netns=self.netns, tun=tun, offload=spec.offload, gso=spec.gso, queue=spec.queue)

    def _checked_address(self) -> str | None:
        """The address that was asked for, if any. The kernel answers for its own ones, so it is none of them."""
        wanted = self.spec.address
        if wanted is not None:
            ip = wanted.partition("/")[0]
            if ip in [there.partition("/")[0] for there in addresses(None, netns=self.netns)]:
                raise SetupError(f"{ip} is the kernel's own address", "choose another one, or leave the address out")
        return wanted

    def _check_gateway(self) -> None:
        """Whoever passes on our packets is a neighbour, where there are neighbours."""
        if self.gateway is None or self.device.caps.mac is None:
            return
        own, gateway = interface_of(self.address), ipaddress.IPv4Address(self.gateway)
        if gateway == own.ip:
            raise SetupError(
                f"the gateway {gateway} is the stack's own address", "give that of a router on its network"
            )
        if gateway in own.network:
            interface_of(f"{gateway}/{own.network.prefixlen}")
        elif self.spec.gateway is None:
            raise SetupError(
                f"{own} is on another network than the kernel's side of the device, {self.kernel_address}",
                "choose an address on that network, or name a gateway on yours",
            )
        else:
            raise SetupError(
                f"the gateway {gateway} is not on {own.network}, the network of the stack's address",
                "give one that is, or an address on the gateway's network",
            )

    def _beside_kernel(self) -> str:
        """The first address of the kernel's network that is not the kernel's."""
        if self.kernel_address is None:
            raise SetupError("the device has no address from which ours could follow", "give one, like 10.9.0.2/24")
        kernel = ipaddress.IPv4Interface(self.kernel_address)
        for host in kernel.network.hosts():
            if host != kernel.ip:
                return f"{host}/{kernel.network.prefixlen}"
        raise SetupError(f"{kernel.network} has no second address", "give an address, like 10.9.0.2/24")

    def _share_address(self, interface: str) -> str:
        """Use the kernel's own address on ``interface``, with the kernel kept away from our ports."""
        from usertcp.link.guard import free_ports, guard

        there = addresses(interface, netns=self.netns)
        if not there:
            raise SetupError(f"{interface!r} has no address to share", "give one of our own, like 192.0.2.7/24")
        shared = there[0].partition("/")[0]
        ports = self.spec.ports or free_ports(shared, netns=self.netns)
        self._undo.enter_context(guard(shared, ports, netns=self.netns))
        self.ports = ports
        self.kernel_address = there[0]
        return there[0]

    def _cover(self, link: Link) -> Link:
        """The middleware that was asked for: the recorder next to the device, the faults above it."""
        spec = self.spec
        if spec.pcap is not None:
            from usertcp.link.middleware import Pcap

            try:
                link = Pcap.open(link, spec.pcap, time.time_ns() - time.monotonic_ns())
            except OSError as error:
                raise SetupError(
                    f"cannot write {spec.pcap}: {error.strerror}", "name a file that you may write"
                ) from None
        if spec.rules:
            from usertcp.link.faults import Faults

            link = Faults(link, spec.rules, spec.seed)
        if link is not self.device:
            self._undo.enter_context(link)
        return link


class OpenStack:
    """A stack on an opened link, ready to be driven. ``close`` ends the link, not the connections."""

    def __init__(
        self, spec: LinkSpec, config: StackConfig | None, tcp: TcpConfig | None, tracer: Tracer | None
    ) -> None:
        self.opened = OpenLink(spec)
        try:
            link = self.opened.link
            caps = replace(link.caps, mtu=min(spec.mtu, link.caps.mtu)) if spec.mtu else link.caps
            settings = config or StackConfig(addresses=(self.opened.address,), gateway=self.opened.gateway)
            if tcp is not None:
                settings = replace(settings, tcp=tcp)
            if self.opened.ports is not None:
                settings = replace(settings, ephemeral=self.opened.ports, ports=self.opened.ports)
            if not caps.tx_checksum:
                use_numpy()
            self.stack = Stack(settings, caps, os.urandom, tracer)
        except ValueError as error:
            self.opened.close()
            raise SetupError(str(error), "look at the addresses that were given") from None
        except BaseException:
            self.opened.close()
            raise
        self.link = link
        self.spec = spec
        self._place: Place | None = None
        self._entrusted: Made | None = None
        with suppress(Exception):  # a handler of logs that fails
            _log.info(self.describe_link())

    def describe_link(self) -> str:
        """The device in words: its MTU and offloads, and what it lacks although it was asked for it."""
        link, caps = self.link, self.stack.caps
        return f"{link.name}, MTU {caps.mtu}, offloads: {caps.offloads}" + (f" ({link.lack})" if link.lack else "")

    @property
    def address(self) -> str:
        """Our address, without the prefix length."""
        return self.opened.address.partition("/")[0]

    @property
    def kernel_address(self) -> str | None:
        """The address of the kernel's side, without the prefix length."""
        there = self.opened.kernel_address
        return None if there is None else there.partition("/")[0]

    @property
    def netns(self) -> str | None:
        """The namespace in which the device lies."""
        return self.opened.netns

    def serve_control(self, engine: Engine, snapshot: Callable[[], Any]) -> "ControlServer | None":
        """Answer ``usertcp ss`` on ``engine``; None where that is unwanted or not allowed (no root)."""
        place = self._place or self._find_place()
        if place is None:
            return None
        from usertcp.driver import control

        commands = {"snapshot": snapshot, "stats": self.stack.counters, "link": self.describe_link}
        try:
            return control.ControlServer(engine, place, commands)
        except OSError:  # the kernel watches no more descriptors
            return None

    def _find_place(self) -> "Place | None":
        """Where to answer from."""
        if not self.spec.control:
            return None
        from usertcp.driver import control

        for number in itertools.islice(itertools.count(1), NAMES):
            name = control.default_name() + (f"-{number}" if number > 1 else "")
            try:
                return control.Place(name)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    return None
        return None

    def settle(self, who: "Account | None") -> None:
        """All that needs rights is done, here and by the caller: who undoes it is a janitor from now on, and this
        process becomes ``who`` (None: it keeps its rights)."""
        from usertcp.link import janitor

        self._place = self._find_place()
        self._entrusted = janitor.entrust()
        if who is not None:
            from usertcp.driver import privilege

            privilege.drop(who)

    def close(self) -> None:
        """Close the link and undo what was made for it. Closing twice is harmless."""
        if self._place is not None:
            self._place.close()
        self.opened.close()
        if self._entrusted is not None:
            self._entrusted.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_stack(
    spec: LinkSpec | None = None,
    *,
    config: StackConfig | None = None,
    tcp: TcpConfig | None = None,
    tracer: Tracer | None = None,
    **words: Any,
) -> OpenStack:
    """A stack on the link that ``spec``, or ``words`` of one, asks for. SetupError when it cannot be had.

    ``config`` replaces the whole configuration of the stack, ``tcp`` the defaults of its connections.
    """
    wanted = replace(spec, **words) if spec is not None else LinkSpec(**words)
    if wanted.user is None:
        return OpenStack(wanted, config, tcp, tracer)
    from usertcp.driver import privilege

    who = privilege.account(wanted.user)
    opened = OpenStack(wanted, config, tcp, tracer)
    try:
        opened.settle(who)
    except BaseException:
        opened.close()
        raise
    return opened


@lru_cache(maxsize=1024)
def ipaddress_of(text: str) -> ipaddress.IPv4Address | None:
    """``text`` as an IPv4 address, None if it is none."""
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        return None


def resolve(host: str) -> str:
    """The IPv4 address of ``host``, a name or an address. Names are the system's resolver's, over the kernel's network.

    socket.gaierror, an OSError, when it does not resolve; EAFNOSUPPORT for an IPv6 address.
    """
    try:
        ipv4.pack(host)
        return host
    except ValueError:
        pass
    if ":" in host:
        raise os_error(errno.EAFNOSUPPORT)
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise unresolved(host, error) from None
    return str(found[0][4][0])


def unresolved(host: str, error: OSError | UnicodeError) -> OSError:
    """What to raise when the resolver fails with ``error``: a ``socket.gaierror`` that names ``host``."""
    if isinstance(error, socket.gaierror):
        return socket.gaierror(error.errno, f"{host!r} does not resolve ({error.strerror})")
    if isinstance(error, UnicodeError):
        return socket.gaierror(socket.EAI_NONAME, f"{host!r} is not a host's name")
    return error
