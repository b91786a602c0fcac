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


def test_one_file_passes_the_check_of_derivatives(huber):
    assert huber.check().slopes > 0


def test_one_file_gives_domain_checks(huber):
    with pytest.raises(ValueError, match=r"huber: delta is 0; expected a number > 0"):
        huber(np.ones(2), np.ones(2), delta=0)
    assert "delta=1.0" in repr(huber)


SCALED = '''
import numpy as np
from fastloss._families import softmax
from fastloss._math import log1p
from fastloss._options import positive


@softmax(options={"scale": positive(1.0)}, ulp_bound=6, nanoseconds=1, peers={})
def scaled_cross_entropy(rest, own, gap, mass, scale):
    """Cross-entropy times a number."""
    T = type(rest)
    log_sum = log1p(rest if own == T(1) else (rest - T(1)) + own)
    return scale * (gap + mass * log_sum), scale, T(0)


@scaled_cross_entropy.textbook
def _(logits, mass, scale):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p = powers / powers.sum(axis=-1, keepdims=True)
    return -scale * (mass * np.log(p)).sum(axis=-1), scale * (p - mass)
'''


def imported(path, source):
    path.write_text(source, encoding="utf-8")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("scale", [{}, {"scale": 3.0}])
def test_a_softmax_loss_may_have_options_of_its_own(tmp_path, scale):
    loss = imported(tmp_path / "scaled.py", SCALED).scaled_cross_entropy
    logits, labels = loss.sample(np.random.default_rng(1), np.float64, (20, 40))
    value, grad = loss.value_and_grad(logits, labels, **scale)
    true_value, true_grad = loss.reference(logits, labels, **scale)
    assert value == pytest.approx(true_value, rel=1e-12)
    np.testing.assert_allclose(grad, true_grad, rtol=1e-10, atol=1e-16)


def test_only_the_first_option_may_be_per_class():
    from fastloss._families import elementwise
    from fastloss._options import positive, positive_weight

    options = {"delta": positive(1.0), "weight": positive_weight()}
    with pytest.raises(TypeError, match="only the first option can be per class"):

        @elementwise(options=options, ulp_bound=1, nanoseconds=1, peers={})
        def refused(pred, target, delta, weight):
            """Never made."""
