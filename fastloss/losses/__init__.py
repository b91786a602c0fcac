"""The losses, one file each; called, the package is the registry: ``fastloss.losses()``."""

import sys
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastloss._loss import Loss


def names() -> list[str]:
    """Return the names of the losses in alphabetical order, importing none."""
    return [module.name for module in iter_modules(__path__)]


def find(name: str) -> "Loss":
    """Return the loss of that name, importing no other."""
    loss: Loss = getattr(import_module(f"{__name__}.{name}"), name)
    return loss


def no_attribute(module: str, name: str, why: str = "") -> AttributeError:
    """Return the error of a name that a module of losses lacks; Python adds one that is like it."""
    message = f"module {module!r} has no attribute {name!r}{why}"
    return AttributeError(message, name=name, obj=sys.modules[module])


class _Registry(ModuleType):
    """The package itself, callable: one name serves ``import fastloss.losses.mse`` and the call."""

    def __call__(self) -> "dict[str, Loss]":
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
        return {name: find(name) for name in names()}


sys.modules[__name__].__class__ = _Registry
