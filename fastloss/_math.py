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
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from fastloss._jit import CALLABLE, MATHEMATICS
from fastloss._vectors import Vector, choose, constant, copies, integers_of

MAX_ULP: dict[
    str, float
] = {}  # by function name, for results which are normal numbers; filled by _mathematics


class Format(NamedTuple):
    """What the functions must know of a float type; Numba compiles it into constants."""

    shift: float  # 1.5 * 2**mantissa_bits: x + shift is x rounded to integer, in the lowest bits
    bias: float  # of the exponent
    mantissa_bits: float
    smallest_normal: float
    exp_vanishes: float  # 2**round(x / ln2) is below the normal numbers
    exp_lowest: float  # exp is a normal number from here ...
    exp_highest: float  # ... and finite up to here
    saturation: float  # exp(-saturation) is lost beside 1
    log2_e: float
    ln2_high: float  # so few bits that n * ln2_high is exact
    ln2_low: float
    exp: tuple[float, ...]
    log: tuple[float, ...]
    log1p_unit: tuple[float, ...]
    entropy_drop: tuple[float, ...]


def _format(dtype, **constants):
    def typed(value):
        return tuple(map(dtype, value)) if isinstance(value, tuple) else dtype(value)

    return Format(**{name: typed(value) for name, value in constants.items()})


# The polynomials, lowest power first, are minimax fits (Remez exchange in 200-bit arithmetic). The
# leading coefficients were rounded first, where this matters, and the others fitted again.
#   exp:        expm1(r) / r on |r| <= ln2 / 2, degrees 5 (float32) and 10 (float64), errors
#               relative to expm1 2^-26.0 and 2^-55.4; here it is multiplied by r, plus 1
#   log:        2 (atanh(s) / s - 1) / s^2 in s^2 for sqrt(1/2) <= (1 + s) / (1 - s) <= sqrt(2),
#               degrees 2 and 6, errors relative to the logarithm 2^-30.2 and 2^-59.5
#   log1p_unit: the same for 1 <= (1 + s) / (1 - s) <= 2, degrees 3 and 9, 2^-27.7 and 2^-59.4
#   entropy_drop: itself in u^2 on [0, 1/4], degrees 5 and 12, 2^-28.3 and 2^-56.9 (Chebyshev)
# fmt: off
FORMATS = {
    types.float32: _format(
        np.float32,
        shift=1.5 * 2.0**23,
        bias=127,
        mantissa_bits=23,
        smallest_normal=2.0**-126,
        exp_vanishes=-88.33654,
        exp_lowest=-87.33654,
        exp_highest=88.72283,
        saturation=20,
        log2_e=1.4426950408889634,
        ln2_high=0.693359375,
        ln2_low=-2.1219444005469058e-4,
        exp=(1.0, 1.0, 0.5, 0.16666548, 0.041667096, 0.008366165, 0.0013873952),
        log=(0.66666676, 0.39977586, 0.29870695),
        log1p_unit=(0.6666642, 0.40021437, 0.28003016, 0.28006881),
        entropy_drop=(
            0.99999999755695580, 0.16666736837065480, 0.066634375751561820, 0.036249656781639650,
            0.018313525958945894, 0.027502860286536034,
        ),
    ),
    types.float64: _format(
        np.float64,
        shift=1.5 * 2.0**52,
        bias=1023,
        mantissa_bits=52,
        smallest_normal=2.0**-1022,
        exp_vanishes=-709.3964185322641,
        exp_lowest=-708.3964185322641,
        exp_highest=709.782712893384,
        saturation=40,
        log2_e=1.4426950408889634,
        ln2_high=0.6931471803691238,
        ln2_low=1.9082149292705877e-10,
        exp=(
            1.0, 1.0, 0.5000000000000006, 0.16666666666666607, 0.04166666666657528,
            0.008333333333394482, 0.0013888888931830403, 0.0001984126967999064,
            2.480150500927206e-05, 2.755746274241797e-06, 2.762614256534391e-07,
            2.5031038305215438e-08,
        ),
        log=(
            0.6666666666666734, 0.39999999999416924, 0.2857142874193678, 0.22222198615788008,
            0.18183562264778438, 0.15314099979270696, 0.14795484175962784,
        ),
        log1p_unit=(
            0.6666666666666631, 0.40000000000155916, 0.28571428548009364, 0.22222223960808968,
            0.1818174421384077, 0.1538655429149225, 0.13301040933395128, 0.12105603334583853,
            0.08342003942944996, 0.17015415970895878,
        ),
        entropy_drop=(
            1.0, 0.16666666666665913, 0.066666666668348651, 0.035714285567169240,
            0.022222228885653574, 0.015151336251909375, 0.010992078451474438,
            0.0082983270911459859, 0.0068067809817913497, 0.0038454510862695765,
            0.0092176195388860545, -0.0067395607288965784, 0.014368805567745852,
        ),
    ),
}
# fmt: on


def _float_of(kind):
    """Return the type of the numbers of a vector; any other type is its own."""
    return kind.dtype if isinstance(kind, Vector) else kind


def _format_of(kind):
    """Return the format of a float type or of a vector of such floats."""
    return FORMATS[_float_of(kind)]


def _llvm(name, arity):
    """Code generator of an LLVM intrinsic whose arguments and result have one type."""

    def codegen(context, builder, signature, arguments):
        kind = context.get_value_type(signature.return_type)
        # the type must be passed: the default is that of a function of one argument
        function_type = ir.FunctionType(kind, [kind] * arity)
        function = builder.module.declare_intrinsic(name, [kind], function_type)
        return builder.call(function, arguments)

    return codegen


@intrinsic
def maximum(typing_context, a, b):
    """Return the larger of two floats of one type, NaN if either is; vectorises in reductions."""
    return a(a, a), _llvm("llvm.maximum", 2)


@intrinsic
def minimum(typing_context, a, b):
    """Return the smaller of two floats of one type, NaN if either is; vectorises in reductions."""
    return a(a, a), _llvm("llvm.minimum", 2)


@intrinsic
def fused(typing_context, a, b, c):
    """Return a * b + c, rounded once: with c = -(a * b) the rounding error of that product."""
    return a(a, a, a), _llvm("llvm.fma", 3)


def _bitcast(context, builder, signature, arguments):
    return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))


@intrinsic
def float_to_bits(typing_context, x):
    """Return the bit pattern of a float as a signed integer of the same width."""
    return types.Integer.from_bitwidth(x.bitwidth, signed=True)(x), _bitcast


@intrinsic
def bits_to_float(typing_context, bits):
    """Return the float whose bit pattern is the given integer of 32 or 64 bits."""
    return {32: types.float32, 64: types.float64}[bits.bitwidth](bits), _bitcast


# Integer steps stay inside of the intrinsics, because Numba widens int32 + int32 to int64.


@intrinsic
def _add_exponent(typing_context, x, shifted):
    """Return x * 2**n from the float shifted = n + shift; both x and the result must be normal."""

    def codegen(context, builder, signature, arguments):
        integer = ir.IntType(x.bitwidth)
        bits, n = (builder.bitcast(argument, integer) for argument in arguments)
        n = builder.shl(n, integer(int(FORMATS[x].mantissa_bits)))
        return builder.bitcast(builder.add(bits, n), arguments[0].type)

    return x(x, x), codegen


@intrinsic
def _power_of_two(typing_context, shifted):
    """Return 2**n from the float shifted = n + bias + shift; 0 for n = -bias, inf for bias + 1."""

    def codegen(context, builder, signature, arguments):
        kind = arguments[0].type
        bits = builder.bitcast(arguments[0], integers_of(kind))
        places = constant(bits.type, int(_format_of(shifted).mantissa_bits))
        return builder.bitcast(builder.shl(bits, places), kind)

    return shifted(shifted), codegen


def _limited(predicate):
    """Code generator of a number, or of the limit that it is beyond."""

    def codegen(context, builder, signature, arguments):
        x, limit = arguments[0], copies(builder, arguments[1], arguments[0].type)
        return builder.select(builder.fcmp_ordered(predicate, x, limit), limit, x)

    return codegen


@intrinsic
def at_least(typing_context, x, lowest):
    """Return x, or `lowest` where x is less; NaN stays."""
    return x(x, _float_of(x)), _limited("<")


@intrinsic
def at_most(typing_context, x, highest):
    """Return x, or `highest` where x is more; NaN stays."""
    return x(x, _float_of(x)), _limited(">")


@intrinsic
def _split(typing_context, x):
    """(m, k) with x = m * 2**k and sqrt(1/2) <= m < sqrt(2), for normal positive x."""
    form = _format_of(x)

    def codegen(context, builder, signature, arguments):
        (value,) = arguments
        kind, integer = value.type, integers_of(value.type)
        mantissa_bits, shift = int(form.mantissa_bits), constant(kind, float(form.shift))
        lowest = builder.bitcast(constant(kind, float(type(form.shift)(0.5**0.5))), integer)
        offset = builder.sub(builder.bitcast(value, integer), lowest)
        mask = constant(integer, (1 << mantissa_bits) - 1)
        m = builder.add(builder.and_(offset, mask), lowest)
        # by way of the shift, since AVX2 does not convert int64 to float64
        k = builder.ashr(offset, constant(integer, mantissa_bits))
        k = builder.bitcast(builder.add(k, builder.bitcast(shift, integer)), kind)
        pair = builder.bitcast(m, kind), builder.fsub(k, shift)
        return context.make_tuple(builder, signature.return_type, pair)

    return types.UniTuple(x, 2)(x), codegen


@intrinsic
def _polynomial(typing_context, x, coefficients):
    """Sum of coefficients[i] * x**i by Horner's rule.

    Estrin's scheme measured 0 to 8 % slower in loops: it multiplies more, and the independent
    iterations hide Horner's latency anyway. It also doubles the error of exp.
    """

    def codegen(context, builder, signature, arguments):
        value, terms = arguments
        terms = (copies(builder, term, value.type) for term in cgutils.unpack_tuple(builder, terms))
        *terms, total = terms
        for term in reversed(terms):
            total = builder.fadd(builder.fmul(total, value), term)
        return total

    return x(x, coefficients), codegen


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
            return implement(*kinds) if _float_of(kinds[0]) in FORMATS else None

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
    form = _format_of(x)

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
        y = _add_exponent(_polynomial(high - low, form.exp), shifted)
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
    form = _format_of(x)

    def exp_nonpositive(x):
        x = at_least(x, form.exp_vanishes)
        shifted, high, low = _reduce(x, form.shift + form.bias)
        return _polynomial(high - low, form.exp) * _power_of_two(shifted)

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
        scale, r = _power_of_two(shifted), high - low
        one = T(1) + high
        rest = (high - (one - T(1))) + ((r * r) * _polynomial(r, tail) - low)
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
        half, r = _power_of_two(shifted), high - low
        return (half * high + (half - T(0.5))) + half * ((r * r) * _polynomial(r, tail) - low)

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
    two = type(_format_of(f).shift)(2)

    def log1p_tail(f, coefficients):
        s = f / (two + f)
        z = s * s
        return s * (f - z * _polynomial(z, coefficients))

    return log1p_tail


@_mathematics()
def _log_scaled(f, k):
    """log(2**k (1 + f)) for sqrt(1/2) <= 1 + f <= sqrt(2), the small terms added first."""
    form = _format_of(f)

    def log_scaled(f, k):
        return (f - (_log1p_tail(f, form.log) - k * form.ln2_low)) + k * form.ln2_high

    return log_scaled


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
    form = _format_of(x)
    T = type(form.shift)
    up = 2**form.mantissa_bits
    zero, one, infinity, nan = T(0), T(1), T(np.inf), T(np.nan)

    def log(x):
        subnormal = x < form.smallest_normal
        m, k = _split(choose(subnormal, x * up, x))
        y = _log_scaled(m - one, k - choose(subnormal, form.mantissa_bits, zero))
        y = choose(x < infinity, y, x)
        return choose(x <= zero, choose(x == zero, -infinity, nan), y)

    return log


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
    form = _format_of(x)
    T = type(form.shift)
    one, two, quarter, infinity, nan = T(1), T(2), T(0.25), T(np.inf), T(np.nan)

    def log1p(x):
        _, k = _split(one + x)
        scale = _power_of_two((form.shift + form.bias + two) - k)  # 2**(2 - k), always normal
        y = _log_scaled((x * scale) * quarter + (scale * quarter - one), k)
        y = choose(x < infinity, y, x)
        return choose(x <= -one, choose(x == -one, -infinity, nan), y)

    return log1p


@_mathematics()
def entropy_drop(z):
    """((1 + u) log(1 + u) + (1 - u) log(1 - u)) / u**2, which is 1 for u = 0, from z = u**2 <= 1/4.

    Twice the entropy by which a fair coin exceeds one of probability (1 + u) / 2, over u**2.

    Parameters
    ----------
    z : float32 or float64, or a vector of them
        From 0 to 1/4; elsewhere the result is undefined.

    Returns
    -------
    float or vector of the same type
        Within 1 ulp.
    """
    form = _format_of(z)

    def entropy_drop(z):
        return _polynomial(z, form.entropy_drop)

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
