"""What `kimi-magics alt` tells while it works, on the error stream."""

from __future__ import annotations

import sys

from kimi_magics.core.events import Event, Waiting
from kimi_magics.core.reply import Reply
from kimi_magics.errors import KimiError
from kimi_magics.notebook.bundles import describe_wait


class Progress:
    """What goes on, on the error stream; a line that is only for the moment is written over in a terminal."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._is_open = False

    def tell(self, text: str) -> None:
        """Show something for the moment; nothing where it would stay."""
        if self._is_terminal:
            _write(f"\r\x1b[K{text}")

    def clear(self) -> None:
        """Take away what was for the moment."""
        self.tell("")

    def begin(self, number: int, total: int, name: str) -> None:
        """Begin a line."""
        _write(f"{number}/{total} {name} … ")
        self._is_open = True

    def note(self, text: str) -> None:
        """Say something of what takes time."""
        _write(f"[{text}] ")

    def end(self, text: str) -> None:
        """End the line; without one, nothing is to be said."""
        if self._is_open:
            _write(f"{text}\n")
        self._is_open = False


class Waits:
    """Tells of waits only; see `core.ports.View`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._told = (0, False)

    def begin(self, reply: Reply) -> None:
        """Nothing to show yet."""

    def show(self, reply: Reply, event: Event) -> None:
        """Tell of a wait, once for each try."""
        if isinstance(event, Waiting) and (event.attempt, event.is_for_turn) != self._told:
            self._told = (event.attempt, event.is_for_turn)
            self._progress.note(describe_wait(event))

    def end(self, reply: Reply, error: KimiError | None) -> None:
        """Nothing to show: the caller tells the end."""


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def tell(text: str) -> None:
    """Write a line on the error stream."""
    _write(f"{text}\n")
