"""How long loading takes, in fresh interpreters: `uv run python tests/benchmarks/load.py`."""

from __future__ import annotations

import subprocess
import sys

ROUNDS = 7

IMPORT = "import time; t = time.perf_counter(); import kimi_magics; print(time.perf_counter() - t)"
LOAD = """
import sys, time
from traitlets.config import Config
from IPython.core.interactiveshell import InteractiveShell
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
t = time.perf_counter()
shell.run_line_magic("load_ext", "kimi_magics")
print(time.perf_counter() - t)
"""


def measure(source: str) -> float:
    """Return the least seconds of several fresh interpreters."""
    runs = [
        subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=120)
        for _ in range(ROUNDS)
    ]
    return min(float(run.stdout.split()[-1]) for run in runs)


if __name__ == "__main__":
    print(f"import kimi_magics              {measure(IMPORT) * 1000:6.1f} ms")
    print(f"%load_ext in a bare IPython     {measure(LOAD) * 1000:6.1f} ms")
