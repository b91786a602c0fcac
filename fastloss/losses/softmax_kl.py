"""Kullback-Leibler divergence of two softmax distributions: distillation."""

import numpy as np

from fastloss._drivers.columns import takes_columns
from fastloss._drivers.common import beyond_one_top, quotient
from fastloss._drivers.row_vectors import PIECE, row_top
from fastloss._families import rowwise
from fastloss._llvm import on_stack
from fastloss._math import exp_nonpositive, log1p
from fastloss._options import positive
from fastloss._vector_memory import load_like, load_some, store, store_some
from fastloss._vectors import choose, lanes_of, narrowed, sum_of_lanes, widened, width_of, zeros

SMALL = 2.0**-40
"""By which gaps are multiplied: of finite logits they are finite, but their sum need not be."""

KEPT = 1024
"""The powers of so many classes are kept on the stack; of columns, a register for each class.
Beyond, the student's stand in the gradient's memory meanwhile, and the teacher's are computed a
second time."""


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
    zero, wide_zero = zeros(logits), widened(zeros(logits))
    rest, target_rest, gap, tops, target_tops = wide_zero, wide_zero, wide_zero, zero, zero
    for first in range(0, logits.size, PIECE):
        part_rest, part_target_rest = zero, zero
        for i in range(first, min(first + PIECE, logits.size), lanes):
            there, place = logits.size - i, i // lanes * width_of(logits)
            below = (load_some(logits, i, 1, there, T(-np.inf)) - top) * inverse
            target_below = (load_some(target, i, 1, there, T(-np.inf)) - target_top) * inverse
            e, f = exp_nonpositive(below), exp_nonpositive(target_below)
            if grad is not None:
                if place < KEPT:
                    store(kept, place, e)
                    store(target_kept, place, f)
                else:
                    store_some(grad, i, e, there)
            part_rest = part_rest + choose(e == T(1), T(0), e)
            tops = tops + choose(e == T(1), T(1), T(0))
            part_target_rest = part_target_rest + choose(f == T(1), T(0), f)
            target_tops = target_tops + choose(f == T(1), T(1), T(0))
            term = f * (target_below - below)
            gap = gap + widened(choose(f == T(0), T(0), term)) * SMALL
        rest = rest + widened(part_rest)
        target_rest = target_rest + widened(part_target_rest)
    # The sums of the powers but for one top: its 1 is never added, or the others would be lost.
    beyond = beyond_one_top(sum_of_lanes(rest), widened(sum_of_lanes(tops)))
    target_beyond = beyond_one_top(sum_of_lanes(target_rest), widened(sum_of_lanes(target_tops)))
    total, target_total = 1.0 + beyond, 1.0 + target_beyond
    gap_of_row = quotient(sum_of_lanes(gap), target_total) / SMALL
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
    terms = np.where(q == 0, 0, q * (np.where(q == 0, 0, log_q) - log_p))
    return temperature**2 * terms.sum(axis=-1), temperature * (np.exp(log_p) - q)
