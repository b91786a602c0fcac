"""Entropy of a distribution."""

import numpy as np

from fastloss._drivers.columns import takes_columns
from fastloss._families import rowwise
from fastloss._math import log
from fastloss._options import logarithm_base
from fastloss._vector_memory import load_some, store_some
from fastloss._vectors import choose, lanes_of, narrowed, sum_of_lanes, widened, zeros


@rowwise(
    arguments=("probabilities",),
    pred="distribution",
    target=None,
    hessian=True,
    options={"base": logarithm_base()},
    ulp_bound=4,
    nanoseconds=0.6,
    peers={"SciPy": "entropy"},
)
@takes_columns
def entropy(probabilities, grad, hess, base):
    """Entropy of each row, ``-Σ_c p_c log p_c``.

    Parameters
    ----------
    probabilities : array_like, float32 or float64, shape (..., C, ...)
        Distributions p over C classes, which lie along `axis`. They are not normalised here.
    base : float, optional
        Base of the logarithm, > 1; 2 gives bits. By default e (nats).

    Notes
    -----
    A probability of 0 adds 0; the gradient ``-(log p + 1)`` is inf there. The loss is within 4 ulp
    for probabilities up to 1; the gradient's two terms cancel near ``p = 1 / e``, so that its error
    is 4 ulp of the larger one. Subtracted from a loss, it is the entropy bonus of reinforcement
    learning: pass ``upstream=-coefficient`` and ``accumulate=True``. SciPy normalises each row
    first.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.entropy(np.array([[0.25, 0.25, 0.25, 0.25], [1.0, 0, 0, 0]]), base=2, reduction="none")
    array([2., 0.])
    """
    T, lanes = type(probabilities[0]), lanes_of(probabilities)
    unit = T(1)
    if base is not None:
        unit = T(1) / log(base)
    loss = widened(zeros(probabilities))
    for i in range(0, probabilities.size, lanes):
        there = probabilities.size - i
        p = load_some(probabilities, i, 1, there, T(1))  # whose entropy is 0
        log_p = log(p)
        loss = loss - widened(choose(p == T(0), T(0), p * log_p))
        if grad is not None:
            store_some(grad, i, (log_p + T(1)) * -unit, there)
        if hess is not None:
            store_some(hess, i, -unit / p, there)
    return narrowed(sum_of_lanes(loss), T) * unit


@entropy.textbook
def _(probabilities, base):
    unit = 1 if base is None else 1 / np.log(np.asarray(base, probabilities.real.dtype))
    with np.errstate(divide="ignore"):
        log_p = np.log(probabilities)
    terms = np.where(probabilities == 0, 0, probabilities * np.where(probabilities == 0, 0, log_p))
    return -unit * terms.sum(axis=-1), -unit * (log_p + 1)
