"""Mean squared error."""

from fastloss._families import elementwise


@elementwise(
    convex=True,
    ulp_bound=4,
    nanoseconds=0.15,
    peers={
        "PyTorch": "mse_loss",
        "Keras": "MeanSquaredError",
        "optax": "squared_error",
        "scikit-learn": "mean_squared_error",
    },
)
def mse(pred, target):
    """Squared error, ``(pred - target)**2``.

    Parameters
    ----------
    pred : array_like, float32 or float64
        Predictions, of any shape.
    target : array_like
        True values, of the shape of `pred`; its dtype, or bool or integer.

    Notes
    -----
    The gradient is ``2 (pred - target)``, the second derivative 2. The loss and every gradient
    entry are within 4 ulp for finite results. With ``reduction="batchmean"`` this is the textbook
    ``1/N Σ (y - p)²`` over the batch.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> loss, grad = fl.mse.value_and_grad(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    >>> loss
    2.0
    >>> grad
    array([ 0., -2.])
    """
    T = type(pred)
    residual = pred - target
    return residual * residual, T(2) * residual, T(2)


@mse.textbook
def _(pred, target):
    return (pred - target) ** 2, 2 * (pred - target)
