"""What needs a process of its own: imports, first calls, and memory."""

import textwrap
from pathlib import Path

from .common import DTYPES, LOSSES, arrays, find, set_threads

_PREPARE = """
import os, tempfile
{cache}
import numba, numpy as np
import fastloss as fl
loss = fl.{name}
pred = np.random.default_rng(0).standard_normal((32, 10)).astype(np.float32)
target = np.zeros({shape}, {dtype})
"""


def _setup(name, cache):
    softmax = LOSSES[name] == "softmax"
    shape, dtype = ("32", "np.int64") if softmax else ("(32, 10)", "np.float32")
    return textwrap.dedent(_PREPARE).format(name=name, cache=cache, shape=shape, dtype=dtype)


class Imports:
    """Importing the package, and Numba, on which it is built."""

    number = 1
    repeat = 5

    def timeraw_import_fastloss(self):
        return "import fastloss"

    def timeraw_import_a_loss(self):
        return "from fastloss import mse"

    def timeraw_import_numba(self):
        return "import numba"


class FirstCall:
    """The first call of a process: compiling, or loading what an earlier process has compiled."""

    params = (list(LOSSES),)
    param_names = ("loss",)
    number = 1
    repeat = 3

    def setup(self, name):
        loss = find(name)
        pred, target, _ = arrays(name, "float32", "small")
        loss.value_and_grad(pred, target)  # leaves the kernel in the cache

    def timeraw_cold_cache(self, name):
        empty = "os.environ['NUMBA_CACHE_DIR'] = tempfile.mkdtemp()"
        return "loss.value_and_grad(pred, target)", _setup(name, empty)

    def timeraw_warm_cache(self, name):
        # The raw process inherits the suite's own NUMBA_CACHE_DIR.
        return "loss.value_and_grad(pred, target)", _setup(name, "")


class Memory:
    """Memory of large calls with buffers given."""

    params = (list(LOSSES), DTYPES)
    param_names = ("loss", "dtype")

    def setup(self, name, dtype):
        set_threads(1)
        self.loss = find(name)
        self.arguments = arrays(name, dtype, "beyond cache")

    def peakmem_call(self, *_):
        """Peak of the whole process, arrays and Numba included."""
        pred, target, out = self.arguments
        self.loss.value_and_grad(pred, target, grad_out=out)

    def track_extra_memory(self, *_):
        """Return by how much a call raises the memory of the process above what it was."""
        pred, target, out = self.arguments
        self.loss.value_and_grad(pred, target, grad_out=out)
        try:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        except OSError:
            raise NotImplementedError("the peak can be reset on Linux only") from None
        before = _status("VmRSS")
        self.loss.value_and_grad(pred, target, grad_out=out)
        return max(0, _status("VmHWM") - before)

    track_extra_memory.unit = "bytes"


def _status(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise NotImplementedError(f"no {key} in /proc/self/status")
