"""The benchmarks: `fastloss bench`, and that none of the benchmark suites leaves a loss out."""

import ast
import json
import math
from pathlib import Path

import numpy as np
import pytest

import fastloss as fl
from fastloss import _bench, _bench_report, _bench_truth, _peers
from fastloss._bench import Case, Settings
from fastloss.cli import main

ROOT = Path(__file__).parents[1]
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
EMPTY = """above
<!-- headline:begin -->
<!-- headline:end -->
<!-- losses:begin -->
<!-- losses:end -->
<!-- bench:begin -->
<!-- bench:end -->
below
"""
QUICK = ["--loss", "mse", "--shapes", "8x4,30", "--dtype", "float32", "--seconds", "0.01"]

# PyTorch, JAX and scikit-learn warn about themselves, and every warning is an error in these tests.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def without_peers(monkeypatch):
    """Leave NumPy as the only peer, as where nothing else is installed."""

    def missing(module, name):
        raise _peers.Missing(f"{name} is not installed")

    monkeypatch.setattr(_peers, "_import", missing)


@pytest.fixture
def without_compiler(monkeypatch):
    """Leave torch.compile out: it takes longer than all other tests of this file."""

    def missing(work):
        raise _peers.Missing("torch.compile: no working compiler")

    monkeypatch.setitem(_peers.LIBRARIES, "torch.compile", missing)


def test_bench_writes_everything(tmp_path, capsys, without_peers):
    readme, plot, record = tmp_path / "README.md", tmp_path / "plot.png", tmp_path / "rows.json"
    readme.write_text(EMPTY)
    words = [*QUICK, "--json", str(record), "--plot", str(plot), "--readme", str(readme)]
    assert main(["bench", *words]) == 0
    output = capsys.readouterr().out
    for name in ("PyTorch", "JAX", "scikit-learn"):
        assert " ".join(output.split()).count(f"{name} is not installed") == 1

    content = json.loads(record.read_text())
    assert content["versions"]["numpy"] == np.__version__
    assert content["command"].startswith(
        "fastloss bench --loss mse --shapes 8x4,30 --dtype float32"
    )
    assert [row["case"]["shape"] for row in content["rows"]] == [[8, 4], [30]]
    for row in content["rows"]:
        assert set(row["times"]) == {"fastloss", "NumPy"}
        assert row["limit_names"]["limit"] == "np.add(p, t, out=o)"
        ours, theirs = row["times"]["fastloss"], row["times"]["NumPy"]
        assert row["textbook"] == []
        assert 0 < ours["minimum"] <= ours["median"] <= ours["upper_quartile"]
        assert row["speedup"] == theirs["median"] / ours["median"]
        assert row["price"] == ours["median"] / row["limits"]["limit"]["minimum"]
        assert math.isnan(float(row["errors"]["fastloss"])) or row["errors"]["fastloss"] < 4

    assert plot.read_bytes().startswith(PNG_SIGNATURE)
    text = readme.read_text()
    assert text.startswith("above\n")
    assert text.endswith("below\n")
    assert "| float32 8×4 |" in text
    assert content["command"] in text
    assert all(f"| `{name}` |" in text for name in fl.losses())
    assert main(["bench", *QUICK, "--check", str(readme)]) == 0


def test_the_textbook_formula_is_no_peer(without_peers, tmp_path, capsys):
    """It stands in parentheses, and nothing is compared with it."""
    record, plot = tmp_path / "record.json", tmp_path / "plot.svg"
    quick = ["--shapes", "30", "--dtype", "float32", "--seconds", "0.01", "--json", str(record)]
    assert main(["bench", "--loss", "expectile", *quick, "--plot", str(plot)]) == 0
    assert "No peer has what was measured." in capsys.readouterr().out
    (row,) = json.loads(record.read_text())["rows"]
    assert row["textbook"] == ["NumPy"]
    assert row["best_peer"] is row["speedup"] is None
    assert row["times"]["NumPy"]["median"] > 0

    timing = _bench.Timing(1.0, 1.0, 1.0, 1.0, 1, 1)
    times, errors = dict.fromkeys(["fastloss", "NumPy"], timing), {"fastloss": 1.0, "NumPy": 2.0}
    limits = {"limit": timing, "copy": timing}
    alone = _bench.Row(Case("expectile", "float32", (30,)), times, limits, {}, errors, ("NumPy",))
    cells = dict(zip(_bench_report.headings("expectile"), _bench_report.cells(alone), strict=True))
    assert (cells["NumPy"], cells["× best peer"]) == ("(1.00 s<br>2.0 ulp)", "–")
    slow = dict(times, NumPy=_bench.Timing(8.0, 8.0, 8.0, 8.0, 1, 1))
    beside = _bench.Row(Case("mse", "float32", (30,)), slow, limits, {}, errors)
    assert (alone.fastest, beside.fastest) == ("fastloss", "fastloss")
    assert _bench_report.summary([alone, beside]).startswith("fastloss is 8 times as fast")


@pytest.mark.parametrize("loss", list(fl.losses()))
@pytest.mark.parametrize("mode", ["gradient", pytest.param("value", marks=pytest.mark.thorough)])
def test_every_candidate_computes_the_loss(loss, mode, without_compiler):
    family = fl.losses()[loss].family
    shape = (300,) if family == "elementwise" else (40, 7)
    work = _bench.prepare_work(Case(loss, "float32", shape, mode), threads=1)
    true = _bench_truth.truth(work)
    if true is None:
        pytest.skip("longdouble is no wider than float64")
    candidates = _bench.build(work, {})
    assert {"fastloss", "NumPy"} <= set(candidates)
    gradients = {}
    for name, candidate in candidates.items():
        value, gradient = candidate.result(candidate.call())
        assert float(value) == pytest.approx(float(true.value), rel=2e-5, abs=1e-6), name
        if mode == "gradient":
            gradients[name] = np.asarray(gradient[:], float)
            assert gradients[name] == pytest.approx(true.gradient.astype(float), rel=1e-4, abs=1e-7)
    if loss in _bench.MAIN:
        # 4 + 2 g, g the spread of the confident row; the textbook loses that row's gradient.
        assert _bench_truth.error(work, candidates["fastloss"], true) < 4 + 2 * 25
    if mode == "gradient" and loss == "softmax_cross_entropy":
        assert _bench_truth.error(work, candidates["NumPy"], true) > 1e5


def test_error_tells_nan_and_wrong_values():
    work = _bench.prepare_work(Case("mse", "float64", (50,)), threads=1)
    true = _bench_truth.truth(work)
    if true is None:
        pytest.skip("longdouble is no wider than float64")
    value, gradient = work.loss.reference(work.pred, work.target)
    wrong = gradient * (1 + 100 * np.finfo(float).eps)
    assert 49 < _bench_truth.error(work, _peers.Candidate(lambda: (value, wrong)), true) < 203
    wrong[3] = np.nan
    assert _bench_truth.error(work, _peers.Candidate(lambda: (value, wrong)), true) == math.inf


def test_peers_that_are_not_installed_are_named(without_peers):
    missing = {}
    work = _bench.prepare_work(Case("mse", "float32", (8,)), threads=1)
    assert set(_bench.build(work, missing)) == {"fastloss", "NumPy"}
    assert missing == {
        "PyTorch": "PyTorch is not installed",
        "torch.compile": "PyTorch is not installed",
        "JAX": "JAX is not installed",
        "scikit-learn": "scikit-learn is not installed",
    }


def test_readme_goes_stale(tmp_path, capsys, without_peers):
    readme = tmp_path / "README.md"
    readme.write_text(EMPTY)
    assert main(["bench", *QUICK, "--readme", str(readme)]) == 0
    fresh = readme.read_text()
    for old, new, complaint in [
        ("| float32 30 |", "| float32 31 |", "the cases of mse are float32 8×4, float32 31"),
        ("| JAX |", "| TensorFlow |", "the columns of mse"),
        ("#### mse", "#### mean_square", "no table of mse"),
        ("Squared error", "Square error", "the table of losses"),
        ("<!-- bench:end -->", "", "<!-- bench:end -->"),
    ]:
        assert old in fresh
        readme.write_text(fresh.replace(old, new))
        capsys.readouterr()
        assert main(["bench", *QUICK, "--check", str(readme)]) == 1, new
        assert complaint in capsys.readouterr().out
    readme.write_text(fresh)
    assert main(["bench", "--check", str(readme)]) == 1  # the default wants every loss and shape


@pytest.mark.parametrize(
    ("argument", "value", "complaint"),
    [
        ("--loss", "no_such_loss", "mse"),
        ("--shapes", "32xx10", "32x10"),
        ("--shapes", "0", "32x10"),
        ("--shapes", "1000", "softmax_cross_entropy"),
        ("--dtype", "float16", "float16"),
        ("--threads", "100000", "100000"),
        ("--threads", "0", "at least 1"),
        ("--seconds", "-1", "above 0"),
        ("--mode", "hessian", "hessian"),
        ("--json", "no/such/folder/rows.json", "does not exist"),
        ("--plot", "rows.xyz", ".png"),
        ("--readme", "no_such_file.md", "no_such_file.md"),
        ("--check", "no_such_file.md", "no_such_file.md"),
    ],
)
def test_bench_refuses_bad_arguments(argument, value, complaint, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["bench", argument, value])
    captured = capsys.readouterr()
    assert exit_.value.code == 2
    assert argument in captured.err.splitlines()[-1]
    assert complaint in captured.err
    assert captured.out == ""


def test_readme_without_markers_is_refused_before_timing(tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text("# fastloss\n")
    with pytest.raises(SystemExit) as exit_:
        main(["bench", *QUICK, "--readme", str(readme)])
    assert exit_.value.code == 2
    assert "<!-- losses:begin -->" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(7.1e-9, "0.01 µs"), (9.876e-6, "9.88 µs"), (0.0009996, "1.00 ms"), (0.16249, "162 ms"),
     (9.9996e-6, "10.0 µs"), (12.3, "12.3 s")],
)  # fmt: skip
def test_durations_have_three_digits(seconds, text):
    assert _bench_report.duration(seconds) == text


def test_command_repeats_the_settings():
    settings = Settings(("mse",), ((32, 10), (7,)), ("float64",), 2, 0.5, "value")
    assert settings.command() == (
        "fastloss bench --loss mse --shapes 32x10,7 --dtype float64 --threads 2 --seconds 0.5 "
        "--mode value"
    )


@pytest.mark.parametrize(
    ("path", "table"), [("bench/suite/common.py", "LOSSES"), ("bench/test_compare.py", "SHAPES")]
)
def test_every_loss_has_a_benchmark(path, table):
    # Read, not imported: neither asv nor pytest-benchmark has to be installed.
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    [listed] = [
        [key.value for key in node.value.keys]
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == table
    ]
    assert set(listed) == set(fl.losses()), f"{path}: {table} must list exactly the public losses"


def test_every_peer_entry_belongs_to_a_loss():
    assert {name.partition(",")[0] for name in _peers.PEERS} <= set(fl.losses())
