"""What the documentation says is so: its examples run, its signatures are the real ones."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import fastloss as fl

README = Path(__file__).parents[1] / "README.md"
LOSSES = list(fl.losses().values())
SECTIONS = ("Parameters", "Returns", "Raises", "Notes", "Examples")
MODULES = [
    module.name
    for module in pkgutil.walk_packages(fl.__path__, "fastloss.")
    if not module.name.endswith("__main__")  # it runs the command line
]

each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)


def run_examples(text, name):
    """Run the >>> examples of a text, and return how many there are."""
    example = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, name, name, 0)
    report = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.DocTestRunner(optionflags=flags).run(example, out=report.append)
    assert not result.failed, "".join(report)
    return result.attempted


def sections_of(text):
    """Return the sections of a NumPy docstring by their titles, in their order."""
    parts = re.split(r"^(\w+)\n-+\n", text, flags=re.MULTILINE)
    assert len(parts[1::2]) == len(set(parts[1::2]))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def parameters_of(text):
    """Return {name: description of its type} of a Parameters section, in its order."""
    return dict(re.findall(r"^(\w+) : (.+)$", sections_of(text)["Parameters"], re.MULTILINE))


def assert_defaults(documented, signature):
    """Assert that each default of the signature is the one in words: "default X" or "optional"."""
    for name, described in documented.items():
        stated = re.search(r", (?:default (.+)|(optional))$", described)
        default = signature.parameters[name].default
        if default is inspect.Parameter.empty:
            assert stated is None, name
        else:
            assert stated is not None, f"{name}: no default in {described!r}"
            assert (ast.literal_eval(stated[1]) if stated[1] else None) == default, name


@each_loss
def test_examples_of_losses(loss):
    assert run_examples(loss.__doc__, loss.name) > 0


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_modules(name):
    for example in doctest.DocTestFinder().find(importlib.import_module(name)):
        run_examples(example.docstring, example.name)


def test_examples_of_the_readme():
    """Blocks with prompts run as doctests, in one namespace, and the others as scripts."""
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    prompted = [block for block in blocks if ">>>" in block]
    for block in blocks:
        if block not in prompted:
            exec(compile(block, str(README), "exec"), {"__name__": "readme"})
    examples = run_examples("\n".join(prompted), "README.md")
    assert (examples > 0) == (">>>" in text), "examples stand outside of ```python blocks"


@each_loss
def test_sections(loss):
    titles = list(sections_of(loss.__doc__))
    assert [title for title in titles if title in SECTIONS] == list(SECTIONS)


@each_loss
def test_parameters_and_defaults(loss):
    documented, signature = parameters_of(loss.__doc__), inspect.signature(loss)
    assert set(documented) == set(signature.parameters)
    assert_defaults(documented, signature)


@each_loss
@pytest.mark.parametrize("method", ["value_and_grad", "grad", "value_grad_hess"])
def test_parameters_of_methods(loss, method):
    """A method documents what it takes beyond the loss itself."""
    method = getattr(loss, method)
    documented, signature = parameters_of(method.__doc__), inspect.signature(method)
    assert set(documented) == set(signature.parameters) - set(inspect.signature(loss).parameters)
    assert_defaults(documented, signature)


@each_loss
def test_lines_fit(loss):
    methods = (loss.value_and_grad, loss.grad, loss.value_grad_hess, loss.reference)
    for text in (loss.__doc__, *(inspect.getdoc(method) for method in methods)):
        too_long = [line for line in text.splitlines() if len(line) > 100]
        assert not too_long
