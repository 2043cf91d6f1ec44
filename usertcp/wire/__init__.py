"""Bytes to values and back: headers, options, checksums, captures. Stateless."""
