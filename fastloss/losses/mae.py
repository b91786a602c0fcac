"""Mean absolute error."""

import numpy as np

from fastloss._families import elementwise


@elementwise(
    convex=True,
    ulp_bound=4,
    nanoseconds=0.15,
    peers={
        "PyTorch": "l1_loss",
        "Keras": "MeanAbsoluteError",
        "scikit-learn": "AbsoluteError",
    },
)
def mae(pred, target):
    """Absolute error, ``|pred - target|``.

    Parameters
    ----------
    pred : array_like, float32 or float64
        Predictions, of any shape.
    target : array_like
        True values, of the shape of `pred`; its dtype, or bool or integer.

    Notes
    -----
    The gradient is the sign of ``pred - target``, and 0 where they are equal; the second derivative
    is 0. The loss is within 4 ulp, the gradient exact. scikit-learn's gradient is 1 where they are
    equal.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> pred, target = np.array([1.0, 2.0, 5.0]), np.array([1.0, 4.0, 4.0])
    >>> loss, grad = fl.mae.value_and_grad(pred, target, reduction="sum")
    >>> loss
    3.0
    >>> grad
    array([ 0., -1.,  1.])
    """
    T = type(pred)
    residual = pred - target
    # What is neither above nor below 0 is 0 or NaN, and stays that.
    slope = T(1) if residual > T(0) else (T(-1) if residual < T(0) else residual)
    return abs(residual), slope, T(0)


@mae.textbook
def _(pred, target):
    residual = pred - target
    sign = np.sign(residual.real)
    return sign * residual, sign
