"""Scalar exp, log and their relatives which LLVM can turn into vector code.

Numba has no vector exp or log: a call to the C library keeps a loop scalar. The functions here are
straight-line arithmetic (no branches, no calls, no tables), so a loop that calls them becomes vector
code as a whole. Each is a stub overloaded for float32 and float64; the constants have the type of
the argument, hence float32 stays float32. From plain Python the stubs run compiled as well.

All mathematics is compiled with fastmath {'contract', 'nsz'}: products may fuse with sums, and the
sign of a zero is not kept. Nothing may be reassociated, because the range reductions live on it, and
NaN and infinity keep their meaning.

`MAX_ULP` bounds the error of each function; an ulp is the spacing of floats at the exact result.
Results below the smallest normal number may be flushed to 0 and are outside of the bounds.
"""

import functools
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

JIT_OPTIONS = {"fastmath": {"contract", "nsz"}, "error_model": "numpy"}

MAX_ULP = {
    "exp": 1.0,
    "exp_nonpositive": 1.0,
    "expm1": 2.0,
    "log": 1.0,
    "log1p": 1.0,
    "log1p_unit": 1.5,
    "sigmoid": 2.0,
    "softplus": 2.0,
    "tanh": 2.0,
}


# ---------------------------------------------------------------------------------------------------
# Constants of the two formats


class Format(NamedTuple):
    """What the functions must know about a float type; Numba folds it into constants."""

    shift: float  # 1.5 * 2**mantissa_bits: adding it rounds to integer, into the lowest bits
    bias: float  # of the exponent
    mantissa_bits: float
    smallest_normal: float
    exp_lowest: float  # exp is normal from here ...
    exp_highest: float  # ... and finite up to here
    saturation: float  # exp(-saturation) is lost beside 1
    log2_e: float
    ln2_high: float  # few bits: n * ln2_high is exact
    ln2_low: float
    exp: tuple
    log: tuple
    log1p_unit: tuple


def _format(dtype, **constants):
    def convert(value):
        return tuple(map(dtype, value)) if isinstance(value, tuple) else dtype(value)

    return Format(**{name: convert(value) for name, value in constants.items()})


# The polynomials are minimax fits (Remez exchange in 200 bits), then rounded:
#   exp:        expm1(r) / r on |r| <= ln2 / 2, relative to expm1, first coefficients 1 exactly
#   log:        (atanh(s) / s - 1) / s**2 in s**2, 2 atanh(s) = log m, sqrt(1/2) <= m < sqrt(2)
#   log1p_unit: the same for 1 <= m <= 2
FORMATS = {
    types.float32: _format(
        np.float32,
        shift=1.5 * 2.0**23,
        bias=127,
        mantissa_bits=23,
        smallest_normal=2.0**-126,
        exp_lowest=-87.33654,
        exp_highest=88.72283,
        saturation=20,
        log2_e=1.4426950408889634,
        ln2_high=0.693359375,
        ln2_low=-2.12194440054690583e-4,
        exp=(
            1.0, 1.0, 0.5, 0.1666654795408249, 0.04166709631681442, 0.00836616475135088,
            0.0013873951975256205,
        ),
        log=(0.6666667594184864, 0.3997758625937866, 0.29870694875717163),
        log1p_unit=(
            0.666664183139801, 0.40021437406539917, 0.28003015114234924, 0.28006881475448607,
        ),
    ),
    types.float64: _format(
        np.float64,
        shift=1.5 * 2.0**52,
        bias=1023,
        mantissa_bits=52,
        smallest_normal=2.0**-1022,
        exp_lowest=-708.3964185322641,
        exp_highest=709.782712893384,
        saturation=40,
        log2_e=1.4426950408889634,
        ln2_high=0.693147180369123816490,
        ln2_low=1.90821492927058770002e-10,
        exp=(
            1.0, 1.0, 0.5000000000000006, 0.16666666666666607, 0.04166666666657528,
            0.008333333333394482, 0.0013888888931830403, 0.0001984126967999064,
            2.480150500927206e-05, 2.755746274241797e-06, 2.762614256534391e-07,
            2.5031038305215438e-08,
        ),
        log=tuple(2 * v for v in (
            0.3333333333333367, 0.19999999999708462, 0.1428571437096839, 0.11111099307894004,
            0.09091781132389219, 0.07657049989635348, 0.07397742087981392,
        )),
        log1p_unit=tuple(2 * v for v in (
            0.33333333333333154, 0.20000000000077958, 0.14285714274004682, 0.11111111980404484,
            0.09090872106920385, 0.07693277145746125, 0.06650520466697564, 0.060528016672919266,
            0.04171001971472498, 0.08507707985447939)),
    ),
}


# ---------------------------------------------------------------------------------------------------
# LLVM intrinsics


def _llvm(name, arity):
    def codegen(context, builder, signature, arguments):
        kind = context.get_value_type(signature.return_type)
        function = builder.module.declare_intrinsic(
            name, [kind], ir.FunctionType(kind, [kind] * arity)
        )
        return builder.call(function, arguments)

    return codegen


@intrinsic
def maximum(typing_context, a, b):
    """The larger of two floats of one type, NaN if either is NaN; vectorises as a reduction."""
    return a(a, a), _llvm("llvm.maximum", 2)


@intrinsic
def minimum(typing_context, a, b):
    """The smaller of two floats of one type, NaN if either is NaN; vectorises as a reduction."""
    return a(a, a), _llvm("llvm.minimum", 2)


def _bits(builder, value, width):
    return builder.bitcast(value, ir.IntType(width))


@intrinsic
def float_to_bits(typing_context, x):
    """The bit pattern of a float as a signed integer of the same width."""
    integer = types.Integer.from_bitwidth(x.bitwidth, signed=True)
    return integer(x), lambda context, builder, signature, arguments: _bits(
        builder, arguments[0], x.bitwidth
    )


@intrinsic
def bits_to_float(typing_context, bits):
    """The float whose bit pattern is the given int32 or int64."""
    kind = {32: types.float32, 64: types.float64}[bits.bitwidth]
    return kind(bits), lambda context, builder, signature, arguments: builder.bitcast(
        arguments[0], context.get_value_type(kind)
    )


# The integer steps stay inside of intrinsics: Numba would widen int32 + int32 to int64.


def _exponent_bits(builder, kind, shifted):
    """n in the exponent's place, from the bits of n + shift."""
    bits = _bits(builder, shifted, kind.bitwidth)
    return builder.shl(bits, bits.type(int(FORMATS[kind].mantissa_bits)))


@intrinsic
def _power_of_two(typing_context, shifted):
    """2**n from the float n + bias + shift, for -bias <= n <= bias + 1; the ends are 0 and inf."""

    def codegen(context, builder, signature, arguments):
        (value,) = arguments
        return builder.bitcast(_exponent_bits(builder, shifted, value), value.type)

    return shifted(shifted), codegen


@intrinsic
def _add_exponent(typing_context, x, shifted):
    """x * 2**n from x and the float n + shift; x and the result must be normal."""

    def codegen(context, builder, signature, arguments):
        value, power = arguments
        bits = _bits(builder, value, x.bitwidth)
        return builder.bitcast(
            builder.add(bits, _exponent_bits(builder, x, power)), value.type
        )

    return x(x, x), codegen


@intrinsic
def _split(typing_context, x):
    """(m, k) with x = m * 2**k and sqrt(1/2) <= m < sqrt(2), for normal positive x."""

    def codegen(context, builder, signature, arguments):
        (value,) = arguments
        form = FORMATS[x]
        integer = ir.IntType(x.bitwidth)
        mantissa_bits = int(form.mantissa_bits)
        import os
        lowest = integer(int(np.array(float(os.environ.get('PIVOT',0.5**0.5)), str(x)).view(f"int{x.bitwidth}")))
        offset = builder.sub(_bits(builder, value, x.bitwidth), lowest)
        mantissa = builder.and_(offset, integer((1 << mantissa_bits) - 1))
        mantissa = builder.bitcast(builder.add(mantissa, lowest), value.type)
        # AVX2 cannot convert int64 to float64: the shift constant does it, in both types
        shift = builder.bitcast(value.type(float(form.shift)), integer)
        exponent = builder.add(builder.ashr(offset, integer(mantissa_bits)), shift)
        exponent = builder.fsub(
            builder.bitcast(exponent, value.type), value.type(float(form.shift))
        )
        return context.make_tuple(builder, signature.return_type, (mantissa, exponent))

    return types.UniTuple(x, 2)(x), codegen


@intrinsic
def _polynomial(typing_context, x, coefficients):
    """Sum of coefficients[i] * x**i by Horner's rule.

    Estrin's scheme measured 0 to 10 % slower in loops (more multiplications; the independent
    iterations hide Horner's latency) and doubles the error of exp.
    """

    def codegen(context, builder, signature, arguments):
        value, terms = arguments
        *terms, total = cgutils.unpack_tuple(builder, terms)
        for term in reversed(terms):
            total = builder.fadd(builder.fmul(total, value), term)
        return total

    return x(x, coefficients), codegen


# ---------------------------------------------------------------------------------------------------
# Functions


def _mathematics(implement):
    """Make ``implement(type of x)``, which returns the scalar code, a function of x for nopython.

    forceinline, because LLVM vectorises only what it has inlined.
    """

    @functools.wraps(implement)
    def function(*arguments):
        return compiled()(*arguments)

    @functools.cache
    def compiled():
        return njit(lambda *arguments: function(*arguments), **JIT_OPTIONS)

    @functools.wraps(implement)
    def implement_floats(*kinds):
        return implement(*kinds) if kinds[0] in FORMATS else None

    overload(function, jit_options={**JIT_OPTIONS, "forceinline": True})(implement_floats)
    return function


@_mathematics
def _reduce(x, shift):
    """(r, n + shift) with x = n ln2 + r, |r| <= ln2 / 2, after Cody and Waite (1980)."""
    form = FORMATS[x]

    def reduce(x, shift):
        shifted = x * form.log2_e + shift
        n = shifted - shift
        return (x - n * form.ln2_high) - n * form.ln2_low, shifted

    return reduce


@_mathematics
def exp(x):
    form = FORMATS[x]

    def exp(x):
        T = type(x)
        r, shifted = _reduce(x, form.shift)
        y = _add_exponent(_polynomial(r, form.exp), shifted)
        y = T(0) if x < form.exp_lowest else y
        return y if x <= form.exp_highest else x + T(np.inf)

    return exp


@_mathematics
def exp_nonpositive(x):
    form = FORMATS[x]

    def exp_nonpositive(x):
        T = type(x)
        lowest = form.exp_lowest - T(1)
        r, shifted = _reduce(lowest if x < lowest else x, form.shift + form.bias)
        return _polynomial(r, form.exp) * _power_of_two(shifted)

    return exp_nonpositive


@_mathematics
def _half_expm1(x):
    """(exp(x) - 1) / 2, the half so that 2**n stays finite; x between -saturation and overflow."""
    form = FORMATS[x]
    tail = form.exp[2:]

    def half_expm1(x):
        T = type(x)
        shifted = x * form.log2_e + (form.shift + (form.bias - T(1)))
        n = shifted - (form.shift + (form.bias - T(1)))
        high = x - n * form.ln2_high
        low = n * form.ln2_low
        r = high - low
        half = _power_of_two(shifted)
        return (half * high + (half - T(0.5))) + half * ((r * r) * _polynomial(r, tail) - low)

    return half_expm1


@_mathematics
def expm1(x):
    form = FORMATS[x]

    def expm1(x):
        T = type(x)
        x = -form.saturation if x < -form.saturation else x
        highest = form.exp_highest + T(1)
        y = _half_expm1(highest if x > highest else x)
        return y + y

    return expm1


@_mathematics
def _log1p_tail(f, coefficients):
    """f - log(1 + f) = s * (f - s**2 P(s**2)), s = f / (2 + f)."""

    def log1p_tail(f, coefficients):
        T = type(f)
        s = f / (T(2) + f)
        z = s * s
        return s * (f - z * _polynomial(z, coefficients))

    return log1p_tail


@_mathematics
def _log_scaled(f, k):
    """log(2**k * (1 + f))."""
    form = FORMATS[f]

    def log_scaled(f, k):
        return (f - (_log1p_tail(f, form.log) - k * form.ln2_low)) + k * form.ln2_high

    return log_scaled


@_mathematics
def log(x):
    form = FORMATS[x]
    scale = type(form.bias)(2.0**form.mantissa_bits)

    def log(x):
        T = type(x)
        subnormal = x < form.smallest_normal
        m, k = _split(x * scale if subnormal else x)
        y = _log_scaled(m - T(1), k - (form.mantissa_bits if subnormal else T(0)))
        y = y if x < T(np.inf) else x
        return (T(-np.inf) if x == T(0) else T(np.nan)) if x <= T(0) else y

    return log


@_mathematics
def log1p(x):
    form = FORMATS[x]

    def log1p(x):
        T = type(x)
        k = _split(T(1) + x)[1]
        # four times 2**-k, which is normal for the largest x too
        scale = _power_of_two((form.shift + form.bias + T(2)) - k)
        y = _log_scaled((x * scale) * T(0.25) + (scale * T(0.25) - T(1)), k)
        y = y if x < T(np.inf) else x
        return (T(-np.inf) if x == T(-1) else T(np.nan)) if x <= T(-1) else y

    return log1p


@_mathematics
def log1p_unit(e):
    form = FORMATS[e]

    def log1p_unit(e):
        return e - _log1p_tail(e, form.log1p_unit)

    return log1p_unit


@_mathematics
def sigmoid(x):

    def sigmoid(x):
        T = type(x)
        e = exp_nonpositive(-abs(x))
        y = e if x < T(0) else T(1)
        return y - y * (e / (T(1) + e))

    return sigmoid


@_mathematics
def softplus(x):

    def softplus(x):
        T = type(x)
        return (x if x > T(0) else T(0)) + log1p_unit(exp_nonpositive(-abs(x)))

    return softplus


@_mathematics
def tanh(x):
    form = FORMATS[x]
    tail = form.exp[2:]

    def tanh(x):
        T = type(x)
        a = abs(x)
        a = form.saturation if a > form.saturation else a
        h = _half_expm1(a + a)
        y = T(1) if h > T(1) else h
        y = y - y * (y / (h + T(1)))
        return -y if x < T(0) else y

    return tanh
