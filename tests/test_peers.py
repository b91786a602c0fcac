"""Every loss beside the libraries that have it too, over the options they share, in float64.

PyTorch's options are tested with `fl.nn`, and the losses used most in `test_parity`. A peer that
means something else by its name is called so that it means the same; the docstring of the loss says
what differs.
"""

import importlib.util
import itertools
import os
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ALL
from test_parity import SLACK, peer

import fastloss as fl

pytestmark = pytest.mark.thorough

ROWS, CLASSES = 24, 7

# --- What the inputs and targets are --------------------------------------------------------------


def real(rng):
    return 2 * rng.standard_normal((ROWS, CLASSES))


def unit(rng):
    return rng.uniform(0.01, 0.99, (ROWS, CLASSES))


def positive(rng):
    return rng.gamma(2, size=(ROWS, CLASSES)) + 0.1


def counts(rng):
    return rng.poisson(2.0, (ROWS, CLASSES)).astype(float)


def signs(rng):
    return rng.choice((-1.0, 1.0), (ROWS, CLASSES))


def binary(rng):
    return rng.integers(0, 2, (ROWS, CLASSES)).astype(float)


def labels(rng):
    return rng.integers(0, CLASSES, ROWS)


def distribution(rng):
    return rng.dirichlet(np.ones(CLASSES), ROWS)


def log_distribution(rng):
    return np.log(distribution(rng))


@dataclass(frozen=True)
class Case:
    """A loss, its arrays, what a peer makes of them, and the options to try.

    `theirs` gets the peer's module, the arrays and the options, and returns losses: any number of
    them, what counts is their sum. `always` are options of ours that make us mean what they do.
    """

    loss: str
    draw: tuple[Callable[[np.random.Generator], Any], ...]
    theirs: Callable[..., Any]
    options: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    always: dict[str, Any] = field(default_factory=dict)
    inputs: int = 1

    def arrays(self):
        rng = np.random.default_rng(5)
        return [function(rng) for function in self.draw]

    def settings(self):
        for values in itertools.product(*self.options.values()):
            yield dict(zip(self.options, values, strict=True))

    def ours(self, arrays, options):
        loss = getattr(fl, self.loss)
        named = {**self.always, **options}
        value, gradients = loss.value_and_grad(*arrays, reduction="sum", **named)
        return value, gradients if isinstance(gradients, tuple) else (gradients,)


def assert_equal(case, options, ours, theirs, value_type="float64"):
    """Compare sums of losses, and gradients: within a few units of the largest number."""
    kinds = value_type, *(["float64"] * (len(ours) - 1))
    for mine, other, kind in zip(ours, theirs, kinds, strict=True):
        mine, other = np.asarray(mine), np.asarray(other)
        assert mine.shape == other.shape, (case.loss, options)
        allowed = 4 * SLACK * np.finfo(kind).eps * max(np.max(np.abs(other)), 1.0)
        assert np.max(np.abs(mine - other)) <= allowed, (case.loss, options)


def each(cases):
    return pytest.mark.parametrize("case", cases, ids=[f"{case.loss}-{k}" for k, case in
                                                       enumerate(cases)])  # fmt: skip


def assert_as_in_jax(module, case, value_type="float64"):
    """Compare with a function of JAX arrays, differentiated by JAX."""
    jax = peer("jax")
    arrays = case.arrays()
    for options in case.settings():

        def total(*inputs, options=options):
            return case.theirs(module, *inputs, *arrays[case.inputs :], **options).sum()

        with jax.enable_x64(True):
            positions = tuple(range(case.inputs))
            inputs = [jax.numpy.asarray(array) for array in arrays[: case.inputs]]
            value, gradients = jax.value_and_grad(total, argnums=positions)(*inputs)
        mine, ours = case.ours(arrays, options)
        assert_equal(case, options, (mine, *ours), (value, *gradients), value_type)


# --- optax ----------------------------------------------------------------------------------------


def one_hot(y):
    return np.eye(CLASSES)[y]


OPTAX = [
    Case("mse", (real, real), lambda o, p, t: o.squared_error(p, t)),
    Case("half_mse", (real, real), lambda o, p, t: o.l2_loss(p, t)),
    Case("huber", (real, real), lambda o, p, t, delta: o.huber_loss(p, t, delta=delta),
         {"delta": (1.0, 0.3)}),
    Case("log_cosh", (real, real), lambda o, p, t: o.log_cosh(p, t)),
    Case("hinge", (real, signs), lambda o, p, t: o.hinge_loss(p, t)),
    Case("perceptron", (real, signs), lambda o, p, t: o.losses.perceptron_loss(p, t)),
    Case("sigmoid_cross_entropy", (real, unit),
         lambda o, x, t: o.sigmoid_binary_cross_entropy(x, t)),
    Case("sigmoid_focal", (real, binary),
         lambda o, x, t, alpha, gamma: o.sigmoid_focal_loss(x, t, alpha=alpha, gamma=gamma),
         {"alpha": (None, 0.25), "gamma": (2.0, 1.0, 0.5)}),
    Case("kl_div", (log_distribution, distribution), lambda o, x, t: o.kl_divergence(x, t)),
    Case("kl_div", (log_distribution, log_distribution),
         lambda o, x, t: o.losses.kl_divergence_with_log_targets(x, t),
         always={"log_target": True}),
    Case("softmax_cross_entropy", (real, labels),
         lambda o, x, y: o.softmax_cross_entropy_with_integer_labels(x, y)),
    Case("softmax_cross_entropy", (real, distribution),
         lambda o, x, t: o.softmax_cross_entropy(x, t)),
    Case("softmax_cross_entropy", (real, labels),
         lambda o, x, y, label_smoothing:
         o.softmax_cross_entropy(x, o.smooth_labels(one_hot(y), label_smoothing)),
         {"label_smoothing": (0.0, 0.1)}),
    Case("poly_cross_entropy", (real, labels),
         lambda o, x, y, epsilon: o.losses.poly_loss_cross_entropy(x, one_hot(y), epsilon=epsilon),
         {"epsilon": (1.0, 2.0, -0.5)}),
    Case("poly_cross_entropy", (real, distribution),
         lambda o, x, t: o.losses.poly_loss_cross_entropy(x, t, epsilon=2.0),
         always={"epsilon": 2.0}),
    Case("multiclass_hinge", (real, labels), lambda o, x, y: o.losses.multiclass_hinge_loss(x, y)),
    Case("sparsemax", (real, labels), lambda o, x, y: o.losses.multiclass_sparsemax_loss(x, y)),
    Case("cosine_distance", (real, real), lambda o, a, b: o.cosine_distance(a, b), inputs=2),
    Case("triplet_margin", (real, real, real),
         lambda o, a, b, c, margin, p:
         o.losses.triplet_margin_loss(a, b, c, margin=margin, norm_degree=p, eps=0.0),
         {"margin": (1.0, 4.0), "p": (2.0, 4.0)}, inputs=3),
]  # fmt: skip


@each(OPTAX)
def test_optax(case):
    assert_as_in_jax(peer("optax"), case)


# --- Keras ----------------------------------------------------------------------------------------

EPSILON = 1e-7
"""What Keras adds, or clips to, wherever it divides or takes a logarithm."""


def keras():
    os.environ["KERAS_BACKEND"] = "jax"
    return peer("keras").losses


def element(function, **always):
    """Return an elementwise loss of Keras, without its mean over the last axis."""

    def losses(k, pred, target, **options):
        return getattr(k, function)(target[..., None], pred[..., None], **always, **options)

    return losses


def keras_focal(k, x, t, alpha, gamma):
    balanced = {} if alpha is None else {"apply_class_balancing": True, "alpha": alpha}
    focal = element("binary_focal_crossentropy", from_logits=True, **balanced)
    return focal(k, x, t, gamma=gamma)


def overlap(function):
    """Return a loss of regions of Keras, without what it adds to its denominators."""

    def losses(k, pred, target, **options):
        config = peer("keras").config
        config.set_epsilon(1e-300)
        try:
            return getattr(k, function)(target, pred, axis=1, **options)
        finally:
            config.set_epsilon(EPSILON)

    return losses


def softmax(x):
    return peer("jax").nn.softmax(x)


KERAS = [
    Case("mse", (real, real), element("mean_squared_error")),
    Case("mae", (real, real), element("mean_absolute_error")),
    Case("huber", (real, real), element("huber"), {"delta": (1.0, 0.3)}),
    Case("log_cosh", (real, real), element("log_cosh")),
    Case("mape", (real, real),  # in per cent there
         lambda k, p, t: element("mean_absolute_percentage_error")(k, p, t) / 100,
         always={"eps": EPSILON}),
    Case("msle", (positive, positive), element("mean_squared_logarithmic_error")),
    Case("hinge", (real, signs), element("hinge")),
    Case("hinge", (real, binary), element("hinge"), always={"labels": "01"}),
    Case("squared_hinge", (real, signs), element("squared_hinge")),
    Case("poisson_nll", (positive, counts), element("poisson"),
         always={"log_input": False, "eps": EPSILON}),
    Case("kl_div", (log_distribution, distribution),
         lambda k, x, t: k.kl_divergence(t, peer("jax").numpy.exp(x))),
    Case("binary_cross_entropy", (unit, unit), element("binary_crossentropy"),
         always={"eps": EPSILON}),
    Case("sigmoid_cross_entropy", (real, unit), element("binary_crossentropy", from_logits=True),
         {"label_smoothing": (0.0, 0.1)}),
    Case("sigmoid_focal", (real, binary), keras_focal,
         {"alpha": (None, 0.25), "gamma": (2.0, 1.0, 0.5)}),
    Case("softmax_cross_entropy", (real, labels),
         lambda k, x, y, ignore_index: k.sparse_categorical_crossentropy(
             y, x, from_logits=True, ignore_class=ignore_index),
         {"ignore_index": (-100, 3)}),
    Case("softmax_cross_entropy", (real, distribution),
         lambda k, x, t, label_smoothing: k.categorical_crossentropy(
             t, x, from_logits=True, label_smoothing=label_smoothing),
         {"label_smoothing": (0.0, 0.1)}),
    Case("categorical_cross_entropy", (distribution, labels),  # Keras divides rows by their sums
         lambda k, p, y: (k.sparse_categorical_crossentropy(y, p)
                          - peer("jax").numpy.log(p.sum(-1))),
         always={"eps": EPSILON}),
    Case("softmax_focal", (real, labels),
         lambda k, x, y, gamma: k.categorical_focal_crossentropy(
             one_hot(y), x, alpha=1.0, gamma=gamma, from_logits=True),
         {"gamma": (2.0, 0.5)}),
    Case("softmax_focal", (real, labels),
         lambda k, x, y, class_weight: k.categorical_focal_crossentropy(
             one_hot(y), x, alpha=class_weight, from_logits=True),
         {"class_weight": (np.linspace(0.2, 2, CLASSES),)}),
    Case("generalized_cross_entropy", (real, labels),
         lambda k, x, y, q: k.categorical_generalized_cross_entropy(y, softmax(x), q),
         {"q": (0.7, 0.3)}),
    Case("multiclass_hinge", (unit, labels),  # Keras takes the label's own class for a rival of 0
         lambda k, x, y: k.categorical_hinge(one_hot(y), x)),
    Case("cosine_distance", (real, real), lambda k, a, b: 1 + k.cosine_similarity(a, b), inputs=2),
    Case("dice", (unit, binary), overlap("dice"), always={"smooth": 0.0}),
    Case("tversky", (unit, binary),  # there alpha weighs what the prediction misses
         lambda k, p, t, alpha, beta: overlap("tversky")(k, p, t, alpha=beta, beta=alpha),
         {"alpha": (0.5, 0.3), "beta": (0.5, 0.9)}, always={"smooth": 0.0}),
]  # fmt: skip


@each(KERAS)
def test_keras(case):
    assert_as_in_jax(keras(), case, value_type="float32")  # so it takes means, of one number too


# --- scikit-learn, SciPy, PyTorch and torchvision -------------------------------------------------


def sklearn_loss(name, scale=1.0, **fixed):
    """Return what evaluates a loss of scikit-learn's: one number per sample, and its gradient."""

    def evaluate(module, pred, target, **options):
        loss = getattr(module, name)(**fixed, **options)
        if pred.ndim == 2 and target.ndim == 2:
            pred, target = pred.reshape(-1), target.reshape(-1)
        losses, gradient = loss.loss_gradient(target.astype(float), pred)
        return scale * losses, scale * gradient

    return evaluate


def half_tweedie(module, pred, target, power):
    losses, gradient = sklearn_loss("HalfTweedieLoss")(module, pred, target, power=power)
    constants = target.reshape(-1) ** 2 / 2 if power == 0 else 0  # as our docstring says
    return losses - constants, gradient


SKLEARN = [
    Case("mse", (real, real), sklearn_loss("HalfSquaredError", scale=2.0)),
    Case("half_mse", (real, real), sklearn_loss("HalfSquaredError")),
    Case("mae", (real, real), sklearn_loss("AbsoluteError")),
    Case("pinball", (real, real), sklearn_loss("PinballLoss"), {"quantile": (0.5, 0.1, 0.9)}),
    Case("huber", (real, real), sklearn_loss("HuberLoss"), {"delta": (1.0, 0.3)}),
    Case("poisson_nll", (real, counts), sklearn_loss("HalfPoissonLoss")),
    Case("gamma_nll", (real, positive), sklearn_loss("HalfGammaLoss")),
    Case("tweedie", (real, positive), half_tweedie,
         {"power": (-1.3, 0.0, 1.0, 1.2, 1.5, 2.0, 3.0)}),
    Case("sigmoid_cross_entropy", (real, unit), sklearn_loss("HalfBinomialLoss")),
    Case("exponential", (real, binary), sklearn_loss("ExponentialLoss"), always={"labels": "01"}),
    Case("softmax_cross_entropy", (real, labels),
         sklearn_loss("HalfMultinomialLoss", n_classes=CLASSES)),
]  # fmt: skip


@each(SKLEARN)
def test_scikit_learn(case):
    module, arrays = peer("sklearn._loss.loss"), case.arrays()
    for options in case.settings():
        losses, gradient = case.theirs(module, *arrays, **options)
        value, (ours,) = case.ours(arrays, options)
        assert_equal(case, options, (value, ours), (losses.sum(), gradient.reshape(ours.shape)))


def sgd_loss(name, *arguments):
    """Return what evaluates one of the loss functions of scikit-learn's SGD."""

    def evaluate(module, pred, target):
        loss = getattr(module, name)(*arguments)
        pairs = list(zip(pred.ravel(), target.ravel(), strict=True))
        losses, slopes = zip(*((loss.py_loss(*pair), loss.py_dloss(*pair)) for pair in pairs),
                             strict=True)  # fmt: skip
        return np.array(losses), np.array(slopes)

    return evaluate


SGD = [
    Case("perceptron", (real, signs), sgd_loss("Hinge", 0.0)),
    Case("hinge", (real, signs), sgd_loss("Hinge", 1.0)),
    Case("squared_hinge", (real, signs), sgd_loss("SquaredHinge", 1.0)),
]


@each(SGD)
def test_scikit_learn_sgd(case):
    module, arrays = peer("sklearn.linear_model._sgd_fast"), case.arrays()
    losses, slopes = case.theirs(module, *arrays)
    value, (ours,) = case.ours(arrays, {})
    assert_equal(case, {}, (value, ours), (losses.sum(), slopes.reshape(ours.shape)))


METRICS = [
    Case("binary_cross_entropy", (unit, binary), lambda m, p, t: m.log_loss(t.ravel(), p.ravel())),
    Case("hinge", (real, signs), lambda m, p, t: m.hinge_loss(t.ravel(), p.ravel())),
    Case("multiclass_hinge", (real, labels),
         lambda m, x, y: m.hinge_loss(y, x, labels=range(CLASSES))),
    Case("mape", (real, real),
         lambda m, p, t: m.mean_absolute_percentage_error(t.ravel(), p.ravel()),
         always={"eps": np.finfo(float).eps}),
    Case("msle", (positive, positive),
         lambda m, p, t: m.mean_squared_log_error(t.ravel(), p.ravel())),
    Case("soft_margin", (real, signs),
         lambda m, x, t: m.log_loss((t.ravel() + 1) / 2, 1 / (1 + np.exp(-x.ravel())))),
]  # fmt: skip


@each(METRICS)
def test_scikit_learn_metrics(case):
    """Means without a gradient."""
    arrays = case.arrays()
    theirs = case.theirs(peer("sklearn.metrics"), *arrays)
    ours = getattr(fl, case.loss)(*arrays, **case.always)
    assert_equal(case, {}, (ours,), (theirs,))


SCIPY = [
    Case("huber", (real, real), lambda s, p, t, delta: s.special.huber(delta, p - t),
         {"delta": (1.0, 0.3)}),
    Case("pseudo_huber", (real, real), lambda s, p, t, delta: s.special.pseudo_huber(delta, p - t),
         {"delta": (1.0, 0.3)}),
    Case("kl_div", (log_distribution, distribution),
         lambda s, x, t: s.special.rel_entr(t, np.exp(x))),
    Case("entropy", (distribution,), lambda s, p, base: s.stats.entropy(p, base=base, axis=1),
         {"base": (None, 2.0)}),
    Case("jensen_shannon", (distribution, distribution),
         lambda s, p, t, base: s.spatial.distance.jensenshannon(p, t, base, axis=1) ** 2,
         {"base": (None, 2.0)}),
]  # fmt: skip


@each(SCIPY)
def test_scipy(case):
    """It has values only."""
    scipy, arrays = peer("scipy"), case.arrays()
    for room in ("special", "stats", "spatial.distance"):
        peer(f"scipy.{room}")
    for options in case.settings():
        theirs = case.theirs(scipy, *arrays, **options).sum()
        assert_equal(case, options, case.ours(arrays, options)[:1], (theirs,))


def torchvision_focal_loss():
    """Import the file of torchvision's focal loss alone.

    The whole package needs its compiled part, which loads beside one build of PyTorch only.
    """
    peer("torch")
    found = importlib.util.find_spec("torchvision")
    if found is None:
        return peer("torchvision")  # skips the test, or fails
    (place,) = found.submodule_search_locations
    spec = importlib.util.spec_from_file_location(
        "torchvision_alone.ops.focal_loss", Path(place) / "ops" / "focal_loss.py"
    )
    utils = types.ModuleType("torchvision_alone.utils")
    utils._log_api_usage_once = lambda function: None
    sys.modules[utils.__name__] = utils
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TORCH = [
    Case("softmax_kl", (real, real),
         lambda f, x, t, temperature: temperature**2 * f.kl_div(
             f.log_softmax(x / temperature, 1), f.log_softmax(t / temperature, 1),
             log_target=True, reduction="none"),
         {"temperature": (1.0, 2.5)}),
]  # fmt: skip

TORCHVISION = [
    Case("sigmoid_focal", (real, binary),
         lambda v, x, t, alpha, gamma: v.sigmoid_focal_loss(
             x, t, -1 if alpha is None else alpha, gamma),
         {"alpha": (None, 0.25), "gamma": (2.0, 1.0, 0.5)}),
]  # fmt: skip


def assert_as_in_torch(module, case):
    """Compare with a function of tensors, differentiated by PyTorch."""
    torch, arrays = peer("torch"), case.arrays()
    for options in case.settings():
        pred, *others = map(torch.tensor, arrays)
        total = case.theirs(module, pred.requires_grad_(), *others, **options).sum()
        total.backward()
        value, (ours,) = case.ours(arrays, options)
        assert_equal(case, options, (value, ours), (total.item(), pred.grad.numpy()))


@each(TORCH)
def test_torch(case):
    """What is no criterion of `fl.nn`."""
    assert_as_in_torch(peer("torch.nn.functional"), case)


@each(TORCHVISION)
def test_torchvision(case):
    assert_as_in_torch(torchvision_focal_loss(), case)


COMPARED = {
    "optax": OPTAX,
    "Keras": KERAS,
    "scikit-learn": [*SKLEARN, *SGD, *METRICS],
    "SciPy": SCIPY,
    "torchvision": TORCHVISION,
}


def test_every_named_peer_is_compared():
    """What a loss's record names stands in a table here; but for PyTorch: see `test_nn`."""
    assert {library for loss in ALL for library in loss.peers} == {*COMPARED, "PyTorch"}
    for library, cases in COMPARED.items():
        named = {loss.name for loss in ALL if library in loss.peers}
        assert named - {case.loss for case in cases} == set(), library
