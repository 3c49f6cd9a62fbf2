"""Uploads: what goes by the id of a file at the host, and bringing it there, each content once.

The promise: no image or video is uploaded but by a call that has passed its checks, and what lies at the host already
is not uploaded again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable
from dataclasses import replace
from typing import TypeVar

from kimi_magics.client.files import Medium, Tell
from kimi_magics.client.http import KimiClient
from kimi_magics.core.events import Event, Uploading, Waiting
from kimi_magics.core.media import DocumentFile, Image, Video
from kimi_magics.core.messages import Message
from kimi_magics.core.prompt import Prompt
from kimi_magics.core.wire import upload_form
from kimi_magics.errors import (
    BadRequestError,
    CallError,
    ContentFilterError,
    InterruptedReplyError,
    NotFoundError,
    PermissionDeniedError,
)
from kimi_magics.notebook.turns import Turns
from kimi_magics.store.uploads import Known, UploadsStore

_Medium = TypeVar("_Medium", Image, Video)
_Find = Callable[[Image | Video], str | None]

#: A larger video is uploaded. In a request it has a third more, and goes up with every run and once to be counted: when
#: that takes more than some ten seconds of an ordinary line (8 Mbit/s), one upload, which lasts, is better. It also
#: leaves most of the 100 MB of a request to the rest.
INLINE_VIDEO_BYTES = 8_000_000
#: Nobody looks at the progress of less.
_SHOWN_BYTES, _SHOW_SECONDS = 1_000_000, 0.1
#: The same content may have been uploaded for several accounts, and some of these files be gone.
_MOST_TRIED = 4


class Uploads:
    """What lies at the host of the moment; one object for a kernel, safe to use from several threads.

    `site` names the host, `account` tells one host and key from another without being either.
    """

    def __init__(
        self, store: UploadsStore | None = None, *, site: Callable[[], str], account: Callable[[], Hashable]
    ) -> None:
        self.store = store or UploadsStore()
        self._site, self._account = site, account
        #: What this kernel knows to be there, by account, purpose and content, and what it found gone, by account and
        #: id.
        self._sure: dict[tuple[Hashable, str, str], str] = {}
        self._gone: set[tuple[Hashable, str]] = set()
        self._turns = Turns()

    # ------------------------------------------------------------ without an upload

    def recall(self, prompt: Prompt) -> Prompt:
        """Return `prompt` with the ids that are known; nothing is asked."""
        return _fill(prompt, self._recall)

    def foresee(self, prompt: Prompt) -> Prompt:
        """Return `prompt` as it would be sent, for a reader: with words in the place of ids that are not known yet."""
        return _fill(prompt, lambda medium: self._recall(medium) or f"… (once {medium.label} is uploaded)")

    def find(self, prompt: Prompt, client: KimiClient) -> Prompt:
        """Return `prompt` with the ids of what lies at the host; each is made sure of once. Raises CallError."""
        return _fill(prompt, lambda medium: self._find(medium, client))

    def missing(self, prompt: Prompt) -> tuple[Video, ...]:
        """Return the videos that are too large to be counted in a request, and not known to be at the host."""
        return tuple(
            video
            for message in self.recall(prompt).messages
            for video in message.videos
            if not video.file_id and len(video.data) > INLINE_VIDEO_BYTES
        )

    def _recall(self, medium: Medium) -> str | None:
        account, purpose = self._account(), _name_purpose(medium)
        if sure := self._sure.get((account, purpose, medium.digest)):
            return sure
        ids = self.store.find(self._site(), medium.digest, purpose=purpose)
        return next((one for one in ids if (account, one) not in self._gone), None)

    def _find(self, medium: Medium, client: KimiClient) -> str | None:
        account, purpose = self._account(), _name_purpose(medium)
        if sure := self._sure.get((account, purpose, medium.digest)):
            return sure
        for file_id in self.store.find(client.site, medium.digest, purpose=purpose)[:_MOST_TRIED]:
            if (account, file_id) in self._gone:
                continue
            try:
                client.files.get(file_id)
            except (NotFoundError, PermissionDeniedError):
                self._gone.add((account, file_id))
                continue
            self._sure[account, purpose, medium.digest] = file_id
            return file_id
        return None

    # ------------------------------------------------------------ uploading

    def attach(self, prompt: Prompt, client: KimiClient, *, tell: Tell) -> Prompt:
        """Return `prompt` with the ids of all that goes by one, uploading what is not at the host.

        `tell` is told how far it is. Raises CallError, also for an interrupt; nothing was asked then.
        """
        # What stays in the request may be too much by itself: known before anything is uploaded.
        client.check_size(_fill(prompt, lambda medium: medium.digest))
        return _fill(prompt, lambda medium: self.provide(medium, client, tell=tell))

    def doubt(self, prompt: Prompt) -> None:
        """Make sure of the files of `prompt` again before they are used: the host refused a request with them."""
        for message in prompt.messages:
            for medium in message.media:
                self._sure.pop((self._account(), _name_purpose(medium), medium.digest), None)

    def forget(self, site: str, file_id: str) -> None:
        """Forget a file that was deleted."""
        self.lose(file_id)
        self.store.remove(site, file_id)

    def knows(self, medium: Medium) -> bool:
        """Tell whether a medium is known to be at the host, or to have been; nothing is asked."""
        return self._recall(medium) is not None

    def lose(self, file_id: str) -> None:
        """Note that the host has no such file for the account of the moment; another account's it may be."""
        self._gone.add((self._account(), file_id))
        for key in [key for key, known in list(self._sure.items()) if known == file_id]:
            self._sure.pop(key, None)

    def provide(self, medium: Medium, client: KimiClient, *, tell: Tell) -> str:
        """Return the id of one medium, uploading it where it is not at the host. Raises as `attach` does."""
        key = self._account(), _name_purpose(medium), medium.digest
        with self._turns.take(key):
            found = self._find(medium, client)
            if found is None:
                found = self._sure[key] = self._upload(medium, client, tell)
        return found

    def _upload(self, medium: Medium, client: KimiClient, tell: Tell) -> str:
        try:
            upload = client.files.upload(medium, tell=_Pulse(tell))
        except KeyboardInterrupt:
            raise InterruptedReplyError(
                f"interrupted while {medium.label} was being uploaded; nothing was asked", remedy="run the cell again"
            ) from None
        except CallError as error:
            error.message = f"{medium.label} could not be uploaded: {error.message}"
            if isinstance(medium, DocumentFile):
                error.remedy = _advise_on_document(error) or error.remedy
            raise
        size, now = len(medium.data), int(time.time())
        self.store.add(Known(client.site, upload.id, medium.digest, _name_purpose(medium), size, now))
        return upload.id


class Sender:
    """Uploads what must be at the host, then sends the request; see `core.ports.Transport`.

    `check` may refuse the request once its media can be counted, and returns what is sent.
    """

    def __init__(
        self,
        client: KimiClient,
        uploads: Uploads,
        *,
        tell: Tell,
        check: Callable[[Prompt], Prompt] = lambda prompt: prompt,
    ) -> None:
        self._client, self._uploads, self._tell, self._check = client, uploads, tell, check

    def send(self, prompt: Prompt) -> Generator[Event, None, None]:
        """Yield the events of the call. Raises CallError, and what `check` raises."""
        sent = self._check(self._uploads.attach(prompt, self._client, tell=self._tell))
        try:
            yield from self._client.send(sent)
        except (BadRequestError, NotFoundError):
            self._uploads.doubt(sent)
            raise


class _Pulse:
    """Passes on how far an upload is, some ten times a second, and nothing of a small one."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._told_at = time.monotonic()

    def __call__(self, event: Uploading | Waiting) -> None:
        if isinstance(event, Uploading):
            now, is_done = time.monotonic(), event.sent_bytes >= event.total_bytes
            if event.total_bytes < _SHOWN_BYTES or (now - self._told_at < _SHOW_SECONDS and not is_done):
                return
            self._told_at = now
        self._tell(event)


def _advise_on_document(error: CallError) -> str:
    """Return what to do about a document that the host does not take, or nothing."""
    if isinstance(error, NotFoundError):
        return "name a file of text, which is read here; for other files check MOONSHOT_BASE_URL (it ends in /v1)"
    if isinstance(error, BadRequestError) and not isinstance(error, ContentFilterError):
        return "export what it cannot read as PDF or text; %kimi_files deletes what is too much"
    return ""


def _name_purpose(medium: Medium) -> str:
    """Return what the host keeps a medium for."""
    return upload_form(medium)["purpose"]


# ---------------------------------------------------------------- prompts


def has_media(prompt: Prompt) -> bool:
    """Tell whether images or videos go with `prompt`."""
    return any(message.media for message in prompt.messages)


def goes_up(medium: Image | Video, prompt: Prompt) -> bool:
    """Tell whether a medium goes by the id of an upload: all with `--upload`, else large videos only."""
    return prompt.uploads or (isinstance(medium, Video) and len(medium.data) > INLINE_VIDEO_BYTES)


def _fill(prompt: Prompt, find: _Find) -> Prompt:
    """Return `prompt` with what `find` returns as the ids of the media that go by one and have none."""

    def fill(media: tuple[_Medium, ...]) -> tuple[_Medium, ...]:
        return tuple(
            replace(medium, file_id=find(medium)) if goes_up(medium, prompt) and not medium.file_id else medium
            for medium in media
        )

    def fill_message(message: Message) -> Message:
        if not message.media:
            return message
        return replace(message, images=fill(message.images), videos=fill(message.videos))

    if not has_media(prompt):
        return prompt
    return replace(prompt, messages=tuple(fill_message(message) for message in prompt.messages))
