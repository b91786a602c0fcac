"""Sparsemax loss: the convex loss whose link is the projection onto the simplex."""

import numpy as np
from numba import njit

from fastloss._drivers.columns import takes_columns
from fastloss._drivers.common import inlined
from fastloss._drivers.row_vectors import at_label, row_top
from fastloss._families import rowwise
from fastloss._floats import at_least
from fastloss._jit import MATHEMATICS
from fastloss._llvm import on_stack
from fastloss._vector_memory import load_some, store_some
from fastloss._vectors import (
    are_float32,
    choose,
    every,
    lanes_of,
    larger,
    largest_lane,
    narrowed,
    sum_of_lanes,
    widened,
    zeros,
)  # fmt: skip

LISTED = 64
"""Vectors that can be listed."""

# With the drop v_c = max x - x_c and s = max x - τ, the probabilities are p_c = max(0, s - v_c). In
# near rows, s < 1/2, this loses nothing. Else p may be small beside s ~ 1, and t = 1 - s serves:
# p_c = (1 - v_c) - t, and 1 - p_c = v_c + t. Differences are rounded as written, hence MATHEMATICS.


@njit(**MATHEMATICS)
def drop(top, x):
    """Return ``top - x``."""
    return top - x


@njit(**MATHEMATICS)
def excess(v, s, t, one, half):
    """Return the probability of classes with the drops v; negative or 0 outside the support."""
    return choose(s < half, s - v, (one - v) - t)


@njit(**MATHEMATICS)
def slope_of_label(v, t, one):
    """Return ``p - 1`` of classes with the drops v."""
    return at_least(-(v + t), -one)


@njit(**MATHEMATICS)
def slope_of_mass(v, s, t, mass, one, half):
    """Return ``p - mass`` of classes of the support.

    What is exact is taken first: 1 - mass for masses near 1, 1 - v for the others.
    """
    far = choose(mass > half, ((one - mass) - v) - t, ((one - v) - t) - mass)
    return choose(s < half, (s - v) - mass, far)


@njit(**MATHEMATICS)
def curvature_of(size, s, one):
    """Return ``1 - 1 / size``, the Hessian on the support; NaN if s is."""
    return choose(s == s, (size - one) / size, s)


@inlined
def drops(logits, i, top):
    """Return the drops of the entries from i on; beyond the row they are inf."""
    return drop(top, load_some(logits, i, 1, logits.size - i, -type(logits[0])(np.inf)))


@inlined
def place_of(k, listed, length, tail, lanes):
    """Return where the k-th vector begins: of those listed, or of those from `tail` on."""
    return listed[k] if k < length else tail + (k - length) * lanes


@inlined
def threshold(logits):
    """Return ``(max x, s, t, size)``, the last being that of the support.

    After Michelot: s is ``(1 + Σ v) / size`` over a superset of the support, from which those with
    ``v >= s`` are taken until there are none. Nothing cancels in this sum, and neither in that of
    t, ``Σ (1 - v) - 1``, for the largest (v = 0) are counted. NaN is never taken out. In float64
    throughout: of many equal classes, s may be less than half a float32 above their v.

    The first superset are those with v < 1. As a rule they are few, and only the vectors that hold
    one of them are looked at again: those listed, and all from `tail` on where the list is full. Of
    columns, whose vectors hold many rows, none is listed, and a row that is done before others
    stays as it is.
    """
    T, lanes = type(logits[0]), lanes_of(logits)
    top, nothing, wide_nothing = row_top(logits), zeros(logits), widened(zeros(logits))
    listed, length, tail = on_stack(np.intp, LISTED), 0, 0
    while lanes > 1 and tail < logits.size and length < LISTED:
        listed[length] = tail
        length += 0 if every(drops(logits, tail, top) >= T(1)) else 1
        tail += lanes
    vectors = length + (logits.size - tail + lanes - 1) // lanes
    size = sum_of_lanes(nothing)
    s, before = sum_of_lanes(wide_nothing) + 1.0, size + T(np.inf)
    while not every(before == T(0)):
        total, count, high = wide_nothing, nothing, nothing
        for k in range(vectors):
            v = drops(logits, place_of(k, listed, length, tail, lanes), top)
            outside = widened(v) >= s
            total = total + widened(choose(outside, T(0), v))
            count = count + choose(outside, T(0), T(1))
            high = choose(outside, high, larger(high, v))
        done = before == T(0)
        size = choose(done, size, sum_of_lanes(count))
        s = choose(done, s, (1.0 + sum_of_lanes(total)) / widened(size))
        settled = widened(largest_lane(high)) < s  # none will be taken out
        before = choose(size >= before, T(0), choose(settled, T(0), size))
    if are_float32(logits):  # float64 has digits to spare
        return top, narrowed(s, T), narrowed(1.0 - s, T), size
    rest, tops = wide_nothing, nothing
    for k in range(vectors):
        v = drops(logits, place_of(k, listed, length, tail, lanes), top)
        is_top = v == T(0)
        tops = tops + choose(is_top, T(1), T(0))
        remote = choose(widened(v) >= s, T(0), drop(T(1), v))
        rest = rest + widened(choose(is_top, T(0), remote))
    tops_but_one = widened(sum_of_lanes(tops)) - 1.0
    t = (sum_of_lanes(rest) + tops_but_one) / widened(size)
    return top, narrowed(s, T), narrowed(t, T), size


@rowwise(
    arguments=("logits", "labels"),
    hessian=True,
    convex=True,
    ulp_bound=4,
    nanoseconds=1.5,
    peers={"optax": "multiclass_sparsemax_loss"},
)
@takes_columns
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
    T, lanes = type(logits[0]), lanes_of(logits)
    top, s, t, size = threshold(logits)
    curvature = curvature_of(size, s, T(1))
    squares, own = widened(zeros(logits)), zeros(logits)
    for i in range(0, logits.size, lanes):
        there = logits.size - i
        v = drops(logits, i, top)
        hit = at_label(label, i, v)
        p = excess(v, s, t, T(1), T(0.5))
        slope = choose(hit, slope_of_label(v, t, T(1)), at_least(p, T(0)))
        squares = squares + widened(slope) * widened(slope)
        own = own + choose(hit, v, T(0))
        store_some(grad, i, slope, there)
        if hess is not None:
            store_some(hess, i, choose(p <= T(0), T(0), curvature), there)
    beyond = at_least(-excess(sum_of_lanes(own), s, t, T(1), T(0.5)), T(0))
    return narrowed(0.5 * sum_of_lanes(squares) + widened(beyond), T)


@sparsemax.dense
@takes_columns
def dense_sparsemax(logits, mass, grad, hess):
    """Return the loss of a row whose target is the `mass` of each class."""
    T, lanes = type(logits[0]), lanes_of(logits)
    top, s, t, size = threshold(logits)
    curvature = curvature_of(size, s, T(1))
    squares, beyond = widened(zeros(logits)), widened(zeros(logits))
    for i in range(0, logits.size, lanes):
        there = logits.size - i
        v = drops(logits, i, top)
        a = load_some(mass, i, 1, there, T(0))
        p = excess(v, s, t, T(1), T(0.5))
        outside = p <= T(0)
        slope = choose(outside, -a, slope_of_mass(v, s, t, a, T(1), T(0.5)))
        squares = squares + widened(slope) * widened(slope)
        cost = choose(a == T(0), T(0), -p * a)
        beyond = beyond + widened(choose(outside, cost, T(0)))
        store_some(grad, i, slope, there)
        if hess is not None:
            store_some(hess, i, choose(outside, T(0), curvature), there)
    return narrowed(0.5 * sum_of_lanes(squares) + sum_of_lanes(beyond), T)


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
