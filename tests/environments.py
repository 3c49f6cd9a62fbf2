"""Environments of their own: this project as a user installs it beside an older package, or a foreign server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def make_environment(folder: Path, *packages: str) -> str:
    """Install this project and `packages` below `folder`; return the interpreter's path."""
    return _make(folder, *packages, str(ROOT), cwd=None)


def make_foreign_environment(folder: Path, *packages: str) -> str:
    """Install `packages` alone below `folder`; return the interpreter's path."""
    # From elsewhere: what this project's own file says of packages, as that litellm needs none, is not for them.
    folder.parent.mkdir(parents=True, exist_ok=True)
    return _make(folder, *packages, cwd=folder.parent)


def _make(folder: Path, *wanted: str, cwd: Path | None) -> str:
    python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    if uv := shutil.which("uv"):
        _run(uv, "venv", "--quiet", "--python", sys.executable, str(folder), cwd=cwd)
        # uv takes a wheel it has built before, also where a module has changed since.
        refresh = ("--refresh-package", "kimi-magics")
        _run(uv, "pip", "install", "--quiet", "--python", python, *refresh, *wanted, cwd=cwd)
    else:
        _run(sys.executable, "-m", "venv", str(folder), cwd=cwd)
        _run(python, "-m", "pip", "install", "--quiet", *wanted, cwd=cwd)
    return python


def _run(*command: str, cwd: Path | None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=cwd)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
