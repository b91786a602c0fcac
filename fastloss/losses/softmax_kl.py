"""Kullback-Leibler divergence of two softmax distributions: distillation."""

import numpy as np

from fastloss._drivers.common import beyond_one_top, inlined
from fastloss._drivers.row_vectors import largest_entry, power_of
from fastloss._families import rowwise
from fastloss._math import exp_nonpositive, log1p
from fastloss._options import positive
from fastloss._vectors import choose, lanes_of, load_some, spread, store_some, sum_of_lanes, widened


@inlined
def powers_beyond_one(x, scale, powers):
    """Return the largest entry and the sum of ``exp(scale (x - top))``, less the 1 of that entry.

    The 1 is never added, so that nothing of the others is lost beside it. The powers are stored in
    `powers`, unless that is None.
    """
    T, lanes = type(x[0]), lanes_of(x)
    top = largest_entry(x, None)
    rest, tops = widened(spread(T(0), 1)), widened(spread(T(0), 1))
    for i in range(0, x.size, lanes):
        e = power_of(load_some(x, i, 1, x.size - i, T(-np.inf)), top, None, scale)
        if powers is not None:
            store_some(powers, i, e, x.size - i)
        rest = rest + widened(choose(e == T(1), T(0), e))
        tops = tops + widened(choose(e == T(1), T(1), T(0)))
    return top, beyond_one_top(sum_of_lanes(rest), sum_of_lanes(tops))


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
    top, beyond = powers_beyond_one(logits, inverse, grad)
    target_top, target_beyond = powers_beyond_one(target, inverse, None)
    # b - a of the log-probabilities b = log softmax(t / T) and a = log softmax(x / T)
    between = T(log1p(beyond) - log1p(target_beyond))
    share, target_share = T(1.0 / (1.0 + beyond)), T(1.0 / (1.0 + target_beyond))
    terms = widened(spread(T(0), 1))
    for i in range(0, logits.size, lanes):
        there = logits.size - i
        below = (load_some(logits, i, 1, there, T(0)) - top) * inverse
        target_below = (load_some(target, i, 1, there, T(-np.inf)) - target_top) * inverse
        q = exp_nonpositive(target_below) * target_share
        term = q * ((target_below - below) + between)
        terms = terms + widened(choose(q == T(0), T(0), term))
        if grad is not None:
            p = load_some(grad, i, 1, there, T(0)) * share
            store_some(grad, i, temperature * (p - q), there)
            if hess is not None:
                store_some(hess, i, p * (T(1) - p), there)
    loss = sum_of_lanes(terms)
    loss = 0.0 if loss < 0.0 else loss  # rounding, where the two agree
    return T((loss * np.float64(temperature)) * np.float64(temperature))


@softmax_kl.textbook
def _(logits, target, temperature):
    def log_softmax(x):
        shifted = (x - x.real.max(axis=-1, keepdims=True)) / temperature
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))

    log_p, log_q = log_softmax(logits), log_softmax(target)
    q = np.exp(log_q)
    terms = np.where(q == 0, 0, q * (np.where(q == 0, 0, log_q) - log_p))
    return temperature**2 * terms.sum(axis=-1), temperature * (np.exp(log_p) - q)
