"""Templates of the softmax family for tiles: neighbouring rows, vectors across the rows."""

from typing import Any

import numpy as np

from fastloss._drivers.common import (
    LANES,
    add_to,
    again,
    beyond_one_top,
    clip_to,
    gradient_scale,
    inlined,
    keep_power,
    live_weight,
    mass_of_class,
    power,
    put,
    settle,
)  # fmt: skip
from fastloss._llvm import item, own_function, part_of, scratch_for
from fastloss._math import exp_nonpositive, log, maximum

link: Any = None  # bound by the engine
tile: Any = None  # bound by the engine

CLASSES_PER_SUM = 8
"""Classes that a lane adds up plainly, before a compensated sum of these sums takes over."""


def hard_tile(
    x, t, g, h, start, step, labels, class_weight, weights, scales, losses, smoothing, clip,
    accumulate, options, size, classes, lanes,
):  # fmt: skip
    """Compute `size` neighbouring rows with integer labels, vectors running across the rows.

    Class c of the rows lies at ``start + c * step`` and the `size - 1` places behind it, in every
    array. `labels` is -1 for a row that does not count. The weighted losses go to `losses`.
    """
    own_function()
    source = g if x is None else x
    T = type(source[0])
    top, rest, own, gap, part, lost, factor, at_label, inverse = lanes[:9]
    for i in range(size):
        top[i] = T(-np.inf)
        rest[i] = T(0)
        lost[i] = T(0)
        own[i] = T(0)
        gap[i] = T(0)
    for c in range(classes):
        row = part_of(source, start + c * step, size)
        for i in range(size):
            top[i] = maximum(top[i], row[i])
    for begin in range(0, classes, CLASSES_PER_SUM):
        for i in range(size):
            part[i] = T(0)
        for c in range(begin, min(begin + CLASSES_PER_SUM, classes)):
            row = part_of(source, start + c * step, size)
            out = part_of(g, start + c * step, size)
            y = np.int32(c)
            for i in range(size):
                below = row[i] - top[i]
                e = exp_nonpositive(below)
                hit = labels[i] == y
                part[i] += T(0) if hit else e
                own[i] = e if hit else own[i]
                gap[i] = -below if hit else gap[i]
                keep_power(out, i, e, accumulate)
        for i in range(size):
            add_to(rest, lost, part, i)
    for i in range(size):
        settle(rest, lost, i)
        total = rest[i] + own[i]
        loss, slope, excess = link(rest[i], own[i], gap[i], T(1), *options)
        if clip is not None:
            loss = -log(clip_to(own[i] / total, clip))
        losses[i] = T(0) if labels[i] < 0 else weights[i] * loss
        if g is not None:
            inverse[i] = T(1) / total
            factor[i] = scales[i] * (slope + excess)
            at_label[i] = scales[i] * ((excess * own[i] - slope * rest[i]) / total)
            if clip is not None:
                at_label[i] = scales[i] * (clip_to(own[i] / total, clip) - T(1))
    if g is not None:
        for c in range(classes):
            row = part_of(source, start + c * step, size)
            out = part_of(g, start + c * step, size)
            second = part_of(h, start + c * step, size)
            y = np.int32(c)
            for i in range(size):
                p = power(out, row, i, top[i], accumulate) * inverse[i]
                hit = labels[i] == y
                dead = labels[i] < 0
                if h is not None:
                    others = rest[i] * inverse[i] if hit else T(1) - p
                    second[i] = T(0) if dead else factor[i] * (p * others)
                if clip is not None:
                    p = clip_to(p, clip)
                change = at_label[i] if hit else factor[i] * p
                put(out, i, T(0) if dead else change, accumulate)


def soft_tile(
    x, t, g, h, start, step, labels, class_weight, weights, scales, losses, smoothing, clip,
    accumulate, options, size, classes, lanes,
):  # fmt: skip
    """Compute `size` neighbouring rows with soft targets, vectors running across the rows."""
    own_function()
    source = g if x is None else x
    T = type(source[0])
    top, inverse, factor, minus, at_top = lanes[:5]
    wholes, parts, losts = lanes[5:10], lanes[10:15], lanes[15:20]
    rest, tops, mass_rest, mass_tops, gap = wholes
    part_rest, part_tops, part_mass_rest, part_mass_tops, part_gap = parts
    for i in range(size):
        top[i] = T(-np.inf)
    for c in range(classes):
        row = part_of(source, start + c * step, size)
        for i in range(size):
            top[i] = maximum(top[i], row[i])
    for lane in lanes[5:20]:
        for i in range(size):
            lane[i] = T(0)
    for begin in range(0, classes, CLASSES_PER_SUM):
        for c in range(begin, min(begin + CLASSES_PER_SUM, classes)):
            row = part_of(source, start + c * step, size)
            row_t = part_of(t, start + c * step, size)
            out = part_of(g, start + c * step, size)
            y = np.int32(c)
            w = item(class_weight, np.uintp(c))
            for i in range(size):
                below = row[i] - top[i]
                e = exp_nonpositive(below)
                a = mass_of_class(item(row_t, i), labels[i] == y, w, smoothing, T)
                is_top = e == T(1)
                part_rest[i] += T(0) if is_top else e
                part_tops[i] += T(1) if is_top else T(0)
                part_mass_rest[i] += T(0) if is_top else a
                part_mass_tops[i] += a if is_top else T(0)
                part_gap[i] -= T(0) if a == T(0) else a * below  # 0 times -inf is 0 here
                keep_power(out, i, e, accumulate)
        for k in range(len(wholes)):
            for i in range(size):
                add_to(wholes[k], losts[k], parts[k], i)
                parts[k][i] = T(0)
    for k in range(len(wholes)):
        for i in range(size):
            settle(wholes[k], losts[k], i)
    for i in range(size):
        total = rest[i] + tops[i]
        mass = mass_rest[i] + mass_tops[i]
        loss, slope, excess = link(beyond_one_top(rest[i], tops[i]), T(1), gap[i], mass, *options)
        losses[i] = T(0) if labels[i] < 0 else weights[i] * loss
        inverse[i] = T(1) / total
        if g is not None:
            factor[i] = scales[i] * (slope * mass + excess)
            minus[i] = scales[i] * slope
            alone = slope * (mass_rest[i] - mass_tops[i] * rest[i]) + excess
            at_top[i] = scales[i] * (alone / total)
    if clip is not None:
        for i in range(size):
            losses[i] = T(0)
        for c in range(classes):
            row = part_of(source, start + c * step, size)
            row_t = part_of(t, start + c * step, size)
            out = part_of(g, start + c * step, size)
            y = np.int32(c)
            w = item(class_weight, np.uintp(c))
            for i in range(size):
                e = again(out, row, i, top[i], accumulate)
                a = mass_of_class(item(row_t, i), labels[i] == y, w, smoothing, T)
                term = weights[i] * (a * log(clip_to(e * inverse[i], clip)))
                losses[i] -= T(0) if a == T(0) or labels[i] < 0 else term
    if g is not None:
        for c in range(classes):
            row = part_of(source, start + c * step, size)
            row_t = part_of(t, start + c * step, size)
            out = part_of(g, start + c * step, size)
            second = part_of(h, start + c * step, size)
            y = np.int32(c)
            w = item(class_weight, np.uintp(c))
            for i in range(size):
                e = power(out, row, i, top[i], accumulate)
                p = e * inverse[i]
                a = mass_of_class(item(row_t, i), labels[i] == y, w, smoothing, T)
                dead = labels[i] < 0
                if h is not None:
                    second[i] = T(0) if dead else factor[i] * (p * (T(1) - p))
                if clip is not None:
                    change = factor[i] * clip_to(p, clip) - minus[i] * a
                else:
                    change = factor[i] * p - minus[i] * a
                    change = at_top[i] if e == T(1) and tops[i] == T(1) else change
                put(out, i, T(0) if dead else change, accumulate)


@inlined
def lane_arrays(dtype):
    """Return the scratch of a tile: one number per row and quantity."""
    s = np.empty((23, LANES), dtype)
    return (
        s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], s[11], s[12], s[13],
        s[14], s[15], s[16], s[17], s[18], s[19], s[20], s[21], s[22],
    )  # fmt: skip


@inlined
def transpose_in(rows, start, count, classes, out):
    """Lay `count` contiguous rows side by side in the tile `out`."""
    for c in range(classes):
        column = part_of(out, c * LANES, count)
        for i in range(count):
            column[i] = rows[np.uintp(start + i * classes + c)]


@inlined
def transpose_out(tile_values, start, count, classes, rows, accumulate):
    """Write (or add) the rows of a tile back, one after the other."""
    for i in range(count):
        row = part_of(rows, start + i * classes, classes)
        for c in range(classes):
            put(row, c, tile_values[np.uintp(c * LANES + i)], accumulate)


def tiles(
    logits, labels, dense, grad, hess, losses, sample_weight, class_weight, upstream, smoothing,
    clip, accumulate, options, ignore_index, classes, inner, start, stop, share,
):  # fmt: skip
    """Return the sum of the losses of rows start to stop, computed as tiles of up to LANES rows.

    Class-first arrays of shape (…, classes, inner), flat: the rows of one inner run are a tile as
    they lie. Rows with contiguous classes (inner = 1) are transposed into scratch and back.
    """
    own_function()
    source = grad if logits is None else logits
    T = type(source[0])
    lanes = lane_arrays(source.dtype)
    weights, scales, lane_losses = lanes[20:]
    lane_labels = np.empty(LANES, np.int32)
    scratch = LANES * classes if inner == 1 else 0
    tile_x = np.empty(scratch, source.dtype)
    tile_t = scratch_for(dense, scratch)
    tile_g = scratch_for(grad, scratch)
    tile_h = scratch_for(hess, scratch)
    hard_class_weight = class_weight if dense is None and smoothing is None else None
    origin, lane_step = np.int64(0), np.int64(LANES)  # typed: literals would compile a second tile
    loss_sum = 0.0
    row = start
    while row < stop:
        size = min(LANES, stop - row)
        column = row % inner
        if inner > 1:
            size = min(size, inner - column)
        for i in range(size):
            label, weight = live_weight(
                labels, ignore_index, classes, sample_weight, hard_class_weight, row + i
            )
            lane_labels[i] = -1 if weight == 0.0 else label
            weights[i] = T(weight)
            scales[i] = T(gradient_scale(share, weight, upstream, row + i))
        if inner == 1:
            place = row * classes
            transpose_in(source, place, size, classes, tile_x)
            if dense is not None:
                transpose_in(dense, place, size, classes, tile_t)
            tile(
                tile_x, tile_t, tile_g, tile_h, origin, lane_step, lane_labels, class_weight,
                weights, scales, lane_losses, smoothing, clip, None, options, size, classes, lanes,
            )  # fmt: skip
            if grad is not None:
                transpose_out(tile_g, place, size, classes, grad, accumulate)
            if hess is not None:
                transpose_out(tile_h, place, size, classes, hess, None)
        else:
            place = row // inner * classes * inner + column
            tile(
                logits, dense, grad, hess, place, inner, lane_labels, class_weight, weights,
                scales, lane_losses, smoothing, clip, accumulate, options, size, classes, lanes,
            )  # fmt: skip
        for i in range(size):
            loss_sum += np.float64(lane_losses[i])
            if losses is not None:
                losses[row + i] = lane_losses[i]
        row += size
    return loss_sum
