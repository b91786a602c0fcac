"""The family of losses that are functions of whole rows, and the decorator by which one joins it.

Probabilities, margins, embeddings and segmentation belong here: each row (the C numbers along
`axis`) has one loss. A loss's file states one function of a row, which returns the loss and fills
the gradient; `fastloss._drivers.rowwise` does everything else.
"""

import math
from collections.abc import Callable
from types import FunctionType
from typing import Any, overload

import numpy as np

from fastloss import _engine, _quick
from fastloss import _validate as check
from fastloss._call import HESSIAN, Batch, Work, read_class_weight
from fastloss._digest import is_of_library, remember
from fastloss._drivers import points
from fastloss._drivers.common import most_tiled, rough_time
from fastloss._drivers.rowwise import RowwiseArguments
from fastloss._families.declaration import check_domains, declared, own_function
from fastloss._interpreted import formula_of_rows
from fastloss._jit import INLINED
from fastloss._loss import Loss
from fastloss._memory import flat
from fastloss._options import Option
from fastloss._own import Own, stating
from fastloss._quick import Quick
from fastloss._validate import Array


def _distribution(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    powers = np.exp(rng.standard_normal(shape))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


DOMAINS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Any]] = {
    "real": lambda rng, shape: 3 * rng.standard_normal(shape),
    "embedding": lambda rng, shape: rng.standard_normal(shape),
    "distribution": _distribution,
    "log distribution": lambda rng, shape: np.log(_distribution(rng, shape)),
    "probability": lambda rng, shape: rng.uniform(0.01, 0.99, shape),
    "binary": lambda rng, shape: rng.integers(0, 2, shape),
    "cosine": lambda rng, shape: rng.uniform(-0.99, 0.99, shape),
    "labels": lambda rng, shape: rng.integers(0, shape[-1], shape[:-1]),
}
"""What the inputs and targets can be, and how random ones are drawn."""


class RowLoss(Loss):
    """A loss with one value per row; targets are labels, rows like pred's, or absent."""

    family = "rowwise"

    def __init__(self, function: FunctionType, **record: Any) -> None:
        self._dense_function: FunctionType | None = None
        self._counts = len(record["arguments"]), record["inputs"] + record["hessian"]
        super().__init__(self._stating(function), **record)
        self._quick = self._quick_path()
        if not is_of_library(function):
            self._textbook = formula_of_rows(
                self._own, self.options, record["inputs"], record["hessian"]
            )

    def _stating(self, function: FunctionType) -> FunctionType:
        """Return what the kernels are made of: the library's function, or one of a user's."""
        if is_of_library(function):
            return function
        arrays, derivatives = self._counts
        own = Own(function, INLINED)
        return stating(points.row, own, arrays=arrays, derivatives=derivatives)

    def _roles(self) -> tuple[str, tuple[str, ...], str]:
        count = self._properties["inputs"]
        self._takes_labels = "labels" in self._properties["domains"][count:]
        keywords: dict[str, Any] = {"axis": -1}
        if self._takes_labels:
            keywords["ignore_index"] = -100
        if self._properties["class_weight"]:
            keywords["class_weight"] = None
        self.family_keywords = keywords
        targets = self._arguments[count:]
        return self._arguments[0], self._arguments[1:count], targets[0] if targets else ""

    def _quick_path(self) -> Quick:
        nanoseconds, options = self._nanoseconds, self._default_options()
        hessians = int(self._properties["hessian"])
        count = self._properties["inputs"]
        if len(self._arguments) == count:
            return _quick.inputs(self._scalar, nanoseconds, options, count, hessians)
        if count > 1:
            return super()._quick
        return _quick.rows(self._row_function, nanoseconds, options, hessians, self._takes_labels)

    def _row_function(self, dense: bool) -> FunctionType | None:
        """Return the function for dense targets or for labels, None where they are not taken."""
        if not self._takes_labels:
            return self._scalar if dense else None
        return self._dense_function if dense else self._scalar

    def _own(self, dense: bool) -> Own:
        """Return a user's own function for dense targets or for labels."""
        return self._row_function(dense).own  # type: ignore[union-attr]

    def dense(self, function: Any) -> Any:
        """Register the loss's function of a row with a dense target (a decorator)."""
        self._dense_function = RowLoss._stating(self, function)  # whatever states it for labels
        remember(function)
        return function

    def sample(
        self, rng: np.random.Generator, dtype: Any, shape: tuple[int, ...]
    ) -> tuple[Array, ...]:
        drawn = (DOMAINS[domain](rng, shape) for domain in self._properties["domains"])
        return tuple(
            array if array.ndim < len(shape) else np.asarray(array).astype(dtype)
            for array in drawn
        )  # fmt: skip

    def _evaluate(
        self, arrays: tuple[Any, ...], given: dict[str, Any], common: dict[str, Any]
    ) -> tuple[Any, Any, Any]:
        if common is HESSIAN and not self._properties["hessian"]:
            raise NotImplementedError(
                f"{self.name}: it has no diagonal Hessian; expected value_and_grad"
            )
        return super()._evaluate(arrays, given, common)

    def _batch(self, arrays: tuple[Any, ...], given: dict[str, Any]) -> Batch:
        name, count = self.name, self._properties["inputs"]
        pred = check.prediction(arrays[0], name, self._pred_name)
        axis = check.class_axis(given.get("axis", -1), name, self._pred_name, pred)
        rows = pred.shape[:axis] + pred.shape[axis + 1 :]
        options: dict[str, Any] = {"axis": axis}
        others = tuple(
            check.further_input(value, name, argument, pred, self._pred_name)
            for value, argument in zip(arrays[1:count], self._other_names, strict=True)
        )
        target = None
        if self._target_name:
            target = self._target(arrays[count], pred, rows)
        if self._takes_labels:
            options["ignore_index"] = check.ignored(given.get("ignore_index", -100), name)
        options["class_weight"] = read_class_weight(name, given, pred, axis)
        for key, option in self.options.items():
            options[key] = option.checked(given.get(key, option.default), name, key, pred.dtype)
        return Batch(pred, target, rows, (rows,), options, others)

    def _target(self, value: Any, pred: Array, rows: tuple[int, ...]) -> Array:
        name, argument = self.name, self._target_name
        dense, both = not self._takes_labels, self._dense_function is not None
        if both:
            dense = check.dimensions(value, name, argument) == pred.ndim
        if dense:
            return check.dense_target(value, name, argument, pred, self._pred_name)
        return check.integer_labels(value, name, argument, rows, pred.shape if both else None)

    def _launch(self, batch: Batch, work: Work) -> Callable[[], tuple[float, int]]:
        shape, axis, dtype = batch.pred.shape, batch.options["axis"], batch.pred.dtype
        classes = shape[axis]
        before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        inner = before if work.order == "F" else after
        inputs = (work.pred, *(other.values for other in work.others))
        labels, mass, function = None, None, self._scalar
        class_weight = batch.options["class_weight"]
        class_weight = None if class_weight is None else flat(class_weight, "C")
        elsewhere = inner > 1 or work.pred is None
        if batch.target is not None and batch.target.ndim == batch.pred.ndim:
            dense = work.target
            inputs = (*inputs, dense)
            mass = dense if self._takes_labels else None
            function = self._dense_function or function
            elsewhere = elsewhere or dense.dtype != dtype or class_weight is not None
        elif batch.target is not None:
            labels = work.target
        staged = _engine.stage_of_rows(function, elsewhere, inner)
        few = classes <= most_tiled(batch.pred.itemsize, batch.pred.size)
        return _engine.Launch(
            _engine.rowwise_kernel,
            (function, _engine.kind_of_rows(function, labels is not None, few), staged),
            RowwiseArguments(
                inputs=inputs,
                labels=labels,
                mass=mass,
                grads=(work.grad, *(other.grad for other in work.others)),
                hesses=(work.hess,) if self._properties["hessian"] else (),
                losses=work.losses,
                sample_weight=work.sample_weight,
                class_weight=class_weight,
                upstream=work.upstream,
                accumulate=True if work.accumulate else None,
                options=self._scalar_options(batch.options, dtype),
                ignore_index=batch.options.get("ignore_index", -100),
                rows=before * after,
                classes=classes,
                inner=inner,
                divisor=work.divisor,
                scale=work.scale,
            ),
            rough_time(self._nanoseconds, batch.pred.size, before * after, dtype.itemsize),
            work.num_threads,
        )

    def _reference(
        self, arrays: tuple[Array, ...], options: dict[str, Any], keywords: dict[str, Any]
    ) -> tuple[Array, Any, Array, Array]:
        axis, count = options.pop("axis", -1), self._properties["inputs"]
        ignore, class_weight = options.pop("ignore_index", -100), options.pop("class_weight", None)
        inputs = [np.moveaxis(array, axis, -1) for array in arrays[:count]]
        pred, real = inputs[0], inputs[0].real.dtype
        classes, rows = pred.shape[-1], pred.shape[:-1]
        weight = keywords.get("sample_weight")
        weight = np.ones(rows, real) if weight is None else np.asarray(weight, real)
        scale = np.ones(classes, real) if class_weight is None else np.asarray(class_weight, real)
        target_mass = np.ones(rows, real)
        if len(arrays) > count:
            target = arrays[count]
            if target.ndim == pred.ndim:
                target = np.moveaxis(target, axis, -1).astype(real)
                if self._takes_labels:
                    target = scale * target
                    target_mass = target.sum(axis=-1)
            else:
                weight = np.where(target == ignore, 0, weight)
                target = np.where(target == ignore, 0, target)
                weight = weight * scale[target]
                if self._dense_function is not None:
                    target = (target[..., None] == np.arange(classes)).astype(real)
            inputs.append(target)
        value, gradient = self._textbook(*inputs, **options)
        counts = weight != 0

        def delivered(numbers: Array) -> Array:
            weighted = np.where(counts[..., None], weight[..., None] * numbers, 0)
            return np.moveaxis(weighted, -1, axis)

        derivative: Any = gradient
        if isinstance(derivative, tuple):
            derivative = tuple(map(delivered, derivative))
        else:
            derivative = delivered(derivative)
        return np.where(counts, weight * value, 0), derivative, weight, target_mass


@overload
def rowwise(function: Callable[..., Any], /) -> RowLoss: ...
@overload
def rowwise(
    *,
    options: dict[str, Option] | None = None,
    arguments: tuple[str, ...] | None = None,
    pred: str = "real",
    target: str | None = "labels",
    inputs: int = 1,
    hessian: bool = False,
    class_weight: bool = False,
    logits: bool = False,
    convex: bool = False,
    ulp_bound: float = math.inf,
    nanoseconds: float = 1.0,
    peers: dict[str, str] | None = None,
    loss: type[RowLoss] = RowLoss,
) -> Callable[[Callable[..., Any]], RowLoss]: ...
def rowwise(
    function: Callable[..., Any] | None = None,
    /,
    *,
    options: dict[str, Option] | None = None,
    arguments: tuple[str, ...] | None = None,
    pred: str = "real",
    target: str | None = "labels",
    inputs: int = 1,
    hessian: bool = False,
    class_weight: bool = False,
    logits: bool = False,
    convex: bool = False,
    ulp_bound: float = math.inf,
    nanoseconds: float = 1.0,
    peers: dict[str, str] | None = None,
    loss: type[RowLoss] = RowLoss,
) -> Any:
    """Make a loss of a function of a row of numbers.

    A decorator, with or without arguments. Nothing is compiled before the loss is first used.

    Parameters
    ----------
    function : function
        ``(row, label, grad, *options) -> loss``. It fills `grad`, an array like the row, with the
        derivatives by the row's numbers. What it takes depends on the arguments below, in full
        ``(*rows, target, *grads, hess, *options)``. The parameters behind the arrays are the loss's
        options, numbers, flags (which arrive as True or None) or None by their defaults.
    options : dict of str to fastloss.Option, optional
        Options with a domain or other properties, by name.
    arguments : tuple of str, optional
        The names of the inputs and the target in messages and in the signature; by default the
        function's own.
    pred : str, default "real"
        What numbers the inputs are: "real", "embedding", "distribution", "log distribution",
        "probability" or "cosine"; `sample` draws such numbers, and `check` tries them.
    target : str or None, default "labels"
        "labels": each row has an integer label, an index into it. One of the words above, or
        "binary": the target is a row like the input. None: there is no target.
    inputs : int, default 1
        How many inputs get a gradient, arrays of one shape.
    hessian : bool, default False
        Whether the function fills the diagonal of the Hessian too, behind the gradients.
    class_weight : bool, default False
        Whether the loss has the keyword `class_weight`: a row counts as its label does.
    logits : bool, default False
        Whether a softmax is taken of the rows; their spread counts in the bound then.
    convex : bool, default False
        Whether the loss is convex in the inputs, with its default options.
    ulp_bound : float, default inf
        The bound on errors that the loss states, in units in the last place.
    nanoseconds : float, default 1.0
        The rough time per number of a float32 row, by which the number of threads is chosen.
    peers : dict of str to str, optional
        Names of the same loss in other libraries.
    loss : type, optional
        The class of the loss.

    Returns
    -------
    Loss
        With all that the losses of the library have.

    Raises
    ------
    TypeError
        The function does not take these parameters, or an option has no default. At the first use:
        it cannot be compiled, or returns no number.

    Notes
    -----
    A function that can do without the gradient may ask ``if grad is not None``: the value alone is
    faster then. A label outside of the row is refused before the function is called. For rows as
    targets beside labels, register a function by ``@loss.dense``. What `elementwise` notes of
    functions, caching and pickling holds here too.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> @fl.rowwise
    ... def shortfall(scores, label, grad, margin=1.0):
    ...     excess = margin - scores[label]
    ...     grad[:] = 0
    ...     grad[label] = -1 if excess > 0 else 0
    ...     return max(excess, 0)
    >>> shortfall.value_and_grad(np.array([[0.25, 2.0]]), [0])
    (0.75, array([[-1.,  0.]]))
    """

    def decorate(decorated: Any) -> RowLoss:
        own, targets = own_function(decorated, "rowwise"), () if target is None else (target,)
        shape = ("row", *("another row",) * (inputs - 1), *("target",) * len(targets))
        shape += ("grad",) * inputs + ("hess",) * hessian
        names, found = declared(own, shape, options)
        check_domains(own.__name__, [name for name in DOMAINS if name != "labels"], pred=pred)
        check_domains(own.__name__, [*DOMAINS, None], target=target)
        return loss(
            own,
            arguments=arguments or tuple(names[: inputs + len(targets)]),
            domains=(*(pred,) * inputs, *targets),
            inputs=inputs,
            class_weight=class_weight,
            hessian=hessian,
            logits=logits,
            convex=convex,
            options=found,
            ulp_bound=ulp_bound,
            nanoseconds=nanoseconds,
            peers=peers or {},
        )

    return decorate if function is None else decorate(function)
