"""Template of the softmax family for batches in tiles: the way of rows into tiles and back."""

from typing import Any

import numpy as np

from fastloss._drivers.common import (
    LANES,
    TILE_CLASSES,
    class_of_label,
    gradient_scale,
    live_weight,
)  # fmt: skip
from fastloss._drivers.masses import excess_of
from fastloss._drivers.tile import QUANTITIES, SCRATCH, quantity
from fastloss._drivers.transposing import add_transposed, transpose
from fastloss._llvm import (
    either,
    on_stack,
    own_function,
    part_of,
    part_of_if,
    scratch_for,
)

tile: Any = None  # bound by the engine


def tiles(
    logits, labels, dense, grad, hess, losses, sample_weight, class_weight, upstream, smoothing,
    clip, accumulate, options, curved, temperature, z_loss, others, mix, ignore_index, classes,
    inner, start, stop, share, assumed,
):  # fmt: skip
    """Return the sum of the losses of rows start to stop, computed as tiles of up to LANES rows.

    And how much their targets' masses exceed 1 each, all together, where it has been `assumed` that
    they do not.

    Class-first arrays of shape (…, classes, inner), flat: the rows of one inner run are a tile as
    they lie. Rows with contiguous classes (inner = 1) are transposed into scratch and back.
    """
    own_function()
    source = either(logits, grad)
    T = type(source[0])
    extent = LANES * TILE_CLASSES  # of a transposed tile, at most
    scratch = on_stack(T, SCRATCH)
    weights, scales, lane_losses = (
        quantity(scratch, 20),
        quantity(scratch, 21),
        quantity(scratch, 22),
    )
    lane_labels = on_stack(np.int32, LANES)
    other_lanes = on_stack(np.int32, LANES)
    lane_others = part_of_if(others, other_lanes, 0, LANES)
    tile_x = part_of(scratch, QUANTITIES * LANES, extent)
    tile_g = part_of_if(grad, scratch, QUANTITIES * LANES + extent, extent)
    tile_h = part_of_if(hess, scratch, QUANTITIES * LANES + 2 * extent, extent)
    tile_t = scratch_for(dense, extent if inner == 1 else 0)
    plain = class_weight if dense is None and smoothing is None else None
    hard_class_weight = plain if others is None else None
    origin, lane_step = np.int64(0), np.int64(LANES)  # typed: literals would compile a second tile
    loss_sum = 0.0
    row = start
    while row < stop:
        size = min(LANES, stop - row)
        column = row % inner
        if inner > 1:
            size = min(size, inner - column)
        here, others_here = part_of(labels, row, size), part_of(others, row, size)
        weight_here = part_of(sample_weight, row, size)
        upstream_here = part_of(upstream, row, size)
        for i in range(size):
            label, weight = live_weight(
                here, ignore_index, classes, weight_here, hard_class_weight, i
            )
            lane_labels[i] = -1 if weight == 0.0 else label
            if others is not None:
                other = class_of_label(others_here[i], ignore_index, classes)
                lane_others[i] = other
                lane_labels[i] = -1 if weight == 0.0 or other < 0 else label
            weights[i] = T(weight)
            scales[i] = T(gradient_scale(share, weight, upstream_here, i, temperature))
        if inner == 1:
            place = row * classes
            transpose(source, place, classes, size, classes, tile_x, origin, lane_step)
            if dense is not None:
                transpose(dense, place, classes, size, classes, tile_t, origin, lane_step)
            tile(
                tile_x, tile_t, tile_g, tile_h, origin, lane_step, lane_labels, class_weight,
                weights, scales, lane_losses, smoothing, clip, None, options, curved, temperature,
                z_loss, lane_others, mix, size, classes, scratch,
            )  # fmt: skip
            if grad is not None:
                if accumulate is None:
                    transpose(tile_g, origin, lane_step, classes, size, grad, place, classes)
                else:
                    add_transposed(tile_g, place, size, classes, grad)
            if hess is not None:
                transpose(tile_h, origin, lane_step, classes, size, hess, place, classes)
        else:
            place = row // inner * classes * inner + column
            tile(
                logits, dense, grad, hess, place, inner, lane_labels, class_weight, weights,
                scales, lane_losses, smoothing, clip, accumulate, options, curved, temperature,
                z_loss, lane_others, mix, size, classes, scratch,
            )  # fmt: skip
        for i in range(size):
            loss_sum += np.float64(lane_losses[i])
            if losses is not None:
                losses[row + i] = lane_losses[i]
        row += size
    excess = 0.0
    if dense is not None and assumed:
        excess = excess_of(dense, classes, inner, start, stop)
    return loss_sum, excess
