"""What is measured. It is listed here and not taken from `fastloss.losses()`.

asv stores results by the position of a parameter: with a list that depends on the installed commit,
the numbers of one loss would go to another.
"""

import time

import numpy as np

CLASSES = "softmax"
ELEMENTS = "elementwise"
PROBABILITIES = "probability"

LOSSES = {
    "softmax_cross_entropy": CLASSES,
    "sigmoid_cross_entropy": PROBABILITIES,
    "mse": ELEMENTS,
}
"""Every public loss, and the kind of its arguments; a new loss adds its line at the end."""

DTYPES = ["float32", "float64"]

SHAPES = {
    "small": {CLASSES: (32, 10), ELEMENTS: (320,)},
    "few classes": {CLASSES: (65536, 10), ELEMENTS: (655_360,)},
    "in cache": {CLASSES: (256, 1000), ELEMENTS: (256_000,)},
    "beyond cache": {CLASSES: (8192, 1000), ELEMENTS: (8_192_000,)},
}
"""The shape classes: for the classes of a softmax, and the same number of elements for the rest."""


def find(name):
    """Return the loss; commits that do not have it yet are skipped by asv."""
    import fastloss

    try:
        return getattr(fastloss, name)
    except AttributeError:
        raise NotImplementedError(f"no loss {name}") from None


def arrays(name, dtype, shape_class):
    """Return pred, target and a buffer for the gradient."""
    kind, rng = LOSSES[name], np.random.default_rng(0)
    shape = SHAPES[shape_class][CLASSES if kind == CLASSES else ELEMENTS]
    pred = rng.standard_normal(shape).astype(dtype)
    if kind == CLASSES:
        target = rng.integers(0, shape[1], shape[0])
    elif kind == PROBABILITIES:
        target = rng.integers(0, 2, shape).astype(dtype)
    else:
        target = rng.standard_normal(shape).astype(dtype)
    return pred, target, np.empty_like(pred)


def set_threads(count):
    """Let Numba use so many threads; a machine with fewer skips the benchmark."""
    import numba

    if count > numba.config.NUMBA_NUM_THREADS:
        raise NotImplementedError(f"fewer than {count} threads")
    numba.set_num_threads(count)


def best_of(function, rounds=15):
    """Return the least time of a call, the first one not counted."""
    function()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)
