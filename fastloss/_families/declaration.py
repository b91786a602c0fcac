"""What a loss's own function declares by its signature: its arrays, and its options."""

import inspect
import math
from collections.abc import Iterable, Mapping
from numbers import Real
from types import FunctionType
from typing import Any

from fastloss._call import HESSIAN
from fastloss._options import Option, flag

RESERVED = frozenset({*HESSIAN, "axis", "class_weight", "ignore_index", "ignore_value", "extra"})
"""What an option may not be called: keywords that are read elsewhere."""


def own_function(function: Any, decorator: str) -> FunctionType:
    """Return what was decorated, if it is a plain Python function."""
    function = getattr(function, "py_func", function)  # compiled by the user
    if not isinstance(function, FunctionType):
        raise TypeError(
            f"@{decorator} was given {type(function).__name__}; expected a Python function"
        )
    return function


def declared(
    function: FunctionType,
    arrays: tuple[str, ...],
    options: Mapping[str, Option] | None,
    handled: frozenset[str] = frozenset(),
) -> tuple[list[str], dict[str, Option]]:
    """Return the names of a function's parameters for `arrays`, and its options.

    The options are those given, and of the remaining parameters those that their defaults make.
    `handled` are given options that the function does not see.
    """
    name, given = function.__name__, dict(options or {})
    shape = f"({', '.join(arrays)}, and options behind them)"
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise TypeError(f"{name}: its function takes {parameter}; expected {shape}")
    if len(parameters) < len(arrays):
        taken = ", ".join(parameter.name for parameter in parameters)
        raise TypeError(f"{name}: its function takes ({taken}); expected {shape}")
    names = [parameter.name for parameter in parameters]
    reserved = RESERVED.intersection(names[len(arrays) :])
    if reserved:
        raise TypeError(
            f"{name}: option {min(reserved)!r} is a keyword of losses; expected another name"
        )
    unknown = set(given) - set(names[len(arrays) :]) - handled
    if unknown:
        raise TypeError(
            f"{name}: option {min(unknown)!r} is no parameter of its function; expected {shape}"
        )
    found = {
        parameter.name: _option(name, parameter, given.pop(parameter.name, None))
        for parameter in parameters[len(arrays) :]
    }
    return names[: len(arrays)], found | given


def _option(loss: str, parameter: inspect.Parameter, given: Option | None) -> Option:
    """Return the option of a parameter: the one given, or the one that its default makes."""
    name, default = parameter.name, parameter.default
    if given is not None:
        if not isinstance(given, Option):
            raise TypeError(
                f"{loss}: option {name!r} is {type(given).__name__}; expected a fastloss.Option"
            )
        if default not in (parameter.empty, given.default):
            raise TypeError(
                f"{loss}: option {name!r} has two defaults, {default!r} and {given.default!r}"
            )
        return given
    if default is parameter.empty:
        raise TypeError(
            f"{loss}: option {name!r} has no default; expected one, such as {name}=1.0, "
            "or a fastloss.Option in options="
        )
    if isinstance(default, bool):
        return flag(default)
    if default is None:
        return Option(None, "a finite number, or None", example=1.0)
    if isinstance(default, Real) and math.isfinite(default):
        return Option(default, "a finite number", example=0.5 * default if default else 0.5)
    raise TypeError(
        f"{loss}: option {name!r} has the default {default!r}; expected a finite number, "
        "True, False or None"
    )


def check_domains(loss: str, known: Iterable[str | None], **given: str | None) -> None:
    """Refuse names of domains that do not exist."""
    for argument, domain in given.items():
        if domain not in known:
            expected = ", ".join(map(repr, known))
            raise ValueError(f"{loss}: {argument} is {domain!r}; expected one of {expected}")
