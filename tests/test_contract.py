"""What is left of the contract: the public face of a loss, its memory, its pickle."""

import ast
import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ALL, all_losses, every_loss, peak_memory

import fastloss as fl

COMMON = ("sample_weight", "reduction", "normalizer", "num_threads", "loss_out")
GRADIENT = ("grad_out", "upstream", "accumulate")


@all_losses
def test_signature_and_help_name_everything(loss):
    wanted = {*loss.options, *loss.family_keywords, *COMMON}
    if loss.family == "softmax":
        assert {"axis", "class_weight", "ignore_index"} <= wanted
    for call, extra in (
        (loss, ()),
        (loss.value_and_grad, GRADIENT),
        (loss.grad, GRADIENT),
        (loss.value_grad_hess, (*GRADIENT, "hess_out")),
    ):
        parameters = inspect.signature(call).parameters
        keywords = [p for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
        assert {p.name for p in keywords} == wanted | set(extra)
        for name, option in loss.options.items():
            assert parameters[name].default == option.default
        assert parameters["reduction"].default == "mean"
    text = inspect.getdoc(loss)
    for call in (loss, loss.value_and_grad, loss.grad, loss.value_grad_hess):
        help_text = f"{text}\n{inspect.getdoc(call)}"  # that of a method adds to the loss's own
        documented = {line.split(" :")[0] for line in help_text.splitlines() if " :" in line}
        missing = {*inspect.signature(call).parameters} - documented
        assert not missing, f"help({loss.name}) does not document {sorted(missing)}"
    for section in ("Parameters", "Returns", "Raises", "Notes", "Examples"):
        assert f"{section}\n{'-' * len(section)}" in text, f"help({loss.name}) lacks {section}"


@all_losses
def test_pickle_gives_the_same_object(loss):
    assert getattr(fl, loss.name) is loss
    assert fl.losses()[loss.name] is loss
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(loss, protocol)) is loss


def test_unknown_names_are_attribute_errors():
    assert not hasattr(fl, "no_such_loss")
    assert set(fl.losses()) <= set(dir(fl))


def test_import_does_not_import_numba(child_environment):
    program = "import sys, fastloss; sys.exit('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], env=child_environment, timeout=60)
    assert done.returncode == 0


@every_loss
def test_nothing_is_allocated_that_grows_with_the_batch(loss, rng):
    few, many = 100, 20_000
    peaks = []
    for rows in (few, many):
        pred, target = loss.sample(rng, "float32", (rows, 33))
        buffer = np.empty_like(pred)
        read_only = pred.copy()
        read_only.flags.writeable = False
        for logits in (pred, read_only):
            peaks.append(
                peak_memory(lambda x=logits, t=target, out=buffer: loss.value_and_grad(
                    x, t, grad_out=out, num_threads=1
                ))
            )  # fmt: skip
    growth = max(peaks[2:]) - max(peaks[:2])
    assert growth < (many - few) / 8, f"{loss.name}: a bit for every row, {peaks} bytes"
    # The measurement sees arrays: without the buffer there is one.
    assert peak_memory(lambda: loss.value_and_grad(pred, target, num_threads=1)) >= pred.nbytes


def test_every_loss_has_an_import_line():
    """Type checkers and editors go by these lines of the package."""
    lines = ast.walk(ast.parse(Path(fl.__file__).read_text("utf-8")))
    imported = {
        alias.asname: line.module
        for line in lines if isinstance(line, ast.ImportFrom)
        for alias in line.names if line.module and line.module.startswith("fastloss.losses.")
    }  # fmt: skip
    assert imported == {name: f"fastloss.losses.{name}" for name in fl.losses()}


@pytest.mark.thorough
@pytest.mark.parametrize("loss", [loss for loss in ALL if loss.convex], ids=lambda loss: loss.name)
def test_convex_losses_lie_below_their_chords(loss, rng):
    one, *targets = loss.sample(rng, "float64", (200, 5))
    other = loss.sample(rng, "float64", (200, 5))[0]
    ends = [loss(pred, *targets, reduction="none") for pred in (one, other)]
    middle = loss((one + other) / 2, *targets, reduction="none")
    chord = (ends[0] + ends[1]) / 2
    assert (middle <= chord + 1e-12 * (1 + abs(chord))).all()
