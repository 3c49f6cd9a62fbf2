"""The form that an answer is asked for, JSON of any kind or after a schema.

Source of the rules: reference/chat_completions_page.txt, "response_format", checked 2026-11-22.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kimi_magics.core.tools import TOOL_NAME
from kimi_magics.errors import SchemaError

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


# ---------------------------------------------------------------- the short form of a schema

_STRING = {"type": "string"}
_TYPES: dict[str, dict[str, Any]] = {
    "str": _STRING,
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "list": {"type": "array", "items": _STRING},
}
_TYPES |= {f"list[{name}]": {"type": "array", "items": _TYPES[name]} for name in _TYPES if name != "list"}
_FIELD_NAME = re.compile(r"[^\W\d][\w-]*")


def read_short_form(text: str) -> dict[str, Any] | None:
    """Return the JSON schema that `name, age int, tags list` stands for; None for what is no short form, as one name.

    A field is a name, a type where it is not a text, and after a colon what it means. Commas stand between the fields,
    or ends of lines, which leaves the commas to the descriptions. Raises SchemaError for a field that cannot be read.
    Source: https://llm.datasette.io/en/stable/schemas.html, "Concise LLM schema syntax"; list and date are ours.
    """
    fields = [part.strip() for part in text.strip().split("\n" if "\n" in text.strip() else ",")]
    head = fields[0].partition(":")[0].split()
    if not head or not _FIELD_NAME.fullmatch(head[0]) or (len(fields) == 1 and fields[0] == head[0]):
        return None
    properties: dict[str, dict[str, Any]] = {}
    for part in filter(None, fields):
        name, schema = _read_field(part)
        if name in properties:
            raise SchemaError(f"two fields have the name {name}", remedy="each needs a name of its own: rename one")
        properties[name] = schema
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _read_field(text: str) -> tuple[str, dict[str, Any]]:
    before, _, description = (part.strip() for part in text.partition(":"))
    name, _, kind = before.partition(" ")
    kind = kind.strip() or "str"
    if not _FIELD_NAME.fullmatch(name):
        raise SchemaError(
            f"{text[:40]!r} is not a field of a schema", remedy="write 'name, age int, tags list: what they are for'"
        )
    if kind not in _TYPES:
        close = difflib.get_close_matches(kind, list(_TYPES), n=1, cutoff=0.6)
        advice = f"did you mean {close[0]}? " if close else ""
        raise SchemaError(
            f"{kind[:40]!r} is not a type for the field {name}",
            remedy=f"{advice}there are {', '.join(name for name in _TYPES if '[' not in name)} and list[int]; with a"
            " comma in a description, put each field on a line of its own",
        )
    schema = _TYPES[kind] | ({"description": description} if description else {})
    return name, schema


# ---------------------------------------------------------------- what the host takes of a schema

_MAPS_OF_SCHEMAS = ("properties", "$defs", "patternProperties", "dependentSchemas")
_LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMAS = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
#: One of these tells what a schema is for; without any, it stands for every value.
_TELLING = {"type", "enum", "const", "$ref", *_LISTS_OF_SCHEMAS, "not", "if"}
_ANYTHING = ["string", "number", "boolean", "object", "array", "null"]


def fit_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema in the words that the host takes, which are fewer than JSON schema has.

    It may allow more than the one given, never less: the answer is checked against that one. Changed is only what
    Pydantic writes or what is known to be refused; the rest goes as it is, and the host says what it does not take.
    Source: https://github.com/MoonshotAI/walle/tree/main/docs, and the refusals in public issues, up to 2026-09.
    """
    root = {("$defs" if key == "definitions" else key): value for key, value in schema.items()}
    root.pop("$schema", None)
    definitions, reference = root.get("$defs"), root.get("$ref")
    if isinstance(reference, str) and isinstance(definitions, Mapping):
        # A model that holds itself is a reference at the root, where the host wants an object.
        target = definitions.get(_local(reference).removeprefix("#/$defs/"))
        if isinstance(target, Mapping):
            root = {**target, "$defs": definitions}
    fitted: dict[str, Any] = _fit(root, is_root=True)
    return fitted


def visit_schema(node: Any, change: Callable[[Any], Any]) -> Any:
    """Return a copy of one schema with `change` done to each schema that stands directly in it."""
    if not isinstance(node, Mapping):
        return node
    copy = dict(node)
    for key, value in node.items():
        if key in (*_MAPS_OF_SCHEMAS, "definitions") and isinstance(value, Mapping):
            copy[key] = {name: change(part) for name, part in value.items()}
        elif key in _LISTS_OF_SCHEMAS and isinstance(value, list):
            copy[key] = [change(part) for part in value]
        elif key in _SCHEMAS and isinstance(value, Mapping):
            copy[key] = change(value)
    return copy


def drop_titles(node: Any) -> Any:
    """Return the schema without its titles: those that Pydantic writes only repeat the names, and cost tokens."""
    copy = visit_schema(node, drop_titles)
    if isinstance(copy, dict):
        copy.pop("title", None)
    return copy


def _fit(node: Any, *, is_root: bool = False) -> Any:
    if node is True:
        node = {}
    if not isinstance(node, Mapping):
        return node
    fitted: dict[str, Any] = visit_schema(node if is_root else _share_type(node), _fit)
    if "oneOf" in fitted and "anyOf" not in fitted:
        fitted["anyOf"] = fitted.pop("oneOf")
        fitted.pop("discriminator", None)
    if isinstance(fitted.get("const"), str | int | float) and not isinstance(fitted["const"], bool):
        fitted["enum"] = [fitted.pop("const")]
    if "$ref" in fitted:
        return _fit_reference(fitted)
    if "anyOf" in fitted:
        fitted.pop("default", None)
    elif not is_root and not _TELLING & fitted.keys():
        fitted["type"] = "object" if "properties" in fitted else "array" if "items" in fitted else _ANYTHING
    return fitted


def _share_type(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema with the type that stands beside its choices put into each choice that has none.

    At the root it stays, since the host wants one there.
    """
    choices = node.get("anyOf", node.get("oneOf"))
    if "type" not in node or not isinstance(choices, list):
        return node
    shared = {key: value for key, value in node.items() if key not in ("type", "oneOf")}
    shared["anyOf"] = [
        {"type": node["type"], **choice} if isinstance(choice, Mapping) and not _TELLING & choice.keys() else choice
        for choice in choices
    ]
    return shared


def _fit_reference(node: dict[str, Any]) -> dict[str, Any]:
    reference = _local(node.pop("$ref"))
    node.pop("default", None)
    if node.keys() & {"title", "description"} and not node.keys() - {"title", "description"}:
        # Beside a reference they were refused where the schema that is meant has them as well.
        return {**node, "anyOf": [{"$ref": reference}]}
    return {**node, "$ref": reference}


def _local(reference: Any) -> Any:
    # `definitions` is the older name of `$defs`.
    is_old = isinstance(reference, str) and reference.startswith("#/definitions/")
    return "#/$defs/" + reference.removeprefix("#/definitions/") if is_old else reference
