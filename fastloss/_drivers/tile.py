"""Templates of the softmax family for one tile: neighbouring rows, vectors across the rows."""

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from fastloss._drivers.common import (
    LANES,
    TILE_CLASSES,
    again,
    apart,
    beyond_one_top,
    clip_to,
    inlined,
    log_sum_exp,
    mass_of_class,
    per_temperature,
    power,
    put,
    quotient,
    settle,
    two_sum,
    z_of_label,
)  # fmt: skip
from fastloss._llvm import either, item, own_function, part_of, vector_at
from fastloss._math import exp_nonpositive, log
from fastloss._vector_memory import lanes_with, load, load_some, store, store_some
from fastloss._vectors import choose, lanes_of, larger, spread

link: Any = None  # bound by the engine

SUMS, LOST = 5, 10
"""The first of the five sums of a soft tile among the quantities, and of what they lost."""

QUANTITIES = 23
"""Numbers that a tile keeps per row."""

SCRATCH = QUANTITIES * LANES + 3 * LANES * TILE_CLASSES
"""The quantities and three transposed tiles: logits, gradient and Hessian."""

GROUP = 2
"""Registers of rows that go through a tile of labels together."""

CLASSES_PER_SUM = 8
"""Classes that a lane adds up plainly, before a compensated sum of these sums takes over."""


@intrinsic
def quantity(typing_context, scratch, k):
    """Return the k-th of the quantities that a tile keeps, one number per row, in scratch.

    They lie LANES apart, so LLVM sees that a loop over rows never meets another quantity's numbers.
    """

    def generate(context, builder, signature, arguments):
        base, index = arguments
        lanes = context.get_constant(types.intp, LANES)
        where = (base, builder.mul(index, lanes), lanes)
        return vector_at(context, builder, signature.return_type, *where)

    return scratch(scratch, types.intp), generate


@inlined
def find_tops(x, start, step, size, classes, top):
    """Raise each row's number in `top` to its largest logit (see `largest_entry` about NaN)."""
    T = type(x[0])
    for begin in range(0, classes, CLASSES_PER_SUM):
        end = min(begin + CLASSES_PER_SUM, classes)
        for first in range(0, size, GROUP * lanes_of(x)):
            high = load(top, first, GROUP)
            for c in range(begin, end):
                place = start + first + c * step
                high = larger(high, load_some(x, place, GROUP, size - first, T(0)))
            store(top, first, high)


@inlined
def add_part(scratch, k, first, part):
    """Add to the k-th of the sums of a group of rows."""
    whole, lost = quantity(scratch, SUMS + k), quantity(scratch, LOST + k)
    total, error = two_sum(load(whole, first, GROUP), load(lost, first, GROUP), part)
    store(whole, first, total)
    store(lost, first, error)


def hard_tile(
    x, t, g, h, start, step, labels, class_weight, weights, scales, losses, smoothing, clip,
    accumulate, options, curved, temperature, z_loss, others, mix, size, classes, scratch,
):  # fmt: skip
    """Compute `size` neighbouring rows with integer labels, vectors running across the rows.

    Class c of the rows lies at ``start + c * step`` and the `size - 1` places after it, in every
    array. `labels` is -1 for a row that does not count. The weighted losses go to `losses`.

    All rows are gone through with CLASSES_PER_SUM classes at a time: that many are summed plainly,
    and that many streams the CPU can fetch ahead.
    """
    own_function()
    source = either(x, g)
    T = type(source[0])
    top, rest, own, gap, lost = (
        quantity(scratch, 0),
        quantity(scratch, 1),
        quantity(scratch, 2),
        quantity(scratch, 3),
        quantity(scratch, 4),
    )
    factor, at_label, inverse, bent = (
        quantity(scratch, 5),
        quantity(scratch, 6),
        quantity(scratch, 7),
        quantity(scratch, 8),
    )
    lanes = GROUP * lanes_of(source)
    for i in range(LANES):
        top[i] = T(-np.inf)
        rest[i], own[i], gap[i], lost[i] = T(0), T(0), T(0), T(0)
    find_tops(source, start, step, size, classes, top)
    for begin in range(0, classes, CLASSES_PER_SUM):
        end = min(begin + CLASSES_PER_SUM, classes)
        for first in range(0, size, lanes):
            high = load(top, first, GROUP)
            at_own, gap_of_own = load(own, first, GROUP), load(gap, first, GROUP)
            part = spread(T(0), GROUP)
            for c in range(begin, end):
                place = start + first + c * step
                here = load_some(source, place, GROUP, size - first, T(0))
                below = apart(here, high, temperature)
                e = exp_nonpositive(below)
                if g is not None and accumulate is None:
                    store_some(g, place, e, size - first)
                hit = lanes_with(labels, first, c, e)
                part = part + choose(hit, T(0), e)
                at_own = choose(hit, e, at_own)
                gap_of_own = choose(hit, -below, gap_of_own)
            whole, error = two_sum(load(rest, first, GROUP), load(lost, first, GROUP), part)
            store(rest, first, whole)
            store(lost, first, error)
            store(own, first, at_own)
            store(gap, first, gap_of_own)
    for i in range(size):
        settle(rest, lost, i)
        total = rest[i] + own[i]
        loss, slope, bend = link(rest[i], own[i], gap[i], T(1), *options)
        excess = T(0)
        if curved is not None:
            bent[i] = scales[i] * bend
        if z_loss is not None:
            z = z_of_label(z_loss, class_weight, labels[i], T)
            log_sum = log_sum_exp(top[i], total, temperature)
            loss += z * log_sum * log_sum
            excess = T(2) * z * log_sum
            bent[i] = scales[i] * (T(2) * z)
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
        for begin in range(0, classes, CLASSES_PER_SUM):
            end = min(begin + CLASSES_PER_SUM, classes)
            for first in range(0, size, lanes):
                factors, inverses = load(factor, first, GROUP), load(inverse, first, GROUP)
                at_labels = load(at_label, first, GROUP)
                dead = lanes_with(labels, first, -1, inverses)
                for c in range(begin, end):
                    place = start + first + c * step
                    hit = lanes_with(labels, first, c, inverses)
                    if accumulate is None:
                        e = load_some(g, place, GROUP, size - first, T(0))
                    else:
                        here = load_some(source, place, GROUP, size - first, T(0))
                        e = exp_nonpositive(apart(here, load(top, first, GROUP), temperature))
                    p = e * inverses
                    if h is not None:
                        remote = load(rest, first, GROUP) * inverses
                        remote = choose(hit, remote, T(1) - p)
                        curvature = factors * (p * remote)
                        if curved is not None:
                            away = choose(hit, remote, p)
                            curvature = curvature + load(bent, first, GROUP) * (away * away)
                        if z_loss is not None:
                            curvature = curvature + load(bent, first, GROUP) * (p * p)
                        if temperature is not None:
                            curvature = quotient(curvature, temperature)
                        curvature = choose(dead, T(0), curvature)
                        store_some(h, place, curvature, size - first)
                    if clip is not None:
                        p = clip_to(p, clip)
                    change = choose(hit, at_labels, factors * p)
                    change = choose(dead, T(0), change)
                    if accumulate is not None:
                        change = load_some(g, place, GROUP, size - first, T(0)) + change
                    store_some(g, place, change, size - first)


def soft_tile(
    x, t, g, h, start, step, labels, class_weight, weights, scales, losses, smoothing, clip,
    accumulate, options, curved, temperature, z_loss, others, mix, size, classes, scratch,
):  # fmt: skip
    """Compute `size` neighbouring rows with soft targets, vectors running across the rows."""
    own_function()
    source = either(x, g)
    T = type(source[0])
    top, inverse, factor, minus, at_top = (
        quantity(scratch, 0),
        quantity(scratch, 1),
        quantity(scratch, 2),
        quantity(scratch, 3),
        quantity(scratch, 4),
    )
    rest, tops, mass_rest, mass_tops, gap = (
        quantity(scratch, SUMS),
        quantity(scratch, SUMS + 1),
        quantity(scratch, SUMS + 2),
        quantity(scratch, SUMS + 3),
        quantity(scratch, SUMS + 4),
    )
    bent = quantity(scratch, LOST)  # free once `settle` has put back what the sums lost
    lanes = GROUP * lanes_of(source)
    for i in range(LANES):
        top[i] = T(-np.inf)
    sums = part_of(scratch, SUMS * LANES, 10 * LANES)  # and what they lost
    for k in range(sums.size):
        sums[k] = T(0)
    find_tops(source, start, step, size, classes, top)
    for begin in range(0, classes, CLASSES_PER_SUM):
        end = min(begin + CLASSES_PER_SUM, classes)
        for first in range(0, size, lanes):
            high, zero = load(top, first, GROUP), spread(T(0), GROUP)
            part_rest, part_tops, part_gap = zero, zero, zero
            part_mass_rest, part_mass_tops = zero, zero
            for c in range(begin, end):
                place, there = start + first + c * step, size - first
                below = apart(load_some(source, place, GROUP, there, T(0)), high, temperature)
                e = exp_nonpositive(below)
                if g is not None and accumulate is None:
                    store_some(g, place, e, there)
                hit = lanes_with(labels, first, c, e)
                other_hit = hit
                if others is not None:
                    other_hit = lanes_with(others, first, c, e)
                w = item(class_weight, np.uintp(c))
                dense = load_some(t, place, GROUP, there, T(0))
                a = mass_of_class(dense, hit, other_hit, mix, w, smoothing, T)
                is_top = e == T(1)
                part_rest = part_rest + choose(is_top, T(0), e)
                part_tops = part_tops + choose(is_top, T(1), T(0))
                part_mass_rest = part_mass_rest + choose(is_top, T(0), a)
                part_mass_tops = part_mass_tops + choose(is_top, a, T(0))
                part_gap = part_gap - choose(a == T(0), T(0), a * below)  # 0 times -inf is 0 here
            add_part(scratch, 0, first, part_rest)  # in the order of rest, tops, ... above
            add_part(scratch, 1, first, part_tops)
            add_part(scratch, 2, first, part_mass_rest)
            add_part(scratch, 3, first, part_mass_tops)
            add_part(scratch, 4, first, part_gap)
    for k in range(5):
        for i in range(size):
            settle(quantity(scratch, SUMS + k), quantity(scratch, LOST + k), i)
    if curved is not None:
        for i in range(size):
            losses[i] = T(0)
            mass_rest[i] = T(0)
            mass_tops[i] = T(0)
            bent[i] = T(0)
        for c in range(classes):
            row = part_of(source, start + c * step, size)
            row_t = part_of(t, start + c * step, size)
            out = part_of(g, start + c * step, size)
            y = np.int32(c)
            w = item(class_weight, np.uintp(c))
            for i in range(size):
                e = again(out, row, i, top[i], accumulate, temperature)
                other = False
                if others is not None:
                    other = others[i] == y
                a = mass_of_class(item(row_t, i), labels[i] == y, other, mix, w, smoothing, T)
                is_top = e == T(1)
                remote = rest[i] + tops[i] - e
                remote = beyond_one_top(rest[i], tops[i]) if is_top else remote
                near = apart(top[i], row[i], temperature)
                one_loss, one_slope, one_bend = link(remote, e, near, T(1), *options)
                absent = a == T(0)
                losses[i] += T(0) if absent or labels[i] < 0 else weights[i] * (a * one_loss)
                bent[i] += T(0) if absent else a * one_bend
                b = T(0) if absent else a * one_slope
                mass_rest[i] += T(0) if is_top else b
                mass_tops[i] += b if is_top else T(0)
    for i in range(size):
        total = rest[i] + tops[i]
        mass = mass_rest[i] + mass_tops[i]
        excess = T(0)
        if curved is None:
            loss, slope, _ = link(beyond_one_top(rest[i], tops[i]), T(1), gap[i], mass, *options)
            if z_loss is not None:
                log_sum = log_sum_exp(top[i], total, temperature)
                loss += z_loss * log_sum * log_sum
                excess = T(2) * z_loss * log_sum
                bent[i] = scales[i] * (T(2) * z_loss)
            losses[i] = T(0) if labels[i] < 0 else weights[i] * loss
        else:
            slope = T(1)
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
                e = again(out, row, i, top[i], accumulate, temperature)
                other = False
                if others is not None:
                    other = others[i] == y
                a = mass_of_class(item(row_t, i), labels[i] == y, other, mix, w, smoothing, T)
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
                e = power(out, row, i, top[i], accumulate, temperature)
                p = e * inverse[i]
                other = False
                if others is not None:
                    other = others[i] == y
                a = mass_of_class(item(row_t, i), labels[i] == y, other, mix, w, smoothing, T)
                dead = labels[i] < 0
                remote = rest[i] + tops[i] - e
                remote = beyond_one_top(rest[i], tops[i]) if e == T(1) else remote
                q = remote * inverse[i]  # 1 - p
                if h is not None:
                    curvature = factor[i] * (p * q)
                    if z_loss is not None:
                        curvature += bent[i] * (p * p)
                if curved is not None:
                    near = apart(top[i], row[i], temperature)
                    _, one_slope, one_bend = link(remote, e, near, T(1), *options)
                    if h is not None:
                        k = T(0) if a == T(0) else a * one_bend
                        curvature += scales[i] * (k * (q * q) + (bent[i] - k) * (p * p))
                    a = T(0) if a == T(0) else a * one_slope
                if h is not None:
                    second[i] = T(0) if dead else per_temperature(curvature, temperature)
                if clip is not None:
                    change = factor[i] * clip_to(p, clip) - minus[i] * a
                else:
                    change = factor[i] * p - minus[i] * a
                    change = at_top[i] if e == T(1) and tops[i] == T(1) else change
                put(out, i, T(0) if dead else change, accumulate)
