"""The scenarios: handshakes, closes and failures of TCP, played on a real wire and checked."""
