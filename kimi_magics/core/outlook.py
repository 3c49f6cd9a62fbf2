"""How long the answer will probably be: by what earlier runs were answered, or at most by what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: A model's runs of other prompts tell something only when there are a few.
FEW_RUNS = 3


@dataclass(frozen=True, slots=True)
class Outlook:
    """The answer has `low` to `high` completion tokens, by `basis`; `low` is None where only a ceiling is known."""

    high: int
    basis: str
    low: int | None = None


def expect_answer(
    cell_runs: Sequence[int], model_runs: Sequence[int], *, model: str, max_tokens: int | None
) -> Outlook | None:
    """Return what to expect, or None when nothing is known.

    The runs are completion tokens of earlier answers to this cell and of this model; `max_tokens` is what
    `--max-tokens` allows, reasoning included.
    """
    if cell_runs:
        return _cap(cell_runs, f"{_count(cell_runs)} of this cell", max_tokens)
    if len(model_runs) >= FEW_RUNS:
        return _cap(model_runs, f"{_count(model_runs)} of {model}", max_tokens)
    return None if max_tokens is None else Outlook(max_tokens, "--max-tokens")


def _cap(runs: Sequence[int], basis: str, max_tokens: int | None) -> Outlook:
    ordered = sorted(runs)
    # Of many runs the longest and the shortest tenth tell little of the next.
    cut = len(ordered) // 10
    low, high = ordered[cut], ordered[-1 - cut]
    if max_tokens is not None:
        low, high = min(low, max_tokens), min(high, max_tokens)
    return Outlook(high, basis, low)


def _count(runs: Sequence[int]) -> str:
    return f"{len(runs)} earlier run" + "s" * (len(runs) != 1)
