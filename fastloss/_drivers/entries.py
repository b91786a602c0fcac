"""Loop template of the losses of labels that look at the label's entry of a row alone.

The engine clones `entry_block` for every loss and binds `own`, the loss's function
``(entry, *options) -> (loss, slope, bend)`` of the entry at the label: the loss of the row and its
two derivatives there. All others are 0.

Rows go in groups: their entries, which often lie in a cache line each, are on their way from memory
together, and their zeros are written in one run.
"""

from typing import Any

import numpy as np

from fastloss._drivers.common import gradient_scale, inlined, live_weight, place_of_row, put
from fastloss._llvm import either, flattened, on_stack, own_function, part_of

GROUP = 64
"""Rows of a group: so many entries are waited for at a time."""

own: Any = None  # bound for each loss


def row(x, label, grad, hess, *options):
    """Return the loss of a single row, and fill its derivatives: for other compiled code."""
    T = type(x[0])
    loss, slope, bend = own(x[label], *options)
    if grad is not None:
        grad[:] = T(0)
        grad[label] = slope
    if hess is not None:
        hess[:] = T(0)
        hess[label] = bend
    return loss


def entry_block(
    inputs, labels, grads, hesses, losses, sample_weight, class_weight, upstream, accumulate,
    options, ignore_index, classes, inner, start, stop, share,
):  # fmt: skip
    """Return the sum of the losses of rows start to stop."""
    own_function()
    return entry_rows(
        own, either(inputs[0], grads[0]), labels, flattened(grads)[0], flattened(hesses)[0],
        losses, sample_weight, class_weight, upstream, accumulate, options, ignore_index, classes,
        inner, start, stop, share,
    )  # fmt: skip


@inlined
def entry_rows(
    own, source, labels, grad, hess, losses, sample_weight, class_weight, upstream, accumulate,
    options, ignore_index, classes, inner, start, stop, share,
):  # fmt: skip
    """Do what `entry_block` does: what is None is pruned as an argument, not in a tuple."""
    T = type(source[0])
    places, entries = on_stack(np.intp, GROUP), on_stack(T, GROUP)
    weights = on_stack(np.float64, GROUP)
    loss_sum, strange = 0.0, T(0)
    for first in range(start, stop, GROUP):
        rows = min(GROUP, stop - first)
        for r in range(rows):
            label, weights[r] = live_weight(
                labels, ignore_index, classes, sample_weight, class_weight, first + r
            )
            # A row that does not count has a place too, that of its class 0.
            places[r] = place_of_row(first + r, classes, inner) + max(label, 0) * inner
            entries[r] = source[np.uintp(places[r])]
        if grad is not None and accumulate is None:
            clear_rows(grad, first, rows, classes, inner)
        if hess is not None:
            clear_rows(hess, first, rows, classes, inner)
        for r in range(rows):
            loss = T(0)
            if weights[r] != 0.0:
                place = np.uintp(places[r])
                loss, slope, bend = own(entries[r], *options)
                loss = T(weights[r]) * loss
                scale = T(gradient_scale(share, weights[r], upstream, first + r, None))
                strange += scale * T(0)
                if grad is not None:
                    put(grad, place, scale * slope, accumulate)
                if hess is not None:
                    hess[place] = scale * bend
            loss_sum += np.float64(loss)
            if losses is not None:
                losses[first + r] = loss
    if strange != strange:  # a scale is infinite or NaN, and makes NaN of the zeros
        for row in range(start, stop):
            label, weight = live_weight(
                labels, ignore_index, classes, sample_weight, class_weight, row
            )
            nothing = T(gradient_scale(share, weight, upstream, row, None)) * T(0)
            if weight != 0.0 and nothing != nothing:
                if grad is not None:
                    spoil_row(grad, row, label, classes, inner, nothing, accumulate)
                if hess is not None:
                    spoil_row(hess, row, label, classes, inner, nothing, None)
    return loss_sum


@inlined
def clear_rows(out, first, rows, classes, inner):
    """Fill neighbouring rows with zeros."""
    zero, stop = type(out[0])(0), first + rows
    while first < stop:
        place, column = place_of_row(first, classes, inner), first % inner
        size = (stop - first) // inner * inner  # of whole arrays of shape (classes, inner)
        if size > 0 and column == 0:
            part_of(out, place, size * classes)[:] = zero
        else:
            size = min(stop - first, inner - column)
            for c in range(classes):
                part_of(out, place + c * inner, size)[:] = zero
        first += size


@inlined
def spoil_row(out, row, label, classes, inner, nan, accumulate):
    """Put NaN into all entries of a row but the label's."""
    place = place_of_row(row, classes, inner)
    for c in range(classes):
        if c != label:
            put(out, np.uintp(place + c * inner), nan, accumulate)
