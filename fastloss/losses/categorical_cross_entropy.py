"""Cross-entropy of probabilities of several classes."""

import numpy as np

from fastloss._drivers.common import quotient
from fastloss._families import at_label
from fastloss._math import log
from fastloss._options import machine_epsilon


@at_label(
    arguments=("probabilities", "labels"),
    pred="distribution",
    options={"eps": machine_epsilon()},
    convex=True,
    ulp_bound=4,
    nanoseconds=0.3,
    peers={"Keras": "CategoricalCrossentropy"},
)
def categorical_cross_entropy(probability, eps):
    """Cross-entropy of probabilities, ``-Σ_c t_c log clip(p_c, eps, 1 - eps)``.

    Parameters
    ----------
    probabilities : array_like, float32 or float64, shape (..., C, ...)
        Probabilities p of C classes, which lie along `axis`.
    labels : array_like
        Integer labels in [0, C), of the shape of `probabilities` without `axis`; or a dense target
        t (one-hot or probabilities) of the shape of `probabilities`: its dtype, or bool or integer.
    eps : float, optional
        In [0, 0.5); by default the machine epsilon of the dtype. 0 is exact: inf where p is 0.

    Notes
    -----
    The gradient is ``-t / q`` with the clipped probability q, also where p lies outside, so that a
    wrong and certain prediction still learns; Keras gives 0 there. Keras also divides each row by
    its sum first; here the numbers count as they are. Each term is within 4 ulp. For logits use
    `softmax_cross_entropy`, which needs no clipping. Dense targets with class weights go through a
    weighted copy.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> p = np.array([[0.25, 0.25, 0.25, 0.25], [0.01, 0.97, 0.01, 0.01]])
    >>> fl.categorical_cross_entropy(p, [1, 1], reduction="none")
    array([1.38629436, 0.03045921])
    """
    T = type(probability)
    q = min(max(probability, eps), T(1) - eps)
    return -log(q), T(-1) / q, T(1) / q / q  # no `quotient`: formulas divide as written


@categorical_cross_entropy.dense
def _dense(probabilities, target, grad, hess, eps):
    T = type(probabilities[0])
    loss = 0.0
    for c in range(probabilities.size):
        t = target[c]
        q = min(max(probabilities[c], eps), T(1) - eps)
        term = t * log(q)
        loss -= np.float64(T(0) if t == T(0) else term)
        if grad is not None:
            slope = -t / q
            grad[c] = T(0) if t == T(0) else slope
        if hess is not None:
            bend = quotient(t / q, q)
            hess[c] = T(0) if t == T(0) else bend
    return T(loss)


@categorical_cross_entropy.textbook
def _(probabilities, target, eps):
    if eps is None:
        eps = np.finfo(probabilities.real.dtype).eps
    below, above = probabilities.real < eps, probabilities.real > 1 - eps
    q = np.where(below, eps, np.where(above, 1 - eps, probabilities))
    absent = target == 0  # whatever stands there
    return -np.where(absent, 0, target * np.log(q)).sum(axis=-1), np.where(absent, 0, -target / q)
