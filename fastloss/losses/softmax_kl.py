"""Kullback-Leibler divergence of two softmax distributions: distillation."""

import numpy as np

from fastloss._drivers.columns import takes_columns
from fastloss._drivers.common import beyond_one_top, inlined, quotient
from fastloss._drivers.row_vectors import PIECE, registers_of, row_top
from fastloss._families import rowwise
from fastloss._llvm import on_stack
from fastloss._math import exp_nonpositive, log1p
from fastloss._options import positive
from fastloss._vector_memory import load_like, load_some, store, store_some
from fastloss._vectors import (
    choose,
    every,
    lanes_of,
    larger,
    largest_register,
    narrowed,
    smaller,
    smallest_register,
    sum_of_lanes,
    sum_of_registers,
    widened,
    width_of,
    zeros,
)  # fmt: skip

SMALL = 2.0**-40
"""By which gaps are multiplied: of finite logits they are finite, but their sum need not be."""

KEPT = 1024
"""The powers of so many classes are kept on the stack; of columns, a register for each class.
Beyond, the student's stand in the gradient's memory meanwhile, and the teacher's are computed a
second time."""

FAR = -(2.0**100)
"""Sums of four gaps between logits less than this below the largest are finite in float32 too."""


@inlined
def step(
    like, several, sums, i, logits, target, top, target_top, inverse, kept, target_kept, grad
):  # fmt: skip
    """Return the sums of a row with the classes from i on, as many as the lanes of `like`.

    If `several` is not None, the largest logits, and those far below, are told apart only where
    there are any: as a rule there are none.
    """
    T, there, place = type(logits[0]), logits.size - i, i // lanes_of(logits) * width_of(logits)
    rest, tops, target_rest, target_tops, gap = sums
    below = (load_some(logits, i, like, there, T(-np.inf)) - top) * inverse
    target_below = (load_some(target, i, like, there, T(-np.inf)) - target_top) * inverse
    e, f = exp_nonpositive(below), exp_nonpositive(target_below)
    if grad is not None:
        if place < KEPT:
            store(kept, place, e)
            store(target_kept, place, f)
        else:
            store_some(grad, i, e, there)
    term = f * (target_below - below)
    plain = False
    if several is not None:
        plain = every(largest_register(larger(e, f)) < T(1)) and every(
            smallest_register(smaller(below, target_below)) > T(FAR)
        )
    if plain:
        return (
            rest + sum_of_registers(e), tops, target_rest + sum_of_registers(f), target_tops,
            gap + sum_of_registers(widened(sum_of_registers(term))) * SMALL,
        )  # fmt: skip
    is_top, is_target_top = e == T(1), f == T(1)
    term = widened(choose(f == T(0), T(0), term)) * SMALL
    return (
        rest + sum_of_registers(choose(is_top, T(0), e)),
        tops + sum_of_registers(choose(is_top, T(1), T(0))),
        target_rest + sum_of_registers(choose(is_target_top, T(0), f)),
        target_tops + sum_of_registers(choose(is_target_top, T(1), T(0))),
        gap + sum_of_registers(term),
    )


@inlined
def sums_of_row(
    zero, four, logits, target, top, target_top, inverse, kept, target_kept, grad
):  # fmt: skip
    """Return the sums of a row: its powers but for tops, how many tops, the target's; the gap.

    Four registers at a time, as long as there are so many, then one; of columns always one.
    """
    lanes, wide = lanes_of(logits), widened(zero)
    rest, tops, target_rest, target_tops, gap = wide, zero, wide, zero, sum_of_registers(wide)
    i = 0
    while i < logits.size:
        end = min(i + PIECE, logits.size)
        sums = zero, tops, zero, target_tops, gap
        if four is not None:
            while i <= end - 4 * lanes:
                sums = step(
                    four, True, sums, i, logits, target, top, target_top, inverse, kept,
                    target_kept, grad,
                )  # fmt: skip
                i += 4 * lanes
        while i < end:
            sums = step(
                zero, None, sums, i, logits, target, top, target_top, inverse, kept, target_kept,
                grad,
            )  # fmt: skip
            i += lanes
        part_rest, tops, part_target_rest, target_tops, gap = sums
        rest, target_rest = rest + widened(part_rest), target_rest + widened(part_target_rest)
    return (
        sum_of_lanes(rest), sum_of_lanes(tops), sum_of_lanes(target_rest),
        sum_of_lanes(target_tops), sum_of_lanes(gap),
    )  # fmt: skip


@rowwise(
    arguments=("logits", "target"),
    target="real",
    hessian=True,
    logits=True,
    options={"temperature": positive(1.0)},
    convex=True,
    ulp_bound=4,
    nanoseconds=1.2,
    peers={"PyTorch": "kl_div(log_softmax(x / T), log_softmax(t / T), log_target=True) * T**2"},
)
@takes_columns
def softmax_kl(logits, target, grad, hess, temperature):
    """Divergence of a student from a teacher, ``T**2 KL(softmax(t / T) ‖ softmax(x / T))``.

    Parameters
    ----------
    logits : array_like, float32 or float64, shape (..., C, ...)
        The student's logits x of C classes, which lie along `axis`. -inf masks a class.
    target : array_like
        The teacher's logits t, of the shape and dtype of `logits`.
    temperature : float, default 1.0
        T, > 0; the factor ``T**2`` keeps the size of the gradient independent of it.

    Notes
    -----
    The gradient by x is ``T (softmax(x / T) - softmax(t / T))``. It vanishes, to rounding, where
    student and teacher agree, and the loss with it: class by class, the errors are ``4 + 2 g`` ulp
    of the larger of the two probabilities, and of the larger logarithm of them, g the spread of the
    row's logits over T.

    References
    ----------
    Hinton, Vinyals & Dean, "Distilling the knowledge in a neural network", arXiv 1503.02531 (2015).

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> teacher = np.array([[2.0, 0.0], [0.0, 0.0]])
    >>> fl.softmax_kl(np.zeros((2, 2)), teacher, reduction="none")
    array([0.32781333, 0.        ])
    """
    T, lanes = type(logits[0]), lanes_of(logits)
    inverse = T(1) / temperature
    top, target_top = row_top(logits), row_top(target)
    kept, target_kept = on_stack(T, KEPT), on_stack(T, KEPT)
    zero = zeros(logits)
    rest, tops, target_rest, target_tops, gap = sums_of_row(
        zero, registers_of(logits, 4), logits, target, top, target_top, inverse, kept, target_kept,
        grad,
    )  # fmt: skip
    # The sums of the powers but for one top: its 1 is never added, or the others would be lost.
    beyond = beyond_one_top(rest, widened(tops))
    target_beyond = beyond_one_top(target_rest, widened(target_tops))
    total, target_total = 1.0 + beyond, 1.0 + target_beyond
    gap_of_row = quotient(gap, target_total) / SMALL
    loss = gap_of_row + (log1p(beyond) - log1p(target_beyond))
    loss = choose(loss < 0.0, 0.0, loss)  # rounding, where the two agree
    if grad is not None:
        factor, target_factor = narrowed(1.0 / total, T), narrowed(1.0 / target_total, T)
        pull, target_pull = temperature * factor, temperature * target_factor
        for i in range(0, logits.size, lanes):
            there, place = logits.size - i, i // lanes * width_of(logits)
            if place < KEPT:
                e, f = load_like(kept, place, zero), load_like(target_kept, place, zero)
            else:
                e = load_some(grad, i, 1, there, T(0))
                target_below = (load_some(target, i, 1, there, T(0)) - target_top) * inverse
                f = exp_nonpositive(target_below)
            store_some(grad, i, e * pull - f * target_pull, there)
            if hess is not None:
                p = e * factor
                store_some(hess, i, p * (T(1) - p), there)
    return narrowed((loss * np.float64(temperature)) * np.float64(temperature), T)


@softmax_kl.textbook
def _(logits, target, temperature):
    def log_softmax(x):
        shifted = (x - x.real.max(axis=-1, keepdims=True)) / temperature
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))

    log_p, log_q = log_softmax(logits), log_softmax(target)
    q = np.exp(log_q)
    apart = np.where(q == 0, 0, log_q) - np.where(q == 0, 0, log_p)
    return temperature**2 * (q * apart).sum(axis=-1), temperature * (np.exp(log_p) - q)
