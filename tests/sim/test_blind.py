"""Blind attacks on a connection, in virtual time: RFC 5961, RFC 5927, and what the layers below let through."""

import pytest

from benchmarks.blind import ATTACKS, EVIL, attack
from tests.support.pure import pure_only
from usertcp.tcp import arrives
from usertcp.tcp.connection import Connection
from usertcp.units import MIB
from usertcp.wire.tcp import Segment

GUESSES = 10_000  # fewer than fit between two edges of the window: it is hit


@pytest.mark.parametrize("timestamps", [True, False])
@pytest.mark.parametrize("kind", list(ATTACKS))
def test_forged_frames_all_over_the_sequence_space_change_nothing(kind: str, timestamps: bool) -> None:
    seen = attack(kind, GUESSES, timestamps=timestamps)
    assert seen.why == ""
    assert seen.bytes > MIB // 2
    assert seen.reached >= GUESSES, "the attack came to nothing because its frames were bad"


@pure_only
def test_resets_that_hit_the_window_would_end_a_connection_without_rfc_5961(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack is one: a stack as RFC 793 had it does not survive."""

    def second_check_rst(conn: Connection, seq: int, now: int) -> None:
        conn.fail(104)

    monkeypatch.setattr(arrives, "_second_check_rst", second_check_rst)
    assert not attack("RST", GUESSES).intact


@pure_only
def test_text_with_any_acknowledgment_would_slip_in_without_rfc_5961(monkeypatch: pytest.MonkeyPatch) -> None:
    real = arrives._fifth_check_ack

    def fifth_check_ack(conn: Connection, seg: Segment, seq: int, now: int) -> bool:
        return bytes(seg.payload) == EVIL or real(conn, seg, seq, now)

    monkeypatch.setattr(arrives, "_fifth_check_ack", fifth_check_ack)
    assert not attack("data", GUESSES, timestamps=False).intact
