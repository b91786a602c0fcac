"""Numba's thread pool: when kernels use it, and how it stays out of the way of other threads.

A pool's idle threads look for work for a while, since to wake up takes them longer than a small
kernel does. On a machine of few cores that keeps others from working: two cores took 8 ms instead
of 0.6 for a training step of matrix product, cross-entropy and matrix product, since NumPy's BLAS
has threads of its own and those of GNU OpenMP look for work for 12 ms. Here they are launched so
that they go to sleep after some 40 µs, which costs kernels in a row nothing.
"""

import os
import platform
import sys
import threading
from collections.abc import Callable
from typing import Any

import numba
from numba.np.ufunc import parallel as numba_pool

PARALLEL_NANOSECONDS = 20_000
"""Work, in serial time, from which on opening a parallel region (about 5 µs) pays."""

SPINS = 1000 if platform.machine().lower() in ("x86_64", "amd64") else 30_000
"""How often an idle thread of GNU OpenMP looks for work; on x86, with a pause each time."""

_pool = threading.Lock()
_serial_only = False


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
        if threads == before:
            return kernel_of(*variant, True)(*arguments)
        numba.set_num_threads(threads)
        try:
            return kernel_of(*variant, True)(*arguments)
        finally:
            numba.set_num_threads(before)
    finally:
        _pool.release()


def current_threads() -> int:
    """Return `numba.get_num_threads()`, without the lock that it takes each time, 1 to 3 µs."""
    if not numba_pool._is_initialized:
        _launch()
    threads = int(numba_pool._get_num_threads())
    return threads if threads > 0 else int(numba.get_num_threads())


def _launch() -> None:
    """Launch Numba's threads, which sleep when idle unless the user has other wishes.

    GNU OpenMP reads its environment once, when Numba loads it; for others it is as it was.
    """
    if os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        numba.get_num_threads()
        return
    os.environ["GOMP_SPINCOUNT"] = str(SPINS)
    try:
        numba.get_num_threads()
    finally:
        os.environ.pop("GOMP_SPINCOUNT", None)


def _after_fork_in_child() -> None:
    """Start the child with a free lock, and serial if the parent's thread pool was running."""
    global _serial_only, _pool
    _pool = threading.Lock()
    _serial_only = _serial_only or numba_pool._is_initialized


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
