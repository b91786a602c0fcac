"""Negative log-likelihood of the gamma distribution."""

import numpy as np

from fastloss._families import elementwise
from fastloss._math import exp


@elementwise(
    target="positive",
    convex=True,
    ulp_bound=4,
    nanoseconds=0.4,
    peers={"scikit-learn": "HalfGammaLoss"},
)
def gamma_nll(pred, target):
    """Gamma loss with the logarithm as link, ``pred + target exp(-pred)``.

    Parameters
    ----------
    pred : array_like, float32 or float64
        Logarithms of the predicted means, of any shape.
    target : array_like
        True values > 0, of the shape of `pred`; its dtype, or bool or integer.

    Notes
    -----
    The gradient is ``1 - target exp(-pred)``, the second derivative ``target exp(-pred)``. Loss and
    gradient are within 4 ulp of their larger term. Terms that depend on the target only are left
    out, as in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> loss, grad = fl.gamma_nll.value_and_grad(np.array([0.0, 0.0]), np.array([1.0, 4.0]))
    >>> loss
    2.5
    >>> grad
    array([ 0. , -1.5])
    """
    T = type(pred)
    ratio = target * exp(-pred)
    return pred + ratio, T(1) - ratio, ratio


@gamma_nll.textbook
def _(pred, target):
    ratio = target * np.exp(-pred)
    return pred + ratio, 1 - ratio
