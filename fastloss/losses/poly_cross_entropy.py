"""PolyLoss: cross-entropy with its first polynomial coefficient changed."""

import numpy as np

from fastloss._families import softmax
from fastloss._math import log1p
from fastloss._options import Option


@softmax(
    arguments=("logits", "labels"),
    options={"epsilon": Option(1.0, "a number >= -1", lambda x: x >= -1, 2.0)},
    curved=True,
    ulp_bound=4,
    nanoseconds=0.5,
    peers={"optax": "losses.poly_loss_cross_entropy"},
)
def poly_cross_entropy(rest, own, gap, mass, epsilon):
    """Poly-1 loss of softmax(logits) against labels, ``-log p_label + epsilon (1 - p_label)``.

    Parameters
    ----------
    logits : array_like, float32 or float64, shape (..., C, ...)
        Logits x of C classes, which lie along `axis`; p is their softmax. -inf masks a class.
    labels : array_like
        Integer labels in [0, C), of the shape of `logits` without `axis`, any integer dtype; or a
        dense target t of the shape of `logits`: its dtype, or bool or integer.
    epsilon : float, default 1.0
        What is added to the coefficient of ``1 - p``, which is 1 in the series of ``-log p``; -1 or
        more. 0 is the cross-entropy.
    class_weight : array_like, shape (C,), optional
        Weights of the classes.
    ignore_index : int, default -100
        Rows with this label have loss 0, gradient 0 and no weight.
    axis : int, default -1
        The class axis.

    Notes
    -----
    With a dense target the loss is ``Σ_c w_c t_c (-log p_c + epsilon (1 - p_c))``, w the class
    weights. The total weight of the mean is the sum of ``w_c t_c`` times the sample weight. optax
    has the same formula, with a default epsilon of 2.

    With integer labels, and with one-hot dense targets, the loss (for epsilon >= 0) and every
    gradient entry are within ``4 + 2 g`` ulp at any confidence, g the spread of the row's logits:
    1 - p is summed from the other classes instead of being subtracted. For negative epsilon the two
    terms of the loss cancel in part, and the bound is divided by ``1 + epsilon``. Powers of e below
    the smallest normal number count as 0. With soft targets the gradient's two terms may nearly
    cancel, and the logits are copied where the gradient is computed in place. The Hessian at an
    improbable label is a difference of terms of the size of p.

    References
    ----------
    Leng et al., "PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions",
    ICLR 2022.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> logits = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    >>> loss, grad = fl.poly_cross_entropy.value_and_grad(logits, [0, 0], reduction="none")
    >>> loss.round(6)
    array([0.452559, 2.706632])
    >>> grad.round(6)
    array([[-0.380653,  0.190326,  0.190326],
           [-0.975863,  0.487931,  0.487931]])
    """
    # slope = 1 + ε p = u + (1 + ε) p, a sum of terms that are not negative; bend = -p ε p.
    T = type(rest)
    epsilon = T(epsilon)
    log_sum = log1p(rest if own == T(1) else (rest - T(1)) + own)
    total = rest + own
    p, u = own / total, rest / total
    return gap + log_sum + epsilon * u, u + (T(1) + epsilon) * p, -epsilon * p


@poly_cross_entropy.textbook
def _(logits, mass, epsilon):
    shifted = logits - logits.real.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    p, u = np.exp(log_p), -np.expm1(log_p)
    loss = np.where(mass == 0, 0, mass * (epsilon * u - log_p)).sum(axis=-1)
    effective = np.where(mass == 0, 0, mass * (1 + epsilon * p))
    return loss, effective.sum(axis=-1, keepdims=True) * p - effective
