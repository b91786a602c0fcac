"""The README's own recipe for a new loss, followed to the letter."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def huber(tmp_path_factory):
    source = re.search(r"```py\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[1]
    path = tmp_path_factory.mktemp("losses") / "huber.py"
    path.write_text(source, encoding="utf-8")
    specification = importlib.util.spec_from_file_location("huber", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.huber


def test_one_file_gives_value_gradient_hessian_and_weights(huber):
    rng = np.random.default_rng(0)
    pred, target = huber.sample(rng, np.float32, (50, 3))
    weight = rng.random(50).astype(np.float32)
    loss, grad, hess = huber.value_grad_hess(pred, target, delta=0.5, sample_weight=weight)
    wide = pred.astype(np.longdouble), target.astype(np.longdouble)
    true_loss, true_grad = huber.reference(*wide, delta=0.5, sample_weight=weight)
    assert loss == pytest.approx(float(true_loss), rel=1e-6)
    np.testing.assert_allclose(grad, true_grad.astype(np.float32), rtol=1e-6)
    inside = abs(pred - target) <= 0.5
    assert np.array_equal(hess != 0, inside)


def test_one_file_gives_domain_checks(huber):
    with pytest.raises(ValueError, match=r"huber: delta is 0; expected a number > 0"):
        huber(np.ones(2), np.ones(2), delta=0)
    assert "delta=1.0" in repr(huber)
