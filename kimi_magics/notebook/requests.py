"""The whole request of a cell: what it says itself, the conversation before it, its tools, the form of its answer.

Runs and drafts take this one way, so that what is counted is what is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from kimi_magics.core.ask import Ask
from kimi_magics.core.conversation import Turn, drop_oldest
from kimi_magics.core.media import NO_MEDIA, Media
from kimi_magics.core.messages import Message
from kimi_magics.core.prompt import Additions, Prompt, fill_system
from kimi_magics.core.reply import Reply
from kimi_magics.core.tools import WEB_SEARCH
from kimi_magics.errors import MagicLineError
from kimi_magics.notebook.replaying import NO_RECALL, Recall, choose_recall
from kimi_magics.notebook.spending import ASK, Allowance
from kimi_magics.notebook.templates import apply_template
from kimi_magics.notebook.values import write_value
from kimi_magics.store.templates import Templates

if TYPE_CHECKING:
    from kimi_magics.core.ports import Follow
    from kimi_magics.notebook.chats import Chats, Place
    from kimi_magics.notebook.context import Context
    from kimi_magics.notebook.session import Session
    from kimi_magics.notebook.structures import Structure
    from kimi_magics.notebook.toolbox import Toolbox

#: The local count may be a little low: a history that is cut must not be cut again by the host.
_ROOM = 1.05


#: A `run` is sent; a `look` is the same for a reader, as with --dry-run; a `draft` changes nothing, waits for nothing.
Use = Literal["run", "look", "draft"]


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, and what is to be done with its answer."""

    prompt: Prompt
    media: Media = NO_MEDIA
    follow: Follow | None = None
    #: Where the answer belongs in its conversation; None when the cell stands alone.
    place: Place | None = None
    #: The system prompt that later turns go on with.
    system: str | None = None
    #: What the cell itself says: its files and cells, then its text.
    asked: tuple[Message, ...] = ()
    #: How many of the oldest turns had to be left out.
    dropped: int = 0
    #: Whether code of the answer goes into a new cell.
    makes_cell: bool = False
    #: What the user allows for this once.
    allow: Allowance = ASK
    #: Whether its answer may be one that is kept.
    recall: Recall = NO_RECALL

    def describe_dropped(self) -> str:
        """Return what to tell of turns that were left out; empty when there are none."""
        if not self.dropped or self.place is None:
            return ""
        turns = "the oldest turn" if self.dropped == 1 else f"the {self.dropped} oldest turns"
        was = "was" if self.dropped == 1 else "were"
        return f"{turns} of {self.place.name} {was} left out, to fit the context; %kimi_chat {self.place.name} --trim"

    def record(self, reply: Reply) -> None:
        """Put the answer into its conversation; one that is not whole leaves no turn."""
        if self.place is None:
            return
        said = reply.step_message
        if reply.is_partial or said is None:
            self.place.record_failure()
            return
        usage = reply.whole_usage
        self.place.record(
            (*self.asked, *reply.earlier_messages, said),
            system=self.system,
            model=reply.model,
            prompt_tokens=usage.prompt_tokens if usage.total_tokens else None,
            completion_tokens=usage.completion_tokens if usage.total_tokens else None,
            estimated=usage.estimated,
        )

    def record_failure(self) -> None:
        """Note that the cell left no answer."""
        if self.place is not None:
            self.place.record_failure()


class RequestBuilder:
    """Builds the requests of one kernel; `find_media` and `peek_media` turn what flags name into what is sent.

    `context` finds what `--file` and `--cell` name.
    """

    def __init__(
        self,
        session: Session,
        chats: Chats,
        *,
        find_media: Callable[[Ask, Mapping[str, Any]], Media],
        peek_media: Callable[[Ask, Mapping[str, Any]], Media],
        context: Context | None = None,
    ) -> None:
        self._session, self._chats = session, chats
        self._templates = Templates(session.config)
        self._context = context
        self._find_media, self.peek_media = find_media, peek_media

    def build(self, ask: Ask, *, variables: Mapping[str, Any], cell: str | None, use: Use = "run") -> Request:
        """Return the request of `ask` in the cell of this id.

        Raises RefusedError of the kind that fits; nothing has been sent then.
        """
        _check_flags(ask)
        ask, variables = apply_template(ask, self._templates, variables)
        media = (self.peek_media if use == "draft" else self._find_media)(ask, variables)
        structure = _find_structure(ask, variables, is_checked=use != "draft")
        toolbox = _find_toolbox(ask, variables)
        place = self._chats.place(ask.chat, cell=cell, is_draft=use != "run") if ask.chat else None
        tools = toolbox.tools if toolbox else ()
        additions = Additions(
            tools=(*tools, WEB_SEARCH) if ask.web else tools,
            format=_find_format(ask, structure),
            cache_key=place.cache_key if place else "",
            system=place.system if place else None,
        )

        def complete(turns: tuple[Turn, ...], context: tuple[Message, ...]) -> Prompt:
            history = tuple(message for turn in turns for message in turn.messages)
            whole = replace(additions, history=history, context=context)
            return self._session.build(ask, variables=variables, media=media, additions=whole)

        if use == "run" and ask.file:
            # What can be refused is refused before a file goes up.
            complete((), ())
        context, pending = self._find_context(ask, variables, cell, use)
        turns = place.turns if place else ()
        prompt, dropped = self._fit(lambda some: complete(some, context), turns)
        whole = tuple(message for message in prompt.messages if not message.is_partial)
        return Request(
            prompt,
            media._replace(pending=media.pending + pending),
            follow=None if use != "run" else _find_follow(ask, toolbox, structure),
            place=place,
            system=self._find_system(ask, variables, place),
            asked=whole[-len(context) - 1 :],
            dropped=dropped,
            makes_cell=ask.code,
            allow=Allowance(is_over_allowed=ask.over_budget),
            recall=choose_recall(ask, self._session.config.get("cache")),
        )

    def _find_system(self, ask: Ask, variables: Mapping[str, Any], place: Place | None) -> str | None:
        """Return the system prompt that the conversation goes on with."""
        if place is None:
            return None
        defaults = self._session.defaults()
        return fill_system(ask, defaults=defaults, variables=variables, inherited=place.system, write=write_value)

    def _find_context(
        self, ask: Ask, variables: Mapping[str, Any], cell: str | None, use: Use
    ) -> tuple[tuple[Message, ...], tuple[str, ...]]:
        """Return what goes right before the text, and the names of what only a run reads."""
        if self._context is None or not (ask.file or ask.cell):
            return (), ()
        if use == "run":
            return self._context.find(ask, variables, cell=cell), ()
        return self._context.peek(ask, variables, cell=cell, is_draft=use == "draft")

    def _fit(self, complete: Callable[[tuple[Turn, ...]], Prompt], turns: tuple[Turn, ...]) -> tuple[Prompt, int]:
        """Return the prompt with as much of the conversation as the context holds, and how many turns it lacks."""
        prompt = complete(turns)
        context = prompt.model.context_tokens
        if context is None or not turns:
            return prompt, 0

        def fits(candidate: Prompt) -> bool:
            return self._session.counting.count_here(candidate) * _ROOM + (candidate.max_tokens or 0) <= context

        if fits(prompt):
            return prompt, 0
        kept, dropped = drop_oldest(turns, lambda some: fits(complete(some)))
        return complete(kept), len(dropped)


def _check_flags(ask: Ask) -> None:
    """Refuse flags that do not go together. Raises MagicLineError."""
    if ask.json and ask.schema is not None:
        raise MagicLineError(
            "--json and --schema exclude each other", remedy="--schema asks for JSON already: leave --json out"
        )
    if ask.retries and not ask.json and ask.schema is None:
        raise MagicLineError("--retries is for --json and --schema", remedy="add one of them, or leave --retries out")
    if ask.code and (ask.json or ask.schema is not None):
        flag = "--json" if ask.json else "--schema"
        raise MagicLineError(f"--code does not go with {flag}: the answer is JSON", remedy="leave one of them out")
    has_tools = bool(ask.tool) or ask.web
    for flag, is_given in (("--ask", ask.ask), ("--max-steps", ask.max_steps is not None)):
        if is_given and not has_tools:
            raise MagicLineError(f"{flag} is for tools", remedy=f"add --tool NAME or --web, or leave {flag} out")


def _find_structure(ask: Ask, variables: Mapping[str, Any], *, is_checked: bool) -> Structure | None:
    if ask.schema is None:
        return None
    from kimi_magics.notebook.structures import find_structure

    return find_structure(ask.schema, variables, is_checked=is_checked)


def _find_format(ask: Ask, structure: Structure | None) -> Any:
    from kimi_magics.core.formats import Format

    return structure.format if structure is not None else Format() if ask.json else None


def _find_toolbox(ask: Ask, variables: Mapping[str, Any]) -> Toolbox | None:
    if not ask.tool and not ask.web:
        return None
    from kimi_magics.notebook.functions import find_function
    from kimi_magics.notebook.toolbox import Toolbox, ask_user

    functions = [find_function(name, variables) for name in ask.tool]
    return Toolbox(functions, confirm=ask_user if ask.ask else None)


def _find_follow(ask: Ask, toolbox: Toolbox | None, structure: Structure | None) -> Follow | None:
    wants_json = ask.json or structure is not None
    if toolbox is None and not wants_json:
        return None
    from kimi_magics.notebook.checker import Checker, prepare
    from kimi_magics.notebook.follow import MAX_STEPS, Follower

    checker: Checker | None = Checker(structure) if wants_json else None
    prepare(structure)
    return Follower(toolbox=toolbox, checker=checker, retries=ask.retries, max_steps=ask.max_steps or MAX_STEPS)
