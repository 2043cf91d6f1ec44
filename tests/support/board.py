"""What must hold of a scoreboard at any moment, counted anew from its records."""

import itertools

from usertcp.tcp.scoreboard import IN_FLIGHT, LOST, SACKED, Scoreboard, Sent
from usertcp.tcp.sender import Sender


def timeline(board: Scoreboard) -> list[Sent]:
    """The records in flight, the one sent first first."""
    line = board._timeline
    out, record = [], line.newer
    while record is not line:
        out.append(record)
        assert record.newer.older is record
        record = record.newer
    return out


def check_board(snd: Sender) -> None:
    """The records cover [SND.UNA, SND.NXT), the sums are theirs, and the lines agree."""
    board = snd.board
    records = list(board)
    if not records and 0 < snd.nxt - snd.una <= max(snd.lone, 1):  # a message or control alone: none while nobody asks
        assert board.in_flight == 0
        return
    assert [record.start for record in records] == ([snd.una] if records else []) + [r.end for r in records[:-1]]
    assert (records[-1].end if records else snd.una) == snd.nxt
    assert all(record.start < record.end and record.size > 0 for record in records)
    assert not board.fresh
    assert not any(a.state == b.state == SACKED for a, b in itertools.pairwise(records))

    def total(state: int) -> int:
        return sum(record.end - record.start for record in records if record.state == state)

    assert (board.in_flight, board.lost, board.sacked) == (total(IN_FLIGHT), total(LOST), total(SACKED))
    assert board.retrans == sum(r.end - r.start for r in records if r.state == IN_FLIGHT and r.retransmitted)
    flying = timeline(board)
    assert sorted(flying, key=id) == sorted([r for r in records if r.state == IN_FLIGHT], key=id)
    times = [record.sent_at for record in flying]
    assert times == sorted(times)
    lost = [record.start for record in records if record.state == LOST]
    assert board.lost_run(1)[0] == (lost[0] if lost else 0)
