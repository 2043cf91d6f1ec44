"""What a packetdrill script says, as values; :mod:`usertcp.pkt.parser` makes them from text.

A script is a list of events, each with a time and one action: a segment or an ICMP error that comes in or goes out, a
system call with its outcome, a shell command, or assertions about ``tcp_info``. Times are nanoseconds. Numbers are the
script's own (sequence numbers count from each side's SYN); :mod:`usertcp.pkt.flow` leads from them to the wire.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Final, TypeAlias

from usertcp.units import US
from usertcp.wire import ecn

Expression: TypeAlias = "int | bytes | EllipsisType | tuple[Expression, ...] | Struct"

DEFAULT_PORT: Final = 8080  # of both ends, as long as a script says nothing else


class ScriptError(Exception):
    """The text is not a script. ``line`` and ``column`` count from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"{line}:{column}: {message}")
        self.message = message
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Struct:
    """``{name = value, ...}`` and ``{value, ...}``, or a mixture: a C structure."""

    fields: Mapping[str, Expression]
    items: tuple[Expression, ...] = ()


@dataclass(frozen=True, slots=True)
class When:
    """When an event happens: at ``low``, or somewhere between it and ``high``; ``relative`` to the one before it, or
    to the beginning. ``low`` None: at any time."""

    low: int | None
    high: int
    relative: bool


@dataclass(frozen=True, slots=True)
class TcpOption:
    """One TCP option. ``numbers`` are in the order of the notation: MSS, shift, edges of SACK blocks, TSval and TSecr;
    ``octets`` is what follows kind and length of an option that has no notation, a Fast Open cookie among them."""

    kind: int
    numbers: tuple[int, ...] = ()
    octets: bytes = b""


@dataclass(frozen=True, slots=True)
class IpInfo:
    """What a script says of the IP header and the ports; None: nothing.

    ``ecn``   code points that are meant: one, or two for ``ect01``
    ``port``  the peer's, which tells a script's connections apart
    """

    ecn: tuple[int, ...] | None = None
    tos: int | None = None
    ttl: int | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True)
class TcpPacket:
    """A segment. ``options`` None: any. ``flags`` as of :mod:`usertcp.wire.tcp`."""

    inbound: bool
    ip: IpInfo
    flags: int
    seq: int
    length: int
    ack: int | None
    win: int | None
    urg: int | None
    options: tuple[TcpOption, ...] | None


@dataclass(frozen=True, slots=True)
class IcmpPacket:
    """An ICMP error that comes in, about the segment of ours with ``seq`` and ``length`` (None: the last one sent)."""

    ip: IpInfo
    kind: int
    code: int
    mtu: int
    seq: int | None
    length: int


@dataclass(frozen=True, slots=True)
class Call:
    """A system call. ``end``: it blocks until then, as its event's time is meant; None: it returns at once.
    ``result`` Ellipsis: whatever it is; ``errno`` 0: it succeeds."""

    name: str
    arguments: tuple[Expression, ...]
    result: int | EllipsisType
    errno: int
    end: int | None


@dataclass(frozen=True, slots=True)
class Shell:
    """A command of the shell, for the kernel."""

    command: str


@dataclass(frozen=True, slots=True)
class Code:
    """``%{ ... }%``: assertions. ``line``: where its text begins."""

    text: str
    line: int


Action: TypeAlias = TcpPacket | IcmpPacket | Call | Shell | Code


@dataclass(frozen=True, slots=True)
class Event:
    """One action at its time, ``line`` counted from 1; ``source`` is its text. ``only``: the target that it is meant
    for, "usertcp" or "kernel"; "": both."""

    when: When
    action: Action
    line: int
    source: str
    only: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options at the head of a script. Sizes in bytes.

    ``tolerance``  by how many ns something may be early or late
    ``ts_tick``    ns that a tick of our timestamp clock takes: TSvals that it sends are held to it; 0: they are not
    """

    tolerance: int = 4000 * US
    ts_tick: int = 0
    mtu: int = 1500
    local_ip: str = "192.168.0.1"
    remote_ip: str = "192.0.2.1"
    bind_port: int = DEFAULT_PORT
    connect_port: int = DEFAULT_PORT

    @property
    def local_network(self) -> str:
        """The stack's address with the length of its network's prefix."""
        return f"{self.local_ip}/24"

    @property
    def gateway(self) -> str:
        """Where the peer is reached, unless it is on that network itself."""
        hosts = ipaddress.IPv4Interface(self.local_network).network.hosts()
        return next(str(host) for host in hosts if str(host) not in (self.local_ip, self.remote_ip))


@dataclass(frozen=True, slots=True)
class Script:
    """A whole script. ``shell``: commands before the first event."""

    name: str
    settings: Settings = field(default_factory=Settings)
    shell: tuple[Shell, ...] = ()
    events: tuple[Event, ...] = ()


ECN_WORDS: Final[Mapping[str, tuple[int, ...]]] = {
    "noecn": (ecn.NOT_ECT,),
    "ect0": (ecn.ECT_0,),
    "ect1": (ecn.ECT_1,),
    "ect01": (ecn.ECT_0, ecn.ECT_1),
    "ce": (ecn.CE,),
}
