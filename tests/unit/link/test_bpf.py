"""The packet filters, run by a small interpreter over frames of every kind."""

import struct

import pytest

from usertcp.link import bpf

MAC = b"\x02\x11\x22\x33\x44\x55"
OTHER = b"\x02\x11\x22\x33\x44\x56"
ADDRESS = bytes([192, 0, 2, 7])


def run(lines: list[bpf.Line], frame: bytes, tagged: int = 0) -> bool:
    """The kernel's semantics: a load beyond the frame ends the program with 0."""
    program = bpf.assemble(lines)
    at = a = x = 0
    while True:
        code, true, false, k = program[at]
        at += 1
        try:
            if code == bpf.RETURN:
                return k > 0
            if k == bpf.VLAN_TAGGED:
                a = tagged
            elif code == bpf.LOAD_BYTE:
                a = frame[k]
            elif code == bpf.LOAD_HALF:
                (a,) = struct.unpack_from("!H", frame, k)
            elif code == bpf.LOAD_WORD:
                (a,) = struct.unpack_from("!I", frame, k)
            elif code == bpf.LOAD_BYTE_AT:
                a = frame[x + k]
            elif code == bpf.LOAD_HALF_AT:
                (a,) = struct.unpack_from("!H", frame, x + k)
            elif code == bpf.LOAD_IP_LENGTH:
                x = 4 * (frame[k] & 15)
            else:
                holds = {
                    bpf.IF_EQUAL: a == k,
                    bpf.IF_ABOVE: a > k,
                    bpf.IF_AT_LEAST: a >= k,
                    bpf.IF_BITS: bool(a & k),
                }[code]
                at += true if holds else false
        except (IndexError, struct.error):
            return False


def ipv4(proto: int, rest: bytes, *, dst: bytes = ADDRESS, options: int = 0, fragment: int = 0) -> bytes:
    head = struct.pack("!BBHHHBBH4s4s", 0x45 + options, 0, 0, 0, fragment, 64, proto, 0, bytes(4), dst)
    return MAC + OTHER + b"\x08\x00" + head + bytes(4 * options) + rest


def tcp(port: int) -> bytes:
    return struct.pack("!HH", 5, port) + bytes(16)


@pytest.mark.parametrize(
    ("frame", "kept"),
    [
        (MAC + bytes(50), True),
        (OTHER + bytes(50), False),
        (b"\x02\x12" + MAC[2:] + bytes(50), False),
        (b"\xff" * 6 + bytes(50), True),
        (b"\x01\x00\x5e\x00\x00\x01" + bytes(50), True),
        (MAC[:3], False),
    ],
)
def test_filter_for_an_own_address_keeps_what_is_for_it_and_groups(frame: bytes, kept: bool) -> None:
    assert run(bpf.for_address(MAC), frame) is kept
    assert not run(bpf.for_address(MAC), frame, tagged=1)


@pytest.mark.parametrize(
    ("frame", "kept"),
    [
        (ipv4(6, tcp(99)), False),
        (ipv4(6, tcp(100)), True),
        (ipv4(6, tcp(150)), True),
        (ipv4(6, tcp(200)), True),
        (ipv4(6, tcp(201)), False),
        (ipv4(6, tcp(150), options=5), True),
        (ipv4(6, tcp(150), dst=bytes([192, 0, 2, 8])), False),
        (ipv4(6, tcp(150), fragment=0x2000), True),
        (ipv4(6, tcp(150), fragment=1), False),
        (ipv4(17, tcp(150)), False),
        (ipv4(1, b"\x08\x00" + bytes(6)), False),
        (ipv4(1, b"\x00\x00" + bytes(6)), True),
        (ipv4(1, b"\x03\x04" + bytes(6)), True),
        (MAC + OTHER + b"\x08\x06" + bytes.fromhex("0001080006040001") + bytes(20), False),
        (MAC + OTHER + b"\x08\x06" + bytes.fromhex("0001080006040002") + bytes(20), True),
        (MAC + OTHER + b"\x86\xdd" + bytes(40), False),
        (ipv4(6, b"\0"), False),
    ],
)
def test_filter_for_the_hosts_address_keeps_our_ports_and_leaves_the_rest(frame: bytes, kept: bool) -> None:
    assert run(bpf.for_ports(ADDRESS, 100, 200), frame) is kept
    assert not run(bpf.for_ports(ADDRESS, 100, 200), frame, tagged=1)
