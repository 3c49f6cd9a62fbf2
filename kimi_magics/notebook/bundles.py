"""What is displayed of a reply, as bundles by MIME type: the answer, what is left of one, the footer.

The bundle of an answer holds `text/markdown`, made safe, and `text/plain`, as it came.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

from kimi_magics.core.events import Uploading, Waiting
from kimi_magics.core.media import format_bytes
from kimi_magics.core.reply import Reply
from kimi_magics.core.safe_markdown import safe_markdown
from kimi_magics.errors import KimiError
from kimi_magics.notebook.footer import explain_finish, format_footer
from kimi_magics.notebook.tool_rows import MOST_ROWS, ToolRow, list_rows
from kimi_magics.notebook.tool_words import one_line

if TYPE_CHECKING:
    from IPython.display import DisplayHandle

Bundle = dict[str, Any]

# What the host says of the wait, which the countdown says better.
_ASKED_WAIT = re.compile(r",? *please try again (?:after|in) \d+(?:\.\d+)? ?[a-z]+", re.IGNORECASE)
_FOOTER_STYLE = "color: var(--jp-ui-font-color2, #616161); font-size: 0.85em"
_FAILED_STYLE = "color: var(--jp-error-color1, #c62828)"
_DETAIL_STYLE = (
    "margin: 4px 0 4px 14px; padding: 4px 8px; max-height: 20em; overflow: auto; white-space: pre-wrap;"
    " overflow-wrap: anywhere; border-left: 3px solid var(--jp-border-color2, #bdbdbd); font-size: 0.95em"
)
# Our small print has amounts, as in `$1 … $2`, and so may what a tool or the host says: no front end shall make a
# formula of that.
_NO_FORMULAS = "mathjax_ignore tex2jax_ignore"


def answer_bundle(reply: Reply) -> Bundle:
    """Return the answer; the reasoning where there is only that."""
    if reply.text or not reply.thinking:
        return {"text/markdown": safe_markdown(reply.text).strip(), "text/plain": reply.text}
    text = f"thinking …\n{reply.thinking}"
    body = _as_small_print(reply.thinking.strip())
    return {"text/plain": text, "text/html": f"<details open><summary>Thinking</summary>{body}</details>"}


def thinking_bundle(text: str) -> Bundle:
    """Return the end of the reasoning, for the time when there is no answer yet."""
    tail = text[-400:].lstrip() if len(text) > 400 else text
    return small_bundle(f"thinking … {tail}")


def footer_bundle(reply: Reply, error: KimiError | None, *, has_footer: bool) -> Bundle | None:
    """Return what stands below the answer; None when there is nothing to say.

    That is: the calls of tools, also without a footer since they are part of what happened; why it was asked for again;
    why it ended early; and the figures.
    """
    remarks = [one_line(remark, _MOST_REMARK) for remark in reply.remarks]
    text = "\n".join([*remarks, *footer_lines(reply, error, has_footer=has_footer)])
    rows = list_rows(reply)
    if not rows:
        return small_bundle(text) if text else None
    shown, calls_left = rows[:MOST_ROWS], sum(row.kind == "call" for row in rows[MOST_ROWS:])
    more = [f"… and {calls_left:,} more"] if calls_left else []
    lines = [*(row.line for row in shown if row.kind == "call"), *more, *([text] if text else [])]
    below = "\n".join([*more, *([text] if text else [])])
    body = "".join(map(_row_as_html, shown)) + (small_bundle(below)["text/html"] if below else "")
    return {"text/plain": "\n".join(lines), "text/html": body}


def footer_lines(reply: Reply, error: KimiError | None, *, has_footer: bool) -> list[str]:
    """Return the lines below the answer."""
    figures = format_footer(reply) if has_footer and (reply.has_begun or error is None) else ""
    return [line for line in (explain_finish(reply), figures) if line]


#: An answer that did not fit is quoted in what is said of it.
_MOST_REMARK = 300


def small_bundle(text: str) -> Bundle:
    """Return a remark of ours, in small print."""
    return {"text/plain": text, "text/html": _as_small_print(text)}


def _as_small_print(text: str) -> str:
    return f'<div class="{_NO_FORMULAS}" style="{_FOOTER_STYLE}">{_as_html(text)}</div>'


def _row_as_html(row: ToolRow) -> str:
    """Return a row; every text in it is somebody else's."""
    if row.kind != "call":
        return f'<p class="kimi-earlier {_NO_FORMULAS}" style="{_FOOTER_STYLE}; margin: 0">{_as_html(row.text)}</p>'
    outcome = html.escape(row.outcome)
    if row.state == "failed":
        outcome = f'<span style="{_FAILED_STYLE}">{outcome}</span>'
    took = f" · {html.escape(row.took)}" if row.took else ""
    name = f'<code style="background: none; padding: 0">{html.escape(row.text)}</code>'
    summary = f'<summary style="cursor: pointer">{name} {outcome}{took}</summary>'
    details = "".join(
        f'<pre style="{_DETAIL_STYLE}">{html.escape(text)}</pre>' for text in (row.arguments, row.result) if text
    )
    names = f"kimi-call kimi-{row.state} {_NO_FORMULAS}"
    return f'<details class="{names}" style="{_FOOTER_STYLE}">{summary}{details}</details>'


def _as_html(text: str) -> str:
    return "<br>".join(html.escape(line) for line in text.split("\n"))


def describe_wait(event: Waiting) -> str:
    """Return the countdown's line."""
    if event.is_for_turn:
        wait = f"; about {event.seconds:.0f} s" if event.seconds else ""
        return f"waiting for a turn: {event.reason}{wait}"
    reason = _ASKED_WAIT.sub("", event.reason)
    return f"{reason}; trying again in {event.seconds:.0f} s (try {event.attempt + 1})"


def describe_upload(event: Uploading) -> str:
    """Return the line of an upload, a bar and how far it is; short enough for a terminal, which clears one line."""
    total, sent = format_bytes(event.total_bytes), format_bytes(event.sent_bytes)
    name = event.label if len(event.label) <= 28 else f"…{event.label[-27:]}"
    if event.sent_bytes >= event.total_bytes:
        return f"{name} is uploaded ({total})"
    full = 16 * event.sent_bytes // event.total_bytes
    return f"uploading {name} {'█' * full}{'░' * (16 - full)} {sent} of {total}"


def describe_progress(event: Uploading | Waiting) -> str:
    """Return the line of what is waited for before a call."""
    return describe_upload(event) if isinstance(event, Uploading) else describe_wait(event)


class Outlet:
    """One output: displayed at once and brought up to date in place when `is_live`, else displayed when it is put."""

    def __init__(self, *, is_live: bool) -> None:
        self.is_live = is_live
        self._handle: DisplayHandle | None = None

    @property
    def is_shown(self) -> bool:
        """Whether there is something that can still be replaced."""
        return self._handle is not None

    def put(self, bundle: Bundle, *, metadata: dict[str, Any] | None = None) -> None:
        """Show the bundle, in the place of the one before."""
        metadata = metadata or {}
        if self._handle is not None:
            self._handle.update(bundle, raw=True, metadata=metadata)  # type: ignore[no-untyped-call]
        elif self.is_live:
            self._handle = display_bundle(bundle, metadata=metadata, display_id=True)
        else:
            display_bundle(bundle, metadata=metadata)


def display_bundle(bundle: Bundle, **options: Any) -> Any:
    """Display a bundle of one output; in a plain shell its `text/plain` is printed."""
    from IPython.display import display

    return display(bundle, raw=True, **options)  # type: ignore[no-untyped-call]
