"""The user's Python functions as tools: what the model is told of one, and the call with what the model gives.

Whatever the model gives, a function is called only with values that fit its annotations; else ArgumentsError tells why.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kimi_magics.core.formats import fit_schema, visit_schema
from kimi_magics.core.interpolate import resolve
from kimi_magics.core.tools import Tool, check_tools
from kimi_magics.errors import ToolError, VariableError, redact

if TYPE_CHECKING:
    from pydantic import BaseModel

#: Of a generator, which may never end, so many items are taken.
MOST_ITEMS = 1_000
# A longer default is no help to the model, and costs tokens with every request.
_MOST_DEFAULT_LETTERS = 200
_FAULTS_SHOWN, _FAULT_LETTERS = 8, 160
_UNNAMED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class ArgumentsError(Exception):
    """What the model gives does not fit the parameters; the text tells the model what is wrong."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the user as a tool."""

    tool: Tool
    _target: Callable[..., Any] = field(repr=False)
    _parameters: Sequence[inspect.Parameter] = field(repr=False)
    _model: type[BaseModel] = field(repr=False)

    def call(self, arguments: str) -> Any:
        """Call it with the JSON object that the model wrote, and return what it returns; of a generator, its items.

        An empty text stands for no arguments. Raises ArgumentsError, and whatever the function raises.
        """
        positional: list[Any] = []
        named: dict[str, Any] = {}
        values = self._read(arguments)
        for parameter in self._parameters:
            if parameter.kind is parameter.POSITIONAL_ONLY:
                positional.append(values.get(parameter.name, parameter.default))
            elif parameter.name in values:
                named[parameter.name] = values[parameter.name]
        return _take_result(self._target(*positional, **named), self.tool.name)

    def _read(self, arguments: str) -> dict[str, Any]:
        """Return the values by parameter; one that was not given is left out, for the function has its own default."""
        from pydantic import ValidationError

        try:
            given = self._model.model_validate_json(arguments if arguments.strip() else "{}")
        except ValidationError as error:
            raise ArgumentsError(self._explain(error)) from None
        return {
            parameter.name: getattr(given, _field_name(at))
            for at, parameter in enumerate(self._parameters)
            if _field_name(at) in given.model_fields_set or not _has_plain_default(parameter)
        }

    def _explain(self, error: Any) -> str:
        faults = error.errors(include_url=False)
        lines = [_write_fault(fault) for fault in faults[:_FAULTS_SHOWN]]
        if len(faults) > _FAULTS_SHOWN:
            lines.append(f"and {len(faults) - _FAULTS_SHOWN} more")
        names = ", ".join(parameter.name for parameter in self._parameters) or "none"
        return f"the arguments do not fit {self.tool.name}: {'; '.join(lines)}. Its parameters: {names}"


def find_function(name: str, variables: Mapping[str, Any]) -> Function:
    """Return the tool that `--tool NAME` means: a function, a method, a partial or another object that can be called.

    What `functools.partial` binds by keyword, `*args` and `**kwargs` are not offered. Raises ToolError, and PromptError
    for a name that the API does not take.
    """
    target = _find_target(name, variables)
    # The function with its own `def`, below partials, decorators and `__call__`.
    bare: Any = target.func if isinstance(target, functools.partial) else target
    try:
        written: Any = inspect.unwrap(bare)
    except ValueError:
        written = bare
    if not inspect.isroutine(written):
        written = written.__call__
    parameters = _find_parameters(name, target)
    description, notes = _read_docstring(bare, written)
    hints = [_find_hint(name, parameter, written) for parameter in parameters]
    model, schema = _build(name, parameters, hints)
    _describe(schema, parameters, hints, notes)
    tool = Tool(_name_tool(name, target), description, fit_schema(schema))
    check_tools([tool])
    return Function(tool, target, parameters, model)


# ---------------------------------------------------------------- what is called


def _find_target(name: str, variables: Mapping[str, Any]) -> Callable[..., Any]:
    try:
        target = resolve(name, variables)
    except VariableError as error:
        # The braces of a prompt, of which the rest of the remedy speaks, are not meant here.
        remedy = error.remedy.partition(" With --raw")[0].rstrip(". ")
        raise ToolError(f"--tool {error.message}", remedy=remedy) from None
    if inspect.isclass(target):
        raise ToolError(f"--tool {name} is a class", remedy="name a function that makes one and returns what it finds")
    if not callable(target):
        raise ToolError(
            f"--tool {name} is of type {type(target).__name__}, which cannot be called", remedy="name a function"
        )
    if getattr(target, "__name__", "") == "<lambda>":
        raise ToolError(f"--tool {name} is a lambda, which has no name", remedy="write it as a function with def")
    called = target if inspect.isroutine(target) else getattr(target, "__call__", target)  # noqa: B004 not a test
    if any(is_async(kind) for kind in (target, called) for is_async in _ASYNC):
        raise ToolError(f"--tool {name} is async", remedy="wrap it in a function without async")
    return typing.cast(Callable[..., Any], target)


_ASYNC = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)


def _name_tool(name: str, target: Any) -> str:
    """Return the function's own name; an object without one is called what the user calls it."""
    own = getattr(target, "__name__", None)
    if isinstance(own, str):
        return own
    last = name.rpartition(".")[2].strip()
    bare = getattr(target, "func", target)
    return last if last.isidentifier() else getattr(bare, "__name__", type(bare).__name__)


def _find_parameters(name: str, target: Any) -> list[inspect.Parameter]:
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


def _read_docstring(bare: Any, written: Any) -> tuple[str, dict[str, str]]:
    """Return what stands before the sections of a docstring, and what it says of each parameter."""
    import docstring_parser

    is_function = inspect.isroutine(bare) or hasattr(bare, "__wrapped__")
    text = inspect.getdoc(bare) if is_function else inspect.getdoc(written) or inspect.getdoc(type(bare))
    try:
        found = docstring_parser.parse(text or "")
    except Exception:  # noqa: BLE001 — a docstring is free text, whatever the parser thinks of it
        return (text or "").partition("\n\n")[0], {}
    notes: dict[str, str] = {}
    for parameter in found.params:
        # NumPy's style describes several at once, as `x, y : int`.
        for each in parameter.arg_name.split(","):
            notes[each.strip().lstrip("*")] = " ".join((parameter.description or "").split())
    return (found.description or "").strip(), notes


# ---------------------------------------------------------------- the schema


def _field_name(at: int) -> str:
    # A parameter may be called as an attribute of the model, as `json` or `copy`, or begin with an underscore.
    return f"p{at}"


def _has_plain_default(parameter: inspect.Parameter) -> bool:
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
        if _has_plain_default(parameter):
            # The function keeps its default; None stands in for it, which is neither copied nor checked.
            fields[_field_name(at)] = hint, Field(alias=parameter.name, default=None)
        else:
            told = hint if parameter.default is parameter.empty else typing.Annotated[hint, parameter.default]
            fields[_field_name(at)] = told, Field(alias=parameter.name)
    with warnings.catch_warnings():
        # A default that JSON cannot hold is left out, and need not be said at each question.
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
        model: type[BaseModel] = create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields)
        schema = _drop_titles(model.model_json_schema())
    schema.setdefault("properties", {})
    json.dumps(schema, allow_nan=False)
    return model, schema


def _drop_titles(node: Any) -> Any:
    """Return the schema without the titles, which only repeat the names."""
    copy = visit_schema(node, _drop_titles)
    if isinstance(copy, dict):
        copy.pop("title", None)
    return copy


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
        if _has_plain_default(parameter):
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


# ---------------------------------------------------------------- a call


def _write_fault(fault: Mapping[str, Any]) -> str:
    place = ".".join(str(step) for step in fault["loc"])
    if fault["type"] == "missing":
        return f"{place} is missing"
    if fault["type"] == "extra_forbidden":
        return f"there is no parameter {place}"
    text = f"{place}: {fault['msg']}" if place else str(fault["msg"])
    if place and isinstance(fault["input"], str | int | float | None):
        text += f", not {str(json.dumps(fault['input'], ensure_ascii=False))[:80]}"
    return text[: 3 * _FAULT_LETTERS]


def _take_result(result: Any, name: str) -> Any:
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(f"{name} returned a coroutine, and an async function is not run here")
    # A file is an iterator as well, and is not to be read.
    if not isinstance(result, Iterator) or hasattr(result, "read"):
        return result
    items = list(islice(result, MOST_ITEMS + 1))
    if len(items) > MOST_ITEMS:
        items[MOST_ITEMS] = f"… more follow: only the first {MOST_ITEMS:,} items were taken"
        getattr(result, "close", lambda: None)()
    return items
