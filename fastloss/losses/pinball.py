"""Pinball loss of quantile regression."""

import numpy as np

from fastloss._families import elementwise
from fastloss._options import Option


@elementwise(
    options={
        "quantile": Option(
            0.5,
            "a number in (0, 1), or one per column",
            lambda x: 0 < x < 1,
            0.9,
            per_class=True,
            shares_target=True,
        )
    },
    convex=True,
    ulp_bound=4,
    nanoseconds=0.2,
    peers={"scikit-learn": "PinballLoss"},
)
def pinball(pred, target, quantile):
    """Pinball loss, ``max(q (target - pred), (q - 1) (target - pred))``.

    Parameters
    ----------
    pred : array_like, float32 or float64
        Predictions, of any shape.
    target : array_like
        True values, of the shape of `pred`; its dtype, or bool or integer. With several quantiles
        also of shape (N,): then each row of `pred` has one (and they go through a copy).
    quantile : float or array_like, default 0.5
        The quantile q that the best prediction is, in (0, 1); or K of them, for `pred` of shape
        (N, K).

    Notes
    -----
    The gradient is ``-q`` where pred is below target, ``1 - q`` where it is above, and 0 where they
    are equal; the second derivative is 0. The loss and every gradient entry are within 4 ulp, for
    the quantile as the dtype rounds it. scikit-learn's gradient is 1 - q where they are equal.

    References
    ----------
    Koenker & Bassett, "Regression quantiles", Econometrica 46 (1978).

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> loss, grad = fl.pinball.value_and_grad(
    ...     np.array([1.0, 5.0]), np.array([3.0, 3.0]), quantile=0.75, reduction="none"
    ... )
    >>> loss
    array([1.5, 0.5])
    >>> grad
    array([-0.75,  0.25])
    """
    T = type(pred)
    residual = pred - target
    above = T(1) - quantile
    # What is neither above nor below 0 is 0 or NaN, and stays that.
    slope = above if residual > T(0) else (-quantile if residual < T(0) else residual)
    return slope * residual, slope, T(0)


@pinball.textbook
def _(pred, target, quantile):
    residual = pred - target
    sign = np.sign(residual.real)
    slope = np.where(sign > 0, (1 - quantile) * sign, quantile * sign)
    return slope * residual, slope
