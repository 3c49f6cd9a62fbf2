"""%kimi_files: what lies at the host, and deleting it, never more than was meant."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kimi_magics.errors import AuthenticationError, MagicLineError, MissingKeyError, NotFoundError, ServerFaultError
from kimi_magics.notebook.documents import Documents
from kimi_magics.notebook.session import Session
from kimi_magics.sandbox import Fault, Sandbox
from kimi_magics.sandbox.files import StoredFile

CLIP = b"\x00\x00\x00\x20ftypisom" + os.urandom(3000)


@pytest.fixture(autouse=True)
def host(sandbox: Sandbox) -> Iterator[Sandbox]:
    """The shared server without files."""
    sandbox.files.clear()
    yield sandbox
    sandbox.files.clear()


@pytest.fixture
def foreign(sandbox: Sandbox) -> StoredFile:
    """A file that somebody else uploaded."""
    return sandbox.files.add("paper|$1.pdf", "file-extract", b"%PDF")


@pytest.fixture
def ours(cells: Any, sandbox: Sandbox, foreign: StoredFile) -> StoredFile:
    """A file that a cell uploaded."""
    cells.shell.user_ns["clip"] = CLIP
    assert cells.run("%kimi --video clip --upload What is this?").error is None
    sandbox.clear()
    return sandbox.files.list()[-1]


@pytest.fixture
def document(cells: Any, sandbox: Sandbox, tmp_path: Path) -> StoredFile:
    """A file that `--file` brought to the host."""
    path = tmp_path / "report.pdf"
    path.write_bytes(b"%PDF-1.4 (Kimi) Tj")
    read_document(path)
    sandbox.clear()
    return sandbox.files.list()[-1]


def read_document(path: Path) -> str:
    """Return what a document says, as a kernel that has not read it yet finds it."""
    session = Session()
    [found] = Documents(lambda: session.client, session.uploads).find([str(path)], {})
    session.close()
    return found.text


def test_without_files_it_says_so(cells: Any) -> None:
    assert cells.run("%kimi_files").stdout == "no files at 127.0.0.1\n"
    assert json.loads(cells.run("%kimi_files --json").stdout) == []


def test_files_are_listed_with_size_date_and_what_is_ours(cells: Any, ours: StoredFile, foreign: StoredFile) -> None:
    [bundle] = cells.run("%kimi_files").bundles
    text = bundle["text/plain"]
    moment = f"{datetime.fromtimestamp(ours.created, UTC).astimezone():%Y-%m-%d %H:%M}"
    [line] = [line for line in text.splitlines() if line.startswith(ours.id)]
    assert line.split() == [ours.id, "clip.mp4", "video", "3.0", "kB", *moment.split()]
    assert foreign.id in text
    assert "1 of 2 went up from here" in text
    assert "paper\\|\\$1.pdf" in bundle["text/markdown"]


def test_json_has_the_same(cells: Any, ours: StoredFile, foreign: StoredFile) -> None:
    rows = json.loads(cells.run("%kimi_files --json").stdout)
    assert rows == [
        {
            "id": file.id,
            "name": name,
            "purpose": purpose,
            "size_bytes": len(file.data),
            "uploaded": datetime.fromtimestamp(file.created, UTC).isoformat(),
            "from_here": is_ours,
        }
        for file, name, purpose, is_ours in [
            (foreign, "paper|$1.pdf", "file-extract", False),
            (ours, "clip.mp4", "video", True),
        ]
    ]


def test_named_files_are_deleted(cells: Any, ours: StoredFile, foreign: StoredFile, sandbox: Sandbox) -> None:
    ran = cells.run(f"%kimi_files --delete ms://{ours.id} --delete {foreign.id} --delete {foreign.id}")
    assert ran.error is None
    assert ran.stdout == f"deleted {ours.id}\ndeleted {foreign.id}\n"
    assert sandbox.files.list() == []


def test_what_was_deleted_goes_up_again_when_it_is_needed(cells: Any, ours: StoredFile, sandbox: Sandbox) -> None:
    cells.run(f"%kimi_files --delete {ours.id}")
    assert cells.run("%kimi --video clip --upload What is this?").error is None
    assert [file.data for file in sandbox.files.list()][1:] == [CLIP]


def test_all_means_all_that_went_up_from_here(
    cells: Any, ours: StoredFile, foreign: StoredFile, sandbox: Sandbox
) -> None:
    assert cells.run("%kimi_files --delete-all").stdout == f"deleted {ours.id}\n"
    assert sandbox.files.list() == [foreign]
    assert cells.run("%kimi_files --delete-all").stdout == "nothing was deleted\n"
    assert json.loads(cells.run("%kimi_files --delete-all --json").stdout) == {"deleted": []}


def test_a_document_is_listed_and_deleted_like_the_others(
    cells: Any, foreign: StoredFile, document: StoredFile, sandbox: Sandbox
) -> None:
    rows = json.loads(cells.run("%kimi_files --json").stdout)
    assert [(row["id"], row["name"], row["purpose"], row["from_here"]) for row in rows] == [
        (foreign.id, "paper|$1.pdf", "file-extract", False),
        (document.id, "report.pdf", "file-extract", True),
    ]
    assert cells.run("%kimi_files --delete-all").stdout == f"deleted {document.id}\n"
    assert sandbox.files.list() == [foreign]


def test_a_deleted_document_goes_up_again_when_it_is_needed(
    cells: Any, document: StoredFile, sandbox: Sandbox, tmp_path: Path
) -> None:
    cells.run(f"%kimi_files --delete {document.id}")
    assert read_document(tmp_path / "report.pdf") == "Kimi"
    [file] = sandbox.files.list()
    assert file.data == document.data


def test_all_passes_over_what_is_gone(cells: Any, ours: StoredFile, sandbox: Sandbox) -> None:
    sandbox.files.clear()
    ran = cells.run("%kimi_files --delete-all")
    assert (ran.error, ran.stdout) == (None, "nothing was deleted\n")


def test_what_is_gone_before_an_error_is_told(cells: Any, ours: StoredFile) -> None:
    ran = cells.run(f"%kimi_files --delete {ours.id} --delete never --delete-all")
    assert isinstance(ran.error, MagicLineError)
    ran = cells.run(f"%kimi_files --delete {ours.id} --delete never")
    assert isinstance(ran.error, NotFoundError)
    assert ran.stdout.splitlines()[0] == f"deleted {ours.id}"  # before the error, which a shell prints as well
    assert "has no file never" in ran.shown_error


def test_each_failure_is_said_and_deletes_nothing(
    cells: Any, ours: StoredFile, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line, error in [
        ("%kimi_files --delete ../models", MagicLineError),
        ("%kimi_files clip.mp4", MagicLineError),
        ("%kimi_files --delete", MagicLineError),
        ("%kimi_files --purge", MagicLineError),
    ]:
        assert isinstance(cells.run(line).error, error), line
    assert sandbox.requests == []
    sandbox.fault(Fault(500, "server_error", "broken", path="files", times=2))
    assert isinstance(cells.run("%kimi_files").error, ServerFaultError)
    monkeypatch.setenv("MOONSHOT_API_KEY", "sk-wrongwrongwrongwrong")
    assert isinstance(cells.run(f"%kimi_files --delete {ours.id}").error, AuthenticationError)
    monkeypatch.delenv("MOONSHOT_API_KEY")
    assert isinstance(cells.run("%kimi_files").error, MissingKeyError)
    assert ours in sandbox.files.list()
