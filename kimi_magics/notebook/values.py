"""What `{{name}}` stands for in this kernel: the user's variables, the cells as typed, tables as a sample.

A draft and a run read the same, so that what is counted is what is sent.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kimi_magics.notebook.arrays import is_array
from kimi_magics.notebook.frames import write_frame

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

#: An array with no more values than this is whole in its own words, and short.
_MOST_VALUES_AS_IS = 20


def write_value(value: Any, everything: bool) -> str | None:  # noqa: FBT001 — the form that `interpolate` calls
    """Return a table, a column or an array as text, a sample of it or `everything`; None for what `str` writes well.

    The text says its shape and types, and how much of it is left out.
    """
    if isinstance(value, str | int | float | list | dict):  # the most, and no table
        return None
    try:
        if is_array(value):
            shape = tuple(int(count) for count in value.shape)
            if not shape or (math.prod(shape) <= _MOST_VALUES_AS_IS and not everything):
                return None
    except Exception:  # noqa: BLE001 — attributes of foreign values may raise anything; `str` may still do
        return None
    return write_frame(value, everything=everything)


def user_variables(shell: InteractiveShell, local_variables: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """Return the variables that a prompt may name: those of the function that asks, then those of the notebook.

    `In` is what was typed: IPython keeps there what it made of it, where `%%kimi` is a call of a method.
    """
    variables = shell.user_ns
    history = shell.history_manager
    is_own = history is not None and variables.get("In") is history.input_hist_parsed
    typed = {"In": history.input_hist_raw} if history is not None and is_own else {}
    return ChainMap(dict(local_variables or {}), typed, variables)
