"""Vectors as a type of compiled code, for loops over a few dozen entries.

A vector fills registers of 64 bytes, each of 16 float32 or 8 float64: one, or several whose
instructions then run side by side. LLVM splits them where the CPU's are shorter. Arithmetic and
comparisons are those of the numbers, lane by lane, and a number beside a vector stands for copies
of it. `choose` is the conditional expression; some functions of `_math` take vectors too.

What LLVM makes of a plain loop needs three parts, one for many vectors, one for a few and a scalar
one for what is left, which may cost as much as all of the vectors. Written in vectors, the last one
is cut short (`load_some`, `store_some`) or overlaps the one before.
"""

import functools
import operator

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import (
    intrinsic,
    lower_builtin,
    make_attribute_wrapper,
    overload,
    register_model,
    type_callable,
)

from fastloss._jit import INLINED

BYTES = 64
"""The size of a register, as we count them."""


class Vector(types.Type):
    """The Numba type of a vector of floats that fills some registers.

    Its lanes are neighbours in a row, or, of a vector `across` rows, each of another row.
    """

    def __init__(self, dtype, registers=1, across=False):
        self.dtype = dtype
        self.lanes = registers * 8 * BYTES // dtype.bitwidth
        self.across = across
        super().__init__(name=f"Vector({dtype} x {self.lanes}{' rows' if across else ''})")

    def of(self, dtype):
        """Return the type of vectors like these, of as many numbers of another type."""
        return Vector(dtype, self.lanes // Vector(dtype).lanes, self.across)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        element = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, kind.lanes))


class Mask(types.Type):
    """The Numba type of what comes of comparing vectors: true or false in each lane."""

    def __init__(self, vector):
        self.vector = vector
        super().__init__(name=f"Mask({vector})")


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.VectorType(ir.IntType(1), kind.vector.lanes))


class Columns(types.Type):
    """The Numba type of neighbouring rows, as many as a register has lanes, seen as one row.

    Each of its entries is a vector of theirs across the rows. Entry c lies c times `step` numbers
    behind the first. A function of a row that is written in vectors takes such a row as well.
    """

    def __init__(self, dtype, step):
        self.dtype, self.step = dtype, step
        super().__init__(name=f"Columns({dtype}, {step})")


@register_model(Columns)
class _ColumnsModel(models.StructModel):
    def __init__(self, manager, kind):
        super().__init__(
            manager, kind, [("data", types.CPointer(kind.dtype)), ("size", types.intp)]
        )


make_attribute_wrapper(Columns, "size", "size")


def float_of(kind):
    """Return the type of the numbers of a vector; any other type is its own."""
    return kind.dtype if isinstance(kind, Vector) else kind


def copies(builder, value, like):
    """Generate copies of a scalar, as many as an LLVM type has lanes; no scalar type has any."""
    if not isinstance(like, ir.VectorType) or isinstance(value.type, ir.VectorType):
        return value
    blank = ir.Constant(ir.VectorType(value.type, like.count), ir.Undefined)
    first = builder.insert_element(blank, value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, blank, places([0] * like.count))


def integers_of(kind):
    """Return the LLVM type of the bit patterns of a float or a vector of floats."""
    if isinstance(kind, ir.VectorType):
        return ir.VectorType(integers_of(kind.element), kind.count)
    return ir.IntType(64 if isinstance(kind, ir.DoubleType) else 32)


def constant(kind, value):
    """Return a constant of an LLVM type, in each lane of a vector."""
    return kind([value] * kind.count) if isinstance(kind, ir.VectorType) else kind(value)


def floats_of(builder, kind, values, vector):
    """Generate the numbers of a vector of integers or bools, of a Numba type, as floats.

    Any byte that is not 0 is true: NumPy lets other bytes than 1 be read as a bool.
    """
    if isinstance(kind, types.Boolean):
        values = builder.icmp_unsigned("!=", values, ir.Constant(values.type, None))
    signed = isinstance(kind, types.Integer) and kind.signed
    return (builder.sitofp if signed else builder.uitofp)(values, vector)


def places(numbers):
    return ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), list(numbers))


def _operator(operation, result_of, generate):
    """Let vectors take an operation of Python between each other and with floats."""

    @type_callable(operation)
    def type_of(context):
        def typer(a, b):
            vectors = [kind for kind in (a, b) if isinstance(kind, Vector)]
            if vectors and all(kind in (vectors[0], vectors[0].dtype) for kind in (a, b)):
                return result_of(vectors[0])
            return None

        return typer

    def generate_alike(context, builder, signature, arguments):
        (like,) = {x.type for x in arguments if isinstance(x.type, ir.VectorType)}
        return generate(builder, *(copies(builder, x, like) for x in arguments))

    for kinds in ((Vector, Vector), (Vector, types.Float), (types.Float, Vector)):
        lower_builtin(operation, *kinds)(generate_alike)


for _operation, _instruction in (
    (operator.add, ir.IRBuilder.fadd),
    (operator.sub, ir.IRBuilder.fsub),
    (operator.mul, ir.IRBuilder.fmul),
    (operator.truediv, ir.IRBuilder.fdiv),
):
    _operator(_operation, lambda vector: vector, _instruction)


def _comparison(sign):
    return lambda builder, a, b: builder.fcmp_ordered(sign, a, b)


@type_callable(operator.neg)
def _type_of_negative(context):
    return lambda x: x if isinstance(x, Vector) else None


@lower_builtin(operator.neg, Vector)
def _negative(context, builder, signature, arguments):
    return builder.fneg(arguments[0])


for _operation, _sign in (
    (operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">="),
    (operator.eq, "=="),
):  # fmt: skip
    _operator(_operation, Mask, _comparison(_sign))


@intrinsic
def choose(typing_context, condition, a, b):
    """Return a where the condition holds, else b: of numbers, or lane by lane of vectors."""
    kind = b if isinstance(b, Vector) else a
    if isinstance(condition, Mask) and not isinstance(kind, Vector):
        kind = condition.vector.of(kind)

    def generate(context, builder, signature, arguments):
        condition, *choices = arguments
        like = context.get_value_type(kind)
        return builder.select(condition, *(copies(builder, x, like) for x in choices))

    return kind(condition, a, b), generate


@intrinsic
def how_many(typing_context, mask):
    """Return in how many lanes a condition holds."""

    def generate(context, builder, signature, arguments):
        lanes = ir.IntType(arguments[0].type.count)
        bits = builder.bitcast(arguments[0], lanes)
        return builder.zext(builder.ctpop(bits), ir.IntType(64))

    return types.intp(mask), generate


@intrinsic
def one_like(typing_context, x):
    """Return 1 as a float like x, or like the numbers of a vector."""
    kind = float_of(x)
    return kind(x), lambda context, *others: context.get_constant(kind, 1)


def number(x, T):
    """Return x as a T; a vector, whose numbers are such already, as it is."""


@overload(number, jit_options=INLINED)
def _number(x, T):
    return (lambda x, T: x) if isinstance(x, Vector) else (lambda x, T: T(x))


@intrinsic
def widened(typing_context, x):
    """Return a float, or a vector's in as many lanes, in float64."""
    kind = x.of(types.float64) if isinstance(x, Vector) else types.float64

    def generate(context, builder, signature, arguments):
        if kind == x:
            return arguments[0]
        return builder.fpext(arguments[0], context.get_value_type(kind))

    return kind(x), generate


@intrinsic
def narrowed(typing_context, x, T):
    """Return a float64, or a vector's in as many lanes, as a T."""
    kind = x.of(T.dtype) if isinstance(x, Vector) else T.dtype

    def generate(context, builder, signature, arguments):
        if kind == x:
            return arguments[0]
        return builder.fptrunc(arguments[0], context.get_value_type(kind))

    return kind(x, T), generate


@intrinsic
def width_of(typing_context, array):
    """Return how many floats like those of an array fill a register, a constant."""

    def generate(context, builder, signature, arguments):
        return context.get_constant(types.intp, Vector(array.dtype).lanes)

    return types.intp(array), generate


@intrinsic
def lanes_of(typing_context, array):
    """Return how many entries of a row fill a register, a constant: 1 of the entries of columns."""

    def generate(context, builder, signature, arguments):
        lanes = 1 if isinstance(array, Columns) else Vector(array.dtype).lanes
        return context.get_constant(types.intp, lanes)

    return types.intp(array), generate


@intrinsic
def are_float32(typing_context, array):
    """Return whether the numbers of an array are float32, a constant."""

    def generate(context, builder, signature, arguments):
        return context.get_constant(types.boolean, array.dtype == types.float32)

    return types.boolean(array), generate


@intrinsic
def zeros(typing_context, array):
    """Return zeros to add entries of a row to, a register of them."""
    kind = Vector(array.dtype, across=isinstance(array, Columns))

    def generate(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(kind), None)

    return kind(array), generate


@intrinsic(prefer_literal=True)
def spread(typing_context, x, registers):
    """Return copies of a number, a vector that fills so many registers (a literal)."""
    kind = Vector(x, registers.literal_value)

    def generate(context, builder, signature, arguments):
        return copies(builder, arguments[0], context.get_value_type(kind))

    return kind(x, registers), generate


def _larger(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _smaller(builder, a, b):
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


def _folded(builder, vector, count, operation):
    """Generate what an operation makes of the parts of a vector, which have `count` lanes each."""
    parts = [
        builder.shuffle_vector(vector, vector, places(range(first, first + count)))
        for first in range(0, vector.type.count, count)
    ]
    return functools.reduce(operation, parts)


@intrinsic
def larger(typing_context, a, b):
    """Return the larger number of each lane; of a NaN and a number, the number or the NaN."""

    def generate(context, builder, signature, arguments):
        return _larger(builder, *arguments)

    return a(a, a), generate


@intrinsic
def smaller(typing_context, a, b):
    """Return the smaller number of each lane; of a NaN and a number, the number or the NaN."""

    def generate(context, builder, signature, arguments):
        return _smaller(builder, *arguments)

    return a(a, a), generate


def lanes_that(builder, sign, number, vector):
    """Generate for which lanes of an LLVM vector type their own number, from 0 on, compares so."""
    number = copies(builder, builder.trunc(number, ir.IntType(32)), vector)
    return builder.icmp_signed(sign, places(range(vector.count)), number)


@intrinsic
def is_lane(typing_context, like, number):
    """Return a mask of the one lane of that number, from 0 on, of a vector; there may be none."""

    def generate(context, builder, signature, arguments):
        return lanes_that(builder, "==", arguments[1], arguments[0].type)

    return Mask(like)(like, types.intp), generate


@intrinsic
def in_row(typing_context, like, size):
    """Return which lanes of a vector are among the next `size` entries of a row: of columns all."""

    def generate(context, builder, signature, arguments):
        if like.across:
            return ir.Constant(context.get_value_type(Mask(like)), [True] * like.lanes)
        return lanes_that(builder, "<", arguments[1], arguments[0].type)

    return Mask(like)(like, types.intp), generate


@intrinsic
def first_lane(typing_context, mask, found):
    """Return the mask of a row's first lane in `mask`, and whether there is one.

    Nothing is in it if one was `found` in lanes before these. Across rows, both are masks: each
    lane is the next of its own row.
    """
    result = types.Tuple((mask, found))

    def generate(context, builder, signature, arguments):
        here, found = arguments
        if mask.vector.across:
            first, found = builder.and_(here, builder.not_(found)), builder.or_(here, found)
        else:
            bits = builder.bitcast(here, ir.IntType(mask.vector.lanes))
            lowest = builder.and_(bits, builder.neg(bits))
            first = builder.select(found, bits.type(0), lowest)
            first = builder.bitcast(first, here.type)
            found = builder.or_(found, builder.icmp_unsigned("!=", bits, bits.type(0)))
        return context.make_tuple(builder, result, (first, found))

    return result(mask, found), generate


@intrinsic
def with_lane(typing_context, vector, lane, x):
    """Return a vector with x in one lane; the vector itself if it has no such lane."""

    def generate(context, builder, signature, arguments):
        vector, lane, x = arguments
        others = _lanes_but(context, builder, lane.type(0), lane, vector.type)
        return builder.select(others, vector, copies(builder, x, vector.type))

    return vector(vector, types.intp, vector.dtype), generate


def _lanes_but(context, builder, first, missing, vector):
    """Generate the mask of the lanes from `first` on, but for the lane `missing`.

    With mask registers, as an integer of a bit for each of up to 64 lanes: loops of exponentials
    take up to a tenth less time so, as comparisons of lanes wait for the units that multiply.
    Without, a mask would have to be made of the bits again.
    """
    _, _, features = context.codegen().magic_tuple()  # which the disk cache looks at, too
    lanes, word = vector.count, missing.type
    if "+avx512f" not in features:
        late, others = (
            lanes_that(builder, sign, number, vector)
            for sign, number in ((">=", first), ("!=", missing))
        )
        return builder.and_(late, others)
    bit = builder.shl(word(1), builder.and_(missing, word(lanes - 1)))
    bit = builder.select(builder.icmp_unsigned("<", missing, word(lanes)), bit, word(0))
    wanted = builder.and_(builder.shl(word(-1), first), builder.not_(bit))
    wanted = wanted if lanes == word.width else builder.trunc(wanted, ir.IntType(lanes))
    return builder.bitcast(wanted, ir.VectorType(ir.IntType(1), lanes))


@intrinsic
def add_lanes(typing_context, total, vector, first, missing):
    """Return the total plus a vector, but for the lanes before `first` and the lane `missing`.

    These stay what they are in the total. A `missing` that is no lane's number leaves none out.
    """

    def generate(context, builder, signature, arguments):
        total, vector, first, missing = arguments
        wanted = _lanes_but(context, builder, first, missing, vector.type)
        return builder.select(wanted, builder.fadd(total, vector), total)

    return total(total, vector, types.intp, types.intp), generate


def _registers_made_one(vector, operation):
    """Return the signature of an intrinsic that folds a vector's registers, and its generator.

    Across rows, each lane is its own.
    """
    if vector.across:
        return vector(vector), lambda context, builder, signature, arguments: arguments[0]
    kind = Vector(vector.dtype)

    def generate(context, builder, signature, arguments):
        return _folded(builder, arguments[0], kind.lanes, functools.partial(operation, builder))

    return kind(vector), generate


@intrinsic
def largest_register(typing_context, vector):
    """Return a vector's registers made one: the largest number of each lane."""
    return _registers_made_one(vector, _larger)


@intrinsic
def smallest_register(typing_context, vector):
    """Return a vector's registers made one: the smallest number of each lane."""
    return _registers_made_one(vector, _smaller)


@intrinsic
def sum_of_registers(typing_context, vector):
    """Return a vector's registers made one: the sum of each lane."""
    return _registers_made_one(vector, ir.IRBuilder.fadd)


def _reduced(builder, vector, operation):
    """Generate the result of an associative operation over all lanes, halves first."""
    while vector.type.count > 1:
        vector = _folded(builder, vector, vector.type.count // 2, operation)
    return builder.extract_element(vector, ir.IntType(32)(0))


@intrinsic
def largest_lane(typing_context, vector):
    """Return the largest number of a vector; of NaN and numbers, a number or NaN.

    Across rows, each lane is its own.
    """
    if vector.across:
        return vector(vector), lambda context, builder, signature, arguments: arguments[0]

    def generate(context, builder, signature, arguments):
        return _reduced(builder, arguments[0], functools.partial(_larger, builder))

    return vector.dtype(vector), generate


@intrinsic
def sum_of_lanes(typing_context, vector):
    """Return the sum of the numbers of a vector, in pairs; across rows, each lane is its own."""
    if vector.across:
        return vector(vector), lambda context, builder, signature, arguments: arguments[0]

    def generate(context, builder, signature, arguments):
        return _reduced(builder, arguments[0], builder.fadd)

    return vector.dtype(vector), generate


def _every(builder, condition):
    """Generate whether a condition, of one bit or a bit for each lane, holds throughout."""
    if not isinstance(condition.type, ir.VectorType):
        return condition
    bits = builder.bitcast(condition, ir.IntType(condition.type.count))
    return builder.icmp_unsigned("==", bits, bits.type(-1))


@intrinsic
def every(typing_context, condition):
    """Return whether a condition holds, in every lane."""

    def generate(context, builder, signature, arguments):
        return _every(builder, arguments[0])

    return types.boolean(condition), generate


@intrinsic
def all_within(typing_context, x, low, high):
    """Return whether a float, or every lane of a vector, is at least `low` and less than `high`.

    Both are positive: then the bit patterns compare as the numbers do, in one comparison.
    """
    number = float_of(x)

    def generate(context, builder, signature, arguments):
        kind = arguments[0].type
        x, low, high = (
            builder.bitcast(copies(builder, value, kind), integers_of(kind)) for value in arguments
        )
        inside = builder.icmp_unsigned("<", builder.sub(x, low), builder.sub(high, low))
        return _every(builder, inside)

    return types.boolean(x, number, number), generate
