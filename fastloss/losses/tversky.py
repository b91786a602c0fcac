"""Tversky loss: overlap of regions with different prices for false positives and negatives."""

import numpy as np

from fastloss._families import rowwise
from fastloss._math import sigmoid
from fastloss._options import flag, nonnegative


@rowwise(
    arguments=("pred", "target"),
    pred="probability",
    target="binary",
    options={
        "alpha": nonnegative(0.5),
        "beta": nonnegative(0.5),
        "smooth": nonnegative(1.0),
        "from_logits": flag(False),
    },
    ulp_bound=8,
    nanoseconds=0.7,
    peers={"Keras": "Tversky"},
)
def tversky(pred, target, grad, alpha, beta, smooth, from_logits):
    """Tversky loss of each row, ``1 - (TP + smooth) / (TP + alpha FP + beta FN + smooth)``.

    Parameters
    ----------
    pred : array_like, float32 or float64, shape (..., C, ...)
        Probabilities p of the C pixels of a region, which lie along `axis`, or with `from_logits`
        their logits. Reshape images to rows first: ``pred.reshape(len(pred), -1)``, or one row per
        image and class.
    target : array_like
        The true region t in [0, 1], of the shape of `pred`: its dtype, or bool or integer.
    alpha : float, default 0.5
        The price of false positives, ``FP = Σ p (1 - t)``, >= 0.
    beta : float, default 0.5
        The price of false negatives, ``FN = Σ (1 - p) t``, >= 0.
    smooth : float, default 1.0
        Added to numerator and denominator, >= 0.
    from_logits : bool, default False
        Whether `pred` holds logits x, with ``p = σ(x)``; the gradient is by x then.

    Notes
    -----
    ``TP = Σ p t``. Computed as ``(alpha FP + beta FN) / (TP + alpha FP + beta FN + smooth)``, which
    does not cancel where the regions agree: within 8 ulp. The gradient's two terms can cancel; its
    error is 8 ulp of the larger. A denominator of 0 gives loss 0 and gradient 0. With alpha = beta
    = 1/2 it is the Dice loss of twice the `smooth`. Keras takes one overlap over the whole batch
    unless told an axis, and its `alpha` weighs the false negatives, its `beta` the false positives.

    References
    ----------
    Salehi, Erdogmus & Gholipour, "Tversky loss function for image segmentation using 3D fully
    convolutional deep networks", MLMI (2017).

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.tversky(np.array([[1.0, 1.0, 0.0, 0.0]]), [[1, 0, 0, 0]], alpha=1.0, smooth=0.0)
    0.5
    """
    T = type(pred[0])
    hits, false_positives, false_negatives = 0.0, 0.0, 0.0
    for c in range(pred.size):
        p, q = pred[c], T(1) - pred[c]
        if from_logits is not None:
            p, q = sigmoid(pred[c]), sigmoid(-pred[c])
        t = target[c]
        hits += np.float64(p * t)
        false_positives += np.float64(p * (T(1) - t))
        false_negatives += np.float64(q * t)
    apart = np.float64(alpha) * false_positives + np.float64(beta) * false_negatives
    total = hits + np.float64(smooth) + apart
    inverse = 0.0 if total == 0.0 else 1.0 / total
    loss = apart * inverse
    if grad is not None:
        right = T((hits + np.float64(smooth)) * inverse * inverse)
        wrong = T(loss * inverse)
        for c in range(pred.size):
            t = target[c]
            slope = (alpha * (T(1) - t) - beta * t) * right - t * wrong
            if from_logits is not None:
                slope *= sigmoid(pred[c]) * sigmoid(-pred[c])
            grad[c] = slope
    return T(loss)


@tversky.textbook
def _(pred, target, alpha, beta, smooth, from_logits):
    p, q = pred, 1 - pred
    if from_logits:
        p, q = 1 / (1 + np.exp(-pred)), 1 / (1 + np.exp(pred))
    t = target
    hits = (p * t).sum(axis=-1, keepdims=True)
    apart = (alpha * p * (1 - t) + beta * q * t).sum(axis=-1, keepdims=True)
    total = hits + apart + smooth
    total = np.where(total == 0, np.inf, total)
    by_p = ((alpha * (1 - t) - beta * t) * (hits + smooth) - t * apart) / total**2
    return (apart / total)[..., 0], by_p * (p * q if from_logits else 1)
