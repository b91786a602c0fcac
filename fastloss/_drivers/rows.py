"""Templates of the softmax family for rows: contiguous classes, vectors along the classes."""

from typing import Any

import numpy as np

from fastloss._drivers.common import (
    again,
    apart,
    beyond_one_top,
    class_of_label,
    clip_to,
    gradient_scale,
    largest,
    live_weight,
    log_sum_exp,
    mass_of_class,
    per_temperature,
    power,
    put,
    skip_row,
    store_for_powers,
    z_of_label,
)  # fmt: skip
from fastloss._llvm import either, item, on_stack, own_function, part_of
from fastloss._math import exp_nonpositive, log

link: Any = None  # bound by the engine

PIECE = 512
"""Classes summed in the array's own precision before the sum moves on to float64."""


def hard_rows(
    logits, labels, dense, grad, hess, losses, sample_weight, class_weight, upstream, smoothing,
    clip, accumulate, options, curved, temperature, z_loss, others, mix, ignore_index, classes,
    inner, start, stop, share,
):  # fmt: skip
    """Return the sum of the losses of rows start to stop: contiguous classes, integer labels."""
    own_function()
    source = either(logits, grad)
    T = type(source[0])
    scratch = on_stack(source.dtype, PIECE)
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
        gap = apart(top, x[y], temperature)
        own = np.float64(exp_nonpositive(-gap))
        rest = 0.0
        for first in range(0, classes, PIECE):
            size = min(PIECE, classes - first)
            piece = part_of(x, first, size)
            powers = store_for_powers(g, accumulate, scratch, first, size)
            here = np.int32(label - first)  # 32 bits, as many to a vector as there are powers
            part = T(0)
            for c in range(size):
                e = exp_nonpositive(apart(piece[c], top, temperature))
                powers[c] = e
                part += T(0) if np.int32(c) == here else e
            rest += np.float64(part)
        total = rest + own
        loss, slope, bend = link(rest, own, np.float64(gap), 1.0, *options)
        excess = 0.0
        if z_loss is not None:
            z = z_of_label(z_loss, class_weight, label, np.float64)
            log_sum = log_sum_exp(np.float64(top), total, temperature)
            loss += z * log_sum * log_sum
            excess = 2.0 * z * log_sum
        if clip is not None:
            loss = -log(clip_to(own / total, clip))
        loss_sum += weight * loss
        if losses is not None:
            losses[row] = T(weight * loss)

        if grad is not None:
            scale = gradient_scale(share, weight, upstream, row, temperature)
            pull = scale * (slope + excess)
            inverse = T(1.0 / total)
            if hess is not None:
                second = per_temperature(pull, temperature)
                for c in range(h.size):
                    p = power(g, x, c, top, accumulate, temperature) * inverse
                    h[c] = T(second) * (p * (T(1) - p))
                at_label = second * (own / total) * (rest / total)
                if curved is not None:
                    square = per_temperature(scale * bend, temperature)
                    at_label += square * (rest / total) * (rest / total)
                    for c in range(h.size):
                        p = power(g, x, c, top, accumulate, temperature) * inverse
                        h[c] += T(square) * (p * p)
                if z_loss is not None:
                    square = per_temperature(scale * (2.0 * z), temperature)
                    at_label += square * (own / total) * (own / total)
                    for c in range(h.size):
                        p = power(g, x, c, top, accumulate, temperature) * inverse
                        h[c] += T(square) * (p * p)
                h[y] = T(at_label)
            before = 0.0 if accumulate is None else np.float64(g[y])
            if clip is None:
                factor = T(pull / total)
                for c in range(g.size):
                    put(g, c, factor * power(g, x, c, top, accumulate, temperature), accumulate)
                g[y] = T(before + scale * (excess * own - slope * rest) / total)
            else:
                for c in range(g.size):
                    p = power(g, x, c, top, accumulate, temperature) * inverse
                    put(g, c, T(pull) * clip_to(p, clip), accumulate)
                g[y] = T(before + scale * (clip_to(own / total, clip) - 1.0))
    return loss_sum


def soft_rows(
    logits, labels, dense, grad, hess, losses, sample_weight, class_weight, upstream, smoothing,
    clip, accumulate, options, curved, temperature, z_loss, others, mix, ignore_index, classes,
    inner, start, stop, share,
):  # fmt: skip
    """Return the sum of the losses of rows start to stop: contiguous classes, soft targets."""
    own_function()
    source = either(logits, grad)
    T = type(source[0])
    scratch = on_stack(source.dtype, PIECE)
    loss_sum = 0.0
    for row in range(start, stop):
        label, weight = live_weight(labels, ignore_index, classes, sample_weight, None, row)
        other = np.int64(0)
        if others is not None:
            other = class_of_label(others[row], ignore_index, classes)
        x = part_of(source, row * classes, classes)
        t = part_of(dense, row * classes, classes)
        g = part_of(grad, row * classes, classes)
        h = part_of(hess, row * classes, classes)
        if weight == 0.0 or other < 0:
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
            hit, other_hit = label - first, other - first
            for c in range(size):
                below = apart(piece[c], top, temperature)
                e = exp_nonpositive(below)
                a = mass_of_class(
                    item(t_piece, c), hit == c, other_hit == c, mix, item(w_piece, c), smoothing, T
                )
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
        total = rest + tops
        mass = mass_rest + mass_tops
        loss, slope, bend = link(beyond_one_top(rest, tops), 1.0, gap, mass, *options)
        if curved is not None:
            loss, mass_rest, mass_tops, slope, bend = 0.0, 0.0, 0.0, 1.0, 0.0
            for c in range(classes):
                e = again(g, x, c, top, accumulate, temperature)
                a = mass_of_class(
                    item(t, c), label == c, other == c, mix, item(class_weight, c), smoothing, T
                )
                remote = beyond_one_top(rest, tops) if e == T(1) else total - np.float64(e)
                near = np.float64(apart(top, x[c], temperature))
                one_loss, one_slope, one_bend = link(remote, np.float64(e), near, 1.0, *options)
                loss += 0.0 if a == T(0) else a * one_loss
                bend += 0.0 if a == T(0) else a * one_bend
                b = 0.0 if a == T(0) else a * one_slope
                mass_rest += 0.0 if e == T(1) else b
                mass_tops += b if e == T(1) else 0.0
            mass = mass_rest + mass_tops
        excess = 0.0
        if z_loss is not None:
            log_sum = log_sum_exp(np.float64(top), total, temperature)
            loss += np.float64(z_loss) * log_sum * log_sum
            excess = 2.0 * np.float64(z_loss) * log_sum
        inverse = T(1.0 / total)
        if clip is not None:
            loss = 0.0
            for c in range(classes):
                e = again(g, x, c, top, accumulate, temperature)
                a = mass_of_class(
                    item(t, c), label == c, other == c, mix, item(class_weight, c), smoothing, T
                )
                p_log = a * log(clip_to(e * inverse, clip))
                loss -= np.float64(T(0) if a == T(0) else p_log)
        loss_sum += weight * loss
        if losses is not None:
            losses[row] = T(weight * loss)

        if grad is not None:
            scale = gradient_scale(share, weight, upstream, row, temperature)
            pull = scale * (slope * mass + excess)
            unique = tops == 1.0
            if hess is not None:
                second = per_temperature(pull, temperature)
                for c in range(h.size):
                    p = power(g, x, c, top, accumulate, temperature) * inverse
                    h[c] = T(second) * (p * (T(1) - p))
                if curved is not None:
                    unit = per_temperature(scale, temperature)
                    for c in range(h.size):
                        e = power(g, x, c, top, accumulate, temperature)
                        a = mass_of_class(
                            item(t, c), label == c, other == c, mix, item(class_weight, c),
                            smoothing, T,
                        )  # fmt: skip
                        remote = beyond_one_top(rest, tops) if e == T(1) else total - np.float64(e)
                        near = np.float64(apart(top, x[c], temperature))
                        one_bend = link(remote, np.float64(e), near, 1.0, *options)[2]
                        k = 0.0 if a == T(0) else a * one_bend
                        p, q = np.float64(e) / total, remote / total
                        h[c] += T(unit * (k * q * q + (bend - k) * p * p))
                if z_loss is not None:
                    square = per_temperature(scale * (2.0 * np.float64(z_loss)), temperature)
                    for c in range(h.size):
                        p = power(g, x, c, top, accumulate, temperature) * inverse
                        h[c] += T(square) * (p * p)
            minus = T(scale * slope)
            if clip is None:
                factor = T(pull / total)
                at_top = T(scale * (slope * (mass_rest - mass_tops * rest) + excess) / total)
                for c in range(g.size):
                    e = power(g, x, c, top, accumulate, temperature)
                    a = mass_of_class(
                        item(t, c), label == c, other == c, mix, item(class_weight, c), smoothing, T
                    )
                    if curved is not None:
                        remote = beyond_one_top(rest, tops) if e == T(1) else total - np.float64(e)
                        near = np.float64(apart(top, x[c], temperature))
                        one_slope = link(remote, np.float64(e), near, 1.0, *options)[1]
                        a = T(0) if a == T(0) else T(a * one_slope)
                    change = at_top if unique and e == T(1) else factor * e - minus * a
                    put(g, c, change, accumulate)
            else:
                for c in range(g.size):
                    p = power(g, x, c, top, accumulate, temperature) * inverse
                    q = clip_to(p, clip)
                    a = mass_of_class(
                        item(t, c), label == c, other == c, mix, item(class_weight, c), smoothing, T
                    )
                    put(g, c, T(pull) * q - minus * a, accumulate)
    return loss_sum
