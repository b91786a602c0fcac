"""Errors against mpmath, in units in the last place (ulp) of the array's own dtype.

The truth is the textbook formula in 1,300 bits: p - t then keeps 50 digits even where p misses 1 by
exp(-700), so nothing here is derived twice by hand. A truth is stored as an unevaluated sum of two
float64, 106 bits, against which the error of float32 and float64 results is taken without rounding.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import pytest
from conftest import all_pairs
from mpmath import mp, mpf

import fastloss as fl

PRECISION = 1300
GAPS = {
    "float32": (0, 1e-3, 0.5, 1, 3, 10, 16.6, 17.4, 20, 40, 66, 80),
    "float64": (0, 1e-9, 0.5, 1, 5, 20, 36.7, 37.5, 80, 300, 600, 700),
}
CLASS_COUNTS = (2, 3, 10, 33, 100, 1000)
ROW_SUM_EPSILONS = 8


class Truth(NamedTuple):
    """Exact numbers as high + low."""

    high: np.ndarray
    low: np.ndarray

    @classmethod
    def of(cls, exact):
        exact = np.asarray(exact, object)
        high = np.vectorize(float, otypes=[float])(exact)
        low = np.vectorize(lambda e, h: float(e - h) if mp.isfinite(e - h) else 0.0, otypes=[float])
        return cls(high, low(exact, high))


def exactly(array):
    """Return the numbers of an array as an object array of mpf."""
    number = np.vectorize(lambda x: x if isinstance(x, mpf) else mpf(float(x)), otypes=[object])
    return number(array)


def assert_within(got, truth, bound, inputs, scale=None, terms=1, where=""):
    """Assert errors of at most `bound` ulp of the truth, or of `scale` where that is given.

    Each of the `terms` of a result that is below the smallest normal number may be flushed to 0, as
    the library documents, and so may the result.
    """
    limits = np.finfo(got.dtype)
    size = np.abs(truth.high if scale is None else scale)
    size = np.clip(size, limits.smallest_normal, limits.max).astype(got.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs((got.astype(float) - truth.high) - truth.low)
        overflows = np.isinf(got) & (got == truth.high.astype(got.dtype))
    flushes = error <= terms * float(limits.smallest_normal)
    error = np.where(flushes | overflows, 0, error) / np.spacing(size).astype(float)
    share = error / np.broadcast_to(bound, error.shape)
    share[np.isnan(share)] = np.inf
    worst = np.unravel_index(np.argmax(share), share.shape)
    given = "; ".join(np.array2string(np.asarray(x[worst[0]]), threshold=20) for x in inputs)
    assert share[worst] <= 1, (
        f"{where} at {tuple(map(int, worst))}: {error[worst]:.4g} ulp, {share[worst]:.3g} of the "
        f"bound: got {got[worst]!r}, true {truth.high[worst]!r}, input {given}"
    )


# --- Softmax cross-entropy ------------------------------------------------------------------------


@functools.cache
def exp(x):
    with mp.workprec(PRECISION):
        return mp.exp(x)


def softmax_truth(logits, mass):
    """Return (losses, gradient, size of the gradient's larger term) of the textbook formula."""
    losses, gradients, sizes = [], [], []
    with mp.workprec(PRECISION):
        for row, row_mass in zip(exactly(logits), exactly(mass), strict=True):
            top = max(row)
            powers = np.array([exp(x - top) for x in row])
            p = powers / sum(powers)
            log_sum = mp.log(sum(powers))
            total = sum(row_mass)
            losses.append(sum(a * (top - x + log_sum) for x, a in zip(row, row_mass, strict=True)))
            gradients.append(total * p - row_mass)
            sizes.append(np.maximum(total * p, row_mass).astype(float))
        return Truth.of(losses), Truth.of(np.array(gradients)), np.array(sizes)


def spread_of(logits):
    with np.errstate(over="ignore"):
        return np.max(logits, axis=-1) - np.min(logits, axis=-1)


def layouts(logits, target):
    """Yield (logits, target, axis, rows_of): the same rows, last-axis, class-first and between."""
    yield logits, target, -1, lambda gradient: gradient
    dense = np.ndim(target) == 2
    first = np.ascontiguousarray
    yield first(logits.T), first(target.T) if dense else target, 0, lambda gradient: gradient.T
    pairs = logits.reshape(2, -1, logits.shape[1])
    between = target.reshape(pairs.shape if dense else pairs.shape[:2])
    yield (
        first(np.moveaxis(pairs, -1, 1)),
        first(np.moveaxis(between, -1, 1)) if dense else between,
        1,
        lambda gradient: np.moveaxis(gradient, 1, -1).reshape(logits.shape),
    )


def stated_bound(logits):
    return fl.softmax_cross_entropy.ulp_bound + 2 * spread_of(logits).astype(float)


def assert_rows(results, truth, bound, inputs, by_larger_term=False, where=""):
    """Assert that each row's loss and each entry of its gradient are within `bound` ulp."""
    losses, gradient = results
    loss_truth, gradient_truth, sizes = truth
    assert losses.dtype == gradient.dtype == inputs[0].dtype
    terms = sizes.shape[1]
    scale = sizes if by_larger_term else None
    assert_within(losses.reshape(-1), loss_truth, bound, inputs, None, terms, f"loss{where}")
    assert_within(
        gradient, gradient_truth, bound[:, None], inputs, scale, terms, f"gradient{where}"
    )


def assert_softmax(logits, target, by_larger_term=False):
    """Assert the stated bound in every layout, and that the gradient of each row sums to 0."""
    mass = target if target.ndim == 2 else np.arange(logits.shape[1]) == target[:, None]
    truth = softmax_truth(logits, mass)
    tiny = float(np.finfo(logits.dtype).smallest_normal)
    for array, labels, axis, rows_of in layouts(logits, target):
        losses, gradient = fl.softmax_cross_entropy.value_and_grad(
            array, labels, axis=axis, reduction="none", num_threads=1
        )
        gradient = rows_of(gradient)
        where = f", axis {axis} of {array.shape}"
        bound, inputs = stated_bound(logits), (logits, target)
        assert_rows((losses, gradient), truth, bound, inputs, by_larger_term, where)
        # The entries of a row cancel but for their own rounding and that of the sum they share.
        gradient = gradient.astype(float)
        sums = np.abs([math.fsum(row) for row in gradient])
        epsilons = sums / (np.finfo(logits.dtype).eps * np.maximum(np.abs(gradient).sum(1), tiny))
        assert np.max(epsilons) <= ROW_SUM_EPSILONS, where


# Of module scope: pytest then runs the tests of one dtype and kind, which share kernels, in a row.
# The longer formulas of float64 take twice as long to compile: they are for the thorough tests.
@pytest.fixture(
    scope="module", params=["float32", pytest.param("float64", marks=pytest.mark.thorough)]
)
def dtype(request):
    return request.param


@pytest.fixture(
    scope="module", params=["labels", pytest.param("one-hot", marks=pytest.mark.thorough)]
)
def kind(request):
    return request.param


def with_targets(labels, classes, kind, dtype):
    return labels if kind == "labels" else np.eye(classes, dtype=dtype)[labels]


def test_softmax_confident_rows(dtype, kind):
    for classes in CLASS_COUNTS:
        logits = np.zeros((len(GAPS[dtype]), classes), dtype)
        logits[:, 0] = GAPS[dtype]
        for label in (0, 1):  # confident and right, confident and wrong
            labels = np.full(len(logits), label)
            assert_softmax(logits, with_targets(labels, classes, kind, dtype))


def test_softmax_random_rows(dtype, kind):
    rng = np.random.default_rng(1)
    limit = GAPS[dtype][-1]
    for classes in (2, 10, 50):
        spreads = np.array([0, 1e-3, 1, 4, 10, 16, 30, limit]).repeat(3)[:, None]
        logits = (spreads * rng.random((len(spreads), classes))).astype(dtype)
        logits -= rng.choice([0, 1000], (len(logits), 1)).astype(dtype)
        # In every third row the label is the top, in every third the bottom.
        labels = rng.integers(0, classes, len(logits))
        labels[::3], labels[1::3] = logits[::3].argmax(1), logits[1::3].argmin(1)
        assert_softmax(logits, with_targets(labels, classes, kind, dtype))


def test_softmax_extreme_rows(dtype, kind):
    limits = np.finfo(dtype)
    shift, step = (1e8, 8) if dtype == "float32" else (1e300, 2e284)
    tiny = float(limits.smallest_subnormal)
    edge = -math.log(float(limits.smallest_normal))  # exp(-edge) is the last normal number
    rows = [
        [0, 0, 0, 0],  # ties at the maximum, one to four of them
        [5, 5, -3, 5],
        [5, -20, 5, 0],
        [limits.max, limits.max, -limits.max, limits.max],
        [shift, shift, shift - step, shift - 3 * step],
        [-shift, -shift - 2 * step, -shift, -shift - step],
        [shift, -shift, 0, 1],
        [tiny, 3 * tiny, 0, -tiny],
        [tiny, 1, -tiny, 0],
        [0, -edge + 1, -edge - 1, -2 * edge],  # exp underflows
        [0, -edge - 1, -edge - 1, -edge - 10],
    ]
    logits = np.array(rows, dtype)
    for label in range(4):
        # An odd number of rows does not fold into pairs: repeat the first.
        folded = np.concatenate([logits, logits[: len(logits) % 2]])
        labels = np.full(len(folded), label)
        with np.errstate(over="ignore"):
            assert_softmax(folded, with_targets(labels, 4, kind, dtype))


@pytest.mark.thorough
def test_softmax_of_a_vocabulary(dtype):
    """The error of a sum of 50,257 terms stays in the bound."""
    rng = np.random.default_rng(2)
    values = 10 * rng.random(1000)  # so few, because the truth needs their exponentials
    logits = np.stack([rng.choice(values, 50257), np.zeros(50257)]).astype(dtype)
    assert_softmax(logits, np.array([12345, 50256]))


@pytest.mark.thorough
def test_softmax_soft_targets(dtype):
    """Where A p and a nearly cancel, the rounding of the larger of the two is what remains."""
    rng = np.random.default_rng(3)
    for classes in (3, 40):
        spreads = np.array([1, 10, 60]).repeat(4)[:, None]
        logits = (spreads * rng.random((12, classes))).astype(dtype)
        target = rng.dirichlet(np.ones(classes), 12).astype(dtype)
        assert_softmax(logits, target, by_larger_term=True)


@pytest.mark.thorough
def test_softmax_weighted_and_smoothed(dtype):
    rng = np.random.default_rng(4)
    logits = (np.array([1, 10, 60]).repeat(4)[:, None] * rng.random((12, 40))).astype(dtype)
    labels = rng.integers(0, 40, 12)
    class_weight = rng.uniform(0.5, 2, 40).astype(dtype)
    for smoothing in (0.0, 0.1):
        losses_and_gradient = fl.softmax_cross_entropy.value_and_grad(
            logits, labels, class_weight=class_weight, label_smoothing=smoothing, reduction="none"
        )
        mass = exactly(np.eye(40)[labels]) * (1 - smoothing) + mpf(smoothing) / 40
        truth = softmax_truth(logits, mass * exactly(class_weight))
        # The masses are rounded: to T(1 - smoothing), T(smoothing / C), their sum, and the product.
        bound = stated_bound(logits) + 2
        assert_rows(losses_and_gradient, truth, bound, (logits, labels), smoothing > 0)


def test_softmax_worked_numbers():
    losses, gradient = fl.softmax_cross_entropy.value_and_grad(
        np.float32([[20, 0]]), [0], reduction="none"
    )
    assert f"{losses[0]:.3g}" == "2.06e-09"
    assert [f"{g:.3g}" for g in gradient[0]] == ["-2.06e-09", "2.06e-09"]


# --- Elementwise ----------------------------------------------------------------------------------


def sigmoid_truth(logits, target, pos_weight=1.0):
    """Return (losses, gradient, size of the gradient's larger term) of the textbook formula."""
    with mp.workprec(PRECISION):
        t = exactly(target)
        p = np.vectorize(lambda x: 1 / (1 + mp.exp(-x)), otypes=[object])(exactly(logits))
        log = np.vectorize(mp.log, otypes=[object])
        loss = -pos_weight * t * log(p) - (1 - t) * log(1 - p)
        up, down = (1 - t) * p, pos_weight * t * (1 - p)
        return Truth.of(loss), Truth.of(up - down), np.maximum(up, down).astype(float)


def sigmoid_logits(dtype):
    """Logits over the whole range: evenly spaced, and of every magnitude down to subnormal."""
    limit = GAPS[dtype][-1] if dtype == "float64" else 85
    lowest = math.log2(float(np.finfo(dtype).smallest_subnormal))
    magnitudes = 2.0 ** np.linspace(lowest, math.log2(limit), 150)
    rng = np.random.default_rng(5)
    logits = [np.linspace(-limit, limit, 301), rng.uniform(-4, 4, 300), magnitudes, -magnitudes]
    return np.concatenate(logits).astype(dtype)


def test_sigmoid_of_binary_labels(dtype):
    logits = sigmoid_logits(dtype).repeat(2)
    target = np.tile([0, 1], len(logits) // 2).astype(dtype)
    loss_truth, gradient_truth, _ = sigmoid_truth(logits, target)
    losses, gradient = fl.sigmoid_cross_entropy.value_and_grad(logits, target, reduction="none")
    bound = fl.sigmoid_cross_entropy.ulp_bound
    assert_within(losses, loss_truth, bound, (logits, target))
    assert_within(gradient, gradient_truth, bound, (logits, target))


def test_sigmoid_of_soft_targets(dtype):
    logits = sigmoid_logits(dtype)
    target = np.random.default_rng(6).random(len(logits)).astype(dtype)
    for options in ({}, {"pos_weight": 2.5, "label_smoothing": 0.25}):
        smoothing = options.get("label_smoothing", 0.0)
        smoothed = (1 - smoothing) * exactly(target) + smoothing / 2
        truth = sigmoid_truth(logits, smoothed, options.get("pos_weight", 1.0))
        results = fl.sigmoid_cross_entropy.value_and_grad(
            logits, target, reduction="none", **options
        )
        bound = fl.sigmoid_cross_entropy.ulp_bound
        assert_within(results[0], truth[0], bound, (logits, target))
        assert_within(results[1], truth[1], bound, (logits, target), truth[2])


def test_mse(dtype):
    rng = np.random.default_rng(7)
    pred = (rng.standard_normal(600) * 10.0 ** rng.uniform(-15, 15, 600)).astype(dtype)
    target = np.where(rng.random(600) < 0.5, pred * 1.001, rng.random(600))
    target = target.astype(dtype)
    with mp.workprec(PRECISION):
        residual = exactly(pred) - exactly(target)
        loss_truth, gradient_truth = Truth.of(residual * residual), Truth.of(2 * residual)
    losses, gradient = fl.mse.value_and_grad(pred, target, reduction="none")
    assert_within(losses, loss_truth, fl.mse.ulp_bound, (pred, target))
    assert_within(gradient, gradient_truth, fl.mse.ulp_bound, (pred, target))


# --- The textbook's clipped forms -----------------------------------------------------------------

CLIPPED = [("float64", 1e-9), ("float64", 1e-6), ("float32", 1e-6)]


@pytest.mark.parametrize(("precision", "eps"), CLIPPED)
def test_softmax_textbook_parity(precision, eps):
    rng = np.random.default_rng(8)
    logits = rng.uniform(0, 20, (64, 40)).astype(precision)
    logits[::2, 0] += 30  # p near 1, right and wrong
    labels = rng.integers(0, 40, 64)
    labels[::4] = 0
    one_hot = np.eye(40, dtype=precision)[labels]

    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    q = np.clip(powers / powers.sum(axis=1, keepdims=True), eps, 1 - eps)
    assert {q.min(), q.max()} == {q.dtype.type(eps), q.dtype.type(1 - eps)}
    textbook_loss, textbook_gradient = -np.sum(one_hot * np.log(q)) / 64, (q - one_hot) / 64
    rounding = 4 * np.finfo(precision).eps
    for target in (labels, one_hot):
        loss, gradient = fl.softmax_cross_entropy.value_and_grad(
            logits, target, eps=eps, reduction="batchmean"
        )
        np.testing.assert_allclose(loss, textbook_loss, rtol=rounding)
        np.testing.assert_allclose(gradient, textbook_gradient, rtol=0, atol=rounding / 64)


@pytest.mark.parametrize(("precision", "eps"), CLIPPED)
def test_sigmoid_textbook_parity(precision, eps):
    rng = np.random.default_rng(9)
    logits = rng.uniform(-30, 30, (64, 4)).astype(precision)
    target = (rng.random((64, 4)) < 0.5).astype(precision)
    q = np.clip(1 / (1 + np.exp(-logits)), eps, 1 - eps)
    assert {q.min(), q.max()} == {q.dtype.type(eps), q.dtype.type(1 - eps)}
    textbook_loss = -np.sum(target * np.log(q) + (1 - target) * np.log(1 - q)) / 64
    loss, gradient = fl.sigmoid_cross_entropy.value_and_grad(
        logits, target, eps=eps, reduction="batchmean"
    )
    # The textbook subtracts: half an epsilon lost in 1 - q moves its log by 1 / (1 - q) as much.
    rounding = np.finfo(precision).eps
    lost = np.sum(np.where(target == 0, rounding / 2 / (1 - q), 0)) / 64
    np.testing.assert_allclose(loss, textbook_loss, rtol=4 * rounding, atol=lost)
    np.testing.assert_allclose(gradient, (q - target) / 64, rtol=0, atol=4 * rounding / 64)


# --- Complex step ---------------------------------------------------------------------------------

STEP = 1e-200
"""A complex step has no cancellation: its error is STEP**2, nothing at all."""


def differentiate(loss, pred, target, part):
    """Return the derivative of `reference`'s value (part 0) or gradient (part 1), entry by entry.

    The single losses do not depend on each other, so one step moves an entry of each.
    """
    directions = np.ones((1, *pred.shape))
    if loss.reference(pred, target, reduction="none")[0].shape != pred.shape:  # classes, last
        directions = np.eye(pred.shape[-1])[:, None, :] * np.ones(pred.shape)
    derivative = np.zeros(pred.shape)
    for direction in directions:
        moved = loss.reference(pred + 1j * STEP * direction, target, reduction="none")[part]
        change = moved.imag / STEP
        derivative += direction * (change if change.shape == pred.shape else change[..., None])
    return derivative


@all_pairs
def test_derivatives_are_those_of_the_textbook_value(loss):
    pred, target = loss.sample(np.random.default_rng(10), "float64", (24, 40))
    value, gradient, hessian = loss.value_grad_hess(pred, target, reduction="sum")
    textbook = loss.reference(pred, target, reduction="sum")[0]
    np.testing.assert_allclose(value, textbook, rtol=1e-12)
    np.testing.assert_allclose(gradient, differentiate(loss, pred, target, 0), rtol=1e-12)
    second = differentiate(loss, pred, target, 1)
    np.testing.assert_allclose(hessian, second, rtol=1e-12, atol=1e-17)  # two terms may cancel
