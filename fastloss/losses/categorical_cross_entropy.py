"""Cross-entropy of probabilities of several classes."""

import numpy as np

from fastloss._drivers.columns import takes_columns
from fastloss._drivers.common import quotient
from fastloss._families import at_label
from fastloss._floats import at_least, at_most
from fastloss._math import log
from fastloss._options import machine_epsilon
from fastloss._vector_memory import load_some, store_some
from fastloss._vectors import choose, lanes_of, narrowed, sum_of_lanes, widened, zeros


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
@takes_columns
def _dense(probabilities, target, grad, hess, eps):
    T, lanes = type(probabilities[0]), lanes_of(probabilities)
    loss = widened(zeros(probabilities))
    for i in range(0, probabilities.size, lanes):
        there = probabilities.size - i
        p = load_some(probabilities, i, 1, there, T(0))
        t = load_some(target, i, 1, there, T(0))
        q, absent = at_most(at_least(p, eps), T(1) - eps), t == T(0)
        loss = loss - widened(choose(absent, T(0), t * log(q)))
        store_some(grad, i, choose(absent, T(0), -t / q), there)
        if hess is not None:
            store_some(hess, i, choose(absent, T(0), quotient(t / q, q)), there)
    return narrowed(sum_of_lanes(loss), T)


@categorical_cross_entropy.textbook
def _(probabilities, target, eps):
    if eps is None:
        eps = np.finfo(probabilities.real.dtype).eps
    below, above = probabilities.real < eps, probabilities.real > 1 - eps
    q = np.where(below, eps, np.where(above, 1 - eps, probabilities))
    absent = target == 0  # whatever stands there
    return -np.where(absent, 0, target * np.log(q)).sum(axis=-1), np.where(absent, 0, -target / q)
