"""The image's program: brings the compiled kernels to where it may write, then runs the operator.

Numba reads its cache only where it could also write.
"""

from __future__ import annotations

import os
import runpy
import shutil
from pathlib import Path

KERNELS = Path(__file__).with_name("kernels")

if __name__ == "__main__":
    shutil.copytree(KERNELS, os.environ["NUMBA_CACHE_DIR"], dirs_exist_ok=True)
    runpy.run_module("gpupilot_operator", run_name="__main__", alter_sys=True)
