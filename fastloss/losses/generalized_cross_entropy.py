"""Generalized cross-entropy: between cross-entropy and the probability of an error."""

import numpy as np

from fastloss._families import softmax
from fastloss._math import exp_nonpositive, expm1, log1p
from fastloss._options import Option


@softmax(
    arguments=("logits", "labels"),
    options={"q": Option(0.7, "a number in (0, 1]", lambda x: 0 < x <= 1, 0.4)},
    curved=True,
    ulp_bound=6,
    nanoseconds=0.6,
    peers={"Keras": "CategoricalGeneralizedCrossEntropy"},
)
def generalized_cross_entropy(rest, own, gap, mass, q):
    """Generalized cross-entropy of softmax(logits) against labels, ``(1 - p_label**q) / q``.

    It is robust to wrong labels: the gradient of a row that seems wrong is played down.

    Parameters
    ----------
    logits : array_like, float32 or float64, shape (..., C, ...)
        Logits x of C classes, which lie along `axis`; p is their softmax. -inf masks a class.
    labels : array_like
        Integer labels in [0, C), of the shape of `logits` without `axis`, any integer dtype; or a
        dense target t of the shape of `logits`: its dtype, or bool or integer.
    q : float, default 0.7
        In (0, 1]. 1 is the probability of an error, ``1 - p``; towards 0 it is the cross-entropy.
    class_weight : array_like, shape (C,), optional
        Weights of the classes.
    ignore_index : int, default -100
        Rows with this label have loss 0, gradient 0 and no weight.
    axis : int, default -1
        The class axis.

    Notes
    -----
    With a dense target the loss is ``Σ_c w_c t_c (1 - p_c**q) / q``, w the class weights. The total
    weight of the mean is the sum of ``w_c t_c`` times the sample weight. Keras takes probabilities.

    With integer labels, and with one-hot dense targets, the loss and every gradient entry are
    within ``6 + 4 g`` ulp at any confidence, g the spread of the row's logits: 1 - p is summed from
    the other classes instead of being subtracted. Powers of e below the smallest normal number
    count as 0. With soft targets the gradient's two terms may nearly cancel, and the logits are
    copied where the gradient is computed in place.

    References
    ----------
    Zhang & Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy
    Labels", NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> logits = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    >>> loss, grad = fl.generalized_cross_entropy.value_and_grad(logits, [0, 0], reduction="none")
    >>> loss.round(6)
    array([0.220538, 1.04056 ])
    >>> grad.round(6)
    array([[-0.18013 ,  0.090065,  0.090065],
           [-0.22941 ,  0.114705,  0.114705]])
    """
    # L = -expm1(-q ce) / q with ce = -log p; slope = p**q, bend = -q p**q.
    T = type(rest)
    q = T(q)
    log_sum = log1p(rest if own == T(1) else (rest - T(1)) + own)
    fall = -q * (gap + log_sum)
    slope = exp_nonpositive(fall)
    return -expm1(fall) / q, slope, -q * slope


@generalized_cross_entropy.textbook
def _(logits, mass, q):
    shifted = logits - logits.real.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    p = np.exp(log_p)
    loss = np.where(mass == 0, 0, mass * -np.expm1(q * log_p) / q).sum(axis=-1)
    effective = np.where(mass == 0, 0, mass * np.exp(q * log_p))
    return loss, effective.sum(axis=-1, keepdims=True) * p - effective
