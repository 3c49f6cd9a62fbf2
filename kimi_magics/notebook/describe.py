"""`%kimi_describe`: pictures described for a reader, or given an alt text that stays with them.

An alt text is kept by the hash of the picture: the same picture is not sent twice for it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kimi_magics.core.ask import Ask
from kimi_magics.core.describing import ALT_TEMPLATE, DESCRIBE_TEMPLATE, Length, clean_alt, figure_html, fill_template
from kimi_magics.core.events import Completed, Event, Finished, TextDelta, Waiting
from kimi_magics.core.interpolate import interpolate
from kimi_magics.core.media import Image, Media
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.reply import Reply
from kimi_magics.errors import KimiError, MagicLineError, ReplyBrokenError
from kimi_magics.notebook.bundles import Bundle, Outlet, describe_wait, display_bundle, footer_bundle, small_bundle
from kimi_magics.notebook.prepare import prepare_image
from kimi_magics.notebook.values import write_value
from kimi_magics.store.alts import AltText

if TYPE_CHECKING:
    from kimi_magics.core.ports import View
    from kimi_magics.notebook.lookup import Picture
    from kimi_magics.notebook.session import Session


class Call(Protocol):
    """Sends a prompt and shows it by a view."""

    def __call__(self, prompt: Prompt, *, out: str | None, view: View) -> None:
        """Send, show and bind. Raises KimiError."""


class Steps(NamedTuple):
    """What the magics lend: finding pictures, showing a request, sending it, binding a reply."""

    find_pictures: Callable[[str, Mapping[str, Any]], list[Picture]]
    show_body: Callable[[Prompt], None]
    call: Call
    bind: Callable[[Reply, str | None], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a `%kimi_describe` line asks for; the ask is complete but for the media."""

    ask: Ask
    language: str
    is_alt: bool


def read_wish(ask: Ask, names: Sequence[str], *, session: Session, variables: Mapping[str, Any]) -> Wish:
    """Return what is to be described, and the prompt for it. Raises MagicLineError, ConfigError, VariableError."""
    flags = ask.extra
    given = [f"--{name}" for name in ("short", "long", "alt") if flags[name]]
    if len(given) > 1:
        raise MagicLineError(
            f"%kimi_describe: {' and '.join(given)} exclude each other",
            remedy="--short and --long are for descriptions; an alt text is always short",
        )
    if flags["alt"] and ask.video:
        raise MagicLineError(
            "%kimi_describe: --alt is for pictures, not for videos", remedy="describe it without --alt"
        )
    if flags["alt"]:
        _check_alt(ask)
    language = read_language(session.config.get("language") if flags["lang"] is None else flags["lang"])
    length: Length = "short" if flags["short"] else "long" if flags["long"] else "alt" if flags["alt"] else "normal"
    images = (*ask.image, *names) or (() if ask.video else ("last",))
    system = ask.system if ask.system is not None else session.config.get("system")
    if system is not None and not ask.raw:
        system = interpolate(system, variables, write=write_value)
    name, own = ("alt_template", ALT_TEMPLATE) if flags["alt"] else ("describe_template", DESCRIBE_TEMPLATE)
    text = fill_template(session.config.get(name) or own, language=language, length=length)
    # What is filled in is ours: every other brace of the template is text.
    return Wish(replace(ask, text=text, image=images, system=system, raw=True), language, bool(flags["alt"]))


def _check_alt(ask: Ask) -> None:
    """Refuse flags that have no part in an alt text, which is asked for picture by picture. Raises MagicLineError."""
    names = ("chat", "prefill", "json", "schema", "tool", "web", "file", "cell", "template", "code")
    given = next((name for name in names if getattr(ask, name)), None)
    if given is not None:
        raise MagicLineError(
            f"%kimi_describe: --{given} does not go with --alt, which asks for one picture at a time",
            remedy=f"leave --{given} out, or describe without --alt",
        )


def read_language(text: str) -> str:
    """Return the name of a language on one line. Raises MagicLineError."""
    language = " ".join(text.split())
    if not language or len(language) > 60 or not language.isprintable():
        raise MagicLineError(f"{text[:40]!r} is not the name of a language", remedy="as in --lang German")
    return language


def build_alt_prompt(session: Session, image: Image, *, language: str, ask: Ask | None = None) -> Prompt:
    """Return the request for the alt text of one picture.

    One or two sentences need no reasoning: it is off where the model lets us and nobody asked for it.
    """
    text = fill_template(session.config.get("alt_template") or ALT_TEMPLATE, language=language, length="alt")
    asked = replace(ask or Ask(), text=text, image=(), raw=True)
    prompt = session.build(asked, variables={}, media=Media(images=(image,)))
    is_open = prompt.thinking is None and prompt.model.thinking == "switch"
    return replace(prompt, thinking="off") if is_open else prompt


def read_alt(reply: Reply) -> str:
    """Return the alt text that a reply holds; empty when it is not whole or holds none."""
    return clean_alt(reply.text) if not reply.is_partial and reply.finish_reason == "stop" else ""


def keep_alt(session: Session, digest: str, language: str, reply: Reply) -> str:
    """Return the alt text of a reply, and keep it for the picture with this hash. Raises ReplyBrokenError."""
    alt = read_alt(reply)
    if not alt:
        is_cut = reply.finish_reason == "length"
        remedy = "raise --max-tokens, which includes the reasoning" if is_cut else "ask again, or choose another model"
        reason = "it was cut at the token limit" if is_cut else "the answer holds no text"
        raise ReplyBrokenError(f"there is no alt text: {reason}", remedy=remedy, request_id=reply.request_id)
    session.alts.put(digest, language, AltText(alt, reply.model, date.today().isoformat()))
    return alt


class AltWriter:
    """Gives pictures their alt text, one after the other, for `%kimi_describe --alt`."""

    def __init__(self, session: Session, steps: Steps, *, is_live: bool) -> None:
        self._session = session
        self._steps = steps
        self._is_live = is_live

    def write(self, wish: Wish, variables: Mapping[str, Any]) -> None:
        """Show every picture again, with its alt text. Raises KimiError."""
        pictures = [picture for name in wish.ask.image for picture in self._steps.find_pictures(name, variables)]
        prompts = [self._build(picture, wish) for picture in pictures]  # what cannot be sent stops before the first
        for picture, prompt in zip(pictures, prompts, strict=True):
            if wish.ask.dry_run:
                self._steps.show_body(prompt)
            else:
                self._write_one(picture, prompt, wish)

    def _build(self, picture: Picture, wish: Wish) -> Prompt:
        image = prepare_image(picture.data, label=picture.label, size=wish.ask.image_size or "high")
        return build_alt_prompt(self._session, image, language=wish.language, ask=wish.ask)

    def _write_one(self, picture: Picture, prompt: Prompt, wish: Wish) -> None:
        digest = hashlib.sha256(picture.data).hexdigest()
        known = None if wish.ask.fresh else self._session.alts.get(digest, wish.language)
        if known is not None:
            self._show_known(picture, known, out=wish.ask.out)
            return
        view = AltView(picture, has_footer=self._session.config.get("footer") == "on", is_live=self._is_live)
        self._steps.call(prompt, out=wish.ask.out, view=view)
        if view.reply is not None:
            keep_alt(self._session, digest, wish.language, view.reply)

    def _show_known(self, picture: Picture, known: AltText, *, out: str | None) -> None:
        alt = clean_alt(known.text)
        bundle, metadata = alt_bundle(picture, alt)
        display_bundle(bundle, metadata=metadata)
        if self._session.config.get("footer") == "on":
            display_bundle(
                small_bundle(f"alt text of {known.date} by {known.model}, nothing was sent · --fresh asks again")
            )
        reply = Reply(known.model, currency=self._session.currency)
        for event in (TextDelta(known.text), Finished("stop"), Completed()):
            reply.add(event)
        self._steps.bind(reply, out)


def alt_bundle(picture: Picture, alt: str) -> tuple[Bundle, dict[str, Any]]:
    """Return a picture with its alt text as the bundle and the metadata of one output."""
    encoded = base64.b64encode(picture.data).decode("ascii")
    page = figure_html(encoded, picture.mime, alt=alt)
    bundle: Bundle = {"text/html": page, picture.mime: encoded, "text/plain": alt}
    return bundle, {picture.mime: {"alt": alt}}


class AltView:
    """Shows the picture with its alt text when there is one, and the footer; see `core.ports.View`."""

    def __init__(self, picture: Picture, *, has_footer: bool, is_live: bool) -> None:
        self.has_footer = has_footer
        #: The reply when its call is done and whole.
        self.reply: Reply | None = None
        self._picture = picture
        self._outlet = Outlet(is_live=is_live)

    def begin(self, reply: Reply) -> None:
        """Say what is waited for, where somebody looks on."""
        self._tell(f"writing the alt text of {self._picture.label} …")

    def show(self, reply: Reply, event: Event) -> None:
        """Tell of a wait; the text itself is not shown."""
        if isinstance(event, Waiting):
            self._tell(describe_wait(event))

    def end(self, reply: Reply, error: KimiError | None) -> None:
        """Put the picture in place, then the footer."""
        alt = read_alt(reply) if error is None else ""
        if error is None:
            self.reply = reply
        if alt:
            bundle, metadata = alt_bundle(self._picture, alt)
            metadata["kimi_magics"] = reply.receipt()
            self._outlet.put(bundle, metadata=metadata)
        elif self._outlet.is_shown:
            self._outlet.put(small_bundle("no alt text was written"))
        footer = footer_bundle(reply, error, has_footer=self.has_footer)
        if footer:
            display_bundle(footer)

    def _tell(self, text: str) -> None:
        if self._outlet.is_live:
            self._outlet.put(small_bundle(text))
