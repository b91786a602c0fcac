"""What Python's operators, abs, min and max do with dual numbers.

For a dual and a plain number the latter is lifted to a dual one, but in products.
"""

import operator

from numba import njit, types
from numba.extending import overload

from fastloss._dual import COMPILED, PLAIN, are_dual, chained, dual, is_dual, lifted, scaled
from fastloss._jit import MATHEMATICS
from fastloss._math import log


def _of_two(*functions):
    """Make the decorated code of two dual numbers that of functions, of mixed numbers too."""

    def decorate(implement):
        pair = njit(**MATHEMATICS)(implement)

        def of_kinds(x, y):
            if are_dual(x, y):
                return lambda x, y: pair(lifted(x, y), lifted(y, x))
            return None

        for function in functions:
            overload(function, **COMPILED)(of_kinds)
        return pair

    return decorate


def _of_one(function):
    """Make the decorated code of a dual number that of a function."""

    def decorate(implement):
        overload(function, **COMPILED)(lambda x: implement if is_dual(x) else None)

    return decorate


@_of_two(operator.add, operator.iadd)
def _sum(x, y):
    kink, second = x.kink + y.kink, x.second + y.second
    return dual(x.value + y.value, x.first + y.first, kink, second)


@_of_two(operator.sub, operator.isub)
def _difference(x, y):
    kink, second = x.kink - y.kink, x.second - y.second
    return dual(x.value - y.value, x.first - y.first, kink, second)


@overload(operator.mul, **COMPILED)
@overload(operator.imul, **COMPILED)
def _product(x, y):
    if not are_dual(x, y):
        return None
    if is_dual(x) and is_dual(y):
        return _dual_product
    return _multiple if is_dual(x) else lambda x, y: y * x


def _dual_product(x, y):
    first = x.first * y.value + y.first * x.value
    kink = scaled(x.kink, y.value) + scaled(y.kink, x.value)
    both = x.first * y.first + scaled(x.kink, y.kink)
    second = scaled(x.second, y.value) + (both + both) + scaled(y.second, x.value)
    return dual(x.value * y.value, first, kink, second)


def _multiple(x, y):
    factor = type(x.value)(y)
    kink, second = scaled(x.kink, factor), scaled(x.second, factor)
    return dual(x.value * factor, x.first * factor, kink, second)


@_of_two(operator.truediv, operator.itruediv)
def _quotient(x, y):
    T = type(x.value)
    value = x.value / y.value
    first = (x.first - scaled(y.first, value)) / y.value
    kink = (x.kink - scaled(y.kink, value)) / y.value
    both = scaled(y.first, first) + scaled(y.kink, kink)
    second = (x.second - T(2) * both - scaled(y.second, value)) / y.value
    return dual(value, first, kink, second)


@_of_one(operator.neg)
def _negative(x):
    return dual(-x.value, -x.first, -x.kink, -x.second)


@_of_one(operator.pos)
def _positive(x):
    return x


# At a kink all is selected, number by number: a branch would keep a loop from becoming vector code.


@njit(**MATHEMATICS)
def _folded(first, kink):
    """Return first, kink and mean sign of ``|first ε + kink |ε||``."""
    T = type(first)
    above, below = kink + first, kink - first  # the slopes away from the kink, to either side
    sign = (T(1) if above > T(0) else T(-1)) + (T(1) if below > T(0) else T(-1))
    half_above, half_below = T(0.5) * abs(above), T(0.5) * abs(below)
    return half_above - half_below, half_above + half_below, T(0.5) * sign


@_of_one(abs)
def _absolute(x):
    T, at_kink = type(x.value), x.value == 0
    first, kink, mean_sign = _folded(x.first, x.kink)
    sign = T(1) if x.value > T(0) else (T(-1) if x.value < T(0) else x.value)  # or NaN
    first = first if at_kink else sign * x.first
    kink = kink if at_kink else scaled(x.kink, sign)
    return dual(abs(x.value), first, kink, scaled(x.second, mean_sign if at_kink else sign))


@_of_one(bool)
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


@njit(**MATHEMATICS)
def _chosen(x, y, takes_y, side):
    """Return y or x, or where they are equal ``(x + y + side |x - y|) / 2``."""
    T, at_kink = type(x.value), x.value == y.value
    half, half_side = T(0.5), T(0.5 * side)
    first, kink, sign = _folded(x.first - y.first, x.kink - y.kink)
    first = half * (x.first + y.first) + half_side * first
    kink = half * (x.kink + y.kink) + half_side * kink
    second = half * (x.second + y.second) + half_side * scaled(x.second - y.second, sign)
    value = y.value if takes_y else x.value
    first = first if at_kink else (y.first if takes_y else x.first)
    kink = kink if at_kink else (y.kink if takes_y else x.kink)
    return dual(value, first, kink, second if at_kink else (y.second if takes_y else x.second))


@_of_two(max)
def _larger(x, y):
    return _chosen(x, y, y.value > x.value, 1)


@_of_two(min)
def _smaller(x, y):
    return _chosen(x, y, y.value < x.value, -1)


@overload(max, **COMPILED)
def _largest(x, y, z):
    return (lambda x, y, z: max(max(x, y), z)) if are_dual(x, y, z) else None


@overload(min, **COMPILED)
def _smallest(x, y, z):
    return (lambda x, y, z: min(min(x, y), z)) if are_dual(x, y, z) else None


# Powers. Whole exponents that stand in the source are multiplied out.


@overload(operator.pow, prefer_literal=True, **COMPILED)
@overload(operator.ipow, prefer_literal=True, **COMPILED)
def _power(x, y):
    if is_dual(x) and isinstance(y, types.IntegerLiteral):
        n, n1, n2 = (y.literal_value - k for k in range(3))
        if n in (0, 1):
            return (lambda x, y: x) if n else (lambda x, y: type(x)(1))

        def whole(x, y):
            T, value = type(x.value), x.value
            return chained(x, value**n, T(n) * value**n1, T(n * n1) * value**n2)

        return whole
    if is_dual(x) and isinstance(y, PLAIN):
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
