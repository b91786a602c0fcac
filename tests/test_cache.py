"""The disk cache: a second process hits it, an edit misses it, and it may be missing altogether."""

import gc
import json
import shutil
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

import fastloss
from fastloss._machine_code import _collecting_later

SCRIPT = textwrap.dedent(
    """
    import json, sys
    import fastloss as fl
    assert "numba" not in sys.modules, "importing fastloss imported numba"
    import numpy as np
    from fastloss import _engine
    pred = np.array([1.0, 2.0, 4.0], "f4")
    value, grad = fl.mse.value_and_grad(pred, np.zeros(3, "f4"), reduction="sum")
    stats = _engine.elementwise_kernel(fl.mse._scalar, True, False).stats
    report = {
        "package": fl.__file__,
        "value": value,
        "grad": grad.tolist(),
        "hits": sum(stats.cache_hits.values()),
        "misses": sum(stats.cache_misses.values()),
        "on disk": stats.cache_path is not None,
    }
    print(json.dumps(report))
    """
)


@pytest.fixture
def copy(tmp_path):
    """Return a copy of the package that may be edited."""
    package = tmp_path / "site" / "fastloss"
    original = Path(fastloss.__file__).parent
    shutil.copytree(original, package, ignore=shutil.ignore_patterns("__pycache__"))
    return package


@pytest.fixture
def run(copy, child_environment, tmp_path):
    """Return a function that runs the script on the copy in a new process."""
    caches = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(copy.parent)}

    def run(**environment):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", SCRIPT],
            env={**child_environment, **caches, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert Path(report.pop("package")).parent == copy
        return report

    return run


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} in {path}"
    path.write_text(text.replace(old, new))


def test_second_process_hits_and_an_edit_misses(run, copy, tmp_path):
    squares = {"value": 21.0, "grad": [2.0, 4.0, 8.0], "on disk": True}
    assert run() == {**squares, "hits": 0, "misses": 1}
    written = files(tmp_path / "cache")
    assert {".nbi", ".nbc"} <= {path.suffix for path in written}
    assert run() == {**squares, "hits": 1, "misses": 0}
    assert files(tmp_path / "cache") == written, "a hit wrote to the cache"

    loss = copy / "losses" / "mse.py"
    formula = "residual * residual, T(2) * residual, T(2)"
    edit(loss, formula, "T(3) * residual, T(3), T(0)")
    assert run() == {**squares, "grad": [3.0, 3.0, 3.0], "hits": 0, "misses": 1}
    edit(loss, "T(3) * residual, T(3), T(0)", formula)

    # A change of what every kernel is made of, in another file than the driver's.
    (copy / "_math.py").write_text((copy / "_math.py").read_text() + "# edited\n")
    assert run() == {**squares, "hits": 0, "misses": 1}


@pytest.mark.parametrize("collects", [True, False])
def test_the_garbage_collector_is_left_as_it_was(collects):
    """Compiling, which it would hold up, switches it off meanwhile, errors or not."""
    before = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        with suppress(ZeroDivisionError), _collecting_later():
            assert not gc.isenabled()
            raise ZeroDivisionError
        assert gc.isenabled() is collects
    finally:
        (gc.enable if before else gc.disable)()


def test_no_place_for_a_cache(run, copy):
    """Compiles in memory where no directory can be made, not even by root: files stand there."""
    for folder in {path.parent for path in copy.rglob("*.py")}:
        (folder / "__pycache__").write_text("not a directory")
    nowhere = "/dev/null/nowhere"
    places = {"NUMBA_CACHE_DIR": nowhere, "HOME": nowhere, "XDG_CACHE_HOME": nowhere}
    report = run(**places)
    assert not report["on disk"]
    assert (report["value"], report["grad"]) == (21.0, [2.0, 4.0, 8.0])


LATE_EDIT = textwrap.dedent(
    """
    import pathlib, sys
    import numpy as np
    import fastloss as fl
    loss = fl.mse
    path = pathlib.Path(fl.__file__).parent / "losses" / "mse.py"
    if sys.argv[1:] == ["edit"]:
        text = path.read_text()
        path.write_text(text.replace("residual * residual,", "T(10) * residual * residual,"))
    print(loss(np.full(3, 2.0), np.zeros(3), reduction="sum"))
    """
)


def test_what_was_imported_before_an_edit_is_not_cached_as_the_edit(
    copy, child_environment, tmp_path
):
    """A long-lived process keeps its code; the processes after the edit get the new one."""

    def run(*arguments):
        caches = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(copy.parent)}
        return subprocess.run(
            [sys.executable, "-c", LATE_EDIT, *arguments],
            env={**child_environment, **caches},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout.strip()

    assert run("edit") == "12.0"
    assert run() == "120.0"


BITS = textwrap.dedent(
    """
    import sys
    import numpy as np
    import fastloss as fl
    name, dtype, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    loss, rng = getattr(fl, name), np.random.default_rng(3)
    for shape in ((3000, 10), (200, 129)):
        arrays = loss.sample(rng, dtype, shape)
        weight = rng.uniform(0.5, 2, shape if loss.family == "elementwise" else shape[0])
        keywords = {"sample_weight": weight.astype(dtype), "num_threads": threads}
        print(loss(*arrays, num_threads=threads).hex())
        value, grad = loss.value_and_grad(*arrays, **keywords)
        print(value.hex(), grad.tobytes().hex())
        loss.grad(*arrays, grad_out=grad, accumulate=True, **keywords)
        print(grad.tobytes().hex())
    """
)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param("exponential", "float32", marks=pytest.mark.thorough),
        pytest.param("nll", "float64", marks=pytest.mark.thorough),
        pytest.param("softmax_cross_entropy", "float32", marks=pytest.mark.exhaustive),
        pytest.param("softmax_kl", "float64", marks=pytest.mark.exhaustive),
    ],
)
def test_compiled_and_loaded_kernels_give_the_same_bits(name, dtype, child_environment, tmp_path):
    """The first process compiles the serial kernels, the second the parallel ones."""

    def bits(threads):
        return subprocess.run(
            [sys.executable, "-c", BITS, name, dtype, str(threads)],
            env={**child_environment, "NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
        ).stdout

    serial, parallel = bits(1), bits(2)
    assert parallel == serial, "serial kernels in the cache, parallel ones compiled"
    assert bits(1) == serial, "serial kernels compiled and loaded"
    assert bits(2) == serial, "parallel kernels loaded"
