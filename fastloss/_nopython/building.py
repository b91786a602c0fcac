"""How functions for compiled code are written: their parameters, and how options are taken.

Two things have to be written out as text before Numba sees them: a function with the parameters of
a loss, and the branches by which options that only show at run time select what is compiled.

Numba names the machine code of a function by its qualified name and a number that starts anew in
every process. A user's cached function brings the code of ours along, under the names of the
process that compiled it; so each function made here has a name of its own, in which a digest of
the sources stands.
"""

import hashlib
import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, NoReturn
from uuid import uuid4

import numpy as np
from numba import njit, types
from numba.core.errors import NumbaError, TypingError
from numba.extending import overload

from fastloss._digest import IN_MEMORY, source_digest
from fastloss._jit import MATHEMATICS
from fastloss._options import Choice, Flag, Option
from fastloss._validate import RANGES

Function = Callable[..., Any]

MODULE = "fastloss.jit"
"""What the functions pass for: Numba imports a function's module when it loads it from a cache."""

DEFINED = "defined"
"""What functions are called in the text that defines them."""

_SOURCES = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
_DIGEST = hashlib.sha256(b"".join(_SOURCES)).hexdigest()[:8]


def unique_name(loss: Any, role: str) -> str:
    """Return a qualified name for a function that belongs to a loss."""
    digest = source_digest(loss._scalar)
    if digest == IN_MEMORY:  # which does not tell a user's function from others of its name
        digest = uuid4().hex
    return f"{loss.name}.{role}.{_DIGEST}{digest}"


def written(name: str, parameters: str, lines: Iterable[str], bindings: Mapping[str, Any]) -> Any:
    """Return the function of these lines, with these globals and this qualified name.

    In the text it is called DEFINED: what a user calls a loss may be one of the globals, or no word
    of Python's, such as ``<lambda>``.
    """
    namespace = {**bindings, "__name__": MODULE}
    exec("\n".join([f"def {DEFINED}({parameters}):", *lines]), namespace)
    function = namespace[DEFINED]
    function.__name__, function.__qualname__ = name.partition(".")[0], name
    return function


def with_parameters(
    body: Function, name: str, arrays: Mapping[str, Any], values: Mapping[str, Any],
    outs: Iterable[str] = (),
) -> Any:  # fmt: skip
    """Return the function of all these that calls ``body((*arrays, *outs), (*values,))``.

    The mappings give the names of its parameters and their defaults, Ellipsis for none.
    """
    parameters = ", ".join(
        parameter if default is ... else f"{parameter}={default!r}"
        for parameter, default in {**arrays, **values, **dict.fromkeys(outs, ...)}.items()
    )
    own = unused("body", {*arrays, *values, *outs})
    call = f"    return {own}({in_tuple([*arrays, *outs])}, {in_tuple(values)})"
    return written(name, parameters, [call], {own: body})


def unused(name: str, taken: Container[str]) -> str:
    """Return a name that is not taken: this one, with underscores if need be."""
    while name in taken:
        name += "_"
    return name


def in_tuple(expressions: Iterable[str]) -> str:
    """Return the expression of a tuple."""
    return f"({''.join(f'{expression}, ' for expression in expressions)})"


def chosen(name: str, flags: Mapping[str, Any], choose: Function) -> Function:
    """Return a function of two tuples for compiled code.

    ``choose(arrays, values)`` gets the types of the tuples and returns what is compiled for them.
    """

    def chosen_by_types(arrays, values):
        raise NotImplementedError

    def named_choice(arrays, values):
        implementation = choose(arrays, values)
        implementation.__qualname__ = name
        return implementation

    overload(chosen_by_types, jit_options=flags, prefer_literal=True)(named_choice)
    return chosen_by_types


def refuse(loss: Any, argument: str, got: Any, expected: str) -> NoReturn:
    """Raise the error of an argument's type, as Numba shows it."""
    if isinstance(got, types.Literal):
        got = repr(got.literal_value)
    raise TypingError(f"{loss.name}: {argument} is {got}; expected {expected}")


def is_absent(kind: Any) -> bool:
    """Whether an argument is None, given or left out."""
    return isinstance(kind, types.NoneType)


@njit(**MATHEMATICS)
def yes():
    """Return True, not as a literal, which would be a type of its own."""
    return True


def options_of(loss: Any) -> dict[str, Option]:
    """Return the options of the mathematics: all but an elementwise loss's `ignore_value`."""
    if loss.family == "softmax":
        return dict(loss.options)
    return {k: x for k, x in loss.options.items() if k not in loss.handled_options}


def taking(loss: Any, last: Function, *, checked: bool = False, from_c: bool = False) -> Function:
    """Return ``f(arrays, values)`` that calls ``last(arrays, options)``.

    `values` are what the caller gave for the options of the loss, None for a default. `last` gets
    them as kernels do: as numbers of the type of the first array (of float64 those that templates
    handle), or None where they are compiled away. What only shows at run time, such as a flag,
    becomes a branch, which LLVM folds where it can.

    Numbers are held to their domains where they are `checked`. Those `from_c` are never None: NaN
    stands for it there, and an integer for a flag or a word.
    """

    def choose(arrays, values):
        T = getattr(arrays.types[0], "dtype", arrays.types[0])
        bindings = {"T": T, "last": last, "yes": yes}
        checks, readings = [], []
        for i, (key, option) in enumerate(options_of(loss).items()):
            kind, value = values.types[i], f"values[{i}]"
            readings.append(reading(loss, key, kind, T, value, from_c))
            holds = ""
            if isinstance(kind, types.UnicodeType) and isinstance(option, Choice):
                holds = " or ".join(f"{value} == {word!r}" for word in option.words)
            elif checked and isinstance(kind, types.Number):
                bindings[f"holds_{i}"] = _test_of(option)
                smallest, largest = RANGES[np.dtype(T.name)]
                holds = f"({value} == 0 or {smallest!r} <= abs({value}) <= {largest!r})"
                holds += f" and holds_{i}(float({value})) and holds_{i}(float(T({value})))"
            if holds:
                message = f"{loss.name}: {key} is outside its domain; expected {domain(option)}"
                checks += [f"    if not ({holds}):", f"        raise ValueError({message!r})"]
        lines = [*checks, *_branches(readings, (), "    ")]
        return written("options", "arrays, values", lines, bindings)

    name = unique_name(loss, "options_from_c" if from_c else "options")
    return chosen(name, MATHEMATICS, choose)


def reading(
    loss: Any, key: str, kind: Any, T: Any, value: str = "", from_c: bool = False
) -> tuple[str, str]:
    """Return the test whether an option is compiled in, and what `last` gets then: expressions.

    An empty test always holds; where one fails, `last` gets None. `kind` is the type of the
    expression `value`; if an option cannot be of it, that is an error.
    """
    option = loss.options[key]
    number = "float" if key in loss.handled_options else "T"
    given = f"{number}({value})"

    def constant(known):
        ready = option.for_kernel(known, np.dtype(T.name))
        return "None" if ready is None else "yes()" if ready is True else f"{number}({ready!s})"

    if is_absent(kind):
        return "", "None" if option.neutral else constant(option.default)
    if isinstance(option, (Flag, Choice)):
        known = kind.literal_value if isinstance(kind, types.Literal) else None
        if from_c:
            return f"{value} != 0", "yes()"
        if isinstance(option, Flag) and isinstance(kind, types.Boolean):
            return (value, "yes()") if known is None else ("", constant(known))
        if isinstance(option, Choice) and known in option.words:
            return "", constant(known)
        if isinstance(option, Choice) and isinstance(kind, types.UnicodeType):
            return f"{value} != {option.default!r}", "yes()"
    elif isinstance(kind, types.Number):
        default = constant(option.default)
        # Smoothed labels are a dense target for the softmax family, which has a template for it.
        smoothing = loss.family == "softmax" and key == "label_smoothing"
        if from_c and option.default is None:
            present = f"{value} == {value}"
            if default == "None":
                return present, given
            return "", f"({given} if {present} else {default})"
        if option.neutral and (option.shapes_formula or smoothing):
            return f"{given} != {default}", given
        return "", given
    refuse(loss, key, kind, domain(option))


def _test_of(option: Option) -> Function:
    """Return the test of an option's domain for compiled code; of a finite number at least."""
    if isinstance(option.holds, FunctionType):
        test = njit(**MATHEMATICS)(option.holds)
        try:
            test.compile((types.float64,))
        except NumbaError:  # a user's test may be anything that Python can do
            return math.isfinite
        return test
    return math.isfinite


def domain(option: Option) -> str:
    """Return in words what an option can be."""
    return " or ".join(map(repr, option.words)) if isinstance(option, Choice) else option.domain


def _branches(
    readings: Sequence[tuple[str, str]], taken: tuple[str, ...], indent: str
) -> list[str]:
    """Return the lines that call `last` with options from `readings`, behind those taken."""
    if not readings:
        return [f"{indent}return last(arrays, {in_tuple(taken)})"]
    (test, given), *others = readings
    if not test:
        return _branches(others, (*taken, given), indent)
    return [
        f"{indent}if {test}:",
        *_branches(others, (*taken, given), f"{indent}    "),
        *_branches(others, (*taken, "None"), indent),
    ]
