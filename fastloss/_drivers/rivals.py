"""What the losses with a margin share: the rivals of a label, and how far they lead."""

import numpy as np
from numba import njit

from fastloss._drivers.common import inlined
from fastloss._drivers.row_vectors import at_label
from fastloss._jit import MATHEMATICS
from fastloss._vector_memory import load_some
from fastloss._vectors import choose, lanes_of, larger, largest_lane, sum_of_lanes, zeros


@njit(**MATHEMATICS)
def lead(rival, own, margin):
    """Return ``margin + (rival - own)``: in this order, which is exact to rounding at any shift."""
    return margin + (rival - own)


@inlined
def rivals(x, i, label):
    """Return the entries of a row from i on as a vector, -inf at the label and beyond the row."""
    nothing = -type(x[0])(np.inf)
    here = load_some(x, i, 1, x.size - i, nothing)
    return choose(at_label(label, i, here), nothing, here)


@inlined
def largest_rival(x, label):
    """Return the largest entry of the classes that are not the label, NaN if there is one."""
    top, lost = zeros(x) - type(x[0])(np.inf), zeros(x)
    for i in range(0, x.size, lanes_of(x)):
        here = rivals(x, i, label)
        top, lost = larger(top, here), choose(here == here, lost, here)
    return largest_lane(top) + sum_of_lanes(lost)
