"""Dual numbers in compiled code: a number with its first and second derivative by the prediction.

A loss whose file states no derivative is run on ``dual(pred, 1, 0)`` in the place of pred: what it
returns holds slope and curvature (forward-mode differentiation). Here are the type that Numba takes
such numbers for, and what Python's own operators and functions do with them; `_functions` has exp,
log and the others.

- A plain number has no derivative. It takes the float type of the dual number it meets, so that a
  bare 0.5 does not turn float32 into float64; with ``T = type(x)``, ``T(0.5)`` is a plain number.
- A derivative of 0 stays 0, whatever it is multiplied by: the slope of ``sqrt(max(x, 0))`` at a
  negative x is 0, not 0 times infinity. It also lets LLVM drop the terms of constants.
- Comparisons look at the values alone: the branch that is taken decides the derivative.
"""

import operator
from typing import Any

from numba import njit, types
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
from fastloss._math import log

_PLAIN = (types.Integer, types.Float, types.Boolean)


class DualType(types.Type):
    """The type of ``value + first ε + second ε² / 2``, all of one float type."""

    def __init__(self, real: Any) -> None:
        self.real = real
        super().__init__(name=f"Dual({real})")

    def unify(self, context: Any, other: Any) -> "DualType | None":
        """Return the type of a variable that is of this type here and of another there."""
        if isinstance(other, _PLAIN):
            return self
        if isinstance(other, DualType):
            return self if self.real.bitwidth >= other.real.bitwidth else other
        return None


@register_model(DualType)
class _Model(models.StructModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, [(name, kind.real) for name in _PARTS])


_PARTS = ("value", "first", "second")
for _name in _PARTS:
    make_attribute_wrapper(DualType, _name, _name)


@intrinsic
def dual(typing_context, value, first, second):
    """Return the number of a value and two derivatives, all of the type of the value."""
    kind = DualType(value)

    def generate(context, builder, signature, arguments):
        number = cgutils.create_struct_proxy(kind)(context, builder)
        for name, part in zip(_PARTS, arguments, strict=True):
            setattr(number, name, part)
        return number._getvalue()

    return kind(value, value, value), generate


@lower_cast(types.Integer, DualType)
@lower_cast(types.Float, DualType)
@lower_cast(types.Boolean, DualType)
def _plain_to_dual(context, builder, plain, kind, value):
    number = cgutils.create_struct_proxy(kind)(context, builder)
    number.value = context.cast(builder, value, plain, kind.real)
    number.first = number.second = context.get_constant(kind.real, 0)
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
    return any(map(is_dual, kinds)) and all(isinstance(x, (DualType, *_PLAIN)) for x in kinds)


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
        second = scaled(x.second, slope) + scaled(x.first, x.first * curvature)
        return dual(value, scaled(x.first, slope), second)

    return implementation


# Operators of two dual numbers; for a dual and a plain one the latter is lifted, but in products.


def _of_two(function):
    """Make the decorated code of two dual numbers that of a function, of mixed numbers too."""

    def decorate(implement):
        pair = njit(**MATHEMATICS)(implement)

        def of_kinds(x, y):
            if are_dual(x, y):
                return lambda x, y: pair(lifted(x, y), lifted(y, x))
            return None

        overload(function, **COMPILED)(of_kinds)
        return pair

    return decorate


def _of_one(function):
    """Make the decorated code of a dual number that of a function."""

    def decorate(implement):
        overload(function, **COMPILED)(lambda x: implement if is_dual(x) else None)

    return decorate


@_of_two(operator.add)
def _sum(x, y):
    return dual(x.value + y.value, x.first + y.first, x.second + y.second)


@_of_two(operator.sub)
def _difference(x, y):
    return dual(x.value - y.value, x.first - y.first, x.second - y.second)


@overload(operator.mul, **COMPILED)
def _product(x, y):
    if not are_dual(x, y):
        return None
    if is_dual(x) and is_dual(y):
        return _dual_product
    return _multiple if is_dual(x) else lambda x, y: y * x


def _dual_product(x, y):
    first = x.first * y.value + y.first * x.value
    both = x.first * y.first
    second = scaled(x.second, y.value) + (both + both) + scaled(y.second, x.value)
    return dual(x.value * y.value, first, second)


def _multiple(x, y):
    factor = type(x.value)(y)
    return dual(x.value * factor, x.first * factor, scaled(x.second, factor))


@_of_two(operator.truediv)
def _quotient(x, y):
    T = type(x.value)
    value = x.value / y.value
    first = (x.first - scaled(y.first, value)) / y.value
    second = (x.second - T(2) * scaled(y.first, first) - scaled(y.second, value)) / y.value
    return dual(value, first, second)


@_of_one(operator.neg)
def _negative(x):
    return dual(-x.value, -x.first, -x.second)


@_of_one(operator.pos)
def _positive(x):
    return x


@_of_one(abs)
def _absolute(x):
    T, value = type(x.value), x.value
    sign = T(1) if value > T(0) else (T(-1) if value < T(0) else value)  # 0 at the kink, or NaN
    return dual(abs(value), scaled(x.first, sign), scaled(x.second, sign))


@_of_one(operator.truth)
def _truth(x):
    return x.value != 0


def _compare(operation):
    @overload(operation, **COMPILED)
    def of_kinds(x, y):
        if are_dual(x, y):
            return lambda x, y: operation(lifted(x, y).value, lifted(y, x).value)
        return None


for _operation in (
    operator.lt, operator.le, operator.eq, operator.ne, operator.ge, operator.gt,
):  # fmt: skip
    _compare(_operation)


@_of_two(max)
def _larger(x, y):
    return y if y.value > x.value else x


@_of_two(min)
def _smaller(x, y):
    return y if y.value < x.value else x


@overload(max, **COMPILED)
def _largest(x, y, z):
    return (lambda x, y, z: max(max(x, y), z)) if are_dual(x, y, z) else None


@overload(min, **COMPILED)
def _smallest(x, y, z):
    return (lambda x, y, z: min(min(x, y), z)) if are_dual(x, y, z) else None


# Powers. Whole exponents that stand in the source are multiplied out.


@overload(operator.pow, prefer_literal=True, **COMPILED)
def _power(x, y):
    if is_dual(x) and isinstance(y, types.IntegerLiteral):
        n, n1, n2 = (y.literal_value - k for k in range(3))
        if n in (0, 1):
            return (lambda x, y: x) if n else (lambda x, y: type(x)(1))

        def whole(x, y):
            T, value = type(x.value), x.value
            return chained(x, value**n, T(n) * value**n1, T(n * n1) * value**n2)

        return whole
    if is_dual(x) and isinstance(y, _PLAIN):
        return _plain_power
    if are_dual(x, y):
        return lambda x, y: _dual_power(lifted(x, y), lifted(y, x))
    return None


def _plain_power(x, y):
    T, value = type(x.value), x.value
    p, one = T(y), T(1)
    slope = scaled(p, value ** (p - one))
    return chained(x, value**p, slope, scaled(p * (p - one), value ** (p - T(2))))


@njit(**MATHEMATICS)
def _dual_power(x, y):
    inverse = type(x.value)(1) / x.value
    exponent = y * chained(x, log(x.value), inverse, -inverse * inverse)
    value = x.value**y.value
    return chained(exponent, value, value, value)
