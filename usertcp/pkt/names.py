"""The names that a script may use for numbers: Linux's constants of the socket interface, and the errnos."""

import errno
import fcntl
import os
import select
import socket
from typing import Final

from usertcp.driver.options import STATE_NUMBERS
from usertcp.wire import icmp

SIOCINQ: Final = 0x541B  # Linux
SIOCOUTQ: Final = 0x5411
SIOCOUTQNSD: Final = 0x894B
SIOCATMARK: Final = 0x8905

_SOCKET: Final = ("AF_", "PF_", "SOCK_", "SOL_", "SO_", "IPPROTO_", "IP_", "TCP_", "MSG_", "SHUT_")


def _of(module: object, *prefixes: str) -> dict[str, int]:
    return {
        name: int(value)
        for name, value in vars(module).items()
        if name.startswith(prefixes) and name.isupper() and isinstance(value, int)
    }


ERRNOS: Final[dict[str, int]] = {name: number for number, name in errno.errorcode.items()} | {
    "EWOULDBLOCK": errno.EAGAIN
}

CONSTANTS: Final[dict[str, int]] = {
    **_of(socket, *_SOCKET),
    **_of(select, "POLL"),
    **_of(fcntl, "F_"),
    **_of(os, "O_"),
    **ERRNOS,  # of SO_ERROR
    "SO_PRIORITY": 12,  # what Python's module has no name for
    "TCP_SAVE_SYN": 27,
    "SIOCINQ": SIOCINQ,
    "FIONREAD": SIOCINQ,
    "SIOCOUTQ": SIOCOUTQ,
    "SIOCOUTQNSD": SIOCOUTQNSD,
    "SIOCATMARK": SIOCATMARK,
}

ASSERTABLE: Final[dict[str, int]] = {  # beside the fields of tcp_info
    **{f"TCP_{state.name}": number for state, number in STATE_NUMBERS.items()},
    "TCP_SYN_RECV": 3,  # Linux's own spelling of some states
    "TCP_FIN_WAIT1": 4,
    "TCP_FIN_WAIT2": 5,
    "TCP_CLOSE": 7,
    "TCP_CA_Open": 0,
    "TCP_CA_Disorder": 1,
    "TCP_CA_CWR": 2,
    "TCP_CA_Recovery": 3,
    "TCP_CA_Loss": 4,
    "TCPI_OPT_TIMESTAMPS": 1,
    "TCPI_OPT_SACK": 2,
    "TCPI_OPT_WSCALE": 4,
    "TCPI_OPT_ECN": 8,
}

ICMP_TYPES: Final[dict[str, int]] = {
    "unreachable": icmp.DESTINATION_UNREACHABLE,
    "source_quench": icmp.SOURCE_QUENCH,
    "time_exceeded": icmp.TIME_EXCEEDED,
    "parameter_problem": icmp.PARAMETER_PROBLEM,
}
ICMP_CODES: Final[dict[str, int]] = {
    "net_unreachable": icmp.NET_UNREACHABLE,
    "host_unreachable": icmp.HOST_UNREACHABLE,
    "protocol_unreachable": icmp.PROTOCOL_UNREACHABLE,
    "port_unreachable": icmp.PORT_UNREACHABLE,
    "frag_needed": icmp.FRAGMENTATION_NEEDED,
    "source_route_failed": icmp.SOURCE_ROUTE_FAILED,
    "net_unknown": 6,  # RFC 1122 §3.2.2.1
    "host_unknown": 7,
    "source_host_isolated": 8,
    "net_prohibited": 9,
    "host_prohibited": 10,
    "packet_filtered": icmp.ADMINISTRATIVELY_PROHIBITED,
    "ttl_exceeded": icmp.TTL_EXCEEDED,
    "reassembly_exceeded": icmp.REASSEMBLY_TIME_EXCEEDED,
}


def name_of(number: int) -> str:
    """An errno by its name."""
    return errno.errorcode.get(number, str(number))
