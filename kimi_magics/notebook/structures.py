"""What `--schema` names becomes a schema to send and a way to read the answer.

Whatever the model writes, reading it gives the data or a Problem; nothing is fetched, whatever a schema refers to.
"""

from __future__ import annotations

import difflib
import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any

from kimi_magics.core.formats import Format, drop_titles, fit_schema, read_short_form, schema_name, visit_schema
from kimi_magics.core.interpolate import resolve
from kimi_magics.core.json_answers import BadJsonError, find_json
from kimi_magics.errors import SchemaError, VariableError
from kimi_magics.notebook.checker import MisfitError, Problem, list_faults, tidy, write_path
from kimi_magics.notebook.python_types import WHAT_FITS, adapt_type, modernize

_LIST_OF = re.compile(r"list\[\s*([^\[\],]+)\s*\]")
# One of these at its root makes a dict a schema of an object.
_ROOT_KEYS = {"type", "properties", "$ref", "anyOf", "oneOf", "allOf", "additionalProperties", "patternProperties"}


@dataclass(frozen=True, slots=True)
class Structure:
    """The form of an answer: `format` is what is sent, `read` makes the data of the JSON that comes back."""

    format: Format
    #: What the user calls it.
    label: str
    _read: Callable[[Any, str], Any] = field(repr=False)
    #: Whether it is jsonschema that reads, which takes seconds to load in an environment with JupyterLab.
    needs_jsonschema: bool = False

    def read(self, value: Any, *, text: str | None = None) -> Any:
        """Return the instance that a JSON value stands for; `text` is the value as it was written, if at hand.

        A model or dataclass gives its instance, a TypedDict, a schema and the short form a dict. Raises Problem.
        """
        try:
            return self._read(value, json.dumps(value) if text is None else text)
        except MisfitError as error:
            faults = error.faults
        except RecursionError:
            faults = ["it is nested too deep"]
        except Exception as error:  # noqa: BLE001 — validators and constructors of the user may raise anything
            faults = [f"{type(error).__name__}: {tidy(str(error))}"]
        raise Problem(
            f"the answer does not fit {self.label}: {'; '.join(faults)}",
            remedy="--retries 2 asks again and says what is wrong; the reply keeps the text",
            wish="\n".join(
                [
                    "Your answer does not fit the JSON schema that was asked for:",
                    *(f"- {fault}" for fault in faults),
                    "Answer again with the whole corrected JSON object and nothing else.",
                ]
            ),
        )


# ---------------------------------------------------------------- from the flag to the structure


def find_structure(source: str, variables: Mapping[str, Any], *, is_checked: bool = True) -> Structure:
    """Return what `--schema SOURCE` asks for: a variable's name or path, list[name], the short form, or JSON text.

    The variable may hold a Pydantic model, a dataclass, a TypedDict or another type, a JSON schema as dict, or a text
    as above. What is no object, as a list, is asked for inside of one, and taken out again. Raises SchemaError.
    Without `is_checked` a dict is not held against the rules for JSON schemas, which is enough for counting its tokens:
    in an environment with JupyterLab, loading what knows them takes a second or two.
    """
    source = source.strip()
    structure = _structure_of_text(source, name="answer", label="the schema", is_checked=is_checked)
    if structure is not None:
        return structure
    listed = _LIST_OF.fullmatch(source)
    value = _find_variable(listed[1] if listed else source, variables)
    name = schema_name(value.__name__ if isinstance(value, type) and not listed else source)
    if _is_type(value):
        kind = types.GenericAlias(list, (value,)) if listed else value
        return _structure_of_type(kind, variables, name=name, label=source)
    if isinstance(value, str) and not listed:
        structure = _structure_of_text(value, name=name, label=source, is_checked=is_checked)
    if isinstance(value, Mapping) and not listed:
        structure = _structure_of_schema(value, name=name, label=source, is_checked=is_checked)
    if structure is None:
        raise _refuse_value(source, value)
    return structure


def _structure_of_text(text: str, *, name: str, label: str, is_checked: bool) -> Structure | None:
    if not text.lstrip().startswith("{"):
        schema = read_short_form(text)
        # What we make of a short form is a schema.
        return None if schema is None else _structure_of_schema(schema, name=name, label=label, is_checked=False)
    try:
        given, _ = find_json(text)
    except BadJsonError as error:
        raise SchemaError(f"{label} is not JSON: {error}", remedy="correct it there") from None
    return _structure_of_schema(given, name=name, label=label, is_checked=is_checked)


def _find_variable(source: str, variables: Mapping[str, Any]) -> Any:
    try:
        return resolve(source, variables)
    except VariableError as error:
        names = [name for name in variables if not name.startswith("_")] if source.isidentifier() else []
        close = difflib.get_close_matches(source, names, n=1, cutoff=0.6)
        remedy = f"did you mean {close[0]}?" if close else f"name {WHAT_FITS}"
        raise SchemaError(f"--schema {error.message}", remedy=remedy) from None


def _is_type(value: Any) -> bool:
    kinds = (type, types.UnionType, getattr(typing, "TypeAliasType", type))
    return isinstance(value, kinds) or typing.get_origin(value) is not None


def _refuse_value(source: str, value: Any) -> SchemaError:
    kind = type(value).__name__
    if is_dataclass(value) or hasattr(type(value), "model_json_schema"):
        return SchemaError(f"--schema {source} is one {kind}, not the class", remedy=f"write --schema {kind}")
    return SchemaError(f"--schema {source} is of type {kind}, not a schema", remedy=f"name {WHAT_FITS}")


# ---------------------------------------------------------------- types of Python


def _structure_of_type(kind: Any, variables: Mapping[str, Any], *, name: str, label: str) -> Structure:
    if any(base.__module__.startswith("pydantic.v1") for base in getattr(kind, "__mro__", ())):
        raise SchemaError(
            f"--schema {label} is a model of Pydantic's old version 1", remedy="derive it from pydantic.BaseModel"
        )
    namespace = dict(variables)
    kind = modernize(kind, namespace)
    adapter, schema = adapt_type(kind, namespace, label)
    key = None
    if schema.get("type") != "object":
        from pydantic import create_model

        key = "items" if schema.get("type") == "array" else "value"
        wrapper: Any = create_model(name, **{key: (kind, ...)})  # type: ignore[call-overload]
        wrapper.model_rebuild(_types_namespace=namespace)
        adapter, schema = adapt_type(wrapper, namespace, label)

    def read(_value: Any, text: str) -> Any:
        from pydantic import ValidationError

        try:
            # From the text: in JSON a date is a text and a tuple a list, also for a model that is strict in Python.
            data = adapter.validate_json(text)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            raise MisfitError(list_faults((fault["loc"], fault["msg"]) for fault in found)) from None
        return data if key is None else getattr(data, key)

    return Structure(Format(drop_titles(schema), name), label, read)


# ---------------------------------------------------------------- JSON schemas


def _structure_of_schema(given: Mapping[str, Any], *, name: str, label: str, is_checked: bool) -> Structure:
    schema = _copy_schema(given, label)
    if is_checked:
        _check_schema(schema, label)
    _check_references(schema, schema, label)

    def read(value: Any, _text: str) -> Any:
        import jsonschema.exceptions
        import referencing

        kind = _find_draft(schema)
        # An empty registry never fetches anything; the default one of jsonschema would.
        validator = kind(schema, registry=referencing.Registry(), format_checker=kind.FORMAT_CHECKER)
        errors = (jsonschema.exceptions.best_match([error]) or error for error in validator.iter_errors(value))
        faults = list_faults((error.absolute_path, error.message) for error in errors)
        if faults:
            raise MisfitError(faults)
        return value

    return Structure(Format(fit_schema(schema), name), label, read, needs_jsonschema=True)


def _copy_schema(given: Mapping[str, Any], label: str) -> dict[str, Any]:
    try:
        # A copy, so that the user may change the dict meanwhile, and one that is not nested without bounds.
        schema: dict[str, Any] = find_json(json.dumps(dict(given)))[0]
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError(f"{label} holds what JSON cannot: {tidy(str(error))}", remedy=f"name {WHAT_FITS}") from None
    if not _ROOT_KEYS & schema.keys():
        raise SchemaError(
            f"{label} is a dict, but not a JSON schema", remedy="write {'type': 'object', 'properties': {…}}"
        )
    if schema.setdefault("type", "object") != "object" and schema["type"] != ["object"]:
        raise SchemaError(
            f"{label} asks for a JSON {schema['type']}, and the API gives objects",
            remedy="put it under a key: {'type': 'object', 'properties': {'items': …}}",
        )
    return schema


def _find_draft(schema: dict[str, Any]) -> Any:
    """Return what validates after the draft that a schema names, or the newest one."""
    import jsonschema.validators

    newest = jsonschema.validators.Draft202012Validator
    try:
        return jsonschema.validators.validator_for(schema, default=newest)
    except (AttributeError, TypeError, ValueError):  # what it names is no address
        return newest


def _check_schema(schema: dict[str, Any], label: str) -> None:
    import jsonschema.exceptions

    try:
        _find_draft(schema).check_schema(schema)
    except jsonschema.exceptions.SchemaError as error:
        place = write_path(error.absolute_path) or "its top level"
        raise SchemaError(
            f"{label} is not a valid JSON schema: {place}: {tidy(error.message)}", remedy="correct it there"
        ) from None
    except RecursionError:
        raise SchemaError(f"{label} is nested too deep", remedy="put parts of it under $defs") from None


def _check_references(node: Any, root: dict[str, Any], label: str) -> None:
    if not isinstance(node, dict):
        return
    reference = node.get("$ref")
    if isinstance(reference, str) and not _leads_somewhere(reference, root):
        lack = "which it does not have" if reference.startswith("#") else "which is not fetched"
        raise SchemaError(
            f"{label} refers to {reference[:80]!r}, {lack}",
            remedy="put what is meant under $defs of the schema, and refer to '#/$defs/NAME'",
        )
    visit_schema(node, lambda part: _check_references(part, root, label))


def _leads_somewhere(reference: str, root: Any) -> bool:
    place, *steps = reference.split("/")
    for step in steps:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(root, list) and key.isdecimal() and int(key) < len(root):
            root = root[int(key)]
        elif isinstance(root, dict) and key in root:
            root = root[key]
        else:
            return False
    return place == "#"
