"""Threads: the same bits for any number, safe from many at once, in every layer, after a fork."""

import json
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import numba
import numpy as np
import pytest
from conftest import LOSSES, SOFTMAX, assert_same_bits, one_hot, weight_shape

import fastloss as fl
from fastloss import _engine, _threads
from fastloss._llvm import OVERLAP
from fastloss._plans import Plans
from fastloss._threads import Crowd

TIME_LIMIT = 120  # seconds for a child process: a deadlock fails instead of hanging


def templates():
    """Yield each loss with each of its loop templates: its layout, target and weights."""
    for loss in LOSSES:
        if loss.family == "softmax":
            for target in ("hard", "soft"):
                for classes in (10, 100):
                    name = f"{loss.name}-{target}-{'tiles' if classes == 10 else 'rows'}"
                    yield pytest.param(loss, classes, target == "soft", False, id=name)
        else:
            for weighted in (False, True):
                name = f"{loss.name}-{'weighted' if weighted else 'plain'}"
                yield pytest.param(loss, 33, False, weighted, id=name)


every_template = pytest.mark.parametrize(("loss", "classes", "soft", "weighted"), list(templates()))


def loadable_layers():
    """Return the threading layers of this installation: workqueue is always there."""
    for layer, module in (("omp", "omppool"), ("tbb", "tbbpool"), ("workqueue", "workqueue")):
        try:
            import_module(f"numba.np.ufunc.{module}")
        except ImportError:
            continue
        yield layer


def large_batch(loss, classes, soft, weighted):
    """Return arguments and keywords with work enough for the parallel kernel, in odd blocks."""
    rng = np.random.default_rng(5)
    rows = int(2.5 * _threads.PARALLEL_NANOSECONDS / loss._nanoseconds / classes) | 1
    rows = max(rows, 3 * 16384 // classes)
    pred, target = loss.sample(rng, "float32", (rows, classes))
    if soft:
        target = one_hot(target, classes).astype("f4")
    keywords = {}
    if weighted:
        keywords["sample_weight"] = rng.uniform(0.5, 2, weight_shape(loss, pred)).astype("f4")
    return (pred, target), keywords


@pytest.fixture
def used(monkeypatch):
    """Return the list of kernels asked for: True for a parallel one."""
    record = []
    for name in ("elementwise_kernel", "softmax_kernel"):
        original = getattr(_engine, name)

        def spy(*arguments, original=original):
            record.append(arguments[-1])
            return original(*arguments)

        monkeypatch.setattr(_engine, name, spy)
    for loss in LOSSES:  # a plan holds its kernel
        monkeypatch.setattr(loss, "_plans", Plans())
    return record


@every_template
def test_any_number_of_threads_gives_the_same_bits(loss, classes, soft, weighted, used):
    arrays, keywords = large_batch(loss, classes, soft, weighted)
    value, gradient = loss.value_and_grad(*arrays, num_threads=1, **keywords)
    assert used == [False]
    for threads in (2, None, 10**6, None):
        used.clear()
        parallel, parallel_gradient = loss.value_and_grad(*arrays, num_threads=threads, **keywords)
        assert used == [True], "the parallel kernel was not used"
        assert parallel == value, f"{threads} threads"
        assert_same_bits(parallel_gradient, gradient, f"{threads} threads")


def test_threads_of_numba_are_respected_and_restored(used):
    loss = SOFTMAX[0]
    arrays, _ = large_batch(loss, 100, False, False)
    before = numba.get_num_threads()
    for threads in (None, 1, 2, 10**6):
        loss.value_and_grad(*arrays, num_threads=threads)
        assert numba.get_num_threads() == before
    numba.set_num_threads(1)
    try:
        used.clear()
        loss.value_and_grad(*arrays)
        assert used == [False], "numba.set_num_threads(1) was not respected"
        assert numba.get_num_threads() == 1
    finally:
        numba.set_num_threads(before)
    wrong = arrays[1].copy()
    wrong[-1] = -1
    with pytest.raises(IndexError, match=f"at row {len(wrong) - 1};"):
        loss.value_and_grad(arrays[0], wrong, num_threads=2)
    assert numba.get_num_threads() == before, "not restored after an error"


IDLE_SCRIPT = textwrap.dedent(
    """
    import os, time
    import numpy as np, fastloss as fl

    pred = np.zeros(10**6, "float32")
    before = dict(os.environ)
    fl.mse(pred, pred)
    busy = time.process_time()
    time.sleep(0.1)
    print(time.process_time() - busy, dict(os.environ) == before)
    """
)


@pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP")
@pytest.mark.skipif("omp" not in [*loadable_layers()], reason="Numba has no OpenMP here")
def test_idle_threads_leave_their_core_to_others():
    """What they burn in a tenth of a second; by the user's wish they wait at full speed."""

    def burned(**settings):
        waits = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
        environment = {k: v for k, v in os.environ.items() if k not in waits}
        environment |= {"NUMBA_THREADING_LAYER": "omp", "NUMBA_NUM_THREADS": "2", **settings}
        script = [sys.executable, "-c", IDLE_SCRIPT]
        run = subprocess.run(script, env=environment, capture_output=True, text=True, check=True)
        seconds, unchanged = run.stdout.split()
        assert unchanged == "True", "the environment is another one afterwards"
        return float(seconds)

    for _ in range(3):  # a busy machine may leave the spinning thread no time to burn
        spinning, idle = burned(GOMP_SPINCOUNT="100000000"), burned()
        if idle < 0.2 * spinning:
            break
    assert idle < 0.2 * spinning


def test_many_python_threads_at_once():
    work = [(loss, *large_batch(loss, 100, False, False)) for loss in LOSSES]
    expected = [loss.value_and_grad(*arrays) for loss, arrays, _ in work]

    def call(index):
        loss, arrays, _ = work[index % len(work)]
        return index % len(work), loss.value_and_grad(*arrays)

    with ThreadPoolExecutor(4) as pool:
        for index, (value, gradient) in pool.map(call, range(60)):
            assert value == expected[index][0]
            assert_same_bits(gradient, expected[index][1], work[index][0].name)


LAYER_SCRIPT = textwrap.dedent(
    """
    import json, os, sys, threading, warnings
    import numba, numpy as np, fastloss as fl

    REPRESENTATIVES = "mse", "sigmoid_cross_entropy", "softmax_cross_entropy", "nll", "softmax_kl"
    warnings.simplefilter("ignore")  # of forking a process that has threads: it is the test

    rng = np.random.default_rng(5)
    work = []
    for loss in map(fl.losses().get, REPRESENTATIVES):
        pred, target = loss.sample(rng, "float32", (8001, 100))
        value, gradient = loss.value_and_grad(pred, target, num_threads=1)
        work.append((loss, pred, target, value, gradient.tobytes()))

    def wrong(times):
        count = 0
        for _ in range(times):
            for loss, pred, target, value, gradient in work:
                got, got_gradient = loss.value_and_grad(pred, target)
                count += got != value or got_gradient.tobytes() != gradient
        return count

    report = {"alone": wrong(2), "layer": numba.threading_layer()}
    counts = []
    threads = [threading.Thread(target=lambda: counts.append(wrong(15))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report["together"] = counts
    child = os.fork()
    if child == 0:
        os._exit(wrong(2))
    report["forked child"] = os.waitpid(child, 0)[1]
    report["parent afterwards"] = wrong(2)
    print(json.dumps(report))
    """
)


@pytest.mark.parametrize("layer", list(loadable_layers()))
def test_every_layer_with_many_threads_and_a_forked_child(layer, child_environment):
    done = subprocess.run(
        [sys.executable, "-c", LAYER_SCRIPT],
        env={**child_environment, "NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )
    assert done.returncode == 0, f"{layer}: exit {done.returncode}\n{done.stderr}"
    assert json.loads(done.stdout) == {
        "alone": 0,
        "layer": layer,
        "together": [0] * 4,
        "forked child": 0,
        "parent afterwards": 0,
    }


COMPILING_SCRIPT = textwrap.dedent(
    """
    import os, threading, time, warnings
    import numpy as np
    import fastloss as fl

    warnings.simplefilter("ignore")
    logits, labels = np.zeros((4, 40), "f4"), np.zeros(4, int)
    fl.softmax_cross_entropy
    thread = threading.Thread(target=fl.softmax_cross_entropy, args=(logits, labels))
    thread.start()
    time.sleep(0.2)  # long enough to be compiling, too short to be done
    child = os.fork()
    if child == 0:
        os._exit(0 if fl.mse(np.ones(3), np.zeros(3)) == 1 else 1)
    status = os.waitpid(child, 0)[1]
    thread.join()
    raise SystemExit(status)
    """
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_forked_while_another_thread_compiles(child_environment, tmp_path):
    """The child has no such thread: the locks that it held must not be held in the child."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILING_SCRIPT],
        env={**child_environment, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )
    assert done.returncode == 0, done.stderr


def crowd_after(*calls):
    """Return which calls go alone, a ms apart, given as the ms that (alone, together) take."""
    ms, crowd, ways = 1_000_000, Crowd(), ""
    for now, (alone, together) in enumerate(calls):
        threads, took = (1, alone) if crowd.goes_alone(now * ms) else (2, together)
        crowd.took("kind", ms, threads, int(took * ms), now * ms)
        ways += str(threads)
    return ways


def test_threads_that_are_waited_for_are_left_aside():
    """Calls that lose time begin pauses, each twice as long, and cores that are free end them."""
    busy, free = (1.0, 8.0), (1.0, 0.6)
    assert crowd_after(*[free] * 10) == "2" * 10
    # One late call may be chance: calls that win make up for it.
    assert crowd_after(free, busy, free, busy, free, free) == "222222"
    assert crowd_after(*[busy] * 19) == "22" + "1111" + "22" + "1" * 7 + "22" + "11"
    many = crowd_after(*[busy] * 3000)
    assert many.count("2") < 40
    assert max(map(len, many.split("2"))) == Crowd.LONGEST // 1_000_000 - 1
    # Calls may be late while threads wake up, as long as they lose no more than a little.
    waking = [(1.0, 1.4), (1.0, 1.2), (1.0, 1.1)]
    assert crowd_after(*[busy] * 6, *waking, *[free] * 9) == "221111" + "2" * 12
    assert crowd_after(*[busy] * 6, *[(1.0, 1.3)] * 9) == "221111" + "2222" + "11111"
    # What one thread has taken counts, however much longer it is than what was thought.
    assert crowd_after(*[(14.0, 7.5)] * 30) == "22" + "1111" + "2" * 24
    # As long as nothing is known of one thread, a call may take longer than was thought. Then a
    # call of two that takes more than twice as long as another one is late.
    slow = [(1.9, 1.9)]
    assert crowd_after(*slow * 9) == "2" * 9
    assert crowd_after(free, *slow * 9) == "222" + "1111" + "222"


def test_a_call_that_goes_alone_gives_the_same_bits(monkeypatch):
    class Alone(Crowd):
        def goes_alone(self, now):
            return True

    logits, labels = fl.softmax_cross_entropy.sample(np.random.default_rng(0), "f4", (5000, 40))
    value, grad = fl.softmax_cross_entropy.value_and_grad(logits, labels)
    monkeypatch.setattr(_threads, "_crowd", Alone())
    alone, alone_grad = fl.softmax_cross_entropy.value_and_grad(logits, labels)
    assert alone == value
    assert_same_bits(alone_grad, grad)


def test_late_calls_are_followed_by_serial_ones(monkeypatch):
    """But not the call that compiles the kernel, nor those that compute nothing, however long."""
    clock, asked = [0], []

    class Kernel:
        def __init__(self):
            self.overloads = {}

        def __call__(self, array, value, status):
            clock[0] += 10**9
            self.overloads[array.dtype] = "compiled by the first call"
            return value, status

    kernels = {False: Kernel(), True: Kernel()}

    def kernel_of(name, parallel):
        asked.append(parallel)
        return kernels[parallel]

    def calls(count, value, status):
        asked.clear()
        for _ in range(count):
            _threads.run(kernel_of, ("loss",), (np.zeros(1), value, status), 1e5, 2)
        return asked

    monkeypatch.setattr(_threads, "_crowd", Crowd())
    monkeypatch.setattr(_threads, "perf_counter_ns", lambda: clock[0])
    assert calls(5, 1.0, OVERLAP) == [True] * 5  # refused
    assert calls(5, 0.0, -1) == [True] * 5  # nothing counts
    assert calls(2 + Crowd.CALLS + 1, 1.0, -1) == [True] * 2 + [False] * Crowd.CALLS + [True]


def test_calls_that_compute_other_things_are_judged_apart():
    """Value, gradient and types tell them apart, also in tuples, and not the sizes of arrays."""
    x, y, k = np.zeros(3, "f4"), np.zeros(3, "f8"), np.zeros(3, int)
    forms = [(x, None), (x, x), (y, y), (None, x), (None, y), ((x,), (None,)), ((x,), (x,)), (x, k)]
    assert len(set(map(_threads.form_of, forms))) == len(forms)
    assert _threads.form_of((x, 1.5, (k,))) == _threads.form_of((x[:1], 2.5, (k[:2],)))
