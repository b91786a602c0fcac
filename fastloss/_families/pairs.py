"""The losses of pairs of embeddings where every row meets all others."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastloss import _engine
from fastloss import _validate as check
from fastloss._call import Batch, Work
from fastloss._drivers.distances import pulled_row, unit_row
from fastloss._drivers.rowwise import RowwiseArguments
from fastloss._families.rows import RowLoss
from fastloss._families.softmaxes import SoftmaxLoss
from fastloss._quick import Quick
from fastloss._validate import Array

ANCHORS, SIMILARITIES = 256, 2**20
"""Anchors that meet all candidates at a time, at least, and similarities held, else at most."""


class Products(_engine.Launch):
    """A function that takes the arguments of a kernel, behind those of the variant."""

    def again(self, arguments: tuple[Any, ...]) -> tuple[float, int]:
        value, status = self.kernel_of(*self.variant, *arguments)
        return value, status


class PairwiseLoss(RowLoss):
    """A loss of two sets of embeddings, each of which meets all of the other set.

    Matrix products around a loss of logits, for a few anchors at a time: the logits are the cosine
    similarities over the temperature, the label of an anchor is its own partner. The products are
    BLAS's; the rows of embeddings go through the kernel of the row losses.
    """

    couples_rows = True
    of_logits: SoftmaxLoss

    def _quick_path(self) -> Quick:
        return lambda *arrays: None  # no kernel of rows stands behind it

    def _batch(self, arrays: tuple[Any, ...], given: dict[str, Any]) -> Batch:
        batch = super()._batch(arrays, given)
        if batch.pred.ndim != 2:
            got, expected = check.describe(batch.pred), "two dimensions, (N, D) with axis=-1"
            check.fail(ValueError, self.name, self._pred_name, got, expected)
        return batch

    def _launch(self, batch: Batch, work: Work) -> Callable[[], tuple[float, int]]:
        (other,) = work.others
        embeddings = Embeddings(batch.pred.shape, batch.options["axis"], work.order)
        return Products(
            self._multiply,
            (embeddings, 1 / batch.options["temperature"]),
            (
                (work.pred, other.values), (work.grad, other.grad), work.losses,
                work.sample_weight, work.upstream, work.divisor, work.scale, work.accumulate,
            ),
            nanoseconds=0.0,
        )  # fmt: skip

    def _multiply(
        self, embeddings: "Embeddings", inverse: float, inputs: tuple[Any, ...],
        grads: tuple[Any, ...], losses: Array | None, weight: Array | None, upstream: Array | None,
        divisor: float, scale: float, accumulate: bool,
    ) -> tuple[float, int]:  # fmt: skip
        count, gradient = embeddings.count, grads[0] is not None
        units, pulls = ([np.empty_like(values) for values in inputs] for _ in range(2))
        for values, unit in zip(inputs, units, strict=True):
            embeddings.apply(unit_row, (values,), unit)
        anchors, positives = map(embeddings.matrix, units)
        anchors_pull, positives_pull = map(embeddings.matrix, pulls)
        if weight is not None:  # what stands in a row that does not count reaches no other row
            anchors[weight == 0] = 0
        if math.isnan(divisor):
            known = None if weight is None else weight[np.isfinite(weight)]
            divisor = float(count if known is None else known.sum(dtype=np.float64))
        if divisor == 0:  # nothing counts: zeros, never NaN
            for out in grads:
                if out is not None and not accumulate:
                    out[:] = 0
            return 0.0, -1
        labels, total = np.arange(count), 0.0
        step = min(count, max(ANCHORS, SIMILARITIES // count))
        memory = np.empty((step, count), anchors.dtype)
        product = None
        for start in range(0, count, step):
            rows = slice(start, min(start + step, count))
            similarities = np.matmul(anchors[rows], positives.T, out=memory[: rows.stop - start])
            similarities *= similarities.dtype.type(inverse)
            # On one thread: the products have BLAS's, and two pools would wait for each other.
            keywords = {
                "sample_weight": None if weight is None else weight[rows],
                "reduction": "none", "num_threads": 1,
            }  # fmt: skip
            if not gradient:
                found = self.of_logits(similarities, labels[rows], **keywords)
            else:
                found, pull = self.of_logits.value_and_grad(
                    similarities, labels[rows], grad_out=similarities,
                    upstream=None if upstream is None else upstream[rows], **keywords,
                )  # fmt: skip
                np.matmul(pull, positives, out=anchors_pull[rows])
                if start == 0:
                    np.matmul(pull.T, anchors[rows], out=positives_pull)
                else:
                    product = np.matmul(pull.T, anchors[rows], out=product)
                    positives_pull += product
            total += float(found.sum(dtype=np.float64))
            if losses is not None:
                losses[rows] = found
        if gradient:
            if weight is not None:
                anchors_pull[weight == 0] = 0  # it may be 0 times NaN
            share = scale * inverse / divisor
            for *rows_of, out in zip(pulls, units, inputs, grads, strict=True):
                embeddings.apply(pulled_row, tuple(rows_of), out, share, accumulate=accumulate)
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


class Embeddings:
    """How the embeddings of a call lie in its flat arrays, and what is done to each of them."""

    def __init__(self, shape: tuple[int, ...], axis: int, order: str) -> None:
        self.shape, self.axis, self.order = shape, axis, order
        self.count, self.size = shape[1 - axis], shape[axis]
        self.inner = 1 if (axis == 1) == (order == "C") else self.count

    def matrix(self, flat: Array) -> Array:
        """Return an array as a matrix whose rows are the embeddings, a view."""
        array = flat.reshape(self.shape, order="F" if self.order == "F" else "C")
        return array.T if self.axis == 0 else array

    def apply(
        self, function: Callable[..., Any], inputs: tuple[Any, ...], out: Any, *options: float,
        accumulate: bool = False,
    ) -> None:  # fmt: skip
        """Let a function of rows fill `out`, or add to it, by the kernel of the row losses."""
        arguments = RowwiseArguments(
            inputs=inputs, grads=(out,), hesses=(), accumulate=accumulate or None, options=options,
            ignore_index=-100, rows=self.count, classes=self.size, inner=self.inner, divisor=1.0,
            scale=1.0,
        )  # fmt: skip
        variant = function, "dense", "columns" if self.inner > 1 else None
        _engine.run(_engine.rowwise_kernel, variant, arguments, 0.0, 1)
