"""Tab on the line of a magic: its flags, and for each flag what may stand there. Nothing is asked over the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

from kimi_magics.core.ask import Completes, LineParser, Option

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

Words = Callable[[], Iterable[str]]


def complete_line(
    text: str,
    word: str,
    parser: LineParser,
    *,
    models: Words,
    variables: Mapping[str, Any],
    words: Words = tuple,
    own: Mapping[Completes, Words] = MappingProxyType({}),
) -> list[str]:
    """Return what may stand at the cursor, in place of `word` at the end of `text`.

    That is a value for the flag before it, a flag, or one of `words`; `own` gives the values of kinds that only the
    kernel knows, as the names of conversations.
    """
    before = text[: len(text) - len(word)]
    by_name = {name: option for option in parser.options for name in option.names}
    previous = before.split()[-1].rstrip("=") if before.split() else ""
    option = by_name.get(previous)
    if option is not None and option.takes_value and before.endswith((" ", "=")):
        candidates = _values(option, word, models=models, variables=variables, own=own)
    elif word.startswith("-"):
        candidates = [*by_name, "--help"]
    else:
        candidates = words()
    return sorted(candidate for candidate in candidates if candidate.startswith(word))


def _values(
    option: Option, word: str, *, models: Words, variables: Mapping[str, Any], own: Mapping[Completes, Words]
) -> Iterable[str]:
    if option.choices:
        return option.choices
    if option.completes == "model":
        return models()
    if option.completes in own:
        return own[option.completes]()
    if option.completes == "path":
        return _paths(word)
    if option.completes == "function":
        return [name for name in _variable_names(variables) if callable(variables[name])]
    if option.completes == "image-size":
        return ("low", "high", "none")
    if option.completes == "image":
        return picture_names(variables)
    return _variable_names(variables) if option.completes == "variable" else ()


def _paths(word: str) -> list[str]:
    """Return the files and folders that begin with `word`; hidden ones only where a dot was typed."""
    folder, _, name = word.rpartition("/")
    start = f"{folder}/" if folder or word.startswith("/") else ""
    try:
        entries = list(Path(start or ".").expanduser().iterdir())
    except OSError:
        return []
    shown = (entry for entry in entries if name.startswith(".") or not entry.name.startswith("."))
    return [f"{start}{entry.name}{'/' if entry.is_dir() else ''}" for entry in shown]


def picture_names(variables: Mapping[str, Any]) -> list[str]:
    """Return what may name a picture, as far as that can be listed."""
    return ["last", "clipboard", *_variable_names(variables)]


def _variable_names(variables: Mapping[str, Any]) -> list[str]:
    return [name for name in variables if not name.startswith("_") and name not in ("In", "Out", "exit", "quit")]


def _find_words(name: str, text: str, word: str) -> Words | None:
    """Return what gives the words of a magic whose words depend on those before them; None for another magic."""
    if name not in _LINES:
        return None
    said = text[: len(text) - len(word)].split()[1:]
    return lambda: _LINES[name]([one for one in said if not one.startswith("-")])


def _usage_words(said: Sequence[str]) -> Sequence[str]:
    """Return the periods, until one is there."""
    from kimi_magics.store.ledger_reports import Period

    periods = get_args(Period)
    return () if set(periods) & set(said) else periods


def _budget_words(said: Sequence[str]) -> Sequence[str]:
    """Return what may follow in `2 USD per day` and `off per day`."""
    from kimi_magics.core.budget import SCOPES, TOKENS

    units = ("USD", "CNY", TOKENS)
    match said:
        case []:
            return ("off",)
        case ["off"]:
            return ("per",)
        case [amount] if amount[0].isdigit():
            return (*units, "per")
        case [amount] if amount[0] in "$¥":
            return ("per",)
        case [_, unit] if unit in units:
            return ("per",)
        case [_, "per"] | [_, _, "per"]:
            return SCOPES
    return ()


_LINES: dict[str, Callable[[Sequence[str]], Sequence[str]]] = {
    "kimi_usage": _usage_words,
    "kimi_budget": _budget_words,
}


def install(
    shell: InteractiveShell,
    parsers: Mapping[str, LineParser],
    *,
    models: Words,
    words: Mapping[str, Words],
    own: Mapping[Completes, Words] = MappingProxyType({}),
) -> None:
    """Register the completion of all magics; once more replaces it."""
    from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

    @context_matcher()  # type: ignore[untyped-decorator]
    def kimi_matcher(context: CompletionContext) -> SimpleMatcherResult:
        text = context.text_until_cursor
        command = text.lstrip().split(" ", 1)[0]
        parser = parsers.get(command.lstrip("%")) if command.startswith("%") and " " in text.lstrip() else None
        found: list[str] = []
        if parser is not None:
            name = command.lstrip("%")
            found = complete_line(
                text,
                context.token,
                parser,
                models=models,
                variables=shell.user_ns,
                words=_find_words(name, text, context.token) or words.get(name, tuple),
                own=own,
            )
        # Where there is an offer, the names that Python itself would complete there only disturb.
        return {
            "completions": [SimpleCompletion(text=word, type=_type(word)) for word in found],
            "suppress": bool(found),
        }

    uninstall(shell)
    shell.Completer.custom_matchers.append(kimi_matcher)


def _type(word: str) -> str:
    """Return what a front end shows beside an offer."""
    return "flag" if word.startswith("-") else "value"


def uninstall(shell: InteractiveShell) -> None:
    """Take the completion away: by name, since a reloaded module's function is another one."""
    matchers = shell.Completer.custom_matchers
    matchers[:] = [matcher for matcher in matchers if getattr(matcher, "__name__", "") != "kimi_matcher"]
