"""Vectors (`_vectors`) from and to contiguous arrays, whole or in part. Nothing is checked."""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, type_callable

from fastloss._vectors import Columns, Mask, Vector, copies, floats_of, integers_of, lanes_that


def _address(context, builder, kind, array, i, vector):
    """Generate the address of the vector that begins at entry i of a contiguous array."""
    if isinstance(kind, Columns):
        data = cgutils.create_struct_proxy(kind)(context, builder, array).data
        i = builder.mul(i, i.type(kind.step))
    else:
        data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [i], inbounds=True), vector.as_pointer())


def _loading(kind, array, *others):
    """Return the signature of a load of a whole vector of that type, and what generates it."""

    def generate(context, builder, signature, arguments):
        source, start, *_ = arguments
        vector = context.get_value_type(kind)
        place = _address(context, builder, array, source, start, vector)
        return builder.load(place, align=_width(vector))

    return kind(array, types.intp, *others), generate


@intrinsic(prefer_literal=True)
def load(typing_context, array, i, registers):
    """Return the vector that begins at entry i of a contiguous array, unchecked.

    It fills so many registers (a literal).
    """
    return _loading(Vector(array.dtype, registers.literal_value), array, registers)


@intrinsic
def load_like(typing_context, array, i, like):
    """Return the vector that begins at entry i of a contiguous array, of the type of another."""
    return _loading(like, array, like)


@intrinsic
def store(typing_context, array, i, vector):
    """Write a vector to the entries of a contiguous array from i on, unchecked."""

    def generate(context, builder, signature, arguments):
        target, start, values = arguments
        place = _address(context, builder, array, target, start, values.type)
        builder.store(values, place, align=_width(values.type))
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


def _mask(builder, vector, size):
    """Generate the mask of the first lanes of a vector, of which there may be more than `size`."""
    return lanes_that(builder, "<", size, vector)


def _masked_load(builder, place, vector, size, filling):
    mask, align = _mask(builder, vector, size), ir.IntType(32)(_width(vector))
    return _call(builder, "llvm.masked.load", vector, vector, [place, align, mask, filling])


def _masked_store(builder, place, values, size):
    mask, align = _mask(builder, values.type, size), ir.IntType(32)(_width(values.type))
    _call(builder, "llvm.masked.store", values.type, ir.VoidType(), [values, place, align, mask])


def _width(vector):
    """Return the bytes of a lane."""
    element = vector.element
    return (element if isinstance(element, ir.IntType) else integers_of(element)).width // 8


def _call(builder, name, vector, result, arguments):
    """Generate a call of an LLVM intrinsic for vectors in memory."""
    kind = "i" if isinstance(vector.element, ir.IntType) else "f"
    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    name = f"{name}.v{vector.count}{kind}{8 * _width(vector)}.p0"
    function = cgutils.get_or_insert_function(builder.module, function_type, name)
    return builder.call(function, arguments)


@intrinsic
def load_short(typing_context, array, filling):
    """Return a contiguous array that is shorter than a register, filled up with a number."""
    kind = Vector(array.dtype)

    def generate(context, builder, signature, arguments):
        vector = context.get_value_type(kind)
        size = context.make_array(array)(context, builder, arguments[0]).nitems
        place = _address(context, builder, array, arguments[0], size.type(0), vector)
        return _masked_load(builder, place, vector, size, copies(builder, arguments[1], vector))

    return kind(array, array.dtype), generate


@intrinsic
def store_short(typing_context, array, vector):
    """Write the first lanes of a register to a contiguous array that is shorter."""

    def generate(context, builder, signature, arguments):
        target, values = arguments
        size = context.make_array(array)(context, builder, target).nitems
        place = _address(context, builder, array, target, size.type(0), values.type)
        _masked_store(builder, place, values, size)
        return context.get_dummy_value()

    return types.void(array, vector), generate


def _fills(builder, vector, size):
    """Generate whether all lanes are among the first `size`."""
    return builder.icmp_signed(">=", size, size.type(vector.count))


@intrinsic(prefer_literal=True)
def columns_of(typing_context, tile, first, step, size):
    """Return the rows side by side from entry `first` of a tile on as `Columns`.

    Each has `size` entries, `step` apart (a literal).
    """
    kind = Columns(tile.dtype, step.literal_value)

    def generate(context, builder, signature, arguments):
        source, start, _, size = arguments
        data = context.make_array(tile)(context, builder, source).data
        columns = cgutils.create_struct_proxy(kind)(context, builder)
        columns.data, columns.size = builder.gep(data, [start], inbounds=True), size
        return columns._getvalue()

    return kind(tile, types.intp, step, types.intp), generate


@type_callable(operator.getitem)
def _type_of_number(context):
    return lambda row, i: row.dtype if isinstance(row, Columns) else None


@lower_builtin(operator.getitem, Columns, types.Integer)
def _number_of_first(context, builder, signature, arguments):
    """Generate an entry of the first of the rows, for ``type(row[0])``: only its type is used."""
    kind, (columns, i) = signature.args[0], arguments
    data = cgutils.create_struct_proxy(kind)(context, builder, columns).data
    return builder.load(builder.gep(data, [builder.mul(i, i.type(kind.step))]))


@intrinsic(prefer_literal=True)
def load_some(typing_context, array, i, registers, size, filling):
    """Return the vector that begins at entry i; the lanes from `size` on have `filling`.

    It fills so many `registers` (a literal, or a vector that fills as many). Its numbers are of the
    type of `filling`: integers and bools are converted. If the array is None, so is the vector. Of
    columns `size` is not looked at.
    """
    if isinstance(array, types.NoneType):
        nothing = types.none(array, types.intp, registers, types.intp, filling)
        return nothing, lambda context, *others: context.get_dummy_value()
    if isinstance(array, Columns):
        return _loading(Vector(array.dtype, across=True), array, registers, types.intp, filling)
    if isinstance(registers, Vector):
        kind = registers.of(filling)
    else:
        kind = Vector(filling, registers.literal_value)

    def generate(context, builder, signature, arguments):
        source, start, _, size, filling = arguments
        vector = context.get_value_type(kind)
        stored = ir.VectorType(context.get_data_type(array.dtype), kind.lanes)
        place = _address(context, builder, array, source, start, stored)
        filling = copies(builder, filling, vector)
        with builder.if_else(_fills(builder, vector, size)) as (then, otherwise):
            with then:
                whole, after_whole = builder.load(place, align=_width(stored)), builder.block
                if stored != vector:
                    whole = floats_of(builder, array.dtype, whole, vector)
            with otherwise:
                absent = filling if stored == vector else ir.Constant(stored, None)
                some = _masked_load(builder, place, stored, size, absent)
                if stored != vector:
                    some = floats_of(builder, array.dtype, some, vector)
                    some = builder.select(_mask(builder, vector, size), some, filling)
                after_some = builder.block
        result = builder.phi(vector)
        result.add_incoming(whole, after_whole)
        result.add_incoming(some, after_some)
        return result

    return kind(array, types.intp, registers, types.intp, filling), generate


@intrinsic
def lanes_with(typing_context, numbers, i, number, like):
    """Return for which lanes of the vector `like` the integers from entry i on are this number."""

    def generate(context, builder, signature, arguments):
        source, start, number, _ = arguments
        vector = ir.VectorType(context.get_data_type(numbers.dtype), like.lanes)
        place = _address(context, builder, numbers, source, start, vector)
        found = builder.load(place, align=_width(vector))
        number = copies(builder, builder.trunc(number, vector.element), vector)
        return builder.icmp_signed("==", found, number)

    return Mask(like)(numbers, types.intp, types.intp, like), generate


@intrinsic
def store_some(typing_context, array, i, vector, size):
    """Write a vector, or no more than its first `size` lanes, to the entries from i on.

    To None nothing is written. Of columns `size` is not looked at.
    """
    if isinstance(array, types.NoneType):
        nothing = types.void(array, types.intp, vector, types.intp)
        return nothing, lambda context, *others: context.get_dummy_value()

    def generate(context, builder, signature, arguments):
        target, start, values, size = arguments
        place = _address(context, builder, array, target, start, values.type)
        if isinstance(array, Columns):
            builder.store(values, place, align=_width(values.type))
            return context.get_dummy_value()
        with builder.if_else(_fills(builder, values.type, size)) as (then, otherwise):
            with then:
                builder.store(values, place, align=_width(values.type))
            with otherwise:
                _masked_store(builder, place, values, size)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, types.intp), generate
