"""The LLVM intrinsics that the loop templates need beyond the mathematics of `_math`."""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

from fastloss._jit import INLINED, MATHEMATICS

OVERLAP = -2
"""The status with which a driver refuses a gradient buffer that overlaps an input."""


@intrinsic
def own_function(typing_context):
    """Keep the calling function a machine function of its own, with non-aliasing arrays.

    ``noinline``: the serial and the parallel driver then run the very same instructions, which
    makes their results bitwise equal. ``noalias`` on the data pointers of the array arguments:
    LLVM vectorises without testing every pair of arrays for overlap at run time (it gives up
    beyond a few pairs). The caller's duty: no array that the function writes overlaps another.
    """

    def generate(context, builder, signature, arguments):
        builder.function.attributes.add("noinline")
        for argument in builder.function.args:
            # Numba flattens an array argument a into arg.a.0 (memory block) … arg.a.4 (data).
            name = argument.name.split(".")
            if name[0] == "arg" and name[-1] == "4" and isinstance(argument.type, ir.PointerType):
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def overlaps(typing_context, one, other):
    """Whether two contiguous arrays share a byte."""

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


def part_of(array, first, size):
    """Return ``array[first : first + size]``, or None of an absent array.

    The unsigned bounds spare LLVM the case of negative indices, which keeps it from vectorising.
    """


def item(array, i):
    """Return ``array[i]``, or None of an absent array."""


def scratch_for(array, size):
    """Return scratch of the array's dtype, or None of an absent array."""


@overload(scratch_for, jit_options=INLINED)
def _scratch_for(array, size):
    if isinstance(array, types.NoneType):
        return lambda array, size: None
    return lambda array, size: np.empty(size, array.dtype)


def put_first(option, value, options):
    """Return ``(value, *options)``, or just the options where there is no varying `option`."""


@overload(put_first, jit_options=INLINED)
def _put_first(option, value, options):
    if isinstance(option, types.NoneType):
        return lambda option, value, options: options
    return lambda option, value, options: (value, *options)


@overload(part_of, jit_options=INLINED)
def _part_of(array, first, size):
    if isinstance(array, types.NoneType):
        return lambda array, first, size: None
    return lambda array, first, size: array[np.uintp(first) : np.uintp(first + size)]


@overload(item, jit_options=INLINED)
def _item(array, i):
    if isinstance(array, types.NoneType):
        return lambda array, i: None
    return lambda array, i: array[i]


@njit(**MATHEMATICS)
def in_order(numbers):
    """Return the sum from first to last: without `reassoc`, every driver adds in the same order."""
    total = 0.0
    for i in range(numbers.size):
        total += numbers[i]
    return total
