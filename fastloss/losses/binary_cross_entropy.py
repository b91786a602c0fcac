"""Binary cross-entropy on probabilities."""

import numpy as np

from fastloss._families import elementwise
from fastloss._math import log, log1p
from fastloss._options import machine_epsilon


@elementwise(
    arguments=("probabilities", "target"),
    pred="probability",
    target="probability",
    options={"eps": machine_epsilon()},
    ulp_bound=4,
    nanoseconds=1.0,
    peers={
        "PyTorch": "binary_cross_entropy",
        "Keras": "BinaryCrossentropy",
        "scikit-learn": "log_loss",
    },
)
def binary_cross_entropy(probability, target, eps):
    """Binary cross-entropy of probabilities, ``-t log(p) - (1 - t) log(1 - p)``.

    Parameters
    ----------
    probabilities : array_like, float32 or float64
        Probabilities p of the positive class, of any shape; clipped to ``[eps, 1 - eps]``.
    target : array_like
        Probabilities t in [0, 1] or binary labels, of the shape of `probabilities`; its dtype, or
        bool or integer.
    eps : float, optional
        In [0, 0.5). By default the machine epsilon of the dtype, the least that keeps both
        logarithms of clipped numbers finite; 0 is the exact loss, infinite where p is 0 or 1 and t
        is not.

    Notes
    -----
    The gradient is ``(p - t) / (p (1 - p))`` of the clipped p, also where p was clipped: a
    prediction of exactly 0 or 1 with the wrong label gets a gradient of the size ``1 / eps``, so
    that training can repair it, and one with the right label a gradient of the size 1. ``0 log 0``
    is 0. The loss and every gradient entry are within 4 ulp, for soft labels too; where 1 - eps
    rounds to 1, the clipped ``1 - p`` still is `eps`. On logits, `sigmoid_cross_entropy` keeps what
    a probability near 1 has lost.
    PyTorch clips nothing, but bounds each logarithm from below by -100 and the gradient's
    denominator by 1e-12.
    Keras clips to 1e-7, with gradient 0 outside; in other versions it adds 1e-7 to p and 1 - p.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.binary_cross_entropy(np.array([0.6, 0.7]), np.array([1, 1]), reduction="none").round(2)
    array([0.51, 0.36])
    """
    T = type(probability)
    p = min(max(probability, eps), T(1) - eps)
    complement = T(1) - p
    q = max(complement, eps)
    negative = T(1) - target
    cost_positive = -log(p)
    cost_negative = min(-log1p(-p), -log(eps))
    # Where 1 - eps has rounded up, q is not 1 - p, and p - t is not what it stands for.
    error = p - target if q == complement else negative - q
    slope = error / (p * q)
    # With eps = 0, where p and t are both 0 or both 1, that is 0 / 0.
    certain = T(1) if p < T(0.5) else T(-1)
    slope = (certain if error == T(0) else slope) if p * q == T(0) else slope
    # A part of weight 0 costs nothing, also where its logarithm is infinite.
    loss = T(0) if target == T(0) else target * cost_positive
    loss += T(0) if negative == T(0) else negative * cost_negative
    curvature = T(0) if target == T(0) else (target / p) / p
    curvature += T(0) if negative == T(0) else (negative / q) / q
    return loss, slope, curvature


@binary_cross_entropy.textbook
def _(p, target, eps):
    eps = np.finfo(p.real.dtype).eps if eps is None else eps
    low, high = p.real < eps, p.real > 1 - eps
    p = np.where(low, eps, np.where(high, 1 - eps, p))
    q = np.where(high, eps, 1 - p)
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = np.where(target == 0, 0, -target * np.log(p))
        loss = loss + np.where(target == 1, 0, -(1 - target) * np.log(q))
        slope = np.where(target == 1, 0, (1 - target) / q) - np.where(target == 0, 0, target / p)
    return loss, slope
