"""What ``fastloss warmup`` calls, so that the kernels of later processes are in the disk cache."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from fastloss._loss import Loss
from fastloss._threads import PARALLEL_NANOSECONDS

FEW, MANY = 10, 100
"""Numbers of classes, for which some losses have kernels of their own."""


def calls(loss: Loss, dtype: str) -> Iterator[Callable[[], Any]]:
    """Yield calls that compile a loss's kernels of the common kinds.

    Value and gradient, with and without weights, small batches and parallel ones, few classes and
    many, labels of int64 and dense targets. Kernels of other options and types are compiled when
    they are first needed.

    Parameters
    ----------
    loss : Loss
        Of the catalogue.
    dtype : str
        "float32" or "float64".

    Yields
    ------
    callable
        Without arguments.
    """
    for arrays in _batches(loss, dtype):
        second = loss._properties.get("second")  # gaussian_nll's variance is named
        named = {second[0]: np.ones_like(arrays[0])} if second else {}
        weight = np.ones(len(arrays[0]), dtype)
        yield partial(loss, *arrays, **named)
        for keywords in ({}, {"num_threads": 1}, {"sample_weight": weight}):
            yield partial(loss.value_and_grad, *arrays, **named, **keywords)


def _batches(loss: Loss, dtype: str) -> Iterator[tuple[Any, ...]]:
    """Yield the arrays of small and of parallel calls."""
    rng = np.random.default_rng(0)
    dense = getattr(loss, "_dense_function", None)
    both = loss.family == "softmax" or dense is not None
    tiled = loss.family == "softmax" or any(
        getattr(function, "tiled", False) for function in (loss._scalar, dense)
    )
    for classes in (FEW, MANY) if tiled else (FEW,):
        for rows in (16, int(2 * PARALLEL_NANOSECONDS / loss._nanoseconds) // classes + 1):
            arrays = loss.sample(rng, dtype, (rows, classes))
            yield arrays
            if both:
                yield arrays[0], np.full_like(arrays[0], 1 / classes)
            if loss.family == "elementwise":
                yield tuple(array.ravel() for array in arrays)
