"""The losses on the softmax of each row of logits; targets are labels or dense."""

import math
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np

from fastloss import _engine, _quick
from fastloss import _validate as check
from fastloss._call import Batch, Work, read_class_weight
from fastloss._drivers.common import most_tiled, rough_time
from fastloss._drivers.softmax import SoftmaxArguments
from fastloss._loss import Loss
from fastloss._memory import flat, flat_out, order_of
from fastloss._options import Option
from fastloss._validate import Array

EXTRA = ("lse", "proba", "n_correct", "n_valid")
"""What the losses of the softmax family that have `extra` give on request."""

COUNTS = frozenset({"n_correct", "n_valid"})


class SoftmaxLoss(Loss):
    """A loss on the softmax of each row of logits; targets are labels or dense."""

    family = "softmax"
    handled_options = frozenset({"label_smoothing", "eps", "temperature", "z_loss"})
    family_keywords: dict[str, Any] = {  # noqa: RUF012 (replaced, never changed)
        "class_weight": None,
        "ignore_index": -100,
        "axis": -1,
    }

    def __init__(self, scalar: FunctionType, **record: Any) -> None:
        self._own_keywords = {"mixup": None, "extra": None} if record["extended"] else {}
        self.family_keywords = self.family_keywords | self._own_keywords
        super().__init__(scalar, **record)
        self._curved = True if self._properties["curved"] else None
        self._quick = _quick.softmax(
            self._scalar, self._nanoseconds, self._default_options(), self._curved
        )

    def sample(
        self, rng: np.random.Generator, dtype: Any, shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        pred = (3 * rng.standard_normal(shape)).astype(dtype)
        return pred, rng.integers(0, shape[-1], shape[:-1])

    def _evaluate(
        self, arrays: tuple[Any, ...], given: dict[str, Any], common: dict[str, Any]
    ) -> tuple[Any, ...]:
        """Return loss, gradient and Hessian and, on request, the extra outputs behind them.

        They go with the loss where it is all that is asked for.
        """
        extra = given.get("extra") if self._own_keywords else None
        if extra is None:
            return super()._evaluate(arrays, given, common)
        names = self._extra_names(extra)
        loss, grad, hess, *found = super()._evaluate(arrays, {**given, "extra": names}, common)
        outputs = {
            name: int(array[0]) if name in COUNTS else array
            for name, array in zip(names, found, strict=True)
        }
        if "grad_out" not in common:
            loss = loss, outputs
        return loss, grad, hess, outputs

    def _extra_names(self, extra: Any) -> tuple[str, ...]:
        """Return the names of the extra outputs, each of them once."""
        expected = f"a tuple of names among {', '.join(map(repr, EXTRA))}"
        if not isinstance(extra, (tuple, list)):
            check.fail(TypeError, self.name, "extra", check.describe(extra), expected)
        for word in extra:
            if not isinstance(word, str):
                check.fail(TypeError, self.name, "extra", check.describe(extra), expected)
            if word not in EXTRA:
                check.fail(ValueError, self.name, "extra", repr(extra), expected)
        return tuple(dict.fromkeys(extra))

    def _mixed(self, mixup: Any, dense: bool) -> tuple[Any, float]:
        """Return the other labels and the share of the first ones."""
        expected = "None, or a pair of labels and a number in [0, 1]"
        if dense:
            check.fail(ValueError, self.name, "mixup", "given with a dense target",
                       "None, or integer labels")  # fmt: skip
        if not isinstance(mixup, (tuple, list)):
            check.fail(TypeError, self.name, "mixup", check.describe(mixup), expected)
        if len(mixup) != 2:
            check.fail(ValueError, self.name, "mixup", check.describe(mixup), expected)
        domain = "a number in [0, 1] behind the labels"
        return mixup[0], check.number(mixup[1], self.name, "mixup", domain, lambda x: 0 <= x <= 1)

    def _scalar_options(self, values: dict[str, Any], dtype: np.dtype[Any]) -> tuple[Any, ...]:
        if self.options.keys() <= self.handled_options:
            return ()
        return super()._scalar_options(values, dtype)

    def _batch(self, arrays: tuple[Any, ...], given: dict[str, Any]) -> Batch:
        pred, target = arrays
        name = self.name
        pred = check.prediction(pred, name, self._pred_name)
        axis = check.class_axis(given.get("axis", -1), name, self._pred_name, pred)
        rows = pred.shape[:axis] + pred.shape[axis + 1 :]
        options: dict[str, Any] = {"axis": axis}
        if check.dimensions(target, name, self._target_name) == pred.ndim:
            target = check.dense_target(target, name, self._target_name, pred, self._pred_name)
        else:
            target = check.integer_labels(target, name, self._target_name, rows, pred.shape)
        options["ignore_index"] = check.ignored(given.get("ignore_index", -100), name)
        options["class_weight"] = read_class_weight(name, given, pred, axis)
        for key, option in self.options.items():
            options[key] = option.default
            if key in given:
                options[key] = option.checked(given[key], name, key, pred.dtype)
        if "z_loss" in given and options["z_loss"] > 0 and options.get("eps", 0) > 0:
            check.fail(ValueError, name, "z_loss", str(options["z_loss"]), "0 where eps is above 0")
        if given.get("mixup") is not None:
            other, options["share"] = self._mixed(given["mixup"], target.ndim == pred.ndim)
            options["mixup"] = check.integer_labels(other, name, "mixup", rows, None)
        options["extra"] = extra = {}
        if given.get("extra") is not None:
            if target.ndim == pred.ndim and "n_correct" in given["extra"]:
                check.fail(ValueError, name, "extra", "'n_correct' with a dense target",
                           "names without it, or integer labels")  # fmt: skip
            order = order_of(pred)
            places = {"lse": (rows, pred.dtype), "proba": (pred.shape, pred.dtype)}
            for key in given["extra"]:
                shape, dtype = places.get(key, (1, np.int64))
                extra[key] = np.zeros(shape, dtype, order)
        return Batch(pred, target, rows, (rows,), options, extra=tuple(extra.values()))

    def _launch(self, batch: Batch, work: Work) -> _engine.Launch:
        options = dict(batch.options)
        shape, axis = batch.pred.shape, options.pop("axis")
        dtype = batch.pred.dtype.type
        classes = shape[axis]
        before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        inner = before if work.order == "F" else after
        dense = batch.target.ndim == batch.pred.ndim
        epsilon, smoothing = options.pop("eps", 0.0), options.pop("label_smoothing", 0.0)
        temperature, z_loss = options.pop("temperature", 1.0), options.pop("z_loss", 0.0)
        class_weight = options.pop("class_weight")
        others, share = options.pop("mixup", None), options.pop("share", None)
        extra = options.pop("extra")
        # Labels of a class whose weight is 0 have no mass, but a z-loss.
        smooth = smoothing > 0 or (z_loss > 0 and class_weight is not None)
        soft = dense or smooth or others is not None
        tiled = inner > 1 or classes <= most_tiled(batch.pred.itemsize, batch.pred.size)
        logits = work.pred
        if logits is None and soft and self._curved and work.grad is not None:
            logits = work.grad.copy()  # its slopes are computed again when the gradient is written
        arguments = SoftmaxArguments(
            logits=logits,
            labels=None if dense else work.target,
            dense=work.target if dense else None,
            grad=work.grad,
            hess=work.hess,
            losses=work.losses,
            sample_weight=work.sample_weight,
            class_weight=None if class_weight is None else flat(class_weight, "C"),
            upstream=work.upstream,
            smoothing=(dtype(1 - smoothing), dtype(smoothing / classes)) if smooth else None,
            clip=(dtype(epsilon), dtype(1 - epsilon)) if epsilon > 0 else None,
            accumulate=True if work.accumulate else None,
            options=self._scalar_options(batch.options, batch.pred.dtype),
            curved=self._curved,
            temperature=None if temperature == 1 else dtype(temperature),
            z_loss=None if z_loss == 0 else dtype(z_loss),
            others=None if others is None else flat(others, work.order),
            mix=None if share is None else (dtype(share), dtype(1 - share)),
            lse=flat_out(extra.get("lse"), work.order),
            proba=flat_out(extra.get("proba"), work.order),
            correct=extra.get("n_correct"),
            valid=extra.get("n_valid"),
            ignore_index=options["ignore_index"],
            rows=before * after,
            classes=classes,
            inner=inner,
            divisor=work.divisor,
            scale=work.scale,
        )
        return _engine.Launch(
            _engine.softmax_kernel,
            (self._scalar, soft, tiled),
            arguments,
            rough_time(self._nanoseconds, batch.pred.size, before * after, batch.pred.itemsize),
            work.num_threads,
        )

    def _refuse(self, batch: Batch, status: int) -> None:
        classes, ignore = batch.pred.shape[batch.options["axis"]], batch.options["ignore_index"]
        inside = ((batch.target >= 0) & (batch.target < classes)) | (batch.target == ignore)
        if "mixup" in batch.options and inside.all():
            other = batch.options["mixup"]
            check.outside_label(self.name, "mixup", other, status, classes, ignore)
        super()._refuse(batch, status)

    def _check_textbook(self, arrays: tuple[Array, ...], keywords: dict[str, Any]) -> None:
        super()._check_textbook(arrays, keywords)
        if "mixup" in self._own_keywords and keywords.get("mixup") is not None:
            logits, target = arrays
            other, _ = self._mixed(keywords["mixup"], target.ndim == logits.ndim)
            axis, ignore = keywords.get("axis", -1), keywords.get("ignore_index", -100)
            rows, classes = target.shape, logits.shape[axis]
            check.labels_inside(self.name, "mixup", other, rows, classes, ignore)

    def _evaluate_textbook(
        self, arrays: tuple[Array, ...], keywords: dict[str, Any]
    ) -> tuple[Any, ...]:
        extra, mixup = (
            keywords.get(name) if self._own_keywords else None for name in ("extra", "mixup")
        )
        keywords = {k: v for k, v in keywords.items() if k not in self._own_keywords}
        logits, target = arrays
        axis, ignore = keywords.get("axis", -1), keywords.get("ignore_index", -100)
        dense = target.ndim == logits.ndim
        labels, real = target, logits.real.dtype
        counts = np.ones(np.delete(logits.shape, axis), bool) if dense else labels != ignore
        if mixup is not None:
            other, share = np.asarray(mixup[0]), np.asarray(mixup[1], real)
            counts = counts & (other != ignore)
            mass, other_mass = (
                np.moveaxis(a[..., None] == np.arange(logits.shape[axis]), -1, axis).astype(real)
                for a in (labels, other)
            )
            target = share * mass + (1 - share) * other_mass
            weight = keywords.get("sample_weight")
            weight = np.ones(counts.shape, real) if weight is None else np.asarray(weight, real)
            keywords["sample_weight"] = np.where(counts, weight, 0)
        results = super()._evaluate_textbook((logits, target), keywords)
        if extra is None:
            return results
        x = np.moveaxis(logits, axis, -1) / np.asarray(keywords.get("temperature", 1.0), real)
        top = x.real.max(axis=-1, keepdims=True)
        lse = top + np.log(np.exp(x - top).sum(axis=-1, keepdims=True))
        outputs: dict[str, Any] = {"lse": lse[..., 0], "n_valid": int(np.count_nonzero(counts))}
        outputs["proba"] = np.moveaxis(np.exp(x - lse), -1, axis)
        if not dense:
            hits = np.asarray(np.argmax(x.real, axis=-1) == labels)
            outputs["n_correct"] = int(np.count_nonzero(hits & counts))
        return *results, {name: outputs[name] for name in extra}

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
        massless = target.ndim != pred.ndim and not options.get("z_loss")
        row_scale = weight * (mass.sum(axis=-1) != 0) if massless else weight
        value = np.where(row_scale == 0, 0, weight * value)
        gradient = np.where((row_scale == 0)[..., None], 0, weight[..., None] * gradient)
        return value, np.moveaxis(gradient, -1, axis), weight, target_mass


def softmax(
    *,
    arguments: tuple[str, str] = ("logits", "target"),
    convex: bool = False,
    options: dict[str, Option] | None = None,
    curved: bool = False,
    extended: bool = False,
    ulp_bound: float,
    nanoseconds: float,
    peers: dict[str, str],
) -> Callable[[Callable[..., Any]], SoftmaxLoss]:
    """Make a loss of a link function ``(rest, own, gap, mass, *options) -> (loss, slope, bend)``.

    `fastloss._drivers.common` tells what these numbers are and how the derivatives follow from
    them. `curved` says that the slope depends on the label's probability; a dense target then gives
    each class's loss its weight. `extended` gives the loss the keywords `mixup` and `extra`.
    """

    def decorate(scalar: Any) -> SoftmaxLoss:
        return SoftmaxLoss(
            scalar,
            arguments=arguments,
            convex=convex,
            options=options or {},
            curved=curved,
            extended=extended,
            ulp_bound=ulp_bound,
            nanoseconds=nanoseconds,
            peers=peers,
        )

    return decorate
