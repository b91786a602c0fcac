"""Values and derivatives: the three kinds of call, reductions, weights, buffers, no-weight rows."""

import math

import numba
import numpy as np
import pytest
from conftest import (
    ALL,
    LOSSES,
    all_pairs,
    allowed_errors,
    assert_agrees,
    assert_same_bits,
    assert_within,
    every_dtype,
    every_elementwise,
    every_loss,
    every_softmax,
    example_options,
    one_hot,
    truth,
    weight_shape,
    wide,
)

import fastloss as fl
from fastloss._jit import MATHEMATICS

REDUCTIONS = ("mean", "batchmean", "sum", "none")
ROWS = 65
WIDTHS = {"tiles": 10, "rows": 33}
every_width = pytest.mark.parametrize("classes", WIDTHS.values(), ids=WIDTHS.keys())


def weights(rng, shape, dtype="float32"):
    """Return random weights, a few of them 0."""
    return (rng.uniform(0.5, 2, shape) * (rng.random(shape) > 0.2)).astype(dtype)


@every_loss
@every_dtype
def test_calls_agree_with_each_other_and_the_textbook(loss, dtype, rng):
    pred, target = loss.sample(rng, dtype, (ROWS, WIDTHS["rows"]))
    value, gradient = loss.value_and_grad(pred, target)
    assert type(value) is float
    assert_agrees(loss, (value, gradient), pred, target)
    assert_same_bits(loss.grad(pred, target), gradient, "grad and value_and_grad")
    # Value only is another compilation: its sums may be split over the vector lanes otherwise.
    only = loss(pred, target)
    assert type(only) is float
    assert abs(only - value) <= 2 * np.spacing(np.asarray(value, dtype))


@every_loss
@every_width
def test_hessian_is_the_derivative_of_the_textbook_gradient(loss, classes, rng):
    pred, target = loss.sample(rng, "float32", (ROWS, classes))
    value, gradient, hessian = loss.value_grad_hess(pred, target)
    assert_agrees(loss, (value, gradient), pred, target)
    assert hessian.dtype == np.float32
    # Central differences in longdouble: relative error 1e-12, far below float32's 1e-7.
    step = np.longdouble(1e-6)
    if loss.family == "elementwise":
        masks = np.ones((1, classes), bool)
    else:
        masks = np.eye(classes, dtype=bool)  # one class at a time
    expected = np.zeros(pred.shape, np.longdouble)
    for mask in masks:
        above = truth(loss, wide(pred) + step * mask, target)[1]
        below = truth(loss, wide(pred) - step * mask, target)[1]
        expected += np.where(mask, (above - below) / (2 * step), 0)
    allowed = loss.ulp_bound * abs(expected)
    if loss.family == "softmax":
        # 1 - p of a class that is not the label may cancel: p, its gradient, keeps its last bits.
        spread = np.ptp(pred, axis=-1, keepdims=True)
        allowed = (loss.ulp_bound + 2 * spread) * (abs(expected) + abs(gradient))
    allowed = allowed * np.finfo(np.float32).eps
    assert_within(hessian, expected, allowed, f"{loss.name}: hessian")


@every_loss
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_reductions_are_the_contracts(loss, reduction, weighted, rng):
    """The reduced value and its gradient, put together here from the single losses' oracle."""
    pred, target = loss.sample(rng, "float32", (ROWS, WIDTHS["rows"]))
    keywords, shape = {}, weight_shape(loss, pred)
    total = np.longdouble(np.prod(shape))
    if weighted:
        keywords["sample_weight"] = weights(rng, shape)
        total = wide(keywords["sample_weight"]).sum()
        if loss.family == "softmax":
            keywords["class_weight"] = weights(rng, WIDTHS["rows"])
            total = np.sum(wide(keywords["sample_weight"]) * keywords["class_weight"][target])
    singles, gradient = truth(loss, pred, target, reduction="none", **keywords)
    divisor = {"mean": total, "batchmean": ROWS, "sum": 1, "none": 1}[reduction]
    result = loss.value_and_grad(pred, target, reduction=reduction, **keywords)
    if reduction == "none":
        assert result[0].dtype == np.float32
    else:
        assert type(result[0]) is float
    assert_agrees(loss, result, pred, target, reduction=reduction, **keywords)
    value = singles if reduction == "none" else singles.sum() / divisor
    bounds = allowed_errors(loss, pred, target, {"reduction": reduction, **keywords})
    assert_within(result[0], value, bounds[0][1], f"{loss.name} {reduction}")
    assert_within(result[1], gradient / divisor, bounds[1][1], f"{loss.name} {reduction} gradient")


@every_loss
def test_normalizer_makes_accumulated_micro_batches_the_whole_batch(loss, rng):
    pred, target = loss.sample(rng, "float32", (ROWS, WIDTHS["rows"]))
    weight = weights(rng, weight_shape(loss, pred))
    keywords = {"normalizer": float(weight.sum(dtype=np.float64))}
    whole = np.zeros_like(pred)
    value = 0.0
    for part in (slice(0, 20), slice(20, ROWS)):
        micro, _ = loss.value_and_grad(
            pred[part], target[part], sample_weight=weight[part], grad_out=whole[part],
            accumulate=True, **keywords,
        )  # fmt: skip
        value += micro
    assert_agrees(loss, (value, whole), pred, target, sample_weight=weight)
    # A second pass adds the same again.
    loss.grad(pred, target, sample_weight=weight, grad_out=whole, accumulate=True, **keywords)
    assert_agrees(loss, (value, whole / 2), pred, target, sample_weight=weight)


@every_elementwise
def test_sample_weight_may_be_one_number_per_row(loss, rng):
    pred, target = loss.sample(rng, "float32", (ROWS, WIDTHS["rows"]))
    per_row = weights(rng, ROWS)
    full = np.repeat(per_row[:, None], WIDTHS["rows"], axis=1)
    for order in "CF":
        laid = np.asarray(pred, order=order)
        value, gradient = loss.value_and_grad(laid, target, sample_weight=per_row)
        assert_agrees(loss, (value, gradient), pred, target, sample_weight=full)
        assert_agrees(loss, (value, gradient), pred, target, sample_weight=per_row)


@every_loss
@every_width
def test_upstream_multiplies_the_gradient(loss, classes, rng):
    pred, target = loss.sample(rng, "float32", (ROWS, classes))
    result = loss.value_and_grad(pred, target, upstream=-2.5)
    assert_agrees(loss, result, pred, target, upstream=-2.5)
    upstream = rng.standard_normal(ROWS).astype("float32")
    weight = weights(rng, weight_shape(loss, pred))
    buffer = np.ones_like(pred)
    keywords = {"sample_weight": weight, "upstream": upstream, "reduction": "none"}
    singles, gradient = loss.value_and_grad(
        pred, target, grad_out=buffer, accumulate=True, **keywords
    )
    assert gradient is buffer
    expected, bounds = allowed_errors(loss, pred, target, keywords)[1]
    rounding = np.finfo(np.float32).eps * (1 + abs(expected))  # of the sum with what was there
    assert_within(buffer, 1 + expected, bounds + rounding, f"{loss.name}: accumulated")
    assert_agrees(loss, singles, pred, target, **keywords)


def views(shape):
    """Yield zeroed float32 buffers of a shape in every memory layout, with what they lie in."""
    yield "contiguous", np.zeros(shape, np.float32)
    yield "fortran", np.zeros(shape, np.float32, order="F")
    yield "strided", np.zeros((*shape[:-1], 2 * shape[-1]), np.float32)[..., ::2]
    yield "reversed", np.zeros(shape, np.float32)[::-1]
    yield (
        "unaligned",
        np.frombuffer(bytearray(4 * np.prod(shape) + 1), "f4", offset=1).reshape(shape),
    )


@every_loss
def test_out_buffers_of_any_layout_get_the_same_results(loss, rng):
    pred, target = loss.sample(rng, "float32", (ROWS, WIDTHS["rows"]))
    keywords = {"reduction": "none"}
    expected = loss.value_grad_hess(pred, target, **keywords)
    for name, grad_out in views(pred.shape):
        hess_out = dict(views(pred.shape))[name]
        loss_out = dict(views(weight_shape(loss, pred)))[name]
        out = {"loss_out": loss_out, "grad_out": grad_out, "hess_out": hess_out}
        results = loss.value_grad_hess(pred, target, **keywords, **out)
        for result, buffer, bits in zip(results, out.values(), expected, strict=True):
            assert result is buffer
            assert_same_bits(result, bits, f"{loss.name} {name}")
    for name, grad_out in views(pred.shape):
        grad_out[...] = 3
        loss.grad(pred, target, reduction="sum", grad_out=grad_out, accumulate=True)
        rounding = np.spacing(3 + abs(expected[1]))
        assert_within(grad_out, 3 + wide(expected[1]), rounding, f"{loss.name} accumulate {name}")


@every_loss
@every_width
def test_in_place_gives_the_same_gradient(loss, classes, rng):
    pred, target = loss.sample(rng, "float32", (ROWS, classes))
    value, expected = loss.value_and_grad(pred, target)
    for name, buffer in views(pred.shape):
        buffer[...] = pred
        in_place, gradient = loss.value_and_grad(buffer, target, grad_out=buffer)
        assert gradient is buffer
        assert abs(in_place - value) <= 2 * np.spacing(np.float32(value))
        if name == "fortran":  # another kernel: class-first, or another order of elements
            assert_agrees(loss, (in_place, np.ascontiguousarray(gradient)), pred, target)
        else:
            assert_within(gradient, expected, 2 * np.spacing(abs(expected)), f"{loss.name} {name}")


@pytest.mark.parametrize("name", ["mse", "nll", "softmax_cross_entropy"])
@pytest.mark.parametrize("dense", [False, True])
def test_the_total_of_equal_weights_is_right(name, dense, rng):
    """They all round the same way: added one by one, so many are 100 ulp off."""
    loss = fl.categorical_cross_entropy if dense and name == "nll" else fl.losses()[name]
    arrays = loss.sample(rng, "float64", (30_000, 4))
    if dense:
        arrays = arrays[0], rng.dirichlet(np.ones(4), 30_000)
    weight = np.full(weight_shape(loss, arrays[0]), 1.00001)
    mean, total = (loss(*arrays, sample_weight=weight, reduction=x) for x in ("mean", "sum"))
    assert total / mean == pytest.approx(math.fsum(weight.flat), rel=4 * np.finfo(float).eps)


# Rows without weight


def batch_with_dead_rows(loss, rng, classes):
    """Return a batch in which some rows hold NaN and inf, and which rows are left."""
    pred, target = loss.sample(rng, "float32", (ROWS, classes))
    dead = np.zeros(ROWS, bool)
    dead[[0, 7, 31, ROWS - 1]] = True
    pred[dead] = np.resize(np.array([np.nan, np.inf, -np.inf, 1], "f4"), (dead.sum(), classes))
    return pred, target, ~dead


def assert_rows_removed(loss, result, pred, target, live, **keywords):
    value, gradient = result
    assert_same_bits(gradient[~live], np.zeros_like(gradient[~live]), f"{loss.name}: dead rows")
    left = pred[live], target[live]
    if isinstance(value, np.ndarray):
        assert_same_bits(value[~live], np.zeros_like(value[~live]), f"{loss.name}: dead losses")
        value = value[live]
    assert_agrees(loss, (value, gradient[live]), *left, **keywords)


@every_loss
@every_width
def test_a_row_of_weight_zero_is_a_row_removed(loss, classes, rng):
    pred, target, live = batch_with_dead_rows(loss, rng, classes)
    weight = weights(rng, ROWS) + np.float32(0.5)
    weight[~live] = 0
    for reduction in ("mean", "none"):
        result = loss.value_and_grad(pred, target, sample_weight=weight, reduction=reduction)
        assert_rows_removed(
            loss, result, pred, target, live, sample_weight=weight[live], reduction=reduction
        )


@every_softmax
@every_width
def test_an_ignored_row_is_a_row_removed(loss, classes, rng):
    pred, target, live = batch_with_dead_rows(loss, rng, classes)
    target[~live] = -100
    assert_rows_removed(loss, loss.value_and_grad(pred, target), pred, target, live)
    target[live] = np.maximum(target[live], 1)
    target[~live] = 0  # a real class may be the one to ignore
    result = loss.value_and_grad(pred, target, ignore_index=0)
    assert_rows_removed(loss, result, pred, target, live)


@every_softmax
def test_a_label_of_class_weight_zero_is_a_row_removed(loss, rng):
    pred, target, live = batch_with_dead_rows(loss, rng, WIDTHS["rows"])
    target[live] = np.maximum(target[live], 1)
    target[~live] = 0
    keywords = {"class_weight": np.arange(WIDTHS["rows"], dtype="f4")}
    weight = np.ones(ROWS, "f4")
    result = loss.value_and_grad(pred, target, sample_weight=weight, **keywords)
    assert_rows_removed(loss, result, pred, target, live, **keywords)


@every_softmax
def test_a_dense_row_of_weight_zero_may_hold_anything(loss, rng):
    pred, labels, live = batch_with_dead_rows(loss, rng, WIDTHS["rows"])
    target = one_hot(labels, WIDTHS["rows"]).astype("f4")
    target[~live] = np.nan
    weight = live.astype("f4")
    result = loss.value_and_grad(pred, target, sample_weight=weight)
    assert_rows_removed(loss, result, pred, target, live)


@every_loss
def test_nothing_that_counts_gives_zero(loss, rng):
    pred, target = loss.sample(rng, "float32", (ROWS, WIDTHS["rows"]))
    pred[3] = np.nan
    cases = [(pred, target, {"sample_weight": np.zeros(ROWS, "f4")})]
    cancelling = np.where(np.arange(ROWS) % 2, 1, -1).astype("f4")
    cancelling[-1] = 0
    cases.append((np.nan_to_num(pred), target, {"sample_weight": cancelling}))  # W = 0
    if loss.family == "softmax":
        cases.append((pred, np.full_like(target, -100), {}))
    for case_pred, case_target, keywords in cases:
        buffer = np.full_like(pred, 7)
        value, gradient = loss.value_and_grad(case_pred, case_target, grad_out=buffer, **keywords)
        assert value == 0.0
        assert_same_bits(gradient, np.zeros_like(pred), f"{loss.name} {sorted(keywords)}")


@every_loss
@every_dtype
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("width", [10, 0])
def test_empty_batch(loss, dtype, width, reduction, rng):
    pred, target = loss.sample(rng, dtype, (0, 10))
    pred = pred[:, :width]
    target = target[:, :width] if target.ndim == 2 else target
    value, gradient, hessian = loss.value_grad_hess(pred, target, reduction=reduction)
    for array in (gradient, hessian):
        assert (array.shape, array.dtype) == ((0, width), pred.dtype)
    if reduction == "none":
        assert (value.shape, value.dtype) == (weight_shape(loss, pred), pred.dtype)
    else:
        assert type(value) is float
        assert value == 0.0
        assert loss(pred, target, reduction=reduction) == 0.0


@every_loss
def test_a_single_loss_needs_no_batch_axis(loss, rng):
    """Elementwise losses of 0-d arrays, class losses of one vector of logits."""
    for shape in ((WIDTHS["rows"],), (WIDTHS["tiles"],)):
        pred, target = loss.sample(rng, "float32", shape)
        target = np.asarray(target)
        if loss.family == "elementwise":
            pred, target = pred[:1].reshape(()), target[:1].reshape(())
        result = loss.value_and_grad(pred, target)
        assert_agrees(loss, result, pred, target)
        if loss.family == "softmax":
            assert_agrees(loss, loss.value_and_grad(pred, int(target)), pred, target)
        singles = loss.value_and_grad(pred, target, reduction="none")[0]
        assert singles.shape == ()
        assert_agrees(loss, singles, pred, target, reduction="none")


@every_loss
@every_width
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_poison_stays_in_its_row(loss, classes, poison, rng):
    pred, target = loss.sample(rng, "float32", (ROWS, classes))
    spoilt = pred.copy()
    spoilt[[1, 40], 3] = poison
    singles, gradient = loss.value_and_grad(spoilt, target, reduction="none")
    expected, expected_gradient = loss.value_and_grad(pred, target, reduction="none")
    if loss.family == "elementwise":
        clean = spoilt == pred
        clean_losses = clean
    else:
        clean_losses = np.ones(ROWS, bool)
        clean_losses[[1, 40]] = False
        clean = clean_losses
    assert_same_bits(singles[clean_losses], expected[clean_losses], loss.name)
    assert_same_bits(gradient[clean], expected_gradient[clean], loss.name)
    # And in its own row it does what IEEE arithmetic makes of the textbook.
    if np.isnan(poison):
        assert np.isnan(singles[~clean_losses]).all()
        assert np.isnan(gradient[~clean]).all()


@every_softmax
@every_width
def test_minus_infinity_masks_a_class(loss, classes, rng):
    """A masked class is a class removed: probability 0, gradient 0, nothing for its target 0."""
    pred, labels = loss.sample(rng, "float32", (ROWS, classes + 1))
    labels = np.minimum(labels, classes - 1)
    pred[:, -1] = -np.inf
    left = pred[:, :-1].copy()
    for target in (labels, one_hot(labels, classes + 1).astype("f4")):
        value, gradient = loss.value_and_grad(pred, target)
        assert_same_bits(gradient[:, -1], np.zeros(ROWS, "f4"), loss.name)
        assert_agrees(loss, (value, gradient[:, :-1]), left, labels)


@every_softmax
def test_reference_of_labels_is_that_of_their_one_hot_rows(loss, rng):
    """Also where the weight of the label's class is 0 and smoothing moves mass to the others."""
    pred, labels = loss.sample(rng, "float64", (ROWS, 10))
    keywords = {**example_options(loss), "class_weight": np.arange(10.0)}
    for name in ("value", "gradient"):
        index = name == "gradient"
        hard = truth(loss, pred, labels, **keywords)[index]
        soft = truth(loss, pred, one_hot(labels, 10).astype(float), **keywords)[index]
        assert_within(hard, soft, 1e-15 * abs(soft) + 1e-17, f"{loss.name}: {name}")


@every_softmax
@every_width
def test_class_weights_and_smoothing(loss, classes, rng):
    pred, labels = loss.sample(rng, "float32", (ROWS, classes))
    keywords = {**example_options(loss), "class_weight": np.arange(classes, dtype="f4")}
    result = loss.value_and_grad(pred, labels, **keywords)
    assert_agrees(loss, result, pred, one_hot(labels, classes).astype("f4"), **keywords)
    dense = rng.dirichlet(np.ones(classes), ROWS).astype("f4")
    result = loss.value_and_grad(pred, dense, **keywords)
    assert_agrees(loss, result, pred, dense, **keywords)


@all_pairs
def test_options_off_their_defaults(loss, rng):
    pred, target = loss.sample(rng, "float32", (ROWS, WIDTHS["rows"]))
    if keywords := example_options(loss):
        assert_agrees(loss, loss.value_and_grad(pred, target, **keywords), pred, target, **keywords)
    for name, option in loss.options.items():
        if option.per_class:
            per_class = rng.uniform(0.5, 0.9, WIDTHS["rows"]).astype("f4")
            for order in "CF":
                result = loss.value_and_grad(
                    np.asarray(pred, order=order), target, **{name: per_class}
                )
                assert_agrees(loss, result, pred, target, **{name: per_class})


# Types


@all_pairs
@every_dtype
def test_the_scalar_function_keeps_its_type(loss, dtype):
    """A bare constant would make float32 work float64, at half the speed."""
    kind = numba.from_dtype(np.dtype(dtype))
    arrays = (kind,) * (4 if loss.family == "softmax" else 2)  # rest, own, gap, mass of a link
    for values in (
        {name: option.default for name, option in loss.options.items()},
        {name: option.example for name, option in loss.options.items()},
    ):
        options = loss._scalar_options(values, np.dtype(dtype))
        own = getattr(loss._scalar, "own", None)
        function = own.function if own else loss._scalar  # what the loss's file has
        compiled = numba.njit((*arrays, *map(numba.typeof, options)), **MATHEMATICS)(function)
        (signature,) = compiled.nopython_signatures
        assert set(signature.return_type) == {kind}, loss.name


def test_the_registry_is_whole():
    """Every loss of the package is a loss here, in one of the three families."""
    assert {loss.family for loss in ALL} == {"elementwise", "softmax", "rowwise"}
    assert len({loss.name for loss in ALL}) == len(ALL)


def test_poison_in_a_dense_target_or_weight_stays_in_its_row(rng):
    """The total weight leaves out what is not finite: it would spoil every other row."""
    loss = fl.softmax_cross_entropy
    logits, labels = loss.sample(rng, "float32", (5, 40))
    target = np.eye(40, dtype="f4")[labels]
    target[2, 7] = np.nan
    value, grad = loss.value_and_grad(logits, target)
    assert np.isnan(value)
    others = np.arange(5) != 2
    assert np.isnan(grad[2]).all()
    assert np.isfinite(grad[others]).all()
    clean = loss.grad(logits[others], target[others])
    np.testing.assert_array_equal(grad[others], clean)


@pytest.mark.parametrize("loss", [*LOSSES, fl.nll, fl.dice], ids=lambda loss: loss.name)
def test_weights_too_small_to_be_inverted(loss, rng):
    """A common factor of all weights changes nothing, even where 1 / W is not a float32."""
    arrays = loss.sample(rng, "float32", (40, 7))
    weight = np.full(weight_shape(loss, arrays[0]), 2.0**-140, "f4")
    assert weight.sum() < 1 / np.finfo("f4").max
    value, grad = loss.value_and_grad(*arrays, sample_weight=weight)
    expected, expected_grad = loss.value_and_grad(*arrays)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-6)
    # But for row losses, the products with such weights are subnormal.
    assert value == pytest.approx(expected, rel=1e-6 if loss is fl.dice else 0.01)


@pytest.mark.parametrize("loss", [fl.dice, fl.arcface], ids=lambda loss: loss.name)
def test_weights_too_large_to_be_multiplied(loss, rng):
    arrays = loss.sample(rng, "float32", (40, 7))
    weight = np.full(weight_shape(loss, arrays[0]), 2.0**127, "f4")
    value, grad = loss.value_and_grad(*arrays, sample_weight=weight)
    expected, expected_grad = loss.value_and_grad(*arrays)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-6)
    assert value == pytest.approx(expected, rel=1e-6)
