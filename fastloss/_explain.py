"""Errors of Numba about a user's function, told with the user's line."""

import dis
import linecache
import os
import re
from types import FunctionType

from numba import types
from numba.core.errors import NumbaError

from fastloss._drivers.points import WrongResult
from fastloss._dual import is_dual
from fastloss._own import Own

_PACKAGE = os.path.dirname(__file__)
_COLOURS = re.compile(r"\x1b\[\d*m")


def explained(scalar: FunctionType, error: Exception) -> Exception | None:
    """Return the error to raise in the place of one that came from a loss's kernel, if there is.

    `scalar` is what the kernel was made of. Numba's message tells of our templates, too; what it
    had to say of the user's function alone was put by when that was compiled.
    """
    own: Own | None = getattr(scalar, "own", None)
    if own is None:
        return None
    failure = getattr(own.compiled, "failure", None)
    if failure is None or not isinstance(error, (NumbaError, type(failure[1]))):
        return None
    (pred, *others), found = failure
    name, place = own.function.__name__, _place(own.function, found)
    if isinstance(found, WrongResult):
        return TypeError(f"{name}: its function returns {found}{place}; expected {found.expected}")
    plain = own.compiled.overloads.get((getattr(pred, "real", pred), *others))
    if is_dual(pred) and isinstance(plain.signature.return_type, types.BaseTuple):
        return NotImplementedError(
            f"{name}: it has no second derivative: its function returns (loss, slope), and the "
            f"slope cannot be differentiated{place}: {_words(found)}; "
            "expected (loss, slope, curvature)"
        )
    return TypeError(f"{name}: its function cannot be compiled{place}: {_words(found)}")


def _words(error: Exception) -> str:
    """Return what an error says in the end, in one line."""
    text = _COLOURS.sub("", str(error))
    lines = (line.strip() for line in text.splitlines())
    first = next(line for line in lines if line and not line.startswith("Failed in"))
    call = re.search(r"^\s*>>> (.*)$", text, re.MULTILINE)
    if call is None or not first.startswith("No implementation"):
        return first.partition(". Raised from")[0].rstrip(".")
    called = re.sub(r"Literal\[\w+\]\((.*?)\)", r"\1", call[1])
    if "Dual(" not in called:
        return f"there is no {called}"
    called = re.sub(r"Dual\((\w+)\)", r"\1", called)
    if called.startswith("<unknown function>"):
        return "this conversion loses the derivative; write T = type(pred), then T(x)"
    return f"no derivative is known of {called}; return (loss, slope) instead of the loss"


def _place(function: FunctionType, error: Exception) -> str:
    """Return where in the user's code an error is, and the line itself, as far as is known."""
    path, line = function.__code__.co_filename, None
    steps = re.findall(r'^File "(.+)", line (\d+):$', _COLOURS.sub("", str(error)), re.MULTILINE)
    users = [step for step in steps if not os.path.abspath(step[0]).startswith(_PACKAGE)]
    if users:  # the innermost is the first
        path, line = users[0][0], int(users[0][1])
        path = path if path.startswith("<") else os.path.abspath(path)  # "<stdin>" is no file
    elif isinstance(error, AttributeError):
        for step in dis.get_instructions(function):
            if step.argval == error.name and step.positions is not None:
                line = step.positions.lineno
    else:
        line = getattr(getattr(error, "loc", None), "line", None)
    if line is None:
        return f", at {path}, line {function.__code__.co_firstlineno}"
    source = linecache.getline(path, line).strip()
    return f", at {path}, line {line}" + (f": `{source}`" if source else "")
