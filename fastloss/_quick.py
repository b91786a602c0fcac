"""The quick path of the plainest calls: no options, arrays that the kernels take as they are.

On a batch of 32 rows the full checks would cost ten times what the loss does. The quick path of a
loss is a function of its arrays and then a gradient (or None) for each input that gets one, which
returns the mean loss, or None where the call is not that plain: the full checks then decide, errors
included. Where there is a target and the gradient is the first array itself, it takes its place.

Large batches are checked here, types and shapes once for each set of them; for small ones Numba's
dispatch, which has to look at the types of its arguments anyway, is the check: an entry is compiled
for one set of plain arrays, refuses others by a TypeError, and returns None where shapes, sizes or
labels are not what it is for.
"""

import math
import threading
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from fastloss import _engine, _threads
from fastloss._drivers.common import most_tiled, rough_time
from fastloss._drivers.rowwise import RowwiseArguments
from fastloss._drivers.softmax import SoftmaxArguments
from fastloss._llvm import OVERLAP
from fastloss._validate import FLOATS, Array

Options = dict[np.dtype[Any], tuple[Any, ...]]
Quick = Callable[..., float | None]
Variant = tuple[Any, ...]
Form = tuple[Any, ...]
"""What tells calls that compute different things, or on different types."""

Launcher = Callable[[Array, Array, Array | None], tuple[float, int]]
"""Runs a kernel on large arrays of the types and shapes that it was made for."""

MOST = 64
"""The sets of types and shapes of large arrays that a loss remembers."""

LABELS = frozenset(np.dtype(code) for code in "bBhHiIlLqQ")


def elementwise(scalar: FunctionType, nanoseconds: float, options: Options) -> Quick:
    """Return the quick path of an elementwise loss; `options` are its defaults for each dtype."""

    def variant_of(pred: Array, target: Array, grad: Array | None) -> Variant | None:
        if target.dtype != pred.dtype or target.shape != pred.shape or not _is_plain(pred, grad):
            return None
        return (pred.ndim,)

    def compiled(variant: Variant, limit: int, dtype: np.dtype[Any], *arrays: Array | None) -> Any:
        return _engine.elementwise_entry(scalar, options[dtype], limit, *arrays)

    def launch_for(
        variant: Variant, rough: float, form: Form, pred: Array, target: Array, grad: Array | None
    ) -> Launcher:
        in_place, absent = pred is grad, grad is None
        others = None, None, None, None, None, options[pred.dtype], math.nan, 1.0, None, None, None

        def launch(pred: Array, target: Array, grad: Array | None) -> Any:
            arrays = _unless(in_place, pred), target.ravel(), _unless(absent, grad)
            kernel_of, variant = _engine.elementwise_kernel, (scalar, True)
            return _engine.run(kernel_of, variant, arrays + others, rough, form=form)

        return launch

    return _quick(nanoseconds, False, variant_of, compiled, launch_for)


def softmax(
    scalar: FunctionType, nanoseconds: float, options: Options, curved: bool | None
) -> Quick:
    """Return the quick path of a softmax loss: 2-D logits, labels or dense targets."""

    def variant_of(pred: Array, target: Array, grad: Array | None) -> Variant | None:
        soft = target.shape == pred.shape
        if pred.ndim != 2 or not _is_plain(pred, grad):
            return None
        if target.dtype != pred.dtype if soft else target.dtype not in LABELS:
            return None
        if not soft and target.shape != pred.shape[:1]:
            return None
        if soft and curved and pred is grad:  # which needs a copy of the logits
            return None
        return soft, pred.shape[1] <= most_tiled(pred.itemsize, pred.size)

    def compiled(variant: Variant, limit: int, dtype: np.dtype[Any], *arrays: Array | None) -> Any:
        own = options[dtype]
        return _engine.softmax_entry(scalar, *variant, own, limit, *arrays, curved=curved)

    def launch_for(
        variant: Variant, rough: float, form: Form, pred: Array, target: Array, grad: Array | None
    ) -> Launcher:
        in_place, absent, (soft, _) = pred is grad, grad is None, variant
        kernel_of, variant = _engine.softmax_kernel, (scalar, *variant)
        _, _, _, _, *others = SoftmaxArguments(
            options=options[pred.dtype], curved=curved, ignore_index=-100, rows=pred.shape[0],
            classes=pred.shape[1], inner=1, divisor=math.nan, scale=1.0,
        )  # fmt: skip

        def launch(pred: Array, target: Array, grad: Array | None) -> Any:
            logits, flat = _unless(in_place, pred), target.ravel()
            targets = (None, flat) if soft else (flat, None)
            arguments = logits, *targets, _unless(absent, grad), *others
            return _engine.run(kernel_of, variant, arguments, rough, form=form)

        return launch

    return _quick(nanoseconds, True, variant_of, compiled, launch_for)


def rows(
    function_of: Callable[[bool], Any],
    nanoseconds: float,
    options: Options,
    hessians: int,
    weighs: bool,
) -> Quick:
    """Return the quick path of a row loss with one input and a target.

    `function_of` gives the function for a dense target (True) or labels (False), or None for none;
    `weighs` says that the sums of a dense target are part of the total weight.
    """

    def variant_of(pred: Array, target: Array, grad: Array | None) -> Variant | None:
        dense = target.dtype == pred.dtype
        if pred.ndim != 2 or not _is_plain(pred, grad) or function_of(dense) is None:
            return None
        if not dense and target.dtype not in LABELS:
            return None
        if target.shape != pred.shape[: 2 if dense else 1]:
            return None
        function, few = function_of(dense), pred.shape[1] <= most_tiled(pred.itemsize, pred.size)
        staged = _engine.stage_of_rows(function, pred is grad, 1)
        return dense, _engine.kind_of_rows(function, not dense, few), staged

    def compiled(variant: Variant, limit: int, dtype: np.dtype[Any], *arrays: Array | None) -> Any:
        dense, kind, staged = variant
        form = ("masses" if weighs else "dense") if dense else "labels"
        return _engine.rowwise_entry(
            function_of(dense), kind, staged, options[dtype], 1, hessians, form, limit, *arrays
        )

    def launch_for(
        variant: Variant, rough: float, form: Form, pred: Array, target: Array, grad: Array | None
    ) -> Launcher:
        in_place, absent, (dense, kind, staged) = pred is grad, grad is None, variant
        kernel_of, variant = _engine.rowwise_kernel, (function_of(dense), kind, staged)
        _, _, _, _, *others = RowwiseArguments(
            hesses=(None,) * hessians, options=options[pred.dtype], ignore_index=-100,
            rows=pred.shape[0], classes=pred.shape[1], inner=1, divisor=math.nan, scale=1.0,
        )  # fmt: skip

        def launch(pred: Array, target: Array, grad: Array | None) -> Any:
            source, flat = _unless(in_place, pred), target.ravel()
            if grad is not None and any(
                np.may_share_memory(grad, read) for read in (source, flat) if read is not None
            ):
                return math.nan, OVERLAP
            inputs = (source, flat) if dense else (source,)
            labels, mass = None if dense else flat, flat if dense and weighs else None
            arguments = inputs, labels, mass, (_unless(absent, grad),), *others
            return _engine.run(kernel_of, variant, arguments, rough, form=form)

        return launch

    return _quick(nanoseconds, True, variant_of, compiled, launch_for)


def inputs(
    function: FunctionType, nanoseconds: float, options: Options, count: int, hessians: int
) -> Quick:
    """Return the quick path of a row loss of `count` inputs and no target, for arrays of any type.

    To look at the types while it goes through the arrays anyway is sooner done than in a loop of
    its own.
    """
    small = _small(nanoseconds)
    tiled = getattr(function, "tiled", False)
    entries: dict[Any, Any] = {}

    def has_few(first: Array) -> bool:
        if not tiled or first.ndim != 2:
            return False
        return bool(first.shape[1] <= most_tiled(first.itemsize, first.size))

    def quick(*arrays: Any) -> float | None:
        arrays = arrays[:count] if arrays[count] is None else arrays
        first = arrays[0]
        if arrays[-1] is first and len(arrays) > 1:  # in place
            return None
        for array in arrays:
            if type(array) is not np.ndarray or array.dtype != first.dtype:
                return None
            if not array.flags.carray:
                return None
        key = first.dtype, len(arrays), has_few(first)
        entry = entries.get(key) if first.nbytes < small else None
        if entry is not None:
            try:
                value: float | None = entry(*arrays)
            except TypeError:  # another number of dimensions
                return None
            if value is not None:
                return value
        if first.ndim != 2 or not all(_is_plain(first, array) for array in arrays):
            return None
        rough = rough_time(nanoseconds, first.size, first.shape[0], first.itemsize)
        if rough >= _threads.PARALLEL_NANOSECONDS:
            return run(rough, key, *arrays)
        if entry is not None:  # it has refused
            return None
        own, kind = options[first.dtype], _engine.kind_of_rows(function, False, has_few(first))
        limit = -(-small // first.itemsize)
        entries[key], value = _engine.rowwise_entry(
            function, kind, None, own, count, hessians, "none", limit, *arrays
        )
        return value

    def run(rough: float, form: Form, *arrays: Array) -> float | None:
        first, grads = arrays[0], arrays[count:]
        for k, grad in enumerate(grads):
            if any(np.may_share_memory(grad, array) for array in arrays[: count + k]):
                return None
        value, _ = _engine.run(
            _engine.rowwise_kernel,
            (function, _engine.kind_of_rows(function, False, has_few(first)), None),
            RowwiseArguments(
                inputs=tuple(x.ravel() for x in arrays[:count]),
                grads=tuple(x.ravel() for x in grads) or (None,) * count,
                hesses=(None,) * hessians, options=options[first.dtype], ignore_index=-100,
                rows=first.shape[0], classes=first.shape[1], inner=1, divisor=math.nan, scale=1.0,
            ),
            rough,
            form=form,
        )  # fmt: skip
        return float(value)

    return quick


def _quick(
    nanoseconds: float,
    rowwise: bool,
    variant_of: Callable[[Array, Array, Array | None], Variant | None],
    compiled: Callable[..., Any],
    launch_for: Callable[..., Launcher],
) -> Quick:
    """Return the quick path, given how a loss tells, compiles and runs its variants."""
    small = _small(nanoseconds)
    entries: dict[Any, tuple[Any, ...]] = {}
    launches: dict[Any, Launcher] = {}
    known: set[Any] = set()
    adding = threading.Lock()

    def quick(pred: Array, target: Array, grad: Array | None) -> float | None:
        if not (pred.flags.carray and target.flags.carray):
            return None
        if grad is not None and not grad.flags.carray:
            return None
        # The dtypes themselves, which differ where the bytes are swapped, and not their numbers.
        key = pred.dtype, target.dtype, target.ndim, grad is None or grad.dtype, grad is pred
        source = None if grad is pred else pred
        for entry in entries.get(key, ()) if pred.nbytes < small else ():
            try:
                value: float | None = entry(source, target, grad)
            except TypeError:  # another number of dimensions
                continue
            if value is not None:
                return value
        shapes = key, pred.shape, target.shape, grad is None or grad.shape
        launch = launches.get(shapes)
        if launch is not None:
            value, status = launch(pred, target, grad)
            return value if status == -1 else None
        variant = variant_of(pred, target, grad)
        if variant is None:
            return None
        rows = pred.shape[0] if rowwise else 0
        rough = rough_time(nanoseconds, pred.size, rows, pred.itemsize)
        if rough >= _threads.PARALLEL_NANOSECONDS:
            if len(launches) >= MOST:
                launches.clear()
            launches[shapes] = launch = launch_for(variant, rough, key, pred, target, grad)
            value, status = launch(pred, target, grad)
            return value if status == -1 else None
        if (key, variant) in known:  # it has refused
            return None
        limit = -(-small // pred.itemsize)
        entry, value = compiled(variant, limit, pred.dtype, source, target, grad)
        with adding:
            if (key, variant) not in known:  # threads may meet here
                entries[key] = *entries.get(key, ()), entry
                known.add((key, variant))
        return value

    return quick


def _small(nanoseconds: float) -> int:
    """Return how many bytes are too many for one thread, given the rough time per float32 entry."""
    return 4 * math.ceil(_threads.PARALLEL_NANOSECONDS / nanoseconds)


def _unless(absent: bool, array: Any) -> Any:
    """Return a contiguous array as a vector, or None instead."""
    return None if absent else array.ravel()


def _is_plain(pred: Array, grad: Array | None) -> bool:
    """Whether pred and grad, both contiguous, are of a type and shape that kernels take."""
    if pred.dtype not in FLOATS or not pred.size:
        return False
    return grad is None or (
        grad.flags.carray and grad.dtype == pred.dtype and grad.shape == pred.shape
    )
