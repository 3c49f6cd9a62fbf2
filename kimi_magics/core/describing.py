"""What a model is asked when pictures are described, and what is made of an alt text: plain, short, one line.

A template of the user takes the place of ours; `{{lang}}` and `{{length}}` in it are filled in, other braces are text.
"""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Literal

Length = Literal["short", "normal", "long", "alt"]

DESCRIBE_TEMPLATE = (
    "Describe the picture for a reader who cannot see it. Say what kind of picture it is and what it shows; for a"
    " chart the axes with their units, the series, the trends, and the figures that can be read off; for a table or a"
    " page its text. Say plainly what cannot be read or is not certain, and do not guess. If there are several"
    " pictures, number them and describe each. Write in {{lang}}, {{length}}."
)
ALT_TEMPLATE = (
    "Write the alt text of this picture, for people who cannot see it: what it shows and, for a chart, what its axes"
    " stand for and its main finding. Write plain text in {{lang}}, {{length}}; no Markdown, no quotation marks around"
    " it, and nothing like “image of” at its beginning."
)
_LENGTHS: dict[Length, str] = {
    "short": "in two or three sentences",
    "normal": "in one to three paragraphs",
    "long": "at length, with every figure that can be read off",
    "alt": "in one sentence, or two at most, of 250 characters in all",
}
#: A little more than what is asked for: models do not count well, and a whole sentence is better than a cut one.
MOST_ALT_CHARACTERS = 300

_PLACE = re.compile(r"\{\{ *(lang|length) *\}\}")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*$", re.MULTILINE)
_LINE_MARK = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]?|[-*+][ \t]+)+", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:[ \t]+\"[^\"]*\")?\)")
_STRONG = re.compile(r"(\*\*\*|\*\*|__|~~)(?=\S)(.+?)(?<=\S)\1", re.DOTALL)
_EMPHASIS = re.compile(r"(?<![\w*])([*_])(?=[^\s*_])([^*_]+)(?<=\S)\1(?![\w*])")
_HEAD = re.compile(r"^(?:alt(?:ernative)?[ -]?text|description)\s*[:：]\s*", re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "„": "“", "「": "」"}


def fill_template(template: str, *, language: str, length: Length) -> str:
    """Return the prompt: the places of `template` filled in once, everything else as it stands."""
    values = {"lang": language, "length": _LENGTHS[length]}
    return _PLACE.sub(lambda place: values[place[1]], template)


def clean_alt(text: str) -> str:
    """Return an alt text as plain text on one line, cut at a word when it is far too long; empty when nothing is left.

    A model's text is untrusted: whoever writes the result into HTML or Markdown still has to escape it.
    """
    text = _LINE_MARK.sub("", _FENCE.sub("", text))
    text = _LINK.sub(r"\1", text).replace("`", "")
    text = _EMPHASIS.sub(r"\2", _STRONG.sub(r"\2", text))
    # Zs, Zl and Zp are blanks; of the C kinds, joiners (Cf) shape some scripts, but others of them turn text around.
    text = "".join(" " if _is_blank(letter) else letter for letter in text if not _is_hidden(letter))
    text = _HEAD.sub("", " ".join(text.split()))
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return _cut(text)


def _is_blank(letter: str) -> bool:
    return letter in "\t\n\v\f\r\x85" or unicodedata.category(letter).startswith("Z")


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter).startswith("C") and not _is_blank(letter) and letter not in "\u200c\u200d"


def _cut(text: str) -> str:
    if len(text) <= MOST_ALT_CHARACTERS:
        return text
    head, blank, _ = text[:MOST_ALT_CHARACTERS].rpartition(" ")
    # Chinese and Japanese have no blanks: there, any place will do.
    is_at_word = bool(blank) and len(head) > MOST_ALT_CHARACTERS // 2
    return (head if is_at_word else text[: MOST_ALT_CHARACTERS - 1]).rstrip(" ,;:–—-") + "…"


def figure_html(encoded: str, mime: str, *, alt: str, width: int | None = None, height: int | None = None) -> str:
    """Return a picture, its bytes in base64, with its alt text as HTML that shows nothing else."""
    sides = "".join(f' {name}="{side}"' for name, side in (("width", width), ("height", height)) if side)
    source = f"data:{html.escape(mime)};base64,{html.escape(encoded)}"
    # Browsers would indent a figure.
    return f'<figure style="margin: 0"><img src="{source}" alt="{html.escape(alt)}"{sides}></figure>'
