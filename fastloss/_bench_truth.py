"""How far each candidate of ``fastloss bench`` is from the truth, which is taken in longdouble."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastloss._peers import Array, Candidate, Work

TRUTH_ELEMENTS = 2**18
"""So many gradient entries, those of the first rows, are compared with the truth."""

WHOLE = ("info_nce",)
"""The losses whose rows depend on each other: no part of a batch has a loss of its own."""


@dataclass(frozen=True)
class Truth:
    """The mean loss and the gradient of the first rows, in longdouble."""

    value: Any
    gradient: Array
    floor: Any  # smaller gradient entries are not known well enough


def truth(work: Work) -> Truth | None:
    """Return the truth, or None where longdouble is no wider than the arrays' type."""
    loss, pred, exact = work.loss, work.pred, work.peers.exact
    if loss.name in WHOLE and len(pred) * pred.size > TRUTH_ELEMENTS**2 // 64:
        return None
    narrow, wide = np.finfo(pred.dtype), np.finfo(np.longdouble)
    if wide.eps > narrow.eps / 256:
        return None
    rows = len(pred) if loss.name in WHOLE else max(1, TRUTH_ELEMENTS * len(pred) // pred.size)
    total, first = np.longdouble(0), None
    for start in range(0, len(pred), rows):
        part = tuple(_widened(array[start : start + rows]) for array in work.arrays)
        named = {name: _widened(x[start : start + rows]) for name, x in work.keywords.items()}
        if exact is not None:
            losses, gradient = exact(*part)
            total += losses.sum()
        else:
            value, gradient = loss.reference(*part, **named, reduction="sum")
            gradient = gradient[0] if isinstance(gradient, tuple) else gradient
            total += value
        if first is None:
            first = gradient / work.count
    assert first is not None
    floor = narrow.tiny
    if exact is None:  # the textbook formula loses small entries in a difference
        floor = max(floor, np.abs(first).max() * wide.eps / narrow.eps * 64)
    return Truth(total / work.count, first, floor)


def error(work: Work, candidate: Candidate, true: Truth | None) -> float:
    """Return a candidate's largest error, of the value and the gradient, in ulp of their type."""
    if true is None:
        return math.nan
    value, gradient = candidate.result(candidate.call())
    worst = _ulps(np.asarray(value), np.asarray(true.value), work.pred.dtype)
    if work.gradient:
        known = np.abs(true.gradient) >= true.floor
        got = gradient[: len(true.gradient)]
        worst = max(worst, _ulps(got[known], true.gradient[known], work.pred.dtype))
    return worst


def _ulps(got: Array, true: Array, dtype: np.dtype[Any]) -> float:
    ulp = np.spacing(np.abs(true).astype(dtype)).astype(np.longdouble)
    worst = float(np.max(np.abs(got.astype(np.longdouble) - true) / ulp, initial=0))
    return math.inf if math.isnan(worst) else worst


def _widened(array: Array) -> Array:
    return array.astype(np.longdouble) if array.dtype.kind == "f" else array
