"""The pictures of a notebook that lack alt text, and the notebook's text with an alt text written in.

A picture among the outputs gets its alt text twice: in the output's metadata, from where nbconvert takes it, and as
`text/html` with `<img alt>`, which JupyterLab, GitHub and most others show in the place of the bare picture. An output
that has HTML of its own (a table, an interactive plot) keeps it: there the picture only stands in for the HTML.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from kimi_magics.core.describing import figure_html
from kimi_magics.core.json_text import Style, find_value, set_member, splice_string
from kimi_magics.core.markdown_images import MarkdownImage, find_bare_images
from kimi_magics.errors import ImageError
from kimi_magics.store.notebooks import Notebook

_MIMES = ("image/png", "image/jpeg", "image/webp", "image/gif")
_OUTPUTS = ("display_data", "execute_result", "update_display_data")
_NAMED_IMG = re.compile(
    r"<img\b[^>]*?\salt\s*=\s*(?:\"[^\"]*[^\"\s][^\"]*\"|'[^']*[^'\s][^']*'|[^\s\"'>]+)", re.IGNORECASE
)
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:|//|/|\\|~")
_MOST_FILE_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Target:
    """One picture without alt text. `kind` is its MIME type, or what the Markdown names; cells count from 0."""

    cell: int
    cell_id: str | None
    #: The output of a code cell, from 0, or the line of a Markdown cell, from 1.
    index: int
    kind: str
    is_output: bool
    data: bytes
    #: Why the picture cannot be described; empty when it can.
    trouble: str = ""
    #: Why it is passed over, as one that is somewhere else; empty when it is not.
    skipped: str = ""
    image: MarkdownImage | None = None
    #: The SHA-256 of the picture as it stands in the notebook.
    digest: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.sha256(self.data).hexdigest())

    @property
    def place(self) -> str:
        """Where it is, as `cell 5 output 0` or `cell 3 line 1`."""
        return f"cell {self.cell} {'output' if self.is_output else 'line'} {self.index}"


def find_targets(notebook: Notebook) -> list[Target]:
    """Return the pictures that lack alt text, in order."""
    found: list[Target] = []
    for at, cell in enumerate(notebook.cells):
        if cell.get("cell_type") == "code":
            found += _read_outputs(at, cell)
        elif cell.get("cell_type") == "markdown":
            found += _read_markdown(at, cell, notebook.path.parent)
    return found


# ---------------------------------------------------------------- outputs


def _read_outputs(at: int, cell: Mapping[str, Any]) -> Iterator[Target]:
    outputs = cell.get("outputs")
    for index, output in enumerate(outputs if isinstance(outputs, list) else ()):
        if not isinstance(output, dict) or output.get("output_type") not in _OUTPUTS:
            continue
        data = output.get("data")
        data = data if isinstance(data, dict) else {}
        mimes = [mime for mime in _MIMES if mime in data]
        if not mimes or _has_alt(output, mimes):
            continue
        content, trouble = _decode(data[mimes[0]])
        yield Target(at, _id(cell), index, mimes[0], is_output=True, data=content, trouble=trouble)


def _has_alt(output: Mapping[str, Any], mimes: Sequence[str]) -> bool:
    metadata = output.get("metadata")
    for mime in mimes:
        facts = metadata.get(mime) if isinstance(metadata, dict) else None
        alt = facts.get("alt") if isinstance(facts, dict) else None
        if isinstance(alt, str) and alt.strip():
            return True
    return _NAMED_IMG.search(_join(output["data"].get("text/html"))) is not None


def _id(cell: Mapping[str, Any]) -> str | None:
    found = cell.get("id")
    return found if isinstance(found, str) else None


def _join(value: Any) -> str:
    """Return what the format allows as a string or as a list of lines."""
    if isinstance(value, list):
        return "".join(part for part in value if isinstance(part, str))
    return value if isinstance(value, str) else ""


def _decode(value: Any) -> tuple[bytes, str]:
    try:
        data = base64.b64decode("".join(_join(value).split()), validate=True)
    except (binascii.Error, ValueError):
        return b"", "it is not base64"
    return data, "" if data else "it is empty"


# ---------------------------------------------------------------- Markdown


def _read_markdown(at: int, cell: Mapping[str, Any], folder: Path) -> Iterator[Target]:
    attachments = cell.get("attachments")
    source = _join(cell.get("source"))
    for image in find_bare_images(source):
        line = 1 + source.count("\n", 0, image.start)
        data, trouble, skipped = _load(image.target, attachments if isinstance(attachments, dict) else {}, folder)
        kind = image.target if len(image.target) <= 80 else image.target[:79] + "…"
        yield Target(
            at, _id(cell), line, kind, is_output=False, data=data, trouble=trouble, skipped=skipped, image=image
        )


def _load(target: str, attachments: Mapping[str, Any], folder: Path) -> tuple[bytes, str, str]:
    """Return the bytes of what Markdown names, what is wrong with it, and why it is not looked at."""
    if target.startswith("attachment:"):
        bundle = attachments.get(unquote(target.removeprefix("attachment:")))
        bundle = bundle if isinstance(bundle, dict) else {}
        mime = next((mime for mime in _MIMES if mime in bundle), None)
        if mime is not None:
            return (*_decode(bundle[mime]), "")
        return (
            (b"", "", f"{next(iter(bundle))} cannot be sent")
            if bundle
            else (b"", "the cell has no such attachment", "")
        )
    if target.startswith("data:image/") and ";base64," in target[:60]:
        return (*_decode(target.partition(",")[2]), "")
    if _SCHEME.match(target):
        return b"", "", "only files beside the notebook are looked at"
    return _read_file(target, folder)


def _read_file(target: str, folder: Path) -> tuple[bytes, str, str]:
    names = [unquote(target), target, unquote(re.split(r"[?#]", target)[0])]
    try:
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is None:
            return b"", "there is no such file", ""
        if path.suffix.lower() in (".svg", ".svgz"):
            return b"", "", "SVG cannot be sent"
        if path.stat().st_size > _MOST_FILE_BYTES:
            return b"", "the file is over 100 MB", ""
        return path.read_bytes(), "", ""
    except (OSError, ValueError) as error:
        return b"", f"it cannot be read: {getattr(error, 'strerror', None) or error}", ""


# ---------------------------------------------------------------- writing


def write_alts(notebook: Notebook, alts: Sequence[tuple[Target, str]]) -> str:
    """Return the text of the notebook with the alt texts in it, and nothing else changed.

    Raises ImageError when a target is not of this notebook.
    """
    text = notebook.text
    # Within a Markdown cell from its end to its beginning, so that no place moves before its turn.
    order = sorted(alts, key=lambda pair: (pair[0].cell, pair[0].image.start if pair[0].image else 0), reverse=True)
    for target, alt in order:
        try:
            write = _write_output if target.is_output else _write_markdown
            text = write(text, notebook.cells[target.cell], target, alt, notebook.style)
        except (KeyError, IndexError, TypeError) as error:
            raise ImageError(f"{target.place} is no longer there ({error})") from None
    return text


def _write_output(text: str, cell: Mapping[str, Any], target: Target, alt: str, style: Style) -> str:
    # The lines of this output only: in a large notebook each copy of the whole takes long.
    start, end = find_value(text, ["cells", target.cell, "outputs", target.index])
    line = text.rfind("\n", 0, start) + 1
    changed = _change_output(text[line:end], start - line, cell["outputs"][target.index], target, alt, style)
    return text[:line] + changed + text[end:]


def _change_output(text: str, origin: int, output: Mapping[str, Any], target: Target, alt: str, style: Style) -> str:
    """Return `text`, in which the output begins at `origin`, with the alt text in it."""
    data, metadata = output["data"], output.get("metadata")
    facts = metadata.get(target.kind) if isinstance(metadata, dict) else None
    if isinstance(facts, dict):
        text = set_member(text, ["metadata", target.kind], "alt", alt, style=style, origin=origin)
    elif isinstance(metadata, dict):
        text = set_member(text, ["metadata"], target.kind, {"alt": alt}, style=style, origin=origin)
    else:
        text = set_member(text, [], "metadata", {target.kind: {"alt": alt}}, style=style, origin=origin)
    if "text/html" in data:
        return text
    sides = [_side(facts, name) for name in ("width", "height")]
    encoded = "".join(_join(data[target.kind]).split())
    page = figure_html(encoded, target.kind, alt=alt, width=sides[0], height=sides[1])
    # As nbformat writes text: a list of lines, unless this notebook does otherwise.
    is_list = not any(isinstance(value, str) for mime, value in data.items() if mime.startswith("text/"))
    return set_member(text, ["data"], "text/html", [page] if is_list else page, style=style, origin=origin)


def _side(facts: Any, name: str) -> int | None:
    side = facts.get(name) if isinstance(facts, dict) else None
    return side if isinstance(side, int) and 0 < side < 100_000 else None


def _write_markdown(text: str, cell: Mapping[str, Any], target: Target, alt: str, style: Style) -> str:
    if target.image is None:
        raise KeyError(target.place)
    source = cell["source"]
    path: list[str | int] = ["cells", target.cell, "source"]
    start, end, new = target.image.start, target.image.end, target.image.write(alt)
    if not isinstance(source, str):
        for index, line in enumerate(source):
            if start < len(line) or (start == end == len(line) and index == len(source) - 1):
                path.append(index)
                # A file name over two lines is none, so that the end is on this line too.
                end = min(end, len(line))
                break
            start, end = start - len(line), end - len(line)
    return splice_string(text, path, start=start, end=end, new=new, style=style)
