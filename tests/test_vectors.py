"""The passes over a row in explicit vectors: every length, in place, and nothing beyond the row."""

import numpy as np
import pytest
from numba import njit

from fastloss._drivers.row_vectors import PIECE, largest_entry, multiply, powers_but_one
from fastloss._jit import LOOPS

CALLED = {**LOOPS, "no_cpython_wrapper": False}
LENGTHS = (*range(1, 140), PIECE - 1, PIECE, PIECE + 1, PIECE + 63, 2 * PIECE + 5)
each_dtype = pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("float64", marks=pytest.mark.thorough)]
)
GUARD = 32  # entries on either side of a row, which nothing may touch


@njit(**CALLED)
def apply(x, label, powers, factor):
    """Return the largest entry and the sum of the others' powers; multiply the powers at last."""
    top = largest_entry(x)
    rest = powers_but_one(x, top, None, label, powers)
    multiply(powers, factor)
    return top, rest


@njit(**CALLED)
def tempered_sum(x, label, temperature):
    return powers_but_one(x, largest_entry(x), temperature, label, None)


def guarded(values):
    """Return a copy of a row in the middle of a larger array, and that array."""
    whole = np.full(len(values) + 2 * GUARD, 7, values.dtype)
    row = whole[GUARD:-GUARD]
    row[:] = values
    return row, whole


@each_dtype
@pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in-place"])
def test_passes_over_rows_of_every_length(dtype, in_place, rng):
    kind, epsilon = np.dtype(dtype).type, np.finfo(dtype).eps
    for length in LENGTHS:
        values = (4 * rng.standard_normal(length)).astype(dtype)
        values[rng.integers(length)] = -np.inf
        values[rng.integers(length)] = 9  # an -inf in every row but, perhaps, the shortest
        label = int(rng.integers(length))
        row, whole = guarded(values)
        powers, around = (row, whole) if in_place else guarded(np.zeros(length, dtype))
        top, rest = apply(row, label, powers, kind(0.5))
        assert top == values.max()
        true = np.exp(values.astype(np.longdouble) - values.max())
        np.testing.assert_allclose(powers, true / 2, rtol=16 * epsilon, err_msg=str(length))
        others = np.delete(true, label).sum()
        np.testing.assert_allclose(rest, others, rtol=16 * epsilon, err_msg=str(length))
        for array in (whole, around):
            assert (array[:GUARD] == 7).all()
            assert (array[-GUARD:] == 7).all()
        tempered = np.delete(np.exp((values.astype(np.longdouble) - values.max()) / 3), label)
        found = tempered_sum(values, label, kind(3))
        np.testing.assert_allclose(found, tempered.sum(), rtol=16 * epsilon)


@each_dtype
def test_a_nan_reaches_the_sum_wherever_it_is(dtype, rng):
    """The maximum may lose it, but its own power does not."""
    for length in (3, 20, 33, 100):
        for place in range(length):
            values = rng.standard_normal(length).astype(dtype)
            values[place] = np.nan
            label = (place + 1) % length
            powers = np.empty_like(values)
            _, rest = apply(values, label, powers, np.dtype(dtype).type(1))
            assert np.isnan(rest), (length, place)
            assert np.isnan(powers[place])
