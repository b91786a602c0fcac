"""Loop template of the softmax cross-entropy of cosines with a margin at the label.

The engine clones `margin_block` for every loss and binds `own`, the loss's function
``(cosine, *options) -> (moved, slope)`` of the label's cosine x: what stands in its place, in
float64, which spares the loss its rounding (times the scale), and the derivative of that by x. The
first of the options is the `scale`, which is the template's own.

Each class is exponentiated once, relative to the largest rival of the label; one more exponential
relates them all to the label, so neither loss nor gradient subtracts a probability from 1. Rows go
in groups, step by step, as in `rows.hard_rows`, which tells why; those of few classes are a tile,
as in `tiles`.
"""

from typing import Any

import numpy as np

from fastloss._drivers.common import (
    LANES,
    TILE_CLASSES,
    beyond_one_top,
    class_of_label,
    inlined,
    live_weight,
    weighed,
)
from fastloss._drivers.row_vectors import largest_entry, multiply, power_of, powers_but_one
from fastloss._drivers.rows import GROUP, GROUP_CLASSES
from fastloss._drivers.transposing import add_transposed, transpose
from fastloss._llvm import flattened, hold, on_stack, own_function, part_of
from fastloss._math import exp_nonpositive, log1p
from fastloss._vector_memory import lanes_with, load, store
from fastloss._vectors import choose, lanes_of, larger, spread, widened

own: Any = None  # bound for each loss, like `tiled`: whether there are few classes
tiled: Any = None

TILE = LANES * TILE_CLASSES
"""Numbers of a tile, at most."""


@inlined
def powers_of_rivals(x, top, label, scale, powers, following, missing):
    """Return the sum of the rivals' powers, relative to the largest, and the next row's largest.

    See `powers_but_one`; `missing` is the label of the row that follows.
    """
    T = type(x[0])
    shift = top if top != T(-np.inf) else T(0)  # all rivals masked, or none there
    return powers_but_one(x, shift, None, scale, label, powers, following, missing)


@inlined
def place_of_powers(grad, keeps, accumulate, first, r, classes):
    """Return where a row has its powers: in the gradient, if there is one and it is not added to.

    `keeps` has place for those of the group that begins with row `first`.
    """
    if accumulate is None:
        return part_of(grad, (first + r) * classes, classes)
    return part_of(keeps, r * classes, classes)


@inlined
def joined(rest, top, moved, slope, scale):
    """Return the loss of a row, the factor of its rivals' powers, and the slope at its label."""
    T, factor = type(top), np.float64(scale)
    gap = factor * (moved - np.float64(top))
    ahead = gap >= 0.0
    decay = np.float64(exp_nonpositive(T(-abs(gap))))
    rivals, label = (rest * decay, 1.0) if ahead else (rest, decay)
    total = rivals + label
    # Behind, rest holds the 1 of the largest rival.
    log_sum = np.float64(log1p(T(rivals if ahead else beyond_one_top(decay, rest))))
    loss = log_sum if ahead else log_sum - gap
    pull = factor * (decay if ahead else 1.0) / total
    return loss, pull, -factor * slope * (rivals / total)


def row(x, label, grad, scale, *options):
    """Return the loss of a single row, and fill its gradient: for other compiled code."""
    T, label = type(x[0]), np.intp(label)
    moved, slope = own(np.float64(x[label]), *options)
    top = largest_entry(x, label)
    rest, _ = powers_of_rivals(x, top, label, scale, grad, None, None)
    loss, pull, at_label = joined(rest, top, moved, slope, scale)
    if grad is not None:
        multiply(grad, T(pull))
        grad[label] = T(at_label)
    return T(loss)


def margin_block(
    inputs, labels, grads, hesses, losses, sample_weight, class_weight, upstream, accumulate,
    options, ignore_index, classes, inner, start, stop, share,
):  # fmt: skip
    """Return the sum of the losses of rows start to stop."""
    own_function()
    if tiled:
        return margin_tiles(
            own, inputs[0], labels, flattened(grads)[0], losses, sample_weight, class_weight,
            upstream, accumulate, options, ignore_index, classes, start, stop, share,
        )  # fmt: skip
    return margin_rows(
        own, inputs[0], labels, flattened(grads)[0], losses, sample_weight, class_weight, upstream,
        accumulate, options, ignore_index, classes, start, stop, share,
    )  # fmt: skip


@inlined
def finish(
    own, first, rows, tops, cosines, rests, weights, pulls, at_label, grad, losses, upstream,
    options, share,
):  # fmt: skip
    """Return the sum of the losses of a group of rows, and find what their powers are times.

    Rows that do not count are computed too: their results are not looked at.
    """
    T, loss_sum = type(pulls[0]), 0.0
    for r in range(rows):
        moved, slope = own(cosines[r], *options[1:])
        loss, pull, slope_at_label = joined(rests[r], tops[r], moved, slope, options[0])
        loss = weighed(loss, weights[r]) if weights[r] != 0.0 else 0.0
        loss_sum += loss
        if losses is not None:
            losses[first + r] = T(loss)
        if grad is not None:
            scale = share * weights[r]
            if upstream is not None:
                scale *= np.float64(upstream[first + r])
            pulls[r], at_label[r] = T(scale * pull), T(scale * slope_at_label)
    return loss_sum


@inlined
def margin_tiles(
    own, source, labels, grad, losses, sample_weight, class_weight, upstream, accumulate, options,
    ignore_index, classes, start, stop, share,
):  # fmt: skip
    """Do what `margin_rows` does for rows of few classes, with vectors across LANES rows."""
    T, lanes = type(source[0]), lanes_of(source)
    places, weights = on_stack(np.int32, LANES), on_stack(np.float64, LANES)
    cosines, rests = on_stack(np.float64, LANES), on_stack(np.float64, LANES)
    tops, pulls, at_label = on_stack(T, LANES), on_stack(T, LANES), on_stack(T, LANES)
    tile = on_stack(T, TILE)
    origin, step = np.int64(0), np.int64(LANES)  # typed: literals would compile more transposes
    loss_sum = 0.0
    for first in range(start, stop, LANES):
        rows = min(LANES, stop - first)
        for r in range(rows):
            label, weights[r] = live_weight(
                labels, ignore_index, classes, sample_weight, class_weight, first + r
            )
            places[r] = -1 if weights[r] == 0.0 else label
        transpose(source, first * classes, classes, rows, classes, tile, origin, step)
        for r in range(0, rows, lanes):
            top, cosine = spread(T(-np.inf), 1), spread(T(0), 1)
            for c in range(classes):
                x = load(tile, c * LANES + r, 1)
                hit = lanes_with(places, r, c, x)
                cosine = choose(hit, x, cosine)
                top = larger(top, choose(hit, T(-np.inf), x))
            shift = choose(top == T(-np.inf), T(0), top)  # see `powers_of_rivals`
            rest = widened(spread(T(0), 1))
            for c in range(classes):
                e = power_of(load(tile, c * LANES + r, 1), shift, None, options[0])
                store(tile, c * LANES + r, e)
                rest = rest + widened(choose(lanes_with(places, r, c, e), T(0), e))
            store(tops, r, top)
            store(cosines, r, widened(cosine))
            store(rests, r, rest)
        loss_sum += finish(
            own, first, rows, tops, cosines, rests, weights, pulls, at_label, grad, losses,
            upstream, options, share,
        )  # fmt: skip
        if grad is not None:
            for r in range(0, rows, lanes):
                pull, slope = load(pulls, r, 1), load(at_label, r, 1)
                dead = lanes_with(places, r, -1, pull)
                for c in range(classes):
                    e = load(tile, c * LANES + r, 1)
                    change = choose(lanes_with(places, r, c, e), slope, e * pull)
                    store(tile, c * LANES + r, choose(dead, T(0), change))
            if accumulate is None:
                transpose(tile, origin, step, classes, rows, grad, first * classes, classes)
            else:
                add_transposed(tile, first * classes, rows, classes, grad)
    return loss_sum


@inlined
def margin_rows(
    own, source, labels, grad, losses, sample_weight, class_weight, upstream, accumulate, options,
    ignore_index, classes, start, stop, share,
):  # fmt: skip
    """Do what `margin_block` does: what is None is pruned as an argument, not in a tuple."""
    T = type(source[0])
    places, weights = on_stack(np.intp, GROUP), on_stack(np.float64, GROUP)
    tops, cosines, rests = (
        on_stack(T, GROUP), on_stack(np.float64, GROUP), on_stack(np.float64, GROUP),
    )  # fmt: skip
    pulls, at_label = on_stack(T, GROUP), on_stack(T, GROUP)
    group = min(GROUP, max(1, GROUP_CLASSES // classes))
    memory = np.empty(0 if accumulate is None else group * classes, source.dtype)
    keeps = part_of(memory, 0, memory.size)
    loss_sum, ahead = 0.0, T(np.nan)  # the next row's largest rival, if it is known
    for first in range(start, stop, group):
        rows = min(group, stop - first)
        for r in range(rows):
            label, weights[r] = live_weight(
                labels, ignore_index, classes, sample_weight, class_weight, first + r
            )
            places[r] = max(label, 0)
            tops[r], cosines[r], rests[r] = T(0), 0.0, 0.0  # of a row that does not count
        for r in range(rows):
            known, ahead = ahead, T(np.nan)
            if weights[r] != 0.0:
                x = part_of(source, (first + r) * classes, classes)
                powers = place_of_powers(grad, keeps, accumulate, first, r, classes)
                after = min(first + r + 1, stop - 1)
                tops[r] = largest_entry(x, places[r]) if np.isnan(known) else known
                cosines[r] = np.float64(x[np.uintp(places[r])])
                rests[r], ahead = powers_of_rivals(
                    x, tops[r], places[r], options[0], powers,
                    part_of(source, after * classes, classes),
                    class_of_label(labels[after], ignore_index, classes),
                )  # fmt: skip

        loss_sum += finish(
            own, first, rows, tops, cosines, rests, weights, pulls, at_label, grad, losses,
            upstream, options, share,
        )  # fmt: skip
        if grad is not None:
            for r in range(rows):
                powers = place_of_powers(grad, keeps, accumulate, first, r, classes)
                if weights[r] == 0.0:
                    powers[:] = T(0)
                else:
                    multiply(powers, pulls[r])
                    powers[np.uintp(places[r])] = at_label[r]
                if accumulate is not None:
                    g = part_of(grad, (first + r) * classes, classes)
                    for c in range(classes):
                        g[c] += powers[c]
    hold(memory)
    return loss_sum
