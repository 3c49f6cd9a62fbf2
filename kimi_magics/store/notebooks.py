"""A notebook file: read as it is, and written so that nobody's work is lost.

The promise: the file is the old or the new one, never a part; it keeps its mode; what somebody else wrote meanwhile is
not written over; and a file of which nothing changes is not touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kimi_magics.core.json_text import Style, read_style
from kimi_magics.errors import NotebookChangedError, NotebookError


@dataclass(frozen=True, slots=True)
class Notebook:
    """The text of a notebook file as it stood on the disk, its content, and how it is written."""

    path: Path
    text: str
    content: dict[str, Any]
    style: Style

    @property
    def cells(self) -> list[dict[str, Any]]:
        """The cells."""
        cells: list[dict[str, Any]] = self.content["cells"]
        return cells


def read_notebook(path: Path) -> Notebook:
    """Read a notebook of format 4. Raises NotebookError."""
    return _parse(path, _read_text(path))


def read_cells(path: Path) -> list[Any]:
    """Return the cells of a notebook of any format, for a reader; they may be anything. Raises NotebookError."""
    content = _read_json(path, _read_text(path))
    # Formats 2 and 3 have worksheets.
    sheets = content.get("worksheets")
    parts = [content, *(sheets if isinstance(sheets, list) else [])]
    found = [part["cells"] for part in parts if isinstance(part, dict) and isinstance(part.get("cells"), list)]
    if not found:
        raise NotebookError(f"{path} is not a notebook: it has no list of cells", remedy="mend the file")
    return [cell for cells in found for cell in cells]


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise NotebookError(f"{path} is not there", remedy="name a notebook file") from None
    except IsADirectoryError:
        raise NotebookError(f"{path} is a folder", remedy=f"name its notebooks: {path}/*.ipynb") from None
    except UnicodeDecodeError as error:
        raise NotebookError(f"{path} is not a notebook: {error}", remedy="a notebook is JSON in UTF-8") from None
    except OSError as error:
        raise NotebookError(f"{path} cannot be read: {error.strerror or error}") from None


def _read_json(path: Path, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotebookError(
            f"{path} is not a notebook: {error}", remedy="mend the file, or take it from a checkpoint"
        ) from None
    if not isinstance(content, dict) or content.get("nbformat") is None:
        raise NotebookError(f"{path} is not a notebook: it has no nbformat", remedy="name a notebook file")
    return content


def _parse(path: Path, text: str, style: Style | None = None) -> Notebook:
    content = _read_json(path, text)
    version = content["nbformat"]
    if version != 4:
        raise NotebookError(
            f"{path} is a notebook of format {version}, and format 4 is needed",
            remedy="open and save it in JupyterLab, or use: jupyter nbconvert --to notebook",
        )
    cells = content.get("cells")
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise NotebookError(f"{path} is not a notebook: it has no list of cells", remedy="mend the file")
    return Notebook(path, text, content, style or read_style(text))


def check_writable(path: Path) -> None:
    """Raise NotebookError when the notebook could not be written back: better before it is paid for."""
    target = path.resolve()
    # The superuser may write everything; a file that is read-only is meant to stay as it is.
    if not target.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) or not os.access(target, os.W_OK):
        raise NotebookError(f"{path} is read-only", remedy=f"chmod u+w {path}")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise NotebookError(f"the folder of {path} is read-only", remedy="copy the notebook to a folder of your own")


def write_notebook(notebook: Notebook, text: str) -> Notebook:
    """Put `text` in the place of what was read. Raises NotebookChangedError when the file is no longer that."""
    changed = _parse(notebook.path, text, notebook.style)
    if text == notebook.text:
        return notebook
    target = notebook.path.resolve()  # a link stays a link
    name = None
    try:
        mode = stat.S_IMODE(target.stat().st_mode)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        if target.read_bytes() != notebook.text.encode("utf-8"):
            raise NotebookChangedError(
                f"{notebook.path} was changed by another program", remedy="run the command again for what is left"
            )
        os.replace(name, target)
        name = None
    except OSError as error:
        raise NotebookError(
            f"{notebook.path} cannot be written: {error.strerror or error}", remedy="it is as it was before"
        ) from None
    finally:
        if name is not None:
            with contextlib.suppress(OSError):
                os.unlink(name)
    return changed
