"""Files of ours: readers see the old or the new content, never a part; what is damaged reads as if it were absent."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_MOST_SECONDS, _PAUSE_SECONDS = 2.0, 0.02


def replace_file(path: Path, text: str) -> None:
    """Write the whole file or nothing, and make its folder where there is none. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_rows(find_path: Callable[[], Path], name: str, *, version: int, most_bytes: int) -> Any:
    """Return what a JSON file of ours holds under `name`; None when it is not there, damaged, or of another version.

    A longer file than `most_bytes` is not ours.
    """
    try:
        path = find_path()
        if path.stat().st_size > most_bytes:
            return None
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RuntimeError):  # nesting too deep, or a home of nobody
        return None
    return content.get(name) if isinstance(content, dict) and content.get("version") == version else None


@contextmanager
def hold_file(path: Path) -> Iterator[None]:
    """Keep other processes from changing a file between reading and replacing it. Raises OSError.

    The lock lies beside the file and ends with its process. Who holds it for long is not waited for; on Windows the
    last one wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "a") as lock:
        if sys.platform != "win32":
            import fcntl

            end = time.monotonic() + _MOST_SECONDS
            while time.monotonic() < end:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(_PAUSE_SECONDS)
                except OSError:
                    break  # a file system without locks
        yield
