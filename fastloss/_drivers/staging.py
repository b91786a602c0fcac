"""Loop template around the block of a row loss: rows are brought where it can work on them.

A block wants the numbers of a row side by side, all of one type, and memory for the gradients that
is not the inputs'. Whatever lies otherwise is staged here: class-first arrays and Fortran order,
targets that are bools or integers, targets to be multiplied by class weights, and a gradient in the
place of its input (then the first of the inputs is None). Groups of rows that the cache can hold
are brought into scratch, the block works on them, and their derivatives are brought back. The
engine binds what does that: for rows whose numbers lie side by side, or for columns (`WAYS`).
"""

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from fastloss._drivers.common import inlined
from fastloss._drivers.rowwise import parts_of
from fastloss._drivers.transposing import columns_from_rows, rows_from_columns
from fastloss._jit import INLINED, LOOPS
from fastloss._llvm import flattened, hold, own_function, part_of

block: Any = None  # bound by the engine, like the others here
bring: Any = None
bring_back: Any = None

MOST, LINE = 64, 16
"""Rows of a group: no more, and if possible a multiple, as so many floats fill a cache line."""

ELEMENTS = 16384
"""Numbers of a group in each array, but for a single row of more."""


@inlined
def rows_of_group(classes):
    """Return how many rows are staged at a time."""
    rows = max(1, min(MOST, ELEMENTS // classes))
    return rows if rows < LINE else rows // LINE * LINE


def sources_of(inputs, grads):
    """Return the inputs; the first of the gradients is the first of them where that is None."""


@overload(sources_of, jit_options=INLINED)
def _sources_of(inputs, grads):
    if isinstance(inputs[0], types.NoneType):
        return lambda inputs, grads: (grads[0], *inputs[1:])
    return lambda inputs, grads: inputs


def bring_all(bring, arrays, first, rows, classes, inner, parts):
    """Bring rows of each of the arrays into its part of the scratch; arrays may be None."""


@overload(bring_all, jit_options=INLINED)
def _bring_all(bring, arrays, first, rows, classes, inner, parts):
    if len(arrays) == 0 or isinstance(arrays[0], types.NoneType):
        return lambda bring, arrays, first, rows, classes, inner, parts: None

    def of_one_type(bring, arrays, first, rows, classes, inner, parts):
        for k in range(len(arrays)):
            bring(arrays[k], first, rows, classes, inner, parts[k])

    def but_the_target(bring, arrays, first, rows, classes, inner, parts):
        bring_all(bring, arrays[:-1], first, rows, classes, inner, parts[:-1])
        bring(arrays[-1], first, rows, classes, inner, parts[-1])

    return of_one_type if isinstance(arrays, types.UniTuple) else but_the_target


def bring_all_back(bring_back, parts, arrays, first, rows, classes, inner):
    """Bring rows from the scratch back to each of the arrays, which may be None."""


@overload(bring_all_back, jit_options=INLINED)
def _bring_all_back(bring_back, parts, arrays, first, rows, classes, inner):
    if len(arrays) == 0 or isinstance(arrays[0], types.NoneType):
        return lambda bring_back, parts, arrays, first, rows, classes, inner: None

    def implementation(bring_back, parts, arrays, first, rows, classes, inner):
        for k in range(len(arrays)):
            bring_back(parts[k], arrays[k], first, rows, classes, inner)

    return implementation


@njit(**LOOPS)
def rows_from_rows(array, first, rows, classes, inner, out):
    """Copy neighbouring rows, as numbers of the type of `out`."""
    own_function()
    T, here = type(out[0]), part_of(array, first * classes, rows * classes)
    for i in range(here.size):
        out[i] = T(here[i])


@njit(**LOOPS)
def rows_to_rows(values, array, first, rows, classes, inner):
    """Copy contiguous rows to where `rows_from_rows` takes them from."""
    own_function()
    here = part_of(array, first * classes, rows * classes)
    for i in range(here.size):
        here[i] = values[i]


WAYS: dict[str, tuple[Any, Any]] = {
    "rows": (rows_from_rows, rows_to_rows),
    "columns": (rows_from_columns, columns_from_rows),
}
"""How rows are brought, and brought back, by how they lie: `inner` is 1, or more."""


def staged_block(
    inputs, labels, grads, hesses, losses, sample_weight, class_weight, upstream, accumulate,
    options, ignore_index, classes, inner, start, stop, share,
):  # fmt: skip
    """Return the sum of the losses of rows start to stop.

    Without labels, the class weights are those of the last of the inputs, a dense target.
    """
    own_function()
    inputs, grads, hesses = (
        flattened(sources_of(inputs, grads)), flattened(grads), flattened(hesses),
    )  # fmt: skip
    group = rows_of_group(classes)
    size = group * classes
    memory = np.empty((len(inputs) + len(grads) + len(hesses)) * size, inputs[0].dtype)
    rows_in = parts_of(inputs, memory, 0, size)
    rows_out = parts_of(grads, memory, len(inputs) * size, size)
    seconds = parts_of(hesses, memory, (len(inputs) + len(grads)) * size, size)
    of_labels = class_weight if labels is not None else None
    one = np.int64(1)  # typed: a literal would compile another block
    loss_sum = 0.0
    for first in range(start, stop, group):
        rows = min(group, stop - first)
        bring_all(bring, inputs, first, rows, classes, inner, rows_in)
        if labels is None and class_weight is not None:
            dense = rows_in[-1]
            for r in range(rows):
                row = part_of(dense, r * classes, classes)
                for c in range(classes):
                    row[c] *= class_weight[c]
        if accumulate is not None:
            bring_all(bring, grads, first, rows, classes, inner, rows_out)
        loss_sum += block(
            rows_in, part_of(labels, first, rows), rows_out, seconds, part_of(losses, first, rows),
            part_of(sample_weight, first, rows), of_labels, part_of(upstream, first, rows),
            accumulate, options, ignore_index, classes, one, one - one, rows, share,
        )  # fmt: skip
        bring_all_back(bring_back, rows_out, grads, first, rows, classes, inner)
        bring_all_back(bring_back, seconds, hesses, first, rows, classes, inner)
    hold(memory)
    return loss_sum
