"""Huber loss."""

import numpy as np

from fastloss._families import elementwise
from fastloss._options import positive


@elementwise(
    options={"delta": positive(1.0)},
    convex=True,
    ulp_bound=4,
    nanoseconds=0.2,
    peers={
        "PyTorch": "huber_loss",
        "Keras": "Huber",
        "optax": "huber_loss",
        "scikit-learn": "HuberLoss",
        "SciPy": "huber",
    },
)
def huber(pred, target, delta):
    """Huber loss, ``r**2 / 2`` where ``|r| <= delta``, else ``delta (|r| - delta / 2)``.

    Parameters
    ----------
    pred : array_like, float32 or float64
        Predictions, of any shape; r is ``pred - target``.
    target : array_like
        True values, of the shape of `pred`; its dtype, or bool or integer.
    delta : float, default 1.0
        Where the loss turns from quadratic into linear, > 0.

    Notes
    -----
    The gradient is r clipped to ``[-delta, delta]``; the second derivative is 1 where
    ``|r| <= delta``, else 0. The loss and every gradient entry are within 4 ulp for finite results.
    `smooth_l1` is this loss divided by delta.

    References
    ----------
    Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964).

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> loss, grad = fl.huber.value_and_grad(
    ...     np.array([0.5, 4.0]), np.zeros(2), delta=2.0, reduction="none"
    ... )
    >>> loss
    array([0.125, 6.   ])
    >>> grad
    array([0.5, 2. ])
    """
    T = type(pred)
    residual = pred - target
    size = abs(residual)
    clipped = min(max(residual, -delta), delta)
    # One formula for both parts: r - clipped / 2 loses nothing, as |clipped| <= |r|.
    loss = clipped * (residual - T(0.5) * clipped)
    curvature = T(1) if size <= delta else (T(0) if size > delta else residual)
    return loss, clipped, curvature


@huber.textbook
def _(pred, target, delta):
    residual = pred - target
    sign = np.sign(residual.real)
    size = sign * residual
    inside = size.real <= delta
    loss = np.where(inside, residual**2 / 2, delta * (size - delta / 2))
    return loss, np.where(inside, residual, delta * sign)
