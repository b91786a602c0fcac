"""The LLVM intrinsics that the loop templates need beyond the mathematics of `_math`."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic, overload
from numba.np.arrayobj import populate_array

from fastloss._jit import INLINED
from fastloss._machine_code import make_block, make_part
from fastloss._vectors import floats_of

OVERLAP = -2
"""The status with which a driver refuses a gradient buffer that overlaps an input."""


@intrinsic
def own_function(typing_context):
    """Keep the calling function a machine function of its own, with non-aliasing arrays.

    ``noinline``: the serial and the parallel driver then run the very same instructions, which
    makes their results bitwise equal. ``noalias`` on the data pointers of the array arguments:
    LLVM vectorises without testing every pair of arrays for overlap at run time (it gives up
    beyond a few pairs). The caller's duty: no array that the function writes overlaps another.
    What calls it declares it, and is stored with its machine code (`_machine_code`).
    """

    def generate(context, builder, signature, arguments):
        make_block(context.active_code_library)
        builder.function.attributes.add("noinline")
        for argument in builder.function.args:
            # Numba flattens an array argument a into arg.a.0 (memory block) … arg.a.4 (data).
            name = argument.name.split(".")
            if name[0] == "arg" and name[-1] == "4" and isinstance(argument.type, ir.PointerType):
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def parallel_part(typing_context):
    """Keep copies of the blocks that a prange loop calls out of its code, as out of a driver's.

    Numba makes a library of the loop's body, and of the driver around it another one.
    """

    def generate(context, builder, signature, arguments):
        make_part(context.active_code_library)
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def overlaps(typing_context, one, other):
    """Whether two contiguous arrays share a byte; an absent one shares none."""
    if isinstance(one, types.NoneType) or isinstance(other, types.NoneType):
        absent = types.boolean(one, other)
        return absent, lambda context, *others: context.get_constant(types.boolean, False)

    def generate(context, builder, signature, arguments):
        word = ir.IntType(64)
        starts, ends = [], []
        for kind, value in zip(signature.args, arguments, strict=True):
            array = context.make_array(kind)(context, builder, value)
            start = builder.ptrtoint(array.data, word)
            size = builder.mul(array.nitems, array.itemsize)
            starts.append(start)
            ends.append(builder.add(start, size))
        return builder.and_(
            builder.icmp_unsigned("<", starts[0], ends[1]),
            builder.icmp_unsigned("<", starts[1], ends[0]),
        )

    return types.boolean(one, other), generate


@intrinsic
def part_of(typing_context, array, first, size):
    """Return ``array[first : first + size]`` of a contiguous vector, or None of an absent one.

    A view, unchecked and unowned. A Python slice clamps its bounds, allows for negative ones and
    counts a reference, and each of these costs: LLVM loses sight of where the slice lies, and a
    short loop pays more for the count than for its work. The caller's duty: the bounds are right,
    and the array outlives the view.
    """
    if isinstance(array, types.NoneType):
        return types.none(array, first, size), _nothing

    def generate(context, builder, signature, arguments):
        return vector_at(context, builder, array, *arguments)

    return array(array, types.intp, types.intp), generate


@intrinsic
def hold(typing_context, array):
    """Do nothing but use an array: Numba frees its memory behind the last use, not before."""
    return types.void(array), _nothing


@intrinsic
def flattened(typing_context, array):
    """Return a contiguous array as a vector (a view, as `part_of` gives), or None of None.

    Of a tuple of arrays and Nones, return the tuple of what it gives for each.
    """
    if isinstance(array, types.BaseTuple):
        result = types.Tuple([_flat_kind(kind) for kind in array.types])

        def generate_all(context, builder, signature, arguments):
            members = cgutils.unpack_tuple(builder, arguments[0])
            pairs = zip(array.types, members, strict=True)
            flat_members = [_flat(context, builder, kind, member) for kind, member in pairs]
            return context.make_tuple(builder, result, flat_members)

        return result(array), generate_all

    def generate(context, builder, signature, arguments):
        return _flat(context, builder, array, arguments[0])

    return _flat_kind(array)(array), generate


def _flat_kind(kind):
    return kind if isinstance(kind, types.NoneType) else types.Array(kind.dtype, 1, "C")


def _flat(context, builder, kind, value):
    if isinstance(kind, types.NoneType):
        return value
    base = context.make_array(kind)(context, builder, value)
    return _vector(context, builder, _flat_kind(kind), base.data, base.nitems)


@intrinsic
def item(typing_context, array, i):
    """Return ``array[i]`` of a contiguous vector, unchecked, or None of an absent one."""
    if isinstance(array, types.NoneType):
        return types.none(array, i), _nothing

    def generate(context, builder, signature, arguments):
        base = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = cgutils.gep_inbounds(builder, base.data, arguments[1])
        return context.unpack_value(builder, array.dtype, place)

    return array.dtype(array, types.intp), generate


@intrinsic
def either(typing_context, array, other):
    """Return the array, or the other where it is absent."""
    absent = isinstance(array, types.NoneType)

    def generate(context, builder, signature, arguments):
        chosen = arguments[1] if absent else arguments[0]
        return impl_ret_borrowed(context, builder, signature.return_type, chosen)

    return (other if absent else array)(array, other), generate


@intrinsic
def unless(typing_context, present, array):
    """Return the array, or None where there is something `present`."""
    if not isinstance(present, types.NoneType):
        return types.none(present, array), _nothing

    def generate(context, builder, signature, arguments):
        return impl_ret_borrowed(context, builder, array, arguments[1])

    return array(present, array), generate


def _nothing(context, builder, signature, arguments):
    return context.get_dummy_value()


def vector_at(context, builder, kind, array, first, size):
    """Generate the view of `size` entries from `first` on of an array of this kind."""
    base = context.make_array(kind)(context, builder, array)
    offset = builder.mul(first, _width(context, kind))
    data = cgutils.pointer_add(builder, base.data, offset, base.data.type)
    return _vector(context, builder, kind, data, size)


def _width(context, kind):
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    return context.get_constant(types.intp, size)


def _vector(context, builder, kind, data, size):
    """Return an array structure for memory that it does not own."""
    result = context.make_array(kind)(context, builder)
    width = _width(context, kind)
    populate_array(result, data=data, shape=[size], strides=[width], itemsize=width, meminfo=None)
    return result._getvalue()


@intrinsic(prefer_literal=True)
def on_stack(typing_context, number, size):
    """Return an uninitialised vector in the frame of the calling function.

    `number` is the type of its entries, such as ``np.float64``, and `size` is a constant. It costs
    nothing, where the heap costs a tenth of a microsecond; it dies with its function.
    """
    kind = types.Array(number.dtype, 1, "C")

    def generate(context, builder, signature, arguments):
        count = context.get_constant(types.intp, size.literal_value)
        element = context.get_data_type(kind.dtype)
        data = cgutils.alloca_once(builder, element, size=size.literal_value)
        data.align = 64
        return _vector(context, builder, kind, data, count)

    return kind(number, size), generate


@intrinsic(prefer_literal=True)
def transpose_block(typing_context, values, first, step, out, out_first, out_step, size):
    """Transpose a square: ``out[out_first + j * out_step + i] = values[first + i * step + j]``.

    `size` is a literal power of 2. The rows are loaded as vectors, integers and bools are converted
    to the floats of `out`, and then they are changed in registers: at distances size / 2, ..., 2,
    1, each pair of rows swaps its off-diagonal halves. LLVM makes gathers of the plain loops, which
    take three to five times as long.
    """
    edge = size.literal_value

    def generate(context, builder, signature, arguments):
        source, start, stride, target, target_start, target_stride, _ = arguments

        def place(kind, array, begin, distance, k):
            data = context.make_array(kind)(context, builder, array).data
            offset = builder.add(begin, builder.mul(distance, distance.type(k)))
            vector = ir.VectorType(context.get_data_type(kind.dtype), edge)
            return builder.bitcast(cgutils.gep_inbounds(builder, data, offset), vector.as_pointer())

        def converted(line):
            if values.dtype == out.dtype:
                return line
            vector = ir.VectorType(context.get_data_type(out.dtype), edge)
            return floats_of(builder, values.dtype, line, vector)

        def mixed(one, other, lanes):
            return builder.shuffle_vector(one, other, ir.VectorType(ir.IntType(32), edge)(lanes))

        width = context.get_abi_sizeof(context.get_data_type(values.dtype))
        lines = [
            converted(builder.load(place(values, source, start, stride, k), align=width))
            for k in range(edge)
        ]
        distance = edge // 2
        while distance:
            low = [j if not j & distance else edge + j - distance for j in range(edge)]
            high = [j + distance if not j & distance else edge + j for j in range(edge)]
            for k in range(edge):
                if not k & distance:
                    pair = lines[k], lines[k + distance]
                    lines[k], lines[k + distance] = mixed(*pair, low), mixed(*pair, high)
            distance //= 2
        width = context.get_abi_sizeof(context.get_data_type(out.dtype))
        for k, line in enumerate(lines):
            where = place(out, target, target_start, target_stride, k)
            builder.store(line, where, align=width)
        return context.get_dummy_value()

    word = types.intp
    return types.void(values, word, word, out, word, word, size), generate


def scratch_for(array, size):
    """Return scratch of the array's dtype, or None of an absent array."""


@overload(scratch_for, jit_options=INLINED)
def _scratch_for(array, size):
    if isinstance(array, types.NoneType):
        return lambda array, size: None
    return lambda array, size: np.empty(size, array.dtype)


def part_of_if(array, scratch, first, size):
    """Return ``scratch[first : first + size]``, or None where `array` is absent."""


@overload(part_of_if, jit_options=INLINED)
def _part_of_if(array, scratch, first, size):
    if isinstance(array, types.NoneType):
        return lambda array, scratch, first, size: None
    return lambda array, scratch, first, size: part_of(scratch, first, size)


def shape_differs(array, other):
    """Whether an array has another shape; an absent one has not."""


@overload(shape_differs, jit_options=INLINED)
def _shape_differs(array, other):
    if isinstance(array, types.NoneType):
        return lambda array, other: False
    return lambda array, other: array.shape != other.shape


def put_first(option, value, options):
    """Return ``(value, *options)``, or just the options where there is no varying `option`."""


@overload(put_first, jit_options=INLINED)
def _put_first(option, value, options):
    if isinstance(option, types.NoneType):
        return lambda option, value, options: options
    return lambda option, value, options: (value, *options)
