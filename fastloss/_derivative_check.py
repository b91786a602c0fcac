"""What `Loss.check` does: a loss's derivatives beside those of its values.

The values are those of `reference`, in the widest type of the machine: a complex step through them
gives slopes to the last digit, differences of slopes give curvatures. Where a function takes no
complex numbers, differences serve for slopes too. A derivative may be off by as much as it changes
when the number it is taken by moves a little; so at a kink whatever lies between the slopes of both
sides is right.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fastloss._interpreted import slope_of
from fastloss._options import Option
from fastloss._validate import Array

if TYPE_CHECKING:
    from fastloss._loss import Loss

EXTREMES: dict[str, tuple[float, ...]] = {
    "real": (-1e3, -10, -1, -1e-3, 0, 1e-3, 1, 10, 1e3),
    "positive": (1e-3, 1, 30, 1e3),
    "count": (0, 1, 30),
    "probability": (1e-6, 0.5, 1 - 1e-6),
    "log probability": (-14, -0.7, -1e-6),
    "sign": (-1, 1),
}
"""Numbers towards the ends of the domains of elementwise losses.

Between 10 and 1000 stand those where a textbook's ``log(1 - sigmoid(x))`` has lost its digits.
"""

INSIDE = {
    "real": (-np.inf, np.inf),
    "positive": (0, np.inf),
    "count": (0, np.inf),
    "probability": (0, 1),
    "log probability": (-np.inf, 0),
    "sign": (-np.inf, np.inf),
}
"""Between what the predictions of a domain lie."""

ROWS, CLASSES = 12, 5
NEAR = 1e-12  # by which a number moves, relative to the largest number beside it
BEND = 1e-6  # the step of the differences of slopes
FINER = 8  # how many times that is divided by 8 where a function may bend on a smaller scale


@dataclass(frozen=True)
class Report:
    """What `Loss.check` has found: as many derivatives agree, the worst relative error of them.

    Attributes
    ----------
    loss : str
        The name of the loss.
    slopes, curvatures : int
        How many were compared.
    kinks : int
        How many of them are at or beside a kink, where a range is allowed.
    left_out : int
        How many were not compared, because the loss or its true derivative is not finite there.
    error : float
        The largest error but for kinks, relative to the number itself or to 1 if that is larger.
    """

    loss: str
    slopes: int
    curvatures: int
    kinks: int
    left_out: int
    error: float

    def __str__(self) -> str:
        return (
            f"{self.loss}: {self.slopes} slopes and {self.curvatures} curvatures agree to "
            f"{self.error:.1e}, {self.kinks} of them at kinks; {self.left_out} left out"
        )


@dataclass
class _Found:
    """What the comparisons have found so far."""

    counts: Counter[str] = field(default_factory=Counter)
    error: float = 0.0
    share: float = 1.0  # of the error that is allowed
    worst: str = ""

    def add(
        self,
        what: str,
        at: "_Derivative",
        losses: Array,
        given: Array,
        expected: tuple[Array, Array],
    ) -> None:
        """Compare derivatives with what is expected, and the errors with those allowed."""
        true, allowed = expected
        finite = np.isfinite(losses) & np.isfinite(true) & np.isfinite(allowed)
        error = np.where(finite, abs(given - true), 0)
        self.counts[what] += int(np.sum(finite))
        self.counts["left out"] += int(np.sum(~finite))
        wrong = finite & ~(error <= allowed)  # NaN is wrong
        self.counts["wrong"] += int(np.sum(wrong))
        size = np.maximum(1, abs(true))
        smooth = finite & ~wrong & (allowed <= 1e-4 * size)
        self.counts["at kinks"] += int(np.sum(finite & ~wrong & ~smooth))
        self.error = max(self.error, float((error / size)[smooth].max(initial=0)))
        share = np.where(wrong, np.nan_to_num(error / allowed, nan=np.inf), 0)
        if share.max(initial=0) > self.share:
            first = np.unravel_index(np.argmax(share), share.shape)
            self.share = float(share[first])
            self.worst = (
                f"the {what} by {at.name} is {given[first]} where it should be {true[first]}, "
                f"at {at.point(first)}"
            )


def checked(loss: "Loss", seed: int) -> Report:
    """Compare a loss's derivatives; see `Loss.check`."""
    rng, found = np.random.default_rng(seed), _Found()
    for options in _option_sets(loss):
        with np.errstate(all="ignore"):
            _compare(loss, *_points(loss, rng, options), options, found)
    counts = found.counts
    if not counts["slope"]:
        raise AssertionError(f"{loss.name}: nothing was compared: it is nowhere finite")
    if counts["wrong"]:
        total = counts["slope"] + counts["curvature"]
        raise AssertionError(f"{loss.name}: {found.worst}; {counts['wrong']} of {total} are wrong")
    return Report(
        loss.name,
        counts["slope"],
        counts["curvature"],
        counts["at kinks"],
        counts["left out"],
        found.error,
    )


def _option_sets(loss: "Loss") -> Iterator[dict[str, Any]]:
    """Yield no options, and each option by itself with its example."""
    yield {}
    for name, option in loss.options.items():
        if not option.bounds_loss_only and (example := _example(option)) is not None:
            yield {name: example}


def _example(option: Option) -> Any:
    """Return a value of an option's domain that is not its default."""
    if option.example is not None or not isinstance(option.default, (int, float)):
        return option.example
    tried = (option.default * factor + (not option.default) for factor in (0.5, 2.0, 0.9, 1.1))
    return next((x for x in tried if x != option.default and option.holds(x)), None)


# The points.


def _points(
    loss: "Loss", rng: np.random.Generator, options: dict[str, Any]
) -> tuple[tuple[Array, ...], dict[str, Array]]:
    """Return the arrays to try a loss at, those that it takes by position and by name."""
    if loss.family != "elementwise":
        rows, *others = loss.sample(rng, np.float64, (ROWS, CLASSES))
        rows[0] = rows[0, 0]  # all numbers are equal
        if loss.family == "softmax" or loss._properties["domains"][0] == "real":
            rows[1::3] *= 20
        return (rows, *others), {}
    pred, target = (array.tolist() for array in loss.sample(rng, np.float64, (64,)))
    domains = loss._properties["pred"], loss._properties["target"]
    for x in EXTREMES[domains[0]]:
        pred += [x] * len(EXTREMES[domains[1]])
        target += EXTREMES[domains[1]]
    numbers = [x for x in options.values() if isinstance(x, float)]
    defaults = [x.default for x in loss.options.values() if isinstance(x.default, float)]
    low, high = INSIDE[domains[0]]
    for t in (*target[:4], 0.0, 1.0):  # where kinks may be, and beside them
        for distance in {0.0, 1.0, *numbers, *defaults}:
            for kink in (t + distance, t - distance, distance, -distance):
                beside = [
                    x for x in (kink, kink - 1e-9, kink + 1e-9) if low + 1e-4 < x < high - 1e-4
                ]
                pred += beside
                target += [t] * len(beside)
    second = {name: rng.uniform(0.5, 2, len(pred)) for name in loss._other_names}
    return (np.asarray(pred), np.asarray(target)), second


# The comparison.


class _Derivative:
    """The loss as a function of some of its numbers, one in each row, and its true derivatives."""

    def __init__(
        self,
        loss: "Loss",
        inputs: dict[str, Array],
        keywords: dict[str, Any],
        name: str,
        place: Any,
    ) -> None:
        self.loss, self.keywords, self.name, self.place = loss, keywords, name, place
        self.inputs = {key: _widened(array) for key, array in inputs.items()}
        self.x = np.asarray(self.inputs[name][place])
        sizes = [abs(array) for array in self.inputs.values() if array.dtype.kind == "f"]
        if loss.family == "elementwise":
            self.scale = np.maximum(np.max(sizes, axis=0), 1e-3)
        else:
            self.scale = sizes[0].max(axis=None if loss.couples_rows else -1)

    def values(self, x: Array) -> Array:
        """Return the losses, those that x can change, where it is put into its place."""
        changed = dict(self.inputs)
        changed[self.name] = changed[self.name].astype(x.dtype)
        changed[self.name][self.place] = x
        arrays = [changed.pop(name) for name in self.loss._arguments]
        losses = self.loss.reference(*arrays, **changed, **self.keywords, reduction="none")[0]
        return np.asarray(losses.sum() if self.loss.couples_rows else losses)

    def point(self, index: Any) -> str:
        """Return in words the inputs and options at one of the derivatives."""
        row = self.place[:-1] if self.loss.couples_rows else index
        parts = [f"{name}={array[row]}" for name, array in self.inputs.items()]
        parts += [f"{name}={value}" for name, value in self.keywords.items()]
        if self.loss.family != "elementwise":
            parts.append(f"number {self.place[-1]} of the row")
        return ", ".join(parts)

    def slope(self) -> tuple[Array, Array]:
        """Return the slopes, and the errors that are allowed."""
        slope, step = slope_of(self.values, self.x)
        move = np.maximum(NEAR * self.scale, 2 * step)
        near = [abs(slope_of(self.values, self.x + h)[0] - slope) for h in (move, -move)]
        rounding = 1e-13 * np.maximum(1, abs(self.values(self.x)) / self.scale)
        return slope, 1e-7 * abs(slope) + np.max(near, axis=0) + rounding

    def curvature(self, given: Array) -> tuple[Array, Array]:
        """Return the curvatures, and the errors that are allowed.

        Where those given differ, shorter steps may tell why: by neighbouring differences that agree
        better. Where no step brings these together, at a singularity, nothing is known.
        """
        slope, least = slope_of(self.values, self.x)
        step = first = np.maximum(BEND * self.scale, least)
        rounding = 1e-9 * np.maximum(1, abs(slope) / self.scale)  # over the first step
        best, near = self._difference_of_slopes(step)
        allowed = 1e-5 * abs(best) + near + rounding
        apart = near / abs(best)
        for _ in range(FINER):
            if np.all(abs(given - best) <= allowed):
                return best, allowed
            step = np.maximum(step / 8, least)
            here, near = self._difference_of_slopes(step)
            better = near < 0.5 * apart * abs(here)
            best, apart = np.where(better, here, best), np.where(better, near / abs(here), apart)
            finer = 1e-5 * abs(here) + near + rounding * first / step
            allowed = np.where(better, finer, allowed)
        singular = (apart > 0.1) & (allowed > 2 * rounding)
        return best, np.where(singular & (abs(given - best) > allowed), np.inf, allowed)

    def _difference_of_slopes(self, step: Array) -> tuple[Array, Array]:
        """Return the curvatures by differences over two steps, and what they change beside."""
        slopes = [slope_of(self.values, self.x + k * step)[0] for k in (-3, -1, 1, 3)]
        before, here, behind = np.diff(slopes, axis=0) / (2 * step)
        return here, abs(before - here) + abs(behind - here)


def _compare(
    loss: "Loss",
    arrays: tuple[Array, ...],
    named: dict[str, Array],
    options: dict[str, Any],
    found: _Found,
) -> None:
    inputs = dict(zip(loss._arguments, arrays, strict=True)) | named
    keywords: dict[str, Any] = {**named, **options, "reduction": "none"}
    try:
        losses, gradients, hessians = loss.value_grad_hess(*arrays, **keywords)
    except NotImplementedError:
        (losses, gradients), hessians = loss.value_and_grad(*arrays, **keywords), None
    names = (loss._pred_name, *(named or loss._other_names))
    for k, name in enumerate(names):
        for place in _places(loss, arrays[0]):
            derivative = _Derivative(loss, inputs, options, name, place)
            value = losses.sum() if loss.couples_rows else losses
            found.add("slope", derivative, value, _tuple(gradients)[k][place], derivative.slope())
            if hessians is not None:
                given = _tuple(hessians)[k][place]
                found.add("curvature", derivative, value, given, derivative.curvature(given))


def _places(loss: "Loss", pred: Array) -> Iterator[Any]:
    """Yield where the numbers stand by which derivatives are taken at once: one in each row."""
    if loss.family == "elementwise":
        yield ...
    elif loss.couples_rows:
        yield from np.ndindex(pred.shape)
    else:
        yield from ((..., c) for c in range(pred.shape[-1]))


def _tuple(derivatives: Any) -> tuple[Any, ...]:
    return derivatives if isinstance(derivatives, tuple) else (derivatives,)


def _widened(array: Array) -> Array:
    return array.astype(np.longdouble) if array.dtype.kind == "f" else array
