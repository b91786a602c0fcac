"""What needs a process of its own: imports, first calls, and memory."""

import textwrap
from pathlib import Path

from .common import DTYPES, LOSSES, Call, set_threads

_PREPARE = """
import os, sys, tempfile
{cache}
sys.path.insert(0, {folder!r})
import numba, numpy as np
import fastloss as fl
from suite.common import Call
call = Call({name!r}, "float32", "small")
"""


def _setup(name, cache):
    folder = str(Path(__file__).parents[1])
    return textwrap.dedent(_PREPARE).format(name=name, cache=cache, folder=folder)


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
        Call(name, "float32", "small").value_and_grad()  # leaves the kernel in the cache

    def timeraw_cold_cache(self, name):
        empty = "os.environ['NUMBA_CACHE_DIR'] = tempfile.mkdtemp()"
        return "call.value_and_grad()", _setup(name, empty)

    def timeraw_warm_cache(self, name):
        # The raw process inherits the suite's own NUMBA_CACHE_DIR.
        return "call.value_and_grad()", _setup(name, "")


class Memory:
    """Memory of large calls with buffers given."""

    params = (list(LOSSES), DTYPES)
    param_names = ("loss", "dtype")

    def setup(self, name, dtype):
        set_threads(1)
        self.call = Call(name, dtype, "beyond cache")

    def peakmem_call(self, *_):
        """Peak of the whole process, arrays and Numba included."""
        self.call.value_and_grad(grad_out=self.call.out)

    def track_extra_memory(self, *_):
        """Return by how much a call raises the memory of the process above what it was."""
        self.call.value_and_grad(grad_out=self.call.out)
        try:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        except OSError:
            raise NotImplementedError("the peak can be reset on Linux only") from None
        before = _status("VmRSS")
        self.call.value_and_grad(grad_out=self.call.out)
        return max(0, _status("VmHWM") - before)

    track_extra_memory.unit = "bytes"


def _status(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise NotImplementedError(f"no {key} in /proc/self/status")
