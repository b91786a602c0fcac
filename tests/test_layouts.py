"""Every memory layout, kind of input, class axis and odd size gives the oracle's numbers."""

import numpy as np
import pytest
from conftest import (
    LOSSES,
    assert_agrees,
    assert_same_bits,
    bits,
    every_dtype,
    every_loss,
    every_softmax,
    one_hot,
    weight_shape,
)
from hypothesis import given, settings
from hypothesis import strategies as st


class Frame:
    """What pandas, xarray and torch have in common for us: it can become an array."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype)


def strided(array):
    """Return the array as every second entry of a larger one, in every axis."""
    large = np.full([2 * length for length in array.shape], 99, array.dtype)
    view = large[(slice(None, None, 2),) * array.ndim]
    view[...] = array
    return view


def reversed_strides(array):
    everything = (slice(None, None, -1),) * array.ndim
    return array[everything].copy()[everything]


def transposed(array):
    """Return the array with its memory in another order, neither C nor (from 3-d on) Fortran."""
    axes = np.roll(np.arange(array.ndim), 1)
    return array.transpose(axes).copy().transpose(np.argsort(axes))


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def swapped(array):
    return array.astype(array.dtype.newbyteorder())


def unaligned(array):
    memory = bytearray(array.nbytes + 1)
    view = np.frombuffer(memory, array.dtype, offset=1).reshape(array.shape)
    view[...] = array
    return view


LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided": strided,
    "reversed": reversed_strides,
    "transposed": transposed,
    "read-only": read_only,
    "swapped": swapped,
    "unaligned": unaligned,
    "frame": Frame,
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())


def contents(value):
    return (value.array if isinstance(value, Frame) else value).tobytes()


@every_loss
@every_layout
def test_layouts(loss, layout, rng):
    for shape in ((65, 33), (5, 4, 33), (5, 2, 3, 10)):
        pred, target = loss.sample(rng, "float32", shape)
        laid = layout(pred), layout(target)
        before = [contents(array) for array in laid]
        assert_agrees(loss, loss.value_and_grad(*laid), pred, target)
        assert [contents(array) for array in laid] == before, "an input was changed"
        # Pred and target need not be laid out alike.
        assert_agrees(loss, loss.value_and_grad(pred, laid[1]), pred, target)
        assert_agrees(loss, loss.value_and_grad(laid[0], target), pred, target)


@every_loss
def test_memory_mapped_files(loss, rng, tmp_path):
    pred, target = loss.sample(rng, "float32", (65, 33))
    mapped = []
    for name, array in (("pred", pred), ("target", target)):
        array.tofile(tmp_path / name)
        mapped.append(np.memmap(tmp_path / name, array.dtype, "r", shape=array.shape))
    grad_out = np.memmap(tmp_path / "grad", "f4", "w+", shape=pred.shape)
    value, gradient = loss.value_and_grad(*mapped, grad_out=grad_out)
    assert gradient is grad_out
    assert_agrees(loss, (value, np.asarray(gradient)), pred, target)


@every_loss
def test_lists_and_numbers(loss, rng):
    pred, target = loss.sample(rng, "float64", (7, 33))
    expected = loss.value_and_grad(pred, target)
    for given_pred, given_target in (
        (pred.tolist(), target.tolist()),
        (tuple(map(tuple, pred)), target),
    ):
        value, gradient = loss.value_and_grad(given_pred, given_target)
        assert value == expected[0]
        assert_same_bits(gradient, expected[1], loss.name)
    weight, pred = rng.uniform(1, 2, 7), pred.astype("f4")
    target = target if loss.family == "softmax" else target.astype("f4")
    listed, plain = (
        loss.value_and_grad(pred, target, sample_weight=w) for w in (weight.tolist(), weight)
    )
    assert listed[0] == plain[0]
    assert_same_bits(listed[1], plain[1], loss.name)


@every_loss
def test_bool_and_integer_targets(loss, rng):
    """A target of bools or integers is its own value in pred's type."""
    classes = 33  # rows: tiles take long to compile
    for kind in ("?", "i8"):
        pred, _ = loss.sample(rng, "float32", (65, classes))
        dense = one_hot(rng.integers(0, classes, 65), classes)
        result = loss.value_and_grad(pred, dense.astype(kind))
        assert_agrees(loss, result, pred, dense.astype("f4"))


@every_softmax
def test_one_hot_rows_are_labels(loss, rng):
    for classes in (10, 33):
        pred, labels = loss.sample(rng, "float32", (65, classes))
        result = loss.value_and_grad(pred, one_hot(labels, classes).astype("f4"))
        assert_agrees(loss, result, pred, labels)


@every_softmax
@pytest.mark.parametrize("classes", [1, 2, 3, 10, 32, 33, 100, 600])
def test_class_and_row_counts(loss, classes, rng):
    """On either side of every seam: lanes, tiles, pieces of a sum."""
    for rows in (1, 7, 63, 64, 65, 130):
        pred, labels = loss.sample(rng, "float32", (rows, classes))
        labels[-1] = classes - 1
        labels[0] = 0
        for order in "CF":
            laid = pred.copy(order)
            assert_agrees(loss, loss.value_and_grad(laid, labels), pred, labels)


@pytest.mark.thorough
@every_softmax
def test_dense_class_counts(loss, rng):
    for classes in (1, 2, 17, 32, 33, 600):
        pred, _ = loss.sample(rng, "float32", (65, classes))
        dense = rng.dirichlet(np.ones(classes), 65).astype("f4")
        for order in "CF":
            result = loss.value_and_grad(pred.copy(order), dense)
            assert_agrees(loss, result, pred, dense)


@every_softmax
@pytest.mark.parametrize("axis", range(4))
def test_class_axis_at_every_position(loss, axis, rng):
    for ndim in range(axis + 1, 5):
        sizes = (5, 3, 7)[: ndim - 1]
        for classes in (10, 33):
            last, labels = loss.sample(rng, "float32", (*sizes, classes))
            pred = np.ascontiguousarray(np.moveaxis(last, -1, axis))
            for order in "CF":
                for position in (axis, axis - ndim):
                    result = loss.value_and_grad(pred.copy(order), labels, axis=position)
                    assert_agrees(loss, result, pred, labels, axis=position)


@every_softmax
def test_per_row_arrays_follow_the_class_axis(loss, rng):
    """Sample weights and single losses are laid out like the labels, in C and Fortran order."""
    last, labels = loss.sample(rng, "float32", (5, 13, 10))
    weight = rng.uniform(0.5, 2, labels.shape).astype("f4")
    keywords = {"sample_weight": weight, "reduction": "none", "axis": 1}
    pred = np.ascontiguousarray(np.moveaxis(last, -1, 1))
    for order in "CF":
        result = loss.value_and_grad(pred.copy(order), labels, **keywords)
        assert_agrees(loss, result, pred, labels, **keywords)


@every_softmax
@every_dtype
def test_logits_of_any_finite_size(loss, dtype, rng):
    """Shifts and gaps that overflow exp, and subnormals."""
    pred, labels = loss.sample(rng, dtype, (65, 33))
    kind = np.finfo(dtype)
    huge = np.sign(pred) * (kind.max / 1000)  # so that the sum of the losses is finite too
    for odd in (pred + 1e8, pred * 300, huge, pred * (kind.tiny / 16)):
        odd = odd.astype(dtype)
        value, gradient = loss.value_and_grad(odd, labels)
        assert np.isfinite(value)
        assert_agrees(loss, (value, gradient), odd, labels)


KINDS = ("C", "Fortran", "strided", "reversed", "transposed")


@settings(deadline=None, max_examples=60, derandomize=True, database=None)
@given(
    loss=st.sampled_from(LOSSES),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    classes=st.integers(1, 40),
    axis=st.integers(0, 3),
    layouts=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS), st.sampled_from(KINDS)),
    reduction=st.sampled_from(("mean", "batchmean", "sum")),
    scale=st.sampled_from((0.0, 1e-3, 1.0, 30.0)),
    upstream=st.sampled_from((None, -2.0)),
    seed=st.integers(0, 1000),
)
def test_fuzz(loss, sizes, classes, axis, layouts, reduction, scale, upstream, seed):
    """Weights are always given: each set of optional arrays is a compilation of its own."""
    rng = np.random.default_rng(seed)
    pred, target = loss.sample(rng, "float32", (*sizes, classes))
    if loss.family == "elementwise":
        scale = min(scale, 1)  # the textbook of a sigmoid is no oracle beyond, even in longdouble
    pred, keywords = pred * np.float32(scale), {"reduction": reduction, "upstream": upstream}
    if loss.family == "softmax":
        keywords["axis"] = axis % pred.ndim
        pred = np.ascontiguousarray(np.moveaxis(pred, -1, keywords["axis"]))
        target = np.where(rng.random(target.shape) < 0.2, -100, target)
    shape = weight_shape(loss, pred, keywords.get("axis", -1))
    weight = (rng.random(shape) * (rng.random(shape) > 0.2)).astype("f4")
    laid = [
        LAYOUTS[kind](array) for kind, array in zip(layouts, (pred, target, weight), strict=True)
    ]
    result = loss.value_and_grad(laid[0], laid[1], sample_weight=laid[2], **keywords)
    assert_agrees(loss, result, pred, target, sample_weight=weight, **keywords)
    again = loss.value_and_grad(laid[0], laid[1], sample_weight=laid[2], **keywords)
    assert (bits(again[1]) == bits(result[1])).all(), "two calls, two results"
