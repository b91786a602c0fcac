"""What an option of a loss can be: a number, a flag or one of a few words, with its domain.

An option that a kernel can do without reaches it as None, and everything that depends on it is
compiled away.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastloss import _validate as check


@dataclass(frozen=True)
class Option:
    """An option that is a number: its default, its domain in words, and the test of the domain.

    Parameters
    ----------
    default : float or None
        The value if the caller gives none; None switches the option off and is accepted too.
    domain : str
        The domain as error messages state it, such as ``"a number in [0, 1]"``.
    holds : callable
        Whether a finite number is in the domain.
    example : float
        A value in the domain that is not the default: tests and ``fastloss check`` try it.
    neutral : bool
        Whether the default switches the option off, so that it is compiled away.
    shapes_formula : bool
        Whether any other value selects another formula: such an option is compiled in only where
        it is given, the others of a loss all together.
    per_class : bool
        Whether an array of one number per class (the last axis of pred) is accepted too.
    shares_target : bool
        Whether with such an array one target may serve all numbers of a row.
    bounds_loss_only : bool
        Whether it bounds the prediction for the sake of a finite loss: beyond, the slope is on
        purpose not that of the bounded loss, which is 0.
    """

    default: Any
    domain: str = "a finite number"
    holds: Callable[[Any], bool] = math.isfinite
    example: Any = None
    neutral: bool = False
    shapes_formula: bool = False
    per_class: bool = False
    shares_target: bool = False
    bounds_loss_only: bool = False

    def __post_init__(self) -> None:
        """Hold the default and the example to the domain."""
        for name in ("default", "example"):
            value = getattr(self, name)
            if value is not None:
                self.checked(value, type(self).__name__, name)

    def checked(self, value: Any, loss: str, name: str, dtype: Any = None) -> Any:
        """Return the value as a plain Python object, or raise the error that it deserves.

        With the dtype of a kernel it has to be in the domain as a number of that type as well.
        """
        if value is None and self.default is None:
            return None
        number = check.number(value, loss, name, self.domain, self.holds)
        if dtype is not None:
            check.fits(number, loss, name, self.domain, self.holds, dtype)
        return number

    def for_kernel(self, value: Any, dtype: np.dtype[Any]) -> Any:
        """Return a checked value as the kernel takes it: of its type, or None."""
        return None if value is None else dtype.type(value)


@dataclass(frozen=True)
class Flag(Option):
    """An option that is True or False; the kernel gets True or None."""

    domain: str = "True or False"

    def checked(self, value: Any, loss: str, name: str, dtype: Any = None) -> bool:
        return check.boolean(value, loss, name)

    def for_kernel(self, value: Any, dtype: np.dtype[Any]) -> Any:
        return True if value else None


@dataclass(frozen=True)
class Choice(Option):
    """An option that is one of two words, the default first; the kernel gets None or True."""

    words: tuple[str, ...] = ()

    def checked(self, value: Any, loss: str, name: str, dtype: Any = None) -> str:
        return check.word(value, loss, name, self.words)

    def for_kernel(self, value: Any, dtype: np.dtype[Any]) -> Any:
        return None if value == self.default else True


@dataclass(frozen=True)
class Epsilon(Option):
    """A bound on probabilities which by default is the machine epsilon of their type."""

    def for_kernel(self, value: Any, dtype: np.dtype[Any]) -> Any:
        return dtype.type(np.finfo(dtype).eps if value is None else value)


def clip_epsilon() -> Option:
    """Return `eps`: probabilities clipped to ``[eps, 1 - eps]``, the textbook form; 0 is exact."""
    return Option(0.0, "a number in [0, 0.5)", lambda x: 0 <= x < 0.5, 1e-3, neutral=True,
                  shapes_formula=True, bounds_loss_only=True)  # fmt: skip


def machine_epsilon() -> Option:
    """Return `eps`: probabilities clipped to ``[eps, 1 - eps]``, by default as little as can be."""
    return Epsilon(None, "a number in [0, 0.5), or None", lambda x: 0 <= x < 0.5, 1e-3,
                   bounds_loss_only=True)  # fmt: skip


def positive(default: float) -> Option:
    """Return an option that is a positive number, such as a threshold or a scale."""
    return Option(default, "a number > 0", lambda x: x > 0, 2 * default)


def nonnegative(default: float) -> Option:
    """Return an option that is a number of 0 or more."""
    return Option(default, "a number >= 0", lambda x: x >= 0, default + 0.5)


def smoothing() -> Option:
    """Return `label_smoothing`: the share of the target spread evenly over the classes."""
    return Option(0.0, "a number in [0, 1]", lambda x: 0 <= x <= 1, 0.1, neutral=True)


def positive_weight() -> Option:
    """Return `pos_weight`: the weight of the positive part, one number or one per class."""
    return Option(1.0, "a number >= 0, or one per class", lambda x: x >= 0, 2.5, neutral=True,
                  per_class=True)  # fmt: skip


def flag(default: bool) -> Option:
    """Return an option that is True or False."""
    return Flag(default, example=not default)


def signs() -> Option:
    """Return `labels`: whether the two classes are labelled -1 and 1, or 0 and 1."""
    return Choice("pm1", example="01", words=("pm1", "01"))


def logarithm_base() -> Option:
    """Return `base`: the base of the logarithm, e if None."""
    return Option(None, "a number > 1, or None", lambda x: x > 1, 2.0)
