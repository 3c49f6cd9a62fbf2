"""What a cell printed and showed, as text that can be sent: bounded, without colours and keys, pictures by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kimi_magics.errors import redact

#: About 5,000 to 7,000 tokens.
MOST_LETTERS = 20_000
#: What Python says of an object that is shown in another form.
_SAYS_NOTHING = re.compile(r"<[\w.]+ object>")
#: ECMA-48: colours and moves of the cursor, and what a terminal is told in between, such as the address of a link.
_CODES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\^_]")
_FENCE = re.compile(r"^ {0,3}(`{3,})", re.MULTILINE)


class _Part(NamedTuple):
    """The text of one output, and how many characters in its middle were left out before it came."""

    text: str
    missing: int = 0


def write_outputs(outputs: Sequence[Mapping[str, Any]]) -> str:
    """Return the outputs of a cell as text; empty for none.

    They are as in a notebook file, or as a page tells them: then `text` and `size` hold both ends of a long text and
    how long it was, and `kinds` the MIME types. Of what is too long both ends are kept, and the text says so.
    """
    parts = [part for output in outputs if (part := _write_output(output)).text.strip()]
    text = "\n".join(part.text.rstrip("\n") for part in parts)
    missing = sum(part.missing for part in parts)
    if len(text) + missing <= MOST_LETTERS:
        return write_safely(text)
    # The end is where a failure says what it is.
    half = MOST_LETTERS // 2
    left_out = len(text) + missing - 2 * half
    return f"{write_safely(text[:half])}\n… {left_out:,} characters left out …\n{write_safely(text[-half:])}"


def write_safely(text: str) -> str:
    """Return a text without keys and without halves of characters."""
    return redact(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def fence(text: str, language: str = "") -> str:
    """Return a text as a fenced block of Markdown that nothing in it can end."""
    ticks = "`" * (max((len(found) for found in _FENCE.findall(text)), default=2) + 1)
    return f"{ticks}{language}\n{text}\n{ticks}"


def _write_output(output: Mapping[str, Any]) -> _Part:
    kind = output.get("output_type")
    if kind == "stream":
        return _take(output)
    if kind == "error":
        return _take(output) if "text" in output else _Part(clean_output("\n".join(_lines(output.get("traceback")))))
    data = output.get("data")
    kinds: Sequence[Any] = output.get("kinds") or (list(data) if isinstance(data, dict) else ())
    named = [str(one) for one in kinds]
    part = _take(output)
    if isinstance(data, dict):
        plain, marked = ("".join(_lines(data.get(one))) for one in ("text/plain", "text/markdown"))
        part = _Part(clean_output(marked if not plain or _SAYS_NOTHING.fullmatch(plain) else plain))
    pictures = [one for one in named if one.startswith("image/")]
    if pictures:
        return _Part(f"(a picture, {pictures[0]}, which is not part of this text)")
    if not part.text.strip() and named:
        return _Part(f"(an output of the kind {named[0]}, which is no text)")
    return part


def _take(output: Mapping[str, Any]) -> _Part:
    text = "".join(_lines(output.get("text")))
    size = output.get("size")
    return _Part(clean_output(text), max(0, size - len(text)) if isinstance(size, int) else 0)


def _lines(value: Any) -> list[str]:
    """Return a text of the format, which may be a list of its lines."""
    return [value] if isinstance(value, str) else [str(line) for line in value] if isinstance(value, list) else []


def clean_output(text: str) -> str:
    """Return a text as a terminal shows it in the end: without colours, of each progress bar its last state."""
    text = _CODES.sub("", text.replace("\r\n", "\n"))
    if "\r" not in text:
        return text
    # A progress bar writes over its line.
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
