"""Which images, videos and documents lie at which host under which id, in `uploads.json` of `KIMI_MAGICS_HOME`.

The promise: only hashes, ids, sizes and dates are kept, nothing of the content, the account or the key; a damaged file
or a disk that cannot be written never fails a call; and what another kernel wrote meanwhile stays.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kimi_magics.store.config import find_home
from kimi_magics.store.files import hold_file, read_rows, replace_file

#: The API keeps as many for one account (kimi_api.md section 3); the oldest are forgotten.
MAX_UPLOADS = 1000
#: A longer file is not ours.
_MAX_BYTES = 4_000_000
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Known:
    """A file that was uploaded from here: where it lies, under which id, and the SHA-256 of its bytes."""

    site: str
    id: str
    digest: str
    purpose: str
    size_bytes: int
    #: Seconds since 1970.
    uploaded: int


class UploadsStore:
    """What was uploaded by this user; one object for a kernel, safe to use from several threads and processes."""

    def __init__(self, home: Path | None = None) -> None:
        self._home = home
        self._lock = threading.Lock()
        #: What could not be written.
        self._unsaved: list[Known] = []

    @property
    def path(self) -> Path:
        """The file; it need not exist."""
        return (self._home or find_home()) / "uploads.json"

    def all(self, site: str) -> list[Known]:
        """Return what lies at a host as far as is known, the newest first."""
        with self._lock:
            return [known for known in reversed(self._read()) if known.site == site]

    def find(self, site: str, digest: str, *, purpose: str | None = None) -> list[str]:
        """Return the ids under which the bytes of this hash were uploaded, the newest first: also by other accounts.

        What was uploaded to be looked at has no text to be read, and the other way round: `purpose` tells them apart.
        """
        return [known.id for known in self.all(site) if known.digest == digest and purpose in (None, known.purpose)]

    def add(self, known: Known) -> None:
        """Remember an upload."""
        with self._lock:
            self._unsaved.append(known)
            self._change(lambda rows: rows)

    def remove(self, site: str, file_id: str) -> None:
        """Forget an upload."""

        def drop(rows: list[Known]) -> list[Known]:
            return [known for known in rows if (known.site, known.id) != (site, file_id)]

        with self._lock:
            self._unsaved = drop(self._unsaved)
            self._change(drop)

    def _change(self, change: Callable[[list[Known]], list[Known]]) -> None:
        # RuntimeError: a home of nobody.
        with contextlib.suppress(OSError, ValueError, RuntimeError), hold_file(self.path):
            kept = [asdict(known) for known in change(self._read())[-MAX_UPLOADS:]]
            replace_file(self.path, json.dumps({"version": _VERSION, "uploads": kept}))
            self._unsaved.clear()

    def _read(self) -> list[Known]:
        """Return the rows of the file as they stand there, and what could not be written, the newest last."""
        rows = [known for row in self._read_rows() if (known := _read_row(row)) is not None]
        return rows + self._unsaved

    def _read_rows(self) -> list[Any]:
        rows = read_rows(lambda: self.path, "uploads", version=_VERSION, most_bytes=_MAX_BYTES)
        return rows if isinstance(rows, list) else []


def _read_row(row: Any) -> Known | None:
    try:
        known = Known(**row)
    except TypeError:
        return None
    has_texts = all(isinstance(text, str) for text in (known.site, known.id, known.digest, known.purpose))
    return known if has_texts and type(known.size_bytes) is type(known.uploaded) is int else None
