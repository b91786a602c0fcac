"""Every row of the contract's table of errors: the type, what the message says, nothing written.

The faults are derived from the signature, so that a new loss is covered by being registered.
"""

import inspect
import re

import numpy as np
import pytest
from conftest import ALL, LOSSES, every_loss, every_softmax, weight_shape
from numpy.exceptions import AxisError

import fastloss as fl
from fastloss._options import Choice, Flag

ROWS, CLASSES = 6, 33
SENTINEL = 12345.0
NUMBERS = (-1e3, -1.0, -1e-9, 0.0, 0.5, 1.0, 1.0 + 1e-9, 2.0, 1e3)


def batch(loss):
    """Return a valid float32 batch."""
    return loss.sample(np.random.default_rng(0), "float32", (ROWS, CLASSES))


def masked(array):
    return np.ma.MaskedArray(array, np.zeros(array.shape, bool))


def read_only(array):
    array.flags.writeable = False
    return array


def faults_of_pred(loss):
    pred, target = batch(loss)
    name = loss._pred_name
    for label, bad, got in (
        ("integer", pred.astype(int), "int64"),
        ("float16", pred.astype("f2"), "float16"),
        ("longdouble", pred.astype("g"), "float128" if np.dtype("g").itemsize == 16 else ""),
        ("complex", pred.astype("F"), "complex64"),
        ("object", pred.astype(object), "object"),
        ("bool", pred > 0, "bool"),
        ("text", "text", ""),
        ("None", None, ""),
        ("masked", masked(pred), "masked"),
        ("ragged", [[1.0], [1.0, 2.0]], "list"),
        ("list of int", pred.astype(int).tolist(), "int64"),
    ):
        yield f"pred {label}", TypeError, name, got, (bad, target), {}
    if loss.family == "softmax":
        yield "pred 0-d", ValueError, name, "()", (np.float32(1), 0), {}
        empty = np.zeros((ROWS, 0), "f4")
        yield "pred no classes", ValueError, name, "(6, 0)", (empty, target), {}


def faults_of_target(loss):
    pred, target = batch(loss)
    name = loss._target_name
    dense = pred * 0
    for label, bad, got in (
        ("float16", dense.astype("f2"), "float16"),
        ("float64", dense.astype("f8"), "float64"),
        ("complex", dense.astype("F"), "complex64"),
        ("object", dense.astype(object), "object"),
        ("masked", masked(target), "masked"),
        ("text", "text", ""),
        ("None", None, ""),
        ("ragged", [[1.0], [1.0, 2.0]], "list"),
    ):
        yield f"target {label}", TypeError, name, got, (pred, bad), {}
    for label, bad, got in (
        ("transposed", np.ascontiguousarray(dense.T), "(33, 6)"),
        ("too few", dense[1:], "(5, 33)"),
        ("too wide", np.zeros((ROWS, CLASSES, 1), int), "(6, 33, 1)"),
        ("one column", np.zeros((ROWS, 1), int), "(6, 1)"),
        ("too short", np.zeros(ROWS - 1, int), "(5,)"),
        ("empty", np.zeros(0, int), "(0,)"),
    ):
        yield f"target {label}", ValueError, name, got, (pred, bad), {}
    if loss.family == "softmax":
        yield "float labels", TypeError, name, "float64", (pred, target.astype(float)), {}
        yield "bool labels", TypeError, name, "bool", (pred, target > 0), {}
    else:
        column, flat = np.zeros((ROWS, 1), "f4"), np.zeros(ROWS, "f4")
        yield "broadcast target", ValueError, name, "(6, 1)", (flat, column), {}
        yield "broadcast pred", ValueError, name, "(6,)", (column, flat), {}
        yield "number as target", ValueError, name, "()", (flat, np.float32(1)), {}


def faults_of_options(loss):
    arrays = batch(loss)
    for name, option in loss.options.items():
        if isinstance(option, Flag):
            for bad in (1, None, "yes"):
                yield f"{name} {bad!r}", TypeError, name, repr(bad), arrays, {name: bad}
            continue
        if isinstance(option, Choice):
            yield f"{name} word", ValueError, name, "'neither'", arrays, {name: "neither"}
            yield f"{name} None", TypeError, name, "None", arrays, {name: None}
            continue
        for bad in (*(x for x in NUMBERS if not option.holds(x)), np.nan, np.inf):
            yield f"{name} {bad}", ValueError, name, str(bad), arrays, {name: bad}
        for bad in ("0.1", None, True, 0.1j, {}):
            if bad is None and option.default is None:
                continue
            yield f"{name} {bad!r}", TypeError, name, repr(bad), arrays, {name: bad}
        if option.per_class:
            yield f"{name} short", ValueError, name, "(32,)", arrays, {name: np.ones(CLASSES - 1)}
            bad = np.full(CLASSES, -np.inf)
            yield f"{name} outside", ValueError, name, "(33,)", arrays, {name: bad}
            yield f"{name} text", TypeError, name, "<U1", arrays, {name: ["a"] * CLASSES}
        else:
            yield f"{name} array", TypeError, name, "(33,)", arrays, {name: np.ones(CLASSES)}


def faults_of_keywords(loss):
    arrays = pred, _ = batch(loss)
    for name, bad, error, got in (
        ("reduction", "average", ValueError, "'average'"),
        ("reduction", None, TypeError, "None"),
        ("reduction", 1, TypeError, "int 1"),
        ("reduction", b"mean", TypeError, "b'mean'"),
        ("normalizer", "1", TypeError, "'1'"),
        ("normalizer", True, TypeError, "True"),
        ("normalizer", 1j, TypeError, "1j"),
        ("normalizer", np.ones(2), TypeError, "(2,)"),
        ("normalizer", np.nan, ValueError, "nan"),
        ("normalizer", np.inf, ValueError, "inf"),
        ("num_threads", 0, ValueError, "0"),
        ("num_threads", -1, ValueError, "-1"),
        ("num_threads", 1.0, TypeError, "1.0"),
        ("num_threads", True, TypeError, "True"),
        ("num_threads", "2", TypeError, "'2'"),
        ("upstream", "1", TypeError, "'1'"),
        ("upstream", True, TypeError, "True"),
        ("upstream", 1j, TypeError, "1j"),
        ("upstream", np.nan, ValueError, "nan"),
        ("upstream", np.ones(ROWS), ValueError, "(6,)"),  # only with reduction="none"
        ("upstream", [[1.0], [1.0, 2.0]], TypeError, "list"),
        ("accumulate", 1, TypeError, "int 1"),
        ("accumulate", None, TypeError, "None"),
        ("sample_weight", "text", TypeError, "<U4"),
        ("sample_weight", np.ones(ROWS, complex), TypeError, "complex128"),
        ("sample_weight", masked(np.ones(ROWS)), TypeError, "masked"),
        ("sample_weight", np.ones(ROWS, object), TypeError, "object"),
        ("sample_weight", 2.0, ValueError, "()"),
        ("sample_weight", np.ones(CLASSES), ValueError, "(33,)"),
        ("sample_weight", np.ones((ROWS, 1)), ValueError, "(6, 1)"),
        ("sample_weight", [[1.0], [1.0, 2.0]], TypeError, "list"),
    ):
        yield f"{name} {bad!r}", error, name, got, arrays, {name: bad}
    for reduction in ("sum", "batchmean", "none"):
        keywords = {"normalizer": 2.0, "reduction": reduction}
        yield f"normalizer {reduction}", ValueError, "normalizer", reduction, arrays, keywords
    keywords = {"upstream": np.ones(ROWS + 1), "reduction": "none"}
    yield "upstream long", ValueError, "upstream", "(7,)", arrays, keywords
    yield "unknown keyword", TypeError, "sample_wait", "unknown", arrays, {"sample_wait": 1}
    keywords = {"accumulate": True, "grad_out": None}
    yield "accumulate into nothing", ValueError, "accumulate", "True", arrays, keywords
    keywords = {"accumulate": True, "grad_out": pred}
    yield "accumulate into pred", ValueError, "accumulate", "True", arrays, keywords
    if loss.family != "softmax":
        yield "axis unknown", TypeError, "axis", "unknown", arrays, {"axis": -1}
        return
    for name, bad, error, got in (
        ("axis", 2, AxisError, "2"),
        ("axis", -3, AxisError, "-3"),
        ("axis", 1.0, TypeError, "1.0"),
        ("axis", None, TypeError, "None"),
        ("axis", True, TypeError, "True"),
        ("axis", "1", TypeError, "'1'"),
        ("ignore_index", 1.0, TypeError, "1.0"),
        ("ignore_index", None, TypeError, "None"),
        ("ignore_index", True, TypeError, "True"),
        ("ignore_index", 2**63, ValueError, str(2**63)),
        ("ignore_index", -(2**63) - 1, ValueError, str(-(2**63) - 1)),
        ("class_weight", np.ones(CLASSES + 1), ValueError, "(34,)"),
        ("class_weight", 1.0, ValueError, "()"),
        ("class_weight", ["a"] * CLASSES, TypeError, "<U1"),
        ("class_weight", masked(np.ones(CLASSES)), TypeError, "masked"),
    ):
        yield f"{name} {bad!r}", error, name, got, arrays, {name: bad}


def faults_of_buffers(loss):
    arrays = pred, target = batch(loss)
    memory = np.zeros(2 * pred.size, "f4")
    whole = memory[: pred.size].reshape(pred.shape)
    whole[...] = pred
    shifted = memory[1 : pred.size + 1].reshape(pred.shape)
    for name in ("grad_out", "hess_out"):
        for label, bad, error, got in (
            ("list", pred.tolist(), TypeError, "list"),
            ("float64", np.zeros(pred.shape), TypeError, "float64"),
            ("integer", np.zeros(pred.shape, "i4"), TypeError, "int32"),
            ("swapped", np.zeros(pred.shape, ">f4"), TypeError, ">f4"),
            ("short", np.zeros((ROWS - 1, CLASSES), "f4"), ValueError, "(5, 33)"),
            ("transposed", np.zeros((CLASSES, ROWS), "f4"), ValueError, "(33, 6)"),
            ("flat", np.zeros(pred.size, "f4"), ValueError, "(198,)"),
            ("read-only", read_only(np.zeros(pred.shape, "f4")), ValueError, "read-only"),
        ):
            yield f"{name} {label}", error, name, got, arrays, {name: bad}
        spread = np.lib.stride_tricks.as_strided(memory[-1:], pred.shape, (0, 0), writeable=True)
        yield f"{name} broadcast", ValueError, name, "broadcast", arrays, {name: spread}
        overlapping = "overlapping"
        yield f"{name} shifted", ValueError, name, overlapping, (whole, target), {name: shifted}
        yield (
            f"{name} reversed",
            ValueError,
            name,
            overlapping,
            (whole, target),
            {name: whole[::-1]},
        )
        dense = np.zeros(pred.shape, "f4")
        yield f"{name} is target", ValueError, name, overlapping, (pred, dense), {name: dense}
    keywords = {"hess_out": whole}
    yield "hess_out is pred", ValueError, "hess_out", "overlapping", (whole, target), keywords
    keywords = {"hess_out": dense, "grad_out": dense}
    yield "hess_out is grad_out", ValueError, "hess_out", "overlapping", arrays, keywords

    singles = weight_shape(loss, pred)
    weight = np.ones(singles, "f4")
    keywords = {"loss_out": np.zeros(singles, "f4")}
    yield "loss_out with mean", ValueError, "loss_out", "mean", arrays, keywords
    for label, bad, error, got in (
        ("float64", np.zeros(singles), TypeError, "float64"),
        ("long", np.zeros((7, *singles[1:]), "f4"), ValueError, "(7"),
        ("read-only", read_only(np.zeros(singles, "f4")), ValueError, "read-only"),
        ("is weight", weight, ValueError, "overlapping"),
        ("is pred", whole.reshape(-1)[: weight.size].reshape(singles), ValueError, "overlapping"),
    ):
        keywords = {"loss_out": bad, "reduction": "none", "sample_weight": weight}
        yield f"loss_out {label}", error, "loss_out", got, (whole, target), keywords
    # One array as pred and as something else, and its gradient in place.
    line = np.ones(CLASSES, "f4")
    both = {"grad_out": line}
    if loss.family == "elementwise":
        keywords = {**both, "sample_weight": line}
        yield "weight in place", ValueError, "grad_out", "overlapping", (line, line * 0), keywords
        yield "target in place", ValueError, "grad_out", "overlapping", (line, line), both
    else:
        keywords = {**both, "class_weight": line}
        yield "weight in place", ValueError, "grad_out", "overlapping", (line, 0), keywords


FAULTS = [
    pytest.param(loss, *fault[1:], id=f"{loss.name}-{fault[0]}")
    for loss in LOSSES
    for faults in (faults_of_pred, faults_of_target, faults_of_keywords, faults_of_buffers)
    for fault in faults(loss)
] + [
    pytest.param(loss, *fault[1:], id=f"{loss.name}-{fault[0]}")
    for loss in [*LOSSES, *(loss for loss in ALL if loss not in LOSSES)]
    for fault in faults_of_options(loss)
]


@pytest.mark.parametrize(("loss", "error", "argument", "got", "arrays", "keywords"), FAULTS)
def test_faults(loss, error, argument, got, arrays, keywords):
    keywords = dict(keywords)
    buffers = {}
    call = loss.value_grad_hess if loss in LOSSES else loss
    if loss._other_names and loss.family == "elementwise":
        keywords["var"] = np.ones_like(arrays[0])
    for name in ("grad_out", "hess_out") if loss in LOSSES else ():
        if name not in keywords and isinstance(arrays[0], np.ndarray):
            buffers[name] = np.full(arrays[0].shape, SENTINEL, "f4")
    inputs = [array.copy() for array in arrays if isinstance(array, np.ndarray)]
    with pytest.raises(error) as caught:
        call(*arrays, **buffers, **keywords)
    assert type(caught.value) is error
    message = str(caught.value)
    assert message.startswith(f"{loss.name}: "), message
    assert "; expected " in message, message
    assert len(message.split("; expected ")[1]) > 3, message
    came = message.split("; expected ")[0]
    assert argument in came, message
    assert got in came, message
    for name, buffer in buffers.items():
        assert (buffer == SENTINEL).all(), f"{name} was written"
    for array, before in zip(
        (array for array in arrays if isinstance(array, np.ndarray)), inputs, strict=True
    ):
        assert np.array_equal(array, before)


@every_loss
def test_value_only_has_no_gradient_keywords(loss):
    for name in ("grad_out", "hess_out", "upstream", "accumulate"):
        with pytest.raises(TypeError, match=f"{loss.name}: unknown keyword argument '{name}'"):
            loss(*batch(loss), **{name: None})
    with pytest.raises(TypeError, match=f"{loss.name}: unknown keyword argument 'hess_out'"):
        loss.value_and_grad(*batch(loss), hess_out=None)
    with pytest.raises(TypeError, match=f"{loss.name}: unknown keyword argument 'grad_out'"):
        loss.reference(*batch(loss), grad_out=None)


@every_loss
def test_arrays_are_positional_only_and_options_keyword_only(loss):
    parameters = list(inspect.signature(loss).parameters.values())
    assert [p.kind for p in parameters[:2]] == [inspect.Parameter.POSITIONAL_ONLY] * 2
    assert {p.kind for p in parameters[2:]} == {inspect.Parameter.KEYWORD_ONLY}
    with pytest.raises(TypeError):
        loss(*batch(loss), "sum")


# Labels outside the classes: found while running, so these compile a kernel

FAR = (-1, -2, -99, -101, CLASSES, CLASSES + 1, 2**31 - 1, -(2**31), 2**31, 2**32 - 1, 2**32,
       2**62, -(2**62), 2**63 - 1, -(2**63))  # fmt: skip


@every_softmax
@pytest.mark.parametrize("rows", [1, 65])
def test_a_label_outside_names_its_row_and_writes_nothing(loss, rows):
    pred, labels = loss.sample(np.random.default_rng(0), "float32", (rows, CLASSES))
    buffer = np.full_like(pred, SENTINEL)
    for position in sorted({0, rows // 2, rows - 1}):
        for bad in FAR:
            wrong = labels.copy()
            wrong[position:] = bad
            with pytest.raises(IndexError) as caught:
                loss.value_and_grad(pred, wrong, grad_out=buffer)
            message = str(caught.value)
            assert message.startswith(
                f"{loss.name}: {loss._target_name} is {bad} at row {position};"
            )
            assert f"expected a class in [0, {CLASSES}) or ignore_index=-100" in message
            assert (buffer == SENTINEL).all(), bad


@pytest.mark.parametrize(
    "loss", [fl.softmax_cross_entropy, fl.nll, fl.multi_margin], ids=lambda loss: loss.name
)
@pytest.mark.parametrize("rows", [65, 9000])
def test_a_label_outside_leaves_the_predictions_of_calls_in_place(loss, rows):
    pred, labels = loss.sample(np.random.default_rng(0), "float32", (rows, CLASSES))
    before = pred.copy()
    labels[-1] = CLASSES
    for _ in range(2):
        with pytest.raises(IndexError, match=f"is {CLASSES} at row {rows - 1}"):
            loss.value_and_grad(pred, labels, grad_out=pred)
        assert (pred == before).all()


@pytest.mark.parametrize(
    "loss", [fl.softmax_cross_entropy, fl.dice, fl.kl_div], ids=lambda loss: loss.name
)
def test_one_array_as_prediction_target_and_gradient(loss):
    both = np.full((65, CLASSES), 1 / CLASSES, "f4")
    with pytest.raises(ValueError, match="overlapping"):
        loss.value_and_grad(both, both, grad_out=both)
    assert (both == np.float32(1 / CLASSES)).all()


@every_softmax
def test_the_first_bad_row_is_named_in_every_layout(loss):
    shape, axis = (3, 4, 10, 5), 2
    pred, labels = loss.sample(np.random.default_rng(0), "float32", (3, 4, 5, 10))
    pred = np.moveaxis(pred, -1, axis)
    bad = (1, 2, 3)
    labels[bad] = 10
    labels[2] = -7  # further bad rows, behind the first in C order
    assert pred.shape == shape
    for order in "CFK":
        for label_order in "CF":
            with pytest.raises(IndexError, match=r"is 10 at row \(1, 2, 3\);"):
                loss.value_and_grad(pred.copy(order), labels.copy(label_order), axis=axis)


@every_softmax
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_labels_of_every_integer_type(loss, kind):
    """The same value for good labels; the ends of the type's range are outside, never wrapped."""
    pred, labels = loss.sample(np.random.default_rng(0), "float32", (7, CLASSES))
    typed = labels.astype(kind)
    assert loss(pred, typed) == loss(pred, labels)
    limits = np.iinfo(kind)
    candidates = {CLASSES, -1, limits.min, limits.max, limits.max - 99, limits.max // 2}
    outside = {x for x in candidates if limits.min <= x and not 0 <= x < CLASSES}
    for bad in sorted(outside):  # u8's limits.max - 99 is 2**64 - 100: -100 in disguise
        wrong = typed.copy()
        wrong[-1] = bad
        with pytest.raises(IndexError, match=rf"is {bad} at row 6; expected a class in \[0, 33\)"):
            loss(pred, wrong)
    if limits.min < 0:
        typed[2] = -100
        assert loss(pred, typed) == loss(np.delete(pred, 2, 0), np.delete(labels, 2))
    typed[2] = limits.max
    if limits.max < 2**63:
        left = np.delete(pred, 2, 0), np.delete(labels, 2)
        assert loss(pred, typed, ignore_index=int(limits.max)) == loss(*left)


def test_a_masked_buffer_is_refused_and_a_matrix_is_filled(rng):
    pred, target = np.ones((4, 3)), np.zeros((4, 3))
    masked = np.ma.array(np.zeros((4, 3)), mask=True)
    with pytest.raises(TypeError, match=r"mse: grad_out is .*; expected a numpy.ndarray without"):
        fl.mse.value_and_grad(pred, target, grad_out=masked)
    buffer = np.zeros((4, 3)).view(np.matrix)
    assert fl.mse.value_and_grad(pred, target, grad_out=buffer)[1] is buffer
    np.testing.assert_array_equal(np.asarray(buffer), fl.mse.grad(pred, target))


def test_a_buffer_that_overlaps_itself_is_refused():
    memory = np.zeros(5, "f4")
    buffer = np.lib.stride_tricks.as_strided(memory, (3, 3), (4, 4))
    with pytest.raises(ValueError, match=r"mse: grad_out is .*overlaps itself"):
        fl.mse.value_and_grad(np.ones((3, 3), "f4"), np.zeros((3, 3), "f4"), grad_out=buffer)


def test_weights_out_of_the_range_of_pred_are_refused():
    for weight in (1e39, 1e-50):
        with pytest.raises(ValueError, match=r"mse: sample_weight .* range of float32"):
            fl.mse(np.ones(2, "f4"), np.zeros(2, "f4"), sample_weight=np.array([1.0, weight]))


REFUSED_BY_REFERENCE = [
    (fl.softmax_cross_entropy, np.zeros((2, 3)), [0, 7], IndexError, "labels is 7 at row 1; exp"),
    (fl.nll, np.zeros((2, 3)), [0, -1], IndexError, "labels is -1 at row 1; expected a class"),
    (fl.nll, np.zeros((2, 3)), [0], ValueError, r"labels is int64 of shape \(1,\); expected int"),
    (fl.nll, np.zeros((2, 3)), [0.0, 1.0], TypeError, r"labels is float64 of shape \(2,\); expec"),
    (fl.nll, np.float64(3), 1, ValueError, "log_probabilities is float64 of shape .*; expected an"),
    (
        fl.huber,
        np.zeros((4, 1)),
        np.zeros(4),
        ValueError,
        r"target is float64 of shape \(4,\); exp",
    ),
    (fl.dice, np.zeros((4, 3)), np.zeros((4, 1)), ValueError, r"target is float64 of shape \(4, 1"),
]


@pytest.mark.parametrize(("loss", "pred", "target", "error", "message"), REFUSED_BY_REFERENCE)
def test_the_reference_refuses_shapes_and_labels_too(loss, pred, target, error, message):
    with pytest.raises(error, match=f"^{loss.name}: {message}"):
        loss.reference(pred, target)


@pytest.mark.parametrize(
    "mixup",
    [3, ([0, 1],), ([0, 1], 2.0), ([0, 1], "a"), ([0], 0.5), ([0, 3], 0.5), ([0.0, 1.0], 0.5)],
    ids=str,
)
def test_the_reference_refuses_the_mixtures_that_the_loss_refuses(mixup):
    arguments = np.zeros((2, 3)), [0, 2]
    with pytest.raises((TypeError, ValueError, IndexError)) as refused:
        fl.softmax_cross_entropy(*arguments, mixup=mixup)
    with pytest.raises(refused.type, match=f"^{re.escape(str(refused.value))}$"):
        fl.softmax_cross_entropy.reference(*arguments, mixup=mixup)


@pytest.mark.parametrize(("loss", "target"), [(fl.mse, np.zeros((2, 3))), (fl.nll, [0, 1])])
def test_the_reference_refuses_weights_of_other_shapes(loss, target):
    with pytest.raises(ValueError, match=rf"^{loss.name}: sample_weight is .* \(3,\); expected"):
        loss.reference(np.zeros((2, 3)), target, sample_weight=np.ones(3))
    if loss is fl.nll:
        with pytest.raises(ValueError, match=r"class_weight is .* \(2,\); expected shape \(3,\)"):
            loss.reference(np.zeros((2, 3)), target, class_weight=np.ones(2))


def test_what_came_is_told_of_an_empty_array_too():
    with pytest.raises(ValueError, match=r"labels is float64 of shape \(0, 4\); expected integer"):
        fl.nll(np.zeros((0, 4)), np.zeros((0, 4)))
