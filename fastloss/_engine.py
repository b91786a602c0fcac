"""The engine: from a loop template and a loss's mathematics to a compiled, cached kernel.

Everything that knows Numba's dispatchers and its disk cache is here; its threads are in `_threads`.

The disk cache. Numba keys it by signature, CPU, qualified name and the template's own bytecode;
globals, options and other files are not part of the key. So a template is cloned as a function
with its own globals (the loss's scalar among them) under a qualified name that ends in a digest of
every source the kernel is made of (`_digest`): an edit or an upgrade changes the name and misses
the cache.
"""

import hashlib
import os
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, wraps
from types import FunctionType
from typing import Any

import numba
from numba.core.compiler_lock import global_compiler_lock

from fastloss import _threads
from fastloss._digest import IN_MEMORY, source_digest
from fastloss._drivers import (
    columns,
    elementwise,
    entries,
    rows,
    rowwise,
    softmax,
    staging,
    tile,
    tiles,
)
from fastloss._drivers.common import most_tiled
from fastloss._explain import explained
from fastloss._jit import CALLABLE, DRIVER, INLINED, LOOPS, MATHEMATICS
from fastloss._llvm import flattened
from fastloss._machine_code import KernelCache, LeanCompiler

Function = Callable[..., Any]

# Numba's own lock: a user's function asks for kernels while Numba compiles it, and with a second
# lock, taken in the other order, two threads could wait for each other.
_compiling = global_compiler_lock


def _clone(template: Function, name: str, bindings: dict[str, Any]) -> FunctionType:
    """Return the template with other globals and another name, to be compiled."""
    if numba.config.DISABLE_JIT:
        raise RuntimeError(
            "fastloss: NUMBA_DISABLE_JIT is set; expected it unset, as kernels have to be compiled "
            "(the `reference` of a loss does not)"
        )
    assert isinstance(template, FunctionType)
    code = template.__code__.replace(co_name=name.rpartition(".")[2], co_qualname=name)
    return FunctionType(code, {**template.__globals__, **bindings}, code.co_name)


def _compiled_scalar(scalar: FunctionType, name: str) -> Function:
    """Return the dispatcher of a loss's own function.

    It passes for a function of this module: Numba imports a function's module when it loads a
    kernel from the cache, and the user's own may not be one that can be imported.
    """
    clone = _clone(scalar, f"{name}.scalar", {})
    clone.__module__ = __name__
    compiled: Function = numba.njit(**MATHEMATICS)(clone)
    return compiled


def _compiled_driver(driver: Function, bindings: dict[str, Any], name: str, parallel: bool) -> Any:
    """Return the dispatcher of a driver, cached on disk wherever a place for it can be written."""
    clone = _clone(driver, name, bindings)
    kernel: Any = numba.njit(**DRIVER, parallel=parallel, pipeline_class=LeanCompiler)(clone)
    if IN_MEMORY not in name:
        with suppress(RuntimeError):  # Numba found no writable cache directory: compile in memory
            kernel._cache = KernelCache(clone)
    return kernel


def _explaining(call: Function) -> Function:
    """Let a function of a loss's scalar tell errors of the user's function in the user's terms."""

    @wraps(call)
    def explaining(scalar: FunctionType, *arguments: Any, **keywords: Any) -> Any:
        try:
            return call(scalar, *arguments, **keywords)
        except Exception as error:
            better = explained(scalar, error)
            if better is None:
                raise
            raise better from None

    return explaining


@cache
def _elementwise_block(scalar: FunctionType, plain: bool, name: str) -> Function:
    """Return the block of an elementwise loss, which the serial and the parallel driver share."""
    point = _compiled_scalar(scalar, name)
    template = elementwise.plain_block if plain else elementwise.weighted_block
    return numba.njit(**LOOPS)(_clone(template, f"{name}.block", {"point": point}))


@cache
def elementwise_kernel(scalar: FunctionType, plain: bool, parallel: bool) -> Function:
    """Return the driver that applies an elementwise loss's `scalar`."""
    with _compiling:
        name = f"{scalar.__name__}.{'plain' if plain else 'weighted'}.{source_digest(scalar)}"
        bindings = {"block": _elementwise_block(scalar, plain, name)}
        name += ".parallel" if parallel else ".serial"
        return _compiled_driver(elementwise.elementwise_driver, bindings, name, parallel)


@cache
def _softmax_block(scalar: FunctionType, soft: bool, tiled: bool, name: str) -> Function:
    """Return the block of a softmax loss, which the serial and the parallel driver share."""
    bindings = {"link": _compiled_scalar(scalar, name)}
    block = rows.soft_rows if soft else rows.hard_rows
    if tiled:
        template = tile.soft_tile if soft else tile.hard_tile
        bindings = {"tile": numba.njit(**LOOPS)(_clone(template, f"{name}.tile", bindings))}
        block = tiles.tiles
    return numba.njit(**LOOPS)(_clone(block, f"{name}.block", bindings))


@cache
def softmax_kernel(scalar: FunctionType, soft: bool, tiled: bool, parallel: bool) -> Function:
    """Return the driver of a softmax loss for one kind of target and one layout."""
    with _compiling:
        kind = ("soft" if soft else "hard") + ("_tiles" if tiled else "_rows")
        name = f"{scalar.__name__}.{kind}.{source_digest(scalar)}"
        bindings = {"block": _softmax_block(scalar, soft, tiled, name)}
        name += ".parallel" if parallel else ".serial"
        return _compiled_driver(softmax.softmax_driver, bindings, name, parallel)


def _compiled_row(function: FunctionType, name: str) -> Function:
    """Return the dispatcher of a row loss's own function.

    It is always inlined. Left to LLVM's choice, which depends on what else the process has
    compiled, a sum would be split over lanes in one kernel and not in another.
    """
    clone = _clone(function, f"{name}.row", {})
    clone.__module__ = __name__
    compiled: Function = numba.njit(**INLINED)(clone)
    return compiled


def kind_of_rows(function: FunctionType, labelled: bool, few: bool) -> str:
    """Return the kind of kernel that a row loss has for labels, or none, of few classes or many.

    A function is `tiled` if it takes `Columns`, or if the template that it brings has a way of its
    own for few classes.
    """
    tiled = few and getattr(function, "tiled", False)
    if labelled:
        return "label_tiles" if tiled else "labels"
    return "dense_tiles" if tiled else "dense"


def stage_of_rows(function: FunctionType, elsewhere: bool, inner: int) -> str | None:
    """Return how a row loss's kernel brings rows that lie elsewhere than its block looks for them.

    None where they do not, and for a block that works on any.
    """
    if not elsewhere or getattr(function, "block", None) is entries.entry_block:
        return None
    return "columns" if inner > 1 else "rows"


@cache
def _rowwise_block(function: FunctionType, kind: str, name: str) -> Function:
    """Return the block of a row loss, which the serial and the parallel driver share.

    A function with an attribute `block` brings its loop template, which is bound to its `own`. If a
    function is `tiled`, there are two ways through that, or two templates, of which one is for few
    classes.
    """
    tiled, template = kind.endswith("tiles"), getattr(function, "block", None)
    if template is not None:
        bindings = {"own": function.own, "tiled": tiled}  # type: ignore[attr-defined]
    else:
        template = columns.column_block if tiled else rowwise.row_block
        bindings = {"row": _compiled_row(function, name)}
    return numba.njit(**LOOPS)(_clone(template, f"{name}.block", bindings))


@cache
def _staged_block(function: FunctionType, kind: str, name: str, staged: str) -> Function:
    """Return the block of a row loss behind the one that brings it rows to work on."""
    bring, bring_back = staging.WAYS[staged]
    bindings = {
        "block": _rowwise_block(function, kind, name), "bring": bring, "bring_back": bring_back,
    }  # fmt: skip
    return numba.njit(**LOOPS)(_clone(staging.staged_block, f"{name}.{staged}_block", bindings))


@cache
def rowwise_kernel(
    function: FunctionType, kind: str, staged: str | None, parallel: bool
) -> Function:
    """Return the driver that applies a loss's function of whole rows.

    See `kind_of_rows` and `stage_of_rows`.
    """
    with _compiling:
        name = f"{function.__name__}.{kind}.{source_digest(function)}"
        if staged is None:
            bindings = {"block": _rowwise_block(function, kind, name)}
        else:
            bindings = {"block": _staged_block(function, kind, name, staged)}
            name += f".{staged}"
        name += ".parallel" if parallel else ".serial"
        return _compiled_driver(rowwise.rowwise_driver, bindings, name, parallel)


@cache
def point_function(scalar: FunctionType) -> Function:
    """Return an elementwise loss's own function, to be inlined in other compiled code."""
    return _compiled_scalar(scalar, f"{scalar.__name__}.point.{source_digest(scalar)}")


@cache
def row_function(function: FunctionType) -> Function:
    """Return a row loss's own function, to be inlined in other compiled code."""
    return _compiled_row(function, f"{function.__name__}.single.{source_digest(function)}")


@cache
def softmax_rows(scalar: FunctionType, soft: bool) -> Function:
    """Return the block of a softmax loss over rows, to be called from other compiled code."""
    name = f"{scalar.__name__}.{'soft' if soft else 'hard'}_single.{source_digest(scalar)}"
    return _softmax_block(scalar, soft, False, name)


def c_function(function: FunctionType, signature: Any, stored: bool) -> Any:
    """Return a function compiled for C, with a Numba signature, cached on disk if `stored`."""
    with _compiling:
        clone = _clone(function, function.__qualname__, {})
        # Numba stores it beside a file: where the other kernels are.
        clone.__code__ = clone.__code__.replace(co_filename=elementwise.__file__)
        try:
            return numba.cfunc(signature, cache=stored, **CALLABLE)(clone)
        except RuntimeError:  # Numba found no writable cache directory: compile in memory
            return numba.cfunc(signature, **CALLABLE)(clone)


@_explaining
def elementwise_entry(
    scalar: FunctionType, options: tuple[Any, ...], limit: int, *arrays: Any
) -> tuple[Function, float | None]:
    """Return a way in for plain batches of an elementwise loss, and its value for these arrays.

    It is for fewer elements than `limit`.
    """
    bindings = {"driver": elementwise_kernel(scalar, True, False), "options": options}
    name = f"{scalar.__name__}.{source_digest(scalar)}"
    return _entry(elementwise.plain_elements, {**bindings, "limit": limit}, name, arrays)


def softmax_entry(
    scalar: FunctionType, soft: bool, tiled: bool, options: tuple[Any, ...], limit: int,
    *arrays: Any, curved: bool | None = None,
) -> tuple[Function, float | None]:  # fmt: skip
    """Return a way in for plain batches of a softmax loss, of fewer elements than `limit`."""
    kernel = softmax_kernel(scalar, soft, tiled, False)
    bindings = {"driver": kernel, "options": options, "curved": curved}
    kind = ("soft" if soft else "hard") + ("_tiles" if tiled else "_rows")
    name = f"{scalar.__name__}.{kind}.{source_digest(scalar)}"
    template = softmax.plain_dense if soft else softmax.plain_labels
    return _entry(template, bindings | _limits(limit, tiled, arrays), name, arrays)


@_explaining
def rowwise_entry(
    function: FunctionType, kind: str, staged: str | None, options: tuple[Any, ...],
    gradients: int, hessians: int, target: str, limit: int, *arrays: Any,
) -> tuple[Function, float | None]:  # fmt: skip
    """Return a way in for plain batches of a row loss, of fewer elements than `limit`.

    The `target` is "labels", "dense" or, with sums that are part of the total weight, "masses".
    Where it is "none", gradients follow the inputs, if they are asked for.
    """
    template = {
        "labels": rowwise.plain_labels,
        "dense": rowwise.plain_dense,
        "masses": rowwise.plain_dense,
        "none": rowwise.plain_values if len(arrays) == gradients else rowwise.plain_gradients,
    }[target]
    few = kind.endswith("tiles") if getattr(function, "tiled", False) else None
    bindings = {
        "driver": rowwise_kernel(function, kind, staged, False),
        "options": options,
        "count": gradients,
        "absent": (None,) * gradients,
        "hesses": (None,) * hessians,
        "mass_of": flattened if target == "masses" else rowwise.nothing,
        **_limits(limit, few, arrays),
    }
    name = f"{function.__name__}.{kind}.{source_digest(function)}"
    return _entry(template, bindings, name if staged is None else f"{name}.{staged}", arrays)


def _limits(limit: int, few: bool | None, arrays: tuple[Any, ...]) -> dict[str, int]:
    """Return what an entry is for: batches of that size, of few classes, of many, or (None) all."""
    pred = arrays[-1] if arrays[0] is None else arrays[0]  # which is the gradient where in place
    most = most_tiled(pred.itemsize, limit)
    bounds = {True: (1, most), False: (most + 1, limit), None: (1, limit)}
    fewest, most = bounds[few]
    return {"limit": limit, "fewest": fewest, "most": most}


def _digest_of_constants(bindings: dict[str, Any]) -> str:
    """Return a digest of the constants that an entry is bound to, such as options' defaults.

    They are no part of the sources of the loss's function. Functions count by their names.
    """
    constants = [
        (name, getattr(value, "__name__", repr(value))) for name, value in bindings.items()
    ]
    return hashlib.sha256(repr(sorted(constants)).encode()).hexdigest()[:12]


def _entry(
    template: Function, bindings: dict[str, Any], name: str, arrays: tuple[Any, ...]
) -> tuple[Function, float | None]:
    """Return an entry compiled for the types of these arrays, closed to all others, and its value.

    It compiles in its first call, which may be in place. For other types it raises a TypeError:
    Numba's own dispatch, which has to look at the types anyway, is the cheapest check there is. An
    entry is never opened again, so calls need no lock.
    """
    with _compiling:
        name = f"{name}.{_digest_of_constants(bindings)}.entry"
        entry: Any = _compiled_driver(template, bindings, name, False)
        value: float | None = entry(*arrays)
        entry.disable_compile()
        return entry, value


@dataclass(frozen=True)
class Launch:
    """A kernel to be run by `run`, and what it gets."""

    kernel_of: Function
    variant: tuple[Any, ...]
    arguments: tuple[Any, ...]
    nanoseconds: float
    num_threads: int | None = None
    form: Hashable = None  # of the arguments, if it has been found out

    def __call__(self) -> tuple[float, int]:
        """Return the reduced value and the driver's status."""
        return self.again(self.arguments)

    def again(self, arguments: tuple[Any, ...]) -> tuple[float, int]:
        """Do the same with other arguments of the same types."""
        value, status = run(
            self.kernel_of, self.variant, arguments, self.nanoseconds, self.num_threads, self.form
        )
        return value, status


def run(
    kernel_of: Function,
    variant: tuple[Any, ...],
    arguments: tuple[Any, ...],
    nanoseconds: float,
    num_threads: int | None = None,
    form: Hashable = None,
) -> Any:
    """Call the serial or the parallel kernel of a variant, as `_threads.run` sees fit."""
    try:
        return _threads.run(kernel_of, variant, arguments, nanoseconds, num_threads, form)
    except Exception as error:  # `_explaining`, without the time of another two calls
        better = explained(variant[0], error)
        if better is None:
            raise
        raise better from None


def _before_fork() -> None:
    """Wait for compilations to end: a child would wait for ever for a lock of a thread it lacks."""
    _compiling.acquire()


def _after_fork() -> None:
    _compiling.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
