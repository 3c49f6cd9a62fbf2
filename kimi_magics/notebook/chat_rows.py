"""Conversations and their turns as %kimi_chat lists them: the facts of each for programs, and its row of a table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from kimi_magics.core.conversation import Conversation, Turn
from kimi_magics.notebook.chats import Order

_BEGINNING = 50


# ---------------------------------------------------------------- one conversation


def model_of(chat: Conversation) -> str:
    """Return the model that answered last; empty when it is not known."""
    return next((turn.model for turn in reversed(chat.sent()) if turn.model), "")


def chat_facts(chat: Conversation, order: Order) -> dict[str, Any]:
    """Return what --json prints of a conversation in this order of the cells."""
    sent, shown = chat.sent(order), chat.shown(order)
    last = sent[-1] if sent else None
    known = last is not None and last.prompt_tokens is not None and last.completion_tokens is not None
    ended = max((turn.ended for turn in shown if turn.ended is not None), default=None)
    return {
        "name": chat.name,
        "turns": len(sent),
        "forgotten": sum(turn.is_forgotten for turn in shown),
        "tokens": (last.prompt_tokens or 0) + (last.completion_tokens or 0) if last and known else None,
        "estimated": bool(last and last.estimated),
        "model": model_of(chat) or None,
        "last": None if ended is None else datetime.fromtimestamp(ended, UTC).isoformat(timespec="seconds"),
        "origin": chat.origin or None,
    }


def chat_row(facts: dict[str, Any]) -> list[str]:
    """Return the cells of a conversation: name, turns, forgotten, tokens, model, last."""
    tokens = _figure(facts["tokens"], is_estimated=facts["estimated"])
    last = datetime.fromisoformat(facts["last"]).astimezone() if facts["last"] else None
    moment = f"{last:%Y-%m-%d %H:%M}" if last else ""
    return [facts["name"], str(facts["turns"]), str(facts["forgotten"]), tokens, facts["model"] or "", moment]


# ---------------------------------------------------------------- one turn


def turn_facts(number: int, turn: Turn, order: Order) -> dict[str, Any]:
    """Return what --json prints of a turn in this order of the cells."""
    is_gone = order is not None and turn.spot.cell is not None and turn.spot.cell not in order
    state = "forgotten" if turn.is_forgotten else turn.state
    return {
        "turn": number,
        "cell": turn.spot.cell,
        "part": turn.spot.part,
        "state": "not in the notebook" if is_gone and turn.is_sent else state,
        "prompt": turn.question,
        "answer": turn.answer,
        "system": turn.system,
        "model": turn.model,
        "prompt_tokens": turn.prompt_tokens,
        "completion_tokens": turn.completion_tokens,
        "estimated": turn.estimated,
        "tools": [call.name for message in turn.messages for call in message.calls],
        "images": [image.digest for message in turn.messages for image in message.images],
        "videos": [video.digest for message in turn.messages for video in message.videos],
    }


def turn_row(facts: dict[str, Any]) -> list[str]:
    """Return the cells of a turn: turn, cell, prompt, tokens in, out, tools, media, state."""
    cell = (facts["cell"] or "")[-8:] + (f" ({facts['part'] + 1})" if facts["part"] and facts["cell"] else "")
    prompt = " ".join(facts["prompt"].split())
    media = len(facts["images"]) + len(facts["videos"])
    return [
        str(facts["turn"]),
        cell,
        prompt if len(prompt) <= _BEGINNING else prompt[: _BEGINNING - 1] + "…",
        _figure(facts["prompt_tokens"], is_estimated=facts["estimated"]),
        _figure(facts["completion_tokens"], is_estimated=facts["estimated"]),
        str(len(facts["tools"]) or ""),
        str(media or ""),
        "" if facts["state"] == "kept" else facts["state"],
    ]


def _figure(value: int | None, *, is_estimated: bool) -> str:
    return "unknown" if value is None else ("≈ " if is_estimated else "") + f"{value:,}"
