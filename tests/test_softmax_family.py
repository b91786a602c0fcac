"""The softmax family: its links, the options of the cross-entropy, and the extra outputs.

Truths are mpmath formulas of a row's loss, whose gradient mpmath takes itself. At confident rows
they are what shows whether ``1 - p`` was summed or subtracted.
"""

import numpy as np
import pytest
from conftest import assert_agrees, assert_same_bits, every_dtype, truth
from mpmath import mp, mpf
from test_parity import peer

import fastloss as fl

CURVED = (fl.softmax_focal, fl.poly_cross_entropy, fl.generalized_cross_entropy)
every_curved = pytest.mark.parametrize("loss", CURVED, ids=lambda loss: loss.name)
DIGITS = 60
ENTRIES = 3  # of a gradient: the label and the top are the first two, in one order or the other
GAPS = {"float32": (0, 1e-3, 1, 8, 17, 30, 60), "float64": (0, 1e-9, 1, 10, 37, 150, 300)}


# --- Truths ---------------------------------------------------------------------------------------


def label_probability(row, label):
    powers = [mp.exp(x - max(row)) for x in row]
    return powers[label] / mp.fsum(powers)


def focal(row, label, gamma):
    p = label_probability(row, label)
    return -((1 - p) ** gamma) * mp.log(p)


def poly(row, label, epsilon):
    p = label_probability(row, label)
    return -mp.log(p) + epsilon * (1 - p)


def generalized(row, label, q):
    return (1 - label_probability(row, label) ** q) / q


def tempered(row, label, temperature):
    return -mp.log(label_probability([x / temperature for x in row], label))


def with_z(row, label, z_loss):
    lse = mp.log(mp.fsum(mp.exp(x) for x in row))
    return -mp.log(label_probability(row, label)) + z_loss * lse**2


# By loss: the formula, the options, and how the stated bound grows with the spread of the logits.
TRUTHS = {
    "softmax_focal": (
        focal,
        [{"gamma": g} for g in (2.0, 0.0, 0.5, 1.0, 5.0)],
        lambda gamma: 2 * (1 + gamma),
    ),
    "poly_cross_entropy": (
        poly,
        [{"epsilon": e} for e in (1.0, 0.0, 2.5)],
        lambda epsilon: 2,
    ),
    "generalized_cross_entropy": (
        generalized,
        [{"q": q} for q in (0.75, 0.125, 1.0)],
        lambda q: 4,
    ),
    "softmax_cross_entropy": (tempered, [{"temperature": t} for t in (2.5, 0.5)], lambda t: 2),
}


def rows_of(dtype):
    """Return (logits, labels): rows of 4 and 40 classes, the label at the top and below it."""
    rng = np.random.default_rng(3)
    for classes in (4, 40):
        logits = rng.standard_normal((2 * len(GAPS[dtype]), classes))
        logits *= 0.25
        logits[:, 1] += np.repeat(GAPS[dtype], 2)
        yield logits.astype(dtype), np.tile([1, 0], len(GAPS[dtype]))


def true_row(formula, row, label, *options):
    """Return a row's loss and the gradient's first entries; differences keep 20 of 60 digits."""
    row = [mpf(float(x)) for x in row]
    step = mpf(10) ** -(DIGITS // 3)

    def moved(c, by):
        return formula([x + (by if i == c else 0) for i, x in enumerate(row)], label, *options)

    gradient = [(moved(c, step) - moved(c, -step)) / (2 * step) for c in range(ENTRIES)]
    return formula(row, label, *options), gradient


def error_in_ulp(got, true):
    """Return errors in ulp; what is below the smallest normal number may be flushed to 0."""
    tiny = mpf(float(np.finfo(got.dtype).smallest_normal))
    spacing = [float(np.spacing(got.dtype.type(max(abs(x), tiny)))) for x in true]
    return np.array(
        [
            0.0 if abs(mpf(float(g)) - x) <= 40 * tiny else float(abs(mpf(float(g)) - x) / s)
            for g, x, s in zip(got, true, spacing, strict=True)
        ]
    )


@every_dtype
@pytest.mark.parametrize("name", TRUTHS)
def test_truths(name, dtype):
    loss = getattr(fl, name)
    formula, option_sets, growth = TRUTHS[name]
    for logits, labels in rows_of(dtype):
        classes = logits.shape[1]
        for options in option_sets:
            (option,) = options.values()
            targets = [labels]
            if options == option_sets[0] and dtype == "float64":
                targets.append(np.eye(classes, dtype=dtype)[labels])
            results = [
                loss.value_grad_hess(logits, target, reduction="none", **options)[:2]
                for target in targets
            ]
            sharper = 1 / option if name == "softmax_cross_entropy" else 1
            for i in range(len(logits)):
                with mp.workdps(DIGITS + (300 if dtype == "float64" else 40)):
                    value, gradient = true_row(formula, logits[i], labels[i], mpf(option))
                    bound = loss.ulp_bound + growth(option) * sharper * np.ptp(logits[i])
                    for losses, gradients in results:
                        numbers = np.append(losses[i], gradients[i, :ENTRIES])
                        errors = error_in_ulp(numbers, [value, *gradient])
                        assert errors.max() <= bound, (
                            f"{name} {options} {dtype} row {i} of {classes} classes: "
                            f"{errors.max():.3g} ulp of {bound:.3g} at {errors.argmax()}, "
                            f"logits {logits[i]}, label {labels[i]}"
                        )


def test_z_loss_against_mpmath():
    """Where lse is far from 0; near it, lse is a difference."""
    logits, labels = next(iter(rows_of("float64")))
    logits = logits + 3
    losses, gradients, _ = fl.softmax_cross_entropy.value_grad_hess(
        logits, labels, z_loss=0.125, reduction="none"
    )
    for i, row in enumerate(logits):
        with mp.workdps(300):
            value, gradient = true_row(with_z, row, labels[i], mpf(0.125))
            errors = error_in_ulp(np.append(losses[i], gradients[i, :ENTRIES]), [value, *gradient])
        # 2 z lse p - (1 - p) may cancel: half an ulp of a logit moves each of them that much.
        assert errors[0] <= 4 + 2 * np.ptp(row)
        expected = [float(g) for g in gradient]
        np.testing.assert_allclose(gradients[i, :ENTRIES], expected, rtol=1e-12)


# --- Identities -----------------------------------------------------------------------------------


def batch(dtype="float64", classes=10, rows=65):
    rng = np.random.default_rng(1)
    logits, labels = fl.softmax_cross_entropy.sample(rng, dtype, (rows, classes))
    return logits, labels, rng


def assert_close(one, other, rtol=1e-12, atol=1e-15):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize("classes", [10, 40])
def test_neutral_options_are_the_cross_entropy(classes):
    logits, labels, rng = batch(classes=classes)
    for target in (labels, rng.dirichlet(np.ones(classes), len(labels))):
        expected = fl.softmax_cross_entropy.value_grad_hess(logits, target, reduction="none")
        for loss, options in (
            (fl.softmax_focal, {"gamma": 0.0}),
            (fl.poly_cross_entropy, {"epsilon": 0.0}),
        ):
            got = loss.value_grad_hess(logits, target, reduction="none", **options)
            assert_close(got, expected)
        near = fl.generalized_cross_entropy.value_grad_hess(
            logits, target, q=1e-12, reduction="none"
        )
        assert_close(near, expected, rtol=1e-8, atol=1e-11)


def test_generalized_of_1_is_the_probability_of_an_error():
    logits, labels, _ = batch()
    losses = fl.generalized_cross_entropy.value_grad_hess(logits, labels, q=1.0, reduction="none")[
        0
    ]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(losses, 1 - p[np.arange(len(p)), labels], rtol=1e-12)


@every_dtype
def test_binomial_is_two_class_multinomial(dtype):
    x = np.linspace(-30, 30, 61).astype(dtype)
    for t in (0, 1):
        two = np.stack([np.zeros_like(x), x], axis=1)
        losses, gradient = fl.softmax_cross_entropy.value_and_grad(
            two, np.full(len(x), t), reduction="none"
        )
        expected, slope = fl.sigmoid_cross_entropy.value_and_grad(
            x, np.full_like(x, t), reduction="none"
        )
        assert_close((losses, gradient[:, 1]), (expected, slope), 16 * np.finfo(dtype).eps, 1e-37)


@every_curved
@pytest.mark.parametrize("classes", [10, 40])
def test_shifts_change_nothing_and_gradients_sum_to_0(loss, classes):
    logits, labels, rng = batch(classes=classes)
    logits = np.round(logits * 1024) / 1024  # so that the shift is exact
    for target in (labels, rng.dirichlet(np.ones(classes), len(labels))):
        losses, gradient, _ = loss.value_grad_hess(logits, target, reduction="none")
        shifted = loss.value_grad_hess(logits + 2.0**20, target, reduction="none")
        assert_same_bits(losses, shifted[0], "losses")
        assert_same_bits(gradient, shifted[1], "gradients")
        sums = np.abs(gradient.sum(axis=1))
        assert np.all(sums <= 8 * np.finfo(float).eps * np.abs(gradient).sum(axis=1))


@pytest.mark.parametrize(("classes", "target"), [(10, "labels"), (40, "dense")])
def test_temperature_divides_the_logits(classes, target):
    logits, labels, rng = batch(classes=classes)
    target = labels if target == "labels" else rng.dirichlet(np.ones(classes), len(labels))
    got = fl.softmax_cross_entropy.value_grad_hess(
        logits, target, temperature=4.0, reduction="none"
    )
    losses, gradient, hessian = fl.softmax_cross_entropy.value_grad_hess(
        logits / 4, target, reduction="none"
    )
    assert_close(got, (losses, gradient / 4, hessian / 16))
    clipped = {"eps": 1e-3, "reduction": "none"}
    got = fl.softmax_cross_entropy.value_and_grad(logits, target, temperature=4.0, **clipped)
    losses, gradient = fl.softmax_cross_entropy.value_and_grad(logits / 4, target, **clipped)
    assert_close(got, (losses, gradient / 4))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("classes", "axis", "smoothing"), [(10, 1, 0.0), (10, 0, 0.1), (40, 1, 0.1), (40, 0, 0.0)]
)
def test_mixup_is_a_mean_of_two_cross_entropies(classes, axis, smoothing):
    logits, labels, rng = batch(classes=classes)
    other = rng.integers(0, classes, len(labels))
    labels[3] = other[5] = -100
    logits[[3, 5]] = np.nan  # ignored: either label says so
    weight = rng.uniform(0.5, 2, len(labels))
    keywords = {"label_smoothing": smoothing, "class_weight": rng.uniform(0.5, 2, classes)}
    keywords |= {"sample_weight": weight, "reduction": "none", "axis": axis, "z_loss": 0.1}
    logits = logits if axis == 1 else np.ascontiguousarray(logits.T)
    loss = fl.softmax_cross_entropy
    got = loss.value_grad_hess(logits, labels, mixup=(other, 0.3), **keywords)
    both = np.where((labels < 0) | (other < 0), -100, labels)
    one = loss.value_grad_hess(logits, both, **keywords)
    two = loss.value_grad_hess(logits, np.where(both < 0, -100, other), **keywords)
    assert_close(got, [0.3 * a + 0.7 * b for a, b in zip(one, two, strict=True)], atol=1e-14)
    assert not got[1].take([3, 5], axis=1 - axis).any()
    # The textbook, the mean's weight with it, and the same in place.
    keywords["reduction"] = "mean"
    reference = loss.reference(logits, labels, mixup=(other, 0.3), **keywords)
    assert_close(
        loss.value_and_grad(logits, labels, mixup=(other, 0.3), **keywords), reference, atol=1e-14
    )
    copy = logits.copy()
    loss.grad(copy, labels, mixup=(other, 0.3), grad_out=copy, **keywords)
    np.testing.assert_allclose(copy, reference[1], rtol=1e-12, atol=1e-14)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("loss", "classes"),
    [(CURVED[0], 10), (CURVED[1], 40), (CURVED[2], 10)],
    ids=["softmax_focal", "poly_cross_entropy", "generalized_cross_entropy"],
)
def test_curved_losses_of_soft_targets(loss, classes):
    """By the textbook; and the gradient comes out the same in place, added, and class-first."""
    logits, _, rng = batch("float32", classes)
    target = rng.dirichlet(np.ones(classes), len(logits)).astype("f4")
    keywords = {"class_weight": rng.uniform(0.5, 2, classes).astype("f4")}
    value, gradient = loss.value_and_grad(logits, target, **keywords)
    assert_agrees(loss, (value, gradient), logits, target, **keywords)
    in_place, added = logits.copy(), np.zeros_like(logits)
    assert loss.value_and_grad(in_place, target, grad_out=in_place, **keywords)[0] == value
    loss.value_and_grad(logits, target, grad_out=added, accumulate=True, **keywords)
    turned = loss.grad(logits.T.copy(), target.T.copy(), axis=0, **keywords).T
    for other in (in_place, added, turned):
        np.testing.assert_allclose(other, gradient, rtol=2e-5, atol=1e-9)


@pytest.mark.thorough
@every_curved
def test_hessians_off_the_default_options(loss):
    """Central differences of the textbook in longdouble, at labels and dense targets."""
    (option,) = loss.options.values()
    (name,) = loss.options
    logits, labels, rng = batch(classes=6, rows=9)
    for target in (labels, rng.dirichlet(np.ones(6), 9)):
        for value in (option.example, 0.5):
            keywords = {name: value, "reduction": "none"}
            hessian = loss.value_grad_hess(logits, target, **keywords)[2]
            step = np.longdouble(1e-6)
            for c in range(6):
                move = step * (np.arange(6) == c)
                wide = logits.astype(np.longdouble)
                above = truth(loss, wide + move, target, **keywords)[1]
                below = truth(loss, wide - move, target, **keywords)[1]
                expected = (above - below)[:, c] / (2 * step)
                np.testing.assert_allclose(
                    hessian[:, c], expected.astype(float), rtol=1e-9, atol=1e-11
                )


@every_curved
def test_masked_and_single_classes_of_curved_losses(loss):
    one = loss.value_grad_hess(np.zeros((3, 1)), [0, 0, 0], reduction="none")
    for array in one:
        assert not array.any()
    # The label's own class masked: p is 0, and the gradient that of the limit.
    for target in ([0], np.array([[1.0, 0.0, 0.0]])):
        masked = np.array([[-np.inf, 1, 2]])
        losses, gradient, hessian = loss.value_grad_hess(masked, target, reduction="none")
        assert losses[0] == (1 / 0.7 if loss.options.get("q") else np.inf)
        assert np.isfinite(gradient).all()
        assert np.isfinite(hessian).all()


# --- Extra outputs --------------------------------------------------------------------------------

ALL = ("lse", "proba", "n_correct", "n_valid")
EXTRA_CASES = [(10, -1, 0.0), (40, -1, 0.1), (10, 1, 0.0)]


@pytest.mark.thorough
@pytest.mark.parametrize(("classes", "axis", "smoothing"), EXTRA_CASES)
def test_extra_outputs(classes, axis, smoothing):
    loss = fl.softmax_cross_entropy
    rng = np.random.default_rng(4)
    logits, labels = loss.sample(rng, "float32", (7, 9, classes))
    labels[rng.random(labels.shape) < 0.5] = -100
    best = logits.argmax(axis=-1)
    labels[rng.random(labels.shape) < 0.3] = 2
    hit = rng.random(labels.shape) < 0.3
    labels[hit] = best[hit]
    logits[0, 0] = 1  # ties: the first maximum wins
    labels[0, 0] = 0
    logits[0, 1] = 1
    labels[0, 1] = 1
    top = logits.argmax(axis=-1)
    logits = np.ascontiguousarray(np.moveaxis(logits, -1, axis))
    keywords = {"axis": axis, "label_smoothing": smoothing, "temperature": 2.0}
    plain = loss.value_and_grad(logits, labels, **keywords)
    value, gradient, extras = loss.value_and_grad(logits, labels, extra=ALL, **keywords)
    assert value == plain[0]
    assert_same_bits(gradient, plain[1], "gradient")
    scaled = logits.astype(float) / 2
    lse = np.log(np.exp(scaled).sum(axis=axis))
    assert tuple(extras) == ALL
    assert extras["lse"].dtype == extras["proba"].dtype == np.float32
    np.testing.assert_allclose(extras["lse"], lse, rtol=1e-6, atol=1e-6)
    proba = np.exp(scaled - np.expand_dims(lse, axis))
    np.testing.assert_allclose(extras["proba"], proba, rtol=4e-6)
    assert extras["n_correct"] == np.sum((top == labels) & (labels != -100))
    assert extras["n_valid"] == np.sum(labels != -100)
    assert type(extras["n_correct"]) is type(extras["n_valid"]) is int
    # Fortran order, value only, gradient only and in place, and the textbook.
    turned = loss.value_and_grad(np.asfortranarray(logits), labels, extra=ALL, **keywords)[2]
    np.testing.assert_allclose(turned["proba"], extras["proba"], rtol=1e-6)
    np.testing.assert_allclose(turned["lse"], extras["lse"], rtol=1e-6)
    only, alone = loss(logits, labels, extra=ALL, **keywords)
    assert only == pytest.approx(value, rel=1e-6)
    assert_same_bits(alone["proba"], extras["proba"], "value only")
    copy = logits.copy()
    in_place, second = loss.grad(copy, labels, extra=ALL, grad_out=copy, **keywords)
    assert in_place is copy
    assert_same_bits(second["lse"], extras["lse"], "lse in place")
    reference = loss.reference(logits, labels, extra=ALL, **keywords)
    assert reference[0] == pytest.approx(value, rel=1e-6)
    for name in ALL:
        np.testing.assert_allclose(reference[2][name], extras[name], rtol=1e-5, atol=1e-6)


def test_extra_outputs_do_not_depend_on_threads():
    loss, rng = fl.softmax_cross_entropy, np.random.default_rng(6)
    logits, labels = loss.sample(rng, "float32", (4001, 100))
    one = loss.value_and_grad(logits, labels, extra=ALL, num_threads=1)[2]
    two = loss.value_and_grad(logits, labels, extra=ALL, num_threads=2)[2]
    for name in ALL:
        assert_same_bits(one[name], two[name], name)


def test_extra_outputs_of_odd_batches():
    loss = fl.softmax_cross_entropy
    empty = loss.value_and_grad(np.zeros((0, 4), "f4"), np.zeros(0, int), extra=ALL)[2]
    assert empty["lse"].shape == (0,)
    assert empty["proba"].shape == (0, 4)
    assert empty["n_correct"] == empty["n_valid"] == 0
    # Nothing counts, and yet the rows have probabilities.
    logits = np.eye(3)
    value, extras = loss(logits, [-100, -100, -100], extra=ALL)
    assert value == 0.0
    np.testing.assert_allclose(extras["proba"].sum(axis=1), 1)
    assert extras["n_correct"] == extras["n_valid"] == 0
    dense = loss(logits, np.eye(3), extra=("n_valid", "lse"))[1]
    assert list(dense) == ["n_valid", "lse"]
    assert dense["n_valid"] == 3
    mixed = loss(logits, [0, 1, 2], mixup=([1, 1, -100], 0.5), extra=("n_correct", "n_valid"))[1]
    assert mixed == {"n_correct": 2, "n_valid": 2}
    single = loss(np.array([1.0, 0.0]), 0, extra=ALL)[1]
    assert single["lse"].shape == ()
    assert single["n_correct"] == 1


# --- Errors ---------------------------------------------------------------------------------------

MIX = "softmax_cross_entropy: mixup is "
EXTRA = "softmax_cross_entropy: extra is "
FAULTS = [
    (TypeError, MIX + r"float 0\.5; expected None, or a pair", {"mixup": 0.5}),
    (ValueError, MIX + r"tuple .*; expected None, or a pair", {"mixup": ([0, 1],)}),
    (ValueError, MIX + r"1\.5; expected a number in \[0, 1\]", {"mixup": ([0, 1], 1.5)}),
    (ValueError, MIX + r"nan; expected a number in \[0, 1\]", {"mixup": ([0, 1], np.nan)}),
    (TypeError, MIX + "str 'x'; expected a number", {"mixup": ([0, 1], "x")}),
    (ValueError, MIX + r"int64 of shape \(3,\); expected integer", {"mixup": ([0, 1, 2], 0.5)}),
    (TypeError, MIX + r"float64 of shape \(2,\); expected integer", {"mixup": ([0.0, 1.0], 0.5)}),
    (IndexError, MIX + "7 at row 1; expected a class", {"mixup": ([0, 7], 0.5)}),
    (TypeError, EXTRA + "str 'lse'; expected a tuple of names among 'lse'", {"extra": "lse"}),
    (TypeError, EXTRA + r"tuple \(1,\); expected a tuple of names", {"extra": (1,)}),
    (ValueError, EXTRA + r"\('lse', 'no'\); expected a tuple", {"extra": ("lse", "no")}),
    (ValueError, r"z_loss is 0\.1; expected 0 where eps", {"z_loss": 0.1, "eps": 0.01}),
]


@pytest.mark.parametrize(("error", "message", "keywords"), FAULTS)
def test_faults(error, message, keywords):
    logits, buffer = np.zeros((2, 3)), np.full((2, 3), 7.0)
    with pytest.raises(error, match=message):
        fl.softmax_cross_entropy.value_and_grad(logits, [0, 1], grad_out=buffer, **keywords)
    assert (buffer == 7).all()


def test_faults_of_dense_targets_and_of_other_losses():
    loss, logits = fl.softmax_cross_entropy, np.zeros((2, 3))
    with pytest.raises(ValueError, match="mixup is given with a dense target; expected None"):
        loss(logits, np.eye(3)[:2], mixup=([0, 1], 0.5))
    with pytest.raises(ValueError, match="extra is 'n_correct' with a dense target; expected"):
        loss(logits, np.eye(3)[:2], extra=("n_correct",))
    with pytest.raises(IndexError, match=r"softmax_cross_entropy: labels is 5 at row 0; expected"):
        loss(logits, [5, 0], mixup=([0, 1], 0.5))
    for other in CURVED:
        for name in ("mixup", "extra", "label_smoothing", "temperature", "z_loss", "eps"):
            with pytest.raises(TypeError, match=f"{other.name}: unknown keyword argument '{name}'"):
                other(logits, [0, 1], **{name: None})


# --- Peers ----------------------------------------------------------------------------------------


def torch_formulas(torch):
    """Return (loss, keywords, formula of logits and labels) in the words of PyTorch."""
    functional = torch.nn.functional

    def losses(x, y):
        return functional.cross_entropy(x, y, reduction="none")

    return [
        (fl.softmax_focal, {}, lambda x, y: (1 - torch.exp(-losses(x, y))) ** 2 * losses(x, y)),
        (
            fl.generalized_cross_entropy,
            {},
            lambda x, y: (1 - torch.exp(-0.7 * losses(x, y))) / 0.7,
        ),
        (
            fl.poly_cross_entropy,
            {"epsilon": 2.0},
            lambda x, y: losses(x, y) + 2 * (1 - torch.exp(-losses(x, y))),
        ),
        (
            fl.softmax_cross_entropy,
            {"z_loss": 0.1, "temperature": 2.5},
            lambda x, y: losses(x / 2.5, y) + 0.1 * torch.logsumexp(x / 2.5, 1) ** 2,
        ),
    ]


def test_torch_formulas():
    torch = peer("torch")
    logits, labels, _ = batch()
    for loss, keywords, formula in torch_formulas(torch):
        x = torch.tensor(logits, requires_grad=True)
        losses = formula(x, torch.from_numpy(labels))
        losses.sum().backward()
        got = loss.value_grad_hess(logits, labels, reduction="none", **keywords)[:2]
        assert_close(got, (losses.detach().numpy(), x.grad.numpy()), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("classes", [3, 40])
def test_z_loss_of_a_class_without_weight(classes, rng):
    """Class weights do not multiply it: not those of 0 either, in whatever form a target comes."""
    logits, labels = fl.softmax_cross_entropy.sample(rng, "float64", (5, classes))
    labels[:3] = 0
    weight = np.ones(classes)
    weight[0] = 0
    options = {"class_weight": weight, "z_loss": 0.1, "reduction": "sum"}
    value, grad = fl.softmax_cross_entropy.value_and_grad(logits, labels, **options)
    dense = np.eye(classes)[labels]
    for others in (
        fl.softmax_cross_entropy.value_and_grad(logits, dense, **options),
        fl.softmax_cross_entropy.value_and_grad(logits, labels, mixup=(labels, 0.5), **options),
        fl.softmax_cross_entropy.reference(logits, labels, **options),
        fl.softmax_cross_entropy.reference(logits, dense, **options),
    ):
        assert value == pytest.approx(others[0], rel=1e-13)
        np.testing.assert_allclose(grad, others[1], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("mass", [1.0, 1 + 1e-5, 2.5, 1e-20, 0.0])
@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize(
    "dtype", [pytest.param("float32", marks=pytest.mark.exhaustive), "float64"]
)
def test_dense_targets_need_not_be_distributions(classes, mass, dtype):
    """The total weight is assumed to be the number of rows; beside sample weights it is summed."""
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(300, classes)).astype(dtype)
    target = rng.random((300, classes))
    target = (mass * target / target.sum(axis=1, keepdims=True)).astype(dtype)
    ones, epsilon = np.ones(300, dtype), np.finfo(dtype).eps
    exact = 1e-14 if dtype == "float64" else epsilon / 8  # masses are added by fours first
    for broken in (None, np.nan, np.inf):
        if broken is not None:
            target[7, 1] = broken
        assumed = fl.softmax_cross_entropy.value_grad_hess(logits, target)
        summed = fl.softmax_cross_entropy.value_grad_hess(logits, target, sample_weight=ones)
        np.testing.assert_allclose(assumed[0], summed[0], rtol=exact)
        np.testing.assert_allclose(fl.softmax_cross_entropy(logits, target), summed[0], rtol=exact)
        for one, other in zip(assumed[1:], summed[1:], strict=True):
            # Differences of two terms up to 1 / 300, each rounded twice, in both of the results.
            np.testing.assert_allclose(one, other, rtol=4 * epsilon, atol=4 * epsilon / 300)
        assert np.isnan(assumed[1]).any(axis=1).sum() == (broken is not None and mass != 0)


@pytest.mark.parametrize("classes", [10, 100])
def test_an_infinite_weight_has_an_infinite_hessian(classes, rng):
    """Not NaN, which would be infinity times the 0 of a z-loss that nobody asked for."""
    logits, labels = fl.softmax_cross_entropy.sample(rng, "float32", (4, classes))
    upstream = np.array([1, 0, np.inf, 1], "f4")
    hess = fl.softmax_cross_entropy.value_grad_hess(
        logits, labels, reduction="none", upstream=upstream
    )[2]
    assert np.isinf(hess[2]).all()
    assert np.isfinite(np.delete(hess, 2, axis=0)).all()


@pytest.mark.thorough
@pytest.mark.parametrize("loss", [fl.softmax_cross_entropy, *CURVED], ids=lambda loss: loss.name)
@pytest.mark.parametrize("classes", [5, 40])
def test_hessians_of_confident_one_hot_rows_are_those_of_labels(loss, classes):
    """1 - p is the sum of the other classes in both, and not a difference of rounded numbers."""
    labels = np.arange(12) % classes
    logits = np.linspace(1, 18, 12)[:, None] * (labels[:, None] == np.arange(classes))
    logits = logits.astype("f4")
    one_hot = (labels[:, None] == np.arange(classes)).astype("f4")
    expected = loss.value_grad_hess(logits.astype("f8"), labels)[2]
    for target in (labels, one_hot):
        hessian = loss.value_grad_hess(logits, target)[2]
        np.testing.assert_allclose(hessian, expected, rtol=2e-5)


@pytest.mark.parametrize("classes", [5, 40])
def test_any_byte_that_is_not_0_is_true(classes, rng):
    """What is left of an image of 0 and 255 that is viewed as bools."""
    logits = rng.normal(size=(70, classes)).astype("f4")
    bytes_ = rng.choice(np.array([0, 1, 2, 255], "u1"), logits.shape)
    for order in "CF":
        given = [array.copy(order) for array in (logits, bytes_)]
        for loss in (fl.softmax_cross_entropy, fl.dice, fl.mse):
            value, grad = loss.value_and_grad(given[0], given[1].view(bool))
            expected = loss.value_and_grad(given[0], given[1] != 0)
            assert value == expected[0]
            assert_same_bits(grad, expected[1], loss.name)


@pytest.mark.parametrize(
    ("loss", "target", "dtype", "options"),
    [
        (fl.softmax_cross_entropy, "labels", "float64", {}),
        (fl.softmax_cross_entropy, "labels", "float32", {"label_smoothing": 0.1}),
        (fl.softmax_cross_entropy, "dense", "float32", {}),
        (fl.softmax_focal, "dense", "float64", {}),
        (fl.cosface, "labels", "float32", {"scale": 300.0}),
    ],
    ids=lambda case: case if isinstance(case, str) else getattr(case, "name", ""),
)
@pytest.mark.parametrize("classes", [70, 300, 2100])
def test_a_row_does_not_notice_the_next(classes, loss, target, dtype, options, rng):
    """The largest logit of a row is found while the row before is at work, if that one counts."""
    logits = rng.standard_normal((40, classes)).astype(dtype)
    labels = np.where(np.arange(40) % 2, logits.argmax(axis=1), rng.integers(classes, size=40))
    for row, value in ((3, np.nan), (4, np.inf), (9, -np.inf)):
        logits[row, rng.integers(classes)] = value
    logits[11], labels[[6, 7, 20]] = -np.inf, -100
    if target == "dense":
        labels = rng.dirichlet(np.ones(classes), 40).astype(dtype)
    weights = rng.choice([0.0, 1.0, 2.0], 40).astype(dtype)

    def results(rows, **buffers):
        return loss.value_and_grad(
            logits[rows], labels[rows], sample_weight=weights[rows], reduction="none", **options,
            **buffers,
        )  # fmt: skip

    losses, gradient = results(slice(None))
    for row in range(40):
        here = slice(row, row + 1)
        one_loss, one = results(here)
        assert_same_bits(one_loss, losses[here], f"loss of row {row}")
        assert_same_bits(one, gradient[here], f"gradient of row {row}")
    again, in_place = results(slice(None), grad_out=logits)
    assert_same_bits(again, losses)
    assert_same_bits(in_place, gradient)


def test_the_mass_of_a_row_may_be_beyond_float32_by_parts(rng):
    """Where its loss is inf, the other rows' gradients are divided by its mass, which is not."""
    logits = rng.standard_normal((3000, 64)).astype("float32")
    target = np.full((3000, 64), 1 / 64, "float32")
    target[0] = 1e38
    _, gradient = fl.softmax_cross_entropy.value_and_grad(logits, target)
    ones = np.ones(3000, "float32")
    _, weighed = fl.softmax_cross_entropy.value_and_grad(logits, target, sample_weight=ones)
    assert_same_bits(gradient[1:], weighed[1:])
