"""Triplet margin loss of embeddings."""

import numpy as np

from fastloss._drivers.distances import distance, write_direction
from fastloss._drivers.rivals import lead
from fastloss._families import rowwise
from fastloss._options import Option, flag, nonnegative


@rowwise(
    arguments=("anchor", "positive", "negative"),
    pred="embedding",
    target=None,
    inputs=3,
    options={
        "margin": nonnegative(1.0),
        "p": Option(2.0, "a number >= 1", lambda x: x >= 1, 1.0),
        "swap": flag(False),
    },
    ulp_bound=8,
    nanoseconds=1.4,
    peers={"PyTorch": "triplet_margin_loss", "optax": "triplet_margin_loss"},
)
def triplet_margin(
    anchor, positive, negative, anchor_grad, positive_grad, negative_grad, margin, p, swap
):
    """Triplet margin loss, ``max(0, |a - b|_p - |a - c|_p + margin)``.

    Parameters
    ----------
    anchor : array_like, float32 or float64, shape (..., D, ...)
        Embeddings a of D numbers, which lie along `axis`.
    positive : array_like
        Embeddings b that should be near the anchors, of the shape and dtype of `anchor`.
    negative : array_like
        Embeddings c that should be farther away, of the shape and dtype of `anchor`.
    margin : float, default 1.0
        By how much farther, >= 0.
    p : float, default 2.0
        The norm of the distances, >= 1.
    swap : bool, default False
        Takes the smaller of ``|a - c|`` and ``|b - c|`` for the distance of the negative.

    Notes
    -----
    Gradients are triples: by a, b and c; so is `grad_out`. They are 0 where the loss is 0, and a
    distance of 0 has gradient 0. The distances are within 8 ulp, and the gradients of p other than
    2 within ``8 + 4 p``; the loss is that of the distances' difference. PyTorch adds 1e-6 to each
    difference, and optax 1e-6 to the sum of powers, without absolute values, which is right for
    even `p` only; pass them ``eps=0``.

    References
    ----------
    Balntas et al., "Learning local feature descriptors with triplets and shallow convolutional
    neural networks", BMVC (2016), also for `swap`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> a, b, c = np.zeros((1, 2)), np.array([[3.0, 4.0]]), np.array([[0.0, 2.0]])
    >>> loss, (by_a, by_b, by_c) = fl.triplet_margin.value_and_grad(a, b, c)
    >>> loss, by_b, by_c
    (4.0, array([[0.6, 0.8]]), array([[ 0., -1.]]))
    """
    T = type(anchor[0])
    near, far = distance(anchor, positive, p), distance(anchor, negative, p)
    across = far
    if swap is not None:
        across = distance(positive, negative, p)
    swapped = across < far
    rest = lead(near, across if swapped else far, np.float64(margin))
    if anchor_grad is not None:
        # The loss is |a - b| - |e - c|, e being a or, swapped, b: two directions, and what they
        # leave for the point that both distances share.
        if rest <= 0.0:
            for d in range(anchor.size):
                anchor_grad[d] = T(0)
                positive_grad[d] = T(0)
                negative_grad[d] = T(0)
        elif swapped:
            write_direction(anchor, positive, p, near, anchor_grad)
            write_direction(positive, negative, p, across, negative_grad)
            for d in range(anchor.size):
                positive_grad[d] = -(anchor_grad[d] + negative_grad[d])
        else:
            write_direction(positive, anchor, p, near, positive_grad)
            write_direction(anchor, negative, p, far, negative_grad)
            for d in range(anchor.size):
                anchor_grad[d] = -(positive_grad[d] + negative_grad[d])
    return T(max(rest, 0.0))


@triplet_margin.textbook
def _(anchor, positive, negative, margin, p, swap):
    def length(x, y):
        r = x - y
        r = np.where(r.real < 0, -r, r)
        return (r**p).sum(axis=-1) ** (1 / p) if p != 1 else r.sum(axis=-1)

    def direction(x, y, norm):
        r = x - y
        powers = np.sign(r) * np.where(r.real < 0, -r, r) ** (p - 1)
        norm = norm[..., None]
        return np.where(norm == 0, 0, powers / np.where(norm == 0, 1, norm) ** (p - 1))

    near, far, across = length(anchor, positive), length(anchor, negative), None
    swapped = np.zeros(near.shape, bool)
    if swap:
        across = length(positive, negative)
        swapped = across.real < far.real
    rest = near - (np.where(swapped, across, far) if swap else far) + margin
    active = ~(rest.real <= 0)[..., None]  # NaN is no zero
    toward = np.where(active, direction(anchor, positive, near), 0)
    away = np.where(active & ~swapped[..., None], direction(anchor, negative, far), 0)
    aside = 0 * away
    if swap:
        aside = np.where(active & swapped[..., None], direction(positive, negative, across), 0)
    loss = np.where(active[..., 0], rest, 0)
    return loss, (toward - away, -toward - aside, away + aside)
