"""What `--file` names, and what it says: read here when it is text, else by the host, each content once.

The promise: nothing goes up before all that is named was found and read; a draft uploads nothing and asks nobody; and
text that holds what looks like an API key is refused.
"""

from __future__ import annotations

import mimetypes
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from kimi_magics.client.files import Tell
from kimi_magics.client.http import KimiClient
from kimi_magics.core.media import Document, DocumentFile
from kimi_magics.core.messages import Message
from kimi_magics.errors import (
    CallError,
    FileError,
    InterruptedReplyError,
    NotFoundError,
    PermissionDeniedError,
)
from kimi_magics.notebook.document_files import NamedFile, find_files
from kimi_magics.notebook.document_text import Content, check_text, load_file, read_content
from kimi_magics.notebook.uploads import Uploads

_Value = TypeVar("_Value")

#: Characters of texts that are kept, and what is counted for one that is not here yet.
_KEPT_CHARACTERS, _KEPT_LEAST = 40_000_000, 200


def document_message(document: Document) -> Message:
    """Return the message that tells the model what a file says: the file's name, then its text.

    That it is a system message is Kimi's own advice (platform.kimi.ai/docs/api/files-upload, read 2026-11-23).
    """
    return Message("system", f'Document "{document.label}":\n{document.text}')


class Documents:
    """Finds and reads the files that `--file` names, in one kernel; safe to use from several threads.

    `client` returns the client of the moment; `limit` bounds the characters that are kept for the next run or draft.
    """

    def __init__(self, client: Callable[[], KimiClient], uploads: Uploads, *, limit: int = _KEPT_CHARACTERS) -> None:
        self._client, self._uploads = client, uploads
        #: What was read here, by the state of the file, and what the host read, by the hash of the bytes.
        self._contents: _Shelf[Content | FileError] = _Shelf(limit)
        self._extracted: _Shelf[str] = _Shelf(limit)

    def find(
        self, names: Sequence[str], variables: Mapping[str, Any], *, tell: Tell = lambda event: None
    ) -> tuple[Document, ...]:
        """Return what the files of a run say; what the host has to read is uploaded, where it is not there yet.

        `tell` is told how far it is. Raises FileError before anything goes up; then CallError, and FileError
        for what the host found no text in.
        """
        founds = [(file, self._read(file)) for file in find_files(names, variables)]
        return tuple(self._finish(file, content, tell) for file, content in founds)

    def peek(self, names: Sequence[str], variables: Mapping[str, Any]) -> tuple[tuple[Document, ...], tuple[str, ...]]:
        """Return the same for a draft, as far as it is known here, and the names of what only a run reads.

        Nothing is uploaded and nobody asked. Raises FileError.
        """
        documents: list[Document] = []
        pending: list[str] = []
        for file in find_files(names, variables):
            content = self._read(file)
            text = self._extracted.get(content.digest) if content.text is None else content.text
            if text is None:
                pending.append(file.label)
            else:
                documents.append(Document(text, file.label, content.digest))
        return tuple(documents), tuple(pending)

    def _read(self, file: NamedFile) -> Content:
        """Return what can be told of a file here; it is read again when it has changed."""
        try:
            stat = file.path.stat()
        except (OSError, ValueError) as error:
            raise FileError(
                f"{file.label} cannot be read: {getattr(error, 'strerror', None) or error}",
                remedy="check the name and the rights",
            ) from None
        key = str(file.path), stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size
        content = self._contents.get(key)
        if content is None:
            try:
                content = read_content(file.path, label=file.label)
            except FileError as error:
                content = error  # a draft would read a large file again with each key, only to refuse it again
            self._contents.put(key, content, size=len(content.text or "") if isinstance(content, Content) else 0)
        if isinstance(content, FileError):
            raise FileError(content.message, remedy=content.remedy)
        return content

    # ------------------------------------------------------------ by the host

    def _finish(self, file: NamedFile, content: Content, tell: Tell) -> Document:
        """Return what a file says, read by the host where it cannot be read here."""
        if content.text is not None:
            return Document(content.text, file.label, content.digest)
        text = self._extracted.get(content.digest)
        if text is not None:
            return Document(text, file.label, content.digest)
        client = self._client()
        mime = mimetypes.guess_type(file.path.name)[0] or "application/octet-stream"
        source = DocumentFile(load_file(file.path, label=file.label), mime, file.label)
        text = self._ask(source, client, tell)
        try:
            check_text(text, label=file.label)
        except FileError as error:
            error.remedy += "; the host has the file now, and %kimi_files deletes it there"
            raise
        self._extracted.put(source.digest, text, size=len(text))
        return Document(text, file.label, source.digest)

    def _ask(self, source: DocumentFile, client: KimiClient, tell: Tell) -> str:
        """Return the text that the host reads in a file, which goes up where it is not there."""
        was_known = self._uploads.knows(source)
        file_id = self._uploads.provide(source, client, tell=tell)
        try:
            return _fetch(source, client, file_id)
        except (NotFoundError, PermissionDeniedError):
            if not was_known:
                raise
            # It was there once: deleted elsewhere, or let go by the host.
            self._uploads.lose(file_id)
        return _fetch(source, client, self._uploads.provide(source, client, tell=tell))


def _fetch(source: DocumentFile, client: KimiClient, file_id: str) -> str:
    try:
        return client.files.content(file_id)
    except KeyboardInterrupt:
        raise InterruptedReplyError(
            f"interrupted while the host was reading {source.label}; nothing was asked", remedy="run the cell again"
        ) from None
    except CallError as error:
        error.message = f"the text of {source.label} could not be fetched: {error.message}"
        raise


class _Shelf(Generic[_Value]):
    """Keeps what was used last, within a bound."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._kept: OrderedDict[object, tuple[_Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: object) -> _Value | None:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: object, value: _Value, *, size: int) -> None:
        size += _KEPT_LEAST
        with self._lock:
            _, before = self._kept.pop(key, (None, 0))
            self._kept[key] = value, size
            self._size += size - before
            while self._size > self._limit:
                _, (_, gone) = self._kept.popitem(last=False)
                self._size -= gone
