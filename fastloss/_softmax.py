"""Loop templates of the softmax family: statistics of a row, the loss's link, the gradient.

With m the largest logit of a row, ``e_c = exp(x_c - m)`` and a_c the target mass of class c, every
loss of the family is a function of four numbers, ``link(rest, own, gap, mass)``:

    rest = sum of e_c but for one class k      gap  = sum of a_c (m - x_c)
    own  = e_k                                 mass = sum of a_c

and returns ``(loss, slope, excess)`` such that, with ``p = e / (rest + own)``, the gradient is
``slope (mass p - a) + excess p``. Leaving class k out of the sum is what keeps full relative
accuracy at any confidence: the gradient at k, ``mass p_k - a_k``, is computed as
``(mass_rest own - mass_own rest) / (rest + own)`` where nothing cancels. In *hard* rows (integer
labels) k is the label; in *soft* rows (dense targets, label smoothing) k is the class with the
largest logit, the only one whose p can come close to 1.

Two layouts. A *row* has its classes side by side, and vectors run along the classes. In a *tile*
neighbouring rows lie side by side, and vectors run across LANES rows: class-first arrays are such
tiles as they are, and rows of few classes are transposed into one in the L1 cache.

The engine clones these functions and binds the names that are only annotated here. An argument
that is None is pruned when a clone is compiled.
"""

from typing import Any

import numpy as np
from numba import njit, prange

from fastloss._jit import INLINED, LOOPS
from fastloss._llvm import OVERLAP, in_order, item, overlaps, own_function, part_of
from fastloss._math import exp, log, maximum

link: Any
tile: Any
block: Any

inlined = njit(**INLINED)

PIECE = 512
"""Classes summed in the array's own precision before the sum moves on to float64."""

LANES = 64
"""Rows of a tile."""

CLASSES_PER_SUM = 16
"""Classes that a lane adds up in the array's own precision before float64 takes over."""

BLOCK = 16384
"""Elements per block at least, the unit of parallel work and of the ordered sum."""

MAX_BLOCKS = 1024
"""Larger batches get larger blocks, so that the partial sums stay within 8 KB."""

TILE_CLASSES = 32
"""Rows of at most so many classes are transposed into tiles."""

IGNORED = -1
OUTSIDE = -2


@inlined
def class_of_label(label, ignore_index, classes):
    """Return the label as an index, or IGNORED, or OUTSIDE (whatever its integer type)."""
    index = np.int64(label)
    if index == ignore_index and (label < 0) == (index < 0):  # no uint64 passes for -100
        return np.int64(IGNORED)
    return index if np.uint64(index) < np.uint64(classes) else np.int64(OUTSIDE)


@inlined
def weight_of_row(sample_weight, class_weight, label, row):
    """Return the weight of a row in float64: that of its sample times that of its class."""
    weight = 1.0
    if sample_weight is not None:
        weight *= np.float64(sample_weight[row])
    if class_weight is not None:
        weight *= np.float64(class_weight[np.uintp(label)])
    return weight


@inlined
def largest(x):
    """Return the largest entry, NaN if there is one."""
    top = x[0]
    for c in range(x.size):
        top = maximum(top, x[c])
    return top


@inlined
def mass_of_class(dense, hit, class_weight, smoothing, T):
    """Return the target mass ``w_c ((1 - smoothing) t_c + smoothing / C)`` of one class.

    Without a dense target, t is the one-hot row whose 1 is where `hit`. `smoothing` is the pair
    ``(1 - smoothing, smoothing / C)``.
    """
    mass = (T(1) if hit else T(0)) if dense is None else T(dense)
    if smoothing is not None:
        mass = smoothing[0] * mass + smoothing[1]
    if class_weight is not None:
        mass *= T(class_weight)
    return mass


@inlined
def clip_to(p, clip):
    """Return p clipped to ``[clip[0], clip[1]]``; NaN stays."""
    return min(max(p, clip[0]), clip[1])



@inlined
def live_weight(labels, ignore_index, classes, sample_weight, class_weight, row):
    """Return (label, weight) of a row; the weight is 0 where the row does not count.

    Rows without labels (dense targets) have label 0. A label outside the classes is not counted
    either: the driver has refused it before, and memory stays safe if it changed since.
    """
    label = np.int64(0)
    if labels is not None:
        label = class_of_label(labels[row], ignore_index, classes)
    if label < 0:
        return label, 0.0
    return label, weight_of_row(sample_weight, class_weight, label, row)


@inlined
def skip_row(g, h, losses, row, accumulate):
    """Leave zeros where a row that does not count, and is not even looked at, has its results."""
    if losses is not None:
        losses[row] = 0
    if g is not None and accumulate is None:
        g[:] = 0
    if h is not None:
        h[:] = 0


@inlined
def gradient_scale(share, weight, upstream, row):
    """Return the factor between a row's own gradient and that of the reduced value."""
    scale = share * weight
    if upstream is not None:
        scale *= np.float64(upstream[row])
    return scale


@inlined
def store_for_powers(g, accumulate, scratch, first, size):
    """Return where e goes: into the gradient's own memory if that is free, else into scratch."""
    if g is None:
        return scratch[:size]
    if accumulate is not None:
        return scratch[:size]
    return part_of(g, first, size)


@inlined
def power(g, x, c, top, accumulate):
    """Return e, as stored or, where the gradient's memory was not free, computed again."""
    if accumulate is None:
        return g[c]
    return exp(x[c] - top)


@inlined
def again(g, x, c, top, accumulate):
    """Return e, as stored if there is a gradient, else computed again."""
    if g is None:
        return exp(x[c] - top)
    return power(g, x, c, top, accumulate)


@inlined
def keep_power(g, c, e, accumulate):
    """Store e where the gradient will be, if that memory is free."""
    if g is not None:
        if accumulate is None:
            g[c] = e


@inlined
def put(g, c, change, accumulate):
    """Write or add an entry of the gradient."""
    if accumulate is None:
        g[c] = change
    else:
        g[c] += change


def hard_rows(
    logits, labels, dense, grad, hess, losses, sample_weight, class_weight, upstream, smoothing,
    clip, accumulate, options, ignore_index, classes, inner, start, stop, share,
):  # fmt: skip
    """Return the sum of the losses of rows start to stop: contiguous classes, integer labels."""
    own_function()
    source = grad if logits is None else logits
    T = type(source[0])
    scratch = np.empty(PIECE, source.dtype)
    loss_sum = 0.0
    for row in range(start, stop):
        label, weight = live_weight(labels, ignore_index, classes, sample_weight, class_weight, row)
        x = part_of(source, row * classes, classes)
        g = part_of(grad, row * classes, classes)
        h = part_of(hess, row * classes, classes)
        if weight == 0.0:
            skip_row(g, h, losses, row, accumulate)
            continue
        y = np.uintp(label)
        top = largest(x)
        gap = top - x[y]
        own = np.float64(exp(-gap))
        rest = 0.0
        for first in range(0, classes, PIECE):
            size = min(PIECE, classes - first)
            piece = part_of(x, first, size)
            powers = store_for_powers(g, accumulate, scratch, first, size)
            for c in range(size):
                powers[c] = exp(piece[c] - top)
            if np.uint64(label - first) < np.uint64(size):
                powers[np.uintp(label - first)] = T(0)
            part = T(0)
            for c in range(size):
                part += powers[c]
            rest += np.float64(part)
        total = rest + own
        loss, slope, excess = link(rest, own, np.float64(gap), 1.0, *options)
        if clip is not None:
            loss = -log(clip_to(own / total, clip))
        loss_sum += weight * loss
        if losses is not None:
            losses[row] = T(weight * loss)

        if grad is not None:
            scale = gradient_scale(share, weight, upstream, row)
            pull = scale * (slope + excess)
            inverse = T(1.0 / total)
            if hess is not None:
                for c in range(h.size):
                    p = power(g, x, c, top, accumulate) * inverse
                    h[c] = T(pull) * (p * (T(1) - p))
                h[y] = T(pull * (own / total) * (rest / total))
            before = 0.0 if accumulate is None else np.float64(g[y])
            if clip is None:
                factor = T(pull / total)
                for c in range(g.size):
                    put(g, c, factor * power(g, x, c, top, accumulate), accumulate)
                g[y] = T(before + scale * (excess * own - slope * rest) / total)
            else:
                for c in range(g.size):
                    p = power(g, x, c, top, accumulate) * inverse
                    put(g, c, T(pull) * clip_to(p, clip), accumulate)
                g[y] = T(before + scale * (clip_to(own / total, clip) - 1.0))
    return loss_sum


def soft_rows(
    logits, labels, dense, grad, hess, losses, sample_weight, class_weight, upstream, smoothing,
    clip, accumulate, options, ignore_index, classes, inner, start, stop, share,
):  # fmt: skip
    """Return the sum of the losses of rows start to stop: contiguous classes, soft targets."""
    own_function()
    source = grad if logits is None else logits
    T = type(source[0])
    scratch = np.empty(PIECE, source.dtype)
    loss_sum = 0.0
    for row in range(start, stop):
        label, weight = live_weight(labels, ignore_index, classes, sample_weight, None, row)
        x = part_of(source, row * classes, classes)
        t = part_of(dense, row * classes, classes)
        g = part_of(grad, row * classes, classes)
        h = part_of(hess, row * classes, classes)
        if weight == 0.0:
            skip_row(g, h, losses, row, accumulate)
            continue
        top = largest(x)
        rest, tops, mass_rest, mass_tops, gap = 0.0, 0.0, 0.0, 0.0, 0.0
        for first in range(0, classes, PIECE):
            size = min(PIECE, classes - first)
            piece = part_of(x, first, size)
            t_piece = part_of(t, first, size)
            w_piece = part_of(class_weight, first, size)
            powers = store_for_powers(g, accumulate, scratch, first, size)
            part_rest, part_tops, part_mass_rest, part_mass_tops, part_gap = (
                T(0), T(0), T(0), T(0), T(0),
            )  # fmt: skip
            hit = label - first
            for c in range(size):
                below = piece[c] - top
                e = exp(below)
                a = mass_of_class(item(t_piece, c), hit == c, item(w_piece, c), smoothing, T)
                powers[c] = e
                is_top = e == T(1)
                part_rest += T(0) if is_top else e
                part_tops += T(1) if is_top else T(0)
                part_mass_rest += T(0) if is_top else a
                part_mass_tops += a if is_top else T(0)
                part_gap -= T(0) if a == T(0) else a * below  # 0 times -inf is 0 here
            rest += np.float64(part_rest)
            tops += np.float64(part_tops)
            mass_rest += np.float64(part_mass_rest)
            mass_tops += np.float64(part_mass_tops)
            gap += np.float64(part_gap)
        # Beyond the first, a class that ties for the top belongs to the rest.
        total = rest + tops
        mass = mass_rest + mass_tops
        loss, slope, excess = link(rest + (tops - 1.0), 1.0, gap, mass, *options)
        inverse = T(1.0 / total)
        if clip is not None:
            loss = 0.0
            for c in range(classes):
                e = again(g, x, c, top, accumulate)
                a = mass_of_class(item(t, c), label == c, item(class_weight, c), smoothing, T)
                p_log = a * log(clip_to(e * inverse, clip))
                loss -= np.float64(T(0) if a == T(0) else p_log)
        loss_sum += weight * loss
        if losses is not None:
            losses[row] = T(weight * loss)

        if grad is not None:
            scale = gradient_scale(share, weight, upstream, row)
            pull = scale * (slope * mass + excess)
            if hess is not None:
                for c in range(h.size):
                    p = power(g, x, c, top, accumulate) * inverse
                    h[c] = T(pull) * (p * (T(1) - p))
            minus = T(scale * slope)
            if clip is None:
                factor = T(pull / total)
                unique = tops == 1.0
                at_top = T(scale * (slope * (mass_rest - mass_tops * rest) + excess) / total)
                for c in range(g.size):
                    e = power(g, x, c, top, accumulate)
                    a = mass_of_class(item(t, c), label == c, item(class_weight, c), smoothing, T)
                    change = at_top if unique and e == T(1) else factor * e - minus * a
                    put(g, c, change, accumulate)
            else:
                for c in range(g.size):
                    q = clip_to(power(g, x, c, top, accumulate) * inverse, clip)
                    a = mass_of_class(item(t, c), label == c, item(class_weight, c), smoothing, T)
                    put(g, c, T(pull) * q - minus * a, accumulate)
    return loss_sum


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
    top, rest, own, gap, part, factor, at_label, inverse = lanes[:8]
    for i in range(size):
        top[i] = T(-np.inf)
        rest[i] = T(0)
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
                e = exp(below)
                hit = labels[i] == y
                part[i] += T(0) if hit else e
                own[i] = e if hit else own[i]
                gap[i] = -below if hit else gap[i]
                keep_power(out, i, e, accumulate)
        for i in range(size):
            rest[i] += part[i]
    for i in range(size):
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
    rest, tops, mass_rest, mass_tops, gap = lanes[5:10]
    part_rest, part_tops, part_mass_rest, part_mass_tops, part_gap = lanes[10:15]
    for i in range(size):
        top[i] = T(-np.inf)
    for c in range(classes):
        row = part_of(source, start + c * step, size)
        for i in range(size):
            top[i] = maximum(top[i], row[i])
    for lane in lanes[5:15]:
        for i in range(size):
            lane[i] = T(0)
    for begin in range(0, classes, CLASSES_PER_SUM):
        for c in range(begin, min(begin + CLASSES_PER_SUM, classes)):
            row = part_of(source, start + c * step, size)
            row_t = part_of(t, start + c * step, size)
            out = part_of(g, start + c * step, size)
            y = np.int32(c)
            w = None if class_weight is None else class_weight[np.uintp(c)]
            for i in range(size):
                below = row[i] - top[i]
                e = exp(below)
                a = mass_of_class(item(row_t, i), labels[i] == y, w, smoothing, T)
                is_top = e == T(1)
                part_rest[i] += T(0) if is_top else e
                part_tops[i] += T(1) if is_top else T(0)
                part_mass_rest[i] += T(0) if is_top else a
                part_mass_tops[i] += a if is_top else T(0)
                part_gap[i] -= T(0) if a == T(0) else a * below  # 0 times -inf is 0 here
                keep_power(out, i, e, accumulate)
        for whole, part in zip(lanes[5:10], lanes[10:15]):
            for i in range(size):
                whole[i] += part[i]
                part[i] = T(0)
    for i in range(size):
        # Beyond the first, a class that ties for the top belongs to the rest.
        total = rest[i] + tops[i]
        mass = mass_rest[i] + mass_tops[i]
        loss, slope, excess = link(rest[i] + (tops[i] - T(1)), T(1), gap[i], mass, *options)
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
            w = None if class_weight is None else class_weight[np.uintp(c)]
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
            w = None if class_weight is None else class_weight[np.uintp(c)]
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
    s = np.empty((18, LANES), dtype)
    return (
        s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], s[11], s[12], s[13],
        s[14], s[15], s[16], s[17],
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
    weights, scales, lane_losses = lanes[15:]
    lane_labels = np.empty(LANES, np.int32)
    scratch = LANES * classes if inner == 1 else 0
    tile_x = np.empty(scratch, source.dtype)
    tile_t = None if dense is None else np.empty(scratch, dense.dtype)
    tile_g = None if grad is None else np.empty(scratch, source.dtype)
    tile_h = None if hess is None else np.empty(scratch, source.dtype)
    hard_class_weight = class_weight if dense is None and smoothing is None else None
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
                tile_x, tile_t, tile_g, tile_h, 0, LANES, lane_labels, class_weight, weights,
                scales, lane_losses, smoothing, clip, None, options, size, classes, lanes,
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


@njit(**LOOPS)
def scan(labels, dense, sample_weight, class_weight, ignore_index, classes, inner, start, stop):
    """Return the total weight of rows start to stop and the first row with a label outside.

    That row is -1 if there is none. The weight is the mean's: sample weight times target mass.
    """
    own_function()
    mass = 0.0
    outside = -1
    if labels is not None:
        for row in range(start, stop):
            label = class_of_label(labels[row], ignore_index, classes)
            if label == OUTSIDE and outside < 0:
                outside = row
            if label >= 0:
                mass += weight_of_row(sample_weight, class_weight, label, row)
    if dense is not None:
        for row in range(start, stop):
            place = row // inner * classes * inner + row % inner
            row_mass = 0.0
            for c in range(classes):
                a = np.float64(dense[np.uintp(place + c * inner)])
                if class_weight is not None:
                    a *= np.float64(class_weight[np.uintp(c)])
                row_mass += a
            if sample_weight is not None:
                row_mass *= np.float64(sample_weight[row])
            mass += row_mass
    return mass, outside


def softmax_driver(
    logits, labels, dense, grad, hess, losses, sample_weight, class_weight, upstream, smoothing,
    clip, accumulate, options, ignore_index, rows, classes, inner, divisor, scale,
):  # fmt: skip
    """Check the labels, find the divisor, run the blocks, combine their sums in order.

    A `divisor` of NaN asks for the mean's own. Returns the reduced value and a status: -1 for
    success, the first row whose label is outside, or OVERLAP (nothing is written in both cases).
    """
    if grad is not None:
        if logits is not None and overlaps(grad, logits):
            return np.nan, OVERLAP
        if labels is not None and overlaps(grad, labels):
            return np.nan, OVERLAP
        if dense is not None and overlaps(grad, dense):
            return np.nan, OVERLAP
    step = max(1, BLOCK // classes, rows // MAX_BLOCKS + 1)
    step = (step + LANES - 1) // LANES * LANES if classes <= TILE_CLASSES or inner > 1 else step
    blocks = (rows + step - 1) // step
    sums = np.zeros(blocks)
    if labels is not None or np.isnan(divisor):
        outside = np.full(blocks, -1, np.int64)
        for b in prange(blocks):
            sums[b], outside[b] = scan(
                labels, dense, sample_weight, class_weight, ignore_index, classes, inner,
                b * step, min(rows, (b + 1) * step),
            )  # fmt: skip
        for b in range(blocks):
            if outside[b] >= 0:
                return np.nan, outside[b]
        if np.isnan(divisor):
            divisor = in_order(sums)
    if divisor == 0.0:  # nothing counts: zeros, never NaN
        if grad is not None and accumulate is None:
            grad[:] = 0
        if hess is not None:
            hess[:] = 0
        return 0.0, -1
    share = scale / divisor
    for b in prange(blocks):
        sums[b] = block(
            logits, labels, dense, grad, hess, losses, sample_weight, class_weight, upstream,
            smoothing, clip, accumulate, options, ignore_index, classes, inner,
            b * step, min(rows, (b + 1) * step), share,
        )  # fmt: skip
    return in_order(sums) / divisor, -1
