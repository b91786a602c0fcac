"""Multiclass margin loss, summed over all competitors."""

import numpy as np

from fastloss._drivers.columns import takes_columns
from fastloss._drivers.rivals import lead
from fastloss._drivers.row_vectors import at_label, entry_at, put_at
from fastloss._families import rowwise
from fastloss._floats import at_least
from fastloss._options import Option, nonnegative
from fastloss._vector_memory import load_some, store_some
from fastloss._vectors import choose, in_row, lanes_of, narrowed, sum_of_lanes, widened, zeros


@rowwise(
    arguments=("scores", "labels"),
    class_weight=True,
    hessian=True,
    options={
        "margin": nonnegative(1.0),
        "p": Option(1, "1 or 2", lambda x: x in (1, 2), 2, neutral=True, shapes_formula=True),
    },
    convex=True,
    ulp_bound=4,
    nanoseconds=0.6,
    peers={"PyTorch": "multi_margin_loss"},
)
@takes_columns
def multi_margin(scores, label, grad, hess, margin, p):
    """Multiclass margin loss, ``Σ_{j≠y} max(0, margin + x_j - x_y)^p / C``, of scores and label y.

    Parameters
    ----------
    scores : array_like, float32 or float64, shape (..., C, ...)
        Scores x of C classes, which lie along `axis`. -inf masks a class (it still counts in C).
    labels : array_like
        Integer labels y in [0, C), of the shape of `scores` without `axis`.
    margin : float, default 1.0
        How far the label's score must lead each other score for a loss of 0; >= 0.
    p : int, default 1
        The power, 1 or 2.
    class_weight : array_like, shape (C,), optional
        Weights of the classes; a row is multiplied by that of its label.

    Notes
    -----
    At a kink, where the label leads by just `margin`, the gradient of that pair is 0. Loss and
    gradient are within 4 ulp, beyond what the rounding of each ``x_j - x_y`` moves them by.

    PyTorch's mean differs with class weights: it divides by N, not by their sum; pass
    ``normalizer=N`` for its value. Where PyTorch takes NaN for a competitor without loss, the loss
    here is NaN.

    References
    ----------
    Weston & Watkins, "Support vector machines for multi-class pattern recognition", ESANN (1999).

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> scores = np.array([[2.0, 1.5, 2.0, -1.0]])
    >>> fl.multi_margin.value_and_grad(scores, [0])
    (0.375, array([[-0.5 ,  0.25,  0.25,  0.  ]]))
    >>> fl.multi_margin(scores, [0], p=2)
    0.3125
    """
    T, lanes = type(scores[0]), lanes_of(scores)
    own, count = entry_at(scores, label), np.float64(scores.size)
    nothing = widened(zeros(scores))
    total, pull, active = nothing, nothing, nothing
    power = 1.0 if p is None else 2.0
    step = T(power / count)
    for i in range(0, scores.size, lanes):
        there = scores.size - i
        x = load_some(scores, i, 1, there, T(0))
        excess = at_least(lead(x, own, margin), T(0))
        excess = choose(at_label(label, i, x), T(0), excess)
        excess = choose(in_row(x, there), excess, T(0))
        hit = choose(excess > T(0), T(1), excess)  # 0 or NaN
        term, slope, bend = excess, hit, zeros(scores)
        if p is not None:
            term, slope, bend = excess * excess, excess, hit
        total = total + widened(term)
        pull = pull + widened(slope)
        active = active + widened(bend)
        store_some(grad, i, step * slope, there)
        store_some(hess, i, step * bend, there)
    put_at(grad, label, narrowed(-power * sum_of_lanes(pull) / count, T))
    put_at(hess, label, narrowed(power * sum_of_lanes(active) / count, T))
    return narrowed(sum_of_lanes(total) / count, T)


@multi_margin.textbook
def _(scores, labels, margin, p):
    own = labels[..., None] == np.arange(scores.shape[-1])
    lead = margin + (scores - np.where(own, scores, 0).sum(axis=-1, keepdims=True))
    excess = np.where(own | (lead.real <= 0), 0, lead)
    slope = 2 * excess if p == 2 else np.where(excess.real > 0, 1, excess.real)
    slope = np.where(own, -slope.sum(axis=-1, keepdims=True), slope)
    count = excess.real.dtype.type(scores.shape[-1])
    return (excess**p).sum(axis=-1) / count, slope / count
