"""The files a client uploaded; kept in memory only."""

from __future__ import annotations

import contextlib
import mimetypes
import re
import threading
import time
import uuid
import zlib
from dataclasses import dataclass
from typing import Any

from kimi_magics.sandbox.refusal import RefusalError, refuse_unless

PURPOSES = ("file-extract", "image", "video", "batch")
_MOST_FILES = 1_000
_MOST_BYTES = 100 * 1024 * 1024
_PDF_STREAM = re.compile(rb"stream\r?\n(.*?)\r?\nendstream", re.DOTALL)
_PDF_LINE = re.compile(rb"\(((?:[^()\\]|\\.)*)\)\s*Tj")


@dataclass(frozen=True)
class StoredFile:
    """One uploaded file."""

    id: str
    name: str
    purpose: str
    data: bytes
    created: int

    def to_row(self) -> dict[str, Any]:
        """Return the file as the API describes it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.data),
            "created_at": self.created,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "ok" if self.purpose == "file-extract" else "ready",
            "status_details": "",
        }

    def extract(self) -> dict[str, Any]:
        """Return the text of the file, as GET /files/{id}/content does for file-extract."""
        text = _read_pdf(self.data) if self.data.startswith(b"%PDF-") else _read_text(self.data)
        if text is None:
            text = f"Sandbox: {len(self.data):,} bytes that are not text; the live API would extract what they say."
        kind = mimetypes.guess_type(self.name)[0] or "text/plain"
        return {"content": text, "file_type": kind, "filename": self.name, "title": "", "type": "file"}


def _read_text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _read_pdf(data: bytes) -> str | None:
    """Return the lines that a simple PDF shows: whole strings, plain or packed; None when it has none of them."""
    streams = [data]
    for packed in _PDF_STREAM.findall(data):
        with contextlib.suppress(zlib.error):
            streams.append(zlib.decompressobj().decompress(packed, _MOST_BYTES))
    lines = [line for stream in streams for line in _PDF_LINE.findall(stream)]
    return "\n".join(re.sub(rb"\\(.)", rb"\1", line).decode("latin-1") for line in lines) or None


class FileStore:
    """Uploaded files by id, oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[str, StoredFile] = {}

    def add(self, name: str, purpose: str, data: bytes) -> StoredFile:
        """Keep a file, or refuse it."""
        refuse_unless(purpose in PURPOSES, f"invalid purpose: {purpose!r}, expected one of {', '.join(PURPOSES)}")
        refuse_unless(bool(data), "file is empty")
        refuse_unless(len(data) <= _MOST_BYTES, f"file is too large: {len(data)} bytes, at most {_MOST_BYTES}")
        file = StoredFile(uuid.uuid4().hex[:20], name, purpose, data, int(time.time()))
        with self._lock:
            refuse_unless(len(self._files) < _MOST_FILES, f"at most {_MOST_FILES} files are allowed")
            self._files[file.id] = file
        return file

    def list(self) -> list[StoredFile]:
        """Return all files."""
        with self._lock:
            return [*self._files.values()]

    def get(self, id: str) -> StoredFile:  # noqa: A002 the API's word
        """Return a file, or refuse with 404."""
        with self._lock:
            file = self._files.get(id)
        if file is None:
            raise RefusalError(f"file {id} not found", status=404, type="resource_not_found_error")
        return file

    def find_data(self, id: str) -> bytes | None:  # noqa: A002 the API's word
        """Return the bytes of an image or video, or None."""
        with self._lock:
            file = self._files.get(id)
        return file.data if file is not None and file.purpose in ("image", "video") else None

    def remove(self, id: str) -> None:  # noqa: A002 the API's word
        """Delete a file, or refuse with 404."""
        self.get(id)
        with self._lock:
            self._files.pop(id, None)

    def clear(self) -> None:
        """Delete all files."""
        with self._lock:
            self._files.clear()
