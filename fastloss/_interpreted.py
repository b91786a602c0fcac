"""A user's own function run by plain Python, number by number: the reference of the user's losses.

It runs in whatever type the numbers have, longdouble and complex ones too. If it returns no slope,
the slope is found by a complex step, and by differences where that fails; so the reference owes
nothing to dual numbers, and compares with what they give.
"""

import warnings
from collections.abc import Callable, Mapping
from itertools import repeat
from typing import Any

import numpy as np

from fastloss._options import Option
from fastloss._own import Own
from fastloss._validate import Array

Formula = Callable[..., tuple[Array, Any]]
Values = Callable[[Array], Array]

STEP = 1e-30
"""Of the complex step: its square is lost beside 1, which makes the slope exact."""


def slope_of(values: Values, x: Array) -> tuple[Array, Array]:
    """Return the derivative of an elementwise function at real or complex x, and the steps taken.

    By a complex step, which counts as 0, where the real part of what it gives is the value (and
    not another branch of a logarithm or a root); else by central differences, extrapolated.
    """
    real = x.real.dtype.type
    step = np.maximum(abs(x), real(1e-3)) * np.finfo(real).eps ** real(0.2)

    def central(h: Array) -> Array:
        above, below = x + h, x - h
        return np.asarray((values(above) - values(below)) / (above - below))

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        rough = (4 * central(step / 2) - central(step)) / 3
        if x.dtype.kind == "c":
            return rough, step
        try:
            found = values(x + 1j * real(STEP))
        except (TypeError, ValueError, np.exceptions.ComplexWarning):  # it takes no complex numbers
            return rough, step
        true = values(x)
        exact = abs(found.real - true) <= 1e-9 * (1 + abs(true))
        return np.where(exact, found.imag / real(STEP), rough), np.where(exact, 0, step)


def formula_of_points(own: Own, options: Mapping[str, Option]) -> Formula:
    """Return an elementwise function as a formula of arrays, which gives the loss and its slope."""

    def formula(pred: Array, target: Array, /, **given: Any) -> tuple[Array, Array]:
        values = _as_in_kernels(given, options, pred)
        rest = [np.broadcast_to(x, pred.shape).flat if np.ndim(x) else repeat(x) for x in values]

        def results(x: Array) -> list[Any]:
            with np.errstate(all="ignore"):
                numbers = zip(x.flat, target.flat, *rest, strict=False)
                return [own.interpreted(*of_one) for of_one in numbers]

        def losses(x: Array) -> Array:
            found = (y[0] if isinstance(y, tuple) else y for y in results(x))
            return np.fromiter(found, x.dtype, x.size).reshape(x.shape)

        found = results(pred)
        if any(isinstance(result, tuple) for result in found):
            pair = np.array([result[:2] for result in found], pred.dtype).reshape(-1, 2)
            return pair[:, 0].reshape(pred.shape), pair[:, 1].reshape(pred.shape)
        return losses(pred), slope_of(losses, pred)[0]

    return formula


def formula_of_rows(
    own_of: Callable[[bool], Own], options: Mapping[str, Option], inputs: int, hessian: bool
) -> Formula:
    """Return a function of rows as a formula of arrays, which gives the loss and its gradients.

    `own_of` gives the one for labels (False), or for a dense target or none (True).
    """

    def formula(*arrays: Array, **given: Any) -> tuple[Array, Any]:
        pred, targets = arrays[0], arrays[inputs:]
        own = own_of(not targets or targets[0].ndim == pred.ndim)
        values = _as_in_kernels(given, options, pred)
        losses = np.empty(pred.shape[:-1], pred.dtype)
        outs = [np.zeros_like(pred) for _ in range(inputs + hessian)]
        with np.errstate(all="ignore"):
            for row in np.ndindex(losses.shape):
                rows = (array[row] for array in (*arrays, *outs))
                losses[row] = own.interpreted(*rows, *values)
        return losses, tuple(outs[:inputs]) if inputs > 1 else outs[0]

    return formula


def _as_in_kernels(
    given: Mapping[str, Any], options: Mapping[str, Option], pred: Array
) -> list[Any]:
    """Return the options as the function gets them: of pred's own type, None where switched off."""
    real = pred.real.dtype
    return [
        given[name].astype(real)
        if isinstance(given[name], np.ndarray)
        else option.for_kernel(given[name], real)
        for name, option in options.items()
    ]
