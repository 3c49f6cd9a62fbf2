"""A notebook as a reader sees it: its cells as Markdown, with what they put out as text.

The promise: no picture and no page goes along, only the name of its kind, and no output is longer than `MOST_OUTPUT`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kimi_magics.notebook.cell_outputs import clean_output

#: In characters, for each cell: a log tells by its beginning and its end what it is.
MOST_OUTPUT = 4_000
_HEAD = 3_000

_LANGUAGE = re.compile(r"[\w+#.\-]{1,30}")
_BACKTICKS = re.compile(r"`+")


def write_cells(content: Mapping[str, Any]) -> list[str]:
    """Return the cells of a notebook (the JSON of format 4) as Markdown, one text for each; an empty cell has none."""
    language = find_language(content)
    cells = content.get("cells")
    return [write_cell(cell, language=language) for cell in (cells if isinstance(cells, list) else ())]


def write_cell(cell: Any, *, language: str = "python") -> str:
    """Return one cell as Markdown: text as it is, code and its output fenced."""
    if not isinstance(cell, Mapping):
        return ""
    source = _join(cell.get("source"))
    if cell.get("cell_type") != "code":
        return source.strip("\n")
    parts = [_fence(source, language)] if source.strip() else []
    output = write_outputs(cell.get("outputs"))
    return "\n\n".join([*parts, _fence(output, "output")] if output else parts)


def write_outputs(outputs: Any) -> str:
    """Return what the outputs of a cell say, bounded; a picture as `[image/png output]`."""
    text = "\n".join(_write_outputs(outputs if isinstance(outputs, list) else []))
    if len(text) <= MOST_OUTPUT:
        return text
    left_out = len(text) - MOST_OUTPUT
    return f"{text[:_HEAD]}\n… ({left_out:,} characters left out) …\n{text[_HEAD - MOST_OUTPUT :]}"


def find_language(content: Mapping[str, Any]) -> str:
    """Return the language of a notebook's code, or nothing when it is not told."""
    metadata = content.get("metadata")
    for part, name in (("language_info", "name"), ("kernelspec", "language")):
        told = metadata.get(part) if isinstance(metadata, Mapping) else None
        word = told.get(name) if isinstance(told, Mapping) else None
        if isinstance(word, str) and _LANGUAGE.fullmatch(word):
            return word.lower()
    return ""


def _write_outputs(outputs: list[Any]) -> Iterator[str]:
    stream = ""
    for output in outputs:
        if not isinstance(output, Mapping):
            continue
        kind = output.get("output_type")
        if kind == "stream":
            stream += _join(output.get("text"))  # one print may have become several outputs
            continue
        if said := _clean(stream):
            yield said
        stream = ""
        said = _write_error(output) if kind == "error" else _write_bundle(output.get("data"))
        if said:
            yield said
    if said := _clean(stream):
        yield said


def _write_error(output: Mapping[str, Any]) -> str:
    """Return the error without its traceback, which repeats the code."""
    return _clean(f"{_join(output.get('ename'))}: {_join(output.get('evalue'))}")


def _write_bundle(data: Any) -> str:
    if not isinstance(data, Mapping):
        return ""
    picture = next((kind for kind in data if isinstance(kind, str) and kind.startswith(("image/", "video/"))), None)
    # The text beside a picture is only the name of a class.
    text = "" if picture else _clean(_join(data.get("text/plain")))
    kind = picture or next((kind for kind in data if isinstance(kind, str) and kind != "text/plain"), None)
    return text or (f"[{_clean(kind)[:80]} output]" if kind else "")


def _join(value: Any) -> str:
    """Return a text of the format, which may be a list of lines."""
    if isinstance(value, list):
        return "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""


def _clean(text: str) -> str:
    return clean_output(text).strip("\n")


def _fence(text: str, kind: str) -> str:
    longest = max((len(run) for run in _BACKTICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{kind}\n{text.strip(chr(10))}\n{fence}"
