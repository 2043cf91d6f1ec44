"""The inputs that a person would think of, as the bytes that mean them: where the fuzzer starts.

    python -m tests.fuzz.seeds      write them to tests/fuzz/corpus, each under its name

Those whose names are hexadecimal beside them were found by fuzzing.
"""

import io
from collections.abc import Callable, Iterator
from typing import Final

from tests.fuzz import target_api, target_parsers, target_stack
from tests.fuzz.feed import RECORD
from tests.fuzz.targets import CORPUS
from usertcp.link import pcap
from usertcp.wire import arp, ethernet, icmp, ipv4, tcp, vnet
from usertcp.wire.tcp import ACK, FIN, PSH, RST, SYN, URG

Seed = tuple[str, bytes]  # name, input

NOTHING: Final = bytes(RECORD)
NEAR, PEER = 0, 1


def record(kind: int, *octets: int) -> bytes:
    return bytes((kind, *octets)).ljust(RECORD, b"\0")[:RECORD]


# -- stack -----------------------------------------------------------------------------------------------------------


def does(name: str, *octets: int) -> bytes:
    """A record of the target ``stack``."""
    kinds: tuple[Callable[..., None], ...] = target_stack.Story._KINDS
    return record([kind.__name__ for kind in kinds].index(f"_{name}"), *octets)


def segment(
    flags: int, *, seq: int = 0, off: int = 0, ack: int = 0, size: int = 0, options: int = 0, skew: int = 1
) -> bytes:
    """What a record says of a forged segment: anchors, a distance of ``seq``, the length by its index."""
    numbers = ack, 0, 0, 0x40, 0, size, options, skew, 0
    return bytes((flags & 0xFF, 0, seq, *(off & 0xFFFF).to_bytes(2, "big"), *numbers))


def stack() -> Iterator[Seed]:
    start = bytes((0, 0, 0, 0)).ljust(RECORD, b"\0")
    both = does("write", NEAR, 6, 3) + does("write", PEER, 6, 5) + does("wait", 2)
    for number, shape in enumerate((0, 1, 2, 4, 6, 16, 9)):
        yield f"transfer-{number}", bytes((shape, 9 * number, 17 * number, 0)).ljust(RECORD, b"\0") + both * 3
    for number in range(8):
        yield (
            f"options-{number}",
            bytes((4 * (number & 1), 1 << number & 0xFF, number * 31, 0)).ljust(RECORD, b"\0") + both,
        )
    for stage in range(6):
        yield f"handshake-{stage}", record(4 * (stage & 1), 0, 0, 1 + 2 * stage) + both
    lossy = [does("path", what, place & 1, place, 0, place, 1 + place) for what in range(7) for place in range(2)]
    yield "path", start + b"".join(both + step for step in lossy[:8])
    yield "path-again", start + b"".join(both + step for step in lossy[8:])
    text = does("write", NEAR, 6, 2) + does("write", PEER, 6, 4)
    hurt = b"".join(text + does("path", 4, side, 1, 0, 80 + side, 8) + does("wait", 1) for side in range(2))
    yield "damage", start + hurt * 4 + both
    holes = b"".join(text + does("path", 1, side, 2 * hole) + does("wait", 1) for side in range(2) for hole in range(3))
    yield "holes", start + holes + both
    forged = {
        "reset": segment(RST, seq=0, off=100),
        "reset-edge": segment(RST, seq=1),
        "syn": segment(SYN, options=17),
        "syn-edge": segment(SYN | ACK, seq=1, off=-1, options=1),
        "data-old": segment(ACK | PSH, seq=0, off=-2000, size=5),
        "data-beyond": segment(ACK | PSH, seq=1, off=1, size=5, options=1),
        "data-bad-ack": segment(ACK, ack=4, size=5, options=1),
        "no-timestamp": segment(ACK, size=5),
        "new-timestamp": segment(ACK | PSH, off=-100, ack=4, size=6, options=67, skew=255),
        "new-timestamp-syn": segment(SYN, off=-100, size=6, options=67, skew=255),
        "fin-bad-ack": segment(ACK | FIN, ack=5, options=1),
        "sack": segment(ACK, ack=1, options=9),
        "true": segment(ACK, size=5, options=1),
        "true-reset": segment(RST),
    }
    for name, body in forged.items():
        yield f"blind-{name}", start + both + does("blind", 0, *body) + does("blind", 1, *body) + both
    yield from _strangers(start, both)


def _strangers(start: bytes, both: bytes) -> Iterator[Seed]:
    """What others do, and what happens below TCP."""
    knock = does("knock", 0, 0, 0, 9, 5, 180, 7, 7, 255, 255)
    take = does("serve", 0)
    yield (
        "stranger",
        start + knock + take + does("follow", 3, 3, 0, 0, 0, 9) + does("serve", 1, 3) + does("follow", 35, 2),
    )
    yield (
        "stranger-window",
        start + knock + take + does("serve", 2, 7, 7) + does("follow", 67, 0, 9, 0, 0, 0) * 4 + both,
    )
    yield "stranger-urgent", start + knock + take + does("stranger", 3, *segment(ACK | URG, size=5, options=1)) * 3
    yield (
        "stranger-sacks",
        start + knock + take + does("serve", 2, 7, 7) + does("stranger", 3, *segment(ACK, ack=1, options=9)) * 5,
    )
    yield (
        "stranger-closes",
        start + knock + take + does("serve", 4, 0) + does("follow", 35, 2) + does("serve", 12) + both,
    )
    yield "stranger-md5", start + knock + does("stranger", 3, *segment(ACK, size=5, options=65)) + both
    yield "crumbs", start + knock + take + does("crumbs", 0, 31, 0, 9, 3) * 4 + does("serve", 8) + both
    yield (
        "flood",
        start
        + does("flood", 23, 49, 1, 2, 3, 4, 3) * 6
        + does("flood", 23, 50, 1, 2, 3, 4, 3)
        + does("flood", 23, 2, 1, 2, 3, 4, 3)
        + knock * 6
        + both,
    )
    yield "connect-out", start + does("connect", 1, 3) + does("follow", 3, 0, 5, 180, 7) + does("follow", 3, 3) + both
    yield "icmp", start + both + b"".join(does("icmp", 1, 3, code, 3, 0, 0, 2, 88) for code in (0, 2, 3, 4, 13)) + both
    yield "icmp-echo", start + does("icmp", 2, 8, 0, 12, 0, 1, 0, 2) + does("icmp", 2, 11, 0, 0) + both
    yield (
        "arp",
        start + b"".join(does("arp", op, who, 2, mac, 0) for op in (1, 2) for who in range(3) for mac in range(4)),
    )
    shapes = (0, 2, 4, 8, 16, 32, 64, 3, 5)
    yield "odd", start + b"".join(does("odd", 1, 0, proto, shape, 1, 2) for shape in shapes for proto in (0, 1, 4))
    yield "raw", start + record(15, 69, 0, 0, 20)
    yield (
        "offer",
        start + does("write", PEER, 6, 4) + does("offer", 6) + does("write", PEER, 3, 4) + does("offer", 4) + both,
    )
    settings = [does("configure", which | bit, 1) for which in range(8) for bit in (0, 8)]
    yield "configure", start + b"".join(both[:RECORD] + change for change in settings)
    yield "close", start + both + does("shutdown", 3, 0) + both + does("shutdown", 3, 1) + does("wait", 7)
    yield "idle", start + does("wait", 7) * 4 + both


# -- parsers ---------------------------------------------------------------------------------------------------------


def reads(name: str, data: bytes) -> Seed:
    """An input of the target ``parsers``."""
    number = [reader.__name__ for reader in target_parsers.READERS].index(f"_{name}")
    return name, bytes((number,)) + data


SCRIPT: Final = b"""--tolerance_usecs=10000
`sysctl -q net.ipv4.tcp_timestamps=0`
0.0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0
+0 bind(3, {sa_family = AF_INET, sin_port = htons(8080)}, ...) = 0
+0 listen(3, 1) = 0
+0 < S 0:0(0) win 32792 <mss 1460,sackOK,nop,nop,nop,wscale 7>
+0 > S. 0:0(0) ack 1 <...>
+.1 < [ect0] P. 1:1001(1000) ack 1 win 257 <nop,nop,TS val 1 ecr 2>
+0...0.5 accept(3, ..., ...) = 4
+0 %{ assert tcpi_snd_cwnd == 10 }%
+0 < icmp unreachable frag_needed mtu 1200
usertcp: +0 write(4, "a\\x00b", 3) = -1 EPIPE (Broken pipe)
"""


def parsers() -> Iterator[Seed]:
    syn = tcp.syn_options(1460, 7, True, (1, 0))
    stamps = tcp.timestamps(5, 6)
    for name, options in (
        ("syn", syn),
        ("sack", stamps + tcp.sack([(1, 2), (3, 4), (5, 6)])),
        ("accecn", tcp.accecn(tcp.ACCECN0, [1, 2, 3]) + tcp.accecn(tcp.ACCECN1, [1])),
        ("unknown", b"\x13\x12" + bytes(16) + b"\xfe\x04ab"),
        ("short", b"\x02\x03\x01\x01"),
        ("endless", b"\x05\xff\x00\x00"),
        ("end", b"\x01\x00\x02\x04"),
        ("none", b""),
    ):
        head = bytes(tcp.header(1, 2, 3, 4, ACK | PSH | URG, 6, options, 7))
        yield f"tcp-{name}", reads("tcp", head + b"payload")[1]
        yield f"options-{name}", reads("tcp_options", options)[1]
    ip = ipv4.header(b"\1\2\3\4", b"\5\6\7\x08", 6, 4, ident=5) + b"text"
    yield reads("ipv4", ip)
    yield "ipv4-mended", reads("ipv4", ip[:6] + b"\x20\x05" + ip[8:] + b"\1")[1]
    for number, kind in enumerate((0, 3, 8, 11, 12, 13)):
        body = (
            icmp.echo(bool(kind), 1, 2, b"x") if kind in (0, 8) else icmp.error(kind, 4, memoryview(ip + bytes(8)), 900)
        )
        yield f"icmp-{number}", reads("icmp", body)[1]
    yield reads("arp", arp.build(arp.Arp(1, b"sender", b"\1\1\1\1", b"target", b"\2\2\2\2")))
    yield reads("ethernet", ethernet.header(b"target", b"sender", 0x0800) + ip)
    yield reads("vnet", b"\1\1" + b"\x36\0\xb4\5\x22\0\x10\0")
    yield "vnet-plain", reads("vnet", vnet.PLAIN_HEADER)[1]
    file = io.BytesIO()
    writer = pcap.Writer(file)
    writer.write(5, b"packet")
    writer.write(6, b"another")
    yield reads("pcap", file.getvalue())
    yield "pcap-little", reads("pcap", b"\xd4\xc3\xb2\xa1\2\0\4\0" + bytes(8) + b"\xff\xff\0\0\1\0\0\0")[1]
    yield reads(
        "text", b"[ect0] SP.5 1:11(10) ack 5 win 7 urg 3 <mss 1460,sackOK,TS val 1 ecr 2,nop,wscale 7,sack 1:2 3:4>"
    )
    yield "text-accecn", reads("text", b". 1:1(0) ack 1 <ecn e1b 1 ceb 2 e0b 3,malformed>")[1]
    yield reads("checksum", bytes(range(256)) * 4)
    yield reads("split", b"\x81\x03\xff\xff\xff\xf0" + b"super-segment")
    yield reads("script", SCRIPT)
    for number, bad in enumerate(
        (b"0 < S 0:0(0) <kind 2 05>", b"0 < S 0:0(0) <kind 5 0102>", b"0 %{ import os }%", b"/*")
    ):
        yield f"script-bad-{number}", reads("script", bad)[1]
    yield reads("request", b"\x10\0\0\0" + b'{"remote":["a",1]}')
    yield reads(
        "message", b'{"a":["127.0.0.1",80],"id":"0.1.0011223344556677v6","options":[[1,9,1],[1,13,"0100000005000000"]]}'
    )
    yield "message-odd", reads("message", b'{"a":[[6,13,"6362"],[1,7,1e9]],"b":[[6,4,-1]],"c":' + b"[" * 40)[1]
    yield reads("name", b"token/b/0.0.0011223344556677/7f0000010050/7f0000010051")
    yield "name-own", reads("name", b"a/0.1f.0011223344556677v6")[1]
    yield reads("address", b"\x50127.0.0")
    for number, said in enumerate(
        (b"\0usertcp1" + bytes(18), b'\1\0\0\0\x15{"test":{"streams":2}}', b'\2\0\0\0\x10{"refused":"no"}')
    ):
        yield f"perf-{number}", reads("perf", said)[1]


# -- api ---------------------------------------------------------------------------------------------------------------


def calls(name: str, *octets: int) -> bytes:
    """A record of the target ``api``."""
    return record([kind.__name__ for kind in target_api.KINDS].index(name), *octets)


def api() -> Iterator[Seed]:
    pair = calls("serve", 0, 1, 3) + calls("connect", 1, 0, 1, 2, 0) + calls("accept", 0, 2, 3)
    talk = (
        calls("send", 1, 5, 0, 0)
        + calls("recv", 2, 6, 0, 0, 1)
        + calls("send", 2, 3, 0, 2)
        + calls("recv", 1, 4, 0, 2, 1)
    )
    bye = calls("close", 1) + calls("recv", 2, 6, 0, 0, 2) + calls("close", 2)
    yield "transfer", pair + talk * 3 + bye
    yield "bulk", pair + (calls("send", 1, 7, 0, 0) + calls("recv", 2, 7, 0, 1, 2)) * 8 + bye
    for number in range(8):
        yield f"recv-{number}", pair + talk + calls("send", 1, 3) + calls("recv", 2, 3, number, number, 1) * 2 + bye
    for number in range(5):
        yield f"send-{number}", pair + calls("send", 1, 4, number, number) * 3 + calls("recv", 2, 6, 0, 0, 1) + bye
    for number in range(4):
        yield f"shutdown-{number}", pair + calls("shutdown", 1, number) * 2 + talk + calls("shutdown", 2, number) + bye
        yield (
            f"shutdown-early-{number}",
            calls("shutdown", 3, number) + calls("serve", 0, 1) + calls("shutdown", 0, number) * 2,
        )
    for number in range(5):
        yield (
            f"linger-{number}",
            pair + talk + calls("linger", 1, 1, number) + calls("send", 1, 6) + calls("close", 1) + talk,
        )
    yield from _odd_calls(pair, talk, bye)


def _odd_calls(pair: bytes, talk: bytes, bye: bytes) -> Iterator[Seed]:
    """What programs do less often."""
    yield (
        "urgent",
        pair + calls("urgent", 1, 0) + calls("recv", 2, 3, 6, 0, 1) + talk + calls("urgent", 2, 1) + talk + bye,
    )
    yield "urgent-inline", pair + calls("set_option", 2, 6, 0, 1) + calls("urgent", 1, 2) + talk + bye
    yield (
        "refused",
        calls("connect", 0, 0, 5, 2, 0)
        + calls("poll", 0, 1, 0)
        + calls("connect", 0, 0, 5, 1, 1)
        + calls("poll", 0, 1, 3),
    )
    yield (
        "silent",
        b"".join(calls("connect", slot, 3, 1, slot, 0) for slot in range(4)) + calls("wait", 4) + calls("names", 1),
    )
    yield "nowhere", b"".join(calls("connect", slot, slot, 0, 1, slot) for slot in range(6)) + calls("wait", 5)
    yield (
        "six",
        calls("make", 0, 7)
        + calls("serve", 0, 1, 3)
        + calls("make", 1, 7)
        + calls("connect", 1, 0, 1, 2, 0)
        + calls("accept", 0, 2, 3)
        + talk
        + bye,
    )
    yield (
        "duplicates",
        pair + b"".join(calls("duplicate", 1, 3, how) + talk for how in range(3)) + calls("close", 3) + talk + bye,
    )
    yield (
        "bind",
        b"".join(calls("bind", slot, slot, slot) + calls("names", slot) for slot in range(6)) + calls("bind", 0, 0, 1),
    )
    yield (
        "backlog",
        calls("serve", 0, 1, 0)
        + b"".join(calls("connect", slot, 0, 1, 1, 0) for slot in range(1, 6))
        + calls("wait", 3)
        + calls("accept", 0, 1, 1) * 3,
    )
    options = len(target_api.NAMES)
    for number in range(0, options, 12):
        each = range(number, min(number + 12, options))
        settings = b"".join(calls("set_option", at % 3, at, what, at) for at in each for what in (0, 2, 3))
        yield f"options-{number}", pair + settings + b"".join(calls("get_option", at % 3, at, 0) for at in each) + talk
    yield (
        "twice",
        pair
        + calls("listen", 0, 2)
        + calls("listen", 1, 2)
        + calls("bind", 1, 0, 1)
        + calls("connect", 1, 0, 1, 1, 0)
        + calls("connect", 0, 0, 1, 1, 1),
    )


# -- engine ------------------------------------------------------------------------------------------------------------


def asks(operation: str, more: str = "", ident: str = "$0") -> str:
    """A line of the target ``engine``: a control message."""
    return f'c{{"op":"{operation}","id":"{ident}"{"," + more if more else ""}}}'


def engine() -> Iterator[Seed]:
    binds = asks("bind", '"address":["127.0.0.1",8080],"options":[],"both":false,"place":"here"')
    listens = asks("listen", '"address":["",8080],"backlog":3,"options":[],"both":false,"place":"here"')
    opens = 'd{"remote":["127.0.0.1",443],"options":[],"place":""}'
    connects = 'd{"remote":["127.0.0.1",8080],"options":[[1,9,1],[6,13,"72656e6f"]],"place":"there"}'
    all_of = ("started", "outcome", "error", "names", "shut_read", "urgent", "gone", "opened")
    stories: dict[str, list[str]] = {
        "no-place": [
            asks("listen", '"address":["127.0.0.1",8080],"backlog":1,"options":[],"both":false'),
            'd{"remote":["127.0.0.1",443],"options":[]}',
            asks("opened"),
            "h",
        ],
        "hello": [asks("hello"), asks("socket", '"six":true'), 'c{"op":"hello"}'],
        "bind": [binds, binds, asks("names"), asks("gone"), "k", "k", asks("gone", ident="$1"), "w" + "1" * 9],
        "low-port": [asks("bind", '"address":["",80],"options":[],"both":true'), asks("names")],
        "serve": [binds, listens, "l", connects, "xhello", "a", "xmore", "w12", "k", "a", "k", "k", "w1"],
        "serve-deaf": [binds, listens, connects, connects, "w" + "1" * 15],
        "connect": [opens, "xGET", "h", *(asks(op) for op in all_of), "h", "k", "k", "k", "h"],
        "connect-nowhere": [
            'd{"remote":["192.0.2.1",1],"options":[],"place":[]}',
            asks("started"),
            asks("error"),
            asks("outcome"),
        ],
        "connect-raw": ["r\x01\x00\x00", "r\xff\xff\xff\xff", "r\x02\x00\x00\x00{}", "x1", "w1"],
        "connect-odd": [
            'd{"remote":["",0],"options":[]}',
            'd{"remote":[1],"options":{}}',
            'd{"remote":["0.0.0.0",443],"fill":0,"options":[],"place":0}',
        ],
        "options": [
            binds,
            asks("set", '"level":1,"name":9,"value":1'),
            asks("get", '"level":1,"name":9'),
            asks("set", '"level":1,"name":13,"value":"0100000001000000"'),
            asks("get", '"level":6,"name":11'),
            opens,
            asks("linger", '"seconds":1'),
            asks("get", '"level":6,"name":11'),
        ],
        "linger": [
            opens,
            "xdata",
            asks("set", '"level":1,"name":13,"value":"0100000005000000"'),
            "k",
            "k",
            "k",
            asks("linger", '"seconds":5', "$1"),
            asks("linger", '"seconds":-1'),
        ],
    }
    for name, lines in (stories | _intrusions(binds, opens, all_of)).items():
        yield name, "\n".join(lines).encode("latin-1")


def _intrusions(binds: str, opens: str, all_of: tuple[str, ...]) -> dict[str, list[str]]:
    """What is not ours to ask, and what means nothing."""
    return {
        "somebody-else": [
            asks(op, '"level":1,"name":2,"value":1,"seconds":1', who)
            for op in (*all_of, "set", "get", "linger")
            for who in ("$h", "$H")
        ],
        "unknown-user": ["u", asks("hello"), binds, opens, "u", asks("hello"), "h"],
        "names": [
            "na/0.0.0011223344556677",
            "nb",
            "n$t/b/0.0.0011223344556677/7f0000010050/7f0000010051",
            "n$t/b/0.0.0011223344556677/x/",
            "n$t/b/0.0.0011223344556677/00/00",
            "na/$0",
            "na/$h",
            "h",
        ],
        "garbage": [
            "c",
            "c[]",
            "c{}",
            "cnull",
            'c{"op":[]}',
            'c{"op":"get"}',
            "c" + "[" * 900,
            'c{"op":"bind","id":"$0","address":[{},{}]}',
            'c{"op":"linger","id":"$0","seconds":1e999}',
        ],
        "another-engine": [asks("hello", '"engine":"x"'), asks("hello", '"engine":"$t"'), asks("nothing")],
    }


SEEDS: Final[dict[str, Callable[[], Iterator[Seed]]]] = {
    "stack": stack,
    "parsers": parsers,
    "api": api,
    "engine": engine,
}


def main() -> None:
    for name, make in SEEDS.items():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for seed, data in make():
            (folder / seed).write_bytes(data)


if __name__ == "__main__":
    main()
