"""What only a core in pure Python can do: have functions replaced, and instructions of the interpreter counted."""

import pytest

from usertcp.cli.version import compiled

pure_only = pytest.mark.skipif(compiled(), reason="needs the core in pure Python")
