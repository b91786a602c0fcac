"""The quick path of the plainest calls: no options, arrays that the kernels take as they are.

On a batch of 32 rows the full checks would cost ten times what the loss does. Each function here
makes the quick path of one loss, a function of (pred, target, grad or None) that returns the mean
loss, or None where the call is not that plain: the full checks then decide, errors included. Large
batches are checked here; for small ones Numba's dispatch, which has to look at the types of its
arguments anyway, is the check: an entry is compiled for one set of plain arrays and refuses others.
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

LABELS = frozenset(np.dtype(code) for code in "bBhHiIlLqQ")


def elementwise(scalar: FunctionType, nanoseconds: float, options: Options) -> Quick:
    """Return the quick path of an elementwise loss; `options` are its defaults for each dtype."""
    small = _engine.PARALLEL_NANOSECONDS / nanoseconds
    entries: dict[Any, Any] = {}

    def admits(pred: Array, target: Array, grad: Array | None) -> bool:
        return _is_plain(pred, grad) and target.dtype == pred.dtype and target.shape == pred.shape

    def quick(pred: Array, target: Array, grad: Array | None) -> float | None:
        if not (pred.flags.carray and target.flags.carray):
            return None
        if pred.size < small:
            key = pred.dtype.num, pred.ndim, grad is None
            if key not in entries:
                if not admits(pred, target, grad):
                    return None
                own = options[pred.dtype]
                arguments = pred, target, grad, own
                entry = _engine.compiled_entry(_engine.elementwise_entry, (scalar,), *arguments)
                entries[key] = entry, own
            entry, own = entries[key]
            try:
                value, status = entry(pred, target, grad, own)
            except TypeError:  # bytes swapped, or a target or gradient of another type
                return None
        elif admits(pred, target, grad):
            value, status = _engine.run(
                _engine.elementwise_kernel,
                (scalar, True),
                (pred.ravel(), target.ravel(), None if grad is None else grad.ravel(), None, None,
                 None, None, None, options[pred.dtype], math.nan, 1.0, None),
                nanoseconds * pred.size,
            )  # fmt: skip
        else:
            return None
        return value if status == -1 else None

    return quick


def softmax(scalar: FunctionType, nanoseconds: float, options: Options) -> Quick:
    """Return the quick path of a softmax loss: 2-D logits, labels or dense targets."""
    small = _engine.PARALLEL_NANOSECONDS / nanoseconds
    entries: dict[Any, Any] = {}

    def admits(pred: Array, target: Array, grad: Array | None) -> bool:
        if target.shape == pred.shape:
            return _is_plain(pred, grad) and target.dtype == pred.dtype
        return _is_plain(pred, grad) and target.shape == pred.shape[:1] and target.dtype in LABELS

    def quick(pred: Array, target: Array, grad: Array | None) -> float | None:
        shape = pred.shape
        if len(shape) != 2 or not (pred.flags.carray and target.flags.carray):
            return None
        tiled = shape[1] <= TILE_CLASSES
        if pred.size < small:
            key = pred.dtype.num, target.dtype.num, target.ndim, tiled, grad is None
            if key not in entries:
                if not admits(pred, target, grad):
                    return None
                own = options[pred.dtype]
                variant, arguments = (scalar, tiled, target.ndim == 2), (pred, target, grad, own)
                entry = _engine.compiled_entry(_engine.softmax_entry, variant, *arguments)
                entries[key] = entry, own
            entry, own = entries[key]
            try:
                value, status = entry(pred, target, grad, own)
            except TypeError:  # bytes swapped, or a gradient of another type
                return None
        elif admits(pred, target, grad):
            soft = target.ndim == 2
            value, status = _engine.run(
                _engine.softmax_kernel,
                (scalar, soft, tiled),
                (pred.ravel(), None if soft else target, target.ravel() if soft else None,
                 None if grad is None else grad.ravel(), None, None, None, None, None, None, None,
                 None, options[pred.dtype], -100, shape[0], shape[1], 1, math.nan, 1.0),
                nanoseconds * pred.size,
            )  # fmt: skip
        else:
            return None
        return value if status == -1 else None

    return quick


def _is_plain(pred: Array, grad: Array | None) -> bool:
    """Whether pred and grad, both contiguous, are of a type and shape that kernels take."""
    if pred.dtype not in FLOATS or not pred.size:
        return False
    return grad is None or (
        grad.flags.carray and grad.dtype == pred.dtype and grad.shape == pred.shape
    )
