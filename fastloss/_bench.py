"""The measurement behind ``fastloss bench``: every candidate in turn, on the same arrays.

On a machine that others use too, or that changes its clock, two timings taken one after the other
can differ threefold. So the candidates take turns in rounds, in an order that is shuffled anew each
round, and their medians are compared.
"""

import datetime
import importlib.metadata
import itertools
import math
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numba
import numpy as np

import fastloss as fl
from fastloss import _bench_truth, _peers, _threads
from fastloss._peers import Candidate, Missing, Work

OURS = "fastloss"

SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "softmax": ((32, 10), (1024, 10), (65536, 10), (256, 1000), (8192, 1000), (512, 50257)),
    "elementwise": ((320,), (10_000,), (1_000_000,), (10_000_000,)),
    "rowwise": ((32, 10), (1024, 100), (8192, 128)),
}
"""Measured by default: a small batch, arrays that fit into a cache, and larger ones."""

MAIN = ("softmax_cross_entropy", "sigmoid_cross_entropy", "mse")
"""The losses that are measured at every shape and in both types; of the others, unless they are
asked for by name, one case tells enough."""

BRIEF = {"softmax": (1024, 100), "elementwise": (1_000_000,), "rowwise": (1024, 100)}

MINIMUM_ROUNDS = 5
SETTLE_SECONDS = 3e-2
"""The pause before a turn, in which the idle threads of the candidate before stop spinning: those
of GNU OpenMP after 12 ms, of OpenBLAS after 20."""

WARM_SECONDS = 5e-3
"""Calls that do not count: sleeping threads wake up, which can take milliseconds, and the arrays
come back into the caches."""

TURN_SECONDS = 1e-2
"""A turn then repeats a short call for so long."""

CONFIDENT = 20.0
"""How sure of its label the first row is: ``log(p / (1 - p))``."""


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    losses: tuple[str, ...] = ()  # all by default
    shapes: tuple[tuple[int, ...], ...] = ()  # SHAPES by default
    dtypes: tuple[str, ...] = ("float32", "float64")
    threads: int = 1
    seconds: float = 2.0
    mode: str = "gradient"

    def cases(self) -> "list[Case]":
        """Return the cases in the order of the tables."""
        everything = [*MAIN, *(name for name in fl.losses() if name not in MAIN)]
        return [
            Case(name, dtype, shape, self.mode)
            for name in self.losses or everything
            for dtype in self.dtypes[: None if self.losses or name in MAIN else 1]
            for shape in self.shapes or self._shapes(name)
            if len(shape) == 2 or fl.losses()[name].family == "elementwise"
        ]

    def _shapes(self, name: str) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of a loss: a single one for those that only complete the list."""
        family = fl.losses()[name].family
        return SHAPES[family] if self.losses or name in MAIN else (BRIEF[family],)

    def command(self) -> str:
        """Return the command line that repeats the measurement."""
        words = ["fastloss bench"]
        words += [f"--loss {name}" for name in self.losses]
        if self.shapes:
            words.append("--shapes " + ",".join("x".join(map(str, shape)) for shape in self.shapes))
        if len(self.dtypes) == 1:
            words.append(f"--dtype {self.dtypes[0]}")
        words.append(f"--threads {self.threads}")
        words += [f"--seconds {self.seconds:g}"] if self.seconds != Settings.seconds else []
        words += [f"--mode {self.mode}"] if self.mode != Settings.mode else []
        return " ".join(words)


@dataclass(frozen=True)
class Case:
    """One loss on arrays of one shape and type."""

    loss: str
    dtype: str
    shape: tuple[int, ...]
    mode: str = "gradient"

    @property
    def label(self) -> str:
        """The case within its loss's table."""
        return f"{self.dtype} {'×'.join(map(str, self.shape))}"

    @property
    def size(self) -> int:
        """The number of elements of pred."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Timing:
    """Seconds for one call: the median of the rounds, and how they spread."""

    median: float
    minimum: float
    lower_quartile: float
    upper_quartile: float
    rounds: int
    calls_per_round: int


@dataclass(frozen=True)
class Row:
    """What was measured in one case; times of the candidates and of the limits, errors in ulp.

    The names in `textbook` are those of candidates that do not count as peers.
    """

    case: Case
    times: dict[str, Timing]
    limits: dict[str, Timing]
    limit_names: dict[str, str]
    errors: dict[str, float]
    textbook: tuple[str, ...] = ()

    @property
    def best_peer(self) -> str | None:
        """The fastest of the others, if there are any."""
        peers = self.times.keys() - {OURS, *self.textbook}
        return min(peers, key=self.seconds) if peers else None

    @property
    def fastest(self) -> str:
        """The fastest of all."""
        return OURS if self.speedup is None or self.speedup > 1 else str(self.best_peer)

    @property
    def speedup(self) -> float | None:
        """How many times faster than the best peer."""
        peer = self.best_peer
        return None if peer is None else self.seconds(peer) / self.seconds(OURS)

    @property
    def price(self) -> float:
        """The time as a multiple of the limit's."""
        return self.seconds(OURS) / self.limits["limit"].minimum

    def seconds(self, name: str) -> float:
        """Return the median time of a candidate."""
        return self.times[name].median


@dataclass
class Report:
    """The rows measured so far, and under which conditions."""

    settings: Settings
    rows: list[Row] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold (NaN and infinity as text)."""

        def plain(error: float) -> float | str:
            return error if math.isfinite(error) else str(error)

        return {
            "command": self.settings.command(),
            **self.conditions,
            "missing": self.missing,
            "rows": [
                asdict(row)
                | {"errors": {name: plain(error) for name, error in row.errors.items()}}
                | {"best_peer": row.best_peer, "speedup": row.speedup, "price": row.price}
                for row in self.rows
            ],
        }


def available_threads() -> int:
    """Return the number of threads that Numba may use."""
    return int(numba.config.NUMBA_NUM_THREADS)


def current_threads() -> int:
    """Return the number of threads that Numba is set to use."""
    return _threads.current_threads()


def run(report: Report, progress: Callable[[str, float], None]) -> Iterator[Row]:
    """Measure all cases.

    Parameters
    ----------
    report : Report
        Holds the settings; receives the rows, the conditions and the peers that are missing.
    progress : callable
        Told what is done next, and how many cases are done (a fraction within a case).

    Yields
    ------
    Row
        As soon as it is measured.
    """
    settings = report.settings
    if "jax" not in sys.modules:
        _peers.set_jax_threads(settings.threads)
    threads = current_threads()
    numba.set_num_threads(settings.threads)
    try:
        for done, case in enumerate(settings.cases()):
            title = f"{case.loss} {case.label}"

            def prepare(what: str, title: str = title, done: int = done) -> None:
                progress(f"{title}: preparing {what}", done)

            def advance(share: float, title: str = title, done: int = done) -> None:
                progress(title, done + share)

            work = prepare_work(case, settings.threads)
            candidates = build(work, report.missing, prepare)
            limits = _peers.limits(work)
            prepare("the truth")
            errors = {}
            true = _bench_truth.truth(work)
            for name, candidate in candidates.items():
                errors[name] = _bench_truth.error(work, candidate, true)
            everything = candidates | {name: limit for name, (_, limit) in limits.items()}
            times = measure(everything, settings.seconds, advance)
            row = Row(
                case,
                {name: times[name] for name in candidates},
                {name: times[name] for name in limits},
                {name: full for name, (full, _) in limits.items()},
                errors,
                tuple(name for name, candidate in candidates.items() if candidate.textbook),
            )
            report.rows.append(row)
            report.conditions = conditions(settings)
            yield row
    finally:
        numba.set_num_threads(threads)


def prepare_work(case: Case, threads: int) -> Work:
    """Draw the arrays of a case; the first row of a classification is a confident one."""
    loss, rng = fl.losses()[case.loss], np.random.default_rng(0)
    arrays = loss.sample(rng, case.dtype, case.shape)
    if loss.family == "rowwise" or loss._other_names:
        keywords = {}
        if loss.family == "elementwise":
            keywords[loss._other_names[0]] = (1 + rng.random(case.shape)).astype(case.dtype)
        target = arrays[1] if len(arrays) > 1 else None
        gradient = case.mode == "gradient"
        return Work(loss, arrays[0], target, gradient, threads, {}, arrays[2:], keywords)
    pred, target = arrays
    if loss.family == "softmax":
        others = max(case.shape[-1] - 1, 1)
        pred[0] = 0
        pred[0, target[0]] = CONFIDENT + math.log(others)
    elif loss._properties["target"] == "probability" and loss._properties["pred"] == "real":
        # Labels, because the gradient of a soft one can cancel, in every library alike.
        target = np.rint(target)
        pred.flat[0], target.flat[0] = CONFIDENT, 1
    return Work(loss, pred, target, case.mode == "gradient", threads)


def build(
    work: Work, missing: dict[str, str], prepare: Callable[[str], None] = lambda name: None
) -> dict[str, Candidate]:
    """Return fastloss and every peer that has the loss and is installed.

    Parameters
    ----------
    work : Work
        The loss and its arrays.
    missing : dict
        Peers known to be missing, which are not tried again; receives those found to be.
    prepare : callable
        Told the name of each peer before it is built.

    Returns
    -------
    dict of str to Candidate
        By name, in the order of the columns.
    """
    candidates = {OURS: _peers.build_fastloss(work)}
    for name, builder in _peers.LIBRARIES.items():
        if name in missing:
            continue
        prepare(name)
        try:
            candidate = builder(work)
        except Missing as reason:
            missing[name] = str(reason)
        else:
            if candidate is not None:
                candidates[name] = candidate
    return candidates


def measure(
    candidates: dict[str, Candidate], seconds: float, advance: Callable[[float], None]
) -> dict[str, Timing]:
    """Time the candidates in rounds until the time is up; warm-up and compilation do not count."""
    repeats = {}
    for name, candidate in candidates.items():
        candidate.call()
        _warm_up(candidate.call)
        repeats[name] = math.ceil(TURN_SECONDS / max(_seconds(candidate.call, 1), 1e-9))
    order, shuffle = list(candidates), random.Random(0).shuffle
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    start = time.perf_counter()
    for done in itertools.count(1):
        shuffle(order)
        for name in order:
            time.sleep(SETTLE_SECONDS)
            _warm_up(candidates[name].call)
            samples[name].append(_seconds(candidates[name].call, repeats[name]))
        share = (time.perf_counter() - start) / seconds
        advance(min(share, done / MINIMUM_ROUNDS, 1))
        if share >= 1 and done >= MINIMUM_ROUNDS:
            break
    return {name: _timing(sample, repeats[name]) for name, sample in samples.items()}


def _warm_up(call: Callable[[], Any]) -> None:
    end = time.perf_counter() + WARM_SECONDS
    call()
    while time.perf_counter() < end:
        call()


def _seconds(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _timing(sample: list[float], repeats: int) -> Timing:
    lower, median, upper = statistics.quantiles(sample, n=4, method="inclusive")
    return Timing(median, min(sample), lower, upper, len(sample), repeats)


def conditions(settings: Settings) -> dict[str, Any]:
    """Return date, CPU, threads and versions."""
    from fastloss._info import collect

    facts = collect()
    versions = {"fastloss": fl.__version__, "Python": facts["python"]}
    for package in ("numpy", "numba", "torch", "jax", "optax", "scikit-learn"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": _cpu_name(facts["cpu"]),
        "logical_cores": facts["cpu_count"],
        "threads": settings.threads,
        "threading_layer": facts["threading_layer"],
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def _cpu_name(architecture: str) -> str:
    """Return the CPU's name on the market and LLVM's name for its kind."""
    name = platform.processor()
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name} ({architecture})" if name and name != architecture else architecture
