"""The contract of fastloss._math: error in ulp over the range, special values, vector code."""

import functools
import platform
import re

import mpmath
import numpy as np
import pytest
from llvmlite import binding
from numba import njit, types
from numba.core import config
from numba.core.registry import cpu_target

from fastloss import _floats, _math

NAMES = sorted(_math.MAX_ULP)
DTYPES = [np.float32, np.float64]
MATHEMATICS = {"fastmath": {"contract", "nsz"}, "error_model": "numpy"}
DRIVER = {"fastmath": {"contract", "nsz", "arcp", "reassoc"}, "error_model": "numpy"}
EXTENDED = np.finfo(np.longdouble).nmant >= 63  # the 80-bit format of x86; elsewhere mpmath serves

every_function = pytest.mark.parametrize("name", NAMES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)

# The exact functions, for NumPy (in a wider type) and for mpmath alike.
EXACT = {
    "exp": lambda lib, x: lib.exp(x),
    "exp_nonpositive": lambda lib, x: lib.exp(x),
    "expm1": lambda lib, x: lib.expm1(x),
    "log": lambda lib, x: lib.log(x),
    "log1p": lambda lib, x: lib.log1p(x),
    "log1p_unit": lambda lib, x: lib.log1p(x),
    "sigmoid": lambda lib, x: 1 / (1 + lib.exp(-x)),
    "softplus": lambda lib, x: x * (x > 0) + lib.log1p(lib.exp(-abs(x))),
    "tanh": lambda lib, x: lib.tanh(x),
}
DOMAIN = {
    "exp_nonpositive": lambda x: x <= (88.3 if x.dtype == np.float32 else 709.4),
    "log": lambda x: x > 0,
    "log1p": lambda x: x > -1,
    "log1p_unit": lambda x: (x >= 0) & (x <= 1),
}
# These promise their accuracy for subnormal numbers as well.
NEARLY_IDENTITY = {"expm1", "log1p", "log1p_unit", "tanh"}


@functools.cache
def compiled_loop(name, dtype):
    """The compiled loop ``out[i] = function(x[i])``, with the flags of the package's drivers."""
    function = getattr(_math, name)

    @njit(**DRIVER)
    def loop(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    loop(np.zeros(1, dtype), np.zeros(1, dtype))
    return loop


def evaluate(name, x):
    out = np.empty_like(x)
    compiled_loop(name, x.dtype.type)(x, out)
    return out


def integer_type(dtype):
    return np.dtype(dtype).str.replace("f", "i")


@functools.cache
def arguments(dtype):
    """Every binade of both signs, and dense samples where something happens."""
    info, random = np.finfo(dtype), np.random.default_rng(20)
    exponents = np.arange(2 * info.maxexp - 1, dtype=integer_type(dtype))[:, None] << info.nmant
    largest = (1 << info.nmant) - 1
    per_binade = 400 if dtype is np.float32 else 50
    mantissas = random.integers(0, largest, (exponents.size, per_binade), dtype=exponents.dtype)
    mantissas[:, 0], mantissas[:, 1] = 0, largest
    binades = (exponents | mantissas).ravel().view(dtype)

    halves = np.log(2) / 2 * np.concatenate([np.arange(1, 40), [179.0, 2047.0]])
    form = _floats.FORMATS[types.float32 if dtype is np.float32 else types.float64]
    centres = [1e-3, 0.5, 1, 2, *halves, form.saturation, -form.exp_lowest, form.exp_highest]
    centres += [np.sqrt(0.5), np.sqrt(2), np.sqrt(2) - 1]
    steps = np.arange(-100, 101, dtype=exponents.dtype)
    dense = np.array(centres, dtype).view(exponents.dtype)[:, None] + steps
    dense = dense.ravel().view(dtype)
    uniform = [random.uniform(0, end, 40_000).astype(dtype) for end in (1, 4, 30, form.exp_highest)]

    x = np.concatenate([binades, dense, *uniform])
    return np.concatenate([x, -x])


def domain(name, x):
    return x[DOMAIN[name](x)] if name in DOMAIN else x


def exact_values(name, x):
    """Result in a wider type, and where it promises an accuracy."""
    with np.errstate(all="ignore"):
        exact = EXACT[name](np, x.astype(np.float64 if x.dtype == np.float32 else np.longdouble))
        if name == "softplus":
            exact = np.where(np.isposinf(x), np.inf, exact)
        rounded = np.abs(exact.astype(x.dtype))
    normal = rounded >= np.finfo(x.dtype).smallest_normal
    return exact, np.isfinite(rounded) & (normal | (name in NEARLY_IDENTITY))


def ulp(exact, dtype):
    """Spacing of floats at the exact values (numpy.spacing overflows at the largest)."""
    info = np.finfo(dtype)
    exponent = np.maximum(np.frexp(np.abs(exact))[1] - 1, info.minexp)
    return np.ldexp(exact.dtype.type(1), exponent - info.nmant)


def assert_bound(name, x, got, error):
    worst = np.argmax(np.where(np.isnan(error), np.inf, error))
    assert error[worst] <= _math.MAX_ULP[name], (
        f"{name}({x[worst]!r} = {float(x[worst]).hex()}) = {got[worst]!r} errs by "
        f"{error[worst]:.3f} ulp; bound {_math.MAX_ULP[name]}"
    )


@every_dtype
@every_function
def test_error(name, dtype):
    if dtype is np.float64 and not EXTENDED:
        pytest.skip("no extended precision here; test_error_against_mpmath covers float64")
    x = domain(name, arguments(dtype))
    got = evaluate(name, x)
    exact, promised = exact_values(name, x)
    x, got, exact = x[promised], got[promised], exact[promised]
    assert x.size > 20_000
    assert_bound(name, x, got, np.abs(got - exact) / ulp(exact, dtype))


@every_dtype
@every_function
def test_error_against_mpmath(name, dtype):
    x = domain(name, arguments(dtype))
    x = np.random.default_rng(21).choice(x[np.abs(x) < 750], 600)
    got = evaluate(name, x)
    with mpmath.workprec(1300):  # 1 + exp(x) loses nothing down to x = -750
        exact = [EXACT[name](mpmath, mpmath.mpf(float(v))) for v in x]
        rounded = np.array([float(v) for v in exact])
        promised = np.abs(rounded) >= np.finfo(dtype).smallest_normal
        promised &= np.abs(rounded) <= np.finfo(dtype).max
        x, got, unit = x[promised], got[promised], ulp(rounded[promised], dtype)
        error = [
            float(abs(mpmath.mpf(float(g)) - e) / u)
            for g, e, u in zip(got, np.array(exact)[promised], unit, strict=True)
        ]
    assert len(error) > 50
    assert_bound(name, x, got, np.array(error))


@every_dtype
@every_function
def test_outside_of_the_promise(name, dtype):
    """Overflow is inf, and a result below the smallest normal number is between 0 and that."""
    x = domain(name, arguments(dtype))
    got = evaluate(name, x)
    exact, promised = exact_values(name, x)
    with np.errstate(over="ignore"):
        x, got, exact = x[~promised], got[~promised], exact[~promised].astype(dtype)
    small = np.abs(exact) < 1
    assert np.array_equal(got[~small], exact[~small])
    wrong = x[small][(got[small] < 0) | (got[small] > np.finfo(dtype).smallest_normal)]
    assert wrong.size == 0, f"{name}({wrong[:5]!r})"
    if name == "exp":
        assert not got[small].any(), "exp flushes to exactly 0"


@every_dtype
@every_function
def test_nan(name, dtype):
    """Every bit pattern of NaN is NaN, also where integer arithmetic goes through the exponent."""
    info, integer = np.finfo(dtype), np.dtype(integer_type(dtype))
    payloads = np.random.default_rng(22).integers(1, 1 << info.nmant, 1000, dtype=integer)
    payloads[:2] = 1, (1 << info.nmant) - 1
    bits = payloads | np.array(np.inf, dtype).view(integer)
    x = np.concatenate([bits, bits | np.iinfo(integer).min]).view(dtype)
    assert np.isnan(x).all()
    assert np.isnan(evaluate(name, x)).all()


SPECIAL = {
    "exp": {0: 1, np.inf: np.inf, -np.inf: 0},
    "exp_nonpositive": {0: 1, -np.inf: 0},
    "expm1": {0: 0, np.inf: np.inf, -np.inf: -1, -1e4: -1, 1e4: np.inf},
    "log": {0: -np.inf, 1: 0, -1: np.nan, -1e-40: np.nan, np.inf: np.inf, -np.inf: np.nan},
    "log1p": {0: 0, -1: -np.inf, -2: np.nan, np.inf: np.inf, -np.inf: np.nan},
    "log1p_unit": {0: 0},
    "sigmoid": {0: 0.5, np.inf: 1, -np.inf: 0, 1e4: 1, -1e4: 0},
    "softplus": {np.inf: np.inf, -np.inf: 0, 1e4: 1e4, -1e4: 0},
    "tanh": {0: 0, np.inf: 1, -np.inf: -1, 1e4: 1, -1e4: -1},
}


@every_dtype
@every_function
def test_special_values(name, dtype):
    x, expected = (np.array(list(v), dtype) for v in (SPECIAL[name], SPECIAL[name].values()))
    np.testing.assert_array_equal(evaluate(name, x), expected)
    x[x == 0] = -0.0
    np.testing.assert_array_equal(evaluate(name, x), expected)


@every_dtype
def test_thresholds_of_exp(dtype):
    """The last arguments of a normal and of a finite result, and the first ones beyond them."""
    form = _floats.FORMATS[types.float32 if dtype is np.float32 else types.float64]
    info = np.finfo(dtype)
    for x, least, most in [
        (form.exp_lowest, info.smallest_normal, np.inf),
        (np.nextafter(form.exp_lowest, -info.max), 0, 0),
        (form.exp_highest, info.max / 2, info.max),
        (np.nextafter(form.exp_highest, info.max), np.inf, np.inf),
    ]:
        (got,) = evaluate("exp", np.array([x], dtype))
        assert least <= got <= most, (x, got)
    with mpmath.workprec(100):
        exact = [mpmath.log(mpmath.mpf(2) ** info.minexp), mpmath.log(mpmath.mpf(float(info.max)))]
    for x, limit, outward in zip(
        (form.exp_lowest, form.exp_highest), exact, (-info.max, info.max), strict=True
    ):
        assert abs(mpmath.mpf(float(x))) <= abs(limit) < abs(float(np.nextafter(x, outward)))


@every_dtype
@pytest.mark.parametrize("name", ["log1p", "log1p_unit", "tanh"])  # expm1 halves them
def test_tiny_arguments_are_exact(name, dtype):
    info = np.finfo(dtype)
    tiny = np.arange(1, 1000).astype(integer_type(dtype)).view(dtype)
    x = domain(name, np.concatenate([tiny, -tiny, [info.smallest_normal, -info.smallest_normal]]))
    np.testing.assert_array_equal(evaluate(name, x.astype(dtype)), x)


@every_dtype
def test_entropy_drop(dtype, rng):
    """Its bounds, against 50 digits: where terms cancel, and where 1 - a is all that is left."""
    small = 10 ** -np.concatenate([rng.uniform(0, 15, 200), rng.uniform(0, 37, 200)])
    a = [np.linspace(0, 1, 201), rng.random(3000), rng.uniform(0.49, 0.6, 1000), small[:200]]
    a = np.concatenate([*a, 1 - small])
    rest = np.concatenate([1 - a[: -small.size], small]).astype(dtype)
    with mpmath.workdps(50):
        for x, y in zip(a.astype(dtype), rest, strict=True):
            got = _math.entropy_drop(x, y)
            less = mpmath.mpf(float(y)) if x >= 0.5 else 1 - mpmath.mpf(float(x))
            more = 2 - less
            logs = mpmath.log(more), mpmath.log(less) if less else -mpmath.inf
            exact = *logs, more * logs[0] + (less * logs[1] if less else 0)
            for one, true, ulp in zip(got, exact, (1.7, 1.6, 5.5), strict=True):
                if true in (0, -mpmath.inf):
                    assert one == true, (x, y)
                else:
                    error = abs(mpmath.mpf(float(one)) - true)
                    assert error <= ulp * np.spacing(abs(dtype(true))), (x, y)
    assert np.isnan(_math.entropy_drop(dtype(np.nan), dtype(np.nan))).all()


@every_dtype
def test_tanh_is_odd(dtype):
    x = arguments(dtype)
    np.testing.assert_array_equal(evaluate("tanh", -x), -evaluate("tanh", x))


# What NumPy, and a plain loop, cannot show: the code which LLVM has made of it.

LIBRARY_CALL = re.compile(
    r"\$(exp|exp2|expm1|log|log2|log1p|pow|tanh|sinh|cosh|floor|ceil|rint|round|fmod|fma|fmin|fmax"
    r"|fminimum|fmaximum|ldexp|frexp)f?\b"
)


def assert_vector_code(loop, dtype):
    (assembly,), (code,) = loop.inspect_asm().values(), loop.inspect_llvm().values()
    scalar = "float" if dtype is np.float32 else "double"
    assert re.search(rf"(fadd|fmul|llvm\.maximum|llvm\.minimum).*<\d+ x {scalar}>", code)
    assert not LIBRARY_CALL.search(assembly), LIBRARY_CALL.search(assembly).group()
    if dtype is np.float32:  # a scalar result alone becomes a double, for Python
        hidden = re.search(r"= f(add|sub|mul|div|cmp)\b.*\bdouble|x double>", code)
        assert not hidden, f"a float64 step in the float32 code: {hidden.group()}"
    features = config.CPU_FEATURES or binding.get_host_cpu_features().flatten()
    if platform.machine() in ("x86_64", "AMD64") and "+avx" in features:
        wide = rf"v(f?n?m?add|f?n?msub|add|mul|max|min)\w*p{scalar[0].replace('f', 's')}\s.*%[yz]mm"
        assert re.search(wide, assembly), "no vector registers"


@every_dtype
@every_function
def test_vector_code(name, dtype):
    assert_vector_code(compiled_loop(name, dtype), dtype)


@every_dtype
def test_vector_code_of_reductions(dtype):
    maximum, exp = _floats.maximum, _math.exp

    @njit(**DRIVER)
    def largest(x):
        result = x[0]
        for i in range(x.size):
            result = maximum(result, x[i])
        return result

    @njit(**DRIVER)
    def sum_exp(x, shift):
        total = shift - shift
        for i in range(x.size):
            total += exp(x[i] - shift)
        return total

    x = np.random.default_rng(23).normal(size=1000).astype(dtype)
    m = largest(x)
    assert m == x.max()
    np.testing.assert_allclose(
        sum_exp(x, x.dtype.type(m)),
        np.exp(x.astype(np.float64) - m).sum(),
        rtol=100 * np.finfo(dtype).eps,
    )
    assert_vector_code(largest, dtype)
    assert_vector_code(sum_exp, dtype)


@every_function
def test_type_of_result(name):
    context = cpu_target.typing_context
    function = context.resolve_value_type(getattr(_math, name))
    for kind in (types.float32, types.float64):
        assert function.get_call_type(context, (kind,), {}).return_type == kind


def test_plain_python():
    assert _math.exp(0.0) == 1.0
    assert _math.log(np.float32(1)) == 0.0
    assert _math.exp(np.float32(1)) == np.float32(np.e)


@every_function
def test_docstring_states_the_bound(name):
    assert f"Within {_math.MAX_ULP[name]} ulp" in getattr(_math, name).__doc__


@every_dtype
def test_intrinsics(dtype):
    maximum, minimum = _floats.maximum, _floats.minimum
    to_bits, to_float = _floats.float_to_bits, _floats.bits_to_float

    @njit(**MATHEMATICS)
    def intrinsics(a, b):
        return maximum(a, b), minimum(a, b), to_float(to_bits(a)), to_bits(b)

    def expected(a, b):
        return np.maximum(a, b), np.minimum(a, b), a, b.view(integer_type(dtype))

    for a, b in [(1, 2), (2, 1), (np.nan, 1), (1, np.nan), (-np.inf, 3), (-1.5, np.inf)]:
        a, b = dtype(a), dtype(b)
        np.testing.assert_array_equal(intrinsics(a, b), expected(a, b))


@pytest.mark.skipif(not EXTENDED, reason="longdouble is no wider than float64 by 11 bits")
@every_dtype
def test_exp_in_parts(dtype, rng):
    """Both parts together, against the wider type; `fused` gives back what a product lost."""

    @njit(**MATHEMATICS)
    def parts(x, whole, rest, lost):
        for i in range(x.size):
            whole[i], rest[i] = _math.exp_in_parts(x[i])
            square = whole[i] * whole[i]
            lost[i] = _floats.fused(whole[i], whole[i], -square)

    x = rng.uniform(-40, 0, 100_000).astype(dtype)
    whole, rest, lost = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    parts(x, whole, rest, lost)
    exact = np.exp(x.astype(np.longdouble))
    errors = abs(whole.astype(np.longdouble) + rest - exact) / np.spacing(exact.astype(dtype))
    assert errors.max() <= 0.2
    assert abs(rest / np.spacing(whole)).max() <= 0.5
    if dtype == np.float32:  # the square is exact in float64
        exact_loss = whole.astype(float) ** 2 - whole * whole
        np.testing.assert_array_equal(lost, exact_loss.astype(dtype))
