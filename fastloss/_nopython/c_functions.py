"""The losses as C functions: their parameters, and the code between them and a point or row.

Parameters stand in one order: what the loss is of (rows with their `size`), the options, and
pointers to where the derivatives go.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from fastloss import _engine
from fastloss._digest import IN_MEMORY, source_digest
from fastloss._jit import MATHEMATICS
from fastloss._nopython.building import (
    Function,
    chosen,
    in_tuple,
    is_absent,
    options_of,
    taking,
    unique_name,
    unused,
    with_parameters,
    written,
)
from fastloss._nopython.functions import function_of, gradients_of, targets_of
from fastloss._options import Choice, Flag, Option

C_NAMES = {
    types.float32: "float", types.float64: "double", types.int32: "int", types.int64: "int64_t"
}  # fmt: skip


_WORDS = """
alignas alignof and_eq asm auto bitand bitor bool case catch char char16_t char32_t char8_t class
co_await co_return co_yield compl concept const const_cast consteval constexpr constinit decltype
default delete do double dynamic_cast enum explicit export extern false float friend goto inline int
int64_t long mutable namespace new noexcept not_eq nullptr operator or_eq private protected public
register reinterpret_cast requires restrict short signed sizeof static static_assert static_cast
struct switch template this thread_local throw true typedef typeid typename typeof union unsigned
using virtual void volatile wchar_t xor xor_eq
"""
KEYWORDS = frozenset(_WORDS.split())
"""What no parameter can be called in C or in C++, and can in Python."""


class Parameter(NamedTuple):
    """A parameter of a C function: its name, its type, and whether it is written to."""

    name: str
    kind: Any
    is_output: bool = False

    def __str__(self) -> str:
        """Return how it is declared."""
        if not isinstance(self.kind, types.CPointer):
            return f"{C_NAMES[self.kind]} {self.name}"
        return f"{'' if self.is_output else 'const '}{C_NAMES[self.kind.dtype]} *{self.name}"


def variants_of(loss: Any) -> tuple[str, ...]:
    """Return the names of the forms that a loss has in C; that of the plain one is empty."""
    if loss.family == "elementwise":
        return ("", *(loss._properties["second"] or ())[1:])
    return ("", "dense") if all(targets_of(loss)) else ("",)


def parameters_of(loss: Any, variant: str, T: Any) -> tuple[list[Parameter], ...]:
    """Return the parameters of a C function: those of the loss, its options, its derivatives.

    Underscores are added to the names that C could not take, or that two parameters would have.
    """
    taken, groups = set(KEYWORDS), _parameters_of(loss, variant, T)
    for group in groups:
        for k, parameter in enumerate(group):
            group[k] = parameter._replace(name=unused(parameter.name, taken))
            taken.add(group[k].name)
    return groups


def _parameters_of(loss: Any, variant: str, T: Any) -> tuple[list[Parameter], ...]:
    pointer = types.CPointer(T)
    options = [
        Parameter(name, types.int32 if isinstance(option, (Flag, Choice)) else T)
        for name, option in options_of(loss).items()
    ]
    if loss.family == "elementwise":
        inputs = [Parameter(name, T) for name in loss._arguments]
        outs = ["slope", "curvature"]
        if loss._other_names:
            second = variant or loss._properties["second"][0]
            inputs.append(Parameter(second, T))
            outs += [f"{second}_slope", f"{second}_curvature"]
        return inputs, options, [Parameter(name, pointer, True) for name in outs]
    rows = [Parameter(name, pointer) for name in (loss._pred_name, *loss._other_names)]
    if loss._target_name:
        labelled = targets_of(loss)[0] and not variant
        rows.append(Parameter(loss._target_name, types.int64 if labelled else pointer))
    size = Parameter("size", types.int64)
    return [*rows, size], options, [Parameter(name, pointer, True) for name in gradients_of(loss)]


def c_function(loss: Any, variant: str, T: Any) -> Any:
    """Return the compiled C function."""
    inputs, options, outs = parameters_of(loss, variant, T)
    role = f"c_{variant}" if variant else "c"
    choose = _point if loss.family == "elementwise" else _row
    last = chosen(unique_name(loss, f"{role}_last"), MATHEMATICS, choose(loss, variant))
    arrays, values = (dict.fromkeys([x.name for x in group], ...) for group in (inputs, options))
    function = with_parameters(
        taking(loss, last, from_c=True), unique_name(loss, role), arrays, values,
        [out.name for out in outs],
    )  # fmt: skip
    signature = T(*(parameter.kind for parameter in (*inputs, *options, *outs)))
    return _compiled(loss, function, signature)


def scipy_function(loss: Any, variant: str) -> Any:
    """Return the compiled C function ``double f(int n, double *x)`` of a point's n numbers."""
    function = function_of(loss)
    inputs = parameters_of(loss, variant, types.float64)[0]
    given = _with_second(loss, variant, [f"arrays[{i}]" for i in range(len(inputs))])
    line = f"    return function({in_tuple(given)}, values)[0]"

    def choose(arrays, values):
        return written("call", "arrays, values", [line], {"function": function})

    role = f"scipy_{variant}" if variant else "scipy"
    body = taking(loss, chosen(unique_name(loss, f"{role}_last"), MATHEMATICS, choose), from_c=True)
    count = len(inputs)
    values = [
        f"x[{i}] if n > {i} else {_default(option)!r}"
        for i, option in enumerate(options_of(loss).values(), count)
    ]
    name = unique_name(loss, role)
    arrays = in_tuple(f"x[{i}]" for i in range(count))
    call = f"    return body({arrays}, {in_tuple(values)})"
    signature = types.float64(types.int32, types.CPointer(types.float64))
    of_numbers = written(name, "n, x", [call], {"body": body, "nan": np.nan})
    return _compiled(loss, of_numbers, signature)


def _default(option: Option) -> float:
    """Return an option's default as a number."""
    if isinstance(option, Choice):
        return 0.0
    return np.nan if option.default is None else float(option.default)


def _compiled(loss: Any, function: Any, signature: Any) -> Any:
    stored = source_digest(loss._scalar) != IN_MEMORY
    return _engine.c_function(function, signature, stored)


def _with_second(loss: Any, variant: str, given: list[str]) -> list[str]:
    """Return the arguments of a point function, with None for the second input's other form."""
    if loss._other_names:
        given = [*given]
        given.insert(2 if variant else 3, "None")
    return given


def _point(loss: Any, variant: str) -> Function:
    """Return how the code is chosen that calls the point function."""
    function = function_of(loss)
    inputs, _, outs = parameters_of(loss, variant, types.float64)

    def choose(arrays, values):
        given = _with_second(loss, variant, [f"arrays[{i}]" for i in range(len(inputs))])
        lines = [
            f"    result = function({in_tuple(given)}, values)",
            *(f"    store(arrays[{len(inputs) + k}], result[{k + 1}])" for k in range(len(outs))),
            "    return result[0]",
        ]
        return written("call", "arrays, values", lines, {"function": function, "store": store})

    return choose


def _row(loss: Any, variant: str) -> Function:
    """Return how the code is chosen that calls the row function."""
    function = function_of(loss)
    inputs = parameters_of(loss, variant, types.float64)[0]
    size = f"arrays[{len(inputs) - 1}]"

    def choose(arrays, values):
        views = [
            f"carray(arrays[{i}], ({size},))"
            if isinstance(kind, types.CPointer)
            else f"arrays[{i}]"
            for i, kind in enumerate(arrays.types)
        ]
        rows, grads = views[: len(inputs) - 1], views[len(inputs) :]
        lines = [
            f"    if {size} < 1:",
            "        return nan",
            f"    if is_null(arrays[{len(inputs)}]):",
            f"        return function({in_tuple([*rows, *['None'] * len(grads)])}, values)",
            f"    return function({in_tuple([*rows, *grads])}, values)",
        ]
        bindings = {"carray": carray, "function": function, "is_null": is_null}
        bindings["nan"] = np.dtype(arrays.types[0].dtype.name).type(np.nan)
        return written("call", "arrays, values", lines, bindings)

    return choose


@intrinsic
def is_null(typing_context, pointer):
    """Whether a pointer is NULL."""

    def generate(context, builder, signature, arguments):
        return cgutils.is_null(builder, arguments[0])

    return types.boolean(pointer), generate


@intrinsic
def store(typing_context, pointer, value):
    """Store a number where a pointer leads, unless it is NULL; NaN where there is no number."""

    def generate(context, builder, signature, arguments):
        target, number = arguments
        if is_absent(value):
            number = context.get_constant(pointer.dtype, np.nan)
        with builder.if_then(cgutils.is_not_null(builder, target)):
            builder.store(number, target)
        return context.get_dummy_value()

    return types.void(pointer, value), generate
