"""The criteria with PyTorch's names whose loss has one value per row."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from fastloss import _validate as check
from fastloss._validate import Array
from fastloss.nn._pytorch import PairCriterion, PyTorchCriterion, repeated


@dataclass(frozen=True, eq=False)
class ClassCriterion(PairCriterion):
    """A criterion of classes, which lie where PyTorch has them: along axis 1, or the only one."""

    def _keywords_for(self, arrays: tuple[Any, ...]) -> dict[str, Any]:
        return {**self._keywords, "axis": 1} if arrays[0].ndim > 2 else self._keywords


@dataclass(frozen=True, eq=False)
class CrossEntropyLoss(ClassCriterion):
    """Cross-entropy of softmax(input), of logits of C classes.

    Parameters
    ----------
    weight : array_like, shape (C,), optional
        Weights of the classes.
    ignore_index : int, default -100
        Rows with this label have loss 0, gradient 0 and no weight.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        "mean" divides by the weights of the rows' labels; with a dense target by the number of
        rows, whatever their weights.
    label_smoothing : float, default 0.0
        The share of the target that is spread evenly over the classes; in [0, 1].

    Notes
    -----
    The classes lie along axis 1 of (N, C, d1, ...), or are the only axis. The target is integer
    labels without that axis, or dense (probabilities) of the shape of the input. Where all rows are
    ignored the mean is 0, not NaN as in PyTorch. `fastloss.softmax_cross_entropy` can do more.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> criterion = fl.nn.CrossEntropyLoss()
    >>> round(criterion(np.zeros((2, 4)), np.array([0, 3])), 6)
    1.386294
    >>> criterion.backward()
    array([[-0.375,  0.125,  0.125,  0.125],
           [ 0.125,  0.125,  0.125, -0.375]])
    """

    _name: ClassVar[str] = "softmax_cross_entropy"

    weight: Any = None
    _: KW_ONLY
    ignore_index: int = -100
    reduction: str = "mean"
    label_smoothing: float = 0.0

    def _keywords_for(self, arrays: tuple[Any, ...]) -> dict[str, Any]:
        (input, target), keywords = arrays, super()._keywords_for(arrays)
        dimensions = check.dimensions(target, type(self).__name__, "target")
        if dimensions == input.ndim and self.reduction == "mean":
            rows = input.shape[:1] + input.shape[2:] if input.ndim > 1 else ()
            keywords = {**keywords, "normalizer": math.prod(rows)}
        return keywords


@dataclass(frozen=True, eq=False)
class NLLLoss(ClassCriterion):
    """Negative log-likelihood of labels, ``-x_label``, of log-probabilities x of C classes.

    Parameters
    ----------
    weight : array_like, shape (C,), optional
        Weights of the classes.
    ignore_index : int, default -100
        Rows with this label have loss 0, gradient 0 and no weight.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        "mean" divides by the weights of the rows' labels.

    Notes
    -----
    The classes lie along axis 1 of (N, C, d1, ...), or are the only axis. Where all rows are
    ignored the mean is 0, not NaN as in PyTorch. `CrossEntropyLoss` of logits is faster and more
    accurate.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.nn.NLLLoss().backward(np.log(np.array([[0.25, 0.75], [0.5, 0.5]])), np.array([1, 0]))
    array([[ 0. , -0.5],
           [-0.5,  0. ]])
    """

    _name: ClassVar[str] = "nll"

    weight: Any = None
    _: KW_ONLY
    ignore_index: int = -100
    reduction: str = "mean"


@dataclass(frozen=True, eq=False)
class MultiMarginLoss(PairCriterion):
    """Multiclass margin loss, ``Σ_{j≠y} max(0, margin + x_j - x_y)**p / C``, of scores and label y.

    Parameters
    ----------
    p : int, default 1
        The power, 1 or 2.
    margin : float, default 1.0
        How far the label's score must lead each other score for a loss of 0; >= 0.
    weight : array_like, shape (C,), optional
        Weights of the classes; a row is multiplied by that of its label.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        "mean" divides by the number of rows, not by their weights.

    Notes
    -----
    The input has shape (N, C) or (C,). Rows with the label -100 are ignored.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> fl.nn.MultiMarginLoss()(np.array([[2.0, 1.5, 2.0, -1.0]]), np.array([0]))
    0.375
    """

    _name: ClassVar[str] = "multi_margin"

    p: int = 1
    margin: float = 1.0
    weight: Any = None
    _: KW_ONLY
    reduction: str = "mean"

    def _keywords_for(self, arrays: tuple[Any, ...]) -> dict[str, Any]:
        if self.weight is None or self.reduction != "mean":
            return self._keywords
        return {**self._keywords, "normalizer": math.prod(arrays[0].shape[:-1])}


@dataclass(frozen=True, eq=False)
class MultiLabelSoftMarginLoss(PairCriterion):
    """Binary cross-entropy of logits, averaged over the classes, which lie along the last axis.

    Parameters
    ----------
    weight : array_like, optional
        Multiplies the terms; of a shape that broadcasts to that of the input, such as (C,).
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        Of the losses of the rows, which are means over the C classes, divided by C also with
        weights.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> criterion = fl.nn.MultiLabelSoftMarginLoss()
    >>> criterion.backward(np.array([[0.0, 0.0]]), np.array([[1.0, 0.0]]))
    array([[-0.25,  0.25]])
    """

    _name: ClassVar[str] = "sigmoid_cross_entropy"

    weight: Any = None
    _: KW_ONLY
    reduction: str = "mean"

    def _fused(
        self, arrays: tuple[Any, ...], gradients: tuple[Array, ...], named: dict[str, Any]
    ) -> Any:
        (input, target), (gradient,), upstream = arrays, gradients, named.get("upstream")
        name = type(self).__name__
        if input.ndim == 0:
            check.fail(ValueError, name, "input", check.describe(input), "an axis of classes")
        keywords: dict[str, Any] = {"grad_out": gradient}
        if self.weight is not None:
            keywords["sample_weight"] = repeated(self.weight, input, name)
        rows, classes = input.shape[:-1], max(1, input.shape[-1])
        if self.reduction == "none":
            share = 1.0 if upstream is None else upstream
            share = check.weights(share, name, "upstream", (rows, ()), input.dtype)
            share = (share[..., None] if share.ndim else share) / input.dtype.type(classes)
            keywords["upstream"] = np.broadcast_to(share, input.shape)
            terms = self.loss.value_and_grad(input, target, reduction="none", **keywords)[0]
            return terms.sum(axis=-1) / input.dtype.type(classes)
        count = {"sum": 1, "batchmean": rows[0] if rows else 1}.get(self.reduction, math.prod(rows))
        return self.loss.value_and_grad(
            input, target, normalizer=count * classes, upstream=upstream, **keywords
        )[0]


@dataclass(frozen=True, eq=False)
class CosineEmbeddingLoss(PyTorchCriterion):
    """Cosine distance ``1 - cos`` of pairs with target 1, ``max(0, cos - margin)`` with target -1.

    Its gradients are a pair, one for each input.

    Parameters
    ----------
    margin : float, default 0.0
        Up to which cosine pairs that should differ cost nothing.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        "mean" divides by the number of pairs.

    Notes
    -----
    The inputs have shape (N, D) or (D,), the target (N,) or (). As in PyTorch a pair with any other
    target has loss 0. The cosine of a vector of zeros is 0, and so are its gradients. Other than
    the gradients, a step allocates a few numbers for each pair.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> criterion = fl.nn.CosineEmbeddingLoss()
    >>> one, two = np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]])
    >>> criterion(one, two, np.array([1]))
    1.0
    >>> by_one, by_two = criterion.backward()
    >>> by_one
    array([[ 0., -1.]])
    """

    _name: ClassVar[str] = "cosine_distance"

    margin: float = 0.0
    _: KW_ONLY
    reduction: str = "mean"

    def __post_init__(self) -> None:
        check.number(self.margin, type(self).__name__, "margin", "a finite number")
        super().__post_init__()

    def forward(self, input1: Any, input2: Any, target: Any, *, upstream: Any = None) -> Any:
        """Compute the loss and its gradients, and return the loss.

        Parameters
        ----------
        input1, input2 : array_like
            The pairs of embeddings.
        target : array_like
            1 where the two should agree, -1 where they should not.
        upstream : float or array_like, optional
            Multiplies the gradients (not the loss); with ``reduction="none"`` also one number per
            loss.

        Returns
        -------
        float or ndarray
            The reduced loss; with ``reduction="none"`` a new array of the single losses.
        """
        return self._run(input1, input2, target, upstream=upstream)

    def _fused(
        self, arrays: tuple[Any, ...], gradients: tuple[Array, ...], named: dict[str, Any]
    ) -> Any:
        first, second, target = arrays
        name, rows, dtype = type(self).__name__, first.shape[:-1], first.dtype
        target = check.weights(target, name, "target", (rows,), dtype)
        distances = self.loss.value_and_grad(first, second, reduction="none", grad_out=gradients)[0]
        excess = (1 - distances) - dtype.type(self.margin)
        near, zero = target == 1, dtype.type(0)
        # A cosine that is just the margin has a gradient, as in PyTorch.
        far = (target == -1) & ~(excess < 0)
        losses = np.where(near, distances, np.where(far, excess, zero))
        slopes = np.where(near, dtype.type(1), np.where(far, dtype.type(-1), zero))
        divisor, upstream = self._divisor(rows), named.get("upstream")
        if upstream is not None:
            shapes = (rows, ()) if self.reduction == "none" else ((),)
            slopes = slopes * check.weights(upstream, name, "upstream", shapes, dtype)
        slopes = (slopes / dtype.type(divisor))[..., None]
        for gradient in gradients:
            np.multiply(gradient, slopes, out=gradient)
        if self.reduction == "none":
            return losses
        return float(losses.sum(dtype=np.float64)) / divisor

    def _divisor(self, rows: tuple[int, ...]) -> int:
        if self.reduction == "mean":
            return max(1, math.prod(rows))
        return max(1, rows[0]) if self.reduction == "batchmean" and rows else 1


@dataclass(frozen=True, eq=False)
class TripletMarginLoss(PyTorchCriterion):
    """Triplet margin loss, ``max(0, |a - b|_p - |a - c|_p + margin)``.

    Its gradients are a triple: by the anchor a, the positive b and the negative c.

    Parameters
    ----------
    margin : float, default 1.0
        By how much farther the negative should be, >= 0.
    p : float, default 2.0
        The norm of the distances, >= 1.
    eps : float, default 1e-06
        In [0, 1e-6]. PyTorch adds it to each difference so that a distance of 0 has a derivative.
        Here the distances are exact and 0 has the gradient 0: the number is accepted where it does
        not matter, and larger ones are a ValueError.
    swap : bool, default False
        Takes the smaller of ``|a - c|`` and ``|b - c|`` for the distance of the negative.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        "mean" divides by the number of triplets.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> criterion = fl.nn.TripletMarginLoss()
    >>> a, b, c = np.zeros((1, 2)), np.array([[3.0, 4.0]]), np.array([[0.0, 2.0]])
    >>> criterion(a, b, c)
    4.0
    >>> by_anchor, by_positive, by_negative = criterion.backward()
    >>> by_positive
    array([[0.6, 0.8]])
    """

    _name: ClassVar[str] = "triplet_margin"

    margin: float = 1.0
    p: float = 2.0
    eps: float = 1e-6
    swap: bool = False
    _: KW_ONLY
    reduction: str = "mean"

    def __post_init__(self) -> None:
        expected = "a number in [0, 1e-6]: the distances are exact"
        check.number(self.eps, type(self).__name__, "eps", expected, lambda x: 0 <= x <= 1e-6)
        super().__post_init__()

    def forward(self, anchor: Any, positive: Any, negative: Any, *, upstream: Any = None) -> Any:
        """Compute the loss and its gradients, and return the loss.

        Parameters
        ----------
        anchor, positive, negative : array_like
            The embeddings, of shape (N, D) or (D,).
        upstream : float or array_like, optional
            Multiplies the gradients (not the loss); with ``reduction="none"`` also one number per
            loss.

        Returns
        -------
        float or ndarray
            The reduced loss; with ``reduction="none"`` a new array of the single losses.
        """
        return self._run(anchor, positive, negative, upstream=upstream)
