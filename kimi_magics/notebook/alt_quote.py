"""What the alt texts of some notebooks will cost: counted and priced picture by picture, before anything is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from kimi_magics.core.ask import Ask
from kimi_magics.core.estimate import Estimate
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.usage import Usage, format_money, format_tokens
from kimi_magics.errors import ImageError, KimiError, NotebookError
from kimi_magics.notebook.alt_targets import Target, find_targets
from kimi_magics.notebook.describe import build_alt_prompt
from kimi_magics.notebook.prepare import prepare_image
from kimi_magics.notebook.session import Session
from kimi_magics.store.notebooks import Notebook, check_writable, read_notebook

#: What an alt text takes in tokens, and the reasoning before it where the model cannot leave it.
_ALT_TOKENS, _THOUGHT_TOKENS = 120, 800
#: Where it does not think: a long alt text in any script fits, and a model that raves is stopped.
_MOST_ALT_TOKENS = 1000


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of the quote; without tokens when it takes no request, with `trouble` when it cannot be described."""

    path: Path
    cell: int
    cell_id: str | None
    place: str
    kind: str
    digest: str = ""
    #: `ask`, `reuse` (known from before), `same` (as one before it in the quote), `trouble`, or `skip`.
    way: str = "ask"
    tokens: int | None = None
    answer_tokens: int = 0
    is_counted: bool = False
    cost: Decimal | None = None
    remark: str = ""

    @property
    def name(self) -> str:
        """The picture for a reader, as `plots.ipynb: cell 5 (id abc) output 0: image/png`."""
        place = self.place
        if self.cell_id:
            place = place.replace(f"cell {self.cell}", f"cell {self.cell} (id {self.cell_id})", 1)
        return f"{self.path}: {place}: {self.kind}"


@dataclass(slots=True)
class Quote:
    """All pictures without alt text, in order, and what could not be looked into."""

    currency: str
    items: list[Item] = field(default_factory=list)
    errors: list[KimiError] = field(default_factory=list)
    note: str = ""

    def of(self, *ways: str) -> list[Item]:
        """Return the pictures that go one of these ways."""
        return [item for item in self.items if item.way in ways]

    @property
    def cost(self) -> Decimal | None:
        """What all requests are expected to cost; None when a price is not known."""
        costs = [item.cost for item in self.of("ask")]
        return None if None in costs else sum((cost for cost in costs if cost is not None), Decimal(0))


class Quoter:
    """Makes quotes and prompts for one session and one language."""

    def __init__(self, session: Session, *, ask: Ask, language: str, tell: Callable[[str], None]) -> None:
        self._session = session
        self._ask = ask
        self._language = language
        self._tell = tell
        self._may_ask = True

    def build(self, target: Target, *, label: str) -> Prompt:
        """Return the request for one picture. Raises ImageError for the picture, other KimiErrors for all."""
        if target.trouble:
            raise ImageError(f"{label}: {target.trouble}")
        image = prepare_image(target.data, label=label)
        prompt = build_alt_prompt(self._session, image, language=self._language, ask=self._ask)
        if prompt.thinking == "off" and prompt.max_tokens is None:
            prompt = replace(prompt, max_tokens=_MOST_ALT_TOKENS)
        return prompt

    def expect(self, prompt: Prompt, *, may_ask: bool) -> tuple[Estimate, int, Decimal | None]:
        """Return the tokens of the prompt, those expected of the answer, and the cost of both."""
        estimate = self._session.estimate(prompt, may_ask=may_ask)
        outlook = self._session.expect_answer(prompt, cell=None)
        thinks = prompt.thinking != "off" and prompt.model.thinking != "never"
        answer = _ALT_TOKENS + (_THOUGHT_TOKENS if thinks else 0)
        if outlook is not None and outlook.low is not None:
            answer = outlook.high
        usage = Usage(estimate.prompt_tokens, answer)
        return estimate, answer, estimate.price.cost_of(usage) if estimate.price else None

    def quote(self, paths: Sequence[Path], *, writes: bool) -> Quote:
        """Return what describing all pictures of these notebooks takes. Raises KimiError where no picture could go."""
        quote = Quote(self._session.currency)
        for path in paths:
            try:
                notebook = read_notebook(path)
                targets = find_targets(notebook)
                if writes and any(not target.trouble and not target.skipped for target in targets):
                    check_writable(path)
            except NotebookError as error:
                quote.errors.append(error)
                continue
            for number, target in enumerate(targets, 1):
                self._tell(f"looking at {path.name}: picture {number} of {len(targets)}")
                quote.items.append(self._judge(notebook, target, quote))
        return quote

    def _judge(self, notebook: Notebook, target: Target, quote: Quote) -> Item:
        item = make_item(notebook.path, target)
        if item.way != "ask":
            return item
        if any(other.digest == item.digest and other.way in ("ask", "reuse") for other in quote.items):
            return replace(item, way="same", remark="the same picture as above")
        known = self._session.alts.get(item.digest, self._language)
        if known is not None:
            return replace(item, way="reuse", remark=f"known from {known.date}")
        try:
            prompt = self.build(target, label=f"{notebook.path.name} {target.place}")
        except ImageError as error:
            return replace(item, way="trouble", remark=error.message)
        estimate, answer, cost = self.expect(prompt, may_ask=self._may_ask)
        if estimate.price is not None:
            quote.currency = estimate.price.currency
        if estimate.note:
            # A host that cannot be asked once is not asked again for each picture.
            self._may_ask, quote.note = False, estimate.note
        return replace(
            item,
            tokens=estimate.prompt_tokens,
            answer_tokens=answer,
            is_counted=estimate.is_counted,
            cost=cost,
            remark=f"{prompt.messages[-1].images[0].width}×{prompt.messages[-1].images[0].height}",
        )


def make_item(path: Path, target: Target) -> Item:
    """Return a picture as the quote names it."""
    way = "trouble" if target.trouble else "skip" if target.skipped else "ask"
    digest = target.digest if way == "ask" else ""
    remark = target.trouble or target.skipped
    return Item(path, target.cell, target.cell_id, target.place, target.kind, digest, way, remark=remark)


def write_quote(quote: Quote) -> list[str]:
    """Return the lines of a quote for a reader: each picture, then the sum."""
    lines = [f"  {item.name}  {_figures(item, quote.currency)}" for item in quote.items]
    if quote.note:
        lines.append(f"≈ counted here: {quote.note}")
    asked, free = quote.of("ask"), quote.of("same", "reuse")
    tokens, answer = sum(item.tokens or 0 for item in asked), sum(item.answer_tokens for item in asked)
    about = "" if all(item.is_counted for item in asked) else "≈ "
    also = f", {len(free)} more for nothing" if free else ""
    cost = "at an unknown price" if quote.cost is None else f"about {format_money(quote.cost, quote.currency)}"
    if asked:
        figures = f"{about}{format_tokens(tokens)} tokens in, about {format_tokens(answer)} out, {cost}"
        lines.append(f"{_count(len(asked))} to describe{also}: {figures}")
    elif free:
        lines.append(f"{_count(len(free))} with an alt text that is known: nothing is sent")
    return lines


def _figures(item: Item, currency: str) -> str:
    if item.way != "ask":
        return {"trouble": "cannot be described: ", "skip": "not looked at: "}.get(item.way, "") + item.remark
    about = "" if item.is_counted else "≈ "
    cost = "unknown price" if item.cost is None else format_money(item.cost, currency)
    return f"{item.remark}  {about}{item.tokens:,} tokens  {cost}"


def _count(number: int) -> str:
    return f"{number:,} picture" + "s" * (number != 1)


def quote_facts(quote: Quote) -> dict[str, Any]:
    """Return the quote as JSON-ready values: money as text, null for what is not known."""
    rows = [
        {
            "notebook": str(item.path),
            "cell": item.cell,
            "cell_id": item.cell_id,
            "place": item.place,
            "kind": item.kind,
            "way": item.way,
            "tokens": item.tokens,
            "counted": item.is_counted,
            "cost": None if item.cost is None else str(item.cost),
            "remark": item.remark,
        }
        for item in quote.items
    ]
    cost = None if quote.cost is None else str(quote.cost)
    errors = [error.message for error in quote.errors]
    return {"pictures": rows, "cost": cost, "currency": quote.currency, "errors": errors}
