"""Where a user's functions live: files, closures, no file at all; pickles and the disk cache."""

import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastloss as fl
from fastloss._digest import IN_MEMORY, source_digest


def closing_over(scale):
    @fl.elementwise
    def scaled(pred, target):
        return scale * (pred - target)

    return scaled


def test_closures_over_different_values_differ():
    losses = [closing_over(scale) for scale in (1.0, 2.0, 1.0)]
    assert [loss([3.0], [1.0]) for loss in losses] == [2.0, 4.0, 2.0]
    digests = [source_digest(loss._scalar) for loss in losses]
    assert digests[0] == digests[2] != digests[1]
    assert source_digest(closing_over([1.0])._scalar) == IN_MEMORY


def executed(source, **names):
    """Run source text as a console does, without a file."""
    exec(source, {"fl": fl, "np": np, "__name__": "console", **names}, namespace := {})
    return namespace["loss"]


CONSOLE = "@fl.elementwise\ndef loss(pred, target):\n    return K * (pred - target)"


def test_functions_without_a_file():
    """Two of one name do not meet, nor do two that differ in a global only."""
    one, two = executed(CONSOLE, K=1.0), executed(CONSOLE.replace("K *", "5 +"), K=1.0)
    three, same = executed(CONSOLE, K=7.0), executed(CONSOLE, K=1.0)
    assert [loss([3.0], [1.0]) for loss in (one, two, three, same)] == [2.0, 7.0, 14.0, 2.0]
    digests = [source_digest(loss._scalar) for loss in (one, two, three, same)]
    assert len(set(digests)) == 3
    assert digests[0] == digests[3]


def test_globals_count_as_they_are_when_the_digest_is_taken():
    """They are frozen then: no kernel goes under the digest of other values."""
    namespace = {"fl": fl, "__name__": "console", "K": 13.0}
    exec(CONSOLE, namespace)
    digest = source_digest(namespace["loss"]._scalar)
    namespace["K"] = 17.0
    assert namespace["loss"]([3.0], [1.0]) == 26.0
    assert source_digest(namespace["loss"]._scalar) == digest


def test_what_a_function_calls_counts_in_its_digest():
    helper = "def helper(x): return 2 * x\n"
    source = helper + CONSOLE.replace("K *", "helper") + "\n"
    namespaces = []
    for text in (source, source.replace("2 * x", "3 * x"), source.replace("pred -", "pred +")):
        namespace = {"fl": fl, "__name__": "console"}
        exec(text, namespace)
        namespaces.append(namespace)
    assert len({source_digest(namespace["loss"]._scalar) for namespace in namespaces}) == 3


def scaled_by_default(default):
    @fl.elementwise(options={"scale": fl.Option(default, "a number", lambda scale: True)})
    def scaled(pred, target, scale):
        return scale * (pred - target)

    return scaled


def test_defaults_count_as_they_are():
    """The kernels of small calls hold them, and the functions of these losses are the same."""
    pred, target = np.float32([3.0]), np.float32([1.0])
    losses = [scaled_by_default(scale) for scale in (1.0, 2.0, 1.0)]
    assert losses[0]._scalar is not losses[1]._scalar
    assert source_digest(losses[0]._scalar) == source_digest(losses[1]._scalar)
    assert [loss(pred, target) for loss in losses] == [2.0, 4.0, 2.0]


@fl.elementwise
def of_this_module(pred, target):
    return pred - target


def test_pickle():
    assert pickle.loads(pickle.dumps(of_this_module)) is of_this_module
    with pytest.raises((pickle.PicklingError, AttributeError), match="closing_over"):
        pickle.dumps(closing_over(1.0))


def test_threads_may_meet_at_the_first_use():
    loss = executed(CONSOLE, K=11.0)
    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(lambda n: loss([n + 1.0], [1.0]), range(8)))
    assert values == [11.0 * n for n in range(8)]


USERS = """
import numba
import numpy as np
from numpy import clip
import fastloss as fl

@numba.njit
def helper(x):
    return np.exp(x) * 1.0

@fl.elementwise
def calling(pred, target):
    return helper(pred) - target * pred

@fl.elementwise
def lonely(pred, target):
    return clip(pred - target, -1, 1) ** 2

def make(scale):
    @fl.elementwise
    def scaled(pred, target):
        return scale * (pred - target)
    return scaled

closing = make(2.0)
"""

PROCESS = """
import importlib.util, json, sys
import numpy as np
from fastloss import _engine

specification = importlib.util.spec_from_file_location("users", sys.argv[1])
users = importlib.util.module_from_spec(specification)
specification.loader.exec_module(users)

def report(kernel, value):
    stats = kernel.stats
    return value, sum(stats.cache_hits.values()), sum(stats.cache_misses.values())

found = {}
for name in ("calling", "lonely", "closing"):
    loss = getattr(users, name)
    value = loss(np.zeros(2), -np.ones(2), reduction="sum")
    found[name] = report(_engine.elementwise_kernel(loss._scalar, True, False), value)
print(json.dumps(found))
"""


def test_the_disk_cache(tmp_path, child_environment):
    """A second process hits it; an edit, of a helper too, and another closed-over value miss it.

    The users' module is one that Numba could not import.
    """
    path, program = tmp_path / "users.py", tmp_path / "program.py"
    program.write_text(PROCESS, encoding="utf-8")

    def run(source):
        path.write_text(source, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-W", "error", str(program), str(path)],
            env={**child_environment, "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert run(USERS) == {"calling": [2, 0, 1], "lonely": [2, 0, 1], "closing": [4, 0, 1]}
    assert run(USERS) == {"calling": [2, 1, 0], "lonely": [2, 1, 0], "closing": [4, 1, 0]}
    # Of another length: Python may compare no more than that and the second of the last change.
    edited = USERS.replace("* 1.0", "* 4.00").replace("make(2.0)", "make(3.0)")
    assert run(edited) == {"calling": [8, 0, 1], "lonely": [2, 1, 0], "closing": [6, 0, 1]}
