"""The functions of NumPy and `math` as a loss's own code gets them.

In a loss made by `fastloss.elementwise` or `fastloss.rowwise` the names on the left of `REPLACED`
mean the functions here. Compiled, they know dual numbers, and those of `_math` take the place of
the scalar library calls that would keep a loop from becoming vector code. Called from Python, as
the loss's `reference` does, they take numbers and arrays of any type, complex ones too: abs, sign
and comparisons go by the real part, so that a complex step finds the slope.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from fastloss import _dual_operators as _dual_operators  # for the operators in the rules
from fastloss import _math
from fastloss._dual import COMPILED, are_dual, chained, dual, is_dual, lifted, scaled
from fastloss._jit import MATHEMATICS

REPLACED: dict[Callable[..., Any], Callable[..., Any]] = {}
"""The functions of NumPy, `math` and Python by what takes their place."""


def _replacing(*originals: Any) -> Callable[[Any], Any]:
    """Let the decorated function take the place of others."""

    def decorate(function: Any) -> Any:
        REPLACED.update(dict.fromkeys(originals, function))
        return function

    return decorate


def _unary(original: Any, *others: Any, vector: Any = None) -> Callable[[Any], Any]:
    """Make a function of a rule for dual numbers; `vector` is for float32 and float64."""

    def decorate(rule: Any) -> Any:
        @_replacing(original, *others)
        def function(x: Any) -> Any:
            return original(x)

        @overload(function, **COMPILED)
        def of_kind(x):
            if is_dual(x):
                return rule
            if vector is not None and isinstance(x, types.Float):
                return lambda x: vector(x)
            return lambda x: original(x)

        return function

    return decorate


# A rule returns f(x) of a dual number x from the value, the slope and the curvature of f.


@_unary(np.exp, math.exp, vector=_math.exp)
def exp(x):
    y = _math.exp(x.value)
    return chained(x, y, y, y)


@_unary(np.expm1, math.expm1, vector=_math.expm1)
def expm1(x):
    slope = _math.exp(x.value)
    return chained(x, _math.expm1(x.value), slope, slope)


@_unary(np.log, math.log, vector=_math.log)
def log(x):
    inverse = type(x.value)(1) / x.value
    return chained(x, _math.log(x.value), inverse, -inverse * inverse)


@_unary(np.log1p, math.log1p, vector=_math.log1p)
def log1p(x):
    T = type(x.value)
    inverse = T(1) / (T(1) + x.value)
    return chained(x, _math.log1p(x.value), inverse, -inverse * inverse)


@_unary(np.log2, math.log2)
def log2(x):
    T = type(x.value)
    slope = T(1 / math.log(2)) / x.value
    return chained(x, np.log2(x.value), slope, -slope / x.value)


@_unary(np.log10, math.log10)
def log10(x):
    T = type(x.value)
    slope = T(1 / math.log(10)) / x.value
    return chained(x, np.log10(x.value), slope, -slope / x.value)


@_unary(np.sqrt, math.sqrt)
def sqrt(x):
    T = type(x.value)
    y = np.sqrt(x.value)
    slope = T(0.5) / y
    return chained(x, y, slope, T(-0.5) * slope / x.value)


@_unary(np.tanh, math.tanh, vector=_math.tanh)
def tanh(x):
    T = type(x.value)
    y = _math.tanh(x.value)
    both = T(2) * x.value
    slope = T(4) * (_math.sigmoid(both) * _math.sigmoid(-both))  # 1 - y y cancels
    return chained(x, y, slope, T(-2) * y * slope)


@_unary(np.sin, math.sin)
def sin(x):
    y, slope = np.sin(x.value), np.cos(x.value)
    return chained(x, y, slope, -y)


@_unary(np.cos, math.cos)
def cos(x):
    y, slope = np.cos(x.value), -np.sin(x.value)
    return chained(x, y, slope, -y)


@_unary(np.tan, math.tan)
def tan(x):
    T = type(x.value)
    y = np.tan(x.value)
    slope = T(1) + y * y
    return chained(x, y, slope, T(2) * y * slope)


@_unary(np.arctan, math.atan)
def arctan(x):
    T = type(x.value)
    slope = T(1) / (T(1) + x.value * x.value)
    return chained(x, np.arctan(x.value), slope, T(-2) * x.value * (slope * slope))


@_unary(np.sinh, math.sinh)
def sinh(x):
    y, slope = np.sinh(x.value), np.cosh(x.value)
    return chained(x, y, slope, y)


@_unary(np.cosh, math.cosh)
def cosh(x):
    y, slope = np.cosh(x.value), np.sinh(x.value)
    return chained(x, y, slope, y)


@_unary(math.erf)
def erf(x):
    T = type(x.value)
    slope = T(2 / math.sqrt(math.pi)) * _math.exp(-x.value * x.value)
    return chained(x, T(math.erf(x.value)), slope, T(-2) * x.value * slope)


@_unary(np.square)
def square(x):
    return x * x


@_unary(np.isnan, math.isnan)
def isnan(x):
    return np.isnan(x.value)


@_unary(np.isinf, math.isinf)
def isinf(x):
    return np.isinf(x.value)


@_unary(np.isfinite, math.isfinite)
def isfinite(x):
    return np.isfinite(x.value)


# What asks for the sign goes by the real part of complex numbers.


@_replacing(abs, np.abs, np.fabs, math.fabs)
def absolute(x):
    """Return x, negated where its real part is negative."""
    return np.where(np.real(x) < 0, -x, x)[()]


@overload(absolute, **COMPILED)
def _absolute(x):
    if isinstance(x, types.Array):
        return lambda x: np.abs(x)
    return lambda x: abs(x)


@_replacing(np.sign)
def sign(x):
    """Return the sign of the real part of x."""
    return np.sign(np.real(x))


@overload(sign, **COMPILED)
def _sign(x):
    if is_dual(x):
        return lambda x: np.sign(x.value)
    return lambda x: np.sign(x)


# Functions of several numbers. Of plain numbers and arrays they are NumPy's own.


def _binary(original: Any, *others: Any, vector: Any = None) -> Callable[[Any], Any]:
    """Make a function of the code for two numbers of which one at least is dual.

    `vector` is the code for two plain floats.
    """

    def decorate(of_dual: Any) -> Any:
        @_replacing(original, *others)
        def function(x: Any, y: Any) -> Any:
            return original(x, y)

        @overload(function, prefer_literal=True, **COMPILED)
        def of_kinds(x, y):
            if are_dual(x, y):
                return of_dual
            if vector is not None and isinstance(x, types.Float) and isinstance(y, types.Float):
                return vector
            return lambda x, y: original(x, y)

        return function

    return decorate


@_binary(np.power, math.pow)
def power(x, y):
    return x**y


@_binary(np.maximum)
def maximum(x, y):
    unlike = x + y  # NaN if either is
    return unlike if unlike != unlike else max(x, y)


@_binary(np.minimum)
def minimum(x, y):
    unlike = x + y
    return unlike if unlike != unlike else min(x, y)


def _log_of_plain_sum(x, y):
    T = type(x + y)
    apart = T(x) - T(y) if x != y else T(0)  # of equal infinities, too
    return T(max(x, y)) + _math.log1p_unit(_math.exp_nonpositive(-abs(apart)))


@_binary(np.logaddexp, vector=_log_of_plain_sum)
def logaddexp(x, y):
    return _log_of_sum(lifted(x, y), lifted(y, x))


@njit(**MATHEMATICS)
def _log_of_sum(x, y):
    T = type(x.value)
    apart = x.value - y.value if x.value != y.value else T(0)
    e = _math.exp_nonpositive(-abs(apart))
    more = T(1) / (T(1) + e)
    less = e * more
    share, rest = (more, less) if apart >= T(0) else (less, more)
    value = max(x.value, y.value) + _math.log1p_unit(e)
    first = scaled(x.first, share) + scaled(y.first, rest)
    kink = scaled(x.kink, share) + scaled(y.kink, rest)
    second = scaled(x.second, share) + scaled(y.second, rest)
    change, jump, bend = x.first - y.first, x.kink - y.kink, more * less
    second += scaled(change, change * bend) + scaled(jump, jump * bend)
    return dual(value, first, kink, second)


@_replacing(np.where)
def where(condition: Any, x: Any, y: Any) -> Any:
    """Return x where the condition holds, else y."""
    return np.where(condition, x, y)[()]


@overload(where, **COMPILED)
def _where(condition, x, y):
    if any(isinstance(kind, types.Array) for kind in (condition, x, y)):
        return lambda condition, x, y: np.where(condition, x, y)
    return lambda condition, x, y: x if condition else y


@_replacing(np.clip)
def clip(x: Any, low: Any, high: Any) -> Any:
    """Return x, or the bound that it is beyond; NaN stays."""
    return np.minimum(np.maximum(x, low), high)


@overload(clip, **COMPILED)
def _clip(x, low, high):
    if isinstance(x, types.Array):
        return lambda x, low, high: np.clip(x, low, high)
    return lambda x, low, high: min(max(x, low), high)
