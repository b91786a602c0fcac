"""fastloss: exact, fused, multithreaded loss functions for NumPy arrays.

Each loss is an object ``fastloss.<name>``: call it for the value, `value_and_grad` for the value
and its gradient in one pass.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastloss._loss import Loss
    from fastloss.losses.mse import mse as mse
    from fastloss.losses.sigmoid_cross_entropy import sigmoid_cross_entropy as sigmoid_cross_entropy
    from fastloss.losses.softmax_cross_entropy import softmax_cross_entropy as softmax_cross_entropy

__version__ = "0.1.0"

_NAMES = ("softmax_cross_entropy", "sigmoid_cross_entropy", "mse")


def __getattr__(name: str) -> Any:
    """Load a loss when it is first used: importing the package does not import Numba."""
    if name not in _NAMES:
        raise AttributeError(f"module 'fastloss' has no attribute {name!r}")
    loss = getattr(import_module(f"fastloss.losses.{name}"), name)
    globals()[name] = loss
    return loss


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})


def losses() -> "dict[str, Loss]":
    """Return every loss of the library by its name, in the catalogue's order."""
    return {name: __getattr__(name) for name in _NAMES}
