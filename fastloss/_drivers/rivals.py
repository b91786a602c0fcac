"""What the losses with a margin share: the rivals of a label, and how far they lead."""

import numpy as np
from numba import njit

from fastloss._drivers.common import inlined
from fastloss._drivers.row_vectors import PIECE
from fastloss._floats import maximum
from fastloss._jit import MATHEMATICS
from fastloss._llvm import part_of


@njit(**MATHEMATICS)
def lead(rival, own, margin):
    """Return ``margin + (rival - own)``: in this order, which is exact to rounding at any shift."""
    return margin + (rival - own)


@inlined
def largest_rival(x, label):
    """Return the largest entry of the classes that are not the label, NaN if there is one."""
    T = type(x[0])
    top = T(-np.inf)
    for first in range(0, x.size, PIECE):
        piece = part_of(x, first, min(PIECE, x.size - first))
        own = np.int32(np.intp(label) - first)  # 32 bits, as many to a vector as there are entries
        for c in range(piece.size):
            top = maximum(top, piece[c] if np.int32(c) != own else T(-np.inf))
    return top


@inlined
def first_rival(x, value, label):
    """Return the first class, the label apart, whose entry is `value`; x.size if there is none."""
    own, first = np.intp(label), x.size
    for c in range(x.size):
        first = min(first, c if (x[c] == value) & (c != own) else x.size)
    return first
