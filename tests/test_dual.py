"""Dual numbers: every operator and function against the derivatives that mpmath finds."""

import math

import numba
import numpy as np
import pytest
from mpmath import mp, mpf
from numba import types
from numba.extending import overload

from fastloss._digest import names_of
from fastloss._dual import DualType, is_dual, lifted, variable
from fastloss._functions import REPLACED
from fastloss._jit import MATHEMATICS
from fastloss._own import Own

every_dtype = pytest.mark.parametrize(
    "dtype", ["float64", pytest.param("float32", marks=pytest.mark.thorough)]
)

BOUND = {"float32": 1e-5, "float64": 1e-13}
"""Relative errors that are no rounding: slopes and curvatures are sums of several terms."""


def parts_of(number):
    """Return value, slope and curvature of a dual or plain number."""


@overload(parts_of)
def _parts_of(number):
    if is_dual(number):
        return lambda number: (number.value, number.first, number.second)
    return lambda number: (number, None, None)


def differentiated(function):
    """Return the compiled function of x that gives [(value, slope, curvature), …] of a tuple."""
    own = Own(function, MATHEMATICS).compiled

    @numba.njit
    def call(x):
        results = own(variable(x))
        out = np.empty((len(results), 3), type(x))
        for k in range(len(results)):
            out[k] = parts_of(results[k])
        return out

    return call


def assert_derivatives(function, truths, x, dtype):
    """Assert that the results are those of the mpmath functions, and of the type of x."""
    x = np.dtype(dtype).type(x)
    got = differentiated(function)(x)
    assert got.dtype == dtype
    for k, truth in enumerate(truths):
        with mp.workdps(40):
            expected = [float(mp.diff(truth, mpf(float(x)), n)) for n in range(3)]
        np.testing.assert_allclose(
            got[k], expected, rtol=BOUND[dtype], atol=BOUND[dtype], err_msg=f"number {k} at {x}"
        )


# Operators


def arithmetic(x):
    T = type(x)
    return (
        x + 2, 2 + x, x + x, x - 0.5, 0.5 - x, x * 3, 3 * x, x * x, x / 4, 4 / x, (x + 1) / (x * x),
        -x, +x, abs(x), abs(-x), x * True, T(3) * x, T(x) - T(1), x - (x - 1), (2 * x) / (3 * x),
        max(x, 0.5), max(0.25, x), min(x, x * x), max(x, 2 * x, 3 * x), min(3, x, 2 * x),
        x**2, x**3, x**0 + x, x**1, x**-2, x**0.5, x**2.5, 2.0**x, x**x, (x * x) ** (1 / x),
    )  # fmt: skip


ARITHMETIC = (
    lambda x: x + 2, lambda x: 2 + x, lambda x: 2 * x, lambda x: x - 0.5, lambda x: 0.5 - x,
    lambda x: 3 * x, lambda x: 3 * x, lambda x: x * x, lambda x: x / 4, lambda x: 4 / x,
    lambda x: (x + 1) / x**2, lambda x: -x, lambda x: x, lambda x: x, lambda x: x, lambda x: x,
    lambda x: 3 * x, lambda x: x - 1, lambda x: mpf(1), lambda x: mpf(2) / 3,
    lambda x: x, lambda x: x, lambda x: x if x < 1 else x**2, lambda x: 3 * x, lambda x: x,
    lambda x: x**2, lambda x: x**3, lambda x: 1 + x, lambda x: x, lambda x: x**-2,
    lambda x: mp.sqrt(x), lambda x: x ** mpf(2.5), lambda x: mpf(2) ** x, lambda x: x**x,
    lambda x: (x * x) ** (1 / x),
)  # fmt: skip


@every_dtype
def test_operators(dtype):
    """At an x where ``min(x, x * x)`` is x * x, so that both of its branches are met."""
    truths = list(ARITHMETIC)
    truths[22] = lambda x: x**2
    assert_derivatives(arithmetic, truths, 0.75, dtype)


def in_place(x):
    sum_, difference, product, quotient, power = x, x, x, x, x
    sum_ += x * x
    sum_ += 1
    difference -= 2 * x
    product *= x
    product *= 3.0
    quotient /= x + 1
    power **= 3
    return sum_, difference, product, quotient, power


def test_operators_in_place():
    truths = (lambda x: x + x**2 + 1, lambda x: -x, lambda x: 3 * x**2, lambda x: x / (x + 1))
    assert_derivatives(in_place, [*truths, lambda x: x**3], 0.75, "float32")


def comparisons(x):
    total = 0.0 * x
    for bit, holds in enumerate((x < 1, x <= 0.5, x == 0.5, x != 0.5, x >= 0.5, x > 0, x > 2)):
        if holds:
            total += 2.0**bit
    return (total * x if x else x,)


def test_comparisons_go_by_the_value():
    met = 1 + 2 + 4 + 16 + 32
    assert_derivatives(comparisons, [lambda x: met * x], 0.5, "float64")


# Functions


def functions(x):
    return (
        np.exp(x), math.exp(-x), np.expm1(x), np.log(x), math.log(3 * x), np.log1p(x), np.log2(x),
        np.log10(x), np.sqrt(x), math.sqrt(x + 1), np.tanh(x), np.sin(x), np.cos(x), np.tan(x),
        np.arctan(x), np.sinh(x), np.cosh(x), math.erf(x), np.square(x), np.abs(-x), math.fabs(x),
        np.sign(x) * x, np.power(x, 3), math.pow(x, 1.5), np.maximum(x, 0.5), np.minimum(x, x * x),
        np.logaddexp(x, 0.25), np.logaddexp(2 * x, -x), np.where(x > 0.5, x * x, 1.0),
        np.clip(x, -1, 0.5) + x, np.clip(x, 0, 2), np.isfinite(x) * x + np.isnan(x) + np.isinf(x),
    )  # fmt: skip


FUNCTIONS = (
    mp.exp, lambda x: mp.exp(-x), mp.expm1, mp.log, lambda x: mp.log(3 * x), mp.log1p,
    lambda x: mp.log(x, 2), lambda x: mp.log(x, 10), mp.sqrt, lambda x: mp.sqrt(x + 1), mp.tanh,
    mp.sin, mp.cos, mp.tan, mp.atan, mp.sinh, mp.cosh, mp.erf, lambda x: x**2, lambda x: x,
    lambda x: x, lambda x: x, lambda x: x**3, lambda x: x ** mpf(1.5), lambda x: x,
    lambda x: x**2, lambda x: mp.log(mp.exp(x) + mp.exp(mpf(0.25))),
    lambda x: mp.log(mp.exp(2 * x) + mp.exp(-x)), lambda x: x**2, lambda x: 0.5 + x, lambda x: x,
    lambda x: x,
)  # fmt: skip


@every_dtype
def test_functions(dtype):
    assert_derivatives(functions, FUNCTIONS, 0.75, dtype)


def test_no_function_is_forgotten():
    modules = {np: "np", math: "math"}
    known = {
        f"{modules[module]}.{name}"
        for module in modules
        for name, value in vars(module).items()
        if callable(value) and value in REPLACED
    }
    used = names_of(functions.__code__)
    aliases = {"np.absolute", "np.fabs", "np.pow", "np.atan", "math.atan"}
    forgotten = {name for name in known - aliases if name.partition(".")[2] not in used}
    assert not forgotten


def test_functions_of_plain_numbers_and_arrays_are_numpys():
    """The functions that take the place of NumPy's take all that these take."""

    def plain(x, row, n):
        return (
            np.exp(x), np.logaddexp(x, 0.5), np.where(x > 0, x, 1.0), np.abs(x), np.sign(-x),
            np.clip(x, 0, 0.5), np.power(x, n), np.maximum(x, n), np.log(n), math.sqrt(n),
            np.exp(row)[1], np.abs(row)[0], np.where(row > 0, row, 2 * row)[0],
            np.clip(row, 0, 1)[1], np.sum(np.square(row)), np.logaddexp(row, 0.0)[0], abs(x),
        )  # fmt: skip

    own = Own(plain, MATHEMATICS).compiled
    compiled = numba.njit(lambda x, row, n: own(x, row, n))
    arguments = 0.75, np.array([-0.5, 3.0]), 3
    np.testing.assert_allclose(compiled(*arguments), plain(*arguments), rtol=1e-14)
    interpreted = Own(plain, MATHEMATICS).interpreted
    np.testing.assert_allclose(interpreted(*arguments), plain(*arguments), rtol=1e-14)


# What is special


def kinks(x):
    root = np.sqrt(max(x, 0.0))
    return (abs(x), np.sign(x) + 0 * x, root, max(x, 0.0) ** 0.5, np.sqrt(max(x - 1, 0.0)))


def test_at_kinks():
    """The slope is the mean of both sides', and a derivative of 0 stays 0, whatever multiplies it.

    ``sqrt(max(x, 0))`` has an infinite slope to one side.
    """
    got = differentiated(kinks)(0.0)
    np.testing.assert_array_equal(got[[0, 4]], np.zeros((2, 3)))
    assert got[2, 1] == got[3, 1] == np.inf
    negative = differentiated(kinks)(-1.0)
    np.testing.assert_array_equal(negative[2:], np.zeros((3, 3)))


def smooth(x):
    positive, negative = max(x, 0.0), min(x, 0)
    return (
        abs(x) ** 2, abs(3 - 3 * x - 3) * abs(x), positive + negative, positive * negative + x,
        np.log1p(np.exp(-abs(x))) + positive, positive * positive + negative**2,
        abs(max(-x, 0.0)) + max(x, 0), max(x, 2 * x) + min(x, 2 * x), (1 + abs(x)) * (1 - abs(x)),
        np.cosh(abs(x)), (positive - negative) / (1 + 0 * x) - abs(x), np.exp(x) / np.cosh(abs(x)),
        np.logaddexp(abs(x), -abs(x)), np.clip(x, 0, 1) + np.clip(x, -1, 0),
    )  # fmt: skip


SMOOTH = (
    lambda x: x**2, lambda x: 3 * x**2, lambda x: x, lambda x: x, lambda x: mp.log(1 + mp.exp(x)),
    lambda x: x**2, None, lambda x: 3 * x, lambda x: 1 - x**2, mp.cosh, lambda x: 0 * x,
    lambda x: mp.exp(x) / mp.cosh(x), lambda x: mp.log(2 * mp.cosh(x)), lambda x: x,
)  # fmt: skip


@every_dtype
def test_kinks_that_make_a_smooth_whole(dtype):
    """Its derivatives are right, the curvature too: at the kink itself and to both sides."""
    for x in (0.0, 0.25, -0.25):
        truths = list(SMOOTH)
        truths[6] = (lambda v: 0 * v) if x == 0 else (lambda v, x=x: v if x > 0 else -v)
        if x:
            assert_derivatives(smooth, truths, x, dtype)
    got = differentiated(smooth)(np.dtype(dtype).type(0))
    truths[6] = lambda v: 0 * v
    expected = [[float(mp.diff(truth, 0, n)) for n in range(3)] for truth in truths]
    np.testing.assert_allclose(got, expected, rtol=BOUND[dtype], atol=BOUND[dtype])


def far(x):
    return (x * x, np.exp(x), x - 1, np.log1p(np.exp(-x)), np.tanh(x), np.logaddexp(x, 0.0), abs(x))


def test_infinities_and_nan():
    got = differentiated(far)(np.inf)
    infinite = [np.inf] * 3
    expected = [
        [np.inf, np.inf, 2], infinite, [np.inf, 1, 0], [0, 0, 0], [1, 0, 0], [np.inf, 1, 0],
        [np.inf, 1, 0],
    ]  # fmt: skip
    np.testing.assert_array_equal(got, expected)
    spoilt = differentiated(far)(np.nan)
    assert np.isnan(spoilt[:, 0]).all()
    assert np.isnan(spoilt[[0, 1, 3, 4, 5, 6], 1]).all()


def test_tails_keep_their_digits():
    """1 - tanh(x)**2 and sigmoids cancel where they are written so; the rules do not."""
    x = 30.0
    slopes = differentiated(far)(x)[:, 1]
    with mp.workdps(60):
        tanh, softplus = (
            mp.diff(f, x) for f in (mp.tanh, lambda v: mp.log1p(mp.exp(-v)))
        )  # fmt: skip
    np.testing.assert_allclose(slopes[[4, 3]], [float(tanh), float(softplus)], rtol=1e-13)


def branches(x):
    total = 0.0
    for k in range(1, 4):
        total = total + x**k / k
    early = 1 if x > 1 else x
    if x < 0.5:
        last = 0
    elif x < 2:
        last = x * x
    else:
        last = 2.5
    return total, early + x, last + x


@pytest.mark.parametrize(
    ("x", "early", "last"),
    [
        (0.25, (0.5, 2, 0), (0.25, 1, 0)),
        (0.75, (1.5, 2, 0), (1.3125, 2.5, 2)),
        (3.0, (4, 1, 0), (5.5, 1, 0)),
    ],
)
def test_plain_and_dual_numbers_meet_in_loops_and_branches(x, early, last):
    got = differentiated(branches)(x)
    np.testing.assert_allclose(got[0], [x + x**2 / 2 + x**3 / 3, 1 + x + x**2, 1 + 2 * x])
    np.testing.assert_allclose(got[1:], [early, last])


def test_the_widest_type_of_two():
    @numba.njit
    def both(x, y):
        return parts_of(variable(x) + variable(y)), parts_of(lifted(y, variable(x)))

    kinds = both(np.float32(1), 2.0), both.nopython_signatures[0].return_type
    assert kinds[0] == ((3, 2, 0), (2, 0, 0))
    assert [kind.dtype for kind in kinds[1]] == [types.float64, types.float32]


def test_types_have_names():
    assert str(DualType(types.float32)) == "Dual(float32)"
