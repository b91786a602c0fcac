"""Templates of the softmax family for rows: contiguous classes, vectors along the classes."""

from typing import Any

import numpy as np

from fastloss._drivers.common import (
    again,
    apart,
    arguments_of,
    beyond_one_top,
    class_of_label,
    clip_to,
    gradient_scale,
    inlined,
    live_weight,
    log_sum_exp,
    mass_of_class,
    per_temperature,
    power,
    put,
    skip_row,
    z_of_label,
)  # fmt: skip
from fastloss._drivers.masses import excess_of
from fastloss._drivers.row_vectors import PIECE, largest_entry, multiply, powers_but_one
from fastloss._llvm import either, item, on_stack, own_function, part_of, unless
from fastloss._math import exp_nonpositive, log
from fastloss._vector_memory import load_some, store_some
from fastloss._vectors import (
    choose,
    every,
    how_many,
    in_row,
    is_lane,
    lanes_of,
    larger,
    largest_lane,
    largest_register,
    smallest_register,
    spread,
    sum_of_lanes,
    sum_of_registers,
    widened,
)  # fmt: skip

link: Any = None  # bound by the engine

GROUP = 16
"""Rows of a group at most."""

VECTORS = 16
"""Vectors summed in the array's own precision before sums, but for masses, move on to float64."""

GROUP_CLASSES = 2048
"""Classes of all rows of a group at most, unless it is a single one.

More would hide more of what rows wait for, but in float32 they would no longer stay in the L1
cache, which costs more where batches come from memory.
"""


def hard_rows(
    logits, labels, dense, grad, hess, losses, sample_weight, class_weight, upstream, smoothing,
    clip, accumulate, options, curved, temperature, z_loss, others, mix, ignore_index, classes,
    inner, start, stop, share, assumed,
):  # fmt: skip
    """Return the sum of the losses of rows start to stop: contiguous classes, integer labels.

    And 0, in the place of what dense targets' masses exceed 1 by.

    Rows go in groups, step by step: the exponentials of all of them, and each row's largest logit
    beside those of the row before, then the losses, then the gradients. A row by itself would wait
    for each of its sums and logarithms; here the next row is at work meanwhile, and the losses of a
    group are vector code.
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
    loss_sum, ahead = 0.0, T(np.nan)  # the next row's largest logit, if it is known
    for first in range(start, stop, group):
        rows = min(group, stop - first)
        for r in range(rows):
            label, weights[r] = live_weight(
                labels, ignore_index, classes, sample_weight, class_weight, first + r
            )
            places[r] = max(label, 0)
            tops[r], gaps[r], rests[r] = T(0), T(0), 0.0  # of a row that does not count
        for r in range(rows):
            known, ahead = ahead, T(np.nan)
            if weights[r] != 0.0:
                x = part_of(source, (first + r) * classes, classes)
                g = part_of(grad, (first + r) * classes, classes)
                following = part_of(source, min(first + r + 1, stop - 1) * classes, classes)
                tops[r] = largest_entry(x, None) if np.isnan(known) else known
                gaps[r] = apart(tops[r], x[np.uintp(places[r])], temperature)
                rests[r], ahead = powers_but_one(
                    x, tops[r], temperature, None, places[r], unless(accumulate, g), following,
                    None,
                )  # fmt: skip

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
    return loss_sum, 0.0


@inlined
def masses_of_vector(t, hit, other_hit, mix, class_weight, smoothing, i, there, like, T):
    """Return the target masses of the classes from i on, of which there are `there` more.

    `hit` is the label of the row, `other_hit` the other one of mixed labels.
    """
    dense = load_some(t, i, like, there, T(0))
    weights = load_some(class_weight, i, like, there, T(0))
    hits, others = is_lane(like, hit - i), is_lane(like, other_hit - i)
    masses = mass_of_class(dense, hits, others, mix, weights, smoothing, T)
    if smoothing is not None:  # it gives all lanes some
        masses = choose(in_row(like, there), masses, T(0))
    return masses


@inlined
def soft_step(
    like, several, sums, i, x, t, powers, top, hit, other_hit, mix, class_weight, smoothing,
    temperature, following,
):  # fmt: skip
    """Return the sums of `soft_sums` with the classes from i on, as many as the lanes of `like`.

    If `several` is not None, tops and masked classes are told apart only where there are any:
    nearly never, for `like` that fills several registers.
    """
    T, there = type(x[0]), x.size - i
    rest, gap, mass_rest, mass_tops, tops, largest = sums
    below = apart(load_some(x, i, like, there, T(-np.inf)), top, temperature)
    largest = larger(largest, largest_register(load_some(following, i, like, there, T(-np.inf))))
    e = exp_nonpositive(below)
    a = masses_of_vector(t, hit, other_hit, mix, class_weight, smoothing, i, there, e, T)
    store_some(powers, i, e, there)
    plain = False
    if several is not None:
        plain = every(largest_register(e) < T(1)) and every(smallest_register(below) > T(-np.inf))
    if plain:
        return (
            rest + sum_of_registers(e), gap - sum_of_registers(a * below),
            mass_rest + widened(sum_of_registers(a)), mass_tops, tops, largest,
        )  # fmt: skip
    is_top = e == T(1)
    return (
        rest + sum_of_registers(choose(is_top, T(0), e)),
        gap - sum_of_registers(choose(a == T(0), T(0), a * below)),  # 0 times -inf is 0 here
        mass_rest + widened(sum_of_registers(choose(is_top, T(0), a))),
        mass_tops + widened(sum_of_registers(choose(is_top, a, T(0)))),
        tops + how_many(is_top),
        largest,
    )


@inlined
def soft_sums(
    x, t, powers, top, hit, other_hit, mix, class_weight, smoothing, temperature, following
):  # fmt: skip
    """Return the five sums of a row, and store its powers unless `powers` is None.

    They are the powers but for those of the largest logits, the number of these, the masses of the
    targets apart in the same way, and the gap. The sixth result is the `largest_entry` of the row
    that follows, as in `powers_but_one`.

    Four registers at a time, as long as there are so many, then one. Masses move on to float64 each
    time: equal ones, whose sums by twos and fours are exact, would all round the same way.
    """
    T, lanes = type(x[0]), lanes_of(x)
    zero, four = spread(T(0), 1), spread(T(0), 4)
    rest, gap = widened(zero), widened(zero)
    mass_rest, mass_tops, tops, largest = widened(zero), widened(zero), 0, spread(T(-np.inf), 1)
    i = 0
    while i < x.size:
        end = min(i + VECTORS * lanes, x.size)
        sums = zero, zero, mass_rest, mass_tops, tops, largest
        while i <= end - 4 * lanes:
            sums = soft_step(
                four, True, sums, i, x, t, powers, top, hit, other_hit, mix, class_weight,
                smoothing, temperature, following,
            )  # fmt: skip
            i += 4 * lanes
        while i < end:
            sums = soft_step(
                zero, None, sums, i, x, t, powers, top, hit, other_hit, mix, class_weight,
                smoothing, temperature, following,
            )  # fmt: skip
            i += lanes
        part_rest, part_gap, mass_rest, mass_tops, tops, largest = sums
        rest, gap = rest + widened(part_rest), gap + widened(part_gap)
    return (
        sum_of_lanes(rest), np.float64(tops), sum_of_lanes(mass_rest), sum_of_lanes(mass_tops),
        sum_of_lanes(gap), largest_lane(largest),
    )  # fmt: skip


@inlined
def curved_sums(
    link, x, t, g, top, rest, tops, hit, other_hit, mix, class_weight, smoothing, accumulate,
    temperature, options,
):  # fmt: skip
    """Return the loss of a row of a curved loss, and what takes the masses' and the bend's place.

    Stored and then added up: LLVM makes no vectors of sums of so much else.
    """
    T = type(x[0])
    terms, bends, slopes, slopes_of_tops = (
        on_stack(T, PIECE), on_stack(T, PIECE), on_stack(T, PIECE), on_stack(T, PIECE),
    )  # fmt: skip
    beyond, total = T(beyond_one_top(rest, tops)), T(rest + tops)
    loss, bend, mass_rest, mass_tops = 0.0, 0.0, 0.0, 0.0
    for first in range(0, x.size, PIECE):
        size = min(PIECE, x.size - first)
        piece, t_piece = part_of(x, first, size), part_of(t, first, size)
        g_piece, w_piece = part_of(g, first, size), part_of(class_weight, first, size)
        for c in range(size):
            e = again(g_piece, piece, c, top, accumulate, temperature)
            a = mass_of_class(
                item(t_piece, c), hit - first == c, other_hit - first == c, mix, item(w_piece, c),
                smoothing, T,
            )  # fmt: skip
            is_top, absent = e == T(1), a == T(0)
            near = apart(top, piece[c], temperature)
            one_loss, one_slope, one_bend = link(
                beyond if is_top else total - e, e, near, T(1), *options
            )
            terms[c] = T(0) if absent else a * one_loss
            bends[c] = T(0) if absent else a * one_bend
            b = T(0) if absent else a * one_slope
            slopes[c], slopes_of_tops[c] = T(0) if is_top else b, b if is_top else T(0)
        for c in range(size):
            loss += np.float64(terms[c])
            bend += np.float64(bends[c])
            mass_rest += np.float64(slopes[c])
            mass_tops += np.float64(slopes_of_tops[c])
    return loss, bend, mass_rest, mass_tops


def soft_rows(
    logits, labels, dense, grad, hess, losses, sample_weight, class_weight, upstream, smoothing,
    clip, accumulate, options, curved, temperature, z_loss, others, mix, ignore_index, classes,
    inner, start, stop, share, assumed,
):  # fmt: skip
    """Return the sum of the losses of rows start to stop: contiguous classes, soft targets.

    And how much their masses exceed 1 each, all together, if that is looked at: where it has been
    `assumed` that they do not.

    Short rows go in groups, step by step, as in `hard_rows`.
    """
    own_function()
    source = either(logits, grad)
    T, lanes = type(source[0]), lanes_of(source)
    hits, other_hits, weights = (
        on_stack(np.intp, GROUP), on_stack(np.intp, GROUP), on_stack(np.float64, GROUP),
    )  # fmt: skip
    top, rest, tops, mass_rest, mass_tops, gap = (
        on_stack(T, GROUP), on_stack(np.float64, GROUP), on_stack(np.float64, GROUP),
        on_stack(np.float64, GROUP), on_stack(np.float64, GROUP), on_stack(np.float64, GROUP),
    )  # fmt: skip
    scales, pulls, bends, at_top = (
        on_stack(np.float64, GROUP), on_stack(np.float64, GROUP), on_stack(np.float64, GROUP),
        on_stack(T, GROUP),
    )  # fmt: skip
    factors, minuses, inverses = on_stack(T, GROUP), on_stack(T, GROUP), on_stack(T, GROUP)
    group = min(GROUP, max(1, GROUP_CLASSES // classes))
    loss_sum, excess_mass = 0.0, 0.0
    if dense is not None and smoothing is not None and assumed:  # it is part of the masses here
        excess_mass = excess_of(dense, classes, inner, start, stop)
    ahead = T(np.nan)  # the next row's largest logit, if it is known
    for first in range(start, stop, group):
        rows = min(group, stop - first)
        for r in range(rows):
            hits[r], weights[r] = live_weight(
                labels, ignore_index, classes, sample_weight, None, first + r
            )
            if others is not None:
                other_hits[r] = class_of_label(others[first + r], ignore_index, classes)
                weights[r] = weights[r] if other_hits[r] >= 0 else 0.0
            top[r], rest[r], tops[r] = T(0), 0.0, 1.0  # of a row that does not count
            mass_rest[r], mass_tops[r], gap[r] = 0.0, 0.0, 0.0
        for r in range(rows):
            known, ahead = ahead, T(np.nan)
            if weights[r] != 0.0:
                x = part_of(source, (first + r) * classes, classes)
                following = part_of(source, min(first + r + 1, stop - 1) * classes, classes)
                top[r] = largest_entry(x, None) if np.isnan(known) else known
                rest[r], tops[r], mass_rest[r], mass_tops[r], gap[r], ahead = soft_sums(
                    x, part_of(dense, (first + r) * classes, classes),
                    unless(accumulate, part_of(grad, (first + r) * classes, classes)),
                    top[r], hits[r], other_hits[r], mix, class_weight, smoothing, temperature,
                    following,
                )  # fmt: skip

        if dense is not None and smoothing is None and assumed:
            for r in range(rows):
                mass = mass_rest[r] + mass_tops[r]
                if abs(mass) < np.inf:
                    excess_mass += mass - 1.0
                else:  # or only its sums by fours are beyond float32
                    excess_mass += excess_of(dense, classes, inner, first + r, first + r + 1)
        for r in range(rows):  # those that do not count too: their results are not looked at
            weight, total = weights[r], rest[r] + tops[r]
            loss, slope, _ = link(
                beyond_one_top(rest[r], tops[r]), 1.0, gap[r], mass_rest[r] + mass_tops[r], *options
            )
            if curved is not None:
                loss, slope = 0.0, 1.0
                if weight != 0.0:
                    loss, bends[r], mass_rest[r], mass_tops[r] = curved_sums(
                        link, part_of(source, (first + r) * classes, classes),
                        part_of(dense, (first + r) * classes, classes),
                        part_of(grad, (first + r) * classes, classes),
                        top[r], rest[r], tops[r], hits[r], other_hits[r], mix, class_weight,
                        smoothing, accumulate, temperature, options,
                    )  # fmt: skip
            excess, inverse = 0.0, T(1.0 / total)
            if z_loss is not None:
                log_sum = log_sum_exp(np.float64(top[r]), total, temperature)
                loss += np.float64(z_loss) * log_sum * log_sum
                excess = 2.0 * np.float64(z_loss) * log_sum
            if clip is not None:
                loss = 0.0
                x = part_of(source, (first + r) * classes, classes)
                t = part_of(dense, (first + r) * classes, classes)
                g = part_of(grad, (first + r) * classes, classes)
                for c in range(classes if weight != 0.0 else 0):
                    e = again(g, x, c, top[r], accumulate, temperature)
                    a = mass_of_class(
                        item(t, c), hits[r] == c, other_hits[r] == c, mix, item(class_weight, c),
                        smoothing, T,
                    )  # fmt: skip
                    p_log = a * log(clip_to(e * inverse, clip))
                    loss -= np.float64(T(0) if a == T(0) else p_log)
            loss = weight * loss if weight != 0.0 else 0.0
            loss_sum += loss
            if losses is not None:
                losses[first + r] = T(loss)
            if grad is not None:
                scale = gradient_scale(share, weight, upstream, first + r, temperature)
                pull = scale * (slope * (mass_rest[r] + mass_tops[r]) + excess)
                alone = slope * (mass_rest[r] - mass_tops[r] * rest[r]) + excess
                scales[r], pulls[r], at_top[r] = scale, pull, T(scale * alone / total)
                factors[r], minuses[r], inverses[r] = T(pull / total), T(scale * slope), inverse

        if grad is not None:
            for r in range(rows):
                x = part_of(source, (first + r) * classes, classes)
                t = part_of(dense, (first + r) * classes, classes)
                g = part_of(grad, (first + r) * classes, classes)
                h = part_of(hess, (first + r) * classes, classes)
                hit, other_hit = hits[r], other_hits[r]
                if weights[r] == 0.0:
                    skip_row(g, h, None, first + r, accumulate)
                    continue
                total = rest[r] + tops[r]
                beyond, rounded_total = T(beyond_one_top(rest[r], tops[r])), T(total)
                factor, minus, inverse = factors[r], minuses[r], inverses[r]
                if hess is not None:
                    second = per_temperature(pulls[r], temperature)
                    for c in range(h.size):
                        e = power(g, x, c, top[r], accumulate, temperature)
                        remote = beyond if e == T(1) else rounded_total - e
                        h[c] = T(second) * ((e * inverse) * (remote * inverse))
                    if curved is not None:
                        unit = per_temperature(scales[r], temperature)
                        for c in range(h.size):
                            e = power(g, x, c, top[r], accumulate, temperature)
                            a = mass_of_class(
                                item(t, c), hit == c, other_hit == c, mix, item(class_weight, c),
                                smoothing, T,
                            )  # fmt: skip
                            remote = beyond if e == T(1) else rounded_total - e
                            near = apart(top[r], x[c], temperature)
                            one_bend = link(remote, e, near, T(1), *options)[2]
                            k = 0.0 if a == T(0) else np.float64(a * one_bend)
                            p, q = np.float64(e) / total, np.float64(remote) / total
                            h[c] += T(unit * (k * q * q + (bends[r] - k) * p * p))
                    if z_loss is not None:
                        twice = 2.0 * np.float64(z_loss)
                        square = per_temperature(scales[r] * twice, temperature)
                        for c in range(h.size):
                            p = power(g, x, c, top[r], accumulate, temperature) * inverse
                            h[c] += T(square) * (p * p)
                if clip is not None:
                    for c in range(g.size):
                        p = power(g, x, c, top[r], accumulate, temperature) * inverse
                        a = mass_of_class(
                            item(t, c), hit == c, other_hit == c, mix, item(class_weight, c),
                            smoothing, T,
                        )  # fmt: skip
                        put(g, c, T(pulls[r]) * clip_to(p, clip) - minus * a, accumulate)
                elif curved is not None:
                    for c in range(g.size):
                        e = power(g, x, c, top[r], accumulate, temperature)
                        a = mass_of_class(
                            item(t, c), hit == c, other_hit == c, mix, item(class_weight, c),
                            smoothing, T,
                        )  # fmt: skip
                        remote = beyond if e == T(1) else rounded_total - e
                        near = apart(top[r], x[c], temperature)
                        one_slope = link(remote, e, near, T(1), *options)[1]
                        a = T(0) if a == T(0) else a * one_slope
                        change = factor * e - minus * a
                        change = at_top[r] if tops[r] == 1.0 and e == T(1) else change
                        put(g, c, change, accumulate)
                else:
                    one_of_top = T(1) if tops[r] == 1.0 else T(2)  # no power is 2
                    for i in range(0, classes, lanes):
                        there = classes - i
                        if accumulate is None:
                            e = load_some(g, i, 1, there, T(0))
                        else:
                            here = load_some(x, i, 1, there, T(-np.inf))
                            e = exp_nonpositive(apart(here, top[r], temperature))
                        a = masses_of_vector(
                            t, hit, other_hit, mix, class_weight, smoothing, i, there, e, T
                        )
                        change = choose(e == one_of_top, at_top[r], factor * e - minus * a)
                        if accumulate is not None:
                            change = load_some(g, i, 1, there, T(0)) + change
                        store_some(g, i, change, there)
    return loss_sum, excess_mass


BlockArguments = arguments_of(hard_rows)
