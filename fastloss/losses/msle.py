"""Mean squared logarithmic error."""

import numpy as np

from fastloss._families import elementwise
from fastloss._math import log1p, log1p_unit


@elementwise(
    pred="positive",
    target="positive",
    ulp_bound=6,
    nanoseconds=1.1,
    peers={"Keras": "MeanSquaredLogarithmicError", "scikit-learn": "mean_squared_log_error"},
)
def msle(pred, target):
    """Squared logarithmic error, ``(log(1 + pred) - log(1 + target))**2``.

    Parameters
    ----------
    pred : array_like, float32 or float64
        Predictions > -1, of any shape.
    target : array_like
        True values > -1, of the shape of `pred`; its dtype, or bool or integer.

    Notes
    -----
    With ``L = log((1 + pred) / (1 + target))`` the gradient is ``2 L / (1 + pred)`` and the second
    derivative ``2 (1 - L) / (1 + pred)**2``. L is taken as ``log1p`` of the relative difference, so
    that the loss and every gradient entry are within 6 ulp also where pred is close to target; the
    square doubles the error of L. The result is NaN below -1. Keras raises pred and target to 1e-7
    at least; this loss does not.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> loss, grad = fl.msle.value_and_grad(np.array([1.0, 3.0]), np.array([1.0, 0.0]))
    >>> round(loss, 6)
    0.960906
    >>> grad.round(6)
    array([0.      , 0.346574])
    """
    T = type(pred)
    # log1p of a positive argument: that of a negative one near -1 would magnify its rounding.
    smaller = T(1) + min(pred, target)
    quotient = abs(pred - target) / smaller
    size = log1p_unit(quotient) if quotient <= T(1) else log1p(quotient)
    size = T(np.nan) if smaller < T(0) else size
    logarithm = -size if pred < target else size
    inverse = T(1) / (T(1) + pred)
    slope = (T(2) * logarithm) / (T(1) + pred)
    return size * size, slope, (T(2) * (T(1) - logarithm)) * (inverse * inverse)


@msle.textbook
def _(pred, target):
    logarithm = np.log1p(pred) - np.log1p(target)
    return logarithm**2, 2 * logarithm / (1 + pred)
