"""Find the images of a Markdown text that lack alt text, and write one in.

What stands in code is not an image. An `<img>` with an alt attribute, also an empty one, is as its author wants it: an
empty one says that the image is decoration. An image whose alt text is only a file name, as JupyterLab writes it, has
none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_FILE_NAME = re.compile(r"[^\s/\\]+\.(?:png|jpe?g|gif|webp|svg|bmp|tiff?|avif|heic)", re.IGNORECASE)
_COMMENT = r"<!--.*?(?:-->|\Z)"
_TAG = r"<(?P<tag>/?[a-zA-Z][\w-]*)\b(?P<attributes>(?:[^\"'<>]|\"[^\"]*\"|'[^']*')*)>"
_DESTINATION = (
    r"\(\s*(?:<(?P<angle>[^<>\n]*)>|(?P<plain>[^\s()<>]*(?:\([^\s()]*\)[^\s()]*)*))"
    r"(?:\s+(?:\"[^\"]*\"|'[^']*'|\([^()]*\)))?\s*\)"
)
_PART = re.compile(
    rf"\\.|(?P<ticks>`+)|{_COMMENT}|{_TAG}|!\[(?P<alt>[^\[\]]*)\](?:{_DESTINATION}|\[(?P<reference>[^\[\]]+)\])",
    re.DOTALL,
)
_HTML_PART = re.compile(rf"{_COMMENT}|{_TAG}", re.DOTALL)
_ATTRIBUTE = re.compile(r"([^\s\"'<>/=]+)(?:\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s\"'=<>`]+))?")
_NAMED_OTHERWISE = {"alt", "aria-label", "aria-labelledby", "aria-hidden"}
# As character references these have no meaning to any parser, nor to what looks for formulas before one.
_SPECIAL = re.compile(r"[\\`*\[\]<>&$|~\"]|(?<![^\W_])_|_(?![^\W_])")

_REFERENCES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


class MarkdownImage(NamedTuple):
    """An image without alt text: what it shows, and the part of the text that the alt text takes the place of."""

    target: str
    start: int
    end: int
    form: Literal["markdown", "html"]

    def write(self, alt: str) -> str:
        """Return what is put in for this alt text."""
        safe = _SPECIAL.sub(lambda letter: _REFERENCES.get(letter[0]) or f"&#{ord(letter[0])};", alt)
        return safe if self.form == "markdown" else f' alt="{safe}"'


def find_bare_images(source: str) -> list[MarkdownImage]:
    """Return the images of `source` that lack alt text, in order."""
    # Most cells have no image: the parser is not even loaded for them.
    if "![" not in source and "<img" not in source.lower():
        return []
    references: dict[str, object] = {}
    tokens = _parser().parse(source, references)
    lines = [0, *(match.end() for match in re.finditer(r"\r\n|\r|\n", source)), len(source)]
    links: Mapping[str, Mapping[str, str]] = references.get("references", {})  # type: ignore[assignment]
    regions = {(token.map[0], token.map[1], token.type) for token in tokens if token.map and token.type in _READ}
    found: list[MarkdownImage] = []
    for first, last, kind in sorted(regions):
        start, end = lines[min(first, len(lines) - 1)], lines[min(last, len(lines) - 1)]
        found += _read_html(source, start, end) if kind == "html_block" else _read_prose(source, start, end, links)
    return found


_READ = ("inline", "html_block")


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")


def _read_prose(source: str, start: int, end: int, links: Mapping[str, Mapping[str, str]]) -> Iterator[MarkdownImage]:
    at = start
    while match := _PART.search(source, at, end):
        at = match.end()
        if match["ticks"]:
            at = _end_of_code(source, match, end)
        elif match["tag"]:
            yield from _read_tag(match)
        elif match["alt"] is not None:
            target = _find_target(match, links)
            alt = match["alt"].strip()
            if target and (not alt or _FILE_NAME.fullmatch(alt)):
                yield MarkdownImage(target, match.start("alt"), match.end("alt"), "markdown")


def _read_html(source: str, start: int, end: int) -> Iterator[MarkdownImage]:
    for match in _HTML_PART.finditer(source, start, end):
        if match["tag"]:
            yield from _read_tag(match)


def _read_tag(match: re.Match[str]) -> Iterator[MarkdownImage]:
    if match["tag"].lower() != "img":
        return
    attributes = {name.lower(): (value or "").strip("\"'") for name, value in _ATTRIBUTE.findall(match["attributes"])}
    is_decoration = attributes.get("role") in ("none", "presentation")
    if attributes.get("src") and not is_decoration and not _NAMED_OTHERWISE & set(attributes):
        at = match.end("tag")
        yield MarkdownImage(attributes["src"], at, at, "html")


def _end_of_code(source: str, opening: re.Match[str], end: int) -> int:
    """Return where the code span ends; where none does, the backticks are text."""
    ticks = opening["ticks"]
    closing = re.compile(rf"(?<!`){ticks}(?!`)").search(source, opening.end(), end)
    return closing.end() if closing else opening.end()


def _find_target(match: re.Match[str], links: Mapping[str, Mapping[str, str]]) -> str:
    if match["reference"] is not None:
        from markdown_it.common.utils import normalizeReference

        return links.get(normalizeReference(match["reference"]), {}).get("href", "")
    return match["angle"] if match["angle"] is not None else match["plain"]
