"""The quick path of the plainest calls: no options, arrays that the kernels take as they are.

On a batch of 32 rows the full checks would cost ten times what the loss does. The quick path of a
loss is a function of (pred, target, grad or None) that returns the mean loss, or None where the
call is not that plain: the full checks then decide, errors included. Large batches are checked
here; for small ones Numba's dispatch, which has to look at the types of its arguments anyway, is
the check: an entry is compiled for one set of plain arrays, refuses others by a TypeError, and
returns None where shapes, sizes or labels are not what it is for.
"""

import math
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from fastloss import _engine
from fastloss._drivers.common import TILE_CLASSES
from fastloss._validate import FLOATS, Array

Options = dict[np.dtype[Any], tuple[Any, ...]]
Quick = Callable[[Array, Array, Array | None], float | None]
Variant = tuple[Any, ...]

LABELS = frozenset(np.dtype(code) for code in "bBhHiIlLqQ")


def elementwise(scalar: FunctionType, nanoseconds: float, options: Options) -> Quick:
    """Return the quick path of an elementwise loss; `options` are its defaults for each dtype."""

    def variant_of(pred: Array, target: Array, grad: Array | None) -> Variant | None:
        if target.dtype != pred.dtype or target.shape != pred.shape or not _is_plain(pred, grad):
            return None
        return (pred.ndim,)

    def compiled(variant: Variant, limit: int, pred: Array, *others: Array | None) -> Any:
        own = options[pred.dtype]
        return _engine.elementwise_entry(scalar, own, limit, pred, *others)

    def run(variant: Variant, pred: Array, target: Array, grad: Array | None) -> Any:
        return _engine.run(
            _engine.elementwise_kernel,
            (scalar, True),
            (pred.ravel(), target.ravel(), None if grad is None else grad.ravel(), None, None,
             None, None, None, options[pred.dtype], math.nan, 1.0, None, None, None),
            nanoseconds * pred.size,
        )  # fmt: skip

    return _quick(nanoseconds, variant_of, compiled, run)


def softmax(
    scalar: FunctionType, nanoseconds: float, options: Options, curved: bool | None
) -> Quick:
    """Return the quick path of a softmax loss: 2-D logits, labels or dense targets."""

    def variant_of(pred: Array, target: Array, grad: Array | None) -> Variant | None:
        soft = target.shape == pred.shape
        if pred.ndim != 2 or not _is_plain(pred, grad):
            return None
        if target.dtype != pred.dtype if soft else target.dtype not in LABELS:
            return None
        if not soft and target.shape != pred.shape[:1]:
            return None
        return soft, pred.shape[1] <= TILE_CLASSES

    def compiled(variant: Variant, limit: int, pred: Array, *others: Array | None) -> Any:
        own = options[pred.dtype]
        return _engine.softmax_entry(scalar, *variant, own, limit, pred, *others, curved=curved)

    def run(variant: Variant, pred: Array, target: Array, grad: Array | None) -> Any:
        soft, _ = variant
        return _engine.run(
            _engine.softmax_kernel,
            (scalar, *variant),
            (pred.ravel(), None if soft else target, target.ravel() if soft else None,
             None if grad is None else grad.ravel(), None, None, None, None, None, None, None,
             None, options[pred.dtype], curved, None, None, None, None, None, None, None, -100,
             *pred.shape, 1, math.nan, 1.0),
            nanoseconds * pred.size,
        )  # fmt: skip

    return _quick(nanoseconds, variant_of, compiled, run)


def _quick(
    nanoseconds: float,
    variant_of: Callable[[Array, Array, Array | None], Variant | None],
    compiled: Callable[..., Any],
    run: Callable[..., Any],
) -> Quick:
    """Return the quick path, given how a loss tells, compiles and runs its variants."""
    small = math.ceil(_engine.PARALLEL_NANOSECONDS / nanoseconds)
    entries: dict[Any, tuple[Any, ...]] = {}
    known: set[Any] = set()

    def quick(pred: Array, target: Array, grad: Array | None) -> float | None:
        if not (pred.flags.carray and target.flags.carray):
            return None
        key = pred.dtype.num, target.dtype.num, target.ndim, grad is None
        for entry in entries.get(key, ()):
            try:
                value: float | None = entry(pred, target, grad)
            except TypeError:  # bytes swapped, or a gradient of another type
                continue
            if value is not None:
                return value
        variant = variant_of(pred, target, grad)
        if variant is None:
            return None
        if pred.size >= small:
            value, status = run(variant, pred, target, grad)
            return value if status == -1 else None
        if (key, variant) in known:  # it has refused
            return None
        entry = compiled(variant, small, pred, target, grad)
        entries[key] = *entries.get(key, ()), entry
        known.add((key, variant))
        value = entry(pred, target, grad)
        return value

    return quick


def _is_plain(pred: Array, grad: Array | None) -> bool:
    """Whether pred and grad, both contiguous, are of a type and shape that kernels take."""
    if pred.dtype not in FLOATS or not pred.size:
        return False
    return grad is None or (
        grad.flags.carray and grad.dtype == pred.dtype and grad.shape == pred.shape
    )
