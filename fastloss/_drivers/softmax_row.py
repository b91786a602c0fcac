"""What the rowwise losses with a margin share: the rivals of a label, and their cross-entropy."""

import numpy as np
from numba import njit

from fastloss._drivers.common import inlined
from fastloss._drivers.row_vectors import PIECE, largest_entry, multiply, powers_but_one
from fastloss._floats import maximum
from fastloss._jit import MATHEMATICS
from fastloss._llvm import part_of
from fastloss._math import exp_nonpositive, log, log1p


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


@inlined
def rival_cross_entropy(x, label, own, slope, scale, grad):
    """Return the softmax cross-entropy of ``scale * x``, `own` standing in the label's place.

    `own` is a float64, which spares the loss its rounding (times `scale`), and `slope` is its
    derivative by ``x[label]``. Each class is exponentiated once, relative to the largest rival; one
    more exponential relates them all to the label, so neither loss nor gradient subtracts a
    probability from 1.
    """
    T = type(x[0])
    place = np.intp(label)
    top = largest_entry(x, place)
    shift = top if top != T(-np.inf) else T(0)  # all rivals masked, or none there
    rest = powers_but_one(x, shift, None, scale, place, grad)
    gap = np.float64(scale) * (own - np.float64(top))
    ahead = gap >= 0.0
    decay = np.float64(exp_nonpositive(T(-abs(gap))))
    rest *= decay if ahead else 1.0
    total = rest + (1.0 if ahead else decay)
    if grad is not None:
        factor = T(np.float64(scale) * (decay if ahead else 1.0) / total)
        multiply(grad, factor)
        grad[place] = T(-np.float64(scale) * slope * (rest / total))
    return log1p(T(rest)) if ahead else T(-gap) + log(T(total))
