"""InfoNCE, the contrastive loss of two sets of embeddings."""

import numpy as np

from fastloss._families import rowwise
from fastloss._families.pairs import PairwiseLoss
from fastloss._options import positive
from fastloss.losses.softmax_cross_entropy import softmax_cross_entropy


class InfoNCE(PairwiseLoss):
    """The pairwise loss around the cross-entropy."""

    of_logits = softmax_cross_entropy


@rowwise(
    loss=InfoNCE,
    arguments=("anchors", "positives"),
    pred="embedding",
    target=None,
    inputs=2,
    options={"temperature": positive(0.1)},
    ulp_bound=64,
    nanoseconds=10.0,
    peers={},
)
def info_nce(anchors, positives, anchors_grad, positives_grad, temperature):
    """InfoNCE, ``log Σ_j exp(cos(a_i, b_j) / T) - cos(a_i, b_i) / T`` of each pair of embeddings.

    Parameters
    ----------
    anchors : array_like, float32 or float64, shape (N, D)
        Embeddings a; of shape (D, N) with ``axis=0``.
    positives : array_like
        The embedding b that belongs to each anchor, of the shape and dtype of `anchors`; those of
        the other anchors serve as negatives.
    temperature : float, default 0.1
        T, > 0, which divides the cosine similarities.

    Notes
    -----
    Gradients are pairs: by the anchors and by the positives; so is `grad_out`. For the symmetric
    loss of CLIP take the mean of the two directions, ``info_nce(a, b)`` and ``info_nce(b, a)``. An
    embedding of 0 has similarity 0 and gradient 0. The similarities are matrix products, taken in
    the dtype of `anchors` by NumPy's BLAS: their rounding, about one ulp of 1, divided by T is the
    error of the loss, and results are the same for every `num_threads`, but not for every BLAS.
    Memory beyond the buffers: five arrays like `anchors`, and 2**20 similarities, or those of 256
    anchors if they are more.

    References
    ----------
    van den Oord, Li & Vinyals, "Representation learning with contrastive predictive coding", arXiv
    1807.03748 (2018).

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> a = np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> round(fl.info_nce(a, a, temperature=1.0), 6)
    0.313262
    """
    raise NotImplementedError  # never compiled: InfoNCE does the work


@info_nce.textbook
def _(anchors, positives, weight, temperature):
    def unit(x):
        norm = np.sqrt((x * x).sum(axis=-1, keepdims=True))
        return x / np.where(norm == 0, 1, norm), np.where(norm == 0, np.inf, norm)

    (a, a_norm), (b, b_norm) = unit(anchors), unit(positives)
    scores = a @ b.T / temperature
    shifted = scores - scores.real.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -np.diagonal(log_p)
    pull = weight[:, None] * (np.exp(log_p) - np.eye(len(a))) / temperature
    by_a, by_b = pull @ b, pull.T @ a

    def through(by_unit, units, norm):
        return (by_unit - (by_unit * units).sum(axis=-1, keepdims=True) * units) / norm

    return loss, (through(by_a, a, a_norm), through(by_b, b, b_norm))
