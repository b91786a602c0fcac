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


@njit(**LOOPS)
def excess_of(dense, classes, inner, start, stop):
    """Return how much the target masses of rows start to stop exceed 1 each, all together.

    A row whose mass is NaN or inf does not count, like in the driver's `scan_mixed`. Of
    distributions this is exact, where the sum of so many masses is not: what says that they are
    some must not round.
    """
    own_function()
    excess = 0.0
    masses, row = on_stack(np.float64, LANES), start
    while row < stop:
        size = masses_of_rows(dense, None, classes, inner, row, stop, masses)
        for i in range(size):
            excess += (masses[i] if abs(masses[i]) < np.inf else 0.0) - 1.0
        row += size
    return excess
