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

SHAPES = {
    "softmax_cross_entropy": [(32, 10), (4096, 10), (256, 1000)],
    "sigmoid_cross_entropy": [(320,), (100_000,)],
    "mse": [(320,), (100_000,)],
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
    reference, _ = work.loss.reference(work.pred.astype(np.float64), work.target)
    assert float(value) == pytest.approx(reference, rel=1e-4)
