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
from fastloss._drivers.row_vectors import PIECE, largest_entry, multiply, powers_but_one
from fastloss._llvm import either, item, on_stack, own_function, part_of, unless
from fastloss._math import exp_nonpositive, log

link: Any = None  # bound by the engine

GROUP = 16
"""Rows of a group at most."""

GROUP_CLASSES = 1024
"""Classes of all rows of a group at most, unless it is a single one: they stay in the L1 cache."""


def hard_rows(
    logits, labels, dense, grad, hess, losses, sample_weight, class_weight, upstream, smoothing,
    clip, accumulate, options, curved, temperature, z_loss, others, mix, ignore_index, classes,
    inner, start, stop, share,
):  # fmt: skip
    """Return the sum of the losses of rows start to stop: contiguous classes, integer labels.

    Short rows go in groups, step by step: the maxima of all of them, then the exponentials, then
    the losses, then the gradients. A row by itself would wait for each of its sums and logarithms;
    here the next row is at work meanwhile, and the losses of a group are vector code.
    """
    own_function()
    source = either(logits, grad)
    T = type(source[0])
    places, weights = on_stack(np.intp, GROUP), on_stack(np.float64, GROUP)
    tops, gaps, rests = (
        on_stack(T, GROUP), on_stack(T, GROUP), on_stack(np.float64, GROUP),
    )  # fmt: skip
    pulls, factors, inverses, at_label = (
        on_stack(T, GROUP), on_stack(T, GROUP), on_stack(T, GROUP),
        on_stack(np.float64, GROUP),
    )  # fmt: skip
    seconds, squares, second_at_label = (
        on_stack(T, GROUP), on_stack(T, GROUP), on_stack(np.float64, GROUP),
    )  # fmt: skip
    group = min(GROUP, max(1, GROUP_CLASSES // classes))
    loss_sum = 0.0
    for first in range(start, stop, group):
        rows = min(group, stop - first)
        for r in range(rows):
            label, weights[r] = live_weight(
                labels, ignore_index, classes, sample_weight, class_weight, first + r
            )
            places[r] = max(label, 0)
            tops[r], gaps[r], rests[r] = T(0), T(0), 0.0  # of a row that does not count
            if weights[r] != 0.0:
                x = part_of(source, (first + r) * classes, classes)
                tops[r] = largest_entry(x, None)
                gaps[r] = apart(tops[r], x[np.uintp(label)], temperature)
        for r in range(rows):
            if weights[r] != 0.0:
                x = part_of(source, (first + r) * classes, classes)
                g = part_of(grad, (first + r) * classes, classes)
                free = unless(accumulate, g)
                rests[r] = powers_but_one(x, tops[r], temperature, None, places[r], free)

        for r in range(rows):  # those that do not count too: their results are not looked at
            weight, rest, own = weights[r], rests[r], np.float64(exp_nonpositive(-gaps[r]))
            total = rest + own
            loss, slope, bend = link(rest, own, np.float64(gaps[r]), 1.0, *options)
            z, excess = 0.0, 0.0
            if z_loss is not None:
                z = z_of_label(z_loss, class_weight, places[r], np.float64)
                log_sum = log_sum_exp(np.float64(tops[r]), total, temperature)
                loss += z * log_sum * log_sum
                excess = 2.0 * z * log_sum
            if clip is not None:
                loss = -log(clip_to(own / total, clip))
            loss = weight * loss if weight != 0.0 else 0.0
            loss_sum += loss
            if losses is not None:
                losses[first + r] = T(loss)
            if grad is not None:
                scale = gradient_scale(share, weight, upstream, first + r, temperature)
                pull = scale * (slope + excess)
                pulls[r], factors[r], inverses[r] = T(pull), T(pull / total), T(1.0 / total)
                if clip is None:
                    at_label[r] = scale * (excess * own - slope * rest) / total
                else:
                    at_label[r] = scale * (clip_to(own / total, clip) - 1.0)
                if hess is not None:
                    p, q, second = own / total, rest / total, per_temperature(pull, temperature)
                    seconds[r], squares[r], second_at_label[r] = T(second), T(0), second * p * q
                    if curved is not None:
                        square = per_temperature(scale * bend, temperature)
                        squares[r] += T(square)
                        second_at_label[r] += square * q * q
                    if z_loss is not None:
                        square = per_temperature(scale * (2.0 * z), temperature)
                        squares[r] += T(square)
                        second_at_label[r] += square * p * p

        if grad is not None:
            for r in range(rows):
                y = np.uintp(places[r])
                x = part_of(source, (first + r) * classes, classes)
                g = part_of(grad, (first + r) * classes, classes)
                h = part_of(hess, (first + r) * classes, classes)
                if weights[r] == 0.0:
                    skip_row(g, h, None, first + r, accumulate)
                    continue
                if hess is not None:
                    for c in range(h.size):
                        p = power(g, x, c, tops[r], accumulate, temperature) * inverses[r]
                        h[c] = seconds[r] * (p * (T(1) - p))
                        if curved is not None or z_loss is not None:
                            h[c] += squares[r] * (p * p)
                    h[y] = T(second_at_label[r])
                before = 0.0 if accumulate is None else np.float64(g[y])
                if clip is not None:
                    for c in range(g.size):
                        p = power(g, x, c, tops[r], accumulate, temperature) * inverses[r]
                        put(g, c, pulls[r] * clip_to(p, clip), accumulate)
                elif accumulate is not None:
                    for c in range(g.size):
                        e = exp_nonpositive(apart(x[c], tops[r], temperature))
                        g[c] += factors[r] * e
                else:
                    multiply(g, factors[r])
                g[y] = T(before + at_label[r])
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
    scratch = on_stack(T, PIECE)
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
