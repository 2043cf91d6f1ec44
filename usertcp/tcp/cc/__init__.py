"""Congestion control: how much may be in flight. What to send next is the sender's matter."""
