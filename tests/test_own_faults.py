"""A user's faulty function: errors when it is decorated and at the first use, with its line."""

import importlib.util
import math
import re

import numpy as np
import pytest

import fastloss as fl

positive = fl.Option(1.0, "a number > 0", lambda x: x > 0, 2.0)


def no_default(pred, target, delta):
    return delta * pred


def one_argument(pred):
    return pred


def any_number(pred, *targets):
    return pred


def text_option(pred, target, kind="huber"):
    return pred


def unbounded(pred, target, cap=math.inf):
    return pred


def reduced(pred, target, reduction=1.0):
    return reduction * pred


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (reduced, None, "reduced: option 'reduction' is a keyword of losses; expected another"),
        (no_default, None, "no_default: option 'delta' has no default; expected one, such as"),
        (one_argument, None, r"one_argument: its function takes \(pred\); expected \(pred, target"),
        (any_number, None, r"any_number: its function takes \*targets; expected \(pred, target"),
        (text_option, None, "text_option: option 'kind' has the default 'huber'; expected a fini"),
        (unbounded, None, "unbounded: option 'cap' has the default inf; expected a finite number"),
        (no_default, {"gamma": positive}, "no_default: option 'gamma' is no parameter of its fun"),
        (no_default, {"delta": 1.0}, "no_default: option 'delta' is float; expected a fastloss.O"),
        (math.exp, None, "@elementwise was given builtin_function_or_method; expected a Python"),
    ],
)
def test_faults_of_the_signature(function, options, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        fl.elementwise(options=options)(function)


def test_an_option_outside_of_its_own_domain():
    for default, example in ((-1.0, 2.0), (1.0, -2.0)):
        with pytest.raises(ValueError, match=r"Option: \w+ is -\d.0; expected a number > 0"):
            fl.Option(default, "a number > 0", lambda x: x > 0, example)


def two_defaults(pred, target, delta=1.0):
    return delta * pred


def test_two_defaults():
    decorate = fl.elementwise(options={"delta": fl.Option(2.0, "a number")})
    with pytest.raises(TypeError, match=r"two_defaults: .* has two defaults, 1.0 and 2.0"):
        decorate(two_defaults)


def test_unknown_domains():
    with pytest.raises(ValueError, match="<lambda>: pred is 'labels'; expected one of 'real'"):
        fl.rowwise(target=None, pred="labels")(lambda row, grad: 0.0)
    with pytest.raises(ValueError, match="<lambda>: target is 'rows'; expected one of 'real'"):
        fl.elementwise(target="rows")(lambda pred, target: pred)


def helper_of_fault(x):
    return x.size()


FAULTS = {
    "unknown": ("return np.unheard_of(pred)", "module 'numpy' has no attribute 'unheard_of'"),
    "undefined": ("return pred - no_such_name", "NameError: name 'no_such_name' is not defined"),
    "mixed": ("return pred * 'text'", r"there is no mul\(float64, text\)"),
    "nested": ("return helper_of_fault(pred)", "Unknown attribute 'size' of type float64"),
    "underived": ("return np.arccos(pred)", r"no derivative is known of arccos\(float64\); return"),
    "converted": ("return np.float64(pred) ** 2", r"this conversion loses the derivative; write T"),
    "text": ("return 'text'", "returns a string"),
    "nothing": ("pred * 2", "returns None"),
    "sometimes": ("if pred > 0: return pred", "returns None in some cases"),
    "many": ("return pred, pred, pred, pred", r"returns \(a number, a number, a number, a number"),
    "pair": ("return pred, 'slope'", r"returns \(a number, a string\)"),
}


def module_of(path):
    """Import a file under a name that nobody else can import."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_function_are_shown_with_its_line(fault, tmp_path):
    line, message = FAULTS[fault]
    path = tmp_path / "faulty.py"
    path.write_text(
        "import numpy as np\n\n\ndef helper_of_fault(x):\n    return x.size()\n\n\n"
        f"def faulty(pred, target):\n    {line}\n",
        encoding="utf-8",
    )
    loss = fl.elementwise(module_of(path).faulty)
    for _ in range(2):  # the second call says the same
        with pytest.raises(TypeError) as caught:
            loss(np.ones(3), np.ones(3))
        said = str(caught.value)
        assert "\n" not in said
        assert re.search(message, said)
        number = 5 if fault == "nested" else 8 if "returns" in message else 9
        assert f"at {path}, line {number}" in said
        assert said.startswith("faulty: its function ")
        if number == 9:
            assert f"`{line}`" in said
        assert caught.value.__suppress_context__


def test_a_function_that_cannot_be_differentiated_twice():
    @fl.elementwise
    def flat(pred, target):
        return pred * pred, np.float64(pred) * 2

    assert flat.value_and_grad([3.0], [0.0]) == (9.0, [6.0])
    expected = (
        r"flat: it has no second derivative: .*`return pred \* pred, np.float64\(pred\) \* 2`"
    )
    with pytest.raises(NotImplementedError, match=expected):
        flat.value_grad_hess([3.0], [0.0])


def test_faults_of_a_function_of_rows():
    @fl.rowwise
    def faulty(scores, label, grad):
        grad[label] = scores.biggest()
        return 1.0

    with pytest.raises(
        TypeError, match=r"faulty: .*line \d+: `grad\[label\] = scores.biggest\(\)`"
    ):
        faulty(np.ones((2, 3)), [0, 1])

    @fl.rowwise
    def silent(scores, label, grad):
        grad[label] = 1

    with pytest.raises(
        TypeError, match=r"silent: its function returns None, at .*; expected the lo"
    ):
        silent(np.ones((2, 3)), [0, 1])
