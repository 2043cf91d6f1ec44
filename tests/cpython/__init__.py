"""The network tests of CPython itself, on usertcp.socket; ``make cpython`` runs them."""
