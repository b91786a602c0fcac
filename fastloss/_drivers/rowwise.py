"""Loop templates of the losses that are functions of whole rows, but not of their softmax alone.

The engine clones `row_block` for every loss (but those that have a block of their own, as in
`margins` and `entries`; for few classes, see `columns`) and binds `row`, the loss's own function of
``(*inputs, *label, *gradients, *Hessians, *options)``. Inputs are rows of C numbers; the first of
them, as many as there are gradients, are differentiated by. `row` returns the loss and fills the
gradients (and Hessians) that are not None with the row's own; weights, scale and accumulation are
applied here.

Blocks are handed rows with contiguous classes; `staging` brings others where they can work on them.
"""

from typing import Any

import numpy as np
from numba import prange, types
from numba.extending import overload

from fastloss._drivers.common import (
    arguments_of,
    fits,
    in_order,
    inlined,
    live_weight,
    put,
    weighed,
)
from fastloss._drivers.elementwise import total_weight
from fastloss._drivers.softmax import MAX_BLOCKS, TABLE, rows_of_block, scan
from fastloss._jit import INLINED
from fastloss._llvm import (
    either,
    flattened,
    hold,
    on_stack,
    overlaps,
    own_function,
    parallel_part,
    part_of,
    shape_differs,
)

row: Any = None  # bound by the engine, like the others here
block: Any = None
driver: Any = None
options: Any = None
limit: Any = None
absent: Any = None
count: Any = None
fewest: Any = None
most: Any = None
hesses: Any = None
mass_of: Any = None


def rows_of(arrays, first, size):
    """Return the row that begins at entry `first` of each of the arrays."""


@overload(rows_of, jit_options=INLINED)
def _rows_of(arrays, first, size):
    if len(arrays) == 0:
        return lambda arrays, first, size: ()
    return lambda arrays, first, size: (
        part_of(arrays[0], first, size), *rows_of(arrays[1:], first, size),
    )  # fmt: skip


def parts_of(arrays, scratch, first, size):
    """Return a part of scratch for each of the arrays, or the Nones that stand in their place."""


@overload(parts_of, jit_options=INLINED)
def _parts_of(arrays, scratch, first, size):
    if len(arrays) == 0 or isinstance(arrays[0], types.NoneType):
        return lambda arrays, scratch, first, size: arrays
    if len(arrays) == 1:
        return lambda arrays, scratch, first, size: (part_of(scratch, first, size),)
    if len(arrays) == 2:
        return lambda arrays, scratch, first, size: (
            part_of(scratch, first, size),
            part_of(scratch, first + size, size),
        )
    return lambda arrays, scratch, first, size: (
        part_of(scratch, first, size),
        part_of(scratch, first + size, size),
        part_of(scratch, first + 2 * size, size),
    )


def deliver(outs, parts, place, size, scale, counts, accumulate):
    """Write or add a row's scaled derivatives where they belong; zeros if it does not count."""


@overload(deliver, jit_options=INLINED)
def _deliver(outs, parts, place, size, scale, counts, accumulate):
    if len(outs) == 0 or isinstance(outs[0], types.NoneType):
        return lambda outs, parts, place, size, scale, counts, accumulate: None

    def implementation(outs, parts, place, size, scale, counts, accumulate):
        for k in range(len(outs)):
            part, out = parts[k], part_of(outs[k], place, size)
            for c in range(size):
                put(out, c, scale * part[c] if counts else scale * 0, accumulate)

    return implementation


def clear(outs):
    """Fill the arrays with zeros, if there are any."""


@overload(clear, jit_options=INLINED)
def _clear(outs):
    if len(outs) == 0 or isinstance(outs[0], types.NoneType):
        return lambda outs: None

    def implementation(outs):
        for k in range(len(outs)):
            outs[k][:] = 0

    return implementation


def row_block(
    inputs, labels, grads, hesses, losses, sample_weight, class_weight, upstream, accumulate,
    options, ignore_index, classes, inner, start, stop, share,
):  # fmt: skip
    """Return the sum of the losses of rows start to stop."""
    own_function()
    T = type(inputs[0][0])
    memory = np.zeros((len(grads) + len(hesses)) * classes, inputs[0].dtype)
    # Views only: in the loop, to count references to an array would take as long as a short row.
    inputs, grads, hesses = flattened(inputs), flattened(grads), flattened(hesses)
    parts = parts_of(grads, memory, 0, classes)
    seconds = parts_of(hesses, memory, len(grads) * classes, classes)
    loss_sum = 0.0
    for r in range(start, stop):
        label, weight = live_weight(labels, ignore_index, classes, sample_weight, class_weight, r)
        place = r * classes
        counts = weight != 0.0
        loss, scale = 0.0, 0.0
        if counts:
            rows = rows_of(inputs, place, classes)
            alone = T(row(*(rows + label_of(labels, label) + parts + seconds + options)))
            loss = weighed(alone, weight)
            scale = share * weight
            if upstream is not None:
                scale *= np.float64(upstream[r])
        loss_sum += loss
        if losses is not None:
            losses[r] = T(loss)
        deliver(grads, parts, place, classes, T(scale), counts, accumulate)
        deliver(hesses, seconds, place, classes, T(scale), counts, None)
    hold(memory)
    return loss_sum


def label_of(labels, label):
    """Return the label, an index that is known to be inside, as a tuple; () without labels."""


@overload(label_of, jit_options=INLINED)
def _label_of(labels, label):
    if isinstance(labels, types.NoneType):
        return lambda labels, label: ()
    return lambda labels, label: (np.uintp(label),)


def rowwise_driver(
    inputs, labels, mass, grads, hesses, losses, sample_weight, class_weight, upstream, accumulate,
    options, ignore_index, rows, classes, inner, divisor, scale,
):  # fmt: skip
    """Check the labels, find the divisor, run the blocks, combine their sums in order.

    `mass` is the dense target where its sums are part of the total weight. A `divisor` of NaN asks
    for the mean's own. Returns the reduced value and a status: -1 for success, or the first row
    whose label is outside (nothing is written then).
    """
    step = rows_of_block(rows, classes)
    blocks = (rows + step - 1) // step
    table = on_stack(np.float64, TABLE)
    sums, outside = part_of(table, 0, blocks), part_of(table, MAX_BLOCKS, blocks)
    if labels is None and mass is None:
        if np.isnan(divisor):
            divisor = np.float64(rows)
            if sample_weight is not None:
                divisor = total_weight((sample_weight,), rows)
    elif labels is not None or np.isnan(divisor):
        for b in range(blocks):
            sums[b], outside[b] = scan(
                labels, mass, sample_weight, class_weight, ignore_index, classes, inner,
                b * step, min(rows, (b + 1) * step),
            )  # fmt: skip
        for b in range(blocks):
            if outside[b] >= 0:
                return np.nan, np.int64(outside[b])
        if np.isnan(divisor):
            divisor = in_order(sums)
    if divisor == 0.0:  # nothing counts: zeros, never NaN
        if accumulate is None:
            clear(grads)
        clear(hesses)
        return 0.0, -1
    share = scale / divisor
    for b in prange(blocks):
        parallel_part()
        sums[b] = block(
            inputs, labels, grads, hesses, losses, sample_weight, class_weight, upstream,
            accumulate, options, ignore_index, classes, inner, b * step,
            min(rows, (b + 1) * step), share,
        )  # fmt: skip
    return in_order(sums) / divisor, -1


RowwiseArguments = arguments_of(rowwise_driver)


# The ways in for small batches of plain 2-D arrays, where calls cost. They run the driver serially,
# or return None where the arrays do not fit each other, or the driver, which is for at least
# `fewest` and at most `most` classes. There are `count` inputs with a gradient; `absent` holds a
# None for each of them, `hesses` one for each Hessian. `mass_of` is `flattened` where the sums of a
# dense target are part of the total weight, else `nothing`.


@inlined
def nothing(target):
    """Return None: each row of the target weighs the same."""
    return None


def plain_labels(pred, labels, grad):
    """Run the driver on rows and their labels, in place if `pred` is None."""
    source = either(pred, grad)
    rows, classes = source.shape
    if labels.size != rows or shape_differs(grad, source):
        return None
    if not fits(source.shape, limit, fewest, most):
        return None
    if overlaps(grad, pred) or overlaps(grad, labels):
        return None
    ignore_index, inner = np.int64(-100), np.int64(1)  # typed: literals would compile a new driver
    value, status = driver(
        (flattened(pred),), labels, None, (flattened(grad),), hesses, None, None, None, None, None,
        options, ignore_index, rows, classes, inner, np.nan, 1.0,
    )  # fmt: skip
    return value if status == -1 else None


def plain_dense(pred, target, grad):
    """Run the driver on rows and a target like them, in place if `pred` is None."""
    source = either(pred, grad)
    rows, classes = source.shape
    if target.shape != source.shape or shape_differs(grad, source):
        return None
    if not fits(source.shape, limit, fewest, most):
        return None
    if overlaps(grad, pred) or overlaps(grad, target):
        return None
    ignore_index, inner = np.int64(-100), np.int64(1)
    return driver(
        (flattened(pred), flattened(target)), None, mass_of(target), (flattened(grad),), hesses,
        None, None, None, None, None, options, ignore_index, rows, classes, inner, np.nan, 1.0,
    )[0]  # fmt: skip


def plain_values(*inputs):
    """Run the driver on rows of several arrays without a target, for the value alone."""
    rows, classes = inputs[0].shape
    for array in inputs:
        if array.shape != inputs[0].shape:
            return None
    if not fits(inputs[0].shape, limit, fewest, most):
        return None
    ignore_index, inner = np.int64(-100), np.int64(1)
    return driver(
        flattened(inputs), None, None, absent, hesses, None, None, None, None, None, options,
        ignore_index, rows, classes, inner, np.nan, 1.0,
    )[0]  # fmt: skip


def plain_gradients(*arrays):
    """Run the driver on rows of several arrays without a target; the second half are gradients."""
    rows, classes = arrays[0].shape
    for k in range(len(arrays)):
        if arrays[k].shape != arrays[0].shape:
            return None
        for j in range(k if k >= count else 0):
            if overlaps(arrays[k], arrays[j]):
                return None
    if not fits(arrays[0].shape, limit, fewest, most):
        return None
    ignore_index, inner = np.int64(-100), np.int64(1)
    return driver(
        flattened(arrays[:count]), None, None, flattened(arrays[count:]), hesses, None, None, None,
        None, None, options, ignore_index, rows, classes, inner, np.nan, 1.0,
    )[0]  # fmt: skip
