"""Norms and distances of rows and their gradients, for the losses of embeddings.

Rows of ordinary length and p = 2 are worked on in line. The others go to functions of their own,
whose calls would take as long as a short row does.
"""

import numpy as np
from numba import njit

from fastloss._drivers.common import inlined, quotient
from fastloss._drivers.row_vectors import PIECE
from fastloss._floats import maximum
from fastloss._jit import LOOPS, MATHEMATICS
from fastloss._llvm import on_stack, own_function, part_of
from fastloss._math import exp, log

LARGE, SMALL = 2.0**460, 2.0**-460
"""Squares of numbers beyond may overflow in float64, or vanish."""

MULTIPLIED = 8
"""Exponents up to which whole powers are multiplied out."""

SHRINK, GROW = 2.0**-560, 2.0**760
"""Bring all larger numbers, and all smaller ones, between 2**-314 and 2**463."""


@inlined
def safe_scale(largest):
    """Return a power of 2 which, multiplied by, keeps the squares of a row within float64.

    It is 1 unless the row's largest entry is extreme, and rounds nothing.
    """
    return GROW if largest < SMALL else (SHRINK if largest > LARGE else 1.0)


@inlined
def apart(x, y, d):
    """Return an entry of ``x - y``, or of x if y is None, in float64."""
    if y is None:
        return np.float64(x[d])
    return np.float64(x[d]) - np.float64(y[d])


@inlined
def largest_entry(x, y):
    """Return the largest absolute value of ``x - y``, or of x if y is None; NaN if there is one."""
    largest = 0.0
    for d in range(x.size):
        largest = maximum(largest, abs(apart(x, y, d)))
    return largest


@inlined
def scaled_square(x, y):
    """Return a scale (see `safe_scale`) and ``sum((scale (x - y))**2)``; y may be None.

    The largest entry is looked for only where the plain sum says that squares may be lost.
    """
    total = 0.0
    for d in range(x.size):
        total += apart(x, y, d) ** 2
    if SMALL * SMALL < total < np.inf:
        return 1.0, total
    return rescaled_square(x, y)


@njit(**LOOPS)
def rescaled_square(x, y):
    """Return what `scaled_square` does, of rows that are extreme, or 0, or hold a NaN."""
    own_function()
    scale, total = safe_scale(largest_entry(x, y)), 0.0
    for d in range(x.size):
        total += (apart(x, y, d) * scale) ** 2
    return scale, total


@inlined
def distance(x, y, p):
    """Return ``|x - y|_p`` in float64, without overflow or underflow of the powers."""
    if p == 2:
        scale, total = scaled_square(x, y)
        return np.sqrt(total) / scale
    return distance_of_powers(x, y, p)


@njit(**LOOPS)
def distance_of_powers(x, y, p):
    """Return what `distance` does for a p other than 2."""
    own_function()
    total = 0.0
    if p == 1:
        for d in range(x.size):
            total += abs(apart(x, y, d))
        return total
    largest = largest_entry(x, y)
    if largest == 0.0 or largest == np.inf:
        return largest
    ratios, powers = on_stack(np.float64, PIECE), on_stack(np.float64, PIECE)
    for first in range(0, x.size, PIECE):
        size = min(PIECE, x.size - first)
        x_piece, y_piece = part_of(x, first, size), part_of(y, first, size)
        for d in range(size):
            ratios[d] = abs(apart(x_piece, y_piece, d)) / largest
        raise_to_power(ratios, size, np.float64(p), powers, x)
        for d in range(size):
            total += powers[d]
    return largest * total ** (1.0 / np.float64(p))


@inlined
def raise_to_power(bases, size, exponent, powers, like):
    """Put the powers of float64 numbers >= 0 into `powers`, for results of the type of `like`.

    A small whole exponent is multiplied out. Of others the logarithm's error, times the exponent,
    is far below a float32; for float64 it needs the C library's power, which makes no vectors.
    """
    T = type(like[0])
    if exponent <= MULTIPLIED and exponent == np.floor(exponent):
        for d in range(size):
            powers[d] = bases[d]
        for _ in range(1, int(exponent)):
            for d in range(size):
                powers[d] *= bases[d]
    elif T(1) + T(2.0**-40) == T(1):
        for d in range(size):
            powers[d] = exp(exponent * log(bases[d]))
    else:
        for d in range(size):
            powers[d] = bases[d] ** exponent


@inlined
def write_direction(x, y, p, norm, out):
    """Write the gradient of ``norm = |x - y|_p`` by x; 0 where the norm is 0."""
    if p == 2 and SMALL < norm < LARGE:
        T, inverse = type(x[0]), 1.0 / norm
        for d in range(x.size):
            out[d] = T(apart(x, y, d) * inverse)
    else:
        write_any_direction(x, y, p, norm, out)


@njit(**LOOPS)
def write_any_direction(x, y, p, norm, out):
    """Do what `write_direction` does, for any p and norm."""
    own_function()
    T = type(x[0])
    scale = safe_scale(norm)
    inverse = 1.0 / (norm * scale) if norm != 0.0 else 0.0
    if p == 2:
        for d in range(x.size):
            out[d] = T((apart(x, y, d) * scale) * inverse)
    elif p == 1:
        for d in range(x.size):
            out[d] = T(np.sign(apart(x, y, d)))
    else:
        ratios, powers = on_stack(np.float64, PIECE), on_stack(np.float64, PIECE)
        for first in range(0, x.size, PIECE):
            size = min(PIECE, x.size - first)
            x_piece, y_piece = part_of(x, first, size), part_of(y, first, size)
            piece = part_of(out, first, size)
            for d in range(size):
                ratios[d] = abs((apart(x_piece, y_piece, d) * scale) * inverse)
            raise_to_power(ratios, size, np.float64(p) - 1.0, powers, x)
            for d in range(size):
                piece[d] = T(np.copysign(powers[d], apart(x_piece, y_piece, d)))


@njit(**MATHEMATICS)
def over_norm(x, scale, inverse):
    """Return x divided by a norm, ``1 / (scale inverse)``, whose own inverse may be infinite."""
    return (x * scale) * inverse


# Two functions of rows, as those of the losses are: the kernel of row losses runs them. Their loss,
# which nothing looks at, is 0.


def unit_row(row, unit):
    """Fill `unit` with the row divided by its norm; a row of zeros stays."""
    T = type(row[0])
    scale, square = scaled_square(row, None)
    norm = np.sqrt(square) if square != 0.0 else 1.0
    for d in range(row.size):
        unit[d] = T(quotient(np.float64(row[d]) * scale, norm))  # exactly 1 or -1 in one dimension
    return T(0)


def pulled_row(pull, unit, row, grad, share):
    """Fill `grad` with the gradient by a row, from a multiple of that by its unit vector.

    It is 0 for a row of zeros, and for one on which nothing depends, whatever stands there.
    """
    T = type(row[0])
    scale, square = scaled_square(row, None)
    inverse = 1.0 / np.sqrt(square)
    along, extent = 0.0, 0.0
    for d in range(row.size):
        along += np.float64(pull[d]) * np.float64(unit[d])
        extent += abs(np.float64(pull[d]))
    moves = (square != 0.0) & (extent != 0.0)
    for d in range(row.size):
        across = np.float64(pull[d]) - along * np.float64(unit[d])
        grad[d] = T(over_norm(across * share, scale, inverse)) if moves else T(0)
    return T(0)
