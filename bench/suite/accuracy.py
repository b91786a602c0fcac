"""Errors in units in the last place, which must not grow while the kernels become faster."""

import numpy as np

from .common import CLASSES, DTYPES, LOSSES, arrays, find


class Accuracy:
    """The largest error against the loss's textbook formula in longdouble."""

    params = (list(LOSSES), DTYPES)
    param_names = ("loss", "dtype")
    unit = "ulp"

    def setup(self, name, dtype):
        if np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps:
            raise NotImplementedError("longdouble is no wider than float64")
        self.loss = find(name)
        pred, self.target, _ = arrays(name, dtype, "in cache")
        self.pred = 3 * pred
        if LOSSES[name] == CLASSES:  # a tenth is enough: longdouble is slow
            self.pred, self.target = self.pred[:25], self.target[:25]
        wide = self.target if LOSSES[name] == CLASSES else self.target.astype(np.longdouble)
        self.true = self.loss.reference(self.pred.astype(np.longdouble), wide)

    def track_value_error(self, *_):
        return _ulps(self.loss(self.pred, self.target), self.true[0], self.pred.dtype)

    def track_gradient_error(self, *_):
        gradient = self.loss.value_and_grad(self.pred, self.target)[1]
        return _ulps(gradient, self.true[1], self.pred.dtype)


def _ulps(got, true, dtype):
    got, true = np.asarray(got, np.longdouble), np.asarray(true, np.longdouble)
    ulp = np.spacing(np.abs(true).astype(dtype)).astype(np.longdouble)
    return float(np.max(np.abs(got - true) / ulp))
