"""Softmax cross-entropy on logits."""

import numpy as np

from fastloss._families import softmax
from fastloss._math import log1p
from fastloss._options import clip_epsilon, smoothing


@softmax(
    arguments=("logits", "labels"),
    options={"label_smoothing": smoothing(), "eps": clip_epsilon()},
    ulp_bound=4,
    nanoseconds=0.6,
    peers={
        "PyTorch": "cross_entropy",
        "Keras": "SparseCategoricalCrossentropy(from_logits=True)",
        "optax": "softmax_cross_entropy_with_integer_labels",
        "scikit-learn": "HalfMultinomialLoss",
    },
)
def softmax_cross_entropy(rest, own, gap, mass):
    """Cross-entropy of softmax(logits) against labels, ``log Σ_c exp(x_c) - x_label``.

    Parameters
    ----------
    logits : array_like, float32 or float64, shape (..., C, ...)
        Logits x of C classes, which lie along `axis`. -inf masks a class.
    labels : array_like
        Integer labels in [0, C), of the shape of `logits` without `axis`, any integer dtype; or a
        dense target t (one-hot or probabilities) of the shape of `logits`: its dtype, or bool or
        integer.
    label_smoothing : float, default 0.0
        Replaces t by ``(1 - label_smoothing) t + label_smoothing / C``; in [0, 1].
    eps : float, default 0.0
        In [0, 0.5). Above 0, the textbook form on the clipped probability
        ``q = clip(softmax(x), eps, 1 - eps)``: loss ``-Σ t log q``, gradient ``q - t``.
    class_weight : array_like, shape (C,), optional
        Weights w of the classes.
    ignore_index : int, default -100
        Rows with this label have loss 0, gradient 0 and no weight.
    axis : int, default -1
        The class axis.

    Notes
    -----
    With the target mass ``a_c = w_c ((1 - ε) t_c + ε / C)``, A its sum and S the sum of
    ``exp(x_c - max x)``, a row's loss is ``Σ_c a_c (max x - x_c) + A log S`` and its gradient
    ``A softmax(x) - a``; the Hessian's diagonal is ``A p (1 - p)``. The total weight of the mean
    is the sum of ``w_c t_c`` times the sample weight; PyTorch divides by N instead for dense
    targets with class weights: pass ``normalizer=N`` for its value.

    With integer labels, and with one-hot dense targets, the loss and every gradient entry are
    within ``4 + 2 g`` ulp at any confidence, g the spread of the row's logits (what rounding the
    logits by half an ulp does): where p is the probability of the label, 1 - p is summed from the
    other classes instead of being subtracted. Powers below the smallest normal number count as 0.
    Class weights and label smoothing add rounding of their own where the gradient's two terms
    nearly cancel. The Hessian's ``p (1 - p)`` has full relative accuracy at the label, but not at
    another class whose p is close to 1.

    Class-first arrays (`axis` = 1 of (N, C, H, W)) run without a copy.

    References
    ----------
    Blanchard, Higham & Higham, "Accurately computing the log-sum-exp and softmax functions",
    IMA Journal of Numerical Analysis 41 (2021).

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> logits = np.array([[20.0, 0.0], [0.0, 0.0]], dtype=np.float32)
    >>> loss, grad = fl.softmax_cross_entropy.value_and_grad(logits, [0, 1], reduction="none")
    >>> loss
    array([2.0611537e-09, 6.9314718e-01], dtype=float32)
    >>> grad
    array([[-2.0611537e-09,  2.0611537e-09],
           [ 5.0000000e-01, -5.0000000e-01]], dtype=float32)
    """
    # log S as log1p of S - 1: own = 1 where class k is the largest, else rest holds that 1.
    T = type(rest)
    log_sum = log1p(rest if own == T(1) else (rest - T(1)) + own)
    return gap + mass * log_sum, T(1), T(0)


@softmax_cross_entropy.textbook
def _(logits, mass, eps):
    shifted = logits - logits.real.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    total = powers.sum(axis=-1, keepdims=True)
    p, log_p = powers / total, shifted - np.log(total)
    if eps > 0:
        p = np.clip(p, eps, 1 - eps)
        log_p = np.log(p)
    loss = -np.where(mass == 0, 0, mass * log_p).sum(axis=-1)
    return loss, mass.sum(axis=-1, keepdims=True) * p - mass
