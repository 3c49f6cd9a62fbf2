"""Pictures that stand in the notebook, not in the kernel: attached to a text cell, or displayed by an earlier kernel.

A page that shows the notebook is asked first, since it has what is not saved yet; without one the saved file is read.
"""

from __future__ import annotations

import binascii
import json
import os
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import translate
from pathlib import Path
from re import compile as compile_pattern
from typing import Any

#: What can be sent; of a picture that is there in several forms, the first of these.
_KINDS = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp")

Picture = tuple[str, bytes]


class NotebookPictures:
    """Finds pictures in the notebook of one kernel.

    `ask_page` gives a page's answer to a question, `[[mime, base64], …]`, or None when no page answers; `find_path`
    gives the saved notebook, or None.
    """

    def __init__(self, ask_page: Callable[[dict[str, Any]], Any], find_path: Callable[[], Path | None]) -> None:
        self._ask_page = ask_page
        self._find_path = find_path

    def attachments(self, name: str) -> list[bytes]:
        """Return the attachments of text cells with that name, or that the glob fits; those of the last cell first."""
        return [data for _, data in self._find("attachments", name, _find_attachments)]

    def outputs(self, cell: str) -> list[Picture]:
        """Return the pictures (MIME type, data) that a cell shows, in order; `cell` is its id or its number."""
        return self._find("outputs", cell, _find_outputs)

    def _find(
        self, what: str, name: str, find: Callable[[list[dict[str, Any]], str], Iterable[tuple[str, str]]]
    ) -> list[Picture]:
        found = self._ask_page({"op": "pictures", "what": what, "name": name})
        if found is None:
            found = find(self._read_cells(), name)
        return list(_decode(found))

    def _read_cells(self) -> list[dict[str, Any]]:
        path = self._find_path()
        if path is None:
            return []
        try:
            cells = _as_dict(json.loads(path.read_text("utf-8"))).get("cells")
        except (OSError, ValueError):
            return []
        # A notebook of a format before version 4 has its cells elsewhere.
        return [cell for cell in cells if isinstance(cell, dict)] if isinstance(cells, list) else []


def find_notebook(variables: Mapping[str, Any]) -> Path | None:
    """Return the saved notebook of this kernel as far as its front end told it; `variables` are those of the user."""
    # VS Code puts the path among the variables; Jupyter Server names the session by it.
    for named in (variables.get("__vsc_ipynb_file__"), os.environ.get("JPY_SESSION_NAME")):
        if isinstance(named, str) and named.endswith(".ipynb"):
            # The working folder of a kernel is that of its notebook, where the name is no whole path.
            for path in (Path(named), Path(Path(named).name)):
                if path.is_file():
                    return path
    return None


def _as_dict(value: Any) -> dict[str, Any]:
    """Return the value where it is what the format wants, so that an odd file is one without pictures."""
    return value if isinstance(value, dict) else {}


def _find_attachments(cells: list[dict[str, Any]], name: str) -> Iterator[tuple[str, str]]:
    fits = compile_pattern(translate(name)).match if "*" in name or "?" in name else name.__eq__
    for cell in reversed(cells):
        attached = cell.get("attachments") if cell.get("cell_type") != "code" else None
        for key, bundle in _as_dict(attached).items():
            if fits(key):
                yield from _pick_picture(_as_dict(bundle))


def _find_outputs(cells: list[dict[str, Any]], name: str) -> Iterator[tuple[str, str]]:
    code = [cell for cell in cells if cell.get("cell_type") == "code"]
    meant = [cell for cell in code if cell.get("id") == name]
    for cell in meant or [cell for cell in code if str(cell.get("execution_count") or "") == name]:
        for output in cell.get("outputs") or []:
            yield from _pick_picture(_as_dict(_as_dict(output).get("data")))


def _pick_picture(bundle: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the picture of a bundle: the forms of the same picture come in the same bundle."""
    for mime in _KINDS:
        if data := bundle.get(mime):
            yield mime, data if isinstance(data, str) else "".join(data)
            return


def _decode(found: Iterable[tuple[str, str]]) -> Iterator[Picture]:
    for mime, data in found:
        try:
            yield mime, b64decode(data)
        except (binascii.Error, TypeError, ValueError):
            continue
