"""Kullback-Leibler divergence of log-probabilities."""

import numpy as np

from fastloss._families import elementwise
from fastloss._math import exp, log
from fastloss._options import flag


@elementwise(
    arguments=("log_probabilities", "target"),
    pred="log probability",
    target="probability",
    options={"log_target": flag(False)},
    convex=True,
    ulp_bound=4,
    nanoseconds=0.8,
    peers={
        "PyTorch": "kl_div",
        "Keras": "KLDivergence",
        "optax": "kl_divergence",
        "SciPy": "rel_entr",
    },
)
def kl_div(log_probability, target, log_target):
    """Kullback-Leibler divergence of log-probabilities, ``t (log(t) - p)``.

    Parameters
    ----------
    log_probabilities : array_like, float32 or float64
        Logarithms p of the predicted probabilities, of any shape.
    target : array_like
        True probabilities t, of the shape of `log_probabilities`; its dtype, or bool or integer.
    log_target : bool, default False
        Whether the target holds the logarithms of the true probabilities:
        ``exp(t) (t - p)``.

    Notes
    -----
    One term of the divergence for each element: ``reduction="batchmean"`` gives that of the
    distributions, averaged over the first axis. The gradient is -t, or ``-exp(t)``, and the second
    derivative 0. A true probability of 0 costs 0, also against a log-probability of -inf, where
    PyTorch has NaN. The gradient is within 4 ulp (without `log_target` exact), and the loss within
    4 ulp of the larger of its two terms ``t log(t)`` and ``t p``, which cancel where the
    distributions agree. Keras takes probabilities, not their logarithms.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> log_probabilities = np.log([[0.25, 0.75]])
    >>> print(round(fl.kl_div(log_probabilities, np.array([[0.5, 0.5]]), reduction="batchmean"), 6))
    0.143841
    """
    T = type(log_probability)
    if log_target is not None:
        # Its products with other numbers may be normal where its square vanishes.
        root = exp(T(0.5) * target)
        cost = (root * (target - log_probability)) * root
        loss = T(0) if root == T(0) else cost
        slope = -(root * root)
    else:
        cost = target * (log(target) - log_probability)
        loss = T(0) if target == T(0) else cost
        slope = -target
    # A NaN shows, although neither a target of 0 nor the gradient looks at p.
    loss = log_probability if log_probability != log_probability else loss
    slope = log_probability if log_probability != log_probability else slope
    return loss, slope, T(0)


@kl_div.textbook
def _(log_probabilities, target, log_target):
    weight = np.exp(target) if log_target else target
    with np.errstate(divide="ignore", invalid="ignore"):
        log_weight = target if log_target else np.log(target)
        loss = np.where(weight == 0, 0, weight * (log_weight - log_probabilities))
    return loss, np.where(np.isnan(log_probabilities), np.nan, -weight)
