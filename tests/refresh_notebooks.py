"""Run the notebooks against a fresh sandbox and save their outputs: `uv run python tests/refresh_notebooks.py`.

The tests compare what the cells give with what is saved, so this is to be run, and its result read, whenever an output
is meant to change.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from kimi_magics.sandbox import Sandbox, SandboxOptions

FOLDER = Path(__file__).parents[1] / "notebooks"
_LEDGER = re.compile(r"\([^()]*ledger\.sqlite\)")
#: In the place of the temporary one: where a reader's ledger is, on Linux.
_PLACES = {
    "text/plain": "(~/.local/share/kimi_magics/ledger.sqlite)",
    "text/markdown": r"(\~/.local/share/kimi\_magics/ledger.sqlite)",
}


def refresh(path: Path) -> None:
    """Execute one notebook and write it back, without what differs from run to run."""
    notebook = nbformat.read(path, as_version=4)
    with Sandbox(options=SandboxOptions()) as sandbox, tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ,
            "MOONSHOT_BASE_URL": sandbox.base_url,
            "MOONSHOT_API_KEY": "sandbox",
            "KIMI_MAGICS_HOME": home,
            "IPYTHONDIR": home,
        }
        client = NotebookClient(
            notebook, timeout=120, kernel_name="python3", extra_arguments=["--log-level=ERROR"], coalesce_streams=True
        )
        client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            if "text" in output:
                # What names a conversation to the host is made by chance.
                output["text"] = re.sub(r"kimi-magics-[0-9a-f]{24}", f"kimi-magics-{'0' * 24}", output["text"])
            data = output.get("data", {})
            for kind in data.keys() & _PLACES.keys():
                data[kind] = _PLACES[kind].join(_LEDGER.split(data[kind]))
            receipt = output.get("metadata", {}).get("kimi_magics")
            if receipt:
                receipt["request_id"] = "sandbox"
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)
    print(f"{path.name}: {len(notebook.cells)} cells")


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.name for path in FOLDER.glob("*.ipynb")):
        refresh(FOLDER / name)
