"""Dual numbers in compiled code: a number with its first and second derivative by the prediction.

A loss whose file states no derivative is run on `variable` of pred in its place: what it returns
holds slope and curvature (forward-mode differentiation). Here is the type that Numba takes such
numbers for, and what all rules are made of; `_dual_operators` has the operators of Python, abs, min
and max, `_functions` the functions of NumPy and `math`.

- A plain number has no derivative. It takes the float type of the dual number it meets, so that a
  bare 0.5 does not turn float32 into float64; with ``T = type(x)``, ``T(0.5)`` is a plain number.
- A derivative of 0 stays 0, whatever it is multiplied by: the slope of ``sqrt(max(x, 0))`` at a
  negative x is 0, not 0 times infinity. It also lets LLVM drop the terms of constants.
- Comparisons look at the values alone: the branch that is taken decides the derivative.
- At the kinks of abs, max and min the derivative is the mean of those of both sides. Where kinks
  make a smooth whole, as in ``log(1 + exp(-abs(x))) + max(x, 0)`` or ``abs(x)**2``, its derivatives
  are right: the jumps are carried along, as `kink`, since their squares count in the curvature.
"""

from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate, signature
from numba.extending import (
    infer_getattr,
    intrinsic,
    lower_builtin,
    lower_cast,
    make_attribute_wrapper,
    models,
    overload,
    register_model,
)

from fastloss._jit import MATHEMATICS

PLAIN = (types.Integer, types.Float, types.Boolean)


class DualType(types.Type):
    """The type of ``value + first ε + kink |ε| + second ε² / 2``, all of one float type."""

    def __init__(self, real: Any) -> None:
        self.real = real
        super().__init__(name=f"Dual({real})")

    def unify(self, context: Any, other: Any) -> "DualType | None":
        """Return the type of a variable that is of this type here and of another there."""
        if isinstance(other, PLAIN):
            return self
        if isinstance(other, DualType):
            return self if self.real.bitwidth >= other.real.bitwidth else other
        return None


@register_model(DualType)
class _Model(models.StructModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, [(name, kind.real) for name in _PARTS])


_PARTS = ("value", "first", "kink", "second")
for _name in _PARTS:
    make_attribute_wrapper(DualType, _name, _name)


@intrinsic
def dual(typing_context, value, first, kink, second):
    """Return the number of a value and its derivatives, all of the type of the value."""
    kind = DualType(value)

    def generate(context, builder, signature, arguments):
        number = cgutils.create_struct_proxy(kind)(context, builder)
        for name, part in zip(_PARTS, arguments, strict=True):
            setattr(number, name, part)
        return number._getvalue()

    return kind(value, value, value, value), generate


def variable(x):
    """Return the float x as the number by which derivatives are taken."""


@overload(variable, jit_options=MATHEMATICS)
def _variable(x):
    return lambda x: dual(x, type(x)(1), type(x)(0), type(x)(0))


@lower_cast(types.Integer, DualType)
@lower_cast(types.Float, DualType)
@lower_cast(types.Boolean, DualType)
def _plain_to_dual(context, builder, plain, kind, value):
    number = cgutils.create_struct_proxy(kind)(context, builder)
    number.first = number.kink = number.second = context.get_constant(kind.real, 0)
    number.value = context.cast(builder, value, plain, kind.real)
    return number._getvalue()


@lower_cast(DualType, DualType)
def _dual_to_dual(context, builder, one, kind, value):
    given = cgutils.create_struct_proxy(one)(context, builder, value=value)
    number = cgutils.create_struct_proxy(kind)(context, builder)
    for name in _PARTS:
        setattr(number, name, context.cast(builder, getattr(given, name), one.real, kind.real))
    return number._getvalue()


# T = type(x): the class of plain numbers of x's float type, which leaves dual numbers as they are.


class DualClass(types.Callable, types.Opaque):
    """The type of ``type(x)`` of a dual number x."""

    def __init__(self, instance: DualType) -> None:
        self.instance = instance
        super().__init__(name=f"class({instance})")

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """Return the signature of ``T(number)``."""
        (number,) = args
        return signature(number if is_dual(number) else self.instance.real, number)

    def get_call_signatures(self) -> tuple[tuple[Any, ...], bool]:
        """Return the signatures known beforehand: none."""
        return (), True

    def get_impl_key(self, sig: Any) -> type:
        """Return what the implementation is registered for."""
        return type(self)


register_model(DualClass)(models.OpaqueModel)


@infer_getattr
class _ClassOfDual(AttributeTemplate):
    key = DualType

    def resolve___class__(self, kind: DualType) -> DualClass:
        return DualClass(kind)


@lower_builtin(DualClass, types.Any)
def _construct(context, builder, sig, args):
    return context.cast(builder, args[0], sig.args[0], sig.return_type)


def is_dual(kind: Any) -> bool:
    """Whether a Numba type is that of dual numbers."""
    return isinstance(kind, DualType)


def are_dual(*kinds: Any) -> bool:
    """Whether these are types of numbers of which one at least is dual."""
    return any(map(is_dual, kinds)) and all(isinstance(x, (DualType, *PLAIN)) for x in kinds)


COMPILED: dict[str, Any] = {"jit_options": MATHEMATICS}


@intrinsic
def lifted(typing_context, number, like):
    """Return a plain or dual number as a dual number of the widest type of both."""
    kind = number if is_dual(number) else like

    def generate(context, builder, signature, arguments):
        return context.cast(builder, arguments[0], number, kind)

    return kind(number, like), generate


def scaled(derivative, factor):
    """Return the product, 0 where the derivative is, whatever the factor."""


@overload(scaled, **COMPILED)
def _scaled(derivative, factor):
    def implementation(derivative, factor):
        T = type(derivative)
        return T(0) if derivative == T(0) else derivative * factor

    return implementation


def chained(x, value, slope, curvature):
    """Return f(x) of a dual number x, where f and its two derivatives at x's value are given."""


@overload(chained, **COMPILED)
def _chained(x, value, slope, curvature):
    def implementation(x, value, slope, curvature):
        squares = scaled(x.first, x.first * curvature) + scaled(x.kink, x.kink * curvature)
        second = scaled(x.second, slope) + squares
        return dual(value, scaled(x.first, slope), scaled(x.kink, slope), second)

    return implementation
