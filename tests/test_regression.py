"""Regression losses: errors against mpmath, other libraries' values, and identities between them.

Nearly all calls are `value_grad_hess` with reduction="none", so that few kernels are compiled.
"""

import numpy as np
import pytest
from mpmath import mp, mpf

import fastloss as fl

DTYPES = ("float32", "float64")
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def singles(name, pred, target, **options):
    """Return the single losses with their first and second derivatives."""
    return getattr(fl, name).value_grad_hess(
        pred, target, reduction="none", num_threads=1, **options
    )


# --- Against mpmath -------------------------------------------------------------------------------

PRECISION = 700
STEP = mpf(2) ** -120
"""Of the central differences: their relative error, about STEP**2, is far below 2**-53."""
NOISE = mpf(2) ** -390
"""What a curvature, relative to the loss, counts as at least: PRECISION less what STEP**2 takes,
and float64's own 53 bits."""
HESSIAN_BOUND = 12
"""The docstrings state a bound on the loss and the gradient only; a cube has thrice their error."""


def poisson(p, t, log_input=True, full=False, eps=1e-8):
    terms = [mp.exp(p), -t * p] if log_input else [p, -t * mp.log(p + mpf(eps))]
    if full and t > 1:
        terms += [t * mp.log(t), -t, mp.log(2 * mp.pi * t) / 2]
    return terms


def tweedie(p, t, power=1.5):
    if power in (1, 2):
        return [mp.exp(p), -t * p] if power == 1 else [p, t * mp.exp(-p)]
    a, b = 2 - mpf(power), 1 - mpf(power)
    return [mp.exp(a * p) / a, -t * mp.exp(b * p) / b]


TRUTHS = {
    "half_mse": lambda p, t: [(p - t) ** 2 / 2],
    "mae": lambda p, t: [abs(p - t)],
    "huber": lambda p, t, delta=1: [
        (p - t) ** 2 / 2 if abs(p - t) <= delta else delta * (abs(p - t) - mpf(delta) / 2)
    ],
    "smooth_l1": lambda p, t, beta=1: [
        (p - t) ** 2 / (2 * mpf(beta)) if abs(p - t) < beta else abs(p - t) - mpf(beta) / 2
    ],
    "log_cosh": lambda p, t: [mp.log(mp.cosh(p - t))],
    "pseudo_huber": lambda p, t, delta=1: [delta**2 * (mp.sqrt(1 + ((p - t) / delta) ** 2) - 1)],
    "pinball": lambda p, t, quantile=0.5: [max(quantile * (t - p), (quantile - 1) * (t - p))],
    "expectile": lambda p, t, tau=0.5: [(1 - mpf(tau) if t < p else tau) * (p - t) ** 2],
    "msle": lambda p, t: [(mp.log(1 + p) - mp.log(1 + t)) ** 2],
    "mape": lambda p, t, eps=1e-7: [abs(p - t) / max(abs(t), mpf(eps))],
    "poisson_nll": poisson,
    "gamma_nll": lambda p, t: [p, t * mp.exp(-p)],
    "tweedie": tweedie,
}
"""The terms of each loss. Where there are several they may cancel, which is in the nature of the
problem: the error is then measured in ulp of the largest term, as the docstrings state."""

OPTIONS = {
    "huber": [{}, {"delta": 0.375}, {"delta": 1e4}],
    "smooth_l1": [{}, {"beta": 0.375}, {"beta": 0}, {"beta": 1e4}],
    "pseudo_huber": [{}, {"delta": 0.375}, {"delta": 1e4}],
    "pinball": [{}, {"quantile": 0.125}, {"quantile": 0.9375}],
    "expectile": [{}, {"tau": 0.125}, {"tau": 0.9375}],
    "mape": [{"eps": 0.125}],
    "poisson_nll": [{}, {"log_input": False, "eps": 2.0**-20}, {"full": True}],
    "tweedie": [{"power": power} for power in (1.5, -1, 0, 1, 1.75, 2, 3)],
}
"""What each loss is tried with, numbers that both types hold exactly; others: the defaults."""


def differences(dtype):
    """Predictions and targets for losses of p - t: any size of it, and p close to t."""
    rng = np.random.default_rng(1)
    sizes = np.concatenate([10.0 ** np.linspace(-17, 15, 60), np.linspace(0.051, 3, 60), [20, 88]])
    pred = np.concatenate([sizes, -sizes, 3 * rng.standard_normal(60), rng.uniform(-700, 700, 20)])
    target = np.concatenate([np.zeros(2 * len(sizes)), rng.standard_normal(60), np.ones(20)])
    near = rng.standard_normal(40)
    pred = np.concatenate([pred, near * (1 + 10.0 ** rng.uniform(-6, -1, 40))])
    return pred.astype(dtype), np.concatenate([target, near]).astype(dtype)


def nonnegative(dtype):
    """Predictions and targets > -1, such as sizes, far apart and close to each other."""
    rng = np.random.default_rng(2)
    pred = np.concatenate([rng.gamma(2, size=80), 10.0 ** rng.uniform(-12, 12, 80)])
    target = np.concatenate([rng.gamma(2, size=80), 10.0 ** rng.uniform(-12, 12, 80)])
    near = np.concatenate([rng.gamma(2, size=30), rng.uniform(-0.99, 0, 30)])
    pred = np.concatenate([pred, near * (1 + 10.0 ** rng.uniform(-6, -2, 60)), near])
    return pred.astype(dtype), np.concatenate([target, near, rng.permutation(near)]).astype(dtype)


def logarithms(dtype):
    """Predictions on the scale of a logarithm, to where their powers nearly leave the type."""
    rng = np.random.default_rng(3)
    limit = 80 if dtype == "float32" else 700
    pred = np.concatenate([3 * rng.standard_normal(80), np.linspace(-limit, limit, 81), [0, 1e-6]])
    target = np.where(rng.random(163) < 0.5, rng.gamma(2, size=163), rng.poisson(30, 163))
    return pred.astype(dtype), target.astype(dtype)


def inputs_of(name, dtype, options):
    """Return predictions and targets whose loss is not at a kink and does not leave the type."""
    if name in ("poisson_nll", "gamma_nll", "tweedie") and options.get("log_input", True):
        pred, target = logarithms(dtype)
        scale = max(1, abs(1 - options.get("power", 1)), abs(2 - options.get("power", 1)))
        return (pred / pred.dtype.type(scale)), np.maximum(target, pred.dtype.type(2.0**-6))
    positive = name in ("msle", "mape", "poisson_nll")
    pred, target = (nonnegative if positive else differences)(dtype)
    if name == "poisson_nll":
        pred, target = abs(pred), abs(target)
    apart = pred != target
    return pred[apart], target[apart]


def truth(formula, pred, target, options):
    """Return loss, gradient and curvature, each with the size of its largest term."""
    below, here, above = (formula(pred + k * STEP, target, **options) for k in (-1, 0, 1))
    slopes = [(high - low) / (2 * STEP) for low, high in zip(below, above, strict=True)]
    bends = [(a - 2 * b + c) / STEP**2 for a, b, c in zip(below, here, above, strict=True)]
    parts = (here, slopes, bends)
    sizes = [max(map(abs, terms)) for terms in parts]
    sizes[2] = max(sizes[2], NOISE * sizes[0])
    return [(sum(terms), size) for terms, size in zip(parts, sizes, strict=True)]


def ulps(got, true, scale):
    """Return the error of a number in ulp of a number of the size `scale`; underflow is none."""
    limits = np.finfo(got.dtype)
    size = min(max(abs(scale), mpf(float(limits.smallest_normal))), mpf(float(limits.max)))
    error = abs(mpf(float(got)) - true) if np.isfinite(got) else mpf("inf")
    flushed = error <= 4 * float(limits.smallest_normal)
    return 0.0 if flushed else float(error / mpf(float(np.spacing(got.dtype.type(float(size))))))


def worst_errors(name, dtype, options):
    """Return the worst error of loss, gradient and Hessian: (share of the bound, ulp, input)."""
    loss, formula = getattr(fl, name), TRUTHS[name]
    pred, target = inputs_of(name, dtype, options)
    results = singles(name, pred, target, **options)
    # The exponents of a Tweedie loss are rounded products, unless the factors are powers of 2.
    factors = [abs(k - options["power"]) for k in (1, 2)] if name == "tweedie" else []
    inexact = max((f for f in factors if f and np.frexp(f)[0] != 0.5), default=0)
    bounds = {"loss": loss.ulp_bound, "gradient": loss.ulp_bound, "hessian": HESSIAN_BOUND}
    if name == "msle":  # its Hessian is a difference within one term: see below
        del bounds["hessian"]
    worst = dict.fromkeys(bounds, (0.0,))
    assert all(result.dtype == pred.dtype for result in results)
    with mp.workprec(PRECISION):
        for p, t, *got in zip(pred, target, *results, strict=True):
            true = truth(formula, mpf(float(p)), mpf(float(t)), options)
            for what, one, (exact, scale) in zip(bounds, got, true, strict=False):
                error = ulps(one, exact, scale)
                share = error / (bounds[what] + inexact * abs(float(p)))
                entry = (share, error, float(p), float(t), float(one), float(exact))
                worst[what] = max(worst[what], entry)
    return worst


@every_dtype
@pytest.mark.parametrize("name", TRUTHS)
def test_errors_are_within_the_stated_bound(name, dtype):
    for options in OPTIONS.get(name, [{}]):
        for what, (share, *rest) in worst_errors(name, dtype, options).items():
            assert share <= 1, f"{name} {options}: {what}: ulp, pred, target, got, true: {rest}"


# --- Identities -----------------------------------------------------------------------------------


def sample(name, dtype):
    """Return predictions and targets > 0 of moderate size, as every loss here takes them."""
    rng = np.random.default_rng(4)
    pred, target = rng.standard_normal(400), rng.gamma(2, size=400) + 0.01
    if name in ("msle", "mape", "poisson_nll"):
        pred = abs(pred) + 0.01
    return pred.astype(dtype), target.astype(dtype)


def assert_close(ours, others, dtype, terms=0):
    """Assert that each part of two results is the same but for rounding, its own or of terms."""
    for one, other in zip(ours, others, strict=True):
        assert np.all(abs(one - other) <= 4 * np.finfo(dtype).eps * (abs(other) + terms))


def halved(results):
    return [part / 2 for part in results]


SAME = [
    ("half_mse", {}, lambda p, t: halved(singles("mse", p, t))),
    ("huber", {"delta": 1e30}, lambda p, t: singles("half_mse", p, t)),
    ("smooth_l1", {}, lambda p, t: singles("huber", p, t)),
    ("smooth_l1", {"beta": 0}, lambda p, t: singles("mae", p, t)),
    ("pinball", {}, lambda p, t: halved(singles("mae", p, t))),
    ("expectile", {}, lambda p, t: singles("half_mse", p, t)),
    ("tweedie", {"power": 1}, lambda p, t: singles("poisson_nll", p, t)),
    ("tweedie", {"power": 2}, lambda p, t: singles("gamma_nll", p, t)),
]


@every_dtype
@pytest.mark.parametrize(
    ("name", "keywords", "other"), SAME, ids=[f"{name}-{keywords}" for name, keywords, _ in SAME]
)
def test_losses_that_are_one(name, keywords, other, dtype):
    pred, target = sample(name, dtype)
    pred[:5] = target[:5]
    ours, others = singles(name, pred, target, **keywords), other(pred, target)
    assert_close(ours, others, dtype, terms=np.exp(pred) + target if name == "tweedie" else 0)


@every_dtype
def test_smooth_l1_is_huber_divided_by_beta(dtype):
    pred, target = sample("huber", dtype)
    ours = singles("smooth_l1", pred, target, beta=0.375)
    others = singles("huber", pred, target, delta=0.375)
    assert_close(ours, [part / pred.dtype.type(0.375) for part in others], dtype)


def test_smooth_l1_of_a_beta_without_an_inverse():
    tiny = np.finfo("f8").smallest_subnormal
    with pytest.raises(ValueError, match="smooth_l1: beta is 4e-323; expected a number >= 0, also"):
        fl.smooth_l1(np.zeros(2), np.zeros(2), beta=float(8 * tiny))
    slopes = [fl.jit.smooth_l1(x * tiny, 0.0, beta=8 * tiny)[1] for x in (0, 3, -5, 8)]
    assert slopes == [0, 3 / 8, -5 / 8, 1]


@every_dtype
def test_tweedie_of_zero_counts_at_any_prediction(dtype):
    pred, limits = np.array([-2000, -180, -100, 0, 2], dtype), np.finfo(dtype)
    # (2 - power) pred is as exact as 2 - power, and its error that of the exponential.
    allowed = {"rtol": 2000 * limits.eps, "atol": limits.smallest_normal}
    for power in (1, 1.5, 1.9):
        loss, slope, _ = singles("tweedie", pred, np.zeros_like(pred), power=power)
        growth = np.exp((2 - power) * pred.astype("f8"))
        np.testing.assert_allclose(loss, growth / (2 - power), **allowed)
        np.testing.assert_allclose(slope, growth, **allowed)
    poisson = fl.tweedie.value_and_grad(np.array([-np.inf], dtype), np.ones(1, dtype), power=1)
    assert (poisson[0], poisson[1][0]) == (np.inf, -1)
    for power in (1, 1.5, 2):
        nan, zero = np.array([np.nan], dtype), np.zeros(1, dtype)
        assert np.isnan(singles("tweedie", nan, zero, power=power)[:2]).all()


@every_dtype
def test_tweedie_of_power_0_is_the_squared_error_of_the_exponential(dtype):
    pred, target = sample("tweedie", dtype)
    losses, gradient, _ = singles("tweedie", pred, target, power=0)
    mean, true = np.exp(pred.astype(float)), target.astype(float)
    eps = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(
        losses - ((mean - true) ** 2 / 2 - true**2 / 2), 0, atol=eps * (mean**2 + mean * true).max()
    )
    assert np.all(abs(gradient - (mean - true) * mean) <= eps * (mean**2 + mean * true))


@every_dtype
def test_the_squared_error_scales_with_the_square(dtype):
    pred, target = sample("mse", dtype)
    value = fl.mse(4 * pred, 4 * target)
    assert value == pytest.approx(16 * fl.mse(pred, target), rel=1e-12)


OPTIMA = {
    **dict.fromkeys(("poisson_nll", "gamma_nll", "tweedie"), np.log),
    **dict.fromkeys(TRUTHS.keys() - {"poisson_nll", "gamma_nll", "tweedie"}, lambda t: t),
}


@every_dtype
@pytest.mark.parametrize("name", TRUTHS)
def test_the_gradient_is_zero_at_the_optimum(name, dtype):
    """Exactly where that is the target itself, else to the rounding of its logarithm."""
    target = np.array([0.25, 1, 2, 7.5, 100], dtype)
    for options in OPTIONS.get(name, [{}]):
        optimum = OPTIMA[name] if options.get("log_input", True) else np.positive
        pred = optimum(target).astype(dtype)
        _, gradient, hessian = singles(name, pred, target, **options)
        near = 8 * np.finfo(dtype).eps * (1 + abs(pred)) * (1 + abs(hessian))
        exact = OPTIMA[name](target) is target
        assert np.all(abs(gradient) <= (0 if exact else near + options.get("eps", 0) / target))


@every_dtype
@pytest.mark.parametrize("name", TRUTHS)
def test_nan_in_is_nan_out(name, dtype):
    """Whatever the other argument is, and in the gradient too."""
    pred = np.array([np.nan, np.nan, 1, np.nan, 2], dtype)
    target = np.array([1, 0, np.nan, np.nan, 3], dtype)
    for options in OPTIONS.get(name, [{}]):
        losses, gradient, _ = singles(name, pred, target, **options)
        spoilt = np.isnan(pred) | np.isnan(target)
        np.testing.assert_array_equal(np.isnan(losses), spoilt)
        np.testing.assert_array_equal(np.isnan(gradient), spoilt)


LINEAR = {
    "mae": ({}, 1, 1),
    "huber": ({"delta": 0.5}, 0.5, 0.5),
    "smooth_l1": ({"beta": 0.5}, 1, 1),
    "log_cosh": ({}, 1, 1),
    "pseudo_huber": ({"delta": 0.5}, 0.5, 0.5),
    "pinball": ({"quantile": 0.75}, 0.25, 0.75),
}
"""Options, and the slopes far above and far below the target."""


@every_dtype
@pytest.mark.parametrize("name", LINEAR)
def test_linear_losses_do_not_overflow(name, dtype):
    """Nor do infinities give NaN."""
    options, above, below = LINEAR[name]
    huge = float(np.finfo(dtype).max)
    pred = np.array([huge / 4, -huge / 4, np.inf, -np.inf], dtype)
    losses, gradient, hessian = singles(name, pred, np.zeros(4, dtype), **options)
    slopes = np.array([above, -below, above, -below], dtype)
    np.testing.assert_allclose(gradient, slopes, rtol=2 * np.finfo(dtype).eps)
    np.testing.assert_allclose(losses, slopes * pred, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(hessian, 0, atol=1e-30)


def test_kinks():
    """The side that the derivatives take where they are not defined."""
    pred, target = np.array([2.0, 4.0, 0.0]), np.array([2.0, 2.0, 2.0])
    cases = {
        "mae": ({}, [0, 1, -1], [0, 0, 0]),
        "huber": ({"delta": 2}, [0, 2, -2], [1, 1, 1]),
        "smooth_l1": ({"beta": 2}, [0, 1, -1], [0.5, 0, 0]),
        "pinball": ({"quantile": 0.25}, [0, 0.75, -0.25], [0, 0, 0]),
        "expectile": ({"tau": 0.25}, [0, 3, -1], [0.5, 1.5, 0.5]),
        "mape": ({}, [0, 0.5, -0.5], [0, 0, 0]),
    }
    for name, (options, *expected) in cases.items():
        _, gradient, hessian = singles(name, pred, target, **options)
        np.testing.assert_array_equal([gradient, hessian], expected, name)


@every_dtype
def test_msle_hessian(dtype):
    """To the rounding of the larger of its two terms, 1 and the logarithm."""
    pred, target = nonnegative(dtype)
    wide = pred.astype(np.longdouble), target.astype(np.longdouble)
    logarithm = np.log1p(wide[0]) - np.log1p(wide[1])
    scale = 2 / (1 + wide[0]) ** 2
    hessian = singles("msle", pred, target)[2]
    bound = 4 * np.finfo(dtype).eps * (1 + abs(logarithm)) * scale
    assert np.all(abs(hessian - (1 - logarithm) * scale) <= bound)


def test_poisson_of_target_0_costs_the_rate_alone():
    pred, target = np.array([-np.inf, -1.0, 2.0]), np.zeros(3)
    losses, gradient, hessian = singles("poisson_nll", pred, target)
    for part in (losses, gradient, hessian):
        np.testing.assert_allclose(part, np.exp(pred), rtol=1e-15)
    pred = np.array([0.0, 1.0, 2.0])
    losses, gradient, hessian = singles("poisson_nll", pred, target, log_input=False, eps=0)
    np.testing.assert_array_equal(losses, pred)
    np.testing.assert_array_equal(gradient, np.ones(3))
    np.testing.assert_array_equal(hessian, np.zeros(3))


@every_dtype
def test_msle_at_and_below_minus_one(dtype):
    pred = np.array([-1, -1.5, 1, 1, -3], dtype)
    target = np.array([1, 1, -1, -1.5, -2], dtype)
    losses, gradient, _ = singles("msle", pred, target)
    np.testing.assert_array_equal(losses, [np.inf, np.nan, np.inf, np.nan, np.nan])
    np.testing.assert_array_equal(gradient, [-np.inf, np.nan, np.inf, np.nan, np.nan])


def test_several_quantiles_share_a_target(rng):
    quantiles = np.array([0.1, 0.5, 0.9])
    pred, target = rng.standard_normal((6, 3)), rng.standard_normal(6)
    for order in "CF":
        value, grad = fl.pinball.value_and_grad(
            np.asarray(pred, order=order), target, quantile=quantiles, reduction="none"
        )
        for k, quantile in enumerate(quantiles):
            one, slope = fl.pinball.value_and_grad(
                pred[:, k].copy(), target, quantile=quantile, reduction="none"
            )
            np.testing.assert_array_equal(value[:, k], one)
            np.testing.assert_array_equal(grad[:, k], slope)
    reference = fl.pinball.reference(pred, target, quantile=quantiles)[0]
    np.testing.assert_allclose(fl.pinball(pred, target, quantile=quantiles), reference, rtol=1e-14)
    with pytest.raises(ValueError, match=r"pinball: target .*nothing broadcasts"):
        fl.pinball(pred, target)  # one quantile, so one target per prediction
    with pytest.raises(ValueError, match=r"pinball: target .* without its last axis"):
        fl.pinball(pred, target[:5], quantile=quantiles)


def test_gaussian_nll_of_residuals_as_large_as_the_variance():
    residual, log_var = np.float32([1e5, 1e30]), np.float32([88, 100])
    losses, (by_mean, by_log) = fl.gaussian_nll.value_and_grad(
        residual, np.zeros(2, "f4"), log_var=log_var, reduction="none"
    )
    r, s = residual.astype("f8"), log_var.astype("f8")
    square = r * r * np.exp(-s)
    np.testing.assert_allclose(losses, (s + square) / 2, rtol=5e-7)
    np.testing.assert_allclose(by_mean, r * np.exp(-s), rtol=5e-7)
    np.testing.assert_allclose(by_log, (1 - square) / 2, rtol=5e-7)


OUT_OF_TYPE = [
    (fl.huber, {"delta": 1e-46}),
    (fl.huber, {"delta": 1e40}),
    (fl.pinball, {"quantile": 1 - 1e-9}),
    (fl.softmax_cross_entropy, {"temperature": 1e-46}),
    (fl.softmax_cross_entropy, {"temperature": 2e-39}),
    (fl.softmax_kl, {"temperature": 1e-39}),
    (fl.generalized_cross_entropy, {"q": 1e-46}),
    (fl.entropy, {"base": 1 + 1e-9}),
]


@pytest.mark.parametrize(("loss", "option"), OUT_OF_TYPE)
def test_options_are_in_their_domain_as_float32_too(loss, option, rng):
    (name,) = option
    with pytest.raises(ValueError, match=f"{loss.name}: {name} is .* when rounded to float32"):
        loss(*loss.sample(rng, "float32", (4, 3)), **option)
