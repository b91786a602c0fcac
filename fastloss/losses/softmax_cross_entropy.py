"""Softmax cross-entropy on logits."""

import numpy as np

from fastloss._families import softmax
from fastloss._math import log1p
from fastloss._options import Option, clip_epsilon, smoothing


@softmax(
    arguments=("logits", "labels"),
    options={
        "label_smoothing": smoothing(),
        "temperature": Option(1.0, "a number > 0", lambda x: x > 0, 2.5, neutral=True),
        "z_loss": Option(0.0, "a number >= 0", lambda x: x >= 0, 0.1, neutral=True),
        "eps": clip_epsilon(),
    },
    extended=True,
    convex=True,
    ulp_bound=4,
    nanoseconds=0.5,
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
    temperature : float, default 1.0
        Divides the logits; above 0. The loss is that of ``softmax(x / temperature)``, the gradient
        that by x.
    z_loss : float, default 0.0
        Adds ``z_loss lse²`` to each row, lse the logarithm of the sum of ``exp(x / temperature)``;
        0 or more, and 0 if `eps` is given. Sample weights multiply it, class weights do not.
    eps : float, default 0.0
        In [0, 0.5). Above 0, the textbook form on the clipped probability
        ``q = clip(softmax(x), eps, 1 - eps)``: loss ``-Σ t log q``, gradient ``q - t``.
    class_weight : array_like, shape (C,), optional
        Weights w of the classes.
    ignore_index : int, default -100
        Rows with this label have loss 0, gradient 0 and no weight.
    axis : int, default -1
        The class axis.
    mixup : tuple of (array_like, float), optional
        ``(labels_b, share)``: the target is `share` times the one-hot row of `labels` plus
        ``1 - share`` times that of `labels_b`. A row is ignored if either of its labels is.
    extra : tuple of str, optional
        Further results, in a dict that the call returns behind the others: "lse" (of the shape of
        the single losses), "proba" (the softmax, of the shape of `logits`), "n_correct" (rows whose
        largest logit, the first of equal ones, is that of their label) and "n_valid" (rows that
        are not ignored). The first two are of all rows, and the last two numbers do not look at
        weights.

    Notes
    -----
    With the target mass ``a_c = w_c ((1 - ε) t_c + ε / C)``, A its sum and S the sum of
    ``exp(x_c - max x)``, a row's loss is ``Σ_c a_c (max x - x_c) + A log S`` and its gradient
    ``A p - a``, p the softmax; the Hessian's diagonal is ``A p (1 - p)``. With `z_loss` z they are
    ``(A + 2 z lse) p - a`` and ``(A + 2 z lse) p (1 - p) + 2 z p²``. The total weight of the mean
    is the sum of ``w_c t_c`` times the sample weight; PyTorch divides by N instead for dense
    targets with class weights: pass ``normalizer=N`` for its value.

    With integer labels, and with one-hot dense targets, the loss and every gradient entry are
    within ``4 + 2 g`` ulp at any confidence, g the spread of the row's logits (what rounding the
    logits by half an ulp does): where p is the probability of the label, 1 - p is summed from the
    other classes instead of being subtracted. Powers below the smallest normal number count as 0.
    Class weights and label smoothing add rounding of their own where the gradient's two terms
    nearly cancel. The Hessian's ``p (1 - p)`` has full relative accuracy at the label, but not at
    another class whose p is close to 1. With a temperature g is the spread of the divided logits.
    With `z_loss`, lse has the absolute accuracy of the row's largest logit.

    The extra outputs are taken block by block, before the block's loss and while its logits are in
    the cache; "lse" and "proba" cost exponentials of their own.

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
    # The slope is 1 whatever the probability, so nothing bends.
    T = type(rest)
    log_sum = log1p(rest if own == T(1) else (rest - T(1)) + own)
    return gap + mass * log_sum, T(1), T(0)


@softmax_cross_entropy.textbook
def _(logits, mass, temperature, z_loss, eps):
    scaled = logits / logits.real.dtype.type(temperature)
    top = scaled.real.max(axis=-1, keepdims=True)
    shifted = scaled - top
    powers = np.exp(shifted)
    total = powers.sum(axis=-1, keepdims=True)
    p, log_p = powers / total, shifted - np.log(total)
    if eps > 0:
        p = np.clip(p, eps, 1 - eps)
        log_p = np.log(p)
    loss = -np.where(mass == 0, 0, mass * log_p).sum(axis=-1)
    gradient = mass.sum(axis=-1, keepdims=True) * p - mass
    if z_loss > 0:
        lse = top + np.log(total)
        loss = loss + z_loss * lse[..., 0] ** 2
        gradient = gradient + 2 * z_loss * lse * p
    return loss, gradient / logits.real.dtype.type(temperature)
