"""Norms and distances of rows and their gradients, for the losses of embeddings."""

import numpy as np
from numba import njit

from fastloss._drivers.common import inlined
from fastloss._jit import LOOPS
from fastloss._llvm import own_function
from fastloss._math import maximum

LARGE, SMALL = 2.0**460, 2.0**-460
"""Squares of numbers beyond may overflow in float64, or vanish."""

SHRINK, GROW = 2.0**-560, 2.0**760
"""Bring all larger numbers, and all smaller ones, between 2**-314 and 2**463."""


@inlined
def safe_scale(largest):
    """Return a power of 2 which, multiplied by, keeps the squares of a row within float64.

    It is 1 unless the row's largest entry is extreme, and rounds nothing.
    """
    return GROW if largest < SMALL else (SHRINK if largest > LARGE else 1.0)


@inlined
def largest_entry(x):
    """Return the largest absolute value of a row, in float64; NaN if there is one."""
    largest = 0.0
    for d in range(x.size):
        largest = maximum(largest, abs(np.float64(x[d])))
    return largest


@njit(**LOOPS)
def distance(x, y, p):
    """Return ``|x - y|_p`` in float64, without overflow or underflow of the powers."""
    own_function()
    if p == 1:
        total = 0.0
        for d in range(x.size):
            total += abs(np.float64(x[d]) - np.float64(y[d]))
        return total
    largest = 0.0
    for d in range(x.size):
        largest = maximum(largest, abs(np.float64(x[d]) - np.float64(y[d])))
    if largest == np.inf:
        return largest
    total = 0.0
    if p == 2:
        scale = safe_scale(largest)
        for d in range(x.size):
            total += ((np.float64(x[d]) - np.float64(y[d])) * scale) ** 2
        return np.sqrt(total) / scale
    if largest == 0.0:
        return largest
    for d in range(x.size):
        total += (abs(np.float64(x[d]) - np.float64(y[d])) / largest) ** np.float64(p)
    return largest * total ** (1.0 / np.float64(p))


@njit(**LOOPS)
def write_direction(x, y, p, norm, out):
    """Write the gradient of ``norm = |x - y|_p`` by x; 0 where the norm is 0."""
    own_function()
    T = type(x[0])
    scale = safe_scale(norm)
    inverse = 1.0 / (norm * scale) if norm != 0.0 else 0.0
    if p == 2:
        for d in range(x.size):
            out[d] = T(((np.float64(x[d]) - np.float64(y[d])) * scale) * inverse)
    elif p == 1:
        for d in range(x.size):
            out[d] = T(np.sign(np.float64(x[d]) - np.float64(y[d])))
    else:
        for d in range(x.size):
            r = (np.float64(x[d]) - np.float64(y[d])) * scale
            out[d] = T(np.sign(r) * abs(r * inverse) ** (np.float64(p) - 1.0))
