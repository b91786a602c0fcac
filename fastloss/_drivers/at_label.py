"""Loop template of the losses of labels that look at the label's entry of a row alone.

The engine clones `entry_block` for every loss and binds `own`, the loss's function
``(entry, *options) -> (loss, slope, bend)`` of the entry at the label: the loss of the row and its
two derivatives there. All others are 0.

Rows go in groups: their entries, each in a cache line of its own, are on their way from memory
together, and zeros are written to all rows at once.
"""

from typing import Any

import numpy as np

from fastloss._drivers.common import inlined, live_weight, place_of_row, put
from fastloss._llvm import flattened, on_stack, own_function, part_of

GROUP = 64
"""Rows of a group."""

own: Any = None  # bound for each loss


@inlined
def fill(out, value):
    """Give all entries one value."""
    for i in range(out.size):
        out[i] = value


def row(x, label, grad, hess, *options):
    """Return the loss of a single row, and fill its derivatives: for other compiled code."""
    T = type(x[0])
    loss, slope, bend = own(x[label], *options)
    if grad is not None:
        fill(grad, T(0))
        grad[label] = slope
    if hess is not None:
        fill(hess, T(0))
        hess[label] = bend
    return loss


def entry_block(
    inputs, labels, grads, hesses, losses, sample_weight, class_weight, upstream, accumulate,
    options, ignore_index, classes, inner, start, stop, share,
):  # fmt: skip
    """Return the sum of the losses of rows start to stop."""
    own_function()
    return entry_rows(
        own, inputs[0], labels, flattened(grads)[0], flattened(hesses)[0], losses, sample_weight,
        class_weight, upstream, accumulate, options, ignore_index, classes, inner, start, stop,
        share,
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
    loss_sum, first = 0.0, start
    while first < stop:
        rows = min(GROUP, stop - first)
        if inner > 1:  # up to the end of the array of shape (classes, inner)
            rows = min(rows, inner - first % inner)
        for r in range(rows):
            label, weights[r] = live_weight(
                labels, ignore_index, classes, sample_weight, class_weight, first + r
            )
            places[r] = place_of_row(first + r, classes, inner) + max(label, 0) * inner
            entries[r] = source[np.uintp(places[r])] if label >= 0 else T(0)
        if grad is not None and accumulate is None:
            clear_rows(grad, first, rows, classes, inner)
        if hess is not None:
            clear_rows(hess, first, rows, classes, inner)
        for r in range(rows):
            loss = T(0)
            if weights[r] != 0.0:
                loss, slope, bend = own(entries[r], *options)
                loss = T(weights[r]) * loss
                scale = share * weights[r]
                if upstream is not None:
                    scale *= np.float64(upstream[first + r])
                if grad is not None:
                    put(grad, np.uintp(places[r]), T(scale) * slope, accumulate)
                if hess is not None:
                    hess[np.uintp(places[r])] = T(scale) * bend
            loss_sum += np.float64(loss)
            if losses is not None:
                losses[first + r] = loss
        first += rows
    return loss_sum


@inlined
def clear_rows(out, first, rows, classes, inner):
    """Fill neighbouring rows with zeros."""
    zero, place = type(out[0])(0), place_of_row(first, classes, inner)
    if inner == 1:
        fill(part_of(out, place, rows * classes), zero)
    else:
        for c in range(classes):
            fill(part_of(out, place + c * inner, rows), zero)
