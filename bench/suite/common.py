"""What is measured. It is listed here and not taken from `fastloss.losses()`.

asv stores results by the position of a parameter: with a list that depends on the installed commit,
the numbers of one loss would go to another.
"""

import time

import numpy as np

LOSSES = {
    "arcface": ("cosine", "labels"),
    "binary_cross_entropy": ("probability", "probability"),
    "categorical_cross_entropy": ("distribution", "labels"),
    "cosface": ("cosine", "labels"),
    "cosine_distance": ("embedding", "embedding"),
    "dice": ("probability", "binary"),
    "entropy": ("distribution",),
    "expectile": ("real", "real"),
    "exponential": ("real", "sign"),
    "gamma_nll": ("real", "positive"),
    "gaussian_nll": ("real", "real"),
    "generalized_cross_entropy": ("logits", "labels"),
    "half_mse": ("real", "real"),
    "hinge": ("real", "sign"),
    "huber": ("real", "real"),
    "info_nce": ("embedding", "embedding"),
    "jensen_shannon": ("distribution", "distribution"),
    "kl_div": ("log probability", "probability"),
    "log_cosh": ("real", "real"),
    "mae": ("real", "real"),
    "mape": ("positive", "positive"),
    "mse": ("real", "real"),
    "msle": ("positive", "positive"),
    "multi_margin": ("real", "labels"),
    "multiclass_hinge": ("real", "labels"),
    "nll": ("log distribution", "labels"),
    "perceptron": ("real", "sign"),
    "pinball": ("real", "real"),
    "poisson_nll": ("positive", "count"),
    "poly_cross_entropy": ("logits", "labels"),
    "pseudo_huber": ("real", "real"),
    "sigmoid_cross_entropy": ("real", "probability"),
    "sigmoid_focal": ("real", "probability"),
    "smooth_l1": ("real", "real"),
    "soft_margin": ("real", "sign"),
    "softmax_cross_entropy": ("logits", "labels"),
    "softmax_focal": ("logits", "labels"),
    "softmax_kl": ("logits", "logits"),
    "sparsemax": ("real", "labels"),
    "squared_hinge": ("real", "sign"),
    "triplet_margin": ("embedding", "embedding", "embedding"),
    "tversky": ("probability", "binary"),
    "tweedie": ("real", "positive"),
}
"""Every public loss, and what its positional arrays are: keys of DRAWN."""

KEYWORDS = {"gaussian_nll": {"var": "positive"}}
"""The arrays that a loss takes by name."""

GRADIENTS = {"cosine_distance": 2, "gaussian_nll": 2, "info_nce": 2, "triplet_margin": 3}
"""How many gradients a loss has, if more than one."""


def _distribution(rng, shape):
    powers = np.exp(rng.standard_normal(shape))
    return powers / powers.sum(axis=-1, keepdims=True)


DRAWN = {
    "real": lambda rng, shape: rng.standard_normal(shape),
    "positive": lambda rng, shape: rng.gamma(2, size=shape) + 0.01,
    "count": lambda rng, shape: rng.poisson(3, shape),
    "probability": lambda rng, shape: rng.uniform(0.01, 0.99, shape),
    "log probability": lambda rng, shape: np.log(rng.uniform(0.01, 0.99, shape)),
    "sign": lambda rng, shape: rng.choice((-1, 1), shape),
    "logits": lambda rng, shape: rng.standard_normal(shape),
    "labels": lambda rng, shape: rng.integers(0, shape[-1], shape[:-1]),
    "distribution": _distribution,
    "log distribution": lambda rng, shape: np.log(_distribution(rng, shape)),
    "embedding": lambda rng, shape: rng.standard_normal(shape),
    "binary": lambda rng, shape: rng.integers(0, 2, shape),
    "cosine": lambda rng, shape: rng.uniform(-0.99, 0.99, shape),
}

ROWS = {"logits", "labels", "distribution", "log distribution", "embedding", "binary", "cosine"}
"""What has one loss per row: such losses get matrices, the others vectors of as many elements."""

DTYPES = ["float32", "float64"]

SHAPES = {
    "small": (32, 10),
    "few classes": (65536, 10),
    "in cache": (256, 1000),
    "beyond cache": (8192, 1000),
}
"""The shape classes, by rows and classes."""


def find(name):
    """Return the loss; commits that do not have it yet are skipped by asv."""
    import fastloss

    try:
        return getattr(fastloss, name)
    except AttributeError:
        raise NotImplementedError(f"no loss {name}") from None


class Call:
    """A loss, its arrays and a buffer for the gradient."""

    def __init__(self, name, dtype, shape_class):
        if name == "info_nce" and shape_class in ("few classes", "beyond cache"):
            raise NotImplementedError("as many similarities as rows squared")
        rng, kinds = np.random.default_rng(0), LOSSES[name]
        rows, classes = SHAPES[shape_class]
        shape = (rows, classes) if ROWS & set(kinds) or name == "info_nce" else (rows * classes,)

        def draw(kind):
            array = np.asarray(DRAWN[kind](rng, shape))
            return array if kind == "labels" else array.astype(dtype)

        self.loss = find(name)
        self.arrays = tuple(map(draw, kinds))
        self.keywords = {key: draw(kind) for key, kind in KEYWORDS.get(name, {}).items()}
        outs = tuple(np.empty_like(self.arrays[0]) for _ in range(GRADIENTS.get(name, 1)))
        self.out = outs if len(outs) > 1 else outs[0]

    def value(self, **keywords):
        return self.loss(*self.arrays, **self.keywords, **keywords)

    def value_and_grad(self, **keywords):
        return self.loss.value_and_grad(*self.arrays, **self.keywords, **keywords)


def class_first(array, groups):
    """Return rows, or numbers of rows, as a contiguous array of shape (groups, classes, rows)."""
    array = array.reshape(groups, -1, *array.shape[1:])
    return np.ascontiguousarray(np.moveaxis(array, -1, 1)) if array.ndim == 3 else array


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
