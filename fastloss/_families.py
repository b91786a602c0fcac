"""The two families of losses, and the decorators by which a loss's file joins one.

A file in `losses` states the scalar mathematics once and decorates it with `elementwise` or
`softmax`.
"""

import math
from collections.abc import Callable
from types import FunctionType
from typing import Any, ClassVar

import numpy as np

from fastloss import _engine, _quick
from fastloss import _validate as check
from fastloss._drivers.common import TILE_CLASSES
from fastloss._loss import Batch, Loss, Other, Work
from fastloss._memory import flat
from fastloss._options import Option
from fastloss._validate import Array

DOMAINS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Any]] = {
    "real": lambda rng, shape: rng.standard_normal(shape),
    "positive": lambda rng, shape: rng.gamma(2, size=shape) + 0.01,
    "count": lambda rng, shape: rng.poisson(3, shape),
    "probability": lambda rng, shape: rng.uniform(0.01, 0.99, shape),
    "log probability": lambda rng, shape: np.log(rng.uniform(0.01, 0.99, shape)),
    "sign": lambda rng, shape: rng.choice((-1, 1), shape),
}
"""The domains of elementwise predictions and targets, and how random ones are drawn."""


class ElementwiseLoss(Loss):
    """A loss with one value per element: pred and target of one shape, of any dimensions."""

    family = "elementwise"
    handled_options = frozenset({"ignore_value"})

    def __init__(self, scalar: FunctionType, **record: Any) -> None:
        super().__init__(scalar, **record)
        per_class = [name for name, option in self.options.items() if option.per_class]
        if per_class not in ([], list(self.options)[:1]):
            raise TypeError(f"{self.name}: only the first option can be per class, not {per_class}")
        if not self._other_names:
            self._quick = _quick.elementwise(
                self._scalar, self._nanoseconds, self._default_options()
            )

    def sample(
        self, rng: np.random.Generator, dtype: Any, shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        pred, target = (DOMAINS[self._properties[name]](rng, shape) for name in ("pred", "target"))
        if self._properties["pred"] == "real":
            pred = 3 * pred
        return np.asarray(pred).astype(dtype), np.asarray(target).astype(dtype)

    def _batch(self, arrays: tuple[Any, ...], given: dict[str, Any]) -> Batch:
        pred, target = arrays
        pred = check.prediction(pred, self.name, self._pred_name)
        target = check.dense_target(target, self.name, self._target_name, pred, self._pred_name)
        options = {
            name: self._option(name, option, given.get(name, option.default), pred)
            for name, option in self.options.items()
        }
        others = self._second_input(given, pred, options)
        return Batch(pred, target, pred.shape, (pred.shape, pred.shape[:1]), options, others)

    def _roles(self) -> tuple[str, tuple[str, ...], str]:
        pred, target = self._arguments
        second = self._properties.get("second")
        if second:
            self.family_keywords = {**self.family_keywords, **dict.fromkeys(second)}
        return pred, second[:1] if second else (), target

    def _second_input(
        self, given: dict[str, Any], pred: Array, options: dict[str, Any]
    ) -> tuple[Array, ...]:
        """Return the second input that gets a gradient, given under one of its two names."""
        if not self._other_names:
            return ()
        plain, logarithm = self._properties["second"]
        named = [name for name in (plain, logarithm) if given.get(name) is not None]
        if len(named) != 1:
            got = "missing" if not named else f"given beside {logarithm}"
            check.fail(TypeError, self.name, plain, got, f"either {plain} or {logarithm}")
        (name,) = named
        array = check.dense_target(given[name], self.name, name, pred, self._pred_name)
        if array.dtype != pred.dtype:
            expected = f"{pred.dtype} like {self._pred_name}"
            check.fail(TypeError, self.name, name, check.describe(array), expected)
        options[logarithm] = True if name == logarithm else None
        return (array,)

    def _option(self, name: str, option: Option, value: Any, pred: Array) -> Any:
        if option.per_class and check.dimensions(value, self.name, name) > 0:
            array = check.weights(value, self.name, name, (pred.shape[-1:],), pred.dtype)
            for number in array.tolist():
                if not (math.isfinite(number) and option.holds(number)):
                    got = f"{check.describe(array)} with {number} among them"
                    check.fail(ValueError, self.name, name, got, option.domain)
            return array
        return option.checked(value, self.name, name)

    def _sample_weight(self, batch: Batch, work: Work) -> Array | None:
        """Return the weights, 0 for the elements whose target is `ignore_value`."""
        ignored, weight = batch.options.get("ignore_value"), work.sample_weight
        if ignored is None:
            return weight
        size = batch.pred.size
        with np.errstate(over="ignore"):  # a number beyond the target's type
            counts = work.target != ignored
        if weight is None:
            return counts.astype(batch.pred.dtype)
        if weight.size != size:  # one number per entry of the first axis
            repeated = np.tile if work.order == "F" else np.repeat
            weight = repeated(weight, size // weight.size)
        return np.where(counts, weight, batch.pred.dtype.type(0))

    def _launch(self, batch: Batch, work: Work) -> tuple[float, int]:
        size = batch.pred.size

        def spread(values: Array | None) -> tuple[Array, int, int] | None:
            """Give each element its number: see the loop templates."""
            if values is None:
                return None
            if values.size == size:
                return values, 1, size
            per_row = values.size  # one number per entry of the first axis
            return (values, 1, per_row) if work.order == "F" else (values, size // per_row, per_row)

        per_class = None
        for value in batch.options.values():
            if isinstance(value, np.ndarray):
                run = size // value.size if work.order == "F" else 1
                per_class = (flat(value, "C"), run, value.size)
        options = self._scalar_options(batch.options, batch.pred.dtype)
        second = work.others[0] if work.others else Other(None, None, None)
        if second.values is not None:
            per_class = (second.values, 1, size)
            options = (batch.options[self._properties["second"][1]], *options)
        arguments = (
            work.pred,
            work.target,
            work.grad,
            work.hess,
            work.losses,
            spread(self._sample_weight(batch, work)),
            spread(work.upstream),
            per_class,
            options,
            work.divisor,
            work.scale,
            True if work.accumulate else None,
            second.grad,
            second.hess,
        )
        plain = work.losses is None and all(x is None for x in (*arguments[5:8], arguments[11]))
        return _engine.run(
            _engine.elementwise_kernel,
            (self._scalar, plain),
            arguments,
            self._nanoseconds * size,
            work.num_threads,
        )

    def _reference(
        self, arrays: tuple[Array, ...], options: dict[str, Any], keywords: dict[str, Any]
    ) -> tuple[Array, Any, Array, Array]:
        pred, target = arrays
        ignored = options.pop("ignore_value", None)
        counts = np.ones(pred.shape, bool) if ignored is None else target != ignored
        target = target.astype(pred.real.dtype) if target.dtype.kind in "biu" else target
        options = {k: np.asarray(v) if np.ndim(v) else v for k, v in options.items()}
        options |= {name: keywords[name] for name in self.family_keywords if name in keywords}
        value, gradient = self._textbook(pred, target, **options)
        weight = keywords.get("sample_weight")
        if weight is None and ignored is None:
            return value, gradient, np.ones(pred.shape), np.ones(pred.shape)
        weight = np.asarray(1 if weight is None else weight, pred.real.dtype)
        weight = weight.reshape(weight.shape + (1,) * (pred.ndim - weight.ndim))
        weight = np.where(counts, weight, 0)
        counts = weight != 0

        def weighted(numbers: Any) -> Any:
            if isinstance(numbers, tuple):
                return tuple(map(weighted, numbers))
            return np.where(counts, weight * numbers, 0)

        return weighted(value), weighted(gradient), weight, np.ones(pred.shape)


class SoftmaxLoss(Loss):
    """A loss on the softmax of each row of logits; targets are labels or dense."""

    family = "softmax"
    handled_options = frozenset({"label_smoothing", "eps"})
    family_keywords: dict[str, Any] = {  # noqa: RUF012 (replaced, never changed)
        "class_weight": None,
        "ignore_index": -100,
        "axis": -1,
    }

    def __init__(self, scalar: FunctionType, **record: Any) -> None:
        super().__init__(scalar, **record)
        self._quick = _quick.softmax(self._scalar, self._nanoseconds, self._default_options())

    def sample(
        self, rng: np.random.Generator, dtype: Any, shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        pred = (3 * rng.standard_normal(shape)).astype(dtype)
        return pred, rng.integers(0, shape[-1], shape[:-1])

    def _batch(self, arrays: tuple[Any, ...], given: dict[str, Any]) -> Batch:
        pred, target = arrays
        name = self.name
        pred = check.prediction(pred, name, self._pred_name)
        axis = check.class_axis(given.get("axis", -1), name, self._pred_name, pred)
        rows = pred.shape[:axis] + pred.shape[axis + 1 :]
        options: dict[str, Any] = {"axis": axis, "class_weight": given.get("class_weight")}
        if check.dimensions(target, name, self._target_name) == pred.ndim:
            target = check.dense_target(target, name, self._target_name, pred, self._pred_name)
        else:
            target = check.integer_labels(target, name, self._target_name, rows, pred, axis)
        ignore = given.get("ignore_index", -100)
        options["ignore_index"] = check.integer(
            ignore, name, "ignore_index", -(2**63), "an integer of 64 bits"
        )
        if options["class_weight"] is not None:
            options["class_weight"] = check.weights(
                options["class_weight"], name, "class_weight", ((pred.shape[axis],),), pred.dtype
            )
        for key, option in self.options.items():
            options[key] = option.checked(given.get(key, option.default), name, key)
        return Batch(pred, target, rows, (rows,), options)

    def _launch(self, batch: Batch, work: Work) -> tuple[float, int]:
        options = dict(batch.options)
        shape, axis = batch.pred.shape, options.pop("axis")
        dtype = batch.pred.dtype.type
        classes = shape[axis]
        before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        inner = before if work.order == "F" else after
        dense = batch.target.ndim == batch.pred.ndim
        epsilon, smoothing = options.pop("eps", 0.0), options.pop("label_smoothing", 0.0)
        class_weight = options.pop("class_weight")
        soft, tiled = dense or smoothing > 0, inner > 1 or classes <= TILE_CLASSES
        arguments = (
            work.pred,
            None if dense else work.target,
            work.target if dense else None,
            work.grad,
            work.hess,
            work.losses,
            work.sample_weight,
            None if class_weight is None else flat(class_weight, "C"),
            work.upstream,
            (dtype(1 - smoothing), dtype(smoothing / classes)) if smoothing > 0 else None,
            (dtype(epsilon), dtype(1 - epsilon)) if epsilon > 0 else None,
            True if work.accumulate else None,
            self._scalar_options(batch.options, batch.pred.dtype),
            options["ignore_index"],
            before * after,
            classes,
            inner,
            work.divisor,
            work.scale,
        )
        value, status = _engine.run(
            _engine.softmax_kernel,
            (self._scalar, soft, tiled),
            arguments,
            self._nanoseconds * batch.pred.size,
            work.num_threads,
        )
        if status >= 0:  # the first row, in memory, with a label outside
            ignore = options["ignore_index"]
            check.outside_label(self.name, self._target_name, batch.target, status, classes, ignore)
        return value, status

    def _reference(
        self, arrays: tuple[Array, ...], options: dict[str, Any], keywords: dict[str, Any]
    ) -> tuple[Array, Any, Array, Array]:
        pred, target = arrays
        axis, real = options.pop("axis", -1), pred.real.dtype
        ignore, class_weight = options.pop("ignore_index", -100), options.pop("class_weight", None)
        smoothing = options.pop("label_smoothing", 0.0)
        logits = np.moveaxis(pred, axis, -1)
        classes = logits.shape[-1]
        counts = np.ones(logits.shape[:-1], bool)
        if target.ndim == pred.ndim:
            mass = np.moveaxis(target, axis, -1).astype(real)
        else:
            counts = target != ignore
            mass = (target[..., None] == np.arange(classes)).astype(real)
        scale = np.ones(classes, real) if class_weight is None else np.asarray(class_weight, real)
        target_mass = np.sum(scale * mass, axis=-1)
        weight = keywords.get("sample_weight")
        weight = np.ones(counts.shape, real) if weight is None else np.asarray(weight, real)
        mass = scale * ((1 - smoothing) * mass + smoothing / classes)
        value, gradient = self._textbook(logits, mass, **options)
        weight = np.where(counts, weight, 0)
        row_scale = weight if target.ndim == pred.ndim else weight * (mass.sum(axis=-1) != 0)
        value = np.where(row_scale == 0, 0, weight * value)
        gradient = np.where((row_scale == 0)[..., None], 0, weight[..., None] * gradient)
        return value, np.moveaxis(gradient, -1, axis), weight, target_mass


def elementwise(
    *,
    arguments: tuple[str, str] = ("pred", "target"),
    pred: str = "real",
    target: str = "real",
    second: tuple[str, str] | None = None,
    options: dict[str, Option] | None = None,
    ulp_bound: float,
    nanoseconds: float,
    peers: dict[str, str],
) -> Callable[[Callable[..., Any]], ElementwiseLoss]:
    """Make a loss of a scalar function ``(pred, target, *options) -> (loss, slope, curvature)``.

    The function is compiled for float32 and float64; `slope` and `curvature` are the first and
    second derivative with respect to pred. `nanoseconds` is the rough serial time per element, by
    which the number of threads is chosen; `pred` and `target` are their domains, keys of DOMAINS.

    `second` names an input beside pred that gets a gradient too, as itself and as its logarithm.
    The function then takes ``(pred, target, second, is_logarithm, *options)`` and returns the two
    derivatives by it behind the others.
    """

    def decorate(scalar: Any) -> ElementwiseLoss:
        return ElementwiseLoss(
            scalar,
            arguments=arguments,
            pred=pred,
            target=target,
            second=second,
            options=options or {},
            ulp_bound=ulp_bound,
            nanoseconds=nanoseconds,
            peers=peers,
        )

    return decorate


def softmax(
    *,
    arguments: tuple[str, str] = ("logits", "target"),
    options: dict[str, Option] | None = None,
    ulp_bound: float,
    nanoseconds: float,
    peers: dict[str, str],
) -> Callable[[Callable[..., Any]], SoftmaxLoss]:
    """Make a loss of a link function ``(rest, own, gap, mass) -> (loss, slope, excess)``.

    `fastloss._drivers.common` tells what these numbers are and how the gradient follows from them.
    """

    def decorate(scalar: Any) -> SoftmaxLoss:
        return SoftmaxLoss(
            scalar,
            arguments=arguments,
            options=options or {},
            ulp_bound=ulp_bound,
            nanoseconds=nanoseconds,
            peers=peers,
        )

    return decorate
