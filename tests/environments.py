"""Environments of their own, with this project as a user installs it, for what an older version of a package does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def make_environment(folder: Path, *packages: str) -> str:
    """Install this project and `packages` below `folder`; return the interpreter's path."""
    python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    wanted = [*packages, str(ROOT)]
    if uv := shutil.which("uv"):
        _run(uv, "venv", "--quiet", "--python", sys.executable, str(folder))
        # uv takes a wheel it has built before, also where a module has changed since.
        _run(uv, "pip", "install", "--quiet", "--python", python, "--refresh-package", "kimi-magics", *wanted)
    else:
        _run(sys.executable, "-m", "venv", str(folder))
        _run(python, "-m", "pip", "install", "--quiet", *wanted)
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
