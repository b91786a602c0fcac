import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastloss as fl
from fastloss._demo import Comparison, Settings
from fastloss.cli import CURVE_TOLERANCE, main
from fastloss.data import digits

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def test_digits_are_the_published_ones():
    images, labels = digits()
    assert images.shape == (1797, 64)
    assert images.dtype == np.float32
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    levels = np.unique(images)
    assert np.array_equal(levels, np.arange(17) / 16)
    # The first image of the published file, a zero, in the file's own units.
    assert (images[0, :16] * 16).tolist() == [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0]


def test_demo_reaches_its_accuracy_at_default_settings(capsys):
    assert main(["demo"]) == 0
    output = capsys.readouterr().out
    assert "The loss curves agree" in output
    assert "required 96%" in output
    assert "times faster" in output or "times slower" in output


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_demo_curves_agree(dtype):
    comparison = Comparison(Settings(epochs=5, dtype=dtype, seed=1))
    assert list(comparison.run()) == [1, 2, 3, 4, 5]
    assert comparison.difference <= CURVE_TOLERANCE * np.finfo(dtype).eps
    assert comparison.kernel.accuracies[-1] > 0.9
    assert 0 < comparison.kernel.loss_seconds < comparison.textbook.loss_seconds * 10


def test_demo_is_repeatable():
    runs = [Comparison(Settings(epochs=2, seed=3)) for _ in range(2)]
    for run in runs:
        list(run.run())
    assert runs[0].kernel.losses == runs[1].kernel.losses
    assert runs[0].textbook.losses == runs[1].textbook.losses


def test_demo_notices_a_wrong_gradient(monkeypatch, capsys):
    correct = fl.softmax_cross_entropy.value_and_grad

    def wrong(*arguments, **options):
        value, gradient = correct(*arguments, **options)
        gradient *= gradient.dtype.type(1.001)
        return value, gradient

    monkeypatch.setattr(fl.softmax_cross_entropy, "value_and_grad", wrong)
    assert main(["demo", "--epochs", "2"]) == 1
    assert "The loss curves differ" in capsys.readouterr().out


def test_demo_says_that_training_diverged(capsys):
    assert main(["demo", "--epochs", "2", "--learning-rate", "1e38"]) == 1
    assert "diverged" in capsys.readouterr().out


def test_demo_takes_batches_of_any_size(capsys):
    assert main(["demo", "--epochs", "1", "--batch-size", "5000", "--hidden", "1"]) == 0
    assert "1 calls" in capsys.readouterr().out


@pytest.mark.parametrize("epochs", ["1", "2"])
def test_demo_draws_a_png(tmp_path, epochs):
    path = tmp_path / "curves.png"
    assert main(["demo", "--epochs", epochs, "--plot", str(path)]) == 0
    content = path.read_bytes()
    assert content.startswith(PNG_SIGNATURE)
    assert len(content) > 10_000


@pytest.mark.parametrize(
    ("argument", "value", "complaint"),
    [
        ("--epochs", "0", "at least 1"),
        ("--epochs", "two", "'two'"),
        ("--batch-size", "0", "at least 1"),
        ("--hidden", "-3", "at least 1"),
        ("--learning-rate", "nan", "above 0"),
        ("--learning-rate", "0", "above 0"),
        ("--seed", "-1", "at least 0"),
        ("--dtype", "float16", "float16"),
        ("--plot", "curves.xyz", ".png"),
        ("--plot", "no/such/folder/curves.png", "does not exist"),
    ],
)
def test_demo_refuses_bad_arguments(argument, value, complaint, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["demo", f"{argument}={value}"])
    captured = capsys.readouterr()
    assert exit_.value.code == 2
    assert argument in captured.err.splitlines()[-1]
    assert complaint in captured.err
    assert captured.out == ""


def test_demo_refuses_a_directory_as_plot(tmp_path, capsys):
    path = tmp_path / "folder.png"
    path.mkdir()
    with pytest.raises(SystemExit) as exit_:
        main(["demo", "--plot", str(path)])
    assert exit_.value.code == 2
    assert "directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "words"),
    [("rich", ["demo"]), ("rich", ["check"]), ("matplotlib", ["demo", "--plot", "curves.png"])],
)
def test_missing_extra_is_named(missing, words, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert missing in message
    assert 'pip install "fastloss[cli]"' in message


def test_info_prints_json(capsys):
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["fastloss"] == fl.__version__
    assert facts["numpy"] == np.__version__
    assert facts["threads"] >= 1
    assert facts["threading_layer"] in facts["threading_layers_available"]
    assert facts["vector_bits"] in (128, 256, 512)
    assert set(facts) >= {
        "python",
        "numba",
        "llvmlite",
        "cpu",
        "cpu_features",
        "threading_layer_priority",
        "compiler",
        "cache_directory",
    }


def test_info_needs_no_extra(monkeypatch, capsys):
    for package in ("rich", "matplotlib"):
        monkeypatch.setitem(sys.modules, package, None)
    assert main(["info"]) == 0
    assert f"fastloss          {fl.__version__}" in capsys.readouterr().out


def test_without_a_compiler_everything_says_so(child_environment):
    program = (
        "import numpy as np, fastloss as fl\n"
        "from fastloss.cli import main\n"
        "main(['info'])\n"
        "print(fl.mse.reference(np.ones(2), np.zeros(2))[0])\n"
        "try: fl.mse(np.ones(2), np.zeros(2))\n"
        "except RuntimeError as error: print(error)\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], env={**child_environment, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert "NUMBA_DISABLE_JIT is set" in output[-3]
    assert output[-2] == "1.0"
    assert output[-1].startswith("fastloss: NUMBA_DISABLE_JIT is set; expected it unset")


def test_info_follows_the_cache_setting(tmp_path):
    # A process of its own, because Numba reads the variable when it is imported.
    program = (
        "import os, sys; os.environ['NUMBA_CACHE_DIR'] = sys.argv[1]\n"
        "from fastloss.cli import main; main(['info', '--json'])"
    )
    output = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    assert Path(json.loads(output)["cache_directory"]).is_relative_to(tmp_path)


@pytest.mark.exhaustive
def test_check_passes(capsys):
    # One loss with every option; .ci/run checks the others too, whose kernels take long to compile.
    assert main(["check", "--loss", "sigmoid_cross_entropy"]) == 0
    output = capsys.readouterr().out
    for words in ("default", "pos_weight", "label_smoothing", "eps", "float32", "float64"):
        assert words in output
    assert "FAILED" not in output


@pytest.mark.thorough
def test_check_of_one_loss(capsys):
    name, *others = fl.losses()
    assert main(["check", "--loss", name]) == 0
    output = capsys.readouterr().out
    assert name in output
    assert not any(other in output for other in others)


WARM = """
import sys
import numpy as np
import fastloss as fl
from fastloss.cli import main
if sys.argv[1:]:
    sys.exit(main(sys.argv[1:]))
pred = np.ones(300_000, "f4")
for few in (pred[:3], pred[:12].reshape(3, 4), pred):
    fl.mse(few, few)
    fl.mse.value_and_grad(few, few)
"""


@pytest.mark.thorough
def test_warmup_leaves_nothing_to_compile(tmp_path, child_environment):
    def run(*words):
        environment = {**child_environment, "NUMBA_CACHE_DIR": str(tmp_path)}
        return subprocess.run(
            [sys.executable, "-c", WARM, *words],
            env=environment, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    output = run("warmup", "--loss", "mse", "--dtype", "float32")
    assert "mse (float32)" in output
    assert str(tmp_path) in output
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")}
    assert len(written) > 4
    run()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")} == written


@pytest.mark.parametrize("command", ["check", "warmup"])
def test_an_unknown_loss_is_refused(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--loss", "no_such_loss"])
    assert exit_.value.code == 2
    assert "no_such_loss" in capsys.readouterr().err


@pytest.mark.parametrize("error", [1e-5, np.nan])
def test_check_fails_on_a_wrong_gradient(error, monkeypatch, capsys):
    correct = fl.mse.value_and_grad

    def wrong(*arguments, **options):
        value, gradient = correct(*arguments, **options)
        gradient[np.unravel_index(7, gradient.shape)] *= gradient.dtype.type(1 + error)
        return value, gradient

    monkeypatch.setattr(fl.mse, "value_and_grad", wrong)
    assert main(["check", "--loss", "mse"]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_module_runs_as_a_program():
    result = subprocess.run(
        [sys.executable, "-m", "fastloss", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"fastloss {fl.__version__}\n"
