"""The textbook's criteria: losses divided by the batch size, and weight decay."""

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar

import numpy as np

from fastloss import _validate as check
from fastloss._loss import Loss
from fastloss._penalty import l2_penalty
from fastloss._validate import Array
from fastloss.losses import find
from fastloss.nn._criterion import Criterion


@dataclass(frozen=True, eq=False)
class TextbookCriterion(Criterion):
    """A criterion whose loss is divided by the batch size N, the length of the first axis."""

    _name: ClassVar[str]
    """The name of the loss."""

    _: KW_ONLY
    params: Iterable[Any] | None = field(default=None, repr=False)
    weight_decay: float = 0.0

    def forward(self, x: Any, t: Any, *, upstream: Any = None) -> Any:
        """Compute the loss and its gradient, and return the loss.

        Parameters
        ----------
        x : array_like, float32 or float64
            The predictions.
        t : array_like
            What is true, of the shape of `x`.
        upstream : float, optional
            Multiplies the gradient (not the loss).

        Returns
        -------
        float
            The loss, divided by the batch size, without the weight decay.
        """
        return self._run(x, t, upstream=upstream)

    def decay_backward(self) -> float:
        """Add the gradient of the weight decay, ``weight_decay * w``, to those of the parameters.

        To be called once in each step, when the network has written its gradients.

        Returns
        -------
        float
            The weight decay itself, ``weight_decay / 2 * Σ w**2``. What `forward` returned, plus
            this, is what the parameters' gradients are those of now.

        Raises
        ------
        TypeError
            A parameter is not as `params` says, or not of one dtype, float32 or float64.
        ValueError
            A gradient has another shape than its parameter, or shares memory with it.
        """
        pairs = [self._value_and_gradient(*each) for each in enumerate(self.params or ())]
        return l2_penalty.value_and_grad(
            [value for value, _ in pairs],
            strength=self.weight_decay,
            grad_out=[gradient for _, gradient in pairs],
        )[0]

    def _value_and_gradient(self, index: int, parameter: Any) -> tuple[Any, Array]:
        """Return the two arrays of a parameter."""
        if isinstance(parameter, (tuple, list)) and len(parameter) == 2:
            value, gradient = parameter
        else:
            value, gradient = (getattr(parameter, name, None) for name in ("data", "grad"))
        if value is None or not isinstance(gradient, np.ndarray):
            got = f"{type(parameter).__name__} without a value and a gradient"
            expected = "a pair (value, gradient) of arrays, or an object with arrays data and grad"
            check.fail(TypeError, type(self).__name__, f"params[{index}]", got, expected)
        return value, gradient

    def _meaning(self) -> tuple[Loss, dict[str, Any]]:
        name, domain = type(self).__name__, "a number >= 0"
        check.number(self.weight_decay, name, "weight_decay", domain, lambda x: x >= 0)
        if self.params is not None:
            object.__setattr__(self, "params", tuple(self.params))
        elif self.weight_decay:
            check.fail(ValueError, name, "params", "missing", "the parameters that are to decay")
        return find(self._name), {"reduction": "batchmean"}


@dataclass(frozen=True, eq=False)
class ClippedCriterion(TextbookCriterion):
    """A textbook criterion of probabilities that are clipped to ``[eps, 1 - eps]``."""

    eps: float = 0.0

    def _meaning(self) -> tuple[Loss, dict[str, Any]]:
        loss, keywords = super()._meaning()
        loss.options["eps"].checked(self.eps, type(self).__name__, "eps")
        return loss, {**keywords, "eps": self.eps}


@dataclass(frozen=True, eq=False)
class SoftmaxCrossEntropy(ClippedCriterion):
    """The textbook's ``-Σ t log p / N`` of ``p = softmax(x)``, with the gradient ``(p - t) / N``.

    Parameters
    ----------
    eps : float, default 0.0
        In [0, 0.5). Above 0 the probabilities are clipped to ``[eps, 1 - eps]``, in the loss and in
        the gradient, which is ``(clip(p) - t) / N``. With 0 both are exact, and finite without it.
    params : iterable, optional
        The parameters that decay: pairs ``(value, gradient)`` of arrays, or objects with the arrays
        `data` and `grad`. `decay_backward` adds to the gradients in place. Objects (and lists of
        two) are asked for their arrays each time, the arrays of a tuple must stay the same ones.
    weight_decay : float, default 0.0
        The factor λ of the weight decay ``λ / 2 Σ w**2``, >= 0.

    Notes
    -----
    N is the length of the first axis, and 1 for a single row. The classes lie along the last axis.
    t is one-hot, of the shape of x; integer labels are accepted too. Of rows of t with another sum
    A than 1 the gradient is that of their loss, ``(A clip(p) - t) / N``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> criterion = fl.nn.SoftmaxCrossEntropy(eps=1e-7)
    >>> x, t = np.zeros((2, 4)), np.array([[1, 0, 0, 0], [0, 0, 0, 1]])
    >>> round(criterion.forward(x, t), 6)
    1.386294
    >>> criterion.backward()
    array([[-0.375,  0.125,  0.125,  0.125],
           [ 0.125,  0.125,  0.125, -0.375]])
    """

    _name: ClassVar[str] = "softmax_cross_entropy"


@dataclass(frozen=True, eq=False)
class SigmoidCrossEntropy(ClippedCriterion):
    """The textbook's ``-Σ (t log p + (1 - t) log(1 - p)) / N``, with the gradient ``(p - t) / N``.

    p is the sigmoid of x, ``1 / (1 + exp(-x))``, and the sum is over all elements.

    Parameters
    ----------
    eps : float, default 0.0
        In [0, 0.5). Above 0 the probabilities are clipped to ``[eps, 1 - eps]``, in the loss and in
        the gradient, which is ``(clip(p) - t) / N``. With 0 both are exact, and finite without it.
    params : iterable, optional
        The parameters that decay: pairs ``(value, gradient)`` of arrays, or objects with the arrays
        `data` and `grad`. `decay_backward` adds to the gradients in place. Objects (and lists of
        two) are asked for their arrays each time, the arrays of a tuple must stay the same ones.
    weight_decay : float, default 0.0
        The factor λ of the weight decay ``λ / 2 Σ w**2``, >= 0.

    Notes
    -----
    N is the length of the first axis; t is one-hot (or any probabilities), of the shape of x.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> w, dw = np.array([[3.0, 4.0]]), np.zeros((1, 2))
    >>> criterion = fl.nn.SigmoidCrossEntropy(params=[(w, dw)], weight_decay=0.1)
    >>> x, t = np.zeros((2, 2)), np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> round(criterion.forward(x, t), 6)
    1.386294
    >>> criterion.backward()
    array([[-0.25,  0.25],
           [ 0.25, -0.25]])
    >>> round(criterion.decay_backward(), 6)
    1.25
    >>> dw
    array([[0.3, 0.4]])
    """

    _name: ClassVar[str] = "sigmoid_cross_entropy"


@dataclass(frozen=True, eq=False)
class MSE(TextbookCriterion):
    """The textbook's ``Σ (x - t)**2 / N``, with the gradient ``2 (x - t) / N``.

    Parameters
    ----------
    params : iterable, optional
        The parameters that decay, as in `SigmoidCrossEntropy`.
    weight_decay : float, default 0.0
        The factor λ of the weight decay ``λ / 2 Σ w**2``, >= 0.

    Notes
    -----
    N is the length of the first axis, not the number of elements as in `MSELoss`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastloss as fl
    >>> criterion = fl.nn.MSE()
    >>> criterion.forward(np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros((2, 2)))
    15.0
    >>> criterion.backward()
    array([[1., 2.],
           [3., 4.]])
    """

    _name: ClassVar[str] = "mse"
