"""Paths as users write them, whatever stands in them."""

from __future__ import annotations

from pathlib import Path


def expand_path(text: str) -> Path | None:
    """Return the path that `text` names, with `~` filled in; None for what no path can be."""
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError):
        return None  # a user that is not there, a character that no path has, a name that is too long
    return path
