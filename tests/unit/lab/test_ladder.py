"""The ladder's numbers, runs and states."""

import xml.etree.ElementTree as ElementTree

import pytest
from rich.console import Console

from usertcp.lab import svg
from usertcp.lab.bench import about, gaps
from usertcp.lab.ladder import Fate, Ladder, Note, Rung, flag_names
from usertcp.lab.result import BOTH, Check, Result, Scenario
from usertcp.lab.text import print_checks, print_ladder
from usertcp.units import MASK32, MS, SEC
from usertcp.wire.tcp import ACK, FIN, PSH, RST, SYN, Segment

X = 0xFFFF_FF00  # usertcp's ISN
Y = 0xFFFF_FFFF  # the kernel's: the first byte already lies beyond the wrap
PORTS = (40000, 9000)


def segment(outgoing: bool, flags: int, seq: int, ack: int = 0, payload: bytes = b"") -> Segment:
    ports = PORTS if outgoing else PORTS[::-1]
    return Segment(*ports, seq & MASK32, ack & MASK32, flags, 65535, payload=memoryview(payload))


def opened() -> Ladder:
    """A ladder after a handshake."""
    ladder = Ladder("a title")
    for at, outgoing, flags, seq, ack, states in (
        (0, True, SYN, X, 0, ("SYN-SENT", "SYN-RECEIVED")),
        (1, False, SYN | ACK, Y, X + 1, ("ESTABLISHED", "SYN-RECEIVED")),
        (2, True, ACK, X + 1, Y + 1, ("ESTABLISHED", "ESTABLISHED")),
    ):
        rung = ladder.segment(at * MS, outgoing, segment(outgoing, flags, seq, ack))
        rung.ours, rung.kernels = states
    return ladder


def test_handshake_across_the_wrap_is_numbered_from_zero() -> None:
    assert [rung.label for rung in opened().rungs()] == ["SYN seq=0", "SYN+ACK seq=0 ack=1", "ACK seq=1 ack=1"]


def test_data_seen_before_is_marked_again() -> None:
    ladder = opened()
    first = ladder.segment(0, True, segment(True, ACK | PSH, X + 1, Y + 1, b"hello"))
    again = ladder.segment(0, True, segment(True, ACK | PSH, X + 1, Y + 1, b"hello"))
    further = ladder.segment(0, True, segment(True, ACK, X + 1, Y + 1, b"hello you"))
    assert [rung.remark for rung in (first, again, further)] == ["", "again", ""]
    assert first.label == "ACK seq=1 ack=1 len=5"


def test_crossed_syns_the_syn_ack_is_no_retransmission() -> None:
    ladder = Ladder("crossed")
    ladder.segment(0, True, segment(True, SYN, X))
    ladder.segment(0, False, segment(False, SYN, Y))
    synack = ladder.segment(0, True, segment(True, SYN | ACK, X, Y + 1))
    assert synack.label == "SYN+ACK seq=0 ack=1"
    assert synack.remark == ""


def test_new_connection_on_the_same_ports_old_segment_has_negative_number() -> None:
    ladder = opened()
    ladder.segment(0, True, segment(True, SYN, X + 5000))
    ladder.segment(0, False, segment(False, SYN | ACK, Y + 9000, X + 5001))
    stale = ladder.segment(0, False, segment(False, ACK, Y + 1, X + 1, b"old"), Fate.FORGED)
    assert (stale.rel_seq, stale.rel_ack) == (-8999, -4999)
    assert stale.remark == "forged"


def test_reset_for_an_unknown_isn_has_no_relative_number() -> None:
    ladder = Ladder("refused")
    ladder.segment(0, True, segment(True, SYN, X))
    reset = ladder.segment(0, False, segment(False, RST | ACK, 0, X + 1))
    assert reset.label == "RST+ACK ack=1"


def test_fold_runs_of_data_become_one_rung_each_way_counting_bytes_once() -> None:
    ladder = opened()
    ladder.fold(True)
    for start in (0, 100, 100, 200):
        ladder.segment(0, False, segment(False, ACK, Y + 1 + start, X + 1, bytes(100)))
        ladder.segment(0, True, segment(True, ACK, X + 1, Y + 101 + start))
    fin = ladder.segment(0, False, segment(False, FIN | ACK, Y + 301, X + 1))
    assert [rung.label for rung in ladder.rungs()[3:]] == ["4 segments, 300 bytes", "4 ACKs", "FIN+ACK seq=301 ack=1"]
    assert not fin.folded


def test_fold_a_lost_segment_stays_a_rung_of_its_own() -> None:
    ladder = opened()
    ladder.fold(True)
    for fate in (Fate.DELIVERED, Fate.LOST, Fate.DELIVERED):
        ladder.segment(0, True, segment(True, ACK, X + 1, Y + 1), fate)
    assert [rung.fate for rung in ladder.rungs()[-2:]] == [Fate.LOST, Fate.DELIVERED]


def test_rungs_selected_by_direction_flags_and_beginning() -> None:
    ladder = opened()
    mark = len(ladder.lines)
    ladder.note(0, "a pause", "ESTABLISHED", "ESTABLISHED")
    ladder.segment(0, True, segment(True, ACK | PSH, X + 1, Y + 1, b"data"))
    assert len(ladder.rungs(outgoing=False)) == 1
    assert len(ladder.rungs(flags=ACK)) == 2
    assert [rung.length for rung in ladder.rungs(after=mark)] == [4]


def test_states_each_once_in_a_row() -> None:
    ladder = opened()
    ladder.note(0, "later", "ESTABLISHED", "CLOSED")
    assert ladder.states(ours=True) == ["SYN-SENT", "ESTABLISHED"]
    assert ladder.states(ours=False) == ["SYN-RECEIVED", "ESTABLISHED", "CLOSED"]


@pytest.mark.parametrize(
    ("flags", "name"), [(SYN, "SYN"), (SYN | ACK, "SYN+ACK"), (FIN | PSH | ACK, "FIN+ACK"), (RST, "RST"), (0, "none")]
)
def test_flags_are_named_as_in_the_figures(flags: int, name: str) -> None:
    assert flag_names(flags) == name


def test_gaps_between_rungs_in_seconds() -> None:
    ladder = Ladder("gaps")
    rungs = [ladder.segment(at * SEC, True, segment(True, SYN, X)) for at in (0, 1, 3)]
    assert gaps(rungs) == [1.0, 2.0]


@pytest.mark.parametrize(("seen", "good"), [(0.8, False), (0.9, True), (1.0, True), (1.6, True), (2.0, False)])
def test_about_one_second_takes_a_little_but_not_the_double(seen: float, good: bool) -> None:
    assert about(seen, 1.0) is good


# -- the drawings --------------------------------------------------------------------------------------------------


def whole() -> Ladder:
    """A ladder with every kind of line."""
    ladder = opened()
    ladder.heading(3 * MS, "A part & its <name>")
    ladder.note(4 * MS, "close()", "ESTABLISHED", "ESTABLISHED")
    for fate in Fate:
        rung = ladder.segment(5 * MS, True, segment(True, FIN | ACK, X + 1, Y + 1), fate)
        rung.ours, rung.kernels = "FIN-WAIT-1", "CLOSE-WAIT"
    ladder.fold(True)
    for _ in range(3):
        ladder.segment(6 * MS, False, segment(False, ACK, Y + 1, X + 2, bytes(1000)))
    return ladder


def printed(width: int) -> list[str]:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_ladder(console, whole())
    return console.export_text().splitlines()


def test_text_every_line_has_both_lifelines_in_the_same_columns() -> None:
    lines = [line for line in printed(112) if "│" in line]
    assert {tuple(at for at, char in enumerate(line) if char == "│") for line in lines} == {(23, 86)}
    assert len(lines) == 3 + 1 + len(Fate) + 1


@pytest.mark.parametrize(("width", "arrow"), [(80, 41), (100, 61), (200, 62)])
def test_text_adapts_to_the_width_of_the_terminal(width: int, arrow: int) -> None:
    lines = [line for line in printed(width) if "│" in line]
    assert {line.rindex("│") - line.index("│") - 1 for line in lines} == {arrow}


def test_text_shows_fate_states_and_time() -> None:
    text = "\n".join(printed(112))
    assert "✗" in text
    assert "lost)" in text
    assert "‖" in text
    assert "0.005    FIN-WAIT-1 │── FIN+ACK seq=1 ack=1 " in text
    assert "── A part & its <name>" in text


def test_svg_is_well_formed_and_names_every_state_where_it_begins() -> None:
    root = ElementTree.fromstring(svg.render(whole()))
    texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    for state in ("SYN-SENT", "ESTABLISHED", "FIN-WAIT-1", "CLOSE-WAIT"):
        assert state in texts
    assert texts.count("FIN-WAIT-1") == 1
    assert "A part & its <name>" in texts
    assert any("lost)" in text for text in texts)


def test_checks_printed_with_what_was_seen_when_they_fail() -> None:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_checks(console, [Check("it holds", True, "1.0 s"), Check("it does not", False, "2.0 s")])
    text = console.export_text()
    assert "✓ it holds  1.0 s" in text
    assert "✗ it does not  (seen: 2.0 s)" in text


# -- results -------------------------------------------------------------------------------------------------------


def test_result_without_checks_does_not_hold() -> None:
    assert not Result(Ladder("empty")).holds
    assert Result(Ladder("one"), [Check("yes", True)]).holds
    assert not Result(Ladder("two"), [Check("yes", True), Check("no", False)]).holds


def test_scenario_plays_its_first_role_by_default_and_no_other_than_its_own() -> None:
    played: list[str] = []

    def play(role: str, pcap: object) -> Result:
        played.append(role)
        return Result(Ladder(role))

    scenario = Scenario("name", ("client", "server"), "what", play)
    scenario.run()
    scenario.run("server")
    assert played == ["client", "server"]
    with pytest.raises(ValueError, match="no role 'both'"):
        scenario.run(BOTH)


def test_lines_iterate_in_order() -> None:
    kinds = [type(line) for line in whole()]
    assert kinds[:4] == [Rung, Rung, Rung, Note]
