"""Negative log-likelihood of the Poisson distribution."""

import numpy as np

from fastloss._families import elementwise
from fastloss._math import exp, log
from fastloss._options import flag, nonnegative


@elementwise(
    pred="positive",
    target="count",
    options={"log_input": flag(True), "full": flag(False), "eps": nonnegative(1e-8)},
    convex=True,
    ulp_bound=4,
    nanoseconds=0.5,
    peers={
        "PyTorch": "poisson_nll_loss",
        "Keras": "Poisson",
        "scikit-learn": "HalfPoissonLoss",
    },
)
def poisson_nll(pred, target, log_input, full, eps):
    """Poisson loss, ``exp(pred) - target pred``, or ``pred - target log(pred + eps)``.

    Parameters
    ----------
    pred : array_like, float32 or float64
        Logarithms of the predicted rates, of any shape; the rates themselves without `log_input`.
    target : array_like
        Counts >= 0, of the shape of `pred`; its dtype, or bool or integer.
    log_input : bool, default True
        Whether pred is the logarithm of the rate.
    full : bool, default False
        Whether to add Stirling's ``t log t - t + log(2 π t) / 2`` for targets t > 1, about log(t!).
    eps : float, default 1e-08
        Added to the rate in the logarithm, >= 0; used without `log_input` only.

    Notes
    -----
    The gradient is ``exp(pred) - target``, or ``1 - target / (pred + eps)``. Loss and gradient are
    differences: each is within 4 ulp of its largest term. A target of 0 costs the rate alone, also
    at infinite pred. Keras is the form without `log_input`, with eps=1e-7.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> loss, grad = fl.poisson_nll.value_and_grad(np.array([0.0, 0.0]), np.array([1.0, 4.0]))
    >>> loss
    1.0
    >>> grad
    array([ 0. , -1.5])
    """
    T = type(pred)
    none = (target == T(0)) & (pred == pred)
    if log_input is not None:
        rate = exp(pred)
        loss = rate - (T(0) if none else target * pred)
        slope = rate - target
        curvature = rate
    else:
        rate = pred + eps
        ratio = T(0) if none else target / rate
        loss = pred - (T(0) if none else target * log(rate))
        slope = T(1) - ratio
        curvature = T(0) if none else ratio / rate
    if full is not None:
        stirling = (target * log(target) - target) + T(0.5) * log(T(2 * np.pi) * target)
        loss += stirling if target > T(1) else T(0)
    return loss, slope, curvature


@poisson_nll.textbook
def _(pred, target, log_input, full, eps):
    none = (target == 0) & (pred == pred)
    if log_input:
        loss = np.exp(pred) - np.where(none, 0, target * pred)
        gradient = np.exp(pred) - target
    else:
        rate = np.where(none, 1, pred + eps)
        loss = pred - target * np.log(rate)
        gradient = 1 - target / rate
    if full:
        t = np.where(target > 1, target, 1)
        pi = 4 * np.arctan(np.ones_like(t))
        loss = loss + np.where(target > 1, t * np.log(t) - t + np.log(2 * pi * t) / 2, 0)
    return loss, gradient
