"""The two option sets under which everything here is compiled, stated once.

Numba inherits flags that a decorator leaves open from the first caller, a user's code included,
so every decorator states them all. `nnan` and `ninf` are never allowed: NaN and inf are data.
"""

from typing import Any

MATHEMATICS: dict[str, Any] = {"fastmath": {"contract", "nsz"}, "error_model": "numpy"}
"""For formulas: rounding steps stay in the order in which they are written."""

LOOPS: dict[str, Any] = {
    "fastmath": {"contract", "nsz", "arcp", "reassoc"},
    "error_model": "numpy",
    "nogil": True,
}
"""For loops: sums may be split over vector lanes."""

INLINED: dict[str, Any] = {**LOOPS, "forceinline": True}
"""For helpers of loops: always part of the loop that calls them."""
