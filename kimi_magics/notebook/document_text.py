"""What is text in a file, told by its bytes and not by its name, and what of it may be sent."""

from __future__ import annotations

import codecs
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from kimi_magics.core.media import format_bytes
from kimi_magics.errors import FileError, NotebookError

#: What the API takes of one file (kimi_api.md section 3, checked 2026-11-22).
MAX_FILE_BYTES = 100_000_000
#: No model's context holds a quarter of it.
MAX_TEXT_BYTES = 20_000_000

#: An API key: `sk-`, and in what follows a run of letters and digits. Shorter words between hyphens, as the
#: `sk-estimator-doc-link` of scikit-learn's pages, are none.
_KEY = re.compile(r"\bsk-[A-Za-z0-9_\-]{16,}")
_KEY_RUN = re.compile(r"[A-Za-z0-9]{16}")
#: What no text has: control characters other than tab, line and page ends, backspace and escape.
_CONTROLS = bytes(set(range(32)) - set(b"\b\t\n\f\r\x1b"))
_HEAD_BYTES = 65_536

#: What is no document, by what the file is called; the host says the same, but only after the upload.
_OTHERS = {
    "a video": (
        "send it with --video",
        (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".flv", ".mpg", ".mpeg"),
    ),
    "a sound": ("have it written down first", (".mp3", ".wav", ".flac", ".m4a", ".ogg", ".opus", ".aac")),
    "an archive": (
        "unpack it, and name the files",
        (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"),
    ),
    "a file of data": (
        "load it, and put what matters into the prompt as {{name}}",
        (".parquet", ".feather", ".arrow", ".npy", ".npz", ".pkl", ".pickle", ".h5", ".hdf5", ".sqlite", ".db", ".mat"),
    ),
}
_BY_SUFFIX = {suffix: (what, remedy) for what, (remedy, suffixes) in _OTHERS.items() for suffix in suffixes}


@dataclass(frozen=True, slots=True)
class Content:
    """What can be told of a file here: its text, or None when the host has to read it, and its SHA-256."""

    text: str | None
    digest: str


def read_content(path: Path, *, label: str) -> Content:
    """Return what a file says as far as it is text; of a notebook its cells. Raises FileError."""
    data = load_file(path, label=label)
    digest = hashlib.sha256(data).hexdigest()
    if path.suffix.lower() == ".ipynb":
        return Content(_read_notebook(path, label), digest)
    text = _decode(data, label)
    if text is None:
        if other := _BY_SUFFIX.get(path.suffix.lower()):
            raise FileError(f"{label} is {other[0]}, not a document", remedy=other[1])
        return Content(None, digest)
    if len(data) > MAX_TEXT_BYTES:
        raise FileError(
            f"{label} has {format_bytes(len(data))} of text, more than any model reads", remedy="name a part of it"
        )
    return Content(check_text(text, label=label), digest)


def load_file(path: Path, *, label: str) -> bytes:
    """Return the bytes of a file. Raises FileError."""
    try:
        # Before it is read: a disk image would fill the memory.
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise FileError(
                f"{label} has {format_bytes(size)}, and the API takes files of at most 100 MB",
                remedy="name a part of it, or make it smaller",
            )
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"{label} cannot be read: {reason}", remedy="check the name and the rights") from None
    if not data:
        raise FileError(f"{label} is empty", remedy="name a file with something in it")
    return data


def check_text(text: str, *, label: str) -> str:
    """Return a text that may be sent. Raises FileError for one that says nothing, or that holds an API key."""
    if not text.strip():
        raise FileError(f"there is no text in {label}", remedy="a scan or a drawing can be sent as picture, with -i")
    if text.startswith("version https://git-lfs"):
        raise FileError(f"{label} is a pointer of Git LFS, not the file", remedy="git lfs pull fetches it")
    if (place := _find_key(text)) is not None:
        line = text.count("\n", 0, place) + 1
        raise _refuse_key(label, f"line {line:,}")
    return text


def _find_key(text: str) -> int | None:
    """Return where what looks like an API key begins."""
    return next((match.start() for match in _KEY.finditer(text) if _KEY_RUN.search(match[0])), None)


def _refuse_key(label: str, place: str) -> FileError:
    return FileError(
        f"{label} holds what looks like an API key, in {place}; it is not sent",
        remedy="take the key out, or name a copy of the file without it",
    )


def _decode(data: bytes, label: str) -> str | None:
    """Return the text that the bytes are, or None. Raises FileError for text in an encoding that is not told."""
    if data[:1024].lstrip().startswith(b"%PDF-"):
        return None  # it may well have no other bytes than letters
    is_marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if is_marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        head = data[:_HEAD_BYTES]
        if is_marked or len(head.translate(None, _CONTROLS)) < len(head):
            return None
        raise FileError(
            f"{label} is text, but not in UTF-8: byte {error.start + 1:,} cannot be read",
            remedy="save it in UTF-8, as with iconv -f ENCODING -t UTF-8 IN > OUT",
        ) from None
    return None if "\0" in text else text


def _read_notebook(path: Path, label: str) -> str:
    """Return the cells of a notebook as Markdown."""
    from kimi_magics.notebook.notebook_text import write_cells
    from kimi_magics.store.notebooks import read_notebook

    try:
        cells = write_cells(read_notebook(path).content)
    except NotebookError as error:
        raise FileError(error.message, remedy=error.remedy) from None
    for number, text in enumerate(cells, 1):
        if _find_key(text) is not None:
            raise _refuse_key(label, f"cell {number:,}")
    text = "\n\n".join(cell for cell in cells if cell.strip())
    if len(text) > MAX_TEXT_BYTES:
        raise FileError(f"{label} has {len(text):,} characters, more than any model reads", remedy="name a part of it")
    return check_text(text, label=label)
