"""The elementwise losses: one value for each element of two arrays of one shape."""

import math
from collections.abc import Callable
from types import FunctionType
from typing import Any, overload

import numpy as np

from fastloss import _engine, _quick
from fastloss import _validate as check
from fastloss._call import Batch, Other, Work
from fastloss._digest import is_of_library
from fastloss._drivers import points
from fastloss._drivers.common import rough_time
from fastloss._families.declaration import check_domains, declared, own_function
from fastloss._interpreted import formula_of_points
from fastloss._jit import MATHEMATICS
from fastloss._loss import Loss
from fastloss._memory import flat
from fastloss._options import Option
from fastloss._own import Own, stating
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

    def __init__(self, function: FunctionType, **record: Any) -> None:
        own = Own(function, MATHEMATICS)
        super().__init__(stating(points.point, own), **record)
        if not (is_of_library(function) or self._other_names):
            self._textbook = formula_of_points(own, self.options)
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
        options = {
            name: self._option(name, option, given.get(name, option.default), pred)
            for name, option in self.options.items()
        }
        if self._is_shared(target, pred, options):
            first = pred[..., 0] if pred.shape[-1] else np.empty(pred.shape[:-1], pred.dtype)
            name = f"{self._pred_name} without its last axis"
            target = check.dense_target(target, self.name, self._target_name, first, name)
            target = np.broadcast_to(target[..., None], pred.shape)
        target = check.dense_target(target, self.name, self._target_name, pred, self._pred_name)
        self._refuse_bool_signs(target, options)
        others = self._second_input(given, pred, options)
        return Batch(pred, target, pred.shape, (pred.shape, pred.shape[:1]), options, others)

    def _refuse_bool_signs(self, target: Array, options: dict[str, Any]) -> None:
        """Refuse bool where -1 and 1 are wanted: False would be a label of neither class."""
        zero_one = options.get("labels") == "01"
        if target.dtype.kind == "b" and self._properties["target"] == "sign" and not zero_one:
            expected = "-1 and 1" + (", or labels='01'" if "labels" in options else "")
            check.fail(TypeError, self.name, self._target_name, check.describe(target), expected)

    def _is_shared(self, target: Any, pred: Array, options: dict[str, Any]) -> bool:
        """Whether one target serves a whole row of predictions, as with several quantiles."""
        return (
            any(
                option.shares_target and isinstance(options[name], np.ndarray)
                for name, option in self.options.items()
            )
            and check.dimensions(target, self.name, self._target_name) == pred.ndim - 1
        )

    def _roles(self) -> tuple[str, tuple[str, ...], str]:
        pred, target = self._arguments
        second = self._properties.get("second")
        if second:
            self.family_keywords = {**self.family_keywords, **dict.fromkeys(second)}
            self._array_keywords = self._array_keywords.union(second)
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
        array = check.further_input(given[name], self.name, name, pred, self._pred_name)
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
        return option.checked(value, self.name, name, pred.dtype)

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

    def _launch(self, batch: Batch, work: Work) -> _engine.Launch:
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
        return _engine.Launch(
            _engine.elementwise_kernel,
            (self._scalar, plain),
            arguments,
            rough_time(self._nanoseconds, size, 0, batch.pred.itemsize),
            work.num_threads,
        )

    def _reference(
        self, arrays: tuple[Array, ...], options: dict[str, Any], keywords: dict[str, Any]
    ) -> tuple[Array, Any, Array, Array]:
        pred, target = arrays
        ignored = options.pop("ignore_value", None)
        counts = np.ones(pred.shape, bool) if ignored is None else target != ignored
        target = target.astype(pred.real.dtype) if target.dtype.kind in "biu" else target
        target = target[..., None] if target.ndim < pred.ndim else target
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


@overload
def elementwise(function: Callable[..., Any], /) -> ElementwiseLoss: ...
@overload
def elementwise(
    *,
    options: dict[str, Option] | None = None,
    arguments: tuple[str, str] | None = None,
    pred: str = "real",
    target: str = "real",
    second: tuple[str, str] | None = None,
    convex: bool = False,
    ulp_bound: float = math.inf,
    nanoseconds: float = 1.0,
    peers: dict[str, str] | None = None,
) -> Callable[[Callable[..., Any]], ElementwiseLoss]: ...
def elementwise(
    function: Callable[..., Any] | None = None,
    /,
    *,
    options: dict[str, Option] | None = None,
    arguments: tuple[str, str] | None = None,
    pred: str = "real",
    target: str = "real",
    second: tuple[str, str] | None = None,
    convex: bool = False,
    ulp_bound: float = math.inf,
    nanoseconds: float = 1.0,
    peers: dict[str, str] | None = None,
) -> Any:
    """Make a loss of a function of one prediction and one target.

    A decorator, with or without arguments. Nothing is compiled before the loss is first used.

    Parameters
    ----------
    function : function
        ``(pred, target, *options)`` of numbers. It returns the loss alone; or ``(loss, slope)``,
        the slope being the derivative by pred; or ``(loss, slope, curvature)`` with the second
        derivative too. Derivatives that it does not return are found by differentiating it as it
        runs. Its parameters behind the first two are the loss's options; a default that is a
        number, True, False or None says of what kind. True and False arrive as True and None.
    options : dict of str to fastloss.Option, optional
        Options with a domain or other properties, by name.
    arguments : tuple of two str, optional
        The names of prediction and target in messages and in the signature; by default the
        function's own.
    pred, target : {"real", "positive", "count", "probability", "log probability", "sign"}
        What numbers these are, "real" by default; `sample` draws such numbers, and `check` tries
        them.
    second : tuple of two str, optional
        Keywords for an input beside the prediction that gets a gradient too, given as itself or as
        its logarithm. The function takes ``(pred, target, second, is_logarithm, *options)`` then,
        and returns the two derivatives by it behind ``(loss, slope, curvature)``.
    convex : bool, default False
        Whether the loss is convex in the prediction, with its default options.
    ulp_bound : float, default inf
        The bound on errors that the loss states, in units in the last place.
    nanoseconds : float, default 1.0
        The rough time per float32 element, by which the number of threads is chosen.
    peers : dict of str to str, optional
        Names of the same loss in other libraries.

    Returns
    -------
    Loss
        With all that the losses of the library have.

    Raises
    ------
    TypeError
        The function does not take ``(pred, target, *options)``, or an option has no default. At
        the first use: Numba cannot compile the function, or it returns something else.

    Notes
    -----
    In the function, `numpy.exp` and other functions of NumPy and `math` are the library's own,
    which let the loop become vector code: within 2 units in the last place, and 0 where the result
    would be subnormal. It may call other Python functions of yours, compiled or not. Constants of
    their own type keep float32 code fast: ``T = type(pred)``, then ``T(0.5) * pred``.

    Kernels are cached on disk unless the code depends on something other than numbers, strings,
    arrays, functions and modules. The loss can be pickled if it stands in a module under its name.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> @fl.elementwise
    ... def lopsided(pred, target, under=3.0):
    ...     residual = pred - target
    ...     return residual**2 if residual > 0 else under * residual**2
    >>> lopsided.value_and_grad(np.array([0.0, 3.0]), np.array([1.0, 1.0]), reduction="none")
    (array([3., 4.]), array([-6.,  4.]))
    """
    count = 4 if second else 2

    def decorate(decorated: Any) -> ElementwiseLoss:
        own = own_function(decorated, "elementwise")
        shape = ("pred", "target", "second", "is_logarithm")[:count]
        names, found = declared(own, shape, options, ElementwiseLoss.handled_options)
        check_domains(own.__name__, DOMAINS, pred=pred, target=target)
        return ElementwiseLoss(
            own,
            arguments=arguments or (names[0], names[1]),
            pred=pred,
            target=target,
            second=second,
            convex=convex,
            options=found,
            ulp_bound=ulp_bound,
            nanoseconds=nanoseconds,
            peers=peers or {},
        )

    return decorate if function is None else decorate(function)
