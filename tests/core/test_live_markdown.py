"""A growing text as patches: what a page makes of them is what the kernel has, it is safe, whole, and never dear."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kimi_magics.core.live_markdown import Block, LiveMarkdown, Patch
from kimi_magics.core.safe_markdown import safe_markdown

FENCE = "```python\n"
PROSE = "Some **plain** words, a `span`, and an end of the line that is long enough.\n\n"
CODE = "    value = compute(value, 12)  # the next step\n"
ROW = "| a cell of words | 12,345 | `span` |\n"
ITEM = "- an item of a list, *with* some words in it\n"
#: One text of each kind, at least as long as asked.
KINDS = {
    "prose": lambda size: PROSE * (size // len(PROSE) + 1),
    "one long code block": lambda size: FENCE + CODE * (size // len(CODE) + 1) + "```\n",
    "one long table": lambda size: "| a | b | c |\n|:--|--:|---|\n" + ROW * (size // len(ROW) + 1),
    "one long line": lambda size: "word " * (size // 5 + 1),
    "one long line without a blank": lambda size: "x" * size,
    "a long list": lambda size: ITEM * (size // len(ITEM) + 1),
    "emoji without a break": lambda size: "👩🏽‍💻" * (size // 4 + 1),
}


class Page:
    """Applies patches as a page does, where strings are counted in UTF-16 units."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []

    @property
    def blocks(self) -> list[Block]:
        """The blocks; a last one in which nothing is to be seen yet does not count."""
        return self._blocks[:-1] if self._blocks and not self._blocks[-1].markdown else self._blocks

    def apply(self, patches: list[Patch]) -> None:
        for block, keep, add, is_joined in patches:
            if block == len(self._blocks):
                self._blocks.append(Block("", is_joined=is_joined))
            kept = self._blocks[block].markdown.encode("utf-16-le")[: 2 * keep]
            assert len(kept) == 2 * keep, "more is kept than there is"
            self._blocks[block] = Block(kept.decode("utf-16-le") + add, is_joined=is_joined)


def cut(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


def grow(text: str, size: int) -> tuple[LiveMarkdown, Page, int]:
    """Give the text in pieces; return what the kernel has, what a page has, and the characters that were sent."""
    live, page, sent = LiveMarkdown(), Page(), 0
    for piece in cut(text, size):
        patches = live.add(piece)
        page.apply(patches)
        sent += sum(len(patch.add) for patch in patches)
    return live, page, sent


def is_made_of_parts(text: str, blocks: list[Block], *, fence: str = "", ends: list[int] | None = None) -> bool:
    """Tell whether the text can be cut so that each block is the safe Markdown of its part.

    A block that goes on with code has the line `fence` before its part. `ends` are the places to try, default each.
    """
    ends = list(range(1, len(text) + 1)) if ends is None else ends
    starts = {0}
    for block in blocks:
        head = fence if block.is_joined else ""
        starts = {
            end
            for start in starts
            for end in ends
            if end > start and safe_markdown(head + text[start:end]) == block.markdown
        }
    # of blanks at the end there may be no block
    return any(not safe_markdown(text[start:]) for start in starts)


pieces_of_markdown = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "\n",
                "\n\n",
                "```",
                "```py\n",
                "~~~\n",
                "    x\n",
                "- ",
                "1. ",
                "> ",
                "| a |",
                "|--|\n",
                "# ",
                "`",
                "$",
                "$$",
            ]
        ),
        st.sampled_from(
            ["<b>", "[x](javascript:1)", "![x](y)", "👍", "👩🏽‍💻", "é", "中文", "", "\\", "word ", "**", "\t"]
        ),
        st.text(st.characters(codec="utf-8"), max_size=6),
    ),
    max_size=24,
)


@given(pieces_of_markdown)
@settings(deadline=None)
def test_a_page_that_applies_the_patches_has_the_blocks(pieces: list[str]) -> None:
    live, page = LiveMarkdown(), Page()
    for piece in pieces:
        page.apply(live.add(piece))
        assert page.blocks == live.blocks


@given(pieces_of_markdown.map(lambda pieces: pieces[:12]))
@settings(deadline=None)
def test_each_block_is_the_safe_markdown_of_its_part_of_the_text(pieces: list[str]) -> None:
    live = LiveMarkdown()
    for piece in pieces:
        live.add(piece)
    assert is_made_of_parts("".join(pieces), live.blocks)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [97, 5_000, 100_000], ids="pieces of {}".format)
def test_a_long_text_in_pieces_is_on_the_page_what_it_is_in_the_kernel(kind: str, size: int) -> None:
    live, page, _ = grow(KINDS[kind](20_000), size)
    assert page.blocks == live.blocks
    assert len(page.blocks) > 1


@pytest.mark.parametrize("kind", ["one long code block", "one long table", "a long list"])
def test_each_block_of_a_long_text_is_the_safe_markdown_of_its_lines(kind: str) -> None:
    text = KINDS[kind](9_000)
    live, _, _ = grow(text, 500)
    ends = [match.end() for match in re.finditer("\n", text)]
    assert is_made_of_parts(text, live.blocks, fence=FENCE, ends=ends)


@given(
    st.lists(st.sampled_from([" ", "\n", "\n\n", "\n- ", "\n\n1. ", "\n# "]), min_size=1, max_size=3_000),
    st.integers(1, 400),
)
@settings(deadline=None, max_examples=30)
def test_the_blocks_hold_all_plain_words_in_order(blanks: list[str], size: int) -> None:
    words = [f"word{number}" for number in range(len(blanks))]
    live, page, _ = grow("".join(word + blank for word, blank in zip(words, blanks, strict=True)), size)
    assert re.findall(r"word\d+", "".join(block.markdown for block in live.blocks)) == words
    assert page.blocks == live.blocks


def test_code_that_is_cut_is_whole_but_for_its_fence_which_is_repeated() -> None:
    lines = [f"line_{number} = {number}\n" for number in range(2_000)]
    live, _, _ = grow(FENCE + "".join(lines) + "```\n", 64)
    assert [block.is_joined for block in live.blocks] == [False] + [True] * 7
    assert all(block.markdown.startswith(FENCE) and block.markdown.endswith("```\n") for block in live.blocks)
    shown = "".join(block.markdown.removeprefix(FENCE).removesuffix("```\n") for block in live.blocks)
    assert shown == "".join(lines)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_sent_grows_with_the_text_and_not_with_its_square(kind: str) -> None:
    small, large = (grow(KINDS[kind](size), 600)[2] for size in (15_000, 150_000))
    assert small < 4 * 15_000
    assert large <= 12 * small


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_emoji_are_cut_between_characters_and_counted_as_a_page_counts_them(size: int) -> None:
    text = "a👩🏽‍💻é👍 **b👍** `👍`\n\n👍👍\n\nthe end 👍"
    live, page, _ = grow(text, size)
    assert page.blocks == live.blocks
    assert "".join(block.markdown for block in live.blocks) == text


def test_a_cut_within_a_line_of_emoji_splits_none() -> None:
    live, page, _ = grow("x" + "👍" * 13_000, 777)
    assert [len(block.markdown) for block in live.blocks] == [12_000, 1_001]
    assert page.blocks == live.blocks


def test_an_empty_piece_changes_nothing() -> None:
    live, page = LiveMarkdown(), Page()
    assert live.add("") == []
    assert live.blocks == []
    for piece in ("Hi", "", " there", "", "\n\n", "", "again", ""):
        before = list(live.blocks)
        page.apply(live.add(piece))
        assert page.blocks == live.blocks
        assert piece or live.blocks == before
    assert [block.markdown for block in live.blocks] == ["Hi there\n\n", "again"]


def test_a_piece_is_sent_as_what_stays_and_what_is_new() -> None:
    live = LiveMarkdown()
    assert [live.add(piece) for piece in ("Hi `x", "`.", "\n\nMore")] == [
        [Patch(0, 0, "Hi &#96;x", is_joined=False)],
        [Patch(0, 3, "`x`.", is_joined=False)],
        [Patch(0, 7, "\n\n", is_joined=False), Patch(1, 0, "More", is_joined=False)],
    ]
