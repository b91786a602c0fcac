"""One machine code for every block, whichever kernel calls it and wherever that was compiled.

Numba links the code of all that a function calls into its library, optimises the whole once more
and makes machine code of it. Of a block, which is never inlined, that is a copy for every kernel
and every entry: nearly half of LLVM's time would go into copies, and as it may add a sum in another
order each time it optimises a loop, they could differ in the last bit. So the libraries made here
are *lean*: they only declare the blocks that they call, as C does with functions of another file,
and are stored with the libraries of these blocks, which are loaded before them.

A user's function that calls a kernel is not lean: Numba's own cache forgets, when it links a
function that it has loaded into another one, what that needs besides. So it gets copies, as Numba
has them, which give way where the block's own code is loaded.
"""

import gc
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from llvmlite import binding
from numba.core.caching import FunctionCache
from numba.core.compiler import Compiler
from numba.core.registry import cpu_target

_loaded: dict[str, Any] = {}


class Preload:
    """A block's library, to be loaded before what calls it; pickled, it is the machine code.

    Numba keeps such objects in a set of every library, hands the set on to the libraries into which
    it links that one, stores it beside their code, and calls each object before it loads the code.
    """

    def __init__(self, library: Any) -> None:
        self.library = library

    def __reduce__(self) -> tuple[Any, ...]:
        inner = [other for other in preloads(self.library) if other is not self]
        return Stored, (self.library.serialize_using_object_code(), inner)

    def __call__(self) -> None:
        """Do nothing: this process has compiled the library."""


class Stored:
    """A block's library as a process finds it in the cache, with those that it calls itself."""

    def __init__(self, code: Any, inner: list[Any]) -> None:
        self.code, self.inner = code, inner

    def __reduce__(self) -> tuple[Any, ...]:
        return Stored, (self.code, self.inner)

    def __call__(self) -> None:
        """Load the library, if this process has not done so."""
        for other in self.inner:
            other()
        _, _, (machine_code, _) = self.code
        key = hashlib.sha256(machine_code).hexdigest()
        if key not in _loaded:  # a library that nobody holds is unloaded
            _loaded[key] = cpu_target.target_context.codegen().unserialize_library(self.code)


def preloads(library: Any) -> set[Any]:
    """Return the set in which Numba keeps what to call before a library is loaded.

    Before its version 0.63 there is none, and kernels are stored alone.
    """
    calls: set[Any] = getattr(library, "_reload_init", set())
    return calls


def blocks_of(library: Any) -> list[Any]:
    """Return the libraries of the blocks that a library calls, callers before what they call.

    One that was loaded from the cache has none: it was stored as the whole module.
    """
    blocks = [call.library for call in preloads(library) if isinstance(call, Preload)]
    return sorted(blocks, key=lambda block: -len(preloads(block)))


def make_block(library: Any) -> None:
    """Let a library, whose functions are not finished yet, be one that lean libraries declare."""
    preloads(library).add(Preload(library))
    make_lean(library)


def make_lean(library: Any) -> None:
    """Let a library, which is not finished yet, declare the blocks that it calls.

    Whoever else links it gets the blocks too. Where the blocks could not be stored with it, it
    stays as it is.
    """
    if _can_be_lean(library):
        library.finalize = partial(_finalize, library)
        library._get_module_for_linking = partial(_whole_module, library)


def make_part(library: Any) -> None:
    """Let a library that only a lean one calls, such as a prange loop's, declare its blocks."""
    if _can_be_lean(library):
        library.finalize = partial(_finalize, library)


def _can_be_lean(library: Any) -> bool:
    """Whether Numba stores with a library what it needs, and links as this module expects."""
    expected = ("_reload_init", "_linking_libraries", "_get_module_for_linking", "_final_module")
    return all(hasattr(library, name) for name in expected)


class LeanCompiler(Compiler):  # type: ignore[misc]  # Numba has no types
    """Numba's compiler of functions whose libraries are lean."""

    def compile_extra(self, func: Any) -> Any:
        """Compile a function, with a library made here, which Numba otherwise makes later."""
        library = self.state.targetctx.codegen().create_library(func.__qualname__)
        library.enable_object_caching()
        make_lean(library)
        self.state.library = library
        with _collecting_later():
            return super().compile_extra(func)


@contextmanager
def _collecting_later() -> Iterator[None]:
    """Let Python not look for garbage while the body of the ``with`` statement runs.

    Compilers make objects by the million and drop few. Python would go through all there are again
    and again, those of the user among them: 6 to 9 % of the time of a first call. What waits for it
    is some 17 MB. Should another thread switch the collector off meanwhile, it is on afterwards.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class _Linked:
    """What a lean library links in the place of another library."""

    def __init__(self, library: Any) -> None:
        self.library = library  # held, as its code is to be called
        self._reload_init = library._reload_init

    def _get_module_for_linking(self) -> Any:
        if self.library in blocks_of(self.library):
            return _declarations(self.library)
        return _lean_module(self.library)


def _finalize(library: Any) -> None:
    """Do what Numba does with a library that is complete, on what a lean one links."""
    others = dict.fromkeys(library._linking_libraries)  # each of them once
    library._linking_libraries = [_Linked(other) for other in others]
    type(library).finalize(library)


def _lean_module(library: Any) -> Any:
    """Return the code of a library to be linked, as far as it is its own."""
    if "_get_module_for_linking" in vars(library):
        return type(library)._get_module_for_linking(library)
    return library._get_module_for_linking()


def _whole_module(library: Any) -> Any:
    """Return the code of a lean library to be linked, and that of all blocks that it calls.

    LLVM links a block only if it is declared, by a caller that has been linked before.
    """
    others = [block for block in blocks_of(library) if block is not library]
    whole = _lean_module(library)
    if others:
        whole = whole.clone()
        for block in others:
            whole.link_in(_lean_module(block), preserve=True)
        # A call of what is not there would end the process.
        names = {function.name for block in others for function in _functions_of(block)}
        missing = names.intersection(f.name for f in whole.functions if f.is_declaration)
        if missing:
            raise RuntimeError(f"fastloss: LLVM has not linked {', '.join(sorted(missing))}")
    return whole


def _functions_of(library: Any) -> list[Any]:
    """Return the functions that a library has for others."""
    library._ensure_finalized()
    return [
        function
        for function in library._final_module.functions
        if function.linkage == binding.Linkage.external and not function.is_declaration
    ]


def _declarations(library: Any) -> Any:
    """Return a module that declares the functions of a library, without their code."""
    lines = []
    for function in _functions_of(library):
        result, parameters = str(function.global_value_type).split(" (", 1)
        lines.append(f'declare {result} @"{function.name}"({parameters}')
    return binding.parse_assembly("\n".join(lines))


class KernelCache(FunctionCache):  # type: ignore[misc]  # Numba has no types
    """Numba's disk cache, which forgets what a kernel needs when that is linked once more."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return a stored kernel, or None."""
        result = super().load_overload(sig, target_context)
        if result is not None:
            preloads(result.library).update(result.reload_init)
        return result
