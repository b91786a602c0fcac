"""Errors in units in the last place, which must not grow while the kernels become faster."""

import numpy as np

from .common import DTYPES, LOSSES, Call


class Accuracy:
    """The largest error against the loss's textbook formula in longdouble."""

    params = (list(LOSSES), DTYPES)
    param_names = ("loss", "dtype")
    unit = "ulp"

    def setup(self, name, dtype):
        if np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps:
            raise NotImplementedError("longdouble is no wider than float64")
        self.call = call = Call(name, dtype, "in cache")
        if call.arrays[0].ndim == 2:  # a tenth is enough: longdouble is slow
            call.arrays = tuple(array[:25] for array in call.arrays)
        wide = {key: _widened(array) for key, array in call.keywords.items()}
        self.true = call.loss.reference(*map(_widened, call.arrays), **wide)

    def track_value_error(self, *_):
        return _ulps(self.call.value(), self.true[0], self.call.arrays[0].dtype)

    def track_gradient_error(self, *_):
        got, true = self.call.value_and_grad()[1], self.true[1]
        pairs = zip(got, true, strict=True) if isinstance(got, tuple) else [(got, true)]
        return max(_ulps(one, other, self.call.arrays[0].dtype) for one, other in pairs)


def _widened(array):
    return array.astype(np.longdouble) if array.dtype.kind == "f" else array


def _ulps(got, true, dtype):
    got, true = np.asarray(got, np.longdouble), np.asarray(true, np.longdouble)
    ulp = np.spacing(np.abs(true).astype(dtype)).astype(np.longdouble)
    return float(np.max(np.abs(got - true) / ulp))
