"""Multiclass margin loss, summed over all competitors."""

import numpy as np

from fastloss._drivers.rivals import lead
from fastloss._families import rowwise
from fastloss._floats import maximum
from fastloss._options import Option, nonnegative


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
    T = type(scores[0])
    place, own, count = np.intp(label), scores[label], T(scores.size)
    total, pull, active = 0.0, 0.0, 0.0
    step = T(1) / count if p is None else T(2) / count
    for c in range(scores.size):
        excess = maximum(lead(scores[c], own, margin), T(0))
        excess = excess if c != place else T(0)
        hit = T(1) if excess > T(0) else excess  # 0 or NaN
        if p is None:
            total += np.float64(excess)
            pull += np.float64(hit)
            if grad is not None:
                grad[c] = step * hit
            if hess is not None:
                hess[c] = T(0)
        else:
            total += np.float64(excess * excess)
            pull += np.float64(excess)
            active += np.float64(hit)
            if grad is not None:
                grad[c] = step * excess
            if hess is not None:
                hess[c] = step * hit
    if grad is not None:
        grad[place] = T(-pull * (1.0 if p is None else 2.0) / np.float64(scores.size))
    if hess is not None:
        hess[place] = T(2.0 * active / np.float64(scores.size))
    return T(total / np.float64(scores.size))


@multi_margin.textbook
def _(scores, labels, margin, p):
    own = labels[..., None] == np.arange(scores.shape[-1])
    lead = margin + (scores - np.where(own, scores, 0).sum(axis=-1, keepdims=True))
    excess = np.where(own | (lead.real <= 0), 0, lead)
    slope = 2 * excess if p == 2 else np.where(excess.real > 0, 1, excess.real)
    slope = np.where(own, -slope.sum(axis=-1, keepdims=True), slope)
    count = excess.real.dtype.type(scores.shape[-1])
    return (excess**p).sum(axis=-1) / count, slope / count
