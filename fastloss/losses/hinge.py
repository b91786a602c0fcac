"""Hinge loss."""

import numpy as np

from fastloss._families import elementwise
from fastloss._options import nonnegative, signs


@elementwise(
    target="sign",
    options={"labels": signs(), "margin": nonnegative(1.0)},
    convex=True,
    ulp_bound=4,
    nanoseconds=0.15,
    peers={"Keras": "Hinge", "optax": "hinge_loss", "scikit-learn": "hinge_loss"},
)
def hinge(pred, target, labels, margin):
    """Hinge loss, ``max(0, margin - t p)`` of a label t = ±1.

    Parameters
    ----------
    pred : array_like, float32 or float64
        Scores p, of any shape; the sign is the predicted class.
    target : array_like
        Labels t, of the shape of `pred`; its dtype, or bool or integer. -1 and 1, or as `labels`
        says.
    labels : {"pm1", "01"}, default "pm1"
        Whether the classes are labelled -1 and 1, or 0 and 1: then ``2 t - 1`` takes the place of
        t.
    margin : float, default 1.0
        What the product t p must reach for a loss of 0; at least 0.

    Notes
    -----
    The gradient is -t inside of the margin and 0 outside, at t p = margin too; the second
    derivative is 0. The loss is within 4 ulp, and the gradient is exact. NaN in either array gives
    NaN. PyTorch's ``hinge_embedding_loss`` is another loss: it penalises the score of one class
    only.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.hinge(np.array([0.3, -0.2, 2.0]), np.array([1.0, 1.0, 1.0]), reduction="none")
    array([0.7, 1.2, 0. ])
    """
    T = type(pred)
    if labels is not None:
        target = (target + target) - T(1)
    gap = margin - target * pred
    slope = -target if gap > T(0) else T(0)
    slope = gap if gap != gap else slope
    return max(gap, T(0)), slope, T(0)


@hinge.textbook
def _(pred, target, labels, margin):
    t = 2 * target - 1 if labels == "01" else target
    gap = margin - t * pred
    outside = gap.real <= 0
    return np.where(outside, 0, gap), np.where(outside, 0, -t)
