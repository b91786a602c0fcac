"""The public losses in nopython code: ``fl.huber(pred, target)`` and its methods.

Numba sees a loss as a value of `LossType`, its methods too. A call is checked when it is compiled
(the types of all arguments) and when it runs (shapes, domains, labels), and runs the very kernel
that a call from Python runs serially, so the bits are the same.
"""

from functools import cache
from typing import Any

import numba
from numba import njit, types
from numba.core.datamodel import models, register_default
from numba.core.errors import TypingError
from numba.core.imputils import lower_getattr_generic
from numba.core.registry import cpu_target
from numba.core.typing.templates import AttributeTemplate
from numba.extending import NativeValue, infer_getattr, unbox

from fastloss import _validate as check
from fastloss._jit import LOOPS, MATHEMATICS
from fastloss._nopython.building import (
    chosen,
    is_absent,
    options_of,
    reading,
    refuse,
    taking,
    unique_name,
    with_parameters,
)
from fastloss._nopython.functions import FLOATS, has_function, targets_of
from fastloss._nopython.launching import Launch

CALL = "__call__"

METHODS = ("value_and_grad", "grad")
"""The methods that a loss has in nopython code."""

REDUCTIONS = ("mean", "batchmean", "sum")


class LossType(types.Callable, types.Dummy):
    """The Numba type of a loss, or of one of its methods."""

    def __init__(self, loss: Any, method: str = CALL) -> None:
        self.loss, self.method = loss, method
        super().__init__(loss.name if method == CALL else f"{loss.name}.{method}")

    @property
    def key(self) -> Any:
        return self.loss, self.method

    @property
    def _callable(self) -> Any:
        return numba.typeof(_dispatcher(self.loss, self.method))

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """Return the signature of a call with arguments of these types, which is compiled."""
        _check(self.loss, self.method, args, dict(kws))
        return self._callable.get_call_type(context, args, kws)

    def get_call_signatures(self) -> Any:
        return self._callable.get_call_signatures()

    def get_impl_key(self, sig: Any) -> Any:
        return self._callable.get_impl_key(sig)


register_default(LossType)(models.OpaqueModel)


@unbox(LossType)
def _(kind, value, context):  # a loss as an argument: all there is to it is its type
    return NativeValue(context.context.get_dummy_value())


@infer_getattr
class _Methods(AttributeTemplate):
    key = LossType

    def generic_resolve(self, kind: Any, name: str) -> Any:
        if name == CALL:  # Numba asks before it takes a type for callable itself
            return None
        if name not in METHODS or kind.method != CALL:
            known = " or ".join(METHODS)
            raise TypingError(
                f"{kind.name}.{name} does not exist in nopython code; expected {known}"
            )
        return LossType(kind.loss, name)


@lower_getattr_generic(LossType)
def _(context, builder, kind, value, name):
    return context.get_dummy_value()


def _parameters_of(loss: Any, method: str) -> dict[str, Any]:
    """Return the parameters of a call but for the options, and their defaults."""
    common = ["grad_out"] if method != CALL else []
    common += [*(loss._properties.get("second") or ()), "sample_weight"]
    common += [name for name in ("class_weight", "ignore_index") if name in loss.family_keywords]
    return {**dict.fromkeys(loss._arguments, ...), **dict.fromkeys([*common, "reduction"])}


@cache
def _dispatcher(loss: Any, method: str) -> Any:
    """Return the function that a call of a loss, or of one of its methods, is."""
    parameters, name = _parameters_of(loss, method), unique_name(loss, method)

    def choose(arrays, values):
        kinds = dict(zip(parameters, arrays.types, strict=True))
        return Launch(loss, kinds, values).function(method)

    body = taking(loss, chosen(name, LOOPS, choose), checked=True)
    options = dict.fromkeys(options_of(loss))
    return njit(**MATHEMATICS)(with_parameters(body, name, parameters, options))


def _check(loss: Any, method: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    """Refuse a call with arguments of these types, as Python would or since it is not possible."""
    if not has_function(loss):
        raise TypingError(f"{loss.name}: every row meets all others; expected a call from Python")
    parameters, options = _parameters_of(loss, method), options_of(loss)
    positional = [*loss._arguments, *(["grad_out"] if method != CALL else [])]
    if not len(loss._arguments) <= len(arguments) <= len(positional):
        raise TypingError(check.wrong_number(loss.name, len(arguments), positional))
    kinds = dict(zip(positional, arguments, strict=False))
    known = [name for name in {**parameters, **options} if name not in kinds]
    for name in keywords:
        if name not in known:
            raise TypingError(
                f"{loss.name}: unknown keyword argument {name!r} in nopython code; expected one of "
                f"{', '.join(known)}"
            )
    kinds = {**dict.fromkeys({**parameters, **options}, types.none), **kinds, **keywords}
    _check_arrays(loss, kinds)
    for key in options:
        reading(loss, key, kinds[key], kinds[loss._pred_name].dtype)


def _is_array(kind: Any, ndim: int, *dtypes: Any) -> bool:
    """Whether a type is that of C-contiguous arrays of one of these types or classes of types."""
    return (
        isinstance(kind, types.Array)
        and (kind.ndim, kind.layout) == (ndim, "C")
        and (kind.dtype in dtypes or type(kind.dtype) in dtypes)
    )


def _check_arrays(loss: Any, kinds: dict[str, Any]) -> None:
    """Refuse arrays and keywords, other than options, of types that a call does not take."""
    pred = kinds[loss._pred_name]
    least = 1 if loss.family == "elementwise" else 2
    ndim, T = getattr(pred, "ndim", least), getattr(pred, "dtype", None)
    array = f"a {{}}-dimensional C-contiguous array of {T}".format

    def expect(name, accepted, expected):
        if not accepted:
            refuse(loss, name, kinds[name], expected)

    expect(
        loss._pred_name,
        ndim >= least and _is_array(pred, ndim, *FLOATS),
        f"a C-contiguous array of float32 or float64, of {least} or more dimensions",
    )
    for name in loss._other_names:
        if loss.family == "rowwise":
            expect(name, _is_array(kinds[name], ndim, T), array(ndim))
    if loss._target_name:
        target = kinds[loss._target_name]
        label, dense = targets_of(loss)
        labelled = label and _is_array(target, ndim - 1, types.Integer)
        expected = [f"a {ndim - 1}-dimensional C-contiguous array of integers"] * label + [
            array(ndim)
        ] * dense
        numbers = dense and _is_array(target, ndim, T, types.Integer, types.Boolean)
        expect(loss._target_name, labelled or numbers, " or ".join(expected))
    second = loss._properties.get("second")
    if second:
        named = [name for name in second if not is_absent(kinds[name])]
        if len(named) != 1:
            got = f"given beside {second[1]}" if named else "missing"
            refuse(loss, second[0], got, f"either {second[0]} or {second[1]}")
        expect(named[0], _is_array(kinds[named[0]], ndim, T), array(ndim))
    outs = kinds.get("grad_out", types.none)
    if not is_absent(outs):
        count = 1 + len(loss._other_names)
        one_by_one = (outs,) if count == 1 else getattr(outs, "types", ())
        fit = all(_is_array(out, ndim, T) and out.mutable for out in one_by_one)
        buffers = array(ndim) if count == 1 else f"a tuple of {count}, each {array(ndim)}"
        expect("grad_out", fit and len(one_by_one) == count, f"{buffers}, to be written to")
    weight, ndims = kinds["sample_weight"], sorted({1, ndim} if least == 1 else {ndim - 1})
    expect("sample_weight", is_absent(weight) or any(_is_array(weight, n, T) for n in ndims),
           array(" or ".join(map(str, ndims))))  # fmt: skip
    if not is_absent(kinds.get("class_weight", types.none)):
        expect("class_weight", _is_array(kinds["class_weight"], 1, T), array(1))
    if not is_absent(kinds.get("ignore_index", types.none)):
        expect("ignore_index", isinstance(kinds["ignore_index"], types.Integer), "an integer")
    reduction = kinds["reduction"]
    known = isinstance(reduction, types.StringLiteral) and reduction.literal_value in REDUCTIONS
    expect("reduction", known or is_absent(reduction),
           " or ".join(map(repr, REDUCTIONS)) + ", written in the call")  # fmt: skip


# The first loss of a process is met while the function that calls it is compiled already.
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()
