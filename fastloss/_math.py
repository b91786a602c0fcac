"""exp, log and their relatives as scalar code which LLVM turns into vector code.

Numba has no vector exp or log, and one call into the C library keeps a whole loop scalar. The
functions here are straight-line arithmetic (no branch, no call, no table), so that a loop around
them becomes vector code as a whole. Each is overloaded for float32 and float64; constants have the
type of the argument, and no float64 hides in the float32 code. Plain Python may call them too.

All of it is compiled under `_jit.MATHEMATICS`: a product may fuse with a sum, and the sign of a
zero may be lost. Nothing is reassociated, for the range reductions live on the order of their
steps; NaN and infinity keep their meaning.

`MAX_ULP` bounds the error of each public function, where an ulp is the spacing of floats at the
exact result. The measured errors in the docstrings are over all 2**32 arguments of float32 and a
random 5 * 10**7 of float64, on a CPU with FMA; without one they grow by up to a quarter.
"""

import functools

import numpy as np
from numba import njit
from numba.extending import overload

from fastloss._floats import (
    FORMATS,
    add_exponent,
    at_least,
    format_of,
    polynomial,
    power_of_two,
    split,
)
from fastloss._jit import CALLABLE, MATHEMATICS
from fastloss._vectors import Vector, all_within, choose, float_of

MAX_ULP: dict[
    str, float
] = {}  # by function name, for results which are normal numbers; filled by _mathematics


def _mathematics(max_ulp=None):
    """Make ``implement(type of x)``, which returns the scalar code, a function for nopython code.

    forceinline, because LLVM vectorises only what it has inlined.
    """

    def decorate(implement):
        @functools.wraps(implement)
        def function(*arguments):
            return compiled()(*arguments)

        @functools.cache
        def compiled():
            return njit(lambda *arguments: function(*arguments), **CALLABLE)

        @functools.wraps(implement)
        def implement_float(*kinds):
            return implement(*kinds) if float_of(kinds[0]) in FORMATS else None

        overload(function, jit_options=MATHEMATICS)(implement_float)
        if max_ulp is not None:
            MAX_ULP[implement.__name__] = max_ulp
        return function

    return decorate


@_mathematics()
def _reduce(x, shift):
    """(n + shift, high, low) with x = n ln2 + high - low, after Cody and Waite (1980).

    |high - low| <= ln2 / 2, high is exact, low = n * ln2_low is small.
    """
    form = format_of(x)

    def reduce(x, shift):
        shifted = x * form.log2_e + shift
        n = shifted - shift
        return shifted, x - n * form.ln2_high, n * form.ln2_low

    return reduce


@_mathematics(max_ulp=1.2)
def exp(x):
    """Exponential function.

    exp(x) = 2**n exp(r), exp(r) by a polynomial, n added to the exponent in the bit pattern.

    Parameters
    ----------
    x : float32 or float64

    Returns
    -------
    float of the same type
        Within 1.2 ulp (measured 0.91; float64 0.88). inf above 88.72283 (float64:
        709.782712893384); exactly 0 below -87.33654 (-708.3964185322641), where a result would be
        subnormal. NaN gives NaN.
    """
    form = FORMATS[x]

    def exp(x):
        T = type(x)
        shifted, high, low = _reduce(x, form.shift)
        y = add_exponent(polynomial(high - low, form.exp), shifted)
        y = T(0) if x < form.exp_lowest else y
        # x + inf serves both: overflow, and NaN, whose bits the integer addition has disturbed
        return y if x <= form.exp_highest else x + T(np.inf)

    return exp


@_mathematics(max_ulp=1.2)
def exp_nonpositive(x):
    """Exponential function of numbers which are not large, such as x - max(x) or -abs(x).

    One clamp and a product by 2**n replace both selections of `exp`: faster by 5 % with AVX-512, by
    15 % with AVX2.

    Parameters
    ----------
    x : float32 or float64, or a vector of them
        At most 88.3 (float64: 709.4). Above, inf included, the result is undefined.

    Returns
    -------
    float or vector of the same type
        Within 1.2 ulp (measured 0.91; float64 0.88). Results below the smallest normal number are
        subnormal or 0. NaN gives NaN.
    """
    form = format_of(x)

    def exp_nonpositive(x):
        x = at_least(x, form.exp_vanishes)
        shifted, high, low = _reduce(x, form.shift + form.bias)
        return polynomial(high - low, form.exp) * power_of_two(shifted)

    return exp_nonpositive


@_mathematics()
def exp_in_parts(x):
    """exp(x) of numbers which are not large as a float, and what the exact result is beyond it.

    exp(x) = 2**n (1 + high + (r**2 P(r) - low)), summed with what the additions lose: with high,
    unlike r = high - low, 1 + high is free of other errors. Together the parts are within 0.2 ulp
    of the exact result where the result is well above the smallest normal number.
    """
    form = FORMATS[x]
    tail = form.exp[2:]

    def exp_in_parts(x):
        T = type(x)
        x = at_least(x, form.exp_vanishes)
        shifted, high, low = _reduce(x, form.shift + form.bias)
        scale, r = power_of_two(shifted), high - low
        one = T(1) + high
        rest = (high - (one - T(1))) + ((r * r) * polynomial(r, tail) - low)
        total = one + rest
        return scale * total, scale * (rest - (total - one))

    return exp_in_parts


@_mathematics()
def _half_expm1(x):
    """(exp(x) - 1) / 2 for x from -saturation to just above the overflow of exp.

    exp(x) - 1 = (2**n high + 2**n - 1) + 2**n (r**2 P(r) - low): with high, unlike r = high - low,
    the first bracket is nearly free of rounding errors. Halved, because 2**n may overflow.
    """
    form = FORMATS[x]
    tail = form.exp[2:]

    def half_expm1(x):
        T = type(x)
        shifted, high, low = _reduce(x, form.shift + (form.bias - T(1)))
        half, r = power_of_two(shifted), high - low
        return (half * high + (half - T(0.5))) + half * ((r * r) * polynomial(r, tail) - low)

    return half_expm1


@_mathematics(max_ulp=1.4)
def expm1(x):
    """exp(x) - 1, accurate near 0 as well.

    Parameters
    ----------
    x : float32 or float64

    Returns
    -------
    float of the same type
        Within 1.4 ulp (measured 1.22; float64 1.27), for subnormal x too. inf above 88.72283
        (float64: 709.782712893384), -1 for -inf. NaN gives NaN.
    """
    form = FORMATS[x]

    def expm1(x):
        T = type(x)
        highest = form.exp_highest + T(0.25)
        x = -form.saturation if x < -form.saturation else x
        y = _half_expm1(highest if x > highest else x)
        return y + y

    return expm1


@_mathematics()
def _log1p_tail(f, coefficients):
    """Return f - log(1 + f), from log(1 + f) = 2 atanh(s), s = f / (2 + f), and 2 s = f - s f.

    So the error of the division meets the small tail only (Tang 1990). A polynomial in f itself
    saves the division but takes 3 times as many terms: no faster.
    """
    two = type(format_of(f).shift)(2)

    def log1p_tail(f, coefficients):
        s = f / (two + f)
        z = s * s
        return s * (f - z * polynomial(z, coefficients))

    return log1p_tail


@_mathematics()
def _log_scaled(f, k):
    """log(2**k (1 + f)) for sqrt(1/2) <= 1 + f <= sqrt(2), the small terms added first."""
    form = format_of(f)

    def log_scaled(f, k):
        return (f - (_log1p_tail(f, form.log) - k * form.ln2_low)) + k * form.ln2_high

    return log_scaled


@_mathematics()
def _log_of_normal(x):
    """log(x) of positive normal numbers."""
    one = type(format_of(x).shift)(1)

    def log_of_normal(x):
        m, k = split(x)
        return _log_scaled(m - one, k)

    return log_of_normal


@_mathematics()
def _log_of_any(x):
    """log(x) without a branch."""
    form = format_of(x)
    T = type(form.shift)
    up = 2**form.mantissa_bits
    zero, one, infinity, nan = T(0), T(1), T(np.inf), T(np.nan)

    def log_of_any(x):
        subnormal = x < form.smallest_normal
        m, k = split(choose(subnormal, x * up, x))
        y = _log_scaled(m - one, k - choose(subnormal, form.mantissa_bits, zero))
        y = choose(x < infinity, y, x)
        return choose(x <= zero, choose(x == zero, -infinity, nan), y)

    return log_of_any


@_mathematics(max_ulp=1.2)
def log(x):
    """Natural logarithm.

    Parameters
    ----------
    x : float32 or float64, or a vector of them

    Returns
    -------
    float or vector of the same type
        Within 1.2 ulp (measured 1.13; float64 0.93), for subnormal x too. -inf for 0, NaN for
        negative numbers, inf for inf. NaN gives NaN.
    """
    form = format_of(x)
    smallest, infinity = form.smallest_normal, type(form.shift)(np.inf)

    def log(x):
        return _log_of_any(x)

    def log_of_vector(x):  # a branch saves two fifths of the time, and keeps no loop from vectors
        return _log_of_normal(x) if all_within(x, smallest, infinity) else _log_of_any(x)

    return log_of_vector if isinstance(x, Vector) else log


@_mathematics(max_ulp=1.7)
def log1p(x):
    """log(1 + x), accurate near 0 as well.

    The rounded 1 + x only chooses k. f = 2**-k x + (2**-k - 1) is then taken from x itself with one
    rounding; the textbook divides the rounding error of 1 + x by 1 + x instead.

    Parameters
    ----------
    x : float32 or float64, or a vector of them

    Returns
    -------
    float or vector of the same type
        Within 1.7 ulp (measured 1.60; float64 1.47), for subnormal x too. -inf for -1, NaN below,
        inf for inf. NaN gives NaN.
    """
    form = format_of(x)
    T = type(form.shift)
    one, two, quarter, infinity, nan = T(1), T(2), T(0.25), T(np.inf), T(np.nan)

    def log1p(x):
        _, k = split(one + x)
        scale = power_of_two((form.shift + form.bias + two) - k)  # 2**(2 - k), always normal
        y = _log_scaled((x * scale) * quarter + (scale * quarter - one), k)
        y = choose(x < infinity, y, x)
        return choose(x <= -one, choose(x == -one, -infinity, nan), y)

    return log1p


@_mathematics()
def entropy_drop(a, rest):
    """log(1 + a), log(1 - a), and ``(1 + a) log(1 + a) + (1 - a) log(1 - a)``, near a² at small a.

    The third is twice the entropy by which a fair coin exceeds one of probability (1 + a) / 2. Both
    logarithms are ``f - s (f - s² P(s²))``, s = f / (2 + f), of f = a and f = -a (`_log1p_tail`).
    For a < 1/2 the third is then ``a² + a⁴ / (4 - a²)``, in which nothing cancels, and terms of P.
    Beyond, f is what the range reduction of a logarithm makes of 1 - a, and ``2 a² - (1 + a) (a -
    log(1 + a)) - (1 - a) (-a - log(1 - a))`` loses a bit or two.

    Parameters
    ----------
    a : float32 or float64, or a vector of them
        From 0 to 1; elsewhere the results are undefined.
    rest : the same
        1 - a. From a = 1/2 on, a is not looked at, since rest is the more accurate one.

    Returns
    -------
    three floats or vectors of the same type
        Within 1.7, 1.6 and 5.5 ulp (measured 1.64, 1.51, 5.01; 1.5 for a < 1/2). NaN gives NaN.
    """
    form = format_of(a)
    T = type(form.shift)
    zero, half, one, two, infinity = T(0), T(0.5), T(1), T(2), T(np.inf)

    def entropy_drop(a, rest):
        close = a < half
        a = choose(close, a, one - rest)
        m, k = split(rest)
        f, k = choose(close, -a, m - one), choose(close, zero, k)
        # Two quotients for one division: 1 / (x y) times y and times x.
        a_whole, f_whole = two + a, two + f
        inverse = one / (a_whole * f_whole)
        s, r = a * (f_whole * inverse), f * (a_whole * inverse)
        y, z = s * s, r * r
        s_tail, r_tail = y * polynomial(y, form.log1p_unit), z * polynomial(z, form.log1p_unit)
        tail, f_tail = s * (a - s_tail), r * (f - r_tail)
        above, below = a - tail, (f - (f_tail - k * form.ln2_low)) + k * form.ln2_high
        if not all_within(rest, form.smallest_normal, infinity):
            below = choose(rest < form.smallest_normal, _log_of_any(rest), below)
        square = a * a
        together = square * (square * inverse) + ((one + a) * (s * s_tail) + rest * (r * r_tail))
        far = choose(rest == zero, zero, rest * (a + below))
        apart = two * square - (one + a) * tail + far
        return above, below, choose(close, square + together, apart)

    return entropy_drop


@_mathematics(max_ulp=1.3)
def log1p_unit(e):
    """log(1 + e) for e from 0 to 1, which needs no range reduction.

    For losses of sigmoids: e = exp_nonpositive(-abs(x)) serves it and 1 / (1 + e).

    Parameters
    ----------
    e : float32 or float64
        From 0 to 1; elsewhere the result is undefined.

    Returns
    -------
    float of the same type
        Within 1.3 ulp (measured 1.08; float64 1.05), for subnormal e too. NaN gives NaN.
    """
    form = FORMATS[e]

    def log1p_unit(e):
        return e - _log1p_tail(e, form.log1p_unit)

    return log1p_unit


@_mathematics(max_ulp=2.0)
def sigmoid(x):
    """Logistic function 1 / (1 + exp(-x)).

    With e = exp(-abs(x)) and y = 1, or y = e for negative x, it is y / (1 + e) = y - y e / (1 + e):
    the sum and the division then err in the second term only. The quotient errs by 2.3 ulp.

    Parameters
    ----------
    x : float32 or float64

    Returns
    -------
    float of the same type
        Within 2.0 ulp (measured 1.65; float64 1.68), in the tails too. Results below the smallest
        normal number are subnormal or 0. 1 for inf, 0 for -inf. NaN gives NaN.
    """

    def sigmoid(x):
        T = type(x)
        e = exp_nonpositive(-abs(x))
        y = e if x < T(0) else T(1)
        return y - y * (e / (T(1) + e))

    return sigmoid


@_mathematics(max_ulp=2.0)
def softplus(x):
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-abs(x))).

    Parameters
    ----------
    x : float32 or float64

    Returns
    -------
    float of the same type
        Within 2.0 ulp (measured 1.75; float64 1.75), in the negative tail too. Results below the
        smallest normal number are subnormal or 0. inf for inf, 0 for -inf. NaN gives NaN.
    """

    def softplus(x):
        T = type(x)
        return (x if x > T(0) else T(0)) + log1p_unit(exp_nonpositive(-abs(x)))

    return softplus


@_mathematics(max_ulp=1.9)
def tanh(x):
    """Hyperbolic tangent.

    With h = expm1(2 abs(x)) / 2 it is h / (h + 1) = h - h h / (h + 1) = 1 - 1 / (h + 1): the second
    form for h < 1, the third above, because the quotient alone errs by 2.4 ulp.

    Parameters
    ----------
    x : float32 or float64

    Returns
    -------
    float of the same type
        Within 1.9 ulp (measured 1.81; float64 1.69), for subnormal x too. 1 for inf, -1 for -inf.
        NaN gives NaN.
    """
    form = FORMATS[x]

    def tanh(x):
        T = type(x)
        a = abs(x)
        a = form.saturation if a > form.saturation else a
        h = _half_expm1(a + a)
        y = T(1) if h > T(1) else h
        y = y - y * (y / (h + T(1)))
        return -y if x < T(0) else y

    return tanh
