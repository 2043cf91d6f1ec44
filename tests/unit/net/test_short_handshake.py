"""A SYN,ACK as nearly everybody lays it out, which is taken by straight code if it answers our SYN."""

import pytest

from tests.unit.net.bench import OUR_MAC, PEER, PEER_MAC, US, Bench
from usertcp.frame import FrameMeta
from usertcp.tcp.state import State
from usertcp.units import MASK32
from usertcp.wire import ethernet, ipv4, tcp
from usertcp.wire.tcp import ACK, RST, SYN


@pytest.mark.parametrize("off", [0, 1, -1, 1 << 31])
def test_synack_is_taken_for_what_it_acknowledges(off: int) -> None:
    """RFC 9293 §3.10.7.3, first: an unacceptable acknowledgment is answered by a reset with its number."""
    bench = Bench()
    bench.meet()
    conn = bench.stack.connect((PEER, 80), bench.now, (US, 5000))
    (syn,) = bench.take_segments()
    ack = syn.seq + 1 + off & MASK32
    options = tcp.syn_options(1460, 7, True, (9, syn.options.tsval))
    segment = tcp.header(80, 5000, 77, ack, SYN | ACK, 512, options)
    head = ipv4.header(ipv4.pack(PEER), ipv4.pack(US), ipv4.TCP, len(segment))
    bench.give(ethernet.header(OUR_MAC, PEER_MAC, ethernet.IPV4) + head + segment, FrameMeta(csum_valid=True))
    (answer,) = bench.take_segments()
    if off:
        assert conn.state is State.SYN_SENT
        assert (answer.flags, answer.seq) == (RST, ack)
    else:
        assert conn.state is State.ESTABLISHED
        assert (answer.flags, answer.ack) == (ACK, 78)
