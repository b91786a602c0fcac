"""Loop templates of the elementwise losses: two block kernels and their driver.

The engine clones these functions for every loss and binds the names that are None
here: `point` is the loss's scalar function, `block` one of the blocks, compiled. An argument
that is None is pruned when the clone is compiled, so one template serves value only, gradient
and Hessian, with and without weights.

All arrays are flat. A *spread* operand (a weight, an option with one number per class) is the
triple ``(values, run, period)``: element ``i`` of the batch takes ``values[i // run % period]``.
That one rule covers a number per element, per row and per class in C and in Fortran order.

`option` is such an operand too: the first option, where it varies. Where it is an input with a
gradient of its own, `point` returns its two derivatives behind the three others.
"""

from typing import Any

import numpy as np
from numba import njit, prange

from fastloss._drivers.common import PART, in_order, settled, two_sum
from fastloss._jit import INLINED, LOOPS
from fastloss._llvm import (
    OVERLAP,
    either,
    flattened,
    on_stack,
    overlaps,
    own_function,
    parallel_part,
    part_of,
    put_first,
    shape_differs,
)

point: Any = None  # bound by the engine, like the others here
block: Any = None
driver: Any = None
options: Any = None
limit: Any = None

CHUNK = 1024
"""Elements whose spread operands are laid out in scratch at a time: it stays in the L1 cache."""

SMALL_BLOCK, BLOCK = 2 * CHUNK, 16 * CHUNK
"""Elements per block, the unit of parallel work and of the ordered sum, of small and large batches.

Those between have eight blocks, so that two threads, or four, have as much to do as each other.
"""

MAX_BLOCKS = 1024
"""Larger batches get larger blocks, so that the partial sums stay within 8 KB."""


@njit(**INLINED)
def spread(operand, start, out):
    """Fill `out` with the operand's numbers for the elements from `start` on."""
    values, run, period = operand
    position, done = start // run, 0
    behind, place = start - position * run, position % period
    while done < out.size:
        if run == 1:
            length = min(out.size - done, period - place)
            target, source = part_of(out, done, length), part_of(values, place, length)
            for i in range(length):
                target[i] = source[i]
            place += length
        else:
            length = min(out.size - done, run - behind)
            part_of(out, done, length)[:] = values[np.uintp(place)]
            place, behind = place + 1, 0
        place = 0 if place == period else place
        done += length


def plain_block(
    pred, target, grad, hess, losses, weight, upstream, option, options, start, scale, accumulate,
    option_grad, option_hess,
):  # fmt: skip
    """Return the sum of a block's losses and write its derivatives: no weights, the hot path."""
    own_function()
    source = either(pred, grad)
    T = type(source[0])
    factor = T(scale)
    total = 0.0
    for i in range(source.size):
        loss, slope, curvature = point(source[i], T(target[i]), *options)
        total += np.float64(loss)
        if grad is not None:
            grad[i] = factor * slope
        if hess is not None:
            hess[i] = factor * curvature
    return total


def weighted_block(
    pred, target, grad, hess, losses, weight, upstream, option, options, start, scale, accumulate,
    option_grad, option_hess,
):  # fmt: skip
    """Return the sum of a block's weighted losses and write its derivatives: everything else."""
    own_function()
    source = either(pred, grad)
    T = type(source[0])
    weights = np.empty(CHUNK, source.dtype)
    factors = np.ones(CHUNK, source.dtype)
    varying = np.empty(CHUNK, source.dtype)
    total = 0.0
    for first in range(0, source.size, CHUNK):
        size = min(CHUNK, source.size - first)
        x = part_of(source, first, size)
        t = part_of(target, first, size)
        g = part_of(grad, first, size)
        h = part_of(hess, first, size)
        single = part_of(losses, first, size)
        second_g = part_of(option_grad, first, size)
        second_h = part_of(option_hess, first, size)
        if weight is not None:
            spread(weight, start + first, weights[:size])
        if upstream is not None:
            spread(upstream, start + first, factors[:size])
        if option is not None:
            spread(option, start + first, varying[:size])
        for i in range(size):
            result = point(x[i], T(t[i]), *put_first(option, varying[i], options))
            loss, slope, curvature = result[0], result[1], result[2]
            # Constants where there are none: to read ones would take a third of the time. (Of
            # float64 with weights, LLVM makes vectors only if there are factors to be read too.)
            w, f = T(1), T(1)
            if weight is not None:
                w, f = weights[i], factors[i]
            if upstream is not None:
                f = factors[i]
            # A weight of 0 hides whatever stands there, NaN included: a product would not.
            counts = w != T(0)
            loss = w * loss if counts else T(0)
            # In float64: 1 / W may be too large for the type, where all the weights are tiny.
            factor = T(scale * np.float64(w) * np.float64(f))
            total += np.float64(loss)
            if losses is not None:
                single[i] = loss
            if grad is not None:
                change = factor * slope if counts else T(0)
                if accumulate is None:
                    g[i] = change
                else:
                    g[i] += change
            if hess is not None:
                h[i] = factor * curvature if counts else T(0)
            if option_grad is not None:
                change = factor * result[3] if counts else T(0)
                if accumulate is None:
                    second_g[i] = change
                else:
                    second_g[i] += change
            if option_hess is not None:
                second_h[i] = factor * result[4] if counts else T(0)
    return total


@njit(**LOOPS)
def total_weight(weight, size):
    """Return the sum of the weights over `size` elements."""
    own_function()
    values = weight[0]
    total, lost = 0.0, 0.0
    for first in range(0, values.size, PART):
        here, part = part_of(values, first, min(PART, values.size - first)), 0.0
        for i in range(here.size):
            value = np.float64(here[i])
            part += value if abs(value) < np.inf else 0.0
        total, lost = two_sum(total, lost, part)
    return settled(total, lost) * (np.float64(size) / np.float64(values.size))


def elementwise_driver(
    pred, target, grad, hess, losses, weight, upstream, option, options, divisor, scale, accumulate,
    option_grad, option_hess,
):  # fmt: skip
    """Run the blocks and combine their sums in order.

    A `divisor` of NaN asks for the total weight. Returns the reduced value and a status: -1 for
    success, or OVERLAP if `grad` overlaps an input (nothing is written then).
    """
    source = either(pred, grad)
    size = source.size
    if overlaps(grad, pred) or overlaps(grad, target):
        return np.nan, OVERLAP
    if np.isnan(divisor):
        divisor = np.float64(size)
        if weight is not None:
            divisor = total_weight(weight, size)
    if divisor == 0.0:  # nothing counts: zeros, never NaN
        if grad is not None and accumulate is None:
            grad[:] = 0
        if hess is not None:
            hess[:] = 0
        if option_grad is not None and accumulate is None:
            option_grad[:] = 0
        if option_hess is not None:
            option_hess[:] = 0
        return 0.0, -1
    share = scale / divisor
    step = min(BLOCK, max(SMALL_BLOCK, (size // 8 // 64 + 1) * 64))
    step = max(step, (size // MAX_BLOCKS // CHUNK + 1) * CHUNK)
    blocks = (size + step - 1) // step
    sums = part_of(on_stack(np.float64, MAX_BLOCKS), 0, blocks)
    for b in prange(blocks):
        parallel_part()
        first = b * step
        count = min(step, size - first)
        sums[b] = block(
            part_of(pred, first, count),
            part_of(target, first, count),
            part_of(grad, first, count),
            part_of(hess, first, count),
            part_of(losses, first, count),
            weight,
            upstream,
            option,
            options,
            first,
            share,
            accumulate,
            part_of(option_grad, first, count),
            part_of(option_hess, first, count),
        )
    return in_order(sums) / divisor, -1


def plain_elements(pred, target, grad):
    """Run the driver on plain arrays, serially: the way in for small batches, where calls cost.

    In place if `pred` is None.
    """
    source = either(pred, grad)
    if target.shape != source.shape or shape_differs(grad, source):
        return None
    if not 0 < source.size < limit:
        return None
    value, status = driver(
        flattened(pred), flattened(target), flattened(grad), None, None, None, None, None,
        options, np.nan, 1.0, None, None, None,
    )  # fmt: skip
    return value if status == -1 else None
