"""Multiclass hinge loss of Crammer and Singer."""

import numpy as np

from fastloss._drivers.columns import takes_columns
from fastloss._drivers.rivals import largest_rival, lead, rivals
from fastloss._drivers.row_vectors import entry_at, put_at
from fastloss._families import rowwise
from fastloss._floats import at_least
from fastloss._options import nonnegative
from fastloss._vector_memory import store_some
from fastloss._vectors import choose, first_lane, lanes_of, zeros


@rowwise(
    arguments=("scores", "labels"),
    hessian=True,
    options={"margin": nonnegative(1.0)},
    convex=True,
    ulp_bound=2,
    nanoseconds=0.6,
    peers={"optax": "multiclass_hinge_loss", "scikit-learn": "hinge_loss"},
)
@takes_columns
def multiclass_hinge(scores, label, grad, hess, margin):
    """Multiclass hinge loss, ``max(0, margin + max_{j≠y} x_j - x_y)``, of scores x and label y.

    Parameters
    ----------
    scores : array_like, float32 or float64, shape (..., C, ...)
        Scores x of C classes, which lie along `axis`. -inf masks a class.
    labels : array_like
        Integer labels y in [0, C), of the shape of `scores` without `axis`.
    margin : float, default 1.0
        How far the label's score must lead for a loss of 0; >= 0.

    Notes
    -----
    The gradient is 1 at the strongest competitor (the first of them, if there are ties), -1 at the
    label and 0 elsewhere; at the kink, where the label leads by just `margin`, all of it is 0. The
    Hessian is 0. Loss and gradient are within 2 ulp, the loss beyond what the rounding of
    ``x_j - x_y`` moves it by. A row that holds NaN has a gradient of NaN.

    Keras' CategoricalHinge differs: there a competitor counts with a score of at least 0.

    References
    ----------
    Crammer & Singer, "On the algorithmic implementation of multiclass kernel-based vector
    machines", Journal of Machine Learning Research 2 (2001).

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> scores = np.array([[2.0, 1.5, -1.0], [3.0, 0.0, 1.0]])
    >>> fl.multiclass_hinge.value_and_grad(scores, [0, 0], reduction="none")
    (array([0.5, 0. ]), array([[-1.,  1.,  0.],
           [ 0.,  0.,  0.]]))
    """
    T, lanes = type(scores[0]), lanes_of(scores)
    strongest = largest_rival(scores, label)
    loss = at_least(lead(strongest, entry_at(scores, label), margin), T(0))
    elsewhere = choose(loss == loss, T(0), loss)
    active, found = loss > T(0), loss < T(0)  # found: not yet, as no loss is below 0
    push, pull = choose(active, T(1), elsewhere), choose(active, T(-1), elsewhere)
    for i in range(0, scores.size, lanes):
        there = scores.size - i
        if grad is not None:  # if no rival is above -inf, what is found is harmless: all is 0
            first, found = first_lane(rivals(scores, i, label) == strongest, found)
            store_some(grad, i, choose(first, push, elsewhere), there)
        store_some(hess, i, zeros(scores), there)
    put_at(grad, label, pull)
    return loss


@multiclass_hinge.textbook
def _(scores, labels, margin):
    classes = np.arange(scores.shape[-1])
    own = labels[..., None] == classes
    competitors = np.where(own, -np.inf, scores)
    best = competitors.real.argmax(axis=-1)[..., None] == classes
    strongest = np.where(best, competitors, 0).sum(axis=-1)
    lead = margin + (strongest - np.where(own, scores, 0).sum(axis=-1))
    slope = np.where(lead.real > 0, 1, np.where(lead.real <= 0, 0, lead.real))
    return np.where(lead.real <= 0, 0, lead), slope[..., None] * best - slope[..., None] * own
