"""Calls with options, repeated: planned after the second one, and nothing that a user could see."""

import gc
import threading
import weakref

import numpy as np
import pytest
from conftest import LOSSES, assert_same_bits, assert_within, every_loss, weight_shape

import fastloss as fl
from fastloss import _call, _plans, _quick
from fastloss._evaluation import Evaluation

KEYWORDS = (
    {"reduction": "sum"},
    {"reduction": "none"},
    {"reduction": "none", "upstream": "weights"},
    {"sample_weight": "weights"},
    {"sample_weight": "weights", "normalizer": 5.0, "upstream": 3.0},
    {"accumulate": True, "grad_out": "buffer"},
    {"sample_weight": "weights", "grad_out": "buffer", "num_threads": 1},
)
OF_CLASSES = (
    {"class_weight": "class weights"},
    {"class_weight": "class weights", "label_smoothing": 0.1, "ignore_index": 2},
    {"class_weight": "class weights", "z_loss": 0.5, "reduction": "sum"},
    {"temperature": 2.0, "axis": 1},
    {"extra": ("lse", "proba", "n_correct", "n_valid"), "grad_out": "buffer"},
    {"extra": ("n_valid", "n_correct"), "sample_weight": "weights", "ignore_index": 2},
)
"""Keywords of calls; words stand for arrays that are new in every call."""


def new_call(loss, rng, keywords, shape=(17, 5), order="C"):
    """Return the arrays and the keywords of a call, all of them new."""
    arrays = [np.asarray(array, order=order) for array in loss.sample(rng, "float32", shape)]

    def laid(array):
        return np.asarray(array, "float32", order=order)

    new = {
        "weights": lambda: laid(rng.uniform(0.5, 2, weight_shape(loss, arrays[0]))),
        "class weights": lambda: laid(rng.integers(0, 3, shape[-1])),
        "buffer": lambda: laid(rng.uniform(size=shape)),
    }
    return arrays, {
        name: new[value]() if isinstance(value, str) and value in new else value
        for name, value in keywords.items()
    }


def copied(keywords):
    return {k: v.copy("K") if isinstance(v, np.ndarray) else v for k, v in keywords.items()}


def results_in_full(loss, monkeypatch, method, arrays, keywords):
    """Return what a call gives when nothing is known of calls before."""
    with monkeypatch.context() as patch:
        patch.setattr(loss, "_plans", _plans.Plans())
        patch.setattr(loss, "_quick", lambda *arrays: None)
        return getattr(loss, method)(*arrays, **copied(keywords))


def flattened(results):
    """Return a call's results as one list, those in tuples and dicts one by one."""
    if isinstance(results, dict):
        results = tuple(results.values())
    if not isinstance(results, tuple):
        return [results]
    return [part for result in results for part in flattened(result)]


def count_full_checks(monkeypatch):
    """Return a list that gets an entry for every call that is checked in full."""
    calls, in_full = [], Evaluation._evaluate_in_full

    def counting(self, *arguments):
        calls.append(self.name)
        return in_full(self, *arguments)

    monkeypatch.setattr(Evaluation, "_evaluate_in_full", counting)
    return calls


def assert_repeats(loss, method, keywords, rng, monkeypatch, **form):
    """Assert that the third call of a kind is planned and gives what it would give unplanned."""
    checked = count_full_checks(monkeypatch)
    seen = []
    for number in range(4):
        arrays, given = new_call(loss, rng, keywords, **form)
        expected = results_in_full(loss, monkeypatch, method, arrays, given)
        del checked[:]
        results = getattr(loss, method)(*arrays, **given)
        assert checked.count(loss.name) == (number < 2)
        for result, truth in zip(flattened(results), flattened(expected), strict=True):
            assert type(result) is type(truth)
            assert np.asarray(result).strides == np.asarray(truth).strides
            assert_same_bits(result, truth, f"call {number}")
        own = [id(x) for x in given.values()]
        new = [x for x in flattened(results) if isinstance(x, np.ndarray) and id(x) not in own]
        assert not any(np.shares_memory(one, other) for one in new for other in seen)
        seen += new
        if "grad_out" in given:
            assert any(result is given["grad_out"] for result in flattened(results))


@every_loss
@pytest.mark.parametrize("method", ["__call__", "value_and_grad", "value_grad_hess"])
@pytest.mark.parametrize("keywords", KEYWORDS, ids="-".join)
def test_planned_calls_give_what_full_checks_give(loss, method, keywords, rng, monkeypatch):
    monkeypatch.setattr(loss, "_plans", _plans.Plans())
    if method == "__call__":
        keywords = {
            name: value
            for name, value in keywords.items()
            if name not in ("grad_out", "accumulate", "upstream")
        } or {"reduction": "sum"}
    assert_repeats(loss, method, keywords, rng, monkeypatch)


@pytest.mark.parametrize("keywords", KEYWORDS, ids="-".join)
@pytest.mark.parametrize("name", ["mse", "softmax_cross_entropy", "dice", "cosine_distance"])
def test_planned_calls_of_fortran_arrays(name, keywords, rng, monkeypatch):
    loss = getattr(fl, name)
    if name == "cosine_distance":  # its buffers are a pair
        keywords = {k: v for k, v in keywords.items() if k not in ("grad_out", "accumulate")}
    monkeypatch.setattr(loss, "_plans", _plans.Plans())
    assert_repeats(loss, "value_and_grad", {"reduction": "mean", **keywords}, rng, monkeypatch,
                   order="F")  # fmt: skip


@pytest.mark.parametrize("name", ["mse", "softmax_cross_entropy"])
def test_strided_arrays_are_not_planned(name, rng, monkeypatch):
    loss = getattr(fl, name)
    monkeypatch.setattr(loss, "_plans", _plans.Plans())
    for strides in 3 * [(True, False), (False, True), (True, True)]:
        pred, target = loss.sample(rng, "float64", (8, 5))
        expected = loss.reference(pred, target, reduction="sum")
        laid = [
            np.repeat(array, 2, axis=0)[::2] if apart else array
            for array, apart in zip((pred, target), strides, strict=True)
        ]
        value, grad = loss.value_and_grad(*laid, reduction="sum")
        np.testing.assert_allclose(value, expected[0], rtol=1e-13)
        np.testing.assert_allclose(grad, expected[1], rtol=1e-13, atol=1e-15)
    assert not any(loss._plans._plans.values())


def test_arrays_in_two_orders_are_not_planned_as_one(rng, monkeypatch):
    """What is planned of one order must not be done with arrays in the other."""
    monkeypatch.setattr(fl.mse, "_plans", _plans.Plans())
    for orders in 3 * ["FF", "CC", "FC", "CF"]:
        x, y = (np.asarray(rng.normal(size=(4, 4)), order=order) for order in orders)
        loss, grad = fl.mse.value_and_grad(x, y, reduction="sum")
        expected, expected_grad = fl.mse.reference(x, y, reduction="sum")
        np.testing.assert_allclose(loss, expected, rtol=1e-14)
        np.testing.assert_allclose(grad, expected_grad, rtol=1e-14)


@pytest.mark.parametrize("keywords", OF_CLASSES, ids="-".join)
def test_planned_calls_with_keywords_of_classes(keywords, rng, monkeypatch):
    """Class weights of 0 come and go from call to call, with the same plan."""
    loss = fl.softmax_cross_entropy
    monkeypatch.setattr(loss, "_plans", _plans.Plans())
    assert_repeats(loss, "value_and_grad", keywords, rng, monkeypatch)


@pytest.mark.parametrize("loss", [fl.cosine_distance, fl.info_nce], ids=lambda loss: loss.name)
@pytest.mark.parametrize(
    "keywords",
    [{}, {"sample_weight": "weights"}, {"reduction": "none", "upstream": "weights"}],
    ids=["plain", "weighted", "each-row"],
)
def test_planned_calls_of_several_inputs(loss, keywords, rng, monkeypatch):
    """Gradients are pairs, and the total weight is found for every call."""
    monkeypatch.setattr(loss, "_plans", _plans.Plans())
    assert_repeats(loss, "value_and_grad", {"reduction": "mean", **keywords}, rng, monkeypatch)


def test_buffers_of_several_inputs(rng, monkeypatch):
    loss = fl.cosine_distance
    monkeypatch.setattr(loss, "_plans", _plans.Plans())
    checked = count_full_checks(monkeypatch)
    for _ in range(3):
        x, y = loss.sample(rng, "float32", (9, 4))
        expected = loss.reference(x, y, reduction="sum")
        outs = np.empty_like(x), np.empty_like(y)
        value, gradients = loss.value_and_grad(x, y, reduction="sum", grad_out=outs)
        assert abs(value - expected[0]) < 1e-4
        for out, gradient, truth in zip(outs, gradients, expected[1], strict=True):
            assert gradient is out
            np.testing.assert_allclose(out, truth, rtol=1e-4, atol=1e-5)
    assert len(checked) == 2


def test_second_input_by_name(rng, monkeypatch):
    """An input that is given by name is one of the call's arrays; its logarithm is another kind."""
    loss = fl.gaussian_nll
    monkeypatch.setattr(loss, "_plans", _plans.Plans())
    checked = count_full_checks(monkeypatch)
    for name, change in (("var", lambda v: v), ("log_var", np.log)):
        for _ in range(3):
            mean, target = loss.sample(rng, "float64", (11,))
            given = {name: change(rng.uniform(0.5, 2, 11))}
            value, gradients = loss.value_and_grad(mean, target, **given)
            expected, truths = loss.reference(mean, target, **given)
            assert abs(value - expected) < 1e-12
            for gradient, truth in zip(gradients, truths, strict=True):
                np.testing.assert_allclose(gradient, truth, rtol=1e-12)
    assert len(checked) == 4


@pytest.fixture
def planned(rng, monkeypatch):
    """Give the arrays of a weighted call that there is a plan for."""
    loss = fl.softmax_cross_entropy
    monkeypatch.setattr(loss, "_plans", _plans.Plans())
    arrays, keywords = new_call(loss, rng, {"sample_weight": "weights", "grad_out": "buffer"})
    for _ in range(3):
        loss.value_and_grad(*arrays, **keywords)
    return loss, arrays, keywords


def test_labels_are_checked_in_planned_calls(planned):
    loss, (logits, labels), keywords = planned
    before = keywords["grad_out"].copy()
    labels[3] = 5
    with pytest.raises(IndexError, match="labels is 5 at row 3"):
        loss.value_and_grad(logits, labels, **keywords)
    assert_same_bits(keywords["grad_out"], before, "grad_out")


def test_overlaps_are_found_in_planned_calls(planned):
    loss, (logits, labels), keywords = planned
    weight = keywords["grad_out"].reshape(-1)[: len(labels)]
    with pytest.raises(ValueError, match="overlap"):
        loss.value_and_grad(logits, labels, **{**keywords, "sample_weight": weight})
    expected = loss.value_and_grad(logits, labels, **keywords)
    in_place = loss.value_and_grad(logits, labels, **{**keywords, "grad_out": logits})
    assert in_place[1] is logits
    assert in_place[0] == expected[0]
    assert_same_bits(in_place[1], expected[1], "the gradient in place")


@every_loss
def test_planned_calls_in_place(loss, rng, monkeypatch):
    monkeypatch.setattr(loss, "_plans", _plans.Plans())
    checked = count_full_checks(monkeypatch)
    for number in range(4):
        pred, target = loss.sample(rng, "float32", (17, 5))
        keywords = {"sample_weight": rng.uniform(0.5, 2, weight_shape(loss, pred)).astype("f4")}
        expected = results_in_full(loss, monkeypatch, "value_and_grad", (pred, target), keywords)
        del checked[:]
        value, gradient = loss.value_and_grad(pred, target, grad_out=pred, **keywords)
        assert len(checked) == (number < 2)
        assert gradient is pred
        assert value == expected[0]
        assert_same_bits(pred, expected[1], f"call {number}")
    shared = rng.standard_normal(34).astype("f4")
    for _ in range(3):
        with pytest.raises(ValueError, match="overlap"):
            fl.mse.value_and_grad(shared[:17], shared[9:26], grad_out=shared[:17], reduction="sum")


@fl.rowwise
def of_rows(row, label, grad):
    """Return the squared distance of a row's entry from 1, by a function of this file."""
    apart = row[label] - 1
    if grad is not None:
        grad[:] = 0
        grad[label] = 2 * apart
    return apart * apart


@pytest.mark.parametrize(
    "loss", [*LOSSES, fl.nll, fl.dice, fl.multi_margin, of_rows], ids=lambda loss: loss.name
)
@pytest.mark.parametrize("shape", [(17, 5), (17, 300), (9000, 5)], ids=str)
def test_plain_calls_in_place_are_quick(loss, shape, rng, monkeypatch):
    checked = count_full_checks(monkeypatch)
    for number in range(2):
        pred, target = loss.sample(rng, "float32", shape)
        value, expected = loss.value_and_grad(pred, target)
        del checked[:]
        assert loss.value_and_grad(pred, target, grad_out=pred) == (value, pred)
        assert not checked
        assert_same_bits(pred, expected, f"call {number}")


@pytest.mark.parametrize(
    "loss",
    [fl.softmax_cross_entropy, fl.softmax_focal, fl.categorical_cross_entropy, fl.kl_div],
    ids=lambda loss: loss.name,
)
@pytest.mark.parametrize("classes", [5, 40])
def test_plain_calls_in_place_with_dense_targets(loss, classes, rng, monkeypatch):
    checked = count_full_checks(monkeypatch)
    for number in range(2):
        pred, _ = loss.sample(rng, "float32", (17, classes))
        target = rng.dirichlet(np.ones(classes), 17).astype("f4")
        value, expected = loss.value_and_grad(pred, target)
        del checked[:]
        assert loss.value_and_grad(pred, target, grad_out=pred)[0] == pytest.approx(value, rel=1e-7)
        assert len(checked) == (loss is fl.softmax_focal and number < 2)  # it copies the logits
        assert_within(pred, expected, 2 * np.spacing(abs(expected)), f"call {number}")


@pytest.mark.parametrize(
    "loss", [fl.mse, fl.softmax_cross_entropy, fl.nll, fl.multi_margin], ids=lambda loss: loss.name
)
@pytest.mark.parametrize("most", [2, 64])
def test_large_calls_of_many_kinds_in_turns(loss, most, rng, monkeypatch):
    """What is remembered of one kind of large arrays is not used for another."""
    monkeypatch.setattr(_quick, "MOST", most)
    shapes = [(9000, 6), (6000, 9), (54, 1000), (1000, 54), (27, 2000)]
    kinds = [*((shape, "f4") for shape in shapes), ((1000, 54), "f8")]
    for _ in range(2):
        for shape, dtype in kinds:
            pred, target = loss.sample(rng, dtype, shape)
            for given in (target, target.astype("i4" if target.dtype == np.int64 else dtype)):
                buffer, place = np.empty_like(pred), pred.copy()
                expected = loss.value_and_grad(pred, given, reduction="mean")  # is not quick
                for results in (
                    loss.value_and_grad(pred, given),
                    loss.value_and_grad(pred, given, grad_out=buffer),
                    loss.value_and_grad(place, given, grad_out=place),
                ):
                    assert results[0] == pytest.approx(expected[0], rel=1e-12), (shape, dtype)
                    assert_same_bits(results[1], expected[1], str(shape))
            assert loss(pred, given) == pytest.approx(expected[0], rel=2e-7)
            if target.dtype == np.int64:
                target[-1] = shape[1]
                with pytest.raises(IndexError, match=f" is {shape[1]} at row {shape[0] - 1}"):
                    loss.value_and_grad(pred, target, grad_out=buffer)
            with pytest.raises(ValueError, match="grad_out"):
                loss.value_and_grad(pred, given, grad_out=np.empty(shape[::-1], dtype))


def test_other_arrays_than_the_planned_ones(planned):
    """Views, read-only arrays, other dtypes and other shapes are other kinds of calls."""
    loss, (logits, labels), keywords = planned
    value, gradient = loss.value_and_grad(logits, labels, **keywords)
    gradient = gradient.copy()
    read_only = logits.copy()
    read_only.flags.writeable = False
    strided = np.repeat(keywords["sample_weight"], 2)[::2]
    for changed in (read_only, np.asfortranarray(logits), logits.astype(">f4").astype("=f4")):
        again = loss.value_and_grad(changed, labels, **{**keywords, "sample_weight": strided})
        assert again[0] == pytest.approx(value, rel=1e-6)
        np.testing.assert_allclose(again[1], gradient, rtol=1e-5, atol=1e-7)
    keywords["grad_out"].flags.writeable = False
    with pytest.raises(ValueError, match="grad_out is read-only"):
        loss.value_and_grad(logits, labels, **keywords)
    with pytest.raises(ValueError, match="sample_weight"):
        loss.value_and_grad(logits, labels, sample_weight=np.ones(3, "float32"))


def test_calls_without_arrays_are_refused():
    for keywords in ({"reduction": "sum"}, {"grad_out": np.zeros(3)}):
        with pytest.raises(TypeError, match="0 arrays were given by position"):
            fl.mse.value_and_grad(**keywords)


def test_equal_values_of_other_types_are_checked(rng, monkeypatch):
    """True equals 1, and is no number."""
    monkeypatch.setattr(fl.huber, "_plans", _plans.Plans())
    arrays = fl.huber.sample(rng, "float32", (4,))
    for _ in range(3):
        fl.huber(*arrays, delta=1)
    with pytest.raises(TypeError, match="delta is bool True"):
        fl.huber(*arrays, delta=True)


def test_kinds_of_calls_are_told_apart(rng):
    """By values, their types and the signs of zeros, dtypes and shapes, and where arrays stand."""
    pred, target = fl.mse.sample(rng, "float32", (8,))
    wide, out, tall = pred.astype("f8"), pred.copy(), pred.reshape(8, 1)
    calls = [
        ((pred, target), {}),
        ((wide, target), {}),
        ((pred, tall), {}),
        ((pred,), {"upstream": target}),
        ((pred, target), {"upstream": target}),
        ((pred, target), {"sample_weight": target}),
        ((pred, target), {"grad_out": out}),
        ((pred, target), {"grad_out": pred}),
        ((pred, target), {"grad_out": (out,)}),
        ((pred, target), {"grad_out": None}),
        *(((pred, target), {"upstream": number}) for number in (1, 1.0, True, 0.0, -0.0, "1", 2.0)),
    ]
    keys = [_plans.described(_call.GRADIENT, arrays, given).key for arrays, given in calls]
    keys.append(_plans.described(_call.HESSIAN, *calls[0]).key)
    assert len({*keys}) == len(keys) == len(calls) + 1


def test_buffers_in_a_tuple_are_refused_where_there_is_one(planned):
    loss, arrays, keywords = planned
    keywords["grad_out"] = (keywords["grad_out"],)
    with pytest.raises(TypeError, match="grad_out is a tuple of 1"):
        loss.value_and_grad(*arrays, **keywords)


def test_odd_calls_do_not_keep_a_kind_from_being_planned(rng, monkeypatch):
    """Memory that two arguments share says nothing of calls where they are apart."""
    monkeypatch.setattr(fl.mse, "_plans", _plans.Plans())
    checked = count_full_checks(monkeypatch)
    pred, target = fl.mse.sample(rng, "float32", (8,))
    for _ in range(3):
        assert fl.mse(pred, pred, reduction="sum") == 0
        fl.mse.grad(pred, target, grad_out=pred[:], reduction="sum")
    assert len(checked) == 6
    for _ in range(2):
        assert fl.mse(pred, target, reduction="sum") > 0
        fl.mse.grad(pred, target, grad_out=np.empty(8, "float32"), reduction="sum")
    assert len(checked) == 8


def test_plans_do_not_pile_up(rng, monkeypatch):
    plans = _plans.Plans()
    monkeypatch.setattr(fl.mse, "_plans", plans)
    arrays = fl.mse.sample(rng, "float32", (4,))
    for number in range(2 * _plans.MOST):
        for _ in range(2):
            fl.mse(*arrays, normalizer=float(number + 1))
    assert 0 < len(plans._plans) <= _plans.MOST


def test_plans_hold_no_arrays(rng, monkeypatch):
    """Whoever drops the arrays of a call gets their memory back."""
    loss = fl.softmax_cross_entropy
    monkeypatch.setattr(loss, "_plans", _plans.Plans())
    words = {"sample_weight": "weights", "class_weight": "class weights", "grad_out": "buffer"}
    references = []
    for _ in range(3):
        arrays, keywords = new_call(loss, rng, words)
        loss.value_and_grad(*arrays, **keywords)
        references += map(weakref.ref, (*arrays, *keywords.values()))
    for _ in range(3):  # and those of a quick one
        arrays, keywords = new_call(loss, rng, {"grad_out": "buffer"}, (9000, 5))
        loss.value_and_grad(*arrays, **keywords)
        references += map(weakref.ref, (*arrays, *keywords.values()))
    del arrays, keywords
    gc.collect()
    assert [reference() for reference in references] == [None] * 24


def test_planned_calls_from_threads(rng, monkeypatch):
    loss = fl.softmax_cross_entropy
    monkeypatch.setattr(loss, "_plans", _plans.Plans())
    calls = [new_call(loss, rng, {"sample_weight": "weights"}) for _ in range(4)]
    expected = [loss.value_and_grad(*arrays, **keywords) for arrays, keywords in calls]
    wrong = []

    def work(k):
        arrays, keywords = calls[k]
        for _ in range(200):
            value, gradient = loss.value_and_grad(*arrays, **keywords)
            if value != expected[k][0] or not np.array_equal(gradient, expected[k][1]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
