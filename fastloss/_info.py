"""What ``fastloss info`` reports: what decides speed and behaviour on this machine."""

import importlib
import os
import platform
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite import binding as llvm

from fastloss import _threads
from fastloss._drivers.elementwise import elementwise_driver

# The module behind each of Numba's threading layers; it imports only where the layer can be used.
LAYER_MODULES = {"tbb": "tbbpool", "omp": "omppool", "workqueue": "workqueue"}

# Bits of a vector register, the widest instruction set first.
VECTOR_BITS = {"avx512f": 512, "avx2": 256, "avx": 256, "sse2": 128, "neon": 128, "vsx": 128}
FEATURES = ("sse2", "sse4.1", "avx", "avx2", "fma", "avx512f", "neon", "sve", "vsx")


def collect() -> dict[str, Any]:
    """Collect the facts.

    Returns
    -------
    dict
        Plain values that JSON can hold, under the names that ``fastloss info --json`` prints.
        A value that cannot be found out on this machine is None.
    """
    import fastloss

    try:
        features = {name for name, present in llvm.get_host_cpu_features().items() if present}
    except RuntimeError:  # LLVM does not know how to ask this operating system
        features = set()
    layer, threads = _threading()
    return {
        "fastloss": fastloss.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "platform": platform.platform(),
        "cpu": llvm.get_host_cpu_name(),
        "cpu_count": os.cpu_count(),
        "cpu_features": [name for name in FEATURES if name in features],
        "vector_bits": next((bits for name, bits in VECTOR_BITS.items() if name in features), None),
        "threading_layer": layer,
        "threading_layer_setting": numba.config.THREADING_LAYER,
        "threading_layer_priority": list(numba.config.THREADING_LAYER_PRIORITY),
        "threading_layers_available": [name for name in LAYER_MODULES if _loads(name)],
        "threads": threads,
        "compiler": not numba.config.DISABLE_JIT,
        "cache_directory": cache_directory(),
    }


def lines(facts: dict[str, Any]) -> list[str]:
    """Lay the facts out for reading, one line each."""
    priority = " > ".join(facts["threading_layer_priority"])
    available = ", ".join(facts["threading_layers_available"]) or "none"
    width = f"{facts['vector_bits']} bits" if facts["vector_bits"] else "unknown"
    no_cache = (
        "no writable directory: kernels are compiled anew in every process "
        "(set NUMBA_CACHE_DIR to one)"
    )
    if not facts["compiler"]:
        no_cache = "none, and no kernels: NUMBA_DISABLE_JIT is set"
    rows = {
        **{name: facts[name] for name in ("fastloss", "python", "numpy", "numba", "llvmlite")},
        "platform": facts["platform"],
        "cpu": f"{facts['cpu']}, {facts['cpu_count']} logical cores",
        "cpu features": ", ".join(facts["cpu_features"]) or "unknown",
        "vector registers": width,
        "threading layer": f"{facts['threading_layer'] or 'none can be loaded'} "
        f"(setting {facts['threading_layer_setting']}, priority {priority}, loadable: {available})",
        "threads": facts["threads"] or "1 (serial only)",
        "kernel cache": facts["cache_directory"] or no_cache,
    }
    margin = max(map(len, rows))
    return [f"{name:<{margin}}  {value}" for name, value in rows.items()]


def _threading() -> tuple[str | None, int | None]:
    """Return the layer Numba selects here and its number of threads."""
    try:
        # Asking for the number starts the threads, and only then does Numba name the layer.
        threads = _threads.current_threads()
        return numba.threading_layer(), threads
    except (ValueError, ImportError):
        return None, None


def _loads(layer: str) -> bool:
    try:
        importlib.import_module(f"numba.np.ufunc.{LAYER_MODULES[layer]}")
    except ImportError:
        return False
    return True


def cache_directory() -> str | None:
    """Return where Numba keeps the kernels of this package, or None if it can write nowhere."""
    if numba.config.DISABLE_JIT:
        return None
    try:
        # Numba looks for a writable place, file by file, when it decorates; nothing is compiled.
        return str(numba.njit(cache=True)(elementwise_driver).stats.cache_path)
    except RuntimeError:
        return None
