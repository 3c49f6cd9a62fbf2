"""The user's Python functions as tools: what the model is told of one, and the call with what the model gives.

Whatever the model gives, a function is called only with values that fit its annotations; else ArgumentsError tells why.
"""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from kimi_magics.core.formats import fit_schema
from kimi_magics.core.interpolate import resolve
from kimi_magics.core.tools import Tool, check_tools
from kimi_magics.errors import ToolError, VariableError
from kimi_magics.notebook.signatures import build_schema, field_name, find_parameters, has_plain_default

if TYPE_CHECKING:
    from pydantic import BaseModel

#: Of a generator, which may never end, so many items are taken.
MOST_ITEMS = 1_000
_FAULTS_SHOWN, _FAULT_LETTERS = 8, 160


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
            parameter.name: getattr(given, field_name(at))
            for at, parameter in enumerate(self._parameters)
            if field_name(at) in given.model_fields_set or not has_plain_default(parameter)
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
    parameters = find_parameters(name, target)
    description, notes = _read_docstring(bare, written)
    model, schema = build_schema(name, parameters, written, notes=notes)
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
