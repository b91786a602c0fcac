"""Mean absolute percentage error."""

import numpy as np

from fastloss._families import elementwise
from fastloss._options import positive


@elementwise(
    pred="positive",
    target="positive",
    options={"eps": positive(1e-7)},
    convex=True,
    ulp_bound=4,
    nanoseconds=0.3,
    peers={
        "Keras": "MeanAbsolutePercentageError",
        "scikit-learn": "mean_absolute_percentage_error",
    },
)
def mape(pred, target, eps):
    """Absolute relative error, ``|pred - target| / max(|target|, eps)``.

    Parameters
    ----------
    pred : array_like, float32 or float64
        Predictions, of any shape.
    target : array_like
        True values, of the shape of `pred`; its dtype, or bool or integer.
    eps : float, default 1e-07
        What the size of target counts as at least, > 0.

    Notes
    -----
    The gradient is the sign of ``pred - target``, 0 where they are equal, over
    ``max(|target|, eps)``; the second derivative is 0. The loss and every gradient entry are within
    4 ulp for finite results. Keras multiplies by 100; scikit-learn's `eps` is the machine epsilon
    of float64.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> loss, grad = fl.mape.value_and_grad(np.array([1.0, 5.0]), np.array([2.0, 4.0]))
    >>> loss
    0.375
    >>> grad
    array([-0.25 ,  0.125])
    """
    T = type(pred)
    residual = pred - target
    scale = max(abs(target), eps)
    inverse = T(1) / scale
    # What is neither above nor below 0 is 0 or NaN, and stays that.
    slope = inverse if residual > T(0) else (-inverse if residual < T(0) else residual)
    return abs(residual) / scale, slope, T(0)


@mape.textbook
def _(pred, target, eps):
    residual = pred - target
    sign = np.sign(residual.real)
    scale = np.maximum(np.abs(target), eps)
    return sign * residual / scale, sign / scale
