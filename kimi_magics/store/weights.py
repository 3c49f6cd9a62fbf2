"""What was learnt about each model's tokens, in `weights.json` of `KIMI_MAGICS_HOME`.

The promise: no text is kept, only weights; a damaged file or a disk that cannot be written never fails a call; and what
another kernel learnt meanwhile about other models stays.
"""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import Any

from kimi_magics.core.tokens import DEFAULT_WEIGHTS, Weights
from kimi_magics.store.config import find_home
from kimi_magics.store.files import read_rows, replace_file

#: Models that are kept, those learnt about most recently: some 20 kB for each.
MAX_MODELS = 64
#: A longer file is not ours.
_MAX_BYTES = 16_000_000
_VERSION = 1


class WeightsStore:
    """The weights of all models: one object for a kernel, safe to use from several threads."""

    def __init__(self, home: Path | None = None) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._known: dict[str, Weights] = {}
        #: What was put and not yet written, the most recent last.
        self._changed: dict[str, Weights] = {}

    @property
    def path(self) -> Path:
        """The file; it need not exist."""
        return (self._home or find_home()) / "weights.json"

    def get(self, model: str) -> Weights:
        """Return what is known about a model: the defaults when nothing is, or when it cannot be read."""
        with self._lock:
            if model not in self._known:
                self._known[model] = _read_weights(self._read_rows().get(model))
            return self._known[model]

    def put(self, model: str, weights: Weights) -> None:
        """Keep what was learnt, in memory until `save`."""
        with self._lock:
            self._known[model] = weights
            self._changed.pop(model, None)
            self._changed[model] = weights

    def save(self) -> None:
        """Write what was put since the last time; when that fails, try again with the next."""
        with self._lock:
            if not self._changed:
                return
            rows = self._read_rows()
            for model, weights in self._changed.items():
                rows.pop(model, None)
                rows[model] = weights.to_row()
            kept = dict(list(rows.items())[-MAX_MODELS:])
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                replace_file(self.path, json.dumps({"version": _VERSION, "models": kept}))
                self._changed.clear()

    def _read_rows(self) -> dict[str, Any]:
        """Return the rows of the file as they stand there, the model learnt about most recently last."""
        rows = read_rows(lambda: self.path, "models", version=_VERSION, most_bytes=_MAX_BYTES)
        return {model: row for model, row in rows.items() if isinstance(row, dict)} if isinstance(rows, dict) else {}


def _read_weights(row: Any) -> Weights:
    try:
        return Weights.from_row(row) if row else DEFAULT_WEIGHTS
    except ValueError:
        return DEFAULT_WEIGHTS
