"""`%kimi_fix`: the last exception, the code around it and the variables that the code names, as one prompt.

Nothing else of the notebook is told: of libraries only the names of the functions that were passed through. What comes
back is a proposal in a new cell, which nobody runs but the user.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from kimi_magics.core.ask import Ask
from kimi_magics.core.fixing import FIX_PROMPT, HIDDEN, KEEP_HIDDEN, hide_secrets, is_secret_name
from kimi_magics.core.interpolate import Write, interpolate
from kimi_magics.errors import KimiError, MagicLineError, RefusedError
from kimi_magics.notebook.cell_outputs import fence
from kimi_magics.notebook.failed_calls import Call, cut_lines, list_calls, list_functions, name_calls, read_cell
from kimi_magics.notebook.named_values import find_names, write_variable

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_MOST_CAUSES, _MOST_VARIABLES = 3, 30
_MOST_MESSAGE_LETTERS, _MOST_VARIABLE_LETTERS = 2_000, 8_000
_MAGIC = "kimi_fix"
_REMEDY = "run the cell that fails again, then %kimi_fix in the next one"


@dataclass(frozen=True, slots=True)
class Failure:
    """What is told of an exception: the `error` in one line, and the whole as the `text` of a prompt."""

    error: str
    text: str


class Failures:
    """Describes the last exception of one shell, also once `%kimi_fix` itself has failed since, as without a key."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._last: BaseException | None = None

    def describe(self) -> Failure:
        """Return what is told of the last exception. Raises RefusedError when there is none to fix."""
        error = getattr(sys, "last_value", None)  # IPython sets it, whatever the version of Python
        if isinstance(error, KimiError) and self._last is not None and _came_from_here(error):
            error = self._last
        self._last = _check(error)
        return describe_error(self._shell, self._last)


def _check(error: BaseException | None) -> BaseException:
    if error is None:
        raise RefusedError("no cell has failed in this kernel", remedy=_REMEDY)
    if isinstance(error, KimiError):
        raise RefusedError(
            f"the last error is one of kimi_magics, and not of your code: {error.message}",
            remedy=error.remedy or "read what it says",
        )
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        raise RefusedError(f"the last cell ended by {type(error).__name__}, which is nothing to fix", remedy=_REMEDY)
    return error


def _came_from_here(error: BaseException) -> bool:
    return any(frame.f_code.co_name == _MAGIC for frame, _ in walk_tb(error.__traceback__))


def describe_error(shell: InteractiveShell, error: BaseException) -> Failure:
    """Return what is told of an exception of a cell. Raises RefusedError for one that came from no cell."""
    calls = list(list_calls(shell, error))
    first = next((call for call in calls if call.cell is not None), None)
    if first is None:
        raise RefusedError(f"{_say(error)[:100]} came from no cell of this kernel", remedy=_REMEDY)
    calls = calls[calls.index(first) :]
    # The innermost call of each piece of code tells where in it the failure is.
    inside = list({call.code: call for call in calls if call.where == first.where}.values())
    source = read_cell(shell, first)
    functions = list_functions(calls, first.where)
    parts = [
        f"The error: {_say_all(error)}",
        "The calls, the outermost first:\n" + "\n".join(name_calls(calls)),
        f"The cell that failed, In[{first.cell}]:\n\n{fence(cut_lines(source, inside[-1].line), 'python')}",
    ]
    for call, text, line in functions:
        parts.append(f"The function {call.name} of In[{call.cell}]:\n\n{fence(cut_lines(text, line), 'python')}")
    if not isinstance(error, SyntaxError):
        codes = [(text, line, call) for call, text, line in reversed(functions)]
        variables = _list_variables(shell, [*codes, *((source, call.line, call) for call in reversed(inside))])
        parts += ["The variables:\n" + "\n".join(variables)] if variables else []
    known = list(_list_secrets(shell.user_ns))
    text = "\n\n".join(parts).encode("utf-8", "replace").decode()
    return Failure(hide_secrets(_say(error), known), hide_secrets(text, known))


def _list_secrets(variables: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the environment and the variables hold under the name of a key or a password."""
    for name, value in (*os.environ.items(), *list(variables.items())):
        is_place = name == "PWD" or name.endswith(("_SOCK", "_FILE", "_PATH", "_DIR"))
        if type(value) is str and is_secret_name(name) and not is_place:
            yield value


def build_fix_ask(
    ask: Ask, failure: Failure, *, variables: Mapping[str, Any], system: str | None = None, write: Write | None = None
) -> Ask:
    """Return the request for a corrected cell; the text of `ask` is a hint of the user, `system` the setting.

    Raises MagicLineError and VariableError. What is filled in is done with: every other brace is code.
    """
    if ask.json or ask.schema is not None:
        flag = "--json" if ask.json else "--schema"
        raise MagicLineError(f"%{_MAGIC}: the answer is a cell, which {flag} rules out", remedy=f"leave {flag} out")

    def fill(text: str | None) -> str | None:
        return text if text is None or ask.raw else interpolate(text, variables, write=write)

    hint = (fill(ask.text) or "").strip()
    hints = [KEEP_HIDDEN] if HIDDEN in failure.text else []
    hints += [f"What the user says of it: {hint}"] if hint else []
    parts = [FIX_PROMPT, *hints, failure.text]
    told = fill(ask.system if ask.system is not None else system)
    return replace(ask, text="\n\n".join(parts), system=told, prefill=fill(ask.prefill), raw=True, code=True)


# ---------------------------------------------------------------- the error


def _say_all(error: BaseException) -> str:
    """Return an exception with those that led to it."""
    texts = [_say(error)]
    cause = _find_cause(error)
    while cause is not None and len(texts) <= _MOST_CAUSES:
        texts.append(f"which came of {_say(cause)}")
        cause = _find_cause(cause)
    return "\n".join(texts)


def _find_cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _say(error: BaseException) -> str:
    try:
        text = str(error.msg if isinstance(error, SyntaxError) else error)
    except Exception:  # noqa: BLE001 — str() of a foreign exception may raise anything
        text = "(a message that cannot be shown)"
    notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)]
    text = "\n".join([text, *notes])
    if len(text) > _MOST_MESSAGE_LETTERS:
        half = _MOST_MESSAGE_LETTERS // 2
        text = f"{text[:half]} … {text[-half:]}"
    return f"{type(error).__name__}: {text}" if text.strip() else type(error).__name__


# ---------------------------------------------------------------- the variables


def _list_variables(shell: InteractiveShell, codes: Iterable[tuple[str, int, Call]]) -> list[str]:
    """Return the variables that the code names, each once, the innermost call first."""
    hidden = shell.user_ns_hidden
    lines: dict[str, str] = {}
    left_out, letters = 0, 0
    for source, line, call in codes:
        values = call.variables or {}
        for name in find_names(source, line=line):
            if name in lines or name not in values or hidden.get(name, lines) is values[name]:
                continue
            text = write_variable(name, values[name]) if len(lines) < _MOST_VARIABLES else ""
            if not text or letters + len(text) > _MOST_VARIABLE_LETTERS:
                left_out += 1
                continue
            letters += len(text)
            lines[name] = text
    return [*lines.values(), *([f"- … {left_out} more that are named"] if left_out else [])]
