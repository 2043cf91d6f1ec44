"""The protocol: states, buffers, timers, congestion control. Knows nothing of IP, links or sockets, and does no I/O."""
