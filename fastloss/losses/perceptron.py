"""Perceptron loss."""

import numpy as np

from fastloss._families import elementwise
from fastloss._options import signs


@elementwise(
    target="sign",
    options={"labels": signs()},
    convex=True,
    ulp_bound=4,
    nanoseconds=0.15,
    peers={"optax": "perceptron_loss", "scikit-learn": "SGDClassifier(loss='perceptron')"},
)
def perceptron(pred, target, labels):
    """Perceptron loss, ``max(0, -t p)`` of a label t = ±1.

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
    The gradient is -t where ``t p <= 0`` and 0 elsewhere: at a score of 0 it is that of the wrong
    side, as in Rosenblatt's rule and in scikit-learn, so that training may start from weights of 0.
    The second derivative is 0. Loss and gradient are within 4 ulp, for labels ±1 exact. NaN in
    either array gives NaN. optax's gradient at 0 is -t / 2.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.perceptron(np.array([0.3, -0.2, 2.0]), np.array([1.0, 1.0, -1.0]), reduction="none")
    array([0. , 0.2, 2. ])
    """
    T = type(pred)
    if labels is not None:
        target = (target + target) - T(1)
    gap = -(target * pred)
    slope = -target if gap >= T(0) else T(0)
    slope = gap if gap != gap else slope
    return max(gap, T(0)), slope, T(0)


@perceptron.textbook
def _(pred, target, labels):
    t = 2 * target - 1 if labels == "01" else target
    gap = -t * pred
    right = gap.real < 0
    return np.where(right, 0, gap), np.where(right, 0, -t)
