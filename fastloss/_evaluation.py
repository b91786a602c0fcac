"""One call of a loss, whatever its family: arguments checked, kernel run, results handed out."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from fastloss import _validate as check
from fastloss._call import Batch, Other, Work, buffer_for, read_divisor, read_upstream, read_weights
from fastloss._llvm import OVERLAP
from fastloss._memory import flat, flat_out, is_view, order_of, write_back
from fastloss._options import Option
from fastloss._plans import INPUTS, Plans, described
from fastloss._validate import Array


class Evaluation(ABC):
    """How a loss is called."""

    name: str
    options: dict[str, Option]
    family_keywords: dict[str, Any]
    _arguments: tuple[str, ...]
    _pred_name: str
    _other_names: tuple[str, ...]
    _target_name: str
    _array_keywords = INPUTS

    def __init__(self) -> None:
        self._plans = Plans()

    @abstractmethod
    def _batch(self, arrays: tuple[Any, ...], given: dict[str, Any]) -> Batch:
        """Return the inputs of a call, checked."""

    @abstractmethod
    def _launch(self, batch: Batch, work: Work) -> Callable[[], tuple[float, int]]:
        """Return what runs the kernel and returns the reduced value and the driver's status."""

    def _refuse(self, batch: Batch, status: int) -> None:
        """Raise the error of a status: the first row, in memory, whose label is outside."""
        classes, ignore = batch.pred.shape[batch.options["axis"]], batch.options["ignore_index"]
        check.outside_label(self.name, self._target_name, batch.target, status, classes, ignore)

    def _evaluate(
        self, arrays: tuple[Any, ...], given: dict[str, Any], common: dict[str, Any]
    ) -> tuple[Any, ...]:
        """Return loss, gradient and Hessian; a family may give more behind them."""
        call = described(common, arrays, given, self._array_keywords)
        if call is not None:
            results = self._plans.results(call)
            if results is not None:
                return results
        launch, results = self._evaluate_in_full(arrays, given, common)
        if call is not None:
            self._plans.learn(call, launch, results)
        return results

    def _evaluate_in_full(
        self, arrays: tuple[Any, ...], given: dict[str, Any], common: dict[str, Any]
    ) -> tuple[Any, tuple[Any, ...]]:
        """Check the arguments, lay the arrays flat, run the kernel and hand out the results.

        What ran the kernel comes first.
        """
        name = self.name
        if len(arrays) != len(self._arguments):
            raise TypeError(check.wrong_number(name, len(arrays), self._arguments))
        check.keywords(name, given, self.options, self.family_keywords, common)
        batch = self._batch(arrays, given)
        pred, dtype = batch.pred, batch.pred.dtype
        reduction = check.reduction(given.get("reduction", "mean"), name)
        divisor = read_divisor(name, given, reduction, batch)
        scale, upstream = read_upstream(name, given, reduction, batch)
        sample_weight = read_weights(name, given, "sample_weight", batch)
        accumulate = check.boolean(given.get("accumulate", False), name, "accumulate")
        num_threads = check.threads(given.get("num_threads"), name)

        order = order_of(pred)
        inputs = {self._pred_name: pred, **dict(zip(self._other_names, batch.others, strict=True))}
        read: dict[str, Array | None] = {
            **inputs, self._target_name: batch.target, "sample_weight": sample_weight,
            "upstream": upstream,
            **{key: value for key, value in batch.options.items() if isinstance(value, np.ndarray)},
        }  # fmt: skip
        losses = None
        grads: tuple[Array | None, ...] = (None,) * len(inputs)
        hesses, in_place = grads, False
        if given.get("loss_out") is not None and reduction != "none":
            check.fail(ValueError, name, "loss_out", f"given with reduction={reduction!r}",
                       "None, or reduction='none'")  # fmt: skip
        if "grad_out" in common:
            outs = self._outs(given, "grad_out")
            in_place = len(outs) == 1 and check.same_memory(outs[0], pred)
            if accumulate and (in_place or any(out is None for out in outs)):
                check.fail(ValueError, name, "accumulate", "True", "grad_out to add to, not pred")
            apart = {key: x for key, x in read.items() if not (in_place and key == self._pred_name)}
            grads = self._buffers(outs, "grad_out", pred, order, apart)
            read |= {f"grad_out {key}": out for key, out in zip(inputs, grads, strict=True)}
        if "hess_out" in common:
            hesses = self._buffers(self._outs(given, "hess_out"), "hess_out", pred, order, read)
            read |= {f"hess_out {key}": out for key, out in zip(inputs, hesses, strict=True)}
        if reduction == "none":
            loss_out = given.get("loss_out")
            losses = buffer_for(name, loss_out, "loss_out", batch.shape, dtype, order, read)
        if pred.size == 0:
            return None, (*self._results(given, 0.0, losses, grads, hesses), *batch.extra)

        flat_losses = flat_out(losses, order)
        flat_grads = [flat_out(out, order) for out in grads]
        flat_hesses = [flat_out(out, order) for out in hesses]
        added = accumulate and all(map(is_view, flat_grads, grads))  # by the kernel
        if accumulate and not added:
            flat_grads = [np.empty(pred.size, dtype) for _ in grads]
        others = zip(batch.others, flat_grads[1:], flat_hesses[1:], strict=True)
        work = Work(
            None if in_place and is_view(flat_grads[0], grads[0]) else flat(pred, order),
            None if batch.target is None else flat(batch.target, order),
            flat_grads[0],
            flat_hesses[0],
            flat_losses,
            None if sample_weight is None else flat(sample_weight, order),
            None if upstream is None else flat(upstream, order),
            divisor,
            scale,
            added,
            num_threads,
            order,
            tuple(Other(flat(values, order), *outs) for values, *outs in others),
        )
        launch = self._launch(batch, work)
        value, status = launch()
        if status >= 0:
            self._refuse(batch, status)
        if status == OVERLAP:
            check.overlap(name, "grad_out", f"{self._pred_name} or {self._target_name}")
        write_back(losses, flat_losses, order, False)
        for out, vector in zip(grads, flat_grads, strict=True):
            write_back(out, vector, order, accumulate)
        for out, vector in zip(hesses, flat_hesses, strict=True):
            write_back(out, vector, order, False)
        return launch, (*self._results(given, value, losses, grads, hesses), *batch.extra)

    def _results(
        self,
        given: dict[str, Any],
        value: float,
        losses: Array | None,
        grads: tuple[Array | None, ...],
        hesses: tuple[Array | None, ...],
    ) -> tuple[Any, Any, Any]:
        """Return value or losses, gradient and Hessian: the caller's own objects where given.

        With several differentiable inputs, gradient and Hessian are tuples, one array for each.
        """
        loss = given.get("loss_out")
        if loss is None:
            loss = value if losses is None else losses
        return loss, self._chosen(given, "grad_out", grads), self._chosen(given, "hess_out", hesses)

    def _chosen(
        self, given: dict[str, Any], argument: str, arrays: tuple[Array | None, ...]
    ) -> Any:
        own = self._outs(given, argument)
        if not self._other_names:
            return arrays[0] if own[0] is None else own[0]
        return tuple(x if y is None else y for x, y in zip(arrays, own, strict=True))

    def _outs(self, given: dict[str, Any], argument: str) -> tuple[Any, ...]:
        """Return the caller's buffers, or None, for each input that gets a gradient."""
        outs, count = given.get(argument), 1 + len(self._other_names)
        if count == 1:
            return (outs,)
        if outs is None:
            return (None,) * count
        if not isinstance(outs, (tuple, list)) or len(outs) != count:
            names = ", ".join((self._pred_name, *self._other_names))
            check.fail(TypeError, self.name, argument, check.describe(outs),
                       f"a tuple of {count} arrays, for {names}")  # fmt: skip
        return tuple(outs)

    def _buffers(
        self, outs: tuple[Any, ...], argument: str, pred: Array, order: Any,
        read: dict[str, Array | None],
    ) -> tuple[Array, ...]:  # fmt: skip
        """Return the buffers of the inputs' derivatives, apart from each other and from `read`."""
        buffers: dict[str, Array] = {}
        for place, out in enumerate(outs):
            own = f"{argument}[{place}]" if len(outs) > 1 else argument
            buffers[own] = buffer_for(
                self.name, out, own, pred.shape, pred.dtype, order, {**read, **buffers}
            )
        return tuple(buffers.values())
