"""A super-segment as the frames that a device would make of it (TCP over IPv4 over Ethernet).

What a sending device does by itself (TSO) the simulation must do where single frames matter: a queue drops and marks
frames, not bursts. Headers are repeated with their lengths, numbers and IP checksums; TCP's checksum, which the sender
left to the device, stays left, and the receiving device vouches for it as it would have for the whole.
"""

from typing import Final

from usertcp.frame import FrameMeta
from usertcp.net.segmentation import split
from usertcp.units import MASK32
from usertcp.wire.checksum import finish, sum16
from usertcp.wire.ethernet import HEADER_LEN

_MASK16: Final = MASK32 >> 16


def frames(frame: bytes, meta: FrameMeta) -> list[tuple[bytes, FrameMeta]]:
    """The frames of the super-segment ``frame``, in order, each with what goes with it."""
    start, body = meta.csum_start, meta.header_len
    link, ip = frame[:HEADER_LEN], bytearray(frame[HEADER_LEN:start])
    ident = int.from_bytes(ip[4:6], "big")
    ip[2:6], ip[10:12] = bytes(4), bytes(2)  # length, identification and checksum differ: the rest sums up once
    rest = sum16(ip)
    meta_of_each = FrameMeta(csum_start=start, csum_offset=meta.csum_offset)
    out = []
    header, text = bytearray(frame[start:body]), memoryview(frame)[body:]
    for n, (payload,) in enumerate(split(header, [text], len(text), meta.gso_size)):
        total = body - HEADER_LEN + len(payload)
        number = (ident + n) & _MASK16
        ip[2:4] = total.to_bytes(2, "big")
        ip[4:6] = number.to_bytes(2, "big")
        ip[10:12] = finish(rest + total + number).to_bytes(2, "big")
        out.append((b"".join((link, ip, header, payload)), meta_of_each))
    return out
