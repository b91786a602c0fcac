"""Time of calls: throughput, the overhead of small ones, and the distance from the limits."""

import numpy as np

from fastloss import softmax_cross_entropy

from .common import DTYPES, LOSSES, ROWS, SHAPES, Call, best_of, class_first, set_threads

LARGE = [name for name in SHAPES if name != "small"]

CLASS_LOSSES = [name for name in LOSSES if ROWS & set(LOSSES[name]) and name != "info_nce"]
"""Those of rows of numbers; the embeddings of info_nce are a matrix."""


class Throughput:
    """Value and gradient, and value alone, of arrays that make the loop dominate."""

    params = (list(LOSSES), DTYPES, LARGE, [1, 2])
    param_names = ("loss", "dtype", "shape", "threads")

    def setup(self, name, dtype, shape, threads):
        set_threads(threads)
        self.call = Call(name, dtype, shape)
        # With the types and sizes to be timed: these choose the kernel that is compiled.
        self.time_value_and_grad()
        self.time_value()

    def time_value_and_grad(self, *_):
        self.call.value_and_grad(grad_out=self.call.out)

    def time_value(self, *_):
        self.call.value()


class SmallCalls:
    """Calls with 320 elements, where checking the arguments and entering the kernel dominate."""

    params = (list(LOSSES), DTYPES)
    param_names = ("loss", "dtype")

    def setup(self, name, dtype):
        self.call = Call(name, dtype, "small")
        self.weight = np.ones(len(self.call.arrays[0]), dtype)
        self.time_value()
        self.time_value_and_grad()
        self.time_value_and_grad_with_buffer()
        self.time_with_weights()

    def time_value(self, *_):
        self.call.value()

    def time_value_and_grad(self, *_):
        self.call.value_and_grad()

    def time_value_and_grad_with_buffer(self, *_):
        self.call.value_and_grad(grad_out=self.call.out)

    def time_with_weights(self, *_):
        self.call.value_and_grad(sample_weight=self.weight, grad_out=self.call.out)


class InPlaceCalls:
    """Calls with 320 elements whose gradient takes the place of a copy of the predictions."""

    params = (["mse", "sigmoid_cross_entropy", "softmax_cross_entropy", "sparsemax"], DTYPES)
    param_names = ("loss", "dtype")

    def setup(self, name, dtype):
        self.call = Call(name, dtype, "small")
        self.pred = self.call.arrays[0].copy()
        self.time_value_and_grad()

    def time_value_and_grad(self, *_):
        np.copyto(self.call.arrays[0], self.pred)
        self.call.value_and_grad(grad_out=self.call.arrays[0])


class ClassFirst:
    """Value and gradient of class-first arrays on one thread, beside the same rows side by side."""

    params = (CLASS_LOSSES, DTYPES)
    param_names = ("loss", "dtype")
    unit = "times the rows"

    def setup(self, name, dtype):
        set_threads(1)
        rows, columns = Call(name, dtype, "few classes"), Call(name, dtype, "few classes")
        columns.arrays = tuple(class_first(array, 16) for array in rows.arrays)
        if isinstance(rows.out, tuple):
            columns.out = tuple(class_first(out, 16) for out in rows.out)
        else:
            columns.out = class_first(rows.out, 16)
        self.rows = lambda: rows.value_and_grad(grad_out=rows.out)
        self.columns = lambda: columns.value_and_grad(axis=1, grad_out=columns.out)

    def track_ratio_to_rows(self, *_):
        return best_of(self.columns) / best_of(self.rows)


class TrainingSteps:
    """Steps of a linear classifier; the threads of its matrix products are others than the loss's.

    Beside the time of the products alone, this shows what either costs the other.
    """

    params = (DTYPES, [64, 256, 1000])
    param_names = ("dtype", "rows")

    def setup(self, dtype, rows):
        rng = np.random.default_rng(0)
        self.features = rng.standard_normal((rows, 64)).astype(dtype)
        self.weights = rng.standard_normal((64, 1000)).astype(dtype)
        self.labels = rng.integers(0, 1000, rows)
        self.logits = self.features @ self.weights
        self.step = np.empty_like(self.weights)
        self.time_step()

    def time_products(self, *_):
        np.matmul(self.features, self.weights, out=self.logits)
        np.matmul(self.features.T, self.logits, out=self.step)

    def time_step(self, *_):
        np.matmul(self.features, self.weights, out=self.logits)
        softmax_cross_entropy.value_and_grad(self.logits, self.labels, grad_out=self.logits)
        np.matmul(self.features.T, self.logits, out=self.step)


class Limits:
    """Value and gradient on one thread, as a share of what the machine could do: 1 is the limit."""

    params = (list(LOSSES), DTYPES, LARGE)
    param_names = ("loss", "dtype", "shape")
    unit = "share of the limit"

    def setup(self, name, dtype, shape):
        set_threads(1)
        call = Call(name, dtype, shape)
        pred, out = call.arrays[0], np.empty_like(call.arrays[0])
        self.call = lambda: call.value_and_grad(grad_out=call.out)
        self.copy = lambda: np.copyto(out, pred)
        self.exp = lambda: np.exp(pred, out=out)

    def track_memory_limit(self, *_):
        """Time of copying pred over time of the call."""
        return best_of(self.copy) / best_of(self.call)

    def track_exp_limit(self, *_):
        """Time of NumPy's exp of pred over time of the call; above 1 it is faster than that."""
        return best_of(self.exp) / best_of(self.call)
