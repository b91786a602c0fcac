"""The losses of two classes and of probabilities: against mpmath, against peers, and one another.

A truth is the textbook formula in so many bits that nothing it subtracts is lost, its derivative a
central difference in them.
"""

import numpy as np
import pytest
from mpmath import mp, mpf
from test_accuracy import Truth, assert_within, exactly
from test_parity import DTYPES, peer

import fastloss as fl

PRECISION = {"float32": 640, "float64": 2600}
STEP = {"float32": mpf(2) ** -220, "float64": mpf(2) ** -1100}
"""Below every input: the difference quotient errs by STEP**2, and by 2**-PRECISION / STEP."""


@pytest.fixture(scope="module", params=DTYPES)
def dtype(request):
    return request.param


# --- Accuracy -------------------------------------------------------------------------------------


def cross_entropy(p, t):
    """Return the cross-entropy, where a part of weight 0 costs 0."""
    return (-t * mp.log(p) if t else 0) - ((1 - t) * mp.log(1 - p) if t != 1 else 0)


def focal(x, t, alpha=None, gamma=2.0, label_smoothing=0.0):
    t = (1 - mpf(label_smoothing)) * t + mpf(label_smoothing) / 2
    p = 1 / (1 + mp.exp(-x))
    weight = 1 if alpha is None else mpf(alpha) * t + (1 - mpf(alpha)) * (1 - t)
    return weight * (1 - p * t - (1 - p) * (1 - t)) ** mpf(gamma) * cross_entropy(p, t)


TRUTHS = {
    "binary_cross_entropy": lambda p, t, eps=None: cross_entropy(p, t),
    "sigmoid_focal": focal,
    "hinge": lambda p, t, margin=1.0: max(0, mpf(margin) - t * p),
    "squared_hinge": lambda p, t, margin=1.0: max(0, mpf(margin) - t * p) ** 2,
    "perceptron": lambda p, t: max(0, -t * p),
    "soft_margin": lambda p, t: mp.log(1 + mp.exp(-t * p)),
    "exponential": lambda p, t: mp.exp(-t * p),
    "kl_div": lambda p, t, log_target=False: (
        mp.exp(t) * (t - p) if log_target else t * ((mp.log(t) if t else 0) - p)
    ),
}


def scores(dtype, rng):
    """Return numbers over the whole range: evenly spaced, and of every magnitude."""
    limit = 80 if dtype == "float32" else 700
    magnitudes = 2.0 ** np.linspace(-30, np.log2(limit), 24)
    return np.concatenate(
        [np.linspace(-limit, limit, 23), rng.uniform(-4, 4, 40), magnitudes, -magnitudes]
    )


def signs(dtype, rng, low=-1):
    pred = scores(dtype, rng)
    return pred.repeat(2), np.tile([low, 1], len(pred))


def binary(dtype, rng):
    return signs(dtype, rng, 0)


def soft(dtype, rng):
    pred = scores(dtype, rng)
    return pred, rng.uniform(0.01, 0.99, len(pred))


def probabilities(dtype, rng):
    """Return probabilities of every magnitude that is not clipped, with hard and soft labels."""
    tails = 2.0 ** -np.linspace(2, 22 if dtype == "float32" else 51, 15)
    pred = np.concatenate([tails, 1 - tails, rng.random(30)]).astype(dtype)
    near = np.clip(pred * (1 + 4 * np.finfo(dtype).eps), 0, 1)  # the gradient nearly cancels
    hard = np.tile([0, 1], len(pred))
    soft_target = rng.random(len(pred))
    return (
        np.concatenate([pred.repeat(2), pred, pred]),
        np.concatenate([hard, soft_target, near]),
    )


def small_probabilities(dtype, rng):
    """Return probabilities that only eps=0 lets through, down to the smallest normal number."""
    lowest = -126 if dtype == "float32" else -1022
    pred = np.ldexp(1 + rng.random(40), np.linspace(lowest, -24, 40).astype(int))
    return pred.repeat(2), np.tile([0, 1], len(pred))


def log_probabilities(dtype, rng):
    pred = -np.abs(scores(dtype, rng))
    target = rng.random(len(pred))
    target[::7], target[1::7], target[2::7] = 0, 1, 1e-30
    return pred, target


def two_log_probabilities(dtype, rng):
    pred = -np.abs(scores(dtype, rng))
    return pred, rng.permutation(pred)


def of_value(truth, pred, target):
    return None


def larger_of_divergence(pred, target, log_target=False):
    """Return the larger of the two terms of the divergence, which cancel where they agree."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if log_target:
            return np.exp(target) * np.maximum(-pred, -target)
        return np.where(target > 0, target * np.maximum(-pred, abs(np.log(target))), 0)


def larger_of_focal_gradient(x, t, alpha=None, gamma=2.0, label_smoothing=0.0):
    """Return the largest term of a soft label's gradient, where they cancel."""
    t = (1 - label_smoothing) * t + label_smoothing / 2
    p, q = 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(x))
    cost = np.logaddexp(0, -abs(x)) + np.where(x > 0, (1 - t) * x, -t * x)
    miss = (1 - t) * p + t * q
    weight = 1 if alpha is None else alpha * t + (1 - alpha) * (1 - t)
    focus = gamma * abs(1 - 2 * t) * p * q / miss * cost
    return weight * miss**gamma * np.maximum.reduce([focus, (1 - t) * p, t * q])


# (loss, options, inputs, ulp beyond the stated bound, sizes by which loss and gradient are measured
# where terms of them cancel)
CASES = [
    ("binary_cross_entropy", {}, probabilities, 0, None, None),
    ("binary_cross_entropy", {"eps": 0.0}, small_probabilities, 0, None, None),
    ("sigmoid_focal", {}, binary, 0, None, None),
    ("sigmoid_focal", {"gamma": 0.5, "alpha": 0.25}, binary, 0, None, None),
    ("sigmoid_focal", {"gamma": 3.7}, binary, 3 * 1.7, None, None),
    ("sigmoid_focal", {"alpha": 0.625}, soft, 3 * 2, None, larger_of_focal_gradient),
    (
        "sigmoid_focal", {"alpha": 0.25, "gamma": 0.3, "label_smoothing": 0.125}, binary,
        3 * 0.3, None, larger_of_focal_gradient,
    ),
    ("hinge", {}, signs, 0, None, None),
    ("hinge", {"margin": 0.3}, signs, 0, None, None),
    ("squared_hinge", {}, signs, 0, None, None),
    ("squared_hinge", {"margin": 0.3}, signs, 0, None, None),
    ("perceptron", {}, signs, 0, None, None),
    ("soft_margin", {}, signs, 0, None, None),
    ("exponential", {}, signs, 0, None, None),
    ("kl_div", {}, log_probabilities, 0, larger_of_divergence, None),
    ("kl_div", {"log_target": True}, two_log_probabilities, 0, larger_of_divergence, None),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join([case[0], *case[1]]))
def test_errors_are_within_the_stated_bound(case, dtype):
    name, options, inputs, more, loss_size, gradient_size = case
    loss, truth = getattr(fl, name), TRUTHS[name]
    pred, target = (
        x.astype(dtype) for x in np.broadcast_arrays(*inputs(dtype, np.random.default_rng(1)))
    )
    if "hinge" in name:  # off the kink, which has a test of its own
        keep = target * pred != options.get("margin", 1.0)
        pred, target = pred[keep], target[keep]
    if name == "perceptron":
        pred, target = pred[pred != 0], target[pred != 0]
    as_given = {  # options reach the kernel rounded to the type
        key: float(np.dtype(dtype).type(x)) if isinstance(x, float) else x
        for key, x in options.items()
    }
    step = STEP[dtype]
    with mp.workprec(PRECISION[dtype]):
        values, slopes = [], []
        for p, t in zip(exactly(pred), exactly(target), strict=True):
            values.append(truth(p, t, **as_given))
            above, below = truth(p + step, t, **as_given), truth(p - step, t, **as_given)
            slopes.append((above - below) / (2 * step))
        values, slopes = Truth.of(values), Truth.of(slopes)
    losses, gradient, _ = loss.value_grad_hess(pred, target, reduction="none", **options)
    wide = pred.astype(float), target.astype(float)
    sizes = [size and size(*wide, **options) for size in (loss_size, gradient_size)]
    bound = loss.ulp_bound + more
    assert_within(losses, values, bound, (pred, target), sizes[0], where=f"{name} loss")
    assert_within(gradient, slopes, bound, (pred, target), sizes[1], where=f"{name} gradient")


# --- Ends, kinks and clipping ---------------------------------------------------------------------


def derivatives(loss, pred, target, dtype="float64", **options):
    """Return loss, gradient and second derivative of one element, as numbers."""
    pred, target = np.array([pred], dtype), np.array([target], dtype)
    results = loss.value_grad_hess(pred, target, reduction="none", **options)
    return tuple(float(result[0]) for result in results)


def test_kinks():
    """At its margin a hinge is outside, so slope 0; at a score of 0 a perceptron is wrong."""
    for t in (-1, 1):
        assert derivatives(fl.hinge, t, t) == (0, 0, 0)
        assert derivatives(fl.squared_hinge, t, t) == (0, 0, 0)
        assert derivatives(fl.hinge, 0, t, margin=0.0) == (0, 0, 0)
        assert derivatives(fl.perceptron, 0, t) == (0, -t, 0)


@pytest.mark.parametrize("name", ["hinge", "squared_hinge", "perceptron", "soft_margin", "kl_div"])
def test_nan_shows_in_loss_and_gradient(name):
    loss = getattr(fl, name)
    assert np.isnan(derivatives(loss, np.nan, 1)[:2]).all()
    if name != "kl_div":
        assert np.isnan(derivatives(loss, 1, np.nan)[:2]).all()


def test_infinite_scores():
    inf = np.inf
    for name in ("hinge", "squared_hinge", "perceptron", "soft_margin", "exponential"):
        for t in (-1, 1):
            assert derivatives(getattr(fl, name), t * inf, t) == (0, 0, 0), name
            assert derivatives(getattr(fl, name), -t * inf, t)[0] == inf, name
    assert derivatives(fl.soft_margin, -inf, 1) == (inf, -1, 0)
    for gamma in (0.0, 0.5, 1.0, 2.0):
        for t in (0, 1):
            right, wrong = (inf if t else -inf), (-inf if t else inf)
            assert derivatives(fl.sigmoid_focal, right, t, gamma=gamma) == (0, 0, 0)
            slope = 1 - 2 * t
            assert derivatives(fl.sigmoid_focal, wrong, t, gamma=gamma) == (inf, slope, 0)
    # Finite logits beyond the range of exp
    assert derivatives(fl.sigmoid_focal, 2000, 1, gamma=0.5) == (0, 0, 0)
    assert derivatives(fl.sigmoid_focal, -2000, 1, gamma=0.5) == (2000, -1, 0)


def test_clipped_probabilities():
    """The derivatives are those of the formula at the clipped probability, never dead."""
    for dtype, eps in (("float32", None), ("float64", None), ("float64", 1e-3)):
        low = float(np.finfo(dtype).eps) if eps is None else eps
        for p, t in ((0, 1), (1, 0), (-3, 1), (2, 0)):  # wrong
            loss, slope, curvature = derivatives(fl.binary_cross_entropy, p, t, dtype, eps=eps)
            assert loss == pytest.approx(-np.log(low), rel=1e-6)
            assert slope == pytest.approx((1 - 2 * t) / low, rel=1e-6)
            assert curvature == pytest.approx(1 / low**2, rel=1e-6)
        for p, t in ((0, 0), (1, 1)):  # right
            loss, slope, _ = derivatives(fl.binary_cross_entropy, p, t, dtype, eps=eps)
            assert loss == pytest.approx(-np.log1p(-low), rel=1e-6)
            assert slope == pytest.approx((1 - 2 * t) / (1 - low), rel=1e-6)
    # 1 - eps rounds to 1
    for t in (0, 1):
        loss, slope, _ = derivatives(fl.binary_cross_entropy, 1, t, "float32", eps=1e-9)
        assert loss == pytest.approx(0 if t else -np.log(1e-9), rel=1e-6)
        assert slope == pytest.approx(-1 if t else 1e9, rel=1e-6)


def test_probabilities_without_clipping():
    loss = fl.binary_cross_entropy
    inf = np.inf
    assert derivatives(loss, 0, 0, eps=0.0) == (0, 1, 1)
    assert derivatives(loss, 1, 1, eps=0.0) == (0, -1, 1)
    assert derivatives(loss, 0, 1, eps=0.0) == (inf, -inf, inf)
    assert derivatives(loss, 1, 0, eps=0.0) == (inf, inf, inf)
    assert derivatives(loss, 0, 0.5, eps=0.0)[:2] == (inf, -inf)


def test_true_probabilities_of_zero_cost_nothing():
    assert derivatives(fl.kl_div, -np.inf, 0) == (0, 0, 0)
    assert derivatives(fl.kl_div, -np.inf, -np.inf, log_target=True) == (0, 0, 0)
    assert derivatives(fl.kl_div, -np.inf, 0.5)[:2] == (np.inf, -0.5)


# --- Identities -----------------------------------------------------------------------------------


def cases(dtype, shape=(40, 9)):
    rng = np.random.default_rng(3)
    pred = (3 * rng.standard_normal(shape)).astype(dtype)
    return pred, rng.integers(0, 2, shape).astype(dtype), rng.random(shape).astype(dtype)


def assert_same(one, other, dtype, factor=1.0):
    """Assert that (loss, gradient) are the same up to rounding."""
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(
            a, factor * b, rtol=0, atol=16 * np.finfo(dtype).eps * abs(b).max()
        )


def singles(name, *arrays, **options):
    loss = getattr(fl, name)
    return loss.value_grad_hess(*arrays, reduction="none", **options)


@pytest.mark.parametrize("name", ["sigmoid_cross_entropy", "sigmoid_focal"])
def test_smoothing_keeps_the_digits_of_the_small_part(name, dtype):
    """Of labels that agree with their logits: 1 minus a smoothed target would have lost some."""
    loss, smoothing = fl.losses()[name], np.dtype(dtype).type(0.1)
    x = np.linspace(-30, 30, 4001).astype(dtype)
    values = loss(x, (x > 0).astype(dtype), label_smoothing=float(smoothing), reduction="none")
    size, small = abs(x.astype("g")), smoothing.astype("g") / 2
    unlikely = np.exp(-size) / (1 + np.exp(-size))
    truths = np.log1p(np.exp(-size)) + small * size
    if name == "sigmoid_focal":
        truths *= (small * (1 - unlikely) + (1 - small) * unlikely) ** 2
    ulps = np.abs(values - truths) / np.spacing(truths.astype(dtype))
    assert ulps.max() <= loss.ulp_bound, x[ulps.argmax()]


def test_focal_without_focus_is_the_cross_entropy(dtype):
    pred, hard, soft_target = cases(dtype)
    for target in (hard, soft_target):
        expected = singles("sigmoid_cross_entropy", pred, target)
        assert_same(singles("sigmoid_focal", pred, target, gamma=0.0), expected, dtype)
        halved = singles("sigmoid_focal", pred, target, gamma=0.0, alpha=0.5)
        assert_same(halved, expected, dtype, 0.5)


def test_cross_entropy_of_sigmoids_is_that_of_logits(dtype):
    logits, hard, soft_target = cases(dtype)
    logits = np.clip(logits, -4, 4)
    p = 1 / (1 + np.exp(-logits))
    for target in (hard, soft_target):
        losses, slope, _ = singles("binary_cross_entropy", p, target)
        expected = singles("sigmoid_cross_entropy", logits, target)
        # 1 - p has lost what the rounding of p is worth: up to exp(4) of it.
        for got, wanted in zip((losses, slope * p * (1 - p)), expected[:2], strict=True):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=100 * np.finfo(dtype).eps)


def test_soft_margin_is_the_cross_entropy_of_zero_and_one(dtype):
    pred, hard, _ = cases(dtype)
    expected = singles("sigmoid_cross_entropy", pred, hard)
    assert_same(singles("soft_margin", pred, 2 * hard - 1), expected, dtype)
    assert_same(singles("soft_margin", pred, hard, labels="01"), expected, dtype)


@pytest.mark.parametrize(
    "name", ["hinge", "squared_hinge", "perceptron", "soft_margin", "exponential"]
)
def test_labels_are_two_spellings_of_one_target(name):
    pred, hard, _ = cases("float32")
    expected = singles(name, pred, 2 * hard - 1)
    targets = [hard, hard.astype(np.uint8), hard == 1] if name == "hinge" else [hard]
    for target in targets:
        for a, b in zip(singles(name, pred, target, labels="01"), expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_squared_hinge_is_the_square_of_the_hinge(dtype):
    pred, hard, _ = cases(dtype)
    sign = 2 * hard - 1
    losses, slope, _ = singles("hinge", pred, sign, margin=0.5)
    squares = singles("squared_hinge", pred, sign, margin=0.5)
    curvature = 2.0 * (slope != 0)
    assert_same(squares, (losses**2, 2 * losses * slope, curvature), dtype)
    assert_same(singles("hinge", pred, sign, margin=0.0), singles("perceptron", pred, sign), dtype)


def test_divergence_from_itself_is_nothing(dtype):
    rng = np.random.default_rng(4)
    target = rng.dirichlet(np.ones(9), 40).astype(dtype)
    log_target = np.log(target)
    losses, slope, curvature = singles("kl_div", log_target, target)
    # log(t) of this library and of NumPy may differ in the last bits.
    assert np.all(abs(losses) <= 4 * np.finfo(dtype).eps * abs(target * log_target))
    np.testing.assert_array_equal(slope, -target)
    assert not curvature.any()
    losses, slope, _ = singles("kl_div", log_target, log_target, log_target=True)
    assert not losses.any()
    np.testing.assert_allclose(slope, -target, rtol=16 * np.finfo(dtype).eps)


def test_divergence_is_cross_entropy_minus_entropy():
    rng = np.random.default_rng(5)
    logits, target = rng.standard_normal((40, 9)), rng.dirichlet(np.ones(9), 40)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    cross_entropies = -np.sum(target * log_p, axis=1)
    entropies = -np.sum(target * np.log(target), axis=1)
    divergences = singles("kl_div", log_p, target)[0].sum(axis=1)
    np.testing.assert_allclose(divergences, cross_entropies - entropies, rtol=0, atol=1e-14)


def test_worked_numbers():
    losses = singles("binary_cross_entropy", np.array([0.6, 0.7]), np.ones(2))[0]
    np.testing.assert_array_equal(losses.round(2), [0.51, 0.36])
    one = np.ones(1, "f4")
    p = np.float32(0.1) * one
    assert f"{singles('binary_cross_entropy', p, one)[0][0]:.5f}" == "2.30259"
    # Keras prints 2.3025842: its logarithm is that of p + 1e-7.
    assert str(singles("binary_cross_entropy", p + np.float32(1e-7), one)[0][0]) == "2.3025842"
    losses = singles("sigmoid_focal", np.log([1 / 9]), np.ones(1))[0]  # p = 0.1
    np.testing.assert_allclose(losses, 0.81 * np.log(10), rtol=1e-14)


# --- ignore_value ---------------------------------------------------------------------------------


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("weights", [None, "per row", "each"])
def test_ignored_elements_are_elements_removed(order, weights):
    rng = np.random.default_rng(6)
    logits, target, _ = cases("float32")
    ignored = rng.random(target.shape) < 0.3
    logits[ignored] = np.resize(np.float32([np.nan, np.inf, -np.inf, 1]), ignored.sum())
    target[ignored] = -1
    weight = None
    full = np.ones(target.shape)
    if weights:
        weight = rng.uniform(0.5, 2, target.shape[: 1 if weights == "per row" else 2])
        full = np.broadcast_to(weight.reshape(len(weight), -1), target.shape)
    full = full[~ignored]
    laid = np.asarray(logits, order=order)
    loss = fl.sigmoid_cross_entropy
    losses, slope, curvature = loss.value_grad_hess(
        logits[~ignored], target[~ignored], sample_weight=full, reduction="none"
    )
    for typed, reduction in ((target, "mean"), (target, "none"), (target.astype(np.int8), "none")):
        value, gradient, hessian = loss.value_grad_hess(
            laid, typed, ignore_value=-1, sample_weight=weight, reduction=reduction
        )
        assert not gradient[ignored].any()
        assert not hessian[ignored].any()
        divisor = full.sum() if reduction == "mean" else 1
        if reduction == "none":
            assert not value[ignored].any()
            np.testing.assert_allclose(value[~ignored], losses, rtol=1e-6)
        else:
            assert value == pytest.approx(losses.sum(dtype=float) / divisor, rel=1e-6)
        np.testing.assert_allclose(gradient[~ignored], slope / divisor, rtol=1e-6)
        np.testing.assert_allclose(hessian[~ignored], curvature / divisor, rtol=1e-6)


def test_ignored_elements_with_other_options():
    logits, target, soft_target = cases("float32")
    keep = target == 1
    soft_target[~keep] = 0.5
    for options in ({"pos_weight": np.arange(9.0)}, {"pos_weight": 2.0, "label_smoothing": 0.1}):
        got = singles("sigmoid_cross_entropy", logits, soft_target, ignore_value=0.5, **options)
        expected = singles(
            "sigmoid_cross_entropy", logits, soft_target, sample_weight=keep, **options
        )
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_nothing_left_to_count():
    logits, target = np.full((3, 2), np.nan, "f4"), np.zeros((3, 2), "f4")
    value, *others = fl.sigmoid_cross_entropy.value_grad_hess(logits, target, ignore_value=0)
    assert value == 0
    assert not np.any(others)


def test_domains_of_options():
    pred, target = np.zeros(3), np.zeros(3)
    for name, option, bad in (
        ("sigmoid_cross_entropy", "ignore_value", np.nan),
        ("sigmoid_focal", "alpha", 1.5),
        ("sigmoid_focal", "gamma", -0.5),
        ("hinge", "margin", -1.0),
        ("hinge", "labels", "0/1"),
        ("binary_cross_entropy", "eps", 0.5),
    ):
        with pytest.raises(ValueError, match=f"{name}: {option} is"):
            getattr(fl, name)(pred, target, **{option: bad})
    with pytest.raises(TypeError, match="kl_div: log_target is int 1; expected True or False"):
        fl.kl_div(pred, target, log_target=1)


# --- Other libraries ------------------------------------------------------------------------------


def test_scikit_learn_log_loss():
    """Of all probabilities, clipped where they are certain and wrong."""
    metrics, rng = peer("sklearn.metrics"), np.random.default_rng(7)
    p, label = np.append(rng.random(48), [0.0, 1.0]), np.append(rng.random(48) < 0.5, [True, False])
    losses = singles("binary_cross_entropy", p, label)[0]
    assert losses.mean() == pytest.approx(metrics.log_loss(label, p), rel=1e-14)


def test_perceptron_starts_from_zero_as_scikit_learn_does():
    """One step of SGD from weights of 0 moves them, unlike with a gradient of 0 there."""
    linear_model = peer("sklearn.linear_model")
    model = linear_model.SGDClassifier(
        loss="perceptron", penalty=None, learning_rate="constant", eta0=1.0, max_iter=1, tol=None,
        shuffle=False, fit_intercept=False,
    )  # fmt: skip
    x, sign = np.array([[2.0], [-3.0]]), np.array([1, -1])
    model.fit(x, sign)
    first = -derivatives(fl.perceptron, 0, sign[0])[1] * x[0, 0]
    assert model.coef_[0, 0] == first == 2


@pytest.mark.parametrize("loss", [fl.hinge, fl.perceptron, fl.soft_margin], ids=lambda x: x.name)
def test_bool_labels_are_not_signs(loss):
    scores, labels = np.ones(3, "f4"), np.array([True, False, True])
    with pytest.raises(TypeError, match=rf"{loss.name}: target is bool of shape .3,.; expected -1"):
        loss(scores, labels)
    if "labels" in loss.options:
        assert loss(scores, labels, labels="01") == loss(scores, np.float32([1, -1, 1]))


def test_kl_div_of_improbable_true_classes():
    p, t = np.float32([-0.0025]), np.float32([-89.06])
    exact = np.exp(np.float64(t)) * (np.float64(t) - np.float64(p))
    np.testing.assert_allclose(fl.kl_div(p, t, log_target=True, reduction="none"), exact, rtol=1e-6)


def test_curvatures_of_small_probabilities_are_finite():
    small = np.full((1, 1), 1e-30, "f4")
    for loss in (fl.binary_cross_entropy, fl.categorical_cross_entropy):
        curvature = loss.value_grad_hess(small, small, eps=0.0, reduction="none")[2]
        np.testing.assert_allclose(curvature, 1e30, rtol=1e-6)
    p = np.array([[1e-23, 1]], "f4")
    curvature = fl.jensen_shannon.value_grad_hess(p, p.copy())[2]
    np.testing.assert_allclose(curvature, [[2.5e22, 0.25]], rtol=1e-6)
