"""What a kernel is made of, in a digest: the part of its cache entry's name that Numba leaves out.

Of the library's own functions it is the bytes of their files. Of a user's function it is its code
and every value that the code takes from globals, closures and modules, the code of other functions
included: two functions of one name differ, an edited one differs from what it was, and so do two
closures over different numbers. If the content of something cannot be told, the kernels of the
loss are kept in memory only.
"""

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numba import types
from numba.core.dispatcher import Dispatcher

IN_MEMORY = "in-memory"
"""The digest of what must not be stored."""

_PACKAGE = Path(__file__).parent
_MODULES = (
    "_digest",
    "_dual",
    "_dual_operators",
    "_engine",
    "_families/at_label",  # it chooses templates
    "_floats",
    "_functions",
    "_jit",
    "_llvm",
    "_machine_code",
    "_math",
    "_own",
    "_vector_memory",
    "_vectors",
)
_SOURCES = [*sorted(_PACKAGE.glob("_drivers/*.py")), *(_PACKAGE / f"{x}.py" for x in _MODULES)]
# Read at import, like the code itself: what is compiled later is what was imported, not the file
# that an editor or an upgrade may have put in its place meanwhile.
_TEMPLATES = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES)).digest()

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), np.generic, np.ufunc)
_NAMED = (type, types.Type, FunctionType, BuiltinFunctionType, type(np.where), ModuleType)


class _Untold(Exception):
    """The content of a value cannot be told."""


def is_of_library(function: FunctionType) -> bool:
    """Whether a function stands in the library's own files."""
    return Path(function.__code__.co_filename).is_relative_to(_PACKAGE)


@cache
def source_digest(function: FunctionType) -> str:
    """Return a digest of all sources that a kernel with this function is compiled from.

    A user's function is looked at when its first kernel is asked for: it may use what is defined
    below it.
    """
    own = getattr(function, "own", None)
    return digest_of(function) if own is None else str(own.digest)


def digest_of(function: FunctionType) -> str:
    """Return the digest of a loss's own function, as it is now."""
    digest = hashlib.sha256(_TEMPLATES + function.__qualname__.encode())
    if is_of_library(function):
        digest.update(Path(function.__code__.co_filename).read_bytes())
    else:
        try:
            for part in _function(function, {}):
                digest.update(part)
        except _Untold:
            return IN_MEMORY
    return digest.hexdigest()[:20]


def remember(function: FunctionType) -> None:
    """Take the digest of a function of the library while its file is as it was read."""
    own = getattr(function, "own", None)
    if is_of_library(function if own is None else own.function):
        source_digest(function)


def package_of(thing: Any) -> str:
    """Return the name of the top-level package of a function, a class or a module."""
    name = thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", None)
    return str(name).partition(".")[0]


def names_of(code: CodeType) -> set[str]:
    """Return the names that a code object, or one inside of it, asks globals and modules for."""
    inner = (names_of(value) for value in code.co_consts if isinstance(value, CodeType))
    return set(code.co_names).union(*inner)


def _function(function: FunctionType, seen: dict[int, int]) -> Iterator[bytes]:
    """Yield the code of a function and what it takes from elsewhere."""
    names = sorted(names_of(function.__code__))
    yield f"{function.__module__} {function.__defaults__!r}".encode()
    yield from _code(function.__code__, seen)
    for name in names:
        if name in function.__globals__:
            yield name.encode()
            yield from _value(function.__globals__[name], names, seen)
    for cell in function.__closure__ or ():
        yield from _value(cell.cell_contents, names, seen)


def _code(code: CodeType, seen: dict[int, int]) -> Iterator[bytes]:
    """Yield what a code object does, wherever it stands."""
    yield code.co_code
    yield repr((code.co_flags, code.co_argcount, code.co_names, code.co_varnames)).encode()
    yield repr((code.co_freevars, code.co_cellvars)).encode()
    yield from _value(code.co_consts, (), seen)


def _value(value: Any, names: Iterable[str], seen: dict[int, int]) -> Iterator[bytes]:
    """Yield what a value is, for code that asks for attributes of these names."""
    yield type(value).__qualname__.encode()
    if isinstance(value, _PLAIN):
        yield repr(value).encode()
        return
    if id(value) in seen:
        yield str(seen[id(value)]).encode()
        return
    seen[id(value)] = len(seen)
    known = package_of(value) in ("builtins", "math", "numba", "numpy")
    if isinstance(value, (tuple, frozenset)):
        for item in value if isinstance(value, tuple) else sorted(value, key=repr):
            yield from _value(item, names, seen)
    elif isinstance(value, CodeType):
        yield from _code(value, seen)
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        yield f"{value.dtype.str} {value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, _NAMED) and (known or _is_of_templates(value)):
        yield _name_of(value).encode()
    elif isinstance(value, FunctionType):
        yield from _function(value, seen)
    elif isinstance(value, Dispatcher):
        yield repr(sorted(value.targetoptions.items())).encode()
        yield from _value(value.py_func, names, seen)
    elif isinstance(value, ModuleType):
        yield value.__name__.encode()
        for name in names:
            if hasattr(value, name):
                yield from _value(getattr(value, name), names, seen)
    else:
        raise _Untold


def _name_of(value: Any) -> str:
    """Return what something is called, without its address in this process."""
    name = getattr(value, "__qualname__", None)
    return str(value) if name is None else f"{value.__module__}.{name}"


def _is_of_templates(value: Any) -> bool:
    """Whether a function is part of every digest already."""
    return isinstance(value, FunctionType) and Path(value.__code__.co_filename) in _SOURCES
