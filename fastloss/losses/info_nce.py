"""InfoNCE, the contrastive loss of two sets of embeddings."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastloss import _validate as check
from fastloss._call import Batch, Work
from fastloss._families import RowLoss, rowwise
from fastloss._options import positive
from fastloss._quick import Quick
from fastloss._validate import Array
from fastloss.losses.softmax_cross_entropy import softmax_cross_entropy

SIMILARITIES = 2**20
"""Similarities that are held at a time: some anchors' with all candidates."""


class PairwiseLoss(RowLoss):
    """Rows that meet all other rows: matrix products around the softmax kernel.

    The products are BLAS's; weights, labels and the softmax itself are those of
    `softmax_cross_entropy`, over a few anchors at a time.
    """

    couples_rows = True

    def _quick_path(self) -> Quick:
        return lambda *arrays: None  # no kernel of rows stands behind it

    def _batch(self, arrays: tuple[Any, ...], given: dict[str, Any]) -> Batch:
        batch = super()._batch(arrays, given)
        if batch.pred.ndim != 2:
            got, expected = check.describe(batch.pred), "two dimensions, (N, D) with axis=-1"
            check.fail(ValueError, self.name, self._pred_name, got, expected)
        return batch

    def _launch(self, batch: Batch, work: Work) -> Callable[[], tuple[float, int]]:
        return lambda: self._multiply(batch, work)

    def _multiply(self, batch: Batch, work: Work) -> tuple[float, int]:
        def matrix(values: Any) -> Any:
            if values is None:
                return None
            array = values.reshape(batch.pred.shape, order=work.order)
            return array.T if batch.options["axis"] == 0 else array

        (other,) = work.others
        inverse = 1 / batch.options["temperature"]
        units, norms = unit_rows(np.concatenate((matrix(work.pred), matrix(other.values))))
        count = len(units) // 2
        anchors, positives = units[:count], units[count:]
        weight = work.sample_weight
        if weight is not None:  # what stands in a row that does not count reaches no other row
            anchors[weight == 0] = 0
        divisor = work.divisor
        if math.isnan(divisor):
            known = np.ones(count) if weight is None else weight[np.isfinite(weight)]
            divisor = float(known.sum(dtype=np.float64))
        if divisor == 0:  # nothing counts: zeros, never NaN
            for out in (work.grad, other.grad):
                if out is not None and not work.accumulate:
                    out[:] = 0
            return 0.0, -1
        share = work.scale * inverse / divisor
        labels, total = np.arange(count), 0.0
        by_units = np.zeros_like(units)
        by_anchors, by_positives = by_units[:count], by_units[count:]
        step = max(1, SIMILARITIES // count)
        for start in range(0, count, step):
            rows = slice(start, start + step)
            similarities = anchors[rows] @ positives.T
            similarities *= similarities.dtype.type(inverse)
            # On one thread: the products have BLAS's, and two pools would wait for each other.
            losses, pull = softmax_cross_entropy.value_and_grad(
                similarities, labels[rows], reduction="none", grad_out=similarities, num_threads=1,
                sample_weight=None if weight is None else weight[rows],
                upstream=None if work.upstream is None else work.upstream[rows],
            )  # fmt: skip
            total += float(losses.sum(dtype=np.float64))
            if work.losses is not None:
                work.losses[rows] = losses
            if work.grad is not None:
                np.matmul(pull, positives, out=by_anchors[rows])
                by_positives += pull.T @ anchors[rows]
        if work.grad is not None:
            changes = through_norm(by_units, units, norms, share)
            for out, change in (work.grad, changes[:count]), (other.grad, changes[count:]):
                target = matrix(out)
                target[...] = target + change if work.accumulate else change
        return total / divisor, -1

    def _reference(
        self, arrays: tuple[Array, ...], options: dict[str, Any], keywords: dict[str, Any]
    ) -> tuple[Array, Any, Array, Array]:
        across = options.pop("axis", -1) == 0
        anchors, positives = (array.T if across else array for array in arrays)
        weight = keywords.get("sample_weight")
        weight = np.ones(len(anchors)) if weight is None else np.asarray(weight)
        weight = weight.astype(anchors.real.dtype)
        losses, derivative = self._textbook(anchors, positives, weight=weight, **options)
        gradients: Any = derivative
        if across:
            gradients = tuple(gradient.T for gradient in gradients)
        return weight * losses, gradients, weight, np.ones(len(anchors))


@np.errstate(invalid="ignore", over="ignore")
def unit_rows(rows: Array) -> tuple[Array, Array]:
    """Return the rows divided by their norms, and the norms; rows of zeros stay."""
    largest = np.abs(rows).max(axis=1, keepdims=True)
    largest[largest == 0] = 1
    scaled = rows / largest
    norms = np.sqrt(np.einsum("ij,ij->i", scaled, scaled, dtype=np.float64))[:, None]
    norms[norms == 0] = 1
    norms = norms.astype(rows.dtype)
    return scaled / norms, largest * norms


def through_norm(by_units: Array, units: Array, norms: Array, share: float) -> Array:
    """Return the gradient by rows, in float64, from a multiple of that by their unit rows.

    It is 0 for rows of zeros, and for rows on which nothing depends, whatever stands there.
    """
    wide = by_units.astype(np.float64)
    along = np.einsum("ij,ij->i", wide, units)[:, None]
    change = (wide - along * units) * share / norms
    change[~(units.any(axis=1) & by_units.any(axis=1))] = 0
    return change


@rowwise(
    loss=PairwiseLoss,
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
    Memory beyond the buffers: a few copies of the inputs, and 2**20 similarities.

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
    raise NotImplementedError  # never compiled: PairwiseLoss does the work


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
