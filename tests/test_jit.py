"""The losses in compiled code: point and row functions, and calls of the losses themselves."""

import doctest
import subprocess
import sys
import threading
import time

import numba
import numpy as np
import pytest
from conftest import ALL, assert_same_bits, every_dtype
from numba import njit, prange
from numba.core.errors import TypingError
from numba.core.runtime import _nrt_python
from test_math import assert_vector_code

import fastloss as fl
from fastloss import _engine

FUNCTIONS = [loss for loss in ALL if loss.name in dir(fl.jit)]
SOME = [loss for i, loss in enumerate(FUNCTIONS) if i % 3 == 0 or loss is fl.huber]


def each_function(*quick):
    """Take all losses in float32, options at their defaults, and some in float64 with others.

    The quick tests have those named here.
    """
    return pytest.mark.parametrize(
        ("loss", "dtype", "off"),
        [
            pytest.param(
                loss, dtype, off, id=f"{loss.name}-{dtype}",
                marks=() if f"{loss.name}-{dtype}" in quick else pytest.mark.thorough,
            )
            for dtype, off, losses in (
                ("float32", False, FUNCTIONS),
                ("float64", True, SOME),
            )
            for loss in losses
        ],
    )  # fmt: skip


def options_for(loss, off):
    """Return the options of a loss off their defaults, but for those that exclude others."""
    excluded = ("ignore_value", "z_loss")
    return {key: x.example for key, x in loss.options.items() if off and key not in excluded}


def drawn(loss, dtype, shape=(6, 40)):
    """Return random arrays for a call, and those that it takes by name."""
    arrays = loss.sample(np.random.default_rng(7), dtype, shape)
    second = loss._properties.get("second")
    return arrays, {second[0]: np.abs(arrays[1]) + arrays[0].dtype.type(0.5)} if second else {}


def in_tuple(grads):
    return grads if isinstance(grads, tuple) else (grads,)


def assert_close(got, expected, what):
    """Assert equality up to what fusing multiplications with additions, or not, may change."""
    expected = np.asarray(expected)
    allowed = 16 * np.finfo(expected.dtype).eps * np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=allowed, err_msg=what)


# Point and row functions.


def test_every_loss_of_points_or_single_rows_has_a_function():
    assert {loss.name for loss in ALL} - {loss.name for loss in FUNCTIONS} == {"info_nce"}
    assert not hasattr(fl.jit, "info_nce")
    assert not hasattr(fl.jit, "no_such_loss")
    assert fl.jit.huber is fl.jit.of(fl.huber)
    with pytest.raises(ValueError, match="info_nce: every row meets all others; expected a loss"):
        fl.jit.of(fl.info_nce)
    with pytest.raises(TypeError, match=r"jit\.of: loss is 3; expected a loss such as"):
        fl.jit.of(3)


@each_function("softmax_cross_entropy-float32", "nll-float32")
def test_functions_are_those_of_the_losses(loss, dtype, off):
    options, (arrays, named) = options_for(loss, off), drawn(loss, dtype)
    losses, grads = loss.value_and_grad(*arrays, reduction="none", **named, **options)
    grads, what = in_tuple(grads), f"{loss.name} {dtype} {options}"
    function = fl.jit.of(loss)
    if loss.family == "elementwise":
        outs = np.empty((3 + 2 * len(named), *losses.shape), dtype)
        for place in np.ndindex(losses.shape):
            seconds = {name: array[place] for name, array in named.items()}
            numbers = function(*(array[place] for array in arrays), **seconds, **options)
            outs[(slice(None), *place)] = numbers
        hesses = in_tuple(loss.value_grad_hess(*arrays, reduction="sum", **named, **options)[2])
        expected = [losses, grads[0], hesses[0], *grads[1:], *hesses[1:]]
    else:
        outs = [np.empty_like(losses), *map(np.empty_like, grads)]
        for row in range(len(losses)):
            values = [array[row] for array in arrays]
            outs[0][row] = function(*values, *(out[row] for out in outs[1:]), **options)
            assert_close(function(*values, **options), outs[0][row], f"{what}: without gradient")
        expected = [losses, *grads]
    for k, (got, want) in enumerate(zip(outs, expected, strict=True)):
        assert_close(got, want, f"{what}: output {k}")
    number = getattr(numba, dtype)
    for kind in (signature.return_type for signature in function.nopython_signatures):
        if number in getattr(kind, "types", (kind,)):
            assert set(getattr(kind, "types", (kind,))) == {number}, f"{what}: a mixture of types"


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["softmax_cross_entropy", "categorical_cross_entropy"])
def test_row_functions_take_dense_targets(name, rng):
    loss, function = getattr(fl, name), getattr(fl.jit, name)
    rows, targets = (fl.jensen_shannon.sample(rng, np.float64, (4, 9))[k] for k in (0, 1))
    losses, grads = loss.value_and_grad(rows, targets, reduction="none")
    for row, target, value, grad in zip(rows, targets, losses, grads, strict=True):
        out = np.empty_like(row)
        assert_close(function(row, target, out), value, name)
        assert_close(out, grad, name)


def test_labels_outside_give_nan_and_read_nothing(rng):
    row = rng.standard_normal(5)
    for function in (fl.jit.softmax_cross_entropy, fl.jit.nll):
        for label in (-1, 5, 2**62, -(2**63), np.uint64(2**64 - 1)):
            grad = np.zeros(5)
            assert np.isnan(function(row, label, grad))
            assert np.isnan(grad).all()


def test_any_names_will_do():
    """A lambda has no name, and an argument may have that of what is written behind the scenes."""

    def body(body, values, arrays=2.0, defined=1.0, body_=1.0):
        return arrays * defined * body_ * (body - values) ** 2

    for loss in (
        fl.elementwise(body),
        fl.elementwise(lambda body, values: 2.0 * (body - values) ** 2),
    ):
        assert fl.jit.of(loss)(3.0, 1.0) == (8.0, 8.0, 4.0)
        assert compiled("loss(x, y)", loss=loss, x=np.array([3.0]), y=np.array([1.0])) == 8.0


def test_what_is_not_there_is_told():
    with pytest.raises(AttributeError, match=r"'fastloss\.jit' has no attribute 'hubr'$") as told:
        fl.jit.hubr  # noqa: B018
    assert told.value.name == "hubr"  # by which, and by obj, Python asks whether huber is meant
    assert told.value.obj is fl.jit
    with pytest.raises(AttributeError, match="'fastloss' has no attribute 'softmax'") as told:
        fl.softmax  # noqa: B018
    assert told.value.obj is fl
    for door in (fl.jit, fl.capi):
        with pytest.raises(
            AttributeError, match="'info_nce': every row meets all others; expected"
        ):
            door.info_nce  # noqa: B018


def test_options_by_position_by_keyword_and_none():
    huber = fl.jit.huber
    assert huber(3.0, 1.0, 0.5) == huber(3.0, 1.0, delta=0.5) == huber(3.0, 1, np.float32(0.5))
    assert huber(3.0, 1.0) == huber(3.0, 1.0, None) == huber(3.0, 1.0, 1)
    given_at_default = fl.jit.sigmoid_cross_entropy(90.0, 1.0, eps=0.0)
    assert given_at_default == fl.jit.sigmoid_cross_entropy(90.0, 1.0)
    assert given_at_default[0] > 0


@pytest.mark.thorough
def test_words_may_come_from_python():
    hinge = fl.jit.hinge
    assert hinge(0.5, 0.0, "01") == hinge(0.5, -1.0, "pm1") == hinge(0.5, -1.0)
    with pytest.raises(ValueError, match="hinge: labels is outside its domain; expected 'pm1' or"):
        hinge(0.5, 0.0, "10")


def test_flags_may_vary_at_run_time():
    @njit
    def both(flags):
        return [fl.jit.poisson_nll(0.5, 2.0, log_input=given)[0] for given in flags]

    expected = [fl.poisson_nll([0.5], [2.0], log_input=given) for given in (True, False)]
    assert both((True, False)) == expected
    assert fl.jit.poisson_nll(0.5, 2.0, log_input=False)[0] == expected[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fl.jit.mse(1, 2), r"mse: pred is int64; expected float32 or float64"),
        (lambda: fl.jit.mse(1.0, "2"), r"mse: target is unicode_type; expected a number"),
        (lambda: fl.jit.huber(1.0, 2.0, "x"), r"huber: delta is unicode_type; expected a number"),
        (lambda: fl.jit.huber(1.0, 2.0, True), r"huber: delta is bool; expected a number > 0"),
        (lambda: fl.jit.poisson_nll(1.0, 2.0, 1.0), r"log_input is float64; expected True or Fal"),
        (lambda: fl.jit.gaussian_nll(1.0, 2.0), r"var is missing; expected either var or log_var"),
        (lambda: fl.jit.gaussian_nll(1.0, 2.0, 1.0, 1.0), r"var is given beside log_var; expected"),
        (lambda: fl.jit.nll(np.ones(3), 1.0), r"labels is float64; expected an integer label\n"),
        (lambda: fl.jit.nll(np.ones(3, int), 1), r"log_probabilities is array\(int64, 1d, C\); ex"),
        (lambda: fl.jit.nll(np.ones(6)[::2], 1), r"expected a contiguous row of float64"),
        (lambda: fl.jit.nll(np.ones((2, 2)), 1), r"array\(float64, 2d, C\); expected a contiguou"),
        (
            lambda: fl.jit.nll(np.ones(3), 1, np.ones(3, np.float32)),
            r"grad is array\(float32, 1d, C\); expected a contiguous row of float64 to be written",
        ),
        (
            lambda: fl.jit.softmax_cross_entropy(np.ones(3), np.ones(3, bool)),
            r"labels is array\(bool, 1d, C\); expected an integer label or a contiguous row",
        ),
    ],
)
def test_wrong_types_are_told(call, message):
    with pytest.raises(TypingError, match=message):
        call()


def test_fastmath_of_the_caller_changes_nothing(rng):
    point, row = fl.jit.sigmoid_cross_entropy, fl.jit.softmax_cross_entropy
    logits = 20 * rng.standard_normal(1003).astype(np.float32)
    logits[:4] = np.nan, np.inf, -np.inf, 88.8
    target = rng.integers(0, 2, logits.size).astype(np.float32)
    rows = logits[:1000].reshape(10, 100)

    def loop(logits, target, rows, outs, grads, losses):
        for i in range(logits.size):
            outs[0, i], outs[1, i], outs[2, i] = point(logits[i], target[i])
        for i in range(len(rows)):
            losses[i] = row(rows[i], i, grads[i])

    results = []
    for flags in ({}, {"fastmath": True}, {"fastmath": True, "error_model": "numpy"}):
        outs = np.empty((3, logits.size), np.float32), np.empty_like(rows), np.empty(10, np.float32)
        njit(**flags)(loop)(logits, target, rows, *outs)
        results.append(outs)
    assert np.isnan(results[0][0][:, 0]).all()
    assert np.isnan(results[0][2][0])
    assert np.isfinite(results[0][2][1:]).all()
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert_same_bits(one, two)


@every_dtype
def test_point_functions_become_vector_code(dtype):
    point = fl.jit.sigmoid_cross_entropy

    @njit
    def loop(pred, target, out):
        for i in range(pred.size):
            out[i] = point(pred[i], target[i])[1]

    dtype = np.dtype(dtype).type
    loop(*np.zeros((3, 1), dtype))
    assert_vector_code(loop, dtype)


@pytest.mark.thorough
def test_functions_allocate_nothing(rng):
    row, dense, pair = fl.jit.softmax_cross_entropy, fl.jit.jensen_shannon, fl.jit.cosine_distance

    @njit
    def work(rows, grad):
        total = 0.0
        for i in range(len(rows) - 1):
            total += row(rows[i], i) + row(rows[i], i, grad) + pair(rows[i], rows[i + 1])
            total += row(rows[i], rows[i + 1], label_smoothing=0.1) + dense(rows[i], rows[i + 1])
            total += fl.jit.huber(total, 1.0)[0]
        return total

    def allocations(rows):
        before = _nrt_python.memsys_get_stats_alloc()
        work(rows, grad)
        return _nrt_python.memsys_get_stats_alloc() - before

    rows, grad = rng.standard_normal((50, 700)), np.empty(700)
    work(rows, grad)
    _nrt_python.memsys_enable_stats()
    try:
        assert allocations(rows) == allocations(rows[:2])  # Numba's own, for the arguments
    finally:
        _nrt_python.memsys_disable_stats()


# The losses themselves.


def compiled(expression, **arguments):
    """Return the value of an expression that was compiled as a function of the arguments."""
    namespace = {"fl": fl, "np": np}
    exec(f"def call({', '.join(arguments)}): return {expression}", namespace)
    return njit(namespace["call"])(*arguments.values())


def as_text(arrays, keywords):
    """Return arguments for an expression: a[0], a[1], ... and the keywords' own values."""
    return ", ".join(
        [f"a[{k}]" for k in range(len(arrays))]
        + [f"{k}={v if v == 'b' else repr(v)}" for k, v in keywords.items()]
    )


@each_function("huber-float64")
def test_losses_have_the_bits_of_calls_from_python(loss, dtype, off):
    options, (arrays, named) = options_for(loss, off), drawn(loss, dtype)
    outs = tuple(np.empty_like(arrays[0]) for _ in range(1 + len(loss._other_names)))
    out, what = outs if len(outs) > 1 else outs[0], f"{loss.name} {dtype} {options}"
    value, grads = loss.value_and_grad(*arrays, **named, **options)
    got = compiled(
        f"fl.{loss.name}.value_and_grad("
        f"{as_text(arrays, {**dict.fromkeys(named, 'b'), **options})}, grad_out=out)",
        a=arrays, b=next(iter(named.values()), None), out=out,
    )  # fmt: skip
    assert got[0] == value, what
    for one, other, grad in zip(in_tuple(got[1]), outs, in_tuple(grads), strict=True):
        assert one.ctypes.data == other.ctypes.data
        assert_same_bits(other, grad, what)


@pytest.mark.thorough
def test_all_calls_of_a_loss(rng):
    pred, target, weight = rng.standard_normal((3, 7))
    calls = "fl.huber(p, t), fl.huber.grad(p, t), fl.huber.value_and_grad(p, t, reduction='sum')"
    value, grad, (total, slopes) = compiled(calls, p=pred, t=target)
    assert value == fl.huber(pred, target)
    assert_same_bits(grad, fl.huber.grad(pred, target))
    assert total == fl.huber(pred, target, reduction="sum")
    assert_same_bits(slopes, fl.huber.grad(pred, target, reduction="sum"))
    keywords = {"sample_weight": weight, "delta": 0.5}
    value, grad = fl.huber.value_and_grad(pred, target, **keywords)
    calls = "fl.huber.value_and_grad(p, t, grad_out=g, sample_weight=w, delta=0.5)"
    out = np.empty(7)
    assert compiled(calls, p=pred, t=target, g=out, w=weight)[0] == value
    assert_same_bits(out, grad)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("softmax_cross_entropy", "float32"),
        ("softmax_cross_entropy", "float64"),
        ("arcface", "float32"),
        ("sparsemax", "float64"),
    ],
)
def test_rows_go_one_way_from_everywhere(name, dtype):
    """Tiles or rows, by the bytes of a row and whether a cache holds the batch: the same bits."""
    loss, rng = getattr(fl, name), np.random.default_rng(8)
    # Each pair stands at a seam; 4 MB lie between the first two and the others.
    shapes = {
        "float32": [(50, 32), (50, 33), (53000, 20), (50000, 21)],
        "float64": [(50, 16), (50, 17), (53000, 10), (48000, 11)],
    }
    for shape in shapes[dtype]:
        scores = np.tanh(rng.normal(size=shape)).astype(dtype)
        labels = rng.integers(0, shape[1], shape[0])
        value, grad = loss.value_and_grad(scores, labels)
        expected, expected_grad = loss.reference(scores.astype("f8"), labels)
        bound = 1e-4 if dtype == "float32" else 1e-11
        assert value == pytest.approx(expected, rel=bound)
        np.testing.assert_allclose(grad, expected_grad, rtol=bound, atol=1e-12)
        weighed = loss.value_and_grad(scores, labels, sample_weight=np.ones(shape[0], dtype))
        inside = compiled(f"fl.{name}.value_and_grad(x, y)", x=scores, y=labels)
        for other, other_grad in (weighed, inside):
            assert other == value
            assert_same_bits(other_grad, grad, f"{dtype} {shape}")


@pytest.mark.thorough
@pytest.mark.parametrize("classes", [5, 40])
def test_class_losses_take_weights_labels_and_dense_targets(classes, rng):
    logits, labels = fl.softmax_cross_entropy.sample(rng, np.float64, (20, classes))
    labels[3], weight = -7, rng.random(classes)
    sample_weight, dense = rng.random(20), rng.random((20, classes))
    for one, name in ((labels, "labels"), (labels.astype(np.int8), "int8"), (dense, "dense")):
        keywords = {"class_weight": weight, "sample_weight": sample_weight, "ignore_index": -7}
        expected = fl.softmax_cross_entropy.value_and_grad(logits, one, **keywords)
        got = compiled(
            "fl.softmax_cross_entropy.value_and_grad(x, t, class_weight=c, sample_weight=w, "
            "ignore_index=-7)",
            x=logits, t=one, c=weight, w=sample_weight,
        )  # fmt: skip
        assert got[0] == expected[0], name
        assert_same_bits(got[1], expected[1], name)
    weight[labels[0]] = 0  # such a row has no mass, but a z-loss
    keywords = {"class_weight": weight, "z_loss": 0.5, "ignore_index": -7}
    call = "fl.softmax_cross_entropy(x, t, class_weight=c, z_loss=0.5, ignore_index=-7)"
    expected = fl.softmax_cross_entropy(logits, labels, **keywords)
    assert compiled(call, x=logits, t=labels, c=weight) == expected
    assert compiled("fl.nll(x, t, reduction='batchmean', ignore_index=-7)", x=logits, t=labels) == (
        fl.nll(logits, labels, reduction="batchmean", ignore_index=-7)
    )
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for loss in ("categorical_cross_entropy", "jensen_shannon"):
        got = compiled(f"fl.{loss}(x, t)", x=probabilities, t=probabilities[::-1].copy())
        assert got == getattr(fl, loss)(probabilities, probabilities[::-1])


@pytest.mark.thorough
def test_row_losses_convert_and_weight_dense_targets(rng):
    p, weight = rng.dirichlet(np.ones(4), 9), np.array([0.5, 2, 0, 3])
    target = rng.integers(0, 2, (9, 4))
    for name, keywords in (("dice", {}), ("categorical_cross_entropy", {"class_weight": weight})):
        loss = getattr(fl, name)
        for one in (target, target.astype(bool), target.astype(float)):
            expected = loss.value_and_grad(p, one, **keywords)
            call = f"fl.{name}.value_and_grad(p, t{', class_weight=w' if keywords else ''})"
            got = compiled(call, p=p, t=one, w=weight)
            assert got[0] == expected[0]
            assert_same_bits(got[1], expected[1], name)


@pytest.mark.thorough
def test_weights_per_row_targets_of_integers_and_empty_arrays(rng):
    pred, weight = rng.standard_normal((6, 4)), rng.random(6)
    target = rng.integers(0, 2, (6, 4))
    for one in (target, target.astype(bool), target.astype(float)):
        got = compiled("fl.mse.value_and_grad(p, t, sample_weight=w)", p=pred, t=one, w=weight)
        expected = fl.mse.value_and_grad(pred, one, sample_weight=weight)
        assert got[0] == expected[0]
        assert_same_bits(got[1], expected[1])
    pred.flags.writeable = False
    assert compiled("fl.mse(p, p, reduction='batchmean')", p=pred) == 0
    value, grad = compiled("fl.mse.value_and_grad(p, p)", p=np.empty((0, 3), np.float32))
    assert (value, grad.shape, grad.dtype) == (0, (0, 3), np.float32)
    assert compiled("fl.nll(p, t)", p=np.empty((0, 3)), t=np.empty(0, int)) == 0


def test_a_loss_can_be_an_argument_and_a_global():
    from fastloss import huber

    @njit
    def call(loss, pred, target):
        return loss(pred, target), loss.grad(pred, target)[0], huber(pred, target, delta=0.5)

    pred, target = np.full(3, 2.0), np.zeros(3)
    assert call(huber, pred, target) == (1.5, 1 / 3, 0.875)


@pytest.mark.thorough
def test_losses_and_functions_work_in_prange(rng):
    @njit(parallel=True)
    def each(logits, labels, values, grads, slopes):
        for i in prange(len(logits)):
            values[i], _ = fl.softmax_cross_entropy.value_and_grad(logits[i], labels[i], grads[i])
            for j in range(len(labels[i])):
                slopes[i, j] = fl.jit.softmax_cross_entropy(logits[i, j], labels[i, j])

    logits = rng.standard_normal((30, 8, 5))
    labels, values = rng.integers(0, 5, (30, 8)), np.empty(30)
    grads, singles = np.empty_like(logits), np.empty((30, 8))
    each(logits, labels, values, grads, singles)
    for i in range(30):
        value, grad = fl.softmax_cross_entropy.value_and_grad(logits[i], labels[i])
        assert values[i] == value
        assert_same_bits(grads[i], grad)
    assert_close(singles, fl.softmax_cross_entropy(logits, labels, reduction="none"), "rows")


CACHED = """
import numpy as np
from numba import njit
import fastloss as fl

@njit(cache=True)
def work(pred, target):
    value, grad = fl.huber.value_and_grad(pred, target, delta=0.5)
    for i in range(pred.size):
        value += fl.jit.huber(pred[i], target[i], 0.7)[1]
    return value + grad[0] + fl.jit.nll(pred, 3)

value = work(*np.random.default_rng(0).standard_normal((2, 9)))
print(repr(float(value)), sum(work.stats.cache_hits.values()))
"""


def test_a_second_process_loads_the_users_cache(tmp_path, child_environment):
    (tmp_path / "cached.py").write_text(CACHED)
    environment = {**child_environment, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    outputs = [
        subprocess.run(
            [sys.executable, "cached.py"], env=environment, cwd=tmp_path, timeout=300,
            capture_output=True, text=True, check=True,
        ).stdout.split()
        for _ in range(2)
    ]  # fmt: skip
    assert [hits for _, hits in outputs] == ["0", "1"]
    assert outputs[0][0] == outputs[1][0]


CALLED = """
from numba import njit
import fastloss as fl

@njit(cache=True)
def called(logits, labels):
    return fl.softmax_cross_entropy.value_and_grad(logits, labels)[0] + fl.huber(logits, logits)
"""

CALLING = """
import numpy as np
from numba import njit
from called import called

@njit(cache=True)
def calling(logits, labels):
    return called(logits, labels) + 1

rng = np.random.default_rng(0)
shapes = (40, 5), (40, 50)
values = [calling(rng.normal(size=shape), rng.integers(0, 5, 40)) for shape in shapes]
print(*map(repr, map(float, values)), sum(calling.stats.cache_hits.values()))
"""


def test_a_function_from_the_users_cache_in_another_one(tmp_path, child_environment):
    """Numba forgets meanwhile what the first one needs: the kernels' code has to be in both."""
    (tmp_path / "called.py").write_text(CALLED)
    (tmp_path / "calling.py").write_text(CALLING)
    (tmp_path / "first.py").write_text(CALLING.replace("@njit(cache=True)\n", "@njit\n"))
    environment = {**child_environment, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    outputs = [
        subprocess.run(
            [sys.executable, file], env=environment, cwd=tmp_path, timeout=300,
            capture_output=True, text=True, check=True,
        ).stdout.split()
        for file in ("first.py", "calling.py", "calling.py")
    ]  # fmt: skip
    assert [hits for *_, hits in outputs] == ["0", "0", "1"]
    assert outputs[0][:2] == outputs[1][:2] == outputs[2][:2]


PRED, TARGET = np.linspace(-2, 2, 6), np.zeros(6)
LOGITS = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("fl.huber(p, p, delta='x')", r"huber: delta is 'x'; expected a number > 0"),
        ("fl.huber(p, p, delta=True)", r"huber: delta is True; expected a number > 0"),
        ("fl.hinge(p, p, labels='10')", r"hinge: labels is '10'; expected 'pm1' or '01'"),
        ("fl.poisson_nll(p, p, full=1)", r"poisson_nll: full is 1; expected True or False"),
        ("fl.huber(p, p, 0.5)", r"huber: 3 arrays were given by position; expected pred, target"),
        ("fl.huber(p)", r"huber: 1 array was given by position; expected pred, target"),
        ("fl.huber(p, p, alpha=1)", r"huber: unknown keyword argument 'alpha' in nopython code"),
        ("fl.huber(p, p, num_threads=1)", r"expected one of sample_weight, reduction, delta"),
        ("fl.huber(p, p, grad_out=p)", r"unknown keyword argument 'grad_out'"),
        ("fl.huber.value_and_grad(p, p, p, grad_out=p)", r"unknown keyword argument 'grad_out'"),
        ("fl.huber.reference(p, p)", r"huber\.reference does not exist in nopython code; expected"),
        (
            "fl.huber(p, p, reduction='none')",
            r"reduction is 'none'; expected 'mean' or 'batchmean'",
        ),
        ("fl.huber(p > 0, p)", r"huber: pred is array\(bool, 1d, C\); expected a C-contiguous"),
        ("fl.huber(1.0, 2.0)", r"huber: pred is float64; expected a C-contiguous array of float32"),
        ("fl.huber(p[::2], p[::2])", r"pred is array\(float64, 1d, A\); expected a C-contiguous"),
        ("fl.huber(p, p.astype(np.float32))", r"target is array\(float32, 1d, C\); expected a 1-d"),
        ("fl.huber(x, p)", r"target is array\(float64, 1d, C\); expected a 2-dimensional C-cont"),
        ("fl.huber(p, p, sample_weight=x)", r"sample_weight is array\(float64, 2d, C\); expected"),
        ("fl.huber.grad(p, p, p.astype(np.float32))", r"grad_out is array\(float32, 1d, C\); exp"),
        ("fl.nll(p, 1)", r"log_probabilities is array\(float64, 1d, C\); .* of 2 or more dimens"),
        ("fl.nll(x, x)", r"labels is array\(float64, 2d, C\); expected a 1-dimensional C-contigu"),
        ("fl.nll(x, x[0])", r"expected a 1-dimensional C-contiguous array of integers\n"),
        ("fl.nll(x, y, ignore_index=0.5)", r"nll: ignore_index is float64; expected an integer"),
        ("fl.nll(x, y, class_weight=x)", r"nll: class_weight is array\(float64, 2d, C\); expected"),
        ("fl.gaussian_nll(p, p)", r"gaussian_nll: var is missing; expected either var or log_var"),
        (
            "fl.gaussian_nll(p, p, var=p, log_var=p)",
            r"var is given beside log_var; expected either",
        ),
        ("fl.cosine_distance.grad(x, x, x)", r"grad_out is array.*; expected a tuple of 2, each a"),
        ("fl.info_nce(x, x)", r"info_nce: every row meets all others; expected a call from Python"),
    ],
)
def test_calls_that_cannot_be_compiled_say_why(expression, message):
    with pytest.raises(TypingError, match=message):
        compiled(expression, p=PRED, x=LOGITS, y=np.zeros(2, int))


def assert_raises(error, message, expression):
    arguments = {"p": PRED.copy(), "t": TARGET, "d": -1.0, "w": np.ones(6), "x": LOGITS}
    arguments["f"] = PRED.astype(np.float32)
    with pytest.raises(error, match=message):
        compiled(expression, **arguments, y=np.zeros(2, int), o=np.empty((2, 3)))


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("fl.huber(p, t, delta=d)", "delta is outside its domain; expected a number > 0"),
        ("fl.huber(p, t, delta=np.inf)", "delta is outside its domain; expected a number > 0"),
        ("fl.huber(f, f, delta=1e-60)", "delta is outside its domain; expected a number > 0"),
        ("fl.huber(f, f, delta=1e60)", "delta is outside its domain; expected a number > 0"),
        ("fl.huber(p, t[1:])", "target is of another shape than pred; expected the shape of pred"),
        ("fl.huber.grad(p, t, t[1:])", "grad_out is of another shape than pred; expected the"),
        ("fl.huber.grad(p, t, p)", "grad_out is overlapping pred; expected memory of its own"),
        ("fl.huber.grad(p[1:], p[1:] - 1, p[:-1])", "grad_out is overlapping pred; expected mem"),
    ],
)
def test_calls_check_shapes_domains_and_memory(expression, message):
    assert_raises(ValueError, f"huber: {message}", expression)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "fl.huber(p, t, sample_weight=t[1:])",
            "huber: sample_weight is of another shape than pred; expected the shape of pred",
        ),
        (
            "fl.huber.grad(p, t, w, sample_weight=w)",
            "huber: grad_out is overlapping sample_weight; expected memory of its own, apart from",
        ),
        (
            "fl.cosine_distance.grad(x, x + 1, (o, o))",
            "cosine_distance: grad_out is overlapping another of its arrays; expected memory",
        ),
        (
            "fl.nll(x, y[1:])",
            "nll: labels is of another shape than log_probabilities without its last axis; exp",
        ),
        (
            "fl.nll(x, y, class_weight=p)",
            "nll: class_weight is of another shape than the last axis of log_probabilities; exp",
        ),
        (
            "fl.softmax_cross_entropy(x, y, z_loss=0.1, eps=0.1)",
            "softmax_cross_entropy: z_loss is above 0; expected 0 where eps is above 0",
        ),
    ],
)
def test_calls_check_everything_else(expression, message):
    assert_raises(ValueError, message, expression)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["nll", "softmax_cross_entropy"])
def test_calls_check_labels(name):
    expected = r"labels is holding a label outside \[0, C\); expected labels in \[0, C\), or ignore"
    assert_raises(IndexError, f"{name}: {expected}", f"fl.{name}(x, y + 3)")
    assert_raises(IndexError, f"{name}: {expected}", f"fl.{name}(x, y - 1)")


@pytest.mark.thorough
def test_threads_that_compile_do_not_wait_for_each_other():
    @fl.elementwise
    def fresh(pred, target):
        return (pred - target) ** 4

    call = njit(lambda pred, target: fresh(pred, target))
    inner, held, values = njit(lambda x: x + 1), threading.Event(), []

    def from_python():  # a kernel's lock is held, and Numba's is wanted
        with _engine._compiling:
            held.set()
            time.sleep(0.5)
            values.append(inner(1.0))

    def in_nopython_code():  # the other way round
        held.wait()
        values.append(call(np.full(2, 3.0), np.ones(2)))

    threads = [threading.Thread(target=x, daemon=True) for x in (from_python, in_nopython_code)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(values) == [2.0, 16.0]


# A user's own loss, and the documentation.


@fl.elementwise
def lopsided(pred, target, under=3.0, rooted=False):
    weight = under if pred < target else 1.0
    if rooted:
        weight = np.sqrt(weight)
    return weight * (pred - target) ** 2


def test_a_users_own_loss_has_all_of_it():
    assert fl.jit.of(lopsided)(1.0, 3.0) == (12.0, -12.0, 6.0)
    assert fl.jit.of(lopsided)(1.0, 3.0, 16.0, rooted=True) == (16.0, -16.0, 8.0)

    @njit
    def call(pred, target):
        return lopsided(pred, target, under=4.0, rooted=True)

    assert call(np.array([1.0, 3.0]), np.array([3.0, 1.0])) == (2 * 4 + 4) / 2


def test_documentation_names_the_options():
    for loss in FUNCTIONS:
        text = fl.jit.of(loss).__doc__
        assert f"function of `fastloss.{loss.name}`" in text
        for name in loss.options.keys() - {"ignore_value"}:
            assert f"\n{name} : " in text, f"{loss.name}: {name}"


def in_numpy(features, counts, rate, epochs):
    """Do in Python what `fit` of the documentation does, as fast as NumPy can."""
    weights, slopes = np.zeros(features.shape[1]), np.empty(8)
    for _ in range(epochs):
        for start in range(0, len(counts) - 7, 8):
            rows = features[start : start + 8]
            batch = counts[start : start + 8]
            fl.poisson_nll.value_and_grad(rows @ weights, batch, grad_out=slopes)
            weights -= rate * (slopes @ rows)
    return weights


@pytest.mark.thorough
def test_stochastic_gradients_are_20_times_as_fast_as_in_python():
    examples = doctest.DocTestParser().get_doctest(fl.jit.__doc__, {}, "fastloss.jit", None, 0)
    assert doctest.DocTestRunner().run(examples, clear_globs=False).failed == 0
    fit, features, counts = (examples.globs[name] for name in ("fit", "features", "counts"))
    np.testing.assert_allclose(
        fit(features, counts, 0.01, 1), in_numpy(features, counts, 0.01, 1), rtol=1e-12
    )
    seconds = {fit: [], in_numpy: []}
    for _ in range(9):
        for function, times in seconds.items():
            start = time.perf_counter()
            function(features, counts, 0.01, 1)
            times.append(time.perf_counter() - start)
    compiled_time, python_time = (np.median(times) for times in seconds.values())
    assert python_time >= 20 * compiled_time, f"{python_time / compiled_time:.1f} times"
