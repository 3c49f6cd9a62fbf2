"""How an answer is shown while it grows and when it is done, by where it is read.

The rule, which `%kimi_config view=…` overrules:

- a terminal prints the text as it comes (`plain`);
- a front end that names the cell it runs (JupyterLab, Notebook, VS Code), and Colab, are live: the text grows in a
  widget, which gives way to plain Markdown when the cell is done (`widget`);
- anything else (nbclient, papermill, nbval) gets the answer once, at the end (`once`).

`markdown` is for a live front end that cannot show widgets: the whole text is sent again and again, ever more rarely.
In each case the answer is one bundle and the footer another one after it, see `bundles`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from kimi_magics.core.events import (
    Event,
    NextStep,
    Sending,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCalled,
    ToolReturned,
    Uploading,
    Waiting,
)
from kimi_magics.core.ports import View
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.reply import Reply
from kimi_magics.errors import KimiError
from kimi_magics.notebook.bundles import (
    Outlet,
    answer_bundle,
    describe_upload,
    describe_wait,
    display_bundle,
    footer_bundle,
    footer_lines,
    small_bundle,
    thinking_bundle,
)
from kimi_magics.notebook.cell_runs import cell_id
from kimi_magics.notebook.tool_rows import CallLines, ToolLog
from kimi_magics.notebook.tool_words import printable

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from kimi_magics.notebook.thumbnails import Count

_DIM, _RESET, _TO_END_OF_LINE = "\x1b[2m", "\x1b[0m", "\x1b[K"
_UPDATE_SECONDS = 0.1
#: Of the calls of tools the latest are shown while no text comes, where there is no widget.
_LATEST_ROWS = 5


def choose_view(
    shell: InteractiveShell, prompt: Prompt, *, chosen: str, has_footer: bool, count: Count | None = None
) -> View:
    """Return the view for this shell, by the rule above unless one was chosen.

    `count` gives the tokens of an image or video, where the host has counted it.
    """
    kind = chosen
    if kind == "auto":
        kind = "plain" if not is_kernel(shell) else "widget" if is_live(shell) else "once"
    if kind == "plain" or (kind == "widget" and not is_kernel(shell)):
        write = _write_to_kernel if is_kernel(shell) else _write_out
        return PlainView(has_footer=has_footer, shows_thinking=sys.stdout.isatty(), write=write)
    if kind == "widget":
        from kimi_magics.notebook.reply_widget import WidgetView

        return WidgetView(shell, prompt, cell=cell_id(shell) or "", has_footer=has_footer, count=count)
    return MarkdownView(has_footer=has_footer, is_live=kind == "markdown")


def is_live(shell: InteractiveShell) -> bool:
    """Tell whether somebody looks on while the cell runs; not where what is displayed is captured for later."""
    from IPython.core.displaypub import CapturingDisplayPublisher

    if isinstance(shell.display_pub, CapturingDisplayPublisher):
        return False
    return cell_id(shell) is not None or "google.colab" in sys.modules


def is_kernel(shell: InteractiveShell) -> bool:
    """Tell whether the shell belongs to a Jupyter kernel."""
    return getattr(shell, "kernel", None) is not None


class PlainView:
    """Prints by `write`; used in a terminal."""

    def __init__(self, *, has_footer: bool, shows_thinking: bool, write: Callable[[str], object]) -> None:
        self.has_footer = has_footer
        self._shows_thinking = shows_thinking
        self._write = write
        self._state = ""
        self._calls = CallLines()

    def begin(self, reply: Reply) -> None:
        """Wait for something to print."""

    def show(self, reply: Reply, event: Event) -> None:
        """Print the piece that came."""
        if isinstance(event, TextDelta):
            self._enter("text")
            self._write(printable(event.text))
        elif isinstance(event, ThinkingDelta) and self._shows_thinking:
            self._enter("thinking")
            self._write(printable(event.text))
        elif isinstance(event, Waiting):
            self._enter("waiting")
            self._write(f"\r{describe_wait(event)}{_TO_END_OF_LINE}" if self._shows_thinking else "")
        elif isinstance(event, Uploading) and self._shows_thinking:
            self._enter("uploading")
            self._write(f"\r{printable(describe_upload(event))}{_TO_END_OF_LINE}")
        elif isinstance(event, ToolCallDelta | ToolCalled | ToolReturned | NextStep):
            # From the first piece of a call on every line is whole: a question to the user may follow.
            self._enter("tools")
            for line in self._calls.take(event):
                self._write_small(line)

    def end(self, reply: Reply, error: KimiError | None) -> None:
        """Print the footer and what is to be said of the end."""
        self._enter("")
        for line in footer_lines(reply, error, has_footer=self.has_footer):
            self._write_small(line)

    def _write_small(self, line: str) -> None:
        self._write(f"{_DIM}{line}{_RESET}\n" if self._shows_thinking else f"{line}\n")

    def _enter(self, state: str) -> None:
        """Begin another part of the output: the reasoning is dim, and each part starts on a line of its own."""
        if state == self._state:
            return
        if self._state == "thinking":
            self._write(f"{_RESET}\n")
        if self._state == "uploading":
            self._write(f"\r{_TO_END_OF_LINE}")
        elif self._state not in ("", "tools") and (self._state != "waiting" or self._shows_thinking):
            self._write("\n")
        if state == "thinking":
            self._write(_DIM)
        self._state = state


class MarkdownView:
    """Displays rich bundles; grows in place when `is_live`, else shows the answer once."""

    def __init__(self, *, has_footer: bool, is_live: bool) -> None:
        self.has_footer = has_footer
        self._outlet = Outlet(is_live=is_live)
        self._shown_at = 0.0
        self._pause = _UPDATE_SECONDS
        self._log = ToolLog()
        self._calls_shown_at = 0.0

    def begin(self, reply: Reply) -> None:
        """Wait for something to show."""

    def show(self, reply: Reply, event: Event) -> None:
        """Bring the output up to date, at most ten times a second."""
        if not self._outlet.is_live:
            return
        now = time.monotonic()
        if isinstance(event, Waiting):
            self._outlet.put(small_bundle(describe_wait(event)))
        elif isinstance(event, Sending):
            self._outlet.put(small_bundle("waiting for the answer …"))
        elif isinstance(event, Uploading):
            self._outlet.put(small_bundle(describe_upload(event)))
        elif isinstance(event, TextDelta | ThinkingDelta) and now - self._shown_at >= self._pause:
            self._outlet.put(answer_bundle(reply) if reply.step_text else thinking_bundle(reply.thinking))
            is_first, self._shown_at = not self._shown_at, time.monotonic()
            # A long answer takes the front end longer to draw: leave it at least as much time as we needed ourselves.
            # The first time also loads what reads Markdown, which says nothing of the next.
            needed = 0.0 if is_first else self._shown_at - now
            self._pause = max(_UPDATE_SECONDS, 4 * needed, len(reply.text) / 100_000)
        else:
            self._show_tools(reply, event, now=now)

    def _show_tools(self, reply: Reply, event: Event, *, now: float) -> None:
        changed = self._log.take(reply, event)
        # What begins may take long and is shown at once; many calls may come and end within a moment.
        is_due = isinstance(event, ToolCalled | NextStep) or (changed and now - self._calls_shown_at >= _UPDATE_SECONDS)
        latest = [row.line for row in self._log.rows[-_LATEST_ROWS:] if row.kind != "said"] if is_due else []
        if latest:
            self._calls_shown_at = now
            self._outlet.put(small_bundle("\n".join(latest)))

    def end(self, reply: Reply, error: KimiError | None) -> None:
        """Put the whole answer in place, with its receipt, then the footer."""
        if reply.text or reply.thinking or error is None:
            self._outlet.put(answer_bundle(reply), metadata={"kimi_magics": reply.receipt()})
        elif self._outlet.is_shown:
            self._outlet.put(answer_bundle(reply))
        footer = footer_bundle(reply, error, has_footer=self.has_footer)
        if footer:
            display_bundle(footer)


def _write_out(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _write_to_kernel(text: str) -> None:
    # A kernel sends its standard output five times a second by itself; each flush would be a message.
    sys.stdout.write(text)
