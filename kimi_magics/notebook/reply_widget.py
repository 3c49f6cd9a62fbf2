"""The widget in which a reply grows while its cell runs, and the view that ends it as plain Markdown.

Its page half is `static/reply.js`. Nothing of it stays: the outputs of a cell that is done are `bundles` only.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anywidget
import traitlets

from kimi_magics.core.estimate import count_prompt
from kimi_magics.core.events import (
    Event,
    NextStep,
    Replayed,
    Sending,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Uploading,
    Waiting,
)
from kimi_magics.core.media import Image, Video
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.reply import Reply
from kimi_magics.core.usage import Price, Usage
from kimi_magics.errors import KimiError
from kimi_magics.notebook.bundles import answer_bundle, describe_upload, describe_wait, display_bundle, footer_bundle
from kimi_magics.notebook.comms import CellParents, has_subshells, hold_interrupts, interrupt_main_thread, tame
from kimi_magics.notebook.feed import ReplyFeed
from kimi_magics.notebook.footer import format_progress
from kimi_magics.notebook.thumbnails import Count, describe_media
from kimi_magics.notebook.tool_rows import ToolLog

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.display import DisplayHandle

_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
#: What a notebook shows that was saved while the answer came and whose kernel is gone.
_LEFT_OVER = "The notebook was saved while this answer was being written; run the cell again for the whole."


@cache
def _read_static(name: str) -> str:
    return (Path(__file__).parent / "static" / name).read_text("utf-8")


class ReplyWidget(anywidget.AnyWidget):
    """One growing reply; `take_snapshot` tells its state to a page that comes later.

    The snapshot is asked for when a page needs it and never sent for its change. `uid` names the model, the comm and
    the display, so that a page which was loaded later can tell what belongs together.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    # A DOM widget has a second one for its layout, which would stay behind in every page and kernel.
    layout = traitlets.Any(None, allow_none=True).tag(sync=True)
    uid = traitlets.Unicode().tag(sync=True)
    can_stop = traitlets.Bool().tag(sync=True)
    #: What was sent beside the text, as `thumbnails.MediaRow` has it.
    media = traitlets.List(traitlets.Dict()).tag(sync=True)
    snapshot = traitlets.Dict().tag(sync=True, to_json=lambda _value, widget: widget.take_snapshot())

    def __init__(
        self, *, take_snapshot: Callable[[], dict[str, Any]], can_stop: bool, media: list[dict[str, str]]
    ) -> None:
        self.take_snapshot = take_snapshot
        esm, css = _read_static("reply.js"), _read_static("reply.css")
        uid = uuid4().hex
        super().__init__(model_id=uid, uid=uid, _esm=esm, _css=css, can_stop=can_stop, media=media)


class WidgetView:
    """Lets the answer grow in a widget; see `core.ports.View`."""

    def __init__(
        self,
        shell: InteractiveShell,
        prompt: Prompt,
        *,
        cell: str,
        has_footer: bool,
        count: Count | None = None,
    ) -> None:
        self.has_footer = has_footer
        self._shell = shell
        self._prompt = prompt
        self._count = count or (lambda _medium, _model: None)
        self._cell = cell
        self._handle: DisplayHandle | None = None
        self._widget: ReplyWidget | None = None
        # Where it is known: what the prompt probably has, and what a token costs.
        self._known: tuple[int, Price | None] | None = None
        # Of several steps: what those before this one took, and the prompts of all, the one of this step included.
        self._usage_before = Usage()
        self._prompt_tokens = 0
        self._log = ToolLog()
        self._is_thought_new = False
        self._is_replayed = False
        self._first_at: float | None = None
        self._gate = threading.Lock()
        self._is_running = False

    def begin(self, reply: Reply) -> None:
        """Show the widget, empty as yet."""
        with hold_interrupts():  # or it would be left behind half made
            self._feed = ReplyFeed(self._send, describe=self._describe, cell=self._cell)
            # Places for the pictures, which are to be made small first: nothing moves when they come.
            media = [{"label": medium.label, "text": "", "thumbnail": ""} for medium in _media_of(self._prompt)]
            self._widget = widget = ReplyWidget(
                take_snapshot=self._feed.snapshot, can_stop=self._can_stop(), media=media
            )
            tame(widget.comm, self._take, parents=CellParents(self._shell))
            model = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
            bundle = {_WIDGET_VIEW: model, "text/plain": _LEFT_OVER}
            self._handle = display_bundle(bundle, display_id=widget.uid)
            self._is_running = True
            self._feed.open()
        # The price list is slow to load and must not hold the first piece.
        threading.Thread(target=self._learn, args=(reply,), name="kimi-figures", daemon=True).start()
        if media:
            # The context tells the kernel to which cell the message belongs.
            context = contextvars.copy_context()
            threading.Thread(target=context.run, args=(self._show_media,), name="kimi-thumbnails", daemon=True).start()

    def show(self, reply: Reply, event: Event) -> None:
        """Hand the piece to the feed."""
        if type(event) is TextDelta:
            self._feed.add("text", event.text)
        elif type(event) is ThinkingDelta:
            self._feed.add("thinking", f"\n\n{event.text}" if self._is_thought_new else event.text)
            self._is_thought_new = False
        elif isinstance(event, Waiting):
            self._feed.set_note(describe_wait(event))
        elif isinstance(event, Sending):
            self._feed.set_note("")
        elif isinstance(event, Uploading):
            self._feed.set_note(describe_upload(event))
        elif isinstance(event, Replayed):
            self._is_replayed = True
        else:
            self._show_tools(reply, event)

    def _show_tools(self, reply: Reply, event: Event) -> None:
        if isinstance(event, ToolCallDelta):
            self._feed.count(event.name + event.arguments)
        changed = self._log.take(reply, event)
        for place in changed:
            self._feed.set_row(place, self._log.rows[place])
        if isinstance(event, NextStep):
            self._is_replayed = False
            # Every request brings all that was said before: so many tokens the next has at least.
            usage, before = reply.usage, self._usage_before
            self._prompt_tokens = 2 * usage.prompt_tokens - before.prompt_tokens
            self._prompt_tokens += usage.completion_tokens - before.completion_tokens
            self._usage_before = usage
            self._is_thought_new = bool(reply.thinking)
        if isinstance(event, NextStep) or any(self._log.rows[place].kind == "said" for place in changed):
            self._feed.begin_step()

    def end(self, reply: Reply, error: KimiError | None) -> None:
        """Put the whole answer in the widget's place, with its receipt, then the footer; close the widget."""
        if self._handle is None:
            return
        with hold_interrupts():
            with self._gate:
                self._is_running = False
            self._feed.close()
            metadata = {"kimi_magics": reply.receipt()} if reply.has_begun or error is None else {}
            self._handle.update(answer_bundle(reply), raw=True, metadata=metadata)  # type: ignore[no-untyped-call]
            footer = footer_bundle(reply, error, has_footer=self.has_footer)
            if footer:
                display_bundle(footer)
            # Python keeps the frames of the last error, and they this view, which must not keep the widget.
            widget, self._widget = self._widget, None
            if widget is not None:
                widget.close()

    def _can_stop(self) -> bool:
        """Tell whether a Stop button can reach the cell; VS Code runs no subshells."""
        is_main = threading.current_thread() is threading.main_thread()
        return is_main and has_subshells(self._shell) and not self._cell.startswith("vscode")

    def _send(self, message: dict[str, Any]) -> None:
        if (widget := self._widget) is not None:
            widget.send(message)

    def _take(self, data: Mapping[str, Any]) -> None:
        """Take a message of a page; runs on a subshell while the cell runs."""
        wish = data.get("content", {}).get("wish") if data.get("method") == "custom" else data.get("method")
        if wish == "stop":
            with self._gate:
                if self._is_running:
                    interrupt_main_thread()
        elif wish == "all":
            self._feed.send_whole()
            if (widget := self._widget) is not None and widget.media:
                widget.send_state("media")
        elif wish == "request_state" and (widget := self._widget) is not None:
            widget.send_state()

    def _show_media(self) -> None:
        try:
            rows = [asdict(row) for row in describe_media(self._prompt, count=self._count)]
            if (widget := self._widget) is not None:
                widget.media = rows
        except Exception:
            # What is sent is sent: that it cannot be shown must not disturb the cell.
            self._shell.log.warning("the thumbnails of kimi_magics failed", exc_info=True)

    def _learn(self, reply: Reply) -> None:
        self._known = count_prompt(self._prompt), reply.price

    def _describe(self, tokens: int) -> str:
        if not tokens:
            return ""
        if self._is_replayed:
            return "replayed"
        now = time.monotonic()
        self._first_at = self._first_at or now
        prompt_tokens, price = self._known or (0, None)
        prompt_tokens = self._prompt_tokens or prompt_tokens
        return format_progress(tokens, seconds=now - self._first_at, prompt_tokens=prompt_tokens, price=price)


def _media_of(prompt: Prompt) -> list[Image | Video]:
    return [medium for message in prompt.messages for medium in message.media]
