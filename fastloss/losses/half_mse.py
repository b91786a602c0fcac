"""Half of the squared error."""

from fastloss._families import elementwise


@elementwise(
    convex=True,
    ulp_bound=4,
    nanoseconds=0.15,
    peers={"optax": "l2_loss", "scikit-learn": "HalfSquaredError"},
)
def half_mse(pred, target):
    """Half of the squared error, ``(pred - target)**2 / 2``.

    Parameters
    ----------
    pred : array_like, float32 or float64
        Predictions, of any shape.
    target : array_like
        True values, of the shape of `pred`; its dtype, or bool or integer.

    Notes
    -----
    The gradient is ``pred - target``, the second derivative 1. The loss and every gradient entry
    are within 4 ulp for finite results. With ``reduction="batchmean"`` this is the textbook
    ``1/(2 m) Σ (a - y)²`` over the batch.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> loss, grad = fl.half_mse.value_and_grad(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    >>> loss
    1.0
    >>> grad
    array([ 0., -1.])
    """
    T = type(pred)
    residual = pred - target
    return (T(0.5) * residual) * residual, residual, T(1)


@half_mse.textbook
def _(pred, target):
    return (pred - target) ** 2 / 2, pred - target
