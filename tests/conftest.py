"""What several test files share: random inputs, the oracle, and the comparison with it.

The oracle is a loss's own textbook `reference` in longdouble. The error allowed at a number is the
bound that the loss states, in units in the last place, plus how far the number moves when every
input moves by one epsilon of the type, which no program can promise to better.
"""

import os
import tracemalloc
from pathlib import Path

# Two threads at least, so that the parallel kernels are tested on a machine of one core too.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, os.cpu_count() or 1)))

import numpy as np
import pytest

import fastloss as fl
from fastloss import _threads

# Nor are they left aside where several tests at a time keep the cores busy.
_threads._crowd.goes_alone = lambda now: False

REPRESENTATIVES = ("mse", "sigmoid_cross_entropy", "softmax_cross_entropy")
"""The losses on which the templates are tested: in the others they are the same code, and each
kernel takes a second to compile. What a loss's own file decides is tested on all of them."""

ALL = list(fl.losses().values())
LOSSES = [loss for loss in ALL if loss.name in REPRESENTATIVES]
SOFTMAX = [loss for loss in LOSSES if loss.family == "softmax"]
ELEMENTWISE = [loss for loss in LOSSES if loss.family == "elementwise"]
PAIRS = [loss for loss in ALL if loss.family != "rowwise" and not loss._other_names]

all_losses = pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.name)
all_pairs = pytest.mark.parametrize("loss", PAIRS, ids=lambda loss: loss.name)
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
every_softmax = pytest.mark.parametrize("loss", SOFTMAX, ids=lambda loss: loss.name)
every_elementwise = pytest.mark.parametrize("loss", ELEMENTWISE, ids=lambda loss: loss.name)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])

MOVES = 8
WIDE_EPSILON = np.finfo(np.longdouble).eps


CATALOGUE = ("test_regression.py", "test_binary.py", "test_softmax_family.py", "test_margins.py")
OWN_LOSSES = ("test_dual.py", "test_own_cache.py", "test_own_faults.py", "test_own_loss.py")
LOSS_BY_LOSS = (
    "test_every_candidate_computes_the_loss",
    "test_derivatives_are_those_of_the_textbook_value",
    "test_examples_of_losses",
    "test_hessian_is_the_derivative_of_the_textbook_gradient",
    "test_labels",
    "test_options_off_their_defaults",
    "test_values_and_gradients_are_those_of_the_formula",
)

THROUGH_A_DOOR = (
    "test_check_passes_the_library",
    "test_criterion_of_every_loss",
    "test_every_candidate_computes_the_loss",
    "test_every_function_is_the_loss",
    "test_functions_are_those_of_the_losses",
    "test_losses_have_the_bits_of_calls_from_python",
)
"""Tests of a way to the kernels, or of the peers, with every loss; the thorough tests take a sample
of them, since they compile for a quarter of an hour."""

SAMPLE = ("sigmoid_cross_entropy", "softmax_cross_entropy", "triplet_margin")

OF_EVERY_CRITERION = (
    "test_buffers_change_with_shape_and_dtype_only",
    "test_single_losses_belong_to_the_caller",
    "test_steps_allocate_nothing_that_grows",
    "test_steps_use_one_buffer",
    "test_upstream_multiplies_the_gradient_and_not_the_loss",
)
"""Tests of what criteria have in common; the quick tests have those of a few of them."""

EXAMPLES_OF_MANY_LOSSES = tuple(
    f"fastloss.nn._{part}" for part in ("criterion", "elementwise", "rowwise", "textbook")
)


def pytest_collection_modifyitems(items):
    """Leave to ``-m thorough`` what compiles kernels of every single loss, or many of its own.

    The quick tests run the templates on their representatives. ``-m exhaustive`` has what would
    take even the thorough tests too long.
    """
    for item in items:
        parameters = getattr(item, "callspec", None)
        loss = parameters and parameters.params.get("loss", parameters.params.get("name"))
        name = getattr(loss, "name", loss)
        alone = item.originalname in LOSS_BY_LOSS and name not in (*REPRESENTATIVES, "nll")
        whole = item.path.name in (*CATALOGUE, *OWN_LOSSES)
        bearable = not item.get_closest_marker("exhaustive")
        if bearable and (whole or alone or name in EXAMPLES_OF_MANY_LOSSES):
            item.add_marker(pytest.mark.thorough)
        repeated = item.originalname in OF_EVERY_CRITERION and item.get_closest_marker("thorough")
        if repeated or (item.originalname in THROUGH_A_DOOR and name not in SAMPLE):
            item.own_markers[:] = [mark for mark in item.own_markers if mark.name != "thorough"]
            item.add_marker(pytest.mark.exhaustive)


@pytest.fixture
def rng():
    return np.random.default_rng(20240229)


def weight_shape(loss, pred, axis=-1):
    """Return the shape of one weight per loss."""
    if loss.family == "elementwise":
        return pred.shape
    return tuple(np.delete(pred.shape, axis).tolist())


def example_options(loss):
    """Return every option of the loss but `eps`, which selects another formula, off its default."""
    return {name: option.example for name, option in loss.options.items() if name != "eps"}


def wide(value):
    """Return floats as longdouble, anything else as it is."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value.astype(np.longdouble)
    return value


def truth(loss, pred, target, *, upstream=None, **keywords):
    """Return the oracle's value and gradient."""
    with np.errstate(all="ignore"):
        value, gradient = loss.reference(
            wide(pred), wide(target), **{name: wide(given) for name, given in keywords.items()}
        )
        if upstream is not None:
            upstream = wide(np.asarray(upstream))
            if upstream.ndim and loss.family == "softmax":
                upstream = np.expand_dims(upstream, keywords.get("axis", -1))
            elif upstream.ndim:
                upstream = upstream.reshape(upstream.shape + (1,) * (pred.ndim - upstream.ndim))
            gradient = gradient * upstream
    return value, gradient


def one_hot(labels, classes, axis=-1):
    """Return labels as a dense target; a label outside the classes gives zeros."""
    hits = np.asarray(labels)[..., None] == np.arange(classes)
    return np.moveaxis(hits, -1, axis)


def moved(value, dtype, rng):
    """Return floats moved up or down by one epsilon of `dtype`, one by one, at random."""
    step = np.longdouble(np.finfo(dtype).eps)
    if isinstance(value, float):
        return value * (1 + rng.choice((-1, 1)) * step)
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return wide(value) * (1 + rng.choice((-1, 1), value.shape) * step)
    return value


def allowed_errors(loss, pred, target, keywords):
    """Return the oracle's value and gradient and the errors allowed at them."""
    value, gradient = truth(loss, pred, target, **keywords)
    options = {*loss.options, "class_weight"} & keywords.keys()
    if loss.family == "softmax" and target.ndim < pred.ndim and options:
        # As a dense target, whose masses are moved too: options make them rounded numbers.
        keywords, axis = dict(keywords), keywords.get("axis", -1)
        ignored = target == keywords.pop("ignore_index", -100)
        weight = keywords.get("sample_weight")
        weight = np.ones(target.shape, pred.dtype) if weight is None else np.asarray(weight)
        keywords["sample_weight"] = np.where(ignored, 0, weight)
        target = one_hot(target, pred.shape[axis], axis).astype(pred.dtype)
    rng, shift, tilt = np.random.default_rng(1), 0.0, 0.0
    for _ in range(MOVES):
        near_value, near_gradient = truth(
            loss,
            moved(pred, pred.dtype, rng),
            moved(target, pred.dtype, rng),
            **{name: moved(given, pred.dtype, rng) for name, given in keywords.items()},
        )
        with np.errstate(invalid="ignore"):
            shift = np.fmax(shift, abs(near_value - value))
            tilt = np.fmax(tilt, abs(near_gradient - gradient))
    epsilon, tiny = np.finfo(pred.dtype).eps, np.finfo(pred.dtype).tiny
    bound = value_bound = loss.ulp_bound * epsilon
    if loss.family == "softmax":
        axis = keywords.get("axis", -1)
        bound = bound + 2 * epsilon * spread(pred, axis)
        value_bound = np.squeeze(bound, axis) if np.ndim(value) else bound.max(initial=0)
    # The textbook subtracts p - 1, and log S from a logit: at confident rows the oracle itself is
    # no better than its own epsilon of what these numbers are where all logits are 0.
    flat_value, flat_gradient = truth(loss, np.zeros_like(pred), target, **keywords)
    oracle = 64 * WIDE_EPSILON
    oracle_value = oracle * abs(flat_value)
    oracle_gradient = oracle * np.abs(flat_gradient).max(initial=0)
    return (
        (value, value_bound * abs(value) + 2 * shift + oracle_value + tiny),
        (gradient, bound * abs(gradient) + 2 * tilt + oracle_gradient + tiny),
    )


def spread(logits, axis):
    """Return the spread of each row's finite logits, the g of the stated bound 4 + 2 g."""
    finite = np.isfinite(logits)
    high = np.max(logits, axis, keepdims=True, initial=-np.inf, where=finite)
    low = np.min(logits, axis, keepdims=True, initial=np.inf, where=finite)
    return np.maximum(wide(high) - wide(low), 0)


def assert_within(got, expected, allowed, what):
    """Assert that errors are within what is allowed, entry by entry; NaN and inf must be equal."""
    got = np.asarray(got)
    expected, allowed = np.asarray(expected), np.broadcast_to(allowed, np.shape(expected))
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    if got.size == 0:
        return
    finite = np.isfinite(expected) & np.isfinite(got)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.abs(wide(got) - expected) / allowed
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    share = np.where(same, 0, np.where(finite, share, np.inf))
    worst = np.unravel_index(np.argmax(share), got.shape)
    assert share[worst] <= 1, (
        f"{what} at {tuple(map(int, worst))}: {got[worst]!r}, expected {expected[worst]!r}, "
        f"{float(share[worst]):.3g} times the allowed error {float(allowed[worst]):.3g}"
    )


def assert_agrees(loss, result, pred, target, **keywords):
    """Assert that (value, gradient), or the value alone, is what the oracle says."""
    value, gradient = allowed_errors(loss, pred, target, keywords)
    what = f"{loss.name} {pred.dtype} {pred.shape} {sorted(keywords)}"
    got_value, got_gradient = result if isinstance(result, tuple) else (result, None)
    assert_within(got_value, *value, f"{what}: loss")
    if got_gradient is not None:
        assert got_gradient.dtype == pred.dtype
        assert_within(got_gradient, *gradient, f"{what}: gradient")


def assert_same_bits(one, other, what=""):
    """Assert equality to the bit, NaN and the sign of zero included."""
    one, other = np.asarray(one), np.asarray(other)
    assert one.dtype == other.dtype
    assert one.shape == other.shape
    different = np.argwhere(bits(one) != bits(other))
    if different.size:
        first = tuple(different[0][:-1].tolist())
        pytest.fail(f"{what} differs at {first}: {one[first]!r} and {other[first]!r}")


def bits(array):
    """Return the bytes of an array, those of an entry along a new last axis."""
    return np.array(array, order="C")[..., None].view(np.uint8).reshape(*array.shape, -1)


def peak_memory(call):
    """Return the largest number of bytes that a call holds at once.

    The least of some calls: Python's own memory, such as its caches and what it leaves to be
    collected, differs from call to call by a kilobyte or two.
    """
    call()  # compiles
    peaks = []
    for _ in range(5):
        tracemalloc.start()
        try:
            call()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    return min(peaks)


@pytest.fixture
def child_environment():
    """Return the environment of a child process that imports this very package."""
    package = Path(fl.__file__).parents[1]
    path = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}
