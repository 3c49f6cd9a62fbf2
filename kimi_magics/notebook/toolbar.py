"""The gauge in a terminal: the line below the prompt, while a cell or line for Kimi is typed.

The promise: nothing is asked over the network, typing never waits, a fault here never reaches the prompt, and the
toolbar that the user has is shown whenever there is no draft.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kimi_magics.notebook.newest import NewestOnly

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from kimi_magics.notebook.draft import Drafts, Report

Fragments = list[tuple[str, str]]
#: The text of the prompt, and how many cells have run: they may change variables, settings and the budget.
Draft = tuple[str, int]

# The toolbar is drawn reversed: its text colour is the colour of the bar.
_STYLES = {"over-budget": "fg:ansired bold", "over-context": "fg:ansired bold", "error": "fg:ansired"}
_NEAR_STYLE = "fg:ansiyellow"


def install(shell: InteractiveShell, drafts: Callable[[], Drafts]) -> Toolbar | None:
    """Show the gauge below the prompt of `shell`; None where there is no such prompt."""
    session = getattr(shell, "pt_app", None)
    if session is None:
        return None
    toolbar = Toolbar(shell, session, drafts)
    toolbar.open()
    return toolbar


class Toolbar:
    """The toolbar of one terminal; `session` is prompt_toolkit's PromptSession.

    prompt_toolkit draws an empty bar for a toolbar that has no text. So it is put in place before each drawing, and
    taken away when there is no draft.
    """

    def __init__(self, shell: InteractiveShell, session: Any, drafts: Callable[[], Drafts]) -> None:
        self._shell = shell
        self._session = session
        self._drafts = drafts
        self._worker: NewestOnly[Draft] = NewestOnly(self._look, name="kimi-toolbar")
        self._known: tuple[Draft, Fragments] = (("", -1), [])
        # One object: each access to a method makes another one.
        self._ours = self._draw
        self._theirs: Any = None
        self._has_prefetched = False

    def open(self) -> None:
        """Show the gauge from the next drawing on."""
        self._theirs = self._session.bottom_toolbar
        self._session.app.before_render += self._choose

    def close(self) -> None:
        """Give the place back."""
        self._session.app.before_render -= self._choose
        self._worker.close()
        if self._session.bottom_toolbar is self._ours:
            self._session.bottom_toolbar = self._theirs

    def _choose(self, _app: object = None) -> None:
        try:
            if self._session.bottom_toolbar is not self._ours:
                # Someone set another one meanwhile.
                self._theirs = self._session.bottom_toolbar
            self._session.bottom_toolbar = self._ours if self._draw() else self._theirs
        except Exception:  # noqa: BLE001 — whatever is wrong, the user can go on typing
            self._session.bottom_toolbar = self._theirs

    def _draw(self) -> Fragments:
        """Return what is known of the draft; of a newer text the line follows as soon as it is counted."""
        text = self._session.default_buffer.text
        # The exact rule is in a module whose imports would make the first key wait.
        if not text.lstrip().startswith(("%kimi", "%%kimi")):
            return []
        wanted: Draft = (text, self._shell.execution_count)
        known, fragments = self._known
        if known != wanted:
            self._worker.take(wanted)
        return fragments if known[1] == wanted[1] else []

    def _look(self, draft: Draft) -> None:
        """Count a draft, in the worker's thread."""
        try:
            fragments = self._describe(draft[0])
        except Exception:  # noqa: BLE001 — a line that cannot be made is left out
            fragments = []
        self._known = draft, fragments
        self._session.app.invalidate()

    def _describe(self, text: str) -> Fragments:
        from kimi_magics.notebook.draft import is_draft, report_message
        from kimi_magics.notebook.gauge_text import describe
        from kimi_magics.store.prices import prefetch

        if not is_draft(text):
            return []
        if not self._has_prefetched:
            self._has_prefetched = True
            prefetch()  # slow, and not needed before there is a prompt
        report = self._drafts().report(text, may_ask=False)
        if report.state == "off":
            return []
        return [(_style(report), f" {_printable(_line(describe(report_message(report)), report))} ")]


def _line(pieces: Mapping[str, str], report: Report) -> str:
    """Return the pieces in a row. A narrow terminal cuts the end off: why a draft would not be sent comes first."""
    order = ("tokens", "cost", "share", "answer", "budget", "note")
    names = ("note", *order[:-1]) if report.state in _STYLES else order
    return " · ".join(pieces[name] for name in names if pieces[name])


def _style(report: Report) -> str:
    return _STYLES.get(report.state, _NEAR_STYLE if report.warning else "")


def _printable(text: str) -> str:
    """Return `text` on one line, without what could steer the terminal or turn the direction of the text."""
    flat = " ".join(text.split())
    return "".join(char for char in flat if not unicodedata.category(char).startswith("C"))
