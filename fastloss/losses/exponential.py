"""Exponential loss, that of AdaBoost."""

import numpy as np

from fastloss._families import elementwise
from fastloss._math import exp
from fastloss._options import signs


@elementwise(
    target="sign",
    options={"labels": signs()},
    convex=True,
    ulp_bound=4,
    nanoseconds=0.6,
    peers={"scikit-learn": "ExponentialLoss"},
)
def exponential(pred, target, labels):
    """Exponential loss, ``exp(-t p)`` of a label t = ±1.

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

    Notes
    -----
    The gradient is ``-t exp(-t p)``. The loss and every gradient entry are within 4 ulp for labels
    ±1; below the smallest normal number they are 0, and where exp overflows inf. scikit-learn's
    ExponentialLoss takes labels t of 0 and 1, as ``labels="01"`` does, and for soft ones is another
    loss, ``t exp(-p) + (1 - t) exp(p)``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.exponential(np.array([0.0, 1.0, -1.0]), np.array([1.0, 1.0, 1.0]), reduction="none")
    array([1.        , 0.36787944, 2.71828183])
    """
    T = type(pred)
    if labels is not None:
        target = (target + target) - T(1)
    loss = exp(-(target * pred))
    return loss, -target * loss, (target * target) * loss


@exponential.textbook
def _(pred, target, labels):
    t = 2 * target - 1 if labels == "01" else target
    loss = np.exp(-t * pred)
    return loss, -t * loss
