"""What a name after `-i` stands for: a variable of the user, what was displayed, a file, an address; not read yet.

A name is read in this order: `last`, `last:3`, `clipboard`, `cell:…`, `attachment:…`, an address, a file, a variable, a
pattern of files.
"""

from __future__ import annotations

import difflib
import glob
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kimi_magics.client.fetch import fetch_picture, name_address
from kimi_magics.core.interpolate import resolve
from kimi_magics.errors import ImageError
from kimi_magics.notebook.page_pictures import find_notebook
from kimi_magics.notebook.paths import expand_path
from kimi_magics.notebook.pictures import find_figure, refuse_svg

if TYPE_CHECKING:
    from kimi_magics.notebook.gallery import Gallery, Shown

#: More pictures than this by one pattern or list are probably not meant.
_MOST_AT_ONCE = 50
_MOST_FETCHED = 8
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_LAST = re.compile(r"last(?::(\d+))?")
_CELL = re.compile(r"cell:(?P<cell>[^\[\]]+)(?:\[(?P<index>-?\d+)\])?")
_REMEDY = "name a figure, a PIL image, an array, bytes, last, or the path of a picture"


class Notebook(Protocol):
    """What can be asked of the notebook beside its kernel: the page, or else the saved file."""

    def attachments(self, name: str) -> list[bytes]:
        """Return the attachments of that name, of any Markdown cell."""

    def outputs(self, cell: str) -> list[tuple[str, bytes]]:
        """Return MIME type and bytes of the pictures among the outputs of a cell."""


@dataclass(frozen=True, slots=True)
class Found:
    """One picture that a name stands for, not read yet: a value, a path or bytes."""

    value: Any
    label: str


class Sources:
    """Finds what names stand for, in one kernel."""

    def __init__(
        self,
        *,
        gallery: Gallery | None = None,
        notebook: Notebook | None = None,
        fetch: Callable[[str], bytes] = fetch_picture,
        grab: Callable[[], Any] | None = None,
    ) -> None:
        self._gallery = gallery
        self._notebook = notebook
        self._fetch = fetch
        self._grab = grab or _grab_clipboard
        self._fetched: OrderedDict[str, bytes] = OrderedDict()

    def find(self, name: str, variables: Mapping[str, Any], *, may_fetch: bool = True) -> list[Found]:
        """Return what `name` stands for, at least one. Raises ImageError and VariableError."""
        if match := _LAST.fullmatch(name):
            return self._find_last(int(match[1] or 1), variables)
        if name == "clipboard":
            return self._find_clipboard()
        if match := _CELL.fullmatch(name):
            return self._find_cell(match["cell"], match["index"])
        if name.startswith("attachment:"):
            return self._find_attachment(name.removeprefix("attachment:"))
        if _ADDRESS.match(name):
            return [Found(self._fetch_again(name), name_address(name))]
        return self._find_named(name, variables, may_fetch=may_fetch)

    def peek(self, name: str, variables: Mapping[str, Any]) -> list[Found] | None:
        """Return what a name stands for as far as that is known here, or None."""
        if _ADDRESS.match(name):
            data = self._fetched.get(name)
            return None if data is None else [Found(data, name_address(name))]
        if name == "clipboard" or name.startswith("attachment:"):
            return None
        match = _CELL.fullmatch(name)
        if match and not (self._gallery and self._gallery.of_cell(match["cell"])):
            return None
        values = self.find(name, variables, may_fetch=False)
        return None if any(_address_of(found.value) for found in values) else values

    # ------------------------------------------------------------ names of Python, and files

    def _find_named(self, name: str, variables: Mapping[str, Any], *, may_fetch: bool) -> list[Found]:
        """Return a file, a variable, or the files of a pattern.

        `plot.png` may be a file although there is a variable `plot`.
        """
        path = self.find_file(name, variables)
        first = re.split(r"[.\[]", name)[0]
        if path is None and first in variables:
            return self._unfold(resolve(name, variables), shorten(name), may_fetch=may_fetch)
        if path is not None:
            return [Found(path, shorten(name))]
        pattern = expand_path(name)
        paths = sorted(Path(found) for found in glob.glob(str(pattern or ""), recursive=True))
        paths = [found for found in paths if found.is_file()]
        if len(paths) > _MOST_AT_ONCE:
            raise ImageError(
                f"{shorten(name)} names {len(paths)} files", remedy=f"name at most {_MOST_AT_ONCE} at once"
            )
        if paths:
            return [Found(found, shorten(str(found))) for found in paths]
        raise self._explain_nothing(name, variables)

    def find_file(self, name: str, variables: Mapping[str, Any]) -> Path | None:
        """Return the file of that name: in the kernel's folder, which may have changed, else beside the notebook."""
        path = expand_path(name)
        if path is None:
            return None
        notebook = find_notebook(variables)
        places = [path] if notebook is None else [path, notebook.parent / path]
        try:
            found = next((place for place in places if place.is_file()), None)
            if found is None and any(place.is_dir() for place in places):
                raise ImageError(
                    f"{shorten(name)} is a folder",
                    remedy=f'name a file in it, or all with a pattern: -i "{shorten(name.rstrip("/"))}/*.png"',
                )
        except (OSError, ValueError):
            return None  # too long for a name, or with characters that no name has
        return found

    def _explain_nothing(self, name: str, variables: Mapping[str, Any]) -> ImageError:
        if glob.has_magic(name):
            return ImageError(f"no file matches {shorten(name)}", remedy=f"the folder is {Path.cwd()}")
        names = [one for one in variables if isinstance(one, str) and not one.startswith("_")]
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
        advice = f"did you mean {close[0]}? " if close else ""
        return ImageError(f"{shorten(name)} is neither a variable nor a file", remedy=advice + _REMEDY)

    def _unfold(self, value: Any, label: str, *, may_fetch: bool) -> list[Found]:
        """Return the pictures of a list one by one; one that is only an address is fetched."""
        if isinstance(value, list | tuple) and value:
            if len(value) > _MOST_AT_ONCE:
                raise ImageError(f"{label} has {len(value):,} parts", remedy=f"name at most {_MOST_AT_ONCE} at once")
            # What a plot returns is a list of lines, which are one figure.
            figures = [find_figure(one) for one in value]
            if figures[0] is not None and all(figure is figures[0] for figure in figures):
                return [Found(value[0], label)]
            return [self._take_part(part, f"{label}[{at}]", may_fetch=may_fetch) for at, part in enumerate(value)]
        return [self._take_part(value, label, may_fetch=may_fetch)]

    def _take_part(self, value: Any, label: str, *, may_fetch: bool) -> Found:
        address = _address_of(value)
        if address and may_fetch:
            return Found(self._fetch_again(address), name_address(address))
        return Found(value, label)

    # ------------------------------------------------------------ what is not a name of Python

    def _find_last(self, count: int, variables: Mapping[str, Any]) -> list[Found]:
        if count < 1:
            raise ImageError("last:0 names no picture", remedy="write last, or last:3 for the last three")
        shown = self._gallery.newest(count) if self._gallery else []
        if not shown:
            raise ImageError(
                "no picture was displayed in this kernel yet",
                remedy="run the cell that shows it, or name it: a variable, a file, cell:ID",
            )
        return [_take(one, "last" if len(shown) == 1 else f"last {at}") for at, one in enumerate(shown, 1)]

    def _find_cell(self, cell: str, index: str | None) -> list[Found]:
        label = f"cell:{shorten(cell)}"
        shown = self._gallery.of_cell(cell) if self._gallery else []
        founds = [_take(one, label) for one in shown]
        if not founds and self._notebook is not None:
            founds = [Found(data, label) for _mime, data in self._notebook.outputs(cell)]
        if not founds:
            raise ImageError(
                f"the cell {shorten(cell)} shows no picture",
                remedy="name it by its id or by its number, as in cell:3 for [3]; run it first",
            )
        founds = [replace(found, label=f"{label}[{at}]") for at, found in enumerate(founds)]
        if index is None:
            return founds
        try:
            return [founds[int(index)]]
        except IndexError:
            has = f"{len(founds)} picture" + "s" * (len(founds) > 1)
            raise ImageError(
                f"the cell {shorten(cell)} shows {has}, there is no [{index}]", remedy="count from 0"
            ) from None

    def _find_attachment(self, name: str) -> list[Found]:
        found = self._notebook.attachments(name) if self._notebook is not None else []
        if not found:
            raise ImageError(
                f"no Markdown cell has an attachment {shorten(name)}",
                remedy="save the notebook, and look for the name in ![](attachment:NAME)",
            )
        return [Found(data, f"attachment:{shorten(name)}") for data in found[: None if glob.has_magic(name) else 1]]

    def _find_clipboard(self) -> list[Found]:
        remedy = "copy a picture first; in JupyterLab it can also be pasted into the cell"
        try:
            value = self._grab()
        except Exception as error:  # noqa: BLE001 — what lacks is told in as many ways as there are systems
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ImageError(
                f"the clipboard of the kernel's machine cannot be read: {reason[:120]}",
                remedy="paste the picture into the cell (JupyterLab), or name its file",
            ) from None
        if isinstance(value, list) and value:
            return [Found(Path(one), f"clipboard: {Path(one).name}") for one in value]
        if not value:
            raise ImageError("there is no picture in the clipboard", remedy=remedy)
        return [Found(value, "clipboard")]

    def _fetch_again(self, address: str) -> bytes:
        """Fetch what may have changed, and keep it for drafts."""
        self._fetched[address] = data = self._fetch(address)
        while len(self._fetched) > _MOST_FETCHED:
            self._fetched.popitem(last=False)
        return data


def _take(shown: Shown, label: str) -> Found:
    """Return a picture of the gallery. Raises ImageError when its bytes are not there."""
    if shown.trouble == "svg":
        raise refuse_svg(f"what was displayed ({label})")
    if shown.trouble == "plotly":
        raise ImageError(
            f"what was displayed ({label}) is a plotly figure, drawn by the page",
            remedy="name the figure's variable after -i (with kaleido installed)",
        )
    if shown.trouble == "let-go":
        raise ImageError(
            f"{label} was let go, since the gallery was full",
            remedy="run its cell again, or keep more with %kimi_config gallery_mb=256",
        )
    return Found(shown.data, label)


def _address_of(value: Any) -> str:
    """Return the address of an IPython.display.Image that holds no data, or of a text that is one; else empty."""
    if hasattr(value, "embed") and not getattr(value, "data", None):
        value = getattr(value, "url", None)
    return value if isinstance(value, str) and _ADDRESS.match(value) else ""


def _grab_clipboard() -> Any:
    from PIL import ImageGrab

    return ImageGrab.grabclipboard()


def shorten(name: str) -> str:
    """Return a name for messages."""
    return name if len(name) <= 60 else name[:59] + "…"


def name_source(name: str) -> str:
    """Return what a name is called in messages: of an address only what is no secret."""
    return name_address(name) if _ADDRESS.match(name) else shorten(name)
