"""Numba's thread pool: when kernels use it, and how it stays out of the way of other threads.

A pool's idle threads wait at full speed for a while, since waking takes them longer than a small
kernel does. On a machine of few cores they keep others from working meanwhile: a training step of
matrix product, cross-entropy and matrix product, NumPy's BLAS with threads of its own, took 8 ms
instead of 0.6 on two cores, for GNU OpenMP waits for 12 ms. So it is told to wait for 40 µs where
it is this module that launches it, and hardly used where it is not.
"""

import os
import platform
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any

import numba
from numba.np.ufunc import parallel as numba_pool

PARALLEL_NANOSECONDS = 20_000
"""Work, in serial time, from which on opening a parallel region (about 5 µs) pays."""

SPINS = 1000 if platform.machine().lower() in ("x86_64", "amd64") else 30_000
"""How often an idle thread looks for work before it sleeps; each look has a pause in it on x86."""

LONG_NANOSECONDS = 16e6
"""Work, in serial time, from which on two threads pay whatever they do when idle."""

PAUSE = 50e-6
"""Seconds without kernels after which other threads may be at work: those of NumPy's BLAS."""

_pool = threading.Lock()
_serial_only = False
_keeps_spinning: bool | None = None  # whether idle threads do, for long; None before the launch
_last_use = 0.0


def run(
    kernel_of: Callable[..., Any],
    variant: tuple[Any, ...],
    arguments: tuple[Any, ...],
    nanoseconds: float,
    num_threads: int | None,
) -> Any:
    """Call the serial or the parallel kernel of a variant, whichever suits the amount of work.

    Both give the same bits. The parallel one is left aside where it would be dangerous: while
    another Python thread is inside a parallel region (Numba's workqueue layer would abort the
    process), and in a forked child of a process whose pool was running (libgomp would).
    """
    global _last_use
    if nanoseconds < PARALLEL_NANOSECONDS or num_threads == 1 or _serial_only:
        return kernel_of(*variant, False)(*arguments)
    try:
        before = current_threads()
    except ValueError:  # Numba can load no threading layer here
        return kernel_of(*variant, False)(*arguments)
    threads = before if num_threads is None else min(num_threads, before)
    if threads == 1 or not _pool.acquire(blocking=False):
        return kernel_of(*variant, False)(*arguments)
    try:
        if numba.threading_layer() == "workqueue" and len(sys._current_frames()) > 1:
            # Another thread, even one that Python's threading does not know, may hold the pool.
            return kernel_of(*variant, False)(*arguments)
        disturbs = _keeps_spinning and num_threads is None and nanoseconds < LONG_NANOSECONDS
        if disturbs and perf_counter() - _last_use > PAUSE:
            return kernel_of(*variant, False)(*arguments)
        if threads == before:
            return kernel_of(*variant, True)(*arguments)
        numba.set_num_threads(threads)
        try:
            return kernel_of(*variant, True)(*arguments)
        finally:
            numba.set_num_threads(before)
    finally:
        _last_use = perf_counter()
        _pool.release()


def current_threads() -> int:
    """Return `numba.get_num_threads()`, without the lock that it takes each time, 1 to 3 µs."""
    global _keeps_spinning
    if _keeps_spinning is None:
        _keeps_spinning = _launch()
    threads = int(numba_pool._get_num_threads())
    return threads if threads > 0 else int(numba.get_num_threads())


def _launch() -> bool:
    """Launch Numba's threads, if nobody has; return whether they keep spinning when idle.

    GNU OpenMP reads its environment once, when it is loaded, and PyTorch's is used if that is.
    """
    if os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:  # as the user wants them
        numba.get_num_threads()
        return False
    if numba_pool._is_initialized or _openmp_is_loaded():
        numba.get_num_threads()
        return sys.platform == "linux" and numba.threading_layer() == "omp"
    os.environ["GOMP_SPINCOUNT"] = str(SPINS)
    try:
        numba.get_num_threads()
    finally:
        os.environ.pop("GOMP_SPINCOUNT", None)
    return False


def _openmp_is_loaded() -> bool:
    """Whether the process has loaded GNU OpenMP under its own name, for all to use."""
    with suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        return any("/libgomp.so" in line for line in maps)
    return False


def _after_fork_in_child() -> None:
    """Start the child with a free lock, and serial if the parent's thread pool was running."""
    global _serial_only, _pool
    _pool = threading.Lock()
    _serial_only = _serial_only or numba_pool._is_initialized


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
