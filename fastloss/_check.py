"""The comparison behind ``fastloss check``: every loss against its own textbook formula.

The truth is the loss's `reference` in the widest floating type of the machine. The error allowed at
a number is the sum of

- the bound the loss states, in units in the last place (ulp) of the true number (for a softmax it
  grows by 2 with each unit of the spread of the row's logits; the mean of all losses is allowed the
  rounding of a sum in float64 on top), and
- how far the true number moves when each input and option moves by two epsilons of the type: one
  for its own rounding, which no program can undo, one for that of what is computed from it. For
  soft targets this covers the difference of two nearly equal numbers. Row losses subtract sums, of
  distances for instance, which have roundings of their own, and so do the focal and generalized
  cross-entropies of soft targets: they are allowed this once for each ulp of their bound.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloss._loss import Loss

EXAMPLES: dict[str, Any] = {
    "axis": 0,
    "class_weight": "per class",
    "ignore_index": 1,
    "log_var": "like pred",
}
"""What to try of the keywords of a family; an option's record names its own example."""

SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "elementwise": ((257,), (33, 7), (300, 400)),
    "softmax": ((256, 10), (9, 1000), (2000, 60)),
    "rowwise": ((256, 10), (9, 500), (1000, 60)),
}
"""An odd size, a small one and, last, one large enough for the parallel kernel."""

FLUSHED = 128
"""Smallest normal numbers by which a result may be off: powers below one count as 0, before they
are multiplied by a scale."""

MEAN = 2
"""Ulp of float64 by which adding up the losses and dividing the sum may change their mean."""

MOVES = 16
"""How often the inputs are moved, each number up or down at random; the largest effect counts.

With fewer, some of the many gradient entries see only moves that cancel.
"""


@dataclass(frozen=True)
class Result:
    """The worst errors of one loss in one dtype with one set of options."""

    dtype: str
    options: str
    loss_error: float
    gradient_error: float
    share: float

    @property
    def passed(self) -> bool:
        """Whether every error is within what is allowed; a NaN is not."""
        return self.share <= 1


def check(loss: Loss) -> Iterator[Result]:
    """Measure the errors of a loss.

    Parameters
    ----------
    loss : Loss
        One loss of the registry.

    Yields
    ------
    Result
        One for each dtype and each set of options.
    """
    for dtype in ("float32", "float64"):
        for options in _option_sets(loss):
            rng = np.random.default_rng(0)
            errors = [_measure(loss, dtype, shape, options, rng) for shape in SHAPES[loss.family]]
            # np.max and np.maximum, unlike max, let a NaN through.
            loss_error, gradient_error, share = np.max(errors, axis=0).tolist()
            label = ", ".join(f"{name} {value}" for name, value in options.items())
            yield Result(dtype, label or "default", loss_error, gradient_error, share)


def _option_sets(loss: Loss) -> Iterator[dict[str, Any]]:
    """Yield the defaults, and then each option by itself."""
    yield {}
    if loss.family == "softmax":
        yield {"target": "dense"}
    for name, option in loss.options.items():
        yield {name: option.example}
    for name in loss.family_keywords:
        if name in EXAMPLES:
            yield {name: EXAMPLES[name]}


def _measure(
    loss: Loss,
    dtype: str,
    shape: tuple[int, ...],
    options: dict[str, Any],
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """Return the worst error of loss and gradient in ulp, and the largest share of the allowed."""
    arrays = loss.sample(rng, dtype, shape)
    options = {
        name: rng.uniform(0.5, 2, shape[-1] if value == "per class" else shape).astype(dtype)
        if isinstance(value, str) and value in ("per class", "like pred")
        else value
        for name, value in options.items()
    }
    if loss._other_names and loss.family == "elementwise" and "log_var" not in options:
        options[loss._other_names[0]] = rng.uniform(0.5, 2, shape).astype(dtype)
    if options.pop("target", None) == "dense":
        arrays = (arrays[0], rng.dirichlet(np.ones(shape[-1]), shape[0]).astype(dtype))
    axis = options.get("axis", -1)
    if axis == 0:
        arrays = tuple(
            np.ascontiguousarray(array.T) if array.ndim == 2 else array for array in arrays
        )
    value, gradients = loss.value_and_grad(*arrays, **options)
    true_value, true_gradients = loss.reference(*map(_widened, arrays), **options)

    moved_value, moved_gradients = 0.0, [np.longdouble(0)] * len(_tuple(gradients))
    for _ in range(MOVES):
        near_value, near_gradients = loss.reference(
            *(_moved(array, dtype, rng) for array in arrays),
            **{name: _moved(value, dtype, rng) for name, value in options.items()},
        )
        moved_value = np.maximum(moved_value, abs(near_value - true_value))
        moved_gradients = [
            np.maximum(moved, abs(near - true))
            for moved, near, true in zip(
                moved_gradients, _tuple(near_gradients), _tuple(true_gradients), strict=True
            )
        ]

    bound: Any = np.longdouble(loss.ulp_bound)
    if loss.family == "rowwise" or loss._properties.get("curved"):
        moved_value = loss.ulp_bound * moved_value
        moved_gradients = [loss.ulp_bound * moved for moved in moved_gradients]
    if loss.grows_with_spread:
        bound = bound + 2 * np.ptp(_widened(arrays[0]), axis=axis, keepdims=True)
    mean_bound = np.max(bound) + (MEAN if dtype == "float64" else 0)
    errors = [_compare(value, true_value, moved_value, mean_bound, dtype)]
    errors += [
        _compare(gradient, true, moved, bound, dtype)
        for gradient, true, moved in zip(
            _tuple(gradients), _tuple(true_gradients), moved_gradients, strict=True
        )
    ]
    (loss_error, loss_share), *others = errors
    gradient_error, gradient_share = np.max(others, axis=0).tolist()
    return loss_error, gradient_error, float(np.maximum(loss_share, gradient_share))


def _tuple(gradients: Any) -> tuple[Any, ...]:
    return gradients if isinstance(gradients, tuple) else (gradients,)


def _compare(got: Any, true: Any, moved: Any, bound: Any, dtype: str) -> tuple[float, float]:
    """Return the worst error in ulp of `dtype` and the largest share of the allowed error."""
    error = np.abs(np.asarray(got, np.longdouble) - true)
    ulp = np.spacing(np.abs(np.asarray(true)).astype(dtype)).astype(np.longdouble)
    flushed = FLUSHED * np.finfo(dtype).smallest_normal
    return float(np.max(error / ulp)), float(np.max(error / (bound * ulp + moved + flushed)))


def _widened(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.longdouble) if array.dtype.kind == "f" else array


def _moved(value: Any, dtype: str, rng: np.random.Generator) -> Any:
    """Return a floating value moved up or down by two epsilons, number by number, others as is."""
    if isinstance(value, float):
        return value * (1 + rng.choice((-2, 2)) * float(np.finfo(dtype).eps))
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value * (
            1 + rng.choice((-1, 1), value.shape) * 2 * np.longdouble(np.finfo(dtype).eps)
        )
    return value
