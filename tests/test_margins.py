"""The losses with a margin, and sparsemax: against mpmath, against peers, and one another.

A truth is the definition of a single loss in 2,000 bits, its gradient a central difference in them.
"""

import numpy as np
import pytest
from conftest import assert_same_bits
from mpmath import mp, mpf
from test_parity import DTYPES

import fastloss as fl

PRECISION = 2000
STEP = mpf(2) ** -400
"""Below every input and every distance to a kink."""

NAMES = ("multiclass_hinge", "multi_margin", "sparsemax", "arcface", "cosface")
every_name = pytest.mark.parametrize("name", NAMES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def singles(name, pred, target, **options):
    """Return the single losses and their gradients."""
    return getattr(fl, name).value_and_grad(
        pred, target, reduction="none", num_threads=1, **options
    )


# --- Against mpmath -------------------------------------------------------------------------------


def multiclass_hinge(x, y, margin=1.0):
    return max(0, margin + max(x[:y] + x[y + 1 :]) - x[y])


def multi_margin(x, y, margin=1.0, p=1):
    leads = [margin + rival - x[y] for rival in x[:y] + x[y + 1 :]]
    return sum(max(0, lead) ** p for lead in leads) / len(x)


def projection(x):
    """Return the nearest probabilities to x: with the largest support that leaves them positive."""
    ordered = sorted(x, reverse=True)
    taus = [(sum(ordered[: k + 1]) - 1) / (k + 1) for k in range(len(x))]
    tau = [tau for top, tau in zip(ordered, taus, strict=True) if top > tau][-1]
    return [max(0, entry - tau) for entry in x], tau


def sparsemax(x, y):
    """The label may be a dense target."""
    p, tau = projection(x)
    support = sum(entry**2 - tau**2 for entry, mass in zip(x, p, strict=True) if mass > 0)
    if isinstance(y, int):
        return support / 2 - x[y] + mpf(1) / 2
    chosen = sum(mass * entry for mass, entry in zip(y, x, strict=True))
    return support / 2 - chosen + sum(mass**2 for mass in y) / 2


def cross_entropy(logits, y):
    top = max(logits)
    return top - logits[y] + mp.log(sum(mp.exp(logit - top) for logit in logits))


def cosface(x, y, scale=64.0, margin=0.35):
    moved = [cosine - mpf(margin) * (c == y) for c, cosine in enumerate(x)]
    return cross_entropy([mpf(scale) * cosine for cosine in moved], y)


def with_angular_margin(cosine, margin, easy_margin):
    angle, margin = mp.acos(cosine), mpf(margin)
    if easy_margin:
        return mp.cos(angle + margin) if cosine > 0 else cosine
    return mp.cos(angle + margin) if angle + margin <= mp.pi else cosine - margin * mp.sin(margin)


def arcface(x, y, scale=64.0, margin=0.5, easy_margin=False):
    own = with_angular_margin(x[y], margin, easy_margin)
    return cross_entropy([mpf(scale) * (own if c == y else v) for c, v in enumerate(x)], y)


TRUTHS = {
    "multiclass_hinge": (multiclass_hinge, [{}, {"margin": 0.25}]),
    "multi_margin": (multi_margin, [{}, {"p": 2, "margin": 0.25}]),
    "sparsemax": (sparsemax, [{}]),
    "arcface": (arcface, [{}, {"easy_margin": True, "margin": 0.25, "scale": 10.0}]),
    "cosface": (cosface, [{"margin": 0.375}, {"margin": 0.25, "scale": 10.0}]),
}
"""By the loss: the value of a row, and the options to try. Margins have few bits, so that they do
not round: an arcface of scale 64 magnifies that 64 times."""


def derivative(value, x, y, c, options):
    above, below = ([v + s * STEP * (k == c) for k, v in enumerate(x)] for s in (1, -1))
    return (value(above, y, **options) - value(below, y, **options)) / (2 * STEP)


def score_rows(dtype, rng):
    """Return rows away from kinks: ordinary, shifted, nearly equal, decided, huge."""
    shift = 2.0**20 if dtype == "float32" else 2.0**45
    rows = [
        3 * rng.standard_normal((12, 6)),
        shift + 3 * rng.standard_normal((6, 6)),
        1e-6 * rng.standard_normal((6, 6)),
        rng.standard_normal((6, 6)) + 80 * np.eye(6),
        1e15 * rng.standard_normal((4, 6)),
    ]
    lead = [[0, -1 + delta, -3, -2, -9, -5] for delta in (1e-6, 1e-3, 0.1, -1e-3)]
    return np.concatenate([*rows, lead]).astype(dtype)


def cosine_rows(dtype, rng):
    """Return ordinary rows, and rows in which class 0 is nearly sure or hopeless."""
    rows = rng.uniform(-0.99, 0.99, (12, 5)), 0.1 * rng.standard_normal((6, 5))
    sure = np.array([0.999999, 0.9, 0.5, -0.5, -0.95, -0.999999, 0.999])[:, None]
    sure = np.where(np.arange(5) == 0, sure, rng.uniform(-0.3, 0.3, (7, 5)))
    return np.concatenate([*rows, sure]).astype(dtype)


def roundings(name, x, y, loss, gradient, options):
    """Return by how many epsilons the docstrings allow a loss and its gradient to move besides."""
    double = x.dtype == np.float64
    x, gradient = x.astype(float), np.abs(gradient)
    if name in ("arcface", "cosface"):
        scale = options.get("scale", 64.0)
        spread = scale * (np.ptp(x) + options.get("margin", 0.5))
        moves = 2 * spread + (scale if name == "arcface" and double else 0)
        return moves * min(1.0, loss), moves * gradient
    gaps = np.abs(x - x[y]) if name != "sparsemax" else np.minimum(x.max() - x, 1)
    if name == "sparsemax":  # the label's full distance where it is beyond the support
        far = gradient[y] * (x.max() - x[y]) / 2
        return (gradient * gaps).sum() + far, gaps + gaps.mean()
    moves = gaps / len(x) if options.get("p") == 2 else np.zeros(len(x))
    moves[y] = moves.sum()
    return (gradient * gaps).sum() / 2, moves


@every_dtype
@every_name
def test_truths(name, dtype):
    rng = np.random.default_rng(1)
    value, option_sets = TRUTHS[name]
    rows = (cosine_rows if name in ("arcface", "cosface") else score_rows)(dtype, rng)
    labels = rng.integers(0, 2, len(rows))
    epsilon, bound = float(np.finfo(dtype).eps), getattr(fl, name).ulp_bound
    tiny = 64 * float(np.finfo(dtype).smallest_normal)  # what powers that count as 0 may cost

    def assert_close(got, true, slack, where):
        allowed = bound * float(np.spacing(got.dtype.type(abs(true)))) + slack + tiny
        error = float(abs(mpf(float(got)) - true))
        ulps = error / float(np.spacing(got.dtype.type(abs(true))))
        assert error <= allowed, f"{where}: got {got!r}, true {mp.nstr(true, 20)}, {ulps:.4g} ulp"

    for options in option_sets:
        losses, gradients = singles(name, rows, labels, **options)
        for r, label in enumerate(labels.tolist()):
            where = f"{name} {dtype} {options} {rows[r]!r} {label}"
            with mp.workprec(PRECISION):
                x = [mpf(float(entry)) for entry in rows[r]]
                truth = value(x, label, **options)
                slopes = [derivative(value, x, label, c, options) for c in range(len(x))]
                moves, slope_moves = roundings(
                    name, rows[r], label, float(truth), np.array(slopes, float), options
                )
                assert_close(losses[r], truth, epsilon * moves, f"{where}: loss")
                for c, slope in enumerate(slopes):
                    assert_close(gradients[r, c], slope, epsilon * slope_moves[c], f"{where}: {c}")


@every_dtype
def test_sparsemax_of_dense_targets(dtype):
    rng = np.random.default_rng(2)
    rows = score_rows(dtype, rng)[:24]
    target = rng.dirichlet(np.ones(6), len(rows)) * (rng.random((len(rows), 6)) < 0.7)
    target[:, 0] += 0.125
    target = np.round(target / target.sum(axis=1, keepdims=True) * 1024) / 1024
    target[:, 0] += 1 - target.sum(axis=1)  # sums to 1 exactly
    target = target.astype(dtype)
    losses, gradients = singles("sparsemax", rows, target)
    with mp.workprec(PRECISION):
        for r, row in enumerate(rows):
            x, mass = ([mpf(float(entry)) for entry in array] for array in (row, target[r]))
            p, truth = projection(x)[0], sparsemax(x, mass)
            allowed = 4 * np.finfo(dtype).eps
            true = np.array([float(a - b) for a, b in zip(p, mass, strict=True)])
            np.testing.assert_allclose(gradients[r], true, rtol=0, atol=allowed)
            np.testing.assert_allclose(losses[r], float(truth), rtol=allowed, atol=allowed)


@every_dtype
@pytest.mark.parametrize("name", ["sparsemax", "arcface", "cosface"])
def test_small_losses_keep_their_digits(name, dtype):
    """Losses and gradients down to 1e-30, of inputs which are exact in the dtype."""
    if name == "sparsemax":
        exponents = range(2, 23 if dtype == "float32" else 52)
        rows = [[0.0, -1 + 2.0**-k, -4] for k in exponents]
    else:
        rows = [[1 - 2.0**-12, k / 16] for k in range(-6, 8)]
    value, (options, *_) = TRUTHS[name]
    losses, gradients = singles(name, np.array(rows, dtype), [0] * len(rows), **options)
    for row, loss, gradient in zip(rows, losses, gradients, strict=True):
        with mp.workprec(PRECISION):
            x = [mpf(entry) for entry in row]
            truth = float(value(x, 0, **options))
            slopes = [float(derivative(value, x, 0, c, options)) for c in range(len(row))]
        # The exponents of the margin losses reach 64, and in float64 so does cos(θ + m)'s rounding.
        epsilons = 4 if name == "sparsemax" else 4 + 2 * 64
        np.testing.assert_allclose(loss, truth, rtol=epsilons * np.finfo(dtype).eps)
        np.testing.assert_allclose(gradient, slopes, rtol=epsilons * np.finfo(dtype).eps)


# --- The textbook, and what its derivatives say ---------------------------------------------------


def cases(name):
    """Return random inputs and the option sets to try."""
    loss = getattr(fl, name)
    pred, target = loss.sample(np.random.default_rng(3), "float64", (24, 9))
    return loss, pred, target, [{}] + [{key: x.example} for key, x in loss.options.items()]


@every_name
def test_textbook_and_complex_step(name):
    """The kernel's gradient is the derivative of the textbook's value."""
    loss, pred, target, option_sets = cases(name)
    for options in option_sets:
        losses, gradient = singles(name, pred, target, **options)
        textbook, textbook_gradient = loss.reference(pred, target, reduction="none", **options)
        np.testing.assert_allclose(losses, textbook, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(gradient, textbook_gradient, rtol=1e-12, atol=1e-14)
        for c in range(pred.shape[1]):
            step = 1e-200j * (np.arange(pred.shape[1]) == c)
            moved = loss.reference(pred + step, target, reduction="none", **options)[0]
            np.testing.assert_allclose(gradient[:, c], moved.imag / 1e-200, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "options"),
    [("multiclass_hinge", {}), ("multi_margin", {}), ("multi_margin", {"p": 2}), ("sparsemax", {})],
)
def test_hessian(name, options):
    loss, pred, target, _ = cases(name)
    hessian = loss.value_grad_hess(pred, target, reduction="none", **options)[2]
    for c in range(pred.shape[1]):
        step = 1e-200j * (np.arange(pred.shape[1]) == c)
        moved = loss.reference(pred + step, target, reduction="none", **options)[1]
        slope = np.asarray(moved).imag[:, c] / 1e-200
        np.testing.assert_allclose(hessian[:, c], slope, rtol=1e-13, atol=1e-14)
    if name == "sparsemax":
        one_hot = np.eye(pred.shape[1])[target]
        dense = loss.value_grad_hess(pred, one_hot, reduction="none")[2]
        np.testing.assert_array_equal(dense, hessian)


def test_no_hessian():
    for name in ("arcface", "cosface"):
        with pytest.raises(NotImplementedError, match=name):
            getattr(fl, name).value_grad_hess(np.zeros((2, 3)), [0, 1])


# --- Kinks, infinities, NaN -----------------------------------------------------------------------


def test_kinks_and_ties():
    scores = np.array([[1.0, 0.0, -1.0], [0.0, 2.0, 2.0], [0.5, 0.5, 0.5]])
    losses, gradient = singles("multiclass_hinge", scores, [0, 0, 1])
    np.testing.assert_array_equal(losses, [0, 3, 1])
    np.testing.assert_array_equal(gradient, [[0, 0, 0], [-1, 1, 0], [1, -1, 0]])
    losses, gradient = singles("multi_margin", scores, [0, 0, 1])
    np.testing.assert_array_equal(losses, [0, 2, 2 / 3])
    third = 1 / 3
    np.testing.assert_array_equal(
        gradient, [[0, 0, 0], [-2 / 3, third, third], [third, -2 / 3, third]]
    )
    losses, gradient = singles("sparsemax", scores, [0, 0, 1])
    np.testing.assert_allclose(losses, [0, 2.25, 1 / 3], rtol=1e-15)
    np.testing.assert_allclose(
        gradient, [[0, 0, 0], [-1, 0.5, 0.5], [third, -2 / 3, third]], rtol=1e-15
    )


@every_dtype
def test_cosines_of_one(dtype):
    """Finite gradients at cos θ = ±1 and a little beyond; of the sure row they are 0."""
    above = np.nextafter(np.array(1, dtype), 2)
    cosines = np.array([[1, 0], [-1, 0], [above, 0], [-above, 0], [1, 1]], dtype)
    for options in ({}, {"easy_margin": True}, {"margin": 0.0}):
        losses, gradient = singles("arcface", cosines, [0] * 5, **options)
        assert np.isfinite(losses).all()
        assert np.isfinite(gradient).all()
        own = [with_angular_margin(mpf(c), options.get("margin", 0.5), "easy_margin" in options)
               for c in (1, -1)]  # fmt: skip
        with mp.workprec(PRECISION):
            truth = [float(cross_entropy([64 * c, mpf(0)], 0)) for c in own]
        np.testing.assert_allclose(losses[:2], truth, rtol=100 * np.finfo(dtype).eps)
    slope = float(mp.cos(0.5) + mp.sin(0.5) * 4096)
    rest = 1 / (1 + float(mp.exp(64 * (mp.cos(0.5) - 1))))
    gradient = singles("arcface", cosines, [0] * 5)[1]
    np.testing.assert_allclose(gradient[4], [-64 * slope * rest, 64 * rest], rtol=1e-5)


@every_name
def test_nan_and_infinity_stay_in_their_row(name):
    loss = getattr(fl, name)
    pred, target = loss.sample(np.random.default_rng(4), "float32", (12, 9))
    clean = singles(name, pred, target)
    target[:2] = 0
    pred[0, 3] = pred[1, 0] = np.nan
    target[2], pred[2, 3] = 0, -np.inf  # a masked class
    losses, gradient = singles(name, pred, target)
    assert np.isnan(losses[:2]).all()
    assert np.isnan(gradient[0, 3])
    assert np.isnan(gradient[:2, 0]).all()
    assert losses[2] < np.inf
    assert gradient[2, 3] == 0
    np.testing.assert_array_equal(losses[3:], clean[0][3:])
    np.testing.assert_array_equal(gradient[3:], clean[1][3:])
    masked = np.full((1, 9), -np.inf, np.float32)
    masked[0, 2] = 0.5
    losses, gradient = singles(name, masked, [2])
    assert losses[0] == 0
    assert not gradient.any()
    masked = np.where(np.arange(9) == 1, masked, np.float32(0.5))
    losses, gradient = singles(name, masked, [1])
    assert losses[0] == np.inf
    assert gradient[0, 1] < 0
    assert np.isfinite(gradient).all()


# --- Identities -----------------------------------------------------------------------------------


@every_dtype
def test_without_margin_the_cosine_losses_are_softmax_cross_entropy(dtype):
    rng = np.random.default_rng(7)
    cosines = rng.uniform(-1, 1, (40, 17)).astype(dtype)
    labels = rng.integers(0, 17, 40)
    for scale in (64.0, 8.0):
        expected = singles("softmax_cross_entropy", cosines * np.array(scale, dtype), labels)
        rounding = 4 * scale * np.finfo(dtype).eps
        for name in ("arcface", "cosface"):
            losses, gradient = singles(name, cosines, labels, margin=0.0, scale=scale)
            np.testing.assert_allclose(losses, expected[0], rtol=rounding)
            np.testing.assert_allclose(gradient, scale * expected[1], rtol=rounding, atol=1e-35)


@every_dtype
def test_sparsemax_gradient_is_the_projection_minus_the_target(dtype):
    rng = np.random.default_rng(8)
    for classes, size in ((2, 1), (33, 0.01), (700, 0.1), (700, 3)):
        logits = (size * rng.standard_normal((5, classes))).astype(dtype)
        logits[0] = logits[0, 0]  # all equal
        labels = rng.integers(0, classes, 5)
        gradient = singles("sparsemax", logits, labels)[1]
        one_hot = np.eye(classes)[labels]
        p = gradient + one_hot
        assert p.min() >= 0
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=8 * np.finfo(dtype).eps)
        tau = np.where(p > 0, logits - p, -np.inf).max(axis=1, keepdims=True)
        assert (np.where(p == 0, logits, -np.inf) <= tau + 1e-6).all()
        dense = singles("sparsemax", logits, one_hot.astype(dtype))[1]
        np.testing.assert_allclose(dense, gradient, rtol=0, atol=2 * np.finfo(dtype).eps)


@every_dtype
@pytest.mark.parametrize(("classes", "lead"), [(50_000, 0.999), (1000, 1 - 3e-5)])
def test_sparsemax_of_ties_at_the_edge_of_the_support(classes, lead, dtype):
    """The threshold lies less than half a float32 above the drops of all classes but one."""
    logits = np.zeros((1, classes), dtype)
    logits[0, 0] = lead
    top = float(logits[0, 0])
    p = (1 - top) / classes  # each of the others has it
    values, gradient = singles("sparsemax", logits, [0])
    np.testing.assert_allclose(gradient[0, 1:], p, rtol=0.01)
    np.testing.assert_allclose(gradient[0, 0], p * (1 - classes), rtol=1e-5)
    gap = p * (classes - 1)
    np.testing.assert_allclose(values, (gap**2 + (classes - 1) * p**2) / 2, rtol=1e-5)
    dense = np.full(logits.shape, 1 / classes, dtype)
    gradient = singles("sparsemax", logits, dense)[1]
    np.testing.assert_allclose(gradient[0, 1:], p - 1 / classes, rtol=1e-4)


def test_sparsemax_takes_many_steps_to_its_support():
    """Entries whose sizes fall geometrically, the worst for Michelot's method."""
    x = 1 - 0.9 ** np.arange(300.0)
    p = singles("sparsemax", np.stack([x, -x]), [0, 0])[1] + (np.arange(300) == 0)
    for row, mass in zip((x, -x), p, strict=True):
        np.testing.assert_allclose(mass, np.array(projection(row.tolist())[0]), atol=1e-15)


@every_dtype
def test_hinge_of_two_classes(dtype):
    rng = np.random.default_rng(9)
    scores = (rng.integers(-64, 64, (40, 2)) / 16).astype(dtype)  # differences are exact
    labels = rng.integers(0, 2, 40)
    losses, gradient = singles("multiclass_hinge", scores, labels)
    hinge, slope = singles("hinge", scores[:, 1] - scores[:, 0], (2 * labels - 1).astype(dtype))
    np.testing.assert_array_equal(losses, hinge)
    np.testing.assert_array_equal(gradient, np.stack([-slope, slope], axis=1))
    half, gradient = singles("multi_margin", scores, labels)
    np.testing.assert_array_equal(half, hinge / 2)
    np.testing.assert_array_equal(gradient, np.stack([-slope, slope], axis=1) / 2)


@every_name
def test_layouts_and_ignored_rows(name):
    loss = getattr(fl, name)
    pred, target = loss.sample(np.random.default_rng(10), "float32", (12, 9))
    expected = singles(name, pred, target)
    ignored = np.isin(np.arange(12), [1, 7])
    target[ignored], pred[ignored] = -5, np.nan
    for array in expected:
        assert array[ignored].any()
        array[ignored] = 0
    blocks = pred.reshape(2, 6, 9)
    for laid, axis in ((pred, -1), (pred.T, 0), (np.moveaxis(blocks, -1, 1), 1)):
        laid = np.ascontiguousarray(laid)
        labels = target.reshape(np.delete(laid.shape, axis))
        losses, gradient = singles(name, laid, labels, ignore_index=-5, axis=axis)
        np.testing.assert_array_equal(losses.reshape(12), expected[0])
        np.testing.assert_array_equal(np.moveaxis(gradient, axis, -1).reshape(12, 9), expected[1])


def test_option_domains():
    scores, labels = np.zeros((2, 3)), np.zeros(2, int)
    for name, option in {
        "multiclass_hinge": {"margin": -1.0},
        "multi_margin": {"p": 3},
        "arcface": {"margin": 3.2},
        "cosface": {"scale": 0.0},
    }.items():
        with pytest.raises(ValueError, match=next(iter(option))):
            getattr(fl, name)(scores, labels, **option)
    with pytest.raises(TypeError, match="class_weight"):
        fl.sparsemax(scores, labels, class_weight=np.ones(10))


@pytest.mark.parametrize("name", ["arcface", "cosface"])
@pytest.mark.parametrize(
    "classes", [10, *(pytest.param(n, marks=pytest.mark.thorough) for n in (1, 2, 20, 32, 33))]
)
def test_cosines_of_few_classes_are_those_of_many(name, classes):
    """Few classes go as tiles: part of one, rows that do not count, masked rivals, every buffer."""
    loss, rng = getattr(fl, name), np.random.default_rng(5)
    cosines = np.tanh(rng.normal(size=(130, classes))).astype("f4")
    labels = rng.integers(0, classes, 130)
    weight = rng.uniform(0.5, 2, 130).astype("f4")
    cosines[::5][labels[::5, None] != np.arange(classes)] = -np.inf  # the loss is 0
    weight[::7], labels[::11] = 0, -100
    lost = (weight == 0) | (labels == -100)
    kept, cosines[lost] = cosines.copy(), np.nan
    kept[lost] = 0
    # Masked classes beyond the tiles change nothing, and take the other way.
    many = np.full((130, 64), -np.inf, "f4")
    many[:, :classes] = kept
    value, grad = loss.value_and_grad(cosines, labels, sample_weight=weight)
    expected, expected_grad = loss.value_and_grad(many, labels, sample_weight=weight)
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(grad, expected_grad[:, :classes], rtol=2e-5)
    assert not grad[lost].any()
    added = np.ones_like(grad)
    loss.grad(cosines, labels, sample_weight=weight, grad_out=added, accumulate=True)
    np.testing.assert_allclose(added, 1 + grad, rtol=1e-6, atol=1e-6)
    fortran = loss.grad(np.asfortranarray(cosines), labels, sample_weight=weight)
    assert_same_bits(fortran, grad, "Fortran order")
    loss.grad(cosines, labels, sample_weight=weight, grad_out=cosines)
    assert_same_bits(cosines, grad, "in place")
