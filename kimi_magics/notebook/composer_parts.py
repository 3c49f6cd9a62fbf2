"""What a composer is made of beside its widgets: the text of its cell, the gauge's line, and the growing answer."""

from __future__ import annotations

import html
import importlib
import shlex
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from kimi_magics.core.ask import OPTIONS, Ask
from kimi_magics.core.events import Event, Sending, TextDelta, ThinkingDelta, Uploading, Waiting
from kimi_magics.core.reply import Reply
from kimi_magics.errors import KimiError
from kimi_magics.notebook.bundles import Bundle, answer_bundle, describe_upload, describe_wait, footer_bundle
from kimi_magics.notebook.draft import Report, report_message
from kimi_magics.notebook.gauge_text import describe, describe_line

# What a state is called and, beside the word, its colour: first JupyterLab's own, then VS Code's, then a fixed one.
_QUIET = "var(--jp-ui-font-color2, var(--vscode-descriptionForeground, #757575))"
_GOOD = "var(--jp-success-color1, var(--vscode-charts-green, #388e3c))"
_NEAR = "var(--jp-warn-color1, var(--vscode-editorWarning-foreground, #b26a00))"
_BAD = "var(--jp-error-color1, var(--vscode-errorForeground, #d32f2f))"
_STATES = {
    "local": ("estimated", _QUIET),
    "offline": ("estimated", _NEAR),
    "counted": ("counted", _GOOD),
    "kept": ("kept", _GOOD),
    "over-budget": ("over budget", _BAD),
    "over-context": ("too long", _BAD),
    "error": ("error", _BAD),
    "empty": ("", _QUIET),
    "off": ("", _QUIET),
}
_WARNINGS = {"near-budget": "near the budget", "near-context": "nearly full"}

_LIVE_SECONDS = 0.2
#: Of a growing answer its end is shown: a page that gets the whole again and again is soon busy with nothing else.
_MOST_LIVE_CHARACTERS = 4_000


# ---------------------------------------------------------------- the cell


class Fields(NamedTuple):
    """What stands in the fields of a composer."""

    text: str
    model: str = ""
    flags: str = ""


def write_cell(fields: Fields) -> str:
    """Return the `%%kimi` cell for what stands in the fields; the flags stay as they were typed."""
    # A line break in a field would make the rest of it a part of the prompt.
    model, flags = " ".join(fields.model.split()), " ".join(fields.flags.splitlines()).strip()
    head = ["%%kimi", f"-m {shlex.quote(model)}" if model else "", flags]
    return " ".join(part for part in head if part) + f"\n{fields.text}"


def write_flags(ask: Ask) -> str:
    """Return the flags of `ask` as one would type them, but for the model, which has a field of its own."""
    words: list[str] = []
    for option in OPTIONS:
        value = getattr(ask, option.destination)
        if option.destination == "model" or value in (None, False):
            continue
        if not option.takes_value:
            words.append(option.long_name)
            continue
        for one in value if option.is_repeatable else (value,):
            # A value that starts with a dash would be taken for a flag.
            joint = "=" if str(one).startswith("-") else " "
            words.append(f"{option.long_name}{joint}{shlex.quote(str(one))}")
    return " ".join(words)


# ---------------------------------------------------------------- the gauge's line


def gauge_html(report: Report, *, last_run: str = "") -> str:
    """Return the line below the text: the state in a word and a colour, what the draft takes, what the last run took.

    Every word may come from the draft or the host: all of it is escaped.
    """
    message = report_message(report)
    word, colour = _STATES[report.state]
    if report.warning:
        word, colour = _WARNINGS[report.warning], _NEAR
    state = f'<b style="color: {colour}">{html.escape(word)}</b>' if word else ""
    rest = (describe_line(message), f"last run: {last_run}" if last_run else "")
    parts = [state, *(html.escape(text) for text in rest if text)]
    hover = html.escape(describe(message)["hover"], quote=True)
    return f'<span role="status" title="{hover}">{" · ".join(part for part in parts if part)}</span>'


def plain_html(text: str) -> str:
    """Return text as it is, with its line breaks."""
    return f'<div style="white-space: pre-wrap; line-height: 1.4">{html.escape(text)}</div>' if text else ""


# ---------------------------------------------------------------- the answer


class AnswerView:
    """Shows the end of the answer as plain text while it grows; see `core.ports.View`.

    It runs in a thread that nothing can interrupt, so that `must_stop` is asked with each piece.
    """

    def __init__(self, show: Callable[[str], None], *, must_stop: Callable[[], bool]) -> None:
        self.reply: Reply | None = None
        self._show = show
        self._must_stop = must_stop
        self._shown_at = 0.0

    def begin(self, reply: Reply) -> None:
        """Say that the request is on its way."""
        self.reply = reply
        self._show("waiting for the answer …")

    def show(self, reply: Reply, event: Event) -> None:
        """Bring the text up to date, a few times a second."""
        if self._must_stop():
            raise KeyboardInterrupt
        now = time.monotonic()
        if isinstance(event, Waiting):
            self._show(describe_wait(event))
        elif isinstance(event, Sending):
            self._show("waiting for the answer …")
        elif isinstance(event, Uploading):
            self._show(describe_upload(event))
        elif isinstance(event, TextDelta | ThinkingDelta) and now - self._shown_at >= _LIVE_SECONDS:
            self._shown_at = now
            text = reply.text or f"thinking …\n{reply.thinking}"
            self._show(text[-_MOST_LIVE_CHARACTERS:])

    def end(self, reply: Reply, error: KimiError | None) -> None:
        """Take the text away: the composer shows the whole."""
        self._show("")


def answer_outputs(reply: Reply, error: KimiError | None, *, has_footer: bool) -> list[Bundle]:
    """Return the answer and its footer as a cell would show them, as outputs of a notebook."""
    outputs = []
    if reply.has_begun or error is None:
        outputs.append(_display(answer_bundle(reply), {"kimi_magics": reply.receipt()}))
    footer = footer_bundle(reply, error, has_footer=has_footer)
    return [*outputs, _display(footer)] if footer else outputs


def error_output(error: KimiError) -> Bundle:
    """Return an error in its few lines; the remedies name the cell, here it is a button."""
    lines = "\n".join(error._render_traceback_())
    return text_output(lines.replace("run the cell again", "press Send again"), name="stderr")


def text_output(text: str, *, name: str = "stdout") -> Bundle:
    """Return text as an output of a notebook."""
    return {"output_type": "stream", "name": name, "text": text if text.endswith("\n") else f"{text}\n"}


def _display(bundle: Bundle, metadata: Bundle | None = None) -> Bundle:
    return {"output_type": "display_data", "data": bundle, "metadata": metadata or {}}


# ---------------------------------------------------------------- Colab


def insert_in_colab(source: str) -> bool:
    """Have Colab offer a new cell; False where this is not Colab, or its interface, which is private, has changed."""
    if "google.colab" not in sys.modules:
        return False
    try:
        # https://github.com/googlecolab/colabtools/blob/main/google/colab/_frontend.py
        importlib.import_module("google.colab._frontend").create_scratch_cell(source, bottom_pane=True)
    except Exception:  # noqa: BLE001 — the text to copy is shown instead
        return False
    return True
