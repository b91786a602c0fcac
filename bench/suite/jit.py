"""The losses in compiled code: point and row functions, calls in nopython code, C functions."""

import numpy as np

from .common import DTYPES, Call

POINTS = ["huber", "poisson_nll", "sigmoid_cross_entropy"]
ROWS = ["softmax_cross_entropy", "multi_margin", "sparsemax"]


def _function(name):
    """Return ``fastloss.jit.<name>``; commits that do not have it yet are skipped by asv."""
    import fastloss

    try:
        return getattr(fastloss.jit, name)
    except AttributeError:
        raise NotImplementedError(f"no jit.{name}") from None


class PointFunctions:
    """Value and slope of 100,000 points in a loop of the caller's."""

    params = (POINTS, DTYPES)
    param_names = ("loss", "dtype")

    def setup(self, name, dtype):
        from numba import njit

        point = _function(name)

        @njit
        def loop(pred, target, values, slopes):
            for i in range(pred.size):
                values[i], slopes[i], _ = point(pred[i], target[i])

        arrays = [array.ravel() for array in Call(name, dtype, "small").arrays]
        self.arrays = [np.resize(array, 100_000) for array in arrays]
        self.arrays += [np.empty_like(self.arrays[0]) for _ in range(2)]
        self.loop = loop
        self.time_loop()

    def time_loop(self, *_):
        self.loop(*self.arrays)


class RowFunctions:
    """Value and gradient of 256 rows of 1000 numbers in a loop of the caller's."""

    params = (ROWS, DTYPES)
    param_names = ("loss", "dtype")

    def setup(self, name, dtype):
        from numba import njit

        row = _function(name)

        @njit
        def loop(rows, labels, grads):
            total = 0.0
            for i in range(len(rows)):
                total += row(rows[i], labels[i], grads[i])
            return total

        rows, labels = Call(name, dtype, "in cache").arrays
        self.arguments, self.loop = (rows, labels, np.empty_like(rows)), loop
        self.time_loop()

    def time_loop(self, *_):
        self.loop(*self.arguments)


class Calls:
    """A thousand calls of the loss itself from nopython code, on batches of 8."""

    params = (["huber", "softmax_cross_entropy"], DTYPES)
    param_names = ("loss", "dtype")

    def setup(self, name, dtype):
        from numba import njit

        _function(name)

        @njit
        def loop(loss, pred, target, grad):
            total = 0.0
            for _ in range(1000):
                total += loss.value_and_grad(pred, target, grad_out=grad)[0]
            return total

        call = Call(name, dtype, "small")
        pred, target = (array[:8].copy() for array in call.arrays)
        self.arguments, self.loop = (call.loss, pred, target, np.empty_like(pred)), loop
        self.time_calls()

    def time_calls(self, *_):
        self.loop(*self.arguments)


class CFunctions:
    """Loss and slope of 100,000 points by a C function pointer, which no loop can inline."""

    params = (["huber"], DTYPES)
    param_names = ("loss", "dtype")

    def setup(self, name, dtype):
        from numba import njit

        import fastloss

        if not hasattr(fastloss, "capi"):
            raise NotImplementedError("no C functions")
        function = getattr(getattr(fastloss.capi, name), dtype).ctypes

        @njit
        def loop(pred, target, slope, curvature):
            total = 0.0
            for i in range(pred.size):
                total += function(pred[i], target[i], 1.0, slope.ctypes, curvature.ctypes)
            return total

        arrays = [array.ravel() for array in Call(name, dtype, "small").arrays]
        self.arrays = [np.resize(array, 100_000) for array in arrays]
        self.arrays += [np.empty(1, dtype) for _ in range(2)]
        self.loop = loop
        self.time_loop()

    def time_loop(self, *_):
        self.loop(*self.arrays)
