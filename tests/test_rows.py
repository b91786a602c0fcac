"""Losses of whole rows and losses with several inputs: numbers, and what all of them share."""

import itertools

import mpmath
import numpy as np
import pytest
from conftest import ALL, assert_same_bits, every_dtype, peak_memory
from mpmath import mp, mpf

import fastloss as fl

PRECISION = 400
STEP = mpf(2) ** -130
ROWS = [loss for loss in ALL if loss.family == "rowwise" and loss.name != "info_nce"]
LABELS = [loss for loss in ROWS if "ignore_index" in loss.family_keywords]
SEVERAL = [loss for loss in ALL if loss._other_names]
OTHER_KINDS = (fl.softmax_kl, fl.entropy, fl.dice, fl.triplet_margin)
TILED = (
    (fl.entropy, ""), (fl.jensen_shannon, ""), (fl.softmax_kl, ""), (fl.sparsemax, ""),
    (fl.sparsemax, "dense"), (fl.multi_margin, ""), (fl.multiclass_hinge, ""),
    (fl.categorical_cross_entropy, "dense"),
)  # fmt: skip
"""Losses, and kinds of targets, whose rows of few classes go as columns of a tile."""

REPRESENTATIVES = [
    fl.nll,
    fl.multiclass_hinge,
    *(pytest.param(loss, marks=pytest.mark.thorough) for loss in OTHER_KINDS),
]
"""A target of each kind, and several inputs: the template is the same code in all the others. That
of `nll` is one of its own."""

representative = pytest.mark.parametrize("loss", REPRESENTATIVES, ids=lambda loss: loss.name)
every_label_loss = pytest.mark.parametrize("loss", LABELS, ids=lambda loss: loss.name)
every_several = pytest.mark.parametrize("loss", SEVERAL, ids=lambda loss: loss.name)


def tuple_of(derivatives):
    return derivatives if isinstance(derivatives, tuple) else (derivatives,)


def keywords_of(loss, shape, dtype, rng):
    """Return the arrays that a loss needs by keyword."""
    return {"var": rng.gamma(2, size=shape).astype(dtype)} if loss.name == "gaussian_nll" else {}


# Numbers: the textbook value of one row in mpmath, and what its terms are as large as.


def _softmax(x):
    powers = [mp.exp(v - max(x)) for v in x]
    return [power / sum(powers) for power in powers]


def _norm(r, p=2):
    return sum(abs(v) ** p for v in r) ** (mpf(1) / p)


def _cosine(a, b):
    return 1 - mp.fdot(a, b) / (_norm(a) * _norm(b))


def _triplet(a, b, c, margin=1, p=2, swap=False):
    near, far, across = (
        _norm([u - v for u, v in zip(x, y, strict=True)], p) for x, y in ((a, b), (a, c), (b, c))
    )
    return max(near - (min(far, across) if swap else far) + margin, mpf(0))


def _jensen_shannon(p, t, base=mp.e):
    middle = [(u + v) / 2 for u, v in zip(p, t, strict=True)]

    def divergence(x):
        return sum(u * mp.log(u / m) for u, m in zip(x, middle, strict=True) if u != 0)

    return (divergence(p) + divergence(t)) / 2 / mp.log(base)


def _softmax_kl(x, t, temperature=1):
    p, q = (_softmax([v / mpf(temperature) for v in row]) for row in (x, t))
    return mpf(temperature) ** 2 * sum(
        v * (mp.log(v) - mp.log(u)) for u, v in zip(p, q, strict=True)
    )


def _tversky(p, t, alpha=0.5, beta=0.5, smooth=1, from_logits=False):
    p = [1 / (1 + mp.exp(-v)) for v in p] if from_logits else p
    pairs = list(zip(p, t, strict=True))
    hits = sum(u * v for u, v in pairs)
    missed = beta * sum((1 - u) * v for u, v in pairs)
    false = alpha * sum(u * (1 - v) for u, v in pairs)
    return 1 - (hits + smooth) / (hits + false + missed + smooth)


TRUTHS = {
    "nll": lambda x, y: -x[y],
    "categorical_cross_entropy": lambda p, y: -mp.log(p[y]),
    "entropy": lambda p, base=mp.e: -sum(v * mp.log(v) for v in p) / mp.log(base),
    "jensen_shannon": _jensen_shannon,
    "softmax_kl": _softmax_kl,
    "cosine_distance": _cosine,
    "triplet_margin": _triplet,
    "dice": lambda p, t, smooth=1, from_logits=False: _tversky(
        p, t, smooth=mpf(smooth) / 2, from_logits=from_logits
    ),
    "tversky": _tversky,
}
"""The value of a row, given its arrays as lists of mpf and its label as int."""

CANCELS = {
    "entropy": (0, 2),
    "softmax_kl": (3, 2),
    "cosine_distance": (1, 2),
    "triplet_margin": (8, 2),
    "dice": (0, 1),
    "tversky": (0, 1),
}
"""Where terms of a loss or of its gradient cancel: the size of these terms, at most."""


@pytest.mark.parametrize(
    ("name", "rows", "classes"),
    [*((name, 6, 5) for name in TRUTHS), *((loss.name, 2, 40) for loss, _ in TILED[:3])],
)
@every_dtype
def test_values_and_gradients_are_those_of_the_formula(name, rows, classes, dtype, rng):
    loss = getattr(fl, name)
    epsilon = float(np.finfo(dtype).eps)
    for options in [{}, *({key: option.example} for key, option in loss.options.items())]:
        if "eps" in options:
            continue  # clipping, tested below
        arrays = loss.sample(rng, dtype, (rows, classes))
        if options.get("from_logits"):
            arrays = (3 * rng.standard_normal((rows, classes)).astype(dtype), *arrays[1:])
        values, gradients = loss.value_and_grad(*arrays, reduction="none", **options)
        value_size, gradient_size = CANCELS.get(name, (0, 0))
        with mp.workprec(PRECISION):
            for row in range(rows):
                exact = [
                    [mpf(float(v)) for v in array[row]] if array.ndim == 2 else int(array[row])
                    for array in arrays
                ]
                true = TRUTHS[name](*exact, **options)
                allowed = loss.ulp_bound * epsilon * float(abs(true) + value_size)
                assert abs(values[row] - true) <= allowed, (name, options, row, values[row], true)
                for k, gradient in enumerate(tuple_of(gradients)):
                    for c in range(classes):
                        sides = []
                        for step in (STEP, -STEP):
                            moved = [list(x) if isinstance(x, list) else x for x in exact]
                            moved[k][c] += step
                            sides.append(TRUTHS[name](*moved, **options))
                        slope = (sides[0] - sides[1]) / (2 * STEP)
                        allowed = loss.ulp_bound * epsilon * float(abs(slope) + gradient_size)
                        error = abs(gradient[row, c] - slope)
                        assert error <= allowed, (name, options, row, c, gradient[row, c], slope)


@pytest.mark.parametrize("classes", [5, 40])
@every_dtype
def test_divergence_of_subnormal_probabilities(dtype, classes):
    """Of softmax outputs that underflowed: their sum's inverse is beyond the floats."""
    tiny = np.finfo(dtype).smallest_subnormal
    p, t = np.zeros((2, 1, classes), dtype)
    p[0, :3], t[0, :3] = (9 * tiny, 3 * tiny, 1), (0, 3 * tiny, 1)
    value, gradient, hessian = fl.jensen_shannon.value_grad_hess(p, t)
    np.testing.assert_allclose(value, 4.5 * tiny * np.log(2), atol=tiny)
    np.testing.assert_allclose(gradient[0, :3], (np.log(2) / 2, 0, 0), rtol=1e-6)
    assert hessian[0, 0] == 0
    assert not gradient[0, 3:].any()


@pytest.mark.parametrize("classes", [5, 40])
@every_dtype
def test_entropy_has_an_infinite_slope_at_0(classes, dtype, rng):
    p = rng.dirichlet(np.ones(classes), 5).astype(dtype)
    p[:, 3] = 0
    losses, gradient = fl.entropy.value_and_grad(p, reduction="none")
    assert (gradient[:, 3] == np.inf).all()
    others = np.delete(p, 3, axis=1)
    np.testing.assert_allclose(losses, fl.entropy(others, reduction="none"), rtol=1e-6)


def test_nearly_equal_distributions_have_an_accurate_divergence():
    p = np.array([[0.25, 0.75]])
    t = p + np.array([[1e-9, -1e-9]])
    with mp.workprec(PRECISION):
        true = _jensen_shannon(*([mpf(v) for v in x[0]] for x in (p, t)))
    assert abs(fl.jensen_shannon(p, t) / true - 1) < 1e-6  # the inputs' own rounding, 1e-17 / 1e-9
    assert fl.jensen_shannon(p, p) == 0


@every_dtype
def test_divergence_of_single_classes_where_its_terms_cancel_most(dtype, rng):
    """Of nearly equal probabilities, and where one is about three times the other."""
    ratio = np.concatenate([1 + 0.02 * rng.standard_normal(300), rng.uniform(2.5, 3.6, 300)])
    t = rng.uniform(0.01, 0.25, 900)
    p = t * np.concatenate([ratio, 1 / ratio[300:]])
    p, t = p.astype(dtype)[:, None], t.astype(dtype)[:, None]
    losses, gradients = fl.jensen_shannon.value_and_grad(p, t, reduction="none")
    with mp.workprec(PRECISION):
        for a, b, loss, slope in zip(p[:, 0], t[:, 0], losses, gradients[:, 0], strict=True):
            a, b = mpf(float(a)), mpf(float(b))
            for found, true, ulps in (
                (loss, _jensen_shannon([a], [b]), fl.jensen_shannon.ulp_bound),
                (slope, mp.log(2 * a / (a + b)) / 2, 5),
            ):
                assert abs(float(found) - true) <= ulps * np.spacing(
                    np.dtype(dtype).type(abs(true))
                ), (a, b)


def test_nearly_parallel_embeddings_have_an_accurate_distance():
    a = np.array([[1.0, 0.0]])
    b = np.array([[1.0, 1e-9]])
    assert abs(fl.cosine_distance(a, b) / 5e-19 - 1) < 1e-6
    assert fl.cosine_distance(1e200 * a, 1e-200 * a) < 1e-30


def test_clipped_probabilities_keep_a_gradient():
    p = np.array([[0.0, 1.0]])
    value, grad = fl.categorical_cross_entropy.value_and_grad(p, [0], eps=1e-3)
    np.testing.assert_allclose(value, -np.log(1e-3), rtol=1e-15)
    np.testing.assert_allclose(grad, [[-1e3, 0]], rtol=1e-15)
    assert fl.categorical_cross_entropy(p, [0], eps=0.0) == np.inf


def test_worked_numbers():
    p = np.array([(0.2, 0.5, 0.3), (0.2, 0.2, 0.6)])
    np.testing.assert_allclose(
        fl.categorical_cross_entropy(p, [2, 2], reduction="none"), [1.20, 0.51], atol=0.005
    )
    p = np.array([(0.4, 0.3, 0.05, 0.05, 0.2), (0.98, 0.01, 0, 0, 0.01)])
    np.testing.assert_allclose(
        fl.categorical_cross_entropy(p, [0, 0], reduction="none"), [0.916, 0.02], atol=5e-4
    )
    p = np.array(
        [(0.25,) * 4, (0.1, 0.1, 0.8, 0.1), (0.1, 0.7, 0.1, 0.1), (0.01, 0.97, 0.01, 0.01)]
    )
    p /= p.sum(axis=1, keepdims=True)  # the second does not sum to 1
    expected = [1.3862944, 2.3978953, 0.35667497, 0.030459179]
    got = fl.categorical_cross_entropy(p, [1] * 4, reduction="none")
    np.testing.assert_allclose(got, expected, rtol=2e-6)  # printed by a float32 library
    assert abs(fl.entropy(np.array([(0.7, 0.2, 0.1)])) - 0.8018) < 5e-5
    p = np.array([(0.25,) * 4, (0.1, 0.1, 0.1, 0.7), (0.01, 0.01, 0.01, 0.97)])
    expected = [2.0, 1.3567797, 0.24194068]  # float32 figures too
    np.testing.assert_allclose(fl.entropy(p, base=2, reduction="none"), expected, rtol=5e-7)


@pytest.mark.thorough
def test_identities(rng):
    p, t = (fl.jensen_shannon.sample(rng, "float64", (7, 5))[k] for k in (0, 1))
    # KL = CE - entropy, row by row
    kl = fl.kl_div(np.log(p), t, reduction="sum")
    cross = fl.categorical_cross_entropy(p, t, reduction="sum")
    np.testing.assert_allclose(kl, cross - fl.entropy(t, reduction="sum"), rtol=1e-12)
    np.testing.assert_allclose(fl.jensen_shannon(p, t), fl.jensen_shannon(t, p), rtol=1e-14)
    # distillation of logits is the KL divergence of their softmax
    x, y = np.log(p) + 3, np.log(t) - 2
    np.testing.assert_allclose(fl.softmax_kl(x, y, reduction="sum"), kl, rtol=1e-12)
    # softmax cross-entropy is nll of the log-softmax
    labels = rng.integers(0, 5, 7)
    np.testing.assert_allclose(
        fl.nll(np.log(p), labels), fl.softmax_cross_entropy(x, labels), rtol=1e-13
    )
    region = rng.integers(0, 2, p.shape)
    np.testing.assert_allclose(
        fl.tversky(p, region, smooth=0.5), fl.dice(p, region, smooth=1.0), rtol=1e-14
    )


# What the templates do, whatever the loss.


@representative
def test_layouts_threads_and_calls_agree_to_the_bit(loss, rng):
    arrays = loss.sample(rng, "float32", (300, 7))
    value, gradients = loss.value_and_grad(*arrays, reduction="none", num_threads=1)
    gradients = tuple_of(gradients)
    value_alone = loss(*arrays, reduction="none")
    np.testing.assert_allclose(value_alone, value, rtol=1e-5, atol=1e-6)
    layouts = (
        (-1, lambda a: a, lambda g: g),
        (-1, np.asfortranarray, lambda g: g),
        (-1, lambda a: np.repeat(a, 2, axis=0)[::2], lambda g: g),
        (0, lambda a: np.ascontiguousarray(np.moveaxis(a, -1, 0)), lambda g: np.moveaxis(g, 0, -1)),
        (
            1,
            lambda a: np.ascontiguousarray(np.moveaxis(a.reshape(3, 100, 7), -1, 1)),
            lambda g: np.moveaxis(g, 1, -1).reshape(300, 7),
        ),
    )
    for axis, laid, back in layouts:
        given = [laid(a) if a.ndim == 2 else a.reshape(3, 100) if axis == 1 else a for a in arrays]
        again, others = loss.value_and_grad(*given, axis=axis, reduction="none")
        np.testing.assert_array_equal(again.reshape(-1), value)
        for one, other in zip(tuple_of(others), gradients, strict=True):
            assert_same_bits(np.ascontiguousarray(back(one)), other, f"{loss.name} axis {axis}")
    means = {loss.value_and_grad(*arrays, num_threads=count)[0] for count in (1, 2)}
    assert len(means) == 1, means
    large = loss.sample(rng, "float32", (60_000, 7))
    one, two = (loss.value_and_grad(*large, num_threads=count) for count in (1, 2))
    assert one[0] == two[0]
    for a, b in zip(tuple_of(one[1]), tuple_of(two[1]), strict=True):
        assert_same_bits(a, b, loss.name)


@representative
def test_weights_poison_and_accumulation(loss, rng):
    arrays = loss.sample(rng, "float32", (9, 6))
    weight = rng.uniform(0.5, 2, 9).astype("f4")
    weight[4] = 0
    values, singles = loss.value_and_grad(*arrays, reduction="none")
    for array in arrays:
        if array.ndim == 2:
            array[4] = np.nan
    value, gradients = loss.value_and_grad(*arrays, sample_weight=weight)
    counts = weight != 0
    expected = np.sum(weight[counts] * values[counts].astype(float)) / weight.sum(dtype=float)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    outs = tuple(np.ones_like(gradient) for gradient in tuple_of(gradients))
    given = outs if loss._other_names else outs[0]
    keywords = {"sample_weight": weight, "upstream": 2.0}
    _, returned = loss.value_and_grad(*arrays, grad_out=given, accumulate=True, **keywords)
    for single, gradient, out, same in zip(
        tuple_of(singles), tuple_of(gradients), outs, tuple_of(returned), strict=True
    ):
        assert out is same
        share = np.where(counts, weight / weight.sum(dtype=float), 0)[:, None]
        assert (gradient[4] == 0).all()
        size = np.abs(single[counts]).max()
        expected = np.where(share > 0, share * single, 0)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6 * size)
        np.testing.assert_allclose(out, 1 + 2 * gradient, rtol=1e-6, atol=1e-6 * size)


@pytest.mark.thorough
@pytest.mark.parametrize(("loss", "kind"), TILED, ids=lambda x: str(getattr(x, "name", x)))
def test_rows_of_few_classes_are_those_of_many(loss, kind, rng):
    """Part of a tile, rows that do not count, every derivative; more classes change nothing."""
    probabilities = (fl.entropy, fl.jensen_shannon, fl.categorical_cross_entropy)
    absent = 0 if loss in probabilities else -np.inf
    for dtype, most in (("float32", 32), ("float64", 16)):
        for classes, rows in itertools.product((1, 2, 10, most), (1, 16, 65, 130)):
            arrays = list(loss.sample(rng, dtype, (rows, classes)))
            if kind == "dense":
                arrays[1] = rng.dirichlet(np.ones(classes), rows).astype(dtype)
            weight = rng.uniform(0.5, 2, rows).astype(dtype)
            weight[1::7] = 0
            many = [
                np.pad(x, ((0, 0), (0, 64 - classes)), constant_values=absent if k == 0 else 0)
                if x.ndim == 2
                else x.copy()
                for k, x in enumerate(arrays)
            ]
            if loss is fl.softmax_kl:
                many[1][:, classes:] = absent
            for array in arrays:
                if array.ndim == 2:
                    array[weight == 0] = np.nan
            value, grad, hess = loss.value_grad_hess(*arrays, sample_weight=weight)
            mean_of_classes = 64 / classes if loss is fl.multi_margin else 1
            expected = loss.value_grad_hess(*many, sample_weight=weight)
            expected = [mean_of_classes * x for x in expected]
            bound, what = 64 * np.finfo(dtype).eps, f"{dtype} {rows}x{classes}"
            np.testing.assert_allclose(value, expected[0], rtol=bound, atol=bound, err_msg=what)
            for one, other in ((grad, expected[1]), (hess, expected[2])):
                size = np.abs(other[:, :classes]).max()
                np.testing.assert_allclose(
                    one, other[:, :classes], rtol=bound, atol=bound * size / 16, err_msg=what
                )
                assert not one[weight == 0].any()
            arrays[0][0, -1] = np.nan  # of a row that counts: it is lost, and no other
            value, lost, _ = loss.value_grad_hess(*arrays, sample_weight=weight)
            assert np.isnan(lost[0]).any() or classes == 1, what
            lost[0] = grad[0]
            assert_same_bits(lost, grad, what)


@representative
def test_reductions_and_nothing_that_counts(loss, rng):
    arrays = loss.sample(rng, "float64", (8, 5))
    singles = loss(*arrays, reduction="none")
    assert np.isclose(loss(*arrays), singles.mean(), rtol=1e-13)
    assert np.isclose(loss(*arrays, reduction="sum"), singles.sum(), rtol=1e-13)
    assert np.isclose(loss(*arrays, normalizer=3.0), singles.sum() / 3, rtol=1e-13)
    value, gradients = loss.value_and_grad(*arrays, sample_weight=np.zeros(8))
    assert value == 0
    assert all((gradient == 0).all() for gradient in tuple_of(gradients))
    empty = [array[:0] for array in arrays]
    value, gradients = loss.value_and_grad(*empty)
    assert value == 0
    assert all(gradient.shape == (0, 5) for gradient in tuple_of(gradients))


@every_label_loss
def test_labels(loss, rng):
    pred, labels = loss.sample(rng, "float32", (6, 4))
    labels[2] = -100
    pred[2] = np.nan
    value, grad = loss.value_and_grad(pred, labels)
    keep = np.arange(6) != 2
    expected, kept = loss.value_and_grad(pred[keep], labels[keep])
    assert np.isclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(grad[keep], kept, rtol=1e-6)
    assert (grad[2] == 0).all()
    for kind in ("u1", "i2", "u8"):
        clean = np.where(keep, labels, 0).astype(kind)
        assert_same_bits(loss.grad(pred[keep], clean[keep]), kept)
    for bad in (4, -1):
        wrong = np.where(keep, labels, 0)
        wrong[5] = bad
        out = np.full_like(pred, 7)
        with pytest.raises(IndexError, match=rf"{loss.name}: labels is {bad} at row 5"):
            loss.value_and_grad(pred, wrong, grad_out=out)
        assert (out == 7).all()


@pytest.mark.parametrize("inner", [1, 2, 3, 40, 65])
def test_entries_at_labels_in_groups_of_rows(inner, rng):
    """Groups that end anywhere in an array, rows left out, and weights that make NaN of zeros."""
    shape = (190 // inner + 2, 5, inner)
    p, out = rng.uniform(0.1, 0.9, shape), rng.uniform(size=shape)
    labels = rng.integers(0, 5, (shape[0], inner))
    weight = rng.uniform(0.5, 2, labels.shape)
    labels[0, 0], weight[1, 0], weight[-1, -1] = -100, np.inf, np.nan
    keywords = {"axis": 1, "sample_weight": weight, "reduction": "sum"}
    loss = fl.categorical_cross_entropy
    _, slopes, bends = loss.value_grad_hess(p, labels, **keywords)
    sums = out + slopes
    loss.grad(p, labels, grad_out=out, accumulate=True, **keywords)
    hits, counts = labels[:, None] == np.arange(5)[:, None], (labels != -100)[:, None]
    for found, expected in ((slopes, -1 / p), (bends, 1 / p**2)):
        with np.errstate(invalid="ignore"):
            expected = np.where(counts, weight[:, None] * np.where(hits, expected, 0), 0)
        np.testing.assert_allclose(found, expected, rtol=1e-13)
    np.testing.assert_allclose(out, sums, rtol=1e-13)


STAGED = [
    (fl.dice, "i4", {"smooth": 0.5}),
    (fl.categorical_cross_entropy, "f4", {"class_weight": [0.5, 2, 1, 0, 3]}),
    pytest.param(fl.categorical_cross_entropy, "?", {}, marks=pytest.mark.thorough),
    pytest.param(fl.softmax_kl, "f4", {"temperature": 2.0}, marks=pytest.mark.thorough),
    pytest.param(fl.triplet_margin, "f4", {}, marks=pytest.mark.thorough),
    pytest.param(fl.cosface, "f4", {}, marks=pytest.mark.thorough),
]


def staged_case(loss, kind, shape, rng):
    """Return arrays of rows (…, C); a dense target of 0 and 1 where it is of bools or integers."""
    arrays = loss.sample(rng, "float32", shape)
    if loss is fl.categorical_cross_entropy:
        arrays = arrays[0], rng.dirichlet(np.ones(shape[-1]), shape[:-1]).astype("f4")
    if kind != "f4":
        arrays = arrays[0], rng.integers(0, 2, shape).astype(kind)
    return arrays


@pytest.mark.parametrize("inner", [1, 2, 3, 9, 65, 130])
@pytest.mark.parametrize(("loss", "kind", "options"), STAGED)
def test_rows_that_are_brought_where_they_can_be_worked_on(loss, kind, options, inner, rng):
    """Groups of rows that end anywhere in a class-first array, and targets of another type.

    The same numbers come out as of contiguous rows, whose targets are converted and weighted by
    hand.
    """
    arrays = staged_case(loss, kind, (190 // inner + 2, inner, 5), rng)
    weight = rng.uniform(0.5, 2, arrays[0].shape[:-1]).astype("f4")
    weight[-1, -1] = 0
    call = loss.value_grad_hess if loss._properties["hessian"] else loss.value_and_grad
    by_hand = [array.astype("f4") if array.ndim == 3 else array for array in arrays]
    keywords = {"sample_weight": weight, "reduction": "sum", **options}
    others = dict(keywords)
    if "class_weight" in options:
        by_hand[-1] *= np.asarray(others.pop("class_weight"), "f4")
    value, *expected = call(*by_hand, **others)

    first = [np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim == 3 else x for x in arrays]
    found, *derivatives = call(*first, axis=1, **keywords)
    assert found == pytest.approx(value, rel=1e-13)  # the same losses, added in other groups
    for mine, theirs in zip(derivatives, expected, strict=True):
        for one, other in zip(tuple_of(mine), tuple_of(theirs), strict=True):
            assert_same_bits(np.ascontiguousarray(np.moveaxis(one, 1, -1)), other, loss.name)

    outs = tuple(np.ones_like(first[0]) for _ in tuple_of(expected[0]))
    given = outs if loss._other_names else outs[0]
    loss.grad(*first, axis=1, grad_out=given, accumulate=True, **keywords)
    for out, other in zip(outs, tuple_of(expected[0]), strict=True):
        np.testing.assert_allclose(np.moveaxis(out, 1, -1), 1 + other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "kind", "options"),
    [
        (fl.dice, "?", {}),
        (fl.dice, "f4", {"grad_out": "in place"}),
        (fl.categorical_cross_entropy, "f4", {"class_weight": np.ones(5, "f4")}),
    ],
)
def test_staging_copies_no_array_in_python(loss, kind, options, rng):
    """(Memory that kernels take is not traced; the goals in bench/goals.py hold that.)"""
    peaks = []
    for rows in (2000, 20_000):
        arrays = staged_case(loss, kind, (rows, 5), rng)
        out = arrays[0] if "grad_out" in options else np.empty_like(arrays[0])
        keywords = {**options, "grad_out": out, "num_threads": 1}
        peaks.append(peak_memory(lambda a=arrays, k=keywords: loss.value_and_grad(*a, **k)))
    assert peaks[1] < peaks[0] + 2000, peaks


@representative
def test_in_place(loss, rng):
    if loss._other_names:
        pytest.skip("several gradients have no place to be in")
    for order in "CF":
        arrays = [array.copy(order) for array in loss.sample(rng, "float32", (5, 4))]
        expected = loss.grad(*arrays)
        assert loss.grad(*arrays, grad_out=arrays[0]) is arrays[0]
        assert_same_bits(arrays[0], expected)


@pytest.mark.parametrize("loss", [x for x in ROWS if x._properties["hessian"]], ids=repr)
@pytest.mark.parametrize("classes", [5, pytest.param(40, marks=pytest.mark.thorough)])
def test_hessian_is_the_derivative_of_the_textbook_gradient(loss, classes, rng):
    arrays = loss.sample(rng, "float64", (6, classes))
    hessian = loss.value_grad_hess(*arrays, reduction="none")[2]
    for c in range(classes):
        step = np.where(np.arange(classes) == c, 1e-30j, 0)
        moved = loss.reference(arrays[0] + step, *arrays[1:], reduction="none")[1]
        np.testing.assert_allclose(hessian[:, c], moved.imag[:, c] / 1e-30, rtol=1e-11, atol=1e-13)


def test_losses_without_a_hessian_say_so(rng):
    arrays = fl.triplet_margin.sample(rng, "float32", (3, 2))
    with pytest.raises(NotImplementedError, match="triplet_margin: it has no diagonal Hessian"):
        fl.triplet_margin.value_grad_hess(*arrays)
    for loss in ALL:
        said = "has no diagonal Hessian" in loss.value_grad_hess.__doc__
        assert said is not loss._properties.get("hessian", True), loss.name


# Several inputs that get a gradient.


@every_several
def test_several_gradients_by_one_convention(loss, rng):
    arrays = loss.sample(rng, "float64", (6, 3))
    keywords = keywords_of(loss, (6, 3), "float64", rng)
    count = 1 + len(loss._other_names)
    value, gradients = loss.value_and_grad(*arrays, **keywords)
    assert isinstance(gradients, tuple)
    assert len(gradients) == count
    for one, other in zip(loss.grad(*arrays, **keywords), gradients, strict=True):
        assert_same_bits(one, other)
    true_value, true = loss.reference(*arrays, **keywords)
    np.testing.assert_allclose(value, true_value, rtol=1e-12)
    for gradient, expected in zip(gradients, true, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-14)
    # the textbook's gradients are the derivatives of its value, by each input in turn
    named = dict(zip(loss._arguments, arrays, strict=True)) | keywords
    for name, gradient in zip((loss._pred_name, *loss._other_names), gradients, strict=True):
        for place in itertools.product(range(6), range(3)):
            moved = {key: array.astype(complex) for key, array in named.items()}
            moved[name][place] += 1e-30j
            positional = [moved.pop(key) for key in loss._arguments]
            slope = np.imag(loss.reference(*positional, **moved)[0]) / 1e-30
            np.testing.assert_allclose(gradient[place], slope, rtol=1e-9, atol=1e-12)


@every_several
def test_buffers_of_several_gradients(loss, rng):
    arrays = loss.sample(rng, "float32", (6, 4))
    keywords = keywords_of(loss, (6, 4), "float32", rng)
    expected = loss.grad(*arrays, **keywords)
    outs = tuple(np.ones((6, 4), "f4", order=order) for order in "CFC"[: len(expected)])
    returned = loss.grad(*arrays, grad_out=outs, accumulate=True, **keywords)
    for out, same, gradient in zip(outs, returned, expected, strict=True):
        assert out is same
        np.testing.assert_allclose(out, 1 + gradient, rtol=1e-6)
    for wrong, error, words in (
        (outs[0], TypeError, "expected a tuple of"),
        (outs[:1], TypeError, "expected a tuple of"),
        ((outs[0],) * len(outs), ValueError, r"overlapping grad_out\[\d\]"),
        ((arrays[0], *outs[1:]), ValueError, "overlapping"),
    ):
        with pytest.raises(error, match=words):
            loss.grad(*arrays, grad_out=wrong, **keywords)


@pytest.mark.parametrize(
    "loss", [fl.entropy, fl.jensen_shannon, fl.categorical_cross_entropy], ids=lambda x: x.name
)
def test_the_error_of_long_rows_does_not_grow(loss):
    p = np.full((1, 50257), 1 / 50257, "f4")
    arrays = (p,) if loss is fl.entropy else (p, p * np.float32(1.5))
    truth = float(loss.reference(*(x.astype(np.longdouble) for x in arrays))[0])
    assert loss(*arrays) == pytest.approx(truth, rel=4 * 2.0**-23)


def test_embeddings_of_any_finite_size():
    one, zero = np.array([[1.0, 0.0]]), np.zeros((1, 2))
    for size in (1e308, 1e300, 1e160, 1e-160, 1e-300, 1e-307):
        assert fl.cosine_distance(size * one, one) < 1e-31
        assert fl.cosine_distance(size * one, one[:, ::-1]) == pytest.approx(1, rel=1e-15)
        assert fl.triplet_margin(size * one, zero, size * one) == 1 + size
        apart = size / 5 * np.array([[3.0, 4.0]])
        loss, (by_anchor, _, _) = fl.triplet_margin.value_and_grad(apart, zero, apart, margin=0)
        assert loss == pytest.approx(size, rel=1e-15, abs=0)
        np.testing.assert_allclose(by_anchor, [[0.6, 0.8]], rtol=1e-15)


@every_dtype
@pytest.mark.parametrize("p", [1.0, 1.5, 3.0, 7.25, 9.0])
def test_distances_of_other_norms(p, dtype, rng):
    """The loss is a single distance where anchor and negative agree; so is the gradient by b."""
    a, b = (rng.normal(size=(5, 600)).astype(dtype) for _ in range(2))
    a[1], b[2, ::2], a[3, 5] = b[1], a[2, ::2], 1e30
    losses, (_, by_b, _) = fl.triplet_margin.value_and_grad(
        a, b, a, p=p, margin=0.0, reduction="none"
    )
    ulp = np.finfo(dtype).eps / 2
    with mp.workprec(200):
        for k in range(5):
            r = [mpf(float(y)) - mpf(float(x)) for x, y in zip(a[k], b[k], strict=True)]
            true = _norm(r, p)
            assert abs(mpf(float(losses[k])) - true) <= 8 * ulp * true
            for found, part in zip(by_b[k], r, strict=True):
                slope = mp.sign(part) * (abs(part) / true) ** (p - 1) if true else mpf(0)
                # Every rounding of the ratio counts as often as the exponent says.
                allowed = (8 + 4 * p) * ulp * abs(slope) + np.finfo(dtype).smallest_subnormal
                assert abs(mpf(float(found)) - slope) <= allowed, (k, float(part))


def test_info_nce_without_any_weight_has_no_gradient_whatever_stands_there():
    e, nans = np.eye(2, dtype="f4"), np.full((2, 2), np.nan, "f4")
    for reduction in ("mean", "sum"):
        options = {"sample_weight": np.zeros(2), "reduction": reduction}
        value, grads = fl.info_nce.value_and_grad(e, nans, **options)
        assert value == 0
        for grad in grads:
            assert_same_bits(grad, np.zeros_like(e), reduction)


@every_dtype
@pytest.mark.parametrize("classes", [1, 16, 513, 1023, 1024, 1025, 1040, 2000])
def test_divergence_of_rows_that_are_kept_and_of_longer_ones(classes, dtype, rng):
    """The powers of long rows are computed again."""
    x, t = fl.softmax_kl.sample(rng, dtype, (3, classes))
    results = fl.softmax_kl.value_grad_hess(x, t, reduction="none")
    wide = x.astype("f8"), t.astype("f8")
    powers = np.exp(wide[0] - wide[0].max(axis=1, keepdims=True))
    p = powers / powers.sum(axis=1, keepdims=True)
    expected = (*fl.softmax_kl.reference(*wide, reduction="none"), p * (1 - p))
    for result, true in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, true, rtol=0, atol=60 * np.finfo(dtype).eps)


@every_dtype
@pytest.mark.parametrize("classes", [2, 17, 1000, 3000])
def test_divergence_from_a_student_masked_by_the_lowest_number(classes, dtype):
    """The sum of gaps leaves the type, their mean does not."""
    for share in (1, 0.5, 1e-3):
        x = np.full((1, classes), share * np.finfo(dtype).min, dtype)
        x[0, 0], t = 0, np.zeros_like(x)
        expected = -float(x[0, 1]) * ((classes - 1) / classes)
        assert fl.softmax_kl(x, t) == pytest.approx(expected, rel=1e-5)


@every_dtype
@pytest.mark.parametrize("classes", [64, 100, 135])
def test_divergence_of_ties_and_masked_classes_anywhere_in_a_row(classes, dtype, rng):
    """Where four registers have neither, they are summed without a look at them."""
    rows = np.arange(200)

    def somewhere(first=0, last=classes):
        return rows, rng.integers(first, last, rows.size)

    x, t = rng.standard_normal((2, rows.size, classes)).astype(dtype)
    for logits in (x, t):
        first = rng.integers(classes - 15, size=rows.size)
        for _ in range(2):
            logits[somewhere(first, first + 16)] = 10
    masked, masked_for_teacher = somewhere(), somewhere()
    for logits, places in ((x, masked), (t, masked), (t, masked_for_teacher)):
        logits[tuple(index[60:] for index in places)] = -np.inf  # but in the first rows
    t[tuple(index[-60:] for index in masked)] = -1000  # as good as masked
    losses, grads = fl.softmax_kl.value_and_grad(x, t, reduction="none")
    wide = x.astype("f8"), t.astype("f8")
    atol = 100 * np.finfo(dtype).eps
    true = fl.softmax_kl.reference(*wide, reduction="none")
    for result, expected in zip((losses, grads), true, strict=True):
        np.testing.assert_allclose(result, expected, rtol=0, atol=atol)
    x[somewhere()] = np.nan
    assert np.isnan(fl.softmax_kl(x, t, reduction="none")).all()


def test_a_divergence_is_not_negative(rng):
    logits = rng.normal(size=(500, 7)).astype("f4")
    for shift in (0, 0.1, 3.3):
        assert fl.softmax_kl(logits, logits + np.float32(shift), reduction="none").min() >= 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 20, 140])
def test_divergence_of_confident_distributions(dtype, classes, rng):
    """What the small probabilities add is not lost beside the large one: class by class."""
    shape, epsilon = (200, classes), np.finfo(dtype).eps
    x, t = rng.standard_normal((2, *shape)).astype(dtype)
    x[:, 0] += rng.uniform(4, 12, len(x)).astype(dtype)
    t[:, 0] += rng.uniform(4, 12, len(t)).astype(dtype)
    losses = fl.softmax_kl(x, t, reduction="none")
    with mpmath.workdps(50):
        for row, other, loss in zip(x, t, losses, strict=True):
            logs = []
            for logits in (row, other):
                values = [mpmath.mpf(float(logit)) for logit in logits]
                total = mpmath.log(mpmath.fsum(map(mpmath.exp, values)))
                logs.append([value - total for value in values])
            spread = max(np.ptp(row), np.ptp(other))
            exact = allowed = mpmath.mpf(0)
            for a, b in zip(*logs, strict=True):
                exact += mpmath.exp(b) * (b - a)
                allowed += mpmath.exp(b) * max(abs(a), abs(b))
            assert abs(loss - exact) <= (4 + 2 * float(spread)) * epsilon * allowed


def test_info_nce_of_tiny_weights():
    e = np.eye(3, 4, dtype="f4")
    weight = np.full(3, 2.0**-130)
    grads = fl.info_nce.value_and_grad(e, e[::-1], sample_weight=weight)[1]
    for got, grad in zip(grads, fl.info_nce.value_and_grad(e, e[::-1])[1], strict=True):
        np.testing.assert_allclose(got, grad, rtol=0.01)  # their products are subnormal


def test_info_nce_of_tiny_embeddings_and_weights(rng):
    """Gradients that are numbers, though the scale by norm and weight alone is none."""
    anchors, positives = fl.info_nce.sample(rng, "float64", (4, 3))
    ordinary = fl.info_nce.value_and_grad(anchors, positives)[1]
    weight = np.full(4, 1e-9)
    tiny = fl.info_nce.value_and_grad(1e-300 * anchors, positives, sample_weight=weight)[1]
    np.testing.assert_allclose(tiny[0], 1e300 * ordinary[0], rtol=1e-12)
    np.testing.assert_allclose(tiny[1], ordinary[1], rtol=1e-12)
    weight[0], anchors[0] = 0, 1e-310
    assert not fl.info_nce.value_and_grad(anchors, positives, sample_weight=weight)[1][0][0].any()


def test_labels_only_losses_do_not_ask_for_dense_targets(rng):
    pred, _ = fl.nll.sample(rng, "float32", (4, 3))
    for target, error in ((pred, TypeError), (np.zeros(3, int), ValueError)):
        with pytest.raises(error, match=r"nll: .*; expected integer labels of shape .4,.$"):
            fl.nll(pred, target)


def test_further_inputs_have_the_dtype_of_the_first(rng):
    first, second, third = fl.triplet_margin.sample(rng, "float32", (3, 2))
    for wrong in (second.astype("f8"), second.astype(int)):
        with pytest.raises(TypeError, match=r"positive is .*; expected float32 like anchor$"):
            fl.triplet_margin(first, wrong, third)


def test_a_buffer_may_not_be_given_twice(rng):
    arrays = fl.triplet_margin.sample(rng, "float32", (3, 2))
    one, other = np.zeros((2, 3, 2), "f4")
    twice = r"triplet_margin: grad_out\[\d\] is overlapping grad_out\[\d\]"
    for outs in ((one, one, other), (one, other, one), (other, one, one)):
        with pytest.raises(ValueError, match=twice):
            fl.triplet_margin.value_and_grad(*arrays, grad_out=outs)


@every_several
def test_shapes_and_numbers_of_arrays(loss, rng):
    arrays = loss.sample(rng, "float32", (6, 4))
    with pytest.raises(TypeError, match=f"{loss.name}: 1 array was given by position; expected"):
        loss.grad(arrays[0])
    keywords = keywords_of(loss, (6, 4), "float32", rng)
    with pytest.raises(ValueError, match="nothing broadcasts"):
        loss.grad(arrays[0], arrays[1][:3], *arrays[2:], **keywords)
    if not keywords:
        with pytest.raises(TypeError, match=r"expected float32 like"):
            loss.grad(arrays[0], arrays[1].astype(int), *arrays[2:])


def test_gaussian_nll_by_the_logarithm_of_the_variance(rng):
    mean, target = rng.standard_normal((2, 5, 3))
    var = rng.gamma(2, size=(5, 3))
    value, (by_mean, by_var) = fl.gaussian_nll.value_and_grad(mean, target, var=var)
    other, (same, by_log) = fl.gaussian_nll.value_and_grad(mean, target, log_var=np.log(var))
    np.testing.assert_allclose(other, value, rtol=1e-14)
    np.testing.assert_allclose(same, by_mean, rtol=1e-13)
    np.testing.assert_allclose(by_log, by_var * var, rtol=1e-12, atol=1e-15)
    _, _, (by_mean_twice, by_var_twice) = fl.gaussian_nll.value_grad_hess(
        mean, target, var=var, reduction="sum"
    )
    np.testing.assert_allclose(by_mean_twice, 1 / var, rtol=1e-14)
    r = mean - target
    np.testing.assert_allclose(by_var_twice, r**2 / var**3 - 0.5 / var**2, rtol=1e-11, atol=1e-14)
    for wrong in ({}, {"var": var, "log_var": var}):
        with pytest.raises(TypeError, match=r"gaussian_nll: var is .*either var or log_var"):
            fl.gaussian_nll(mean, target, **wrong)


def test_info_nce_leaves_out_rows_of_weight_zero(rng):
    anchors, positives = fl.info_nce.sample(rng, "float32", (7, 3))
    weight = np.array([1, 1, 0, 1, 1, 2, 1], "f4")
    expected = fl.info_nce.value_and_grad(anchors, positives, sample_weight=weight)
    anchors[2] = np.nan
    value, gradients = fl.info_nce.value_and_grad(anchors, positives, sample_weight=weight)
    assert value == expected[0]
    for gradient, same in zip(gradients, expected[1], strict=True):
        np.testing.assert_allclose(gradient, same, rtol=1e-6)
    anchors[:] = 0
    value, gradients = fl.info_nce.value_and_grad(anchors, positives)
    assert np.isclose(value, np.log(7), rtol=1e-6)
    assert (gradients[0] == 0).all()


# Weight decay


def test_l2_penalty_keeps_arrays_apart():
    one, two = np.ones(3), np.ones(3)
    for outs in ([two, np.zeros(3)], [one, np.zeros(3)], 2 * [np.zeros(3)]):
        with pytest.raises(ValueError, match=r"l2_penalty: grad_out is overlapping \w+\[\d\]"):
            fl.l2_penalty.value_and_grad([one, two], grad_out=outs)
    assert one.tolist() == two.tolist() == [1, 1, 1]
    with pytest.raises(TypeError, match="l2_penalty: grad_out is int 3"):
        fl.l2_penalty.value_and_grad(one, grad_out=3)
    with pytest.raises(ValueError, match="l2_penalty: num_threads is 0"):
        fl.l2_penalty(one, num_threads=0)
    assert type(fl.l2_penalty([])) is float
    huge = 2 * [np.array([1.3e154])]
    assert fl.l2_penalty(huge, strength=2) == np.inf  # each is finite
    assert fl.l2_penalty.value_and_grad(huge, strength=2)[0] == np.inf


def test_l2_penalty_takes_what_can_be_an_array():
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return np.ones((2, 3), "f4")

        def __iter__(self):
            return iter(np.ones((2, 3), "f4"))

    _, (gradient,) = fl.l2_penalty.value_and_grad(Tensor(), strength=0.5)
    assert_same_bits(gradient, np.full((2, 3), 0.5, "f4"))


def test_l2_penalty(rng):
    arrays = [rng.standard_normal(shape).astype("f4") for shape in ((3, 4), (5,), ())]
    value, grads = fl.l2_penalty.value_and_grad(arrays, strength=0.3)
    expected, slopes = fl.l2_penalty.reference([a.astype(float) for a in arrays], strength=0.3)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert fl.l2_penalty(arrays, strength=0.3) == pytest.approx(value, rel=1e-12)
    held = [np.ones_like(a) for a in arrays]
    fl.l2_penalty.value_and_grad(arrays, strength=0.3, grad_out=held)
    for grad, slope, added in zip(grads, slopes, held, strict=True):
        assert grad.dtype == np.float32
        np.testing.assert_allclose(grad, slope, rtol=1e-6)
        np.testing.assert_allclose(added, 1 + slope, rtol=1e-6)
    for arguments, error in (
        ({"strength": -1}, ValueError),
        ({"grad_out": held[:2]}, TypeError),
        ({"grad_out": [held[0], held[1], arrays[2]]}, ValueError),
    ):
        with pytest.raises(error, match="l2_penalty: "):
            fl.l2_penalty.value_and_grad(arrays, **arguments)


# Calls without options take a shorter way to the kernels.


@representative
@every_dtype
@pytest.mark.parametrize("shape", [(5, 3), (700, 120)], ids=["small", "large"])
def test_calls_without_options_give_the_same_bits(loss, dtype, shape):
    arrays = loss.sample(np.random.default_rng(1), dtype, shape)
    value, gradients = loss.value_and_grad(*arrays)
    checked_value, checked = loss.value_and_grad(*arrays, reduction="mean")
    assert value == checked_value
    assert loss(*arrays) == loss(*arrays, reduction="mean")  # whose kernel is another one
    assert loss(*arrays) == pytest.approx(value, rel=2 * float(np.finfo(dtype).eps))
    for gradient, expected in zip(tuple_of(gradients), tuple_of(checked), strict=True):
        assert_same_bits(gradient, expected, loss.name)


@representative
@pytest.mark.parametrize("rows", [5, 700], ids=["small", "large"])
def test_calls_without_options_are_checked_all_the_same(loss, rows):
    arrays = loss.sample(np.random.default_rng(1), "float32", (rows, 120))
    loss.value_and_grad(*arrays)  # so that the short way is open
    memory = np.concatenate([arrays[0].ravel(), np.zeros(7, np.float32)])
    pred, overlapping = memory[:-7].reshape(rows, 120), memory[7:].reshape(rows, 120)
    outs = (overlapping, *(np.empty_like(pred) for _ in loss._other_names))
    with pytest.raises(ValueError, match="overlap"):
        loss.value_and_grad(pred, *arrays[1:], grad_out=outs if loss._other_names else overlapping)
    assert_same_bits(pred, arrays[0], "pred")
    if len(arrays) > 1:
        with pytest.raises(ValueError, match=loss.name):
            loss.value_and_grad(arrays[0], *(array[:-1] for array in arrays[1:]))
        with pytest.raises(ValueError, match=loss.name):
            loss(arrays[0], *(array[:-1] for array in arrays[1:]))


def test_a_label_outside_is_found_without_options():
    scores = np.zeros((4, 3))
    for labels in (np.array([0, 3, 1, 2]), np.array([0, -1, 1, 2])):
        with pytest.raises(IndexError, match="row 1"):
            fl.nll.value_and_grad(scores, labels)


@pytest.mark.parametrize("loss", [fl.mse, *REPRESENTATIVES], ids=lambda loss: loss.name)
def test_swapped_bytes_are_read_as_what_they_mean(loss):
    arrays = loss.sample(np.random.default_rng(1), "float64", (6, 5))
    swapped = tuple(x.astype(x.dtype.newbyteorder()) for x in arrays)
    value, gradients = loss.value_and_grad(*arrays)  # which opens the short way for these types
    got, swapped_gradients = loss.value_and_grad(*swapped)
    assert value == loss(*swapped) == got
    for gradient, expected in zip(tuple_of(swapped_gradients), tuple_of(gradients), strict=True):
        assert gradient.dtype.isnative
        assert_same_bits(gradient, expected, loss.name)


@pytest.mark.parametrize("loss", [fl.mse, fl.entropy], ids=lambda loss: loss.name)
def test_an_unaligned_buffer_opens_no_way_for_swapped_bytes(loss):
    arrays = loss.sample(np.random.default_rng(1), "float32", (6, 5))
    value, gradient = loss.value_and_grad(*arrays)
    unaligned = np.zeros(121, np.uint8)[1:].view(np.float32).reshape(6, 5)
    assert loss.value_and_grad(*arrays, grad_out=unaligned)[0] == value
    assert_same_bits(unaligned.copy(), gradient, loss.name)
    with pytest.raises(TypeError, match="native byte order"):
        loss.value_and_grad(*arrays, grad_out=np.zeros((6, 5), ">f4"))


@pytest.mark.parametrize("p", [2.0, 3.0])
def test_a_row_with_nan_has_nan_in_its_gradients(p):
    anchor = np.array([[1.0, np.nan], [1.0, 0.0]])
    arrays = anchor, anchor + np.array([0.0, 1.0]), anchor + np.array([5.0, 0.0])
    for method in (fl.triplet_margin.value_and_grad, fl.triplet_margin.reference):
        losses, gradients = method(*arrays, p=p, margin=6.0, reduction="none")
        assert np.isnan(losses[0])
        for gradient in gradients:
            assert np.isnan(gradient[0]).any()
            assert np.isfinite(gradient[1]).all()


def test_a_class_without_mass_may_hold_anything():
    p, t = np.array([[0.5, np.nan, 0.5]]), np.array([[0.25, 0.0, 0.75]])
    for method in (fl.categorical_cross_entropy.value_and_grad,
                   fl.categorical_cross_entropy.reference):  # fmt: skip
        loss, gradient = method(p, t)
        assert loss == pytest.approx(np.log(2))
        np.testing.assert_allclose(gradient, [[-0.5, 0, -1.5]])


def test_info_nce_of_no_weight_is_zero_whatever_stands_there():
    anchors, positives = np.ones((2, 3)), np.full((2, 3), np.nan)
    loss, gradients = fl.info_nce.value_and_grad(anchors, positives, sample_weight=np.zeros(2))
    assert loss == 0
    assert not np.any(gradients)
