"""Point and row functions: the mathematics of a loss as functions for other compiled code."""

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from fastloss import _engine
from fastloss._drivers.rows import BlockArguments
from fastloss._jit import INLINED, LOOPS, MATHEMATICS
from fastloss._llvm import on_stack, own_function
from fastloss._loss import Loss
from fastloss._nopython.building import (
    Function,
    chosen,
    in_tuple,
    is_absent,
    options_of,
    refuse,
    unique_name,
    written,
    yes,
)
from fastloss.losses import find, names, no_attribute

FLOATS = (types.float32, types.float64)

NO_FUNCTION = "every row meets all others; expected a loss of single rows"


def has_function(loss: Any) -> bool:
    """Whether a loss is a function of points or of single rows, and not of all rows at once."""
    from fastloss._families.rows import RowLoss  # which imports this module

    return loss.family != "rowwise" or type(loss)._launch is RowLoss._launch


def require_function(loss: Any, caller: str) -> None:
    """Refuse what is not a loss, and a loss that is no function of points or single rows."""
    if not isinstance(loss, Loss):
        raise TypeError(f"{caller}: loss is {loss!r}; expected a loss such as fastloss.huber")
    if not has_function(loss):
        raise ValueError(f"{loss.name}: {NO_FUNCTION}")


def attribute_of(module: str, name: str) -> Loss:
    """Return the loss whose function is an attribute of a module, or raise the error of none."""
    if name not in names():
        raise no_attribute(module, name)
    loss = find(name)
    if not has_function(loss):
        raise no_attribute(module, name, f": {NO_FUNCTION}")
    return loss


def gradients_of(loss: Any) -> tuple[str, ...]:
    """Return the names of the gradients that a row function fills."""
    if not loss._other_names:
        return ("grad",)
    return tuple(f"{name}_grad" for name in (loss._pred_name, *loss._other_names))


def parameters_of(loss: Any) -> dict[str, Any]:
    """Return the arrays of a loss's point or row function: their names, and defaults if any."""
    if loss.family == "elementwise":
        others = loss._properties["second"] or ()
    else:
        others = gradients_of(loss)
    return {**dict.fromkeys(loss._arguments, ...), **dict.fromkeys(others)}


def function_of(loss: Any) -> Function:
    """Return ``f(arrays, options)`` for compiled code: a loss's point or row function.

    The tuples hold what `parameters_of` names, and the options as kernels take them.
    """
    return {"elementwise": _point, "rowwise": _row, "softmax": _softmax_row}[loss.family](loss)


def _point(loss: Any) -> Function:
    """Return the function of numbers ``(pred, target)`` and, for some losses, a second input."""
    point = _engine.point_function(loss._scalar)
    names = list(parameters_of(loss))

    def choose(arrays, values):
        pred, *others = arrays.types
        if pred not in FLOATS:
            refuse(loss, names[0], pred, "float32 or float64")
        for name, kind in zip(names[1:], others, strict=True):
            optional = name in names[2:] and is_absent(kind)
            if not optional and not isinstance(kind, (types.Number, types.Boolean)):
                refuse(loss, name, kind, "a number")
        if len(names) == 2:
            return lambda arrays, values: point(arrays[0], pred(arrays[1]), *values)
        given = [k for k, kind in enumerate(arrays.types) if k > 1 and not is_absent(kind)]
        if len(given) != 1:
            got = f"given beside {names[3]}" if given else "missing"
            refuse(loss, names[2], got, f"either {names[2]} or {names[3]}")
        (k,) = given
        logarithm = (True if k == 3 else None,)

        def call(arrays, values):
            return point(arrays[0], pred(arrays[1]), pred(arrays[k]), *(logarithm + values))

        return call

    return chosen(unique_name(loss, "point"), MATHEMATICS, choose)


def targets_of(loss: Any) -> tuple[bool, bool]:
    """Return whether a loss takes labels, and whether it takes targets like its predictions."""
    if loss.family != "rowwise":
        return loss.family == "softmax", True
    return loss._takes_labels, bool(loss._target_name) and loss._row_function(True) is not None


def _type_of_rows(loss: Any, arrays: Any) -> Any:
    """Return the type of a row function's numbers; refuse arguments that it does not take."""
    names = list(parameters_of(loss))
    inputs = {loss._pred_name, *loss._other_names}
    T = getattr(arrays.types[0], "dtype", None)
    row = f"a contiguous row of {T if T in FLOATS else 'float32 or float64'}"
    grads = arrays.types[len(loss._arguments) :]
    for name, kind in zip(names, arrays.types, strict=True):
        is_row = isinstance(kind, types.Array) and T in FLOATS and kind.dtype == T
        is_row = is_row and (kind.ndim, kind.layout) == (1, "C")
        if name in inputs:
            accepted, expected = is_row, row
        elif name == loss._target_name:
            label, dense = targets_of(loss)
            accepted = (dense and is_row) or (label and isinstance(kind, types.Integer))
            expected = " or ".join(["an integer label"] * label + [row] * dense)
        else:
            accepted = (is_row and kind.mutable) or all(map(is_absent, grads))
            expected = f"{row} to be written to, or None"
            expected += " for all gradients" if len(grads) > 1 else ""
        if not accepted:
            refuse(loss, name, kind, expected)
    return T


def _row(loss: Any) -> Function:
    """Return the function of rows, a target and the gradients to be filled."""
    count, before = len(loss._arguments), 1 + len(loss._other_names)
    curvature = (None,) * loss._properties["hessian"]

    def choose(arrays, values):
        T = _type_of_rows(loss, arrays)
        labelled = before < count and isinstance(arrays.types[before], types.Integer)
        dense = before < count and not labelled
        row = _engine.row_function(loss._row_function(True) if dense else loss._scalar)
        if not labelled:

            def call(arrays, values):
                own_function()
                return T(row(*(arrays + curvature + values)))

            return call

        def call_with_label(arrays, values):
            own_function()
            if np.uint64(arrays[before]) >= np.uint64(arrays[0].size):
                spoil(arrays[count:])
                return T(np.nan)
            label = (np.uintp(arrays[before]),)
            return T(row(*(arrays[:before] + label + arrays[count:] + curvature + values)))

        return call_with_label

    return chosen(unique_name(loss, "row"), LOOPS, choose)


def softmax_arguments(loss: Any, values: Any) -> dict[str, str]:
    """Return what the templates of the softmax family take of the options: expressions.

    `values` is the type of a tuple of the options; those that the templates handle are of float64.
    """
    taken = {
        key: f"values[{i}]"
        for i, (key, kind) in enumerate(zip(options_of(loss), values.types, strict=True))
        if not is_absent(kind)
    }
    own = [key for key in options_of(loss) if key not in loss.handled_options]

    def handled(key, form):
        return form.format(taken[key]) if key in taken else "None"

    return {
        "smoothing": handled("label_smoothing", "(T(1.0 - {0}), T({0} / classes))"),
        "clip": handled("eps", "(T({0}), T(1.0 - {0}))"),
        "temperature": handled("temperature", "T({0})"),
        "z_loss": handled("z_loss", "T({0})"),
        "curved": "yes()" if loss._curved else "None",
        "options": in_tuple(taken.get(key, "None") for key in own),
    }


def _softmax_row(loss: Any) -> Function:
    """Return the function ``(logits, target, grad)``: the family's template, over a single row."""

    def choose(arrays, values):
        T = _type_of_rows(loss, arrays)
        labelled = isinstance(arrays.types[1], types.Integer)
        taken = softmax_arguments(loss, values)
        soft = not labelled or taken["smoothing"] != "None"
        block = _engine.softmax_rows(loss._scalar, soft)
        label = [
            "    labels = on_stack(np.int64, 1)",
            "    labels[0] = target",
            "    if np.uint64(target) >= np.uint64(logits.size):",
            "        spoil((grad,))",
            "        return T(np.nan)",
        ]
        arguments = BlockArguments(
            logits="logits", labels="labels" if labelled else None,
            dense=None if labelled else "target", grad="grad", **taken,
            ignore_index="none_ignored", classes="classes", inner="1", start="0", stop="1",
            share="1.0", assumed="False",
        )  # fmt: skip
        lines = [
            "    logits, target, grad = arrays",
            *(label if labelled else []),
            "    classes = logits.size",
            f"    return T(block({', '.join(map(str, arguments))})[0])",
        ]
        bindings = {
            "T": T, "block": block, "none_ignored": np.int64(-1),
            "np": np, "on_stack": on_stack, "spoil": spoil, "yes": yes,
        }  # fmt: skip
        return written("row", "arrays, values", lines, bindings)

    return chosen(unique_name(loss, "row"), MATHEMATICS, choose)


def spoil(grads):
    """Fill gradients with NaN, if there are any."""


@overload(spoil, jit_options=INLINED)
def _spoil(grads):
    if is_absent(grads[0]):
        return lambda grads: None

    def implementation(grads):
        for k in range(len(grads)):
            grads[k][:] = np.nan

    return implementation
