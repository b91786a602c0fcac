"""Measure every goal that the library set itself: ``python bench/goals.py``.

Prints one line for each measurement, with the goal and whether it is met, and exits with 1 if one
is missed. ``--only REGEX`` chooses goals by their names, ``--seconds S`` sets the time for each
comparison. Take the numbers of an idle machine.
"""

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numba
import numpy as np
from suite.common import class_first as class_first_of

import fastloss as fl
from fastloss import _bench, _engine, _peers
from fastloss._bench import OURS, SHAPES, Case
from fastloss._peers import Candidate, Work

DTYPES = ("float32", "float64")
CE = "softmax_cross_entropy"
MANY_CLASSES = ((256, 1000), (8192, 1000), (512, 50257))
IN_CACHE = ((256, 1000), (1024, 100))


@dataclass(frozen=True)
class Result:
    """One measurement beside its goal."""

    what: str
    measured: float
    goal: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.measured >= self.goal if self.at_least else self.measured <= self.goal


@dataclass
class Harness:
    """What the goals share: the time for a comparison, the threads, and the peers found missing."""

    seconds: float
    threads: int
    missing: dict[str, str]

    def work(self, loss: str, dtype: str, shape: tuple[int, ...], mode: str = "gradient") -> Work:
        return _bench.prepare_work(Case(loss, dtype, shape, mode), self.threads)

    def times(self, candidates: dict[str, Candidate]) -> dict[str, float]:
        """Return the median times of candidates that take turns."""
        timings = _bench.measure(candidates, self.seconds, lambda share: None)
        return {name: timing.median for name, timing in timings.items()}

    def price(self, work: Work) -> float:
        """Return the time of fastloss as a multiple of the limit's."""
        times = self.times({OURS: _peers.build_fastloss(work), "limit": limit(work)})
        return times[OURS] / times["limit"]

    def speedup(self, work: Work) -> float:
        """Return how many times faster fastloss is than the best peer."""
        times = self.times(_bench.build(work, self.missing))
        return min(times[name] for name in times if name != OURS) / times[OURS]


GOALS: dict[str, Callable[[Harness], Iterator[Result]]] = {}


def goal(function: Callable[[Harness], Iterator[Result]]) -> Callable[[Harness], Iterator[Result]]:
    """Register a goal under the name of its function."""
    GOALS[function.__name__] = function
    return function


def limit(work: Work) -> Candidate:
    return _peers.limits(work)["limit"][1]


def label(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{dtype} {'x'.join(map(str, shape))}"


@goal
def many_classes(harness: Harness) -> Iterator[Result]:
    for dtype in DTYPES:
        for shape in MANY_CLASSES:
            price = harness.price(harness.work(CE, dtype, shape))
            yield Result(f"{label(dtype, shape)}: times one exp", price, 1.5)


@goal
def few_classes(harness: Harness) -> Iterator[Result]:
    for dtype in DTYPES:
        for classes, bound in ((2, 8), (3, 8), (10, 5), (32, 5)):
            price = harness.price(harness.work(CE, dtype, (65536, classes)))
            yield Result(f"{label(dtype, (65536, classes))}: times one exp", price, bound)


@goal
def class_first(harness: Harness) -> Iterator[Result]:
    for dtype in DTYPES:
        for shape in ((16, 10, 128, 128), (8, 21, 128, 128)):
            rng = np.random.default_rng(0)
            logits = (3 * rng.standard_normal(shape)).astype(dtype)
            labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
            work = Work(fl.losses()[CE], logits, labels, True, harness.threads, {"axis": 1})
            yield Result(f"{label(dtype, shape)}: times one exp", harness.price(work), 2.5)
        work = harness.work(CE, dtype, (65536, 10))
        work = replace(work, pred=np.asfortranarray(work.pred))
        yield Result(f"{dtype} Fortran 65536x10: times one exp", harness.price(work), 2.5)
    for name, loss in fl.losses().items():
        if loss.family != "elementwise" and not loss.couples_rows:
            rows = harness.work(name, "float32", (65536, 10))
            first = replace(
                rows,
                pred=class_first_of(rows.pred, 16),
                target=None if rows.target is None else class_first_of(rows.target, 16),
                more=tuple(class_first_of(array, 16) for array in rows.more),
                options={"axis": 1},
            )
            times = harness.times(
                {"rows": _peers.build_fastloss(rows), "columns": _peers.build_fastloss(first)}
            )
            yield Result(f"{name} 16x10x4096: times its rows", times["columns"] / times["rows"], 2)


@goal
def best_peer(harness: Harness) -> Iterator[Result]:
    speedups = []
    for dtype in DTYPES:
        for shape in SHAPES["softmax"]:
            speedups.append(harness.speedup(harness.work(CE, dtype, shape)))
            least = 8 if shape == (32, 10) else 2.5
            yield Result(f"{label(dtype, shape)}: times the best peer", speedups[-1], least, True)
    mean = statistics.geometric_mean(speedups)
    yield Result("geometric mean: times the best peer", mean, 5, True)


@goal
def value_only(harness: Harness) -> Iterator[Result]:
    for dtype in DTYPES:
        for shape in MANY_CLASSES:
            work = harness.work(CE, dtype, shape, "value")
            candidates = {OURS: _peers.build_fastloss(work), "limit": limit(work)}
            try:
                candidates["PyTorch"] = _peers.build_torch(work)
            except _peers.Missing as reason:
                harness.missing["PyTorch"] = str(reason)
            times = harness.times(candidates)
            ratio = times[OURS] / times["limit"]
            yield Result(f"{label(dtype, shape)}: times one exp", ratio, 1.1)
            if "PyTorch" in times:
                ratio = times["PyTorch"] / times[OURS]
                yield Result(f"{label(dtype, shape)}: times torch's forward", ratio, 4, True)


@goal
def dense_targets(harness: Harness) -> Iterator[Result]:
    for dtype in DTYPES:
        for shape in MANY_CLASSES:
            labels = harness.work(CE, dtype, shape)
            target = np.random.default_rng(1).random(shape).astype(dtype)
            target /= target.sum(axis=1, keepdims=True)
            dense = replace(labels, target=target)
            times = harness.times(
                {"labels": _peers.build_fastloss(labels), "dense": _peers.build_fastloss(dense)}
            )
            ratio = times["dense"] / times["labels"]
            yield Result(f"{label(dtype, shape)}: times the labels", ratio, 1.6)
            ratio = harness.speedup(dense)
            yield Result(f"{label(dtype, shape)}: times the best peer", ratio, 3, True)


@goal
def sigmoid(harness: Harness) -> Iterator[Result]:
    for dtype in DTYPES:
        price = harness.price(harness.work("sigmoid_cross_entropy", dtype, (10**6,)))
        yield Result(f"{dtype} 10^6: times one exp", price, 2.5)


@goal
def squares(harness: Harness) -> Iterator[Result]:
    for dtype in DTYPES:
        for exponent in (6, 7):
            price = harness.price(harness.work("mse", dtype, (10**exponent,)))
            yield Result(f"{dtype} 10^{exponent}: times one add", price, 1.2)


@goal
def catalogue(harness: Harness) -> Iterator[Result]:
    """Every loss against its limit, and PyTorch where it has the loss, at 10^6 and 10^3.

    A row loss's limit is cross-entropy, as many times as it reads and writes more arrays.
    """
    for name, loss in fl.losses().items():
        elementwise = loss.family == "elementwise"
        for shape in ((10**6,), (10**3,)) if elementwise else ((10_000, 100), (100, 10)):
            work = harness.work(name, "float32", shape)
            candidates = {OURS: _peers.build_fastloss(work), "limit": limit(work)}
            if not elementwise:
                candidates[CE] = _peers.build_fastloss(harness.work(CE, "float32", shape))
            peer = _peers.build_torch(work)
            if peer is not None:
                candidates["PyTorch"] = peer
            times = harness.times(candidates)
            ours = times[OURS]
            if elementwise and work.pred.size == 10**6:
                operation = work.peers.limit
                ratio = ours / times["limit"]
                bound = 3 if operation == "exp" else 1.3
                yield Result(f"{name} {label('', shape)}: times one {operation}", ratio, bound)
            elif not elementwise and not loss.couples_rows:  # rows that meet all others: other work
                ratio = ours / times[CE]
                yield Result(f"{name} {label('', shape)}: times {CE}", ratio, 1.3 * traffic(work))
            if peer is not None:
                ratio = times["PyTorch"] / ours
                yield Result(f"{name} {label('', shape)}: times PyTorch", ratio, 3, True)


def traffic(work: Work) -> float:
    """Return how many arrays of the batch's shape are read and written; cross-entropy has two."""
    read = sum(array.shape == work.pred.shape for array in work.inputs)
    return (read + 1 + len(work.loss._other_names)) / 2


@goal
def small_call(harness: Harness) -> Iterator[Result]:
    for dtype in DTYPES:
        work = harness.work(CE, dtype, (32, 10))
        whole = _peers.build_fastloss(work)
        times = harness.times({"whole": whole, "bare": bare_entry(work)})
        ratio = times["whole"] / times["bare"]
        yield Result(f"{dtype} 32x10: times the bare compiled entry", ratio, 2.5)


def bare_entry(work: Work) -> Candidate:
    """Return the call of the compiled entry that a small call ends in."""
    arguments = work.pred, work.target, np.empty_like(work.pred)
    limit = 10 * work.pred.size  # more than enough
    entry, value = _engine.softmax_entry(work.loss._scalar, False, True, (), limit, *arguments)
    assert value is not None, "the entry has refused"
    return Candidate(lambda: entry(*arguments))


@goal
def two_threads(harness: Harness) -> Iterator[Result]:
    for dtype in DTYPES:
        for shape in IN_CACHE:
            candidate = _peers.build_fastloss(harness.work(CE, dtype, shape))

            def with_threads(count: int, call: Callable[[], object] = candidate.call) -> Candidate:
                def threaded() -> None:
                    numba.set_num_threads(count)
                    call()

                return Candidate(threaded)

            try:
                times = harness.times({"one": with_threads(1), "two": with_threads(2)})
            finally:
                numba.set_num_threads(harness.threads)
            ratio = times["one"] / times["two"]
            yield Result(f"{label(dtype, shape)}: one thread to two", ratio, 1.8, True)


@goal
def sizes(harness: Harness) -> Iterator[Result]:
    for dtype in DTYPES:
        for classes in (16, 1024):
            before = math.inf
            for exponent in range(10, 28):
                shape = (max(1, 2**exponent // classes), classes)
                call = {OURS: _peers.build_fastloss(harness.work(CE, dtype, shape))}
                each = harness.times(call)[OURS] / math.prod(shape)
                # The step out of cache is allowed to be larger; it shows by itself.
                what = f"{dtype} C={classes} 2^{exponent}: {1e9 * each:.3f} ns, times the smaller"
                yield Result(what, each / before, 1.5)
                before = each


def process(*programs: str, rounds: int = 7, **environment: str) -> list[float]:
    """Return the median times that programs print, each in fresh processes that take turns."""
    times: list[list[float]] = [[] for _ in programs]
    for _ in range(rounds):
        for program, samples in zip(programs, times, strict=True):
            code = f"import time; start = time.perf_counter()\n{program}"
            code += "\nprint(time.perf_counter() - start)"
            output = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            samples.append(float(output))
    return [statistics.median(samples) for samples in times]


@goal
def importing(harness: Harness) -> Iterator[Result]:
    ours, numbas = process("import fastloss", "import numba")
    yield Result("ms beyond import numba", 1e3 * (ours - numbas), 50)


FIRST_CALLS = (
    ("mse", 10),
    ("nll", 10),
    ("softmax_cross_entropy", 10),
    ("softmax_cross_entropy", 100),
)
"""A loss of each family; few classes and many are different kernels."""


@goal
def first_calls(harness: Harness) -> Iterator[Result]:
    numba_starts = "import numba, numpy as np\n@numba.njit(cache=True)\ndef f(x): return x\nf(1.0)"
    for name, classes in FIRST_CALLS:
        imports = (
            f"import numpy as np, fastloss as fl\nloss, rng = fl.{name}, np.random.default_rng()"
        )
        call = f"loss.value_and_grad(*loss.sample(rng, 'float32', (32, {classes})))"
        program = f"{imports}\n{call}"
        timed = f"{imports}\nstart = time.perf_counter()\n{call}"
        name = f"{name} of {classes} columns"
        cold = []
        for _ in range(3):
            with tempfile.TemporaryDirectory() as empty:
                cold += process(timed, rounds=1, NUMBA_CACHE_DIR=empty)
        yield Result(f"{name}: s, cold cache", statistics.median(cold), 3)
        with tempfile.TemporaryDirectory() as cache:
            # A function of a file, because Numba does not cache those of a command line.
            source = Path(cache) / "starting.py"
            source.write_text(numba_starts)
            start = f"import sys; sys.path.insert(0, {cache!r})\nimport starting"
            process(program, start, rounds=1, NUMBA_CACHE_DIR=cache)
            whole, numbas = process(program, start, NUMBA_CACHE_DIR=cache)
        yield Result(f"{name}: ms beyond numba's start", 1e3 * (whole - numbas), 150)


@goal
def memory(harness: Harness) -> Iterator[Result]:
    program = """
from pathlib import Path
from fastloss import _bench, _peers
case = _bench.Case({name!r}, {dtype!r}, {shape})
work = _bench.prepare_work(case, 1)
call = _peers.build_fastloss(work).call
def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))
call()
Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
before = status("VmRSS")
call()
extra = status("VmHWM") - before
start = time.perf_counter() - extra  # what is printed is the extra memory, not a time
"""
    if not Path("/proc/self/clear_refs").exists():
        return
    for name, loss in fl.losses().items():
        elementwise = loss.family == "elementwise"
        if loss.couples_rows:  # its similarities, 4 MB at a time, and its products are no kernel's
            continue
        for dtype in DTYPES:
            for size in ((2**22,),) if elementwise else ((4096, 1000), (200_000, 20)):
                code = program.format(name=name, dtype=dtype, shape=size)
                extra = max(0, round(process(code, rounds=1)[0])) / harness.threads
                yield Result(f"{name} {label(dtype, size)}: MB per thread", extra / 1e6, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="REGEX", help="goals to measure")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each comparison")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    options = parser.parse_args()
    threads = _bench.current_threads()
    _peers.set_jax_threads(threads)
    harness = Harness(options.seconds, threads, {})
    records = []
    for name, function in GOALS.items():
        if not re.search(options.only, name):
            continue
        print(f"{name.replace('_', ' ')}", flush=True)
        for result in function(harness):
            sign = "≥" if result.at_least else "≤"
            verdict = "" if result.met else "  MISSED"
            print(
                f"  {result.what:<58}{result.measured:9.3g}  {sign} {result.goal:g}{verdict}",
                flush=True,
            )
            records.append({"name": name, **asdict(result), "met": result.met})
    for reason in harness.missing.values():
        print(f"not measured: {reason}")
    met = sum(record["met"] for record in records)
    print(f"{met} of {len(records)} met, on {threads} threads, {time.strftime('%Y-%m-%d')}")
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    return 0 if met == len(records) else 1


if __name__ == "__main__":
    sys.exit(main())
