"""What the core says to its compiler (mypyc, ``make hot``) beyond its types; without one it means nothing.

By itself a compiled class can be inherited by compiled ones only. What users may derive their own from says so here.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr  # the name that the compiler knows
else:

    def mypyc_attr(**_: Any) -> Any:
        """A decorator of classes. ``allow_interpreted_subclasses``: the class is compiled, and users may inherit from
        it; ``native_class=False``: it stays a class of Python, for a protocol that users may name as a base."""
        return lambda kind: kind
