"""Values and gradients of other libraries, over the options they share with us.

A peer is not the truth. The truth is the peer in float64; in float32 our error may be the peer's
own float32 error plus a slack. In float64 the slack alone is what two sound programs may differ by.
"""

import importlib
import itertools
import os

import numpy as np
import pytest

import fastloss as fl

SLACK = 8
"""Units of epsilon times the largest entry: exp, log, a sum and a division of each side."""

DTYPES = ("float32", "float64")
ROWS, CLASSES = 48, 40


def peer(name):
    """Import another library; without it the test is skipped, or fails where peers are required."""
    if os.environ.get("FASTLOSS_REQUIRE_PEERS") == "1":
        return importlib.import_module(name)
    return pytest.importorskip(name)


def assert_agrees(ours, same, wide):
    """Compare (loss, gradient) with the peer's in the same type and in float64."""
    for mine, theirs, true in zip(ours, same, wide, strict=True):
        mine, theirs, true = (np.asarray(x, float) for x in (mine, theirs, true))
        assert mine.shape == theirs.shape == true.shape
        dtype = ours[1].dtype
        allowed = np.max(np.abs(theirs - true)) + SLACK * np.finfo(dtype).eps * np.max(np.abs(true))
        assert np.max(np.abs(mine - true)) <= allowed


# --- PyTorch --------------------------------------------------------------------------------------


def torch_value_and_grad(function, logits, target, dtype, **options):
    """Return PyTorch's loss and gradient, floating arguments cast to `dtype`."""
    torch = peer("torch")

    def tensor(array):
        array = np.asarray(array)
        return torch.from_numpy(array.astype(dtype) if array.dtype.kind == "f" else array)

    options = {
        name: tensor(value) if isinstance(value, np.ndarray) else value
        for name, value in options.items()
    }
    variable = tensor(logits).requires_grad_()
    loss = getattr(torch.nn.functional, function)(variable, tensor(target), **options)
    loss.sum().backward()
    return loss.detach().numpy(), variable.grad.numpy()


def both_types(function, logits, target, **options):
    """Return PyTorch's results in the type of the logits, and in float64."""
    return (
        torch_value_and_grad(function, logits, target, logits.dtype, **options),
        torch_value_and_grad(function, logits, target, "float64", **options),
    )


def softmax_case(dtype, target, shape=(ROWS, CLASSES)):
    """Return (logits, labels or a dense target, class weights), the class axis second."""
    rng = np.random.default_rng(1)
    logits = (3 * rng.standard_normal(shape)).astype(dtype)
    labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    if target == "dense":
        labels = np.moveaxis(rng.dirichlet(np.ones(shape[1]), labels.shape), -1, 1).astype(dtype)
    return logits, labels, rng.uniform(0.5, 2, shape[1]).astype(dtype)


def assert_torch_cross_entropy(logits, target, reduction, ignore_index, **options):
    class_weight, smoothing = options["class_weight"], options["label_smoothing"]
    same, wide = both_types(
        "cross_entropy", logits, target, weight=class_weight, label_smoothing=smoothing,
        ignore_index=ignore_index, reduction="sum" if reduction == "batchmean" else reduction,
    )  # fmt: skip
    if reduction == "batchmean":
        same, wide = ([part / len(logits) for part in results] for results in (same, wide))
    normalizer = None
    if reduction == "mean" and target.ndim == logits.ndim:
        normalizer = logits.size // logits.shape[1]  # PyTorch disregards weights and masses here
    ours = fl.softmax_cross_entropy.value_and_grad(
        logits, target, axis=1, reduction=reduction, ignore_index=ignore_index,
        normalizer=normalizer, num_threads=1, **options,
    )  # fmt: skip
    assert_agrees(ours, same, wide)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "class_weight"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("target", ["labels", "dense"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_cross_entropy(dtype, target, smoothing, weighted):
    logits, labels, class_weight = softmax_case(dtype, target)
    # PyTorch knows no ignored rows among dense targets.
    ignored = (-100, 7, -1) if target == "labels" else (-100,)
    reductions = ["mean", "batchmean", "sum"]
    if dtype == "float64":  # compiled apart; in float32 the accuracy tests hold it, more tightly
        reductions.append("none")
    for reduction, ignore_index in itertools.product(reductions, ignored):
        if target == "labels":
            labels[::5] = ignore_index
        assert_torch_cross_entropy(
            logits, labels, reduction, ignore_index,
            class_weight=class_weight if weighted else None, label_smoothing=smoothing,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "target", "smoothing", "weighted"),
    [
        ("float32", "labels", 0.0, False),
        ("float64", "dense", 0.1, True),
    ],
)
def test_torch_cross_entropy_of_images(dtype, target, smoothing, weighted):
    """Class-first (N, C, H, W): another kernel, at its simplest and at its richest."""
    logits, labels, class_weight = softmax_case(dtype, target, (3, 5, 7, 11))
    if target == "labels":
        labels[0, 2:5] = 4
    for reduction in ("mean", "batchmean", "sum"):
        assert_torch_cross_entropy(
            logits, labels, reduction, 4 if target == "labels" else -100,
            class_weight=class_weight if weighted else None, label_smoothing=smoothing,
        )  # fmt: skip


def elementwise_case(dtype):
    rng = np.random.default_rng(2)
    logits = (4 * rng.standard_normal((ROWS, CLASSES))).astype(dtype)
    target, per_class = rng.random(logits.shape), rng.uniform(0.5, 3, CLASSES)
    return logits, target.astype(dtype), per_class.astype(dtype)


@pytest.mark.parametrize("pos_weight", ["none", "scalar", "vector"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_binary_cross_entropy(dtype, pos_weight):
    logits, target, per_class = elementwise_case(dtype)
    weight = {"none": None, "scalar": np.asarray(2.5, dtype), "vector": per_class}[pos_weight]
    options = {} if weight is None else {"pos_weight": weight if weight.ndim else 2.5}
    for reduction in ("mean", "sum", "none"):
        results = both_types(
            "binary_cross_entropy_with_logits", logits, target, pos_weight=weight,
            reduction=reduction,
        )  # fmt: skip
        ours = fl.sigmoid_cross_entropy.value_and_grad(
            logits, target, reduction=reduction, **options
        )
        assert_agrees(ours, *results)


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_mse(dtype):
    pred, target, _ = elementwise_case(dtype)
    for reduction in ("mean", "sum", "none"):
        results = both_types("mse_loss", pred, target, reduction=reduction)
        assert_agrees(fl.mse.value_and_grad(pred, target, reduction=reduction), *results)


# --- optax and scikit-learn -----------------------------------------------------------------------

OPTAX = {
    "softmax_cross_entropy_with_integer_labels": ("softmax_cross_entropy", "labels"),
    "softmax_cross_entropy": ("softmax_cross_entropy", "dense"),
    "sigmoid_binary_cross_entropy": ("sigmoid_cross_entropy", None),
    "squared_error": ("mse", None),
}


def case_of(target, dtype):
    """Return (pred, target) for a loss whose target is labels, dense, or (None) elementwise."""
    return (softmax_case(dtype, target) if target else elementwise_case(dtype))[:2]


@pytest.mark.parametrize("function", OPTAX)
@pytest.mark.parametrize("dtype", DTYPES)
def test_optax(dtype, function):
    jax, optax = peer("jax"), peer("optax")
    name, target_kind = OPTAX[function]
    pred, target = case_of(target_kind, dtype)

    def value_and_grad(as_dtype):
        def mean(x, t):
            return getattr(optax, function)(x, t).mean()

        with jax.enable_x64(True):
            labels = target.astype(as_dtype) if target.dtype.kind == "f" else target
            loss, gradient = jax.value_and_grad(mean)(pred.astype(as_dtype), labels)
            return np.asarray(loss), np.asarray(gradient)

    ours = getattr(fl, name).value_and_grad(pred, target)
    if target_kind == "dense":  # the mean over rows; their masses sum to 1 only roughly
        ours = fl.softmax_cross_entropy.value_and_grad(pred, target, reduction="batchmean")
    assert_agrees(ours, value_and_grad(dtype), value_and_grad("float64"))


SKLEARN = {
    "HalfMultinomialLoss": ("softmax_cross_entropy", 1),
    "HalfBinomialLoss": ("sigmoid_cross_entropy", 1),
    "HalfSquaredError": ("mse", 2),
}


@pytest.mark.parametrize("function", SKLEARN)
@pytest.mark.parametrize("dtype", DTYPES)
def test_scikit_learn(dtype, function):
    module = peer("sklearn._loss")
    name, factor = SKLEARN[function]
    multinomial = function == "HalfMultinomialLoss"
    pred, target = case_of("labels" if multinomial else None, dtype)
    if not multinomial:
        pred, target = pred.reshape(-1), target.reshape(-1)  # one number per sample
    sample_weight = np.random.default_rng(3).uniform(0.5, 2, len(pred)).astype(dtype)

    def value_and_grad(as_dtype):
        loss = module.__dict__[function](**({"n_classes": CLASSES} if multinomial else {}))
        losses, gradient = loss.loss_gradient(
            target.astype(as_dtype), pred.astype(as_dtype), sample_weight.astype(as_dtype)
        )
        total = np.sum(sample_weight, dtype=float)
        return factor * np.sum(losses, dtype=float) / total, factor * gradient / total

    ours = getattr(fl, name).value_and_grad(pred, target, sample_weight=sample_weight)
    assert_agrees(ours, value_and_grad(dtype), value_and_grad("float64"))
