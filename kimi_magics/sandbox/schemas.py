"""Values that satisfy a simple JSON schema, made up from the words and numbers of the prompt."""

from __future__ import annotations

import re
from typing import Any

from kimi_magics.sandbox.refusal import RefusalError

Schema = dict[str, Any]
_DEEPEST = 12
_TEXTS = {
    "date": "2026-11-22",
    "date-time": "2026-11-22T12:00:00Z",
    "time": "12:00:00Z",
    "email": "sandbox@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def build_value(schema: Schema, text: str) -> Any:
    """Return a value for the schema; a schema beyond the simple ones gets the best guess, a broken one is refused."""
    try:
        return _Builder(schema, text).build(schema, "value", 0)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise RefusalError(f"Invalid request: invalid JSON schema: {error}") from error


class _Builder:
    def __init__(self, root: Schema, text: str) -> None:
        self.root = root
        self.text = text
        self.numbers = re.findall(r"-?\d+(?:\.\d+)?", text)
        # A capitalised word that does not open a sentence is most likely a name: Paris in "the weather in Paris".
        self.names = re.findall(r"(?<![.!?])(?<=\s)[A-Z][a-z]+(?:\s[A-Z][a-z]+)*", text)

    def build(self, schema: Any, name: str, depth: int) -> Any:
        if not isinstance(schema, dict) or depth > _DEEPEST:
            return None if depth > _DEEPEST else "sandbox"
        if isinstance(schema.get("$ref"), str):
            return self.build(self._resolve(schema["$ref"]), name, depth + 1)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._choose(schema["enum"])
        for word in ("anyOf", "oneOf"):
            if schema.get(word):
                return self._build_any(schema[word], name, depth)
        if schema.get("allOf"):
            return self._build_all(schema["allOf"], name, depth)
        return self._build_type(schema, name, depth)

    def _resolve(self, reference: str) -> Any:
        value: Any = self.root
        for step in reference.removeprefix("#").strip("/").split("/"):
            if step:
                key = step.replace("~1", "/").replace("~0", "~")
                value = value.get(key) if isinstance(value, dict) else None
        return value

    def _choose(self, values: list[Any]) -> Any:
        """Return the first value that the prompt mentions as a word, or the first of all."""
        words = (value for value in values if isinstance(value, str))
        mentioned = (word for word in words if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", self.text, re.IGNORECASE))
        return next(mentioned, values[0])

    def _build_any(self, schemas: list[Any], name: str, depth: int) -> Any:
        # Near the end of the depth the plainest branch stops a schema that holds itself.
        plain = [
            item
            for item in schemas
            if isinstance(item, dict) and item.get("type") in ("null", "string", "number", "integer")
        ]
        chosen = plain[-1] if depth > _DEEPEST // 2 and plain else schemas[0]
        return self.build(chosen, name, depth + 1)

    def _build_all(self, schemas: list[Any], name: str, depth: int) -> Any:
        built = [self.build(item, name, depth + 1) for item in schemas]
        if all(isinstance(item, dict) for item in built):
            return {key: value for item in built for key, value in item.items()}
        return built[0]

    def _build_type(self, schema: Schema, name: str, depth: int) -> Any:
        kind = schema.get("type") or (
            "object" if "properties" in schema else "array" if "items" in schema else "string"
        )
        if isinstance(kind, list):
            kind = next((item for item in kind if item != "null"), "null")
        if kind == "object":
            return self._build_object(schema, depth)
        if kind == "array":
            count = max(1, int(schema.get("minItems", 1))) if depth < _DEEPEST // 2 else int(schema.get("minItems", 0))
            return [self.build(schema.get("items", {}), name, depth + 1) for _ in range(min(count, 100))]
        if kind in ("number", "integer"):
            return self._build_number(schema, kind)
        if kind == "boolean":
            return True
        return None if kind == "null" else self._build_text(schema, name)

    def _build_object(self, schema: Schema, depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        wanted = list(properties) if depth < _DEEPEST // 2 else [key for key in properties if key in required]
        wanted += [key for key in required if key not in wanted]
        return {key: self.build(properties.get(key, {}), key, depth + 1) for key in wanted}

    def _build_number(self, schema: Schema, kind: str) -> float:
        smallest, largest = schema.get("minimum"), schema.get("maximum")
        if "exclusiveMinimum" in schema:
            smallest = schema["exclusiveMinimum"] + 1
        if "exclusiveMaximum" in schema:
            largest = schema["exclusiveMaximum"] - 1
        value = float(self.numbers[0]) if self.numbers else 1.0
        value = max(value, smallest) if smallest is not None else value
        value = min(value, largest) if largest is not None else value
        return int(value) if kind == "integer" or value == int(value) else value

    def _build_text(self, schema: Schema, name: str) -> str:
        if schema.get("format") in _TEXTS:
            return _TEXTS[schema["format"]]
        text = self.names[0] if self.names else f"sandbox {name.replace('_', ' ')}"
        text = text.ljust(int(schema.get("minLength", 0)), "x")
        return text[: int(schema["maxLength"])] if "maxLength" in schema else text
