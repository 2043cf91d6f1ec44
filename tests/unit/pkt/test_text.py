import pytest

from usertcp.errors import WireError
from usertcp.pkt import text
from usertcp.wire.tcp import ACK, AE, CWR, ECE, FIN, PSH, RST, SYN, URG, Options, Segment, header, parse, syn_options


@pytest.mark.parametrize(
    "line",
    [
        "S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>",
        "S. 0:0(0) ack 1 win 65535 <mss 1460>",
        "S 0:0(0) win 65535 <mss 536,nop,nop,sackOK,nop,wscale 0>",
        "P. 1:11(10) ack 1 win 512",
        "F. 11:11(0) ack 1 win 512 <nop,nop,TS val 101 ecr 7>",
        ". 1:1(0) ack 11 win 0 <nop,nop,TS val 1 ecr 2,nop,nop,sack 1001:2001 3001:4001>",
        "P.U 1:4(3) ack 1 win 9 urg 3",
        "SEW 0:0(0) win 1",
        "SEWA 0:0(0) win 1 <mss 1460>",
        "S.WA 0:0(0) ack 1 win 1 <mss 1460,ecn e0b 1 ceb 0 e1b 1>",
        "[ce] P. 1:11(10) ack 1 win 512",
        "[ect1] . 1:11(10) ack 1 win 512 <nop,nop,TS val 1 ecr 2,ecn e0b 7>",
        ". 1:1(0) ack 1 win 5 <ecn e1b 1 ceb 16777215>",
        ". 1:1(0) ack 1 win 5 <ecn>",
        "R 5:5(0)",
        "R. 5:5(0) ack 6",
        "- 4294967295:1(2) win 0",
        ". 1:1(0) ack 1 win 5 <malformed>",
    ],
)
def test_render_of_a_parsed_line_is_the_line(line: str) -> None:
    assert text.render(text.parse(line)) == line


@pytest.mark.parametrize(
    ("line", "flags"),
    [(".0 1:1(0) ack 1 win 5", ACK), ("P.5 1:1(0) ack 1 win 5", PSH | ACK | AE | ECE), ("-2 1:1(0) win 5", CWR)],
)
def test_render_of_an_ace_field_is_a_digit_where_it_is_asked_for(line: str, flags: int) -> None:
    seg = text.parse(line)
    assert seg.flags == flags
    assert text.render(seg, ace=True) == line
    assert not any(c.isdigit() for c in text.render(seg).split()[0])


@pytest.mark.parametrize("line", ["S.E 0:0(0) ack 1 win 5", "RA 0:0(0)"])
def test_render_of_a_syn_or_a_reset_never_has_an_ace_field(line: str) -> None:
    assert text.render(text.parse(line), ace=True) == line


def test_render_of_a_syn_with_bases_counts_from_them() -> None:
    raw = header(40000, 80, 0xFFFF_FF00, 0, SYN, 65535, syn_options(1460, 7, True, (5100, 0)))
    line = text.render(parse(memoryview(raw)), seq_base=0xFFFF_FF00, tsval_base=5000)
    assert line == "S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>"


def test_render_across_the_wrap_goes_on_counting() -> None:
    options = Options(sack=((0xFFFF_FFF0, 0x10),))
    seg = Segment(1, 2, 0xFFFF_FFFF, 0x5, PSH | ACK, 10, options=options, payload=memoryview(bytes(10)))
    line = text.render(seg, seq_base=0xFFFF_FF00, ack_base=0xFFFF_FFE0)
    assert line == "P. 255:265(10) ack 37 win 10 <nop,nop,sack 16:48>"


def test_parse_of_a_line_gives_the_segment() -> None:
    seg = text.parse("FP.UEW 1:11(10) ack 4 win 512 urg 3 <mss 1460,sackOK,TS val 9 ecr 8,nop,wscale 7,sack 2:3>")
    assert seg.flags == FIN | PSH | ACK | URG | ECE | CWR
    assert (seg.seq, seg.ack, seg.wnd, seg.urg, bytes(seg.payload)) == (1, 4, 512, 3, bytes(10))
    options = seg.options
    assert (options.mss, options.wscale, options.sack_permitted, options.sack) == (1460, 7, True, ((2, 3),))
    assert (options.has_ts, options.tsval, options.tsecr, options.malformed) == (True, 9, 8, False)


def test_parse_with_bases_is_the_inverse_of_render_with_them() -> None:
    seg = text.parse("R 5:5(0)", seq_base=0xFFFF_FFFE, ack_base=9)
    assert (seg.seq, seg.ack, seg.flags) == (3, 0, RST)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "X 0:0(0)",
        "S",
        "S 0:0",
        "S 0:5(4)",
        "S 0:70000(70000)",
        "S 0:0(0) win 65536",
        "S 0:0(0) urg 65536",
        "S 0:0(0) win 5 trailing",
        "S 0:0(0) <mss>",
        "S 0:0(0) <mss 1460,,nop>",
        "S 0:0(0) <fastopen>",
        "S 0:0(0) <sack>",
        "S 0:0(0) <sack 1:2:3>",
        "S 0:99999999999(0)",
        "S ²:0(0)",
        "[ect] . 0:0(0)",
        ".8 0:0(0)",
        ".E5 0:0(0)",
        "S 0:0(0) <ecn e0b>",
        "S 0:0(0) <ecn e2b 1>",
    ],
)
def test_parse_of_what_is_not_the_notation_is_a_wire_error(line: str) -> None:
    with pytest.raises(WireError, match="text"):
        text.parse(line)
