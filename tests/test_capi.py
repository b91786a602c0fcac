"""The losses as C functions: called from compiled C, by ctypes, cffi and SciPy."""

import ctypes
import math
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from test_jit import FUNCTIONS, assert_close, drawn, each_function, in_tuple, options_for

import fastloss as fl
from fastloss.cli import main

COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")

PROGRAM = """
#include <stddef.h>
#include "fastloss.h"

int64_t size_of_api(void) { return (int64_t)sizeof(struct fastloss_api); }

/* Fit a line to n points by gradient descent on the mean Huber loss; return the last loss. */
double train(const struct fastloss_api *api, const double *x, const double *target, int64_t n,
             double delta, double rate, int steps, double *line)
{
    double loss = 0.0;
    for (int step = 0; step < steps; step++) {
        double by_slope = 0.0, by_offset = 0.0;
        loss = 0.0;
        for (int64_t i = 0; i < n; i++) {
            double slope;
            loss += api->huber_f64(line[0] * x[i] + line[1], target[i], delta, &slope, NULL);
            by_slope += slope * x[i];
            by_offset += slope;
        }
        line[0] -= rate * by_slope / n;
        line[1] -= rate * by_offset / n;
    }
    return loss / n;
}

/* Sum the losses of rows and fill their gradients. */
float rows(const struct fastloss_api *api, const float *x, const int64_t *labels, int64_t n,
           int64_t size, float *grad)
{
    float total = 0.0f;
    for (int64_t i = 0; i < n; i++)
        total += api->multi_margin_f32(x + i * size, labels[i], size, 1.0f, 2.0f, grad + i * size);
    return total;
}
"""


def pointer(array):
    """Return where an array's data are, or NULL."""
    if array is None:
        return None
    return array.ctypes.data_as(ctypes.POINTER(np.ctypeslib.as_ctypes_type(array.dtype)))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The program above as a shared library."""
    folder = tmp_path_factory.mktemp("c")
    (folder / "fastloss.h").write_text(fl.capi.header())
    (folder / "program.c").write_text(PROGRAM)
    flags = ["-std=c99", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    flags += ["-shared", "-fPIC", "-o", "program.so"]
    subprocess.run([COMPILER, *flags, "program.c"], cwd=folder, check=True, timeout=60)
    found = ctypes.CDLL(str(folder / "program.so"))
    found.size_of_api.restype = ctypes.c_int64
    found.train.restype, found.rows.restype = ctypes.c_double, ctypes.c_float
    return found


def trained(library, x, target):
    line = np.zeros(2)
    loss = library.train(
        ctypes.c_void_p(fl.capi.table("huber")), pointer(x), pointer(target),
        ctypes.c_int64(x.size), ctypes.c_double(0.3), ctypes.c_double(0.5), 200, pointer(line),
    )  # fmt: skip
    return loss, *line.tolist()


@needs_compiler
def test_a_c_program_trains(library, rng):
    x = rng.uniform(-1, 1, 50)
    target = 2 * x - 1 + 0.1 * rng.standard_cauchy(50)
    line = np.zeros(2)
    for _ in range(200):
        loss, slopes = fl.huber.value_and_grad(line[0] * x + line[1], target, delta=0.3)
        line -= 0.5 * np.array([slopes @ x, slopes.sum()])
    result = trained(library, x, target)
    np.testing.assert_allclose(result, (loss, *line), rtol=1e-12)
    np.testing.assert_allclose(result[1:], (2, -1), atol=0.1)
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda _: trained(library, x, target), range(8))) == {result}


@needs_compiler
def test_the_struct_is_the_one_of_the_header(library):
    address = fl.capi.table("huber")
    assert ctypes.c_int64.from_address(address).value == library.size_of_api()
    members = [function.member for loss in FUNCTIONS for function in fl.capi.of(loss)]
    declared = re.findall(r"^    fastloss_(\w+)_t (\w+);$", fl.capi.header(), re.MULTILINE)
    assert [name for _, name in declared] == members
    assert all(kind == name for kind, name in declared)
    place = 8 + members.index("huber_f64") * ctypes.sizeof(ctypes.c_void_p)
    found = ctypes.c_void_p.from_address(address + place).value
    assert found == fl.capi.huber.float64.address
    place = 8 + members.index("arcface_f64") * ctypes.sizeof(ctypes.c_void_p)
    assert ctypes.c_void_p.from_address(address + place).value is None


@needs_compiler
@pytest.mark.thorough
def test_rows_in_c(library, rng):
    scores, labels = fl.multi_margin.sample(rng, np.float32, (20, 30))
    grad = np.empty_like(scores)
    total = library.rows(
        ctypes.c_void_p(fl.capi.table("multi_margin")), pointer(scores), pointer(labels),
        ctypes.c_int64(20), ctypes.c_int64(30), pointer(grad),
    )  # fmt: skip
    losses, grads = fl.multi_margin.value_and_grad(scores, labels, p=2, reduction="none")
    assert total == pytest.approx(float(losses.sum()), rel=1e-5)
    assert_close(grad, grads, "multi_margin")


@needs_compiler
@pytest.mark.parametrize("language", ["c", "c++"])
def test_the_header_compiles(language, tmp_path):
    compiler = COMPILER if language == "c" else shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    (tmp_path / "fastloss.h").write_text(fl.capi.header() * 2, encoding="ascii")
    flags = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-x", language]
    subprocess.run([compiler, *flags, str(tmp_path / "fastloss.h")], check=True, timeout=60)


def test_the_command_prints_the_header(capsys):
    assert main(["header"]) == 0
    assert capsys.readouterr().out == fl.capi.header()


def test_cffi_calls_the_functions():
    cffi = pytest.importorskip("cffi")
    ffi = cffi.FFI()
    declarations = re.sub(r'^#.*$|^extern "C" {$|^}$', "", fl.capi.header(), flags=re.MULTILINE)
    ffi.cdef(declarations)
    api = ffi.cast("struct fastloss_api *", fl.capi.table("huber", "nll"))
    assert api.size == ffi.sizeof("struct fastloss_api")
    slope = ffi.new("double *")
    assert api.huber_f64(3.0, 1.0, 0.5, slope, ffi.NULL) == 0.875
    assert slope[0] == 0.5
    row, grad = ffi.new("float[]", [-1.0, -2.0, -4.0]), ffi.new("float[3]")
    assert api.nll_f32(row, 1, 3, grad) == 2.0
    assert list(grad) == [0.0, -1.0, 0.0]
    assert api.nll_f32(row, 2, 3, ffi.NULL) == 4.0
    assert api.mape_f32 == ffi.NULL


def test_labels_outside_and_empty_rows_give_nan():
    nll, row, grad = fl.capi.nll.float64.ctypes, np.zeros(3), np.zeros(3)
    for label in (-1, 3, 2**62, -(2**63)):
        assert math.isnan(nll(pointer(row), label, 3, pointer(grad)))
        assert np.isnan(grad).all()
        assert math.isnan(nll(pointer(row), label, 3, None))
    assert math.isnan(nll(pointer(row), 0, 0, None))
    assert math.isnan(nll(pointer(row), 0, -1, None))


def test_names_signatures_and_addresses():
    huber = fl.capi.huber
    assert huber is fl.capi.of(fl.huber)
    assert [function.name for function in huber] == ["fastloss_huber_f32", "fastloss_huber_f64"]
    assert huber.float32.typedef == (
        "typedef float (*fastloss_huber_f32_t)"
        "(float pred, float target, float delta, float *slope, float *curvature);"
    )
    assert huber.float64.address == huber.float64.address != 0
    assert "poisson_nll_f64(double pred, double target, int log_input, int full, double eps, " in (
        fl.capi.poisson_nll.float64.signature
    )
    assert fl.capi.sparsemax.dense.float32.name == "fastloss_sparsemax_dense_f32"
    assert fl.capi.gaussian_nll.log_var.float64.signature.startswith(
        "double fastloss_gaussian_nll_log_var_f64(double mean, double target, double log_var, int"
    )
    assert {loss.name for loss in FUNCTIONS} == {*dir(fl.capi)} - {"header", "of", "table"}
    assert not hasattr(fl.capi, "info_nce")
    with pytest.raises(ValueError, match="info_nce: every row meets all others; expected a loss"):
        fl.capi.of(fl.info_nce)
    with pytest.raises(TypeError, match=r"capi\.of: loss is 3; expected a loss such as"):
        fl.capi.of(3)
    with pytest.raises(ValueError, match=r"table: there is no 'hubert'; expected names among arc"):
        fl.capi.table("huber", "hubert")


def test_a_users_own_loss_is_a_c_function(tmp_path):
    @fl.elementwise
    def lopsided(pred, target, under=3.0):
        return (under if pred < target else 1.0) * (pred - target) ** 2

    slope, curvature = ctypes.c_double(), ctypes.c_double()
    function = fl.capi.of(lopsided).float64
    assert function.ctypes(1.0, 3.0, 4.0, slope, curvature) == 16.0
    assert (slope.value, curvature.value) == (-16.0, 8.0)


def test_names_that_c_could_not_take():
    """Of a lambda, of options that are words of C, and of those that are called like results."""

    def square(pred, target, double=2.0, double_=1.0, slope=1.0):
        return double * double_ * slope * (pred - target) ** 2

    names = {"square": square, "_lambda_": lambda p, t: 2.0 * (p - t) ** 2}
    for name, function in names.items():
        wanted = fl.elementwise(function)
        mine = fl.capi.of(wanted).float64
        assert mine.name == f"fastloss_{name}_f64"
        options = [option.default for option in wanted.options.values()]
        assert mine.ctypes(3.0, 1.0, *options, None, None) == 8.0
    assert fl.capi.of(fl.elementwise(square)).float64.signature.endswith(
        "double target, double double_, double double__, double slope, double *slope_, "
        "double *curvature)"
    )


def test_scipy_integrates():
    integrate = pytest.importorskip("scipy.integrate")
    for arguments in ((1.0, 0.5), (1.0,)):
        value, _ = integrate.quad(fl.capi.huber.scipy(), 0, 3, args=arguments)
        points = np.linspace(0, 3, 30_001)
        mean = fl.huber(points, np.ones_like(points), delta=(*arguments, 1.0)[1])
        assert value == pytest.approx(3 * mean, rel=1e-4)
    with pytest.raises(TypeError, match="nll: it is a function of rows; expected an elementwise"):
        fl.capi.nll.scipy()


@pytest.mark.thorough
def test_scipy_functions_have_the_options():
    pytest.importorskip("scipy")
    poisson = fl.capi.poisson_nll._scipy_function.ctypes
    numbers = np.array([0.5, 2.0, 0.0, 1.0, 1e-3])
    expected = fl.poisson_nll([0.5], [2.0], log_input=False, full=True, eps=1e-3)
    assert poisson(5, pointer(numbers)) == expected
    assert poisson(2, pointer(numbers)) == fl.poisson_nll([0.5], [2.0])
    log_var = fl.capi.gaussian_nll.log_var._scipy_function.ctypes
    expected = fl.gaussian_nll([0.5], [2.0], log_var=np.array([0.0]))
    assert log_var(3, pointer(numbers)) == pytest.approx(expected, rel=1e-15)


CACHED = """
import fastloss as fl
function = fl.capi.huber.float64
print(function.ctypes(3.0, 1.0, 0.5, None, None), function._compiled.cache_hits)
"""


@pytest.mark.thorough
def test_a_second_process_loads_the_functions(tmp_path, child_environment):
    environment = {**child_environment, "NUMBA_CACHE_DIR": str(tmp_path)}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", CACHED], env=environment, timeout=300, capture_output=True,
            text=True, check=True,
        ).stdout.split()
        for _ in range(2)
    ]  # fmt: skip
    assert outputs == [["0.875", "0"], ["0.875", "1"]]


@each_function()
def test_every_function_is_the_loss(loss, dtype, off):
    options, (arrays, named) = options_for(loss, off), drawn(loss, dtype)
    losses, grads = loss.value_and_grad(*arrays, reduction="none", **named, **options)
    grads = in_tuple(grads)
    function = getattr(fl.capi.of(loss), dtype).ctypes
    numbers = [
        _as_c(option, options.get(name, option.default))
        for name, option in loss.options.items()
        if name != "ignore_value"
    ]
    values, outs = np.empty_like(losses), tuple(map(np.empty_like, grads))
    if loss.family == "elementwise":
        number = np.ctypeslib.as_ctypes_type(np.dtype(dtype))
        derivatives = [number() for _ in range(2 * len(grads))]
        for place in np.ndindex(losses.shape):
            points = [array[place] for array in (*arrays, *named.values())]
            values[place] = function(*points, *numbers, *derivatives)
            assert function(*points, *numbers, *[None] * len(derivatives)) == values[place]
            for out, derivative in zip(outs, derivatives[::2], strict=True):
                out[place] = derivative.value
    else:
        for row in range(len(losses)):
            rows = [pointer(x[row]) if x.ndim > 1 else int(x[row]) for x in arrays]
            rows.append(arrays[0].shape[1])
            values[row] = function(*rows, *numbers, *(pointer(out[row]) for out in outs))
            alone = function(*rows, *numbers, *[None] * len(outs))
            assert_close(alone, values[row], f"{loss.name}: without gradient")
    for one, other in zip((values, *outs), (losses, *grads), strict=True):
        assert_close(one, other, f"{loss.name} {dtype} {options}")


def _as_c(option, value):
    """Return the value of an option as C has it."""
    words = getattr(option, "words", None)
    if words:
        return words.index(value)
    return math.nan if value is None else value
