"""A growing text as small patches of safe Markdown, for a view that draws while the text comes.

The promise: whatever is reported passed `safe_markdown`, each block by itself, so that safety never depends on where
the text was cut; and the work and the patches grow with the text, not with its square.

A block is finished at a blank line outside of code. Only the last one grows: it is made safe again with each piece, and
reported as what stays of it and what is new. Where a block becomes long, it is cut at a poorer place, which may look a
little different from the whole answer that is displayed in the end.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kimi_magics.core.safe_markdown import safe_markdown

_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")
# What goes on with the paragraph, list or table before it, also after a blank line.
_CONTINUES = re.compile(r"[ \t]|[-*+](?:[ \t]|$)|\d{1,9}[.)](?:[ \t]|$)|[|>]")
_ITEM = re.compile(r"[-*+][ \t]|\d{1,9}[.)][ \t]|#{1,6} ")
#: A line of which less is known may still become anything.
_SURE_CHARACTERS = 4
#: Beyond this a block is cut between list items or lines of code, and beyond the second at any line or character.
_LONG = 4_000
_TOO_LONG = 12_000
#: As much is looked at to find the end of a block.
_WINDOW = 16_000


class Patch(NamedTuple):
    """What becomes of one block: its first `keep` UTF-16 units (as JavaScript counts) stay, then comes `add`.

    `is_joined` says that it goes on with the code block before it.
    """

    block: int
    keep: int
    add: str
    is_joined: bool


class Block(NamedTuple):
    """One block: safe Markdown, and whether it goes on with the code block before it."""

    markdown: str
    is_joined: bool


class LiveMarkdown:
    """The blocks of a text that grows."""

    def __init__(self) -> None:
        self._finished: list[Block] = []
        self._open = Block("", is_joined=False)
        self._open_text = ""
        #: The line that opens the code again where the last block was cut within code.
        self._fence = ""

    @property
    def blocks(self) -> list[Block]:
        """All blocks as they are now."""
        return [*self._finished, self._open] if self._open.markdown else list(self._finished)

    def add(self, text: str) -> list[Patch]:
        """Take the next piece of the text; return what changes, in order."""
        patches: list[Patch] = []
        text, start = self._open_text + text, 0
        while cut := _find_cut(text[start : start + _WINDOW], self._fence):
            patches.append(self._update(self._fence + text[start : start + cut.length]))
            self._finished.append(self._open)
            self._open = Block("", is_joined=bool(cut.fence))
            self._fence = cut.fence
            start += cut.length
        self._open_text = text[start:]
        if self._open_text:
            patches.append(self._update(self._fence + self._open_text))
        return patches

    def _update(self, text: str) -> Patch:
        before, after = self._open.markdown, safe_markdown(text)
        common = _common_length(before, after)
        self._open = Block(after, self._open.is_joined)
        return Patch(len(self._finished), _utf16_length(before[:common]), after[common:], self._open.is_joined)


class _Cut(NamedTuple):
    """How long the first block is; `fence` is the line that opens the code again when it is cut within code."""

    length: int
    fence: str


def _find_cut(text: str, fence: str) -> _Cut | None:
    """Return where the first block of `text` ends for good, or None while it may go on.

    `fence` is the line that opened the code block in which `text` begins, if it does.
    """
    if "\n" not in text and len(text) <= _TOO_LONG:
        return None
    position, is_after_blank = 0, False
    good = fair = poor = _Cut(0, "")
    for line in text.split("\n"):
        if position and (position + len(line) < len(text) or len(line) >= _SURE_CHARACTERS):
            if not fence and is_after_blank and line.strip() and not _CONTINUES.match(line):
                good = _Cut(position, "")
            elif fence or _ITEM.match(line):
                fair = _Cut(position, fence)
            poor = _Cut(position, fence)
        if position > _LONG and (good.length or fair.length):
            break
        fence = _follow_fence(fence, line)
        is_after_blank = not line.strip()
        position += len(line) + 1
    if good.length:
        return good
    if len(text) > _LONG and fair.length > _LONG // 2:
        return fair
    if len(text) <= _TOO_LONG:
        return None
    return fair if fair.length else poor if poor.length else _Cut(_TOO_LONG, fence)


def _follow_fence(fence: str, line: str) -> str:
    """Return the line that opened the code block in which the next line stands, or an empty string."""
    match = _FENCE.match(line)
    if not match:
        return fence
    if not fence:
        return line + "\n"
    opener = _FENCE.match(fence.rstrip("\n"))
    marker = opener[1] if opener else ""
    is_closed = match[1].startswith(marker) and not line.strip().strip(marker[:1])
    return "" if is_closed else fence


def _common_length(first: str, second: str) -> int:
    """Return how many characters the two have in common at their start."""
    if second.startswith(first):
        return len(first)
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if second.startswith(first[:middle]):
            low = middle
        else:
            high = middle - 1
    return low


def _utf16_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
