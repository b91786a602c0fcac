"""One call of a loss: its keywords, checked one by one, and the arrays that it works on."""

import math
from typing import Any, NamedTuple

import numpy as np

from fastloss import _validate as check
from fastloss._validate import Array

VALUE = {
    "sample_weight": None,
    "reduction": "mean",
    "normalizer": None,
    "num_threads": None,
    "loss_out": None,
}
GRADIENT = {**VALUE, "grad_out": None, "upstream": None, "accumulate": False}
HESSIAN = {**GRADIENT, "hess_out": None}
REFERENCE = {"sample_weight": None, "reduction": "mean", "normalizer": None}
"""The keywords that every loss has in each kind of call, with their defaults."""


class Batch(NamedTuple):
    """The checked inputs of a call, before they are laid flat."""

    pred: Array
    target: Any  # an array, or None where a loss has no target
    shape: tuple[int, ...]  # of the single losses
    weight_shapes: tuple[tuple[int, ...], ...]
    options: dict[str, Any]
    others: tuple[Array, ...] = ()  # further inputs that get a gradient, of pred's shape
    extra: tuple[Array, ...] = ()  # what the loss gives beside them, on request


class Other(NamedTuple):
    """A further input that gets a gradient, flat like those of `Work`."""

    values: Array | None
    grad: Array | None
    hess: Array | None


class Work(NamedTuple):
    """What the kernel gets: contiguous flat arrays, in the memory order of pred."""

    pred: Array | None  # None: computed in place, pred is grad
    target: Any
    grad: Array | None
    hess: Array | None
    losses: Array | None
    sample_weight: Array | None
    upstream: Array | None
    divisor: float
    scale: float
    accumulate: bool
    num_threads: int | None
    order: str
    others: tuple[Other, ...] = ()


def read_divisor(loss: str, given: dict[str, Any], reduction: str, batch: Any) -> float:
    """Return what the sum is divided by; NaN asks the kernel for the total weight."""
    normalizer = given.get("normalizer")
    if normalizer is None:
        if reduction == "mean":
            return math.nan
        return float(batch.shape[0]) if reduction == "batchmean" and batch.shape else 1.0
    if reduction != "mean":
        check.fail(ValueError, loss, "normalizer", f"given with reduction={reduction!r}",
                   "None, or reduction='mean'")  # fmt: skip
    return check.number(normalizer, loss, "normalizer", "a finite number")


def read_upstream(
    loss: str, given: dict[str, Any], reduction: str, batch: Batch
) -> tuple[float, Array | None]:
    """Return upstream as a number and, with `reduction="none"`, an array (or None)."""
    upstream = given.get("upstream")
    if upstream is None:
        return 1.0, None
    if check.dimensions(upstream, loss, "upstream") == 0:
        return check.number(upstream, loss, "upstream", "a finite number"), None
    if reduction != "none":
        check.fail(ValueError, loss, "upstream", check.describe(np.asarray(upstream)),
                   "a number, or reduction='none'")  # fmt: skip
    return 1.0, read_weights(loss, given, "upstream", batch)


def read_weights(loss: str, given: dict[str, Any], argument: str, batch: Batch) -> Array | None:
    """Return weights as an array, or None."""
    value = given.get(argument)
    if value is None:
        return None
    return check.weights(value, loss, argument, batch.weight_shapes, batch.pred.dtype)


def read_class_weight(loss: str, given: dict[str, Any], pred: Array, axis: int) -> Array | None:
    """Return the weights of the classes, or None."""
    value, shapes = given.get("class_weight"), ((pred.shape[axis],),)
    return None if value is None else check.weights(value, loss, "class_weight", shapes, pred.dtype)


def buffer_for(
    loss: str, buffer: Any, argument: str, shape: tuple[int, ...], dtype: np.dtype[Any],
    order: Any, others: dict[str, Array | None],
) -> Array:  # fmt: skip
    """Return the caller's buffer, checked, or a new one."""
    if buffer is None:
        return np.empty(shape, dtype, order)
    buffer = check.output(buffer, loss, argument, shape, dtype)
    check.disjoint(loss, argument, buffer, others)
    return buffer
