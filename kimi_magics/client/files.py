"""The files of an account at the host: uploaded piece by piece, read, listed, deleted.

The promise: the bytes are not copied to be sent, and an upload that may have arrived is never sent twice.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePath
from typing import Any, Protocol, TypeVar

import httpx

from kimi_magics.client.faults import translate_fault
from kimi_magics.client.hosts import Situation
from kimi_magics.client.retry import RetryPolicy
from kimi_magics.client.translate import translate_response, translate_wire
from kimi_magics.core.events import Uploading, Waiting
from kimi_magics.core.media import DocumentFile, Image, Upload, Video
from kimi_magics.core.wire import UPLOAD_FIELD, WireError, is_file_id, read_content, read_file, read_files, upload_form
from kimi_magics.errors import CallError, MagicLineError, TooManyRequestsError

_Result = TypeVar("_Result")
Tell = Callable[[Uploading | Waiting], None]
#: What can lie at the host as a file.
Medium = Image | Video | DocumentFile

#: Nothing had been sent when one of these came.
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Ask(Protocol):
    """One question to the host, as `KimiClient` asks it."""

    def __call__(self, method: str, path: str, read: Callable[[bytes], Any], *, file_id: str = "") -> Any:
        """Return what `read` makes of the answer. Raises CallError."""


class Files:
    """The files of one account; part of a KimiClient, whose connections it uses."""

    def __init__(
        self,
        http: httpx.Client,
        situation: Situation,
        *,
        ask: Ask,
        sleep: Callable[[float], None],
        jitter: Callable[[], float],
    ) -> None:
        self._http, self._situation, self._ask = http, situation, ask
        self._sleep, self._jitter = sleep, jitter
        self._retry = RetryPolicy()

    def upload(self, medium: Medium, *, tell: Tell = lambda event: None) -> Upload:
        """Upload an image, a video or a document; `tell` is told how far it is, and of every wait before another try.

        What `tell` raises ends the upload. Raises CallError.
        """
        for attempt in range(1, self._retry.tries + 1):
            try:
                return self._upload_once(medium, tell)
            except TooManyRequestsError as failure:
                error: CallError = failure
            except _UNSENT as fault:
                error = translate_fault(fault, self._situation, has_begun=False)
            except httpx.HTTPError as fault:
                error = translate_fault(fault, self._situation, has_begun=False)
                # It may have arrived all the same: another try could leave a second file at the host.
                raise error from None
            wait = self._retry.wait_before_next(error, attempt, has_begun=False, jitter=self._jitter())
            if wait is None:
                if attempt > 1:
                    error.message += f", after {attempt} tries"
                raise error from None
            self._count_down(Waiting(wait, attempt, error.message), tell)
        raise AssertionError("the last try either returns or raises")

    def all(self) -> list[Upload]:
        """Return the files that lie at the host. Raises CallError."""
        found: list[Upload] = self._ask("GET", "files", read_files)
        return found

    def get(self, file_id: str) -> Upload:
        """Return one file. Raises NotFoundError when it is gone or of another account, else CallError."""
        _check_id(file_id)
        found: Upload = self._ask("GET", f"files/{file_id}", read_file, file_id=file_id)
        return found

    def content(self, file_id: str) -> str:
        """Return the text that the host extracted from a document. Raises as `get` does."""
        _check_id(file_id)
        text: str = self._ask("GET", f"files/{file_id}/content", read_content, file_id=file_id)
        return text

    def delete(self, file_id: str) -> None:
        """Delete one file. Raises as `get` does."""
        _check_id(file_id)
        self._ask("DELETE", f"files/{file_id}", lambda _body: None, file_id=file_id)

    def _upload_once(self, medium: Medium, tell: Tell) -> Upload:
        content, situation = _Watched(medium, tell), replace(self._situation, medium=medium, service="keep files")
        response = self._http.post(
            "files", data=upload_form(medium), files={UPLOAD_FIELD: (name_file(medium), content, medium.mime)}
        )
        if not response.is_success:
            raise translate_response(response.status_code, response.headers, response.content, situation)
        try:
            return read_file(response.content)
        except WireError as error:
            raise translate_wire(error, situation, has_begun=False) from None

    def _count_down(self, wait: Waiting, tell: Tell) -> None:
        left = wait.seconds
        while left > 0:
            tell(Waiting(left, wait.attempt, wait.reason))
            self._sleep(min(1.0, left))
            left -= 1.0


class _Watched(io.BytesIO):
    """The bytes of a medium, which are shared and not copied; tells how many were taken to be sent."""

    def __init__(self, medium: Medium, tell: Tell) -> None:
        super().__init__(medium.data)
        self._medium, self._report = medium, tell

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next piece."""
        piece = super().read(size)
        if piece:
            self._report(Uploading(self._medium.label, self.tell(), len(self._medium.data)))
        return piece


def name_file(medium: Medium) -> str:
    """Return the name that a medium has at the host: the last part of what the user called it, with a suffix."""
    if isinstance(medium, DocumentFile):
        # The suffix tells the host how to read it.
        path = PurePath(medium.label)
        return (_clean_name(path.stem) or "document") + re.sub(r"[^\w.\-]+", "", path.suffix)[:20]
    stem = _clean_name(PurePath(medium.label).name.partition("?")[0])
    suffix = _SUFFIXES.get(medium.mime, "")
    kind = "image" if isinstance(medium, Image) else "video"
    name = stem or kind
    return name if name.lower().endswith(suffix) else name + suffix


def _clean_name(name: str) -> str:
    return re.sub(r"[^\w.\- ]+", "_", name).strip(" ._")[:60]


_SUFFIXES = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "video/mp4": ".mp4",
    "video/mov": ".mov",
    "video/avi": ".avi",
    "video/x-flv": ".flv",
    "video/mpeg": ".mpg",
    "video/webm": ".webm",
    "video/wmv": ".wmv",
    "video/3gpp": ".3gp",
}


def _check_id(file_id: str) -> None:
    if not is_file_id(file_id):
        raise MagicLineError(f"{file_id[:40]!r} is not the id of a file", remedy="%kimi_files lists the ids")
