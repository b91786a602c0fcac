"""Focal loss of several classes, on logits."""

import numpy as np

from fastloss._families import softmax
from fastloss._math import exp, log, log1p
from fastloss._options import nonnegative


@softmax(
    arguments=("logits", "labels"),
    options={"gamma": nonnegative(2.0)},
    curved=True,
    ulp_bound=8,
    nanoseconds=0.6,
    peers={"Keras": "CategoricalFocalCrossentropy(from_logits=True, alpha=1)"},
)
def softmax_focal(rest, own, gap, mass, gamma):
    """Focal loss of softmax(logits) against labels, ``-(1 - p_label)**gamma log p_label``.

    Parameters
    ----------
    logits : array_like, float32 or float64, shape (..., C, ...)
        Logits x of C classes, which lie along `axis`; p is their softmax. -inf masks a class.
    labels : array_like
        Integer labels in [0, C), of the shape of `logits` without `axis`, any integer dtype; or a
        dense target t of the shape of `logits`: its dtype, or bool or integer.
    gamma : float, default 2.0
        0 or more. How strongly rows that are already right are played down; 0 is the cross-entropy.
    class_weight : array_like, shape (C,), optional
        Weights of the classes: the α of the focal loss, a number per class.
    ignore_index : int, default -100
        Rows with this label have loss 0, gradient 0 and no weight.
    axis : int, default -1
        The class axis.

    Notes
    -----
    With a dense target the loss is ``-Σ_c w_c t_c (1 - p_c)**gamma log p_c``, w the class weights.
    The total weight of the mean is the sum of ``w_c t_c`` times the sample weight; Keras divides by
    the number of rows: pass ``normalizer=N`` for its value.

    With integer labels, and with one-hot dense targets, the loss and every gradient entry are
    within ``8 + 2 (1 + gamma) g`` ulp at any confidence and for gamma up to 5, g the spread of the
    row's logits: 1 - p is summed from the other classes instead of being subtracted, and the power
    ``(1 - p)**gamma`` multiplies the effect of rounding the logits. Powers of e below the smallest
    normal number count as 0.
    With soft targets the gradient's two terms may nearly cancel, and the logits are copied where
    the gradient is computed in place.

    References
    ----------
    Lin, Goyal, Girshick, He & Dollár, "Focal Loss for Dense Object Detection", ICCV 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> logits = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    >>> loss, grad = fl.softmax_focal.value_and_grad(logits, [0, 0], reduction="none")
    >>> loss.round(6)
    array([0.010869, 1.328371])
    >>> bool(np.allclose(fl.softmax_focal(logits, [0, 0], gamma=0),
    ...                  fl.softmax_cross_entropy(logits, [0, 0])))
    True
    """
    # With u = 1 - p and ce = -log p:  L = u**γ ce,  slope = u**γ (1 + γ p ce / u)  and
    # bend = γ u**γ (p / u) (2 - ce + (γ - 1) p ce / u). All of slope's terms are positive; ce / u
    # goes to 1 with u, and p ce to 0 with p.
    T = type(rest)
    gamma = T(gamma)
    log_sum = log1p(rest if own == T(1) else (rest - T(1)) + own)
    ce = gap + log_sum
    total = rest + own
    p, u = own / total, rest / total
    power = T(1) if gamma == T(0) else exp(gamma * log(u))
    power = u * u if gamma == T(2) else power
    ratio = T(1) if u == T(0) else ce / u
    ratio = T(0) if p == T(0) else p * ratio
    bend = gamma * power * (p / u) * (T(2) - ce + (gamma - T(1)) * ratio)
    bend = T(0) if u == T(0) or p == T(0) else bend
    return power * ce, power * (T(1) + gamma * ratio), bend


@softmax_focal.textbook
def _(logits, mass, gamma):
    shifted = logits - logits.real.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    p, u = np.exp(log_p), -np.expm1(log_p)
    power = u**gamma
    ratio = np.where(u == 0, 1, -log_p / np.where(u == 0, 1, u))
    ratio = np.where(p == 0, 0, p * ratio)
    loss = np.where(mass == 0, 0, mass * power * -log_p).sum(axis=-1)
    effective = np.where(mass == 0, 0, mass * power * (1 + gamma * ratio))
    return loss, effective.sum(axis=-1, keepdims=True) * p - effective
