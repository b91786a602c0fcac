"""Sparsemax loss: the convex loss whose link is the projection onto the simplex."""

import numpy as np

from fastloss._drivers.common import inlined, largest
from fastloss._drivers.softmax_row import lead
from fastloss._math import maximum
from fastloss._rowwise import rowwise


@inlined
def threshold(logits):
    """Return ``(top, t, size)`` such that ``p_c = max(0, 1 + (x_c - top) - t)`` sums to 1.

    After Michelot: with ``u_c = 1 + (x_c - top)``, t is ``(Σ u_c - 1) / size`` over the support, at
    first a superset of it; what is not above t leaves it, until nothing does. Entries of u = 1 are
    counted instead of summed, so that nothing cancels in the sum less 1.
    """
    T = type(logits[0])
    top = largest(logits)
    tops = T(0)
    for c in range(logits.size):
        tops += T(1) if lead(logits[c], top, T(1)) == T(1) else T(0)
    t, before = top - top, np.inf  # 0; NaN where the largest is NaN or infinite
    while True:
        total, others = 0.0, T(0)
        for c in range(logits.size):
            u = lead(logits[c], top, T(1))
            inside = T(1) if (u > t) & (u < T(1)) else T(0)
            total += np.float64(maximum(u, T(0)) * inside)  # two sums of choices do not vectorise
            others += inside
        size = np.float64(others + tops)
        t = (top - top) + T((total + np.float64(tops - T(1))) / size)
        if size >= before or others == T(0):
            return top, t, T(size)
        before = size


@rowwise(
    arguments=("logits", "labels"),
    domains=("real", "labels"),
    hessian=True,
    ulp_bound=4,
    nanoseconds=1.0,
    peers={"optax": "multiclass_sparsemax_loss"},
)
def sparsemax(logits, label, grad, hess):
    """Sparsemax loss, ``½ Σ_{c in S} (x_c² - τ²) - x_label + ½``; S supports p, the sparsemax of x.

    Parameters
    ----------
    logits : array_like, float32 or float64, shape (..., C, ...)
        Logits x of C classes, which lie along `axis`. -inf masks a class.
    labels : array_like
        Integer labels in [0, C), of the shape of `logits` without `axis`; or a dense target t of
        the shape of `logits`, one-hot or probabilities: its dtype, or bool or integer.

    Notes
    -----
    The sparsemax ``p_c = max(0, x_c - τ)`` is the projection of x onto the simplex: the nearest
    probabilities, many of them 0. The gradient is ``p - t``; a label that leads by 1 or more has a
    loss of 0. The Hessian's diagonal is ``1 - 1 / |S|`` on the support and 0 elsewhere.

    For a dense target, whose rows must sum to 1, the loss is
    ``½ Σ_{c in S} (x_c² - τ²) - Σ t_c x_c + ½ Σ t_c²``. It is computed as the sum
    ``½ Σ (p_c - t_c)² + Σ_{c not in S} t_c (τ - x_c)`` of nothing negative, relative to the largest
    logit, so that logits of any finite size work and small losses keep their digits: loss and
    gradient are within 4 ulp, beyond what the rounding of ``1 + x_c - max x`` moves them by. The
    threshold τ is that of the exact finite method of Michelot.

    References
    ----------
    Martins & Astudillo, "From softmax to sparsemax: a sparse model of attention and multi-label
    classification", ICML (2016). Michelot, "A finite algorithm for finding the projection of a
    point onto the canonical simplex of Rⁿ", Journal of Optimization Theory and Applications 50
    (1986).

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> logits = np.array([[1.0, 0.5, -1.0], [3.0, 0.0, 0.0]])
    >>> fl.sparsemax.value_and_grad(logits, [0, 0], reduction="none")
    (array([0.0625, 0.    ]), array([[-0.25,  0.25,  0.  ],
           [ 0.  ,  0.  ,  0.  ]]))
    """
    T = type(logits[0])
    place = np.intp(label)
    top, t, size = threshold(logits)
    squares = 0.0
    for c in range(logits.size):
        p = maximum(lead(logits[c], top, T(1)) - t, T(0))
        p = p if c != place else T(0)
        squares += np.float64(p) * np.float64(p)
        if grad is not None:
            grad[c] = p
        if hess is not None:
            hess[c] = (size - T(1)) / size if p > T(0) else T(0)
    own = logits[label] - top
    slope = maximum(own - t, T(-1))
    if grad is not None:
        grad[place] = slope
    if hess is not None:
        hess[place] = (size - T(1)) / size if own - t > T(-1) else T(0)
    beyond = maximum(lead(top, logits[label], t - T(1)), T(0))
    return T(0.5 * (squares + np.float64(slope) * np.float64(slope)) + np.float64(beyond))


@sparsemax.dense
def dense_sparsemax(logits, mass, grad, hess):
    """Return the loss of a row whose target is the `mass` of each class."""
    T = type(logits[0])
    top, t, size = threshold(logits)
    squares, beyond = 0.0, 0.0
    for c in range(logits.size):
        u = lead(logits[c], top, T(1))
        outside = u <= t
        slope = lead(u, mass[c], -t)  # 1 - t_c is exact near 1, and t is accurate near 0
        slope = -mass[c] if outside else slope
        squares += np.float64(slope) * np.float64(slope)
        cost = np.float64(mass[c]) * (np.float64(t) - np.float64(u))
        beyond += cost if outside & (mass[c] != T(0)) else 0.0
        if grad is not None:
            grad[c] = slope
        if hess is not None:
            hess[c] = T(0) if outside else (size - T(1)) / size
    return T(0.5 * squares + beyond)


@sparsemax.textbook
def _(logits, mass):
    shifted = logits - logits.real.max(axis=-1, keepdims=True)
    ordered = -np.sort(-shifted.real, axis=-1)
    ranks = np.arange(1, shifted.shape[-1] + 1, dtype=ordered.dtype)
    taus = (ordered.cumsum(axis=-1) - 1) / ranks
    last = (ordered > taus).sum(axis=-1, keepdims=True) - 1
    support = shifted.real > np.take_along_axis(taus, last, axis=-1)
    size = support.sum(axis=-1, keepdims=True, dtype=ordered.dtype)
    tau = (np.where(support, shifted, 0).sum(axis=-1, keepdims=True) - 1) / size
    p = np.where(support, shifted - tau, 0 * tau)  # a NaN in the row is in tau
    conjugate = np.where(support, shifted**2 - tau**2, 0 * tau).sum(axis=-1) / 2
    chosen = np.where(mass == 0, 0, mass * shifted).sum(axis=-1)
    return conjugate - chosen + (mass**2).sum(axis=-1) / 2, p - mass
