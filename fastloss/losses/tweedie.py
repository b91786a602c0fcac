"""Half of the Tweedie deviance."""

import numpy as np

from fastloss._families import elementwise
from fastloss._math import exp
from fastloss._options import Option


@elementwise(
    target="positive",
    options={
        "power": Option(
            1.5, "a number outside of the open interval (0, 1)", lambda x: not 0 < x < 1, 2.5
        )
    },
    ulp_bound=4,
    nanoseconds=1.0,
    peers={"scikit-learn": "HalfTweedieLoss"},
)
def tweedie(pred, target, power):
    """Half Tweedie deviance, ``exp((2 - q) p) / (2 - q) - t exp((1 - q) p) / (1 - q)``, link log.

    Parameters
    ----------
    pred : array_like, float32 or float64
        Logarithms p of the predicted means, of any shape.
    target : array_like
        True values t, of the shape of `pred`; its dtype, or bool or integer. Any number if
        ``power <= 0``, >= 0 if ``1 <= power < 2``, > 0 if ``power >= 2``.
    power : float, default 1.5
        The power q of the mean that the variance grows with; any number not between 0 and 1.

    Notes
    -----
    Terms that depend on the target only are left out: power 0 gives the squared error
    ``exp(2 pred) / 2 - target exp(pred)``, to which scikit-learn adds ``target**2 / 2`` (for this
    power alone), 1 is `poisson_nll` and 2 is `gamma_nll`. The gradient is
    ``exp((2 - q) pred) - target exp((1 - q) pred)``. Loss and gradient are within 4 ulp of their
    larger term where ``(2 - q) pred`` and ``(1 - q) pred`` are exact, as for the default power;
    else the rounding of these products, an ulp for each unit of them, adds to it.

    References
    ----------
    Jørgensen, "Exponential dispersion models", Journal of the Royal Statistical Society B 49
    (1987).

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> loss, grad = fl.tweedie.value_and_grad(np.array([0.0, 0.0]), np.array([1.0, 4.0]))
    >>> loss
    7.0
    >>> grad
    array([ 0. , -1.5])
    """
    T = type(pred)
    first, second = T(2) - power, T(1) - power
    # At a power of 2 or 1 one exponential is 1, and its integral pred. A target of 0 has no share,
    # however large its exponential is. NaN stays.
    known = pred == pred
    absent = (target == T(0)) & known
    growth = T(1) if (first == T(0)) & known else exp(first * pred)
    decay = T(1) if (second == T(0)) & known else exp(second * pred)
    share = T(0) if absent else target * decay
    loss = pred if first == T(0) else growth / first
    pull = target * pred if second == T(0) else share / second
    loss -= T(0) if absent else pull
    return loss, growth - share, first * growth - second * share


@tweedie.textbook
def _(pred, target, power):
    if power == 1:
        return np.exp(pred) - target * pred, np.exp(pred) - target
    if power == 2:
        return pred + target * np.exp(-pred), 1 - target * np.exp(-pred)
    first, second = 2 - power, 1 - power
    growth, share = np.exp(first * pred), target * np.exp(second * pred)
    return growth / first - share / second, growth - share
