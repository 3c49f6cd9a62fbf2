"""The conversations of one kernel: where a call of a cell goes on from, and where its turn is put.

The promise is that of `core.conversation`; safe to use from several threads, since the gauge asks beside a cell.
"""

from __future__ import annotations

import difflib
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from kimi_magics.core.conversation import Conversation, Spot, Turn, inherit_system, move_turns
from kimi_magics.core.messages import Message
from kimi_magics.errors import ChatError
from kimi_magics.notebook.cell_runs import CellRuns

Order = Sequence[str] | None


class FindOrder(Protocol):
    """Returns the ids of the cells of the notebook that holds `cell`, from top to bottom; None when unknown.

    With `may_ask` it may take the time to ask a page.
    """

    def __call__(self, cell: str, *, may_ask: bool) -> Order: ...  # noqa: D102 — the class says it


def find_no_order(cell: str, *, may_ask: bool) -> Order:
    """Tell nothing, as where there is no page."""
    return None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call stands in a conversation, as it was found; `record` or `record_failure` ends it."""

    name: str
    spot: Spot
    #: What the call goes on from.
    turns: tuple[Turn, ...]
    #: Stays the same for one conversation.
    cache_key: str
    order: Order
    _chats: Chats

    @property
    def system(self) -> str | None:
        """The system prompt that the call inherits when it has none of its own."""
        return inherit_system(self.turns, None)

    def record(
        self,
        messages: Sequence[Message],
        *,
        system: str | None = None,
        model: str = "",
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        estimated: bool = False,
    ) -> Turn:
        """Enter the turn: the user's message, tool exchanges, the answer. Later turns are forgotten.

        `system` is the system prompt that went with it; the figures are those of the whole call.
        """
        turn = Turn(
            self.spot,
            tuple(messages),
            system,
            model,
            prompt_tokens,
            completion_tokens,
            estimated,
            ended=self._chats.clock(),
        )
        self._chats.enter(self, turn)
        return turn

    def record_failure(self) -> None:
        """Enter that the call left no turn; later turns are forgotten."""
        self._chats.enter(self, None)


class Chats:
    """Conversations by name, and the order in which the notebook of each cell stands."""

    def __init__(
        self,
        runs: CellRuns | None = None,
        *,
        find_order: FindOrder = find_no_order,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self._find_order = find_order
        self._lock = threading.RLock()
        self._chats: dict[str, Conversation] = {}
        #: How many calls of a conversation the last run of a cell has made.
        self._parts: dict[tuple[str, str], int] = {}
        #: What was found of the order in the run of a cell that goes on.
        self._orders: dict[str, Order] = {}
        self._is_running = False
        if runs is not None:
            runs.watch(self.begin_run, self.end_run)

    # ------------------------------------------------------------ runs

    def begin_run(self, cell: str | None) -> None:
        """Take note that a cell begins to run: its calls are counted anew."""
        with self._lock:
            self._orders.clear()
            self._is_running = True
            for key in [key for key in self._parts if key[1] == cell]:
                del self._parts[key]

    def end_run(self, cell: str | None) -> None:
        """Take note that a cell has run: turns that it left in an earlier run, and not in this one, are forgotten."""
        with self._lock:
            if cell is not None:
                for name, chat in self._chats.items():
                    part = self._parts.get((name, cell), 0)
                    if chat.has_call(cell, part=part):
                        self._chats[name] = chat.with_attempt(Spot(cell, part), self._order(chat, cell, may_ask=False))
            self._orders.clear()
            self._is_running = False

    # ------------------------------------------------------------ calls

    def place(self, name: str, *, cell: str | None, is_draft: bool = False) -> Place:
        """Return where the next call of `cell` stands in a conversation, which begins with it if there is none.

        A draft, of a cell that does not run, stands where its first call would; nothing waits and nothing is kept.
        """
        with self._lock:
            chat = self._chats.get(name) or Conversation(name, cache_key=_make_key())
        # Without the lock: a page may be asked, and answers beside the cell.
        order = self._order(chat, cell, may_ask=not is_draft)
        with self._lock:
            if not is_draft:
                chat = self._chats.setdefault(name, chat)
            part = 0 if is_draft or cell is None else self._parts.get((name, cell), 0)
            spot = Spot(cell, part)
            return Place(name, spot, chat.before(spot, order), chat.cache_key, order, self)

    def enter(self, place: Place, turn: Turn | None) -> None:
        """Enter what came of a call; None when it failed."""
        with self._lock:
            chat = self._chats.get(place.name) or Conversation(place.name, cache_key=place.cache_key)
            chat = chat.with_attempt(place.spot, place.order) if turn is None else chat.with_turn(turn, place.order)
            self._chats[place.name] = chat
            if place.spot.cell is not None:
                self._parts[place.name, place.spot.cell] = place.spot.part + 1

    def _order(self, chat: Conversation, cell: str | None, *, may_ask: bool) -> Order:
        """Return the order of the cells, once for a run of a cell, and only where it matters."""
        if cell is None or all(turn.spot.cell in (None, cell) for turn in chat.turns):
            return None
        if cell in self._orders:
            return self._orders[cell]
        order = self._find_order(cell, may_ask=may_ask)
        if may_ask and self._is_running:
            self._orders[cell] = order
        return order

    # ------------------------------------------------------------ looking

    def names(self) -> list[str]:
        """Return the names of the conversations that hold something, in the order in which they began."""
        with self._lock:
            return [name for name, chat in self._chats.items() if chat.shown()]

    def get(self, name: str) -> Conversation:
        """Return a conversation. Raises ChatError, with the name that may be meant."""
        names = self.names()
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            remedy = f"did you mean {close[0]}?" if close else "begin it with %%kimi -c NAME, or load one with --load"
            raise ChatError(f"there is no conversation {name!r}", remedy=remedy)
        with self._lock:
            return self._chats[name]

    def find_order(self, name: str, *, cell: str | None) -> Order:
        """Return the order in which the cells of a conversation stand, for the cell that runs; None when unknown."""
        return self._order(self.get(name), cell, may_ask=True)

    # ------------------------------------------------------------ changing

    def fork(self, name: str, new: str, *, cell: str | None) -> Conversation:
        """Begin `new` with what a call of `cell` in the conversation would go on from.

        The turns belong to the cell from then on. A fork that there is already is made anew, and what was said in it is
        forgotten until its cells are run again. Raises ChatError where `new` is another conversation.
        """
        chat, order = self.get(name), self.find_order(name, cell=cell)
        with self._lock:
            self._check_new(name, new)
            made = chat.copy(new, turns=chat.before(Spot(cell), order), cell=cell, cache_key=_make_key())
            if cell is not None and new in self._chats:
                made = made.with_forgotten(
                    turn for turn in self._chats[new].turns if turn.spot.cell not in (None, cell)
                )
            return self._put(made, cell)

    def rename(self, name: str, new: str) -> Conversation:
        """Give a conversation another name; one that had the same name before makes way. Raises ChatError."""
        chat = self.get(name)
        with self._lock:
            self._check_new(name, new)
            for key in [key for key in self._parts if key[0] == name]:
                self._parts[new, key[1]] = self._parts.pop(key)
            del self._chats[name]
            self._chats[new] = chat.rename(new)
            return self._chats[new]

    def reset(self, name: str) -> Conversation | None:
        """Forget a conversation for good, and return what it was; None when there was none."""
        with self._lock:
            found = self._chats.pop(name, None)
            return found if found is not None and found.shown() else None

    def trim(self, name: str, dropped: Sequence[Turn]) -> None:
        """Send these turns of a conversation no more."""
        with self._lock:
            self._chats[name] = self.get(name).trim(dropped)

    def load(self, chat: Conversation, *, cell: str | None) -> Conversation:
        """Put a conversation from a file in place of the one of its name.

        Its turns keep their cells where this is the notebook that they come from; elsewhere they become those of the
        cell that loads them, so that they stand where it stands.
        """
        order = self._order(chat, cell, may_ask=True)
        cells = {turn.spot.cell for turn in chat.turns}
        with self._lock:
            if cell is not None and (cells == {None} or (order is not None and cells.isdisjoint(order))):
                turns = (turn for turn in chat.turns if not turn.is_forgotten)
                return self._put(replace(chat, turns=move_turns(turns, cell)), cell)
            return self._put(chat, cell)

    def _put(self, chat: Conversation, cell: str | None) -> Conversation:
        """Put a conversation in; what it holds of `cell` is what the run of this cell has left."""
        if not chat.cache_key:
            chat = replace(chat, cache_key=_make_key())
        for key in [key for key in self._parts if key[0] == chat.name]:
            del self._parts[key]
        if cell is not None:
            self._parts[chat.name, cell] = sum(turn.spot.cell == cell for turn in chat.turns)
        self._chats[chat.name] = chat
        return chat

    def _check_new(self, name: str, new: str) -> None:
        other = self._chats.get(new)
        if new == name or (other is not None and other.shown() and other.origin != name):
            raise ChatError(
                f"there is a conversation {new!r} already", remedy=f"choose another name, or %kimi_chat {new} --reset"
            )


def _make_key() -> str:
    return f"kimi-magics-{secrets.token_hex(12)}"
