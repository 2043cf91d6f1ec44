"""What the kernel has understood of us, asked of the kernel; and what it tells us by ICMP."""

import errno
import socket as kernel
import struct
import subprocess
from typing import Final

import pytest

from tests.netns.plugged import KERNEL, plugged
from tests.netns.programs import PATIENCE
from usertcp.link.netns import inside
from usertcp.tcp.config import TcpConfig
from usertcp.units import SEC

INFO: Final = struct.Struct(
    "=8B4I"
)  # the beginning of struct tcp_info: .. options, scales, .., rto, ato, MSS both ways
TIMESTAMPS: Final = 1  # TCPI_OPT_*
SACK: Final = 2
SCALE: Final = 4
STAMP: Final = 12  # bytes that timestamps take of each segment
PORT: Final = 5001
REFUSED: Final = """table ip refusing {
    chain input {
        type filter hook input priority 0
        tcp dport 5001 reject with icmp %s
    }
}
"""


def kernel_listener(space: str) -> kernel.socket:
    with inside(space):
        return kernel.create_server((KERNEL, PORT))


@pytest.mark.rfc(9293, "MUST-14")
@pytest.mark.rfc(7323, "§2.2")
@pytest.mark.rfc(7323, "§3.2")
@pytest.mark.rfc(2018, "§2")
@pytest.mark.parametrize("offered", [True, False])
def test_kernel_has_agreed_to_what_our_syn_offers_and_to_nothing_else(offered: bool) -> None:
    tcp = TcpConfig(max_segment=700, timestamps=offered, sack=offered, window_scaling=offered)
    with (
        plugged(tcp=tcp) as here,
        kernel_listener(here.space) as listener,
        here.host.connect((KERNEL, PORT), timeout=PATIENCE) as conn,
        listener.accept()[0] as other,
    ):
        _, _, _, _, _, options, scales, _, _, _, mss, _ = INFO.unpack_from(
            other.getsockopt(kernel.IPPROTO_TCP, kernel.TCP_INFO, INFO.size)
        )
        ours = conn.info()
        assert options & (TIMESTAMPS | SACK | SCALE) == (TIMESTAMPS | SACK | SCALE if offered else 0)
        assert mss == 700 - (STAMP if offered else 0)
        assert (scales & 15, scales >> 4) == (ours.rcv_wscale, ours.snd_wscale)
        assert (ours.timestamps, ours.sack) == (offered, offered)
        other.sendall(bytes(5000))
        assert len(conn.recv(1)) == 1
        assert ours.rcv_mss <= 700


@pytest.mark.rfc(9293, "MUST-54")
@pytest.mark.rfc(9293, "SHLD-25")
@pytest.mark.parametrize(
    ("kind", "number"), [("port-unreachable", errno.ECONNREFUSED), ("host-unreachable", errno.EHOSTUNREACH)]
)
def test_icmp_error_of_the_kernel_reaches_the_connection_that_it_is_about(kind: str, number: int) -> None:
    with plugged(tcp=TcpConfig(user_timeout=SEC // 2)) as here, kernel_listener(here.space):
        command = ["ip", "netns", "exec", here.space, "nft", "-f", "-"]
        subprocess.run(command, input=REFUSED % kind, text=True, check=True, timeout=PATIENCE)
        with pytest.raises(OSError, match=f"Errno {number}"):
            here.host.connect((KERNEL, PORT), timeout=PATIENCE)
