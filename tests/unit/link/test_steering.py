"""The steering program, run by a small interpreter of its instructions; the kernel runs it in tests/netns."""

import random
import struct

import pytest

from usertcp.frame import flow_hash
from usertcp.link import steering
from usertcp.wire import icmp, ipv4, tcp

US, PEER = "10.9.0.2", "10.9.0.1"


def chosen(packet: bytes) -> int:
    """What the program returns for ``packet``."""
    code = steering.assemble(steering._PROGRAM)
    registers, at = [0] * 10, 0
    while True:
        kind, operands, jump, constant = struct.unpack_from("=BBhi", code, at * 8)
        target, source = operands & 15, operands >> 4
        at += 1
        match kind:
            case steering.MOVE:
                registers[target] = registers[source]
            case steering.SET:
                registers[target] = constant
            case steering.AND:
                registers[target] &= constant
            case steering.SHIFT_LEFT:
                registers[target] <<= constant
            case steering.ADD:
                registers[target] += registers[source]
            case steering.ADD_CONSTANT:
                registers[target] += constant
            case steering.XOR:
                registers[target] ^= registers[source]
            case steering.MULTIPLY_32:
                registers[target] = registers[target] * constant & 0xFFFFFFFF
            case steering.SHIFT_RIGHT_32:
                registers[target] = (registers[target] & 0xFFFFFFFF) >> constant
            case steering.JUMP:
                at += jump
            case steering.IF_EQUAL:
                at += jump if registers[target] == constant else 0
            case steering.EXIT:
                return registers[0] & 0xFFFF
            case steering.LOAD_BYTE_AT | steering.LOAD_HALF_AT | steering.LOAD_WORD_AT:
                size = {steering.LOAD_BYTE_AT: 1, steering.LOAD_HALF_AT: 2, steering.LOAD_WORD_AT: 4}[kind]
                place = registers[source] + constant
                if place + size > len(packet):
                    return 0
                registers[0] = int.from_bytes(packet[place : place + size], "big")
            case _:
                raise AssertionError(f"no such instruction: {kind:#x}")


def packet(src: str, dst: str, sport: int, dport: int) -> bytes:
    segment = tcp.header(sport, dport, 1, 2, tcp.ACK, 100)
    return bytes(ipv4.header(ipv4.pack(src), ipv4.pack(dst), ipv4.TCP, len(segment)) + segment)


def key(src: str, dst: str, sport: int, dport: int) -> bytes:
    return ipv4.pack(src) + ipv4.pack(dst) + sport.to_bytes(2, "big") + dport.to_bytes(2, "big")


def test_tcp_of_any_flow_the_kernel_computes_what_we_compute() -> None:
    source = random.Random(1)
    for _ in range(200):
        src, dst = (ipv4.unpack(source.randbytes(4)) for _ in range(2))
        sport, dport = source.randrange(1 << 16), source.randrange(1 << 16)
        assert chosen(packet(src, dst, sport, dport)) == flow_hash(key(src, dst, sport, dport))


def test_both_directions_of_a_flow_have_one_hash() -> None:
    assert flow_hash(key(PEER, US, 40000, 80)) == flow_hash(key(US, PEER, 80, 40000))


def test_ip_options_do_not_hide_the_ports() -> None:
    plain = packet(PEER, US, 40000, 80)
    padded = bytes([0x46]) + plain[1:20] + bytes(4) + plain[20:]
    assert chosen(padded) == chosen(plain)


@pytest.mark.parametrize("kind", [icmp.DESTINATION_UNREACHABLE, icmp.TIME_EXCEEDED, icmp.PARAMETER_PROBLEM])
def test_icmp_error_goes_where_the_flow_goes(kind: int) -> None:
    ours = packet(US, PEER, 33000, 80)
    message = icmp.error(kind, 0, memoryview(ours), 0)
    error = ipv4.header(ipv4.pack("192.0.2.1"), ipv4.pack(US), ipv4.ICMP, len(message)) + message
    assert chosen(bytes(error)) == flow_hash(key(PEER, US, 80, 33000))


@pytest.mark.parametrize("proto", [1, 17, 47])
def test_everything_else_goes_to_the_first_queue(proto: int) -> None:
    assert chosen(bytes(ipv4.header(ipv4.pack(PEER), ipv4.pack(US), proto, 8)) + b"\x08" + bytes(7)) == 0


def test_packet_that_ends_too_early_goes_to_the_first_queue() -> None:
    whole = packet(PEER, US, 40000, 80)
    assert all(chosen(whole[:size]) == 0 for size in range(24))


@pytest.mark.parametrize("queues", [2, 3, 4, 16])
def test_ports_in_a_row_are_spread_evenly(queues: int) -> None:
    found = [0] * queues
    for port in range(32768, 32768 + 1000):
        found[flow_hash(key(PEER, US, port, 80)) % queues] += 1
    assert min(found) > 0.6 * 1000 / queues
    assert max(found) < 1.5 * 1000 / queues
