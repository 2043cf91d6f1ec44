"""Proportional Rate Reduction: how a window comes down to ``ssthresh`` while losses are mended (RFC 9937, RFC 6937).

A window that is cut at once stops the flow of ACKs for half a round trip; one that is kept sends too much. So in
recovery each ACK allows a share of what it delivers, such that the reduction is complete when the recovery ends::

      pipe >  ssthresh     sent so far = delivered so far * ssthresh / RecoverFS             proportional
      pipe <= ssthresh     no more than was delivered (conservative reduction bound), or, while the repair goes well
                           ("safe ACK"), a segment more each ACK, up to ssthresh (slow start reduction bound)

It counts; what is sent, retransmissions first, is the sender's.
"""


class Prr:
    """RFC 9937 §5: ``delivered`` and ``out`` are prr_delivered and prr_out, ``recover_fs`` RecoverFS, bytes."""

    __slots__ = ("delivered", "out", "recover_fs")

    def __init__(self) -> None:
        self.delivered = self.out = 0
        self.recover_fs = 1

    def begin(self, recover_fs: int) -> None:
        """A reduction begins with ``recover_fs`` bytes outstanding of which no delivery is known yet (RFC 9937
        §6.1)."""
        self.delivered = self.out = 0
        self.recover_fs = max(recover_fs, 1)

    def on_ack(self, delivered: int, pipe: int, ssthresh: int, mss: int, *, safe: bool, repair: bool) -> int:
        """The congestion window after an ACK that delivers ``delivered`` bytes (RFC 9937 §6.2).

        ``pipe`` bytes are in the network; ``safe``: SND.UNA advanced and nothing further was found lost; ``repair``:
        something waits to be sent again.
        """
        self.delivered += delivered
        if pipe > ssthresh:
            count = -(-self.delivered * ssthresh // self.recover_fs) - self.out
        else:
            count = max(self.delivered - self.out, delivered)
            if safe:
                count += mss
            count = min(ssthresh - pipe, count)
        if repair and self.out == 0 and count <= 0:  # the fast retransmit goes whatever the bound says
            count = mss
        return pipe + max(count, 0)
