"""Pseudo-Huber loss."""

import numpy as np

from fastloss._families import elementwise
from fastloss._options import positive


@elementwise(
    options={"delta": positive(1.0)},
    convex=True,
    ulp_bound=4,
    nanoseconds=0.6,
    peers={"SciPy": "pseudo_huber"},
)
def pseudo_huber(pred, target, delta):
    """Pseudo-Huber loss, ``delta**2 (sqrt(1 + (r / delta)**2) - 1)``.

    Parameters
    ----------
    pred : array_like, float32 or float64
        Predictions, of any shape; r is ``pred - target``.
    target : array_like
        True values, of the shape of `pred`; its dtype, or bool or integer.
    delta : float, default 1.0
        Where the loss turns from nearly quadratic into nearly linear, and its steepest slope, > 0.

    Notes
    -----
    Computed as ``r**2 / (1 + sqrt(1 + (r / delta)**2))``, which near 0 does not cancel, and scaled
    so that only a loss beyond the largest number overflows. The gradient is
    ``r / sqrt(1 + (r / delta)**2)``, the second derivative ``(1 + (r / delta)**2)**(-3/2)``. The
    loss and every gradient entry are within 4 ulp where ``delta / r`` is a normal number.

    References
    ----------
    Charbonnier, Blanc-Féraud, Aubert & Barlaud, "Deterministic edge-preserving regularization in
    computed imaging", IEEE Transactions on Image Processing 6 (1997).

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.pseudo_huber(np.array([1e-8, 0.75, 1e200]), np.zeros(3), reduction="none")
    array([5.0e-017, 2.5e-001, 1.0e+200])
    """
    T = type(pred)
    residual = pred - target
    size = abs(residual)
    # A power of 2 keeps the squares in the range of the type; the ratios do not depend on it.
    unit = np.sqrt(np.finfo(T).tiny)
    larger = max(size, delta)
    scale = T(1) / unit if larger < unit * T(2**27) else T(1)
    scale = T(0.125) * unit if larger * unit > T(0.125) else scale
    adjacent, opposite = delta * scale, residual * scale
    hypotenuse = np.sqrt(adjacent * adjacent + opposite * opposite)
    ratio = adjacent / hypotenuse
    infinite = size == T(np.inf)
    loss = size if infinite else ((adjacent / (adjacent + hypotenuse)) * residual) * residual
    limit = delta if residual > T(0) else -delta
    slope = limit if infinite else ratio * residual
    return loss, slope, (ratio * ratio) * ratio


@pseudo_huber.textbook
def _(pred, target, delta):
    residual = pred - target
    root = np.sqrt(1 + (residual / delta) ** 2)
    infinite = np.isinf(residual.real)
    finite = np.where(infinite, 0, residual)
    loss = np.where(infinite, np.inf, finite**2 / (1 + root))
    return loss, np.where(infinite, delta * np.sign(residual.real), finite / root)
