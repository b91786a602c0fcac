"""Additive angular margin loss."""

import math

import numpy as np

from fastloss._families import margin_softmax
from fastloss._options import Option, flag

SMALLEST_SINE = 2.0**-12
"""Below the sine of every float32 cosine but 1 and -1 themselves."""


@margin_softmax(
    options={
        "margin": Option(0.5, "a number in [0, pi]", lambda x: 0 <= x <= math.pi, 0.3),
        "easy_margin": flag(False),
    },
    ulp_bound=4,
    nanoseconds=0.8,
)
def arcface(cosine, margin, easy_margin):
    """Softmax cross-entropy of ``scale · x``, of cosines x, ``cos(θ + margin)`` at the label's θ.

    Parameters
    ----------
    cosines : array_like, float32 or float64, shape (..., C, ...)
        Cosines x in [-1, 1] between an embedding and the centres of C classes, which lie along
        `axis`.
    labels : array_like
        Integer labels y in [0, C), of the shape of `cosines` without `axis`.
    scale : float, default 64.0
        The factor between cosines and logits; > 0.
    margin : float, default 0.5
        The angle m in radians that is added to the label's angle ``θ = arccos x_y``; in [0, π].
    easy_margin : bool, default False
        Whether the margin is added only where ``cos θ > 0``, and elsewhere nothing is done.

    Notes
    -----
    Without `easy_margin`, where ``θ + m > π``, that is where ``cos θ < -cos m``, the label's
    cosine becomes ``cos θ - m sin m`` instead, as is usual; the loss jumps there.

    The derivative of ``cos(θ + m)`` by ``cos θ``, ``cos m + cos θ sin m / sin θ``, is infinite at
    ``cos θ = ±1``: in it (and not in the loss) sin θ is taken as 2^-12 at least, which in float32
    changes it at ±1 only and in float64 within 3e-8 of it. A cosine which rounding has put a
    little outside [-1, 1] has sin θ = 0.

    The label's logit is computed in float64. As in `softmax_cross_entropy` no probability is
    subtracted from 1: at any confidence the loss and every gradient entry are within ``4 + 2 g``
    ulp, g the spread of the row's logits, beyond what the rounding of `margin` to the dtype of
    `cosines` and, in float64, that of ``cos(θ + m)``, times `scale`, move them by. Powers below the
    smallest normal number count as 0.

    References
    ----------
    Deng et al., "ArcFace: additive angular margin loss for deep face recognition", CVPR (2019).

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> cosines = np.array([[0.75, 0.25], [0.25, 0.75]])
    >>> fl.arcface(cosines, [0, 0], scale=10.0, margin=0.25, reduction="none")
    array([0.04277156, 7.47376543])
    """
    m = np.float64(margin)
    cos_m, sin_m = np.cos(m), np.sin(m)
    square = (1.0 - cosine) * (1.0 + cosine)
    sine = np.sqrt(0.0 if square < 0.0 else square)
    moved = cosine * cos_m - sine * sin_m
    slope = cos_m + cosine * sin_m / max(sine, SMALLEST_SINE)
    if easy_margin is not None:
        added, otherwise = cosine > 0.0, cosine
    else:
        added, otherwise = cosine >= -cos_m, cosine - m * sin_m
    return moved if added else otherwise, slope if added else 1.0


@arcface.textbook
def _(cosines, labels, scale, margin, easy_margin):
    hits = labels[..., None] == np.arange(cosines.shape[-1])
    cos_m, sin_m = math.cos(margin), math.sin(margin)
    square = (1 - cosines) * (1 + cosines)
    sine = np.sqrt(np.where(square.real < 0, 0, square))
    added = cosines.real > 0 if easy_margin else cosines.real >= -cos_m
    otherwise = cosines if easy_margin else cosines - margin * sin_m
    label_cosine = np.where(added, cosines * cos_m - sine * sin_m, otherwise)
    clamped = np.where(sine.real < SMALLEST_SINE, SMALLEST_SINE, sine)
    slope = np.where(added, cos_m + cosines * sin_m / clamped, 1)

    logits = scale * np.where(hits, label_cosine, cosines)
    shifted = logits - logits.real.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    own = np.where(hits, powers, 0).sum(axis=-1)
    rest = np.where(hits, 0, powers).sum(axis=-1)
    gap = np.where(hits, shifted, 0).sum(axis=-1)
    gradient = scale * np.where(hits, -slope * rest[..., None], powers) / (rest + own)[..., None]
    return np.log1p(rest + (own - 1)) - gap, gradient
