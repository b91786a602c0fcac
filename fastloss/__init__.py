"""fastloss: exact, fused, multithreaded loss functions for NumPy arrays.

Each loss is an object ``fastloss.<name>``: call it for the value, `value_and_grad` for the value
and its gradient in one pass.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

import fastloss.losses as _losses

if TYPE_CHECKING:  # for type checkers and editors; at run time a loss is imported when first used
    from fastloss._loss import Loss
    from fastloss.losses.mse import mse as mse
    from fastloss.losses.sigmoid_cross_entropy import sigmoid_cross_entropy as sigmoid_cross_entropy
    from fastloss.losses.softmax_cross_entropy import softmax_cross_entropy as softmax_cross_entropy

__version__ = "0.1.0"


def _names() -> list[str]:
    return [module.name for module in iter_modules(_losses.__path__)]


def __getattr__(name: str) -> Any:
    """Load a loss when it is first used: importing the package does not import Numba."""
    if name.startswith("_") or name not in _names():
        raise AttributeError(f"module 'fastloss' has no attribute {name!r}")
    loss = getattr(import_module(f"fastloss.losses.{name}"), name)
    globals()[name] = loss
    return loss


def __dir__() -> list[str]:
    return sorted({*globals(), *_names()})


def losses() -> "dict[str, Loss]":
    """Return every loss of the library by its name, in alphabetical order.

    Returns
    -------
    dict of str to Loss
        The public objects.

    Examples
    --------
    >>> import fastloss as fl
    >>> fl.losses()["mse"] is fl.mse
    True
    """
    return {name: globals().get(name) or __getattr__(name) for name in _names()}
