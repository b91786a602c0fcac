"""A user's own loss: it has all that the library's have, whatever its function returns."""

import inspect
import math
import re
import time

import numba
import numpy as np
import pytest
from conftest import all_losses, assert_same_bits

import fastloss as fl

# The Huber loss in every form a user may give it.

positive = fl.Option(1.0, "a number > 0", lambda x: x > 0, 2.0)


@fl.elementwise(options={"delta": positive}, convex=True)
def loss_alone(pred, target, delta):
    """Huber's loss."""
    size = abs(pred - target)
    return 0.5 * size**2 if size <= delta else delta * (size - 0.5 * delta)


@fl.elementwise
def with_slope(pred, target, delta=1.0):
    T = type(pred)
    residual = pred - target
    slope = min(max(residual, -delta), delta)
    return slope * (residual - T(0.5) * slope), slope


@fl.elementwise(options={"delta": positive})
def with_all(pred, target, delta):
    residual = pred - target  # bare constants: the work is done in float64, the results are not
    slope = min(max(residual, -delta), delta)
    return slope * (residual - 0.5 * slope), slope, 1.0 if abs(residual) <= delta else 0.0


HUBERS = [loss_alone, with_slope, with_all]


def first_of(values, name):
    """Parametrize: the first value is tested by default, all by the thorough tests."""
    first, *others = values
    others = [pytest.param(value, marks=pytest.mark.thorough) for value in others]
    return pytest.mark.parametrize(
        name, [first, *others], ids=lambda x: getattr(x, "__name__", str(x))
    )


every_huber = first_of(HUBERS, "mine")
every_dtype = first_of(["float32", "float64"], "dtype")


def batch(dtype, shape=(31, 7), seed=0):
    rng = np.random.default_rng(seed)
    return tuple((2 * rng.standard_normal(shape)).astype(dtype) for _ in range(2))


@every_huber
@every_dtype
def test_it_is_the_loss_of_the_library(mine, dtype):
    pred, target = batch(dtype)
    weight = np.random.default_rng(1).random(pred.shape).astype(dtype)
    weight[3] = 0
    for keywords in (
        {"reduction": "sum", "sample_weight": weight},
        {"reduction": "batchmean", "sample_weight": weight[:, 0].copy(), "delta": 0.5},
        {"normalizer": 10.0, "delta": 2, "sample_weight": weight},
    ):
        expected = fl.huber.reference(pred, target, **keywords)
        for array in (pred, np.asfortranarray(pred), np.repeat(pred, 2, axis=1)[:, ::2]):
            value, grad, hess = mine.value_grad_hess(array, target, upstream=2.5, **keywords)
            assert isinstance(value, float)
            assert grad.dtype == hess.dtype == dtype
            np.testing.assert_allclose(value, expected[0], rtol=1e-6)
            np.testing.assert_allclose(grad, 2.5 * expected[1], rtol=1e-6)
            inside = abs(pred - target) <= keywords.get("delta", 1)
            np.testing.assert_allclose(hess * (pred - target), np.where(inside, grad, 0), 1e-5)


@pytest.mark.thorough
@every_huber
def test_buffers_and_accumulation(mine):
    pred, target = batch("float32")
    out = np.ones_like(pred)
    value, grad = mine.value_and_grad(pred, target, grad_out=out, accumulate=True)
    assert grad is out
    expected = fl.huber.grad(pred, target) + 1
    np.testing.assert_allclose(grad, expected, rtol=1e-6)
    in_place = pred.copy()
    mine.value_and_grad(in_place, target, grad_out=in_place)
    assert_same_bits(in_place, mine.grad(pred, target))
    assert value == mine(pred, target)


@every_huber
def test_threads_do_not_change_the_bits(mine):
    pred, target = batch("float32", 200_003)
    results = [mine.value_and_grad(pred, target, num_threads=n) for n in (1, 2)]
    assert results[0][0] == results[1][0]
    assert_same_bits(results[0][1], results[1][1])


@every_huber
def test_the_reference_is_the_function_itself(mine):
    pred, target = batch("longdouble", 50)
    losses, slopes = mine.reference(pred, target, delta=0.75, reduction="none")
    true_losses, true_slopes = fl.huber.reference(pred, target, delta=0.75, reduction="none")
    assert losses.dtype == slopes.dtype == np.longdouble
    np.testing.assert_allclose(losses, true_losses, rtol=1e-15)
    np.testing.assert_allclose(slopes, true_slopes, rtol=1e-15)


def test_signature_and_documentation():
    assert str(inspect.signature(loss_alone)).startswith("(pred, target, /, *, delta=1.0, sample_")
    for line in ("Huber's loss.", "delta : float, default 1.0", "num_threads : int, optional"):
        assert line in loss_alone.__doc__
    assert "Loss `with_slope`." in with_slope.__doc__
    assert loss_alone.convex
    assert not with_all.convex
    assert (loss_alone.ulp_bound, loss_alone.peers) == (math.inf, {})
    assert "loss_alone" not in fl.losses()


def test_own_sections_of_a_docstring_stay():
    @fl.elementwise
    def documented(pred, target, scale=2.0):
        """Scaled error.

        Parameters
        ----------
        pred, target : array_like
            Numbers.

        Returns
        -------
        Left out.

        References
        ----------
        Nobody (1900).
        """
        return scale * (pred - target)

    titles = re.findall(r"^(\w+)\n-+$", documented.__doc__, re.MULTILINE)
    assert titles == ["Parameters", "Returns", "Raises", "Notes", "References"]
    assert "Left out." not in documented.__doc__
    assert "Nobody (1900)." in documented.__doc__
    parameters = re.findall(r"^(\w[\w, ]*) :", documented.__doc__, re.MULTILINE)
    assert parameters[:3] == ["pred, target", "scale", "sample_weight"]


def test_options_of_defaults():
    @fl.elementwise
    def optional(pred, target, power=2, squared=False, cap=None):
        size = abs(pred - target) * power
        if squared:
            size = size * size
        return size if cap is None else min(size, cap)

    pred, target = np.array([1.0, 4.0]), np.zeros(2)
    for keywords, expected in (
        ({}, [2, 8]),
        ({"power": 3}, [3, 12]),
        ({"power": 0.5, "squared": True, "cap": 3.0}, [0.25, 3]),
    ):
        assert optional(pred, target, reduction="none", **keywords).tolist() == expected
        reference = optional.reference(pred, target, reduction="none", **keywords)[0]
        assert reference.tolist() == expected
    for option, value, error in (
        ("power", math.inf, ValueError),
        ("squared", 1, TypeError),
        ("cap", "high", TypeError),
        ("delta", 1.0, TypeError),
    ):
        with pytest.raises(error, match=f"optional: .*{option}"):
            optional(pred, target, **{option: value})
    with pytest.raises(ValueError, match=r"loss_alone: delta is 0; expected a number > 0"):
        loss_alone(pred, target, delta=0)


SCALE = 3.0


@numba.njit
def compiled_helper(x):
    return np.log1p(np.exp(-abs(x))) + below(x)


@fl.elementwise
def calling(logit, label):
    return SCALE * (compiled_helper(logit) - label * logit)


def below(x):
    return max(x, 0.0)


def test_helpers_compiled_or_not_may_stand_below():
    pred, target = batch("float32")
    target = (target > 0).astype("f4")
    got = calling.value_grad_hess(pred, target, reduction="none")
    probability = 1 / (1 + np.exp(-pred.astype(float)))
    truth = np.where(target == 1, probability, 1 - probability)
    expected = -np.log(truth), probability - target, probability * (1 - probability)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, 3 * other, rtol=2e-5)
    reference = calling.reference(pred, target, reduction="none")
    np.testing.assert_allclose(reference, got[:2], rtol=1e-4)


def test_a_lambda_and_an_exception():
    squares = fl.elementwise(lambda p, t: (p - t) ** 2)
    assert squares.value_and_grad([3.0], [1.0]) == (4.0, [4.0])

    @fl.elementwise
    def strict(pred, target):
        if target < 0:
            raise ValueError("targets are counts")
        return pred - target

    assert strict([3.0], [1.0]) == 2.0
    with pytest.raises(ValueError, match=r"^targets are counts$"):
        strict([3.0], [-1.0])


def test_criterion():
    criterion = fl.nn.criterion(loss_alone)
    pred, target = batch("float32")
    assert criterion(pred, target) == loss_alone(pred, target)
    assert_same_bits(criterion.backward(), loss_alone.grad(pred, target))


def test_speed_of_derivatives_that_are_not_given():
    """At most twice the time of the derivative by hand; measured 1.5 to 1.6."""
    pred, target = batch("float32", 1_000_000)
    out = np.empty_like(pred)
    losses = (fl.huber, loss_alone)

    def seconds(loss):
        start = time.perf_counter()
        loss.value_and_grad(pred, target, grad_out=out, num_threads=1)
        return time.perf_counter() - start

    for _ in range(3):  # a busy machine may spoil one measurement
        times = np.array([[seconds(loss) for loss in losses] for _ in range(40)])
        ratio = np.median(times[:, 1] / times[:, 0])
        if ratio <= 2:
            break
    assert ratio <= 2.2


# Rows


@fl.rowwise(class_weight=True)
def own_nll(log_probabilities, label, grad):
    grad[:] = 0
    grad[label] = -1
    return (-1 * log_probabilities)[label]  # of an array of its own


@fl.rowwise(target="real", hessian=True)
def brier(pred, target, grad, hess, scale=1.0):
    apart = pred - target  # arrays of its own
    if grad is not None:
        grad[:] = 2 * scale * apart
    if hess is not None:
        for c in range(hess.size):
            hess[c] = 2 * scale
    return scale * np.sum(np.square(apart))


@fl.rowwise(target=None, inputs=2)
def distance(first, second, by_first, by_second):
    apart = first - second
    by_first[:] = apart
    by_second[:] = -apart
    return 0.5 * np.sum(apart * apart)


ROWS = [own_nll, brier, distance]


@every_dtype
def test_rows_with_labels(dtype):
    rng = np.random.default_rng(2)
    rows, labels = fl.nll.sample(rng, dtype, (40, 6))
    weight = rng.random(6).astype(dtype)
    for array, axis in ((rows, -1), (np.asfortranarray(rows), 1), (rows.T.copy(), 0)):
        given = {"class_weight": weight, "ignore_index": 2, "axis": axis}
        value, grad = own_nll.value_and_grad(array, labels, **given)
        own = np.where(labels == 2, 0, weight[labels])
        expected = -np.eye(6)[labels] * own[:, None] / own.sum(dtype=float)
        np.testing.assert_allclose(np.moveaxis(grad, axis, -1), expected, rtol=1e-6)
        assert value == pytest.approx(np.sum(expected * rows), rel=1e-6)
        assert own_nll(array, labels, **given) == pytest.approx(value, rel=1e-7)
    with pytest.raises(IndexError, match="own_nll: label is 6 at row 0"):
        own_nll(rows, np.full(40, 6))
    with pytest.raises(NotImplementedError, match="own_nll: it has no diagonal Hessian"):
        own_nll.value_grad_hess(rows, labels)


@pytest.mark.thorough
def test_rows_with_a_dense_target_and_a_hessian():
    pred, target = batch("float32", (20, 5))
    for keywords in ({}, {"scale": 0.5}):
        value, grad, hess = brier.value_grad_hess(pred, target, **keywords)
        scale = keywords.get("scale", 1.0)
        assert value == pytest.approx(scale * np.sum((pred - target) ** 2) / 20, rel=1e-6)
        np.testing.assert_allclose(grad, scale * (pred - target) / 10, rtol=1e-5)
        np.testing.assert_array_equal(hess, np.float32(scale / 10))
        assert brier(pred, target, **keywords) == pytest.approx(value, rel=1e-7)


@pytest.mark.thorough
def test_rows_of_several_inputs():
    first, second = batch("float64", (20, 5))
    value, (by_first, by_second) = distance.value_and_grad(first, second)
    np.testing.assert_allclose(by_first, (first - second) / 20, rtol=1e-14)
    np.testing.assert_array_equal(by_second, -by_first)
    assert value == distance(first, second)


@pytest.mark.thorough
@pytest.mark.parametrize("loss", ROWS, ids=lambda loss: loss.name)
def test_the_reference_of_rows_is_the_function_itself(loss):
    arrays = loss.sample(np.random.default_rng(3), "float64", (15, 4))
    value, grads = loss.value_and_grad(*arrays)
    true_value, true_grads = loss.reference(*arrays)
    assert value == pytest.approx(true_value, rel=1e-14)
    np.testing.assert_allclose(grads, true_grads, rtol=1e-13)


@pytest.mark.thorough
def test_threads_do_not_change_the_bits_of_rows():
    arrays = distance.sample(np.random.default_rng(4), "float32", (4001, 33))
    results = [distance.value_and_grad(*arrays, num_threads=n) for n in (1, 2)]
    assert results[0][0] == results[1][0]
    assert_same_bits(np.array(results[0][1]), np.array(results[1][1]))


# check()


@first_of([*HUBERS, *ROWS, calling], "loss")
def test_check_passes_right_losses(loss):
    report = loss.check()
    assert report.slopes >= 48
    assert report.error < 1e-6
    assert re.match(rf"{loss.name}: \d+ slopes and \d+ curvatures agree to ", str(report))
    if loss in HUBERS:
        assert report.kinks > 0
        assert report.curvatures == report.slopes


def sign_lost(pred, target, under=3.0):
    r = pred - target
    return (r * r, 2 * r) if r > 0 else (under * r * r, 2 * r)


def digits_lost(pred, target):
    r = pred - target
    return 0.5 * r * r, 1.00001 * r


def not_a_number(pred, target):
    return pred * pred, 2 * pred * (pred / pred)


def wrong_curvature(pred, target):
    return pred**3, 3 * pred**2, 5.99 * pred


def wrong_with_an_option(pred, target, power=2.0):
    size = abs(pred - target) + 1.0
    return size**power, 2.0 * size * np.sign(pred - target)


NAMED = {
    sign_lost: r"slope by pred is .* where it should be .*, at pred=.*, target=",
    not_a_number: r"slope by pred is nan where it should be 0.0, at pred=0.0",
    wrong_curvature: r"curvature by pred",
    wrong_with_an_option: r"power=1.0",
    digits_lost: r"slope by pred",
}


@first_of(NAMED, "function")
def test_check_names_the_worst_point(function):
    named = NAMED[function]
    with pytest.raises(AssertionError, match=f"^{function.__name__}: .*{named}.* are wrong$"):
        fl.elementwise(function).check()


def charbonnier(pred, target, width=1e-6):
    return np.sqrt((pred - target) ** 2 + width * width)


def power_and_a_half(pred, target):
    return abs(pred - target) ** 1.5


def root(pred, target):
    return np.sqrt(abs(pred - target))


def with_an_argument_called_target(y_pred, y_true, target=1.0):
    return target * (y_pred - y_true) ** 2


@first_of([charbonnier, power_and_a_half, root, with_an_argument_called_target], "function")
def test_check_passes_narrow_bends_and_singularities(function):
    """Curvatures of bends far narrower than the first step, and those which are infinite."""
    report = fl.elementwise(function).check()
    assert report.curvatures > 200
    assert (report.left_out > 0) == (function in (power_and_a_half, root))


def test_check_finds_wrong_curvatures_at_narrow_bends():
    def wrong(pred, target):
        size = np.sqrt((pred - target) ** 2 + 1e-12)
        return size, (pred - target) / size, 1.01e-12 / size**3

    with pytest.raises(AssertionError, match=r"curvature by pred is 1010000\.0.* where it should"):
        fl.elementwise(wrong).check()


def test_check_finds_wrong_gradients_of_rows():
    @fl.rowwise
    def forgotten(scores, label, grad):
        grad[label] = -1  # what stood there before stays in the others
        return np.sum(scores) - scores[label]

    with pytest.raises(AssertionError, match=r"scores=\[.*\], label=\d, number \d of the row"):
        forgotten.check()


@pytest.mark.thorough
def test_check_without_complex_numbers():
    """Differences find a wrong slope, too, where a function refuses complex numbers."""

    def refusing(pred, target):
        r = np.floor(0.5) + math.erf(pred - target)
        return r, 2 / math.sqrt(math.pi) * math.exp(-((pred - target) ** 2))

    assert fl.elementwise(refusing).check().slopes > 100

    def wrong(pred, target):
        return math.erf(pred - target), 1.12 * math.exp(-((pred - target) ** 2))

    with pytest.raises(AssertionError, match="wrong: the slope"):
        fl.elementwise(wrong).check()


@pytest.mark.thorough
@all_losses
def test_check_passes_the_library(loss):
    assert loss.check().slopes >= 48
