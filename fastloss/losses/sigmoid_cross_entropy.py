"""Binary cross-entropy on logits."""

import numpy as np

from fastloss._families import elementwise
from fastloss._math import exp_nonpositive, log, log1p_unit
from fastloss._options import Option, clip_epsilon, positive_weight, smoothing


@elementwise(
    arguments=("logits", "target"),
    target="probability",
    options={
        "pos_weight": positive_weight(),
        "label_smoothing": smoothing(),
        "eps": clip_epsilon(),
        "ignore_value": Option(None, "a finite number, or None", example=-1.0),
    },
    convex=True,
    ulp_bound=4,
    nanoseconds=1.0,
    peers={
        "PyTorch": "binary_cross_entropy_with_logits",
        "Keras": "BinaryCrossentropy(from_logits=True)",
        "optax": "sigmoid_binary_cross_entropy",
        "scikit-learn": "HalfBinomialLoss",
    },
)
def sigmoid_cross_entropy(logit, target, pos_weight, label_smoothing, eps):
    """Binary cross-entropy of logits, ``(1 - t) softplus(x) + pos_weight t softplus(-x)``.

    Parameters
    ----------
    logits : array_like, float32 or float64
        Logits x, of any shape; the probability is ``σ(x) = 1 / (1 + exp(-x))``.
    target : array_like
        Probabilities t in [0, 1] or binary labels, of the shape of `logits`; its dtype, or bool or
        integer.
    pos_weight : float or array_like, default 1.0
        Weight of the positive part, >= 0; one number or one per class (the last axis).
    label_smoothing : float, default 0.0
        Replaces t by ``(1 - label_smoothing) t + label_smoothing / 2``; in [0, 1].
    eps : float, default 0.0
        In [0, 0.5). Above 0, the textbook form on the clipped probability
        ``q = clip(σ(x), eps, 1 - eps)`` with the gradient ``q - t``.
    ignore_value : float, optional
        Elements with exactly this target are left out: their loss and gradient are 0, whatever the
        logit, and the mean does not count them. Takes an array of weights of the size of `logits`.

    Notes
    -----
    The gradient is ``(1 - t) σ(x) - pos_weight t σ(-x)``: the textbook's ``σ(x) - t`` loses the
    tail (it is exactly 0 from x = 17 on in float32 with t = 1). For binary labels the loss and
    every gradient entry are within 4 ulp at any logit down to the smallest normal number; for soft
    labels the gradient's error is that much of its larger term. A logit of -inf with target 0, or
    inf with target 1, costs 0. The clipped form takes 1 - q from ``clip(σ(-x), eps, 1 - eps)``,
    which stays finite where 1 - eps rounds to 1.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.sigmoid_cross_entropy(np.array([0.0, 40.0]), np.array([1.0, 1.0]), reduction="none")
    array([6.93147181e-01, 4.24835426e-18])
    """
    T = type(logit)
    negative = T(1) - target
    if label_smoothing is not None:  # of both parts by itself: 1 - target would lose digits
        target = (T(1) - label_smoothing) * target + T(0.5) * label_smoothing
        negative = (T(1) - label_smoothing) * negative + T(0.5) * label_smoothing
    decay = exp_nonpositive(-abs(logit))
    likely = T(1) / (T(1) + decay)
    unlikely = decay * likely
    probability = likely if logit >= T(0) else unlikely  # σ(x)
    complement = unlikely if logit >= T(0) else likely  # σ(-x) = 1 - σ(x), without cancellation
    if logit != logit:
        probability = logit
    positive = target
    if pos_weight is not None:
        positive = pos_weight * target
    if eps is not None:
        probability = min(max(probability, eps), T(1) - eps)
        complement = min(max(complement, eps), T(1) - eps)
        cost_negative, cost_positive = -log(complement), -log(probability)
    else:
        rest = log1p_unit(decay)
        cost_negative = rest + max(logit, T(0))  # softplus(x)
        cost_positive = rest + max(-logit, T(0))  # softplus(-x)
    # A part of weight 0 costs nothing, also at infinite logits.
    loss = T(0) if negative == T(0) else negative * cost_negative
    loss += T(0) if positive == T(0) else positive * cost_positive
    slope = negative * probability - positive * complement
    return loss, slope, (negative + positive) * (probability * complement)


@sigmoid_cross_entropy.textbook
def _(logits, target, pos_weight, label_smoothing, eps):
    target = (1 - label_smoothing) * target + label_smoothing / 2
    p = 1 / (1 + np.exp(-logits))
    if eps > 0:
        p = np.clip(p, eps, 1 - eps)
    loss = -pos_weight * target * np.log(p) - (1 - target) * np.log(1 - p)
    return loss, (1 - target) * p - pos_weight * target * (1 - p)
