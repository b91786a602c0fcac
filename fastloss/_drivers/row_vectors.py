"""The passes over one row of classes, in explicit vectors (`_vectors`).

Four registers at a time, as long as there are so many, then one; the last one overlaps what is done
already where the classes do not fill it. It is loaded first, as results may take the place of what
they are computed from.
"""

import numpy as np
from numba import types
from numba.extending import overload

from fastloss._drivers.common import apart, inlined
from fastloss._jit import INLINED
from fastloss._math import exp_nonpositive
from fastloss._vector_memory import (
    lanes_with,
    load,
    load_like,
    load_short,
    load_some,
    store,
    store_short,
    store_some,
)  # fmt: skip
from fastloss._vectors import (
    Columns,
    add_lanes,
    choose,
    is_lane,
    lanes_of,
    larger,
    largest_lane,
    largest_register,
    spread,
    sum_of_lanes,
    sum_of_registers,
    widened,
    with_lane,
    zeros,
)

PIECE = 512
"""Entries summed in the array's own precision before the sum moves on to float64."""


@inlined
def without_entry(vector, missing, first):
    """Return a vector of the entries from `first` on, the one `missing` replaced by -inf."""
    if missing is None:
        return vector
    return with_lane(vector, missing - first, -np.inf)


@inlined
def largest_entry(x, missing):
    """Return the largest entry of a row, the one `missing` left out unless that is None.

    If there is a NaN, the result is NaN or any entry: such a row is lost anyway, by the power of
    its NaN, which is NaN. (A maximum that passes NaN on takes three instructions instead of one.)
    """
    T, lanes = type(x[0]), lanes_of(x)
    if x.size < lanes:
        return largest_lane(without_entry(load_short(x, T(-np.inf)), missing, 0))
    one, i = without_entry(load(x, 0, 1), missing, 0), lanes
    if x.size >= 4 * lanes:
        four, i = without_entry(load(x, 0, 4), missing, 0), 4 * lanes
        while i <= x.size - 4 * lanes:
            four = larger(four, without_entry(load(x, i, 4), missing, i))
            i += 4 * lanes
        one = largest_register(four)
    while i < x.size - lanes:
        one = larger(one, without_entry(load(x, i, 1), missing, i))
        i += lanes
    i = x.size - lanes
    return largest_lane(larger(one, without_entry(load(x, i, 1), missing, i)))


def row_top(row):
    """Return the largest entry of a row; see `largest_entry`. Of columns, that of each of them."""


@overload(row_top, jit_options=INLINED)
def _row_top(row):
    if not isinstance(row, Columns):
        return lambda row: largest_entry(row, None)

    def largest_of_columns(row):
        top = load_some(row, 0, 1, 1, row[0])
        for i in range(1, row.size):
            top = larger(top, load_some(row, i, 1, 1, row[0]))
        return top

    return largest_of_columns


def registers_of(row, count):
    """Return zeros that fill so many registers (a literal) with entries of a row; None of columns.

    Columns fill registers one by one.
    """


@overload(registers_of, jit_options=INLINED, prefer_literal=True)
def _registers_of(row, count):
    if isinstance(row, Columns):
        return lambda row, count: None
    return lambda row, count: spread(type(row[0])(0), count)


def at_label(label, i, like):
    """Return for which lanes of a vector, of the entries of a row from i on, that is the label."""


@overload(at_label, jit_options=INLINED)
def _at_label(label, i, like):
    if isinstance(label, types.Array):  # of columns
        return lambda label, i, like: lanes_with(label, 0, i, like)
    return lambda label, i, like: is_lane(like, np.int64(label) - i)


def entry_at(row, label):
    """Return the entry of a row at its label; of columns, that of each of them."""


@overload(entry_at, jit_options=INLINED)
def _entry_at(row, label):
    if not isinstance(row, Columns):
        return lambda row, label: row[np.uintp(label)]

    def entries_at(row, label):
        entries = zeros(row)
        for c in range(row.size):
            here = load_some(row, c, 1, 1, row[0])
            entries = choose(at_label(label, c, here), here, entries)
        return entries

    return entries_at


def put_at(row, label, x):
    """Write the entry of a row at its label; of columns, that of each of them. None is let be."""


@overload(put_at, jit_options=INLINED)
def _put_at(row, label, x):
    if isinstance(row, types.NoneType):
        return lambda row, label, x: None

    def put(row, label, x):
        row[np.uintp(label)] = x

    def put_in_columns(row, label, x):
        for c in range(row.size):
            here = load_some(row, c, 1, 1, row[0])
            store_some(row, c, choose(at_label(label, c, here), x, here), 1)

    return put_in_columns if isinstance(row, Columns) else put


@inlined
def power_of(x, top, temperature, scale):
    """Return ``exp((x - top) / temperature)`` or ``exp(scale (x - top))``, one of them None."""
    below = apart(x, top, temperature)
    if scale is not None:
        below = scale * below
    return exp_nonpositive(below)


@inlined
def raised(largest, following, missing, i):
    """Return the larger numbers of a vector and of the entries of a row from i on, if it is one."""
    if following is None:
        return largest
    return larger(largest, without_entry(load_like(following, i, largest), missing, i))


@inlined
def powers_but_one(x, top, temperature, scale, label, powers, following, missing):
    """Return the sum of the powers (see `power_of`) in float64, the label's left out.

    All of them, the label's too, are stored in `powers`, which may be x, unless that is None. The
    second result is the `largest_entry` of the row that follows, the one `missing` left out (and
    nothing to look at where that row is None). The units for products are what exponentials wait
    for, so that it is found at next to no cost; and meanwhile that row comes into the cache.
    """
    T = type(x[0])
    lanes = lanes_of(x)
    if x.size < lanes:
        e = power_of(load_short(x, T(-np.inf)), top, temperature, scale)
        if powers is not None:
            store_short(powers, e)
        rest = np.float64(sum_of_lanes(add_lanes(spread(T(0), 1), e, 0, label)))
        return rest, top if following is None else largest_entry(following, missing)
    end, rest, i = load(x, x.size - lanes, 1), widened(spread(T(0), 1)), 0
    largest, largest_four = spread(T(-np.inf), 1), spread(T(-np.inf), 4)
    for first in range(0, x.size, PIECE):
        last = min(first + PIECE, x.size)
        four = spread(T(0), 4)
        while i <= last - 4 * lanes:
            e = power_of(load(x, i, 4), top, temperature, scale)
            if powers is not None:
                store(powers, i, e)
            four = add_lanes(four, e, 0, label - i)
            largest_four = raised(largest_four, following, missing, i)
            i += 4 * lanes
        one = sum_of_registers(four)
        while i < last:
            start, vector = x.size - lanes, end
            if i <= start:
                start, vector = i, load(x, i, 1)
            e = power_of(vector, top, temperature, scale)
            if powers is not None:
                store(powers, start, e)
            one = add_lanes(one, e, i - start, label - start)
            largest = raised(largest, following, missing, start)
            i += lanes
        rest = rest + widened(one)
    return sum_of_lanes(rest), largest_lane(larger(largest, largest_register(largest_four)))


@inlined
def multiply(g, factor):
    """Multiply a row by a factor in place."""
    lanes = lanes_of(g)
    if g.size < lanes:
        store_short(g, load_short(g, factor) * factor)
        return
    end, i = load(g, g.size - lanes, 1) * factor, 0
    while i < g.size - lanes:
        store(g, i, load(g, i, 1) * factor)
        i += lanes
    store(g, g.size - lanes, end)
