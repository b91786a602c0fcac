"""What every criterion is: a loss together with buffers for its gradient."""

import inspect
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np

from fastloss import _validate as check
from fastloss._loss import Loss
from fastloss._memory import order_of
from fastloss._validate import Array


class _Memory:
    """What a criterion keeps from step to step, and copies of it do not get."""

    __slots__ = ("gradients", "input")

    def __init__(self) -> None:
        self.gradients: tuple[Array, ...] = ()
        # That of the last pass; None where there was none, or it has failed. Weak, so that the
        # criterion keeps no batch alive.
        self.input: weakref.ref[Array] | None = None

    def fits(self, input: Any) -> bool:
        """Whether the buffers can take the gradients of an input as it is."""
        if type(input) is not np.ndarray or not self.gradients:
            return False
        buffer = self.gradients[0]
        if input.shape != buffer.shape or input.dtype != buffer.dtype:
            return False
        # A gradient that comes back as the input must not be overwritten by its own gradient.
        for own in self.gradients:  # noqa: SIM110 (`any` would cost as much as all the rest)
            if input is own or input.base is own:
                return False
        return True

    def allocate(self, input: Array, count: int) -> None:
        """Make new buffers, in the memory order of the input."""
        order = order_of(input)
        self.gradients = tuple(np.empty(input.shape, input.dtype, order) for _ in range(count))


@dataclass(frozen=True, eq=False)
class Criterion(ABC):
    """A loss for hand-written networks: `forward` returns the loss, `backward` the gradient.

    Calling a criterion is `forward`. All criteria have these methods; the classes differ by their
    arguments only, which are attributes that cannot be changed.

    Notes
    -----
    `forward` computes loss and gradient in one fused pass. The gradient goes into a buffer of the
    criterion, which is used again in every step and is allocated anew only when the shape or dtype
    of the input changes: what `backward` has returned is overwritten by the next `forward`. A
    criterion with several differentiable inputs returns a tuple of gradients, one for each.

    Criteria can be copied and pickled; the copy starts without a gradient. One criterion serves one
    Python thread at a time.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> criterion = fl.nn.MSELoss()
    >>> criterion.forward(np.array([1.0, 2.0]), np.array([0.0, 0.0]))
    2.5
    >>> criterion.backward()
    array([1., 2.])
    """

    loss: Loss = field(init=False, repr=False)
    _keywords: dict[str, Any] = field(init=False, repr=False)  # of every call
    _memory: _Memory = field(init=False, repr=False)

    def __post_init__(self) -> None:
        loss, keywords = self._meaning()
        object.__setattr__(self, "loss", loss)
        object.__setattr__(self, "_keywords", keywords)
        object.__setattr__(self, "_memory", _Memory())

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.__post_init__()

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        return self.forward(*inputs, **named)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Compute the loss and its gradient, and return the loss.

        Parameters
        ----------
        *inputs : array_like
            The arrays of the loss: what is differentiated by, float32 or float64, comes first, then
            the target. Each class names its own.
        upstream : float or array_like, optional
            Multiplies the gradient (not the loss); with ``reduction="none"`` also one number per
            loss.

        Returns
        -------
        float or ndarray
            The reduced loss; with ``reduction="none"`` a new array of the single losses.

        Raises
        ------
        ValueError, TypeError, IndexError
            As the loss itself raises them; there is no gradient then.
        """
        return self._run(*inputs, **named)

    def backward(self, *inputs: Any, **named: Any) -> Any:
        """Return the gradient of the last `forward`, or that of the arrays given.

        Parameters
        ----------
        *inputs, upstream
            As for `forward`, which is run first if they are given.

        Returns
        -------
        ndarray or tuple of ndarray
            The gradient of the value that `forward` returned; of the sum of the losses with
            ``reduction="none"`` (or, with `upstream`, of their sum weighted by it). It belongs to
            the criterion, and holds until the next `forward`.

        Raises
        ------
        RuntimeError
            There is no gradient, because `forward` has not been called or has failed; or the input
            has another shape now than it had then.
        """
        if inputs or named:
            self.forward(*inputs, **named)
        memory = self._memory
        if memory.input is None:
            raise RuntimeError(
                f"{type(self).__name__}: backward() has no gradient, forward was not called or has "
                "failed; expected a call of forward before it, or backward with forward's arguments"
            )
        input, gradients = memory.input(), memory.gradients
        if input is not None and input.shape != gradients[0].shape:
            raise RuntimeError(
                f"{type(self).__name__}: the input has shape {input.shape} now; expected "
                f"{gradients[0].shape}, which it had in forward (call forward again)"
            )
        return gradients if len(gradients) > 1 else gradients[0]

    def _run(self, input: Any, *others: Any, upstream: Any = None, **named: Any) -> Any:
        """Run the fused pass into the buffers and return the loss."""
        memory = self._memory
        memory.input = None
        if not memory.fits(input):
            input = check.prediction(input, type(self).__name__, "input")
            if not memory.fits(input):
                memory.allocate(input, 1 + len(self.loss._other_names))
        if upstream is not None:
            named["upstream"] = upstream
        loss = self._fused((input, *others), memory.gradients, named)
        memory.input = weakref.ref(input)
        return loss

    def _fused(
        self, arrays: tuple[Any, ...], gradients: tuple[Array, ...], named: dict[str, Any]
    ) -> Any:
        """Fill the gradients and return the loss."""
        keywords = self._keywords_for(arrays)
        if named:
            keywords = {**keywords, **named}
        out = gradients if len(gradients) > 1 else gradients[0]
        return self.loss.value_and_grad(*arrays, grad_out=out, **keywords)[0]

    # The hooks of the classes.

    @abstractmethod
    def _meaning(self) -> tuple[Loss, dict[str, Any]]:
        """Return the loss behind the criterion, and the keywords that its arguments stand for."""

    def _keywords_for(self, arrays: tuple[Any, ...]) -> dict[str, Any]:
        """Return the keywords of a call with these arrays."""
        return self._keywords


@cache
def _keywords_of(loss: Loss) -> tuple[str, ...]:
    """Return the keywords of a loss, without those that ask for results of other kinds."""
    parameters = inspect.signature(loss).parameters.values()
    names = (each.name for each in parameters if each.kind is each.KEYWORD_ONLY)
    return tuple(name for name in names if name not in ("extra", "loss_out"))


@dataclass(frozen=True, eq=False, repr=False)
class LossCriterion(Criterion):
    """The criterion of any loss; `criterion` makes them."""

    loss: Loss
    options: Mapping[str, Any]

    def __repr__(self) -> str:
        options = (f"{name}={value!r}" for name, value in self.options.items())
        return f"criterion({', '.join((self.loss.name, *options))})"

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "options": dict(self.options)}

    def forward(self, input: Any, /, *others: Any, **named: Any) -> Any:
        """Compute the loss and its gradient, and return the loss.

        Parameters
        ----------
        input, *others : array_like
            The positional arrays of the loss.
        **named
            Keywords of the loss for this call, such as `sample_weight` or another input, and
            `upstream`; they have precedence over those of the criterion.

        Returns
        -------
        float or ndarray
            The reduced loss; with ``reduction="none"`` a new array of the single losses.
        """
        if named:
            check.keywords(self.loss.name, named, (*_keywords_of(self.loss), "upstream"))
        return self._run(input, *others, **named)

    def _meaning(self) -> tuple[Loss, dict[str, Any]]:
        loss = self.loss
        if not isinstance(loss, Loss):
            check.fail(TypeError, "criterion", "loss", check.describe(loss), "a loss of fastloss")
        check.keywords(loss.name, self.options, _keywords_of(loss))
        for name, value in self.options.items():
            if name == "reduction":
                check.reduction(value, loss.name)
            elif name in loss.options and np.ndim(value) == 0:
                loss.options[name].checked(value, loss.name, name)
        keywords = dict(self.options)
        object.__setattr__(self, "options", MappingProxyType(keywords))
        return loss, keywords


def criterion(loss: Loss, /, **options: Any) -> Criterion:
    """Return the criterion of a loss, one of the library's or your own.

    Parameters
    ----------
    loss : Loss
        Any loss, such as ``fl.tweedie``.
    **options
        Keywords of the loss that hold for every call: its own options, `reduction`, `normalizer`,
        `num_threads`, …. `forward` and `backward` take others for one call, such as
        `sample_weight`.

    Returns
    -------
    Criterion
        Its `forward` and `backward` take the positional arrays of the loss.

    Raises
    ------
    TypeError
        `loss` is not a loss, or has no such option.
    ValueError
        An option is outside its domain.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> criterion = fl.nn.criterion(fl.mse, reduction="sum")
    >>> criterion
    criterion(mse, reduction='sum')
    >>> criterion(np.array([1.0, 2.0]), np.zeros(2), sample_weight=np.array([1.0, 10.0]))
    41.0
    >>> criterion.backward()
    array([ 2., 40.])
    """
    return LossCriterion(loss, options)
