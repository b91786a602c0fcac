"""The options under which everything here is compiled, stated once.

Numba inherits flags that a decorator leaves open from the first caller, a user's code included,
so every decorator states them all. `nnan` and `ninf` are never allowed: NaN and inf are data.
"""

from typing import Any

_INTERNAL = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""No wrapper for calls from Python or C: only drivers are called from outside."""

MATHEMATICS: dict[str, Any] = {
    **_INTERNAL,
    "fastmath": {"contract", "nsz"},
    "forceinline": True,
}
"""For formulas: rounding steps stay in the order in which they are written."""

ROUNDED: dict[str, Any] = {**MATHEMATICS, "fastmath": {"nsz"}}
"""For a product that must fuse with no sum, in one kernel as in another."""

CALLABLE: dict[str, Any] = {**MATHEMATICS, "no_cpython_wrapper": False, "forceinline": False}
"""For a formula that plain Python calls."""

POINTS: dict[str, Any] = {**MATHEMATICS, "no_cpython_wrapper": False}
"""For a formula that becomes part of a user's loop, and that plain Python calls too."""

LOOPS: dict[str, Any] = {
    **_INTERNAL,
    "fastmath": {"contract", "nsz", "arcp", "reassoc"},
    "nogil": True,
    "forceinline": False,
}
"""For loops: sums may be split over vector lanes."""

INLINED: dict[str, Any] = {**LOOPS, "forceinline": True}
"""For helpers of loops: always part of the loop that calls them."""

DRIVER: dict[str, Any] = {**LOOPS, "fastmath": False, "no_cpython_wrapper": False}
"""For what Python calls: what little it computes is exact, the same in every driver of a block."""
