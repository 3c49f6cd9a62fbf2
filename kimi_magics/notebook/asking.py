"""Questions to the user in the middle of a cell."""

from __future__ import annotations


def ask_yes(question: str) -> bool:
    """Ask below the cell; only y or yes is a yes. Raises NobodyToAskError where nobody can answer.

    Interrupting the kernel at the question raises KeyboardInterrupt, as elsewhere.
    """
    try:
        answer = input(question)
    except (EOFError, OSError, RuntimeError) as error:
        # IPython's StdinNotImplementedError is a RuntimeError by way of NotImplementedError.
        raise NobodyToAskError(f"{type(error).__name__}: the cell runs without a place to type an answer") from None
    return answer.strip().lower() in ("y", "yes")


class NobodyToAskError(Exception):
    """The cell runs where nobody can type, as under nbclient or papermill; whoever asked says what that means."""
