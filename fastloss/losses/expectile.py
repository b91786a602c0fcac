"""Expectile loss."""

import numpy as np

from fastloss._families import elementwise
from fastloss._options import Option


@elementwise(
    options={"tau": Option(0.5, "a number in (0, 1)", lambda x: 0 < x < 1, 0.9)},
    convex=True,
    ulp_bound=4,
    nanoseconds=0.2,
    peers={},
)
def expectile(pred, target, tau):
    """Expectile loss, ``(1 - tau) r**2`` where ``r > 0``, else ``tau r**2``.

    Parameters
    ----------
    pred : array_like, float32 or float64
        Predictions, of any shape; r is ``pred - target``.
    target : array_like
        True values, of the shape of `pred`; its dtype, or bool or integer.
    tau : float, default 0.5
        The expectile that the best prediction is, in (0, 1); 0.5 is the mean.

    Notes
    -----
    With the weight w, ``1 - tau`` or ``tau``, the gradient is ``2 w r`` and the second derivative
    ``2 w``, with ``w = tau`` at r = 0. The loss and every gradient entry are within 4 ulp for
    finite results, for tau as the dtype rounds it.

    References
    ----------
    Newey & Powell, "Asymmetric least squares estimation and testing", Econometrica 55 (1987).

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> loss, grad = fl.expectile.value_and_grad(
    ...     np.array([1.0, 5.0]), np.array([3.0, 3.0]), tau=0.75, reduction="none"
    ... )
    >>> loss
    array([3., 1.])
    >>> grad
    array([-3.,  1.])
    """
    T = type(pred)
    residual = pred - target
    weight = T(1) - tau if residual > T(0) else tau
    weighted = weight * residual
    return weighted * residual, T(2) * weighted, T(2) * weight


@expectile.textbook
def _(pred, target, tau):
    residual = pred - target
    weight = np.where(residual.real > 0, 1 - tau, tau).astype(residual.real.dtype)
    return weight * residual**2, 2 * weight * residual
