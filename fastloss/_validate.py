"""The only code that raises on user input, and turns it into what the engine takes.

Every message names the loss, the argument, what came and what is expected. Nothing broadcasts and
nothing is cast silently.
"""

import math
from collections.abc import Callable, Collection, Iterable
from numbers import Integral, Real
from typing import Any, NoReturn

import numpy as np
from numpy.exceptions import AxisError
from numpy.typing import NDArray

Array = NDArray[Any]

REDUCTIONS = ("mean", "batchmean", "sum", "none")
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
RANGES = {x: (float(np.finfo(x).smallest_normal), float(np.finfo(x).max)) for x in FLOATS}


def fail(error: type[Exception], loss: str, argument: str, got: str, expected: str) -> NoReturn:
    """Raise `error` with the one form of message that all of them have."""
    raise error(f"{loss}: {argument} is {got}; expected {expected}")


def describe(value: Any) -> str:
    """Say what came, briefly: dtype and shape of an array, type and value of anything else."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    if isinstance(value, (tuple, list)) and any(isinstance(x, np.ndarray) for x in value):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def keywords(loss: str, given: Iterable[str], *known: Collection[str]) -> None:
    """Refuse keywords that are in none of the loss's groups of them."""
    for name in given:
        for group in known:
            if name in group:
                break
        else:
            words = ", ".join(dict.fromkeys(word for group in known for word in group))
            raise TypeError(f"{loss}: unknown keyword argument {name!r}; expected one of {words}")


def wrong_number(loss: str, came: int, arrays: Iterable[str]) -> str:
    """Return the message for too few or too many arrays."""
    number = "1 array was" if came == 1 else f"{came} arrays were"
    expected = f"{', '.join(arrays)} by position, and options by name"
    return f"{loss}: {number} given by position; expected {expected}"


def _plain(value: Any, loss: str, argument: str) -> Array:
    """Return an aligned ndarray in native byte order, without a copy where that is possible."""
    if type(value) is np.ndarray and value.flags.aligned and value.dtype.isnative:
        return value  # the usual case, five times as fast as what follows
    if isinstance(value, np.ma.MaskedArray):
        fail(TypeError, loss, argument, "a masked array", "an array without a mask")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{loss}: {argument} is {type(value).__name__}; expected an array ({error})"
        ) from error
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array if array.flags.aligned else array.copy()


def dimensions(value: Any, loss: str, argument: str) -> int:
    """Return the number of dimensions of whatever came."""
    return value.ndim if isinstance(value, np.ndarray) else _plain(value, loss, argument).ndim


def prediction(value: Any, loss: str, argument: str) -> Array:
    """Return pred as a float32 or float64 array."""
    array = _plain(value, loss, argument)
    if array.dtype not in FLOATS:
        fail(TypeError, loss, argument, describe(array), "float32 or float64")
    return array


def dense_target(value: Any, loss: str, argument: str, pred: Array, pred_name: str) -> Array:
    """Return a target of pred's shape: its dtype, or bool or integer. Lists take pred's dtype."""
    return _like(value, loss, argument, pred, pred_name, "biu", ", or bool or integer")


def further_input(value: Any, loss: str, argument: str, pred: Array, pred_name: str) -> Array:
    """Return an input of pred's shape and dtype. Lists take pred's dtype."""
    return _like(value, loss, argument, pred, pred_name, "", "")


def _like(
    value: Any, loss: str, argument: str, pred: Array, pred_name: str, kinds: str, or_kinds: str
) -> Array:
    """Return an array of pred's shape, of its dtype or one of these kinds."""
    if isinstance(value, (list, tuple, float)) and not isinstance(value, np.generic):
        value = _weak(value, pred.dtype)
    array = _plain(value, loss, argument)
    if array.dtype != pred.dtype and array.dtype.kind not in kinds:
        fail(TypeError, loss, argument, describe(array), f"{pred.dtype} like {pred_name}{or_kinds}")
    if array.shape != pred.shape:
        expected = f"shape {pred.shape} like {pred_name} (nothing broadcasts)"
        fail(ValueError, loss, argument, describe(array), expected)
    return array


def _weak(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return a list of Python numbers as an array; floats take the dtype, as NumPy scalars do."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return value
    return array.astype(dtype) if array.dtype == np.float64 else array


def integer_labels(
    value: Any, loss: str, argument: str, rows: tuple[int, ...], or_dense: tuple[int, ...] | None
) -> Array:
    """Return integer labels of the rows' shape; `or_dense` is what a dense target could have."""
    array = came = _plain(value, loss, argument)
    fits = array.dtype.kind in "iu"
    if not array.size and array.dtype.kind == "f":  # np.asarray([]) is float64
        array, fits = array.astype(np.int64), True
    if not fits or array.shape != rows:
        expected = f"integer labels of shape {rows}"
        if or_dense is not None:
            expected += f", or a dense target of shape {or_dense}"
        fail(ValueError if fits else TypeError, loss, argument, describe(came), expected)
    return array


def labels_inside(
    loss: str, argument: str, value: Any, rows: tuple[int, ...], classes: int, ignore: int
) -> None:
    """Check labels that no kernel will look at: integers of the rows' shape, classes or ignored."""
    labels = integer_labels(value, loss, argument, rows, None)
    if (((labels < 0) | (labels >= classes)) & (labels != ignore)).any():
        outside_label(loss, argument, labels, 0, classes, ignore)


def outside_label(
    loss: str, argument: str, labels: Array, row: int, classes: int, ignore: int
) -> NoReturn:
    """Raise the error of the first label outside the classes, in C order.

    `row` is one such row; it counts if another thread has repaired the labels meanwhile.
    """
    outside = ((labels < 0) | (labels >= classes)) & (labels != ignore)
    if outside.any():
        row = int(np.argmax(outside))
    where = tuple(int(i) for i in np.unravel_index(row, labels.shape)) if labels.ndim else ()
    place = str(where[0]) if len(where) == 1 else str(where)
    raise IndexError(
        f"{loss}: {argument} is {labels[where]} at row {place}; "
        f"expected a class in [0, {classes}) or ignore_index={ignore}"
    )


def class_axis(axis: Any, loss: str, argument: str, pred: Array) -> int:
    """Return the class axis as a non-negative index."""
    if not _is_integer(axis):
        fail(TypeError, loss, "axis", describe(axis), "an integer")
    if pred.ndim == 0:
        expected = "an array with a class axis (at least one dimension)"
        fail(ValueError, loss, argument, describe(pred), expected)
    if not -pred.ndim <= int(axis) < pred.ndim:
        raise AxisError(
            f"{loss}: axis is {axis}; expected one in [{-pred.ndim}, {pred.ndim}), "
            f"{argument} has shape {pred.shape}"
        )
    index = int(axis) % pred.ndim
    rows = pred.shape[:index] + pred.shape[index + 1 :]
    if pred.shape[index] == 0 and 0 not in rows:
        fail(ValueError, loss, argument, describe(pred), f"at least one class along axis {axis}")
    return index


def weights(value: Any, loss: str, argument: str, shapes: tuple[tuple[int, ...], ...],
            dtype: np.dtype[Any]) -> Array:  # fmt: skip
    """Return real weights of one of the allowed shapes, in pred's dtype."""
    array = _plain(value, loss, argument)
    if array.dtype.kind not in "biuf":
        fail(TypeError, loss, argument, describe(array), "real numbers")
    if array.shape not in shapes:
        expected = "shape " + " or ".join(str(shape) for shape in dict.fromkeys(shapes))
        fail(ValueError, loss, argument, describe(array), expected)
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore", under="ignore"):
        converted = array.astype(dtype)
    if array.dtype.kind == "f" and not np.array_equal(
        (array == 0) | np.isinf(array), (converted == 0) | np.isinf(converted)
    ):
        fail(ValueError, loss, argument, describe(array), f"numbers in the range of {dtype}")
    return converted


def number(
    value: Any,
    loss: str,
    argument: str,
    domain: str,
    holds: Callable[[float], bool] = math.isfinite,
) -> float:
    """Return a finite real number of the domain as a Python float."""
    if type(value) is float:  # the usual case; asking an abstract class takes a microsecond
        result = value
    else:
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value[()]
        if not isinstance(value, (Real, np.floating)) or isinstance(value, (bool, np.bool_)):
            fail(TypeError, loss, argument, describe(value), domain)
        try:
            result = float(value)
        except OverflowError:
            result = math.inf
    if not math.isfinite(result) or not holds(result):
        fail(ValueError, loss, argument, str(value), domain)
    return result


def fits(
    value: float, loss: str, argument: str, domain: str, holds: Callable[[float], bool],
    dtype: np.dtype[Any],
) -> None:  # fmt: skip
    """Refuse a number that as one of the type is not normal, or not in the domain any more."""
    smallest, largest = RANGES[dtype]
    normal = value == 0 or smallest <= abs(value) <= largest
    if not normal or not holds(float(dtype.type(value))):
        expected = f"{domain}, also when rounded to {dtype} (0 or a normal number)"
        fail(ValueError, loss, argument, str(value), expected)


def _is_integer(value: Any) -> bool:
    return type(value) is int or (isinstance(value, Integral) and not isinstance(value, bool))


def integer(value: Any, loss: str, argument: str, lowest: int, expected: str) -> int:
    """Return an integer of 64 bits not below `lowest`."""
    if not _is_integer(value):
        fail(TypeError, loss, argument, describe(value), expected)
    if not lowest <= int(value) < 2**63:
        fail(ValueError, loss, argument, str(value), expected)
    return int(value)


def ignored(value: Any, loss: str) -> int:
    """Return the label of the rows that do not count."""
    return integer(value, loss, "ignore_index", -(2**63), "an integer of 64 bits")


def threads(value: Any, loss: str) -> int | None:
    """Return a number of threads, or None."""
    return None if value is None else integer(value, loss, "num_threads", 1, "an integer >= 1")


def boolean(value: Any, loss: str, argument: str) -> bool:
    """Return True or False."""
    if not isinstance(value, (bool, np.bool_)):
        fail(TypeError, loss, argument, describe(value), "True or False")
    return bool(value)


def word(value: Any, loss: str, argument: str, words: tuple[str, ...]) -> str:
    """Return one of the words."""
    if isinstance(value, str) and value in words:
        return value
    expected = ", ".join(repr(name) for name in words)
    if not isinstance(value, str):
        fail(TypeError, loss, argument, describe(value), expected)
    fail(ValueError, loss, argument, repr(value), expected)


def reduction(value: Any, loss: str) -> str:
    """Return the name of a reduction."""
    return word(value, loss, "reduction", REDUCTIONS)


def output(
    value: Any, loss: str, argument: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    """Return an out buffer that can be written: exact shape and dtype."""
    if isinstance(value, np.ma.MaskedArray):
        fail(TypeError, loss, argument, "a masked array", "a numpy.ndarray without a mask")
    if not isinstance(value, np.ndarray):
        fail(TypeError, loss, argument, describe(value), "a numpy.ndarray")
    value = value.view(np.ndarray)
    if value.dtype != dtype or not value.dtype.isnative:
        fail(TypeError, loss, argument, describe(value), f"{dtype} in native byte order")
    if value.shape != shape:
        fail(ValueError, loss, argument, describe(value), f"shape {shape}")
    if not value.flags.writeable:
        fail(ValueError, loss, argument, "read-only", "an array that can be written")
    if value.flags.forc:  # contiguous in one order or the other
        return value
    reach = value.itemsize  # of the entries along the dimensions of smaller steps
    for step, length in sorted((abs(s), n) for s, n in zip(value.strides, shape, strict=True)):
        if length > 1 and step < reach and value.size:
            expected = "memory of its own for each entry"
            fail(
                ValueError,
                loss,
                argument,
                "a broadcast view, or one that overlaps itself",
                expected,
            )
        reach += step * (length - 1)
    return value


def same_memory(one: Any, other: Array) -> bool:
    """Whether two arrays are the same memory, entry by entry."""
    return (
        isinstance(one, np.ndarray)
        and one.strides == other.strides
        and one.shape == other.shape
        and np.may_share_memory(one, other)  # in a tenth of the time of the next line
        and one.__array_interface__["data"][0] == other.__array_interface__["data"][0]
    )


def disjoint(loss: str, argument: str, buffer: Array, others: dict[str, Array | None]) -> None:
    """Refuse an out buffer that shares memory with another array of the call."""
    for name, other in others.items():
        if other is None or not np.may_share_memory(buffer, other):
            continue
        try:
            shared = np.shares_memory(buffer, other, max_work=100_000)  # type: ignore[arg-type]
        except np.exceptions.TooHardError:
            shared = True
        if shared:
            overlap(loss, argument, name)


def overlap(loss: str, argument: str, other: str) -> NoReturn:
    """Raise the error of a buffer that overlaps another array."""
    fail(
        ValueError, loss, argument, f"overlapping {other}", f"memory of its own, apart from {other}"
    )
