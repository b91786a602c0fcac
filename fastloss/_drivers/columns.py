"""Loop template of row losses for rows of few classes, as many side by side as a register holds.

A loss's function of a row, `row`, which is written in vectors, is handed `Columns` here: LANES rows
lie in a tile, transposed, and where a vector of a row has neighbouring entries, one of columns has
the same entry of neighbouring rows. All that is the row's own, such as its sums and its loss, is a
vector then. Weights, scale and accumulation are as in `rowwise`.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from fastloss._drivers.common import LANES, live_weight, weighed
from fastloss._drivers.rowwise import parts_of
from fastloss._drivers.transposing import add_transposed, transpose
from fastloss._jit import INLINED
from fastloss._llvm import flattened, hold, on_stack, own_function, part_of
from fastloss._vector_memory import columns_of, lanes_with, load, store
from fastloss._vectors import choose, lanes_of

row: Any = None  # bound by the engine


def takes_columns(function):
    """Mark a loss's function of a row: written in vectors throughout, it takes `Columns` too."""
    function.tiled = True
    return function


def columns_from(tiles, first, classes):
    """Return the `Columns` of each of the tiles from row `first` on; a None stays."""


@overload(columns_from, jit_options=INLINED)
def _columns_from(tiles, first, classes):
    if len(tiles) == 0 or isinstance(tiles[0], types.NoneType):
        return lambda tiles, first, classes: tiles
    return lambda tiles, first, classes: (
        columns_of(tiles[0], first, LANES, classes), *columns_from(tiles[1:], first, classes),
    )  # fmt: skip


def labels_from(labels, places, first, lanes):
    """Return the labels of the rows from `first` on, as a tuple; () without labels."""


@overload(labels_from, jit_options=INLINED)
def _labels_from(labels, places, first, lanes):
    if isinstance(labels, types.NoneType):
        return lambda labels, places, first, lanes: ()
    return lambda labels, places, first, lanes: (part_of(places, first, lanes),)


def deliver_tiles(tiles, outs, first, rows, classes, factors, places, accumulate):
    """Write or add the derivatives of a tile's rows, times a factor, where they belong.

    Rows whose place is -1 do not count: zeros.
    """


@overload(deliver_tiles, jit_options=INLINED)
def _deliver_tiles(tiles, outs, first, rows, classes, factors, places, accumulate):
    if len(outs) == 0 or isinstance(outs[0], types.NoneType):
        return lambda tiles, outs, first, rows, classes, factors, places, accumulate: None

    def implementation(tiles, outs, first, rows, classes, factors, places, accumulate):
        T, origin, step = type(factors[0]), np.int64(0), np.int64(LANES)
        for k in range(len(outs)):
            tile, out = tiles[k], outs[k]
            for r in range(0, rows, lanes_of(factors)):
                factor = load(factors, r, 1)
                dead = lanes_with(places, r, -1, factor)
                for c in range(classes):
                    change = load(tile, c * LANES + r, 1) * factor
                    store(tile, c * LANES + r, choose(dead, T(0), change))
            if accumulate is None:
                transpose(tile, origin, step, classes, rows, out, first * classes, classes)
            else:
                add_transposed(tile, first * classes, rows, classes, out)

    return implementation


def column_block(
    inputs, labels, grads, hesses, losses, sample_weight, class_weight, upstream, accumulate,
    options, ignore_index, classes, inner, start, stop, share,
):  # fmt: skip
    """Return the sum of the losses of rows start to stop."""
    own_function()
    T, lanes = type(inputs[0][0]), lanes_of(inputs[0])
    size = LANES * classes
    memory = np.zeros((len(inputs) + len(grads) + len(hesses)) * size, inputs[0].dtype)
    inputs, grads, hesses = flattened(inputs), flattened(grads), flattened(hesses)
    tiles_in = parts_of(inputs, memory, 0, size)
    tiles_out = parts_of(grads, memory, len(inputs) * size, size)
    seconds = parts_of(hesses, memory, (len(inputs) + len(grads)) * size, size)
    places, weights = on_stack(np.int32, LANES), on_stack(np.float64, LANES)
    alone, factors = on_stack(T, LANES), on_stack(T, LANES)
    origin, step = np.int64(0), np.int64(LANES)  # typed: literals would compile more transposes
    loss_sum = 0.0
    for first in range(start, stop, LANES):
        rows = min(LANES, stop - first)
        for r in range(rows):
            label, weight = live_weight(
                labels, ignore_index, classes, sample_weight, class_weight, first + r
            )
            places[r] = -1 if weight == 0.0 else label
            weights[r] = weight
            scale = share * weight
            if upstream is not None:
                scale *= np.float64(upstream[first + r])
            factors[r] = T(scale)
        for k in range(len(inputs)):
            transpose(inputs[k], first * classes, classes, rows, classes, tiles_in[k], origin, step)
        for r in range(0, rows, lanes):
            own = labels_from(labels, places, r, lanes)
            loss = row(
                *(
                    columns_from(tiles_in, r, classes) + own + columns_from(tiles_out, r, classes)
                    + columns_from(seconds, r, classes) + options
                )
            )  # fmt: skip
            store(alone, r, loss)
        for r in range(rows):
            loss = weighed(alone[r], weights[r]) if weights[r] != 0.0 else 0.0
            loss_sum += loss
            if losses is not None:
                losses[first + r] = T(loss)
        deliver_tiles(tiles_out, grads, first, rows, classes, factors, places, accumulate)
        deliver_tiles(seconds, hesses, first, rows, classes, factors, places, None)
    hold(memory)
    return loss_sum
