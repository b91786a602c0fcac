"""What the criteria with PyTorch's names have in common."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from fastloss import _validate as check
from fastloss._loss import Loss
from fastloss._validate import Array
from fastloss.losses import find
from fastloss.nn._criterion import Criterion


@dataclass(frozen=True, eq=False)
class PyTorchCriterion(Criterion):
    """A criterion of a loss of the library, by PyTorch's arguments.

    Arguments that are named like a keyword of the loss become it, the others are left to the class.
    """

    _name: ClassVar[str]
    """The name of the loss."""

    def _meaning(self) -> tuple[Loss, dict[str, Any]]:
        loss, keywords = find(self._name), {}
        for argument in fields(self):
            if not argument.init:
                continue
            value = getattr(self, argument.name)
            keyword = "class_weight" if argument.name == "weight" else argument.name
            if keyword == "reduction":
                check.reduction(value, type(self).__name__)
            elif keyword in loss.options:
                if np.ndim(value) == 0 and value is not None:
                    loss.options[keyword].checked(value, type(self).__name__, argument.name)
            elif keyword not in loss.family_keywords:
                continue
            elif keyword == "ignore_index":
                check.ignored(value, type(self).__name__)
            # A call without keywords takes the quick path.
            if value is not None and (np.ndim(value) > 0 or value != argument.default):
                keywords[keyword] = value
        return loss, keywords


@dataclass(frozen=True, eq=False)
class PairCriterion(PyTorchCriterion):
    """A criterion of an input and a target."""

    def forward(self, input: Any, target: Any, *, upstream: Any = None) -> Any:
        """Compute the loss and its gradient, and return the loss.

        Parameters
        ----------
        input, target : array_like
            The predictions and what is true.
        upstream : float or array_like, optional
            Multiplies the gradient (not the loss); with ``reduction="none"`` also one number per
            loss.

        Returns
        -------
        float or ndarray
            The reduced loss; with ``reduction="none"`` a new array of the single losses.
        """
        return self._run(input, target, upstream=upstream)


def repeated(weight: Any, input: Array, name: str) -> Array:
    """Return a weight as PyTorch broadcasts it: against the last axes of the input."""
    weight = np.asarray(weight)
    try:
        return np.broadcast_to(weight, input.shape)
    except ValueError:
        expected = f"a shape that NumPy broadcasts to that of input, {input.shape}"
        check.fail(ValueError, name, "weight", check.describe(weight), expected)
