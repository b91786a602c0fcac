"""One machine code for every block, whichever kernel calls it and wherever that was compiled.

LLVM may add a sum in another order each time it optimises a loop, and Numba optimises a block
once as a library of its own and again within every kernel that it links the block into. Two copies
of one block can then differ in the last bit. The process that compiles them calls the library: its
symbol is there first, and a symbol of a kernel's own copy gives way to it. A process that loads
the kernel from the disk cache would have the copy alone. So a kernel is stored with the libraries
of its blocks, and they are loaded before it.
"""

import hashlib
from typing import Any

from numba.core.caching import FunctionCache
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


class KernelCache(FunctionCache):  # type: ignore[misc]  # Numba has no types
    """Numba's disk cache, which forgets what a kernel needs when that is linked once more."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return a stored kernel, or None."""
        result = super().load_overload(sig, target_context)
        if result is not None:
            preloads(result.library).update(result.reload_init)
        return result
