"""Negative log-likelihood of log-probabilities."""

import numpy as np

from fastloss._families import at_label


@at_label(
    arguments=("log_probabilities", "labels"),
    pred="log distribution",
    convex=True,
    ulp_bound=4,
    nanoseconds=0.1,
    peers={"PyTorch": "nll_loss"},
)
def nll(log_probability):
    """Negative log-likelihood of labels, ``-x_label``, of log-probabilities x.

    Parameters
    ----------
    log_probabilities : array_like, float32 or float64, shape (..., C, ...)
        Logarithms x of the probabilities of C classes, which lie along `axis`.
    labels : array_like
        Integer labels in [0, C), of the shape of `log_probabilities` without `axis`.

    Notes
    -----
    The gradient is -1 at the label and 0 elsewhere, exactly; the Hessian is 0. For logits use
    `softmax_cross_entropy`, which is faster and more accurate than a log-softmax followed by this.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.nll(np.log(np.array([[0.25, 0.75], [0.5, 0.5]])), [1, 0], reduction="none")
    array([0.28768207, 0.69314718])
    """
    T = type(log_probability)
    return -log_probability, T(-1), T(0)


@nll.textbook
def _(log_probabilities, labels):
    hits = labels[..., None] == np.arange(log_probabilities.shape[-1])
    return -np.where(hits, log_probabilities, 0).sum(axis=-1), -hits.astype(float)
