"""Types of Python as schemas: what reads values of a type, and the JSON schema that the host is sent for it."""

from __future__ import annotations

import json
import sys
import types
import typing
import warnings
from typing import TYPE_CHECKING, Any

from kimi_magics.core.formats import fit_schema
from kimi_magics.errors import SchemaError
from kimi_magics.notebook.checker import tidy

if TYPE_CHECKING:
    from pydantic import TypeAdapter

#: What a user may name for a schema.
WHAT_FITS = "a Pydantic model, a dataclass, a TypedDict, a JSON schema as dict, or 'name, age int, tags list'"


def adapt_type(kind: Any, namespace: dict[str, Any], label: str) -> tuple[TypeAdapter[Any], dict[str, Any]]:
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
            f"--schema {label} cannot be written as a JSON schema: {tidy(str(error))}", remedy=f"name {WHAT_FITS}"
        ) from None
    return adapter, schema


def modernize(kind: Any, namespace: dict[str, Any]) -> Any:
    """Return a type with each TypedDict of `typing` made anew, since Pydantic takes it only from Python 3.12 on."""
    if sys.version_info >= (3, 12):
        return kind
    if typing.is_typeddict(kind) and type(kind).__module__ == "typing":
        return _modernize_dict(kind, namespace)
    parts = typing.get_args(kind)
    if not parts or typing.get_origin(kind) is typing.Literal:
        return kind
    modern = tuple(modernize(part, namespace) for part in parts)
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
        fields[name] = mark[modernize(bare, namespace)]
    modern = make(kind.__name__, fields)
    modern.__doc__ = kind.__doc__
    namespace[key] = modern
    return modern
