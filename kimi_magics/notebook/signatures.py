"""Signatures as JSON schemas: the parameters of a function, their types, defaults and descriptions.

A signature that cannot be written as one is refused by the name of its parameter.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import typing
import warnings
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kimi_magics.core.formats import drop_titles
from kimi_magics.errors import ToolError, redact

if TYPE_CHECKING:
    from pydantic import BaseModel

# A longer default is no help to the model, and costs tokens with every request.
_MOST_DEFAULT_LETTERS = 200
_FAULT_LETTERS = 160
_UNNAMED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def find_parameters(name: str, target: Any) -> list[inspect.Parameter]:
    """Return the parameters of a function that are offered, for the tool called `name`. Raises ToolError."""
    try:
        every = list(inspect.signature(target).parameters.values())
    except Exception:  # noqa: BLE001 — builtins have none, and from Python 3.14 on the annotations are run
        raise ToolError(
            f"--tool {name} has no signature that can be read", remedy="wrap it in a function of your own"
        ) from None
    if every and every[0].name == "self" and inspect.isfunction(target) and "." in target.__qualname__:
        raise ToolError(f"--tool {name} is a method without its object", remedy="name it on an object, as in shop.find")
    bound = target.keywords if isinstance(target, functools.partial) else {}
    named = [parameter for parameter in every if parameter.kind not in _UNNAMED]
    nameless = [parameter.name for parameter in every if parameter.kind is parameter.VAR_POSITIONAL]
    if nameless and not named:
        raise ToolError(
            f"--tool {name} takes its values as *{nameless[0]}, and a model gives them by name",
            remedy=f"give it parameters with names, or one list: def {name}({nameless[0]}: list)",
        )
    return [parameter for parameter in named if parameter.name not in bound]


def build_schema(
    name: str, parameters: Sequence[inspect.Parameter], written: Any, *, notes: Mapping[str, str]
) -> tuple[type[BaseModel], dict[str, Any]]:
    """Return the model that reads the arguments of a call, and the schema of them that the model is told.

    `written` is the function with its own `def`, `notes` what its docstring says of each parameter. Raises ToolError.
    """
    hints = [_find_hint(name, parameter, written) for parameter in parameters]
    model, schema = _build(name, parameters, hints)
    _describe(schema, parameters, hints, notes)
    return model, schema


def field_name(at: int) -> str:
    """Return what the model calls the parameter at a place."""
    # A parameter may be called as an attribute of the model, as `json` or `copy`, or begin with an underscore.
    return f"p{at}"


def has_plain_default(parameter: inspect.Parameter) -> bool:
    """Tell whether the function itself knows the value, not Pydantic's `Field`."""
    from pydantic.fields import FieldInfo

    return parameter.default is not parameter.empty and not isinstance(parameter.default, FieldInfo)


def _find_hint(name: str, parameter: inspect.Parameter, written: Any) -> Any:
    if parameter.annotation is parameter.empty:
        return Any
    holder = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        hints = typing.get_type_hints(holder, getattr(written, "__globals__", {}), include_extras=True)
    except NameError as error:
        what = error.name or "a name"
        raise ToolError(
            f"parameter {parameter.name} of {name} is annotated with {what}, which is not defined",
            remedy=f"define or import {what} before this cell",
        ) from None
    except Exception as error:  # noqa: BLE001 — an annotation in quotes is code of the user
        raise _refuse_hint(name, parameter, error) from None
    hint = hints[parameter.name]
    if parameter.default is not None or hint is Any:
        return hint
    # `days: int = None` takes None, which a model then also writes.
    if typing.get_origin(hint) is typing.Annotated:
        return typing.Annotated[(typing.Optional[hint.__origin__], *hint.__metadata__)]  # noqa: UP045 not known before
    return typing.Optional[hint]  # noqa: UP045 — not known before


def _refuse_hint(name: str, parameter: inspect.Parameter, error: Exception) -> ToolError:
    # What Pydantic says after it is advice to who writes models.
    reason = re.split(r"\n|\. ", str(error).strip(), maxsplit=1)[0][:_FAULT_LETTERS] or type(error).__name__
    return ToolError(
        f"parameter {parameter.name} of {name} cannot be written as a JSON schema: {reason}",
        remedy="annotate it with a type that JSON has, or bind it with functools.partial",
    )


def _build(
    name: str, parameters: Sequence[inspect.Parameter], hints: Sequence[Any]
) -> tuple[type[BaseModel], dict[str, Any]]:
    try:
        return _make_model(parameters, hints)
    except Exception as error:  # noqa: BLE001 — types of the user take part, and may raise anything
        for parameter, hint in zip(parameters, hints, strict=True):
            try:
                _make_model([parameter], [hint])
            except Exception as cause:  # noqa: BLE001 — as above
                raise _refuse_hint(name, parameter, cause) from None
        raise ToolError(f"--tool {name} cannot be offered: {error}", remedy="simplify its annotations") from None


def _make_model(
    parameters: Sequence[inspect.Parameter], hints: Sequence[Any]
) -> tuple[type[BaseModel], dict[str, Any]]:
    from pydantic import ConfigDict, Field, create_model
    from pydantic.json_schema import PydanticJsonSchemaWarning

    fields: dict[str, Any] = {}
    for at, (parameter, hint) in enumerate(zip(parameters, hints, strict=True)):
        if has_plain_default(parameter):
            # The function keeps its default; None stands in for it, which is neither copied nor checked.
            fields[field_name(at)] = hint, Field(alias=parameter.name, default=None)
        else:
            told = hint if parameter.default is parameter.empty else typing.Annotated[hint, parameter.default]
            fields[field_name(at)] = told, Field(alias=parameter.name)
    with warnings.catch_warnings():
        # A default that JSON cannot hold is left out, and need not be said at each question.
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
        model: type[BaseModel] = create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields)
        schema = drop_titles(model.model_json_schema())
    schema.setdefault("properties", {})
    json.dumps(schema, allow_nan=False)
    return model, schema


def _describe(
    schema: dict[str, Any], parameters: Sequence[inspect.Parameter], hints: Sequence[Any], notes: Mapping[str, str]
) -> None:
    """Put the descriptions and the defaults of the parameters into the schema."""
    for parameter, hint in zip(parameters, hints, strict=True):
        told = schema["properties"][parameter.name]
        texts = [text for text in getattr(hint, "__metadata__", ()) if isinstance(text, str)]
        note = texts[0] if texts else notes.get(parameter.name, "")
        if note and "description" not in told:
            told["description"] = note
        if has_plain_default(parameter):
            told.pop("default", None)
            told.update(_write_default(parameter.default))


def _write_default(value: Any) -> dict[str, Any]:
    """Return `{"default": …}`, or nothing for a long one, one that JSON cannot hold, and one that holds a secret."""
    from pydantic_core import to_jsonable_python

    try:
        plain = to_jsonable_python(value)
        text = json.dumps(plain, allow_nan=False)
    except Exception:  # noqa: BLE001 — a default may be any object
        return {}
    is_telling = plain is not None and len(text) <= _MOST_DEFAULT_LETTERS and redact(text) == text
    return {"default": plain} if is_telling else {}
