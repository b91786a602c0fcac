"""``pytest bench``: fastloss and every installed peer, grouped by case, for a quick look.

The numbers of pytest-benchmark are taken one candidate after the other. They serve while working on
a kernel; what the README says is measured by ``fastloss bench``, which lets the candidates take
turns.
"""

import numpy as np
import pytest

from fastloss import _bench, _peers
from fastloss._peers import Missing

# The other libraries' warnings are not ours to turn into errors.
pytestmark = pytest.mark.filterwarnings("default")

ELEMENTS = [(320,), (100_000,)]
ROWS = [(32, 10), (256, 100)]

SHAPES = {
    "arcface": ROWS,
    "binary_cross_entropy": ELEMENTS,
    "categorical_cross_entropy": ROWS,
    "cosface": ROWS,
    "cosine_distance": ROWS,
    "dice": ROWS,
    "entropy": ROWS,
    "expectile": ELEMENTS,
    "exponential": ELEMENTS,
    "gamma_nll": ELEMENTS,
    "gaussian_nll": ELEMENTS,
    "generalized_cross_entropy": ROWS,
    "half_mse": ELEMENTS,
    "hinge": ELEMENTS,
    "huber": ELEMENTS,
    "info_nce": ROWS,
    "jensen_shannon": ROWS,
    "kl_div": ELEMENTS,
    "log_cosh": ELEMENTS,
    "mae": ELEMENTS,
    "mape": ELEMENTS,
    "mse": ELEMENTS,
    "msle": ELEMENTS,
    "multi_margin": ROWS,
    "multiclass_hinge": ROWS,
    "nll": ROWS,
    "perceptron": ELEMENTS,
    "pinball": ELEMENTS,
    "poisson_nll": ELEMENTS,
    "poly_cross_entropy": ROWS,
    "pseudo_huber": ELEMENTS,
    "sigmoid_cross_entropy": ELEMENTS,
    "sigmoid_focal": ELEMENTS,
    "smooth_l1": ELEMENTS,
    "soft_margin": ELEMENTS,
    "softmax_cross_entropy": [(32, 10), (4096, 10), (256, 1000)],
    "softmax_focal": ROWS,
    "softmax_kl": ROWS,
    "sparsemax": ROWS,
    "squared_hinge": ELEMENTS,
    "triplet_margin": ROWS,
    "tversky": ROWS,
    "tweedie": ELEMENTS,
}
"""Every public loss, and the shapes to compare."""

CASES = [
    _bench.Case(loss, dtype, shape)
    for loss, shapes in SHAPES.items()
    for dtype in ("float32", "float64")
    for shape in shapes
]

BUILDERS = {_bench.OURS: _peers.build_fastloss, **_peers.LIBRARIES}


@pytest.mark.parametrize("candidate", BUILDERS)
@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.loss} {case.label}".replace("×", "x")
)
def test_value_and_grad(case, candidate, benchmark):
    benchmark.group = f"{case.loss} {case.label}"
    work = _bench.prepare_work(case, _bench.current_threads())
    try:
        built = BUILDERS[candidate](work)
    except Missing as reason:
        pytest.skip(str(reason))
    if built is None:
        pytest.skip(f"{candidate} has no such loss")
    value, _ = built.result(benchmark(built.call))
    # A comparison with something that computes something else would be worth nothing.
    arrays = (x.astype(np.float64) if x.dtype.kind == "f" else x for x in work.arrays)
    reference, _ = work.loss.reference(*arrays, **work.keywords)
    assert float(value) == pytest.approx(reference, rel=1e-4, abs=1e-7)
