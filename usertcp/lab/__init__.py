"""The scenarios: TCP's handshakes and closings made to happen on a real wire against the kernel's TCP, and checked."""
