"""Plans: what the checks of a call found out, kept for the next call of the same kind.

To check a call and to lay out its kernel's arguments takes 20 µs, ten times what the kernel does
on 32 rows. But it all depends on dtypes, shapes and the values of options alone, which are the same
in every step of a training loop. So a call leaves a plan behind: the kernel and its arguments, with
gaps where the arrays go. The next call of the same kind fills the gaps.

What depends on the contents of arrays is never planned: a call leaves no plan if its kernel gets
any array that is neither the caller's own nor a result.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import combinations, starmap
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import numpy as np

from fastloss import _engine
from fastloss._threads import form_of
from fastloss._validate import Array

INPUTS = frozenset({"sample_weight", "class_weight", "upstream"})
"""The keywords that can be arrays and are checked by dtype and shape alone."""

OUTPUTS = frozenset({"grad_out", "hess_out", "loss_out"})

SCALARS = frozenset({float, int, bool, str, type(None), np.float32, np.float64, np.int64})
"""The types of options: values of one type that are equal, and not 0, are the same."""

MOST = 256
"""The kinds of calls that a loss remembers: options may be different in every call."""

Pool = list[Any]
Taken = Callable[[Pool], Any]


class Call(NamedTuple):
    """A call whose arrays are all plain and contiguous, in the order of C or of Fortran.

    The key of its kind, and the arrays.
    """

    key: tuple[Any, ...]
    inputs: list[Array]
    outputs: list[Array]

    def overlaps(self) -> bool:
        """Whether a buffer may share memory with another array of the call."""
        share, seen = np.may_share_memory, self.inputs.copy()
        for out in self.outputs:
            for array in seen:
                if share(out, array):
                    return True
            seen.append(out)
        return False

    def repeats_an_array(self) -> bool:
        """Whether two arrays of the call may share memory, so that their parts cannot be told."""
        return any(starmap(np.may_share_memory, combinations(self.inputs + self.outputs, 2)))


def described(
    common: dict[str, Any],
    arrays: tuple[Any, ...],
    given: dict[str, Any],
    readable: frozenset[str] = INPUTS,
) -> Call | None:
    """Return what tells a call from others, or None if it is one that cannot be planned.

    `readable` are the keywords that can be arrays beside the buffers.
    """
    key: list[Any] = [id(common)]
    inputs: list[Array] = []
    outputs: list[Array] = []
    for array in arrays:
        order = _order_of(array)
        if order is None:
            return None
        key += array.dtype, array.shape, order
        inputs.append(array)
    for name, value in given.items():
        kind = type(value)
        if kind in SCALARS:
            key += name, kind, value if value else str(value)  # -0.0 equals 0.0
            continue
        if kind is tuple and all(type(word) is str for word in value):
            key += name, value
            continue
        if name == "grad_out" and arrays and value is arrays[0]:  # in place: no input any more
            key += name, "in place"
            outputs.append(inputs.pop(0))
            continue
        if name in OUTPUTS:
            places, parts = outputs, value if kind is tuple else (value,)
        elif name in readable:
            places, parts = inputs, (value,)
        else:
            return None
        key += name, kind, len(parts)
        for array in parts:
            order = _order_of(array)
            if order is None or not array.ndim:
                return None
            key += array.dtype, array.shape, order
            places.append(array)
    return Call(tuple(key), inputs, outputs)


def _order_of(array: Any) -> Literal["C", "F"] | None:
    """Return the order in which a plain array is contiguous, or None if it is another thing."""
    if type(array) is not np.ndarray:
        return None
    flags = array.flags
    if flags.carray:
        return "C"
    return "F" if flags.fnc and flags.behaved else None  # `farray` is true of strided arrays too


@dataclass(frozen=True)
class Plan:
    """How to do a call of one kind.

    Arguments and results are taken from a pool: the arrays of the call and new ones, `constants`,
    and `tuples` made of these.
    """

    launch: _engine.Launch
    new: list[tuple[tuple[int, ...], np.dtype[Any], Any]]  # results without a buffer in the call
    constants: Pool
    tuples: list[Taken]
    arguments: Taken
    results: list[Taken]

    def __call__(self, call: Call) -> tuple[Any, ...] | None:
        """Return loss, gradient and Hessian, or None where the full checks have to decide."""
        if call.overlaps():
            return None
        arrays = call.inputs + call.outputs
        for form in self.new:
            arrays.append(np.empty(*form))
        pool: Pool = [array if array.ndim == 1 else array.ravel("K") for array in arrays]
        pool += self.constants
        for taken in self.tuples:
            pool.append(taken(pool))
        value, status = self.launch.again(self.arguments(pool))
        if status != -1:
            return None
        results: Pool = [*arrays, None, value]
        return tuple([taken(results) for taken in self.results])


class Plans:
    """The plans of a loss.

    The first call of a kind is only noted, so that options which never come again cost nothing.
    """

    def __init__(self) -> None:
        self._plans: dict[Any, Callable[[Call], tuple[Any, ...] | None] | None] = {}

    def results(self, call: Call) -> tuple[Any, ...] | None:
        """Return the results of a call that there is a plan for, else None."""
        plan = self._plans.get(call.key)
        return None if plan is None else plan(call)

    def learn(self, call: Call, launch: Any, results: tuple[Any, ...]) -> None:
        """Note a call that has just been done; plan it, if it is not the first of its kind."""
        plan = self._plans.get(call.key, _unknown)
        if plan is _unknown:
            if len(self._plans) >= MOST:
                self._plans.clear()
            self._plans[call.key] = None
        elif plan is None and not call.repeats_an_array():
            self._plans[call.key] = _planned(call, launch, results) or _not_planned


def _not_planned(call: Call) -> tuple[Any, ...] | None:
    """Stand for the plan of a kind of call that cannot have one."""
    return None


def _unknown(call: Call) -> tuple[Any, ...] | None:
    """Stand for the plan of a kind of call that has not been seen."""
    return None


def _planned(call: Call, launch: Any, results: tuple[Any, ...]) -> Plan | None:
    """Return the plan of a call that has just been done, or None if it cannot be repeated."""
    if not isinstance(launch, _engine.Launch):
        return None
    arrays = call.inputs + call.outputs
    own = {*map(id, arrays)}
    new = [x for x in _arrays_of(results) if id(x) not in own]
    arrays += new
    tuples = [x for x in launch.arguments if isinstance(x, tuple) and _arrays_of(x)]
    entries = [*launch.arguments, *(entry for made_of in tuples for entry in made_of)]
    varying = {*map(id, tuples), *map(id, _arrays_of(entries))}
    constants = [x for x in entries if id(x) not in varying]
    pool = [*arrays, *constants]
    value = None if isinstance(results[0], np.ndarray) else results[0]
    try:
        return Plan(
            replace(launch, arguments=(), form=form_of(launch.arguments)),
            [(array.shape, array.dtype, _order_of(array)) for array in new],
            constants,
            [_taken(made_of, pool) for made_of in tuples],
            _taken(launch.arguments, [*pool, *tuples]),
            [_taken(result, [*arrays, None, value]) for result in results],
        )
    except LookupError:
        return None


def _arrays_of(things: Iterable[Any]) -> list[Array]:
    """Return the arrays among some things and among the entries of those that are tuples."""
    found = []
    for thing in things:
        if isinstance(thing, tuple):
            found += _arrays_of(thing)
        elif isinstance(thing, np.ndarray):
            found.append(thing)
    return found


def _taken(thing: Any, pool: Pool) -> Taken:
    """Return what takes a thing from a pool like this one, entry by entry if it is a tuple."""
    if not isinstance(thing, tuple):
        return itemgetter(_place(thing, pool))
    places = [_place(entry, pool) for entry in thing]
    return itemgetter(*places) if len(places) > 1 else lambda pool: (pool[places[0]],)


def _place(entry: Any, pool: Pool) -> int:
    """Return the only place of an array's memory, or of anything else itself, in a pool."""
    places = [k for k, other in enumerate(pool) if other is entry or _is_memory_of(other, entry)]
    if not places or (isinstance(entry, np.ndarray) and len(places) > 1):
        raise LookupError
    return places[0]


def _is_memory_of(one: Any, other: Any) -> bool:
    """Whether two things are arrays of the same memory, entry by entry, whatever their shapes."""
    return (
        isinstance(one, np.ndarray)
        and isinstance(other, np.ndarray)
        and (one.dtype, one.size, one.ctypes.data) == (other.dtype, other.size, other.ctypes.data)
    )
