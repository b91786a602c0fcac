"""The target masses of rows, which are 1 where dense targets are distributions."""

import numpy as np
from numba import njit

from fastloss._drivers.common import LANES, inlined, place_of_row
from fastloss._jit import LOOPS
from fastloss._llvm import on_stack, own_function, part_of


@inlined
def masses_of_rows(dense, class_weight, classes, inner, row, stop, masses):
    """Put the target masses of the next rows into `masses`; return how many they are.

    They are up to LANES rows that lie side by side in a class-first array, and are summed class by
    class, or else a single row.
    """
    size = 1 if inner == 1 else min(LANES, stop - row, inner - row % inner)
    place = place_of_row(row, classes, inner)
    for i in range(size):
        masses[i] = 0.0
    for c in range(classes if inner > 1 else 0):
        weight = 1.0 if class_weight is None else np.float64(class_weight[np.uintp(c)])
        column = part_of(dense, place + c * inner, size)
        for i in range(size):
            masses[i] += np.float64(column[i]) * weight
    if inner == 1:
        for c in range(classes):
            weight = 1.0 if class_weight is None else np.float64(class_weight[np.uintp(c)])
            masses[0] += np.float64(dense[np.uintp(place + c)]) * weight
    return size


@inlined
def beyond_1(mass):
    """Return how much a target mass exceeds 1; one that is NaN or inf does not count, as in `scan`.

    Of distributions, sums of this are exact where sums of the masses round: what says that they are
    some must not.
    """
    return (mass if abs(mass) < np.inf else 0.0) - 1.0


@njit(**LOOPS)
def excess_of(dense, classes, inner, start, stop):
    """Return how much the target masses of rows start to stop exceed 1 each, all together."""
    own_function()
    excess = 0.0
    masses, row = on_stack(np.float64, LANES), start
    while row < stop:
        size = masses_of_rows(dense, None, classes, inner, row, stop, masses)
        for i in range(size):
            excess += beyond_1(masses[i])
        row += size
    return excess
