"""Cosine distance of two embeddings."""

import numpy as np

from fastloss._drivers.distances import scaled_square
from fastloss._families import rowwise


@rowwise(
    arguments=("first", "second"),
    pred="embedding",
    target=None,
    inputs=2,
    ulp_bound=8,
    nanoseconds=1.2,
    peers={
        "PyTorch": "cosine_similarity",
        "Keras": "CosineSimilarity",
        "optax": "cosine_distance",
    },
)
def cosine_distance(first, second, first_grad, second_grad):
    """Cosine distance of pairs of embeddings, ``1 - a·b / (|a| |b|)``.

    Parameters
    ----------
    first : array_like, float32 or float64, shape (..., D, ...)
        Embeddings a of D numbers, which lie along `axis`.
    second : array_like
        Embeddings b, of the shape and dtype of `first`.

    Notes
    -----
    Gradients are pairs: by a and by b; so is `grad_out`. The distance is computed as ``|a / |a| -
    b / |b||**2 / 2``, which does not cancel where a and b are nearly parallel: an error of 8 ulp
    times ``1 + 1 / |a / |a| - b / |b||``, instead of the square of that. Where a or b is 0 the
    distance is 1 and both gradients are 0. Keras' CosineSimilarity is less by 1: minus the cosine.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> a, b = np.array([[1.0, 1.0], [1.0, 0.0]]), np.array([[2.0, 2.0], [0.0, 2.0]])
    >>> losses, (by_a, by_b) = fl.cosine_distance.value_and_grad(a, b, reduction="none")
    >>> losses
    array([0., 1.])
    >>> by_b
    array([[ 0. ,  0. ],
           [-0.5,  0. ]])
    """
    T = type(first[0])
    a_scale, a_square = scaled_square(first, None)
    b_scale, b_square = scaled_square(second, None)
    directed = (a_square != 0.0) & (b_square != 0.0)
    a_inverse, b_inverse = 1.0 / np.sqrt(a_square), 1.0 / np.sqrt(b_square)
    distance = 0.0
    for d in range(first.size):
        a = (np.float64(first[d]) * a_scale) * a_inverse
        b = (np.float64(second[d]) * b_scale) * b_inverse
        distance += 0.5 * (a - b) ** 2
    if first_grad is not None:
        for d in range(first.size):
            a = (np.float64(first[d]) * a_scale) * a_inverse
            b = (np.float64(second[d]) * b_scale) * b_inverse
            by_a = (((a - b) - distance * a) * a_inverse) * a_scale
            by_b = (((b - a) - distance * b) * b_inverse) * b_scale
            first_grad[d] = T(by_a) if directed else T(0)
            second_grad[d] = T(by_b) if directed else T(0)
    return T(distance) if directed else T(1)


@cosine_distance.textbook
def _(first, second):
    def unit(x):
        norm = np.sqrt((x * x).sum(axis=-1, keepdims=True))
        return x / np.where(norm == 0, 1, norm), norm

    (a, a_norm), (b, b_norm) = unit(first), unit(second)
    directed = (a_norm != 0) & (b_norm != 0)
    distance = np.where(directed, ((a - b) ** 2).sum(axis=-1, keepdims=True) / 2, 1)
    by_a = (a - b - distance * a) / np.where(directed, a_norm, np.inf)
    by_b = (b - a - distance * b) / np.where(directed, b_norm, np.inf)
    return distance[..., 0], (by_a, by_b)
