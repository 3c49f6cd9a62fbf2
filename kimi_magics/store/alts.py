"""The alt texts that were written for pictures, in `alts.json` of `KIMI_MAGICS_HOME`, to be used again.

The promise: neither pictures nor prompts are kept, only a hash, a language, the alt text, the model and the day; a
damaged file or a disk that cannot be written never fails a call; and what another process kept meanwhile stays.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kimi_magics.store.config import find_home
from kimi_magics.store.files import hold_file, read_rows, replace_file

#: Alt texts that are kept, the newest: some 400 bytes each.
MAX_ALTS = 4000
#: A longer file is not ours.
_MAX_BYTES = 16_000_000
_VERSION = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class AltText:
    """An alt text, the model that wrote it, and the day as `2026-11-23`."""

    text: str
    model: str
    date: str


class AltStore:
    """The alt texts by picture and language; safe to use from several threads."""

    def __init__(self, home: Path | None = None) -> None:
        self._home = home
        self._lock = threading.Lock()
        #: What was put here, also where the disk cannot be written.
        self._own: dict[str, AltText] = {}

    @property
    def path(self) -> Path:
        """The file; it need not exist."""
        return (self._home or find_home()) / "alts.json"

    def get(self, digest: str, language: str) -> AltText | None:
        """Return the alt text of the picture with this SHA-256, or None."""
        key = _key(digest, language)
        with self._lock:
            return self._own.get(key) or _read_row(self._read_rows().get(key))

    def put(self, digest: str, language: str, alt: AltText) -> None:
        """Keep an alt text, in the place of an older one."""
        key = _key(digest, language)
        with self._lock:
            self._own[key] = alt
            with contextlib.suppress(OSError, ValueError, RuntimeError), hold_file(self.path):
                rows = self._read_rows()
                rows.pop(key, None)
                rows[key] = asdict(alt)
                kept = dict(list(rows.items())[-MAX_ALTS:])
                replace_file(self.path, json.dumps({"version": _VERSION, "alts": kept}, ensure_ascii=False, indent=0))

    def _read_rows(self) -> dict[str, Any]:
        """Return the rows of the file as they stand there, the newest last."""
        rows = read_rows(lambda: self.path, "alts", version=_VERSION, most_bytes=_MAX_BYTES)
        return {key: row for key, row in rows.items() if _read_row(row)} if isinstance(rows, dict) else {}


def _key(digest: str, language: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise ValueError("a picture is named by the SHA-256 of its bytes, in hexadecimal digits")
    return f"{digest} {' '.join(language.split()).casefold()}"


def _read_row(row: Any) -> AltText | None:
    if not isinstance(row, dict) or set(row) != {"text", "model", "date"}:
        return None
    if not all(isinstance(value, str) for value in row.values()) or not row["text"].strip():
        return None
    return AltText(**row)
