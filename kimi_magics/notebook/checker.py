"""`Checker` tells what is wrong with an answer in JSON, in words for the user and in words for the model.

Whatever the model writes, checking it gives the data or a Problem.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from kimi_magics.core.json_answers import BadJsonError, find_json

if TYPE_CHECKING:
    from kimi_magics.notebook.structures import Structure

_FAULTS_SHOWN, _FAULT_LETTERS = 5, 160


class Problem(Exception):  # noqa: N818 — not the user's error: the one who asked decides whether to ask again
    """An answer is not what was asked for; `wish` is what to tell the model when it is asked again."""

    def __init__(self, message: str, *, remedy: str, wish: str) -> None:
        super().__init__(message)
        self.message, self.remedy, self.wish = message, remedy, wish


@dataclass(frozen=True, slots=True)
class Checker:
    """Reads the answers to `--schema`, or without a structure those to `--json`, where any object does."""

    structure: Structure | None = None

    def check(self, text: str, *, finish_reason: str | None, is_partial: bool) -> Any:
        """Return the data of an answer. Raises Problem, which says what is wrong with it and where."""
        try:
            value, part = find_json(text)
        except BadJsonError as error:
            raise _explain_broken(error, is_long=finish_reason == "length", is_partial=is_partial) from None
        if not isinstance(value, dict):
            kind = _KINDS.get(type(value), "a number")
            raise Problem(
                f"the answer is {kind}, not a JSON object",
                remedy="--retries 2 asks again and says so; the reply keeps the text",
                wish=f"Your answer is {kind}. Answer again with one JSON object and nothing else.",
            )
        return value if self.structure is None else self.structure.read(value, text=part)


_KINDS: dict[type, str] = {list: "an array", str: "a text", bool: "true or false", type(None): "null"}


def _explain_broken(error: BadJsonError, *, is_long: bool, is_partial: bool) -> Problem:
    if is_long:
        return Problem(
            f"the answer was cut at the limit of its tokens, so that its JSON has no end: {error}",
            remedy="raise --max-tokens, which thinking uses as well, or ask for less; the reply keeps the text",
            wish="Your answer was cut off before its JSON was complete."
            " Answer again with the whole JSON object, shorter than before, and nothing else.",
        )
    if is_partial or error.is_cut:
        return Problem(
            f"the answer ends before its JSON does: {error}",
            remedy="run the cell again, or with --retries 2; the reply keeps the text",
            wish="Your answer ended before its JSON was complete."
            " Answer again with the whole JSON object and nothing else.",
        )
    return Problem(
        f"the answer cannot be read as JSON: {error}",
        remedy="--retries 2 asks again and says what is wrong; the reply keeps the text",
        wish=f"Your answer cannot be read as JSON: {error}."
        " Answer again with the whole corrected JSON object and nothing else.",
    )


def prepare(structure: Structure | None) -> None:
    """Import in the background what reading the answer will need, while the request is under way."""
    if structure is not None and structure.needs_jsonschema:
        threading.Thread(target=_load_jsonschema, name="kimi-jsonschema", daemon=True).start()


def _load_jsonschema() -> None:
    import jsonschema  # noqa: F401


# ---------------------------------------------------------------- faults


class MisfitError(Exception):
    """The faults of an answer, each with its place."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def list_faults(errors: Iterable[tuple[Iterable[Any], str]]) -> list[str]:
    """Write each error as `tags[1]: what is wrong`, at most five of them."""
    found = list(islice(errors, _FAULTS_SHOWN + 1))
    faults = [f"{write_path(path) or 'top level'}: {tidy(message)}" for path, message in found[:_FAULTS_SHOWN]]
    return faults + ["and more"] * (len(found) > _FAULTS_SHOWN)


def write_path(path: Iterable[Any]) -> str:
    """Return the place in the data that a path means, as `tags[1].name`."""
    text = ""
    for step in path:
        if isinstance(step, str) and re.fullmatch(r"[\w$-]{1,64}", step):
            text += f".{step}" if text else step
        else:
            text += f"[{step}]" if isinstance(step, int) else f"[{tidy(repr(step))}]"
    return text


def tidy(text: str) -> str:
    """Return the text on one line, short, without what a terminal would obey."""
    line = "".join(letter if letter.isprintable() else " " for letter in text.partition("\n\nFor further")[0])
    half = _FAULT_LETTERS // 2
    return line if len(line) <= _FAULT_LETTERS else f"{line[: half - 1]}…{line[-half:]}"
