"""scapy by hand against a live stack on a TAP: handshakes, illegal flags, out-of-window segments, old duplicates.

Every reply's seq, ack and flags are checked, and that there is exactly one, or none where the standard asks for
silence. Both ends' numbers begin just below 2³², so that the conversations cross the wrap.
"""

from collections.abc import Iterator

import pytest

from tests.interop.scapy_peer import ADDRESS, STACK, Bench, Peer, open_bench
from usertcp.tcp.connection import Connection
from usertcp.tcp.listener import Listener
from usertcp.units import MASK32, MS, SEC

pytestmark = pytest.mark.netns

ISS = 0xFFFF_FFF0  # scapy's first sequence number
OPEN = 8080  # the stack listens
SHUT = 8081  # nobody listens


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A stack on a TAP in a namespace of its own."""
    with open_bench() as bench:
        yield bench


@pytest.fixture
def listener(bench: Bench) -> Listener:
    return bench.stack.listen((STACK, OPEN), 8)


@pytest.fixture
def peer(bench: Bench) -> Peer:
    return Peer(bench, 40_000, OPEN, ISS)


@pytest.fixture
def stranger(bench: Bench) -> Peer:
    """A peer that speaks to a port nobody listens on."""
    return Peer(bench, 40_001, SHUT, ISS)


@pytest.fixture
def conn(peer: Peer, listener: Listener) -> Connection:
    """ESTABLISHED, by a handshake of scapy's."""
    return peer.open(listener)


def dial(bench: Bench, peer: Peer) -> tuple[Connection, int]:
    """An active open of the stack to ``peer``, heard as far as its SYN: (connection, ISS)."""
    conn = bench.stack.connect((ADDRESS, peer.port), bench.clock.now, local=(STACK, peer.stack_port))
    syn = peer.hear()
    assert (str(syn.flags), syn.ack) == ("S", 0)
    return conn, syn.seq


# --- CLOSED: nobody listens (RFC 9293 §3.10.7.1) --------------------------------------------------------------------


@pytest.mark.rfc(9293, "X-10")
@pytest.mark.parametrize(
    ("flags", "size", "counted"), [("S", 0, 1), ("S", 5, 6), ("F", 0, 1), ("", 0, 0), ("P", 7, 7), ("FPU", 0, 1)]
)
def test_closed_port_segment_without_ack_answered_by_reset_of_zero(
    stranger: Peer, flags: str, size: int, counted: int
) -> None:
    stranger.say(flags, payload=b"x" * size)
    stranger.expect("RA", 0, ISS + counted)


@pytest.mark.rfc(9293, "X-10")
@pytest.mark.parametrize("flags", ["A", "SA", "FA", "PA", "FPUA"])
def test_closed_port_segment_with_ack_answered_by_reset_at_that_ack(stranger: Peer, flags: str) -> None:
    stranger.say(flags, ack=0x1234_5678)
    stranger.expect("R", 0x1234_5678, None)


@pytest.mark.rfc(9293, "X-10")
@pytest.mark.parametrize("flags", ["R", "RA", "SR", "FR"])
def test_closed_port_reset_answered_by_silence(stranger: Peer, flags: str) -> None:
    stranger.say(flags, ack=77)
    stranger.silence()


# --- LISTEN (RFC 9293 §3.10.7.2) ------------------------------------------------------------------------------------


@pytest.mark.rfc(9293, "X-11")
@pytest.mark.parametrize("options", [[], [("MSS", 1460), ("SAckOK", b""), ("NOP", None), ("WScale", 7)]])
def test_listen_three_segments_establish(
    peer: Peer, listener: Listener, bench: Bench, options: list[tuple[str, int]]
) -> None:
    peer.say("S", options=options)
    answer = peer.hear()
    assert (str(answer.flags), answer.ack) == ("SA", (ISS + 1) & MASK32)
    assert str(bench.connection().state) == "SYN-RECEIVED"
    peer.say("A", seq=ISS + 1, ack=answer.seq + 1)
    peer.silence()
    assert str(bench.connection().state) == "ESTABLISHED"


@pytest.mark.rfc(9293, "X-11")
@pytest.mark.parametrize("flags", ["A", "SA", "FA", "PA"])
def test_listen_segment_with_ack_answered_by_reset(peer: Peer, listener: Listener, flags: str) -> None:
    peer.say(flags, ack=0xCAFE_F00D)
    peer.expect("R", 0xCAFE_F00D, None)


@pytest.mark.rfc(9293, "X-11")
@pytest.mark.parametrize("flags", ["R", "RA", "", "F", "FPU", "P"])
def test_listen_segment_that_means_nothing_answered_by_silence(peer: Peer, listener: Listener, flags: str) -> None:
    peer.say(flags, ack=99 if "A" in flags else None)
    peer.silence()
    assert listener.accept() is None


def test_listen_syn_with_reset_answered_by_silence(peer: Peer, listener: Listener) -> None:
    peer.say("SR")
    peer.silence()


# --- SYN-RECEIVED ---------------------------------------------------------------------------------------------------


@pytest.mark.rfc(9293, "X-6")
@pytest.mark.parametrize("off", [-1, 1, 0x7000_0000])
def test_syn_received_wrong_ack_answered_by_reset_at_that_ack(peer: Peer, listener: Listener, off: int) -> None:
    peer.say("S")
    answer = peer.hear()
    wrong = answer.seq + 1 + off
    peer.say("A", seq=ISS + 1, ack=wrong)
    peer.expect("R", wrong, None)
    assert listener.accept() is None


@pytest.mark.rfc(9293, "MUST-11")
def test_syn_received_reset_forgets_and_listens_on(peer: Peer, listener: Listener, bench: Bench) -> None:
    peer.say("S")
    answer = peer.hear()
    peer.say("R", seq=ISS + 1)
    peer.silence()
    assert list(bench.stack.connections()) == []
    peer.say("A", seq=ISS + 1, ack=answer.seq + 1)
    peer.expect("R", answer.seq + 1, None)


def test_syn_received_reset_out_of_window_ignored(peer: Peer, listener: Listener, bench: Bench) -> None:
    peer.say("S")
    answer = peer.hear()
    peer.say("R", seq=ISS - 1000)
    peer.silence()
    peer.say("A", seq=ISS + 1, ack=answer.seq + 1)
    peer.silence()
    assert str(bench.connection().state) == "ESTABLISHED"


def test_syn_received_old_duplicate_syn_restated_by_peer_keeps_numbers(peer: Peer, listener: Listener) -> None:
    peer.say("S")
    first = peer.hear()
    peer.say("S")
    again = peer.hear()
    assert again.seq in (first.seq, (first.seq + 1) & MASK32)  # the SYN,ACK once more, or an ACK
    assert again.ack == first.ack


# --- SYN-SENT (RFC 9293 §3.10.7.3) ----------------------------------------------------------------------------------


def test_syn_sent_syn_ack_establishes(peer: Peer, bench: Bench) -> None:
    conn, iss = dial(bench, peer)
    peer.say("SA", ack=iss + 1)
    peer.expect("A", iss + 1, ISS + 1)
    assert str(conn.state) == "ESTABLISHED"


@pytest.mark.rfc(9293, "X-12")
@pytest.mark.parametrize("flags", ["SA", "A", "FA"])
@pytest.mark.parametrize("off", [0, 2, -5])
def test_syn_sent_unacceptable_ack_answered_by_reset(peer: Peer, bench: Bench, flags: str, off: int) -> None:
    conn, iss = dial(bench, peer)
    peer.say(flags, ack=iss + off)
    peer.expect("R", iss + off, None)
    assert str(conn.state) == "SYN-SENT"


@pytest.mark.rfc(9293, "X-12")
def test_syn_sent_reset_with_our_ack_refuses(peer: Peer, bench: Bench) -> None:
    conn, iss = dial(bench, peer)
    peer.say("RA", seq=0, ack=iss + 1)
    peer.silence()
    assert str(conn.state) == "CLOSED"
    assert isinstance(conn.take_error(), ConnectionRefusedError)


@pytest.mark.parametrize(("flags", "off"), [("R", None), ("RA", 0), ("RA", 2), ("F", None), ("", None), ("A", 1)])
def test_syn_sent_segment_that_means_nothing_answered_by_silence(
    peer: Peer, bench: Bench, flags: str, off: int | None
) -> None:
    conn, iss = dial(bench, peer)
    peer.say(flags, ack=None if off is None else iss + off)
    peer.silence()
    assert str(conn.state) == "SYN-SENT"


@pytest.mark.rfc(9293, "MUST-10")
def test_syn_sent_crossing_syn_opens_simultaneously(peer: Peer, bench: Bench) -> None:
    conn, iss = dial(bench, peer)
    peer.say("S")
    peer.expect("SA", iss, ISS + 1)
    assert str(conn.state) == "SYN-RECEIVED"
    peer.say("SA", seq=ISS, ack=iss + 1)
    assert bench.connection() is conn
    bench.settle()
    assert str(conn.state) == "ESTABLISHED"


def test_syn_sent_silence_syn_repeated_with_the_same_number(peer: Peer, bench: Bench) -> None:
    _, iss = dial(bench, peer)
    bench.advance(1 * SEC)
    peer.expect("S", iss, None)
    bench.advance(1 * SEC)
    peer.silence()
    bench.advance(1 * SEC)
    peer.expect("S", iss, None)


# --- ESTABLISHED: what is in the window -----------------------------------------------------------------------------


def test_established_data_acknowledged(peer: Peer, conn: Connection) -> None:
    peer.say("PA", payload=b"hello")
    peer.bench.advance(50 * MS)
    peer.expect("A", peer.ack, peer.seq + 5)
    assert conn.read(100) == b"hello"


def test_established_our_data_carries_numbers_and_text(peer: Peer, conn: Connection) -> None:
    conn.write(b"greetings")
    peer.expect("PA", peer.ack, peer.seq, b"greetings")
    peer.say("A", ack=peer.ack + 9)
    peer.silence()
    peer.bench.advance(5 * SEC)
    peer.silence()


def test_established_our_data_unacknowledged_sent_again(peer: Peer, conn: Connection) -> None:
    conn.write(b"greetings")
    peer.expect("PA", peer.ack, peer.seq, b"greetings")
    peer.bench.advance(conn.info().rto)
    peer.expect("PA", peer.ack, peer.seq, b"greetings")


@pytest.mark.rfc(9293, "MUST-65")
def test_established_data_in_two_pieces_out_of_order_acknowledged_together(peer: Peer, conn: Connection) -> None:
    peer.say("PA", seq=peer.seq + 5, payload=b"world")
    peer.expect("A", peer.ack, peer.seq)
    peer.say("PA", payload=b"hello")
    peer.expect("A", peer.ack, peer.seq + 10)
    assert conn.read(100) == b"helloworld"


@pytest.mark.rfc(2018, "§4")
def test_established_out_of_order_data_reported_in_sack_blocks_newest_first(peer: Peer, listener: Listener) -> None:
    conn = peer.open(listener, options=[("MSS", 1460), ("SAckOK", b"")])
    peer.say("PA", seq=peer.seq + 10, payload=b"22222")
    first = dict(peer.hear().options)
    peer.say("PA", seq=peer.seq + 20, payload=b"44444")
    second = dict(peer.hear().options)
    low, high = (peer.seq + 10) & MASK32, (peer.seq + 20) & MASK32
    low_end, high_end = (low + 5) & MASK32, (high + 5) & MASK32
    assert first["SAck"] == (low, low_end)
    assert second["SAck"] == (high, high_end, low, low_end)
    assert conn.readable == 0


@pytest.mark.rfc(9293, "X-3")
def test_established_partly_old_data_trimmed(peer: Peer, conn: Connection) -> None:
    peer.say("PA", payload=b"abc")
    peer.bench.advance(50 * MS)
    peer.expect("A", peer.ack, peer.seq + 3)
    peer.say("PA", payload=b"abcdef")
    peer.bench.advance(50 * MS)
    peer.expect("A", peer.ack, peer.seq + 6)
    assert conn.read(100) == b"abcdef"


@pytest.mark.rfc(9293, "MUST-31")
def test_established_urgent_data_delivered_in_line(peer: Peer, conn: Connection) -> None:
    peer.say("PAU", payload=b"ab!cd", urgent=3)
    peer.bench.advance(50 * MS)
    peer.expect("A", peer.ack, peer.seq + 5)
    assert conn.read(100) == b"ab!cd"


def test_established_keepalive_probe_answered(peer: Peer, conn: Connection) -> None:
    peer.say("A", seq=peer.seq - 1)
    peer.expect("A", peer.ack, peer.seq)


def test_established_fin_acknowledged(peer: Peer, conn: Connection) -> None:
    peer.say("FA")
    peer.expect("A", peer.ack, peer.seq + 1)
    assert str(conn.state) == "CLOSE-WAIT"


def test_established_fin_before_the_data_counted_when_the_gap_is_filled(peer: Peer, conn: Connection) -> None:
    peer.say("FA", seq=peer.seq + 4)
    peer.expect("A", peer.ack, peer.seq)
    assert str(conn.state) == "ESTABLISHED"
    peer.say("PA", payload=b"last")
    peer.expect("A", peer.ack, peer.seq + 5)
    assert str(conn.state) == "CLOSE-WAIT"
    assert conn.read(10) == b"last"


# --- ESTABLISHED: what is not --------------------------------------------------------------------------------------


@pytest.mark.rfc(9293, "MUST-69")
@pytest.mark.parametrize("off", [-3000, 5_000_000, 0x7000_0000, -0x7000_0000])
def test_established_data_out_of_window_answered_by_ack_and_not_taken(peer: Peer, conn: Connection, off: int) -> None:
    peer.say("PA", seq=peer.seq + off, payload=b"stray")
    peer.expect("A", peer.ack, peer.seq)
    assert conn.readable == 0


def test_established_old_duplicate_of_taken_data_answered_by_ack(peer: Peer, conn: Connection) -> None:
    peer.say("PA", payload=b"once")
    peer.bench.advance(50 * MS)
    peer.expect("A", peer.ack, peer.seq + 4)
    peer.say("PA", payload=b"once")
    peer.expect("A", peer.ack, peer.seq + 4)
    assert conn.read(100) == b"once"


@pytest.mark.parametrize("off", [-1, -70_000, 5_000_000, 0x7000_0000])
def test_established_reset_out_of_window_ignored(peer: Peer, conn: Connection, off: int) -> None:
    peer.say("R", seq=peer.seq + off)
    peer.silence()
    assert str(conn.state) == "ESTABLISHED"


@pytest.mark.rfc(5961, "§3.2")
@pytest.mark.parametrize("off", [1, 1000, 60_000])
def test_established_reset_in_window_but_not_exact_challenged(peer: Peer, conn: Connection, off: int) -> None:
    peer.say("R", seq=peer.seq + off)
    peer.expect("A", peer.ack, peer.seq)
    assert str(conn.state) == "ESTABLISHED"


@pytest.mark.parametrize("flags", ["R", "RA"])
def test_established_exact_reset_ends_it(peer: Peer, conn: Connection, flags: str) -> None:
    peer.say(flags)
    peer.silence()
    assert str(conn.state) == "CLOSED"
    assert isinstance(conn.take_error(), ConnectionResetError)


@pytest.mark.rfc(5961, "§4.2")
@pytest.mark.parametrize("flags", ["S", "SA"])
@pytest.mark.parametrize("off", [-1, 0, 1000, 0x7000_0000])
def test_established_syn_challenged_wherever_it_lies(peer: Peer, conn: Connection, flags: str, off: int) -> None:
    peer.say(flags, seq=peer.seq + off)
    peer.expect("A", peer.ack, peer.seq)
    assert str(conn.state) == "ESTABLISHED"


@pytest.mark.rfc(9293, "X-7")
@pytest.mark.parametrize("off", [1, 1000, 0x7000_0000])
def test_established_ack_of_what_was_never_sent_answered_by_ack(peer: Peer, conn: Connection, off: int) -> None:
    peer.say("A", ack=peer.ack + off)
    peer.expect("A", peer.ack, peer.seq)
    assert str(conn.state) == "ESTABLISHED"


@pytest.mark.rfc(9293, "X-6")
@pytest.mark.parametrize("flags", ["", "F", "P", "FPU"])
def test_established_segment_without_ack_dropped(peer: Peer, conn: Connection, flags: str) -> None:
    peer.say(flags, payload=b"" if flags in ("", "F") else b"data")
    peer.silence()
    assert str(conn.state) == "ESTABLISHED"
    assert conn.readable == 0


@pytest.mark.rfc(7323, "§5.3")
def test_established_old_timestamp_answered_by_ack_and_not_taken(peer: Peer, listener: Listener) -> None:
    conn = peer.open(listener, options=[("Timestamp", (100, 0))])
    peer.say("PA", payload=b"stale", options=[("NOP", None), ("NOP", None), ("Timestamp", (50, 0))])
    answer = peer.expect("A", peer.ack, peer.seq)
    assert dict(answer.options)["Timestamp"][1] in (100, 101)
    assert conn.readable == 0


def test_established_syn_of_a_peer_reborn_challenged_then_reset(peer: Peer, conn: Connection) -> None:
    peer.say("S", seq=0x0BAD_CAFE)  # half-open: the peer has forgotten everything (RFC 9293 §3.5.1, figure 9)
    answer = peer.expect("A", peer.ack, peer.seq)
    peer.say("R", seq=answer.ack)
    peer.silence()
    assert isinstance(conn.take_error(), ConnectionResetError)


# --- closing --------------------------------------------------------------------------------------------------------


def test_established_close_four_segments_lead_to_time_wait(peer: Peer, conn: Connection) -> None:
    conn.close()
    peer.expect("FA", peer.ack, peer.seq)
    assert str(conn.state) == "FIN-WAIT-1"
    peer.say("A", ack=peer.ack + 1)
    peer.silence()
    assert str(conn.state) == "FIN-WAIT-2"
    peer.say("FA", ack=peer.ack + 1)
    peer.expect("A", peer.ack + 1, peer.seq + 1)
    assert str(conn.state) == "TIME-WAIT"


def test_fin_wait_1_crossing_fin_closes_simultaneously(peer: Peer, conn: Connection) -> None:
    conn.close()
    peer.expect("FA", peer.ack, peer.seq)
    peer.say("FA", ack=peer.ack)
    peer.expect("A", peer.ack + 1, peer.seq + 1)
    assert str(conn.state) == "CLOSING"
    peer.say("A", seq=peer.seq + 1, ack=peer.ack + 1)
    peer.silence()
    assert str(conn.state) == "TIME-WAIT"


@pytest.mark.rfc(9293, "MUST-13")
def test_time_wait_fin_again_acknowledged_and_timer_restarted(peer: Peer, conn: Connection, bench: Bench) -> None:
    conn.close()
    peer.expect("FA", peer.ack, peer.seq)
    peer.say("FA", ack=peer.ack + 1)
    peer.expect("A", peer.ack + 1, peer.seq + 1)
    two_msl = 2 * conn.config.msl
    bench.advance(two_msl - 1 * SEC)
    peer.say("FA", ack=peer.ack + 1)
    peer.expect("A", peer.ack + 1, peer.seq + 1)
    bench.advance(two_msl - 1 * SEC)
    assert str(conn.state) == "TIME-WAIT"
    bench.advance(2 * SEC)
    assert str(conn.state) == "CLOSED"


def test_time_wait_old_duplicate_data_answered_by_ack(peer: Peer, conn: Connection) -> None:
    conn.close()
    peer.expect("FA", peer.ack, peer.seq)
    peer.say("FA", ack=peer.ack + 1)
    peer.expect("A", peer.ack + 1, peer.seq + 1)
    peer.say("PA", seq=peer.seq - 10, payload=b"old")
    peer.expect("A", peer.ack + 1, peer.seq + 1)


def test_last_ack_ack_of_fin_closes(peer: Peer, conn: Connection, bench: Bench) -> None:
    peer.say("FA")
    peer.expect("A", peer.ack, peer.seq + 1)
    conn.close()
    peer.expect("FA", peer.ack, peer.seq + 1)
    assert str(conn.state) == "LAST-ACK"
    peer.say("A", seq=peer.seq + 1, ack=peer.ack + 1)
    peer.silence()
    assert list(bench.stack.connections()) == []


def test_close_with_unread_data_resets(peer: Peer, conn: Connection) -> None:
    peer.say("PA", payload=b"unread")
    peer.bench.advance(50 * MS)
    peer.expect("A", peer.ack, peer.seq + 6)
    conn.close()
    segment = peer.hear()
    assert "R" in str(segment.flags)
    assert segment.seq == peer.ack & MASK32


@pytest.mark.rfc(9293, "SHLD-3")
def test_fin_wait_2_data_after_full_close_answered_by_reset(peer: Peer, conn: Connection) -> None:
    conn.close()
    peer.expect("FA", peer.ack, peer.seq)
    peer.say("PA", ack=peer.ack + 1, payload=b"nobody reads")
    segment = peer.hear()
    assert "R" in str(segment.flags)
    assert segment.seq == (peer.ack + 1) & MASK32
