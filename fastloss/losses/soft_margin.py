"""Soft margin loss, the logistic loss of labels -1 and 1."""

import numpy as np

from fastloss._families import elementwise
from fastloss._math import exp_nonpositive, log1p_unit
from fastloss._options import signs


@elementwise(
    target="sign",
    options={"labels": signs()},
    convex=True,
    ulp_bound=4,
    nanoseconds=1.0,
    peers={"PyTorch": "soft_margin_loss", "scikit-learn": "SGDClassifier(loss='log_loss')"},
)
def soft_margin(pred, target, labels):
    """Soft margin (logistic) loss, ``log(1 + exp(-t p))`` of a label t = ±1.

    Parameters
    ----------
    pred : array_like, float32 or float64
        Scores p, of any shape; the sign is the predicted class.
    target : array_like
        Labels t, of the shape of `pred`; its dtype, or bool or integer. -1 and 1, or as `labels`
        says.
    labels : {"pm1", "01"}, default "pm1"
        Whether the classes are labelled -1 and 1, or 0 and 1: then ``2 t - 1`` takes the place of
        t.

    Notes
    -----
    The gradient is ``-t / (1 + exp(t p))``. The loss and every gradient entry are within 4 ulp at
    any score down to the smallest normal number. Equal to `sigmoid_cross_entropy` of the labels 0
    and 1.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.soft_margin(np.array([0.0, 40.0]), np.array([1.0, 1.0]), reduction="none")
    array([6.93147181e-01, 4.24835426e-18])
    """
    T = type(pred)
    if labels is not None:
        target = (target + target) - T(1)
    score = target * pred
    decay = exp_nonpositive(-abs(score))
    likely = T(1) / (T(1) + decay)
    unlikely = decay * likely
    miss = unlikely if score >= T(0) else likely  # 1 / (1 + exp(score))
    loss = log1p_unit(decay) + max(-score, T(0))
    return loss, -target * miss, (target * target) * (likely * unlikely)


@soft_margin.textbook
def _(pred, target, labels):
    t = 2 * target - 1 if labels == "01" else target
    score = t * pred
    decay = np.exp(np.where(score.real > 0, -score, score))
    loss = np.log1p(decay) + np.where(score.real > 0, 0, -score)
    return loss, -t * np.where(score.real > 0, decay, 1) / (1 + decay)
