"""Additive cosine margin loss."""

import numpy as np

from fastloss._families import margin_softmax
from fastloss._options import nonnegative


@margin_softmax(options={"margin": nonnegative(0.35)}, ulp_bound=4, nanoseconds=0.8)
def cosface(cosine, margin):
    """Softmax cross-entropy of ``scale · x``, of cosines x with ``x_y - margin`` at the label y.

    Parameters
    ----------
    cosines : array_like, float32 or float64, shape (..., C, ...)
        Cosines x in [-1, 1] between an embedding and the centres of C classes, which lie along
        `axis`.
    labels : array_like
        Integer labels y in [0, C), of the shape of `cosines` without `axis`.
    scale : float, default 64.0
        The factor between cosines and logits; > 0.
    margin : float, default 0.35
        How far the label's cosine must lead for the others to count alike; >= 0.

    Notes
    -----
    With ``z = scale · (x_y - margin)`` the loss is ``log(1 + Σ_{c≠y} exp(scale · x_c - z))`` and
    the gradient ``scale · (softmax - onehot)`` of these logits. As in `softmax_cross_entropy` no
    probability is subtracted from 1: at any confidence the loss and every gradient entry are within
    ``4 + 2 g`` ulp, g the spread of the row's logits, beyond what the rounding of `margin` to the
    dtype of `cosines`, times `scale`, moves them by. Powers below the smallest normal number count
    as 0.

    References
    ----------
    Wang et al., "CosFace: large margin cosine loss for deep face recognition", CVPR (2018).

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> cosines = np.array([[0.75, 0.25], [0.25, 0.75]])
    >>> fl.cosface(cosines, [0, 0], scale=10.0, margin=0.25, reduction="none")
    array([0.07888973, 7.50055293])
    """
    return cosine - np.float64(margin), 1.0


@cosface.textbook
def _(cosines, labels, scale, margin):
    hits = labels[..., None] == np.arange(cosines.shape[-1])
    logits = scale * np.where(hits, cosines - margin, cosines)
    shifted = logits - logits.real.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    own = np.where(hits, powers, 0).sum(axis=-1)
    rest = np.where(hits, 0, powers).sum(axis=-1)
    gap = np.where(hits, shifted, 0).sum(axis=-1)
    gradient = scale * np.where(hits, -rest[..., None], powers) / (rest + own)[..., None]
    return np.log1p(rest + (own - 1)) - gap, gradient
