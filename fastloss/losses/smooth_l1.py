"""Smooth L1 loss."""

import numpy as np

from fastloss._families import elementwise
from fastloss._options import nonnegative


@elementwise(
    options={"beta": nonnegative(1.0)},
    convex=True,
    ulp_bound=4,
    nanoseconds=0.25,
    peers={"PyTorch": "smooth_l1_loss"},
)
def smooth_l1(pred, target, beta):
    """Smooth L1 loss, ``r**2 / (2 beta)`` where ``|r| < beta``, else ``|r| - beta / 2``.

    Parameters
    ----------
    pred : array_like, float32 or float64
        Predictions, of any shape; r is ``pred - target``.
    target : array_like
        True values, of the shape of `pred`; its dtype, or bool or integer.
    beta : float, default 1.0
        Where the loss turns from quadratic into linear, >= 0; with 0 it is `mae`.

    Notes
    -----
    The gradient is ``r / beta`` where ``|r| < beta``, else the sign of r (0 for r = 0); the second
    derivative is ``1 / beta`` where ``|r| < beta``, else 0. The loss and every gradient entry are
    within 4 ulp for finite results. `huber` is this loss times beta.

    References
    ----------
    Girshick, "Fast R-CNN", International Conference on Computer Vision (2015).

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> loss, grad = fl.smooth_l1.value_and_grad(
    ...     np.array([0.5, 4.0]), np.zeros(2), beta=2.0, reduction="none"
    ... )
    >>> loss
    array([0.0625, 3.    ])
    >>> grad
    array([0.25, 1.  ])
    """
    T = type(pred)
    residual = pred - target
    size = abs(residual)
    inverse = T(1) / beta  # once for the loop: a division in it is half of its time
    if inverse < T(np.inf):
        ratio = residual * inverse
    elif beta > T(0):
        ratio = residual / beta
    else:  # the limit
        ratio = T(1) if residual > T(0) else (T(-1) if residual < T(0) else residual)
    slope = min(max(ratio, T(-1)), T(1))
    curvature = inverse if size < beta else (T(0) if size >= beta else residual)
    return slope * (residual - T(0.5) * beta * slope), slope, curvature


@smooth_l1.textbook
def _(pred, target, beta):
    residual = pred - target
    sign = np.sign(residual.real)
    size = sign * residual
    inside = size.real < beta
    scale = np.where(inside, beta, 1).astype(size.real.dtype)
    loss = np.where(inside, residual**2 / (2 * scale), size - beta / 2)
    return loss, np.where(inside, residual / scale, sign)
