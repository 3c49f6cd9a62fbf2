"""The sandbox's answers: the same for the same request, honest about their origin, full of facts about the prompt."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kimi_magics.sandbox.schemas import build_value
from kimi_magics.sandbox.tokens import split_tokens
from kimi_magics.sandbox.tools import build_calls

if TYPE_CHECKING:
    from kimi_magics.sandbox.images import Picture
    from kimi_magics.sandbox.messages import Message
    from kimi_magics.sandbox.validation import Completion

_ORIGIN = "Sandbox answer: no model was called"
_HAN = re.compile(r"[\u3400-\u9fff]")
_ONE_WORD = re.compile(
    r"\b(?:in|with|just|only|exactly) (?:one|a single|1) word\b|\bone-word\b|一个词|一个字", re.IGNORECASE
)
_SHORT = re.compile(
    r"\b(?:in|with|just|only) (?:one|a|a single|1) (?:short )?(?:sentence|line|phrase)\b"
    r"|\bbriefly\b|\bbe brief\b|\bin short\b|一句话|简短",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Answer:
    """What one choice says: reasoning first, then either text or tool calls; all of it already cut to the limits."""

    reasoning: tuple[str, ...]
    content: tuple[str, ...]
    calls: tuple[dict[str, Any], ...]
    finish_reason: str

    @property
    def completion_tokens(self) -> int:
        """The tokens billed as output: reasoning, text and calls."""
        functions = [call["function"] for call in self.calls]
        return (
            len(self.reasoning)
            + len(self.content)
            + sum(len(split_tokens(item["name"])) + len(split_tokens(item["arguments"])) for item in functions)
        )


def build_answer(completion: Completion, choice: int = 0) -> Answer:
    """Answer a valid request, cut at its stop words and at its limit of tokens."""
    reasoning = split_tokens(_think(completion)) if completion.thinks else []
    can_call = completion.prefix is None
    calls = build_calls(completion.prompt, completion.tools, completion.tool_choice) if can_call else []
    left = completion.limit - len(reasoning)
    if left < 0:
        return Answer(tuple(reasoning[: completion.limit]), (), (), "length")
    if calls:
        answer = Answer(tuple(reasoning), (), tuple(calls), "tool_calls")
        return answer if answer.completion_tokens <= completion.limit else Answer(tuple(reasoning), (), (), "length")
    text = _write(completion)
    if choice:
        text = f"Choice {choice + 1}. {text}"
    content = split_tokens(_cut_at_stop(text, completion.stops))
    is_cut = len(content) > left
    return Answer(tuple(reasoning), tuple(content[:left]), (), "length" if is_cut else "stop")


def _cut_at_stop(text: str, stops: tuple[str, ...]) -> str:
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]


def _think(completion: Completion) -> str:
    prompt = completion.prompt
    text = prompt.last_text
    steps = [
        f"The user wrote {_count(len(text.split()), 'word')} in {_count(len(text.splitlines()) or 1, 'line')}.",
        "This is the sandbox, so nothing here comes from a model; I can only work with what the request itself holds.",
    ]
    if prompt.pictures:
        steps.append(f"There is also {_count(len(prompt.pictures), 'image')}, which I can measure.")
    if prompt.messages[-1]["role"] == "tool":
        steps.append("The tools have answered, so I can put their results together.")
    if completion.effort != "low":
        steps.append(
            "I shall say so first, quote the beginning of the prompt, and then give the figures in a list and a table."
        )
    if completion.effort == "max":
        steps += [
            f"Step {number}: {what}."
            for number, what in enumerate(
                (
                    "count the characters and compare them with the words",
                    "look for the longest word, because it says something about the subject",
                    "check whether the lines are prose, code or data",
                    "choose a formula that fits, such as the mean length of the words",
                    "go over the figures again before writing them down",
                ),
                1,
            )
        ]
    return " ".join(steps)


def _write(completion: Completion) -> str:
    prompt = completion.prompt
    text = prompt.last_text
    if completion.format == "json_schema":
        value = json.dumps(build_value(completion.schema, text), ensure_ascii=False)
        return value.removeprefix(completion.prefix or "")
    if completion.format == "json_object":
        return json.dumps(_measure(text) | {"note": _ORIGIN}, ensure_ascii=False)
    if completion.prefix is not None:
        return f" … and so it goes on. ({_ORIGIN}; the beginning had {_count(len(completion.prefix), 'character')}.)"
    if prompt.messages[-1]["role"] == "tool":
        return _quote_tools(prompt.messages)
    if _ONE_WORD.search(text):
        return "Sandbox"
    if _SHORT.search(text):
        return _write_sentence(completion)
    return _write_page(completion)


def _measure(text: str) -> dict[str, Any]:
    words = text.split()
    return {
        "begins": _quote(text),
        "words": len(words),
        "lines": len(text.splitlines()) or 1,
        "characters": len(text),
        "han_characters": len(_HAN.findall(text)),
        "longest_word": max(words, key=len, default=""),
    }


def _quote(text: str, words: int = 12) -> str:
    """Return the first words on one line, without the marks that would end a quotation in Markdown."""
    pieces = text.replace("`", "'").split()
    quoted = " ".join(pieces[:words])[:120]
    return quoted + " …" if len(pieces) > words or len(quoted) == 120 else quoted


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _write_sentence(completion: Completion) -> str:
    facts = _measure(completion.prompt.last_text)
    about = f"your prompt has {_count(facts['words'], 'word')} and begins “{facts['begins']}”"
    pictures = completion.prompt.pictures
    if pictures:
        picture = pictures[0]
        size = f"{picture.width}×{picture.height} pixels"
        about += f", and its first image is a {picture.format} of {size}, {_name_look(picture)}"
    return f"{_ORIGIN}; {about}."


def _write_page(completion: Completion) -> str:
    prompt = completion.prompt
    facts = _measure(prompt.last_text)
    parts = [
        f"## {_ORIGIN}",
        f"It was written by the local sandbox for `{completion.model.id}`. Your prompt begins:",
        f"> `{facts['begins'] or ' '}`",
        _list_messages(completion),
    ]
    parts += [_write_picture(picture, number) for number, picture in enumerate(prompt.pictures, 1)]
    parts += [f"- video {number}: {_count(video.size_bytes, 'byte')}" for number, video in enumerate(prompt.videos, 1)]
    parts += [
        "### The prompt in figures",
        _write_table(
            [(name, facts[name]) for name in ("words", "lines", "characters", "han_characters") if facts[name]]
        ),
        "The same in Python:",
        _write_code(prompt.last_text),
        _write_formula(prompt.last_text),
    ]
    return "\n\n".join(part for part in parts if part)


def _list_messages(completion: Completion) -> str:
    prompt = completion.prompt
    lines = []
    systems = [message for message in prompt.messages if message["role"] == "system"]
    if systems:
        lines.append(f"- the system message begins `{_quote(prompt.text_of(systems[0]), 8)}`")
    lines.append(
        f"- the request holds **{_count(len(prompt.messages), 'message')}**, **{len(prompt.tokens):,} tokens** in all"
    )
    longest = _measure(prompt.last_text)["longest_word"]
    if longest:
        lines.append(f"- the longest word is `{_quote(longest, 1)}`")
    if completion.tools:
        names = ", ".join(f"`{tool['function']['name']}`" for tool in completion.tools)
        lines.append(f"- the tools {names} were offered, and the prompt names none of them")
    return "\n".join(lines)


def _write_table(rows: list[tuple[str, int]]) -> str:
    return "\n".join(
        ["| what | how many |", "|:--|--:|", *(f"| {name.replace('_', ' ')} | {value:,} |" for name, value in rows)]
    )


def _write_code(text: str) -> str:
    beginning = " ".join(text.split()[:6])[:60].encode("utf-8", "replace").decode().replace("`", "'")
    literal = json.dumps(beginning, ensure_ascii=False)
    return f'```python\nprompt = {literal}  # its beginning\nprint(len(prompt.split()), "words")\n```'


def _write_formula(text: str) -> str:
    words = text.split()
    if not words:
        return ""
    mean = sum(map(len, words)) / len(words)
    return (
        "The mean length of a word $w_i$, of the " + f"$n = {len(words)}$ words there are, is\n\n"
        r"$$\bar{w} = \frac{1}{n} \sum_{i=1}^{n} |w_i| \approx " + f"{mean:.2f}$$"
    )


def _write_picture(picture: Picture, number: int) -> str:
    colours = ", ".join(f"{name} ({share} %)" for name, share in picture.colours) or "not known"
    look = _name_look(picture)
    rows = [
        ("format", picture.format),
        ("size", f"{picture.width} × {picture.height} pixels"),
        ("mode", picture.mode),
        ("mean brightness", f"{picture.brightness:.0f} of 255"),
        ("main colours", colours),
    ]
    table = "\n".join(["| fact | value |", "|:--|:--|", *(f"| {name} | {value} |" for name, value in rows)])
    return f"### Image {number}\n\nIt is {look}.\n\n{table}"


def _name_look(picture: Picture) -> str:
    if picture.is_mostly_white:
        return "mostly white, as a chart or a page is"
    if picture.brightness < 85:
        return "dark"
    return "bright" if picture.brightness > 170 else "of middling brightness"


def _quote_tools(messages: list[Message]) -> str:
    names = {call["id"]: call["function"]["name"] for message in messages for call in message.get("tool_calls") or ()}
    lines = []
    for message in reversed(messages):
        if message["role"] != "tool":
            break
        content = message.get("content")
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        lines.append(f"- `{names[message['tool_call_id']]}` said: `{_quote(text, 60)}`")
    return "\n".join([f"{_ORIGIN}. The tools were:\n", *reversed(lines)])
