"""Which notebooks `kimi-magics cost` reads, and what it finds in them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kimi_magics.core.receipts import Found, clean, find_receipts
from kimi_magics.errors import NotebookError
from kimi_magics.store.notebooks import read_cells


@dataclass(slots=True)
class Reading:
    """What was found in the notebooks: how many could be read, which have no receipt, what went wrong."""

    found: Found = field(default_factory=Found)
    notebooks: int = 0
    without: list[str] = field(default_factory=list)
    problems: list[NotebookError] = field(default_factory=list)


def read_receipts(names: Sequence[str]) -> Reading:
    """Return the receipts of notebooks, of those below folders, and of those that patterns fit; each file once."""
    reading, seen = Reading(), set()
    for path in _find_files(names, reading):
        # Unlike Path.resolve it takes links that lead to themselves, too.
        place = os.path.realpath(path)
        if place in seen:
            continue
        seen.add(place)
        shown = clean(str(path))
        try:
            cells = read_cells(path)
        except NotebookError as error:
            reading.problems.append(NotebookError(_clean_lines(error.message), remedy=_clean_lines(error.remedy)))
            continue
        reading.notebooks += 1
        if not find_receipts(cells, notebook=shown, found=reading.found):
            reading.without.append(shown)
    return reading


# os.path and not Path asks what a name is: where it may not be looked at, that is no error yet.
def _find_files(names: Sequence[str], reading: Reading) -> Iterator[Path]:
    """Yield the files that names stand for: files, all notebooks below a folder, or what a pattern fits."""
    for name in names:
        if os.path.isdir(name):
            files, what = list(_walk(name, reading)), "no notebook in it"
        elif not os.path.lexists(name) and glob.has_magic(name):
            files, what = [file for match in _match(name, reading) for file in match], "nothing that fits"
        else:
            files, what = [name], ""
        if not files:
            reading.problems.append(
                NotebookError(f"{clean(name)}: there is {what}", remedy="name notebooks, folders or patterns")
            )
        yield from map(Path, files)


def _match(pattern: str, reading: Reading) -> Iterator[Iterable[str]]:
    for name in sorted(glob.glob(pattern, recursive=True)):
        # A pipe would be waited for.
        yield _walk(name, reading) if os.path.isdir(name) else [name] if os.path.isfile(name) else []


def _walk(folder: str, reading: Reading) -> Iterator[str]:
    """Yield the notebooks below a folder; not those in hidden ones, as checkpoints are."""

    def tell(error: OSError) -> None:
        place = clean(str(error.filename))
        reading.problems.append(NotebookError(f"{place} cannot be read: {error.strerror}"))

    for parent, folders, files in os.walk(folder, onerror=tell):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = os.path.join(parent, name)
            if name.endswith(".ipynb") and not name.startswith(".") and os.path.isfile(path):
                yield path


def _clean_lines(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
