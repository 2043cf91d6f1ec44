"""Which tests of CPython are run: those of the network modules that use TCP.

A module stands with a pattern of its classes. Classes whose sockets are not TCP (datagrams, CAN, AF_UNIX ...) would
pass through to the kernel and show nothing; they are left out here.
"""

import re
from dataclasses import dataclass
from typing import Final

_NO_TCP: Final = (
    "CAN|ISOTP|J1939|RDS|QIPCRTR|VSOCK|Bluetooth|HyperV|UDP|SCTP|Unix|TIPC|Crypto|Abstract|Windows|MacOS|Sharing"
)


@dataclass(frozen=True, slots=True)
class Part:
    """The classes of one module that are run: those that match ``only`` and do not match ``but``."""

    module: str
    only: str = ""
    but: str = "$^"

    def wants(self, name: str) -> bool:
        """Whether the class ``name`` is run."""
        return re.search(self.only, name) is not None and re.search(self.but, name) is None


PARTS: Final = (
    Part("test_socket", but=_NO_TCP),
    Part("test_selectors"),
    Part("test_socketserver"),
    Part("test_httpservers"),
    Part("test_httplib"),
    Part("test_urllib2_localnet"),
    Part("test_ftplib"),
    Part("test_poplib"),
    Part("test_smtplib"),
    Part("test_imaplib"),
    Part("test_xmlrpc"),
    Part("test_logging", only="^SocketHandler|HTTPHandler|SMTPHandler|ConfigDictTest"),
    Part("test_asyncio.test_streams"),
    Part("test_asyncio.test_sock_lowlevel"),
    Part("test_asyncio.test_server"),
    Part("test_asyncio.test_events"),
    Part("test_asyncio.test_sendfile"),
    Part("test_asyncio.test_buffered_proto"),
    Part("test_asyncio.test_sslproto"),
    Part("test_asyncio.test_ssl"),
    Part("test_ssl", only="Threaded|Background|PostHandshake|SSLDebug|PreHandshake"),
)
