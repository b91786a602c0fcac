"""Gaussian negative log-likelihood, of mean and variance."""

import numpy as np

from fastloss._families import elementwise
from fastloss._math import exp, log
from fastloss._options import flag, positive


@elementwise(
    arguments=("mean", "target"),
    second=("var", "log_var"),
    options={"full": flag(False), "eps": positive(1e-6)},
    ulp_bound=4,
    nanoseconds=0.7,
    peers={"PyTorch": "gaussian_nll_loss"},
)
def gaussian_nll(mean, target, var, is_logarithm, full, eps):
    """Negative log-likelihood of a normal distribution, ``(log v + (mean - t)**2 / v) / 2``.

    Parameters
    ----------
    mean : array_like, float32 or float64
        Means of the distributions, of any shape.
    target : array_like
        Observations t, of the shape and dtype of `mean`, or bool or integer.
    var : array_like, optional
        Variances v of the distributions, >= 0, of the shape and dtype of `mean`; values below `eps`
        count as `eps`, and the gradient is taken there.
    log_var : array_like, optional
        The logarithms of the variances, instead of `var`; the gradient is by them then.
    full : bool, default False
        Adds the constant ``log(2 π) / 2``.
    eps : float, default 1e-6
        The smallest variance, > 0.

    Notes
    -----
    Gradient and Hessian are pairs: by the mean, and by the variance or its logarithm. So are
    `grad_out` and `hess_out`. The gradients are ``(mean - t) / v`` and
    ``(1 - (mean - t)**2 / v) / (2 v)``, which by the logarithm is ``(1 - (mean - t)**2 / v) / 2``.
    The gradient by the mean is within 4 ulp. In the loss and in the gradient by the variance two
    terms cancel (at the optimum, wholly): their errors are 4 ulp of the larger term.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> mean, target = np.array([0.0, 1.0]), np.array([1.0, 3.0])
    >>> loss, (by_mean, by_var) = fl.gaussian_nll.value_and_grad(
    ...     mean, target, var=np.array([1.0, 4.0]), reduction="sum"
    ... )
    >>> by_mean, by_var
    (array([-1. , -0.5]), array([0., 0.]))
    """
    # s is the larger of v and eps, or of their logarithms; every term needs 1 / v only.
    T = type(mean)
    r = mean - target
    if is_logarithm is not None:
        least = log(eps)
        s = least if var < least else var
        # 1 / v = root**2: a large residual may meet an exp(-s) that is no number any more.
        root = exp(T(-0.5) * s)
        inverse, log_v = root * root, s
        slope, square = (r * root) * root, (r * root) * (r * root)
    else:
        s = eps if var < eps else var
        inverse, log_v = T(1) / s, log(s)
        slope = r * inverse
        square = r * slope
    loss = T(0.5) * (log_v + square)
    if full is not None:
        loss += T(0.9189385332046727)  # log(2 π) / 2
    by_var = T(0.5) * (T(1) - square)
    bend = T(0.5) * square
    if is_logarithm is None:
        by_var *= inverse
        bend = (square - T(0.5)) * (inverse * inverse)
    return loss, slope, inverse, by_var, bend


@gaussian_nll.textbook
def _(mean, target, full, eps, var=None, log_var=None):
    if log_var is None:
        v = np.where(var.real < eps, eps, var)
    else:
        v = np.exp(np.where(log_var.real < np.log(eps), np.log(eps), log_var))
    r = mean - target
    loss = (np.log(v) + r**2 / v) / 2 + (np.log(2 * np.pi) / 2 if full else 0)
    by_var = (1 - r**2 / v) / (2 * v)
    return loss, (r / v, by_var if log_var is None else by_var * v)
