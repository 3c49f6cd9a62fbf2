"""The form that an answer is asked for: JSON of any kind, or JSON after a schema.

Source of the rules: reference/chat_completions_page.txt, "response_format", checked 2026-11-22.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kimi_magics.core.tools import TOOL_NAME

#: Added to the system prompt when nothing in the request asks for JSON, which the API wants with `json_object`.
JSON_WISH = "Answer with one JSON object and nothing else."


@dataclass(frozen=True, slots=True)
class Format:
    """How the answer is to be written: a JSON object, or with `schema` JSON that satisfies it."""

    schema: Mapping[str, Any] | None = field(default=None, hash=False)
    #: Names the schema for the host.
    name: str = "answer"

    @property
    def is_schema(self) -> bool:
        """Whether the answer must satisfy a schema."""
        return self.schema is not None


def says_json(text: str) -> bool:
    """Tell whether a text asks for JSON by its name, as the API wants it."""
    return "json" in text.lower()


def schema_name(text: str) -> str:
    """Return a name for a schema within the rule for names: other characters become an underscore."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_-")[:64]
    return name if TOOL_NAME.fullmatch(name) else "answer"
