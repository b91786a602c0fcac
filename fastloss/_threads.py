"""Numba's thread pool: when kernels use it, and how it stays out of the way of other threads.

A pool's idle threads look for work for a while, since to wake up takes them longer than a small
kernel does. On a machine of few cores that keeps others from working: two cores took 8 ms instead
of 0.6 for a training step of matrix product, cross-entropy and matrix product, since NumPy's BLAS
has threads of its own and those of GNU OpenMP look for work for 12 ms. Here they are launched so
that they go to sleep after some 40 µs, which costs kernels in a row nothing.

Others are not as polite: after a matrix product, threads of OpenBLAS look for work for 20 ms, and a
parallel kernel waits for its own threads, up to 8 ms for what one thread does in 0.1. So parallel
calls are timed, and where they take longer than one thread would, that goes on alone for a while
(`Crowd`). Results do not depend on it, for they have the same bits for any number of threads.
"""

import math
import os
import platform
import sys
import threading
from collections.abc import Callable, Hashable
from time import perf_counter_ns
from typing import Any

import numba
from numba.np.ufunc import parallel as numba_pool

PARALLEL_NANOSECONDS = 25_000
"""Work, in the time of one thread, from which on two are faster: they take some 8 µs besides."""

SPINS = 1000 if platform.machine().lower() in ("x86_64", "amd64") else 30_000
"""How often an idle thread of GNU OpenMP looks for work; on x86, with a pause each time."""

_pool = threading.Lock()
_serial_only = False


class Crowd:
    """Whether there are cores for the threads of parallel calls, by how long these take.

    A call is late if it takes longer than one thread would. That time is first guessed, then known
    better by parallel calls that were fast: it is at most as many times theirs as there were
    threads. What late calls lose is set against what others win. When more is lost than chance and
    sleeping threads can make a call lose, a pause begins, in which one thread goes alone and its
    time is measured. Then parallel calls try again. If they lose too, another pause follows, twice
    as long.
    """

    LATE = 2.0
    """Times the rough time: what one thread takes at most, before that is known better."""

    PATIENCE, CHANCE = 1_000_000, 600_000
    """Nanoseconds: what calls may lose before a pause, and the most that one of them counts for.

    Others may interrupt a call for any time, and the calls after a sleep lose up to 0.4 ms together
    until the threads are awake.
    """

    CALLS = 4
    """Of a pause, at least."""

    SHORTEST, LONGEST = 4_000_000, 256_000_000
    """Nanoseconds of a pause: late calls take up to 8 ms."""

    def __init__(self) -> None:
        self._serial: dict[Hashable, float] = {}  # by kind of call, at most, over the rough time
        self._pause = self._end = self._calls = 0
        self._lost = 0.0

    def goes_alone(self, now: int) -> bool:
        """Whether a call that begins now, in nanoseconds, is one of a pause."""
        self._calls -= 1
        return self._calls >= 0 or now < self._end

    def took(self, kind: Hashable, rough: float, threads: int, took: int, now: int) -> None:
        """Learn how long a call took, in which one thread alone was thought to take the rough time.

        It would take, at most, as many times as long as there were threads.
        """
        known, found = self._serial.get(kind), threads * took / rough
        serial = self.LATE if known is None else known
        guess = math.inf if threads == 1 else serial  # which no longer counts if it is measured
        if known is None or found < known:
            self._serial[kind] = min(guess, found)
        if threads == 1:
            return
        self._lost += min(took - rough * serial, self.CHANCE)
        if self._lost <= 0:
            self._pause, self._lost = 0, 0.0
        elif self._lost > self.PATIENCE:
            self._serial.clear()
            self._pause = min(max(2 * self._pause, self.SHORTEST), self.LONGEST)
            self._end, self._calls = now + self._pause, self.CALLS
            self._lost = 0.0


_crowd = Crowd()


def run(
    kernel_of: Callable[..., Any],
    variant: tuple[Any, ...],
    arguments: tuple[Any, ...],
    nanoseconds: float,
    num_threads: int | None,
    form: Hashable = None,
) -> Any:
    """Call the serial or the parallel kernel of a variant, whichever suits the amount of work.

    Both give the same bits. The parallel one is left aside where it would be dangerous: while
    another Python thread is inside a parallel region (Numba's workqueue layer would abort the
    process), and in a forked child of a process whose pool was running (libgomp would). The form of
    the arguments is found out unless it is given. Returns the kernel's reduced value and its
    status, -1 for success.
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
        form = form_of(arguments) if form is None else form
        kind = kernel_of, variant, form, int(nanoseconds).bit_length()
        alone = _crowd.goes_alone(perf_counter_ns())
        kernel = kernel_of(*variant, not alone)
        compiled = len(kernel.overloads)
        if threads != before:
            numba.set_num_threads(threads)
        start = perf_counter_ns()
        try:
            result = kernel(*arguments)
        finally:
            end = perf_counter_ns()
            if threads != before:
                numba.set_num_threads(before)
        # A call that has compiled or loaded its kernel, that has refused its arguments, or in which
        # nothing counts, is not judged.
        value, status = result
        if status == -1 and value != 0.0 and len(kernel.overloads) == compiled:
            _crowd.took(kind, nanoseconds, 1 if alone else threads, end - start, end)
        return result
    finally:
        _pool.release()


def form_of(arguments: tuple[Any, ...]) -> Hashable:
    """Return what tells a kernel's calls from those that compute other things: all their types."""
    return tuple(
        [
            form_of(x) if isinstance(x, tuple) else getattr(x, "dtype", None) or type(x)
            for x in arguments
        ]
    )


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
