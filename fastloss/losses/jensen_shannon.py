"""Jensen-Shannon divergence of two distributions."""

import numpy as np
from numba import njit

from fastloss._drivers.columns import takes_columns
from fastloss._drivers.common import quotient
from fastloss._families import rowwise
from fastloss._jit import MATHEMATICS
from fastloss._math import entropy_drop, log
from fastloss._options import logarithm_base
from fastloss._vector_memory import load_some, store_some
from fastloss._vectors import (
    are_float32,
    choose,
    lanes_of,
    larger,
    narrowed,
    sum_of_lanes,
    widened,
    zeros,
)  # fmt: skip


@njit(**MATHEMATICS)
def apart_and_shares(p, t, one):
    """Return ``u = (p - t) / (p + t)``, ``1 + u`` and ``1 - u``, for the price of one division."""
    per_total = one / (p + t)
    return (p - t) * per_total, (p + p) * per_total, (t + t) * per_total


@rowwise(
    arguments=("probabilities", "target"),
    pred="distribution",
    target="distribution",
    hessian=True,
    options={"base": logarithm_base()},
    convex=True,
    ulp_bound=12,
    nanoseconds=2.0,
    peers={"SciPy": "jensenshannon(p, q)**2"},
)
@takes_columns
def jensen_shannon(probabilities, target, grad, hess, base):
    """Jensen-Shannon divergence, ``(KL(p ‖ m) + KL(t ‖ m)) / 2`` with ``m = (p + t) / 2``.

    Parameters
    ----------
    probabilities : array_like, float32 or float64, shape (..., C, ...)
        Distributions p over C classes, which lie along `axis`. They are not normalised here.
    target : array_like
        Distributions t, of the shape and dtype of `probabilities`, or one-hot as bool or integer.
    base : float, optional
        Base of the logarithm, > 1; 2 gives bits. By default e (nats).

    Notes
    -----
    With ``u = (p - t) / (p + t)`` a class contributes ``m ((1 + u) log(1 + u) + (1 - u) log(1 -
    u)) / 2``, computed so that it stays accurate for nearly equal distributions, and the gradient
    by p is ``log(1 + u) / 2``: -inf where p is 0 and t is not. Where p / t is no subnormal number,
    that is within 5 ulp; and what a class contributes is within 12, the most where p is about 3 t
    or t about 3 p. SciPy's `jensenshannon` is the square root, of normalised rows.

    References
    ----------
    Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information
    Theory 37 (1991).

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.jensen_shannon(np.array([[1.0, 0.0], [0.5, 0.5]]), [[0, 1], [1, 0]], base=2,
    ...                   reduction="none")
    array([1.        , 0.31127812])
    """
    T, lanes = type(probabilities[0]), lanes_of(probabilities)
    unit = T(1)
    if base is not None:
        unit = T(1) / log(base)
    # 1 / total is finite of subnormal probabilities too, times this.
    up = T(2.0**26) if are_float32(probabilities) else T(2.0**55)
    loss = widened(zeros(probabilities))
    for i in range(0, probabilities.size, lanes):
        there = probabilities.size - i
        p = load_some(probabilities, i, 1, there, T(1))
        t = load_some(target, i, 1, there, T(1))
        total = p + t
        u, p_share, t_share = apart_and_shares(p * up, t * up, T(1))
        p_less = u < T(0)
        log_more, log_less, drop = entropy_drop(larger(-u, u), choose(p_less, p_share, t_share))
        loss = loss + widened(choose(total == T(0), T(0), total * drop))
        if grad is not None:
            slope = T(0.5) * unit * choose(p_less, log_less, log_more)
            store_some(grad, i, choose(total == T(0), T(0), slope), there)
        if hess is not None:
            bend = T(0.25) * unit * quotient(t_share, p)
            store_some(hess, i, choose(t == T(0), T(0), bend), there)
    return T(0.25) * unit * narrowed(sum_of_lanes(loss), T)


@jensen_shannon.textbook
def _(probabilities, target, base):
    p, t = probabilities, target
    total = np.where(p + t == 0, 1, p + t)
    u = (p - t) / total
    unit = 1 if base is None else 1 / np.log(np.asarray(base, p.real.dtype))

    def part(u):
        return np.where(u.real == -1, 0, (1 + u) * np.log1p(np.where(u.real == -1, 0, u)))

    loss = unit * (total / 4 * (part(u) + part(-u))).sum(axis=-1)
    return loss, unit * np.where(p + t == 0, 0, np.log1p(u) / 2)
