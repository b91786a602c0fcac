"""Sparsemax loss: the convex loss whose link is the projection onto the simplex."""

import numpy as np
from numba import njit

from fastloss._drivers.common import inlined, largest
from fastloss._families import rowwise
from fastloss._floats import maximum
from fastloss._jit import MATHEMATICS

# With the drop v_c = max x - x_c and s = max x - τ, the probabilities are p_c = max(0, s - v_c). In
# near rows, s < 1/2, this loses nothing. Else p may be small beside s ~ 1, and t = 1 - s serves:
# p_c = (1 - v_c) - t, and 1 - p_c = v_c + t. Differences are rounded as written, hence MATHEMATICS.


@njit(**MATHEMATICS)
def drop(top, x):
    """Return ``top - x``."""
    return top - x


@njit(**MATHEMATICS)
def probability(v, s, t):
    """Return the probability of a class with the drop v."""
    T = type(v)
    return maximum(s - v if s < T(0.5) else (T(1) - v) - t, T(0))


@njit(**MATHEMATICS)
def slope_of_label(v, t):
    """Return ``p - 1`` of a class with the drop v."""
    return maximum(-(v + t), -type(v)(1))


@njit(**MATHEMATICS)
def slope_of_mass(v, s, t, mass):
    """Return ``p - mass`` of a class of the support: 1 - mass is exact for masses near 1."""
    T = type(v)
    return (s - v) - mass if s < T(0.5) else ((T(1) - mass) - v) - t


@inlined
def threshold(logits):
    """Return ``(max x, s, t, size)``, the last being that of the support.

    After Michelot: s is ``(1 + Σ v) / size`` over a superset of the support, from which those with
    ``v >= s`` are taken until there are none. Nothing cancels in this sum, and neither in that of
    t, ``Σ (1 - v) - 1``, for the largest (v = 0) are counted.
    """
    T = type(logits[0])
    top = largest(logits)
    zero = top - top  # NaN where the largest is NaN or infinite
    s, before = T(1) + zero, np.inf
    while True:
        total, size = 0.0, T(0)
        for c in range(logits.size):
            v = drop(top, logits[c])
            inside = T(1) if v < s else T(0)
            total += np.float64(min(v, T(1)) * inside)  # two sums of choices do not vectorise
            size += inside
        s = zero + T((1.0 + total) / np.float64(size))
        if (size >= before) | (size == T(1)):
            break
        before = np.float64(size)
    rest, tops = 0.0, T(0)
    for c in range(logits.size):
        v = drop(top, logits[c])
        first = T(1) if v == T(0) else T(0)
        inside = T(1) if v < s else T(0)
        rest += np.float64((T(1) - min(v, T(1))) * (inside - first))
        tops += first
    t = zero + T((rest + np.float64(tops - T(1))) / np.float64(size))
    return top, s, t, size


@rowwise(
    arguments=("logits", "labels"),
    hessian=True,
    convex=True,
    ulp_bound=4,
    nanoseconds=1.5,
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
    gradient are within 4 ulp, beyond what the rounding of ``max x - x_c`` moves them by. The
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
    >>> fl.sparsemax(logits, [0, 0], reduction="none")
    array([0.0625, 0.    ])
    >>> fl.sparsemax.grad(logits, [0, 1], reduction="none")
    array([[-0.25,  0.25,  0.  ],
           [ 1.  , -1.  ,  0.  ]])
    """
    T = type(logits[0])
    place = np.intp(label)
    top, s, t, size = threshold(logits)
    squares = 0.0
    for c in range(logits.size):
        p = probability(drop(top, logits[c]), s, t)
        p = p if c != place else T(0)
        squares += np.float64(p) * np.float64(p)
        if grad is not None:
            grad[c] = p
        if hess is not None:
            hess[c] = (size - T(1)) / size if p > T(0) else T(0)
    own = drop(top, logits[label])
    slope = slope_of_label(own, t)
    if grad is not None:
        grad[place] = slope
    if hess is not None:
        hess[place] = (size - T(1)) / size if own < s else T(0)
    beyond = maximum(drop(own, s), T(0))
    return T(0.5 * (squares + np.float64(slope) * np.float64(slope)) + np.float64(beyond))


@sparsemax.dense
def dense_sparsemax(logits, mass, grad, hess):
    """Return the loss of a row whose target is the `mass` of each class."""
    T = type(logits[0])
    top, s, t, size = threshold(logits)
    squares, beyond = 0.0, 0.0
    for c in range(logits.size):
        v = drop(top, logits[c])
        outside = v >= s
        slope = -mass[c] if outside else slope_of_mass(v, s, t, mass[c])
        squares += np.float64(slope) * np.float64(slope)
        cost = mass[c] * drop(v, s) if mass[c] != T(0) else T(0)
        beyond += np.float64(cost if outside else T(0))
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
