"""`kimi-magics alt`: alt text for the pictures of notebooks, quoted first, written picture by picture.

The promise: nothing is sent before the quote was agreed to; what is done is in the file, whatever happens next; and
nothing else in the file changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kimi_magics.core.ask import Ask
from kimi_magics.core.budget import Budget, read_budget
from kimi_magics.core.describing import clean_alt
from kimi_magics.core.usage import format_money, format_tokens
from kimi_magics.errors import (
    BadRequestError,
    BudgetError,
    ConfigError,
    ImageError,
    InterruptedReplyError,
    KimiError,
    NotebookChangedError,
    NotebookError,
    RefusedError,
    ReplyBrokenError,
    RequestTooLargeError,
)
from kimi_magics.notebook.alt_progress import Progress, Waits, tell
from kimi_magics.notebook.alt_quote import Item, Quote, Quoter, make_item, quote_facts, write_quote
from kimi_magics.notebook.alt_targets import Target, find_targets, write_alts
from kimi_magics.notebook.describe import keep_alt, read_language
from kimi_magics.notebook.session import Session
from kimi_magics.notebook.spending import Allowance
from kimi_magics.store.notebooks import Notebook, read_notebook, write_notebook

#: Errors of one picture; any other would befall the next one too.
_OF_ONE = (ImageError, BadRequestError, RequestTooLargeError, ReplyBrokenError, NotebookError)
_MOST_CONFLICTS = 3


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asks for."""

    paths: tuple[Path, ...]
    mode: Literal["write", "quote", "check"] = "write"
    is_agreed: bool = False
    budget: str | None = None
    model: str | None = None
    language: str | None = None
    as_json: bool = False


def run(order: Order, *, agree: Callable[[str], str] | None) -> int:
    """Carry the order out and return the exit code; `agree` asks the user, None where there is nobody to ask.

    Raises KimiError.
    """
    if order.mode == "check":
        return check(order)
    session = Session()
    try:
        return _Command(session, order, agree).run()
    finally:
        session.close()


def check(order: Order) -> int:
    """Print the pictures that lack alt text; return 1 when there are any, or a notebook cannot be read."""
    items: list[Item] = []
    errors: list[KimiError] = []
    for path in _distinct(order.paths):
        try:
            items += [make_item(path, target) for target in find_targets(read_notebook(path))]
        except NotebookError as error:
            errors.append(error)
    bare, skipped = [item for item in items if item.way != "skip"], [item for item in items if item.way == "skip"]
    if order.as_json:
        quote = Quote("", items, errors)
        rows = quote_facts(quote)["pictures"]
        names = ("notebook", "cell", "cell_id", "place", "kind", "way", "remark")
        _print(json.dumps([{name: row[name] for name in names} for row in rows], indent=2, ensure_ascii=False))
    else:
        for item in bare:
            _print(item.name)
        for item in skipped:
            _print(f"{item.name}  not looked at: {item.remark}")
        if not bare and not errors:
            count = len(_distinct(order.paths))
            _print(f"every picture has an alt text ({count} notebook{'s' * (count != 1)})")
    for trouble in errors:
        tell(f"kimi-magics: {trouble}")
    return int(bool(bare or errors))


class _Command:
    """One run of the command over all notebooks."""

    def __init__(self, session: Session, order: Order, agree: Callable[[str], str] | None) -> None:
        self._session = session
        self._order = order
        self._agree = agree
        self._language = read_language(session.config.get("language") if order.language is None else order.language)
        self._budget = None if order.budget is None else _read_budget(order.budget, session.currency)
        if self._budget is not None:
            session.spending.set(self._budget, save=False)
        self._progress = Progress()
        ask = Ask(model=order.model)
        self._quoter = Quoter(session, ask=ask, language=self._language, tell=self._progress.tell)
        self._done = self._reused = self._failed = self._total = 0

    def run(self) -> int:
        """Quote, ask, write; return the exit code. Raises KimiError before anything is sent."""
        writes = self._order.mode == "write"
        if writes:
            self._session.client  # noqa: B018 — without a key there is nothing to agree to
        try:
            quote = self._quoter.quote(_distinct(self._order.paths), writes=writes)
        finally:
            self._progress.clear()
        self._show(quote)
        problems = len(quote.errors) + len(quote.of("trouble"))
        self._check_budget(quote)
        self._total = len(quote.of("ask", "same", "reuse"))
        if not writes or not self._total:
            return int(problems > 0)
        if quote.of("ask") and not self._has_consent():
            _print("nothing was sent")
            return 1
        code = self._write_all(quote)
        return code or int(problems + self._failed > 0)

    def _show(self, quote: Quote) -> None:
        if self._order.as_json:
            _print(json.dumps(quote_facts(quote), indent=2, ensure_ascii=False))
        else:
            lines = write_quote(quote)
            if not quote.items and not quote.errors:
                lines = ["every picture has an alt text"]
            if lines:
                _print("\n".join(lines))
        for trouble in quote.errors:
            tell(f"kimi-magics: {trouble}")

    def _check_budget(self, quote: Quote) -> None:
        """Hold the quote against what the order allows; each picture is held against all budgets before it is sent."""
        budget = self._budget
        if budget is None or not quote.of("ask"):
            return
        if budget.is_money and (quote.cost is None or quote.currency != budget.unit):
            amount = budget.write(budget.amount)
            raise BudgetError(
                f"the price is not known in {budget.unit}, and there is a budget of {amount} to keep",
                remedy="%kimi_config --save price.MODEL=cached/input/output sets one; or leave --budget out",
            )
        if quote.cost is not None and quote.cost > budget.amount:
            raise BudgetError(
                f"{format_money(quote.cost, quote.currency)} is expected,"
                f" over the budget of {budget.write(budget.amount)}",
                remedy="raise --budget, name fewer notebooks, or choose a cheaper model with --model",
            )

    def _has_consent(self) -> bool:
        if self._order.is_agreed:
            return True
        if self._agree is None:
            raise RefusedError(
                "there is no terminal to ask whether to go on; nothing was sent",
                remedy="add --yes to go on without being asked, or --dry-run to see the quote only",
            )
        try:
            answer = self._agree("Go on? [y/N] ")
        except EOFError:
            answer = ""
        return answer.strip().lower() in ("y", "yes")

    # ------------------------------------------------------------ writing

    def _write_all(self, quote: Quote) -> int:
        wanted = {item.digest for item in quote.of("ask", "same", "reuse")}
        code = 0
        try:
            for path in dict.fromkeys(item.path for item in quote.of("ask", "same", "reuse")):
                try:
                    self._write_notebook(path, wanted)
                except NotebookError as error:
                    self._fail(error)
        except (KeyboardInterrupt, InterruptedReplyError):
            self._progress.end("interrupted")
            code = 130
        except KimiError as error:
            self._progress.end("failed")
            tell(f"kimi-magics: {error}")
            code = 1
        _print(self._summary(is_stopped=code != 0))
        return code

    def _write_notebook(self, path: Path, wanted: set[str]) -> None:
        notebook = read_notebook(path)
        tried: set[str] = set()
        while group := _next_group(notebook, wanted - tried):
            tried.add(group[0].digest)
            self._progress.begin(self._done + self._failed + 1, self._total, f"{path.name} {group[0].place}")
            try:
                alt, is_reused = self._obtain(group[0], label=f"{path.name} {group[0].place}")
                notebook, count = _put(notebook, group, alt)
            except InterruptedReplyError:
                raise
            except _OF_ONE as error:
                self._failed += len(group)
                self._progress.end(f"failed: {error.message}")
                if isinstance(error, NotebookError):
                    notebook = read_notebook(path)
                continue
            self._done += count
            self._reused += count - (not is_reused) if count else 0
            more = f" (and {count - 1} more like it)" if count > 1 else ""
            self._progress.end(f"{'reused: ' if is_reused else ''}{alt}{more}")

    def _obtain(self, target: Target, *, label: str) -> tuple[str, bool]:
        """Return the alt text of a picture, and whether it was known."""
        known = self._session.alts.get(target.digest, self._language)
        if known is not None and (alt := clean_alt(known.text)):
            return alt, True
        prompt = self._quoter.build(target, label=label)
        reply = self._session.open_reply(prompt)
        try:
            # What all of it costs was agreed to before; a shorter answer than the quote's would be cut.
            allow = Allowance(is_agreed=True, useful_tokens=max(1, self._quoter.expect(prompt, may_ask=False)[1]))
            self._session.call(prompt, reply=reply, view=Waits(self._progress), allow=allow)
        except BudgetError as error:
            raise BudgetError(
                f"the next picture would pass a budget: {error.message}",
                remedy="raise --budget or your own budget, and run the command again: it goes on where it stopped",
            ) from None
        return keep_alt(self._session, target.digest, self._language, reply), False

    def _fail(self, error: KimiError) -> None:
        self._failed += 1
        tell(f"kimi-magics: {error}")

    def _summary(self, *, is_stopped: bool) -> str:
        totals = self._session.history.totals()
        parts = [f"{self._done} of {self._total} pictures have an alt text now"]
        if self._reused:
            parts.append(f"{self._reused} without a request")
        if self._failed:
            parts.append(f"{self._failed} failed")
        if totals.calls:
            tokens = f"{format_tokens(totals.prompt_tokens)} in / {format_tokens(totals.completion_tokens)} out"
            parts.append(tokens)
            parts += [format_money(cost, currency) for currency, cost in totals.costs.items()]
        parts += [f"{totals.unpriced} at an unknown price"] * bool(totals.unpriced)
        text = " · ".join(parts)
        return f"{text}\nrun it again to go on where it stopped" if is_stopped else text


def _next_group(notebook: Notebook, wanted: set[str]) -> list[Target]:
    """Return the next picture that is to be described, with all that are the same."""
    targets = [target for target in find_targets(notebook) if not target.trouble and not target.skipped]
    first = next((target.digest for target in targets if target.digest in wanted), None)
    return [target for target in targets if target.digest == first] if first else []


def _put(notebook: Notebook, group: list[Target], alt: str) -> tuple[Notebook, int]:
    """Write an alt text to pictures that are the same; find them again in what another program wrote meanwhile."""
    digest = group[0].digest
    for _ in range(_MOST_CONFLICTS):
        if not group:
            raise ImageError("the picture is no longer there: the notebook was changed meanwhile")
        try:
            return write_notebook(notebook, write_alts(notebook, [(target, alt) for target in group])), len(group)
        except NotebookChangedError:
            notebook = read_notebook(notebook.path)
            group = _next_group(notebook, {digest})
    raise NotebookChangedError(
        f"{notebook.path} is being written again and again by another program", remedy="close it there, and try again"
    )


def _read_budget(text: str, currency: str) -> Budget:
    try:
        budget = read_budget(text, currency=currency)
    except ConfigError as error:
        raise ConfigError(error.message, remedy="write an amount, as in --budget 0.50") from None
    if not budget.is_money or budget.scope != "session":
        raise ConfigError(f"{text!r} is not an amount of money", remedy="write an amount, as in --budget 0.50")
    return budget


def _distinct(paths: Sequence[Path]) -> list[Path]:
    """Return the paths without those that name a file again."""
    return list({path.resolve(): path for path in reversed(paths)}.values())[::-1]


def _print(text: str) -> None:
    print(text)  # noqa: T201 — this is the output
