"""Squared hinge loss."""

import numpy as np

from fastloss._families import elementwise
from fastloss._options import nonnegative, signs


@elementwise(
    target="sign",
    options={"labels": signs(), "margin": nonnegative(1.0)},
    convex=True,
    ulp_bound=4,
    nanoseconds=0.2,
    peers={"Keras": "SquaredHinge", "scikit-learn": "LinearSVC(loss='squared_hinge')"},
)
def squared_hinge(pred, target, labels, margin):
    """Squared hinge loss, ``max(0, margin - t p)**2`` of a label t = ±1.

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
    The gradient is ``-2 t max(0, margin - t p)``, the second derivative 2 inside of the margin and
    0 outside, at t p = margin too. The loss and every gradient entry are within 4 ulp. NaN in
    either array gives NaN.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.squared_hinge(np.array([0.5, -1.0, 2.0]), np.array([1.0, 1.0, 1.0]), reduction="none")
    array([0.25, 4.  , 0.  ])
    """
    T = type(pred)
    if labels is not None:
        target = (target + target) - T(1)
    gap = max(margin - target * pred, T(0))
    curvature = T(2) * (target * target) if gap > T(0) else T(0)
    curvature = gap if gap != gap else curvature
    return gap * gap, T(-2) * (target * gap), curvature


@squared_hinge.textbook
def _(pred, target, labels, margin):
    t = 2 * target - 1 if labels == "01" else target
    gap = margin - t * pred
    gap = np.where(gap.real <= 0, 0, gap)
    return gap**2, -2 * t * gap
