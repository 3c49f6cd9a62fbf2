"""Which files the names after `--file` stand for: a path, a variable that holds one, a pattern; not read yet.

A path is looked for in the kernel's folder, then beside the notebook.
"""

from __future__ import annotations

import contextlib
import difflib
import glob
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from kimi_magics.client.fetch import name_address
from kimi_magics.core.interpolate import resolve
from kimi_magics.errors import FileError, VariableError
from kimi_magics.notebook.page_pictures import find_notebook
from kimi_magics.notebook.paths import expand_path
from kimi_magics.notebook.sources import shorten

#: More files than this by one pattern or list are probably not meant.
_MOST_AT_ONCE = 50
#: So many names of a folder are compared with one that is not there.
_MOST_BESIDE = 2_000
_ADDRESS = re.compile(r"(?:https?|ftp)://", re.IGNORECASE)
_REMEDY = "name a file, a pattern of files, or a variable that holds a path"


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file, and what it is called, also to the model: no folder is told but those below the kernel's own."""

    path: Path
    label: str


def find_files(names: Iterable[str], variables: Mapping[str, Any]) -> list[NamedFile]:
    """Return the files that names stand for, each once. Raises FileError."""
    notebook = find_notebook(variables)
    places = [Path()] if notebook is None else [Path(), notebook.parent]
    files: dict[str, NamedFile] = {}
    for name in names:
        for path in _find_paths(name, variables, places):
            whole = os.path.abspath(path)
            files.setdefault(whole, NamedFile(Path(whole), _name_path(Path(whole), places)))
    return list(files.values())


def _find_paths(name: str, variables: Mapping[str, Any], places: Sequence[Path]) -> list[Path]:
    """Return a file, the files of a variable, or those of a pattern; `data.csv` may be a file beside a `data`."""
    path = _find_file(name, places)
    if path is not None:
        return [path]
    if re.split(r"[.\[]", name)[0] in variables:
        # Else it is a file that is not there: `notes.md`, beside a variable `notes`.
        with contextlib.suppress(VariableError):
            return _unfold(resolve(name, variables), shorten(name), places)
    for place in places if glob.has_magic(name) else ():
        pattern = str(expand_path(name) or "")
        found = sorted(place / one for one in glob.glob(pattern, root_dir=place, recursive=True))
        paths = [path for path in found if path.is_file()]
        if len(paths) > _MOST_AT_ONCE:
            raise FileError(
                f"{shorten(name)} names {len(paths):,} files", remedy=f"name at most {_MOST_AT_ONCE} at once"
            )
        if paths:
            return paths
    raise _explain_nothing(name, places)


def _find_file(name: str, places: Sequence[Path]) -> Path | None:
    if _ADDRESS.match(name):
        raise FileError(f"{name_address(name)} is an address", remedy="download the file, and name it")
    path = expand_path(name)
    try:
        return next((place / path for place in places if (place / path).is_file()), None) if path else None
    except (OSError, ValueError):
        return None  # in a folder that is closed, or with characters that no name has


def _unfold(value: Any, label: str, places: Sequence[Path]) -> list[Path]:
    """Return the file that a variable holds the path of, or the files of a list of paths."""
    if not isinstance(value, list | tuple):
        return [_find_held(value, label, places)]
    if not value:
        raise FileError(f"{label} is empty: it names no file", remedy=_REMEDY)
    if len(value) > _MOST_AT_ONCE:
        raise FileError(f"{label} has {len(value):,} parts", remedy=f"name at most {_MOST_AT_ONCE} at once")
    return [_find_held(part, f"{label}[{at}]", places) for at, part in enumerate(value)]


def _find_held(value: Any, label: str, places: Sequence[Path]) -> Path:
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str):
        raise FileError(
            f"{label} is of type {type(value).__name__}, which is no path",
            remedy=f"put it into the prompt as {{{{{label}}}}}, or name a file",
        )
    path = _find_file(text, places)
    if path is None:
        raise _explain_nothing(text, places, label=label)
    return path


def _explain_nothing(name: str, places: Sequence[Path], *, label: str = "") -> FileError:
    """Return what is wrong with a name that no file has; `label` names the variable that it stands in."""
    of = f" (in the variable {label})" if label else ""
    path = expand_path(name)
    try:
        if path and any((place / path).is_dir() for place in places):
            pattern = f"{shorten(name.rstrip('/'))}/*.md"
            return FileError(
                f"{shorten(name)} is a folder{of}",
                remedy=f'name a file in it, or all with a pattern: --file "{pattern}"',
            )
        if path and any((place / path).exists() for place in places):
            return FileError(f"{shorten(name)} is not a file{of}", remedy=_REMEDY)
        if glob.has_magic(name):
            return FileError(f"no file matches {shorten(name)}{of}", remedy=f"the folder is {Path.cwd()}")
        close = _find_close(path, places) if path else None
    except (OSError, ValueError):
        close = None
    advice = f"did you mean {shorten(str(close))}? " if close else ""
    return FileError(f"there is no file {shorten(name)}{of}", remedy=f"{advice}{_REMEDY}; the folder is {Path.cwd()}")


def _find_close(path: Path, places: Sequence[Path]) -> Path | None:
    """Return the file beside `path` whose name is most like its own."""
    for place in places:
        folder = (place / path).parent
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _MOST_BESIDE) if entry.is_file()]
        close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
        if close:
            return path.with_name(close[0])
    return None


def _name_path(whole: Path, places: Sequence[Path]) -> str:
    """Return what a file is called: its path below the kernel's or the notebook's folder, else its own name."""
    folders = [Path(os.path.abspath(place)) for place in places]
    below = next((whole.relative_to(folder) for folder in folders if whole.is_relative_to(folder)), None)
    name = whole.name if below is None else below.as_posix()
    # As one line, inside of quotation marks.
    name = "".join(letter if letter.isprintable() else " " for letter in name).replace('"', "'")
    return name if len(name) <= 120 else f"…{name[-119:]}"
