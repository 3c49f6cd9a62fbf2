"""Writing a file so that readers see the old or the new content, never a part."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
