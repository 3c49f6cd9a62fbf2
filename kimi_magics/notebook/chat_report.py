"""What %kimi_chat shows and does: the conversations of the kernel, and the turns of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kimi_magics.core.ask import CHAT_NAME, Ask
from kimi_magics.core.conversation import Conversation, Turn, drop_oldest, inherit_system, join_messages
from kimi_magics.core.prompt import Prompt
from kimi_magics.errors import ChatError, MagicLineError
from kimi_magics.notebook.chat_rows import chat_facts, chat_row, model_of, turn_facts, turn_row
from kimi_magics.notebook.chats import Chats, Order
from kimi_magics.notebook.reports import print_json
from kimi_magics.notebook.session import Session
from kimi_magics.notebook.tables import show_table
from kimi_magics.store.chat_files import ChatFiles

_ACTIONS = ("fork", "rename", "reset", "save", "load", "trim")
#: Of the context: where nobody says how long a conversation may be, room for question and answer is left.
_SHARE = 0.75


def report_chat(
    chats: Chats,
    ask: Ask,
    names: Sequence[str],
    *,
    session: Session,
    cell: str | None = None,
    files: ChatFiles | None = None,
) -> None:
    """List the conversations, or the turns of the one that is named; first do what a flag says.

    Raises ChatError and MagicLineError.
    """
    actions = [name for name in _ACTIONS if ask.extra[name] not in (None, False)]
    if len(actions) > 1:
        first, second = (f"--{name}" for name in actions[:2])
        raise MagicLineError(f"%kimi_chat: {first} and {second} were both given", remedy="do one after the other")
    desk = _Desk(chats, ask, session, cell, files or ChatFiles())
    if not actions and not names:
        desk.list()
    elif not actions:
        desk.show(*_names(names, "NAME", 1))
    else:
        getattr(desk, actions[0])(names)


@dataclass(frozen=True, slots=True)
class _Desk:
    """One use of the magic."""

    chats: Chats
    ask: Ask
    session: Session
    cell: str | None
    files: ChatFiles

    # ------------------------------------------------------------ looking

    def list(self) -> None:
        """Show all conversations."""
        chats = [(chat, _order_of(self, chat)) for chat in map(self.chats.get, self.chats.names())]
        if self.ask.json:
            print_json([chat_facts(chat, order) for chat, order in chats])
        elif not chats:
            print("no conversations: %%kimi -c NAME begins one")  # noqa: T201 — this is the output
        else:
            headers = ["name", "turns", "forgotten", "tokens", "model", "last"]
            show_table(
                headers,
                [chat_row(chat_facts(chat, order)) for chat, order in chats],
                note="Tokens are those of the last turn, with all that it goes on from.",
                figures=headers[1:4],
            )

    def show(self, name: str) -> None:
        """Show the turns of one conversation."""
        chat = self.chats.get(name)
        order = _order_of(self, chat)
        turns = [turn_facts(number, turn, order) for number, turn in enumerate(chat.shown(order), 1)]
        if self.ask.json:
            print_json({**chat_facts(chat, order), "turns": turns})
            return
        headers = ["turn", "cell", "prompt", "tokens in", "out", "tools", "media", "state"]
        note = f"Conversation {name}: {_plural(len(chat.sent(order)), 'turn')} will be sent."
        if any(turn["state"] == "forgotten" for turn in turns):
            note += " Forgotten ones come back when their cells are run again."
        show_table(
            headers,
            [turn_row(turn) for turn in turns],
            note=note,
            figures=["turn", "tokens in", "out", "tools", "media"],
        )

    # ------------------------------------------------------------ changing

    def fork(self, names: Sequence[str]) -> None:
        """Begin another conversation with the turns of this one."""
        [name], new = _names(names, "NAME --fork NEW", 1), _new_name(self.ask.extra["fork"])
        there = len(self.chats.get(name).sent(self.chats.find_order(name, cell=self.cell)))
        made = len(self.chats.fork(name, new, cell=self.cell).sent())
        left = f"; {there - made} below this cell {'is' if there - made == 1 else 'are'} not in it" * (there > made)
        self._say(
            f"{new} begins with {_plural(made, 'turn')} of {name}{left}", {"forked": name, "to": new, "turns": made}
        )

    def rename(self, names: Sequence[str]) -> None:
        """Give the conversation another name."""
        [name], new = _names(names, "NAME --rename NEW", 1), _new_name(self.ask.extra["rename"])
        self.chats.rename(name, new)
        self._say(f"{name} is now {new}: go on with -c {new}", {"renamed": name, "to": new})

    def reset(self, names: Sequence[str]) -> None:
        """Forget the conversation for good."""
        [name] = _names(names, "NAME --reset", 1)
        found = self.chats.reset(name)
        count = len(found.shown()) if found else 0
        text = f"{name} begins anew; {_plural(count, 'turn')} {'is' if count == 1 else 'are'} gone"
        self._say(text if found else f"{name} has no turns", {"reset": name, "turns": count})

    def save(self, names: Sequence[str]) -> None:
        """Write the conversation to a file."""
        name, *paths = _names(names, "NAME --save [PATH]", 2)
        chat = self.chats.get(name)
        path = self.files.save(chat, Path(paths[0]).expanduser() if paths else None)
        count = len(chat.shown())
        self._say(
            f"{_plural(count, 'turn')} of {name} saved in {path}", {"saved": name, "path": str(path), "turns": count}
        )

    def load(self, names: Sequence[str]) -> None:
        """Read a conversation from a file, under its own name or the one that is given."""
        given = _names(names, "[NAME] --load PATH", 1) if names else []
        path = self.files.find(self.ask.extra["load"])
        chat = self.files.load(path)
        if given:
            chat = replace(chat, name=_new_name(given[0]))
        chat = self.chats.load(chat, cell=self.cell)
        count = len(chat.shown())
        self._say(
            f"{_plural(count, 'turn')} of {chat.name} loaded: go on with -c {chat.name}",
            {"loaded": chat.name, "path": str(path), "turns": count},
        )

    def trim(self, names: Sequence[str]) -> None:
        """Leave the oldest turns out until the rest fits."""
        name, *most_tokens = _names(names, "NAME --trim [TOKENS]", 2)
        chat, order = self.chats.get(name), self.chats.find_order(name, cell=self.cell)
        turns = chat.sent(order)
        model = model_of(chat) or self.session.config.get("model")
        most = (
            _count(most_tokens[0])
            if most_tokens
            else int((self.session.find_model(model).context_tokens or 0) * _SHARE)
        )
        if not most:
            raise ChatError(
                f"the context of {model} is not known",
                remedy=f"say how many tokens to keep: %kimi_chat {name} --trim 8000",
            )
        kept, dropped = drop_oldest(turns, lambda some: self._count(some, model) <= most)
        self.chats.trim(name, dropped)
        size = self._count(kept, model)
        facts = {"trimmed": name, "dropped": len(dropped), "turns": len(kept), "tokens": size, "most": most}
        if not dropped:
            self._say(f"{name} fits as it is: ≈ {size:,} of {most:,} tokens", facts)
            return
        oldest = "the oldest turn" if len(dropped) == 1 else f"the {len(dropped)} oldest turns"
        text = f"{oldest} of {name} {'is' if len(dropped) == 1 else 'are'} not sent any more; "
        self._say(text + f"{_plural(len(kept), 'turn')} with ≈ {size:,} of {most:,} tokens left", facts)

    def _count(self, turns: Sequence[Turn], model: str) -> int:
        """Return about how many tokens turns have, counted here."""
        if not turns:
            return 0
        messages = join_messages(inherit_system(turns, None), turns[:-1], turns[-1].messages[0])
        prompt = Prompt(self.session.find_model(model), (*messages, *turns[-1].messages[1:]))
        return self.session.counting.count_here(prompt)

    def _say(self, text: str, facts: dict[str, Any]) -> None:
        if self.ask.json:
            print_json(facts)
        else:
            print(text)  # noqa: T201 — this is the output


def _order_of(desk: _Desk, chat: Conversation) -> Order:
    """Return the order of the cells, where the notebook of the running cell is the conversation's."""
    order = desk.chats.find_order(chat.name, cell=desk.cell)
    is_its_own = order is not None and any(turn.spot.cell in order for turn in chat.turns)
    return order if is_its_own else None


def _names(names: Sequence[str], usage: str, most: int) -> Sequence[str]:
    if not 1 <= len(names) <= most:
        raise MagicLineError(
            f"%kimi_chat: {len(names)} names were given" if names else "%kimi_chat: which conversation?",
            remedy=f"as in %kimi_chat {usage}",
        )
    return names


def _new_name(text: str) -> str:
    if not CHAT_NAME.fullmatch(text):
        raise MagicLineError(
            f"%kimi_chat: {text[:40]!r} is not a name for a conversation",
            remedy="take up to 64 letters, digits, dots, dashes, underscores",
        )
    return text


def _count(text: str) -> int:
    digits = text.replace(",", "").replace("_", "")
    if not digits.isdecimal() or int(digits) < 1:
        raise MagicLineError(
            f"%kimi_chat: {text[:40]!r} is not a number of tokens", remedy="as in %kimi_chat NAME --trim 8000"
        )
    return int(digits)


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + "s" * (count != 1)
