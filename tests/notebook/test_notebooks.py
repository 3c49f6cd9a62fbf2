"""The notebooks give what is saved in them: each is run by nbval against a sandbox of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kimi_magics.sandbox import Sandbox, SandboxOptions

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_gives_what_is_saved_in_it(notebook: Path, tmp_path: Path) -> None:
    with Sandbox(options=SandboxOptions()) as sandbox:
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "--nbval", "--nbval-sanitize-with"),
                *(str(Path(__file__).with_name("nbval_sanitize.cfg")), "-p", "no:cacheprovider"),
                *("--rootdir", str(tmp_path), "-c", os.devnull, str(notebook)),
            ],
            env={**os.environ, "MOONSHOT_BASE_URL": sandbox.base_url, "MOONSHOT_API_KEY": "sandbox"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
