"""The passes over a row in explicit vectors: every length, in place, and nothing beyond the row."""

import os
import subprocess
import sys

import numpy as np
import pytest
from numba import njit

from fastloss._drivers.common import LANES
from fastloss._drivers.row_vectors import (
    PIECE,
    at_label,
    entry_at,
    largest_entry,
    multiply,
    powers_but_one,
    put_at,
    row_top,
)
from fastloss._jit import LOOPS
from fastloss._llvm import part_of
from fastloss._math import log
from fastloss._vector_memory import columns_of, load_some, store, store_some
from fastloss._vectors import (
    choose,
    first_lane,
    how_many,
    in_row,
    lanes_of,
    narrowed,
    sum_of_lanes,
    widened,
    zeros,
)

CALLED = {**LOOPS, "no_cpython_wrapper": False}
LENGTHS = (*range(1, 140), PIECE - 1, PIECE, PIECE + 1, PIECE + 63, 2 * PIECE + 5)
each_dtype = pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("float64", marks=pytest.mark.thorough)]
)
GUARD = 32  # entries on either side of a row, which nothing may touch


@njit(**CALLED)
def apply(x, label, powers, factor, following, missing):
    """Return the largest entry, the others' powers' sum, and the largest but one that follows.

    At last multiply the powers.
    """
    top = largest_entry(x, None)
    rest, ahead = powers_but_one(x, top, None, None, label, powers, following, missing)
    multiply(powers, factor)
    return top, rest, ahead


@njit(**CALLED)
def tempered_sum(x, label, temperature):
    rest, _ = powers_but_one(x, largest_entry(x, None), temperature, None, label, None, None, None)
    return rest


@njit(**CALLED)
def logarithms(x, out):
    """Write log(x) of positive numbers, and count them; 7 of others. In two registers at a time."""
    T, count = type(x[0]), 0
    for i in range(0, x.size, 2 * lanes_of(x)):
        here = load_some(x, i, 2, x.size - i, T(np.nan))
        store_some(out, i, choose(here > T(0), log(here), T(7)), x.size - i)
        count += how_many(here > T(0))
    return count


@njit(**CALLED)
def plain_logarithms(x, out):
    for i in range(0, x.size, lanes_of(x)):
        store_some(out, i, log(load_some(x, i, 1, x.size - i, type(x[0])(1))), x.size - i)


@njit(**CALLED)
def sum_filled_up(x, filling):
    """Return the sum of a row's last register, filled up with a number of another type."""
    first = (x.size - 1) // 16 * 16
    return sum_of_lanes(load_some(x, first, 1, x.size - first, filling))


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
        following = rng.standard_normal(length).astype(dtype)
        missing = following.argmax()
        top, rest, ahead = apply(row, label, powers, kind(0.5), following, missing)
        assert top == values.max()
        assert ahead == np.delete(following, missing).max(initial=-np.inf)
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


def test_passes_over_rows_without_mask_registers(tmp_path):
    """What is generated depends on whether the CPU has them: here for one that has nothing."""
    environment = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    passes = f"{__file__}::test_passes_over_rows_of_every_length"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "float32", passes],
        env=os.environ | environment | {"NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@each_dtype
def test_a_nan_reaches_the_sum_wherever_it_is(dtype, rng):
    """The maximum may lose it, but its own power does not."""
    for length in (3, 20, 33, 100):
        for place in range(length):
            values = rng.standard_normal(length).astype(dtype)
            values[place] = np.nan
            label = (place + 1) % length
            powers = np.empty_like(values)
            _, rest, _ = apply(values, label, powers, np.dtype(dtype).type(1), values, -1)
            assert np.isnan(rest), (length, place)
            assert np.isnan(powers[place])


@each_dtype
def test_functions_and_choices_lane_by_lane(dtype, rng):
    """Those of vectors are those of numbers, and a vector cut short writes no further."""
    for length in LENGTHS:
        values = np.exp2(rng.uniform(-140, 127, length)).astype(dtype)
        values[rng.integers(length)] = -1
        values[rng.integers(length)] = np.inf
        row, around_row = guarded(values)
        out, around = guarded(np.zeros(length, dtype))
        assert logarithms(row, out) == (values > 0).sum()
        with np.errstate(invalid="ignore"):
            expected = [log(x) if x > 0 else 7 for x in values]
        np.testing.assert_array_equal(out, np.array(expected, dtype))
        for array in (around_row, around):
            assert (array[:GUARD] == 7).all()
            assert (array[-GUARD:] == 7).all()


@pytest.mark.parametrize("kind", ["?", "i1", "u8", "f4"])
def test_what_a_row_does_not_have_is_filled_in_whatever_its_type(kind):
    for size in range(17, 33):
        row, _ = guarded(np.ones(size, kind))
        here = size - 16
        assert sum_filled_up(row, np.float32(5)) == here + 5 * (16 - here)


@each_dtype
def test_logarithms_of_lanes_that_are_none_of_normal_numbers(dtype, rng):
    """One of them in a register makes it go the long way; the others' bits stay the same."""
    info = np.finfo(dtype)
    tiny, least = info.smallest_subnormal, info.smallest_normal
    odd = [0.0, -0.0, tiny, least - tiny, -tiny, -1.0, np.inf, -np.inf, np.nan, info.max, least]
    x = rng.uniform(0, 2, 64 * len(odd)).astype(dtype)
    ordinary = np.empty_like(x)
    plain_logarithms(x, ordinary)
    mixed, out = x.copy(), np.empty_like(x)
    mixed[::64] = odd
    plain_logarithms(mixed, out)
    with np.errstate(divide="ignore", invalid="ignore"):
        true = np.log(mixed.astype(np.longdouble))
    np.testing.assert_allclose(out, true, rtol=2 * info.eps)
    changed = np.arange(x.size) % 64 == 0
    np.testing.assert_array_equal(out[~changed], ordinary[~changed])


@njit(**CALLED)
def quantities(x, label, out):
    """Return top, label's entry, sum, and number of entries; mark the first positive in `out`."""
    T, total, number = type(x[0]), widened(zeros(x)), zeros(x)
    found = row_top(x) < row_top(x)  # none is found yet
    for i in range(0, x.size, lanes_of(x)):
        here = load_some(x, i, 1, x.size - i, T(0))
        total = total + widened(here)
        number = number + choose(in_row(here, x.size - i), T(1), T(0))
        first, found = first_lane(here > T(0), found)
        mark = choose(at_label(label, i, here), T(5), T(0))
        store_some(out, i, mark + choose(first, T(1), T(0)), x.size - i)
    put_at(out, label, entry_at(out, label) + T(2))
    return row_top(x), entry_at(x, label), narrowed(sum_of_lanes(total), T), sum_of_lanes(number)


@njit(**CALLED)
def quantities_of_columns(tile, labels, out, found):
    """Store the same of each of a tile's rows, which lie side by side, in the lines of `found`."""
    classes, lanes = tile.size // LANES, lanes_of(tile)
    for r in range(0, LANES, lanes):
        columns = columns_of(tile, r, LANES, classes)
        marks = columns_of(out, r, LANES, classes)
        results = quantities(columns, part_of(labels, r, lanes), marks)
        for k, result in enumerate(results):
            store(found, k * LANES + r, result)


@each_dtype
def test_columns_are_rows_side_by_side(dtype, rng):
    """A function of a row in vectors does the same with as many rows as a register has lanes."""
    for classes in (1, 2, 17, 32):
        rows = rng.standard_normal((LANES, classes)).astype(dtype)
        rows[::9] = -1  # without a positive entry
        labels = rng.integers(0, classes, LANES)
        marks = np.zeros_like(rows)
        expected = np.array(
            [quantities(x, label, m) for x, label, m in zip(rows, labels, marks, strict=True)]
        )
        first = (rows > 0) & (np.cumsum(rows > 0, axis=1) == 1)
        np.testing.assert_array_equal(marks, first + 7 * (labels[:, None] == np.arange(classes)))
        np.testing.assert_array_equal(expected[:, 0], rows.max(axis=1))
        np.testing.assert_array_equal(expected[:, 1], rows[np.arange(LANES), labels])
        np.testing.assert_array_equal(expected[:, 3], classes)
        tile, out = rows.T.ravel(), np.zeros(rows.size, dtype)
        found = np.zeros(4 * LANES, dtype)
        quantities_of_columns(tile, labels.astype(np.int32), out, found)
        np.testing.assert_array_equal(out.reshape(classes, LANES).T, marks)
        np.testing.assert_allclose(found.reshape(4, LANES).T, expected, rtol=1e-6, atol=1e-6)
