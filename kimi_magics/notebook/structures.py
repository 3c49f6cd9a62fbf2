"""What `--schema` names becomes a schema to send and a way to read the answer; `Checker` tells what is wrong with one.

Whatever the model writes, checking it gives the data or a Problem; nothing is fetched, whatever a schema refers to.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, is_dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from kimi_magics.core.formats import (
    BadJsonError,
    Format,
    drop_titles,
    find_json,
    fit_schema,
    read_short_form,
    schema_name,
    visit_schema,
)
from kimi_magics.core.interpolate import resolve
from kimi_magics.errors import SchemaError, VariableError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_WHAT_FITS = "a Pydantic model, a dataclass, a TypedDict, a JSON schema as dict, or 'name, age int, tags list'"
_FAULTS_SHOWN, _FAULT_LETTERS = 5, 160
_LIST_OF = re.compile(r"list\[\s*([^\[\],]+)\s*\]")
# One of these at its root makes a dict a schema of an object.
_ROOT_KEYS = {"type", "properties", "$ref", "anyOf", "oneOf", "allOf", "additionalProperties", "patternProperties"}


class Problem(Exception):  # noqa: N818 — not the user's error: the one who asked decides whether to ask again
    """An answer is not what was asked for; `wish` is what to tell the model when it is asked again."""

    def __init__(self, message: str, *, remedy: str, wish: str) -> None:
        super().__init__(message)
        self.message, self.remedy, self.wish = message, remedy, wish


class _MisfitError(Exception):
    """The faults of an answer, each with its place."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Structure:
    """The form of an answer: `format` is what is sent, `read` makes the data of the JSON that comes back."""

    format: Format
    #: What the user calls it.
    label: str
    _read: Callable[[Any, str], Any] = field(repr=False)

    def read(self, value: Any, *, text: str | None = None) -> Any:
        """Return the instance that a JSON value stands for; `text` is the value as it was written, if at hand.

        A model or dataclass gives its instance, a TypedDict, a schema and the short form a dict. Raises Problem.
        """
        try:
            return self._read(value, json.dumps(value) if text is None else text)
        except _MisfitError as error:
            faults = error.faults
        except RecursionError:
            faults = ["it is nested too deep"]
        except Exception as error:  # noqa: BLE001 — validators and constructors of the user may raise anything
            faults = [f"{type(error).__name__}: {_tidy(str(error))}"]
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
        remedy = f"did you mean {close[0]}?" if close else f"name {_WHAT_FITS}"
        raise SchemaError(f"--schema {error.message}", remedy=remedy) from None


def _is_type(value: Any) -> bool:
    kinds = (type, types.UnionType, getattr(typing, "TypeAliasType", type))
    return isinstance(value, kinds) or typing.get_origin(value) is not None


def _refuse_value(source: str, value: Any) -> SchemaError:
    kind = type(value).__name__
    if is_dataclass(value) or hasattr(type(value), "model_json_schema"):
        return SchemaError(f"--schema {source} is one {kind}, not the class", remedy=f"write --schema {kind}")
    return SchemaError(f"--schema {source} is of type {kind}, not a schema", remedy=f"name {_WHAT_FITS}")


# ---------------------------------------------------------------- types of Python


def _structure_of_type(kind: Any, variables: Mapping[str, Any], *, name: str, label: str) -> Structure:
    if any(base.__module__.startswith("pydantic.v1") for base in getattr(kind, "__mro__", ())):
        raise SchemaError(
            f"--schema {label} is a model of Pydantic's old version 1", remedy="derive it from pydantic.BaseModel"
        )
    namespace = dict(variables)
    kind = _modernize(kind, namespace)
    adapter, schema = _adapt(kind, namespace, label)
    key = None
    if schema.get("type") != "object":
        from pydantic import create_model

        key = "items" if schema.get("type") == "array" else "value"
        wrapper: Any = create_model(name, **{key: (kind, ...)})  # type: ignore[call-overload]
        wrapper.model_rebuild(_types_namespace=namespace)
        adapter, schema = _adapt(wrapper, namespace, label)

    def read(_value: Any, text: str) -> Any:
        from pydantic import ValidationError

        try:
            # From the text: in JSON a date is a text and a tuple a list, also for a model that is strict in Python.
            data = adapter.validate_json(text)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            raise _MisfitError(_list_faults((fault["loc"], fault["msg"]) for fault in found)) from None
        return data if key is None else getattr(data, key)

    return Structure(Format(drop_titles(schema), name), label, read)


def _adapt(kind: Any, namespace: dict[str, Any], label: str) -> tuple[TypeAdapter[Any], dict[str, Any]]:
    """Return what reads values of a type, and its schema for the host."""
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
    from pydantic.json_schema import PydanticJsonSchemaWarning

    try:
        adapter = TypeAdapter(kind)
        # A name in quotes may be defined in a later cell than the class.
        adapter.rebuild(raise_errors=True, _types_namespace=namespace)
        with warnings.catch_warnings():
            # A default that JSON cannot hold is left out, and need not be said at each question.
            warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
            schema = fit_schema(adapter.json_schema())
        json.dumps(schema, allow_nan=False)
    except PydanticUndefinedAnnotation as error:
        raise SchemaError(
            f"--schema {label} uses {error.name}, which is not defined", remedy=f"define {error.name} before this cell"
        ) from None
    except (PydanticUserError, TypeError, ValueError, RecursionError) as error:
        raise SchemaError(
            f"--schema {label} cannot be written as a JSON schema: {_tidy(str(error))}", remedy=f"name {_WHAT_FITS}"
        ) from None
    return adapter, schema


def _modernize(kind: Any, namespace: dict[str, Any]) -> Any:
    """Return a type with each TypedDict of `typing` made anew, since Pydantic takes it only from Python 3.12 on."""
    if sys.version_info >= (3, 12):
        return kind
    if typing.is_typeddict(kind) and type(kind).__module__ == "typing":
        return _modernize_dict(kind, namespace)
    parts = typing.get_args(kind)
    if not parts or typing.get_origin(kind) is typing.Literal:
        return kind
    modern = tuple(_modernize(part, namespace) for part in parts)
    if modern == parts:
        return kind
    if isinstance(kind, types.UnionType):
        return typing.Union[modern]  # noqa: UP007 — the parts are not known before
    if typing.get_origin(kind) is typing.Annotated:
        return typing.Annotated[modern]
    return kind.copy_with(modern) if hasattr(kind, "copy_with") else types.GenericAlias(typing.get_origin(kind), modern)


def _modernize_dict(kind: Any, namespace: dict[str, Any]) -> Any:
    import typing_extensions

    key = f"{kind.__module__}.{kind.__qualname__}.{id(kind)}".replace(".", "_").replace("<locals>", "")
    if key in namespace:
        return namespace[key]
    # One that holds itself finds this name, which means the new one once it is made.
    namespace[key] = typing.ForwardRef(key)
    try:
        hints = typing.get_type_hints(kind, localns=namespace, include_extras=True)
    except NameError as error:
        name = error.name or "a name"
        raise SchemaError(
            f"{kind.__name__} uses {name}, which is not defined", remedy=f"define {name} before this cell"
        ) from None
    make: Any = typing_extensions.TypedDict
    fields: dict[str, Any] = {}
    for name, hint in hints.items():
        mark, bare = typing.get_origin(hint), hint
        if mark in (typing.Required, typing.NotRequired):
            # Python itself overlooks a mark in an annotation that is a text, as all are with `annotations` imported.
            bare = typing.get_args(hint)[0]
        else:
            mark = typing.Required if name in kind.__required_keys__ else typing.NotRequired
        fields[name] = mark[_modernize(bare, namespace)]
    modern = make(kind.__name__, fields)
    modern.__doc__ = kind.__doc__
    namespace[key] = modern
    return modern


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
        faults = _list_faults((error.absolute_path, error.message) for error in errors)
        if faults:
            raise _MisfitError(faults)
        return value

    return Structure(Format(fit_schema(schema), name), label, read)


def _copy_schema(given: Mapping[str, Any], label: str) -> dict[str, Any]:
    try:
        # A copy, so that the user may change the dict meanwhile, and one that is not nested without bounds.
        schema: dict[str, Any] = find_json(json.dumps(dict(given)))[0]
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError(f"{label} holds what JSON cannot: {_tidy(str(error))}", remedy=f"name {_WHAT_FITS}") from None
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
        place = _write_path(error.absolute_path) or "its top level"
        raise SchemaError(
            f"{label} is not a valid JSON schema: {place}: {_tidy(error.message)}", remedy="correct it there"
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


# ---------------------------------------------------------------- faults


def _list_faults(errors: Iterable[tuple[Iterable[Any], str]]) -> list[str]:
    """Write each error as `tags[1]: what is wrong`, at most five of them."""
    found = list(islice(errors, _FAULTS_SHOWN + 1))
    faults = [f"{_write_path(path) or 'top level'}: {_tidy(message)}" for path, message in found[:_FAULTS_SHOWN]]
    return faults + ["and more"] * (len(found) > _FAULTS_SHOWN)


def _write_path(path: Iterable[Any]) -> str:
    text = ""
    for step in path:
        if isinstance(step, str) and re.fullmatch(r"[\w$-]{1,64}", step):
            text += f".{step}" if text else step
        else:
            text += f"[{step}]" if isinstance(step, int) else f"[{_tidy(repr(step))}]"
    return text


def _tidy(text: str) -> str:
    """Return the text on one line, short, without what a terminal would obey."""
    line = "".join(letter if letter.isprintable() else " " for letter in text.partition("\n\nFor further")[0])
    half = _FAULT_LETTERS // 2
    return line if len(line) <= _FAULT_LETTERS else f"{line[: half - 1]}…{line[-half:]}"


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
