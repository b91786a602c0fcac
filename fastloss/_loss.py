"""The Loss record: a loss's mathematics and properties, from which its public face is derived.

A file in `losses` states the mathematics once and decorates it with `elementwise` or `softmax`;
the signature, the docstring, the calls, the checks and `reference` come from here.
"""

import inspect
import math
from collections.abc import Callable
from types import FunctionType
from typing import Any, ClassVar, NamedTuple

import numpy as np

from fastloss import _documentation, _engine
from fastloss import _validate as check
from fastloss._llvm import OVERLAP
from fastloss._softmax import TILE_CLASSES
from fastloss._validate import Array, Option

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

VALUE = {
    "sample_weight": None,
    "reduction": "mean",
    "normalizer": None,
    "num_threads": None,
    "loss_out": None,
}
GRADIENT = {**VALUE, "grad_out": None, "upstream": None, "accumulate": False}
HESSIAN = {**GRADIENT, "hess_out": None}
REFERENCE = {"sample_weight": None, "reduction": "mean", "normalizer": None}
"""The keywords that every loss has in each kind of call, with their defaults."""

TARGETS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Any]] = {
    "real": lambda rng, shape: rng.standard_normal(shape),
    "probability": lambda rng, shape: rng.random(shape),
}
"""The domains of elementwise targets, and how random ones are drawn."""


class _Batch(NamedTuple):
    """The checked inputs of a call, before they are laid flat."""

    pred: Array
    target: Array
    shape: tuple[int, ...]  # of the single losses
    weight_shapes: tuple[tuple[int, ...], ...]
    options: dict[str, Any]


class _Work(NamedTuple):
    """What the kernel gets: contiguous flat arrays, in the memory order of pred."""

    pred: Array | None  # None: computed in place, pred is grad
    target: Array
    grad: Array | None
    hess: Array | None
    losses: Array | None
    sample_weight: Array | None
    upstream: Array | None
    divisor: float
    scale: float
    accumulate: bool
    num_threads: int | None
    order: str


class Loss:
    """A loss function: call it for the value; its methods give the derivatives too.

    Attributes
    ----------
    name, family : str
        The public name, and "elementwise" or "softmax".
    options : dict of str to Option
        The loss's own options with their defaults and domains.
    ulp_bound : float
        The stated bound on the error of each loss and gradient entry, in units in the last place;
        a softmax row adds 2 for each unit of the spread of its logits.
    peers : dict of str to str
        The names of the same loss in other libraries.
    """

    family: ClassVar[str] = ""
    family_keywords: ClassVar[dict[str, Any]] = {}

    value_and_grad: Callable[..., tuple[Any, Array]]
    grad: Callable[..., Array]
    value_grad_hess: Callable[..., tuple[Any, Array, Array]]

    def __init__(
        self,
        scalar: FunctionType,
        *,
        arguments: tuple[str, str],
        options: dict[str, Option],
        ulp_bound: float,
        nanoseconds: float,
        peers: dict[str, str],
        **properties: Any,
    ) -> None:
        self._properties = properties
        self.name = self.__name__ = scalar.__name__
        self.__module__ = scalar.__module__
        self.options = options
        self.ulp_bound = ulp_bound
        self.peers = peers
        self._scalar = scalar
        self._nanoseconds = nanoseconds
        self._pred_name, self._target_name = arguments
        self._textbook: Callable[..., tuple[Array, Array]] = _missing_textbook
        self.__signature__ = self._signature(VALUE, "float | ndarray")
        self.__doc__ = _documentation.of_loss(self, scalar.__doc__ or "")
        self._add_methods()

    def __repr__(self) -> str:
        return f"<loss {self.name}{self.__signature__}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _find, (self.__module__, self.name)

    def __call__(self, pred: Any, target: Any, /, **keywords: Any) -> Any:
        if not keywords and type(pred) is type(target) is np.ndarray:
            value = self._quick(pred, target, None)
            if value is not None:
                return value
        return self._evaluate(pred, target, keywords, VALUE)[0]

    def _add_methods(self) -> None:
        """Give the instance its derivative calls, each with its real signature."""

        def value_and_grad(pred: Any, target: Any, /, **keywords: Any) -> tuple[Any, Array]:
            if type(pred) is type(target) is np.ndarray:
                if not keywords:
                    out = np.empty_like(pred)
                elif len(keywords) == 1:
                    out = keywords.get("grad_out")
                else:
                    out = None
                if type(out) is np.ndarray:
                    value = self._quick(pred, target, out)
                    if value is not None:
                        return value, out
            return self._evaluate(pred, target, keywords, GRADIENT)[:2]  # type: ignore[return-value]

        def grad(pred: Any, target: Any, /, **keywords: Any) -> Array:
            return self._evaluate(pred, target, keywords, GRADIENT)[1]  # type: ignore[return-value]

        def value_grad_hess(
            pred: Any, target: Any, /, **keywords: Any
        ) -> tuple[Any, Array, Array]:
            return self._evaluate(pred, target, keywords, HESSIAN)  # type: ignore[return-value]

        for method, known, returned in (
            (value_and_grad, GRADIENT, "tuple[float | ndarray, ndarray]"),
            (grad, GRADIENT, "ndarray"),
            (value_grad_hess, HESSIAN, "tuple[float | ndarray, ndarray, ndarray]"),
        ):
            method.__doc__ = _documentation.of_method(self, method.__name__)
            method.__qualname__ = f"{self.name}.{method.__name__}"
            method.__signature__ = self._signature(known, returned)  # type: ignore[attr-defined]
            setattr(self, method.__name__, method)

    def _signature(self, common: dict[str, Any], returned: str) -> inspect.Signature:
        only = inspect.Parameter.POSITIONAL_ONLY
        arrays = [inspect.Parameter(name, only) for name in (self._pred_name, self._target_name)]
        keywords = {name: option.default for name, option in self.options.items()}
        keywords |= self.family_keywords | common
        return inspect.Signature(
            arrays
            + [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
                for name, default in keywords.items()
            ],
            return_annotation=returned,
        )

    def textbook(self, formula: Callable[..., Any]) -> Callable[..., Any]:
        """Register the loss's textbook NumPy formula (a decorator)."""
        self._textbook = formula
        return formula

    def sample(
        self, rng: np.random.Generator, dtype: Any, shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        """Return a valid random `pred` of the shape and a target for it.

        Parameters
        ----------
        rng : numpy.random.Generator
            The source of randomness.
        dtype : dtype_like
            float32 or float64.
        shape : tuple of int
            The shape of `pred`, the class axis last.

        Returns
        -------
        tuple of ndarray
            `pred` of moderate size, and a target: labels for the losses that take them.
        """
        raise NotImplementedError

    # The hooks of the families.

    def _quick(self, pred: Array, target: Array, grad: Array | None) -> float | None:
        """Return the mean loss of the plainest call without delay, or None if it is not that.

        The plainest call has no options, and arrays that the kernel can take as they are. None
        leaves everything, errors included, to `_evaluate`.
        """
        raise NotImplementedError

    def _batch(self, pred: Any, target: Any, given: dict[str, Any]) -> _Batch:
        raise NotImplementedError

    def _launch(self, batch: _Batch, work: _Work) -> tuple[float, int]:
        raise NotImplementedError

    def _fail_outside(self, batch: _Batch, row: int) -> None:
        raise NotImplementedError

    # One call, whatever the family.

    def _evaluate(
        self, pred: Any, target: Any, given: dict[str, Any], common: dict[str, Any]
    ) -> tuple[Any, Array | None, Array | None]:
        """Check the arguments, lay the arrays flat, run the kernel and hand out the results."""
        name = self.name
        check.keywords(name, given, self.options | self.family_keywords | common)
        batch = self._batch(pred, target, given)
        pred, dtype = batch.pred, batch.pred.dtype
        reduction = check.reduction(given.get("reduction", "mean"), name)
        divisor = self._divisor(given, reduction, batch)
        scale, upstream = self._upstream(given, reduction, batch)
        sample_weight = self._weights(given, "sample_weight", batch)
        accumulate = check.boolean(given.get("accumulate", False), name, "accumulate")
        num_threads = given.get("num_threads")
        if num_threads is not None:
            num_threads = check.integer(num_threads, name, "num_threads", 1, "an integer >= 1")

        order = "F" if pred.flags.f_contiguous and not pred.flags.c_contiguous else "C"
        read = {self._pred_name: pred, self._target_name: batch.target,
                "sample_weight": sample_weight, "upstream": upstream, **{
                    key: value for key, value in batch.options.items()
                    if isinstance(value, np.ndarray)}}  # fmt: skip
        losses = grad = hess = None
        if given.get("loss_out") is not None and reduction != "none":
            check.fail(ValueError, name, "loss_out", f"given with reduction={reduction!r}",
                       "None, or reduction='none'")  # fmt: skip
        if reduction == "none":
            losses = self._buffer(given, "loss_out", batch.shape, dtype, order, read)
        in_place = False
        if "grad_out" in common:
            out = given.get("grad_out")
            in_place = isinstance(out, np.ndarray) and check.same_memory(out, pred)
            if accumulate and (out is None or in_place):
                check.fail(ValueError, name, "accumulate", "True", "grad_out to add to, not pred")
            apart = {key: array for key, array in read.items() if array is not pred or not in_place}
            grad = self._buffer(given, "grad_out", pred.shape, dtype, order, apart)
            read["grad_out"] = grad
        if "hess_out" in common:
            hess = self._buffer(given, "hess_out", pred.shape, dtype, order, read)
            read["hess_out"] = hess
        if losses is not None:
            check.disjoint(name, "loss_out", losses, {k: read.get(k) for k in ("grad_out", "hess_out")})
        if pred.size == 0:
            return (losses if reduction == "none" else 0.0), grad, hess

        flat_grad, flat_hess, flat_losses = (_flat_out(out, order) for out in (grad, hess, losses))
        in_place = in_place and grad is not None and np.may_share_memory(flat_grad, grad)
        work = _Work(
            None if in_place else _flat(pred, order),
            _flat(batch.target, order),
            flat_grad,
            flat_hess,
            flat_losses,
            None if sample_weight is None else _flat(sample_weight, order),
            None if upstream is None else _flat(upstream, order),
            divisor,
            scale,
            accumulate and grad is not None and np.may_share_memory(flat_grad, grad),
            num_threads,
            order,
        )
        value, status = self._launch(batch, work)
        if status >= 0:
            self._fail_outside(batch, status)
        if status == OVERLAP:
            check.overlap(name, "grad_out", f"{self._pred_name} or {self._target_name}")
        _write_back(losses, flat_losses, order, False)
        _write_back(grad, flat_grad, order, accumulate)
        _write_back(hess, flat_hess, order, False)
        return (losses if reduction == "none" else value), grad, hess

    def _divisor(self, given: dict[str, Any], reduction: str, batch: _Batch) -> float:
        """Return what the sum is divided by; NaN asks the kernel for the total weight."""
        normalizer = given.get("normalizer")
        if normalizer is None:
            if reduction == "mean":
                return math.nan
            return float(batch.shape[0]) if reduction == "batchmean" and batch.shape else 1.0
        if reduction != "mean":
            check.fail(ValueError, self.name, "normalizer", f"given with reduction={reduction!r}",
                       "None, or reduction='mean'")  # fmt: skip
        return check.number(normalizer, self.name, "normalizer", "a finite number", lambda x: True)

    def _upstream(
        self, given: dict[str, Any], reduction: str, batch: _Batch
    ) -> tuple[float, Array | None]:
        """Return upstream as a number and, with `reduction="none"`, an array (or None)."""
        upstream = given.get("upstream")
        if upstream is None:
            return 1.0, None
        if np.ndim(upstream) == 0:
            return check.number(upstream, self.name, "upstream", "a finite number", lambda x: True), None
        if reduction != "none":
            check.fail(ValueError, self.name, "upstream", check.describe(np.asarray(upstream)),
                       "a number, or reduction='none'")  # fmt: skip
        return 1.0, self._weights(given, "upstream", batch)

    def _weights(self, given: dict[str, Any], argument: str, batch: _Batch) -> Array | None:
        value = given.get(argument)
        if value is None:
            return None
        return check.weights(value, self.name, argument, batch.weight_shapes, batch.pred.dtype)

    def _buffer(
        self, given: dict[str, Any], argument: str, shape: tuple[int, ...], dtype: np.dtype[Any],
        order: Any, others: dict[str, Array | None],
    ) -> Array:  # fmt: skip
        """Return the caller's buffer, checked, or a new one."""
        buffer = given.get(argument)
        if buffer is None:
            return np.empty(shape, dtype, order)
        check.output(buffer, self.name, argument, shape, dtype)
        check.disjoint(self.name, argument, buffer, others)
        return buffer  # type: ignore[no-any-return]

    # The textbook.

    def reference(self, pred: Any, target: Any, /, **keywords: Any) -> tuple[Any, Array]:
        """Return loss and gradient by the textbook formula, in plain NumPy and pred's own type.

        Takes the loss's options and `sample_weight`, `reduction` and `normalizer`. Meant to be
        read and compared with, also in longdouble or complex numbers; it checks little.
        """
        check.keywords(self.name, keywords, self.options | self.family_keywords | REFERENCE)
        options = {name: option.default for name, option in self.options.items()}
        options |= {k: v for k, v in keywords.items() if k not in REFERENCE}
        pred, target = np.asarray(pred), np.asarray(target)
        value, gradient, weight, mass = self._reference(pred, target, options, keywords)
        reduction = check.reduction(keywords.get("reduction", "mean"), self.name)
        if reduction == "none":
            return value, gradient
        divisor: Any = 1.0
        if reduction == "batchmean":
            divisor = value.shape[0] if value.ndim else 1
        elif reduction == "mean":
            divisor = keywords.get("normalizer")
            divisor = np.sum(weight * mass) if divisor is None else divisor
        if divisor == 0:
            return 0.0, np.zeros_like(gradient)
        loss = np.sum(value) / divisor
        if loss.dtype in (np.float32, np.float64):
            loss = float(loss)
        return loss, (gradient / divisor).astype(gradient.dtype, copy=False)

    def _reference(
        self, pred: Array, target: Array, options: dict[str, Any], keywords: dict[str, Any]
    ) -> tuple[Array, Array, Array, Array]:
        """Return weighted losses, their gradient, the weights, and the target mass of each."""
        raise NotImplementedError


def _missing_textbook(*arguments: Any, **options: Any) -> tuple[Array, Array]:
    raise NotImplementedError("this loss has no textbook formula")


def _find(module: str, name: str) -> Any:
    """Return the loss of that name (the other half of pickling)."""
    return getattr(__import__(module, fromlist=[name]), name)


class _Borrowed:
    """A holder of another array's memory that NumPy takes for writable.

    Numba compiles read-only arrays separately. Kernels never write their inputs, so lending them
    the memory of a read-only input under the writable type is safe and saves those compilations.
    """

    def __init__(self, array: Array) -> None:
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}
        self.owner = array


def _flat(array: Array, order: Any) -> Array:
    """Return an input as a contiguous vector in the given memory order; other layouts are copied."""
    vector = np.asarray(array, order=order)
    vector = (vector.T if order == "F" else vector).reshape(-1)
    return vector if vector.flags.writeable else np.asarray(_Borrowed(vector))


def _flat_out(array: Array | None, order: str) -> Array | None:
    """Return a buffer as a contiguous vector, or a vector to be copied into it afterwards."""
    if array is None:
        return None
    if array.flags.f_contiguous if order == "F" else array.flags.c_contiguous:
        if array.flags.aligned:
            return (array.T if order == "F" else array).reshape(-1)
    return np.empty(array.size, array.dtype)


def _write_back(array: Array | None, vector: Array | None, order: Any, accumulate: bool) -> None:
    """Copy (or add) results that could not be written where they belong."""
    if array is None or vector is None or np.may_share_memory(array, vector):
        return
    result = vector.reshape(array.shape, order=order)
    array[...] = array + result if accumulate else result


class ElementwiseLoss(Loss):
    """A loss with one value per element: pred and target of one shape, of any dimensions."""

    family = "elementwise"

    def __init__(self, scalar: FunctionType, **record: Any) -> None:
        super().__init__(scalar, **record)
        values = {name: option.default for name, option in self.options.items()}
        self._defaults = {
            dtype.char: self._scalar_options(values, dtype) for dtype in (FLOAT32, FLOAT64)
        }

    def sample(
        self, rng: np.random.Generator, dtype: Any, shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        pred = (3 * rng.standard_normal(shape)).astype(dtype)
        draw = TARGETS[self._properties["target"]]
        return pred, np.asarray(draw(rng, shape)).astype(dtype)

    def _quick(self, pred: Array, target: Array, grad: Array | None) -> float | None:
        dtype, shape = pred.dtype, pred.shape
        if (
            (dtype is not FLOAT32 and dtype is not FLOAT64)
            or target.dtype is not dtype
            or target.shape != shape
            or not (pred.flags.carray and target.flags.carray)
            or not pred.size
        ):
            return None
        if grad is not None:
            if grad.dtype is not dtype or grad.shape != shape or not grad.flags.carray:
                return None
            grad = grad.ravel()
        value, status = _engine.run(
            _engine.elementwise_kernel,
            (self._scalar, True),
            (pred.ravel(), target.ravel(), grad, None, None, None, None, None,
             self._defaults[dtype.char], math.nan, 1.0, None),
            self._nanoseconds * pred.size,
        )  # fmt: skip
        return value if status == -1 else None

    def _batch(self, pred: Any, target: Any, given: dict[str, Any]) -> _Batch:
        pred = check.prediction(pred, self.name, self._pred_name)
        target = check.dense_target(target, self.name, self._target_name, pred, self._pred_name)
        options = {
            name: self._option(name, option, given.get(name, option.default), pred)
            for name, option in self.options.items()
        }
        return _Batch(pred, target, pred.shape, (pred.shape, pred.shape[:1]), options)

    def _scalar_options(self, values: dict[str, Any], dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return the options as the kernel takes them: numbers of its type, None for neutral ones.

        Neutral options are all None or none of them is (but for those that shape the formula):
        two kernels to compile instead of one for each combination. Arrays travel separately.
        """

        def is_default(name: str) -> bool:
            return np.ndim(values[name]) == 0 and values[name] == self.options[name].default

        weighing = [k for k, x in self.options.items() if x.neutral and not x.shapes_formula]
        plain = all(is_default(name) for name in weighing)
        return tuple(
            None if option.neutral and (is_default(name) if option.shapes_formula else plain)
            else dtype.type(values[name])
            for name, option in self.options.items()
            if np.ndim(values[name]) == 0
        )  # fmt: skip

    def _option(self, name: str, option: Option, value: Any, pred: Array) -> Any:
        if option.per_class and np.ndim(value) > 0:
            array = check.weights(value, self.name, name, (pred.shape[-1:],), pred.dtype)
            if not all(option.holds(x) for x in array.tolist()):
                check.fail(ValueError, self.name, name, check.describe(value), option.domain)
            return array
        return check.number(value, self.name, name, option.domain, option.holds)

    def _launch(self, batch: _Batch, work: _Work) -> tuple[float, int]:
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
                per_class = (_flat(value, "C"), run, value.size)
        arguments = (
            work.pred,
            work.target,
            work.grad,
            work.hess,
            work.losses,
            spread(work.sample_weight),
            spread(work.upstream),
            per_class,
            self._scalar_options(batch.options, batch.pred.dtype),
            work.divisor,
            work.scale,
            True if work.accumulate else None,
        )
        plain = work.losses is None and all(x is None for x in (*arguments[5:8], arguments[-1]))
        return _engine.run(  # type: ignore[no-any-return]
            _engine.elementwise_kernel,
            (self._scalar, plain),
            arguments,
            self._nanoseconds * size,
            work.num_threads,
        )

    def _reference(
        self, pred: Array, target: Array, options: dict[str, Any], keywords: dict[str, Any]
    ) -> tuple[Array, Array, Array, Array]:
        value, gradient = self._textbook(pred, target, **options)
        weight = keywords.get("sample_weight")
        if weight is None:
            return value, gradient, np.ones(pred.shape), np.ones(pred.shape)
        weight = np.asarray(weight, pred.real.dtype)
        weight = np.broadcast_to(
            weight.reshape(weight.shape + (1,) * (pred.ndim - weight.ndim)), pred.shape
        )
        counts = weight != 0
        return (
            np.where(counts, weight * value, 0),
            np.where(counts, weight * gradient, 0),
            weight,
            np.ones(pred.shape),
        )


class SoftmaxLoss(Loss):
    """A loss on the softmax of each row of logits; targets are labels or dense."""

    family = "softmax"
    family_keywords: ClassVar[dict[str, Any]] = {
        "class_weight": None,
        "ignore_index": -100,
        "axis": -1,
    }

    def sample(
        self, rng: np.random.Generator, dtype: Any, shape: tuple[int, ...]
    ) -> tuple[Array, Array]:
        pred = (3 * rng.standard_normal(shape)).astype(dtype)
        return pred, rng.integers(0, shape[-1], shape[:-1])

    def _quick(self, pred: Array, target: Array, grad: Array | None) -> float | None:
        dtype, shape = pred.dtype, pred.shape
        if (
            (dtype is not FLOAT32 and dtype is not FLOAT64)
            or len(shape) != 2
            or target.shape != shape[:1]
            or target.dtype.kind not in "iu"
            or not (pred.flags.carray and target.flags.carray)
            or not pred.size
        ):
            return None
        if grad is not None:
            if grad.dtype is not dtype or grad.shape != shape or not grad.flags.carray:
                return None
            grad = grad.ravel()
        rows, classes = shape
        value, status = _engine.run(
            _engine.softmax_kernel,
            (self._scalar, False, classes <= TILE_CLASSES),
            (pred.ravel(), target, None, grad, None, None, None, None, None, None, None, None,
             (), -100, rows, classes, 1, math.nan, 1.0),
            self._nanoseconds * pred.size,
        )  # fmt: skip
        return value if status == -1 else None

    def _batch(self, pred: Any, target: Any, given: dict[str, Any]) -> _Batch:
        name = self.name
        pred = check.prediction(pred, name, self._pred_name)
        axis = check.class_axis(given.get("axis", -1), name, self._pred_name, pred)
        rows = pred.shape[:axis] + pred.shape[axis + 1 :]
        options: dict[str, Any] = {"axis": axis, "class_weight": given.get("class_weight")}
        if np.ndim(target) == pred.ndim:
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
            value = given.get(key, option.default)
            options[key] = check.number(value, name, key, option.domain, option.holds)
        return _Batch(pred, target, rows, (rows,), options)

    def _launch(self, batch: _Batch, work: _Work) -> tuple[float, int]:
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
            None if class_weight is None else _flat(class_weight, "C"),
            work.upstream,
            (dtype(1 - smoothing), dtype(smoothing / classes)) if smoothing > 0 else None,
            (dtype(epsilon), dtype(1 - epsilon)) if epsilon > 0 else None,
            True if work.accumulate else None,
            (),
            options["ignore_index"],
            before * after,
            classes,
            inner,
            work.divisor,
            work.scale,
        )
        return _engine.run(  # type: ignore[no-any-return]
            _engine.softmax_kernel,
            (self._scalar, soft, tiled),
            arguments,
            self._nanoseconds * batch.pred.size,
            work.num_threads,
        )

    def _fail_outside(self, batch: _Batch, row: int) -> None:
        pred, labels = batch.pred, batch.target
        if pred.flags.f_contiguous and not pred.flags.c_contiguous:  # counted in F order
            row = int(
                np.ravel_multi_index(np.unravel_index(row, labels.shape, order="F"), labels.shape)
            ) if labels.ndim else row  # fmt: skip
        classes = pred.shape[batch.options["axis"]]
        ignore = batch.options["ignore_index"]
        check.outside_label(self.name, self._target_name, labels, row, classes, ignore)

    def _reference(
        self, pred: Array, target: Array, options: dict[str, Any], keywords: dict[str, Any]
    ) -> tuple[Array, Array, Array, Array]:
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
        row_scale = weight if target.ndim == pred.ndim else weight * (target_mass != 0)
        value = np.where(row_scale == 0, 0, weight * value)
        gradient = np.where((row_scale == 0)[..., None], 0, weight[..., None] * gradient)
        return value, np.moveaxis(gradient, -1, axis), weight, target_mass


def elementwise(
    *,
    arguments: tuple[str, str] = ("pred", "target"),
    target: str = "real",
    options: dict[str, Option] | None = None,
    ulp_bound: float,
    nanoseconds: float,
    peers: dict[str, str],
) -> Callable[[Callable[..., Any]], ElementwiseLoss]:
    """Make a loss of a scalar function ``(pred, target, *options) -> (loss, slope, curvature)``.

    The function is compiled for float32 and float64; `slope` and `curvature` are the first and
    second derivative with respect to pred. `nanoseconds` is the rough serial time per element, by
    which the number of threads is chosen; `target` is the domain of targets, a key of TARGETS.
    """

    def decorate(scalar: Any) -> ElementwiseLoss:
        return ElementwiseLoss(
            scalar,
            arguments=arguments,
            target=target,
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

    What these numbers are, and how the gradient follows from them, is told in `fastloss._softmax`.
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
