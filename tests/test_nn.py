"""Criteria: their buffers, their errors, their copies, and parity with PyTorch's.

What holds for every criterion is tested here on a few, whose kernels other tests compile too, and
on all of them with ``-m thorough``.
"""

import copy
import gc
import inspect
import itertools
import pickle
import subprocess
import sys
import tracemalloc
import warnings
import weakref
from dataclasses import FrozenInstanceError, dataclass, replace
from typing import Any

import numpy as np
import pytest
from conftest import ALL, ELEMENTWISE, assert_same_bits
from test_documentation import assert_defaults, parameters_of
from test_parity import DTYPES, SLACK, peer

import fastloss as fl
from fastloss import nn
from fastloss._families import elementwise

CLASSES = 7

# --- The criteria, their arrays and arguments -----------------------------------------------------


def real(rng, shape):
    return 2 * rng.standard_normal(shape)


def unit(rng, shape):
    return rng.uniform(0.01, 0.99, shape)


def positive(rng, shape):
    return rng.gamma(2, size=shape) + 0.1


def signs(rng, shape):
    return rng.choice((-1.0, 1.0), shape)


def row_signs(rng, shape):
    return rng.choice((-1, 1), shape[:-1])


def log_unit(rng, shape):
    return np.log(unit(rng, shape))


def counts(rng, shape):
    return rng.poisson(2.0, shape).astype(float)


def labels(rng, shape):
    """Return labels of the classes that lie along axis 1, or along the only axis."""
    axis = min(1, len(shape) - 1)
    return np.asarray(rng.integers(0, shape[axis], np.delete(shape, axis)))


def distribution(rng, shape):
    powers = np.exp(rng.standard_normal(shape))
    return powers / powers.sum(axis=min(1, len(shape) - 1), keepdims=True)


def class_weight(rng, shape):
    return rng.uniform(0.5, 2, shape[min(1, len(shape) - 1)])


def last_weight(rng, shape):
    return rng.uniform(0.5, 2, shape[-1])


def full_weight(rng, shape):
    return rng.uniform(0.5, 2, shape)


@dataclass(frozen=True)
class Case:
    """The arrays that a criterion takes, and the arguments to try; functions draw arrays."""

    arrays: tuple[Any, ...]
    options: dict[str, tuple[Any, ...]]
    inputs: tuple[int, ...] = (0,)
    shapes: tuple[tuple[int, ...], ...] = ((6, CLASSES), (5,))
    slack: float = 0.0


MATRIX = ((6, CLASSES), (5,))
IMAGES = ((6, CLASSES), (CLASSES,), (3, CLASSES, 2), (2, CLASSES, 3, 2))

PYTORCH = {
    "MSELoss": [Case((real, real), {})],
    "L1Loss": [Case((real, real), {})],
    "SmoothL1Loss": [Case((real, real), {"beta": (1.0, 0.0, 2.5)})],
    "HuberLoss": [Case((real, real), {"delta": (1.0, 0.5)})],
    "BCELoss": [Case((unit, unit), {"weight": (None, last_weight, full_weight)})],
    "BCEWithLogitsLoss": [
        Case(
            (real, unit),
            {"weight": (None, last_weight, full_weight), "pos_weight": (None, last_weight)},
        )
    ],
    "SoftMarginLoss": [Case((real, signs), {})],
    "KLDivLoss": [
        Case((log_unit, unit), {"log_target": (False,)}),
        Case((log_unit, log_unit), {"log_target": (True,)}),
    ],
    "PoissonNLLLoss": [
        Case((real, counts), {"log_input": (True,), "full": (False, True)}),
        Case(
            (positive, counts), {"log_input": (False,), "full": (False, True), "eps": (1e-8, 0.5)}
        ),
    ],
    "GaussianNLLLoss": [
        Case((real, real, positive), {"full": (False, True), "eps": (1e-6, 1.0)}, inputs=(0, 2))
    ],
    "CrossEntropyLoss": [
        Case(
            (real, labels),
            {
                "weight": (None, class_weight),
                "ignore_index": (-100, 2),
                "label_smoothing": (0.0, 0.1),
            },
            shapes=IMAGES,
        ),
        Case(
            (real, distribution),
            {"weight": (None, class_weight), "label_smoothing": (0.0, 0.1)},
            shapes=IMAGES,
        ),
    ],
    "NLLLoss": [
        Case(
            (log_unit, labels),
            {"weight": (None, class_weight), "ignore_index": (-100, 2)},
            shapes=IMAGES,
        )
    ],
    "MultiMarginLoss": [
        Case((real, labels), {"p": (1, 2), "margin": (1.0, 0.5), "weight": (None, class_weight)})
    ],
    "MultiLabelSoftMarginLoss": [
        Case((real, unit), {"weight": (None, last_weight)}, shapes=(*MATRIX, (2, 3, 4)))
    ],
    # PyTorch adds 1e-12 to the squares of the norms.
    "CosineEmbeddingLoss": [
        Case((real, real, row_signs), {"margin": (0.0, 0.4, -0.2)}, inputs=(0, 1), slack=1e-12)
    ],
    "TripletMarginLoss": [
        Case(
            (real, real, real),
            {"margin": (1.0, 3.0), "p": (2.0, 1.0, 3.0), "eps": (0.0,), "swap": (False, True)},
            inputs=(0, 1, 2),
        )
    ],
}

TEXTBOOK = {
    "SoftmaxCrossEntropy": [Case((real, distribution), {"eps": (0.0, 1e-3)})],
    "SigmoidCrossEntropy": [Case((real, unit), {"eps": (0.0, 1e-3)})],
    "MSE": [Case((real, real), {})],
}

NAMES = {
    name
    for name, value in vars(nn).items()
    if inspect.isclass(value) and issubclass(value, nn.Criterion) and value is not nn.Criterion
}
QUICK = ("MSELoss", "BCEWithLogitsLoss", "GaussianNLLLoss")


def each_of(names):
    """Return the mark that runs a test on each of them, on most of them with the thorough tests."""
    thorough = pytest.mark.thorough
    marked = [pytest.param(name, marks=() if name in QUICK else thorough) for name in names]
    return pytest.mark.parametrize("name", marked)


every_pytorch = each_of(PYTORCH)
every_criterion = each_of([*PYTORCH, *TEXTBOOK])


def draw(case, dtype="float32", shape=(6, CLASSES), seed=0):
    """Return the arrays of a case."""
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(kind(rng, shape)) for kind in case.arrays]
    return [array.astype(dtype) if array.dtype.kind == "f" else array for array in arrays]


def first(name, **keywords):
    """Return a criterion with its defaults, and its arrays."""
    case = (PYTORCH | TEXTBOOK)[name][0]
    return getattr(nn, name)(), draw(case, **keywords)


def gradients_of(criterion, *arrays, **named):
    """Return the gradients that `backward` gives, always as a tuple."""
    gradients = criterion.backward(*arrays, **named)
    return gradients if isinstance(gradients, tuple) else (gradients,)


def test_every_criterion_has_a_case():
    assert {*PYTORCH, *TEXTBOOK} == NAMES


@pytest.mark.parametrize("name", [*PYTORCH, *TEXTBOOK, "criterion"])
def test_parameters_and_defaults_are_documented(name):
    each = getattr(nn, name)
    documented, parameters = parameters_of(inspect.getdoc(each)), inspect.signature(each).parameters
    assert set(documented) == {key for key in parameters if key != "options"}
    assert_defaults(documented, inspect.signature(each))


# --- PyTorch --------------------------------------------------------------------------------------

DEPRECATED = ("size_average", "reduce")


@pytest.mark.parametrize("name", PYTORCH)
def test_arguments_are_those_of_torch(name):
    def arguments(function):
        return [each for each in inspect.signature(function).parameters.values()
                if each.name not in ("self", "upstream")]  # fmt: skip

    theirs = arguments(getattr(peer("torch").nn, name).__init__)
    ours = {each.name: each for each in arguments(getattr(nn, name))}
    assert ours.keys() == {each.name for each in theirs} - {*DEPRECATED}
    moved = False
    for argument in theirs:
        moved |= argument.name in DEPRECATED or argument.kind is argument.KEYWORD_ONLY
        if argument.name in ours:
            assert ours[argument.name].default == argument.default
            assert (ours[argument.name].kind is argument.KEYWORD_ONLY) == moved
    forward = arguments(getattr(nn, name).forward)
    expected = arguments(getattr(peer("torch").nn, name).forward)
    if name != "PoissonNLLLoss":  # there PyTorch calls the input log_input
        assert [each.name for each in forward] == [each.name for each in expected]


def torch_results(name, case, arrays, dtype, options, upstream):
    """Return PyTorch's loss and gradients, floating arguments cast to `dtype`."""
    torch = peer("torch")

    def tensor(value):
        if not isinstance(value, np.ndarray):
            return value
        return torch.from_numpy(value.astype(dtype) if value.dtype.kind == "f" else value)

    tensors = [tensor(array) for array in arrays]
    for index in case.inputs:
        tensors[index].requires_grad_()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "reduction: 'mean' divides the total loss")
        criterion = getattr(torch.nn, name)(**{k: tensor(v) for k, v in options.items()})
        loss = criterion(*tensors)
    (loss * tensor(np.asarray(upstream))).sum().backward()
    return loss.detach().numpy(), *(tensors[index].grad.numpy() for index in case.inputs)


def assert_parity(name, case, dtype, shape, options):
    """Compare loss and gradients with PyTorch's; one of the comparisons is with an `upstream`."""
    rng = np.random.default_rng(1)
    arrays = draw(case, dtype, shape)
    drawn = {
        key: value(rng, shape).astype(dtype) if callable(value) else value
        for key, value in options.items()
    }
    criterion = getattr(nn, name)(**drawn)
    loss = criterion(*arrays)
    upstreams = [None]
    if all(values[0] == options[key] for key, values in case.options.items()):  # the defaults
        single = options["reduction"] == "none"
        upstreams.append(rng.standard_normal(loss.shape).astype(dtype) if single else -2.5)
    for upstream in upstreams:
        ours = (loss, *gradients_of(criterion, *arrays, upstream=upstream))
        same, wide = (
            torch_results(name, case, arrays, kind, drawn, 1.0 if upstream is None else upstream)
            for kind in (dtype, "float64")
        )
        for mine, theirs, true in zip(ours, same, wide, strict=True):
            mine, theirs, true = (np.asarray(x, float) for x in (mine, theirs, true))
            assert mine.shape == true.shape
            allowed = np.max(np.abs(theirs - true), initial=0)
            allowed += (SLACK * np.finfo(dtype).eps + case.slack) * np.max(np.abs(true), initial=0)
            assert np.max(np.abs(mine - true), initial=0) <= allowed, (name, shape, options)


def every_setting(name, reductions):
    """Yield every case, shape and combination of arguments of a criterion."""
    for case in (PYTORCH | TEXTBOOK)[name]:
        for reduction, *values in itertools.product(reductions, *case.options.values()):
            options = dict(zip(case.options, values, strict=True)) | {"reduction": reduction}
            for shape in case.shapes:
                yield case, shape, options


# In float64 only some: the criteria hand on what they get, and kernels take their time to compile.
@pytest.mark.parametrize(
    ("name", "dtype"),
    [pytest.param(x, "float32", marks=pytest.mark.thorough) for x in PYTORCH]
    + [
        pytest.param(x, "float64", marks=pytest.mark.exhaustive)
        for x in (*QUICK, "CrossEntropyLoss")
    ],
)
def test_parity_with_torch(name, dtype):
    reductions = ("mean", "sum", "none", *(["batchmean"] if name == "KLDivLoss" else ()))
    for case, shape, options in every_setting(name, reductions):
        assert_parity(name, case, dtype, shape, options)


@pytest.mark.thorough
def test_probabilities_at_their_ends_are_as_in_torch():
    """The clipping of `BCELoss`: where the two agree, and where its docstring says they do not."""
    p = np.array([0.0, 1.0, 1e-9, 1e-9, 1.0, 0.0])
    t = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    criterion = nn.BCELoss(reduction="none")
    losses, gradient = criterion(p, t), criterion.backward()
    true_losses, true_gradient = torch_results(
        "BCELoss", PYTORCH["BCELoss"][0], [p, t], "float64", {"reduction": "none"}, 1.0
    )
    np.testing.assert_allclose(gradient[:4], true_gradient[:4], rtol=1e-8)
    np.testing.assert_allclose(gradient[4:], [-1, 1], rtol=1e-11)
    np.testing.assert_allclose(losses[2:], true_losses[2:], rtol=1e-6, atol=1e-11)
    np.testing.assert_allclose(losses[:2], -np.log(1e-12))


# --- Buffers --------------------------------------------------------------------------------------


def address(array):
    return array.__array_interface__["data"][0]


@every_criterion
def test_steps_use_one_buffer(name):
    criterion, arrays = first(name)
    criterion(*arrays)
    buffers = gradients_of(criterion)
    for seed in range(1, 4):
        _, others = first(name, seed=seed)
        value = criterion.forward(*others)
        again = gradients_of(criterion)
        assert all(one is other for one, other in zip(buffers, again, strict=True))
        fresh = type(criterion)()
        assert_same_bits(fresh(*others), value)
        for one, other in zip(gradients_of(fresh), again, strict=True):
            assert_same_bits(one, other)
            assert address(one) != address(other)


@every_criterion
@pytest.mark.parametrize("change", [{"shape": (4, CLASSES)}, {"dtype": "float64"}], ids=str)
def test_buffers_change_with_shape_and_dtype_only(name, change):
    criterion, arrays = first(name)
    _, others = first(name, **change)
    before = gradients_of(criterion, *arrays)
    kept = [gradient.copy() for gradient in before]
    after = gradients_of(criterion, *others)
    for gradient, other in zip(after, before, strict=True):
        assert gradient.shape == others[0].shape
        assert gradient.dtype == others[0].dtype
        assert not np.shares_memory(gradient, other)
    for gradient, old in zip(before, kept, strict=True):
        assert_same_bits(gradient, old)


def growth(criterion, arrays):
    """Return the memory that a step allocates at its peak."""
    criterion.backward(*arrays)
    gc.collect()
    tracemalloc.start()
    try:
        criterion(*arrays)
        criterion.backward()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@every_criterion
def test_steps_allocate_nothing_that_grows(name):
    """But for a few numbers per pair of `CosineEmbeddingLoss`, which its docstring mentions."""
    criterion, arrays = first(name, shape=(260, 64))
    _, half = first(name, shape=(130, 64))  # more than NumPy's own buffers of 8192 numbers
    assert growth(criterion, arrays) < growth(criterion, half) + arrays[0].nbytes / 8


@pytest.mark.parametrize("order", ["C", "F"])
def test_buffers_lie_like_the_input(order):
    """Else each step would go through a copy."""
    criterion, (x, t) = first("MSELoss", shape=(300, 70))
    x, t = np.asarray(x, order=order), np.asarray(t, order=order)
    assert criterion.backward(x, t).flags[f"{order}_CONTIGUOUS"]
    assert growth(criterion, (x, t)) < x.nbytes / 10


def test_a_criterion_keeps_no_batch_alive():
    criterion, (x, t) = first("MSELoss")
    criterion(x, t)
    expected, seen = 2 * (x - t) / x.size, weakref.ref(x)
    del x, t
    gc.collect()
    assert seen() is None
    np.testing.assert_allclose(criterion.backward(), expected, rtol=1e-6)


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[:], lambda x: x[::-1]])
def test_a_gradient_can_be_an_input(view):
    """It is not overwritten by its own gradient: inputs are never changed."""
    criterion, (x, t) = first("MSELoss")
    gradient = criterion.backward(x, t)
    kept, given = gradient.copy(), view(gradient)
    again = criterion.backward(given, t)
    assert_same_bits(gradient, kept)
    np.testing.assert_allclose(again, 2 * (view(kept) - t) / t.size, rtol=1e-6)


@pytest.mark.parametrize("name", [*PYTORCH, *TEXTBOOK])
def test_an_empty_batch_costs_nothing(name):
    """PyTorch's means are NaN there."""
    criterion, arrays = first(name, shape=(0, CLASSES))
    assert criterion(*arrays) == 0
    assert all(gradient.shape == (0, CLASSES) for gradient in gradients_of(criterion))


def test_anything_array_like_is_an_input():
    criterion = nn.MSELoss()
    assert criterion([1.0, 2.0], [0.0, 0.0]) == 2.5
    buffer = criterion.backward()
    assert_same_bits(criterion.backward(np.array([1.0, 2.0], ">f8"), [0, 0]), [1.0, 2.0])
    assert criterion.backward() is buffer


# --- Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PYTORCH, *TEXTBOOK])
def test_backward_before_forward(name):
    with pytest.raises(RuntimeError, match=rf"^{name}: .*expected a call of forward"):
        getattr(nn, name)().backward()


@pytest.mark.parametrize("name", [*QUICK, "CrossEntropyLoss"])
def test_backward_after_a_failed_forward(name):
    criterion, arrays = first(name, dtype="float64")
    criterion(*arrays)
    for wrong in (arrays[0][:-1], arrays[0].astype(int), "text"):
        with pytest.raises((ValueError, TypeError, IndexError)):
            criterion(wrong, *arrays[1:])
        with pytest.raises(RuntimeError, match="failed"):
            criterion.backward()
    assert gradients_of(criterion, *arrays)[0].shape == arrays[0].shape


def test_backward_after_the_input_has_changed_its_shape():
    criterion, (x, t) = first("MSELoss")
    criterion(x, t)
    x.resize((CLASSES, 6), refcheck=False)
    with pytest.raises(RuntimeError, match=r"shape \(7, 6\) now; expected \(6, 7\)"):
        criterion.backward()
    assert criterion.backward(x, t.reshape(CLASSES, 6)).shape == (CLASSES, 6)


@pytest.mark.parametrize(
    ("name", "arguments", "error", "said"),
    [
        ("MSELoss", {"reduction": "average"}, ValueError, "MSELoss: reduction is 'average'"),
        ("MSELoss", {"size_average": True}, TypeError, "size_average"),
        ("HuberLoss", {"delta": 0.0}, ValueError, "HuberLoss: delta is 0.0; expected"),
        ("HuberLoss", {"delta": "1"}, TypeError, "HuberLoss: delta is str"),
        ("KLDivLoss", {"log_target": 1}, TypeError, "KLDivLoss: log_target"),
        ("MultiMarginLoss", {"p": 3}, ValueError, "MultiMarginLoss: p is 3; expected 1 or 2"),
        ("CrossEntropyLoss", {"label_smoothing": 2.0}, ValueError, "label_smoothing is 2.0"),
        ("CosineEmbeddingLoss", {"margin": np.nan}, ValueError, "margin is nan"),
        ("TripletMarginLoss", {"eps": 0.1}, ValueError, "the distances are exact"),
        ("SoftmaxCrossEntropy", {"eps": 0.5}, ValueError, "SoftmaxCrossEntropy: eps is 0.5"),
        ("MSE", {"weight_decay": 0.1}, ValueError, "MSE: params is missing"),
        ("MSE", {"params": [], "weight_decay": -0.1}, ValueError, "MSE: weight_decay is -0.1"),
    ],
)
def test_wrong_arguments(name, arguments, error, said):
    with pytest.raises(error, match=said):
        getattr(nn, name)(**arguments)


def test_wrong_weights():
    x, t = draw(PYTORCH["BCELoss"][0])
    for shape in ((3,), (6,), (2, 6, CLASSES)):
        with pytest.raises(ValueError, match="BCELoss: weight is float64 of shape"):
            nn.BCELoss(weight=np.ones(shape))(x, t)
    with pytest.raises(ValueError, match="pos_weight is float64 of shape"):
        nn.BCEWithLogitsLoss(pos_weight=np.ones((CLASSES, 1)))(x, t)
    with pytest.raises(ValueError, match="target is int64 of shape"):
        nn.CosineEmbeddingLoss()(x, x, np.ones((6, 1), int))


def test_arguments_cannot_be_changed_but_replaced():
    criterion, (x, t) = first("MSELoss")
    with pytest.raises(FrozenInstanceError):
        criterion.reduction = "sum"
    assert replace(criterion, reduction="sum")(x, t) == pytest.approx(criterion(x, t) * x.size)


# --- Copies and text ------------------------------------------------------------------------------

COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda each, protocol=protocol: pickle.loads(
            pickle.dumps(each, protocol)
        )
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
}
MADE = {
    "MSELoss": lambda: nn.MSELoss(reduction="sum"),
    "CrossEntropyLoss": nn.CrossEntropyLoss,
    "BCEWithLogitsLoss": lambda: nn.BCEWithLogitsLoss(np.arange(1.0, CLASSES + 1)),
    "criterion": lambda: nn.criterion(fl.mse, reduction="batchmean"),
    "SigmoidCrossEntropy": lambda: nn.SigmoidCrossEntropy(
        1e-3, params=[(np.ones(3), np.zeros(3))], weight_decay=0.5
    ),
}
CASES = PYTORCH | TEXTBOOK | {"criterion": PYTORCH["MSELoss"]}


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("name", MADE)
def test_copies(name, copied):
    criterion, arrays = MADE[name](), draw(CASES[name][0], "float64")
    value = criterion(*arrays)
    other = COPIES[copied](criterion)
    assert type(other) is type(criterion)
    assert repr(other) == repr(criterion)
    with pytest.raises(RuntimeError):
        other.backward()
    gradient = criterion.backward()
    kept = gradient.copy()
    assert other(*arrays) == value
    assert_same_bits(other.backward(), gradient)
    other.backward()[...] = 0
    assert_same_bits(gradient, kept)
    assert_same_bits(criterion.backward(), kept)


def test_buffers_are_not_pickled():
    criterion, arrays = first("MSELoss", shape=(100, 100))
    before = len(pickle.dumps(criterion))
    criterion(*arrays)
    assert len(pickle.dumps(criterion)) == before < 1000


def test_a_deep_copy_decays_its_own_parameters():
    w, dw = np.ones(3), np.zeros(3)
    criterion = nn.MSE(params=[(w, dw)], weight_decay=0.5)
    copy.deepcopy(criterion).decay_backward()
    np.testing.assert_array_equal(dw, 0)
    copy.copy(criterion).decay_backward()
    np.testing.assert_array_equal(dw, 0.5)


def test_repr():
    assert repr(nn.HuberLoss(delta=2.0)) == "HuberLoss(reduction='mean', delta=2.0)"
    criterion = nn.criterion(fl.huber, delta=2.0)
    assert repr(criterion) == repr(copy.copy(criterion)) == "criterion(huber, delta=2.0)"
    with pytest.raises(TypeError, match="does not support item assignment"):
        criterion.options["delta"] = 3.0
    weighted = repr(nn.CrossEntropyLoss([1.0, 2.0], ignore_index=0))
    assert weighted.startswith("CrossEntropyLoss(weight=[1.0, 2.0], ignore_index=0, ")
    assert "1." not in repr(nn.MSE(params=[(np.ones(3), np.zeros(3))]))


# --- reduction="none" and upstream ----------------------------------------------------------------


@every_pytorch
def test_single_losses_belong_to_the_caller(name):
    criterion = getattr(nn, name)(reduction="none")
    arrays = draw(PYTORCH[name][0])
    losses = criterion(*arrays)
    kept = losses.copy()
    total = gradients_of(getattr(nn, name)(reduction="sum"), *arrays)
    for mine, sum_of_all in zip(gradients_of(criterion), total, strict=True):
        np.testing.assert_allclose(mine, sum_of_all, rtol=1e-6, atol=1e-7)
    others = draw(PYTORCH[name][0], seed=1)
    assert not np.shares_memory(criterion(*others), losses)
    assert_same_bits(losses, kept)


@every_criterion
def test_upstream_multiplies_the_gradient_and_not_the_loss(name):
    criterion, arrays = first(name)
    value = criterion(*arrays)
    plain = [gradient.copy() for gradient in gradients_of(criterion)]
    assert criterion(*arrays, upstream=-2.0) == value
    for mine, gradient in zip(gradients_of(criterion), plain, strict=True):
        np.testing.assert_allclose(mine, -2 * gradient, rtol=1e-6)
    for mine, gradient in zip(gradients_of(criterion, *arrays), plain, strict=True):
        assert_same_bits(mine, gradient)


# --- The textbook ---------------------------------------------------------------------------------


def clipped(p, eps):
    return np.clip(p, eps, 1 - eps)


def softmax_textbook(x, t, eps):
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    p = clipped(powers / powers.sum(axis=-1, keepdims=True), eps)
    return -np.sum(t * np.log(p)) / len(x), (p - t) / len(x)


def sigmoid_textbook(x, t, eps):
    p = clipped(1 / (1 + np.exp(-x)), eps)
    return -np.sum(t * np.log(p) + (1 - t) * np.log(1 - p)) / len(x), (p - t) / len(x)


@pytest.mark.parametrize("eps", [pytest.param(0.0, marks=pytest.mark.thorough), 1e-7, 0.1])
@pytest.mark.parametrize(
    ("criterion", "textbook"),
    [(nn.SoftmaxCrossEntropy, softmax_textbook), (nn.SigmoidCrossEntropy, sigmoid_textbook)],
)
def test_textbook_cross_entropy(criterion, textbook, eps, rng):
    """In float64, with logits so large that the clipping is felt."""
    x, t = 6 * rng.standard_normal((6, CLASSES)), np.eye(CLASSES)[rng.integers(0, CLASSES, 6)]
    criterion = criterion(eps)
    loss, gradient = textbook(x, t, eps)
    assert criterion.forward(x, t) == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(criterion.backward(), gradient, rtol=1e-12, atol=1e-15)


def test_textbook_mse(rng):
    x, t = rng.standard_normal((2, 6, CLASSES))
    criterion = nn.MSE()
    assert criterion.forward(x, t) == pytest.approx(np.sum((x - t) ** 2) / 6)
    np.testing.assert_allclose(criterion.backward(), 2 * (x - t) / 6)


class Parameter:
    """A parameter as hand-written networks have them."""

    def __init__(self, data):
        self.data, self.grad = data, None


@pytest.mark.parametrize("dtype", DTYPES)
def test_weight_decay(dtype, rng):
    w, v = (
        rng.standard_normal((4, 3)).astype(dtype),
        Parameter(rng.standard_normal(5).astype(dtype)),
    )
    dw, slot = np.ones_like(w), [rng.standard_normal(2).astype(dtype), None]
    criterion = nn.SigmoidCrossEntropy(params=iter([(w, dw), v, slot]), weight_decay=0.25)
    x, t = draw(TEXTBOOK["SigmoidCrossEntropy"][0], dtype)
    plain = nn.SigmoidCrossEntropy().forward(x, t)
    squares = sum(float(np.sum(np.square(a, dtype=float))) for a in (w, v.data, slot[0]))
    for step in range(1, 3):
        v.grad, slot[1] = np.zeros_like(v.data), np.full_like(slot[0], 7)  # new ones in each step
        assert criterion.forward(x, t) == plain
        assert criterion.decay_backward() == pytest.approx(0.125 * squares, rel=1e-6)
        np.testing.assert_allclose(dw, 1 + step * 0.25 * w, rtol=1e-6)
        np.testing.assert_allclose(v.grad, 0.25 * v.data, rtol=1e-6)
        np.testing.assert_allclose(slot[1], 7 + 0.25 * slot[0], rtol=1e-6)
    assert nn.SigmoidCrossEntropy().decay_backward() == 0


@pytest.mark.parametrize("parameter", [np.ones(3), Parameter(np.ones(3)), (np.ones(3),), "w"])
def test_parameters_that_are_none(parameter):
    criterion = nn.MSE(params=[(np.ones(3), np.zeros(3)), parameter], weight_decay=0.1)
    with pytest.raises(TypeError, match=r"^MSE: params\[1\] is .*expected a pair"):
        criterion.decay_backward()


# --- The criterion of any loss --------------------------------------------------------------------


def arrays_of(loss):
    """Return the arrays of a loss by position and by name."""
    rng = np.random.default_rng(3)
    arrays = loss.sample(rng, "float32", (6, CLASSES))
    return arrays, {"var": positive(rng, (6, CLASSES)).astype("f4")} if "var" in str(
        loss.family_keywords
    ) else {}


@pytest.mark.parametrize(
    "loss",
    [pytest.param(x, marks=() if x in ELEMENTWISE else pytest.mark.thorough) for x in ALL],
    ids=lambda loss: loss.name,
)
def test_criterion_of_every_loss(loss):
    options = {name: each.example for name, each in loss.options.items() if name != "eps"}
    criterion = nn.criterion(loss, **options, reduction="batchmean")
    arrays, named = arrays_of(loss)
    value, gradient = loss.value_and_grad(*arrays, **named, **options, reduction="batchmean")
    assert criterion(*arrays, **named) == value
    buffers = gradients_of(criterion)
    for mine, expected in zip(
        buffers, gradient if isinstance(gradient, tuple) else (gradient,), strict=True
    ):
        assert_same_bits(mine, expected)
    again = gradients_of(criterion, *arrays, **named)
    assert all(one is other for one, other in zip(buffers, again, strict=True))


def test_keywords_of_one_call():
    (x, t), weight = draw(PYTORCH["MSELoss"][0]), np.arange(6.0)
    criterion = nn.criterion(fl.mse, reduction="sum")
    squares = np.sum((x - t) ** 2, axis=1, dtype=float)
    assert criterion(x, t, sample_weight=weight) == pytest.approx(np.sum(weight * squares))
    assert criterion(x, t, reduction="mean") == pytest.approx(np.sum(squares) / x.size)
    assert criterion(x, t) == pytest.approx(np.sum(squares))


def test_wrong_ignore_index():
    with pytest.raises(TypeError, match=r"^CrossEntropyLoss: ignore_index is float 1\.5; expected"):
        nn.CrossEntropyLoss(ignore_index=1.5)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"delta": -1.0}, ValueError),
        ({"beta": 1.0}, TypeError),
        ({"reduction": "average"}, ValueError),
        ({"grad_out": np.zeros(3)}, TypeError),
    ],
)
def test_wrong_options_of_a_loss(options, error):
    (name,) = options
    with pytest.raises(error, match=rf"^huber: .*{name}"):
        nn.criterion(fl.huber, **options)
    if error is TypeError:
        with pytest.raises(TypeError, match=name):
            nn.criterion(fl.huber)(np.zeros(3), np.zeros(3), **options)


@pytest.mark.parametrize("loss", ["mse", np.square, nn.MSELoss])
def test_what_is_not_a_loss(loss):
    with pytest.raises(TypeError, match="criterion: loss is "):
        nn.criterion(loss)


@elementwise(ulp_bound=4, nanoseconds=0.2, peers={})
def quartic(pred, target):
    """Fourth power of the error."""
    error = pred - target
    return error**4, 4 * error**3, 12 * error**2


def test_criterion_of_a_loss_of_ones_own():
    x, t = draw(PYTORCH["MSELoss"][0], "float64")
    criterion = pickle.loads(pickle.dumps(nn.criterion(quartic, reduction="sum")))
    assert criterion.loss is quartic
    assert criterion(x, t) == pytest.approx(np.sum((x - t) ** 4))
    np.testing.assert_allclose(criterion.backward(), 4 * (x - t) ** 3, rtol=1e-12)


# --- The door -------------------------------------------------------------------------------------


def test_the_door_opens_when_it_is_used(child_environment):
    program = (
        "import sys, fastloss as fl; assert 'numba' not in sys.modules; assert 'nn' in dir(fl); "
        "fl.nn.MSELoss(); from fastloss import nn; assert nn is fl.nn"
    )
    subprocess.run([sys.executable, "-c", program], env=child_environment, check=True)
