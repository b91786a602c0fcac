"""Arrays laid flat for the kernels, and results put back where they belong."""

from typing import Any, Literal

import numpy as np

from fastloss._validate import Array


class _Borrowed:
    """A holder of another array's memory that NumPy takes for writable.

    Numba compiles read-only arrays separately. Kernels never write their inputs, so lending them
    the memory of a read-only input under the writable type is safe and saves those compilations.
    """

    def __init__(self, array: Array) -> None:
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}
        self.owner = array


def order_of(array: Array) -> Literal["C", "F"]:
    """Return the order in which an array is contiguous, "C" if it is so in both or in none."""
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def flat(array: Array, order: Any) -> Array:
    """Return an input as a contiguous vector in the given memory order; others are copied."""
    vector = np.asarray(array, order=order)
    vector = (vector.T if order == "F" else vector).reshape(-1)
    return vector if vector.flags.writeable else np.asarray(_Borrowed(vector))


def flat_out(array: Array | None, order: str) -> Array | None:
    """Return a buffer as a contiguous vector, or a vector to be copied into it afterwards."""
    if array is None:
        return None
    lies_right = array.flags.f_contiguous if order == "F" else array.flags.c_contiguous
    if lies_right and array.flags.aligned:
        return (array.T if order == "F" else array).reshape(-1)
    return np.empty(array.size, array.dtype)


def is_view(vector: Array | None, array: Array | None) -> bool:
    """Whether what `flat_out` made of an array is the array's own memory (or both are absent).

    Such a vector has a base; new memory has none.
    """
    return array is None or vector is None or vector.base is not None


def write_back(array: Array | None, vector: Array | None, order: Any, accumulate: bool) -> None:
    """Copy (or add) results that could not be written where they belong."""
    if array is None or vector is None or is_view(vector, array):
        return
    result = vector.reshape(array.shape, order=order)
    if accumulate:
        np.add(array, result, out=array)
    else:
        array[...] = result
