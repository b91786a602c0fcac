"""A loss's own function: as the kernels compile it, and as its reference calls it.

The library's functions are compiled as they are. In a user's function, and in the user's functions
that it calls, compiled by the user or not, NumPy's functions are replaced by those of `_functions`.
That happens at the first use of the loss: its function may call what stands below it in the file,
and later changes of globals have no effect, as with everything that Numba compiles.
"""

from collections.abc import Callable
from functools import cached_property
from types import CellType, FunctionType, ModuleType
from typing import Any

import numba
from numba.core.dispatcher import Dispatcher
from numba.core.registry import cpu_target
from numba.extending import typeof_impl

from fastloss._digest import digest_of, is_of_library, names_of, package_of
from fastloss._functions import REPLACED

Function = Callable[..., Any]

_LIBRARY = __name__.partition(".")[0]


class Own:
    """A loss's own function. As a global of compiled code it is its dispatcher.

    Parameters
    ----------
    function : function
        As it was decorated.
    flags : dict
        The options to compile it under, and what it calls.
    """

    def __init__(self, function: FunctionType, flags: dict[str, Any]) -> None:
        self.function = function
        self._flags = flags

    @cached_property
    def _made(self) -> tuple[str, Any]:
        """The digest and the dispatcher, made at one time: globals may change later."""
        digest = digest_of(self.function)
        name, finish = f"{self.function.__name__}.own.{digest}", numba.njit(**self._flags)
        if is_of_library(self.function):
            return digest, finish(_copy(self.function, name, {}, self.function.__closure__))
        return digest, _Replacing(finish, name).of_function(self.function)

    @property
    def digest(self) -> str:
        """The digest of what the function is compiled from."""
        return self._made[0]

    @property
    def compiled(self) -> Any:
        """The dispatcher. It compiles nothing before it is asked for a result."""
        return self._made[1]

    @cached_property
    def interpreted(self) -> Function:
        """The function for plain Python, of numbers of any type."""
        name = self.function.__qualname__
        return _Replacing(lambda function: function, name).of_function(self.function)


@typeof_impl.register(Own)
def _dispatcher_of(own: Own, context: Any) -> Any:
    return numba.typeof(own.compiled)


def stating(template: Function, own: Own, **bindings: Any) -> FunctionType:
    """Return a template that calls `own`, as the function that the kernels of a loss are made of.

    Its attribute `own` is what it is bound to.
    """
    function, scope = own.function, {**template.__globals__, "own": own, **bindings}
    result = FunctionType(template.__code__, scope, function.__name__)
    for attribute in ("__module__", "__qualname__", "__doc__"):
        setattr(result, attribute, getattr(function, attribute))
    result.__dict__["own"] = own
    return result


def _copy(function: FunctionType, name: str, scope: dict[str, Any], closure: Any) -> FunctionType:
    """Return the function with changes of its globals, another closure and name.

    It passes for a function of this module: Numba imports a function's module when it loads a
    kernel from the cache, and the user's own may not be one that can be imported. The name is one
    that no function of another loss has: Numba may take one for the other when it loads them.
    """
    code = function.__code__.replace(co_qualname=name)
    copy = FunctionType(code, {**function.__globals__, **scope}, code.co_name, None, closure)
    copy.__module__ = __name__
    return copy


class _Replacing:
    """Gives functions what `REPLACED` has in the place of what they ask for.

    What they call is treated alike. `finish` compiles functions, or leaves them as they are.
    """

    def __init__(self, finish: Function, name: str) -> None:
        self.finish = finish
        self.name = name
        self.done: dict[int, tuple[Any, Any]] = {}  # with the values, which keeps their id's

    def of_function(self, function: FunctionType) -> Any:
        """Return the function with its globals and closure replaced, finished."""
        name = f"{self.name}.{function.__name__}" if self.done else self.name
        self.done[id(function)] = function, function  # until it is: functions may call each other
        scope = function.__globals__
        changes = {
            name: self.of_value(scope[name]) if name in scope else REPLACED[abs]
            for name in names_of(function.__code__)
            if name in scope or name == "abs"
        }
        cells = [CellType(self.of_value(cell.cell_contents)) for cell in function.__closure__ or ()]
        return self.finish(_copy(function, name, changes, tuple(cells) or None))

    def of_value(self, value: Any) -> Any:
        """Return what takes the place of a value."""
        if id(value) not in self.done:
            self.done[id(value)] = value, self.replaced(value)
        return self.done[id(value)][1]

    def replaced(self, value: Any) -> Any:
        """Return what takes the place of a value that comes for the first time."""
        if callable(value) and value in REPLACED:
            return REPLACED[value]
        if package_of(value) in (_LIBRARY, "numba"):
            return value
        if isinstance(value, ModuleType):
            return _Module(value, self.of_value)
        if isinstance(value, Dispatcher):
            return self.of_function(value.py_func)
        if isinstance(value, FunctionType) and not _is_overloaded(value):
            return self.of_function(value)
        return value


class _Module(ModuleType):
    """A module whose functions are replaced."""

    def __init__(self, module: ModuleType, replaced: Function) -> None:
        super().__init__(module.__name__)
        self._module = module
        self._replaced = replaced

    def __getattr__(self, name: str) -> Any:
        value = self._replaced(getattr(self._module, name))
        setattr(self, name, value)
        return value


def _is_overloaded(function: FunctionType) -> bool:
    """Whether Numba has another implementation of a Python function."""
    context = cpu_target.typing_context
    context.refresh()
    return context._lookup_global(function) is not None
