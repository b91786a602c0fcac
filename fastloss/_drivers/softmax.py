"""The driver of the softmax family: labels checked, divisor found, blocks run in any order."""

from typing import Any

import numpy as np
from numba import njit, prange

from fastloss._drivers.common import (
    LANES,
    OUTSIDE,
    PART,
    ROW_ENTRIES,
    TILE_CLASSES,
    arguments_of,
    class_of_label,
    fits,
    in_order,
    inlined,
    settled,
    two_sum,
    weight_of_mix,
    weight_of_row,
)  # fmt: skip
from fastloss._drivers.masses import masses_of_rows
from fastloss._drivers.observing import observe, rows_that_count
from fastloss._jit import LOOPS
from fastloss._llvm import (
    OVERLAP,
    either,
    flattened,
    on_stack,
    overlaps,
    own_function,
    parallel_part,
    part_of,
    shape_differs,
)

block: Any = None  # bound by the engine, like the others here
driver: Any = None
options: Any = None
curved: Any = None
limit: Any = None
fewest: Any = None
most: Any = None

BLOCK = 4096
"""Entries per block at least, those that rows count for among them.

A block is the unit of parallel work and of the ordered sum.
"""

PLENTY = 32
"""Blocks that keep many threads busy: batches of more have blocks of up to four times the size."""

NEARLY = 2.0**-10
"""How far the total weight may be from the number of rows for the gradient to be multiplied."""

MAX_BLOCKS = 1024
"""Larger batches get larger blocks, so that the partial sums stay within 8 KB."""

SCANNED_SERIALLY = 4096
"""Labels that are checked sooner than a parallel region is opened."""

TABLE = 3 * MAX_BLOCKS
"""Numbers of the blocks' table: a sum, a row and a count of each."""


@inlined
def rows_of_block(rows, classes):
    """Return the rows of a block, which depend on the batch alone, not on the threads."""
    row = classes + ROW_ENTRIES
    entries = rows * row // PLENTY
    entries = entries if entries > BLOCK else BLOCK
    entries = entries if entries < 4 * BLOCK else 4 * BLOCK
    step, least = entries // row, rows // MAX_BLOCKS + 1
    return step if step > least else least


@njit(**LOOPS)
def scan_mixed(
    labels, dense, others, mix, sample_weight, class_weight, ignore_index, classes, inner, start,
    stop,
):  # fmt: skip
    """Return the total weight of rows start to stop and the first row with a label outside.

    That row is -1 if there is none. The weight is the mean's: sample weight times target mass. A
    row whose own is NaN or inf keeps that to itself, as its loss will show it. (np.isfinite would
    not see it: Numba writes it as a difference, which LLVM folds to 0 under `reassoc`.)
    """
    own_function()
    mass, lost = 0.0, 0.0
    outside = -1
    if labels is not None:
        strangers = 0
        for first in range(start, stop, PART):
            here = part_of(labels, first, min(PART, stop - first))
            others_here = part_of(others, first, here.size)
            weights = part_of(sample_weight, first, here.size)
            part = 0.0
            for i in range(here.size):
                label = class_of_label(here[i], ignore_index, classes)
                strangers += 1 if label == OUTSIDE else 0
                if mix is None:
                    weight = weight_of_row(weights, class_weight, label, i) if label >= 0 else 0.0
                else:
                    other = class_of_label(others_here[i], ignore_index, classes)
                    strangers += 1 if other == OUTSIDE else 0
                    weight = 0.0
                    if label >= 0 and other >= 0:
                        weight = weight_of_row(weights, None, label, i)
                        weight *= weight_of_mix(class_weight, label, other, mix)
                part += weight if abs(weight) < np.inf else 0.0
            mass, lost = two_sum(mass, lost, part)
        if strangers:
            here = part_of(labels, start, stop - start)
            others_here = part_of(others, start, stop - start)
            for i in range(here.size):
                if outside < 0 and class_of_label(here[i], ignore_index, classes) == OUTSIDE:
                    outside = start + i
                if others is not None:
                    other = class_of_label(others_here[i], ignore_index, classes)
                    if outside < 0 and other == OUTSIDE:
                        outside = start + i
    if dense is not None:
        masses, row = on_stack(np.float64, LANES), start
        while row < stop:
            size = masses_of_rows(dense, class_weight, classes, inner, row, stop, masses)
            for i in range(size):
                weight = weight_of_row(sample_weight, None, 0, row + i)
                row_mass = masses[i] * weight if weight != 0.0 else 0.0
                row_mass = row_mass if abs(row_mass) < np.inf else 0.0
                mass, lost = two_sum(mass, lost, row_mass)
            row += size
    return settled(mass, lost), outside


@njit(**LOOPS)
def rescale(array, factor, first, stop):
    """Multiply a part of an array by a float64."""
    own_function()
    T = type(array[0])
    here = part_of(array, first, stop - first)
    for i in range(here.size):
        here[i] = T(np.float64(here[i]) * factor)


@inlined
def scan(labels, dense, sample_weight, class_weight, ignore_index, classes, inner, start, stop):
    """Do what `scan_mixed` does for labels that are not mixed."""
    return scan_mixed(
        labels, dense, None, None, sample_weight, class_weight, ignore_index, classes, inner,
        start, stop,
    )  # fmt: skip


def softmax_driver(
    logits, labels, dense, grad, hess, losses, sample_weight, class_weight, upstream, smoothing,
    clip, accumulate, options, curved, temperature, z_loss, others, mix, lse, proba, correct, valid,
    ignore_index, rows, classes, inner, divisor, scale,
):  # fmt: skip
    """Check the labels, find the divisor, run the blocks, combine their sums in order.

    A `divisor` of NaN asks for the mean's own, the total weight. Returns the reduced value and a
    status: -1 for success, the first row whose label is outside, or OVERLAP (nothing is written in
    both cases). The extra outputs of a block (numbers that are counted go to the only entry of
    `correct` and `valid`) are taken before its rows are worked on: their logits may be where the
    gradient goes.

    The rows of dense targets are nearly always distributions, so where nothing else is weighed the
    total weight is assumed to be the number of rows. Whether it is shows while the targets are in
    the cache for their loss. A gradient that is off by roundings of the targets is multiplied at
    last; otherwise all is done again, with the weight summed first. (Nothing is assumed where the
    gradient is added to, or takes the place of the logits: that cannot be done twice.)
    """
    if overlaps(grad, logits) or overlaps(grad, labels) or overlaps(grad, dense):
        return np.nan, OVERLAP
    step = rows_of_block(rows, classes)
    step = (step + LANES - 1) // LANES * LANES if classes <= TILE_CLASSES or inner > 1 else step
    blocks = (rows + step - 1) // step
    table = on_stack(np.float64, TABLE)
    sums, outside = part_of(table, 0, blocks), part_of(table, MAX_BLOCKS, blocks)
    excess = outside  # the same memory: what is outside has been looked at by then
    hits = part_of(table, 2 * MAX_BLOCKS, blocks)
    assumed = labels is None and sample_weight is None and class_weight is None
    assumed = assumed and logits is not None and accumulate is None and np.isnan(divisor)
    while True:
        if assumed:
            divisor = np.float64(rows)
        elif labels is not None or np.isnan(divisor):
            if labels is not None and rows <= SCANNED_SERIALLY:
                for b in range(blocks):
                    sums[b], outside[b] = scan_mixed(
                        labels, dense, others, mix, sample_weight, class_weight, ignore_index,
                        classes, inner, b * step, min(rows, (b + 1) * step),
                    )  # fmt: skip
            else:
                for b in prange(blocks):
                    parallel_part()
                    sums[b], outside[b] = scan_mixed(
                        labels, dense, others, mix, sample_weight, class_weight, ignore_index,
                        classes, inner, b * step, min(rows, (b + 1) * step),
                    )  # fmt: skip
            for b in range(blocks):
                if outside[b] >= 0:
                    return np.nan, np.int64(outside[b])
            if np.isnan(divisor):
                divisor = in_order(sums)
        if valid is not None:
            valid[0] = rows_that_count(labels, others, ignore_index, classes, rows)
        if divisor == 0.0:  # nothing counts: zeros, never NaN
            if lse is not None or proba is not None or correct is not None:
                for b in range(blocks):
                    hits[b] = observe(
                        either(logits, grad), labels, others, temperature, lse, proba,
                        ignore_index, classes, inner, b * step, min(rows, (b + 1) * step),
                    )  # fmt: skip
            if correct is not None:
                correct[0] = np.int64(in_order(hits))
            if grad is not None and accumulate is None:
                grad[:] = 0
            if hess is not None:
                hess[:] = 0
            return 0.0, -1
        share = scale / divisor
        for b in prange(blocks):
            parallel_part()
            if lse is not None or proba is not None or correct is not None:
                hits[b] = observe(
                    either(logits, grad), labels, others, temperature, lse, proba, ignore_index,
                    classes, inner, b * step, min(rows, (b + 1) * step),
                )  # fmt: skip
            sums[b], excess[b] = block(
                logits, labels, dense, grad, hess, losses, sample_weight, class_weight, upstream,
                smoothing, clip, accumulate, options, curved, temperature, z_loss, others, mix,
                ignore_index, classes, inner, b * step, min(rows, (b + 1) * step), share, assumed,
            )  # fmt: skip
        loss = in_order(sums)
        if correct is not None:
            correct[0] = np.int64(in_order(hits))
        if not assumed:
            return loss / divisor, -1
        T = type(either(logits, grad)[0])
        divisor += in_order(excess)
        if dense is not None and abs(divisor / rows - 1.0) < NEARLY:
            if T(divisor) != T(rows):
                for b in prange(blocks):
                    parallel_part()
                    first, stop = b * step * classes, min(rows, (b + 1) * step) * classes
                    if grad is not None:
                        rescale(grad, rows / divisor, first, stop)
                    if hess is not None:
                        rescale(hess, rows / divisor, first, stop)
            return loss / divisor, -1
        assumed, divisor = False, np.nan  # they are no distributions: once more, weighed first


SoftmaxArguments = arguments_of(softmax_driver)


def plain_labels(logits, labels, grad):
    """Run the driver on plain 2-D arrays, serially: the way in for small batches.

    In place if `logits` is None.
    """
    source = either(logits, grad)
    rows, classes = source.shape
    if labels.size != rows or shape_differs(grad, source):
        return None
    if not fits(source.shape, limit, fewest, most):
        return None
    ignore_index, inner = np.int64(-100), np.int64(1)  # typed: literals would compile a new driver
    value, status = driver(
        flattened(logits), labels, None, flattened(grad), None, None, None, None, None, None, None,
        None, options, curved, None, None, None, None, None, None, None, None, ignore_index, rows,
        classes, inner, np.nan, 1.0,
    )  # fmt: skip
    return value if status == -1 else None


def plain_dense(logits, dense, grad):
    """Run the driver on plain 2-D arrays with a dense target, as `plain_labels` does."""
    source = either(logits, grad)
    rows, classes = source.shape
    if dense.shape != source.shape or shape_differs(grad, source):
        return None
    if not fits(source.shape, limit, fewest, most):
        return None
    ignore_index, inner = np.int64(-100), np.int64(1)
    value, status = driver(
        flattened(logits), None, flattened(dense), flattened(grad), None, None, None, None, None,
        None, None, None, options, curved, None, None, None, None, None, None, None, None,
        ignore_index, rows, classes, inner, np.nan, 1.0,
    )  # fmt: skip
    return value if status == -1 else None
