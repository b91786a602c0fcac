"""A loss's own function, whatever it returns or takes, as the loop templates call it."""

from typing import Any

import numpy as np
from numba import types
from numba.core.errors import NumbaError, TypingError
from numba.extending import overload

from fastloss._dual import DualType, lifted, variable
from fastloss._jit import INLINED, MATHEMATICS

own: Any = None  # the loss's own function, bound for each loss like the numbers here
arrays: Any = None
derivatives: Any = None
RESULTS = "the loss, (loss, slope) or (loss, slope, curvature), all of them numbers"


def point(pred, target, *options):
    """Return ``(loss, slope, curvature)``, the second and third None where they are unknown."""
    return completed(own, pred, target, options)


def completed(own, pred, target, options):
    """Return what `own` does, completed to three numbers of the type of pred."""


class WrongResult(TypingError):
    """A function returns what no loss is."""

    def __init__(self, result, expected):
        super().__init__(_in_words(result))
        self.expected = expected


@overload(completed, jit_options=MATHEMATICS)
def _completed(own, pred, target, options):
    kinds = (pred, target, *options.types)
    result = type_of_result(own, kinds)
    parts = result.types if isinstance(result, types.BaseTuple) else (result,)
    if len(parts) not in _CODE or not all(isinstance(part, _NUMBERS) for part in parts):
        own.dispatcher.failure = kinds, WrongResult(result, RESULTS)
        raise own.dispatcher.failure[1]
    if len(parts) == 1:
        type_of_result(own, (DualType(pred), *kinds[1:]))
    if len(parts) == 2 and not _has_result(own, (DualType(pred), *kinds[1:])):
        return _without_curvature
    return _CODE[len(parts)]


def _in_words(kind):
    if isinstance(kind, types.Optional):
        return "None in some cases"
    if isinstance(kind, types.BaseTuple):
        return f"({', '.join(map(_in_words, kind.types))})"
    if isinstance(kind, types.NoneType):
        return "None"
    if isinstance(types.unliteral(kind), types.UnicodeType):
        return "a string"
    return "a number" if isinstance(kind, _NUMBERS) else f"{kind}"


def type_of_result(own, kinds):
    """Return the Numba type of what a dispatcher returns for arguments of these types."""
    try:
        own.dispatcher.compile(kinds)
    except Exception as error:
        own.dispatcher.failure = kinds, error  # for `_explain`
        raise
    return own.dispatcher.overloads[kinds].signature.return_type


def _has_result(own, kinds):
    """Whether a dispatcher can be compiled for arguments of these types."""
    try:
        type_of_result(own, kinds)
    except NumbaError:
        return False
    return True


def _as_it_is(own, pred, target, options):
    return own(pred, target, *options)


def _typed(own, pred, target, options):
    T = type(pred)
    loss, slope, curvature = own(pred, target, *options)
    return T(loss), T(slope), T(curvature)


def _without_curvature(own, pred, target, options):
    T = type(pred)
    loss, slope = own(pred, target, *options)
    return T(loss), T(slope), None


def _differentiated(own, pred, target, options):
    x = variable(pred)
    loss = lifted(own(x, target, *options), x)
    return loss.value, loss.first, loss.second


def _differentiated_again(own, pred, target, options):
    T, x = type(pred), variable(pred)
    loss, slope = own(pred, target, *options)
    changing = lifted(own(x, target, *options)[1], x)
    return T(loss), T(slope), changing.first


def row(*arguments):
    """Return the loss of a row, and fill those of the derivatives that are not None.

    The arguments are what the loss is of, `arrays` of them; then `derivatives` rows to be filled;
    then the options.
    """
    return filled(own, arrays, derivatives, arguments)


def filled(own, arrays, derivatives, arguments):
    """Call `own`, with scratch in the place of None where it does not ask whether there is one."""


@overload(filled, jit_options=INLINED, prefer_literal=True)
def _filled(own, arrays, derivatives, arguments):
    if not isinstance(arrays, types.Literal):
        return None
    first, kinds = arrays.literal_value, arguments.types
    last = first + derivatives.literal_value
    needs_scratch = types.none in kinds[first:last] and not _has_result(own, kinds)
    if needs_scratch:
        kinds = (*kinds[:first], *(kinds[0],) * (last - first), *kinds[last:])
    result = type_of_result(own, kinds)
    if not isinstance(result, _NUMBERS):
        own.dispatcher.failure = kinds, WrongResult(result, "the loss, a number")
        raise own.dispatcher.failure[1]
    if not needs_scratch:
        return lambda own, arrays, derivatives, arguments: own(*arguments)

    def with_scratch(own, arrays, derivatives, arguments):
        rows = or_scratch(arguments[first:last], arguments[0])
        return own(*(arguments[:first] + rows + arguments[last:]))

    return with_scratch


def or_scratch(rows, like):
    """Return the rows, with an array like the other one in the place of each None."""


@overload(or_scratch, jit_options=INLINED)
def _or_scratch(rows, like):
    if len(rows) == 0:
        return lambda rows, like: ()
    if isinstance(rows[0], types.NoneType):
        return lambda rows, like: (np.empty_like(like), *or_scratch(rows[1:], like))
    return lambda rows, like: (rows[0], *or_scratch(rows[1:], like))


_NUMBERS = (types.Integer, types.Float, types.Boolean)
_CODE = {1: _differentiated, 2: _differentiated_again, 3: _typed, 5: _as_it_is}
"""The code for each number of results; five are those of two inputs, from the library itself."""
