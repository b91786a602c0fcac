"""Dice loss: the overlap of a predicted and a true region."""

import numpy as np

from fastloss._families import rowwise
from fastloss._math import sigmoid
from fastloss._options import flag, nonnegative


@rowwise(
    arguments=("pred", "target"),
    pred="probability",
    target="binary",
    options={"smooth": nonnegative(1.0), "from_logits": flag(False)},
    ulp_bound=8,
    nanoseconds=0.5,
    peers={"Keras": "Dice"},
)
def dice(pred, target, grad, smooth, from_logits):
    """Dice loss of each row, ``1 - (2 Σ p t + smooth) / (Σ p + Σ t + smooth)``.

    Parameters
    ----------
    pred : array_like, float32 or float64, shape (..., C, ...)
        Probabilities p of the C pixels of a region, which lie along `axis`, or with `from_logits`
        their logits. Reshape images to rows first: ``pred.reshape(len(pred), -1)``, or one row per
        image and class.
    target : array_like
        The true region t in [0, 1], of the shape of `pred`: its dtype, or bool or integer.
    smooth : float, default 1.0
        Added to numerator and denominator, >= 0.
    from_logits : bool, default False
        Whether `pred` holds logits x, with ``p = σ(x)``; the gradient is by x then.

    Notes
    -----
    Computed as ``Σ (p (1 - t) + (1 - p) t) / (Σ p + Σ t + smooth)``, which does not cancel where
    the regions agree: within 8 ulp. The gradient's two terms can cancel; its error is 8 ulp of the
    larger. A denominator of 0 gives loss 0 and gradient 0. Keras takes one overlap over the whole
    batch.

    References
    ----------
    Milletari, Navab & Ahmadi, "V-Net", 3DV (2016); with p instead of its square.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.dice(np.array([[1.0, 1.0, 0.0, 0.0]]), [[1, 0, 0, 0]], smooth=0.0)
    0.3333333333333333
    """
    T = type(pred[0])
    apart, total = 0.0, np.float64(smooth)
    for c in range(pred.size):
        p, q = pred[c], T(1) - pred[c]
        if from_logits is not None:
            p, q = sigmoid(pred[c]), sigmoid(-pred[c])
        t = target[c]
        apart += np.float64(p * (T(1) - t) + q * t)
        total += np.float64(p) + np.float64(t)
    inverse = 0.0 if total == 0.0 else 1.0 / total
    loss = T(apart * inverse)
    if grad is not None:
        share = T(inverse)
        for c in range(pred.size):
            slope = ((T(1) - T(2) * target[c]) - loss) * share
            if from_logits is not None:
                slope *= sigmoid(pred[c]) * sigmoid(-pred[c])
            grad[c] = slope
    return loss


@dice.textbook
def _(pred, target, smooth, from_logits):
    p, q = pred, 1 - pred
    if from_logits:
        p, q = 1 / (1 + np.exp(-pred)), 1 / (1 + np.exp(pred))
    total = (p + target).sum(axis=-1, keepdims=True) + smooth
    total = np.where(total == 0, np.inf, total)
    loss = (p * (1 - target) + q * target).sum(axis=-1, keepdims=True) / total
    gradient = (1 - 2 * target - loss) / total * (p * q if from_logits else 1)
    return loss[..., 0], gradient
