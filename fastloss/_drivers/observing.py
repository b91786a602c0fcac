"""The extra outputs of the cross-entropy, of the rows of a block that is about to be worked on.

Contiguous rows go one by one, in vectors along the classes. Of class-first arrays, rows that lie
side by side go together, class by class.
"""

import numpy as np
from numba import njit

from fastloss._drivers.common import (
    LANES,
    apart,
    class_of_label,
    inlined,
    log_sum_exp,
    place_of_row,
)  # fmt: skip
from fastloss._drivers.row_vectors import largest_entry, multiply, powers_but_one
from fastloss._floats import maximum
from fastloss._jit import LOOPS
from fastloss._llvm import on_stack, own_function, part_of
from fastloss._math import exp_nonpositive

NO_LABEL = -1


@njit(**LOOPS)
def observe(
    source, labels, others, temperature, lse, proba, ignore_index, classes, inner, start, stop
):
    """Write lse and the probabilities of rows start to stop; return how many labels come first.

    A label does if its logit is the row's largest and no earlier class has the same. Rows that
    do not count in the loss are seen here too, but their label is not.
    """
    own_function()
    hits, row = 0, start
    if inner == 1:
        for r in range(start, stop):
            label = label_seen(labels, others, ignore_index, classes, r)
            hits += observe_row(source, label, temperature, lse, proba, classes, r)
        return hits
    while row < stop:
        size = min(LANES, stop - row, inner - row % inner)
        hits += observe_columns(
            source, labels, others, temperature, lse, proba, ignore_index, classes, inner, row, size
        )
        row += size
    return hits


@njit(**LOOPS)
def rows_that_count(labels, others, ignore_index, classes, rows):
    """Return how many rows are not ignored."""
    own_function()
    if labels is None:
        return rows
    count = 0
    for row in range(rows):
        count += 1 if label_seen(labels, others, ignore_index, classes, row) >= 0 else 0
    return count


@inlined
def label_seen(labels, others, ignore_index, classes, row):
    """Return the label of a row, negative if the row is ignored or has none."""
    if labels is None:
        return np.int64(NO_LABEL)
    label = class_of_label(labels[row], ignore_index, classes)
    if others is not None:
        other = class_of_label(others[row], ignore_index, classes)
        label = label if other >= 0 else other
    return label


@inlined
def observe_row(source, label, temperature, lse, proba, classes, row):
    """Do what `observe` does for a single contiguous row."""
    T, x = type(source[0]), part_of(source, row * classes, classes)
    top = largest_entry(x, None)
    if lse is not None or proba is not None:
        p = part_of(proba, row * classes, classes)
        total, _ = powers_but_one(x, top, temperature, None, NO_LABEL, p, None, None)
        if lse is not None:
            lse[row] = T(log_sum_exp(np.float64(top), total, temperature))
        if proba is not None:
            multiply(p, T(1.0 / total))
    if label < 0 or x[np.uintp(label)] != top:
        return 0
    others = 0
    for c in range(classes):  # nor is there a NaN, which `largest_entry` may pass over
        others += 0 if (x[c] < top) | ((x[c] == top) & (c >= label)) else 1
    return 1 if others == 0 else 0


@inlined
def observe_columns(
    source, labels, others, temperature, lse, proba, ignore_index, classes, inner, row, size
):
    """Do what `observe` does for rows that lie side by side."""
    T, place = type(source[0]), place_of_row(row, classes, inner)
    tops, totals = on_stack(T, LANES), on_stack(np.float64, LANES)
    places, firsts = on_stack(np.int32, LANES), on_stack(np.int32, LANES)
    for i in range(size):
        tops[i], totals[i] = T(-np.inf), 0.0
        places[i] = label_seen(labels, others, ignore_index, classes, row + i)
        firsts[i] = classes
    for c in range(classes):
        column = part_of(source, place + c * inner, size)
        for i in range(size):
            tops[i] = maximum(tops[i], column[i])
    if labels is not None:
        for c in range(classes):
            column, y = part_of(source, place + c * inner, size), np.int32(c)
            for i in range(size):
                firsts[i] = y if (column[i] == tops[i]) & (y < firsts[i]) else firsts[i]
    if lse is not None or proba is not None:
        for c in range(classes):
            column = part_of(source, place + c * inner, size)
            p = part_of(proba, place + c * inner, size)
            for i in range(size):
                e = exp_nonpositive(apart(column[i], tops[i], temperature))
                totals[i] += np.float64(e)
                if proba is not None:
                    p[i] = e
        if lse is not None:
            for i in range(size):
                lse[row + i] = T(log_sum_exp(np.float64(tops[i]), totals[i], temperature))
        if proba is not None:
            for i in range(size):
                totals[i] = 1.0 / totals[i]
            for c in range(classes):
                p = part_of(proba, place + c * inner, size)
                for i in range(size):
                    p[i] *= T(totals[i])
    hits = 0
    for i in range(size):
        hits += 1 if places[i] >= 0 and firsts[i] == places[i] else 0
    return hits
