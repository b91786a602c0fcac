"""A user's own loss: it has all that the library's have, whatever its function returns."""

import importlib.util
import inspect
import json
import math
import pickle
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from conftest import all_losses, assert_same_bits

import fastloss as fl
from fastloss._digest import IN_MEMORY, source_digest

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


# Errors: when it is decorated, and at the first use


def no_default(pred, target, delta):
    return delta * pred


def one_argument(pred):
    return pred


def any_number(pred, *targets):
    return pred


def text_option(pred, target, kind="huber"):
    return pred


def unbounded(pred, target, cap=math.inf):
    return pred


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (no_default, None, "no_default: option 'delta' has no default; expected one, such as"),
        (one_argument, None, r"one_argument: its function takes \(pred\); expected \(pred, target"),
        (any_number, None, r"any_number: its function takes \*targets; expected \(pred, target"),
        (text_option, None, "text_option: option 'kind' has the default 'huber'; expected a fini"),
        (unbounded, None, "unbounded: option 'cap' has the default inf; expected a finite number"),
        (no_default, {"gamma": positive}, "no_default: option 'gamma' is no parameter of its fun"),
        (no_default, {"delta": 1.0}, "no_default: option 'delta' is float; expected a fastloss.O"),
        (math.exp, None, "@elementwise was given builtin_function_or_method; expected a Python"),
    ],
)
def test_faults_of_the_signature(function, options, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        fl.elementwise(options=options)(function)


def test_two_defaults():
    with pytest.raises(TypeError, match=r"with_slope: option 'delta' has two defaults, 1.0 and 2"):
        fl.elementwise(options={"delta": fl.Option(2.0, "a number")})(
            with_slope._scalar.own.function
        )


def test_unknown_domains():
    with pytest.raises(ValueError, match="<lambda>: pred is 'labels'; expected one of 'real'"):
        fl.rowwise(target=None, pred="labels")(lambda row, grad: 0.0)
    with pytest.raises(ValueError, match="<lambda>: target is 'rows'; expected one of 'real'"):
        fl.elementwise(target="rows")(lambda pred, target: pred)


def helper_of_fault(x):
    return x.size()


FAULTS = {
    "unknown": ("return np.unheard_of(pred)", "module 'numpy' has no attribute 'unheard_of'"),
    "undefined": ("return pred - no_such_name", "NameError: name 'no_such_name' is not defined"),
    "mixed": ("return pred * 'text'", r"there is no mul\(float64, text\)"),
    "nested": ("return helper_of_fault(pred)", "Unknown attribute 'size' of type float64"),
    "underived": ("return np.arccos(pred)", r"no derivative is known of arccos\(float64\); return"),
    "converted": ("return np.float64(pred) ** 2", r"this conversion loses the derivative; write T"),
    "text": ("return 'text'", "returns a string"),
    "nothing": ("pred * 2", "returns None"),
    "sometimes": ("if pred > 0: return pred", "returns None in some cases"),
    "many": ("return pred, pred, pred, pred", r"returns \(a number, a number, a number, a number"),
    "pair": ("return pred, 'slope'", r"returns \(a number, a string\)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_function_are_shown_with_its_line(fault, tmp_path):
    line, message = FAULTS[fault]
    path = tmp_path / "faulty.py"
    path.write_text(
        "import numpy as np\n\n\ndef helper_of_fault(x):\n    return x.size()\n\n\n"
        f"def faulty(pred, target):\n    {line}\n",
        encoding="utf-8",
    )
    loss = fl.elementwise(module_of(path).faulty)
    for _ in range(2):  # the second call says the same
        with pytest.raises(TypeError) as caught:
            loss(np.ones(3), np.ones(3))
        said = str(caught.value)
        assert "\n" not in said
        assert re.search(message, said)
        number = 5 if fault == "nested" else 8 if "returns" in message else 9
        assert f"at {path}, line {number}" in said
        assert said.startswith("faulty: its function ")
        if number == 9:
            assert f"`{line}`" in said
        assert caught.value.__suppress_context__


def test_a_function_that_cannot_be_differentiated_twice():
    @fl.elementwise
    def flat(pred, target):
        return pred * pred, np.float64(pred) * 2

    assert flat.value_and_grad([3.0], [0.0]) == (9.0, [6.0])
    expected = (
        r"flat: it has no second derivative: .*`return pred \* pred, np.float64\(pred\) \* 2`"
    )
    with pytest.raises(NotImplementedError, match=expected):
        flat.value_grad_hess([3.0], [0.0])


def test_faults_of_a_function_of_rows():
    @fl.rowwise
    def faulty(scores, label, grad):
        grad[label] = scores.biggest()
        return 1.0

    with pytest.raises(
        TypeError, match=r"faulty: .*line \d+: `grad\[label\] = scores.biggest\(\)`"
    ):
        faulty(np.ones((2, 3)), [0, 1])

    @fl.rowwise
    def silent(scores, label, grad):
        grad[label] = 1

    with pytest.raises(
        TypeError, match=r"silent: its function returns None, at .*; expected the lo"
    ):
        silent(np.ones((2, 3)), [0, 1])


# Where functions live: files, closures, no file at all; pickles and the disk cache


def module_of(path):
    """Import a file under a name that nobody else can import."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def closing_over(scale):
    @fl.elementwise
    def scaled(pred, target):
        return scale * (pred - target)

    return scaled


def test_closures_over_different_values_differ():
    losses = [closing_over(scale) for scale in (1.0, 2.0, 1.0)]
    assert [loss([3.0], [1.0]) for loss in losses] == [2.0, 4.0, 2.0]
    digests = [source_digest(loss._scalar) for loss in losses]
    assert digests[0] == digests[2] != digests[1]
    assert source_digest(closing_over([1.0])._scalar) == IN_MEMORY


def executed(source, **names):
    """Run source text as a console does, without a file."""
    exec(source, {"fl": fl, "np": np, "__name__": "console", **names}, namespace := {})
    return namespace["loss"]


CONSOLE = "@fl.elementwise\ndef loss(pred, target):\n    return K * (pred - target)"


def test_functions_without_a_file():
    """Two of one name do not meet, nor do two that differ in a global only."""
    one, two = executed(CONSOLE, K=1.0), executed(CONSOLE.replace("K *", "5 +"), K=1.0)
    three, same = executed(CONSOLE, K=7.0), executed(CONSOLE, K=1.0)
    assert [loss([3.0], [1.0]) for loss in (one, two, three, same)] == [2.0, 7.0, 14.0, 2.0]
    digests = [source_digest(loss._scalar) for loss in (one, two, three, same)]
    assert len(set(digests)) == 3
    assert digests[0] == digests[3]


def test_globals_count_as_they_are_when_the_digest_is_taken():
    """They are frozen then: no kernel goes under the digest of other values."""
    namespace = {"fl": fl, "__name__": "console", "K": 13.0}
    exec(CONSOLE, namespace)
    digest = source_digest(namespace["loss"]._scalar)
    namespace["K"] = 17.0
    assert namespace["loss"]([3.0], [1.0]) == 26.0
    assert source_digest(namespace["loss"]._scalar) == digest


def test_what_a_function_calls_counts_in_its_digest():
    helper = "def helper(x): return 2 * x\n"
    source = helper + CONSOLE.replace("K *", "helper") + "\n"
    namespaces = []
    for text in (source, source.replace("2 * x", "3 * x"), source.replace("pred -", "pred +")):
        namespace = {"fl": fl, "__name__": "console"}
        exec(text, namespace)
        namespaces.append(namespace)
    assert len({source_digest(namespace["loss"]._scalar) for namespace in namespaces}) == 3


def test_pickle():
    assert pickle.loads(pickle.dumps(loss_alone)) is loss_alone
    with pytest.raises((pickle.PicklingError, AttributeError), match="closing_over"):
        pickle.dumps(closing_over(1.0))


def test_threads_may_meet_at_the_first_use():
    loss = executed(CONSOLE, K=11.0)
    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(lambda n: loss([n + 1.0], [1.0]), range(8)))
    assert values == [11.0 * n for n in range(8)]


USERS = """
import numba
import numpy as np
import fastloss as fl

@numba.njit
def helper(x):
    return np.exp(x) * 1.0

@fl.elementwise
def calling(pred, target):
    return helper(pred) - target * pred

@fl.elementwise
def lonely(pred, target):
    return (pred - target) ** 2, 2 * (pred - target)

def make(scale):
    @fl.elementwise
    def scaled(pred, target):
        return scale * (pred - target)
    return scaled

closing = make(2.0)
"""

PROCESS = """
import importlib.util, json, sys
import numpy as np
from fastloss import _engine

specification = importlib.util.spec_from_file_location("users", sys.argv[1])
users = importlib.util.module_from_spec(specification)
specification.loader.exec_module(users)

def report(kernel, value):
    stats = kernel.stats
    return value, sum(stats.cache_hits.values()), sum(stats.cache_misses.values())

found = {}
for name in ("calling", "lonely", "closing"):
    loss = getattr(users, name)
    value = loss(np.zeros(2), -np.ones(2), reduction="sum")
    found[name] = report(_engine.elementwise_kernel(loss._scalar, True, False), value)
print(json.dumps(found))
"""


def test_the_disk_cache(tmp_path, child_environment):
    """A second process hits it; an edit, of a helper too, and another closed-over value miss it.

    The users' module is one that Numba could not import.
    """
    path, program = tmp_path / "users.py", tmp_path / "program.py"
    program.write_text(PROCESS, encoding="utf-8")

    def run(source):
        path.write_text(source, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-W", "error", str(program), str(path)],
            env={**child_environment, "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert run(USERS) == {"calling": [2, 0, 1], "lonely": [2, 0, 1], "closing": [4, 0, 1]}
    assert run(USERS) == {"calling": [2, 1, 0], "lonely": [2, 1, 0], "closing": [4, 1, 0]}
    edited = USERS.replace("* 1.0", "* 4.0").replace("make(2.0)", "make(3.0)")
    assert run(edited) == {"calling": [8, 0, 1], "lonely": [2, 1, 0], "closing": [6, 0, 1]}
