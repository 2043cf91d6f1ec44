"""The packetdrill language: what it means, and what is told of a text that is none."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usertcp.pkt.parser import parse
from usertcp.pkt.syntax import (
    Call,
    Code,
    IcmpPacket,
    IpInfo,
    ScriptError,
    Shell,
    Struct,
    TcpOption,
    TcpPacket,
    When,
)
from usertcp.pkt.tcp_options import decode, encode, render
from usertcp.units import MS, SEC, US
from usertcp.wire import tcp

SCRIPTS = sorted((Path(__file__).parents[2] / "packetdrill").glob("*.pkt"))


def action(text: str) -> object:
    return parse(text).events[0].action


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("0.25 `x`", When(250 * MS, 250 * MS, False)),
        ("+.1 `x`", When(100 * MS, 100 * MS, True)),
        ("+0~+.000001 > . 1:1(0)", When(0, US, True)),
        ("1~2 > . 1:1(0)", When(SEC, 2 * SEC, False)),
        ("* > . 1:1(0)", When(None, 0, True)),
    ],
)
def test_time_is_absolute_relative_a_range_or_any(text: str, when: When) -> None:
    assert parse(text).events[0].when == when


def test_packet_with_everything() -> None:
    text = "0 > [ect01, tos 8, ttl 64, port 9] FP.U 1:11(10) ack 5 win 6 urg 7 <mss 1,nop,TS val 2 ecr 3,sack 1:2 3:4>"
    assert action(text) == TcpPacket(
        False,
        IpInfo((2, 1), 8, 64, 9),
        tcp.FIN | tcp.PSH | tcp.ACK | tcp.URG,
        1,
        10,
        5,
        6,
        7,
        (
            TcpOption(tcp.MSS, (1,)),
            TcpOption(tcp.NOP),
            TcpOption(tcp.TIMESTAMPS, (2, 3)),
            TcpOption(tcp.SACK, (1, 2, 3, 4)),
        ),
    )


def test_options_are_none_any_or_a_cookie() -> None:
    packets = [event.action for event in parse("0 > . 1:1(0) +0 > . 1:1(0) <...> +0 < S 0:0(0) <FO 0a0b>").events]
    assert [packet.options for packet in packets if isinstance(packet, TcpPacket)] == [
        (),
        None,
        (TcpOption(34, octets=b"\x0a\x0b"),),
    ]


@pytest.mark.parametrize("words", ["kind 2 05", "kind 3 ", "kind 5 0102", "kind 8 00"])
def test_option_of_a_known_kind_and_a_wrong_length_is_sent_as_it_is_written(words: str) -> None:
    packet = action(f"0 < S 0:0(0) <{words}>")
    assert isinstance(packet, TcpPacket)
    assert packet.options is not None
    (option,) = packet.options
    _, kind, *octets = words.split()
    wanted = bytes((int(kind), 2 + len(option.octets))) + bytes.fromhex("".join(octets))
    assert encode(packet.options) == wanted + bytes(-len(wanted) & 3)


def test_accecn_option_begins_with_either_counter() -> None:
    packet = action("0 < . 1:1(0) <ECN e0b 1 ceb 2 e1b 3,nop,ECN e1b 4 ceb 5>")
    assert isinstance(packet, TcpPacket)
    assert packet.options == (TcpOption(172, (1, 2, 3)), TcpOption(tcp.NOP), TcpOption(174, (4, 5)))
    assert decode(memoryview(encode(packet.options))) == packet.options
    assert render(packet.options) == "ECN e0b 1 ceb 2 e1b 3,nop,ECN e1b 4 ceb 5"


def test_ace_field_is_a_digit() -> None:
    packet = action("0 > P.5 1:2(1) ack 1")
    assert isinstance(packet, TcpPacket)
    assert packet.flags == tcp.PSH | tcp.ACK | 5 << tcp.ACE_SHIFT


def test_icmp_error_about_a_segment() -> None:
    assert action("0 < [1:11(10)] icmp unreachable frag_needed mtu 1200") == IcmpPacket(IpInfo(), 3, 4, 1200, 1, 10)
    assert action("0 < icmp time_exceeded") == IcmpPacket(IpInfo(), 11, 0, 0, None, 0)


def test_call_with_its_values() -> None:
    text = """0...1.5 sendmsg(3, {msg_name(...)=..., msg_iov(1)=[{"a\\x00", 2}], msg_flags=0}, MSG_OOB|MSG_PEEK)
        = -1 EPIPE (Broken pipe)"""
    call = action(text)
    message = Struct({"msg_name": ..., "msg_iov": (Struct({}, (b"a\0", 2)),), "msg_flags": 0})
    assert call == Call("sendmsg", (3, message, 3), -1, 32, 1_500 * MS)


def test_comments_are_skipped_and_shell_code_and_settings_read() -> None:
    script = parse(
        """// a
        --tolerance_usecs=7 --mtu=900 /* b
        */ `sysctl a.b=1`
        usertcp: 0 `x // y` // z
        kernel: +0 %{
        assert tcpi_state == TCP_ESTABLISHED # c
        }%
        `undo`"""
    )
    assert (script.settings.tolerance, script.settings.mtu) == (7 * US, 900)
    assert script.shell == (Shell("sysctl a.b=1"),)
    assert [(event.only, event.line) for event in script.events] == [("usertcp", 4), ("kernel", 5), ("", 8)]
    assert script.events[0].action == Shell("x // y")
    assert isinstance(script.events[1].action, Code)
    assert script.events[2].when == When(0, 0, True)


@pytest.mark.parametrize(
    ("text", "line", "column", "word"),
    [
        ("", 1, 1, "event"),
        ("0", 1, 2, "what happens"),
        ("\n  oops", 2, 3, "a time"),
        ("0 < X 1:1(0)", 1, 5, "flags"),
        ("0 < . 1:5(3)", 1, 7, "4 bytes, not 3"),
        ("0 < . 1:99999999999(3)", 1, 7, "32 bits"),
        ("0 < S 0:0(0) ack 1", 1, 5, "'.'"),
        ("0 < S 0:0(0) win 70000", 1, 18, "65535"),
        ("0 < S 0:0(0) <...>", 1, 15, "which"),
        ("0 < S 0:0(0) <mss>", 1, 18, "number"),
        ("0 < S 0:0(0) <quux 1>", 1, 15, "mss"),
        ("0 < S 0:0(0) <sack>", 1, 19, "SACK block"),
        ("0 < S 0:0(0) <sack 1:2 1:2 1:2 1:2 1:2>", 1, 15, "room"),
        ("0 < [ect01] S 0:0(0)", 1, 5, "one code point"),
        ("0 < [what] S 0:0(0)", 1, 6, "ect0"),
        ("0 > icmp unreachable", 1, 5, "comes in"),
        ("0 < icmp nothing", 1, 10, "unreachable"),
        ("0 < icmp unreachable port_unreachable mtu 5", 1, 22, "frag_needed"),
        ("0 < udp (5)", 1, 5, "TCP and ICMP"),
        ("0 fork() = 0", 1, 3, "fork"),
        ("0 close() = 0", 1, 3, "1 arguments, not 0"),
        ("0 close(3) = 0 EPIPE", 1, 16, "-1"),
        ("0 close(3) = -1", 1, 16, "errno"),
        ("0 close(3) = -1 EWHAT", 1, 17, "EWHAT"),
        ("0 close(WHAT) = 0", 1, 9, "WHAT"),
        ("0 close(3 = 0", 1, 11, "','"),
        ("0 close([3]|1) = 0", 1, 9, "numbers"),
        ('0 close("\\xq") = 0', 1, 9, "escape"),
        ("+.2...0.1 close(3) = 0", 1, 4, "before it began"),
        ("* close(3) = 0", 1, 3, "goes out"),
        ("2~1 > . 1:1(0)", 1, 1, "before it begins"),
        ("--nope=1 0 `x`", 1, 1, "--mtu"),
        ("--mtu=1 0 `x`", 1, 7, "576"),
        ("--local_ip=1.2.3 0 `x`", 1, 12, "address"),
        ("--local_ip=192.0.2.1 0 `x`", 1, 12, "same address"),
        ("0 `x` /* no end", 1, 7, "comment"),
        ("0 %{ assert }%", 1, 12, ""),
        ("0 %{\n   import os }%", 2, 4, "assert"),
        ("0 %{ assert tcpi_nope == 1 }%", 1, 13, "tcpi_nope"),
        ("0 %{ assert open('x') }%", 1, 13, "numbers"),
        ("0 %{ assert 2 ** 99 }%", 1, 13, "+ - *"),
        ("0 %{ assert 'a' * 99999 }%", 1, 13, "no number"),
    ],
)
def test_what_is_no_script_is_told_by_line_and_column(text: str, line: int, column: int, word: str) -> None:
    with pytest.raises(ScriptError) as caught:
        parse(text)
    assert (caught.value.line, caught.value.column) == (line, column), caught.value
    assert word in caught.value.message


def readable(text: str) -> None:
    """Read, or refused at a place within it; nothing else."""
    place = (1, 1)
    try:
        parse(text)
    except ScriptError as error:
        place = (error.line, error.column)
    lines = text.split("\n")
    assert 1 <= place[0] <= len(lines)
    assert 1 <= place[1] <= len(lines[place[0] - 1]) + 1


@given(st.text(max_size=200))
def test_no_text_upsets_the_parser(text: str) -> None:
    readable(text)


WORDS = (
    *(
        "0",
        "+.1",
        "*",
        "~",
        "...",
        "<",
        ">",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        "=",
        ",",
        "|",
        "`",
        "%{",
        "}%",
        '"',
        "\\",
        "-",
    ),
    *(
        "S.",
        "P.",
        "1:11(10)",
        "ack",
        "win",
        "urg",
        "mss",
        "sack",
        "TS",
        "val",
        "ecr",
        "nop",
        "FO",
        "kind",
        "99999999999",
    ),
    *(
        "socket",
        "close",
        "poll",
        "3",
        "-1",
        "0x",
        "EPIPE",
        "fd",
        "icmp",
        "unreachable",
        "mtu",
        "assert",
        "tcpi_rtt",
        "==",
    ),
    *("--mtu", "usertcp:", "//", "/*", "*/", "\n", "ect0", "port", "\0", "\ud800", "é", "**", "1e9", "not", "lambda:0"),
)


@given(st.lists(st.sampled_from(WORDS), max_size=30), st.sampled_from([" ", ""]))
def test_no_order_of_its_words_upsets_the_parser(words: list[str], between: str) -> None:
    readable(between.join(words))


@given(st.sampled_from(SCRIPTS), st.data())
def test_no_damage_to_a_script_upsets_the_parser(path: Path, data: st.DataObject) -> None:
    text = path.read_text()
    start = data.draw(st.integers(0, len(text)))
    end = min(len(text), start + data.draw(st.integers(0, 12)))
    readable(text[:start] + data.draw(st.sampled_from(WORDS)) + text[end:])
