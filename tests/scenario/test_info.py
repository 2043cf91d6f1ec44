"""STATUS: RFC 9293 §3.10.6."""

import pytest

from tests.support.script import START, Script, with_options
from tests.support.states import WITH_PEER, reach
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.state import State
from usertcp.units import MS, SEC

MSS = 1460


@pytest.mark.parametrize("state", [State.CLOSED, State.SYN_SENT, *WITH_PEER])
def test_info_is_to_be_had_in_each_state(state: State) -> None:
    info = reach(state).s.user.info()
    assert info.state is state
    assert info.unacked >= 0
    assert info.unsent >= 0


def test_new_connection_has_defaults() -> None:
    info = Script.opening().user.info()
    assert (info.srtt, info.rto, info.min_rtt) == (0, 1 * SEC, 0)
    assert info.opened_at == START
    assert info.unacked == 1  # the SYN


def test_what_was_agreed_on_shows() -> None:
    s = Script.established(TcpConfig(), options="mss 1400,sackOK,TS val 0 ecr 0,nop,wscale 7")
    info = s.user.info()
    assert (info.timestamps, info.sack, info.snd_wscale, info.rcv_wscale, info.snd_mss) == (True, True, 7, 10, 1388)


def test_ecn_shows_its_kind_and_its_marks() -> None:
    s = Script.established()
    assert (s.user.info().ecn, s.user.info().received_ce, s.user.info().delivered_ce) == ("none", 0, 0)
    s = Script.listening("SEWA 0:0(0) win 65535 <mss 1460>")
    s.peer("[ce] .2 1:1(0) ack 1 win 65535", "[ce] P.5 1:101(100) ack 1 win 65535")
    s.write(bytes(2 * MSS))
    s.peer(f".6 101:101(0) ack {1 + MSS} win 65535")
    assert (s.user.info().ecn, s.user.info().received_ce, s.user.info().delivered_ce) == ("accurate", 2, 1)


def test_sending_shows_what_is_out_and_what_waits() -> None:
    s = Script.established(options=f"mss {MSS}")
    s.write(bytes(20 * MSS))
    info = s.user.info()
    assert (info.unacked, info.unsent) == (10 * MSS, 10 * MSS)
    assert (info.cwnd, info.snd_wnd) == (10 * MSS, 65535)
    s.advance(5 * MS)
    s.peer(f". 1:1(0) ack {1 + 5 * MSS} win 30000")
    info = s.user.info()
    assert info.bytes_acked == 5 * MSS
    assert info.snd_wnd == 30000
    assert info.min_rtt > 0


def test_fin_counts_among_the_unacknowledged_and_not_among_the_unsent() -> None:
    s = reach(State.FIN_WAIT_1).s
    assert (s.user.info().unacked, s.user.info().unsent) == (1, 0)


def test_receiving_shows_what_waits_and_what_lies_behind_gaps() -> None:
    s = Script.established()
    s.peer("P. 1:101(100) ack 1 win 1000", "P. 201:231(30) ack 1 win 1000")
    info = s.user.info()
    assert (info.unread, info.out_of_order, info.bytes_received) == (100, 30, 100)
    assert info.rcv_wnd == 65435
    s.read()
    assert s.user.info().unread == 0
    s.peer("P. 101:201(100) ack 1 win 1000")
    info = s.user.info()
    assert (info.unread, info.out_of_order, info.bytes_received) == (130, 0, 230)


def test_time_outs_and_segments_are_counted() -> None:
    s = Script.established()
    rto = s.user.snd.rtt.rto
    s.write(b"x")
    s.advance(rto)
    s.advance(2 * rto)
    info = s.user.info()
    assert (info.retries, info.retransmissions) == (2, 2)
    assert info.rto == 4 * rto
    assert info.last_sent_at == s.now
    assert info.segments_out == 2 + 3  # SYN, ACK, and three times the byte
    assert info.segments_in == 1
    s.peer(". 1:1(0) ack 2 win 65535")
    info = s.user.info()
    assert (info.retries, info.last_received_at) == (0, s.now)


def test_loss_shows_as_what_is_sacked_lost_and_on_its_way_again() -> None:
    s = Script.established(with_options(sack=True), options="mss 1460,nop,nop,sackOK")
    s.write(bytes(10 * MSS))
    s.now += 5 * MS
    s.peer(f". 1:1(0) ack 1 win 65535 <nop,nop,sack {1 + 2 * MSS}:{1 + 5 * MSS}>")
    info = s.user.info()
    assert (info.phase, info.congestion) == ("RECOVERY", "reno")
    assert (info.sacked, info.lost + info.retrans) == (3 * MSS, 2 * MSS)
    assert info.retrans >= MSS
    assert info.bytes_retransmitted == info.retrans
    assert info.delivered == 1 + 3 * MSS  # the SYN among them
    assert info.ssthresh < 10 * MSS
    s.peer(f". 1:1(0) ack {1 + 10 * MSS} win 65535")
    info = s.user.info()
    assert (info.phase, info.sacked, info.lost, info.retrans) == ("OPEN", 0, 0, 0)
    assert info.delivered == 1 + 10 * MSS


def test_duplicates_reported_both_ways_are_counted() -> None:
    s = Script.established(with_options(sack=True), options="mss 1460,nop,nop,sackOK")
    s.write(bytes(2 * MSS))
    s.peer(f". 1:1(0) ack {1 + 2 * MSS} win 65535 <nop,nop,sack 1:{1 + MSS}>")
    s.peer("P. 1:101(100) ack 2921 win 65535", "P. 1:101(100) ack 2921 win 65535")
    info = s.user.info()
    assert (info.dsacks_received, info.dsacks_sent) == (1, 1)


def test_delivery_rate_is_what_the_network_took_and_says_whether_the_user_was_the_limit() -> None:
    s = Script.established()
    s.write(bytes(4 * MSS))
    s.advance(100 * MS)
    s.peer(f". 1:1(0) ack {1 + 4 * MSS} win 65535")
    s.write(bytes(4 * MSS))
    s.advance(100 * MS)
    s.peer(f". 1:1(0) ack {1 + 8 * MSS} win 65535")
    info = s.user.info()
    assert info.delivery_rate == 4 * MSS * 10
    assert info.delivery_app_limited
    assert info.pacing_rate == 0


def test_buffers_show_as_they_are_now() -> None:
    s = Script.established(with_options(receive_buffer=30_000, send_buffer=40_000))
    info = s.user.info()
    assert (info.receive_buffer, info.send_buffer, info.rcv_rtt, info.rcv_taken) == (30_000, 40_000, 0, 0)
    s.user.configure(receive_buffer=100_000, send_buffer=50_000)
    info = s.user.info()
    assert (info.receive_buffer, info.send_buffer) == (100_000, 50_000)


def test_unanswered_probes_are_counted() -> None:
    s = Script.established(with_options(keepalive=True, keepalive_idle=SEC, keepalive_interval=SEC))
    s.advance(3 * SEC)
    assert s.user.info().probes == 3
    s.peer(". 1:1(0) ack 1 win 65535")
    assert s.user.info().probes == 0
