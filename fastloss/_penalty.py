"""Weight decay: a penalty on parameters instead of predictions."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastloss import _validate as check
from fastloss._families import elementwise
from fastloss._validate import Array

NAME = "l2_penalty"


@elementwise(arguments=("pred", "same"), ulp_bound=1, nanoseconds=0.1, peers={})
def half_square(weight: Any, same: Any) -> Any:
    """Half the square of each number, ``pred**2 / 2``; its second argument does not matter."""
    T = type(weight)
    return T(0.5) * weight * weight, weight, T(1)


class L2Penalty:
    """Weight decay, ``strength / 2 Σ w**2`` over any number of parameter arrays.

    Parameters
    ----------
    parameters : array_like or sequence of array_like
        The weights w, float32 or float64, of any shapes.
    strength : float, default 1e-4
        The factor λ, >= 0.
    num_threads : int, optional
        At most so many threads; by default Numba's own setting. Results do not depend on it.

    Returns
    -------
    float
        The penalty, summed in float64.

    Raises
    ------
    ValueError
        `strength` is negative, or a gradient has another shape or overlaps its parameters.
    TypeError
        A dtype is not float32 or float64, or not one gradient is given for each array.

    See Also
    --------
    value_and_grad : also adds the gradient ``strength w`` into the gradients of a loss.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> weights, biases = np.array([[3.0, 4.0]]), np.array([1.0])
    >>> fl.l2_penalty([weights, biases], strength=0.1)
    1.3
    """

    __name__ = NAME

    def __repr__(self) -> str:
        return f"<penalty {NAME}>"

    def __call__(
        self,
        parameters: Any,
        /,
        *,
        strength: float = 1e-4,
        num_threads: int | None = None,
    ) -> float:
        strength, num_threads = self._checked(strength, num_threads)
        arrays = self._arrays(parameters)
        values = (half_square(w, w, reduction="sum", num_threads=num_threads) for w in arrays)
        return sum((strength * value for value in values), 0.0)

    def value_and_grad(
        self,
        parameters: Any,
        /,
        *,
        strength: float = 1e-4,
        grad_out: Sequence[Array] | Array | None = None,
        num_threads: int | None = None,
    ) -> tuple[float, list[Array]]:
        """Return the penalty and its gradients.

        Parameters
        ----------
        parameters, strength, num_threads
            As for the value.
        grad_out : ndarray or sequence of ndarray, optional
            Arrays to which the gradients ``strength w`` are *added*, in place: those of the loss.
            By default new arrays.

        Returns
        -------
        tuple of float and list of ndarray
            The penalty, and a gradient for each array of parameters.

        Examples
        --------
        >>> import numpy as np
        >>> import fastloss as fl
        >>> weights, gradient = np.array([1.0, -2.0]), np.array([10.0, 20.0])
        >>> fl.l2_penalty.value_and_grad(weights, strength=0.5, grad_out=gradient)
        (1.25, [array([10.5, 19. ])])
        """
        strength, num_threads = self._checked(strength, num_threads)
        arrays = self._arrays(parameters)
        if grad_out is None:
            grads = [np.zeros_like(w) for w in arrays]
        else:
            several = isinstance(grad_out, (list, tuple))
            grads = [*grad_out] if several else [grad_out]  # type: ignore[list-item]
        if len(grads) != len(arrays):
            check.fail(TypeError, NAME, "grad_out", f"{len(grads)} arrays",
                       f"{len(arrays)}, one for each of the parameters")  # fmt: skip
        apart: dict[str, Array | None] = {f"parameters[{k}]": w for k, w in enumerate(arrays)}
        for k, (w, grad) in enumerate(zip(arrays, grads, strict=True)):
            check.output(grad, NAME, "grad_out", w.shape, w.dtype)
            check.disjoint(NAME, "grad_out", grad, apart)
            apart[f"grad_out[{k}]"] = grad
        value = 0.0
        for w, grad in zip(arrays, grads, strict=True):
            value += strength * half_square.value_and_grad(
                w, w, reduction="sum", upstream=strength, grad_out=grad,
                accumulate=True, num_threads=num_threads,
            )[0]  # fmt: skip
        return value, grads

    def grad(self, parameters: Any, /, **keywords: Any) -> list[Array]:
        """Return the gradients alone; takes what `value_and_grad` takes."""
        return self.value_and_grad(parameters, **keywords)[1]

    @staticmethod
    def reference(parameters: Any, /, *, strength: float = 1e-4) -> tuple[Any, list[Array]]:
        """Return penalty and gradients by the textbook formula, in plain NumPy."""
        arrays = [np.asarray(w) for w in _sequence(parameters)]
        value = sum(strength / 2 * np.sum(w**2) for w in arrays)
        return value, [strength * w for w in arrays]

    @staticmethod
    def _checked(strength: Any, num_threads: Any) -> tuple[float, int | None]:
        strength = check.number(strength, NAME, "strength", "a number >= 0", lambda x: x >= 0)
        return strength, check.threads(num_threads, NAME)

    @staticmethod
    def _arrays(parameters: Any) -> list[Array]:
        return [check.prediction(w, NAME, "parameters") for w in _sequence(parameters)]


def _sequence(parameters: Any) -> Iterable[Any]:
    if hasattr(parameters, "__array__") or not isinstance(parameters, Iterable):
        return [parameters]
    items = list(parameters)
    return [np.asarray(items)] if items and np.ndim(items[0]) == 0 else items


l2_penalty = L2Penalty()
