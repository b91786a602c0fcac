"""What the mathematics knows of float32 and float64, and the steps that only LLVM can do.

The steps take vectors (`_vectors`) as well as numbers, but for `maximum`, `minimum`, `fused` and
the bit patterns.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastloss._vectors import constant, copies, float_of, integers_of


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
    ),
}
# fmt: on


def format_of(kind):
    """Return the format of a float type or of a vector of such floats."""
    return FORMATS[float_of(kind)]


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
def add_exponent(typing_context, x, shifted):
    """Return x * 2**n from the float shifted = n + shift; both x and the result must be normal."""

    def codegen(context, builder, signature, arguments):
        integer = ir.IntType(x.bitwidth)
        bits, n = (builder.bitcast(argument, integer) for argument in arguments)
        n = builder.shl(n, integer(int(FORMATS[x].mantissa_bits)))
        return builder.bitcast(builder.add(bits, n), arguments[0].type)

    return x(x, x), codegen


@intrinsic
def power_of_two(typing_context, shifted):
    """Return 2**n from the float shifted = n + bias + shift; 0 for n = -bias, inf for bias + 1."""

    def codegen(context, builder, signature, arguments):
        kind = arguments[0].type
        bits = builder.bitcast(arguments[0], integers_of(kind))
        places = constant(bits.type, int(format_of(shifted).mantissa_bits))
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
    return x(x, float_of(x)), _limited("<")


@intrinsic
def at_most(typing_context, x, highest):
    """Return x, or `highest` where x is more; NaN stays."""
    return x(x, float_of(x)), _limited(">")


@intrinsic
def split(typing_context, x):
    """(m, k) with x = m * 2**k and sqrt(1/2) <= m < sqrt(2), for normal positive x."""
    form = format_of(x)

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
def polynomial(typing_context, x, coefficients):
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
