"""The asv suite: how speed, memory and accuracy move from commit to commit.

``asv run`` measures, ``asv publish`` and ``asv preview`` show the graphs. Everything is measured
without peers: those are for ``pytest bench`` and ``fastloss bench``.
"""

import os
from pathlib import Path

# Kernels of its own, so that neither the user's cache nor the suite's runs warm each other. Set
# before Numba is imported, which reads it once.
os.environ["NUMBA_CACHE_DIR"] = str(Path(__file__).parents[2] / ".asv" / "kernels")
