"""Losses that users write: what the derivatives cost that they do not write."""

import numpy as np

from .common import DTYPES, best_of, set_threads


def loss_alone(pred, target, delta=1.0):
    size = abs(pred - target)
    return 0.5 * size**2 if size <= delta else delta * (size - 0.5 * delta)


def with_slope(pred, target, delta=1.0):
    T = type(pred)
    residual = pred - target
    slope = min(max(residual, -delta), delta)
    return slope * (residual - T(0.5) * slope), slope


def exponential(pred, target):
    return np.logaddexp(0.0, pred) - target * pred


FORMS = {
    "loss alone": (loss_alone, "huber"),
    "loss and slope": (with_slope, "huber"),
    "of NumPy's functions": (exponential, "sigmoid_cross_entropy"),
}
"""Functions in the forms that users may choose, and the library's loss of the same values."""


class OwnLosses:
    """Value and gradient of a million elements on one thread."""

    params = (list(FORMS), DTYPES)
    param_names = ("form", "dtype")

    def setup(self, form, dtype):
        import fastloss

        if not hasattr(fastloss, "elementwise"):
            raise NotImplementedError("no losses of users")
        set_threads(1)
        rng = np.random.default_rng(0)
        pred, target = rng.standard_normal(1_000_000), rng.random(1_000_000)
        self.arrays = pred.astype(dtype), target.astype(dtype)
        self.out = np.empty_like(self.arrays[0])
        function, name = FORMS[form]
        self.loss, self.library = fastloss.elementwise(function), getattr(fastloss, name)
        self.time_value_and_grad()

    def time_value_and_grad(self, *_):
        self.loss.value_and_grad(*self.arrays, grad_out=self.out)

    def track_ratio_to_the_library(self, *_):
        """Time over that of the library's own loss, whose derivative is written by hand."""
        calls = (
            lambda loss=loss: loss.value_and_grad(*self.arrays, grad_out=self.out)
            for loss in (self.loss, self.library)
        )
        own, library = map(best_of, calls)
        return own / library

    track_ratio_to_the_library.unit = "times"
