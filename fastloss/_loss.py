"""The Loss record: what every loss is and does, derived from what its file states.

Signature, docstring, calls, checks and `reference` come from here; how arrays of its kind are
checked and handed to the kernels is left to the families in `_families`.
"""

import inspect
from abc import abstractmethod
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastloss import _documentation
from fastloss import _validate as check
from fastloss._call import GRADIENT, HESSIAN, REFERENCE, VALUE, read_divisor
from fastloss._digest import remember
from fastloss._evaluation import Evaluation
from fastloss._options import Option
from fastloss._quick import Quick
from fastloss._validate import Array

if TYPE_CHECKING:
    from fastloss._derivative_check import Report


def _are_plain(arrays: tuple[Any, ...]) -> bool:
    """Whether these are NumPy's own arrays, with which a call may take the quick path.

    Subclasses may be masked, or have units: they are turned into arrays by the full checks.
    """
    for array in arrays:  # noqa: SIM110 (all() of a generator takes four times as long)
        if type(array) is not np.ndarray:
            return False
    return True


class Loss(Evaluation):
    """A loss function: call it for the value; its methods give the derivatives too.

    Attributes
    ----------
    name, family : str
        The public name, and "elementwise", "softmax" or "rowwise".
    options : dict of str to Option
        The loss's own options with their defaults and domains.
    ulp_bound : float
        The stated bound on the error of each loss and gradient entry, in units in the last place;
        a softmax row adds 2 for each unit of the spread of its logits.
    peers : dict of str to str
        The names of the same loss in other libraries.
    convex : bool
        Whether the loss is a convex function of the predictions, with the default options.
    """

    family: ClassVar[str] = ""
    family_keywords: dict[str, Any] = {}  # noqa: RUF012 (replaced, never changed)
    handled_options: ClassVar[frozenset[str]] = frozenset()  # by the templates, not the scalar
    couples_rows: ClassVar[bool] = False  # whether a row's loss depends on other rows

    value_and_grad: Callable[..., tuple[Any, Array]]
    grad: Callable[..., Array]
    value_grad_hess: Callable[..., tuple[Any, Array, Array]]
    reference: Callable[..., tuple[Any, Array]]

    def __init__(
        self,
        scalar: FunctionType,
        *,
        arguments: tuple[str, ...],
        options: dict[str, Option],
        ulp_bound: float,
        nanoseconds: float,
        peers: dict[str, str],
        convex: bool = False,
        **properties: Any,
    ) -> None:
        super().__init__()
        self._properties = properties
        self.name = self.__name__ = scalar.__name__
        self.__module__, self.__qualname__ = scalar.__module__, scalar.__qualname__
        self.options = options
        self.ulp_bound = ulp_bound
        self.peers = peers
        self.convex = convex
        self._scalar = scalar
        remember(scalar)
        self._nanoseconds = nanoseconds
        self._arguments = arguments
        self._pred_name, self._other_names, self._target_name = self._roles()
        self._no_gradients = (None,) * (1 + len(self._other_names))
        self._textbook: Callable[..., tuple[Array, Array]] = _missing_textbook
        self.__signature__ = self._signature(VALUE, "float | ndarray")
        self.__doc__ = _documentation.of_loss(self, scalar.__doc__ or "")
        self._add_methods()

    def __repr__(self) -> str:
        return f"<loss {self.name}{self.__signature__}>"

    def __reduce__(self) -> str:
        return self.__qualname__  # a loss is found again in its module, as functions are

    def __call__(self, *arrays: Any, **keywords: Any) -> Any:
        if not keywords and len(arrays) == len(self._arguments) and _are_plain(arrays):
            value = self._quick(*arrays, *self._no_gradients)
            if value is not None:
                return value
        return self._evaluate(arrays, keywords, VALUE)[0]

    def _add_methods(self) -> None:
        """Give the instance its derivative calls, each with its real signature."""
        ndarray = np.ndarray
        count, gradients = len(self._arguments), len(self._no_gradients)
        several = gradients > 1

        def value_and_grad(*arrays: Any, grad_out: Any = None, **keywords: Any) -> tuple[Any, ...]:
            if not keywords and len(arrays) == 2 and type(arrays[0]) is type(arrays[1]) is ndarray:
                pred, target = arrays
                out = np.empty_like(pred) if grad_out is None else grad_out
                if type(out) is ndarray:
                    value = self._quick(pred, target, out)
                    if value is not None:
                        return value, out
            if grad_out is not None:
                keywords["grad_out"] = grad_out
            loss, derivative, _, *more = self._evaluate(arrays, keywords, GRADIENT)
            return loss, derivative, *more

        def value_and_grad_of_several(
            *arrays: Any, grad_out: Any = None, **keywords: Any
        ) -> tuple[Any, Any]:
            if not keywords and len(arrays) == count and type(arrays[0]) is ndarray:
                outs = grad_out if several else (grad_out,)
                if grad_out is None:
                    outs = tuple([np.empty_like(arrays[0]) for _ in range(gradients)])
                if type(outs) is tuple and len(outs) == gradients:
                    value = self._quick(*arrays, *outs)  # which looks at the types of all
                    if value is not None:
                        return value, outs if several else outs[0]
            if grad_out is not None:
                keywords["grad_out"] = grad_out
            return self._evaluate(arrays, keywords, GRADIENT)[:2]

        def grad(*arrays: Any, **keywords: Any) -> Any:
            _, derivative, *more = value_and_grad(*arrays, **keywords)
            return (derivative, *more) if more else derivative

        def value_grad_hess(*arrays: Any, **keywords: Any) -> tuple[Any, ...]:
            return self._evaluate(arrays, keywords, HESSIAN)

        def reference(*arrays: Any, **keywords: Any) -> tuple[Any, Any]:
            if len(arrays) != count:
                raise TypeError(check.wrong_number(self.name, len(arrays), self._arguments))
            found = tuple(map(np.asarray, arrays))
            self._check_textbook(found, keywords)
            return self._evaluate_textbook(found, keywords)

        if count != 2 or several:
            value_and_grad_of_several.__name__ = "value_and_grad"
            value_and_grad = value_and_grad_of_several
        derivative = "tuple[ndarray, ...]" if several else "ndarray"
        methods: tuple[tuple[Any, dict[str, Any], str], ...] = (
            (value_and_grad, GRADIENT, f"tuple[float | ndarray, {derivative}]"),
            (grad, GRADIENT, derivative),
            (value_grad_hess, HESSIAN, f"tuple[float | ndarray, {derivative}, {derivative}]"),
            (reference, REFERENCE, f"tuple[float | ndarray, {derivative}]"),
        )
        for method, known, returned in methods:
            method.__doc__ = _documentation.of_method(self, method.__name__)
            method.__module__ = self.__module__
            method.__qualname__ = f"{self.name}.{method.__name__}"
            method.__signature__ = self._signature(known, returned)
            setattr(self, method.__name__, method)

    def _signature(self, common: dict[str, Any], returned: str) -> inspect.Signature:
        only = inspect.Parameter.POSITIONAL_ONLY
        arrays = [inspect.Parameter(name, only) for name in self._arguments]
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

    def check(self, *, seed: int = 0) -> "Report":
        """Compare the derivatives with those of the loss's values, at many points.

        The values are those of `reference`, in the widest type of the machine; their derivatives
        are found by a complex step where the formula allows one, else by differences. The points
        are random ones, extreme ones and, of elementwise losses, ones where kinks are likely; each
        option is tried. At a kink whatever lies between the slopes of both sides is right.

        Parameters
        ----------
        seed : int, default 0
            Of the random points.

        Returns
        -------
        Report
            How many derivatives were compared, and the worst error.

        Raises
        ------
        AssertionError
            A derivative is wrong. The message names the worst point: the inputs, the options, what
            the derivative is there and what it should be.

        Examples
        --------
        >>> import fastloss as fl
        >>> fl.huber.check().curvatures > 100
        True
        """
        from fastloss._derivative_check import checked

        return checked(self, seed)

    @abstractmethod
    def sample(
        self, rng: np.random.Generator, dtype: Any, shape: tuple[int, ...]
    ) -> tuple[Array, ...]:
        """Return valid random arrays for a call: `pred` of the shape, and what belongs to it.

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
            The positional arguments, of moderate size; labels for the losses that take them.
        """

    @property
    def _numba_type_(self) -> Any:
        """What the loss is in a user's nopython code: Numba asks for this attribute."""
        from fastloss._nopython.calls import LossType

        return LossType(self)

    @property
    def grows_with_spread(self) -> bool:
        """Whether the bound is larger by 2 for each unit of the spread of a row's logits."""
        return self.family == "softmax" or bool(self._properties.get("logits"))

    # The hooks of the families.

    _quick: Quick = staticmethod(lambda *arrays: None)

    def _roles(self) -> tuple[str, tuple[str, ...], str]:
        """Return the names of pred, of the further inputs that get a gradient, and of the target.

        The target's is empty where a loss has none.
        """
        pred, target = self._arguments
        return pred, (), target

    def _scalar_options(self, values: dict[str, Any], dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """Return the options as the kernel takes them: numbers of its type, None for neutral ones.

        Neutral options are all None or none of them is (but for those that shape the formula):
        two kernels to compile instead of one for each combination.
        """

        def is_number(value: Any) -> bool:  # an array travels separately
            return not isinstance(value, np.ndarray)

        def is_default(name: str) -> bool:
            return is_number(values[name]) and values[name] == self.options[name].default

        weighing = [k for k, x in self.options.items() if x.neutral and not x.shapes_formula]
        plain = all(is_default(name) for name in weighing)
        return tuple(
            None if option.neutral and (is_default(name) if option.shapes_formula else plain)
            else option.for_kernel(values[name], dtype)
            for name, option in self.options.items()
            if name not in self.handled_options and is_number(values[name])
        )  # fmt: skip

    def _default_options(self) -> dict[np.dtype[Any], tuple[Any, ...]]:
        values = {name: option.default for name, option in self.options.items()}
        return {dtype: self._scalar_options(values, dtype) for dtype in check.FLOATS}

    # The textbook.

    def _check_textbook(self, arrays: tuple[Array, ...], keywords: dict[str, Any]) -> None:
        """Refuse shapes that differ and what is no label; other numbers may be of any type."""
        pred, ignore = arrays[0], keywords.get("ignore_index", -100)
        weight_shapes: dict[str, tuple[tuple[int, ...], ...]]
        weight_shapes = {"sample_weight": (pred.shape, pred.shape[:1])}
        shared = any(  # one target for the predictions of several quantiles
            option.shares_target and np.ndim(keywords.get(name, 0))
            for name, option in self.options.items()
        )
        if "axis" in self.family_keywords:
            axis = check.class_axis(keywords.get("axis", -1), self.name, self._pred_name, pred)
            rows, classes = pred.shape[:axis] + pred.shape[axis + 1 :], pred.shape[axis]
            weight_shapes = {"sample_weight": (rows,), "class_weight": ((classes,),)}
        for name, shapes in weight_shapes.items():
            if keywords.get(name) is not None:
                check.weights(keywords[name], self.name, name, shapes, np.dtype(float))
        for name, array in zip(self._arguments, arrays, strict=True):
            labelled = name == self._target_name and "ignore_index" in self.family_keywords
            labelled = labelled and array.ndim < pred.ndim
            if labelled:
                check.labels_inside(self.name, name, array, rows, classes, ignore)
            elif array.shape != pred.shape and not (shared and array.shape == pred.shape[:-1]):
                expected = f"shape {pred.shape}"
                check.fail(ValueError, self.name, name, check.describe(array), expected)

    def _evaluate_textbook(
        self, arrays: tuple[Array, ...], keywords: dict[str, Any]
    ) -> tuple[Any, Any]:
        """Return loss and gradient by the textbook formula, in plain NumPy and pred's own type."""
        check.keywords(self.name, keywords, self.options, self.family_keywords, REFERENCE)
        options = {name: option.default for name, option in self.options.items()}
        options |= {k: v for k, v in keywords.items() if k not in REFERENCE}
        value, gradient, weight, mass = self._reference(arrays, options, keywords)
        reduction = check.reduction(keywords.get("reduction", "mean"), self.name)
        normalizer = keywords.get("normalizer")
        if normalizer is not None and reduction != "mean":
            read_divisor(self.name, keywords, reduction, None)
        several = isinstance(gradient, tuple)
        gradients = gradient if several else (gradient,)
        if reduction == "none":
            return value, gradient
        divisor: Any = 1.0
        if reduction == "batchmean":
            divisor = value.shape[0] if value.ndim else 1
        elif reduction == "mean":
            share = weight * mass
            divisor = np.sum(share[np.isfinite(share)]) if normalizer is None else normalizer
        if divisor == 0:
            loss, gradients = 0.0, tuple(map(np.zeros_like, gradients))
        else:
            loss = np.sum(value) / divisor
            if loss.dtype in (np.float32, np.float64):
                loss = float(loss)
            gradients = tuple((g / divisor).astype(g.dtype, copy=False) for g in gradients)
        return loss, gradients if several else gradients[0]

    @abstractmethod
    def _reference(
        self, arrays: tuple[Array, ...], options: dict[str, Any], keywords: dict[str, Any]
    ) -> tuple[Array, Any, Array, Array]:
        """Return weighted losses, their gradient, the weights, and the target mass of each."""


def _missing_textbook(*arguments: Any, **options: Any) -> tuple[Array, Array]:
    raise NotImplementedError("this loss has no textbook formula")
