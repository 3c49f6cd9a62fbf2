"""`-t NAME key=value`: a prompt that was written before, filled in with what the line and the cell give."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kimi_magics.core.ask import Ask
from kimi_magics.core.interpolate import find_names, interpolate
from kimi_magics.errors import MagicLineError, VariableError
from kimi_magics.notebook.values import write_value
from kimi_magics.store.templates import Template, Templates

#: The name under which a template gets what stands in the cell.
TEXT = "text"


def apply_template(ask: Ask, templates: Templates, variables: Mapping[str, Any]) -> tuple[Ask, Mapping[str, Any]]:
    """Return the ask with the template's prompt as its text, and the variables as they are.

    The cell's own text and the values of the keys are filled in first; the text stands where the template says
    {{text}}, else below it. Raises ConfigError for an unknown template, MagicLineError for a key that it does not have,
    VariableError for one that is missing.
    """
    if ask.template is None:
        return ask, variables
    template = templates.get(ask.template)
    names = find_names(template.prompt) | find_names(template.system or "")
    given = {key: value if ask.raw else interpolate(value, variables, write=write_value) for key, value in ask.pairs}
    _check_keys(template, names, given)
    body = ask.text if ask.raw else interpolate(ask.text, variables, write=write_value)
    prompt = template.prompt
    if TEXT not in names and body.strip():
        prompt = f"{prompt}\n\n{{{{{TEXT}}}}}"
    filled: Mapping[str, Any] = ChainMap({**given, TEXT: body}, dict(variables))
    _check_missing(template, names, filled)
    system = ask.system
    if system is None and template.system is not None:
        system = interpolate(template.system, filled, write=write_value)
    elif system is not None and not ask.raw:
        system = interpolate(system, variables, write=write_value)
    # All is filled in: what a value holds is not looked at again.
    prefill = ask.prefill if ask.prefill is None or ask.raw else interpolate(ask.prefill, variables, write=write_value)
    return replace(
        ask, text=interpolate(prompt, filled, write=write_value), system=system, prefill=prefill, raw=True
    ), variables


def _check_keys(template: Template, names: set[str], given: Mapping[str, str]) -> None:
    unknown = [key for key in given if key not in names]
    if unknown:
        has = ", ".join(sorted(names - {TEXT})) or "none"
        raise MagicLineError(
            f"-t {template.name} has no {{{{{unknown[0]}}}}} to fill in",
            remedy=f"what it fills in: {has}; -- ends the flags before a prompt that begins like {unknown[0]}=…",
        )


def _check_missing(template: Template, names: set[str], filled: Mapping[str, Any]) -> None:
    missing = sorted(name for name in names if name not in filled)
    if missing:
        raise VariableError(
            f"-t {template.name} needs {', '.join(missing)}",
            remedy=f"write -t {template.name} {' '.join(f'{name}=…' for name in missing)}, or define a variable",
        )
