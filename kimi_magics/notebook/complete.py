"""Tab on the line of a magic: its flags, and for each flag what may stand there. Nothing is asked over the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from kimi_magics.core.ask import LineParser, Option

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


class CompletionEvent(Protocol):
    """What IPython tells a completer: the line up to the cursor, and the word at the cursor."""

    symbol: str
    text_until_cursor: str


def complete_line(
    event: CompletionEvent,
    parser: LineParser,
    *,
    models: Callable[[], Iterable[str]],
    variables: Mapping[str, Any],
    words: Callable[[], Iterable[str]] = tuple,
) -> list[str]:
    """Return what may stand at the cursor: a value for the flag before it, a flag, or one of `words`."""
    line, word = event.text_until_cursor, event.symbol
    before = line[: len(line) - len(word)] if word and line.endswith(word) else line
    by_name = {name: option for option in parser.options for name in option.names}
    previous = before.split()[-1] if before.split() else ""
    option = by_name.get(previous.rstrip("="))
    if option is not None and option.takes_value and before.endswith((" ", "=")):
        candidates = _values(option, models=models, variables=variables)
    elif word.startswith("-"):
        candidates = [*by_name, "--help"]
    else:
        candidates = words()
    return sorted(candidate for candidate in candidates if candidate.startswith(word))


def _values(option: Option, *, models: Callable[[], Iterable[str]], variables: Mapping[str, Any]) -> Iterable[str]:
    if option.choices:
        return option.choices
    if option.completes == "model":
        return models()
    if option.completes == "variable":
        return [name for name in variables if not name.startswith("_") and name not in ("In", "Out", "exit", "quit")]
    return ()


def install(
    shell: InteractiveShell,
    parsers: Mapping[str, LineParser],
    *,
    models: Callable[[], Iterable[str]],
    words: Mapping[str, Callable[[], Iterable[str]]],
) -> None:
    """Register a completer for each magic, as `%name` and as `%%name`."""
    for name, parser in parsers.items():

        def complete(_shell: Any, event: CompletionEvent, name: str = name, parser: LineParser = parser) -> list[str]:
            return complete_line(event, parser, models=models, variables=shell.user_ns, words=words.get(name, tuple))

        for prefix in ("%", "%%"):
            shell.set_hook("complete_command", complete, str_key=prefix + name)  # type: ignore[no-untyped-call]
